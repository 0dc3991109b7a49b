//! A service that is shared: by the connections of the data channel, and by the signal channel's server, which looks up
//! aliases and switches filters.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use weir_dots_proto::Cuid;
use weir_dots_proto::body::{ActivationType, Target};

use crate::UnixTime;
use crate::keep::Keep;
use crate::model::{Acl, Matched, VendorMapping};
use crate::service::{Request, Response, Service};
use crate::store::{Change, NoSuchAcl, Refused, SavedClient, StoreError};

/// Changes that could not be kept and wait for another attempt; beyond, the oldest is dropped: its row stays as it was.
const MAX_UNKEPT: usize = 10_000;

/// A service, shared. Calls are short; each locks.
#[derive(Clone)]
pub struct DataHandle {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    service: Service,
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
        let shared = Shared {
            service,
            keep,
            unkept: Vec::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Takes rows back that an earlier run has kept. A row that cannot be read is given back with the reason.
    pub fn restore(
        &self,
        rows: impl IntoIterator<Item = SavedClient>,
    ) -> Vec<(SavedClient, StoreError)> {
        let mut shared = self.lock();
        let store = shared.service.store_mut();
        let mut failed = Vec::new();
        for row in rows {
            if let Err(error) = store.restore(row.clone()) {
                failed.push((row, error));
            }
        }
        failed
    }

    /// Answers a request of a peer whose certificate has these names.
    #[must_use]
    pub fn handle_request(&self, request: &Request<'_>, names: &[String]) -> Response {
        let mut shared = self.lock();
        let response = shared.service.handle_request(request, names, now());
        let is_done = response.status < 300;
        if shared.keep() || !is_done || request.method.is_safe() {
            return response;
        }
        Response::not_kept()
    }

    /// Expires entries, and keeps what could not be kept before; when to call again.
    pub fn handle_time(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(60);
        let mut shared = self.lock();
        let now = now();
        shared.service.store_mut().handle_time(now);
        shared.keep();
        let due = shared.service.store().poll_timeout();
        due.map_or(LONGEST, |due| {
            now.until(due).clamp(Duration::from_secs(1), LONGEST)
        })
    }

    /// What an alias of a client stands for. `owner` is the peer's name, as its certificate tells it on the signal channel.
    #[must_use]
    pub fn alias(&self, owner: &str, cuid: &Cuid, name: &str) -> Option<Target> {
        self.lock()
            .service
            .store()
            .alias(owner, cuid, name)
            .cloned()
    }

    /// Whether a client has a filter of this name.
    #[must_use]
    pub fn acl_exists(&self, owner: &str, cuid: &Cuid, name: &str) -> bool {
        self.lock().service.store().acl_exists(owner, cuid, name)
    }

    /// Switches a filter for good and refreshes its lifetime (RFC 9133 §3.2.1).
    pub fn set_activation(
        &self,
        owner: &str,
        cuid: &Cuid,
        name: &str,
        activation: ActivationType,
    ) -> Result<(), NoSuchAcl> {
        let mut shared = self.lock();
        let store = shared.service.store_mut();
        store.set_activation(owner, cuid, name, activation, now())?;
        shared.keep();
        Ok(())
    }

    /// The filters of a client that apply now, in the order in which they are tried.
    #[must_use]
    pub fn active_acls(&self, cuid: &Cuid, mitigating: bool) -> Vec<Acl> {
        let shared = self.lock();
        let acls = shared.service.store().active_acls(cuid, mitigating);
        acls.cloned().collect()
    }

    /// Takes in what an entry of a filter has matched so far.
    pub fn handle_matched(&self, cuid: &Cuid, acl: &str, ace: &str, matched: Matched) {
        let mut shared = self.lock();
        shared
            .service
            .store_mut()
            .handle_matched(cuid, acl, ace, matched);
    }

    /// The vendor mapping that a client has shared.
    #[must_use]
    pub fn mapping(&self, owner: &str, cuid: &Cuid) -> Option<VendorMapping> {
        self.lock().service.store().mapping(owner, cuid).cloned()
    }

    /// A number that grows with each change: filters are to be looked at again when it has grown.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.lock().service.store().revision()
    }

    /// Clients that are registered.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.lock().service.store().clients().count()
    }

    /// What was refused since the start.
    #[must_use]
    pub fn refused(&self) -> Refused {
        self.lock().service.store().refused()
    }

    /// Works on the service itself: another authority, another mapping.
    pub fn with<T>(&self, work: impl FnOnce(&mut Service) -> T) -> T {
        work(&mut self.lock().service)
    }

    pub(crate) fn max_body(&self) -> usize {
        self.lock().service.max_body()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic of another holder leaves the store as its last complete change did.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Keeps the rows that have changed; whether all are kept.
    fn keep(&mut self) -> bool {
        while let Some(change) = self.service.store_mut().poll_change() {
            self.unkept.retain(|old| old.cuid != change.cuid);
            self.unkept.push(change);
        }
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
