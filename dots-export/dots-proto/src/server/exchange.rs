use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::coap::{Kind, Message, Token};
use crate::server::{ExchangeId, RelationId};

/// How long a message id stands for the same message (RFC 7252 §4.8.2 EXCHANGE_LIFETIME).
const LIFETIME: Duration = Duration::from_secs(247);
/// Messages of one client that are remembered against duplicates; the oldest is forgotten first.
const MAX_REMEMBERED: usize = 512;
/// Requests that wait for a response.
const MAX_OPEN: usize = 64;

/// Requests that wait, and answers that were given: a duplicate gets the same answer, and is handled once.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    next: u64,
    open: Vec<(ExchangeId, Asker)>,
    /// By message id: the answer, once there is one.
    answers: HashMap<u16, Option<Vec<u8>>>,
    order: VecDeque<(Instant, u16)>,
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) kind: Kind,
    pub(super) message_id: u16,
    pub(super) token: Token,
    pub(super) relation: Option<RelationId>,
}

impl Exchanges {
    /// `Some` for a duplicate, with the answer where there is one.
    pub(super) fn known(&mut self, now: Instant, message_id: u16) -> Option<Option<&[u8]>> {
        self.handle_timeout(now);
        self.answers.get(&message_id).map(Option::as_deref)
    }

    /// Opens an exchange; `None` where too many wait.
    pub(super) fn begin(&mut self, now: Instant, message: &Message) -> Option<ExchangeId> {
        if self.open.len() >= MAX_OPEN {
            return None;
        }
        if self.order.len() >= MAX_REMEMBERED
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
        self.answers.insert(message.message_id, None);
        self.order.push_back((now, message.message_id));
        self.next += 1;
        let id = ExchangeId(self.next);
        let asker = Asker {
            kind: message.kind,
            message_id: message.message_id,
            token: message.token,
            relation: None,
        };
        self.open.push((id, asker));
        Some(id)
    }

    /// Notes that the response decides about a relation.
    pub(super) fn set_relation(&mut self, id: ExchangeId, relation: RelationId) {
        if let Some((_, asker)) = self.open.iter_mut().find(|(other, _)| *other == id) {
            asker.relation = Some(relation);
        }
    }

    /// Closes an exchange.
    pub(super) fn take(&mut self, id: ExchangeId) -> Option<Asker> {
        let index = self.open.iter().position(|(other, _)| *other == id)?;
        Some(self.open.remove(index).1)
    }

    /// Keeps an answer for duplicates.
    pub(super) fn remember(&mut self, now: Instant, message_id: u16, octets: Vec<u8>) {
        self.handle_timeout(now);
        if let Some(answer) = self.answers.get_mut(&message_id) {
            *answer = Some(octets);
        }
    }

    /// Forgets what is too old.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, message_id)) = self.order.front().copied()
            && now.duration_since(at) > LIFETIME
        {
            self.order.pop_front();
            self.answers.remove(&message_id);
        }
    }
}
