//! A server over a virtual clock, clients that speak CoAP to it, and a mitigator that records what it is told.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_dots_proto::body::{MitigationStatus, Scope};
use weir_dots_proto::coap::{Code, Kind, Message, Token, option};
use weir_dots_proto::{decode, encode};
use weir_dots_server::{MitigationId, Mitigator, MitigatorReport, Server, ServerPolicy};
use weir_dtls::{PeerIdentity, SessionId};

pub(crate) const EPOCH: u64 = 1_800_000_000;
pub(crate) const CUID: &str = "cuid=dz6pHjaADkaFTbjr0JGBpw";
pub(crate) const OTHER_CUID: &str = "cuid=z85PF07F0YiHmas-fJkqRg";

/// What the recording mitigator was told, and what it is to report.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) active: BTreeMap<MitigationId, Scope>,
    pub(crate) applied: Vec<MitigationId>,
    pub(crate) reports: VecDeque<MitigatorReport>,
}

struct Recording(Arc<Mutex<Told>>);

impl Mitigator for Recording {
    fn apply(&mut self, id: MitigationId, scope: &Scope) {
        let mut told = self.0.lock().unwrap();
        told.active.insert(id, scope.clone());
        told.applied.push(id);
    }

    fn withdraw(&mut self, id: MitigationId) {
        assert!(
            self.0.lock().unwrap().active.remove(&id).is_some(),
            "{id:?} is not active"
        );
    }

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        self.0.lock().unwrap().reports.pop_front()
    }
}

pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) began: Instant,
    pub(crate) now: Instant,
    /// The journal.
    pub(crate) rows: BTreeMap<String, String>,
    pub(crate) policy: ServerPolicy,
    pub(crate) told: Arc<Mutex<Told>>,
    /// Every body that the server has sent.
    pub(crate) bodies: Vec<Value>,
    inbox: BTreeMap<SessionId, VecDeque<Message>>,
    number: u64,
}

/// A client that weir-lab's certificate may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) SessionId);

impl Bench {
    /// Two clients: `weir-lab` with 203.0.113.0/24 and 2001:db8:a::/48, `other` with 198.51.100.0/24 and 203.0.113.128/25.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut ServerPolicy)) -> Self {
        let prefixes = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let mut policy = ServerPolicy {
            clients: vec![
                (
                    "weir-lab".into(),
                    prefixes(&["203.0.113.0/24", "2001:db8:a::/48"]),
                ),
                (
                    "other".into(),
                    prefixes(&["198.51.100.0/24", "203.0.113.128/25"]),
                ),
            ],
            ..ServerPolicy::default()
        };
        change(&mut policy);
        let told = Arc::new(Mutex::new(Told::default()));
        let now = Instant::now();
        let mitigator = Box::new(Recording(Arc::clone(&told)));
        Self {
            server: Server::new(policy.clone(), mitigator, (now, EPOCH), 7),
            began: now,
            now,
            told,
            bodies: Vec::new(),
            rows: BTreeMap::new(),
            policy,
            inbox: BTreeMap::new(),
            number: 0,
        }
    }

    /// The process dies, and begins anew after `down` with the rows that were written.
    pub(crate) fn restart(&mut self, down: Duration) {
        self.told = Arc::new(Mutex::new(Told::default()));
        self.now += down;
        let epoch = (self.now, EPOCH + (self.now - self.began).as_secs());
        let mitigator = Box::new(Recording(Arc::clone(&self.told)));
        self.server = Server::new(self.policy.clone(), mitigator, epoch, 8);
        let rows = self.rows.values();
        self.server
            .restore(rows.map(|text| serde_json::from_str(text).unwrap()));
        self.inbox.clear();
        self.advance(Duration::ZERO);
        self.drain();
    }

    pub(crate) fn connect(&mut self, name: &str) -> Peer {
        self.number += 1;
        let id = SessionId(self.number);
        let identity = PeerIdentity {
            names: vec![name.to_owned()],
            spki_sha256: [0; 32],
        };
        self.server.handle_connected(self.now, id, &identity);
        self.drain();
        Peer(id)
    }

    /// Lets time pass, waking the server whenever it wants to be.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.server.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub(crate) fn report(&mut self, id: MitigationId, status: MitigationStatus, packets: u64) {
        let report = MitigatorReport {
            id,
            status,
            bytes_dropped: packets * 500,
            packets_dropped: packets,
            bytes_per_second_dropped: packets * 50,
            packets_per_second_dropped: packets / 10,
        };
        self.told.lock().unwrap().reports.push_back(report);
    }

    pub(crate) fn active(&self) -> Vec<MitigationId> {
        self.told.lock().unwrap().active.keys().copied().collect()
    }

    pub(crate) fn get(&mut self, peer: Peer, path: &[&str]) -> Answer {
        self.ask(peer, Code::GET, path, None, &[]).unwrap()
    }

    pub(crate) fn put(&mut self, peer: Peer, path: &[&str], body: &Value) -> Answer {
        self.ask(peer, Code::PUT, path, Some(body), &[]).unwrap()
    }

    pub(crate) fn delete(&mut self, peer: Peer, path: &[&str]) -> Answer {
        self.ask(peer, Code::DELETE, path, None, &[]).unwrap()
    }

    /// Observes; the token names the relation.
    pub(crate) fn observe(&mut self, peer: Peer, path: &[&str]) -> (Token, Answer) {
        let answer = self.ask(
            peer,
            Code::GET,
            path,
            None,
            &[(option::OBSERVE, Vec::new())],
        );
        (Token::from_number(self.number), answer.unwrap())
    }

    /// Asks; `None` where the server keeps silent.
    pub(crate) fn ask(
        &mut self,
        peer: Peer,
        code: Code,
        path: &[&str],
        body: Option<&Value>,
        options: &[(u16, Vec<u8>)],
    ) -> Option<Answer> {
        self.number += 1;
        let token = Token::from_number(self.number);
        let mut message = Message::new(Kind::NonConfirmable, code, self.number as u16, token);
        for segment in [".well-known", "dots"].iter().chain(path) {
            message.push_option(option::URI_PATH, segment.as_bytes());
        }
        if let Some(body) = body {
            message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
            message.payload = encode(body).unwrap();
        }
        for (number, value) in options {
            message.push_option(*number, value.clone());
        }
        self.server
            .handle_data(self.now, peer.0, &message.to_octets());
        self.drain();
        let inbox = self.inbox.get_mut(&peer.0)?;
        let index = inbox.iter().position(|message| message.token == token)?;
        inbox.remove(index).map(Answer::of)
    }

    /// Notifications of a relation since the last call.
    pub(crate) fn notifications(&mut self, peer: Peer, token: Token) -> Vec<Value> {
        let Some(inbox) = self.inbox.get_mut(&peer.0) else {
            return Vec::new();
        };
        let (ours, others) = inbox.drain(..).partition(|message| message.token == token);
        *inbox = others;
        let ours: VecDeque<Message> = ours;
        ours.into_iter()
            // The last word on what is no more.
            .filter(|message| message.code != Code::NOT_FOUND)
            .map(|message| {
                assert_eq!(message.kind, Kind::NonConfirmable);
                assert!(message.option(option::OBSERVE).is_some());
                Answer::of(message).body.unwrap()
            })
            .collect()
    }

    /// Heartbeats of the server since the last call.
    pub(crate) fn heartbeats(&mut self, peer: Peer) -> usize {
        let inbox = self.inbox.entry(peer.0).or_default();
        let before = inbox.len();
        inbox.retain(|message| message.code != Code::PUT);
        before - inbox.len()
    }

    fn drain(&mut self) {
        // No name has an address here.
        while let Some(name) = self.server.poll_lookup() {
            self.server.handle_lookup(self.now, &name, Vec::new());
        }
        while let Some(change) = self.server.poll_persist() {
            let key = change.key.text();
            match change.row {
                Some(row) => {
                    assert_eq!(row.key(), change.key);
                    // As a journal does: through its text form.
                    let text = serde_json::to_string(&row).unwrap();
                    self.rows.insert(key, text);
                }
                None => drop(self.rows.remove(&key)),
            }
        }
        while let Some((id, datagram)) = self.server.poll_transmit() {
            let message = Message::decode(&datagram).unwrap();
            let has_body = message.option(option::CONTENT_FORMAT).is_some()
                && message.option(option::BLOCK2).is_none();
            if message.code.is_response() && has_body {
                self.bodies.push(decode(&message.payload).unwrap());
            }
            self.inbox.entry(id).or_default().push_back(message);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Code,
    pub(crate) body: Option<Value>,
    pub(crate) text: String,
    pub max_age: Option<u32>,
}

impl Answer {
    fn of(message: Message) -> Self {
        let max_age = message.number(option::MAX_AGE);
        // Of a body in blocks only the first has come.
        let whole = message.option(option::BLOCK2).is_none();
        let coded = message.number(option::CONTENT_FORMAT) == Some(option::DOTS_CBOR);
        Self {
            code: message.code,
            body: (coded && whole).then(|| decode(&message.payload).unwrap()),
            text: if coded {
                String::new()
            } else {
                String::from_utf8(message.payload).unwrap()
            },
            max_age,
        }
    }

    /// The scopes of a mitigation body.
    pub(crate) fn scopes(&self) -> &[Value] {
        scopes(self.body.as_ref().unwrap())
    }
}

pub(crate) fn scopes(body: &Value) -> &[Value] {
    body["ietf-dots-signal-channel:mitigation-scope"]["scope"]
        .as_array()
        .unwrap()
}

/// A mitigation request.
pub(crate) fn request(prefix: &str, lifetime: i64) -> Value {
    json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-prefix": [prefix], "target-protocol": [17], "lifetime": lifetime}
    ]}})
}

/// Telemetry of an attack.
pub(crate) fn telemetry(target: Value) -> Value {
    json!({"ietf-dots-telemetry:telemetry": {"pre-or-ongoing-mitigation": [{
        "target": target,
        "total-attack-traffic": [{"unit": "megabit-ps", "mid-percentile-g": "900"}],
        "attack-detail": [{"vendor-id": 32473, "attack-id": 16, "attack-severity": "high"}]
    }]}})
}
