use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::upload::key;
use crate::SessionParameters;
use crate::coap::{Block, Code, Kind, Message, Token, option};
use crate::robust::{Arrival, Collected, Overdue};

/// Bodies that one client may be sending at once; the oldest gives way.
const MAX_PARTIALS: usize = 4;
/// Bodies that are whole, remembered for a client that did not get the answer.
const MAX_DONE: usize = 16;

/// Bodies of requests that come by Q-Block1 (RFC 9177 §4.3).
#[derive(Debug, Default)]
pub(super) struct Partials {
    all: VecDeque<Partial>,
    done: VecDeque<Done>,
}

#[derive(Debug)]
struct Partial {
    key: u64,
    collected: Collected,
    octets: u32,
    /// Of the payload that came last.
    token: Token,
    /// Of what is Confirmable nothing is asked for (RFC 9177 §5): the client knows what was not acknowledged.
    confirmable: bool,
    /// The message that asked for missing blocks last.
    asked_in: Option<u16>,
}

#[derive(Debug)]
struct Done {
    at: Instant,
    key: u64,
    message_id: u16,
}

/// What a payload comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// There is nothing to say yet, but to acknowledge what is Confirmable.
    Wait,
    /// All up to this block has come: 2.31.
    Continue(Block),
    /// These blocks are missing: 4.08.
    Missing(Vec<u32>),
    /// The body is whole.
    Whole(Vec<u8>),
    /// It was, by the message of that id: its answer is wanted again.
    Done(u16),
    /// 4.00 or 4.13, and the diagnostic text.
    Failed(Code, &'static str),
}

impl Partials {
    /// Takes a request with Q-Block1.
    pub(super) fn take(
        &mut self,
        now: Instant,
        message: &Message,
        parameters: &SessionParameters,
    ) -> Step {
        self.forget(now, parameters.non_partial_timeout());
        let bad = |text| Step::Failed(Code::BAD_REQUEST, text);
        let block = message.option(option::Q_BLOCK1).and_then(Block::from_value);
        let Some(block) = block else {
            return bad("reserved block size");
        };
        // RFC 9177 §4.3.
        let size = message.number(option::SIZE1);
        let (Some(octets), Some(_)) = (size, message.option(option::REQUEST_TAG)) else {
            return bad("q-block1 needs request-tag and size1");
        };
        let key = key(message);
        if let Some(done) = self.done.iter().find(|done| done.key == key) {
            return Step::Done(done.message_id);
        }
        let index = match self.all.iter().position(|partial| partial.key == key) {
            Some(index) => index,
            None => match self.begin(now, key, octets, block, parameters) {
                Some(index) => index,
                None => {
                    let text = "the body is empty, or larger than this server takes";
                    return Step::Failed(Code::REQUEST_ENTITY_TOO_LARGE, text);
                }
            },
        };
        self.add(now, index, (octets, block), message, parameters)
    }

    fn begin(
        &mut self,
        now: Instant,
        key: u64,
        octets: u32,
        block: Block,
        parameters: &SessionParameters,
    ) -> Option<usize> {
        let size = usize::try_from(octets).ok()?;
        let collected = Collected::new(now, size, block, parameters)?;
        if self.all.len() >= MAX_PARTIALS {
            self.all.pop_front();
        }
        self.all.push_back(Partial {
            key,
            collected,
            octets,
            token: Token::default(),
            confirmable: false,
            asked_in: None,
        });
        Some(self.all.len() - 1)
    }

    fn add(
        &mut self,
        now: Instant,
        index: usize,
        (octets, block): (u32, Block),
        message: &Message,
        parameters: &SessionParameters,
    ) -> Step {
        let Some(partial) = self.all.get_mut(index) else {
            return Step::Wait;
        };
        partial.token = message.token;
        partial.confirmable = message.kind == Kind::Confirmable;
        let taken = if partial.octets == octets {
            partial
                .collected
                .handle_payload(now, block, &message.payload, parameters)
        } else {
            Err("the size of the body has changed")
        };
        match taken {
            Ok(Arrival::Whole(octets)) => {
                self.note_done(now, index, message.message_id);
                Step::Whole(octets)
            }
            _ if partial.confirmable && taken.is_ok() => Step::Wait,
            Ok(Arrival::SetWhole(next)) => {
                let last = partial.collected.block(next.saturating_sub(1));
                Step::Continue(last.followed(true))
            }
            Ok(Arrival::Missing(numbers)) => Step::Missing(numbers),
            Ok(Arrival::More) => Step::Wait,
            Err(text) => {
                self.all.remove(index);
                Step::Failed(Code::BAD_REQUEST, text)
            }
        }
    }

    fn note_done(&mut self, now: Instant, index: usize, message_id: u16) {
        let Some(partial) = self.all.remove(index) else {
            return;
        };
        if self.done.len() >= MAX_DONE {
            self.done.pop_front();
        }
        self.done.push_back(Done {
            at: now,
            key: partial.key,
            message_id,
        });
    }

    /// Notes which message has asked for missing blocks, under the token of the payload that came last.
    pub(super) fn note_asked(&mut self, token: Token, message_id: u16) {
        let partial = self.all.iter_mut().find(|partial| partial.token == token);
        if let Some(partial) = partial {
            partial.asked_in = Some(message_id);
        }
    }

    /// RFC 9177 §4.3: the client knows nothing more of the body.
    pub(super) fn handle_reset(&mut self, message_id: u16) {
        self.all
            .retain(|partial| partial.asked_in != Some(message_id));
    }

    /// The blocks that are to be asked for now, and under which tokens; bodies that never became whole are forgotten.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        parameters: &SessionParameters,
    ) -> Vec<(Token, Vec<u32>)> {
        self.forget(now, parameters.non_partial_timeout());
        let mut asked = Vec::new();
        self.all.retain_mut(|partial| {
            if partial.confirmable {
                return true;
            }
            match partial.collected.handle_timeout(now, parameters) {
                Overdue::Wait => true,
                Overdue::Ask(numbers) => {
                    asked.push((partial.token, numbers));
                    true
                }
                Overdue::GiveUp => false,
            }
        });
        asked
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let waiting = self.all.iter().filter(|partial| !partial.confirmable);
        waiting.map(|partial| partial.collected.due()).min()
    }

    fn forget(&mut self, now: Instant, after: Duration) {
        self.all
            .retain(|partial| !partial.collected.is_stale(now, after));
        self.done
            .retain(|done| now.saturating_duration_since(done.at) <= after);
    }
}
