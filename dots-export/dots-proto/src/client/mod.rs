//! The client's side of one session: requests with repetition, Observe, heartbeats.

mod pending;

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::Value;

use crate::coap::{Code, Kind, Message, Token, option};
use crate::heartbeat::{Heartbeats, peer_hb_status};
use crate::parameters::Numbers;
use crate::{Method, Resource, SessionParameters, cbor};
use pending::Pending;

/// Requests that may be open at once; one more is answered with [`Notice::Unanswered`] at once.
pub const MAX_OPEN_REQUESTS: usize = 256;
/// Observe relations that may stand at once.
const MAX_RELATIONS: usize = 256;
/// Message ids of the peer that are remembered against duplicates.
const MAX_SEEN: usize = 128;

/// A request by the number that [`Session::handle_request`] gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// What a client asks.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// GET, PUT or DELETE.
    pub method: Method,
    /// Of what.
    pub resource: Resource,
    /// JSON form of the body; PUT only.
    pub body: Option<Value>,
    /// GET only: `Some(true)` registers for notifications, `Some(false)` ends them (RFC 7641).
    pub observe: Option<bool>,
    /// Whether an empty If-Match goes with it: an efficacy update (RFC 9132 §4.4.3).
    pub if_match: bool,
}

/// What a session tells.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice {
    /// The answer to a request.
    Response {
        /// The request.
        id: RequestId,
        /// Its code.
        code: Code,
        /// JSON form of the body, where there is a readable one.
        body: Option<Value>,
        /// The text of an error.
        diagnostic: Option<String>,
        /// Seconds, where the server states them.
        max_age: Option<u32>,
    },
    /// An observed resource has changed.
    Notification {
        /// The resource.
        resource: Resource,
        /// JSON form of its new state.
        body: Value,
    },
    /// A request was repeated as often as it may be, or there is no room for it.
    Unanswered {
        /// The request.
        id: RequestId,
    },
    /// The peer's heartbeat.
    PeerHeartbeat {
        /// Whether the peer hears us.
        heard: bool,
    },
    /// In peace, the peer has not answered as many heartbeats as are allowed: connect again.
    SessionLost,
}

/// The client's side of one session. After each `handle_*`, poll `poll_transmit` and `poll_notice` until both are empty.
#[derive(Debug)]
pub struct Session {
    parameters: SessionParameters,
    numbers: Numbers,
    message_id: u16,
    requests: u64,
    connected: bool,
    mitigating: bool,
    open: Vec<Pending>,
    relations: Vec<Relation>,
    heartbeats: Heartbeats,
    seen: VecDeque<u16>,
    transmits: VecDeque<Vec<u8>>,
    notices: VecDeque<Notice>,
}

#[derive(Debug)]
struct Relation {
    token: Token,
    resource: Resource,
    newest: Option<(u32, Instant)>,
}

impl Session {
    /// A session that is not connected yet. The seed makes message ids, tokens and jitter.
    #[must_use]
    pub fn new(parameters: SessionParameters, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        Self {
            heartbeats: Heartbeats::new(&parameters),
            message_id: numbers.number() as u16,
            parameters,
            numbers,
            requests: 0,
            connected: false,
            mitigating: false,
            open: Vec::new(),
            relations: Vec::new(),
            seen: VecDeque::new(),
            transmits: VecDeque::new(),
            notices: VecDeque::new(),
        }
    }

    /// The transport stands: open requests go out, again where they have before.
    pub fn handle_connected(&mut self, now: Instant) {
        self.connected = true;
        self.seen.clear();
        self.heartbeats.begin(now);
        for pending in &mut self.open {
            pending.restart();
        }
        self.send_ready(now);
    }

    /// The transport is gone: open requests wait, Observe relations end.
    pub fn handle_disconnected(&mut self, _now: Instant) {
        self.connected = false;
        self.relations.clear();
        self.transmits.clear();
        self.heartbeats.end();
    }

    /// Under attack a session is never given up for missed heartbeats (RFC 9132 §4.7).
    pub fn handle_mitigating(&mut self, under_attack: bool) {
        self.mitigating = under_attack;
    }

    /// Takes a request; it goes out at once where the session stands. Telemetry of a resource replaces older telemetry of
    /// the same resource that is still open, and waits while other telemetry is unanswered; mitigation requests never wait.
    pub fn handle_request(&mut self, now: Instant, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        if is_telemetry_put(&request) {
            self.drop_open(|pending| {
                is_telemetry_put(&pending.request) && pending.request.resource == request.resource
            });
        }
        if self.open.len() >= MAX_OPEN_REQUESTS {
            self.notices.push_back(Notice::Unanswered { id });
            return id;
        }
        let token = self.token_for(&request);
        self.open.push(Pending::new(id, request, token));
        self.send_ready(now);
        id
    }

    /// Takes a datagram of the peer. What is malformed is dropped.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(message) = Message::decode(datagram) else {
            return;
        };
        self.heartbeats.handle_sign(now);
        if message.code.is_request() {
            self.handle_peer_request(&message);
        } else if message.code.is_response() {
            self.handle_response(now, &message);
        } else {
            self.handle_empty(&message);
        }
        self.send_ready(now);
    }

    /// Repeats what is due, sends heartbeats, notices silence.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.connected {
            return;
        }
        let mut given_up = Vec::new();
        for index in 0..self.open.len() {
            let Some(pending) = self
                .open
                .get_mut(index)
                .filter(|pending| pending.is_due(now))
            else {
                continue;
            };
            if pending.is_exhausted(&self.parameters) {
                given_up.push(pending.id);
            } else {
                self.send(now, index);
            }
        }
        for id in given_up {
            self.drop_open(|pending| pending.id == id);
        }
        self.send_heartbeat(now);
        self.send_ready(now);
    }

    /// The next datagram for the peer. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// The next notice. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// When `handle_timeout` is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.connected {
            return None;
        }
        self.open
            .iter()
            .filter_map(Pending::due)
            .chain(self.heartbeats.due())
            .min()
    }

    /// Requests that have no answer yet.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.open.len()
    }

    /// Sends what has not been sent: everything but telemetry at once, of telemetry one at a time.
    fn send_ready(&mut self, now: Instant) {
        if !self.connected {
            return;
        }
        let mut telemetry_waits = self
            .open
            .iter()
            .any(|p| is_telemetry_put(&p.request) && p.due().is_some());
        for index in 0..self.open.len() {
            let Some(pending) = self
                .open
                .get(index)
                .filter(|pending| pending.due().is_none())
            else {
                continue;
            };
            if is_telemetry_put(&pending.request) {
                if telemetry_waits {
                    continue;
                }
                telemetry_waits = true;
            }
            self.send(now, index);
        }
    }

    fn send(&mut self, now: Instant, index: usize) {
        let fresh = self.next_message_id();
        let stretch = self.parameters.ack_random_factor;
        let Some(pending) = self.open.get_mut(index) else {
            return;
        };
        let wait = self
            .numbers
            .stretch(pending.next_wait(&self.parameters), stretch);
        let message = pending.message(fresh, now + wait);
        self.transmits.push_back(message.to_octets());
    }

    fn send_heartbeat(&mut self, now: Instant) {
        let (message_id, token) = (
            self.next_message_id(),
            Token::from_number(self.numbers.number()),
        );
        let Some((message, lost)) = self.heartbeats.handle_timeout(now, message_id, token) else {
            return;
        };
        self.transmits.push_back(message.to_octets());
        if lost && !self.mitigating {
            self.notices.push_back(Notice::SessionLost);
        }
    }

    /// A server sends one kind of request: heartbeats.
    fn handle_peer_request(&mut self, message: &Message) {
        let known = self.seen.contains(&message.message_id);
        if !known {
            self.seen.push_back(message.message_id);
            if self.seen.len() > MAX_SEEN {
                self.seen.pop_front();
            }
        }
        let segments: Option<Vec<&str>> = message
            .values(option::URI_PATH)
            .map(|s| std::str::from_utf8(s).ok())
            .collect();
        let resource = segments.map(|segments| Resource::from_segments(segments.into_iter()));
        let (code, diagnostic) = match resource {
            Some(Ok(Resource::Heartbeat)) if message.code == Code::PUT => {
                let body = cbor::decode(&message.payload).ok();
                match peer_hb_status(body.as_ref()) {
                    Ok(heard) => {
                        if !known {
                            self.notices.push_back(Notice::PeerHeartbeat { heard });
                        }
                        (Code::CHANGED, String::new())
                    }
                    Err(text) => (Code::BAD_REQUEST, text),
                }
            }
            Some(Ok(_)) => (
                Code::METHOD_NOT_ALLOWED,
                "a client serves heartbeats alone".to_owned(),
            ),
            _ => (
                Code::NOT_FOUND,
                "a client serves heartbeats alone".to_owned(),
            ),
        };
        let mut answer = match message.kind {
            Kind::Confirmable => Message::new(
                Kind::Acknowledgement,
                code,
                message.message_id,
                message.token,
            ),
            _ => Message::new(
                Kind::NonConfirmable,
                code,
                self.next_message_id(),
                message.token,
            ),
        };
        answer.payload = diagnostic.into_bytes();
        self.transmits.push_back(answer.to_octets());
    }

    fn handle_response(&mut self, now: Instant, message: &Message) {
        let index = self
            .open
            .iter()
            .position(|pending| pending.token == message.token);
        let relation = self
            .relations
            .iter()
            .position(|relation| relation.token == message.token);
        if message.kind == Kind::Confirmable {
            let known = index.is_some()
                || relation.is_some()
                || self.heartbeats.handle_response(message.token);
            let kind = if known {
                Kind::Acknowledgement
            } else {
                Kind::Reset
            };
            self.transmits
                .push_back(Message::empty(kind, message.message_id).to_octets());
        }
        if let Some(index) = index {
            let pending = self.open.remove(index);
            self.handle_answer(now, pending, message);
        } else if let Some(index) = relation {
            self.handle_notification(now, index, message);
        } else if !self.heartbeats.handle_response(message.token)
            && message.kind == Kind::NonConfirmable
            && message.option(option::OBSERVE).is_some()
        {
            // RFC 7641 §3.6: a Reset ends a relation that the client knows nothing of.
            self.transmits
                .push_back(Message::empty(Kind::Reset, message.message_id).to_octets());
        }
    }

    fn handle_answer(&mut self, now: Instant, pending: Pending, message: &Message) {
        let sequence = message.number(option::OBSERVE);
        if pending.request.observe == Some(true) && message.code.is_success() && sequence.is_some()
        {
            self.relations
                .retain(|relation| relation.token != message.token);
            if self.relations.len() < MAX_RELATIONS {
                let resource = pending.request.resource.clone();
                self.relations.push(Relation {
                    token: message.token,
                    resource,
                    newest: sequence.map(|s| (s, now)),
                });
            }
        }
        let (body, diagnostic) = content(message);
        let max_age = message.number(option::MAX_AGE);
        self.notices.push_back(Notice::Response {
            id: pending.id,
            code: message.code,
            body,
            diagnostic,
            max_age,
        });
    }

    fn handle_notification(&mut self, now: Instant, index: usize, message: &Message) {
        let Some(relation) = self.relations.get_mut(index) else {
            return;
        };
        let sequence = message.number(option::OBSERVE);
        if !message.code.is_success() || sequence.is_none() {
            // RFC 7641 §4.2: an error, or a response without the option, ends the relation.
            let relation = self.relations.remove(index);
            if let (Some(body), _) = content(message) {
                self.notices.push_back(Notice::Notification {
                    resource: relation.resource,
                    body,
                });
            }
            return;
        }
        if let (Some(sequence), Some((newest, at))) = (sequence, relation.newest)
            && !is_newer(newest, sequence)
            && now.duration_since(at).as_secs() < 128
        {
            return;
        }
        relation.newest = sequence.map(|sequence| (sequence, now));
        let resource = relation.resource.clone();
        if let (Some(body), _) = content(message) {
            self.notices
                .push_back(Notice::Notification { resource, body });
        }
    }

    /// An empty message: ACK before a separate response, Reset, or a ping.
    fn handle_empty(&mut self, message: &Message) {
        match message.kind {
            Kind::Confirmable => self
                .transmits
                .push_back(Message::empty(Kind::Reset, message.message_id).to_octets()),
            Kind::Acknowledgement => {
                if let Some(pending) = self
                    .open
                    .iter_mut()
                    .find(|p| p.message_id == Some(message.message_id))
                {
                    pending.handle_acknowledged();
                }
            }
            Kind::Reset | Kind::NonConfirmable => {}
        }
    }

    fn drop_open(&mut self, which: impl Fn(&Pending) -> bool) {
        let notices = &mut self.notices;
        self.open.retain(|pending| {
            let dropped = which(pending);
            if dropped {
                notices.push_back(Notice::Unanswered { id: pending.id });
            }
            !dropped
        });
    }

    /// A new token, but for the end of a relation, which names the relation's (RFC 7641 §3.6).
    fn token_for(&mut self, request: &Request) -> Token {
        if request.observe == Some(false)
            && let Some(index) = self
                .relations
                .iter()
                .position(|relation| relation.resource == request.resource)
        {
            return self.relations.remove(index).token;
        }
        Token::from_number(self.numbers.number())
    }

    fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.wrapping_add(1);
        self.message_id
    }
}

fn is_telemetry_put(request: &Request) -> bool {
    request.method == Method::Put && matches!(request.resource, Resource::Telemetry { .. })
}

/// RFC 7641 §3.4: sequence numbers of 24 bits, compared over the shorter way round.
fn is_newer(newest: u32, sequence: u32) -> bool {
    (newest < sequence && sequence - newest < 1 << 23)
        || (newest > sequence && newest - sequence > 1 << 23)
}

/// A body in its JSON form, or the text of an error.
fn content(message: &Message) -> (Option<Value>, Option<String>) {
    if message.payload.is_empty() {
        return (None, None);
    }
    if message.number(option::CONTENT_FORMAT) == Some(option::DOTS_CBOR) {
        return match cbor::decode(&message.payload) {
            Ok(body) => (Some(body), None),
            Err(error) => (None, Some(error.to_string())),
        };
    }
    (
        None,
        Some(String::from_utf8_lossy(&message.payload).into_owned()),
    )
}
