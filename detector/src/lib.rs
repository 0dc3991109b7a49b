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
//! *One attack, one name.* Hosts are judged first, then automatic prefixes, configured ones, zones, links: what a narrower attack
//! explains is not told again, and neither is a host inside a wider one that it is a small part of. Automatic prefixes are made of
//! the aggregator's cells (a /24 or /56 around hosts): those whose traffic has risen far above what was usual there, and that lie
//! near each other, are one target, which waits half a second for more before it is told, and widens by updates.
//!
//! *Limits* are stated (they act from the first second), or follow from the baseline of the hour, by a factor and a floor, once the
//! zone's stage lets them.
//!
//! *Models.* The active model names and rates attacks ([`ModelVerdict`]), and raises those that no limit shows: with the least severity,
//! and bounded by the hour. Whatever limits say without it they say with it: an attack of a model's alone explains nothing away,
//! teaches baselines nothing, and goes on under its name when a limit fires.
//!
//! *Waves.* An attack is held through quiet for `clear_for`, for twice its longest gap, and for longer each time when its target is
//! attacked again within `repeat_within`; once `repeat_budget` is spent, for `longest_hold`.
//!
//! It neither sums records nor speaks to anybody; it owns no socket, thread or clock.

mod attack;
mod automatic;
mod builtin;
mod config;
mod detector;
mod links;
mod maintenance;
mod model;
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
pub use links::{Link, LinkConfig, LinkLevel};
pub use maintenance::{Maintenance, MaintenanceConfig};
pub use model::{ModelCounters, ModelVerdict, ModelsConfig};
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
