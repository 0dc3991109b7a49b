//! Heartbeats as both peers send and count them (RFC 9132 §4.7).

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::body::{Body, Heartbeat};
use crate::coap::{Code, Kind, Message, Token, option};
use crate::{Resource, SessionParameters};

/// One side's heartbeats.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    interval: Duration,
    allowed: u32,
    next: Option<Instant>,
    waiting: Option<Token>,
    missed: u32,
    heard: Option<Instant>,
    lost: bool,
}

impl Heartbeats {
    pub(crate) fn new(parameters: &SessionParameters) -> Self {
        Self {
            interval: parameters.heartbeat_interval,
            allowed: parameters.missing_hb_allowed.max(1),
            next: None,
            waiting: None,
            missed: 0,
            heard: None,
            lost: false,
        }
    }

    /// The session stands: heartbeats begin.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.heard = Some(now);
        self.waiting = None;
        self.missed = 0;
        self.lost = false;
        self.next = (!self.interval.is_zero()).then(|| now + self.interval);
    }

    /// The session is gone.
    pub(crate) fn end(&mut self) {
        self.next = None;
        self.waiting = None;
    }

    /// Anything that comes from the peer shows that it lives. Says whether it had been lost.
    pub(crate) fn handle_sign(&mut self, now: Instant) -> bool {
        self.heard = Some(now);
        self.missed = 0;
        std::mem::take(&mut self.lost)
    }

    /// Whether a response belongs to the newest heartbeat.
    pub(crate) fn handle_response(&mut self, token: Token) -> bool {
        let ours = self.waiting == Some(token);
        if ours {
            self.waiting = None;
        }
        ours
    }

    /// Whether the peer was heard within two intervals: what `peer-hb-status` tells.
    fn peer_is_heard(&self, now: Instant) -> bool {
        self.heard
            .is_some_and(|heard| now.duration_since(heard) <= self.interval * 2)
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Counts a heartbeat without an answer and gives the next one. The second value says that the peer is lost as of now.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        message_id: u16,
        token: Token,
    ) -> Option<(Message, bool)> {
        self.next.filter(|due| *due <= now)?;
        if self.waiting.is_some() {
            self.missed = self.missed.saturating_add(1);
        }
        let silent = self.missed >= self.allowed;
        let lost = silent && !self.lost;
        self.lost = silent;
        self.next = Some(now + self.interval);
        self.waiting = Some(token);
        let mut message = Message::new(Kind::NonConfirmable, Code::PUT, message_id, token);
        for segment in Resource::Heartbeat.segments() {
            message.push_option(option::URI_PATH, segment);
        }
        message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
        let body = Heartbeat {
            peer_hb_status: self.peer_is_heard(now),
        };
        message.payload = body.to_cbor().unwrap_or_default();
        Some((message, lost))
    }
}

/// What a peer's heartbeat says of us; an error's text is the diagnostic of a 4.00.
pub(crate) fn peer_hb_status(body: Option<&Value>) -> Result<bool, String> {
    let body = body.ok_or("a heartbeat needs a body")?;
    Heartbeat::from_json(body)
        .map(|heartbeat| heartbeat.peer_hb_status)
        .map_err(|error| error.to_string())
}
