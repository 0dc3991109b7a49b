//! The server's side of one client's session: deduplication, Observe relations, heartbeats, faults of the protocol.

mod exchange;

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::Value;

use crate::coap::{Code, Kind, Message, Token, option};
use crate::heartbeat::{Heartbeats, peer_hb_status};
use crate::parameters::Numbers;
use crate::resource::ResourceError;
use crate::{Method, Resource, SessionParameters, cbor};
use exchange::Exchanges;

/// Observe relations of one client.
pub const MAX_RELATIONS: usize = 256;
/// Notifications of a relation whose ids are remembered, so that a Reset finds it.
const REMEMBERED: usize = 8;

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
    numbers: Numbers,
    message_id: u16,
    exchanges: Exchanges,
    relations: Vec<Relation>,
    next_relation: u64,
    heartbeats: Heartbeats,
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Relation {
    id: RelationId,
    token: Token,
    resource: Resource,
    /// 24 bits, growing (RFC 7641 §4.4).
    sequence: u32,
    message_ids: VecDeque<u16>,
    stands: bool,
}

/// What a request asks, before it becomes an event.
struct Asked {
    method: Method,
    resource: Resource,
    query: Vec<String>,
    body: Option<Value>,
}

impl Session {
    /// The session of a client that has just connected.
    #[must_use]
    pub fn new(parameters: SessionParameters, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        Self {
            message_id: numbers.number() as u16,
            numbers,
            exchanges: Exchanges::default(),
            relations: Vec::new(),
            next_relation: 0,
            heartbeats: Heartbeats::new(&parameters),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The transport stands: heartbeats begin.
    pub fn handle_connected(&mut self, now: Instant) {
        self.heartbeats.begin(now);
    }

    /// Takes a datagram of the client. What is malformed is dropped.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(message) = Message::decode(datagram) else {
            return;
        };
        if self.heartbeats.due().is_none() {
            self.heartbeats.begin(now);
        }
        if self.heartbeats.handle_sign(now) {
            self.events.push_back(Event::PeerBack);
        }
        if message.code.is_request() {
            self.handle_request(now, &message);
        } else if message.code.is_response() {
            self.heartbeats.handle_response(message.token);
            if message.kind == Kind::Confirmable {
                self.transmits.push_back(
                    Message::empty(Kind::Acknowledgement, message.message_id).to_octets(),
                );
            }
        } else {
            self.handle_empty(&message);
        }
    }

    /// Sends heartbeats and notices silence.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.exchanges.handle_timeout(now);
        let (message_id, token) = (
            self.next_message_id(),
            Token::from_number(self.numbers.number()),
        );
        if let Some((message, lost)) = self.heartbeats.handle_timeout(now, message_id, token) {
            self.transmits.push_back(message.to_octets());
            if lost {
                self.events.push_back(Event::PeerLost);
            }
        }
    }

    /// Answers a request. A late answer to one that was forgotten is dropped.
    pub fn handle_response(&mut self, now: Instant, exchange: ExchangeId, response: Response) {
        let Some(asked) = self.exchanges.take(exchange) else {
            return;
        };
        let mut sequence = None;
        if let Some(relation) = asked.relation {
            if response.code.is_success() {
                sequence = self.establish(relation);
            } else {
                self.relations.retain(|other| other.id != relation);
            }
        }
        let fresh = self.next_message_id();
        let mut message = match asked.kind {
            Kind::Confirmable => Message::new(
                Kind::Acknowledgement,
                response.code,
                asked.message_id,
                asked.token,
            ),
            _ => Message::new(Kind::NonConfirmable, response.code, fresh, asked.token),
        };
        if let Some(sequence) = sequence {
            message.push_option(option::OBSERVE, option::octets(sequence));
        }
        fill(&mut message, &response);
        let octets = message.to_octets();
        self.exchanges
            .remember(now, asked.message_id, octets.clone());
        self.transmits.push_back(octets);
    }

    /// Tells the client the new state of what it observes; always Non-confirmable (RFC 9132 §4.4.2.1).
    pub fn handle_notification(&mut self, _now: Instant, relation: RelationId, body: &Value) {
        let message_id = self.next_message_id();
        let Some(relation) = self
            .relations
            .iter_mut()
            .find(|other| other.id == relation && other.stands)
        else {
            return;
        };
        relation.sequence = (relation.sequence + 1) & 0x00ff_ffff;
        relation.message_ids.push_back(message_id);
        if relation.message_ids.len() > REMEMBERED {
            relation.message_ids.pop_front();
        }
        let mut message = Message::new(
            Kind::NonConfirmable,
            Code::CONTENT,
            message_id,
            relation.token,
        );
        message.push_option(option::OBSERVE, option::octets(relation.sequence));
        fill(
            &mut message,
            &Response::with_body(Code::CONTENT, body.clone()),
        );
        self.transmits.push_back(message.to_octets());
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
        self.heartbeats.due()
    }

    fn handle_request(&mut self, now: Instant, message: &Message) {
        if !matches!(message.kind, Kind::Confirmable | Kind::NonConfirmable) {
            return;
        }
        if let Some(known) = self.exchanges.known(now, message.message_id) {
            self.transmits.extend(known.map(<[u8]>::to_vec));
            return;
        }
        let Some(exchange) = self.exchanges.begin(now, message) else {
            return;
        };
        match read(message) {
            Ok(asked) if asked.resource == Resource::Heartbeat => {
                let response = match peer_hb_status(asked.body.as_ref()) {
                    Ok(_) => Response::new(Code::CHANGED),
                    Err(text) => Response::error(Code::BAD_REQUEST, text),
                };
                self.handle_response(now, exchange, response);
            }
            Ok(asked) => {
                let observe = self.observe(message, &asked, exchange);
                self.events.push_back(Event::Request {
                    exchange,
                    method: asked.method,
                    resource: asked.resource,
                    query: asked.query,
                    observe,
                    if_match: message.option(option::IF_MATCH).is_some(),
                    body: asked.body,
                });
            }
            Err(response) => self.handle_response(now, exchange, *response),
        }
    }

    fn observe(
        &mut self,
        message: &Message,
        asked: &Asked,
        exchange: ExchangeId,
    ) -> Option<ObserveAction> {
        let wanted = message
            .number(option::OBSERVE)
            .filter(|_| asked.method == Method::Get)?;
        let same = |relation: &Relation| {
            relation.token == message.token || relation.resource == asked.resource
        };
        match wanted {
            0 => {
                // A repeated registration refreshes the relation (RFC 7641 §4.1).
                self.end_relations(|relation| relation.token == message.token);
                if self.relations.len() >= MAX_RELATIONS {
                    return None;
                }
                self.next_relation += 1;
                let id = RelationId(self.next_relation);
                self.relations.push(Relation {
                    id,
                    token: message.token,
                    resource: asked.resource.clone(),
                    sequence: 1,
                    message_ids: VecDeque::new(),
                    stands: false,
                });
                self.exchanges.set_relation(exchange, id);
                Some(ObserveAction::Register(id))
            }
            1 => {
                self.end_relations(same);
                Some(ObserveAction::Deregister)
            }
            _ => None,
        }
    }

    fn establish(&mut self, id: RelationId) -> Option<u32> {
        let relation = self
            .relations
            .iter_mut()
            .find(|relation| relation.id == id)?;
        relation.stands = true;
        Some(relation.sequence)
    }

    fn end_relations(&mut self, which: impl Fn(&Relation) -> bool) {
        let events = &mut self.events;
        self.relations.retain(|relation| {
            let ended = which(relation);
            if ended {
                events.push_back(Event::RelationEnded(relation.id));
            }
            !ended
        });
    }

    /// A ping gets a Reset (RFC 7252 §4.3); a Reset of a notification ends its relation (RFC 7641 §3.6).
    fn handle_empty(&mut self, message: &Message) {
        match message.kind {
            Kind::Confirmable => self
                .transmits
                .push_back(Message::empty(Kind::Reset, message.message_id).to_octets()),
            Kind::Reset => {
                self.end_relations(|relation| relation.message_ids.contains(&message.message_id))
            }
            Kind::Acknowledgement | Kind::NonConfirmable => {}
        }
    }

    fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.wrapping_add(1);
        self.message_id
    }
}

/// Puts body, or diagnostic text, and Max-Age into a message.
fn fill(message: &mut Message, response: &Response) {
    if let Some(seconds) = response.max_age {
        message.push_option(option::MAX_AGE, option::octets(seconds));
    }
    if let Some(octets) = response
        .body
        .as_ref()
        .and_then(|body| cbor::encode(body).ok())
    {
        message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
        message.payload = octets;
    } else if let Some(text) = &response.diagnostic {
        message.payload = text.clone().into_bytes();
    }
}

/// Reads method, resource and body; a fault of the protocol is its response.
fn read(message: &Message) -> Result<Asked, Box<Response>> {
    let fault = |code, text: String| Box::new(Response::error(code, text));
    refuse_unknown_options(message)?;
    let method = match message.code {
        Code::GET => Method::Get,
        Code::PUT => Method::Put,
        Code::DELETE => Method::Delete,
        _ => {
            return Err(fault(
                Code::METHOD_NOT_ALLOWED,
                "DOTS uses GET, PUT and DELETE".to_owned(),
            ));
        }
    };
    let segments: Option<Vec<&str>> = message
        .values(option::URI_PATH)
        .map(|s| std::str::from_utf8(s).ok())
        .collect();
    let segments =
        segments.ok_or_else(|| fault(Code::BAD_REQUEST, "the path is no UTF-8".to_owned()))?;
    let resource = Resource::from_segments(segments.into_iter()).map_err(|error| {
        let code = if error == ResourceError::Unknown {
            Code::NOT_FOUND
        } else {
            Code::BAD_REQUEST
        };
        fault(code, error.to_string())
    })?;
    if resource == Resource::Heartbeat && method != Method::Put {
        return Err(fault(
            Code::METHOD_NOT_ALLOWED,
            "a heartbeat is a PUT".to_owned(),
        ));
    }
    let query = message
        .values(option::URI_QUERY)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect();
    let body = read_body(message, method)?;
    Ok(Asked {
        method,
        resource,
        query,
        body,
    })
}

fn read_body(message: &Message, method: Method) -> Result<Option<Value>, Box<Response>> {
    if method != Method::Put {
        return Ok(None);
    }
    if let Some(format) = message.number(option::CONTENT_FORMAT)
        && format != option::DOTS_CBOR
    {
        let text = format!(
            "content format {format} is not {} (application/dots+cbor)",
            option::DOTS_CBOR
        );
        return Err(Box::new(Response::error(
            Code::UNSUPPORTED_CONTENT_FORMAT,
            text,
        )));
    }
    if message.payload.is_empty() {
        return Err(Box::new(Response::error(
            Code::BAD_REQUEST,
            "a PUT needs a body",
        )));
    }
    match cbor::decode(&message.payload) {
        Ok(body) => Ok(Some(body)),
        Err(error) => Err(Box::new(Response::error(
            Code::BAD_REQUEST,
            error.to_string(),
        ))),
    }
}

/// RFC 7252 §5.4.1: an unknown critical option is 4.02. Of blocks only the request for the first one of a small reply, which
/// fits as a whole, is understood.
fn refuse_unknown_options(message: &Message) -> Result<(), Box<Response>> {
    for (number, value) in &message.options {
        let fine = match *number {
            option::IF_MATCH
            | option::URI_HOST
            | option::URI_PORT
            | option::URI_PATH
            | option::URI_QUERY => true,
            option::ACCEPT => option::number(value) == Some(option::DOTS_CBOR),
            // NUM 0 without More: a wish for a size, or a body that ends with its first block (RFC 7959 §2.2).
            option::BLOCK1 | option::BLOCK2 => {
                option::number(value).is_some_and(|block| block >> 3 == 0)
            }
            other => !option::is_critical(other),
        };
        if !fine {
            return Err(Box::new(Response::error(
                Code::BAD_OPTION,
                format!("option {number} is not understood"),
            )));
        }
    }
    Ok(())
}
