//! What detector, DOTS client, event files and scoring share: [`AttackEvent`], the attack catalogue, and
//! [`MitigationReport`], the upstream's word on an attack.
//!
//! The JSON form of an event is fixed (design, "Formats that checks rely on") and described by the JSON Schema
//! `detector/attack-event/attack-event.schema.json`. This crate judges nothing.

mod catalogue;
mod event;
mod evidence;
mod findings;
mod mitigation;
mod naming;

pub use catalogue::{Severity, VectorShare, description};
pub use event::{
    AttackEvent, AttackId, BaselineRef, Coverage, EventKind, Gauge, Reason, Target, Traffic,
};
pub use evidence::{
    CountryShare, Evidence, FlagsShare, HostRate, PacketSizes, PrefixRate, SizeShare, SystemShare,
    TtlShare, flag_names,
};
pub use findings::{DrillDown, Findings, Origin, PortShare, PortSide, ProtocolShare, TopTalker};
pub use mitigation::{MitigationReport, MitigationStatus};
pub use naming::{AttackName, ModelWord};
