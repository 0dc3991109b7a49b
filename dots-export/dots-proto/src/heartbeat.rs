//! Heartbeats as both peers send and count them (RFC 9132 §4.7).

use std::time::{Duration, Instant};

use crate::body::{Body, Heartbeat};
use crate::coap::{Code, Kind, Message, Token, option};
use crate::{Resource, SessionParameters};

/// One side's heartbeats.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeats {
    interval: Duration,
    allowed: u32,
    /// Whether the transport loses nothing.
    reliable: bool,
    next: Option<Instant>,
    last: Option<Instant>,
    waiting: Option<Token>,
    missed: u32,
    /// When the peer's own heartbeat came.
    heard: Option<Instant>,
    /// Whether the peer's silence was told.
    told: bool,
    /// Smoothed time from a heartbeat to its answer (RFC 6298).
    round_trip: Option<Duration>,
}

impl Heartbeats {
    pub(crate) fn new(parameters: &SessionParameters) -> Self {
        Self {
            interval: parameters.heartbeat_interval,
            allowed: parameters.missing_hb_allowed.max(1),
            reliable: false,
            next: None,
            last: None,
            waiting: None,
            missed: 0,
            heard: None,
            told: false,
            round_trip: None,
        }
    }

    /// The session stands: heartbeats begin.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.heard = Some(now);
        self.last = None;
        self.waiting = None;
        self.missed = 0;
        self.told = false;
        self.next = self.after(now);
    }

    /// The session is gone.
    pub(crate) fn end(&mut self) {
        self.next = None;
        self.waiting = None;
    }

    /// Other parameters hold from now on.
    pub(crate) fn configure(&mut self, now: Instant, parameters: &SessionParameters) {
        let stands = self.heard.is_some();
        self.interval = parameters.heartbeat_interval;
        self.allowed = parameters.missing_hb_allowed.max(1);
        self.next = self.after(now).filter(|_| stands);
    }

    /// Whether [`Heartbeats::begin`] was called.
    pub(crate) fn has_begun(&self) -> bool {
        self.heard.is_some()
    }

    /// Anything that comes from the peer shows that it lives. Says whether its silence had been told.
    pub(crate) fn handle_sign(&mut self) -> bool {
        self.missed = 0;
        std::mem::take(&mut self.told)
    }

    /// The peer's heartbeat.
    pub(crate) fn handle_heartbeat(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// The peer does not hear us: a heartbeat on the heels of its own may pass where others do not (RFC 9132 §4.7). At
    /// most every half interval, so that a peer cannot make us talk.
    pub(crate) fn hurry(&mut self, now: Instant) {
        let rested = self
            .last
            .is_none_or(|last| now.duration_since(last) * 2 >= self.interval);
        if rested && let Some(next) = &mut self.next {
            *next = now;
        }
    }

    /// Whether a response belongs to the newest heartbeat.
    pub(crate) fn handle_response(&mut self, now: Instant, token: Token) -> bool {
        let ours = self.waiting == Some(token);
        if ours {
            self.waiting = None;
            if let Some(sent) = self.last {
                self.handle_round_trip(now.duration_since(sent));
            }
        }
        ours
    }

    /// Whether the transport that is about to stand loses nothing.
    pub(crate) fn set_reliable(&mut self, reliable: bool) {
        self.reliable = reliable;
    }

    /// The path was measured.
    pub(crate) fn handle_round_trip(&mut self, measured: Duration) {
        self.round_trip = Some(match self.round_trip {
            Some(before) => before.saturating_mul(7).saturating_add(measured) / 8,
            None => measured,
        });
    }

    /// How long a heartbeat and its answer take; `None` until the path was measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Whether the peer's silence was told and has not ended.
    pub(crate) fn is_silent(&self) -> bool {
        self.told
    }

    /// When the next one is to be sent.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.next
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|due| due <= now)
    }

    /// Counts a heartbeat without an answer and makes the next one.
    pub(crate) fn beat(&mut self, now: Instant, message_id: u16, token: Token) -> Message {
        if self.waiting.is_some() {
            self.missed = self.missed.saturating_add(1);
        }
        self.next = self.after(now);
        self.last = Some(now);
        self.waiting = Some(token);
        let mut message = Message::new(Kind::NonConfirmable, Code::PUT, message_id, token);
        for segment in Resource::Heartbeat.segments() {
            message.push_option(option::URI_PATH, segment);
        }
        message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
        let body = Heartbeat {
            peer_hb_status: self.is_peer_heard(now),
        };
        message.payload = body.to_cbor().unwrap_or_default();
        message
    }

    /// Says once that the peer has been silent for as many heartbeats as it may.
    pub(crate) fn tell_silence(&mut self) -> bool {
        // RFC 9132 §4.7: over TCP a heartbeat without a reply within the interval is a failure.
        let allowed = if self.reliable { 1 } else { self.allowed };
        self.missed >= allowed && !std::mem::replace(&mut self.told, true)
    }

    /// What `peer-hb-status` tells: whether a heartbeat of the peer, not just an answer, came within two intervals.
    fn is_peer_heard(&self, now: Instant) -> bool {
        self.heard
            .is_some_and(|heard| now.duration_since(heard) <= self.interval * 2)
    }

    fn after(&self, now: Instant) -> Option<Instant> {
        (!self.interval.is_zero()).then(|| now + self.interval)
    }
}
