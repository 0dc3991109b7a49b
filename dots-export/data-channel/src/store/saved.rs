//! What a store keeps over a restart: a row for each client.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_dots_proto::Cuid;

use super::client::{Client, Stored};
use super::{DataStore, StoreError};
use crate::UnixTime;
use crate::model::{Registration, Source};

/// A client's row that is written, where it replaces what was there, or deleted.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// Whose.
    pub cuid: Cuid,
    /// Its content; `None`: there is no such client any more.
    pub row: Option<SavedClient>,
}

/// A client's row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SavedClient {
    /// Name of the peer that registered it.
    pub owner: Arc<str>,
    /// Its domain for conflicts.
    pub domain: Arc<str>,
    /// Its configuration: an entry of the list `dots-client`.
    pub config: Value,
    /// When aliases expire, by name.
    pub aliases: BTreeMap<String, UnixTime>,
    /// When filters expire, by name.
    pub acls: BTreeMap<String, UnixTime>,
    /// When it last changed something.
    pub seen: UnixTime,
}

impl DataStore {
    /// The next client whose row has changed. Poll after each call that changes something, until none is left.
    #[must_use]
    pub fn poll_change(&mut self) -> Option<Change> {
        let cuid = self.changed.pop_first()?;
        let row = self.clients.get(&cuid).map(|client| client.save(&cuid));
        Some(Change { cuid, row })
    }

    /// Takes a client's row back. Its content was checked when it was told: what has become too much or foreign since,
    /// by another configuration, stays until it expires.
    pub fn restore(&mut self, row: SavedClient) -> Result<(), StoreError> {
        let octets = row.config.to_string().len();
        let list = Value::Array(vec![row.config]);
        let told = Registration::read(&list, Source::Answer)?;
        let expires = |times: &BTreeMap<String, UnixTime>, name: &str| {
            times.get(name).copied().unwrap_or(row.seen)
        };
        let mut client = Client::new(row.owner, row.domain, told.cdid, row.seen);
        let aliases = told.aliases.0.into_iter().map(|value| Stored {
            expires: expires(&row.aliases, &value.name),
            value,
        });
        client.aliases = aliases.collect();
        let acls = told.acls.0.into_iter().map(|value| Stored {
            expires: expires(&row.acls, &value.name),
            value,
        });
        client.acls = acls.collect();
        client.mapping = told.mapping;
        client.octets = octets;
        self.revision += 1;
        client.revision = self.revision;
        let due = client.due(self.limits.inactivity_minutes);
        self.due = self.due.into_iter().chain(due).min();
        self.clients.insert(told.cuid, client);
        Ok(())
    }
}

impl Client {
    fn save(&self, cuid: &Cuid) -> SavedClient {
        let aliases = self.aliases.iter();
        let acls = self.acls.iter();
        SavedClient {
            owner: self.owner.clone(),
            domain: self.domain.clone(),
            config: self.registration(cuid).json(),
            aliases: aliases.map(|s| (s.value.name.clone(), s.expires)).collect(),
            acls: acls.map(|s| (s.value.name.clone(), s.expires)).collect(),
            seen: self.seen,
        }
    }
}
