//! Filters of clients of one domain that contradict each other (RFC 8783 §3.1, §7.2).

use weir_dots_proto::Cuid;

use super::{Client, DataStore, StoreError};
use crate::model::{Acl, Matches};

impl DataStore {
    /// Refuses a filter of which an entry matches exactly what an entry of another client's matches, and forwards where
    /// that drops, or the other way round. Entries without matches say nothing about a common flow.
    pub(super) fn check_conflicts(&self, cuid: &Cuid, domain: &str, acl: &Acl) -> Result<(), StoreError> {
        let others = self.clients.iter().filter(|(other, _)| *other != cuid);
        for (_, client) in others.filter(|(_, client)| *client.domain == *domain) {
            if let Some(other) = contradicting(client, acl) {
                return Err(StoreError::Conflict {
                    acl: acl.name.clone(),
                    other: other.name.clone(),
                });
            }
        }
        Ok(())
    }
}

fn contradicting<'a>(client: &'a Client, acl: &Acl) -> Option<&'a Acl> {
    let contradict = |other: &Acl| {
        acl.aces.iter().any(|ace| {
            other.aces.iter().any(|known| {
                ace.matches != Matches::default()
                    && known.matches == ace.matches
                    && known.actions.forwarding != ace.actions.forwarding
            })
        })
    };
    let mut acls = client.acls.iter().map(|stored| &stored.value);
    acls.find(|other| contradict(other))
}
