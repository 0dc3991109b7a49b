use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::SessionParameters;
use crate::coap::{Block, Code, Kind, Message, Token, option};
use crate::server::{ExchangeId, RelationId};

/// Messages of one client that are remembered against duplicates; the oldest is forgotten first.
const MAX_REMEMBERED: usize = 256;
/// Tokens of at least 32 bits are random (RFC 7252 §5.3.1), so the same request under the same one is a repeat.
const RANDOM_TOKEN: usize = 4;

/// Requests that wait, and answers that were given: a duplicate gets the same answer, and is handled once.
#[derive(Debug)]
pub(super) struct Exchanges {
    next: u64,
    entries: VecDeque<Entry>,
    confirmable_lifetime: Duration,
    non_confirmable_lifetime: Duration,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    id: ExchangeId,
    asker: Asker,
    /// What a repeat under another message id has in common with this request.
    repeat: Option<u64>,
    /// Answered, by these octets.
    answer: Option<Vec<u8>>,
}

/// Where an answer goes, and in which shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) kind: Kind,
    pub(super) message_id: u16,
    pub(super) token: Token,
    pub(super) relation: Option<RelationId>,
    /// Of a GET: what is read, as a digest of path and query.
    pub(super) representation: Option<u64>,
    /// The block that is asked for.
    pub(super) block: Option<Block>,
    /// The first block that is asked for by Q-Block2.
    pub(super) robust: Option<Block>,
    /// The block of the request's body that is answered.
    pub(super) upload: Option<Block>,
}

/// What is known of a request that came before.
#[derive(Debug)]
pub(super) enum Known {
    /// It waits for its answer, or is ignored in silence.
    Waiting,
    /// The answer that it got.
    Answered(Vec<u8>),
}

impl Exchanges {
    pub(super) fn new(parameters: &SessionParameters) -> Self {
        let mut exchanges = Self {
            next: 0,
            entries: VecDeque::new(),
            confirmable_lifetime: Duration::ZERO,
            non_confirmable_lifetime: Duration::ZERO,
        };
        exchanges.configure(parameters);
        exchanges
    }

    pub(super) fn configure(&mut self, parameters: &SessionParameters) {
        self.confirmable_lifetime = parameters.exchange_lifetime();
        self.non_confirmable_lifetime = parameters.non_lifetime();
    }

    /// The same message again (RFC 7252 §4.5).
    pub(super) fn duplicate(&mut self, now: Instant, message_id: u16) -> Option<Known> {
        self.forget(now);
        self.known(|entry| entry.asker.message_id == message_id)
    }

    /// The same Non-confirmable PUT or DELETE in a new message: RFC 9132 §4.4 has clients repeat them until they are answered.
    pub(super) fn repeat(&mut self, message: &Message) -> Option<Known> {
        let digest = repeat_digest(message)?;
        self.known(|entry| entry.repeat == Some(digest))
    }

    /// Opens an exchange.
    pub(super) fn begin(&mut self, now: Instant, message: &Message) -> ExchangeId {
        if self.entries.len() >= MAX_REMEMBERED {
            self.entries.pop_front();
        }
        self.next += 1;
        let id = ExchangeId(self.next);
        self.entries.push_back(Entry {
            at: now,
            id,
            asker: Asker {
                kind: message.kind,
                message_id: message.message_id,
                token: message.token,
                relation: None,
                representation: (message.code == Code::GET).then(|| representation_digest(message)),
                block: message.option(option::BLOCK2).and_then(Block::from_value),
                robust: message.option(option::Q_BLOCK2).and_then(Block::from_value),
                upload: None,
            },
            repeat: repeat_digest(message),
            answer: None,
        });
        id
    }

    /// Notes that the response decides about a relation.
    pub(super) fn set_relation(&mut self, id: ExchangeId, relation: RelationId) {
        if let Some(entry) = self.open(id) {
            entry.asker.relation = Some(relation);
        }
    }

    /// Notes which block of the request's body is answered.
    pub(super) fn set_upload(&mut self, id: ExchangeId, block: Block) {
        if let Some(entry) = self.open(id) {
            entry.asker.upload = Some(block);
        }
    }

    /// Where the answer of an open exchange goes.
    pub(super) fn asker(&mut self, id: ExchangeId) -> Option<Asker> {
        self.open(id).map(|entry| entry.asker)
    }

    /// Closes an exchange and keeps the answer for duplicates.
    pub(super) fn finish(&mut self, id: ExchangeId, octets: &[u8]) {
        if let Some(entry) = self.open(id) {
            entry.answer = Some(octets.to_vec());
        }
    }

    fn open(&mut self, id: ExchangeId) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .find(|entry| entry.id == id && entry.answer.is_none())
    }

    fn known(&self, same: impl Fn(&Entry) -> bool) -> Option<Known> {
        // The newest: an id may have come round.
        let entry = self.entries.iter().rev().find(|entry| same(entry))?;
        Some(match &entry.answer {
            Some(octets) => Known::Answered(octets.clone()),
            None => Known::Waiting,
        })
    }

    fn forget(&mut self, now: Instant) {
        let (confirmable, non) = (self.confirmable_lifetime, self.non_confirmable_lifetime);
        self.entries.retain(|entry| {
            let lifetime = match entry.asker.kind {
                Kind::Confirmable => confirmable,
                _ => non,
            };
            now.duration_since(entry.at) <= lifetime
        });
    }
}

fn repeat_digest(message: &Message) -> Option<u64> {
    let repeatable = message.kind == Kind::NonConfirmable
        && matches!(message.code, Code::PUT | Code::DELETE)
        && message.token.octets().len() >= RANDOM_TOKEN;
    repeatable.then(|| {
        let mut hasher = DefaultHasher::new();
        message.code.hash(&mut hasher);
        message.token.hash(&mut hasher);
        message.options.hash(&mut hasher);
        message.payload.hash(&mut hasher);
        hasher.finish()
    })
}

/// What tells one representation from another: path and query.
fn representation_digest(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    for number in [option::URI_PATH, option::URI_QUERY] {
        number.hash(&mut hasher);
        message
            .values(number)
            .for_each(|value| value.hash(&mut hasher));
    }
    hasher.finish()
}
