//! Body of a fuzz target: a plain function, for cargo-fuzz and for a seeded smoke test alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use weir_dots_proto::body::Scope;
use weir_dtls::{PeerIdentity, SessionId};

use crate::{MitigationId, Mitigator, MitigatorReport, SavedRow, Server, ServerPolicy};

/// Names of the clients, each with a session and prefixes of its own.
const CLIENTS: [(&str, &str); 2] = [("one", "203.0.113.0/24"), ("two", "198.51.100.0/24")];
/// Mitigations and telemetry items of one client.
const MOST: usize = 8;

/// Feeds datagrams of two clients to a server. Of a datagram's two octets in front, one says how long it is; of the other,
/// the lowest bit says whose it is, and the rest how many seconds have passed.
///
/// # Panics
///
/// Panics if the mitigator's view, or the rows that were written, differ from what the server holds, or if a restart
/// loses any.
pub fn fuzz_server(mut data: &[u8]) {
    let policy = policy();
    let active = Active::default();
    let began = Instant::now();
    let mut now = began;
    let mut server = Server::new(
        policy.clone(),
        Box::new(active.clone()),
        (now, 1_000_000),
        1,
    );
    for (session, (name, _)) in (0..).zip(CLIENTS) {
        let peer = PeerIdentity {
            names: vec![name.to_owned()],
            spki_sha256: [0; 32],
        };
        server.handle_connected(now, SessionId(session), &peer);
    }
    let mut rows = BTreeMap::new();
    while let [length, control, rest @ ..] = data {
        let (datagram, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        data = rest;
        now += Duration::from_secs(u64::from(control >> 1));
        server.handle_timeout(now);
        server.handle_data(now, SessionId(u64::from(control & 1)), datagram);
        write(&mut server, &mut rows);
        while server.poll_transmit().is_some() {}
    }
    assert_eq!(server.rows(), rows, "rows that were not written");
    let mitigations = |rows: &BTreeMap<String, SavedRow>| {
        let is_one = |row: &&SavedRow| matches!(row, SavedRow::Mitigation { began: Some(_), .. });
        rows.values().filter(is_one).count()
    };
    assert_eq!(
        active.count(),
        mitigations(&rows),
        "mitigations that filter"
    );

    let seconds = 1_000_000 + now.duration_since(began).as_secs();
    let active = Active::default();
    let mut server = Server::new(policy, Box::new(active.clone()), (now, seconds), 2);
    server.restore(rows.values().cloned());
    assert!(
        server.poll_persist().is_none(),
        "a row that nobody has a right to"
    );
    assert!(
        server.rows().keys().eq(rows.keys()),
        "rows that a restart lost"
    );
    assert_eq!(
        active.count(),
        mitigations(&rows),
        "mitigations after a restart"
    );
}

fn policy() -> ServerPolicy {
    let client = |(name, prefix): (&str, &str)| (name.into(), prefix.parse().into_iter().collect());
    ServerPolicy {
        clients: CLIENTS.map(client).to_vec(),
        max_mitigations: MOST,
        max_telemetry: MOST,
        ..ServerPolicy::default()
    }
}

fn write(server: &mut Server, rows: &mut BTreeMap<String, SavedRow>) {
    while let Some(change) = server.poll_persist() {
        match change.row {
            Some(row) => drop(rows.insert(change.key.text(), row)),
            None => drop(rows.remove(&change.key.text())),
        }
    }
}

/// A mitigator that notes what is active.
#[derive(Clone, Default)]
struct Active(Arc<Mutex<BTreeSet<MitigationId>>>);

impl Active {
    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Mitigator for Active {
    fn apply(&mut self, id: MitigationId, _scope: &Scope) {
        let mut active = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(active.insert(id), "applied twice");
    }

    fn withdraw(&mut self, id: MitigationId) {
        let mut active = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(active.remove(&id), "withdrawn, but not active");
    }

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        None
    }
}
