//! What can be looked at of a cluster's member.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_flow_aggregate::cluster::CollectorCounters;
use weir_flow_record::Timestamp;

/// Figures of the partitions that a detector owns, and of what it took over.
#[derive(Debug, Default)]
pub(crate) struct ClusterView {
    partitions: Mutex<BTreeMap<u32, Arc<PartitionView>>>,
    /// Whether this process is a detector.
    pub(crate) is_detector: AtomicBool,
    /// Partitions that were taken up.
    pub(crate) takeovers: AtomicU64,
    /// Partitions that were given up.
    pub(crate) releases: AtomicU64,
    /// Partitions that were lost since another one took them over first.
    pub(crate) fenced: AtomicU64,
    /// What a collector publishes.
    pub(crate) published: PublishView,
}

/// Figures of what a collector publishes.
#[derive(Debug, Default)]
pub(crate) struct PublishView {
    /// Whether this process publishes.
    pub(crate) is_on: AtomicBool,
    /// Messages that brokers have taken.
    pub(crate) delivered: AtomicU64,
    /// Their octets.
    pub(crate) octets: AtomicU64,
    /// Messages that no broker took in time, or for which there was no room: their content is told again.
    pub(crate) told_again: AtomicU64,
    /// Slices of minutes that found no room.
    pub(crate) refused_minutes: AtomicU64,
    /// Orders of detectors that could not be read.
    pub(crate) bad_orders: AtomicU64,
}

/// Figures of a partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionView {
    /// Nanoseconds since the epoch; 0 = nothing came yet.
    newest: AtomicI64,
    /// Whether it judges what nobody has judged before.
    judges: AtomicBool,
    counters: Mutex<CollectorCounters>,
    /// Messages that are no summaries, or of no form that is known here.
    pub(super) bad: AtomicU64,
    /// Series of zones that are not configured here.
    pub(super) unknown: AtomicU64,
    /// Messages of a time that is yet to come.
    pub(super) early: AtomicU64,
    /// Summaries of collectors whose findings nobody waits for, since there are too many.
    pub(super) unawaited: AtomicU64,
}

/// A partition's figures at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionFigures {
    pub(crate) partition: u32,
    /// Age of the newest tick.
    pub(crate) lag: Option<Duration>,
    pub(crate) judges: bool,
    pub(crate) counters: CollectorCounters,
    pub(crate) bad: u64,
    pub(crate) unknown: u64,
    pub(crate) early: u64,
    pub(crate) unawaited: u64,
}

impl ClusterView {
    pub(super) fn insert(&self, partition: u32, view: Arc<PartitionView>) {
        self.lock().insert(partition, view);
    }

    pub(super) fn remove(&self, partition: u32) {
        self.lock().remove(&partition);
    }

    /// The owned partitions, in their order.
    pub(crate) fn partitions(&self, now: Timestamp) -> Vec<PartitionFigures> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.lock()
            .iter()
            .map(|(partition, view)| PartitionFigures {
                partition: *partition,
                lag: match view.newest.load(Ordering::Relaxed) {
                    0 => None,
                    newest => Some(now.since(Timestamp::from_nanos(newest))),
                },
                judges: view.judges.load(Ordering::Relaxed),
                counters: *view.counters.lock().unwrap_or_else(PoisonError::into_inner),
                bad: read(&view.bad),
                unknown: read(&view.unknown),
                early: read(&view.early),
                unawaited: read(&view.unawaited),
            })
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Arc<PartitionView>>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartitionView {
    pub(super) fn set_newest(&self, newest: Timestamp, is_past: bool) {
        self.newest.store(newest.nanos(), Ordering::Relaxed);
        if !is_past && !self.judges.swap(true, Ordering::Relaxed) {
            let now = Timestamp::from_nanos(weir_collector::wall_clock());
            tracing::info!(behind = ?now.since(newest), "judges a partition");
        }
    }

    pub(super) fn set_counters(&self, counters: CollectorCounters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}
