//! The work of one daemon spread over machines, with Kafka between them.
//!
//! ```text
//! collectors: shards → Publisher ──── summaries ───→ one Partition for each owned one: pump → judge thread → upstream tasks
//!                 ↑ └──────────────── findings ────→   │  ↑ restored from                        │
//!                 └─────────────────── control ←───────┘  └── state ←──── StateMirror ←───────────┘ each commit
//! ```
//!
//! A partition is what one detector owns of the zones: a judge with state of its own, and upstream clients with a cuid of
//! their own. To take one over is what a restart on another machine would be.

mod bus;
mod collect;
mod control;
mod detectors;
mod feed;
mod inquiry;
mod mirror;
mod orders;
mod owned;
mod partition;
mod restore;
mod topics;
mod view;

pub(super) use collect::publish;
pub(crate) use detectors::Detectors;
pub(crate) use owned::Arrival;
pub(super) use owned::Owned;
pub(crate) use view::{ClusterView, PartitionFigures, PublishView};

/// What waits in queues between threads of a cluster's member.
const QUEUE: usize = 1024;
