//! What clients have told: aliases, filters in their order, and vendor mappings, each client's own.
//!
//! The store owns no clock and no file. `now` is an argument; [`DataStore::poll_change`] tells which clients' rows are to
//! be written, and [`DataStore::restore`] takes them back. Entries expire ([`DataStore::handle_time`]) unless they are
//! refreshed. Every table has a bound; what is refused is counted.

mod client;
mod conflict;
mod limits;
mod saved;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;
use weir_dots_proto::Cuid;
use weir_dots_proto::body::{ActivationType, Target};

use crate::model::{Acl, BodyFault, Capabilities, Matched, VendorMapping};
use crate::{Peer, UnixTime};

pub use client::{Client, Stored};
pub use limits::{ConflictRule, Limits, Refused};
pub use saved::{Change, SavedClient};
pub use write::{Refresh, Written};

/// All clients of a server.
#[derive(Debug)]
pub struct DataStore {
    limits: Limits,
    capabilities: Capabilities,
    clients: BTreeMap<Cuid, Client>,
    revision: u64,
    refused: Refused,
    changed: BTreeSet<Cuid>,
    /// Not later than the next end of an entry or a client.
    due: Option<UnixTime>,
}

/// Why the store does not do what it was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The content is wrong, or not for this client to ask for.
    #[error(transparent)]
    Body(#[from] BodyFault),
    /// The client is registered already, by this peer or by another one.
    #[error("the client {0} exists")]
    ClientExists(Cuid),
    /// The client is not registered, or is another peer's.
    #[error("the client {0} is not registered")]
    NotRegistered(Cuid),
    /// A gateway relays a client of which it has told no `cdid`.
    #[error("no cdid is known of the client {0}")]
    NoCdid(Cuid),
    /// A bound is reached.
    #[error("more than {most} {of}")]
    Quota {
        /// Of what.
        of: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// Another client of the domain has a filter that does the opposite.
    #[error("the filter {acl} contradicts {other} of another client of the domain")]
    Conflict {
        /// The filter that was asked for.
        acl: String,
        /// The one that is there.
        other: String,
    },
}

/// A filter that cannot be switched (RFC 9133 §3.2.1): answered with 4.04 on the signal channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("there is no filter of this name")]
pub struct NoSuchAcl;

impl DataStore {
    /// A store without clients, for a server that enforces what `capabilities` say.
    #[must_use]
    pub fn new(limits: Limits, capabilities: Capabilities) -> Self {
        Self {
            limits,
            capabilities,
            clients: BTreeMap::new(),
            revision: 0,
            refused: Refused::default(),
            changed: BTreeSet::new(),
            due: None,
        }
    }

    /// What filters may contain.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// A number that grows with each change of configuration.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What is enforced depends on more than what clients have told: the prefixes of their domains have changed.
    pub(crate) fn handle_new_prefixes(&mut self) {
        self.revision += 1;
    }

    /// What was refused since the start.
    #[must_use]
    pub fn refused(&self) -> Refused {
        self.refused
    }

    /// All clients.
    pub fn clients(&self) -> impl Iterator<Item = (&Cuid, &Client)> {
        self.clients.iter()
    }

    /// The clients that a peer has registered.
    pub fn clients_of<'a>(
        &'a self,
        owner: &'a str,
    ) -> impl Iterator<Item = (&'a Cuid, &'a Client)> {
        self.clients
            .iter()
            .filter(move |(_, client)| client.is_of(owner))
    }

    /// Name of the peer that has registered a client.
    #[must_use]
    pub fn owner(&self, cuid: &Cuid) -> Option<&str> {
        Some(&self.clients.get(cuid)?.owner)
    }

    /// A client, if this peer has registered it: nobody reads another's.
    #[must_use]
    pub fn client(&self, owner: &str, cuid: &Cuid) -> Option<&Client> {
        self.clients.get(cuid).filter(|client| client.is_of(owner))
    }

    /// What an alias of a client stands for, for a mitigation request that names it (RFC 9132 §4.4.1.1).
    #[must_use]
    pub fn alias(&self, owner: &str, cuid: &Cuid, name: &str) -> Option<&Target> {
        let aliases = &self.client(owner, cuid)?.aliases;
        let found = aliases.iter().find(|stored| stored.value.name == name)?;
        Some(&found.value.target)
    }

    /// Whether a client has a filter of this name (RFC 9133 §3.2.1).
    #[must_use]
    pub fn acl_exists(&self, owner: &str, cuid: &Cuid, name: &str) -> bool {
        self.client(owner, cuid)
            .is_some_and(|client| client.acl(name).is_some())
    }

    /// Switches a filter for good, and refreshes its lifetime (RFC 9133 §3.2.1).
    pub fn set_activation(
        &mut self,
        owner: &str,
        cuid: &Cuid,
        name: &str,
        activation: ActivationType,
        now: UnixTime,
    ) -> Result<(), NoSuchAcl> {
        let expires = now.plus_minutes(self.limits.lifetime_minutes());
        let client = self
            .clients
            .get_mut(cuid)
            .filter(|client| client.is_of(owner));
        let acl = client.and_then(|client| {
            let mut acls = client.acls.iter_mut();
            acls.find(|stored| stored.value.name == name)
        });
        let acl = acl.ok_or(NoSuchAcl)?;
        acl.value.activation = activation;
        acl.expires = expires;
        self.touch(cuid);
        Ok(())
    }

    /// The filters of a client that apply now: the immediate ones, and while a mitigation of this client is active those
    /// that wait for one (RFC 8783 §7.2). In the order in which they are tried.
    pub fn active_acls<'a>(
        &'a self,
        cuid: &Cuid,
        mitigating: bool,
    ) -> impl Iterator<Item = &'a Acl> + use<'a> {
        let acls = self.clients.get(cuid).map(|client| client.acls.iter());
        acls.into_iter()
            .flatten()
            .map(|stored| &stored.value)
            .filter(move |acl| match acl.activation {
                ActivationType::Immediate => true,
                ActivationType::ActivateWhenMitigating => mitigating,
                ActivationType::Deactivate => false,
            })
    }

    /// The vendor mapping that a client has shared, by which its attack details are read.
    #[must_use]
    pub fn mapping(&self, owner: &str, cuid: &Cuid) -> Option<&VendorMapping> {
        Some(&self.client(owner, cuid)?.mapping)
    }

    /// Takes in what an entry of a filter has matched so far. Counts of what is no longer there are dropped.
    pub fn handle_matched(&mut self, cuid: &Cuid, acl: &str, ace: &str, matched: Matched) {
        let Some(client) = self.clients.get_mut(cuid) else {
            return;
        };
        let known = client.acl(acl).is_some_and(|stored| {
            let mut aces = stored.value.aces.iter();
            aces.any(|known| known.name == ace)
        });
        if known {
            let key = (acl.to_owned(), ace.to_owned());
            client.matched.insert(key, matched);
        }
    }

    /// Removes what has expired, and clients that hold nothing and were not heard of for long.
    pub fn handle_time(&mut self, now: UnixTime) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let idle = self.limits.inactivity_minutes;
        let mut expired = Vec::new();
        for (cuid, client) in &mut self.clients {
            let gone = client.is_empty() && client.seen.plus_minutes(idle) <= now;
            if client.expire(now) || gone {
                expired.push((cuid.clone(), gone));
            }
        }
        for (cuid, gone) in expired {
            if gone {
                self.clients.remove(&cuid);
            }
            self.touch(&cuid);
        }
        let idle = self.limits.inactivity_minutes;
        self.due = self
            .clients
            .values()
            .filter_map(|client| client.due(idle))
            .min();
    }

    /// When [`handle_time`](Self::handle_time) is due next; there may be nothing to do then.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixTime> {
        self.due
    }

    fn own(&mut self, peer: &Peer, cuid: &Cuid) -> Result<&mut Client, StoreError> {
        let refused = || StoreError::NotRegistered(cuid.clone());
        let client = self.clients.get_mut(cuid).ok_or_else(refused)?;
        if !client.is_of(&peer.name) {
            return Err(refused());
        }
        if peer.gateway && client.cdid.is_none() {
            return Err(StoreError::NoCdid(cuid.clone()));
        }
        Ok(client)
    }

    /// Marks a client's row as changed.
    fn touch(&mut self, cuid: &Cuid) {
        self.revision += 1;
        if let Some(client) = self.clients.get_mut(cuid) {
            client.revision = self.revision;
            let due = client.due(self.limits.inactivity_minutes);
            self.due = self.due.into_iter().chain(due).min();
        }
        self.changed.insert(cuid.clone());
    }
}

/// The name of an owner, shared.
type Owner = Arc<str>;
