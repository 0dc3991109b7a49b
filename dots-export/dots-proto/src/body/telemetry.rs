//! Telemetry of attacks: `/tm` bodies and what augments mitigations (RFC 9244 §8 and §9).

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::counter;
use super::enums::AttackSeverity;
use super::target::{IcmpTypeRange, PortRange, Target};
use super::traffic::{Gauges, Traffic, TrafficPort, TrafficProtocol};
use crate::Tmid;

/// Body of `/tm` (RFC 9244 §8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Telemetry {
    /// Items; a request has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_or_ongoing_mitigation: Vec<PreOrOngoingMitigation>,
}

/// Telemetry about one target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PreOrOngoingMitigation {
    /// Identifier, from the server only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmid: Option<Tmid>,
    /// Target; mandatory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// All traffic to the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_traffic: Vec<Traffic>,
    /// The same by protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_traffic_protocol: Vec<TrafficProtocol>,
    /// The same by port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_traffic_port: Vec<TrafficPort>,
    /// Attack traffic to the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_attack_traffic: Vec<Traffic>,
    /// The same by protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_attack_traffic_protocol: Vec<TrafficProtocol>,
    /// The same by port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_attack_traffic_port: Vec<TrafficPort>,
    /// Attack connections by protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_attack_connection_protocol: Vec<AttackConnectionProtocol>,
    /// Attack connections by protocol and port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_attack_connection_port: Vec<AttackConnectionPort>,
    /// The attacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attack_detail: Vec<AttackDetail>,
}

/// One attack (RFC 9244 §8.1.5). Pairs of `vendor_id` and `attack_id` are unique in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttackDetail {
    /// Private enterprise number of who named the attack.
    pub vendor_id: u32,
    /// That vendor's number of the attack.
    pub attack_id: u32,
    /// Language of the description, `en-US` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description_lang: Option<String>,
    /// Description in words; not sent once the vendor's mapping was shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack_description: Option<String>,
    /// Severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack_severity: Option<AttackSeverity>,
    /// Start in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub start_time: Option<u64>,
    /// End in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub end_time: Option<u64>,
    /// Number of unique sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_count: Option<SourceCount>,
    /// Top sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_talker: Option<TopTalkers>,
}

/// Number of sources.
pub type SourceCount = Gauges;

/// Top sources of an attack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TopTalkers {
    /// Sources with unique prefixes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub talker: Vec<Talker>,
}

/// One top source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Talker {
    /// Whether the address is spoofed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoofed_status: Option<bool>,
    /// Prefix of the source.
    pub source_prefix: IpNet,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_port_range: Vec<PortRange>,
    /// Its ICMP types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_icmp_type_range: Vec<IcmpTypeRange>,
    /// Its attack traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_attack_traffic: Vec<Traffic>,
    /// Its attack connections; under `/mitigate` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_attack_connection: Option<AttackConnection>,
    /// Its attack connections by protocol; under `/tm` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_attack_connection_protocol: Vec<AttackConnectionProtocol>,
}

impl Talker {
    /// Returns a source of which nothing else is known.
    #[must_use]
    pub fn new(source_prefix: IpNet) -> Self {
        Self {
            spoofed_status: None,
            source_prefix,
            source_port_range: Vec::new(),
            source_icmp_type_range: Vec::new(),
            total_attack_traffic: Vec::new(),
            total_attack_connection: None,
            total_attack_connection_protocol: Vec::new(),
        }
    }
}

/// Connections of an attack (RFC 9244 §8.1.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttackConnection {
    /// Simultaneous connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_c: Option<Gauges>,
    /// Simultaneous embryonic connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embryonic_c: Option<Gauges>,
    /// Connections per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_ps_c: Option<Gauges>,
    /// Requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_ps_c: Option<Gauges>,
    /// Partial requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_request_c: Option<Gauges>,
}

/// Connections of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttackConnectionProtocol {
    /// IANA protocol number.
    pub protocol: u8,
    /// Its connections.
    #[serde(flatten)]
    pub connection: AttackConnection,
}

/// Connections of one protocol to one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttackConnectionPort {
    /// IANA protocol number.
    pub protocol: u8,
    /// Port.
    pub port: u16,
    /// Its connections.
    #[serde(flatten)]
    pub connection: AttackConnection,
}
