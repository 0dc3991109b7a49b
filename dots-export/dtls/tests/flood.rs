//! ClientHellos in the names of others: they take no memory, and reflect little.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::SocketAddr;
use std::time::Instant;

use weir_dtls::lab::{LabNames, write_keys};
use weir_dtls::{
    ClientContext, Connection, Credentials, DtlsEvent, Listener, ListenerLimits, ServerContext,
};

/// Hellos of each kind; `WEIR_FLOOD` changes it.
const HELLOS: u32 = 50_000;

struct Flood {
    listener: Listener,
    asked: usize,
    answered: usize,
}

impl Flood {
    fn send(&mut self, index: u32, hello: &[u8]) {
        let from = SocketAddr::from((index.to_be_bytes(), 4646));
        self.asked += hello.len();
        self.listener.handle_datagram(Instant::now(), from, hello);
        while let Some((to, answer)) = self.listener.poll_transmit() {
            assert_eq!(to, from);
            self.answered += answer.len();
        }
    }
}

/// Pages of this process in memory, in KiB.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 4
}

/// A ClientHello that is as short as one can be: no extensions, one cipher suite.
fn shortest_hello() -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([7; 32]);
    body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let length = body.len() as u8;
    let mut handshake = vec![1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length];
    handshake.extend(body);
    let mut record = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend((handshake.len() as u16).to_be_bytes());
    record.extend(handshake);
    record
}

#[test]
fn spoofed_hellos_take_no_memory_and_reflect_little() {
    let folder = tempfile::tempdir().unwrap();
    write_keys(folder.path(), &LabNames::default()).unwrap();
    let of = |name: &str| {
        let file = |ending: &str| folder.path().join(format!("{name}.{ending}"));
        let ca = folder.path().join("ca.pem");
        Credentials::from_pem_files(&ca, &file("pem"), &file("key")).unwrap()
    };
    let client = ClientContext::new(&of("client")).unwrap();
    let limits = ListenerLimits {
        max_half_open: 100,
        max_sessions: 1000,
    };
    let mut flood = Flood {
        listener: Listener::new(ServerContext::new(&of("server")).unwrap(), limits),
        asked: 0,
        answered: 0,
    };
    let hellos = std::env::var("WEIR_FLOOD").map_or(HELLOS, |text| text.parse().unwrap());
    let mut genuine = Connection::connect(&client, "localhost", None, Instant::now()).unwrap();
    let usual = genuine.poll_transmit().unwrap();
    for mut hello in [usual, shortest_hello()] {
        let mut warm = 0;
        (flood.asked, flood.answered) = (0, 0);
        for index in 0..hellos {
            // Each has a random of its own.
            hello[27..31].copy_from_slice(&index.to_be_bytes());
            flood.send(index, &hello);
            if index == hellos / 10 {
                warm = resident();
            }
        }
        let grown = resident().saturating_sub(warm);
        let ratio = flood.answered as f64 / flood.asked as f64;
        eprintln!(
            "{hellos} hellos of {} octets: {grown} KiB more, reply/request {ratio:.3}",
            hello.len()
        );
        assert!(grown < 1024, "{grown} KiB");
        // What was saved before the flood counts too.
        assert!(ratio <= 0.305, "{ratio}");
        assert_eq!(flood.listener.associations(), 0);
    }
    let counters = flood.listener.counters();
    assert_eq!(counters.unverified, 2 * u64::from(hellos));
    assert!(counters.withheld > 0);

    // Somebody who means it gets in all the same.
    let mut client = Connection::connect(&client, "localhost", None, Instant::now()).unwrap();
    let from = SocketAddr::from(([192, 0, 2, 1], 1000));
    let now = Instant::now();
    let mut moved = true;
    while std::mem::take(&mut moved) {
        while let Some(datagram) = client.poll_transmit() {
            flood.listener.handle_datagram(now, from, &datagram);
            moved = true;
        }
        while let Some((_, datagram)) = flood.listener.poll_transmit() {
            client.handle_datagram(now, &datagram);
            moved = true;
        }
    }
    assert!(matches!(
        client.poll_event(),
        Some(DtlsEvent::Connected { .. })
    ));
}
