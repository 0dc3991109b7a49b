use std::time::Instant;

use crate::SessionParameters;
use crate::coap::{Block, Message, Token, option};
use crate::robust::{Arrival, Collected, Overdue};

/// How often reading begins anew because the resource has changed meanwhile.
const MAX_RESTARTS: u8 = 3;

/// A body that comes by Q-Block2 (RFC 9177 §4.4).
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// Of a notification: the token under which its payloads come.
    relation: Option<Token>,
    etag: Option<Vec<u8>>,
    collected: Option<Collected>,
    restarts: u8,
}

/// What a payload, or silence, comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// More is to come.
    Wait,
    /// These blocks are to be asked for, or with the first of a set the server is told to go on.
    Ask(Vec<Block>),
    /// The body is whole.
    Whole(Vec<u8>),
    /// The payloads do not fit together.
    Failed(&'static str),
    /// They were asked for as often as they may be.
    GiveUp,
}

impl Reading {
    /// A notification under that relation's token.
    pub(super) fn of_relation(token: Token) -> Self {
        Self {
            relation: Some(token),
            ..Self::default()
        }
    }

    /// Whether a message under a relation's token is of this body.
    pub(super) fn is_of(&self, message: &Message) -> bool {
        self.relation == Some(message.token) && self.is_same(message)
    }

    /// Whether another state is being read than the message has.
    pub(super) fn is_other(&self, message: &Message) -> bool {
        self.collected.is_some() && !self.is_same(message)
    }

    fn is_same(&self, message: &Message) -> bool {
        message.option(option::Q_BLOCK2).is_some()
            && self.etag.as_deref() == message.option(option::ETAG)
    }

    /// When [`Reading::handle_timeout`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.collected.as_ref().map(Collected::due)
    }

    /// Takes a successful response with Q-Block2.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        message: &Message,
        parameters: &SessionParameters,
    ) -> Step {
        let value = message.option(option::Q_BLOCK2).unwrap_or_default();
        let Some(block) = Block::from_value(value) else {
            return Step::Failed("malformed q-block2 in the answer");
        };
        if block.number == 0 && !block.more {
            return Step::Whole(message.payload.clone());
        }
        if self.is_other(message) {
            if self.restarts >= MAX_RESTARTS {
                return Step::Failed("the answer changes while it is read");
            }
            self.restarts += 1;
            self.collected = None;
        }
        if self.collected.is_none() {
            // RFC 9177 §4.6: the size is exact.
            let size = message.number(option::SIZE2);
            let octets = size.and_then(|size| usize::try_from(size).ok());
            self.etag = message.option(option::ETAG).map(<[u8]>::to_vec);
            self.collected =
                octets.and_then(|octets| Collected::new(now, octets, block.first(), parameters));
        }
        let Some(collected) = &mut self.collected else {
            return Step::Failed("the answer has no size, or is too large");
        };
        match collected.handle_payload(now, block, &message.payload, parameters) {
            Ok(Arrival::More) => Step::Wait,
            Ok(Arrival::Whole(octets)) => Step::Whole(octets),
            // RFC 9177 §4.4: 'Continue'.
            Ok(Arrival::SetWhole(next)) => Step::Ask(vec![collected.block(next).followed(true)]),
            Ok(Arrival::Missing(numbers)) => Step::Ask(blocks(collected, &numbers)),
            Err(text) => Step::Failed(text),
        }
    }

    /// What is due where no payload has come for a while.
    pub(super) fn handle_timeout(&mut self, now: Instant, parameters: &SessionParameters) -> Step {
        let Some(collected) = &mut self.collected else {
            return Step::GiveUp;
        };
        match collected.handle_timeout(now, parameters) {
            Overdue::Wait => Step::Wait,
            Overdue::Ask(numbers) => Step::Ask(blocks(collected, &numbers)),
            Overdue::GiveUp => Step::GiveUp,
        }
    }
}

fn blocks(collected: &Collected, numbers: &[u32]) -> Vec<Block> {
    numbers
        .iter()
        .map(|number| collected.block(*number))
        .collect()
}
