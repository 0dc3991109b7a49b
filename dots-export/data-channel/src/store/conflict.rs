//! Filters of clients of one domain that contradict each other (RFC 8783 §3.1, §7.2).

use std::collections::HashMap;

use weir_dots_proto::Cuid;

use super::{DataStore, StoreError};
use crate::model::{Acl, Forwarding, Matches};

impl DataStore {
    /// Refuses filters of which an entry matches exactly what an entry of another client's matches, and forwards where
    /// that drops, or the other way round. Entries without matches say nothing about a common flow.
    pub(super) fn check_conflicts(
        &self,
        cuid: &Cuid,
        domain: &str,
        acls: &[&Acl],
    ) -> Result<(), StoreError> {
        let mut asked: HashMap<(&Matches, Forwarding), &str> = HashMap::new();
        for acl in acls {
            let told = acl
                .aces
                .iter()
                .filter(|ace| ace.matches != Matches::default());
            asked.extend(
                told.map(|ace| ((&ace.matches, ace.actions.forwarding), acl.name.as_str())),
            );
        }
        let others = self.clients.iter().filter(|(other, client)| {
            *other != cuid && *client.domain == *domain && !asked.is_empty()
        });
        for acl in others
            .flat_map(|(_, client)| &client.acls)
            .map(|stored| &stored.value)
        {
            for ace in &acl.aces {
                let opposite = match ace.actions.forwarding {
                    Forwarding::Accept => Forwarding::Drop,
                    Forwarding::Drop => Forwarding::Accept,
                };
                if let Some(name) = asked.get(&(&ace.matches, opposite)) {
                    return Err(StoreError::Conflict {
                        acl: (*name).to_owned(),
                        other: acl.name.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}
