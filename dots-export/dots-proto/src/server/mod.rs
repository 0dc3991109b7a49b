//! The server's side of one client's session: deduplication, Observe relations, heartbeats, faults of the protocol.

mod download;
mod exchange;
mod partial;
mod relation;
mod representation;
mod robust;
mod upload;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::coap::{Block, Code, Kind, Message, Token, option};
use crate::heartbeat::Heartbeats;
use crate::parameters::Numbers;
use crate::request::{self, Asked, Fault, peer_hb_status};
use crate::robust::is_mixed;
use crate::{Method, Resource, SessionParameters, cbor};
use download::Downloads;
use exchange::{Asker, Exchanges, Known};
use partial::Partials;
pub use relation::MAX_RELATIONS;
use relation::Relations;
use representation::{Representation, Representations};
use upload::{Step, Uploads};

/// Octets of a diagnostic payload; what is longer is cut.
const MAX_DIAGNOSTIC: usize = 512;

/// A request that waits for its response.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExchangeId(pub u64);

/// An Observe relation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RelationId(pub u64);

/// What a request says of notifications.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObserveAction {
    /// Notifications are wanted under this relation. It stands once the response is a success.
    Register(RelationId),
    /// Notifications of the resource are not wanted any more; the relation has ended.
    Deregister,
}

/// What a session tells.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A request, each once: answer it by [`Session::handle_response`].
    Request {
        /// Names it in the answer.
        exchange: ExchangeId,
        /// GET, PUT or DELETE.
        method: Method,
        /// Of what.
        resource: Resource,
        /// Uri-Query options.
        query: Vec<String>,
        /// Observe.
        observe: Option<ObserveAction>,
        /// Whether an empty If-Match came with it.
        if_match: bool,
        /// JSON form of the body.
        body: Option<Value>,
    },
    /// Notifications of this relation are not wanted any more.
    RelationEnded(RelationId),
    /// Nothing came from the client for as long as is allowed (RFC 9132 §4.7).
    PeerLost,
    /// A lost client is heard again.
    PeerBack,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Debug)]
pub struct Response {
    /// Its code.
    pub code: Code,
    /// JSON form of the body.
    pub body: Option<Value>,
    /// Text of an error; used where there is no body.
    pub diagnostic: Option<String>,
    /// Max-Age in seconds.
    pub max_age: Option<u32>,
}

impl Response {
    /// A response of that code without a body.
    #[must_use]
    pub const fn new(code: Code) -> Self {
        Self {
            code,
            body: None,
            diagnostic: None,
            max_age: None,
        }
    }

    /// A success with a body.
    #[must_use]
    pub const fn with_body(code: Code, body: Value) -> Self {
        Self {
            code,
            body: Some(body),
            diagnostic: None,
            max_age: None,
        }
    }

    /// An error with its text.
    #[must_use]
    pub fn error(code: Code, diagnostic: impl Into<String>) -> Self {
        Self {
            code,
            body: None,
            diagnostic: Some(diagnostic.into()),
            max_age: None,
        }
    }
}

/// The server's side of one session. After each `handle_*`, poll `poll_event` and `poll_transmit` until both are empty.
#[derive(Debug)]
pub struct Session {
    parameters: SessionParameters,
    numbers: Numbers,
    message_id: u16,
    exchanges: Exchanges,
    relations: Relations,
    representations: Representations,
    uploads: Uploads,
    partials: Partials,
    downloads: Downloads,
    heartbeats: Heartbeats,
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Session {
    /// The session of a client that has just connected. The seed makes message ids and tokens.
    #[must_use]
    pub fn new(parameters: SessionParameters, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        Self {
            message_id: numbers.number() as u16,
            numbers,
            exchanges: Exchanges::new(&parameters),
            relations: Relations::default(),
            representations: Representations::default(),
            uploads: Uploads::default(),
            partials: Partials::default(),
            downloads: Downloads::default(),
            heartbeats: Heartbeats::new(&parameters),
            parameters,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The transport stands: heartbeats begin. The first datagram does the same.
    pub fn handle_connected(&mut self, now: Instant) {
        self.heartbeats.begin(now);
    }

    /// Other parameters hold from now on: the client has configured them, or an attack begins or ends (RFC 9132 §4.5).
    pub fn handle_parameters(&mut self, now: Instant, parameters: &SessionParameters) {
        self.exchanges.configure(parameters);
        self.heartbeats.configure(now, parameters);
        self.parameters = parameters.clone();
    }

    /// Takes a datagram of the client. What is malformed is dropped, or reset where it wants to be acknowledged.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(message) = Message::decode(datagram) else {
            self.transmit(Message::reset_of_malformed(datagram));
            return;
        };
        if !self.heartbeats.has_begun() {
            self.heartbeats.begin(now);
        }
        if self.heartbeats.handle_sign() {
            self.events.push_back(Event::PeerBack);
        }
        if message.code.is_request() {
            self.handle_request(now, &message);
        } else if message.code.is_response() {
            self.handle_peer_response(now, &message);
        } else {
            self.handle_empty(&message);
        }
    }

    /// Sends heartbeats and what is left of bodies in blocks, asks for missing blocks, and notices silence.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.handle_robust_timeout(now);
        if !self.heartbeats.is_due(now) {
            return;
        }
        let message_id = self.next_message_id();
        let token = Token::from_number(self.numbers.number());
        let heartbeat = self.heartbeats.beat(now, message_id, token);
        self.transmit(Some(heartbeat));
        if self.heartbeats.tell_silence() {
            self.events.push_back(Event::PeerLost);
        }
    }

    /// Answers a request. A late answer to one that was forgotten is dropped. The body of a GET that does not fit a datagram
    /// goes in blocks (RFC 9132 §4.4.2), which the session serves by itself.
    pub fn handle_response(&mut self, now: Instant, exchange: ExchangeId, response: Response) {
        let Some(asker) = self.exchanges.asker(exchange) else {
            return;
        };
        let mut message = self.answer(&asker, response.code);
        if let Some(block) = asker.upload {
            message.push_option(option::BLOCK1, block.octets());
        }
        if let Some(relation) = asker.relation {
            if response.code.is_success() {
                if let Some(sequence) = self.relations.establish(relation) {
                    message.push_option(option::OBSERVE, option::octets(sequence));
                }
            } else {
                self.relations.refuse(relation);
            }
        }
        let sequence = message.number(option::OBSERVE);
        if self.answer_robust(now, exchange, &asker, sequence, &response) {
            return;
        }
        self.fill(now, &asker, &mut message, response);
        self.finish(exchange, &message);
    }

    /// Tells the client the new state of what it observes; always Non-confirmable (RFC 9132 §4.4.2.1).
    pub fn handle_notification(&mut self, now: Instant, relation: RelationId, body: &Value) {
        let Ok(octets) = cbor::encode(body) else {
            return;
        };
        let message_id = self.next_message_id();
        let Some((relation, sequence)) = self.relations.notify(relation, message_id) else {
            return;
        };
        let (key, token) = (relation.representation, relation.token);
        let robust = relation.robust.filter(|block| octets.len() > block.size());
        if let Some(block) = robust {
            self.notify_robust(now, (key, token, block), (message_id, sequence), octets);
            return;
        }
        let mut message = Message::new(Kind::NonConfirmable, Code::CONTENT, message_id, token);
        message.push_option(option::OBSERVE, option::octets(sequence));
        self.fill_body(now, Some(key), None, &mut message, octets);
        self.transmit(Some(message));
    }

    /// What the client observes is no more: a last notification says so and ends the relation (RFC 7641 §4.2).
    pub fn handle_gone(&mut self, relation: RelationId) {
        if let Some(token) = self.relations.gone(relation) {
            self.downloads.end(token);
            let message_id = self.next_message_id();
            let mut message =
                Message::new(Kind::NonConfirmable, Code::NOT_FOUND, message_id, token);
            message.payload = diagnostic("it is no more");
            self.transmit(Some(message));
        }
    }

    /// How long a heartbeat and its answer take, smoothed; `None` until one was answered. A path without an estimate bears one
    /// notification in three seconds (RFC 9132 §4.4.2.1).
    #[must_use]
    pub fn round_trip_time(&self) -> Option<Duration> {
        self.heartbeats.round_trip()
    }

    /// Whether [`Event::PeerLost`] was the last word on the client.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.heartbeats.is_silent()
    }

    /// The next event. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next datagram for the client. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// When `handle_timeout` is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let robust = self.robust_due();
        self.heartbeats.due().into_iter().chain(robust).min()
    }

    fn handle_request(&mut self, now: Instant, message: &Message) {
        // RFC 7252 §4.2: neither ACK nor RST carries a request.
        if !matches!(message.kind, Kind::Confirmable | Kind::NonConfirmable) {
            return;
        }
        if let Some(known) = self.exchanges.duplicate(now, message.message_id) {
            self.handle_known(known);
            return;
        }
        if is_mixed(message) {
            let exchange = self.exchanges.begin(now, message);
            let text = "block and q-block do not go together";
            let response = Response::error(Code::BAD_OPTION, text);
            self.handle_response(now, exchange, response);
            return;
        }
        if message.option(option::Q_BLOCK1).is_some() {
            self.handle_robust_upload(now, message);
            return;
        }
        // A block that is repeated has been taken already.
        let block = message.option(option::BLOCK1).is_some();
        if let Some(known) = block.then(|| self.exchanges.repeat(message)).flatten() {
            self.handle_known(known);
            return;
        }
        match self.uploads.take(now, message) {
            None => self.handle_whole(now, message, None),
            Some(Step::Whole(block, octets)) => {
                let mut whole = message.clone();
                whole
                    .options
                    .retain(|(number, _)| !matches!(*number, option::BLOCK1 | option::SIZE1));
                whole.payload = octets;
                self.handle_whole(now, &whole, Some((Some(block), message)));
            }
            Some(Step::Continue(block)) => {
                let exchange = self.exchanges.begin(now, message);
                self.exchanges.set_upload(exchange, block);
                self.handle_response(now, exchange, Response::new(Code::CONTINUE));
            }
            Some(Step::Failed(code, text)) => {
                let exchange = self.exchanges.begin(now, message);
                self.handle_response(now, exchange, Response::error(code, text));
            }
        }
    }

    /// A request with its whole body; where that came in blocks, with the last of them, which of Block1 is named in the answer.
    fn handle_whole(
        &mut self,
        now: Instant,
        message: &Message,
        last: Option<(Option<Block>, &Message)>,
    ) {
        match request::read(message) {
            Ok(asked) if asked.resource == Resource::Heartbeat => {
                self.handle_heartbeat(now, message, &asked);
            }
            Ok(asked) => {
                if let Some(known) = self.exchanges.repeat(message) {
                    self.handle_known(known);
                    return;
                }
                // Exchanges know requests as they came.
                let exchange = self
                    .exchanges
                    .begin(now, last.map_or(message, |(_, last)| last));
                if let Some((Some(block), _)) = last {
                    self.exchanges.set_upload(exchange, block);
                }
                self.handle_asked(now, exchange, message, asked);
            }
            Err(Fault::Reject) => {
                self.transmit(Some(Message::empty(Kind::Reset, message.message_id)));
            }
            Err(Fault::Refuse(code, text)) => {
                let exchange = self.exchanges.begin(now, message);
                self.handle_response(now, exchange, Response::error(code, text));
            }
        }
    }

    fn handle_known(&mut self, known: Known) {
        if let Known::Answered(octets) = known {
            self.transmits.push_back(octets);
        }
    }

    fn handle_heartbeat(&mut self, now: Instant, message: &Message, asked: &Asked) {
        let response = match peer_hb_status(asked) {
            Ok(hears_us) => {
                self.heartbeats.handle_heartbeat(now);
                if !hears_us {
                    self.heartbeats.hurry(now);
                }
                Response::new(Code::CHANGED)
            }
            Err(text) => Response::error(Code::BAD_REQUEST, text),
        };
        let exchange = self.exchanges.begin(now, message);
        self.handle_response(now, exchange, response);
        self.handle_timeout(now);
    }

    /// A request for the application, unless it asks for a later block of what is kept here.
    fn handle_asked(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        message: &Message,
        asked: Asked,
    ) {
        if self.serve_block(now, exchange, message) || self.serve_robust(now, exchange, &asked) {
            return;
        }
        let observe = self.observe(message, &asked, exchange);
        self.events.push_back(Event::Request {
            exchange,
            method: asked.method,
            resource: asked.resource,
            query: asked.query,
            observe,
            if_match: asked.if_match,
            body: asked.body,
        });
    }

    fn serve_block(&mut self, now: Instant, exchange: ExchangeId, message: &Message) -> bool {
        let Some(asker) = self.exchanges.asker(exchange) else {
            return false;
        };
        let (Some(key), Some(block)) = (asker.representation, asker.block) else {
            return false;
        };
        let mut answer = self.answer(&asker, Code::CONTENT);
        let served = block.number > 0
            && self
                .representations
                .find(now, key, message)
                .is_some_and(|representation| representation.fill_block(&mut answer, block));
        if served {
            self.finish(exchange, &answer);
        }
        served
    }

    fn observe(
        &mut self,
        message: &Message,
        asked: &Asked,
        exchange: ExchangeId,
    ) -> Option<ObserveAction> {
        // RFC 7959 §3.4: later blocks are read without Observe.
        let first = asked.block.or(asked.robust.first().copied());
        if first.is_some_and(|block| block.number > 0) {
            return None;
        }
        match asked.observe? {
            0 => {
                // RFC 7641 §4.1: a repeated registration replaces the relation.
                let ended = self.relations.end_token(message.token);
                self.tell_ended(ended);
                let representation = self.exchanges.asker(exchange)?.representation?;
                let id = self.relations.register(
                    message.token,
                    asked.resource.clone(),
                    representation,
                    asked.robust.first().copied(),
                )?;
                self.exchanges.set_relation(exchange, id);
                Some(ObserveAction::Register(id))
            }
            1 => {
                let ended = self.relations.deregister(message.token, &asked.resource);
                self.tell_ended(ended);
                Some(ObserveAction::Deregister)
            }
            _ => None,
        }
    }

    /// The answer to a heartbeat of ours. Others are not expected: a Confirmable one is reset (RFC 7252 §4.2).
    fn handle_peer_response(&mut self, now: Instant, message: &Message) {
        let ours = self.heartbeats.handle_response(now, message.token);
        if message.kind == Kind::Confirmable {
            let kind = if ours && request::is_response_understood(message) {
                Kind::Acknowledgement
            } else {
                Kind::Reset
            };
            self.transmit(Some(Message::empty(kind, message.message_id)));
        }
    }

    /// A ping gets a Reset (RFC 7252 §4.3); a Reset of a notification ends its relation (RFC 7641 §3.6).
    fn handle_empty(&mut self, message: &Message) {
        match message.kind {
            Kind::Confirmable => {
                self.transmit(Some(Message::empty(Kind::Reset, message.message_id)));
            }
            Kind::Reset => {
                self.partials.handle_reset(message.message_id);
                self.downloads.handle_reset(message.message_id);
                let ended = self.relations.reset(message.message_id);
                self.tell_ended(ended);
            }
            Kind::Acknowledgement | Kind::NonConfirmable => {}
        }
    }

    fn tell_ended(&mut self, ended: Vec<RelationId>) {
        self.events
            .extend(ended.into_iter().map(Event::RelationEnded));
    }

    /// An empty answer: on the acknowledgement of a Confirmable request, in a message of its own otherwise.
    fn answer(&mut self, asker: &Asker, code: Code) -> Message {
        match asker.kind {
            Kind::Confirmable => {
                Message::new(Kind::Acknowledgement, code, asker.message_id, asker.token)
            }
            _ => {
                let message_id = self.next_message_id();
                Message::new(Kind::NonConfirmable, code, message_id, asker.token)
            }
        }
    }

    /// Puts body, or diagnostic text, and Max-Age into a message.
    fn fill(&mut self, now: Instant, asker: &Asker, message: &mut Message, response: Response) {
        if let Some(seconds) = response.max_age {
            message.push_option(option::MAX_AGE, option::octets(seconds));
        }
        match response.body.as_ref().map(cbor::encode) {
            Some(Ok(octets)) => {
                let key = asker
                    .representation
                    .filter(|_| response.code == Code::CONTENT);
                self.fill_body(now, key, asker.block, message, octets);
            }
            Some(Err(error)) => {
                message.code = Code::INTERNAL_SERVER_ERROR;
                message.payload = diagnostic(&error.to_string());
            }
            None => {
                message.payload = response
                    .diagnostic
                    .as_deref()
                    .map(diagnostic)
                    .unwrap_or_default();
            }
        }
    }

    /// Puts a body into a message, whole where it fits and no block was asked for.
    fn fill_body(
        &mut self,
        now: Instant,
        key: Option<u64>,
        block: Option<Block>,
        message: &mut Message,
        octets: Vec<u8>,
    ) {
        let representation = Representation::new(octets);
        let Some(key) = key.filter(|_| block.is_some() || representation.is_large()) else {
            representation.fill_whole(message);
            return;
        };
        if !representation.fill_block(message, block.unwrap_or(Block::FIRST)) {
            message.code = Code::BAD_REQUEST;
            message.payload = diagnostic("the block lies behind the end");
        }
        self.representations.keep(now, key, representation);
    }

    fn finish(&mut self, exchange: ExchangeId, message: &Message) {
        let octets = message.to_octets();
        self.exchanges.finish(exchange, &octets);
        self.transmits.push_back(octets);
    }

    fn transmit(&mut self, message: Option<Message>) {
        self.transmits
            .extend(message.map(|message| message.to_octets()));
    }

    fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.wrapping_add(1);
        self.message_id
    }
}

/// A text within the bound, cut between characters.
fn diagnostic(text: &str) -> Vec<u8> {
    let end = text.floor_char_boundary(MAX_DIAGNOSTIC);
    text.get(..end).unwrap_or_default().as_bytes().to_vec()
}
