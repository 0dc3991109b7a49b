//! A client and the real server over a virtual clock and a link without loss.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses a part of it, and one that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir_dots_export::{
    Client, ClientCommand, ClientNotice, ClientParameters, SetupPlan, StateChange,
};
use weir_dots_proto::Cuid;
use weir_dots_proto::coap::{Code, Kind, Message, Token, option};
use weir_dots_server::{NoMitigator, Server, ServerPolicy};
use weir_dtls::{PeerIdentity, SessionId};

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) sessions: u64,
    pub(crate) rows: BTreeMap<String, StateChange>,
    /// Requests of the client but heartbeats: method and path below `/.well-known/dots`.
    pub(crate) asked: Vec<String>,
    heartbeats: usize,
    pub(crate) notices: Vec<ClientNotice>,
}

pub(crate) fn client() -> Client {
    let cuid = Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap();
    Client::new(ClientParameters::new("provider".into(), cuid, 7))
}

pub(crate) fn server(now: Instant) -> Server {
    let policy = ServerPolicy {
        clients: vec![
            ("weir-lab".into(), vec!["203.0.113.0/24".parse().unwrap()]),
            ("other".into(), vec!["198.51.100.0/24".parse().unwrap()]),
        ],
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
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            now,
            client: client(),
            server: server(now),
            sessions: 0,
            rows: BTreeMap::new(),
            asked: Vec::new(),
            heartbeats: 0,
            notices: Vec::new(),
        }
    }

    pub(crate) fn connect(&mut self) {
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

    /// Another client has used the cuid first.
    pub(crate) fn take_cuid_away(&mut self) {
        let identity = PeerIdentity {
            names: vec!["other".to_owned()],
            spki_sha256: [0; 32],
        };
        self.server = server(self.now);
        let (id, now) = (SessionId(1_000), self.now);
        self.server.handle_connected(now, id, &identity);
        let mut message = Message::new(Kind::NonConfirmable, Code::GET, 1, Token::from_number(1));
        let cuid = format!("cuid={}", self.client.cuid());
        for segment in [".well-known", "dots", "mitigate", &cuid] {
            message.push_option(option::URI_PATH, segment.as_bytes());
        }
        self.server.handle_data(now, id, &message.to_octets());
        self.client.handle_disconnected(now);
        self.connect();
    }

    pub(crate) fn order(&mut self, command: ClientCommand) {
        self.client.handle_command(self.now, command);
        self.advance(Duration::from_secs(1));
    }

    pub(crate) fn plan(&mut self, plan: &SetupPlan) {
        let plan = plan.clone();
        self.client
            .handle_command(self.now, ClientCommand::Setup { plan });
        self.advance(Duration::from_secs(1));
    }

    pub(crate) fn advance(&mut self, by: Duration) {
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
            while let Some(notice) = self.client.poll_notice() {
                self.notices.push(notice);
            }
            if quiet {
                return;
            }
        }
    }

    fn note(&mut self, datagram: &[u8]) {
        let message = Message::decode(datagram).unwrap();
        if !message.code.is_request() {
            return;
        }
        let path: Vec<String> = message
            .values(option::URI_PATH)
            .skip(2)
            .map(|segment| String::from_utf8(segment.to_vec()).unwrap())
            .filter(|segment| !segment.starts_with("cuid="))
            .collect();
        let method = match message.code {
            Code::GET => "get",
            Code::PUT if message.option(option::IF_MATCH).is_some() => "put if",
            Code::PUT => "put",
            _ => "delete",
        };
        if path.first().is_some_and(|name| name != "hb") {
            self.asked.push(format!("{method} {}", path.join("/")));
        } else {
            self.heartbeats += 1;
        }
    }

    /// Requests for a resource since the last call.
    pub(crate) fn asked(&mut self, resource: &str) -> Vec<String> {
        let asked = std::mem::take(&mut self.asked);
        let of = |line: &String| {
            line.split(' ')
                .next_back()
                .is_some_and(|path| path.split('/').next() == Some(resource))
        };
        asked.into_iter().filter(of).collect()
    }

    /// Heartbeats of the client since the last call.
    pub(crate) fn heartbeats(&mut self) -> usize {
        std::mem::take(&mut self.heartbeats)
    }
}
