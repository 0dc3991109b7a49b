//! Learned profiles of normal traffic: for zones, exporters, links, prefixes and busy hosts, in and out, what is normal at
//! each hour of the week.
//!
//! ```text
//! settled seconds ─ handle_second ─┐                        ┌ hour of the week ┐
//! minute profiles ─ handle_minute ─┴▶ quarantine ▶ the hour ┼ hour of the day  ┼▶ normal(target, aspect, at)
//!                                       ↑ forget_since      ├ all hours        ┘
//!                    attack ────────────┘                   └ histograms ▶ overall(target, aspect)
//! ```
//!
//! *Learned in peace only.* Samples wait in quarantine (2 minutes); an attack that is found meanwhile takes back what it touches,
//! so the seconds between its start and its detection are not learned either.
//!
//! *Robust.* An hour moves a level by its share of the memory (6 weeks), and never above what it lately was by more than
//! `max_rise_per_week`: one wild hour does nothing, and who raises his traffic slowly teaches no more than that factor.
//!
//! *Few data.* An hour of the week that was hardly seen is as that hour on other days, and such an hour of the day as all hours.
//!
//! *Percentiles* are over seconds for zones, exporters and links, and over averages of minutes for prefixes and hosts, which are
//! told once a minute; a peak is always a second's. Zones, exporters, links, prefixes and the busiest hosts have a level for each of
//! 168 hours (UTC) and histograms of two digits; other hosts, vectors, protocols and ports one for each of 24 hours.
//!
//! *Connections.* A flow export shows packets, not sockets, so of RFC 9244's figures (§7.3.1) this is told: connections per
//! second are attempts, records of TCP or SCTP that hold a SYN (and are no mere answer to one), each times its sampling rate,
//! since an attempt is one SYN that is sampled like any packet; records without flags count once each, a lower bound. How many
//! connections stand at the same time, or are half open, cannot be told from sampled flows and is not guessed; what a server
//! bears is not seen at all and is told where the operator states it (`[[baseline.capacity]]`).
//!
//! It owns no socket, thread or clock.

mod archive;
mod baselines;
mod cell;
mod config;
mod exchange;
mod histograms;
mod hours;
mod learner;
mod normal;
mod profile;
mod saved;
mod scale;
mod sketch;
mod target;

pub use archive::{ArchiveError, from_archive, to_archive};
pub use baselines::{BaselineCounters, Baselines};
pub use config::{BaselineConfig, BaselineSettings, BaselineZone, CapacityConfig};
pub use exchange::{
    BaselineReport, HourNormal, ImportError, ImportedBaseline, PortNormal, ProtocolNormal,
    VectorNormal,
};
pub use normal::{Level, Normal};
pub use saved::{RestoreError, SavedRow};
pub use target::{Aspect, BaselineTarget, Metric, Subject};
