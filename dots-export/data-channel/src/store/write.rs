//! What clients change.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_dots_proto::Cuid;

use super::client::{Client, Stored, values};
use super::{ConflictRule, DataStore, StoreError};
use crate::model::{Acl, Acls, Alias, Aliases, Registration, VendorMapping};
use crate::{Peer, UnixTime};

/// Which entries a request has named, whose lifetime therefore begins anew (RFC 8783 §7.2: a PUT that echoes refreshes).
/// New and changed entries always begin anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refresh {
    /// All of the section.
    All,
    /// Those of these names.
    Named(BTreeSet<String>),
}

/// Whether a PUT has created or replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// It was not there.
    Created,
    /// It was there.
    Replaced,
}

impl DataStore {
    /// Registers a client (RFC 8783 §5.1), with what comes with the registration.
    pub fn register(
        &mut self,
        peer: &Peer,
        registration: Registration,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let done = self.try_register(peer, registration, now);
        self.counted(done)
    }

    /// Registers a client, or replaces all that it has told.
    pub fn replace(
        &mut self,
        peer: &Peer,
        registration: Registration,
        now: UnixTime,
    ) -> Result<Written, StoreError> {
        let cuid = registration.cuid.clone();
        if !self
            .clients
            .get(&cuid)
            .is_some_and(|client| client.is_of(&peer.name))
        {
            self.register(peer, registration, now)?;
            return Ok(Written::Created);
        }
        let done = self.content(peer, registration, now).map(|client| {
            self.clients.insert(cuid.clone(), client);
            self.touch(&cuid);
            Written::Replaced
        });
        self.counted(done)
    }

    /// Removes a client with all that it has told; whether it was there (RFC 8783 §5.2).
    pub fn deregister(&mut self, peer: &Peer, cuid: &Cuid) -> bool {
        let known = self.client(&peer.name, cuid).is_some();
        if known {
            self.clients.remove(cuid);
            self.touch(cuid);
        }
        known
    }

    /// Replaces a client's aliases.
    pub fn set_aliases(
        &mut self,
        peer: &Peer,
        cuid: &Cuid,
        aliases: Aliases,
        refresh: &Refresh,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let done = self.try_set(peer, cuid, now, |store, client| {
            client.aliases = store.kept_aliases(peer, &client.aliases, aliases.0, refresh, now)?;
            Ok(())
        });
        self.counted(done)
    }

    /// Replaces a client's filters.
    pub fn set_acls(
        &mut self,
        peer: &Peer,
        cuid: &Cuid,
        acls: Acls,
        refresh: &Refresh,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let done = self.try_set(peer, cuid, now, |store, client| {
            client.acls = store.kept_acls(peer, cuid, client, acls.0, refresh, now)?;
            client.forget_matched();
            Ok(())
        });
        self.counted(done)
    }

    /// Replaces a client's vendor mapping.
    pub fn set_mapping(
        &mut self,
        peer: &Peer,
        cuid: &Cuid,
        mapping: VendorMapping,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let done = self.try_set(peer, cuid, now, |store, client| {
            at_most(
                mapping.attacks() + mapping.vendors.len(),
                store.limits.max_attacks,
                "attacks",
            )?;
            client.mapping = mapping;
            Ok(())
        });
        self.counted(done)
    }

    fn try_register(
        &mut self,
        peer: &Peer,
        registration: Registration,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let cuid = registration.cuid.clone();
        if self.clients.contains_key(&cuid) {
            return Err(StoreError::ClientExists(cuid));
        }
        at_most(self.clients.len() + 1, self.limits.max_clients, "clients")?;
        if !peer.gateway {
            let own = self.clients_of(&peer.name).count() + 1;
            at_most(own, self.limits.max_clients_per_peer, "clients of one peer")?;
        }
        let client = self.content(peer, registration, now)?;
        self.clients.insert(cuid.clone(), client);
        self.touch(&cuid);
        Ok(())
    }

    /// A client with what came with its registration, if all of it may be.
    fn content(
        &self,
        peer: &Peer,
        registration: Registration,
        now: UnixTime,
    ) -> Result<Client, StoreError> {
        let Registration {
            cuid,
            cdid,
            aliases,
            acls,
            mapping,
        } = registration;
        // A cdid is a gateway's to tell (RFC 9132 §4.4.1.1); one of anybody else says nothing.
        // It need not be repeated (RFC 8783 §5.1).
        let known = || self.client(&peer.name, &cuid)?.cdid.clone();
        let cdid = cdid.filter(|_| peer.gateway).or_else(known);
        if peer.gateway && cdid.is_none() {
            return Err(StoreError::NoCdid(cuid));
        }
        let domain = cdid
            .as_deref()
            .map_or_else(|| peer.domain.clone(), Arc::from);
        let mut client = Client::new(peer.name.clone(), domain, cdid, now);
        client.aliases = self.kept_aliases(peer, &[], aliases.0, &Refresh::All, now)?;
        client.acls = self.kept_acls(peer, &cuid, &client, acls.0, &Refresh::All, now)?;
        at_most(
            mapping.attacks() + mapping.vendors.len(),
            self.limits.max_attacks,
            "attacks",
        )?;
        client.mapping = mapping;
        self.count_octets(&cuid, &mut client)?;
        Ok(client)
    }

    /// Changes a copy of the client, which replaces it if all went well.
    fn try_set(
        &mut self,
        peer: &Peer,
        cuid: &Cuid,
        now: UnixTime,
        change: impl FnOnce(&Self, &mut Client) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut client = self.own(peer, cuid)?.clone();
        change(self, &mut client)?;
        self.count_octets(cuid, &mut client)?;
        client.seen = now;
        self.clients.insert(cuid.clone(), client);
        self.touch(cuid);
        Ok(())
    }

    fn count_octets(&self, cuid: &Cuid, client: &mut Client) -> Result<(), StoreError> {
        client.octets = client.registration(cuid).json().to_string().len();
        at_most(
            client.octets,
            self.limits.max_octets,
            "octets of configuration",
        )
    }

    fn kept_aliases(
        &self,
        peer: &Peer,
        before: &[Stored<Alias>],
        aliases: Vec<Alias>,
        refresh: &Refresh,
        now: UnixTime,
    ) -> Result<Vec<Stored<Alias>>, StoreError> {
        at_most(aliases.len(), self.limits.max_aliases, "aliases")?;
        let changed = changed(values(before), &aliases);
        for alias in changed.iter().filter_map(|index| aliases.get(*index)) {
            peer.check_alias(alias)?;
        }
        Ok(self.with_lifetimes(before, aliases, &changed, refresh, |alias| &alias.name, now))
    }

    fn kept_acls(
        &self,
        peer: &Peer,
        cuid: &Cuid,
        client: &Client,
        acls: Vec<Acl>,
        refresh: &Refresh,
        now: UnixTime,
    ) -> Result<Vec<Stored<Acl>>, StoreError> {
        at_most(acls.len(), self.limits.max_acls, "filters")?;
        let aces = acls.iter().map(|acl| acl.aces.len()).sum();
        at_most(aces, self.limits.max_aces, "entries of filters")?;
        let changed = changed(values(&client.acls), &acls);
        let new: Vec<&Acl> = changed
            .iter()
            .filter_map(|index| acls.get(*index))
            .collect();
        for acl in &new {
            self.capabilities.check(acl)?;
            peer.check_acl(acl, self.limits.any_destination)?;
        }
        if self.limits.conflicts == ConflictRule::RefuseNew {
            self.check_conflicts(cuid, &client.domain, &new)?;
        }
        Ok(self.with_lifetimes(&client.acls, acls, &changed, refresh, |acl| &acl.name, now))
    }

    fn with_lifetimes<T>(
        &self,
        before: &[Stored<T>],
        entries: Vec<T>,
        changed: &BTreeSet<usize>,
        refresh: &Refresh,
        name: impl Fn(&T) -> &String,
        now: UnixTime,
    ) -> Vec<Stored<T>> {
        let anew = now.plus_minutes(self.limits.lifetime_minutes());
        let entries = entries.into_iter().enumerate().map(|(index, value)| {
            let named = match refresh {
                Refresh::All => true,
                Refresh::Named(names) => names.contains(name(&value)),
            };
            let old = before.iter().find(|old| name(&old.value) == name(&value));
            let expires = match old {
                Some(old) if !named && !changed.contains(&index) => old.expires,
                _ => anew,
            };
            Stored { value, expires }
        });
        entries.collect()
    }

    fn counted<T>(&mut self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        match &done {
            Ok(_) => {}
            Err(StoreError::Body(_)) => self.refused.bodies += 1,
            Err(
                StoreError::ClientExists(_) | StoreError::NotRegistered(_) | StoreError::NoCdid(_),
            ) => self.refused.clients += 1,
            Err(StoreError::Quota { .. }) => self.refused.quotas += 1,
            Err(StoreError::Conflict { .. }) => self.refused.conflicts += 1,
        }
        done
    }
}

/// Places of entries that were not there before as they are now.
fn changed<T: PartialEq>(before: Vec<T>, entries: &[T]) -> BTreeSet<usize> {
    let is_new = |entry: &&T| !before.contains(entry);
    let entries = entries.iter().enumerate();
    entries
        .filter(|(_, entry)| is_new(entry))
        .map(|(index, _)| index)
        .collect()
}

fn at_most(number: usize, most: usize, of: &'static str) -> Result<(), StoreError> {
    if number > most {
        return Err(StoreError::Quota { of, most });
    }
    Ok(())
}
