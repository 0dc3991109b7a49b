//! Client and listener joined in memory: handshakes, refusals, resumption, floods.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use weir_dtls::lab::{LabNames, write_keys};
use weir_dtls::{
    ClientContext, Connection, Credentials, DtlsError, DtlsEvent, Listener, ListenerEvent,
    ListenerLimits, MAX_DATA, PeerIdentity, ServerContext, SessionId, Ticket,
};

const LIMITS: ListenerLimits = ListenerLimits {
    max_half_open: 100,
    max_sessions: 1000,
};

fn keys(folder: &Path) -> (Credentials, Credentials) {
    write_keys(
        folder,
        &LabNames {
            server: vec!["dots.example".to_owned()],
            client: "weir-lab".to_owned(),
        },
    )
    .unwrap();
    let of = |name: &str| {
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        Credentials::from_pem_files(&folder.join("ca.pem"), &file("pem"), &file("key")).unwrap()
    };
    (of("client"), of("server"))
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

/// A client at one address, and a listener, over a link that loses some datagrams.
struct Link {
    listener: Listener,
    from: SocketAddr,
    loss_percent: u64,
    random: u64,
    connected: Option<(SessionId, PeerIdentity)>,
    received: Vec<Vec<u8>>,
    session_closed: bool,
}

impl Link {
    fn new(server: &Credentials, loss_percent: u64) -> Self {
        Self {
            listener: Listener::new(ServerContext::new(server).unwrap(), LIMITS),
            from: address(1000),
            loss_percent,
            random: 11,
            connected: None,
            received: Vec::new(),
            session_closed: false,
        }
    }

    fn arrives(&mut self) -> bool {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % 100 >= self.loss_percent
    }

    /// Carries datagrams until nothing moves any more.
    fn pump(&mut self, client: &mut Connection) {
        loop {
            let now = Instant::now();
            let mut moved = false;
            while let Some(datagram) = client.poll_transmit() {
                moved = true;
                if self.arrives() {
                    self.listener.handle_datagram(now, self.from, &datagram);
                }
            }
            while let Some((to, datagram)) = self.listener.poll_transmit() {
                moved = true;
                if to == self.from && self.arrives() {
                    client.handle_datagram(now, &datagram);
                }
            }
            while let Some(event) = self.listener.poll_event() {
                match event {
                    ListenerEvent::Connected { session, peer, .. } => {
                        self.connected = Some((session, peer))
                    }
                    ListenerEvent::Data { data, .. } => self.received.push(data),
                    ListenerEvent::Closed { .. } => self.session_closed = true,
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Pumps, and lets retransmissions happen, until the client has an event.
    fn run(&mut self, client: &mut Connection) -> DtlsEvent {
        let end = Instant::now() + Duration::from_secs(40);
        loop {
            self.pump(client);
            if let Some(event) = client.poll_event() {
                return event;
            }
            let now = Instant::now();
            assert!(now < end, "nothing happens");
            let due = [client.poll_timeout(), self.listener.poll_timeout()]
                .into_iter()
                .flatten()
                .min();
            let wait = due.map_or(Duration::from_millis(5), |due| {
                due.saturating_duration_since(now)
            });
            std::thread::sleep(wait.min(Duration::from_millis(50)));
            let now = Instant::now();
            client.handle_timeout(now);
            self.listener.handle_timeout(now);
        }
    }
}

fn connect(client: &ClientContext, name: &str, ticket: Option<&Ticket>) -> Connection {
    Connection::connect(client, name, ticket, Instant::now()).unwrap()
}

#[test]
fn both_sides_know_each_other_and_data_goes_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let (client, server) = keys(folder.path());
    let context = ClientContext::new(&client).unwrap();
    for name in ["localhost", "dots.example", "127.0.0.1", "::1"] {
        let mut link = Link::new(&server, 0);
        let mut connection = connect(&context, name, None);
        let DtlsEvent::Connected { peer, resumed } = link.run(&mut connection) else {
            panic!("no handshake with {name}")
        };
        assert!(!resumed);
        assert_eq!(peer.spki_sha256, server.spki_sha256());
        assert_eq!(peer.names[0], "localhost");
        link.pump(&mut connection);
        let (session, identity) = link.connected.clone().unwrap();
        assert_eq!(identity.names, ["weir-lab"]);
        assert_eq!(identity.spki_sha256, client.spki_sha256());

        connection.handle_send(&[7; MAX_DATA]).unwrap();
        link.listener.handle_send(session, b"back").unwrap();
        let DtlsEvent::Data(data) = link.run(&mut connection) else {
            panic!("no data")
        };
        assert_eq!(data, b"back");
        assert_eq!(link.received, [vec![7; MAX_DATA]]);
        assert!(matches!(
            connection.handle_send(&[0; MAX_DATA + 1]),
            Err(DtlsError::TooLong(_))
        ));

        connection.handle_close();
        link.pump(&mut connection);
        assert!(link.session_closed);
        assert_eq!(link.listener.associations(), 0);
    }
}

#[test]
fn a_ticket_resumes_without_state_at_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (client, server) = keys(folder.path());
    let context = ClientContext::new(&client).unwrap();
    let mut link = Link::new(&server, 0);
    let mut first = connect(&context, "localhost", None);
    assert!(matches!(
        link.run(&mut first),
        DtlsEvent::Connected { resumed: false, .. }
    ));
    link.pump(&mut first);
    let ticket = first.ticket().expect("the server gives a ticket");
    first.handle_close();
    link.pump(&mut first);
    assert_eq!(link.listener.associations(), 0);
    link.from = address(1001);
    let mut second = connect(&context, "localhost", Some(&ticket));
    assert!(matches!(
        link.run(&mut second),
        DtlsEvent::Connected { resumed: true, .. }
    ));
    link.pump(&mut second);
    assert_eq!(
        link.connected.clone().unwrap().1.names,
        ["weir-lab"],
        "a resumed client is known by its certificate"
    );

    // A server that was restarted knows no ticket of before: the handshake is a full one, and still succeeds.
    let mut restarted = Link::new(&server, 0);
    let mut third = connect(&context, "localhost", Some(&ticket));
    assert!(matches!(
        restarted.run(&mut third),
        DtlsEvent::Connected { resumed: false, .. }
    ));
}

#[test]
fn foreign_certificates_and_wrong_names_are_refused() {
    let (folder, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (client, server) = keys(folder.path());
    let (_, impostor) = keys(theirs.path());
    let ours_folder = folder.path().to_owned();
    let ours = ClientContext::new(&client).unwrap();

    let mut link = Link::new(&impostor, 0);
    let mut connection = connect(&ours, "localhost", None);
    let DtlsEvent::Closed(Some(DtlsError::Handshake(why))) = link.run(&mut connection) else {
        panic!("impostor taken")
    };
    assert!(why.contains("certificate"), "{why}");

    let mut link = Link::new(&server, 0);
    let mut connection = connect(&ours, "other.example", None);
    let DtlsEvent::Closed(Some(DtlsError::Handshake(why))) = link.run(&mut connection) else {
        panic!("wrong name taken")
    };
    assert!(why.contains("hostname"), "{why}");

    // A client that trusts the server, with a certificate of another CA.
    let file = |name: &str| theirs.path().join(name);
    let mixed = Credentials::from_pem_files(
        &ours_folder.join("ca.pem"),
        &file("client.pem"),
        &file("client.key"),
    );
    let mixed = ClientContext::new(&mixed.unwrap()).unwrap();
    let mut link = Link::new(&server, 0);
    let mut connection = connect(&mixed, "localhost", None);
    assert!(matches!(
        link.run(&mut connection),
        DtlsEvent::Closed(Some(_))
    ));
    assert!(link.connected.is_none());
    assert_eq!(link.listener.counters().failed, 1);
}

#[test]
fn handshakes_survive_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (client, server) = keys(folder.path());
    let context = ClientContext::new(&client).unwrap();
    for seed in 1..=4 {
        let mut link = Link::new(&server, 15);
        link.random = seed;
        let mut connection = connect(&context, "localhost", None);
        assert!(
            matches!(link.run(&mut connection), DtlsEvent::Connected { .. }),
            "seed {seed}"
        );
    }
}

#[test]
fn hellos_from_many_sources_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (client, server) = keys(folder.path());
    let context = ClientContext::new(&client).unwrap();
    let mut link = Link::new(&server, 0);
    let (mut asked, mut answered) = (0, 0);
    for index in 0..3_000_u32 {
        let mut connection = connect(&context, "localhost", None);
        let hello = connection.poll_transmit().unwrap();
        let from = SocketAddr::from((index.to_be_bytes(), 4646));
        asked += hello.len();
        link.listener.handle_datagram(Instant::now(), from, &hello);
        while let Some((to, answer)) = link.listener.poll_transmit() {
            assert_eq!(to, from);
            answered += answer.len();
        }
    }
    assert_eq!(link.listener.associations(), 0);
    assert_eq!(link.listener.counters().unverified, 3_000);
    assert!(
        answered > 0 && answered < asked,
        "{answered} octets for {asked}"
    );
}

#[test]
fn a_cookie_is_worth_nothing_at_another_address() {
    let folder = tempfile::tempdir().unwrap();
    let (client, server) = keys(folder.path());
    let context = ClientContext::new(&client).unwrap();
    let mut link = Link::new(&server, 0);
    let mut connection = connect(&context, "localhost", None);
    let now = Instant::now();
    link.listener
        .handle_datagram(now, link.from, &connection.poll_transmit().unwrap());
    let (_, verify) = link.listener.poll_transmit().unwrap();
    connection.handle_datagram(now, &verify);
    let with_cookie = connection.poll_transmit().unwrap();
    link.listener
        .handle_datagram(now, address(2000), &with_cookie);
    assert_eq!(link.listener.associations(), 0);
    link.listener.handle_datagram(now, link.from, &with_cookie);
    assert_eq!(link.listener.associations(), 1);
}

#[test]
fn garbage_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (client, server) = keys(folder.path());
    let context = ClientContext::new(&client).unwrap();
    let mut link = Link::new(&server, 0);
    let mut connection = connect(&context, "localhost", None);
    assert!(matches!(
        link.run(&mut connection),
        DtlsEvent::Connected { .. }
    ));
    link.pump(&mut connection);
    let now = Instant::now();
    for length in 0..200_usize {
        let garbage: Vec<u8> = (0..length)
            .map(|index| (index * 37 + length) as u8)
            .collect();
        link.listener.handle_datagram(now, link.from, &garbage);
        link.listener.handle_datagram(now, address(77), &garbage);
        connection.handle_datagram(now, &garbage);
    }
    link.pump(&mut connection);
    connection.handle_send(b"still here").unwrap();
    link.pump(&mut connection);
    assert_eq!(link.received, [b"still here".to_vec()]);
}

#[test]
fn a_new_handshake_replaces_a_session_only_when_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let (client, server) = keys(folder.path());
    let context = ClientContext::new(&client).unwrap();
    let mut link = Link::new(&server, 0);
    let mut old = connect(&context, "localhost", None);
    assert!(matches!(link.run(&mut old), DtlsEvent::Connected { .. }));
    link.pump(&mut old);
    let (first, _) = link.connected.clone().unwrap();

    // The client restarts at the same address, and gets as far as a valid cookie.
    let now = Instant::now();
    let mut new = connect(&context, "localhost", None);
    let hello = new.poll_transmit().unwrap();
    link.listener.handle_datagram(now, link.from, &hello);
    let (_, verify) = link.listener.poll_transmit().unwrap();
    new.handle_datagram(now, &verify);
    let with_cookie = new.poll_transmit().unwrap();
    link.listener.handle_datagram(now, link.from, &with_cookie);
    assert_eq!(link.listener.associations(), 2);

    // Until the handshake is done, the old session goes on.
    old.handle_send(b"still me").unwrap();
    let data = old.poll_transmit().unwrap();
    link.listener.handle_datagram(now, link.from, &data);
    link.pump(&mut new);
    assert_eq!(link.received, [b"still me".to_vec()]);
    assert!(matches!(link.run(&mut new), DtlsEvent::Connected { .. }));
    link.pump(&mut new);
    assert_ne!(link.connected.clone().unwrap().0, first);
    assert!(link.session_closed);
    assert_eq!(link.listener.associations(), 1);
}

#[test]
fn a_client_that_restarts_within_its_handshake_is_not_locked_out() {
    let folder = tempfile::tempdir().unwrap();
    let (client, server) = keys(folder.path());
    let context = ClientContext::new(&client).unwrap();
    let mut link = Link::new(&server, 0);
    let now = Instant::now();
    let mut gone = connect(&context, "localhost", None);
    let hello = gone.poll_transmit().unwrap();
    link.listener.handle_datagram(now, link.from, &hello);
    let (_, verify) = link.listener.poll_transmit().unwrap();
    gone.handle_datagram(now, &verify);
    let with_cookie = gone.poll_transmit().unwrap();
    link.listener.handle_datagram(now, link.from, &with_cookie);
    assert_eq!(link.listener.associations(), 1);
    // The same hello again, as a network may deliver it, begins nothing new.
    link.listener.handle_datagram(now, link.from, &with_cookie);
    assert_eq!(link.listener.counters().begun, 1);
    while link.listener.poll_transmit().is_some() {}

    let mut back = connect(&context, "localhost", None);
    assert!(matches!(link.run(&mut back), DtlsEvent::Connected { .. }));
    link.pump(&mut back);
    assert_eq!(link.listener.associations(), 1);
    assert_eq!(link.listener.counters().begun, 2);

    link.listener.handle_shutdown();
    assert!(matches!(link.run(&mut back), DtlsEvent::Closed(None)));
    assert_eq!(link.listener.associations(), 0);
}

#[test]
fn handshakes_and_sessions_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (client, server) = keys(folder.path());
    let context = ClientContext::new(&client).unwrap();
    let limits = ListenerLimits {
        max_half_open: 3,
        max_sessions: 100,
    };
    let mut listener = Listener::new(ServerContext::new(&server).unwrap(), limits);
    let now = Instant::now();
    for port in 1..=10 {
        let mut connection = connect(&context, "localhost", None);
        let from = address(port);
        listener.handle_datagram(now, from, &connection.poll_transmit().unwrap());
        let (_, verify) = listener.poll_transmit().unwrap();
        connection.handle_datagram(now, &verify);
        listener.handle_datagram(now, from, &connection.poll_transmit().unwrap());
        while listener.poll_transmit().is_some() {}
    }
    assert_eq!(listener.associations(), 3);
    assert_eq!(listener.counters().refused, 7);

    // What is never finished is forgotten.
    listener.handle_timeout(now + Duration::from_secs(31));
    assert_eq!(listener.associations(), 0);
    assert_eq!(listener.counters().failed, 3);
}

#[test]
fn one_address_keeps_no_other_out() {
    let folder = tempfile::tempdir().unwrap();
    let (client, server) = keys(folder.path());
    let context = ClientContext::new(&client).unwrap();
    let limits = ListenerLimits {
        max_half_open: 5,
        max_sessions: 100,
    };
    let mut link = Link::new(&server, 0);
    link.listener = Listener::new(ServerContext::new(&server).unwrap(), limits);
    let now = Instant::now();
    let begin = |listener: &mut Listener, from: SocketAddr| {
        let mut connection = connect(&context, "localhost", None);
        listener.handle_datagram(now, from, &connection.poll_transmit().unwrap());
        let (_, verify) = listener.poll_transmit().unwrap();
        connection.handle_datagram(now, &verify);
        listener.handle_datagram(now, from, &connection.poll_transmit().unwrap());
        let mut flight = Vec::new();
        while let Some((_, datagram)) = listener.poll_transmit() {
            flight.push(datagram);
        }
        (connection, flight)
    };
    link.from = SocketAddr::from(([192, 0, 2, 2], 1));
    let (mut client, flight) = begin(&mut link.listener, link.from);
    for port in 1..=20 {
        let _ = begin(&mut link.listener, address(port));
    }
    assert_eq!(link.listener.associations(), 5);
    for datagram in flight {
        client.handle_datagram(now, &datagram);
    }
    assert!(matches!(link.run(&mut client), DtlsEvent::Connected { .. }));
}
