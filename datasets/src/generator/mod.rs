//! Scenarios of days and weeks, generated record by record.
//!
//! A [`ScenarioFile`] names networks, exporters, normal traffic, attacks and what looks like attacks. A [`Generator`]
//! makes of it the datagrams that the exporters would send, in order of time, and the labels that say what really happened.
//!
//! It is a simulation of flows, driven by events: what an exporter's cache makes of a flow is worked out when the flow
//! begins, so that the cost goes with the records that are exported and not with packets or time. Memory goes with the
//! flows that are open. What chance decides depends on the seed alone: the same scenario gives the same octets.
//!
//! What is simulated:
//!
//! - *Normal traffic:* conversations in both directions by eighteen services (web, QUIC, DNS with large answers, time, mail,
//!   tunnels, telephony, games, scanners' noise) of Pareto sizes, with hosts of Zipf popularity; each host has a day, a
//!   weekend and noise of its own on scales from a minute to a day. Conversations of which no packet is sampled are not
//!   drawn at all: classes of sizes are drawn by the rate at which they are seen.
//! - *Attacks:* the whole catalogue and further faces of it, with ramps, pulses, wavering, carpets over a prefix, several
//!   vectors, later fragments, few or many or forged senders, inwards and outwards; and benign extremes.
//! - *Exporters:* IPFIX, NetFlow v9 and v5, sFlow; sampling, several samplers in one domain, rates stated by options, in
//!   records or not at all; active and inactive timeouts and a cache that can be full; loss in bursts, restarts, clocks that
//!   are wrong, uptimes that wrap.
//!
//! Known weaknesses: links have no capacity and hosts do not answer attacks, so an attack displaces no normal traffic; a flow
//! is seen by one exporter only; packets of a flow come as a Poisson process, without bursts shorter than a second;
//! datagrams are neither reordered nor repeated; sFlow's counter samples are left out; octets of a record are drawn from a
//! mean and a spread, not from a distribution of packet sizes.
//!
//! ```
//! use weir_datasets::generator::{Generator, ScenarioFile};
//!
//! # fn main() -> Result<(), weir_datasets::generator::ScenarioFault> {
//! let file = ScenarioFile::parse(
//!     r#"
//!     duration = "5m"
//!     [[attack]]
//!     kind = "ntp-amplification"
//!     at = "2m"
//!     lasts = "1m"
//!     target = "host"
//!     over = 1.5
//!     "#,
//! )?;
//! let mut generator = Generator::new(file)?;
//! let datagrams = std::iter::from_fn(|| generator.poll_datagram()).count();
//! assert!(datagrams > 100);
//! assert!(generator.labels().iter().any(|label| label.attack == "ntp-amplification"));
//! # Ok(())
//! # }
//! ```

mod configuration;
mod draw;
mod exporter;
mod flow;
mod hosts;
mod kinds;
mod library;
mod normal;
mod random;
mod scenario;
mod shape;
mod surge;
mod wire;
mod world;

pub use configuration::configuration;
pub use exporter::Datagram;
pub use kinds::kinds;
pub use library::{BuiltIn, built_in};
pub use scenario::{
    ExporterTable, Limits, NormalTable, Protocol, RandomTable, ScenarioFault, ScenarioFile,
    Statement, Style, SurgeTable, ZoneTable,
};
pub use world::{Generator, Made};
