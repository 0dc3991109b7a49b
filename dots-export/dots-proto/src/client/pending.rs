use std::time::{Duration, Instant};

use serde_json::Value;

use super::assembly::Assembly;
use super::robust::Robust;
use super::upload::Upload;
use crate::client::{Request, RequestId};
use crate::coap::{Block, Code, Kind, Message, Token, option};
use crate::{Method, Resource, SessionParameters, cbor};

/// How often an unanswered Non-confirmable request is repeated before it is given up: for about a minute.
pub(super) const REPEATS: u32 = 12;
/// The wait between its repeats doubles up to this many times the first.
const LONGEST_WAIT: u32 = 2;

/// RFC 9132 §4.4: without an estimate of the round-trip time, no Non-confirmable request follows another within 3 s.
const LEAST_WAIT: Duration = Duration::from_secs(3);

/// With an estimate, a request for mitigation is sent that often at intervals of it, but not within a second.
const QUICK: u32 = 10;
const QUICK_WAIT: Duration = Duration::from_secs(1);

/// A request without an answer.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) id: RequestId,
    pub(super) request: Request,
    pub(super) token: Token,
    pub(super) message_id: Option<u16>,
    pub(super) wanted_for: WantedFor,
    pub(super) assembly: Assembly,
    pub(super) upload: Option<Upload>,
    /// How Q-Block is used, in place of Block.
    pub(super) robust: Option<Robust>,
    /// Further tokens that were used for the same body.
    tokens: u32,
    sent: u32,
    octets: u64,
    due: Option<Instant>,
    acknowledged: bool,
}

/// Whom the answer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WantedFor {
    /// Whoever asked.
    Caller,
    /// A notification, of which this is the rest.
    Notification,
    /// The session, which wants to know whether the peer knows Q-Block.
    Support,
}

impl Pending {
    pub(super) fn new(id: RequestId, request: Request, token: Token) -> Self {
        let body = request.body.as_ref().map(octets_of);
        Self {
            upload: body.as_deref().and_then(Upload::new),
            id,
            request,
            token,
            message_id: None,
            wanted_for: WantedFor::Caller,
            assembly: Assembly::default(),
            robust: None,
            tokens: 0,
            sent: 0,
            octets: 0,
            due: None,
            acknowledged: false,
        }
    }

    /// Asks whether the peer knows Q-Block: by a Confirmable request (RFC 9177 §4.1).
    pub(super) fn of_support(id: RequestId, token: Token) -> Self {
        let request = Request::new(Method::Get, Resource::Config { sid: None });
        Self {
            wanted_for: WantedFor::Support,
            robust: Some(Robust::Asked),
            ..Self::new(id, request, token)
        }
    }

    /// The rest of a notification that came as the first of several blocks.
    pub(super) fn of_notification(
        id: RequestId,
        (resource, query): (Resource, Vec<String>),
        token: Token,
        assembly: Assembly,
    ) -> Self {
        let request = Request {
            query,
            ..Request::new(Method::Get, resource)
        };
        Self {
            wanted_for: WantedFor::Notification,
            assembly,
            ..Self::new(id, request, token)
        }
    }

    /// A new transport: as if it had never been sent. What was read of the answer is read again.
    pub(super) fn restart(&mut self) {
        self.assembly = Assembly::default();
        if let Some(Robust::Sending(sending)) = self.robust.take() {
            self.upload = Upload::new(sending.octets());
        }
        if let Some(upload) = &mut self.upload {
            upload.restart();
        }
        self.send_anew();
    }

    /// The next block is asked for, or sent, under a token of its own (RFC 7959 §3.4).
    pub(super) fn ask_next_block(&mut self, token: Token) {
        self.token = token;
        self.send_anew();
    }

    /// Whether a response is to this request, or to any message of its body.
    pub(super) fn owns(&self, message: &Message) -> bool {
        let robust = match &self.robust {
            Some(Robust::Reading(reading)) if reading.is_of(message) => return true,
            robust => robust.is_some(),
        };
        self.token == message.token || robust && self.token.is_sibling(message.token)
    }

    /// Whether Q-Block may be used: not for what is Confirmable, and not for what has begun by Block.
    pub(super) fn may_be_robust(&self) -> bool {
        let begun = self.octets > 0
            || self.assembly.next().is_some()
            || self.upload.as_ref().is_some_and(Upload::is_begun);
        self.robust.is_none() && !begun && !self.is_confirmable()
    }

    /// Whether a body is on its way by Q-Block.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.robust, Some(Robust::Sending(_) | Robust::Reading(_)))
    }

    /// A token for a further message of the same body (RFC 9177 §6).
    pub(super) fn next_token(&mut self) -> Token {
        self.tokens = self.tokens.wrapping_add(1);
        self.token.sibling(self.tokens)
    }

    pub(super) fn set_due(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    /// Counts octets that were sent.
    pub(super) fn count(&mut self, octets: usize) {
        self.octets = self.octets.saturating_add(octets as u64);
    }

    fn send_anew(&mut self) {
        self.sent = 0;
        self.octets = 0;
        self.due = None;
        self.acknowledged = false;
        self.message_id = None;
    }

    /// When it is repeated or given up; `None` until it was sent.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    pub(super) fn is_telemetry(&self) -> bool {
        is_telemetry(&self.request)
    }

    /// Octets sent in vain.
    pub(super) fn octets_sent(&self) -> u64 {
        self.octets
    }

    pub(super) fn is_exhausted(&self, parameters: &SessionParameters) -> bool {
        let repeats = if self.is_confirmable() {
            parameters.max_retransmit
        } else {
            REPEATS
        };
        self.sent > repeats || self.acknowledged
    }

    /// The peer has it and will answer by a message of its own (RFC 7252 §5.2.2): no more repeats until `due`.
    pub(super) fn handle_acknowledged(&mut self, due: Instant) {
        if !std::mem::replace(&mut self.acknowledged, true) {
            self.due = Some(due);
        }
    }

    /// The wait for an answer, with the round-trip time of all that is open, where it is known.
    pub(super) fn next_wait(
        &self,
        parameters: &SessionParameters,
        round_trips: Option<Duration>,
    ) -> Duration {
        if let Some(wait) = round_trips.filter(|_| self.is_urgent() && self.sent < QUICK) {
            return wait.clamp(QUICK_WAIT, LEAST_WAIT);
        }
        let factor = 1_u32.checked_shl(self.sent).unwrap_or(u32::MAX);
        if self.is_confirmable() {
            parameters.ack_timeout.saturating_mul(factor)
        } else {
            let wait = parameters
                .ack_timeout
                .saturating_mul(factor.min(LONGEST_WAIT));
            wait.max(LEAST_WAIT)
        }
    }

    /// The request as octets. A repeated Confirmable one keeps its id, a Non-confirmable one gets a fresh id.
    pub(super) fn send(&mut self, fresh: u16, due: Instant) -> Vec<u8> {
        let kind = if self.is_confirmable() {
            Kind::Confirmable
        } else {
            Kind::NonConfirmable
        };
        let message_id = self
            .message_id
            .filter(|_| kind == Kind::Confirmable)
            .unwrap_or(fresh);
        self.message_id = Some(message_id);
        self.sent += 1;
        self.due = Some(due);
        let octets = self.message(kind, message_id).to_octets();
        self.octets = self.octets.saturating_add(octets.len() as u64);
        octets
    }

    /// What all messages of the request have in common.
    pub(super) fn head(&self, kind: Kind, message_id: u16) -> Message {
        let code = match self.request.method {
            Method::Get => Code::GET,
            Method::Put => Code::PUT,
            Method::Delete => Code::DELETE,
        };
        let mut message = Message::new(kind, code, message_id, self.token);
        if self.request.if_match {
            message.push_option(option::IF_MATCH, Vec::new());
        }
        for segment in self.request.resource.segments() {
            message.push_option(option::URI_PATH, segment);
        }
        for query in &self.request.query {
            message.push_option(option::URI_QUERY, query.as_bytes());
        }
        if self.request.body.is_some() {
            message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
        }
        message
    }

    fn message(&self, kind: Kind, message_id: u16) -> Message {
        let mut message = self.head(kind, message_id);
        if let Some(body) = &self.request.body {
            match &self.upload {
                Some(upload) => upload.fill(&mut message),
                None => message.payload = octets_of(body),
            }
        }
        if let Some(block) = self.assembly.next() {
            message.push_option(option::BLOCK2, block.octets());
            if let Some(etag) = self.assembly.etag() {
                message.push_option(option::ETAG, etag);
            }
            return message;
        }
        if matches!(self.robust, Some(Robust::Asked)) {
            let all = Block::FIRST.followed(true);
            message.push_option(option::Q_BLOCK2, all.octets());
        }
        if let Some(register) = self.request.observe {
            message.push_option(option::OBSERVE, option::octets(u32::from(!register)));
        }
        message
    }

    /// Whether help depends on it.
    pub(super) fn is_urgent(&self) -> bool {
        matches!(self.request.resource, Resource::Mitigate { .. })
            && self.request.method != Method::Get
    }

    /// RFC 9132 §4.5 and RFC 9244 §7.1: configuration is Confirmable, all else Non-confirmable.
    fn is_confirmable(&self) -> bool {
        matches!(
            self.request.resource,
            Resource::Config { .. } | Resource::TelemetrySetup { .. }
        )
    }
}

/// Bodies are checked where they are made; what cannot be written is refused by the peer as empty.
fn octets_of(body: &Value) -> Vec<u8> {
    cbor::encode(body).unwrap_or_default()
}

/// Whether a request may wait: telemetry does, mitigation does not.
pub(super) fn is_telemetry(request: &Request) -> bool {
    request.method == Method::Put && matches!(request.resource, Resource::Telemetry { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cuid, Mid, Sid};

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant does")]
    fn non_confirmable_requests_are_three_seconds_apart_at_least() {
        let waits = |method, resource, round_trips| {
            let request = Request::new(method, resource);
            let mut pending = Pending::new(RequestId(1), request, Token::from_number(1));
            let parameters = SessionParameters::default();
            let now = Instant::now();
            [(); 3].map(|()| {
                let wait = pending.next_wait(&parameters, round_trips).as_secs();
                let _ = pending.send(1, now);
                wait
            })
        };
        let cuid = Cuid::from_hash_input([0; 32]);
        let mid = Some(Mid(1));
        let mitigate = Resource::Mitigate { cuid, mid };
        let config = Resource::Config { sid: Some(Sid(1)) };
        assert_eq!(waits(Method::Put, mitigate.clone(), None), [3, 4, 4]);
        assert_eq!(waits(Method::Put, config.clone(), None), [2, 4, 8]);
        // With an estimate help is asked for faster, and nothing else is.
        for (milliseconds, expected) in [(20, 1), (2_000, 2), (9_000, 3)] {
            let measured = Some(Duration::from_millis(milliseconds));
            let waits = |method, resource: &Resource| waits(method, resource.clone(), measured);
            assert_eq!(waits(Method::Put, &mitigate), [expected; 3]);
            assert_eq!(waits(Method::Delete, &mitigate), [expected; 3]);
            assert_eq!(waits(Method::Get, &mitigate), [3, 4, 4]);
            assert_eq!(waits(Method::Get, &config), [2, 4, 8]);
        }
    }
}
