//! Session configuration, heartbeats and redirection (RFC 9132 §4.5 to §4.7, RFC 9362).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Decimal;

/// Body of `/hb` (RFC 9132 §4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Heartbeat {
    /// Whether the sender has heard the peer within two heartbeat intervals.
    pub peer_hb_status: bool,
}

/// Body of `/config` (RFC 9132 §4.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SignalConfig {
    /// While a mitigation is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mitigating_config: Option<ConfigParameters>,
    /// In peace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_config: Option<ConfigParameters>,
}

/// Parameters of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConfigParameters {
    /// Seconds between heartbeats; 0 turns them off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<Tunable>,
    /// Heartbeats that may be missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_hb_allowed: Option<Tunable>,
    /// Octets per second to a peer that does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probing_rate: Option<Tunable>,
    /// Retransmissions of a confirmable message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retransmit: Option<Tunable>,
    /// Seconds to the first retransmission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_timeout: Option<TunableDecimal>,
    /// Random factor of that timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_random_factor: Option<TunableDecimal>,
    /// Payloads sent at one time (RFC 9177).
    #[serde(
        default,
        rename = "ietf-dots-robust-trans:max-payloads",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_payloads: Option<Tunable>,
    /// Requests for missing payloads.
    #[serde(
        default,
        rename = "ietf-dots-robust-trans:non-max-retransmit",
        skip_serializing_if = "Option::is_none"
    )]
    pub non_max_retransmit: Option<Tunable>,
    /// Seconds between sets of payloads.
    #[serde(
        default,
        rename = "ietf-dots-robust-trans:non-timeout",
        skip_serializing_if = "Option::is_none"
    )]
    pub non_timeout: Option<TunableDecimal>,
    /// Seconds to wait for a missing payload.
    #[serde(
        default,
        rename = "ietf-dots-robust-trans:non-receive-timeout",
        skip_serializing_if = "Option::is_none"
    )]
    pub non_receive_timeout: Option<TunableDecimal>,
    /// Seconds to wait before probing.
    #[serde(
        default,
        rename = "ietf-dots-robust-trans:non-probing-wait",
        skip_serializing_if = "Option::is_none"
    )]
    pub non_probing_wait: Option<TunableDecimal>,
    /// Seconds to keep a partial body.
    #[serde(
        default,
        rename = "ietf-dots-robust-trans:non-partial-timeout",
        skip_serializing_if = "Option::is_none"
    )]
    pub non_partial_timeout: Option<TunableDecimal>,
}

/// An integer parameter with the server's limits, which only the server sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tunable {
    /// Greatest acceptable value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_value: Option<u16>,
    /// Least acceptable value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_value: Option<u16>,
    /// The value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_value: Option<u16>,
}

impl Tunable {
    /// Returns a value without limits, as clients send it.
    #[must_use]
    pub fn current(value: u16) -> Self {
        Self {
            current_value: Some(value),
            ..Self::default()
        }
    }
}

/// A decimal parameter with the server's limits, which only the server sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TunableDecimal {
    /// Greatest acceptable value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_value_decimal: Option<Decimal>,
    /// Least acceptable value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_value_decimal: Option<Decimal>,
    /// The value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_value_decimal: Option<Decimal>,
}

impl TunableDecimal {
    /// Returns a value without limits, as clients send it.
    #[must_use]
    pub fn current(value: Decimal) -> Self {
        Self {
            current_value_decimal: Some(value),
            ..Self::default()
        }
    }
}

/// Body of a 5.03 that names another server (RFC 9132 §4.6), or of a Call Home client's redirection (RFC 9066 §5.3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Redirect {
    /// Name of the other server; mandatory in a 5.03.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt_server: Option<String>,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alt_server_record: Vec<IpAddr>,
    /// Name of the other Call Home client.
    #[serde(
        default,
        rename = "ietf-dots-call-home:alt-ch-client",
        skip_serializing_if = "Option::is_none"
    )]
    pub alt_ch_client: Option<String>,
    /// Its addresses.
    #[serde(
        default,
        rename = "ietf-dots-call-home:alt-ch-client-record",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub alt_ch_client_record: Vec<IpAddr>,
    /// Seconds that the Call Home redirection lasts.
    #[serde(
        default,
        rename = "ietf-dots-call-home:ttl",
        skip_serializing_if = "Option::is_none"
    )]
    pub ttl: Option<u32>,
}
