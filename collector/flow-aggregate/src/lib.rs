//! Sums flow records per target and second of event time, in bounded memory: the hot path.
//!
//! ```text
//! FlowBatch ─ handle_batch ─▶ zone test ─▶ host: difference ring of totals
//!                                 │         └ watched host: rings per vector, with variance
//!                                 ├▶ prefix: rings per vector          (configured lengths)
//!                                 └▶ zone: rings per vector
//! handle_timeout (tick) ─▶ poll_summary: what changed, as absolute sums ─▶ Merger: the sums of all shards
//! ```
//!
//! Zones, prefixes, hosts that are interesting now and those that the detector wants are told with the tick after they change; of
//! other watched hosts, and of /24s that are known to be attacked, it is enough to know once a second.
//!
//! A record is spread evenly over the time in which it passed; four writes whatever its duration. What is older than the
//! history counts as late, what finds no room as refused, so that Σ buckets + late + refused = Σ scaled octets, exactly.
//! Zones are summed directly, a second update for each record: their few rings stay in the cache, and so the vector of an
//! attack on many hosts, each below its own limit, is known.
//!
//! It judges nothing, and owns no socket, thread or clock: `now` is an argument.

mod addition;
mod aggregator;
mod bound;
mod budget;
mod cells;
pub mod cluster;
mod config;
mod hosts;
mod index;
mod links;
mod memory;
mod merger;
mod minute;
mod minutes;
mod parts;
mod prefixes;
mod recent;
mod ring;
mod slabs;
mod spread;
mod summary;
mod watched;
mod zones;

pub use aggregator::Aggregator;
pub use config::{AggregateSettings, AggregationConfig};
pub use merger::Merger;
pub use minute::{MinuteProfile, MinuteRow, MinuteSums, TrafficPart, ZoneMinute};
pub use summary::{
    AggregateCounters, Automatic, Bucket, ExporterCoverage, Interesting, LinkInterfaces,
    PrefixLength, PrefixShape, Series, TargetScope, WatchList, WindowSummary, ZonePrefixes,
};
