use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::coap::{Block, Message, option};

/// Representations of several blocks that one client may be reading at once.
const MAX_KEPT: usize = 4;
/// How long a reader may take; RFC 7252's EXCHANGE_LIFETIME.
const KEPT_FOR: Duration = Duration::from_secs(247);

/// Representations that did not fit one datagram, kept until their blocks were read (RFC 7959 §2.4).
#[derive(Debug, Default)]
pub(super) struct Representations {
    kept: VecDeque<(Instant, u64, Representation)>,
}

/// One state of a resource.
#[derive(Debug)]
pub(super) struct Representation {
    octets: Vec<u8>,
    etag: Vec<u8>,
}

impl Representations {
    /// Keeps a representation in place of an older one of the same path and query.
    pub(super) fn keep(&mut self, now: Instant, key: u64, representation: Representation) {
        self.kept
            .retain(|(at, other, _)| *other != key && now.duration_since(*at) <= KEPT_FOR);
        if self.kept.len() >= MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((now, key, representation));
    }

    /// The representation that a reader has begun; with an `ETag` only that very one (RFC 9132 §4.4.2).
    pub(super) fn find(
        &self,
        now: Instant,
        key: u64,
        message: &Message,
    ) -> Option<&Representation> {
        let wanted = message.option(option::ETAG);
        self.kept
            .iter()
            .find(|(at, other, representation)| {
                *other == key
                    && now.duration_since(*at) <= KEPT_FOR
                    && wanted.is_none_or(|etag| etag == representation.etag)
            })
            .map(|(_, _, representation)| representation)
    }
}

impl Representation {
    pub(super) fn new(octets: Vec<u8>) -> Self {
        Self {
            etag: etag_of(&octets),
            octets,
        }
    }

    /// Whether it needs several blocks of the largest size.
    pub(super) fn is_large(&self) -> bool {
        self.octets.len() > Block::FIRST.size()
    }

    /// Puts the whole into a message.
    pub(super) fn fill_whole(self, message: &mut Message) {
        message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
        message.payload = self.octets;
    }

    /// Puts a block into a message; `false` where the block lies behind the end.
    pub(super) fn fill_block(&self, message: &mut Message, block: Block) -> bool {
        let end = self.octets.len().min(block.offset() + block.size());
        let Some(part) = self.octets.get(block.offset()..end) else {
            return false;
        };
        if part.is_empty() {
            return false;
        }
        let more = end < self.octets.len();
        message.payload = part.to_vec();
        message.push_option(option::ETAG, self.etag.clone());
        message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
        message.push_option(option::BLOCK2, block.followed(more).octets());
        if let Ok(size) = u32::try_from(self.octets.len()) {
            message.push_option(option::SIZE2, option::octets(size));
        }
        true
    }
}

/// What tells one state from another.
pub(super) fn etag_of(octets: &[u8]) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    octets.hash(&mut hasher);
    hasher.finish().to_be_bytes().to_vec()
}
