//! Judges window after window by thresholds, and says when an attack starts, changes and ends.
//!
//! ```text
//! WindowSummary ─ handle_window ─▶ seconds of each target ─▶ thresholds ─▶ attack ─▶ poll_output
//! MitigationReport, Findings ─────────────────────────────────────────────┘
//! ```
//!
//! Thresholds fire on the lower bound of a rate (95 %), as soon as enough consecutive seconds have crossed: sums only grow,
//! so no second has to close for a start. An end rests on settled seconds, on the upstream's word while it filters, or on
//! time. All of it is in the time of the data: `now` is an argument, and a replay gives the same events twice.
//!
//! It neither sums records nor speaks to anybody; it owns no socket, thread or clock.

mod attack;
mod automatic;
mod builtin;
mod config;
mod detector;
mod links;
mod maintenance;
mod overrides;
mod relative;
mod repeat;
mod saved;
mod track;
mod words;

use weir_attack_event::{AttackEvent, DrillDown};
use weir_flow_aggregate::WatchList;

pub use config::{
    DetectorConfig, DetectorSettings, Fault, Scope, Stage, Threshold, ThresholdConfig, Zone,
    ZoneConfig, check,
};
pub use detector::Detector;
pub use links::{Link, LinkConfig};
pub use maintenance::{Maintenance, MaintenanceConfig};
pub use overrides::{Mute, Overridden, Override, OverrideError};
pub use saved::{Saved, SavedAttack, SavedEnd, SavedMute, SavedRepeat};

/// What a detector wants.
#[derive(Clone, Debug)]
pub enum DetectorOutput {
    /// To be kept over a restart before the event that follows is acted on.
    Persist(Box<Saved>),
    /// To be told.
    Event(Box<AttackEvent>),
    /// For the aggregators.
    Watch(WatchList),
    /// A question to the recent window.
    DrillDown(DrillDown),
}
