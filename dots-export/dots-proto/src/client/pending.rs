use std::time::{Duration, Instant};

use crate::client::{Request, RequestId};
use crate::coap::{Code, Kind, Message, Token, option};
use crate::{Method, Resource, SessionParameters, cbor};

/// How often an unanswered Non-confirmable request is repeated before it is given up.
const REPEATS: u32 = 12;
/// The wait between repeats doubles up to this many times the first.
const LONGEST_WAIT: u32 = 2;

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: RequestId,
    pub(super) request: Request,
    pub(super) token: Token,
    pub(super) message_id: Option<u16>,
    sent: u32,
    due: Option<Instant>,
    acknowledged: bool,
}

impl Pending {
    pub(super) fn new(id: RequestId, request: Request, token: Token) -> Self {
        Self {
            id,
            request,
            token,
            message_id: None,
            sent: 0,
            due: None,
            acknowledged: false,
        }
    }

    /// A new transport: as if it had never been sent.
    pub(super) fn restart(&mut self) {
        self.sent = 0;
        self.due = None;
        self.acknowledged = false;
        self.message_id = None;
    }

    /// When it is repeated; `None` until it was sent.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    pub(super) fn is_exhausted(&self, parameters: &SessionParameters) -> bool {
        let repeats = if self.is_confirmable() {
            parameters.max_retransmit
        } else {
            REPEATS
        };
        self.sent > repeats || self.acknowledged
    }

    /// The peer has it and will answer by a message of its own: wait for that, once, for the longest time.
    pub(super) fn handle_acknowledged(&mut self) {
        self.acknowledged = true;
    }

    pub(super) fn next_wait(&self, parameters: &SessionParameters) -> Duration {
        let factor = 1_u32.checked_shl(self.sent).unwrap_or(u32::MAX);
        let most = if self.is_confirmable() {
            u32::MAX
        } else {
            LONGEST_WAIT
        };
        parameters.ack_timeout.saturating_mul(factor.min(most))
    }

    /// The request as a message. A repeated Confirmable one keeps its id, a Non-confirmable one gets a fresh id.
    pub(super) fn message(&mut self, fresh: u16, due: Instant) -> Message {
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
        let code = match self.request.method {
            Method::Get => Code::GET,
            Method::Put => Code::PUT,
            Method::Delete => Code::DELETE,
        };
        let mut message = Message::new(kind, code, message_id, self.token);
        if self.request.if_match {
            message.push_option(option::IF_MATCH, Vec::new());
        }
        if let Some(register) = self.request.observe {
            message.push_option(option::OBSERVE, option::octets(u32::from(!register)));
        }
        for segment in self.request.resource.segments() {
            message.push_option(option::URI_PATH, segment);
        }
        if let Some(body) = &self.request.body {
            message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
            // Bodies are checked where they are made; what cannot be written is refused by the peer as empty.
            message.payload = cbor::encode(body).unwrap_or_default();
        }
        message
    }

    /// RFC 9132 §4.5 and RFC 9244 §7.1: configuration is Confirmable, all else Non-confirmable.
    fn is_confirmable(&self) -> bool {
        matches!(
            self.request.resource,
            Resource::Config { .. } | Resource::TelemetrySetup { .. }
        )
    }
}
