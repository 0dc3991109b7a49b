use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_flow_record::{EventTime, TargetKey};

use crate::{AttackId, Evidence};

/// A question to the recent window: who and what makes up the traffic of a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DrillDown {
    /// The attack that is asked about.
    pub attack: AttackId,
    /// Rows to or from this prefix.
    pub target: TargetKey,
    /// Further prefixes of the target, where it is a whole zone with several.
    pub other_prefixes: Vec<IpNet>,
    /// First point of event time.
    pub from: EventTime,
    /// Last point of event time.
    pub to: EventTime,
    /// How many top talkers are wanted at most.
    pub top: usize,
}

/// Answer to a [`DrillDown`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Findings {
    /// The attack that was asked about.
    pub attack: AttackId,
    /// Prefixes that send most, largest first; hosts where a few hosts dominate.
    pub top_talkers: Vec<TopTalker>,
    /// Service ports of the traffic, largest share first.
    pub ports: Vec<PortShare>,
    /// IP protocols, largest share first.
    pub protocols: Vec<ProtocolShare>,
    /// Distinct source addresses seen (a lower bound: sampling hides some).
    pub source_count: u64,
    /// Rows that the answer rests on.
    pub rows: u64,
    /// Whether the window still held all rows of the time asked for.
    pub complete: bool,
    /// How its packets look, and where they come from and go to.
    #[serde(default)]
    pub evidence: Evidence,
}

/// A source prefix and its share (RFC 9244 §7.6 `top-talker`).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TopTalker {
    /// The source.
    pub source_prefix: IpNet,
    /// Mean bits per second over the time asked for, scaled by the sampling rate.
    pub bits_per_second: u64,
    /// Mean packets per second.
    pub packets_per_second: u64,
    /// Share of the target's packets: 0 to 1.
    pub share: f64,
    /// Whether the sources look forged; `None` where nothing tells.
    pub spoofed: Option<bool>,
    /// Where the source is, by databases: of forged sources it says nothing.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Where a prefix is: each as far as a database or a table of networks knows, and for the whole of the prefix alike.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Autonomous system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_name: Option<String>,
    /// Country, two letters (ISO 3166-1 alpha-2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Name of the network in the operator's own table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

/// A port's share of the traffic.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PortShare {
    /// The port.
    pub port: u16,
    /// `source` or `destination`.
    pub side: PortSide,
    /// IP protocol that the port belongs to.
    pub protocol: u8,
    /// Share of the target's packets: 0 to 1.
    pub share: f64,
}

/// Which end of a flow a port is at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortSide {
    /// The sender's port: tells reflectors.
    Source,
    /// The target's port: tells the service.
    Destination,
}

/// A protocol's share of the traffic.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProtocolShare {
    /// IP protocol number.
    pub protocol: u8,
    /// Share of the target's packets: 0 to 1.
    pub share: f64,
}
