use std::time::{Duration, Instant};

use crate::Resource;
use crate::coap::Token;

/// Observe relations that may stand at once.
const MAX_RELATIONS: usize = 256;
/// RFC 7641 §3.4: after this time, what comes is newer whatever its number.
const FRESH_FOR: Duration = Duration::from_secs(128);

/// What this client observes.
#[derive(Clone, Debug, Default)]
pub(super) struct Relations {
    all: Vec<Relation>,
}

#[derive(Clone, Debug)]
struct Relation {
    token: Token,
    resource: Resource,
    query: Vec<String>,
    newest: (u32, Instant),
}

/// What a response under a relation's token is.
#[derive(Debug, PartialEq)]
pub(super) enum Arrival {
    /// A new state of the resource.
    Newer(Resource),
    /// Older than, or the same as, what came before.
    Stale,
    /// The last one: an error, or a response without Observe (RFC 7641 §3.2).
    Last(Resource),
}

impl Relations {
    /// The server has taken a registration. Another relation of the resource is forgotten: its notifications are reset.
    pub(super) fn establish(
        &mut self,
        now: Instant,
        token: Token,
        (resource, query): (Resource, Vec<String>),
        sequence: u32,
    ) {
        self.all
            .retain(|relation| relation.token != token && relation.resource != resource);
        if self.all.len() < MAX_RELATIONS {
            self.all.push(Relation {
                token,
                resource,
                query,
                newest: (sequence, now),
            });
        }
    }

    pub(super) fn end(&mut self, token: Token) {
        self.all.retain(|relation| relation.token != token);
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// The token under which a resource is observed.
    pub(super) fn token_of(&self, resource: &Resource) -> Option<Token> {
        self.all
            .iter()
            .find(|relation| relation.resource == *resource)
            .map(|relation| relation.token)
    }

    /// The queries of a relation, for the rest of a notification in blocks.
    pub(super) fn query_of(&self, token: Token) -> Vec<String> {
        let relation = self.all.iter().find(|relation| relation.token == token);
        relation.map_or_else(Vec::new, |relation| relation.query.clone())
    }

    /// Judges a response; `None` where the token is of no relation.
    pub(super) fn arrival(
        &mut self,
        now: Instant,
        token: Token,
        sequence: Option<u32>,
    ) -> Option<Arrival> {
        let index = self.all.iter().position(|other| other.token == token)?;
        let Some(sequence) = sequence else {
            return Some(Arrival::Last(self.all.remove(index).resource));
        };
        let relation = self.all.get_mut(index)?;
        let (newest, at) = relation.newest;
        if !is_newer(newest, sequence) && now.duration_since(at) <= FRESH_FOR {
            return Some(Arrival::Stale);
        }
        relation.newest = (sequence, now);
        Some(Arrival::Newer(relation.resource.clone()))
    }
}

/// RFC 7641 §3.4: sequence numbers of 24 bits, compared over the shorter way round.
fn is_newer(newest: u32, sequence: u32) -> bool {
    (newest < sequence && sequence - newest < 1 << 23)
        || (newest > sequence && newest - sequence > 1 << 23)
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "any instant does: only differences count"
)]
mod tests {
    use super::*;

    const RESOURCE: Resource = Resource::Config { sid: None };

    #[test]
    fn what_comes_late_is_stale() {
        let now = Instant::now();
        let token = Token::from_number(1);
        let mut relations = Relations::default();
        relations.establish(now, token, (RESOURCE, Vec::new()), 0x00ff_fffe);
        let mut arrival = |at: Duration, sequence| relations.arrival(now + at, token, sequence);
        let second = Duration::from_secs(1);
        assert_eq!(arrival(second, Some(0x00ff_fffe)), Some(Arrival::Stale));
        // The number comes round.
        assert_eq!(arrival(second, Some(1)), Some(Arrival::Newer(RESOURCE)));
        assert_eq!(arrival(second, Some(0x00ff_ffff)), Some(Arrival::Stale));
        // The server has forgotten its count.
        assert_eq!(
            arrival(second * 130, Some(0)),
            Some(Arrival::Newer(RESOURCE))
        );
        assert_eq!(arrival(second * 131, None), Some(Arrival::Last(RESOURCE)));
        assert_eq!(arrival(second * 132, Some(9)), None);
    }

    #[test]
    fn a_resource_has_one_relation() {
        let now = Instant::now();
        let mut relations = Relations::default();
        relations.establish(now, Token::from_number(1), (RESOURCE, Vec::new()), 1);
        relations.establish(now, Token::from_number(2), (RESOURCE, Vec::new()), 2);
        assert_eq!(relations.token_of(&RESOURCE), Some(Token::from_number(2)));
        assert_eq!(relations.arrival(now, Token::from_number(1), Some(3)), None);
    }
}
