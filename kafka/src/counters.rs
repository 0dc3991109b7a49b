//! What was published, what a broker took, and what was dropped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What messages are about. Each kind has a topic of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Flow records.
    Flows,
    /// Attack events.
    Events,
    /// What upstreams report of mitigations.
    Mitigations,
    /// What operators say that attacks really were.
    Labels,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Flows, Self::Events, Self::Mitigations, Self::Labels];

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// Why something is in no topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// The queue before the brokers was full.
    QueueFull,
    /// It waited for longer than `delivery_timeout`, or was still waiting at the end.
    TimedOut,
    /// A broker, or the client itself, refused it.
    Refused,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::TimedOut, Self::Refused];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::TimedOut => "timed-out",
            Self::Refused => "refused",
        }
    }
}

/// Totals of one topic. A record is counted as published once; then it waits, or is acknowledged, or dropped.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TopicCounters {
    /// Records (or events, reports, labels) that should be published.
    pub records: u64,
    /// Those that a broker has acknowledged.
    pub acknowledged: u64,
    /// Messages that a broker has acknowledged: a block of records is one.
    pub acknowledged_messages: u64,
    /// Octets of those, before compression.
    pub acknowledged_octets: u64,
    dropped: [u64; 3],
}

impl TopicCounters {
    /// Records that are in no topic, by reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Records that are in no topic.
    pub fn all_dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }
}

/// A topic's totals while they are counted.
#[derive(Default, Debug)]
pub(crate) struct TopicTotals {
    pub(crate) records: AtomicU64,
    acknowledged: AtomicU64,
    messages: AtomicU64,
    octets: AtomicU64,
    dropped: [AtomicU64; 3],
}

impl TopicTotals {
    pub(crate) fn acknowledge(&self, records: u64, octets: u64) {
        self.acknowledged.fetch_add(records, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.octets.fetch_add(octets, Ordering::Relaxed);
    }

    pub(crate) fn drop(&self, reason: DropReason, records: u64) {
        self.dropped[reason as usize].fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> TopicCounters {
        let of = |total: &AtomicU64| total.load(Ordering::Relaxed);
        TopicCounters {
            records: of(&self.records),
            acknowledged: of(&self.acknowledged),
            acknowledged_messages: of(&self.messages),
            acknowledged_octets: of(&self.octets),
            dropped: self.dropped.each_ref().map(of),
        }
    }
}

/// How a producer stands, by librdkafka's newest statistics.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ProducerState {
    /// Messages that wait for a broker.
    pub queued_messages: u64,
    /// Octets of those.
    pub queued_octets: u64,
    /// Brokers that are connected.
    pub brokers_up: u64,
    /// Brokers that are known, but for the addresses of the configuration.
    pub brokers_known: u64,
    /// How often the producer had to begin anew, after an error that ends one.
    pub restarts: u64,
    /// What librdkafka last said is wrong; brokers may be well again since.
    pub trouble: String,
}

/// What a producer, its callbacks and whoever looks at it share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// For the log: "flows" or "notes".
    pub(crate) name: &'static str,
    pub(crate) topics: [TopicTotals; Kind::ALL.len()],
    pub(crate) state: Mutex<ProducerState>,
    pub(crate) telling: Mutex<crate::telling::Telling>,
    /// After which nothing can be sent any more.
    pub(crate) is_broken: AtomicBool,
}

impl Shared {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            topics: Default::default(),
            state: Mutex::default(),
            telling: Mutex::default(),
            is_broken: AtomicBool::new(false),
        }
    }

    pub(crate) fn topic(&self, kind: Kind) -> &TopicTotals {
        &self.topics[kind.index()]
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.topics.iter().map(|t| t.read().all_dropped()).sum()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
