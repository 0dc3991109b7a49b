//! Robust block-wise transfer (RFC 9177, Q-Block1 and Q-Block2), as far as both directions have it in common: a sender's sets
//! of payloads ([`Sets`]), a receiver's partial body ([`Collected`]), the list of missing blocks, and the parameters.
//!
//! Q-Block goes with Non-confirmable messages here. Confirmable requests of a peer are served; ours use Block1 and Block2,
//! which lose nothing when each block is acknowledged.

mod collected;
mod missing;
mod parameters;
mod sets;

use crate::coap::{Block, Code, Message, option};

pub(crate) use collected::{Arrival, Collected, Overdue};
pub(crate) use missing::{missing_blocks, octets_of_missing};
pub use parameters::RobustParameters;
pub(crate) use sets::Sets;

/// Whether a message has options of Q-Block and of Block, which is 4.02 (RFC 9177 §4.1).
pub(crate) fn is_mixed(message: &Message) -> bool {
    let has = |number| message.option(number).is_some();
    (has(option::Q_BLOCK1) || has(option::Q_BLOCK2)) && (has(option::BLOCK1) || has(option::BLOCK2))
}

/// Whether a response names the blocks that its sender misses.
pub(crate) fn is_missing_blocks(message: &Message) -> bool {
    message.code == Code::REQUEST_ENTITY_INCOMPLETE
        && message.number(option::CONTENT_FORMAT) == Some(option::MISSING_BLOCKS)
}

/// How many blocks of that size a body has.
pub(crate) fn count_of(octets: usize, block: Block) -> u32 {
    u32::try_from(octets.div_ceil(block.size())).unwrap_or(u32::MAX)
}

/// A payload of a body, and its block; `None` behind the end.
pub(crate) fn payload(octets: &[u8], block: Block, number: u32) -> Option<(Block, &[u8])> {
    let block = block.numbered(number);
    let end = octets.len().min(block.offset() + block.size());
    let payload = octets
        .get(block.offset()..end)
        .filter(|payload| !payload.is_empty())?;
    Some((block.followed(end < octets.len()), payload))
}
