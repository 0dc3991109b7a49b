//! Labelled traffic: a seeded simulation of a network, the router that exports its flows, and a lab mitigator that
//! really filters it.
//!
//! [`Network`] simulates hosts of a protected zone with their clients, and attacks on them, in steps of at most 100 ms. A
//! step works on aggregates of packets, so that a million packets per second cost little. What passes the
//! [`TrafficFilter`] reaches the router, which samples packets and exports IPFIX as a real one does. So a mitigation
//! changes the exports, and nothing else tells anyone of the attack.
//!
//! It owns no clock and no socket: time is an argument, datagrams are polled.
//!
//! ```
//! use std::time::Duration;
//! use weir_datasets::{Network, Scenario, Unfiltered};
//! use weir_flow_record::Timestamp;
//!
//! # fn main() -> Result<(), weir_datasets::ScenarioError> {
//! let start = Timestamp::from_seconds(1_700_000_000);
//! let mut network = Network::new(Scenario::lab(7, start))?;
//! network.handle_step(start.plus(Duration::from_secs(2)), &mut Unfiltered);
//! while let Some((at, datagram)) = network.poll_datagram() {
//!     assert!(at > start && datagram.len() <= 1400);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Known weaknesses of this simulation: attacked hosts do not slow down or answer the attack, links have no capacity, and
//! load does not vary over the day.
//!
//! [`generator`] is another simulation, for tests of detection: no filter acts on it, so that flows can be worked out as a
//! whole, and weeks of many exporters with days and nights take minutes. [`score`](mod@score) says how well events tell
//! what labels say.

mod assault;
mod crowd;
pub mod generator;
mod import;
mod join;
mod label;
mod mitigator;
mod network;
mod pcap;
mod router;
mod scenario;
pub mod score;
mod scrubber;
mod traffic;

pub use import::{ImportError, ImportReport, LabelledFlow, Layout, Truth, family, import};
pub use join::{AttackLabel, Joined, LabelJoin, LabelsError, read_attack_labels};
pub use label::{Label, write_labels};
pub use mitigator::{LabMitigator, LabReport, LabScope};
pub use network::{Network, Totals};
pub use pcap::PcapWriter;
pub use scenario::{Attack, AttackVector, Scenario, ScenarioError, Sources};
pub use traffic::{FlowKey, Traffic, TrafficFilter, Unfiltered};
