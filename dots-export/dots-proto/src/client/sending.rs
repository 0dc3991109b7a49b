use std::collections::VecDeque;
use std::time::Instant;

use super::pending::REPEATS;
use crate::SessionParameters;
use crate::coap::{Block, Code, Message, option};
use crate::parameters::Numbers;
use crate::robust::{self, Sets};

/// How often sending begins anew because the server has lost the body.
const MAX_RESTARTS: u8 = 3;
/// Message ids that are remembered, so that a Reset finds the body.
const REMEMBERED: usize = 64;

/// A body that goes out by Q-Block1 (RFC 9177 §4.3).
#[derive(Clone, Debug)]
pub(super) struct Sending {
    octets: Vec<u8>,
    tag: u64,
    sets: Sets,
    /// How often the last payload was sent again since the server has not said anything.
    nudges: u32,
    restarts: u8,
    /// All was sent: then it is time to nudge the server, or to give up.
    silent_at: Option<Instant>,
    message_ids: VecDeque<u16>,
}

/// What the server's word comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// There may be more to send now.
    Send,
    /// The server has nothing of the body: it goes out anew, under another tag.
    Restart,
    /// The word is to be ignored.
    Ignore,
    /// This is the answer to the whole.
    Answered,
}

impl Sending {
    /// A body under a tag that no other body of the session has.
    pub(super) fn new(
        octets: Vec<u8>,
        tag: u64,
        parameters: &SessionParameters,
        numbers: &mut Numbers,
    ) -> Self {
        let count = robust::count_of(octets.len(), Block::FIRST);
        Self {
            octets,
            tag,
            sets: Sets::new(count, parameters, numbers),
            nudges: 0,
            restarts: 0,
            silent_at: None,
            message_ids: VecDeque::new(),
        }
    }

    /// The same body under another tag.
    pub(super) fn again(
        self,
        tag: u64,
        parameters: &SessionParameters,
        numbers: &mut Numbers,
    ) -> Self {
        Self {
            restarts: self.restarts + 1,
            ..Self::new(self.octets, tag, parameters, numbers)
        }
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The payloads to send now.
    pub(super) fn poll(&mut self, now: Instant, parameters: &SessionParameters) -> Vec<u32> {
        let numbers = self.sets.poll(now);
        if !numbers.is_empty() {
            // The server asks for what it misses before that.
            let wait = parameters.time_to_wait(0) + self.sets.pause();
            self.silent_at = self.sets.is_all_sent().then(|| now + wait);
        }
        numbers
    }

    /// Puts a payload into a message.
    pub(super) fn fill(&mut self, message: &mut Message, number: u32) {
        let Some((block, payload)) = robust::payload(&self.octets, Block::FIRST, number) else {
            return;
        };
        message.push_option(option::Q_BLOCK1, block.octets());
        if let Ok(size) = u32::try_from(self.octets.len()) {
            message.push_option(option::SIZE1, option::octets(size));
        }
        message.push_option(option::REQUEST_TAG, self.tag.to_be_bytes());
        message.payload = payload.to_vec();
        self.message_ids.push_back(message.message_id);
        if self.message_ids.len() > REMEMBERED {
            self.message_ids.pop_front();
        }
    }

    pub(super) fn has_sent(&self, message_id: u16) -> bool {
        self.message_ids.contains(&message_id)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.sets.due().or(self.silent_at)
    }

    /// Whether there is reason to go on. RFC 9177 §4.3: a server that gets a payload again says again what it thinks of the
    /// body, so after a silence the last one goes out once more.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if !self.sets.is_all_sent() || self.silent_at.is_none_or(|at| at > now) {
            return true;
        }
        if self.nudges >= REPEATS {
            return false;
        }
        self.nudges += 1;
        // Where it has been sent too often, the silence goes on.
        self.silent_at = Some(now + self.sets.pause());
        let count = robust::count_of(self.octets.len(), Block::FIRST);
        self.sets.handle_missing(&[count.saturating_sub(1)]);
        true
    }

    /// Takes a response to any of the payloads.
    pub(super) fn handle_answer(&mut self, message: &Message) -> Next {
        match message.code {
            Code::CONTINUE => {
                let named = message.option(option::Q_BLOCK1).and_then(Block::from_value);
                if !self.sets.is_all_sent() {
                    self.nudges = 0;
                }
                self.sets
                    .handle_continue(named.map(|block| block.number.saturating_add(1)));
                Next::Send
            }
            Code::REQUEST_ENTITY_INCOMPLETE if robust::is_missing_blocks(message) => {
                match robust::missing_blocks(&message.payload) {
                    Some(numbers) => {
                        if self.sets.handle_missing(&numbers) {
                            self.nudges = 0;
                        }
                        Next::Send
                    }
                    None => Next::Ignore,
                }
            }
            Code::REQUEST_ENTITY_INCOMPLETE if self.restarts < MAX_RESTARTS => Next::Restart,
            _ => Next::Answered,
        }
    }
}
