//! What a session does by Q-Block (RFC 9177): bodies of requests, answers, notifications, and whether the peer knows it.

use std::time::Instant;

use super::assembly::Assembly;
use super::pending::{Pending, WantedFor};
use super::reading::{Reading, Step};
use super::relation::Arrival;
use super::sending::{Next, Sending};
use super::{MAX_OPEN_REQUESTS, Session, content};
use crate::coap::{Block, Code, Kind, Message, option};
use crate::{Method, Resource};

/// What is known of the peer. It holds for the session: the next one may end at another server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Support {
    /// Nobody wants to know.
    Unwanted,
    /// Not asked yet, or without an answer.
    Unknown,
    /// A Confirmable request is under way (RFC 9177 §4.1).
    Asked,
    /// Bodies go by Q-Block.
    Known,
    /// They go by Block.
    Refused,
}

/// How a request uses Q-Block.
#[derive(Clone, Debug)]
pub(super) enum Robust {
    /// It says that the answer may come by Q-Block2.
    Asked,
    /// Its body goes out.
    Sending(Sending),
    /// The answer comes.
    Reading(Reading),
}

impl Session {
    /// Whether bodies larger than a datagram are to go by Q-Block (RFC 9177), which gets through where Block does not: when
    /// one direction loses everything. The peer is asked on each transport that comes to stand, and until it has said that
    /// it knows Q-Block, bodies go by Block; telemetry of several
    /// payloads waits for its word. Over streams there is no use for it.
    pub fn handle_robust(&mut self, wanted: bool) {
        self.support = if wanted {
            Support::Unknown
        } else {
            Support::Unwanted
        };
    }

    /// The transport stands: the peer may be another one.
    pub(super) fn forget_support(&mut self) {
        if self.support != Support::Unwanted {
            self.support = Support::Unknown;
        }
    }

    /// Asks whether the peer knows Q-Block, by a request that configures nothing and is always allowed.
    pub(super) fn ask_support(&mut self) {
        if self.support == Support::Unknown && self.connected && self.room() > 0 {
            self.support = Support::Asked;
            let (id, token) = (self.next_request_id(), self.fresh_token());
            self.open.push(Pending::of_support(id, token));
        }
    }

    /// Telemetry that needs several payloads waits until the peer has said whether it knows Q-Block: where much is lost, it does
    /// not get through by Block.
    pub(super) fn waits_for_support(&self, pending: &Pending) -> bool {
        self.support == Support::Asked
            && pending.is_telemetry()
            && pending.upload.is_some()
            && pending.may_be_robust()
    }

    /// A request is given up; where it was to tell whether the peer knows Q-Block, it is asked again when it is heard.
    pub(super) fn note_given_up(&mut self, index: usize) {
        let pending = self.open.get(index);
        if pending.is_some_and(|pending| pending.wanted_for == WantedFor::Support) {
            self.support = Support::Unknown;
        }
    }

    /// Sends a request by Q-Block1, where it is one; notes Q-Block2 where it is another that may use it.
    pub(super) fn send_robust(&mut self, now: Instant, index: usize) -> bool {
        let Some(pending) = self.open.get_mut(index) else {
            return false;
        };
        if self.support == Support::Known && pending.may_be_robust() {
            if let Some(upload) = pending.upload.take() {
                self.tag = self.tag.wrapping_add(1);
                let (parameters, numbers) = (&self.parameters, &mut self.numbers);
                let sending = Sending::new(upload.into_octets(), self.tag, parameters, numbers);
                pending.robust = Some(Robust::Sending(sending));
            } else if pending.request.method == Method::Get {
                pending.robust = Some(Robust::Asked);
            }
        }
        let sends = matches!(pending.robust, Some(Robust::Sending(_)));
        if sends {
            self.send_payloads(now, index);
        }
        sends
    }

    fn send_payloads(&mut self, now: Instant, index: usize) {
        let Some(pending) = self.open.get_mut(index) else {
            return;
        };
        let Some(Robust::Sending(mut sending)) = pending.robust.take() else {
            return;
        };
        for number in sending.poll(now, &self.parameters) {
            self.message_id = self.message_id.wrapping_add(1);
            let mut message = pending.head(Kind::NonConfirmable, self.message_id);
            message.token = pending.next_token();
            sending.fill(&mut message, number);
            let octets = message.to_octets();
            pending.count(octets.len());
            self.transmits.push_back(octets);
        }
        pending.set_due(sending.due().or(Some(now)));
        pending.robust = Some(Robust::Sending(sending));
    }

    /// Goes on with a body; `false` where it is given up.
    pub(super) fn handle_robust_timeout(&mut self, now: Instant, index: usize) -> bool {
        let parameters = &self.parameters;
        let step = match self.open.get_mut(index).map(|pending| &mut pending.robust) {
            Some(Some(Robust::Sending(sending))) => {
                if !sending.handle_timeout(now) {
                    return false;
                }
                self.send_payloads(now, index);
                return true;
            }
            Some(Some(Robust::Reading(reading))) => reading.handle_timeout(now, parameters),
            _ => return false,
        };
        if let Step::Ask(blocks) = &step {
            self.ask_blocks(index, blocks);
        }
        self.await_payloads(index);
        step != Step::GiveUp
    }

    /// Takes a response where Q-Block has to do with it; `false` leaves it to the rest of the session.
    pub(super) fn take_robust(&mut self, now: Instant, index: usize, message: &Message) -> bool {
        let Some(pending) = self.open.get_mut(index) else {
            return false;
        };
        if pending.wanted_for == WantedFor::Support {
            self.support = if message.code.is_success() {
                Support::Known
            } else {
                Support::Refused
            };
            self.open.remove(index);
            return true;
        }
        if pending.robust.is_some() && message.code == Code::BAD_OPTION {
            self.refuse_robust(index);
            return true;
        }
        match &mut pending.robust {
            Some(Robust::Sending(sending)) => match sending.handle_answer(message) {
                Next::Send => self.send_payloads(now, index),
                Next::Restart => self.send_again(now, index),
                Next::Ignore => {}
                Next::Answered => return false,
            },
            Some(_) if message.code.is_success() && message.option(option::Q_BLOCK2).is_some() => {
                self.read(now, index, message);
            }
            _ => return false,
        }
        true
    }

    /// Takes a Reset of a message by Q-Block.
    pub(super) fn take_robust_reset(&mut self, message_id: u16) -> bool {
        let reset = |pending: &Pending| match &pending.robust {
            Some(Robust::Sending(sending)) => sending.has_sent(message_id),
            Some(_) => pending.message_id == Some(message_id),
            None => false,
        };
        let index = self.open.iter().position(reset);
        if let Some(index) = index {
            self.refuse_robust(index);
        }
        index.is_some()
    }

    /// The first payload of a notification that has come.
    pub(super) fn begin_reading(&mut self, now: Instant, resource: Resource, message: &Message) {
        if self.open.len() >= MAX_OPEN_REQUESTS {
            return;
        }
        let (id, token) = (self.next_request_id(), self.fresh_token());
        let asked = (resource, self.relations.query_of(message.token));
        let mut pending = Pending::of_notification(id, asked, token, Assembly::default());
        pending.robust = Some(Robust::Reading(Reading::of_relation(message.token)));
        self.open.push(pending);
        self.read(now, self.open.len() - 1, message);
    }

    /// The peer does not know Q-Block after all: the request goes out anew, by Block (RFC 9177 §4.1).
    fn refuse_robust(&mut self, index: usize) {
        self.support = Support::Refused;
        let support = |pending: &Pending| pending.wanted_for == WantedFor::Support;
        if self.open.get(index).is_some_and(support) {
            self.open.remove(index);
        } else if let Some(pending) = self.open.get_mut(index) {
            pending.restart();
        }
    }

    fn send_again(&mut self, now: Instant, index: usize) {
        if let Some(pending) = self.open.get_mut(index)
            && let Some(Robust::Sending(sending)) = pending.robust.take()
        {
            self.tag = self.tag.wrapping_add(1);
            let again = sending.again(self.tag, &self.parameters, &mut self.numbers);
            pending.robust = Some(Robust::Sending(again));
            self.send_payloads(now, index);
        }
    }

    fn read(&mut self, now: Instant, index: usize, message: &Message) {
        let mut pending = self.open.remove(index);
        let mut reading = match pending.robust.take() {
            Some(Robust::Reading(reading)) => {
                if reading.is_other(message) && self.is_late(now, message) {
                    pending.robust = Some(Robust::Reading(reading));
                    self.open.insert(index, pending);
                    return;
                }
                reading
            }
            _ => {
                if pending.request.observe == Some(true) {
                    self.note_registration(now, &pending, message);
                }
                Reading::default()
            }
        };
        let step = reading.handle_response(now, message, &self.parameters);
        match step {
            Step::Whole(octets) => {
                let (body, diagnostic) = content(message, &octets);
                self.deliver(&pending, message, body, diagnostic);
                return;
            }
            Step::Failed(reason) => {
                self.deliver(&pending, message, None, Some(reason.to_owned()));
                return;
            }
            Step::Wait | Step::Ask(_) | Step::GiveUp => {}
        }
        pending.robust = Some(Robust::Reading(reading));
        self.open.insert(index, pending);
        if let Step::Ask(blocks) = &step {
            self.ask_blocks(index, blocks);
        }
        self.await_payloads(index);
    }

    /// Whether a payload of another state is of an older one.
    fn is_late(&mut self, now: Instant, message: &Message) -> bool {
        let sequence = message.number(option::OBSERVE);
        sequence.is_some()
            && self.relations.arrival(now, message.token, sequence) == Some(Arrival::Stale)
    }

    /// RFC 9177 §4.5: without Observe.
    fn ask_blocks(&mut self, index: usize, blocks: &[Block]) {
        let message_id = self.next_message_id();
        let Some(pending) = self.open.get_mut(index) else {
            return;
        };
        let mut message = pending.head(Kind::NonConfirmable, message_id);
        message.token = pending.next_token();
        for block in blocks {
            message.push_option(option::Q_BLOCK2, block.octets());
        }
        self.transmit(Some(message));
    }

    fn await_payloads(&mut self, index: usize) {
        if let Some(pending) = self.open.get_mut(index)
            && let Some(Robust::Reading(reading)) = &pending.robust
        {
            let due = reading.due();
            pending.set_due(due);
        }
    }
}
