//! Both ends of a session over a stream of octets: RFC 8323 as the sessions live with it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "any instant does")]

use std::time::{Duration, Instant};

use serde_json::json;
use weir_dots_proto::client::{self, Notice, Request};
use weir_dots_proto::coap::{Carrier, Code, End, Kind, Message, Signal, Token, option, tcp};
use weir_dots_proto::server::{self, Event, ObserveAction, RelationId, Response};
use weir_dots_proto::{Cuid, Method, Mid, Resource, SessionParameters, Sid, fuzzing};

/// Client and server, each on a carrier, joined by a stream that is cut into pieces.
struct World {
    now: Instant,
    client: (client::Session, Carrier),
    server: (server::Session, Carrier),
    /// Octets of a piece.
    piece: usize,
    /// Requests that the server has got.
    asked: Vec<(Method, Resource)>,
    relation: Option<RelationId>,
    /// Frames that the client has sent, its CSM left out.
    sent: usize,
    /// Whether the server answers.
    answers: bool,
}

impl World {
    fn new(piece: usize) -> Self {
        let now = Instant::now();
        let parameters = SessionParameters::default();
        let mut world = Self {
            now,
            client: (
                client::Session::new(parameters.clone(), 1),
                Carrier::new(100),
            ),
            server: (server::Session::new(parameters, 2), Carrier::new(65_535)),
            piece,
            asked: Vec::new(),
            relation: None,
            sent: 0,
            answers: true,
        };
        world.client.0.handle_reliable(true);
        world.client.0.handle_connected(now);
        world.server.0.handle_connected(now);
        world.run();
        world
    }

    fn ask(&mut self, resource: Resource, observe: Option<bool>) {
        let request = Request {
            method: Method::Get,
            resource,
            query: Vec::new(),
            body: None,
            observe,
            if_match: false,
        };
        self.client.0.handle_request(self.now, request);
        self.run();
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let due = [self.client.0.poll_timeout(), self.server.0.poll_timeout()];
            let Some(due) = due.into_iter().flatten().min().filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.client.0.handle_timeout(self.now);
            self.server.0.handle_timeout(self.now);
            self.run();
        }
        self.now = end;
    }

    fn run(&mut self) {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            let (session, carrier) = &mut self.client;
            while let Some(datagram) = session.poll_transmit() {
                carrier.handle_datagram(&datagram);
            }
            while let Some(octets) = carrier.poll_transmit() {
                quiet = false;
                self.sent += 1;
                for piece in octets.chunks(self.piece) {
                    self.server.1.handle_octets(piece);
                }
            }
            self.serve();
            let (session, carrier) = &mut self.server;
            while let Some(datagram) = session.poll_transmit() {
                carrier.handle_datagram(&datagram);
            }
            while let Some(octets) = carrier.poll_transmit() {
                quiet = false;
                for piece in octets.chunks(self.piece) {
                    self.client.1.handle_octets(piece);
                }
            }
            while let Some(datagram) = self.client.1.poll_datagram() {
                self.client.0.handle_datagram(self.now, &datagram);
            }
        }
    }

    fn serve(&mut self) {
        let (session, carrier) = &mut self.server;
        while let Some(datagram) = carrier.poll_datagram() {
            session.handle_datagram(self.now, &datagram);
        }
        while let Some(event) = session.poll_event() {
            let Event::Request {
                exchange,
                method,
                resource,
                observe,
                ..
            } = event
            else {
                continue;
            };
            if let Some(ObserveAction::Register(relation)) = observe {
                self.relation = Some(relation);
            }
            self.asked.push((method, resource));
            if self.answers {
                let response = Response::with_body(Code::CONTENT, body(60));
                session.handle_response(self.now, exchange, response);
            }
        }
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.client.0.poll_notice())
            .filter(|notice| !matches!(notice, Notice::PeerHeartbeat { .. }))
            .collect()
    }
}

/// A body of so many mitigations.
fn body(scopes: u32) -> serde_json::Value {
    let scopes: Vec<_> = (0..scopes)
        .map(|mid| json!({"mid": mid, "target-prefix": ["192.0.2.1/32"], "lifetime": 3600}))
        .collect();
    json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": scopes}})
}

fn mitigations() -> Resource {
    let cuid = Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap();
    Resource::Mitigate { cuid, mid: None }
}

#[test]
fn a_session_runs_over_a_stream_cut_anywhere() {
    for piece in [1, 3, 4096] {
        let mut world = World::new(piece);
        assert!(world.client.1.is_introduced() && world.server.1.is_introduced());
        // The answer is larger than a datagram, so it comes in blocks here too.
        world.ask(mitigations(), Some(true));
        let [
            Notice::Response {
                code: Code::CONTENT,
                body: Some(got),
                ..
            },
        ] = &world.notices()[..]
        else {
            panic!("no answer")
        };
        assert_eq!(*got, body(60));

        for scopes in [1, 2, 1] {
            let relation = world.relation.unwrap();
            let state = body(scopes);
            world
                .server
                .0
                .handle_notification(world.now, relation, &state);
            world.run();
            let notices = world.notices();
            assert!(
                matches!(&notices[..], [Notice::Notification { body, .. }] if *body == state),
                "{notices:?}"
            );
        }
        // Heartbeats of both sides for ten minutes: nobody is lost, nothing is aborted.
        world.advance(Duration::from_secs(600));
        assert_eq!(world.notices(), []);
        assert_eq!(world.client.1.end(), None);
        assert_eq!(world.server.1.end(), None);
    }
}

#[test]
fn a_stream_carries_a_request_once_and_no_acknowledgement() {
    let mut world = World::new(4096);
    world.answers = false;
    let before = world.sent;
    // Confirmable and Non-confirmable: over datagrams both are repeated until they are answered.
    world.ask(Resource::Config { sid: Some(Sid(1)) }, None);
    world.ask(mitigations(), None);
    world.advance(Duration::from_secs(25));
    assert_eq!(world.asked.len(), 2);
    assert_eq!(world.sent - before, 2);
    // Given up all the same.
    world.advance(Duration::from_secs(100));
    let unanswered = |notice: &&Notice| matches!(notice, Notice::Unanswered { .. });
    assert_eq!(world.notices().iter().filter(unanswered).count(), 2);
}

#[test]
fn over_a_stream_one_heartbeat_without_a_reply_is_a_loss() {
    let mut world = World::new(4096);
    let lost = |world: &mut World| {
        let lost = |notice: &Notice| matches!(notice, Notice::SessionLost);
        world.notices().iter().any(lost)
    };
    world.advance(Duration::from_secs(300));
    assert!(!lost(&mut world));
    // The server says nothing from now on.
    world.server.1 = Carrier::new(0);
    world.advance(Duration::from_secs(29));
    assert!(!lost(&mut world));
    world.advance(Duration::from_secs(32));
    assert!(lost(&mut world));
}

fn introduced() -> Carrier {
    let mut carrier = Carrier::new(0);
    assert!(carrier.poll_transmit().is_some());
    let csm = Signal::Csm {
        max_message_size: Some(200),
        block_wise: false,
    };
    carrier.handle_octets(&tcp::frame(&csm.message(Token::default())));
    carrier
}

fn said(carrier: &mut Carrier) -> Vec<(Signal, Token)> {
    let mut decoder = tcp::Decoder::new(tcp::MAX_MESSAGE);
    while let Some(octets) = carrier.poll_transmit() {
        decoder.handle_octets(&octets);
    }
    std::iter::from_fn(|| decoder.poll_message().unwrap())
        .map(|message| (Signal::read(&message).unwrap(), message.token))
        .collect()
}

#[test]
fn pings_are_answered_and_releases_and_aborts_end_the_connection() {
    let token = Token::from_number(5);
    let mut carrier = introduced();
    carrier.handle_octets(&tcp::frame(&Signal::Ping { custody: true }.message(token)));
    assert_eq!(
        said(&mut carrier),
        [(Signal::Pong { custody: true }, token)]
    );
    assert_eq!(carrier.end(), None);
    // An empty message is ignored.
    carrier.handle_octets(&[0, 0]);
    assert_eq!(carrier.end(), None);

    let release = Signal::Release {
        alternatives: vec!["192.0.2.1".to_owned()],
        hold_off: Some(9),
    };
    carrier.handle_octets(&tcp::frame(&release.message(Token::default())));
    assert_eq!(carrier.end(), Some(&End::Released { hold_off: Some(9) }));

    let mut carrier = introduced();
    let abort = Signal::Abort {
        bad_csm_option: None,
        diagnostic: "enough".to_owned(),
    };
    carrier.handle_octets(&tcp::frame(&abort.message(Token::default())));
    assert_eq!(carrier.end(), Some(&End::Aborted("enough".to_owned())));
}

#[test]
fn faults_of_the_peer_are_answered_by_an_abort() {
    let get = Message::new(Kind::NonConfirmable, Code::GET, 0, Token::default());
    let mut bad_csm = Signal::Csm {
        max_message_size: None,
        block_wise: false,
    }
    .message(Token::default());
    bad_csm.push_option(9, vec![1]);
    for (octets, bad_option) in [
        // Not a CSM first.
        (tcp::frame(&get), None),
        (
            tcp::frame(&Signal::Ping { custody: false }.message(Token::default())),
            None,
        ),
        (tcp::frame(&bad_csm), Some(9)),
        // A reserved token length; a message beyond the bound.
        (vec![0x0f, 1], None),
        (vec![0xf0, 0xff, 0, 0, 0], None),
    ] {
        let mut carrier = Carrier::new(0);
        let _ = carrier.poll_transmit();
        carrier.handle_octets(&octets);
        carrier.handle_octets(&octets);
        let said = said(&mut carrier);
        assert!(
            matches!(&said[..], [(Signal::Abort { bad_csm_option, .. }, _)] if *bad_csm_option == bad_option),
            "{said:?}"
        );
        assert!(matches!(carrier.end(), Some(End::Broken(_))));
        assert_eq!(carrier.poll_datagram(), None);
    }
}

#[test]
fn what_the_peer_does_not_take_is_not_sent() {
    let mut carrier = introduced();
    let mut message = Message::new(Kind::NonConfirmable, Code::PUT, 1, Token::from_number(1));
    message.push_option(option::URI_PATH, *b"hb");
    message.payload = vec![1; 300];
    carrier.handle_datagram(&message.to_octets());
    assert_eq!((carrier.poll_transmit(), carrier.unsent()), (None, 1));
    message.token = Token::from_number(2);
    message.payload = vec![1; 100];
    carrier.handle_datagram(&message.to_octets());
    assert!(carrier.poll_transmit().is_some());
}

#[test]
fn hostile_streams_break_nothing() {
    let mut random = 1_u64;
    let mut octet = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as u8
    };
    let mut put = Message::new(Kind::NonConfirmable, Code::PUT, 0, Token::from_number(9));
    let resource = Resource::Mitigate {
        cuid: Cuid::new("a").unwrap(),
        mid: Some(Mid(1)),
    };
    for segment in resource.segments() {
        put.push_option(option::URI_PATH, segment);
    }
    put.payload = vec![0xa0; 20];
    let csm = Signal::Csm {
        max_message_size: Some(1000),
        block_wise: true,
    };
    let frames = [
        tcp::frame(&csm.message(Token::default())),
        tcp::frame(&put),
        tcp::frame(&Signal::Ping { custody: true }.message(Token::from_number(1))),
    ];
    for _ in 0..20_000 {
        let mut stream = frames[0].clone();
        for _ in 0..octet() % 6 {
            stream.extend(&frames[usize::from(octet()) % frames.len()]);
        }
        for _ in 0..octet() % 4 {
            let index = usize::from(octet()) % stream.len();
            stream[index] = octet();
        }
        let mut input = Vec::new();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (piece, next) = rest.split_at(usize::from(octet()).min(rest.len()));
            input.push(u8::try_from(piece.len()).unwrap());
            input.extend(piece);
            rest = next;
        }
        fuzzing::fuzz_coap_stream(&input);
    }
}
