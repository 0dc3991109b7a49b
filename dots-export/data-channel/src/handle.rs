//! A service that is shared: by the connections of the data channel, and by the signal channel's server, which looks up
//! aliases and switches filters.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use tokio::sync::Notify;
use weir_dots_proto::Cuid;
use weir_dots_proto::body::{ActivationType, Target};

use crate::keep::Keep;
use crate::model::{Acl, Matched, VendorMapping, accepting};
use crate::service::{Request, Response, Service};
use crate::store::{Change, NoSuchAcl, Refused, SavedClient, StoreError};
use crate::{Prefixes, UnixTime};

/// Changes that could not be kept and wait for another attempt; beyond, the oldest is dropped: its row stays as it was.
const MAX_UNKEPT: usize = 10_000;

/// A service, shared. Lookups are short and never wait for a disk.
#[derive(Clone)]
pub struct DataHandle {
    shared: Arc<Shared>,
}

/// A client's filters that apply now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InForce {
    /// Whose.
    pub cuid: Cuid,
    /// The prefixes of its domain: they are for packets to these alone.
    pub prefixes: Prefixes,
    /// In the order in which they are tried.
    pub acls: Vec<Acl>,
}

struct Shared {
    service: Mutex<Service>,
    /// Locked before the service where both are: rows are written in the order in which they have changed.
    keeper: Mutex<Keeper>,
    /// Something waits to be kept.
    changed: Notify,
}

/// Where rows are kept, and those that are not yet.
struct Keeper {
    keep: Option<Box<dyn Keep>>,
    unkept: Vec<Change>,
}

impl std::fmt::Debug for DataHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataHandle").finish_non_exhaustive()
    }
}

impl DataHandle {
    /// Shares a service. Without `keep` a restart forgets everything.
    #[must_use]
    pub fn new(service: Service, keep: Option<Box<dyn Keep>>) -> Self {
        let unkept = Vec::new();
        let shared = Shared {
            service: Mutex::new(service),
            keeper: Mutex::new(Keeper { keep, unkept }),
            changed: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes rows back that an earlier run has kept. A row that cannot be read is given back with the reason.
    pub fn restore(
        &self,
        rows: impl IntoIterator<Item = SavedClient>,
    ) -> Vec<(SavedClient, StoreError)> {
        let mut service = self.lock();
        let store = service.store_mut();
        let mut failed = Vec::new();
        for row in rows {
            if let Err(error) = store.restore(row.clone()) {
                failed.push((row, error));
            }
        }
        failed
    }

    /// Answers a request of a peer whose certificate has these names. A change is kept before this returns.
    #[must_use]
    pub fn handle_request(&self, request: &Request<'_>, names: &[String]) -> Response {
        let response = self.lock().handle_request(request, names, now());
        if request.method.is_safe() || response.status >= 300 || self.keep() {
            return response;
        }
        Response::not_kept()
    }

    /// Expires entries, and keeps what has changed or could not be kept before; when to call again.
    pub fn handle_time(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(60);
        let now = now();
        let due = {
            let mut service = self.lock();
            service.store_mut().handle_time(now);
            service.store().poll_timeout()
        };
        self.keep();
        due.map_or(LONGEST, |due| {
            now.until(due).clamp(Duration::from_secs(1), LONGEST)
        })
    }

    /// Waits until something was changed that [`handle_time`](Self::handle_time) is to keep.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// What an alias of a client stands for. `owner` is the peer's name, as its certificate tells it on the signal channel.
    #[must_use]
    pub fn alias(&self, owner: &str, cuid: &Cuid, name: &str) -> Option<Target> {
        self.lock().store().alias(owner, cuid, name).cloned()
    }

    /// Whether a client has a filter of this name.
    #[must_use]
    pub fn acl_exists(&self, owner: &str, cuid: &Cuid, name: &str) -> bool {
        self.lock().store().acl_exists(owner, cuid, name)
    }

    /// Switches a filter for good and refreshes its lifetime (RFC 9133 §3.2.1).
    pub fn set_activation(
        &self,
        owner: &str,
        cuid: &Cuid,
        name: &str,
        activation: ActivationType,
    ) -> Result<(), NoSuchAcl> {
        let mut service = self.lock();
        let store = service.store_mut();
        store.set_activation(owner, cuid, name, activation, now())?;
        // An attack is on: the answer does not wait for a disk.
        self.shared.changed.notify_one();
        Ok(())
    }

    /// The filters of a client that apply now, in the order in which they are tried.
    #[must_use]
    pub fn active_acls(&self, cuid: &Cuid, mitigating: bool) -> Vec<Acl> {
        let service = self.lock();
        let acls = service.store().active_acls(cuid, mitigating);
        acls.cloned().collect()
    }

    /// Names of a client's filters that accept, while it is mitigated, what any of `sources` sends to any of `targets`.
    #[must_use]
    pub fn accepting(
        &self,
        owner: &str,
        cuid: &Cuid,
        sources: &[IpNet],
        targets: &[IpNet],
    ) -> Vec<String> {
        let service = self.lock();
        let store = service.store();
        if store.owner(cuid) != Some(owner) {
            return Vec::new();
        }
        let acls: Vec<&Acl> = store.active_acls(cuid, true).collect();
        accepting(acls.iter().copied(), sources, targets)
    }

    /// The filters that apply now, of all clients that have any; `mitigating` are those of whom a mitigation is active.
    #[must_use]
    pub fn in_force(&self, mitigating: &BTreeSet<Cuid>) -> Vec<InForce> {
        let service = self.lock();
        let mut found = Vec::new();
        for (cuid, _) in service.store().clients() {
            let acls = service.store().active_acls(cuid, mitigating.contains(cuid));
            let acls: Vec<Acl> = acls.cloned().collect();
            if let (false, Some(prefixes)) = (acls.is_empty(), service.prefixes(cuid)) {
                found.push(InForce {
                    cuid: cuid.clone(),
                    prefixes,
                    acls,
                });
            }
        }
        found
    }

    /// Name of the peer that has registered a client. The signal channel refuses the cuid to everybody else, as a
    /// collision (RFC 9132 §4.4.1.1).
    #[must_use]
    pub fn owner(&self, cuid: &Cuid) -> Option<String> {
        self.lock().store().owner(cuid).map(str::to_owned)
    }

    /// The prefixes of the domain that a client belongs to: a filter without a destination is for these alone
    /// (RFC 8783 §7.2).
    #[must_use]
    pub fn prefixes(&self, cuid: &Cuid) -> Option<Prefixes> {
        self.lock().prefixes(cuid)
    }

    /// Takes in what an entry of a filter has matched so far.
    pub fn handle_matched(&self, cuid: &Cuid, acl: &str, ace: &str, matched: Matched) {
        let mut service = self.lock();
        service.store_mut().handle_matched(cuid, acl, ace, matched);
    }

    /// The vendor mapping that a client has shared.
    #[must_use]
    pub fn mapping(&self, owner: &str, cuid: &Cuid) -> Option<VendorMapping> {
        self.lock().store().mapping(owner, cuid).cloned()
    }

    /// A number that grows with each change: filters are to be looked at again when it has grown.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.lock().store().revision()
    }

    /// Clients that are registered.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.lock().store().clients().count()
    }

    /// What was refused since the start.
    #[must_use]
    pub fn refused(&self) -> Refused {
        self.lock().store().refused()
    }

    /// Works on the service itself: another authority, another mapping.
    pub fn with<T>(&self, work: impl FnOnce(&mut Service) -> T) -> T {
        work(&mut self.lock())
    }

    pub(crate) fn max_body(&self) -> usize {
        self.lock().max_body()
    }

    fn lock(&self) -> MutexGuard<'_, Service> {
        // A panic of another holder leaves the store as its last complete change did.
        let service = self.shared.service.lock();
        service.unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the rows that have changed; whether all are kept.
    fn keep(&self) -> bool {
        let keeper = self.shared.keeper.lock();
        let mut keeper = keeper.unwrap_or_else(PoisonError::into_inner);
        {
            let mut service = self.lock();
            while let Some(change) = service.store_mut().poll_change() {
                keeper.unkept.retain(|old| old.cuid != change.cuid);
                keeper.unkept.push(change);
            }
        }
        keeper.write()
    }
}

impl Keeper {
    fn write(&mut self) -> bool {
        let Some(keep) = &mut self.keep else {
            self.unkept.clear();
            return true;
        };
        if self.unkept.is_empty() {
            return true;
        }
        match keep.write(&self.unkept) {
            Ok(()) => {
                self.unkept.clear();
                true
            }
            Err(error) => {
                tracing::error!(%error, rows = self.unkept.len(), "data channel: rows are not kept");
                let beyond = self.unkept.len().saturating_sub(MAX_UNKEPT);
                self.unkept.drain(..beyond);
                false
            }
        }
    }
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}
