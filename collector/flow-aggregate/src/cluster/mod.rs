//! Summaries between machines: what a collector says is cut by partition, travels as octets, and is added up with what the
//! other collectors say.
//!
//! ```text
//! Merger (a collector's shards) ─▶ Partitions::cut ─▶ Coalescer, one a partition ─▶ Part::encode ─▶ Kafka
//! Kafka ─▶ Part::decode ─▶ CollectorMerger, one a partition ─▶ detector
//! ```
//!
//! What a part says is absolute, as in a [`Series`](crate::Series): a part that comes twice changes nothing.

mod coalescer;
mod collectors;
mod octets;
mod partitions;
mod wire;

pub use coalescer::Coalescer;
pub use collectors::{Admission, CollectorCounters, CollectorMerger, MAX_COLLECTORS};
pub use partitions::{Partitions, partition_of};
pub use wire::{Decoded, Part, WireError};
