//! Telemetry setup against the real server: told once, kept over sessions and restarts, changed under a higher tsid.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::attack;
use weir_dots_export::{Client, ClientCommand, ClientParameters, SetupPlan, StateChange};
use weir_dots_proto::body::{
    Lifetime, PipeCapacity, Scope, TelemetryParameters, TelemetrySettings, Unit,
};
use weir_dots_proto::{Cuid, Decimal};
use weir_dots_server::{NoMitigator, Server, ServerPolicy};
use weir_dtls::{PeerIdentity, SessionId};

struct Pair {
    now: Instant,
    client: Client,
    server: Server,
    sessions: u64,
    rows: BTreeMap<String, StateChange>,
    /// Requests of the client for `/tm-setup`: method and last segment.
    asked: Vec<String>,
}

fn client() -> Client {
    let cuid = Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap();
    Client::new(ClientParameters::new("provider".into(), cuid, 7))
}

fn server(now: Instant) -> Server {
    let policy = ServerPolicy {
        clients: vec![("weir-lab".into(), vec!["203.0.113.0/24".parse().unwrap()])],
        ..ServerPolicy::default()
    };
    Server::new(
        policy,
        Box::new(NoMitigator::default()),
        (now, 1_800_000_000),
        7,
    )
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            now,
            client: client(),
            server: server(now),
            sessions: 0,
            rows: BTreeMap::new(),
            asked: Vec::new(),
        }
    }

    fn connect(&mut self) {
        self.sessions += 1;
        let identity = PeerIdentity {
            names: vec!["weir-lab".to_owned()],
            spki_sha256: [0; 32],
        };
        let id = SessionId(self.sessions);
        self.server.handle_connected(self.now, id, &identity);
        self.client.handle_connected(self.now);
        self.advance(Duration::from_secs(1));
    }

    fn plan(&mut self, plan: &SetupPlan) {
        let plan = plan.clone();
        self.client
            .handle_command(self.now, ClientCommand::Setup { plan });
        self.advance(Duration::from_secs(1));
    }

    fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        loop {
            self.settle();
            let due = [self.client.poll_timeout(), self.server.poll_timeout()];
            let Some(due) = due.into_iter().flatten().min().filter(|due| *due <= until) else {
                break;
            };
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
        }
        self.now = until;
    }

    fn settle(&mut self) {
        let id = SessionId(self.sessions);
        loop {
            while let Some(change) = self.client.poll_persist() {
                let number = change.id;
                if change.is_removal() {
                    self.rows.remove(&change.key());
                } else {
                    self.rows.insert(change.key(), change);
                }
                self.client.handle_persisted(self.now, number);
            }
            let mut quiet = true;
            while let Some(datagram) = self.client.poll_transmit() {
                quiet = false;
                self.note(&datagram);
                self.server.handle_data(self.now, id, &datagram);
            }
            while self.server.poll_persist().is_some() {}
            while let Some((to, datagram)) = self.server.poll_transmit() {
                quiet = false;
                if to == id {
                    self.client.handle_datagram(self.now, &datagram);
                }
            }
            while self.client.poll_notice().is_some() {}
            if quiet {
                return;
            }
        }
    }

    fn note(&mut self, datagram: &[u8]) {
        use weir_dots_proto::coap::{Code, Message, option};
        let message = Message::decode(datagram).unwrap();
        let path: Vec<String> = message
            .values(option::URI_PATH)
            .map(|segment| String::from_utf8(segment.to_vec()).unwrap())
            .collect();
        if path.iter().any(|segment| segment == "tm-setup") {
            let method = match message.code {
                Code::GET => "get",
                Code::PUT => "put",
                _ => "delete",
            };
            self.asked
                .push(format!("{method} {}", path.last().unwrap()));
        }
    }

    fn asked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked)
    }
}

const ALL: &str = "get cuid=dz6pHjaADkaFTbjr0JGBpw";

fn config() -> TelemetrySettings {
    TelemetrySettings {
        current_config: Some(TelemetryParameters {
            low_percentile: Some(Decimal::from_hundredths(1000)),
            server_originated_telemetry: Some(true),
            telemetry_notify_interval: Some(10),
            ..TelemetryParameters::default()
        }),
        ..TelemetrySettings::default()
    }
}

fn pipe(capacity: u64) -> TelemetrySettings {
    TelemetrySettings {
        total_pipe_capacity: vec![PipeCapacity {
            link_id: "customer-a".to_owned(),
            capacity: Some(capacity),
            unit: Unit::MegabitPs,
        }],
        ..TelemetrySettings::default()
    }
}

fn plan(items: &[(&str, TelemetrySettings)]) -> SetupPlan {
    items
        .iter()
        .map(|(name, settings)| ((*name).to_owned(), settings.clone()))
        .collect()
}

#[test]
fn a_plan_is_told_once_and_changes_under_a_higher_tsid() {
    let mut pair = Pair::new();
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(500))]));
    pair.connect();
    assert_eq!(pair.asked(), [ALL, "put tsid=1", "put tsid=2"]);
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(500))]));
    assert!(pair.asked().is_empty(), "nothing has changed");
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(900))]));
    assert_eq!(pair.asked(), ["put tsid=3"]);
    // A new session: the server still has it.
    pair.client.handle_disconnected(pair.now);
    pair.connect();
    assert_eq!(pair.asked(), [ALL]);
    pair.plan(&plan(&[("pipe", pipe(900))]));
    assert_eq!(pair.asked(), ["delete tsid=1"]);
}

#[test]
fn what_a_server_has_lost_is_told_again() {
    let mut pair = Pair::new();
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(500))]));
    pair.connect();
    let _ = pair.asked();
    pair.server = server(pair.now);
    pair.client.handle_disconnected(pair.now);
    pair.connect();
    assert_eq!(pair.asked(), [ALL, "put tsid=1", "put tsid=2"]);
}

#[test]
fn a_restart_keeps_the_identifiers() {
    let mut pair = Pair::new();
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(500))]));
    pair.connect();
    let _ = pair.asked();
    pair.client = client();
    pair.client.restore(pair.rows.values().cloned());
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(700))]));
    pair.connect();
    assert_eq!(pair.asked(), [ALL, "put tsid=3"]);
}

#[test]
fn an_attack_goes_first() {
    let mut pair = Pair::new();
    let scope = Scope {
        target_prefix: vec!["203.0.113.7/32".parse().unwrap()],
        ..Scope::default()
    };
    let request = ClientCommand::Request {
        attack: attack("a"),
        scope: Box::new(scope),
        lifetime: Lifetime::Seconds(3600),
    };
    pair.client.handle_command(pair.now, request);
    pair.plan(&plan(&[("config", config())]));
    pair.connect();
    assert!(pair.asked().is_empty());
    let withdraw = ClientCommand::Withdraw {
        attack: attack("a"),
    };
    pair.client.handle_command(pair.now, withdraw);
    pair.advance(Duration::from_secs(5));
    assert_eq!(pair.asked(), [ALL, "put tsid=1"]);
}
