use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::cbor::MAX_BODY;
use crate::coap::{Block, Code, Message, option};

/// Bodies of several blocks that one client may be sending at once; the oldest gives way.
const MAX_UPLOADS: usize = 4;
/// How long a client may take; RFC 7252's EXCHANGE_LIFETIME.
const KEPT_FOR: Duration = Duration::from_secs(247);

/// Bodies of requests that come in blocks (RFC 7959 §2.5).
#[derive(Debug, Default)]
pub(super) struct Uploads {
    all: VecDeque<Upload>,
}

#[derive(Debug)]
struct Upload {
    at: Instant,
    key: u64,
    octets: Vec<u8>,
}

/// What a block comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// More is to come: 2.31.
    Continue(Block),
    /// The body is whole.
    Whole(Block, Vec<u8>),
    /// 4.00, 4.08 or 4.13, and the diagnostic text.
    Failed(Code, &'static str),
}

impl Uploads {
    /// Takes a block; `None` for a request that has none.
    pub(super) fn take(&mut self, now: Instant, message: &Message) -> Option<Step> {
        let value = message.option(option::BLOCK1)?;
        let Some(block) = Block::from_value(value) else {
            return Some(Step::Failed(Code::BAD_REQUEST, "reserved block size"));
        };
        let key = key(message);
        self.all
            .retain(|upload| now.duration_since(upload.at) <= KEPT_FOR);
        let begun = self.all.iter().position(|upload| upload.key == key);
        let before = match (begun, block.number) {
            // The first block begins anew, whatever there was.
            (Some(index), 0) => {
                self.all.remove(index);
                Vec::new()
            }
            (None, 0) => Vec::new(),
            (Some(index), _) => self
                .all
                .remove(index)
                .map_or_else(Vec::new, |one| one.octets),
            (None, _) => {
                return Some(incomplete());
            }
        };
        Some(self.add(now, key, before, block, &message.payload))
    }

    fn add(
        &mut self,
        now: Instant,
        key: u64,
        mut octets: Vec<u8>,
        block: Block,
        payload: &[u8],
    ) -> Step {
        if block.offset() != octets.len() {
            return incomplete();
        }
        if block.more && payload.len() != block.size() {
            return Step::Failed(Code::BAD_REQUEST, "a block is not full");
        }
        if octets.len() + payload.len() > MAX_BODY {
            let text = "the body is larger than this server takes";
            return Step::Failed(Code::REQUEST_ENTITY_TOO_LARGE, text);
        }
        octets.extend_from_slice(payload);
        if !block.more {
            return Step::Whole(block, octets);
        }
        if self.all.len() >= MAX_UPLOADS {
            self.all.pop_front();
        }
        self.all.push_back(Upload {
            at: now,
            key,
            octets,
        });
        Step::Continue(block)
    }
}

fn incomplete() -> Step {
    Step::Failed(
        Code::REQUEST_ENTITY_INCOMPLETE,
        "blocks are missing: begin anew",
    )
}

/// What the blocks of one body have in common (RFC 7959 §2.5, RFC 9175 §3.3, RFC 9177 §4.3): method, all options but the block's number and
/// the size, and the Request-Tag among them.
pub(super) fn key(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.code.hash(&mut hasher);
    for (number, value) in &message.options {
        if !matches!(*number, option::BLOCK1 | option::Q_BLOCK1 | option::SIZE1) {
            (number, value).hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coap::{Kind, Token};

    fn block(path: &str, number: u32, more: bool, payload: &[u8]) -> Message {
        let token = Token::from_number(u64::from(number));
        let mut message = Message::new(Kind::NonConfirmable, Code::PUT, 1, token);
        message.push_option(option::URI_PATH, path.as_bytes());
        let value = number << 4 | u32::from(more) << 3;
        message.push_option(option::BLOCK1, option::octets(value));
        message.payload = payload.to_vec();
        message
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    fn blocks_become_a_body_and_nonsense_does_not() {
        let now = Instant::now();
        let mut uploads = Uploads::default();
        let mut take = |at: Duration, message: &Message| uploads.take(now + at, message);
        let at = Duration::ZERO;
        assert!(matches!(
            take(at, &block("a", 0, true, &[1; 16])),
            Some(Step::Continue(_))
        ));
        // Another body is another body.
        let failed = |step| matches!(step, Some(Step::Failed(Code::REQUEST_ENTITY_INCOMPLETE, _)));
        assert!(failed(take(at, &block("b", 1, false, &[2; 3]))));
        let whole = [&[1; 16][..], &[2; 3]].concat();
        let last = take(at, &block("a", 1, false, &[2; 3]));
        assert!(matches!(last, Some(Step::Whole(_, octets)) if octets == whole));
        assert!(
            failed(take(at, &block("a", 1, false, &[2; 3]))),
            "it is done"
        );

        let _ = take(at, &block("a", 0, true, &[1; 16]));
        assert!(failed(take(at, &block("a", 2, true, &[1; 16]))), "a hole");
        let _ = take(at, &block("a", 0, true, &[1; 16]));
        assert!(failed(take(KEPT_FOR * 2, &block("a", 1, false, &[2; 3]))));
        assert!(matches!(
            take(at, &block("a", 0, true, &[1; 15])),
            Some(Step::Failed(Code::BAD_REQUEST, _))
        ));
        let mut last = None;
        for number in 0.. {
            last = take(at, &block("a", number, true, &[1; 16]));
            if !matches!(last, Some(Step::Continue(_))) {
                break;
            }
        }
        assert!(matches!(
            last,
            Some(Step::Failed(Code::REQUEST_ENTITY_TOO_LARGE, _))
        ));
    }
}
