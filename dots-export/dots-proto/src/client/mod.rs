//! The client's side of one session: requests with repetition, Observe, heartbeats.

mod assembly;
mod pending;
mod reading;
mod relation;
mod robust;
mod sending;
mod upload;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::coap::{Code, Kind, Message, Token, option};
use crate::heartbeat::Heartbeats;
use crate::parameters::Numbers;
use crate::request::{self, Fault, peer_hb_status};
use crate::robust::is_missing_blocks;
use crate::{Method, Resource, SessionParameters, cbor};
use assembly::{Assembly, Step};
use pending::{Pending, WantedFor, is_telemetry};
use relation::{Arrival, Relations};
use robust::Support;
use upload::Next;

/// Requests that may be open at once; one more is answered with [`Notice::Unanswered`] at once.
pub const MAX_OPEN_REQUESTS: usize = 256;
/// Message ids of the peer's requests and Confirmable responses that are remembered against duplicates.
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
    /// Uri-Query options, as `c=n`; GET only (RFC 9132 §4.4.2, RFC 9244 §8.3).
    pub query: Vec<String>,
}

impl Request {
    /// A request without options and body.
    #[must_use]
    pub const fn new(method: Method, resource: Resource) -> Self {
        Self {
            method,
            resource,
            body: None,
            observe: None,
            if_match: false,
            query: Vec::new(),
        }
    }
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
        /// JSON form of its new state; of a 5.03 the server to go to instead (RFC 9132 §4.6).
        body: Value,
        /// The Max-Age option, where it is all in one datagram.
        max_age: Option<u32>,
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
#[derive(Clone, Debug)]
pub struct Session {
    parameters: SessionParameters,
    numbers: Numbers,
    message_id: u16,
    requests: u64,
    connected: bool,
    mitigating: bool,
    open: Vec<Pending>,
    relations: Relations,
    heartbeats: Heartbeats,
    support: Support,
    /// The Request-Tag of the newest body by Q-Block1.
    tag: u64,
    /// Until then telemetry is held, since the peer has not answered the last (PROBING_RATE, RFC 7252 §4.7).
    telemetry_held: Option<Instant>,
    seen: VecDeque<(Instant, u16)>,
    transmits: VecDeque<Vec<u8>>,
    notices: VecDeque<Notice>,
}

impl Session {
    /// A session that is not connected yet. The seed makes message ids, tokens and jitter.
    #[must_use]
    pub fn new(parameters: SessionParameters, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        Self {
            heartbeats: Heartbeats::new(&parameters),
            message_id: numbers.number() as u16,
            support: Support::Unwanted,
            tag: numbers.number(),
            parameters,
            numbers,
            requests: 0,
            connected: false,
            mitigating: false,
            open: Vec::new(),
            relations: Relations::default(),
            telemetry_held: None,
            seen: VecDeque::new(),
            transmits: VecDeque::new(),
            notices: VecDeque::new(),
        }
    }

    /// The transport stands: open requests go out, again where they have before.
    pub fn handle_connected(&mut self, now: Instant) {
        self.connected = true;
        self.seen.clear();
        self.relations.clear();
        self.telemetry_held = None;
        self.heartbeats.begin(now);
        self.open
            .retain(|pending| pending.wanted_for == WantedFor::Caller);
        self.open.iter_mut().for_each(Pending::restart);
        self.forget_support();
        self.ask_support();
        self.send_ready(now);
    }

    /// The transport is gone: open requests wait, Observe relations end.
    pub fn handle_disconnected(&mut self, _now: Instant) {
        self.connected = false;
        self.relations.clear();
        self.transmits.clear();
        self.heartbeats.end();
    }

    /// Other parameters hold from now on: they were configured, or an attack begins or ends (RFC 9132 §4.5).
    pub fn handle_parameters(&mut self, now: Instant, parameters: SessionParameters) {
        self.heartbeats.configure(now, &parameters);
        if !self.connected {
            self.heartbeats.end();
        }
        self.parameters = parameters;
    }

    /// Whether the transport that is about to stand loses nothing: over TCP one heartbeat that is not answered within the
    /// interval shows that the session is lost (RFC 9132 §4.7). Datagrams are what is assumed.
    pub fn handle_reliable(&mut self, reliable: bool) {
        self.heartbeats.set_reliable(reliable);
    }

    /// The transport has measured the path, as in its handshake. Then requests for mitigation are repeated more often (RFC 9132
    /// §4.4): at intervals of the round-trip time for each that is open, and a second at least.
    pub fn handle_round_trip(&mut self, measured: Duration) {
        self.heartbeats.handle_round_trip(measured);
    }

    /// Under attack a session is never given up for missed heartbeats (RFC 9132 §4.7). When the attack ends in silence, it
    /// is then.
    pub fn handle_mitigating(&mut self, under_attack: bool) {
        self.mitigating = under_attack;
        self.tell_silence();
    }

    /// Takes a request; it goes out at once where the session stands. Telemetry of a resource replaces older telemetry of
    /// the same resource that is still open, and waits while other telemetry is unanswered; mitigation requests never wait.
    pub fn handle_request(&mut self, now: Instant, request: Request) -> RequestId {
        let id = self.next_request_id();
        if is_telemetry(&request) {
            self.drop_open(|pending| {
                pending.is_telemetry() && pending.request.resource == request.resource
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

    /// A resource is of no interest any more: its notifications are reset from now on, which ends the relation at the
    /// server too (RFC 7641 §3.6).
    pub fn handle_forgotten(&mut self, resource: &Resource) {
        if let Some(token) = self.relations.token_of(resource) {
            self.relations.end(token);
        }
    }

    /// Takes a datagram of the peer. What is malformed is dropped, or reset where it wants to be acknowledged.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(message) = Message::decode(datagram) else {
            self.transmit(Message::reset_of_malformed(datagram));
            return;
        };
        self.heartbeats.handle_sign();
        self.telemetry_held = None;
        if message.code.is_request() {
            self.handle_peer_request(now, &message);
        } else if message.code.is_response() {
            self.handle_response(now, &message);
        } else {
            self.handle_empty(now, &message);
        }
        self.ask_support();
        self.send_ready(now);
    }

    /// Repeats what is due, sends heartbeats, notices silence.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.connected {
            return;
        }
        let mut given_up = Vec::new();
        for index in 0..self.open.len() {
            match self.open.get(index) {
                Some(pending) if !pending.is_due(now) => {}
                Some(pending) if pending.is_under_way() => {
                    let id = pending.id;
                    if !self.handle_robust_timeout(now, index) {
                        given_up.push(id);
                    }
                }
                Some(pending) if pending.is_exhausted(&self.parameters) => {
                    given_up.push(pending.id);
                    self.note_given_up(index);
                }
                _ => self.send(now, index),
            }
        }
        for id in given_up {
            self.hold_telemetry(now, id);
            self.drop_open(|pending| pending.id == id);
        }
        if self.heartbeats.is_due(now) {
            let message_id = self.next_message_id();
            let token = self.fresh_token();
            let heartbeat = self.heartbeats.beat(now, message_id, token);
            self.transmit(Some(heartbeat));
            self.tell_silence();
        }
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
        let held = self
            .telemetry_held
            .filter(|_| self.open.iter().any(|pending| pending.due().is_none()));
        self.open
            .iter()
            .filter_map(Pending::due)
            .chain(self.heartbeats.due())
            .chain(held)
            .min()
    }

    /// Requests that have no answer yet.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.open
            .iter()
            .filter(|pending| pending.wanted_for == WantedFor::Caller)
            .count()
    }

    /// How many more requests may be open now.
    #[must_use]
    pub fn room(&self) -> usize {
        MAX_OPEN_REQUESTS.saturating_sub(self.open.len())
    }

    /// Sends what has not been sent: everything but telemetry at once, of telemetry one at a time.
    fn send_ready(&mut self, now: Instant) {
        if !self.connected {
            return;
        }
        let mut telemetry_waits = self.telemetry_held.is_some_and(|until| until > now)
            || self
                .open
                .iter()
                .any(|pending| pending.is_telemetry() && pending.due().is_some());
        for index in 0..self.open.len() {
            let Some(pending) = self
                .open
                .get(index)
                .filter(|pending| pending.due().is_none())
            else {
                continue;
            };
            if self.waits_for_support(pending) {
                continue;
            }
            if pending.is_telemetry() && std::mem::replace(&mut telemetry_waits, true) {
                continue;
            }
            self.send(now, index);
        }
    }

    fn send(&mut self, now: Instant, index: usize) {
        if self.send_robust(now, index) {
            return;
        }
        let fresh = self.next_message_id();
        let urgent = self.open.iter().filter(|pending| pending.is_urgent());
        let open = u32::try_from(urgent.count()).unwrap_or(u32::MAX);
        let round_trips = self.heartbeats.round_trip();
        let round_trips = round_trips.map(|one| one.saturating_mul(open));
        let Some(pending) = self.open.get_mut(index) else {
            return;
        };
        let wait = self.numbers.stretch(
            pending.next_wait(&self.parameters, round_trips),
            self.parameters.ack_random_factor,
        );
        self.transmits.push_back(pending.send(fresh, now + wait));
    }

    /// Telemetry in vain makes other telemetry wait, so that no more than the probing rate is sent to a dead peer.
    fn hold_telemetry(&mut self, now: Instant, id: RequestId) {
        let octets = self
            .open
            .iter()
            .find(|pending| pending.id == id && pending.is_telemetry())
            .map(Pending::octets_sent);
        if let Some(octets) = octets {
            let seconds = octets / u64::from(self.parameters.probing_rate.max(1));
            self.telemetry_held =
                Some(now + Duration::from_secs(seconds).min(self.parameters.non_probing_wait()));
        }
    }

    fn tell_silence(&mut self) {
        if !self.mitigating && self.heartbeats.tell_silence() {
            self.notices.push_back(Notice::SessionLost);
        }
    }

    /// A server sends one kind of request: heartbeats.
    fn handle_peer_request(&mut self, now: Instant, message: &Message) {
        if !matches!(message.kind, Kind::Confirmable | Kind::NonConfirmable) {
            return;
        }
        let known = self.is_seen(now, message.message_id);
        if !known {
            self.note_seen(now, message.message_id);
        }
        let answer = match request::read(message) {
            Ok(asked) if asked.resource == Resource::Heartbeat => {
                peer_hb_status(&asked).map_err(|text| (Code::BAD_REQUEST, text))
            }
            Ok(_) => Err((
                Code::NOT_FOUND,
                "a client serves heartbeats alone".to_owned(),
            )),
            Err(Fault::Refuse(code, text)) => Err((code, text)),
            Err(Fault::Reject) => {
                self.transmit(Some(Message::empty(Kind::Reset, message.message_id)));
                return;
            }
        };
        let (code, diagnostic) = match answer {
            Ok(heard) => {
                self.heartbeats.handle_heartbeat(now);
                if !known {
                    self.notices.push_back(Notice::PeerHeartbeat { heard });
                }
                (Code::CHANGED, String::new())
            }
            Err(refusal) => refusal,
        };
        let (kind, message_id) = match message.kind {
            Kind::Confirmable => (Kind::Acknowledgement, message.message_id),
            _ => (Kind::NonConfirmable, self.next_message_id()),
        };
        let mut answer = Message::new(kind, code, message_id, message.token);
        answer.payload = diagnostic.into_bytes();
        self.transmit(Some(answer));
    }

    /// Whether that message of the peer came before.
    fn is_seen(&mut self, now: Instant, message_id: u16) -> bool {
        let lifetime = self.parameters.non_lifetime();
        self.seen
            .retain(|(at, _)| now.duration_since(*at) <= lifetime);
        self.seen.iter().any(|(_, other)| *other == message_id)
    }

    fn note_seen(&mut self, now: Instant, message_id: u16) {
        if self.seen.len() >= MAX_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back((now, message_id));
    }

    fn handle_response(&mut self, now: Instant, message: &Message) {
        let confirmable = message.kind == Kind::Confirmable;
        // RFC 7252 §4.5: a repetition of what was taken is acknowledged again, and not read again.
        let repeated = confirmable && self.is_seen(now, message.message_id);
        let taken = repeated
            || message.kind != Kind::Reset
                && request::is_response_understood(message)
                && self.take_response(now, message);
        if confirmable && taken && !repeated {
            self.note_seen(now, message.message_id);
        }
        // RFC 7252 §4.2; RFC 7641 §3.6: a Reset ends a relation that the client knows nothing of.
        let reply = match message.kind {
            Kind::Confirmable if taken => Some(Kind::Acknowledgement),
            Kind::Confirmable => Some(Kind::Reset),
            // RFC 9177 §4.3: so does one that asks for payloads of a body that was given up.
            Kind::NonConfirmable
                if !taken
                    && (message.option(option::OBSERVE).is_some()
                        || is_missing_blocks(message)) =>
            {
                Some(Kind::Reset)
            }
            _ => None,
        };
        self.transmit(reply.map(|kind| Message::empty(kind, message.message_id)));
    }

    /// Whether a response is of any request, relation or heartbeat.
    fn take_response(&mut self, now: Instant, message: &Message) -> bool {
        let index = self.open.iter().position(|pending| pending.owns(message));
        if let Some(index) = index {
            if self.take_robust(now, index, message) {
                return true;
            }
            let pending = self.open.remove(index);
            self.handle_answer(now, pending, message);
            return true;
        }
        let sequence = message
            .number(option::OBSERVE)
            .filter(|_| message.code.is_success());
        match self.relations.arrival(now, message.token, sequence) {
            Some(Arrival::Newer(resource) | Arrival::Last(resource)) => {
                self.handle_notification(now, resource, message);
                true
            }
            Some(Arrival::Stale) => true,
            None => self.heartbeats.handle_response(now, message.token),
        }
    }

    fn handle_answer(&mut self, now: Instant, mut pending: Pending, message: &Message) {
        if let Some(upload) = &mut pending.upload
            && upload.handle_answer(message) == Next::Send
        {
            pending.ask_next_block(self.fresh_token());
            self.open.push(pending);
            return;
        }
        if pending.request.observe == Some(true) && pending.assembly.next().is_none() {
            self.note_registration(now, &pending, message);
        }
        if !message.code.is_success() {
            let (body, diagnostic) = content(message, &message.payload);
            self.deliver(&pending, message, body, diagnostic);
            return;
        }
        match pending.assembly.handle_response(message) {
            Step::Whole(octets) => {
                let (body, diagnostic) = content(message, &octets);
                self.deliver(&pending, message, body, diagnostic);
            }
            Step::More => {
                pending.ask_next_block(self.fresh_token());
                self.open.push(pending);
            }
            Step::Failed(reason) => {
                self.deliver(&pending, message, None, Some(reason.to_owned()));
            }
        }
    }

    fn note_registration(&mut self, now: Instant, pending: &Pending, message: &Message) {
        match message.number(option::OBSERVE) {
            Some(sequence) if message.code.is_success() => {
                let Request {
                    resource, query, ..
                } = pending.request.clone();
                self.relations
                    .establish(now, message.token, (resource, query), sequence);
            }
            _ => self.relations.end(message.token),
        }
    }

    fn deliver(
        &mut self,
        pending: &Pending,
        message: &Message,
        body: Option<Value>,
        diagnostic: Option<String>,
    ) {
        match (pending.wanted_for, body) {
            (WantedFor::Caller, body) => self.notices.push_back(Notice::Response {
                id: pending.id,
                code: message.code,
                body,
                diagnostic,
                max_age: message.number(option::MAX_AGE),
            }),
            (WantedFor::Notification, Some(body)) if message.code.is_success() => {
                self.notices.push_back(Notice::Notification {
                    resource: pending.request.resource.clone(),
                    body,
                    max_age: None,
                });
            }
            (WantedFor::Notification | WantedFor::Support, _) => {}
        }
    }

    /// A new state of a resource; of one that does not fit a datagram this is the first block (RFC 7959 §2.6).
    fn handle_notification(&mut self, now: Instant, resource: Resource, message: &Message) {
        // What was being read of an older state is of no use.
        self.open.retain(|pending| {
            pending.wanted_for == WantedFor::Caller || pending.request.resource != resource
        });
        if message.option(option::Q_BLOCK2).is_some() {
            self.begin_reading(now, resource, message);
            return;
        }
        let mut assembly = Assembly::default();
        match assembly.handle_response(message) {
            Step::Whole(octets) => {
                if let (Some(body), _) = content(message, &octets) {
                    self.notices.push_back(Notice::Notification {
                        resource,
                        body,
                        max_age: message.number(option::MAX_AGE),
                    });
                }
            }
            Step::More if self.open.len() < MAX_OPEN_REQUESTS => {
                let (id, token) = (self.next_request_id(), self.fresh_token());
                let asked = (resource, self.relations.query_of(message.token));
                self.open
                    .push(Pending::of_notification(id, asked, token, assembly));
            }
            Step::More | Step::Failed(_) => {}
        }
    }

    /// An empty message: ACK before a separate response, Reset, or a ping.
    fn handle_empty(&mut self, now: Instant, message: &Message) {
        let ours = |pending: &Pending| pending.message_id == Some(message.message_id);
        match message.kind {
            Kind::Confirmable => {
                self.transmit(Some(Message::empty(Kind::Reset, message.message_id)));
            }
            Kind::Acknowledgement => {
                let due = now + self.parameters.max_transmit_wait();
                if let Some(pending) = self.open.iter_mut().find(|pending| ours(pending)) {
                    pending.handle_acknowledged(due);
                }
            }
            // RFC 7252 §4.2: the peer has rejected the request; a repeat would fare no better.
            Kind::Reset if self.take_robust_reset(message.message_id) => {}
            Kind::Reset => self.drop_open(ours),
            Kind::NonConfirmable => {}
        }
    }

    fn drop_open(&mut self, which: impl Fn(&Pending) -> bool) {
        let notices = &mut self.notices;
        self.open.retain(|pending| {
            let dropped = which(pending);
            if dropped && pending.wanted_for == WantedFor::Caller {
                notices.push_back(Notice::Unanswered { id: pending.id });
            }
            !dropped
        });
    }

    /// A new token, but for what changes a relation, which has the relation's (RFC 7641 §3.3.1, §3.6).
    fn token_for(&mut self, request: &Request) -> Token {
        let relation = request
            .observe
            .and_then(|_| self.relations.token_of(&request.resource));
        match relation {
            Some(token) => {
                if request.observe == Some(false) {
                    self.relations.end(token);
                }
                token
            }
            None => self.fresh_token(),
        }
    }

    fn fresh_token(&mut self) -> Token {
        Token::from_number(self.numbers.number())
    }

    fn next_request_id(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.wrapping_add(1);
        self.message_id
    }

    fn transmit(&mut self, message: Option<Message>) {
        self.transmits
            .extend(message.map(|message| message.to_octets()));
    }
}

/// A body in its JSON form, or the text of an error.
fn content(message: &Message, octets: &[u8]) -> (Option<Value>, Option<String>) {
    if octets.is_empty() {
        return (None, None);
    }
    if message.number(option::CONTENT_FORMAT) == Some(option::DOTS_CBOR) {
        return match cbor::decode(octets) {
            Ok(body) => (Some(body), None),
            Err(error) => (None, Some(error.to_string())),
        };
    }
    (None, Some(String::from_utf8_lossy(octets).into_owned()))
}
