use crate::coap::{Block, Code, Message, option};

/// Octets of a body that go in one message; what is longer goes in blocks.
pub(super) const MAX_SINGLE: usize = 1_100;
/// How often sending begins anew because the server has lost blocks.
const MAX_RESTARTS: u8 = 3;

/// A body that goes out in blocks (RFC 7959 §2.5).
#[derive(Clone, Debug)]
pub(super) struct Upload {
    octets: Vec<u8>,
    block: Block,
    restarts: u8,
}

/// What the server's answer to a block comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// The next block is to be sent.
    Send,
    /// This is the answer to the whole.
    Answered,
}

impl Upload {
    /// The body in blocks; `None` where it fits one message.
    pub(super) fn new(octets: &[u8]) -> Option<Self> {
        (octets.len() > MAX_SINGLE).then(|| Self {
            octets: octets.to_vec(),
            block: Block::FIRST,
            restarts: 0,
        })
    }

    /// Whether the server has a part of it.
    pub(super) fn is_begun(&self) -> bool {
        self.block.number > 0
    }

    /// The whole body.
    pub(super) fn into_octets(self) -> Vec<u8> {
        self.octets
    }

    /// Puts the block that is due into a message.
    pub(super) fn fill(&self, message: &mut Message) {
        let start = self.block.offset().min(self.octets.len());
        let end = (start + self.block.size()).min(self.octets.len());
        let more = end < self.octets.len();
        message.push_option(option::BLOCK1, self.block.followed(more).octets());
        if let Ok(size) = u32::try_from(self.octets.len()) {
            message.push_option(option::SIZE1, option::octets(size));
        }
        message.payload = self.octets.get(start..end).unwrap_or_default().to_vec();
    }

    /// Begins with the first block.
    pub(super) fn restart(&mut self) {
        self.block = self.block.first();
    }

    /// Takes the answer to a block. A server may ask for smaller blocks by the size that it names (RFC 7959 §2.5).
    pub(super) fn handle_answer(&mut self, message: &Message) -> Next {
        let named = message.option(option::BLOCK1).and_then(Block::from_value);
        match message.code {
            Code::CONTINUE => {
                let sent = self.block.offset() + self.block.size();
                let size = named
                    .filter(|named| named.size() < self.block.size())
                    .unwrap_or(self.block);
                match size.at(sent) {
                    Some(next) if next.offset() < self.octets.len() => {
                        self.block = next;
                        Next::Send
                    }
                    _ => Next::Answered,
                }
            }
            Code::REQUEST_ENTITY_INCOMPLETE if self.restarts < MAX_RESTARTS => {
                self.restarts += 1;
                self.restart();
                Next::Send
            }
            Code::REQUEST_ENTITY_TOO_LARGE => match named {
                Some(named) if named.size() < self.block.size() => {
                    self.block = named.first();
                    Next::Send
                }
                _ => Next::Answered,
            },
            _ => Next::Answered,
        }
    }
}
