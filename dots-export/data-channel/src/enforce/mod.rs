//! Enforces filters in the kernel of this machine, by the `nft` program: a table of its own that holds nothing else.
//!
//! Filters that apply now stand in the table, each client's behind its prefixes, in the order in which they are tried. What
//! they match goes back to the [`DataHandle`] for the client to read. The chain comes before the reassembly of fragments,
//! since filters are about packets as they arrive (RFC 8783 Appendix A), and so before any mitigation; a packet that a filter
//! accepts gets a bit of its mark, by which a mitigation in a table of its own lets it pass.

mod rules;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use tokio::sync::watch;
use weir_dots_proto::Cuid;
use weir_process::{ProcessError, ProcessLimits, run};

use crate::handle::{DataHandle, InForce};
use crate::model::Matched;
use table::Counted;

/// Octets of output that `nft` may write: some 150 for each counter.
const MAX_OUTPUT: usize = 16 << 20;

/// Why `nft` is of no use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NftError {
    /// It does not run, takes too long, or refuses.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its list is not what was expected.
    #[error("the list of counters: {0}")]
    Listing(String),
}

/// How filters are enforced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnforceSettings {
    /// A network namespace by its name in `/run/netns`; the process's own by default.
    pub namespace: Option<String>,
    /// The table, of family `inet`. What else is in it goes.
    pub table: String,
    /// The bit of a packet's mark that says that a filter has accepted it.
    pub accepted_mark: u32,
    /// How long `nft` may run.
    pub time_limit: Duration,
    /// How often counters are read and changes looked for.
    pub interval: Duration,
}

impl Default for EnforceSettings {
    fn default() -> Self {
        Self {
            namespace: None,
            table: "weir_filters".to_owned(),
            accepted_mark: 0x4000_0000,
            time_limit: Duration::from_secs(5),
            interval: Duration::from_secs(1),
        }
    }
}

/// Keeps the kernel's table as the filters want it.
#[derive(Debug)]
pub struct Enforcer {
    settings: EnforceSettings,
    /// What stands in the table; none where that is not known.
    standing: Option<Standing>,
    /// What entries had matched in earlier tables of this run.
    carried: BTreeMap<Counted, Matched>,
    /// What they have matched in all, when that was last read.
    latest: BTreeMap<Counted, Matched>,
}

/// A table as it was put.
#[derive(Debug)]
struct Standing {
    /// By which revision of the store and which mitigations it was last found to be right.
    of: (u64, BTreeSet<Cuid>),
    in_force: Vec<InForce>,
    counters: BTreeMap<String, Counted>,
}

/// Enforces until `shutdown` is true, then removes the table. `mitigating` are the clients of whom a mitigation is active.
pub async fn enforce(
    handle: DataHandle,
    settings: EnforceSettings,
    mut mitigating: watch::Receiver<BTreeSet<Cuid>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut enforcer = Enforcer::new(settings.clone());
    let mut failed = false;
    while !*shutdown.borrow() {
        let (handle, wanted) = (handle.clone(), mitigating.borrow_and_update().clone());
        let work = tokio::task::spawn_blocking(move || {
            let done = enforcer.work(&handle, &wanted);
            (enforcer, done)
        });
        // Only a panic loses it: the next one finds the table unknown and builds it anew.
        let (back, done) = match work.await {
            Ok((back, done)) => (back, done),
            Err(_) => (Enforcer::new(settings.clone()), Ok(())),
        };
        enforcer = back;
        match &done {
            Err(error) if !failed => tracing::error!(%error, "filters are not enforced"),
            Ok(()) if failed => tracing::info!("filters are enforced again"),
            _ => {}
        }
        failed = done.is_err();
        tokio::select! {
            () = tokio::time::sleep(settings.interval) => {}
            // Its sender may be gone: then no client is mitigated any more, and the interval goes on.
            Ok(()) = mitigating.changed() => {}
            _ = shutdown.wait_for(|stop| *stop) => break,
        }
    }
    let removed = tokio::task::spawn_blocking(move || enforcer.remove()).await;
    if let Ok(Err(error)) = removed {
        tracing::error!(%error, "the table of filters is not removed");
    }
}

impl Enforcer {
    /// An enforcer that knows nothing of the kernel's table yet.
    #[must_use]
    pub fn new(settings: EnforceSettings) -> Self {
        Self {
            settings,
            standing: None,
            carried: BTreeMap::new(),
            latest: BTreeMap::new(),
        }
    }

    /// Reads the counters, and brings the table to what applies now. Blocks while `nft` runs.
    pub fn work(
        &mut self,
        handle: &DataHandle,
        mitigating: &BTreeSet<Cuid>,
    ) -> Result<(), NftError> {
        let read = self.read(handle);
        if read.is_err() {
            // Somebody else has changed or removed it.
            self.standing = None;
        }
        let of = (handle.revision(), mitigating.clone());
        if self
            .standing
            .as_ref()
            .is_some_and(|standing| standing.of == of)
        {
            return Ok(());
        }
        let in_force = handle.in_force(mitigating);
        if let Some(standing) = &mut self.standing
            && standing.in_force == in_force
        {
            standing.of = of;
            return Ok(());
        }
        let table = table::anew(&self.settings, &in_force);
        self.nft(&["-f", "-"], &table.transaction)?;
        let clients = in_force.len();
        tracing::info!(table = self.settings.table, clients, "filters stand");
        // The new table counts from 0; of entries that are gone nothing is kept.
        self.latest
            .retain(|counted, _| table.counters.values().any(|known| known == counted));
        self.carried.clone_from(&self.latest);
        self.standing = Some(Standing {
            of,
            in_force,
            counters: table.counters,
        });
        Ok(())
    }

    /// Removes the table.
    pub fn remove(&mut self) -> Result<(), NftError> {
        self.standing = None;
        let removed = table::removed(&self.settings.table);
        self.nft(&["-f", "-"], &removed).map(drop)
    }

    /// Tells what entries have matched; before the table is put anew, for its counters begin at 0.
    fn read(&mut self, handle: &DataHandle) -> Result<(), NftError> {
        let Some(standing) = self
            .standing
            .as_ref()
            .filter(|table| !table.counters.is_empty())
        else {
            return Ok(());
        };
        let table = self.settings.table.clone();
        let output = self.nft(&["list", "counters", "table", "inet", &table], b"")?;
        let listing: Listing = serde_json::from_slice(&output)
            .map_err(|error| NftError::Listing(error.to_string()))?;
        let mut told = BTreeMap::new();
        for counter in listing.nftables.into_iter().filter_map(|item| item.counter) {
            if let Some(counted) = standing.counters.get(&counter.name) {
                let before = self.carried.get(counted).copied().unwrap_or_default();
                let matched = Matched {
                    packets: before.packets.saturating_add(counter.packets),
                    octets: before.octets.saturating_add(counter.bytes),
                };
                told.insert(counted.clone(), matched);
            }
        }
        if told.len() < standing.counters.len() {
            return Err(NftError::Listing("counters are missing".to_owned()));
        }
        for (counted, matched) in &told {
            handle.handle_matched(&counted.cuid, &counted.acl, &counted.ace, *matched);
        }
        self.latest = told;
        Ok(())
    }

    fn nft(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, NftError> {
        let namespace = self.settings.namespace.as_deref();
        let command: Vec<String> = namespace
            .map(|namespace| ["ip", "netns", "exec", namespace])
            .into_iter()
            .flatten()
            .chain(["nft", "-j"])
            .chain(arguments.iter().copied())
            .map(str::to_owned)
            .collect();
        let limits = ProcessLimits {
            time: self.settings.time_limit,
            output: MAX_OUTPUT,
        };
        Ok(run(&command, input, limits)?)
    }
}

/// What `nft -j list` prints.
#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    counter: Option<Counter>,
}

#[derive(Deserialize)]
struct Counter {
    name: String,
    packets: u64,
    bytes: u64,
}
