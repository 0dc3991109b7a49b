//! Q-Block1 and Q-Block2 (RFC 9177) of each session against a peer that is played message by message.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![expect(
    clippy::disallowed_methods,
    reason = "any instant does: sessions only look at differences"
)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_dots_proto::client::{self, Notice, Request};
use weir_dots_proto::coap::{Block, Code, Kind, Message, Token, option};
use weir_dots_proto::server::{self, Event, Response};
use weir_dots_proto::{Cuid, Method, Mid, Resource, SessionParameters, Tmid, encode};

fn parameters() -> SessionParameters {
    SessionParameters {
        heartbeat_interval: Duration::ZERO,
        ..SessionParameters::default()
    }
}

fn cuid() -> Cuid {
    Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap()
}

fn telemetry() -> Resource {
    Resource::Telemetry {
        cuid: cuid(),
        tmid: Some(Tmid(1)),
    }
}

/// A body of about so many blocks.
fn body(blocks: u32) -> Value {
    let scopes: Vec<Value> = (0..blocks * 14)
        .map(|mid| json!({"mid": mid, "target-prefix": ["2001:db8:1:2:3:4:5:6/128", "2001:db8:1:2:3:4:5:7/128"], "lifetime": 3600}))
        .collect();
    json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": scopes}})
}

fn block(message: &Message, number: u16) -> Option<Block> {
    message.option(number).and_then(Block::from_value)
}

fn value(number: u32, more: bool, exponent: u32) -> Vec<u8> {
    option::octets(number << 4 | u32::from(more) << 3 | exponent)
}

struct Client {
    now: Instant,
    session: client::Session,
    answers: u16,
}

impl Client {
    /// A client that has asked whether we know Q-Block, and its question.
    fn new() -> (Self, Message) {
        let now = Instant::now();
        let mut session = client::Session::new(parameters(), 42);
        session.handle_robust(true);
        session.handle_connected(now);
        let answers = 0;
        let mut client = Self {
            now,
            session,
            answers,
        };
        let mut sent = client.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        (client, sent.remove(0))
    }

    /// A client that knows that we know Q-Block.
    fn known() -> Self {
        let (mut client, probe) = Self::new();
        client.answer(&probe, Code::CONTENT, &[]);
        assert!(client.sent().is_empty());
        client
    }

    fn sent(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.session.poll_transmit())
            .map(|octets| Message::decode(&octets).unwrap())
            .collect()
    }

    fn answer(&mut self, message: &Message, code: Code, options: &[(u16, Vec<u8>)]) {
        self.answers += 1;
        let (kind, id) = match message.kind {
            Kind::Confirmable => (Kind::Acknowledgement, message.message_id),
            _ => (Kind::NonConfirmable, self.answers),
        };
        let mut answer = Message::new(kind, code, id, message.token);
        for (number, value) in options {
            if *number == 0 {
                answer.payload.clone_from(value);
            } else {
                answer.push_option(*number, value.clone());
            }
        }
        self.hear(&answer);
    }

    fn hear(&mut self, message: &Message) {
        self.session.handle_datagram(self.now, &message.to_octets());
    }

    fn put(&mut self, blocks: u32) -> Vec<Message> {
        let request = Request {
            body: Some(body(blocks)),
            ..Request::new(Method::Put, telemetry())
        };
        self.session.handle_request(self.now, request);
        self.sent()
    }

    fn pass(&mut self, time: Duration) -> Vec<Message> {
        let end = self.now + time;
        let mut all = Vec::new();
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            all.extend(self.sent());
        }
        self.now = end;
        all
    }

    fn codes(&mut self) -> Vec<Option<Code>> {
        std::iter::from_fn(|| self.session.poll_notice())
            .map(|notice| match notice {
                Notice::Response { code, .. } => Some(code),
                Notice::Unanswered { .. } => None,
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

fn numbers(messages: &[Message], option: u16) -> Vec<u32> {
    let blocks = messages.iter().map(|message| block(message, option));
    blocks.map(|block| block.unwrap().number).collect()
}

#[test]
fn the_question_is_confirmable() {
    let (_, probe) = Client::new();
    assert_eq!((probe.kind, probe.code), (Kind::Confirmable, Code::GET));
    let asked = block(&probe, option::Q_BLOCK2).unwrap();
    assert_eq!((asked.number, asked.more, asked.size()), (0, true, 1024));
}

#[test]
fn a_peer_that_refuses_gets_blocks() {
    for reset in [false, true] {
        let (mut client, probe) = Client::new();
        if reset {
            client.hear(&Message::empty(Kind::Reset, probe.message_id));
        } else {
            client.answer(&probe, Code::BAD_OPTION, &[]);
        }
        let sent = client.put(3);
        assert_eq!(numbers(&sent, option::BLOCK1), [0], "{sent:?}");
        assert_eq!(sent[0].option(option::Q_BLOCK1), None);
        let get = Request::new(Method::Get, telemetry());
        client.session.handle_request(client.now, get);
        assert_eq!(client.sent()[0].option(option::Q_BLOCK2), None);
        // It is not asked again, until there is another transport.
        assert!(client.codes().is_empty());
        client.session.handle_disconnected(client.now);
        client.session.handle_connected(client.now);
        let again = |message: &Message| message.option(option::Q_BLOCK2).is_some();
        assert_eq!(client.sent().iter().filter(|one| again(one)).count(), 1);
    }
}

#[test]
fn a_peer_that_does_not_answer_is_asked_when_it_is_heard() {
    let (mut client, probe) = Client::new();
    let repeats = client.pass(Duration::from_secs(200));
    assert_eq!(repeats, vec![probe.clone(); 3]);
    assert!(client.codes().is_empty(), "nobody else has asked");
    client.hear(&Message::empty(Kind::Confirmable, 7));
    let sent = client.sent();
    assert_eq!(sent[0].kind, Kind::Reset, "a ping");
    assert!(block(&sent[1], option::Q_BLOCK2).is_some(), "{sent:?}");
}

#[test]
fn telemetry_waits_for_the_answer_and_mitigation_does_not() {
    let (mut client, probe) = Client::new();
    assert!(client.put(3).is_empty());
    let mitigate = Resource::Mitigate {
        cuid: cuid(),
        mid: Some(Mid(1)),
    };
    let request = Request {
        body: Some(body(3)),
        ..Request::new(Method::Put, mitigate)
    };
    client.session.handle_request(client.now, request);
    let sent = client.sent();
    assert_eq!(numbers(&sent, option::BLOCK1), [0]);
    client.answer(&probe, Code::CONTENT, &[]);
    let payloads = client.sent();
    assert!(numbers(&payloads, option::Q_BLOCK1).starts_with(&[0, 1, 2]));
    // What has begun by Block ends by it.
    client.answer(
        &sent[0],
        Code::CONTINUE,
        &[(option::BLOCK1, value(0, true, 6))],
    );
    assert_eq!(numbers(&client.sent(), option::BLOCK1), [1]);

    // Without an answer it does not wait for ever.
    let (mut client, _) = Client::new();
    client.put(3);
    let sent = client.pass(Duration::from_secs(100));
    let by_block = |message: &&Message| block(message, option::BLOCK1).is_some();
    assert!(sent.iter().any(|one| by_block(&one)), "{sent:?}");
}

#[test]
fn a_body_goes_out_in_sets() {
    let mut client = Client::known();
    let sent = client.put(13);
    assert_eq!(
        numbers(&sent, option::Q_BLOCK1),
        (0..10).collect::<Vec<_>>()
    );
    let octets = encode(&body(13)).unwrap();
    for (number, message) in sent.iter().enumerate() {
        assert_eq!(message.kind, Kind::NonConfirmable);
        assert_eq!(message.number(option::SIZE1), Some(octets.len() as u32));
        assert_eq!(
            message.option(option::REQUEST_TAG),
            sent[0].option(option::REQUEST_TAG)
        );
        assert_eq!(
            message.number(option::CONTENT_FORMAT),
            Some(option::DOTS_CBOR)
        );
        assert_eq!(message.payload, octets[number * 1024..][..1024]);
        // RFC 9177 §6.
        assert_eq!(message.token.octets()[4..], sent[0].token.octets()[4..]);
    }
    let mut tokens: Vec<Token> = sent.iter().map(|message| message.token).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 10);
    // 2.31 for the set, to any of its messages.
    client.answer(
        &sent[9],
        Code::CONTINUE,
        &[(option::Q_BLOCK1, value(9, true, 6))],
    );
    let rest = client.sent();
    assert!(numbers(&rest, option::Q_BLOCK1).starts_with(&[10, 11]));
    let last = rest.last().unwrap();
    assert!(!block(last, option::Q_BLOCK1).unwrap().more);
    // 4.08 by the examples of RFC 9177 §10.1.3.
    let format = (
        option::CONTENT_FORMAT,
        option::octets(option::MISSING_BLOCKS),
    );
    let missing = |list: &[u8]| [format.clone(), (0, list.to_vec())];
    client.answer(last, Code::REQUEST_ENTITY_INCOMPLETE, &missing(&[9, 1]));
    assert!(client.sent().is_empty(), "no ascending order");
    client.answer(last, Code::REQUEST_ENTITY_INCOMPLETE, &missing(&[1, 9]));
    let again = client.sent();
    assert_eq!(numbers(&again, option::Q_BLOCK1), [1, 9]);
    assert_eq!(again[0].payload, sent[1].payload);
    assert_eq!(
        again[0].option(option::Q_BLOCK1),
        sent[1].option(option::Q_BLOCK1)
    );
    assert_eq!(
        again[0].option(option::REQUEST_TAG),
        sent[0].option(option::REQUEST_TAG)
    );
    assert_ne!(again[0].token, sent[1].token);
    client.answer(&again[1], Code::CHANGED, &[]);
    assert_eq!(client.codes(), [Some(Code::CHANGED)]);
    // Another body has another tag.
    let other = client.put(2);
    assert_ne!(
        other[0].option(option::REQUEST_TAG),
        sent[0].option(option::REQUEST_TAG)
    );
}

#[test]
fn silence_is_nudged_and_then_given_up() {
    let mut client = Client::known();
    let sent = client.put(3);
    let last = sent.last().unwrap();
    let later = client.pass(Duration::from_secs(100));
    assert_eq!(later.len(), 12, "{later:?}");
    for message in &later {
        assert_eq!(
            message.option(option::Q_BLOCK1),
            last.option(option::Q_BLOCK1)
        );
    }
    assert_eq!(client.codes(), [None]);
    // RFC 9177 §4.3: a server that still wants payloads of it is told.
    let format = (
        option::CONTENT_FORMAT,
        option::octets(option::MISSING_BLOCKS),
    );
    client.answer(
        last,
        Code::REQUEST_ENTITY_INCOMPLETE,
        &[format, (0, vec![1])],
    );
    assert_eq!(client.sent()[0].kind, Kind::Reset);
}

#[test]
fn a_server_that_has_lost_all_gets_it_under_another_tag() {
    let mut client = Client::known();
    let mut sent = client.put(3);
    for _ in 0..3 {
        let tag = sent[0].option(option::REQUEST_TAG).unwrap().to_vec();
        client.answer(&sent[0], Code::REQUEST_ENTITY_INCOMPLETE, &[]);
        sent = client.sent();
        assert_eq!(numbers(&sent, option::Q_BLOCK1)[0], 0);
        assert_ne!(sent[0].option(option::REQUEST_TAG), Some(&tag[..]));
    }
    client.answer(&sent[0], Code::REQUEST_ENTITY_INCOMPLETE, &[]);
    assert_eq!(client.codes(), [Some(Code::REQUEST_ENTITY_INCOMPLETE)]);
}

#[test]
fn a_peer_that_resets_payloads_gets_blocks() {
    let mut client = Client::known();
    let sent = client.put(3);
    client.hear(&Message::empty(Kind::Reset, sent[1].message_id));
    let anew = client.sent();
    assert_eq!(numbers(&anew, option::BLOCK1), [0]);
    assert_eq!(anew[0].option(option::REQUEST_TAG), None);
    assert_eq!(anew[0].option(option::Q_BLOCK1), None);
    client.answer(&anew[0], Code::CHANGED, &[]);
    assert_eq!(client.codes(), [Some(Code::CHANGED)]);
}

#[test]
fn configuration_is_confirmable_and_goes_by_block() {
    let mut client = Client::known();
    let resource = Resource::TelemetrySetup {
        cuid: cuid(),
        tsid: None,
    };
    let get = Request::new(Method::Get, resource);
    client.session.handle_request(client.now, get);
    let sent = client.sent();
    assert_eq!(sent[0].kind, Kind::Confirmable);
    assert_eq!(sent[0].option(option::Q_BLOCK2), None);
}

#[test]
fn a_servers_nonsense_ends_the_reading() {
    let octets = encode(&body(2)).unwrap();
    let size = option::octets(octets.len() as u32);
    let payload = octets[..1024].to_vec();
    let nonsense = [
        vec![(option::Q_BLOCK2, vec![7])],
        vec![(option::Q_BLOCK2, value(0, true, 6)), (0, payload.clone())],
        vec![
            (option::Q_BLOCK2, value(0, true, 6)),
            (option::SIZE2, option::octets(1 << 20)),
            (0, payload.clone()),
        ],
        vec![
            (option::Q_BLOCK2, value(9, true, 6)),
            (option::SIZE2, size.clone()),
            (0, payload.clone()),
        ],
        vec![
            (option::Q_BLOCK2, value(0, false, 5)),
            (option::SIZE2, size),
            (0, Vec::new()),
        ],
    ];
    for options in nonsense {
        let mut client = Client::known();
        let get = Request::new(Method::Get, telemetry());
        client.session.handle_request(client.now, get);
        let request = client.sent().remove(0);
        client.answer(&request, Code::CONTENT, &options);
        let notice = client.session.poll_notice();
        assert!(
            matches!(&notice, Some(Notice::Response { body: None, .. })),
            "{options:?}: {notice:?}"
        );
        assert_eq!(client.session.open_requests(), 0);
    }
}

#[test]
fn a_server_that_sends_a_part_and_no_more_is_given_up() {
    let mut client = Client::known();
    let get = Request::new(Method::Get, telemetry());
    client.session.handle_request(client.now, get);
    let request = client.sent().remove(0);
    let octets = encode(&body(3)).unwrap();
    let options = [
        (option::ETAG, vec![1]),
        (option::Q_BLOCK2, value(1, true, 6)),
        (option::SIZE2, option::octets(octets.len() as u32)),
        (0, octets[1024..2048].to_vec()),
    ];
    client.answer(&request, Code::CONTENT, &options);
    let asked = client.pass(Duration::from_secs(100));
    assert_eq!(asked.len(), 3, "{asked:?}");
    for message in &asked {
        let wanted = message.values(option::Q_BLOCK2);
        let wanted: Vec<Block> = wanted.map(|one| Block::from_value(one).unwrap()).collect();
        assert_eq!(wanted[0], Block::FIRST);
        assert!(
            wanted[1..]
                .iter()
                .all(|block| block.number >= 2 && !block.more)
        );
        assert_eq!(message.option(option::OBSERVE), None);
    }
    assert_eq!(client.codes(), [None]);
}

struct Server {
    now: Instant,
    session: server::Session,
    message_id: u16,
}

impl Server {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            session: server::Session::new(parameters(), 1),
            message_id: 0,
        }
    }

    fn request(&mut self, kind: Kind, code: Code, options: &[(u16, Vec<u8>)]) -> Message {
        self.message_id += 1;
        let token = Token::from_number(self.message_id.into());
        let mut message = Message::new(kind, code, self.message_id, token);
        for segment in telemetry().segments() {
            message.push_option(option::URI_PATH, segment);
        }
        for (number, value) in options {
            message.push_option(*number, value.clone());
        }
        message
    }

    /// A payload of a body of three blocks of 16 octets and the tag 9.
    fn payload(&mut self, kind: Kind, number: u32) -> Message {
        let octets = small();
        let (start, end) = (number as usize * 16, (number as usize + 1) * 16);
        let options = [
            (option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR)),
            (option::Q_BLOCK1, value(number, end < octets.len(), 0)),
            (option::SIZE1, option::octets(octets.len() as u32)),
            (option::REQUEST_TAG, vec![9]),
        ];
        let mut message = self.request(kind, Code::PUT, &options);
        message.payload = octets[start..end.min(octets.len())].to_vec();
        message
    }

    fn take(&mut self, message: &Message) -> Vec<Message> {
        self.session.handle_datagram(self.now, &message.to_octets());
        self.sent()
    }

    fn sent(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.session.poll_transmit())
            .map(|octets| Message::decode(&octets).unwrap())
            .collect()
    }

    fn pass(&mut self, time: Duration) -> Vec<Message> {
        let end = self.now + time;
        let mut all = Vec::new();
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            all.extend(self.sent());
        }
        self.now = end;
        all
    }

    /// Answers the one request that has come.
    fn respond(&mut self, response: Response) -> Vec<Message> {
        let Some(Event::Request { exchange, .. }) = self.session.poll_event() else {
            panic!("no request");
        };
        assert_eq!(self.session.poll_event(), None);
        self.session.handle_response(self.now, exchange, response);
        self.sent()
    }

    /// Begins to send a body of several sets to a reader; gives its request and the first set.
    fn read(&mut self, observe: bool) -> (Message, Vec<Message>) {
        let mut options = vec![(option::Q_BLOCK2, value(0, true, 6))];
        if observe {
            options.push((option::OBSERVE, Vec::new()));
        }
        let get = self.request(Kind::NonConfirmable, Code::GET, &options);
        assert!(self.take(&get).is_empty());
        let sent = self.respond(Response::with_body(Code::CONTENT, body(25)));
        (get, sent)
    }

    fn ask(&mut self, blocks: &[(u32, bool)]) -> (Message, Vec<Message>) {
        let options: Vec<_> = blocks
            .iter()
            .map(|(number, more)| (option::Q_BLOCK2, value(*number, *more, 6)))
            .collect();
        let get = self.request(Kind::NonConfirmable, Code::GET, &options);
        let sent = self.take(&get);
        (get, sent)
    }
}

fn small() -> Vec<u8> {
    encode(
        &json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-prefix": ["192.0.2.1/32", "192.0.2.2/32"], "lifetime": 3600}]}}),
    )
    .unwrap()
}

#[test]
fn what_q_block1_must_have() {
    for kind in [Kind::Confirmable, Kind::NonConfirmable] {
        let mut server = Server::new();
        let mut refused = |change: &dyn Fn(&mut Message), code: Code| {
            let mut message = server.payload(kind, 0);
            change(&mut message);
            let answers = server.take(&message);
            assert_eq!(answers.len(), 1, "{message:?}");
            assert_eq!(answers[0].code, code, "{:?}", answers[0]);
            assert_eq!(server.session.poll_event(), None);
        };
        let without = |message: &mut Message, number| {
            message.options.retain(|(other, _)| *other != number);
        };
        refused(&|one| without(one, option::REQUEST_TAG), Code::BAD_REQUEST);
        refused(&|one| without(one, option::SIZE1), Code::BAD_REQUEST);
        for mixed in [option::BLOCK1, option::BLOCK2] {
            refused(&|one| one.push_option(mixed, [0]), Code::BAD_OPTION);
        }
        refused(
            &|one| {
                without(one, option::Q_BLOCK1);
                one.push_option(option::Q_BLOCK1, [7]);
            },
            Code::BAD_REQUEST,
        );
        refused(
            &|one| {
                without(one, option::SIZE1);
                one.push_option(option::SIZE1, option::octets(1 << 17));
            },
            Code::REQUEST_ENTITY_TOO_LARGE,
        );
        refused(&|one| one.payload.truncate(15), Code::BAD_REQUEST);
        refused(&|one| one.payload.clear(), Code::BAD_REQUEST);
    }
}

#[test]
fn payloads_become_a_body_once() {
    let mut server = Server::new();
    let count = small().len().div_ceil(16) as u32;
    let order: Vec<u32> = (0..count).rev().collect();
    for number in &order[1..] {
        let payload = server.payload(Kind::NonConfirmable, *number);
        assert!(server.take(&payload).is_empty());
        assert!(server.take(&payload).is_empty(), "a duplicate");
    }
    let last = server.payload(Kind::NonConfirmable, order[0]);
    assert!(server.take(&last).is_empty());
    let answers = server.respond(Response::new(Code::CHANGED));
    assert_eq!(answers.len(), 1);
    assert_eq!(
        (answers[0].code, answers[0].token),
        (Code::CHANGED, last.token)
    );
    // RFC 9177 §4.3: whoever sends a payload again has not got the answer.
    let again = server.payload(Kind::NonConfirmable, 1);
    assert_eq!(server.take(&again), answers);
    assert_eq!(server.session.poll_event(), None);
}

#[test]
fn confirmable_payloads_are_acknowledged_and_nothing_is_asked_for() {
    let mut server = Server::new();
    let count = small().len().div_ceil(16) as u32;
    for number in (1..count).rev() {
        let payload = server.payload(Kind::Confirmable, number);
        let acknowledgement = Message::empty(Kind::Acknowledgement, payload.message_id);
        assert_eq!(server.take(&payload), [acknowledgement]);
    }
    assert!(server.pass(Duration::from_secs(100)).is_empty());
    let last = server.payload(Kind::Confirmable, 0);
    assert!(server.take(&last).is_empty());
    let answers = server.respond(Response::new(Code::CREATED));
    assert_eq!(answers[0].kind, Kind::Acknowledgement);
    assert_eq!(
        (answers[0].code, answers[0].message_id),
        (Code::CREATED, last.message_id)
    );
}

#[test]
fn missing_payloads_are_asked_for_and_a_reset_ends_it() {
    let mut server = Server::new();
    let payload = server.payload(Kind::NonConfirmable, 1);
    assert!(server.take(&payload).is_empty());
    let asked = server.pass(Duration::from_secs(100));
    assert_eq!(asked.len(), 3, "NON_MAX_RETRANSMIT");
    for message in &asked {
        assert_eq!(message.code, Code::REQUEST_ENTITY_INCOMPLETE);
        assert_eq!(message.token, payload.token);
        assert_eq!(message.payload, [0, 2], "{message:?}");
    }
    // It is forgotten: the rest alone is no body, and this time the client says that it knows nothing of it.
    let rest = server.payload(Kind::NonConfirmable, 0);
    server.take(&rest);
    let asked = server.pass(Duration::from_secs(5));
    assert_eq!(asked.len(), 1);
    server.take(&Message::empty(Kind::Reset, asked[0].message_id));
    assert!(server.pass(Duration::from_secs(100)).is_empty());
}

#[test]
fn a_representation_comes_in_sets() {
    let mut server = Server::new();
    let (get, first) = server.read(true);
    let set: Vec<u32> = (0..10).collect();
    assert_eq!(numbers(&first, option::Q_BLOCK2), set);
    let octets = encode(&body(25)).unwrap();
    for message in &first {
        assert_eq!(
            (message.kind, message.token),
            (Kind::NonConfirmable, get.token)
        );
        assert_eq!(message.number(option::SIZE2), Some(octets.len() as u32));
        // RFC 9177 §4.5: Observe is in all of them.
        assert_eq!(
            message.number(option::OBSERVE),
            first[0].number(option::OBSERVE)
        );
        assert!(message.number(option::OBSERVE).is_some());
        assert_eq!(message.option(option::ETAG), first[0].option(option::ETAG));
    }
    // 'Continue': the same token as before.
    let (_, second) = server.ask(&[(10, true)]);
    assert_eq!(
        numbers(&second, option::Q_BLOCK2),
        (10..20).collect::<Vec<_>>()
    );
    assert!(second.iter().all(|message| message.token == get.token));
    assert_eq!(
        second[0].number(option::OBSERVE),
        first[0].number(option::OBSERVE)
    );
    // Nothing more comes of the client: the rest does by itself.
    let rest = server.pass(Duration::from_secs(4));
    assert!(!block(rest.last().unwrap(), option::Q_BLOCK2).unwrap().more);
    assert!(server.pass(Duration::from_secs(100)).is_empty());
    assert_eq!(server.session.poll_event(), None);
}

#[test]
fn what_a_reader_misses_it_gets_once() {
    let mut server = Server::new();
    let (_, first) = server.read(true);
    let (get, sent) = server.ask(&[(1, false), (8, true), (9, false)]);
    assert_eq!(numbers(&sent, option::Q_BLOCK2), [1, 8, 9]);
    for message in &sent {
        assert_eq!(message.token, get.token);
        assert_eq!(message.option(option::OBSERVE), None);
        assert_eq!(message.option(option::ETAG), first[0].option(option::ETAG));
    }
    // The pause begins anew.
    assert!(server.pass(Duration::from_millis(1_999)).is_empty());
    assert_eq!(server.pass(Duration::from_secs(2)).len(), 10);
    // Not in order; twice; of two sizes; behind the end.
    for blocks in [
        &[(2, false), (1, false)][..],
        &[(1, false), (1, false)],
        &[(99, false)],
    ] {
        let (_, sent) = server.ask(blocks);
        assert_eq!(sent[0].code, Code::BAD_REQUEST, "{blocks:?}");
    }
    assert_eq!(server.session.poll_event(), None);
    // Nobody makes it talk without end.
    let mut sent = 0;
    for _ in 0..1000 {
        sent += server.ask(&[(0, true)]).1.len();
        while server.session.poll_event().is_some() {}
        sent += server.ask(&[(1, true)]).1.len();
    }
    assert!(sent <= 4 * 30, "{sent}");
}

#[test]
fn a_reader_of_what_is_gone_gets_the_new_state() {
    let mut server = Server::new();
    server.read(false);
    server.pass(Duration::from_secs(300));
    let (get, sent) = server.ask(&[(3, false)]);
    assert!(sent.is_empty());
    let sent = server.respond(Response::with_body(Code::CONTENT, body(12)));
    assert_eq!(
        numbers(&sent, option::Q_BLOCK2),
        (0..10).collect::<Vec<_>>()
    );
    assert_eq!(sent[0].token, get.token);
}

#[test]
fn a_block_alone_and_a_confirmable_request() {
    let mut server = Server::new();
    let one = [(option::Q_BLOCK2, value(0, false, 6))];
    let get = server.request(Kind::NonConfirmable, Code::GET, &one);
    server.take(&get);
    let sent = server.respond(Response::with_body(Code::CONTENT, body(3)));
    assert_eq!(numbers(&sent, option::Q_BLOCK2), [0]);
    assert!(server.pass(Duration::from_secs(100)).is_empty());

    let all = [(option::Q_BLOCK2, value(0, true, 6))];
    let get = server.request(Kind::Confirmable, Code::GET, &all);
    server.take(&get);
    let sent = server.respond(Response::with_body(Code::CONTENT, body(3)));
    assert_eq!(
        sent[0],
        Message::empty(Kind::Acknowledgement, get.message_id)
    );
    assert!(sent[1..].iter().all(|one| one.kind == Kind::NonConfirmable));
    assert!(numbers(&sent[1..], option::Q_BLOCK2).starts_with(&[0, 1, 2]));
    // What fits one message comes as the acknowledgement.
    let get = server.request(Kind::Confirmable, Code::GET, &all);
    server.take(&get);
    let small = weir_dots_proto::decode(&small()).unwrap();
    let sent = server.respond(Response::with_body(Code::CONTENT, small));
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].kind, sent[0].code),
        (Kind::Acknowledgement, Code::CONTENT)
    );
}

#[test]
fn a_flood_of_first_payloads_takes_bounded_memory() {
    let mut server = Server::new();
    let mut asked = 0;
    for tag in 0..5_000_u32 {
        let options = [
            (option::Q_BLOCK1, value(1, true, 6)),
            (option::SIZE1, option::octets(60_000)),
            (option::REQUEST_TAG, tag.to_be_bytes().to_vec()),
        ];
        let mut message = server.request(Kind::NonConfirmable, Code::PUT, &options);
        message.payload = vec![1; 1024];
        server.take(&message);
        server.now += Duration::from_millis(5);
        server.session.handle_timeout(server.now);
        asked += server.sent().len();
    }
    let length = format!("{:?}", server.session).len();
    assert!(length < 100_000, "{length}");
    assert!(asked < 100, "{asked}");
}
