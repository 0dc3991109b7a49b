//! Flow records of attacked targets, a bundle of files for each attack: what an operator shows, a replay runs on, and a label
//! that comes days later is joined with.
//!
//! ```text
//! batches, recent window ─ EvidenceSelector ─▶ rows of attacks ─ EvidenceStore ─▶ DIR/ATTACK/flows-000001.parquet …
//! attack events ───────────────┴───────────────────────────────────┘              events.ndjson, bundle.json
//! ```

mod config;
mod folder;
mod select;
mod store;

pub use config::{EvidenceConfig, EvidenceConfigError, EvidenceSettings};
pub use folder::{Bundle, BundleInfo, bundle, bundles};
pub(crate) use select::Watched;
pub use select::{EvidenceSelector, Selected};
pub use store::{EvidenceCounters, EvidenceStore};
