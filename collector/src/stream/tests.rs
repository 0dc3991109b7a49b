#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which end with a panic"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::thread;

use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVersion};
use weir_dtls::lab::{LabNames, write_keys};

use super::*;
use crate::allow::AllowList;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, PartialEq, Debug)]
enum Seen {
    Opened(SocketAddr, Option<String>),
    Message(SocketAddr, Vec<u8>),
    Closed(SocketAddr, CloseReason),
}

/// Streams on loopback and what came of them.
struct Rig {
    streams: Streams,
    seen: Vec<Seen>,
    taking: bool,
    /// Sessions whose end a test has waited for.
    ended: usize,
}

impl Rig {
    fn new(settings: StreamSettings) -> Self {
        Self {
            streams: Streams::bind(settings).unwrap(),
            seen: Vec::new(),
            taking: true,
            ended: 0,
        }
    }

    fn tcp() -> Self {
        Self::new(tcp_settings())
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.streams.listeners[0].address).unwrap()
    }

    fn turn(&mut self) {
        let (seen, taking) = (&mut self.seen, self.taking);
        let turn = self.streams.turn(Duration::from_millis(10), |event| {
            if !taking {
                return Taken::Full;
            }
            seen.push(match event {
                StreamEvent::Opened { peer, name, .. } => {
                    Seen::Opened(peer, name.map(str::to_owned))
                }
                StreamEvent::Message { peer, octets, .. } => Seen::Message(peer, octets.to_vec()),
                StreamEvent::Closed { peer, reason, .. } => Seen::Closed(peer, reason),
            });
            Taken::Yes
        });
        turn.unwrap();
    }

    fn run_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(
                begin.elapsed() < PATIENCE,
                "{what}: {:?}, {:?}",
                self.streams.counters(),
                self.seen.len()
            );
            self.turn();
        }
    }

    /// Waits for one more session to end.
    fn run_until_closed(&mut self) -> CloseReason {
        let ended = self.ended;
        self.run_until("no end", |rig| rig.ends().len() > ended);
        self.ended += 1;
        self.ends()[ended]
    }

    fn ends(&self) -> Vec<CloseReason> {
        let ends = self.seen.iter().filter_map(|seen| match seen {
            Seen::Closed(_, reason) => Some(*reason),
            _ => None,
        });
        ends.collect()
    }

    fn run_until_refused(&mut self, refusal: Refusal, count: u64) {
        self.run_until(refusal.name(), |rig| {
            rig.streams.counters().refused(refusal) >= count
        });
    }

    fn messages(&self) -> Vec<&[u8]> {
        let messages = self.seen.iter().filter_map(|seen| match seen {
            Seen::Message(_, octets) => Some(octets.as_slice()),
            _ => None,
        });
        messages.collect()
    }
}

fn tcp_settings() -> StreamSettings {
    StreamSettings {
        tcp: vec!["127.0.0.1:0".parse().unwrap()],
        ..StreamSettings::default()
    }
}

fn tls_settings(keys: &Path) -> StreamSettings {
    let mut tls = IpfixTlsConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ca: "ca.pem".into(),
        certificate: "server.pem".into(),
        key: "server.key".into(),
    };
    tls.resolve(keys);
    StreamSettings {
        tls: Some(tls),
        ..StreamSettings::default()
    }
}

fn lab(client: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let names = LabNames {
        client: client.to_owned(),
        ..LabNames::default()
    };
    write_keys(folder.path(), &names).unwrap();
    folder
}

fn message(length: u16, fill: u8) -> Vec<u8> {
    let mut message = vec![fill; usize::from(length)];
    message[..2].copy_from_slice(&10_u16.to_be_bytes());
    message[2..4].copy_from_slice(&length.to_be_bytes());
    message
}

/// A TLS client on a thread of its own: connects with `certificate` of `keys`, if any, trusts `ca`, sends `octets`, closes.
fn tls_client(
    address: SocketAddr,
    ca: &Path,
    certificate: Option<&Path>,
    octets: Vec<u8>,
    version: SslVersion,
) -> thread::JoinHandle<Result<(), String>> {
    let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
    builder.set_min_proto_version(Some(version)).unwrap();
    builder.set_max_proto_version(Some(version)).unwrap();
    builder.set_ca_file(ca.join("ca.pem")).unwrap();
    if let Some(keys) = certificate {
        let (certificate, key) = (keys.join("client.pem"), keys.join("client.key"));
        builder.set_certificate_chain_file(certificate).unwrap();
        builder.set_private_key_file(key, SslFiletype::PEM).unwrap();
    }
    let connector = builder.build();
    thread::spawn(move || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = connector
            .connect("localhost", stream)
            .map_err(|error| error.to_string())?;
        stream
            .write_all(&octets)
            .map_err(|error| error.to_string())?;
        // TLS 1.3 tells a client only now that its certificate was refused. Closes, and waits for our closure alert.
        let _ = stream.shutdown();
        match stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err("data from a collector".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
}

#[test]
fn messages_come_whole_however_they_are_written() {
    let mut rig = Rig::tcp();
    let mut client = rig.connect();
    client.set_nodelay(true).unwrap();
    let peer = client.local_addr().unwrap();
    let split = message(40, 1);
    for octet in &split {
        client.write_all(&[*octet]).unwrap();
        rig.turn();
    }
    // Many in one write, from the shortest to the longest.
    let many: Vec<_> = (2..60)
        .map(|fill| message(16 + u16::from(fill) * 1_100, fill))
        .chain([message(65_535, 99), message(16, 100)])
        .collect();
    let octets = many.concat();
    let writer = thread::spawn(move || client.write_all(&octets).map(|()| client));
    rig.run_until("messages", |rig| rig.messages().len() == many.len() + 1);
    drop(writer.join().unwrap().unwrap());
    assert_eq!(rig.run_until_closed(), CloseReason::Peer);
    assert_eq!(rig.seen[0], Seen::Opened(peer, None));
    let expected: Vec<&[u8]> = [split.as_slice()]
        .into_iter()
        .chain(many.iter().map(Vec::as_slice))
        .collect();
    assert!(rig.messages() == expected);
    assert!(rig.streams.is_empty());
    let counters = rig.streams.counters();
    assert_eq!((counters.opened, counters.messages), (1, 61));
}

#[test]
fn what_is_no_message_ends_the_session_and_no_other() {
    let mut rig = Rig::tcp();
    let mut good = rig.connect();
    good.write_all(&message(20, 1)).unwrap();
    rig.run_until("a message", |rig| rig.messages().len() == 1);
    for (octets, expected) in [
        ([0, 9, 0, 20], CloseReason::Version),
        ([0, 10, 0, 15], CloseReason::Length),
        ([0, 10, 0, 0], CloseReason::Length),
        (*b"GET ", CloseReason::Version),
    ] {
        let mut client = rig.connect();
        client
            .write_all(&[&message(30, 2), &octets[..], &message(30, 3)].concat())
            .unwrap();
        assert_eq!(rig.run_until_closed(), expected);
        // What came before the fault was handed over, what came behind was not.
        assert_eq!(rig.messages().last(), Some(&message(30, 2).as_slice()));
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        assert_eq!(rig.streams.len(), 1);
    }
    assert_eq!(rig.streams.counters().closed(CloseReason::Length), 2);
    good.write_all(&message(21, 4)).unwrap();
    rig.run_until("another message", |rig| {
        rig.messages().last() == Some(&message(21, 4).as_slice())
    });
}

#[test]
fn a_message_that_is_cut_is_told_from_an_orderly_end() {
    let mut rig = Rig::tcp();
    let mut client = rig.connect();
    client.write_all(&message(100, 1)[..99]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.run_until_closed(), CloseReason::Truncated);
    assert!(rig.messages().is_empty());
}

#[test]
fn a_message_in_drops_is_too_slow_and_an_idle_session_ends() {
    let mut rig = Rig::new(StreamSettings {
        message_time: Duration::from_millis(200),
        idle: Duration::from_millis(1_500),
        ..tcp_settings()
    });
    let mut slow = rig.connect();
    // Never idle, never done.
    for octet in message(60_000, 1) {
        if slow.write_all(&[octet]).is_err() || matches!(rig.seen.last(), Some(Seen::Closed(..))) {
            break;
        }
        rig.turn();
    }
    assert_eq!(rig.run_until_closed(), CloseReason::Slow);
    let mut idle = rig.connect();
    // Whole messages within the time keep it open.
    for _ in 0..6 {
        idle.write_all(&message(16, 1)).unwrap();
        for _ in 0..20 {
            rig.turn();
        }
    }
    assert_eq!(rig.messages().len(), 6);
    assert_eq!(rig.run_until_closed(), CloseReason::Idle);
}

#[test]
fn who_takes_nothing_holds_the_exporter_back_and_loses_nothing() {
    let mut rig = Rig::new(StreamSettings {
        message_time: Duration::from_millis(400),
        idle: Duration::from_millis(400),
        ..tcp_settings()
    });
    let mut client = rig.connect();
    const COUNT: usize = 4_000;
    let writer = thread::spawn(move || {
        for number in 0..COUNT {
            client.write_all(&message(10_000, number as u8)).unwrap();
        }
    });
    rig.run_until("some", |rig| rig.messages().len() > 10);
    rig.taking = false;
    let (before, begin) = (rig.seen.len(), Instant::now());
    while begin.elapsed() < Duration::from_millis(1_000) {
        rig.turn();
    }
    // 40 MB do not fit into the buffers on the way; our own time limits do not count against the exporter.
    assert!(!writer.is_finished());
    assert_eq!((rig.seen.len(), rig.streams.len()), (before, 1));
    assert_eq!(rig.streams.counters().stalls, 1);
    rig.taking = true;
    assert_eq!(rig.run_until_closed(), CloseReason::Peer);
    writer.join().unwrap();
    let messages = rig.messages();
    assert_eq!(messages.len(), COUNT);
    assert!(
        (0..)
            .zip(messages)
            .all(|(n, m)| m == message(10_000, n as u8))
    );
}

#[test]
fn connections_are_bounded_in_all_and_by_address() {
    let mut rig = Rig::new(StreamSettings {
        max_streams: 5,
        max_per_address: 3,
        ..tcp_settings()
    });
    let address = rig.streams.listeners[0].address;
    let connect = |from: [u8; 4]| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        TcpStream::from(socket)
    };
    let mut kept: Vec<_> = (0..4).map(|_| connect([127, 0, 0, 1])).collect();
    rig.run_until_refused(Refusal::Address, 1);
    kept.extend((2..6).map(|host| connect([127, 0, 0, host])));
    rig.run_until_refused(Refusal::Full, 2);
    assert_eq!(rig.streams.len(), 5);
    rig.run_until("sessions", |rig| rig.streams.counters().opened == 5);
    // One ends, another has room.
    drop(kept.remove(0));
    rig.run_until_closed();
    let mut late = connect([127, 0, 0, 9]);
    late.write_all(&message(16, 9)).unwrap();
    rig.run_until("the late one", |rig| rig.messages().len() == 1);
}

#[test]
fn strangers_are_turned_away() {
    let mut rig = Rig::new(StreamSettings {
        allow: AllowList::new(&["192.0.2.0/24".parse().unwrap()]),
        ..tcp_settings()
    });
    let mut client = rig.connect();
    let _ = client.write_all(&message(16, 1));
    rig.run_until_refused(Refusal::Stranger, 1);
    assert!(rig.seen.is_empty() && rig.streams.is_empty());
}

#[test]
fn a_decoders_verdict_ends_the_session_by_way_of_the_feed() {
    let mut streams = Streams::bind(tcp_settings()).unwrap();
    let (mut feed, mut inlets) = stream_feed(3);
    let address = streams.listeners[0].address;
    let mut client = TcpStream::connect(address).unwrap();
    for fill in 1..=9 {
        client.write_all(&message(20, fill)).unwrap();
    }
    let (mut used, mut reason, begin) = (Vec::new(), None, Instant::now());
    while reason.is_none() {
        assert!(begin.elapsed() < PATIENCE);
        let turn = streams.turn(Duration::from_millis(5), |event| feed.handle_event(event));
        turn.unwrap();
        for inlet in &mut inlets {
            inlet.take(100, |event| {
                match event {
                    StreamEvent::Message { octets, .. } => {
                        used.push(octets[4]);
                        if octets[4] == 4 {
                            return Verdict::Malformed;
                        }
                    }
                    StreamEvent::Closed { reason: why, .. } => reason = Some(why),
                    StreamEvent::Opened { .. } => {}
                }
                Verdict::Good
            });
        }
        while let Some(peer) = feed.poll_fault() {
            streams.end(peer);
        }
    }
    assert_eq!(
        (used, reason),
        (vec![1, 2, 3, 4], Some(CloseReason::Malformed))
    );
    let skipped: u64 = inlets.iter().map(StreamInlet::skipped).sum();
    assert!(skipped <= 5);
    assert!(
        inlets
            .iter()
            .all(|inlet| inlet.skipped() == 0 || inlet.skipped() == skipped)
    );
}

#[test]
fn a_full_feed_takes_nothing_and_gives_everything_in_order() {
    // Full by the octets of messages, and by their number.
    for (count, length, most) in [(200, 50_000, 100), (3_000, 20, 1_024)] {
        let mut streams = Streams::bind(tcp_settings()).unwrap();
        let (mut feed, mut inlets) = stream_feed(1);
        let mut client = TcpStream::connect(streams.listeners[0].address).unwrap();
        let writer = thread::spawn(move || {
            for number in 0..count {
                client.write_all(&message(length, number as u8)).unwrap();
            }
        });
        let (mut before, begin) = (1, Instant::now());
        while streams.counters().stalls == 0 || before != streams.counters().messages {
            assert!(begin.elapsed() < PATIENCE, "{:?}", streams.counters());
            before = streams.counters().messages;
            let turn = streams.turn(Duration::from_millis(5), |event| feed.handle_event(event));
            turn.unwrap();
        }
        assert!(before > 0 && before <= most, "{before}");
        let (mut fills, mut ended) = (Vec::new(), false);
        while !ended {
            assert!(begin.elapsed() < PATIENCE);
            inlets[0].take(7, |event| {
                match event {
                    StreamEvent::Message { octets, .. } => fills.push(octets[4]),
                    StreamEvent::Closed { .. } => ended = true,
                    StreamEvent::Opened { .. } => {}
                }
                Verdict::Good
            });
            let turn = streams.turn(Duration::ZERO, |event| feed.handle_event(event));
            turn.unwrap();
        }
        writer.join().unwrap();
        assert!(fills == (0..count).map(|number| number as u8).collect::<Vec<u8>>());
    }
}

#[test]
fn certified_exporters_are_heard_over_tls() {
    let keys = lab("edge-1.example.net");
    let mut rig = Rig::new(tls_settings(keys.path()));
    let address = rig.streams.listeners[0].address;
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        (rig.seen, rig.ended) = (Vec::new(), 0);
        let messages: Vec<_> = (0..100).map(|fill| message(5_000, fill)).collect();
        let client = tls_client(
            address,
            keys.path(),
            Some(keys.path()),
            messages.concat(),
            version,
        );
        assert_eq!(rig.run_until_closed(), CloseReason::Peer);
        assert!(rig.messages() == messages);
        let Some(Seen::Opened(_, Some(name))) = rig.seen.first() else {
            panic!("{:?}", rig.seen.first());
        };
        assert_eq!(name, "edge-1.example.net");
        assert_eq!(client.join().unwrap(), Ok(()));
    }
}

#[test]
fn clients_without_a_certificate_of_the_ca_are_refused() {
    let (keys, others) = (lab("edge-1"), lab("mallory"));
    let mut rig = Rig::new(tls_settings(keys.path()));
    let address = rig.streams.listeners[0].address;
    for (count, version) in [(1, SslVersion::TLS1_2), (2, SslVersion::TLS1_3)] {
        for (certificate, refusal) in [
            (None, Refusal::NoCertificate),
            (Some(others.path()), Refusal::BadCertificate),
        ] {
            let client = tls_client(address, keys.path(), certificate, message(16, 1), version);
            rig.run_until_refused(refusal, count);
            assert!(client.join().unwrap().is_err(), "{refusal:?}, {version:?}");
        }
    }
    // TLS 1.1 and plain text are no way in.
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(&message(64, 1)).unwrap();
    rig.run_until_refused(Refusal::Handshake, 1);
    assert!(rig.seen.is_empty() && rig.streams.is_empty());
}

#[test]
fn unfinished_handshakes_lock_nobody_out() {
    let keys = lab("edge-1");
    let mut rig = Rig::new(StreamSettings {
        max_half_open: 3,
        handshake_time: Duration::from_millis(1_500),
        ..tls_settings(keys.path())
    });
    let address = rig.streams.listeners[0].address;
    let mute: Vec<_> = (0..5)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    rig.run_until_refused(Refusal::HandshakeEvicted, 2);
    assert_eq!(rig.streams.len(), 3);
    let client = tls_client(
        address,
        keys.path(),
        Some(keys.path()),
        message(16, 1),
        SslVersion::TLS1_3,
    );
    assert_eq!(rig.run_until_closed(), CloseReason::Peer);
    assert_eq!(client.join().unwrap(), Ok(()));
    rig.run_until("time", |rig| rig.streams.is_empty());
    assert_eq!(rig.streams.counters().refused(Refusal::HandshakeTime), 2);
    drop(mute);
}

#[test]
fn bad_files_are_named() {
    let (keys, others) = (lab("edge-1"), lab("edge-1"));
    let mut settings = tls_settings(keys.path());
    if let Some(tls) = &mut settings.tls {
        tls.key = others.path().join("server.key");
    }
    let error = Streams::bind(settings.clone()).err().unwrap().to_string();
    assert!(
        error.contains("the key is not the certificate's"),
        "{error}"
    );
    if let Some(tls) = &mut settings.tls {
        tls.ca = keys.path().join("missing.pem");
    }
    let error = Streams::bind(settings).err().unwrap().to_string();
    assert!(error.contains("missing.pem"), "{error}");
}
