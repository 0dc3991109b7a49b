//! Telemetry setup: configuration, pipe capacity and baseline (RFC 9244 §7).

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::counter;
use super::enums::{MeasurementInterval, MeasurementSample, QueryType, Unit, UnitClass};
use super::target::PortRange;
use super::traffic::{Traffic, TrafficPort, TrafficProtocol};
use crate::{Decimal, Tsid};

/// Body of `/tm-setup`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TelemetrySetup {
    /// Greatest acceptable values, from the server only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_config_values: Option<TelemetryParameters>,
    /// Least acceptable values, from the server only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_config_values: Option<TelemetryParameters>,
    /// Units that the server supports, from the server only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported_unit_classes: Option<UnitClasses>,
    /// Queries that the server supports, from the server only; none means that a client may use none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supported_query_type: Vec<QueryType>,
    /// Settings; a request has one kind of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub telemetry: Vec<TelemetrySettings>,
}

/// Configuration, pipe or baseline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TelemetrySettings {
    /// Identifier, from the server only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tsid: Option<Tsid>,
    /// Configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_config: Option<TelemetryParameters>,
    /// Capacity of the client's links; pairs of link and unit are unique.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_pipe_capacity: Vec<PipeCapacity>,
    /// Normal traffic; identifiers are unique.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baseline: Vec<Baseline>,
}

/// Values of a telemetry configuration (RFC 9244 §7.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TelemetryParameters {
    /// Period over which percentiles are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measurement_interval: Option<MeasurementInterval>,
    /// Length of one measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measurement_sample: Option<MeasurementSample>,
    /// Low percentile, 10.00 by default; 0.00 turns it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_percentile: Option<Decimal>,
    /// Mid percentile, 50.00 by default; equal to the low one it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid_percentile: Option<Decimal>,
    /// High percentile, 90.00 by default; equal to the mid one it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_percentile: Option<Decimal>,
    /// Unit classes to use; not in the limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unit_config: Vec<UnitConfig>,
    /// Whether the server sends telemetry too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_originated_telemetry: Option<bool>,
    /// Least seconds between notifications: 1 to 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry_notify_interval: Option<u16>,
}

/// A list of unit classes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnitClasses {
    /// The classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unit_config: Vec<UnitConfig>,
}

/// Turns a unit class on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnitConfig {
    /// The class.
    pub unit: UnitClass,
    /// On or off.
    pub unit_status: bool,
}

/// Capacity of a link (RFC 9244 §7.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PipeCapacity {
    /// The link.
    pub link_id: String,
    /// Capacity in [`Self::unit`]; 0 removes the link. Mandatory.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub capacity: Option<u64>,
    /// Unit.
    pub unit: Unit,
}

/// Normal traffic of a target, or without a target of the whole domain (RFC 9244 §7.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Baseline {
    /// Identifier from 1 in the domain.
    pub id: u32,
    /// Prefixes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_prefix: Vec<IpNet>,
    /// Ports; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_port_range: Vec<PortRange>,
    /// Protocol numbers; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_protocol: Vec<u8>,
    /// Domain names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_fqdn: Vec<String>,
    /// URIs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_uri: Vec<String>,
    /// Aliases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alias_name: Vec<String>,
    /// Normal traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_traffic_normal: Vec<TrafficNormal>,
    /// The same by protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_traffic_normal_per_protocol: Vec<TrafficNormalProtocol>,
    /// The same by port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_traffic_normal_per_port: Vec<TrafficNormalPort>,
    /// Connections that the target bears, by protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_connection_capacity: Vec<ConnectionCapacity>,
    /// The same by protocol and port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub total_connection_capacity_per_port: Vec<ConnectionCapacity>,
}

/// Normal rates; `current_g` stays absent.
pub type TrafficNormal = Traffic;
/// Normal rates of a protocol; `current_g` stays absent.
pub type TrafficNormalProtocol = TrafficProtocol;
/// Normal rates of a port; `current_g` stays absent.
pub type TrafficNormalPort = TrafficPort;

/// What a target bears of one protocol (RFC 9244 §7.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConnectionCapacity {
    /// IANA protocol number.
    pub protocol: u8,
    /// Port, in the list by port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Simultaneous connections.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub connection: Option<u64>,
    /// Simultaneous connections of a client.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub connection_client: Option<u64>,
    /// Simultaneous embryonic connections.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub embryonic: Option<u64>,
    /// Simultaneous embryonic connections of a client.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub embryonic_client: Option<u64>,
    /// Connections per second.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub connection_ps: Option<u64>,
    /// Connections per second of a client.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub connection_client_ps: Option<u64>,
    /// Requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub request_ps: Option<u64>,
    /// Requests per second of a client.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub request_client_ps: Option<u64>,
    /// Outstanding partial requests.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub partial_request_max: Option<u64>,
    /// Outstanding partial requests of a client.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub partial_request_client_max: Option<u64>,
}
