use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::representation::etag_of;
use crate::coap::{Block, Code, Kind, Message, Token, option};
use crate::robust::{self, Sets};

/// Representations that one client may be reading at once; the oldest gives way.
const MAX_DOWNLOADS: usize = 4;
/// Message ids that are remembered, so that a Reset ends what it answers.
const REMEMBERED: usize = 16;

/// Representations on their way by Q-Block2, kept for those who miss a part of them (RFC 9177 §4.4).
#[derive(Debug, Default)]
pub(super) struct Downloads {
    all: VecDeque<Download>,
}

/// One state of a resource.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) begun: Instant,
    /// Digest of path and query.
    pub(super) key: u64,
    pub(super) token: Token,
    /// Observe and Max-Age of all its payloads (RFC 9177 §4.5).
    pub(super) sequence: Option<u32>,
    pub(super) max_age: Option<u32>,
    pub(super) block: Block,
    pub(super) octets: Vec<u8>,
    pub(super) sets: Sets,
    /// The message id of its first payload, where one was set aside.
    pub(super) first_id: Option<u16>,
    pub(super) message_ids: VecDeque<u16>,
}

impl Downloads {
    /// Begins one in place of an older one of the same path and query.
    pub(super) fn begin(&mut self, download: Download, kept_for: Duration) {
        self.forget(download.begun, kept_for);
        self.all.retain(|other| other.key != download.key);
        if self.all.len() >= MAX_DOWNLOADS {
            self.all.pop_front();
        }
        self.all.push_back(download);
    }

    /// Forgets what has been kept for long enough.
    pub(super) fn forget(&mut self, now: Instant, kept_for: Duration) {
        self.all
            .retain(|download| now.saturating_duration_since(download.begun) <= kept_for);
    }

    /// What a reader has begun with blocks of that size, if it is not older than that.
    pub(super) fn find(
        &mut self,
        now: Instant,
        key: u64,
        block: Block,
        age: Duration,
    ) -> Option<&mut Download> {
        self.all.iter_mut().find(|download| {
            download.key == key
                && download.block.size() == block.size()
                && now.saturating_duration_since(download.begun) <= age
        })
    }

    /// The payloads that go out now.
    pub(super) fn poll(&mut self, now: Instant, mut next_id: impl FnMut() -> u16) -> Vec<Message> {
        let mut messages = Vec::new();
        for download in &mut self.all {
            for number in download.sets.poll(now) {
                let id = download.first_id.take().unwrap_or_else(&mut next_id);
                let message = download.message(number, download.token, id, download.sequence);
                messages.extend(message);
                download.message_ids.push_back(id);
                if download.message_ids.len() > REMEMBERED {
                    download.message_ids.pop_front();
                }
            }
        }
        messages
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.all
            .iter()
            .filter_map(|download| download.sets.due())
            .min()
    }

    /// The relation of a token is no more.
    pub(super) fn end(&mut self, token: Token) {
        self.all.retain(|download| download.token != token);
    }

    /// The client does not want it (RFC 7252 §4.3).
    pub(super) fn handle_reset(&mut self, message_id: u16) {
        self.all
            .retain(|download| !download.message_ids.contains(&message_id));
    }
}

impl Download {
    /// The payloads that a reader misses, under the token of its request; `None` where it names none of this body.
    pub(super) fn missing(
        &mut self,
        now: Instant,
        blocks: &[Block],
        token: Token,
        max_payloads: u32,
        mut next_id: impl FnMut() -> u16,
    ) -> Option<Vec<Message>> {
        let count = robust::count_of(self.octets.len(), self.block);
        let mut numbers = BTreeSet::new();
        for block in blocks.iter().filter(|block| block.number < count) {
            let end = if block.more {
                (block.number / max_payloads + 1).saturating_mul(max_payloads)
            } else {
                block.number + 1
            };
            numbers.extend(block.number..end.min(count));
        }
        if numbers.is_empty() {
            return None;
        }
        let numbers: Vec<u32> = numbers.into_iter().collect();
        let granted = self.sets.take_missing(now, &numbers).into_iter();
        Some(
            granted
                .filter_map(|number| self.message(number, token, next_id(), None))
                .collect(),
        )
    }

    fn message(
        &self,
        number: u32,
        token: Token,
        message_id: u16,
        sequence: Option<u32>,
    ) -> Option<Message> {
        let (block, payload) = robust::payload(&self.octets, self.block, number)?;
        let mut message = Message::new(Kind::NonConfirmable, Code::CONTENT, message_id, token);
        message.push_option(option::ETAG, etag_of(&self.octets));
        if let Some(sequence) = sequence {
            message.push_option(option::OBSERVE, option::octets(sequence));
        }
        message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
        if let Some(seconds) = self.max_age {
            message.push_option(option::MAX_AGE, option::octets(seconds));
        }
        if let Ok(size) = u32::try_from(self.octets.len()) {
            message.push_option(option::SIZE2, option::octets(size));
        }
        message.push_option(option::Q_BLOCK2, block.octets());
        message.payload = payload.to_vec();
        Some(message)
    }
}
