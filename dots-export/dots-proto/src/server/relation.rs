use std::collections::VecDeque;

use crate::Resource;
use crate::coap::{Block, Token};
use crate::server::RelationId;

/// Observe relations of one client.
pub const MAX_RELATIONS: usize = 256;
/// Notifications of a relation whose ids are remembered, so that a Reset finds it.
const REMEMBERED: usize = 8;

/// The list of observers (RFC 7641 §4.1) of one client.
#[derive(Debug)]
pub(super) struct Relations {
    all: Vec<Relation>,
    next: u64,
    /// Grows over all relations: a renewed one goes on where the old one stood (RFC 7641 §4.4).
    sequence: u32,
}

#[derive(Debug)]
pub(super) struct Relation {
    pub(super) id: RelationId,
    pub(super) token: Token,
    /// Digest of path and query.
    pub(super) representation: u64,
    /// The size of blocks that it wants by Q-Block2.
    pub(super) robust: Option<Block>,
    resource: Resource,
    message_ids: VecDeque<u16>,
    stands: bool,
}

impl Default for Relations {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            next: 0,
            sequence: 1,
        }
    }
}

impl Relations {
    /// Adds a relation that stands once its request has succeeded; `None` where there are too many.
    pub(super) fn register(
        &mut self,
        token: Token,
        resource: Resource,
        representation: u64,
        robust: Option<Block>,
    ) -> Option<RelationId> {
        if self.all.len() >= MAX_RELATIONS {
            return None;
        }
        self.next += 1;
        let id = RelationId(self.next);
        self.all.push(Relation {
            id,
            token,
            representation,
            robust,
            resource,
            message_ids: VecDeque::new(),
            stands: false,
        });
        Some(id)
    }

    /// The relation stands from now on. Gives the sequence number of its first response.
    pub(super) fn establish(&mut self, id: RelationId) -> Option<u32> {
        let relation = self.all.iter_mut().find(|relation| relation.id == id)?;
        relation.stands = true;
        self.sequence = next_sequence(self.sequence);
        Some(self.sequence)
    }

    /// A notification of that message id goes out. Gives the relation and the sequence number.
    pub(super) fn notify(&mut self, id: RelationId, message_id: u16) -> Option<(&Relation, u32)> {
        let relation = self
            .all
            .iter_mut()
            .find(|relation| relation.id == id && relation.stands)?;
        self.sequence = next_sequence(self.sequence);
        relation.message_ids.push_back(message_id);
        if relation.message_ids.len() > REMEMBERED {
            relation.message_ids.pop_front();
        }
        Some((relation, self.sequence))
    }

    /// Ends the relation of a token (RFC 7641 §4.1).
    pub(super) fn end_token(&mut self, token: Token) -> Vec<RelationId> {
        self.end(|relation| relation.token == token)
    }

    /// Ends the relation of a token, or, where the token is of none, those of the resource.
    pub(super) fn deregister(&mut self, token: Token, resource: &Resource) -> Vec<RelationId> {
        let ended = self.end_token(token);
        if !ended.is_empty() {
            return ended;
        }
        self.end(|relation| relation.resource == *resource)
    }

    /// Ends the relation whose notification was reset (RFC 7641 §3.6).
    pub(super) fn reset(&mut self, message_id: u16) -> Vec<RelationId> {
        self.end(|relation| relation.message_ids.contains(&message_id))
    }

    /// Ends a relation that stands, and gives its token.
    pub(super) fn gone(&mut self, id: RelationId) -> Option<Token> {
        let index = self
            .all
            .iter()
            .position(|relation| relation.id == id && relation.stands)?;
        Some(self.all.remove(index).token)
    }

    /// Drops a relation whose request failed.
    pub(super) fn refuse(&mut self, id: RelationId) {
        self.all.retain(|relation| relation.id != id);
    }

    fn end(&mut self, which: impl Fn(&Relation) -> bool) -> Vec<RelationId> {
        self.all
            .extract_if(.., |relation| which(relation))
            .map(|relation| relation.id)
            .collect()
    }
}

fn next_sequence(sequence: u32) -> u32 {
    (sequence + 1) & 0x00ff_ffff
}
