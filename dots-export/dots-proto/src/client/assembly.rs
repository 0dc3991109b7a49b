use crate::cbor::MAX_BODY;
use crate::coap::{Block, Message, option};

/// How often reading begins anew because the resource has changed meanwhile.
const MAX_RESTARTS: u8 = 3;

/// A body that comes in blocks (RFC 7959 §2.4, RFC 9132 §4.4.2).
#[derive(Clone, Debug, Default)]
pub(super) struct Assembly {
    octets: Vec<u8>,
    etag: Option<Vec<u8>>,
    next: Option<Block>,
    restarts: u8,
}

/// What a response adds.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// The body is whole.
    Whole(Vec<u8>),
    /// The block of [`Assembly::next`] is to be asked for.
    More,
    /// The blocks do not fit together.
    Failed(&'static str),
}

impl Assembly {
    /// The block to ask for; `None` for the first request.
    pub(super) fn next(&self) -> Option<Block> {
        self.next
    }

    /// The `ETag` that goes with it.
    pub(super) fn etag(&self) -> Option<&[u8]> {
        self.etag.as_deref().filter(|_| self.next.is_some())
    }

    /// Takes a successful response.
    pub(super) fn handle_response(&mut self, message: &Message) -> Step {
        let Some(value) = message.option(option::BLOCK2) else {
            return Step::Whole(message.payload.clone());
        };
        let Some(block) = Block::from_value(value) else {
            return Step::Failed("malformed block2 in the answer");
        };
        let etag = message.option(option::ETAG).map(<[u8]>::to_vec);
        if self.octets.is_empty() {
            self.etag = etag;
        } else if etag.is_some() && self.etag != etag {
            // A server that leaves it out (libcoap does) answers the request, which names it (RFC 9132 §4.4.2).
            return self.restart(block);
        }
        if block.offset() != self.octets.len() {
            return Step::Failed("the answer has another block than was asked for");
        }
        if self.octets.len() + message.payload.len() > MAX_BODY {
            return Step::Failed("the answer is too large");
        }
        self.octets.extend_from_slice(&message.payload);
        if !block.more {
            return Step::Whole(std::mem::take(&mut self.octets));
        }
        if message.payload.len() != block.size() {
            return Step::Failed("a block of the answer is not full");
        }
        match block.next() {
            Some(next) => {
                self.next = Some(next);
                Step::More
            }
            None => Step::Failed("the answer is too large"),
        }
    }

    fn restart(&mut self, block: Block) -> Step {
        if self.restarts >= MAX_RESTARTS {
            return Step::Failed("the answer changes while it is read");
        }
        let restarts = self.restarts + 1;
        let next = Some(block.first());
        *self = Self {
            next,
            restarts,
            ..Self::default()
        };
        Step::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coap::{Code, Kind, Token};

    fn block(number: u32, more: bool, etag: u8, payload: &[u8]) -> Message {
        let mut message = Message::new(
            Kind::NonConfirmable,
            Code::CONTENT,
            1,
            Token::from_number(1),
        );
        message.push_option(option::ETAG, [etag]);
        let value = number << 4 | u32::from(more) << 3;
        message.push_option(option::BLOCK2, option::octets(value));
        message.payload = payload.to_vec();
        message
    }

    #[test]
    fn blocks_become_a_body() {
        let mut assembly = Assembly::default();
        assert_eq!(
            assembly.handle_response(&block(0, true, 1, &[1; 16])),
            Step::More
        );
        assert_eq!(assembly.next().map(|block| block.number), Some(1));
        assert_eq!(assembly.etag(), Some(&[1][..]));
        let whole = [&[1; 16][..], &[2; 3]].concat();
        assert_eq!(
            assembly.handle_response(&block(1, false, 1, &[2; 3])),
            Step::Whole(whole)
        );
    }

    #[test]
    fn a_block_without_the_etag_that_it_was_asked_for_by_is_taken() {
        let mut assembly = Assembly::default();
        let first = assembly.handle_response(&block(0, true, 1, &[1; 16]));
        assert_eq!(first, Step::More);
        let mut second = block(1, false, 1, &[2; 3]);
        second.options.retain(|(number, _)| *number != option::ETAG);
        let whole = [&[1; 16][..], &[2; 3]].concat();
        assert_eq!(assembly.handle_response(&second), Step::Whole(whole));
    }

    #[test]
    fn a_change_begins_anew_and_not_for_ever() {
        let mut assembly = Assembly::default();
        for etag in 0..4 {
            assert_eq!(
                assembly.handle_response(&block(0, true, etag, &[1; 16])),
                Step::More
            );
            let step = assembly.handle_response(&block(1, true, etag + 1, &[1; 16]));
            if etag < 3 {
                assert_eq!(step, Step::More);
                assert_eq!(assembly.next().map(|block| block.number), Some(0));
            } else {
                assert!(matches!(step, Step::Failed(_)));
            }
        }
    }

    #[test]
    fn a_servers_nonsense_ends_the_reading() {
        let failed = |message: &Message| {
            let mut assembly = Assembly::default();
            matches!(assembly.handle_response(message), Step::Failed(_))
        };
        assert!(failed(&block(1, true, 1, &[1; 16])));
        assert!(failed(&block(0, true, 1, &[1; 15])));
        let mut reserved = block(0, true, 1, &[1; 16]);
        reserved
            .options
            .retain(|(number, _)| *number != option::BLOCK2);
        reserved.push_option(option::BLOCK2, [7]);
        assert!(failed(&reserved));
        // No more than a body may have.
        let mut assembly = Assembly::default();
        let mut last = Step::More;
        for number in 0.. {
            last = assembly.handle_response(&block(number, true, 1, &[1; 16]));
            if last != Step::More {
                break;
            }
        }
        assert_eq!(last, Step::Failed("the answer is too large"));
        assert!(assembly.octets.len() <= MAX_BODY);
    }
}
