//! What traffic goes to (RFC 9132 §4.4.1.1, RFC 9244 §8.1.1), and ranges.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Mid;

/// Ports from lower to upper; without upper a single port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PortRange {
    /// First port.
    pub lower_port: u16,
    /// Last port, not below the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_port: Option<u16>,
}

impl PortRange {
    /// Returns the range of a single port.
    #[must_use]
    pub fn single(port: u16) -> Self {
        Self {
            lower_port: port,
            upper_port: None,
        }
    }

    /// Returns whether the range has this port.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.lower_port..=self.upper_port.unwrap_or(self.lower_port)).contains(&port)
    }
}

/// ICMP or ICMPv6 types from lower to upper; without upper a single type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IcmpTypeRange {
    /// First type.
    pub lower_type: u8,
    /// Last type, not below the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_type: Option<u8>,
}

/// Target of telemetry: at least one prefix, name, URI, alias or mitigation request (RFC 9244 §8.1.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Target {
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
    /// Aliases made on the data channel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alias_name: Vec<String>,
    /// The client's mitigation requests that the telemetry belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mid_list: Vec<Mid>,
}
