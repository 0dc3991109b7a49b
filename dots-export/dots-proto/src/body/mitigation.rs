//! Mitigation requests and their state (RFC 9132 §4.4).

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::counter;
use super::enums::{ActivationType, AttackStatus, ConflictCause, ConflictStatus, MitigationStatus};
use super::target::{IcmpTypeRange, PortRange};
use super::telemetry::{AttackConnection, AttackDetail};
use super::traffic::Traffic;
use crate::Mid;

/// Body of `/mitigate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mitigation {
    /// Scopes; a request has one, the answer to a GET one for each mitigation.
    #[serde(default)]
    pub scope: Vec<Scope>,
}

impl Mitigation {
    /// Returns the body of a single scope.
    #[must_use]
    pub fn single(scope: Scope) -> Self {
        Self { scope: vec![scope] }
    }
}

/// A mitigation: what is asked for, and from the server how it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scope {
    /// Identifier, from the server only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<Mid>,
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
    /// Lifetime that is asked for or granted, or what remains of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// False: mitigate only once the session is lost. Absent is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_mitigation: Option<bool>,
    /// Start of the mitigation in seconds since 1970; from the server, and not with status 8.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub mitigation_start: Option<u64>,
    /// State, from the server only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<MitigationStatus>,
    /// What the request is in conflict with, from the server only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict_information: Option<ConflictInformation>,
    /// Octets dropped since the start.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub bytes_dropped: Option<u64>,
    /// Octets (not bits) dropped per second, averaged over five-minute buckets.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub bps_dropped: Option<u64>,
    /// Packets dropped since the start.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub pkts_dropped: Option<u64>,
    /// Packets dropped per second, averaged over five-minute buckets.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub pps_dropped: Option<u64>,
    /// The attack as the client sees it; in efficacy updates only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack_status: Option<AttackStatus>,
    /// Filters to switch (RFC 9133).
    #[serde(
        default,
        rename = "ietf-dots-signal-control:acl-list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub acl_list: Vec<AclActivation>,
    /// All traffic, from the server only (RFC 9244 §9.2).
    #[serde(
        default,
        rename = "ietf-dots-telemetry:total-traffic",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub total_traffic: Vec<Traffic>,
    /// Attack traffic (RFC 9244 §9).
    #[serde(
        default,
        rename = "ietf-dots-telemetry:total-attack-traffic",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub total_attack_traffic: Vec<Traffic>,
    /// Attack connections, from the server only (RFC 9244 §9.2).
    #[serde(
        default,
        rename = "ietf-dots-telemetry:total-attack-connection",
        skip_serializing_if = "Option::is_none"
    )]
    pub total_attack_connection: Option<AttackConnection>,
    /// The attacks (RFC 9244 §9).
    #[serde(
        default,
        rename = "ietf-dots-telemetry:attack-detail",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub attack_detail: Vec<AttackDetail>,
    /// Sources of the attack, as a hint (RFC 9066 §5.3).
    #[serde(
        default,
        rename = "ietf-dots-call-home:source-prefix",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub source_prefix: Vec<IpNet>,
    /// Their ports.
    #[serde(
        default,
        rename = "ietf-dots-call-home:source-port-range",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub source_port_range: Vec<PortRange>,
    /// Their ICMP types.
    #[serde(
        default,
        rename = "ietf-dots-call-home:source-icmp-type-range",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub source_icmp_type_range: Vec<IcmpTypeRange>,
}

/// How long a mitigation is to last. 0 s is invalid in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lifetime {
    /// Seconds; 3600 are recommended (RFC 9132 §4.4.1.1).
    Seconds(u32),
    /// Until withdrawn: -1 on the wire. A server may refuse it.
    Indefinite,
}

/// A number that is no lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("lifetime {0} is neither -1 nor a number of 32 bits")]
pub struct InvalidLifetime(pub i64);

impl Lifetime {
    /// Returns the length, or none if it is indefinite.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Seconds(seconds) => Some(Duration::from_secs(seconds.into())),
            Self::Indefinite => None,
        }
    }

    /// Returns the number on the wire.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Seconds(seconds) => seconds.into(),
            Self::Indefinite => -1,
        }
    }
}

impl TryFrom<i64> for Lifetime {
    type Error = InvalidLifetime;

    fn try_from(number: i64) -> Result<Self, InvalidLifetime> {
        match u32::try_from(number) {
            Ok(seconds) => Ok(Self::Seconds(seconds)),
            Err(_) if number == -1 => Ok(Self::Indefinite),
            Err(_) => Err(InvalidLifetime(number)),
        }
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds} s"),
            Self::Indefinite => f.write_str("indefinite"),
        }
    }
}

impl Serialize for Lifetime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.number())
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        Self::try_from(number).map_err(serde::de::Error::custom)
    }
}

/// What a request is in conflict with (RFC 9132 §4.4.1.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConflictInformation {
    /// What became of the requests; absent with a `cuid` collision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict_status: Option<ConflictStatus>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict_cause: Option<ConflictCause>,
    /// Seconds during which the client must not repeat the request.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "retry_timer"
    )]
    pub retry_timer: Option<u32>,
    /// What overlaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict_scope: Option<ConflictScope>,
}

/// What overlaps: targets, aliases and `mid` with overlapping targets, filters with an accept-list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConflictScope {
    /// Prefixes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_prefix: Vec<IpNet>,
    /// Ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_port_range: Vec<PortRange>,
    /// Protocol numbers.
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
    /// Filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acl_list: Vec<ConflictAcl>,
    /// The same client's other request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<Mid>,
}

/// A filter in conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConflictAcl {
    /// Its name on the data channel.
    pub acl_name: String,
    /// Its type on the data channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl_type: Option<String>,
}

/// Switches a filter of the data channel (RFC 9133 §3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AclActivation {
    /// Its name on the data channel.
    pub acl_name: String,
    /// When it is to apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_type: Option<ActivationType>,
}

/// RFC 9132 Table 5 says that the timer is a JSON string, its YANG module that it is a number.
fn retry_timer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u32),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(seconds) => Ok(Some(seconds)),
        Either::Text(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes() {
        assert_eq!(Lifetime::try_from(-1), Ok(Lifetime::Indefinite));
        assert_eq!(Lifetime::try_from(3600), Ok(Lifetime::Seconds(3600)));
        assert_eq!(Lifetime::try_from(-2), Err(InvalidLifetime(-2)));
        assert_eq!(Lifetime::try_from(1 << 32), Err(InvalidLifetime(1 << 32)));
        assert_eq!(serde_json::to_value(Lifetime::Indefinite).unwrap(), -1);
    }

    #[test]
    fn retry_timer_is_a_number_or_a_string() {
        for json in [r#"{"retry-timer": 120}"#, r#"{"retry-timer": "120"}"#] {
            let information: ConflictInformation = serde_json::from_str(json).unwrap();
            assert_eq!(information.retry_timer, Some(120));
        }
    }
}
