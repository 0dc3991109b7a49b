use std::collections::BTreeMap;

use super::Owner;
use crate::UnixTime;
use crate::model::{Acl, Acls, Alias, Aliases, Matched, Registration, VendorMapping};
use weir_dots_proto::Cuid;

/// What a client has told.
#[derive(Clone, Debug)]
pub struct Client {
    /// Name of the peer that registered it.
    pub owner: Owner,
    /// Its domain, as a gateway tells it.
    pub cdid: Option<String>,
    /// Its domain for conflicts: the `cdid`, else the peer's domain.
    pub domain: Owner,
    /// Its aliases, by name.
    pub aliases: Vec<Stored<Alias>>,
    /// Its filters in the order in which they are tried.
    pub acls: Vec<Stored<Acl>>,
    /// Its vendor mapping.
    pub mapping: VendorMapping,
    /// What entries of filters have matched, by filter and entry.
    pub(super) matched: BTreeMap<(String, String), Matched>,
    /// Octets of its configuration as JSON.
    pub(super) octets: usize,
    /// When it last changed something.
    pub(super) seen: UnixTime,
    /// The store's revision at its last change.
    pub revision: u64,
}

/// An entry with its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored<T> {
    /// The entry.
    pub value: T,
    /// When it is removed.
    pub expires: UnixTime,
}

impl Client {
    pub(super) fn new(owner: Owner, domain: Owner, cdid: Option<String>, now: UnixTime) -> Self {
        Self {
            owner,
            cdid,
            domain,
            aliases: Vec::new(),
            acls: Vec::new(),
            mapping: VendorMapping::default(),
            matched: BTreeMap::new(),
            octets: 0,
            seen: now,
            revision: 0,
        }
    }

    /// Whether a peer of this name registered it.
    #[must_use]
    pub fn is_of(&self, owner: &str) -> bool {
        *self.owner == *owner
    }

    /// A filter by its name.
    #[must_use]
    pub fn acl(&self, name: &str) -> Option<&Stored<Acl>> {
        self.acls.iter().find(|stored| stored.value.name == name)
    }

    /// What an entry of a filter has matched, where that is known.
    #[must_use]
    pub fn matched(&self, acl: &str, ace: &str) -> Option<Matched> {
        let key = (acl.to_owned(), ace.to_owned());
        self.matched.get(&key).copied()
    }

    /// Octets of its configuration as JSON, when it was last written.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Its configuration as it would be registered.
    #[must_use]
    pub fn registration(&self, cuid: &Cuid) -> Registration {
        Registration {
            cuid: cuid.clone(),
            cdid: self.cdid.clone(),
            aliases: Aliases(values(&self.aliases)),
            acls: Acls(values(&self.acls)),
            mapping: self.mapping.clone(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.aliases.is_empty() && self.acls.is_empty()
    }

    /// When something of it ends: an entry, or itself where it holds nothing.
    pub(super) fn due(&self, inactivity_minutes: u32) -> Option<UnixTime> {
        let aliases = self.aliases.iter().map(|stored| stored.expires);
        let acls = self.acls.iter().map(|stored| stored.expires);
        let gone = self
            .is_empty()
            .then(|| self.seen.plus_minutes(inactivity_minutes));
        aliases.chain(acls).chain(gone).min()
    }

    /// Removes what has expired; whether there was something.
    pub(super) fn expire(&mut self, now: UnixTime) -> bool {
        let before = self.aliases.len() + self.acls.len();
        self.aliases.retain(|stored| stored.expires > now);
        self.acls.retain(|stored| stored.expires > now);
        self.forget_matched();
        before != self.aliases.len() + self.acls.len()
    }

    /// Drops counts of entries that are no longer there.
    pub(super) fn forget_matched(&mut self) {
        let acls = &self.acls;
        self.matched.retain(|(acl, ace), _| {
            acls.iter().any(|stored| {
                stored.value.name == *acl
                    && stored.value.aces.iter().any(|known| known.name == *ace)
            })
        });
    }
}

pub(super) fn values<T: Clone>(stored: &[Stored<T>]) -> Vec<T> {
    stored.iter().map(|stored| stored.value.clone()).collect()
}
