use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::{EnrichmentConfig, Fault};
use crate::snapshot::Snapshot;

/// Holds the current [`Snapshot`], for all threads.
#[derive(Default)]
pub struct Enricher {
    current: RwLock<Arc<Snapshot>>,
    generation: AtomicU64,
}

/// What a reload changed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    /// When the database of autonomous systems was built (s since 1970), if there is one.
    pub asn_built: Option<u64>,
    /// When the database of countries was built (s since 1970), if there is one.
    pub country_built: Option<u64>,
    /// Distinct records of autonomous systems now.
    pub systems: usize,
    /// Networks now.
    pub networks: usize,
    /// Networks that are new.
    pub networks_added: usize,
    /// Networks that are gone.
    pub networks_removed: usize,
    /// Networks of which another thing is said.
    pub networks_changed: usize,
}

impl Enricher {
    /// Reads all files; see [`Snapshot::load`].
    pub fn load(config: &EnrichmentConfig) -> Result<Self, Vec<Fault>> {
        let snapshot = Snapshot::load(config)?;
        Ok(Self {
            current: RwLock::new(Arc::new(snapshot)),
            generation: AtomicU64::new(0),
        })
    }

    /// Reads all files anew. Where any has a mistake, all stays as it was, and all mistakes are told.
    pub fn reload(&self, config: &EnrichmentConfig) -> Result<Changes, Vec<Fault>> {
        let new = Arc::new(Snapshot::load(config)?);
        let old = {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            let old = std::mem::replace(&mut *current, Arc::clone(&new));
            self.generation.fetch_add(1, Ordering::Release);
            old
        };
        Ok(Changes::between(&old, &new))
    }

    /// What holds now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts the reloads: whether a snapshot is still the current one, without its lock.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl Changes {
    fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let (before, after) = (old.networks.sorted(), new.networks.sorted());
        let changed = |(prefix, network)| before.get(prefix).is_some_and(|old| old != network);
        Self {
            asn_built: new.systems.as_ref().map(|systems| systems.built()),
            country_built: new.countries.as_ref().map(|countries| countries.built()),
            systems: new.systems.as_ref().map_or(0, |systems| systems.len()),
            networks: after.len(),
            networks_added: after.keys().filter(|key| !before.contains_key(key)).count(),
            networks_removed: before.keys().filter(|key| !after.contains_key(key)).count(),
            networks_changed: after.iter().filter(|entry| changed(*entry)).count(),
        }
    }
}
