//! The kernel's packet filter, by the `nft` program: a table of Weir's own that holds nothing else.

mod dispatch;
mod matches;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Deserialize;
use weir_dots_proto::body::Scope;
use weir_process::{ProcessError, ProcessLimits, run};

use super::meter::Meter;
use super::settings::NftablesSettings;
use super::worker::{Backend, Change};
use super::{MitigationId, MitigatorReport};
use table::Table;

/// How often counters are read.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How long a new run waits for the mitigations that it restores, and, once some have come, for more of them: its table is to
/// take the place of the last run's with all of them in it.
const AWAIT: Duration = Duration::from_secs(1);
const GATHER: Duration = Duration::from_millis(100);
/// Waits after a failure: this, doubled with each, up to [`MAX_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Octets of a list of counters: some 150 for each.
const MAX_OUTPUT: usize = 16 << 20;

/// Keeps the table as the mitigations want it: in one transaction for each change, so that there is no moment without filters.
/// What cannot be changed is built anew, as a whole; so is a table that somebody has removed.
pub(crate) struct Nftables {
    settings: NftablesSettings,
    table: Table,
    entries: BTreeMap<MitigationId, Entry>,
    /// In the kernel still.
    gone: Vec<MitigationId>,
    /// The kernel's table is not known: it is built anew.
    is_unknown: bool,
    /// When the table is to be changed.
    change_at: Option<Instant>,
    read_at: Instant,
    failures: u32,
    reports: VecDeque<MitigatorReport>,
}

struct Entry {
    scope: Scope,
    state: State,
    /// Octets and packets of earlier tables of this run.
    carried: (u64, u64),
    /// Those of the table that is there.
    counted: (u64, u64),
    meter: Meter,
    told: Option<MitigatorReport>,
}

/// Where the kernel is with a mitigation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Absent,
    Outdated,
    Current,
}

impl Nftables {
    pub(crate) fn new(settings: NftablesSettings) -> Self {
        let now = Instant::now();
        Self {
            table: Table::new(&settings),
            settings,
            entries: BTreeMap::new(),
            gone: Vec::new(),
            is_unknown: true,
            change_at: Some(now + AWAIT),
            read_at: now,
            failures: 0,
            reports: VecDeque::new(),
        }
    }

    fn apply(&mut self, now: Instant, id: MitigationId, scope: Scope) {
        let quiet_after = self.settings.quiet_after;
        let entry = self.entries.entry(id).or_insert_with(|| Entry {
            scope: Scope::default(),
            state: State::Absent,
            carried: (0, 0),
            counted: (0, 0),
            meter: Meter::new(now, id, quiet_after),
            told: None,
        });
        if entry.scope == scope {
            return;
        }
        entry.scope = scope;
        if entry.state == State::Current {
            entry.state = State::Outdated;
        }
    }

    fn withdraw(&mut self, id: MitigationId) {
        let removed = self.entries.remove(&id);
        if removed.is_some_and(|entry| entry.state != State::Absent) {
            self.gone.push(id);
        }
    }

    /// Brings the table to what is wanted.
    fn change(&mut self, now: Instant) {
        if self.is_unknown {
            for entry in self.entries.values_mut() {
                entry.forget_table();
            }
        }
        let wanted = self
            .entries
            .iter()
            .map(|(id, entry)| (*id, &entry.scope, entry.state));
        let transaction = if self.is_unknown {
            self.table.anew(wanted)
        } else {
            self.table.changed(wanted, &self.gone)
        };
        match self.nft(&["-f", "-"], &transaction) {
            Ok(_) => self.handle_changed(now),
            Err(error) => self.handle_failure(now, &error),
        }
    }

    fn handle_changed(&mut self, now: Instant) {
        if self.is_unknown || self.failures > 0 {
            tracing::info!(
                mitigator = self.settings.name,
                table = self.settings.table,
                mitigations = self.entries.len(),
                "the table stands"
            );
        }
        self.is_unknown = false;
        self.failures = 0;
        self.change_at = None;
        self.gone.clear();
        for (id, entry) in &mut self.entries {
            let is_new = entry.state == State::Absent;
            entry.state = State::Current;
            if !matches::is_filterable(&entry.scope) {
                entry.tell(MitigatorReport::unable(*id), &mut self.reports);
            } else if is_new {
                entry.tell(entry.meter.report(now), &mut self.reports);
            }
        }
        self.read_at = self.read_at.max(now + READ_EVERY);
    }

    /// The table may have been changed by somebody else: the second try builds it anew, at once.
    fn handle_failure(&mut self, now: Instant, error: &ProcessError) {
        self.failures = self.failures.saturating_add(1);
        let is_first = self.failures == 1 && !self.is_unknown;
        self.is_unknown = true;
        let wait = if is_first {
            Duration::ZERO
        } else {
            let doubled = FIRST_WAIT.saturating_mul(1 << (self.failures - 1).min(10));
            doubled.min(MAX_WAIT)
        };
        self.change_at = Some(now + wait);
        tracing::error!(
            mitigator = self.settings.name,
            %error,
            failures = self.failures,
            seconds = wait.as_secs(),
            "the table cannot be changed: tried again"
        );
        if is_first {
            return;
        }
        for (id, entry) in &mut self.entries {
            if entry.state == State::Absent {
                entry.tell(MitigatorReport::unable(*id), &mut self.reports);
            }
        }
    }

    /// Reads the counters.
    fn read(&mut self, now: Instant) {
        self.read_at = now + READ_EVERY;
        let table = self.settings.table.clone();
        let counters = self
            .nft(&["list", "counters", "table", "inet", &table], b"")
            .map_err(|error| error.to_string())
            .and_then(|output| {
                serde_json::from_slice::<Listing>(&output).map_err(|error| error.to_string())
            });
        let counters: BTreeMap<String, (u64, u64)> = match counters {
            Ok(listing) => listing.counters().collect(),
            Err(error) => {
                self.rebuild(now, &error);
                return;
            }
        };
        let mut is_missing = false;
        for (id, entry) in &mut self.entries {
            let Some(counted) = counters.get(&table::name(*id)) else {
                is_missing |= entry.state != State::Absent;
                continue;
            };
            entry.counted = *counted;
            let bytes = entry.carried.0.saturating_add(counted.0);
            let packets = entry.carried.1.saturating_add(counted.1);
            entry.meter.handle_totals(now, bytes, packets);
            if matches::is_filterable(&entry.scope) {
                entry.tell(entry.meter.report(now), &mut self.reports);
            }
        }
        if is_missing {
            self.rebuild(now, "counters are missing");
        }
    }

    fn rebuild(&mut self, now: Instant, error: &str) {
        tracing::error!(
            mitigator = self.settings.name,
            table = self.settings.table,
            error,
            "the table is not as it was left: it is built anew"
        );
        self.is_unknown = true;
        self.change_at = Some(now);
    }

    fn nft(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, ProcessError> {
        let limits = ProcessLimits {
            time: self.settings.time_limit,
            output: MAX_OUTPUT,
        };
        let namespace = self.settings.namespace.as_deref();
        let command: Vec<String> = namespace
            .map(|namespace| ["ip", "netns", "exec", namespace])
            .into_iter()
            .flatten()
            .chain(["nft", "-j"])
            .chain(arguments.iter().copied())
            .map(str::to_owned)
            .collect();
        run(&command, input, limits)
    }
}

impl Entry {
    fn forget_table(&mut self) {
        self.state = State::Absent;
        self.carried.0 = self.carried.0.saturating_add(self.counted.0);
        self.carried.1 = self.carried.1.saturating_add(self.counted.1);
        self.counted = (0, 0);
    }

    fn tell(&mut self, report: MitigatorReport, reports: &mut VecDeque<MitigatorReport>) {
        if self.told != Some(report) {
            self.told = Some(report);
            reports.push_back(report);
        }
    }
}

impl Backend for Nftables {
    fn handle_changes(&mut self, now: Instant, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Apply(id, scope) => self.apply(now, id, *scope),
                Change::Withdraw(id) => self.withdraw(id),
            }
        }
        let is_settled = self.gone.is_empty()
            && self
                .entries
                .values()
                .all(|entry| entry.state == State::Current);
        if !is_settled {
            // What is new is not to wait until a failure that is long past has been waited for.
            let most = if self.failures > 0 {
                FIRST_WAIT
            } else {
                GATHER
            };
            let next = self.change_at.map(|at| at.min(now + most));
            self.change_at = Some(next.unwrap_or(now));
        }
    }

    fn work(&mut self, now: Instant) {
        if self.change_at.is_some_and(|at| at <= now) {
            self.change(now);
        } else if self.read_at <= now && !self.is_unknown && !self.entries.is_empty() {
            self.read(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let is_reading = !self.is_unknown && !self.entries.is_empty();
        let read_at = is_reading.then_some(self.read_at);
        self.change_at.into_iter().chain(read_at).min()
    }

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        self.reports.pop_front()
    }

    fn handle_shutdown(&mut self, now: Instant) {
        if self.settings.keep_on_exit {
            if self.change_at.is_some() {
                self.change(now);
            }
        } else if let Err(error) = self.nft(&["-f", "-"], &self.table.removed()) {
            tracing::error!(
                mitigator = self.settings.name,
                table = self.settings.table,
                %error,
                "the table is not removed"
            );
        }
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

impl Listing {
    /// Octets and packets by name.
    fn counters(self) -> impl Iterator<Item = (String, (u64, u64))> {
        let counters = self.nftables.into_iter().filter_map(|item| item.counter);
        counters.map(|counter| (counter.name, (counter.bytes, counter.packets)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    #[test]
    fn a_listing_of_nft() {
        // Of nft 1.0.6.
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5",
            "json_schema_version": 1}}, {"counter": {"family": "inet", "name": "m1", "table": "weir_dots", "handle": 3,
            "packets": 7, "bytes": 700}}]}"#;
        let listing: Listing = serde_json::from_str(text).unwrap();
        let counters: Vec<_> = listing.counters().collect();
        assert_eq!(counters, [("m1".to_owned(), (700, 7))]);
    }
}
