//! Who is let in, over datagrams and over streams alike: certificates, revocation lists, pre-shared keys.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use weir_dtls::lab::{Issue, LabNames, issue, revoke, write_keys};
use weir_dtls::{
    ClientContext, Connection, Credentials, DtlsEvent, Listener, ListenerEvent, ListenerLimits,
    PeerIdentity, PresharedKey, PskClient, ServerContext, StreamConnection, Ticket,
};

/// What came of a handshake.
#[derive(Debug)]
struct Outcome {
    /// What the server takes the client for.
    client: Option<PeerIdentity>,
    /// What the client says: resumed or not, or why it failed.
    server: Result<bool, String>,
    ticket: Option<Ticket>,
}

impl Outcome {
    fn is_good(&self) -> bool {
        self.client.is_some() && self.server.is_ok()
    }

    fn refusal(self) -> String {
        assert!(self.client.is_none(), "{self:?}");
        self.server.expect_err("the client is connected")
    }
}

/// One handshake over datagrams that get lost nowhere, and data both ways.
fn over_datagrams(client: &ClientContext, server: &ServerContext, name: &str) -> Outcome {
    resumed_over_datagrams(client, server, name, None)
}

fn resumed_over_datagrams(
    client: &ClientContext,
    server: &ServerContext,
    name: &str,
    ticket: Option<&Ticket>,
) -> Outcome {
    let limits = ListenerLimits {
        max_half_open: 2,
        max_sessions: 2,
    };
    let mut listener = Listener::new(server.clone(), limits);
    let now = Instant::now();
    let from = SocketAddr::from(([192, 0, 2, 1], 1000));
    let mut connection = Connection::connect(client, name, ticket, now).unwrap();
    let (mut outcome, mut moved) = (
        Outcome {
            client: None,
            server: Err("nothing".to_owned()),
            ticket: None,
        },
        true,
    );
    while std::mem::take(&mut moved) {
        while let Some(datagram) = connection.poll_transmit() {
            moved = true;
            listener.handle_datagram(now, from, &datagram);
        }
        while let Some((_, datagram)) = listener.poll_transmit() {
            moved = true;
            connection.handle_datagram(now, &datagram);
        }
        while let Some(event) = listener.poll_event() {
            if let ListenerEvent::Connected { session, peer, .. } = event {
                outcome.client = Some(peer);
                listener.handle_send(session, b"hello").unwrap();
                moved = true;
            }
        }
        note(connection.poll_event(), &mut outcome.server);
    }
    while let Some(event) = connection.poll_event() {
        note(Some(event), &mut outcome.server);
    }
    outcome.ticket = connection.ticket();
    outcome
}

fn over_streams(
    client: &ClientContext,
    server: &ServerContext,
    name: &str,
    ticket: Option<&Ticket>,
) -> Outcome {
    let now = Instant::now();
    let mut ours = StreamConnection::connect(client, name, ticket, now).unwrap();
    let mut theirs = StreamConnection::accept(server, now).unwrap();
    let (mut outcome, mut moved) = (
        Outcome {
            client: None,
            server: Err("nothing".to_owned()),
            ticket: None,
        },
        true,
    );
    while std::mem::take(&mut moved) {
        while let Some(octets) = ours.poll_transmit() {
            moved = true;
            octets.chunks(7).for_each(|part| theirs.handle_octets(part));
        }
        while let Some(octets) = theirs.poll_transmit() {
            moved = true;
            octets.chunks(11).for_each(|part| ours.handle_octets(part));
        }
        while let Some(event) = theirs.poll_event() {
            if let DtlsEvent::Connected { peer, .. } = event {
                outcome.client = Some(peer);
                theirs.handle_send(b"hello").unwrap();
                moved = true;
            }
        }
        while let Some(event) = ours.poll_event() {
            note(Some(event), &mut outcome.server);
        }
    }
    outcome.ticket = ours.ticket();
    outcome
}

fn note(event: Option<DtlsEvent>, said: &mut Result<bool, String>) {
    match event {
        Some(DtlsEvent::Connected { resumed, .. }) => *said = Ok(resumed),
        Some(DtlsEvent::Closed(why)) => *said = Err(format!("{why:?}")),
        Some(DtlsEvent::Data(data)) => assert_eq!(data, b"hello"),
        None => {}
    }
}

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_keys(folder.path(), &LabNames::default()).unwrap();
        Self(folder)
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn of(&self, name: &str) -> Credentials {
        let file = |ending: &str| self.folder().join(format!("{name}.{ending}"));
        let ca = self.folder().join("ca.pem");
        Credentials::from_pem_files(&ca, &file("pem"), &file("key")).unwrap()
    }

    fn client(&self) -> ClientContext {
        ClientContext::new(&self.of("client")).unwrap()
    }

    fn server(&self) -> ServerContext {
        ServerContext::new(&self.of("server")).unwrap()
    }

    fn key(&self, hex: &str) -> PresharedKey {
        let path = self.folder().join("psk");
        fs::write(&path, hex).unwrap();
        PresharedKey::from_file(&path).unwrap()
    }

    fn issue(&self, file: &str, names: &[&str], days: u32) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let file = file.to_owned();
        issue(self.folder(), &Issue { file, names, days }).unwrap();
    }
}

/// Both ways to connect.
fn both(client: &ClientContext, server: &ServerContext, name: &str) -> [Outcome; 2] {
    [
        over_datagrams(client, server, name),
        over_streams(client, server, name, None),
    ]
}

#[test]
fn both_sides_know_each_other_over_a_stream_and_tickets_resume() {
    let lab = Lab::new();
    let (client, server) = (lab.client(), lab.server());
    let first = over_streams(&client, &server, "localhost", None);
    assert_eq!(first.server, Ok(false));
    let identity = first.client.clone().unwrap();
    assert_eq!(identity.names, ["weir-lab"]);
    assert_eq!(identity.spki_sha256, lab.of("client").spki_sha256());
    let second = over_streams(&client, &server, "localhost", first.ticket.as_ref());
    assert_eq!(second.server, Ok(true));
    assert_eq!(second.client, first.client);
    // A ticket of one kind of transport is none for the other.
    let other = resumed_over_datagrams(&client, &server, "localhost", first.ticket.as_ref());
    assert_eq!(other.server, Ok(false));
}

#[test]
fn another_ca_another_name_and_the_past_are_refused() {
    let (lab, theirs) = (Lab::new(), Lab::new());
    for outcome in both(&lab.client(), &theirs.server(), "localhost") {
        let why = outcome.refusal();
        assert!(why.contains("certificate"), "{why}");
    }
    for outcome in both(&lab.client(), &lab.server(), "other.example") {
        let why = outcome.refusal();
        assert!(why.contains("hostname mismatch"), "{why}");
    }
    lab.issue("late", &["localhost"], 0);
    let late = lab.of("late");
    let server = ServerContext::new(&late).unwrap();
    for outcome in both(&lab.client(), &server, "localhost") {
        let why = outcome.refusal();
        assert!(why.contains("expired"), "{why}");
    }
    // And the other way round: clients of another CA, and expired ones. In TLS 1.3 the client learns of it afterwards.
    let client = ClientContext::new(&late).unwrap();
    let file = |name: &str| theirs.folder().join(name);
    let foreign = Credentials::from_pem_files(
        &lab.folder().join("ca.pem"),
        &file("client.pem"),
        &file("client.key"),
    );
    let foreign = ClientContext::new(&foreign.unwrap()).unwrap();
    for client in [client, foreign] {
        for outcome in both(&client, &lab.server(), "localhost") {
            outcome.refusal();
        }
    }
    let validity = late.validity().certificate.unwrap();
    assert!(validity < lab.of("client").validity().certificate.unwrap());
}

#[test]
fn revoked_peers_are_refused_on_both_sides() {
    let lab = Lab::new();
    let list = lab.folder().join("crl.pem");
    let with_list = |name: &str| lab.of(name).with_revocations(&list).unwrap();
    revoke(lab.folder(), &[], 30).unwrap();
    let client = ClientContext::new(&with_list("client")).unwrap();
    let server = ServerContext::new(&with_list("server")).unwrap();
    let before = both(&client, &server, "localhost");
    assert!(before.iter().all(Outcome::is_good), "{before:?}");
    let days = with_list("client").validity().revocations.unwrap();
    assert!(days > 0);

    revoke(lab.folder(), &["client"], 30).unwrap();
    let renewed = server.renewed(&with_list("server")).unwrap();
    for outcome in both(&client, &renewed, "localhost") {
        let why = outcome.refusal();
        assert!(why.contains("revoked"), "{why}");
    }
    // Not even with a ticket of before.
    let ticket = before[0].ticket.clone();
    let again = resumed_over_datagrams(&client, &renewed, "localhost", ticket.as_ref());
    assert!(again.refusal().contains("revoked"));
    let ticket = before[1].ticket.clone();
    over_streams(&client, &renewed, "localhost", ticket.as_ref()).refusal();

    revoke(lab.folder(), &["server"], 30).unwrap();
    let client = ClientContext::new(&with_list("client")).unwrap();
    for outcome in both(&client, &server, "localhost") {
        let why = outcome.refusal();
        assert!(why.contains("revoked"), "{why}");
    }
    // A list that is out of date tells nothing, so nobody is let in.
    revoke(lab.folder(), &[], 0).unwrap();
    let client = ClientContext::new(&with_list("client")).unwrap();
    for outcome in both(&client, &server, "localhost") {
        let why = outcome.refusal();
        assert!(why.contains("CRL has expired"), "{why}");
    }
}

const KEY: &str = "000102030405060708090a0b0c0d0e0f";
const OTHER_KEY: &str = "ff0102030405060708090a0b0c0d0e0f";

#[test]
fn preshared_keys_stand_beside_certificates() {
    let lab = Lab::new();
    let known = PskClient {
        name: "cpe".to_owned(),
        identity: "cpe-17".to_owned(),
        key: lab.key(KEY),
    };
    let credentials = lab.of("server").with_clients(vec![known]).unwrap();
    let server = ServerContext::new(&credentials).unwrap();
    let of = |identity: &str, hex: &str| {
        let own = Credentials::from_preshared_key(identity, lab.key(hex)).unwrap();
        (ClientContext::new(&own).unwrap(), own.spki_sha256())
    };
    let (client, hash) = of("cpe-17", KEY);
    for outcome in both(&client, &server, "dots.example") {
        assert!(outcome.is_good(), "{outcome:?}");
        let peer = outcome.client.unwrap();
        assert_eq!(peer.names, ["cpe"]);
        assert_eq!(peer.spki_sha256, hash);
        // A ticket, where there is one, leads to the same client.
        let ticket = outcome.ticket;
        let again = resumed_over_datagrams(&client, &server, "dots.example", ticket.as_ref());
        assert!(again.is_good(), "{again:?}");
        assert_eq!(again.client.unwrap().names, ["cpe"]);
        let again = over_streams(&client, &server, "dots.example", ticket.as_ref());
        assert!(again.is_good(), "{again:?}");
        assert_eq!(again.client.unwrap().names, ["cpe"]);
    }
    for outcome in both(&lab.client(), &server, "localhost") {
        assert_eq!(outcome.client.unwrap().names, ["weir-lab"]);
    }
    // Another key, another identity; and a server that knows no keys.
    for client in [of("cpe-17", OTHER_KEY).0, of("cpe-18", KEY).0] {
        for outcome in both(&client, &server, "dots.example") {
            outcome.refusal();
        }
    }
    for outcome in both(&client, &lab.server(), "dots.example") {
        outcome.refusal();
    }
}

#[test]
fn a_datagram_session_that_a_key_made_is_resumed() {
    let lab = Lab::new();
    let known = PskClient {
        name: "cpe".to_owned(),
        identity: "cpe-17".to_owned(),
        key: lab.key(KEY),
    };
    let credentials = lab.of("server").with_clients(vec![known]).unwrap();
    let server = ServerContext::new(&credentials).unwrap();
    let own = Credentials::from_preshared_key("cpe-17", lab.key(KEY)).unwrap();
    let client = ClientContext::new(&own).unwrap();
    let first = over_datagrams(&client, &server, "dots.example");
    let again = resumed_over_datagrams(&client, &server, "dots.example", first.ticket.as_ref());
    assert_eq!(again.server, Ok(true));
    assert_eq!(again.client.unwrap().names, ["cpe"]);
}

#[test]
fn a_stream_that_ends_or_stalls_is_given_up() {
    let lab = Lab::new();
    let now = Instant::now();
    let mut theirs = StreamConnection::accept(&lab.server(), now).unwrap();
    theirs.handle_octets(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(
        theirs.poll_event(),
        Some(DtlsEvent::Closed(Some(_)))
    ));

    let mut theirs = StreamConnection::accept(&lab.server(), now).unwrap();
    theirs.handle_timeout(theirs.poll_timeout().unwrap());
    assert!(matches!(
        theirs.poll_event(),
        Some(DtlsEvent::Closed(Some(_)))
    ));
    assert_eq!(theirs.poll_timeout(), None);

    let mut theirs = StreamConnection::accept(&lab.server(), now).unwrap();
    theirs.handle_end();
    assert!(matches!(
        theirs.poll_event(),
        Some(DtlsEvent::Closed(Some(_)))
    ));
}
