//! Rules for bodies beyond their types: what a server answers with 4.00 or 4.22, and what a client does not believe.
//!
//! What depends on state is not checked here: whose targets these are, whether a refresh changes a request, which
//! aliases and filters exist.

mod config;
mod mitigation;
mod setup;
mod target;
mod telemetry;

use std::collections::BTreeSet;

use serde_json::Value;
use thiserror::Error;

pub use config::check_config_range;
pub use target::{is_domain_name, is_unicast, is_uri};

use crate::body::{Body, Heartbeat, Mitigation, Redirect, SignalConfig, Telemetry, TelemetrySetup};
use crate::cbor;
use crate::keys::{Comprehension, by_name};

/// What a body is for, which decides the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyKind {
    /// `/mitigate`, new or refresh.
    Mitigation,
    /// `/mitigate` with an empty If-Match: an efficacy update (RFC 9132 §4.4.3).
    Efficacy,
    /// `/config`.
    SignalConfig,
    /// `/hb`.
    Heartbeat,
    /// `/tm`.
    Telemetry,
    /// `/tm-setup`.
    TelemetrySetup,
    /// A 5.03 naming another server, or the PUT of a Call Home client (RFC 9066).
    Redirect,
}

/// Why a server refuses a request's body. The text is the diagnostic payload.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestFault {
    /// 4.00 (Bad Request).
    #[error("{0}")]
    BadRequest(String),
    /// 4.22 (Unprocessable Entity): well-formed, but a value is not acceptable.
    #[error("{0}")]
    Unprocessable(String),
}

/// Why a client does not believe a body from the server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ResponseFault(pub String);

/// Checks a body from a client (RFC 9132 §4.4 to §4.7, RFC 9133, RFC 9244 §7 to §9).
pub fn check_request(kind: BodyKind, json: &Value) -> Result<(), RequestFault> {
    // Types, ranges, enumerations and size are those of the wire.
    cbor::encode(json).map_err(bad_request)?;
    match kind {
        BodyKind::Mitigation => mitigation::check_new(&request(json)?),
        BodyKind::Efficacy => mitigation::check_efficacy(&request(json)?),
        BodyKind::SignalConfig => config::check(&request(json)?),
        BodyKind::Heartbeat => request::<Heartbeat>(json).map(drop),
        BodyKind::Telemetry => telemetry::check(&request(json)?),
        BodyKind::TelemetrySetup => setup::check(&request(json)?),
        BodyKind::Redirect => {
            let redirect: Redirect = request(json)?;
            ensure(redirect.alt_ch_client.is_some(), "alt-ch-client is missing")
        }
    }
}

/// Checks a body from a server: a 2.xx, a notification, a 4.09 or a 5.03.
pub fn check_response(kind: BodyKind, json: &Value) -> Result<(), ResponseFault> {
    cbor::encode(json).map_err(ResponseFault::new)?;
    match kind {
        BodyKind::Mitigation | BodyKind::Efficacy => mitigation::check_response(&response(json)?),
        BodyKind::SignalConfig => response::<SignalConfig>(json).map(drop),
        BodyKind::Heartbeat => response::<Heartbeat>(json).map(drop),
        BodyKind::Telemetry => telemetry::check_response(&response(json)?),
        BodyKind::TelemetrySetup => response::<TelemetrySetup>(json).map(drop),
        BodyKind::Redirect => {
            let redirect: Redirect = response(json)?;
            match redirect.alt_server {
                Some(_) => Ok(()),
                None => Err(ResponseFault("alt-server is missing".to_owned())),
            }
        }
    }
}

impl ResponseFault {
    fn new(reason: impl ToString) -> Self {
        Self(reason.to_string())
    }
}

impl From<RequestFault> for ResponseFault {
    fn from(fault: RequestFault) -> Self {
        Self(fault.to_string())
    }
}

fn request<T: Body>(json: &Value) -> Result<T, RequestFault> {
    let body = T::from_json(json).map_err(bad_request)?;
    check_places("body", json)?;
    Ok(body)
}

fn response<T: Body>(json: &Value) -> Result<T, ResponseFault> {
    T::from_json(json).map_err(ResponseFault::new)
}

fn bad_request(reason: impl ToString) -> RequestFault {
    RequestFault::BadRequest(reason.to_string())
}

fn unprocessable(reason: impl ToString) -> RequestFault {
    RequestFault::Unprocessable(reason.to_string())
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), RequestFault> {
    if holds {
        Ok(())
    } else {
        Err(bad_request(otherwise))
    }
}

fn ensure_acceptable(holds: bool, otherwise: &str) -> Result<(), RequestFault> {
    if holds {
        Ok(())
    } else {
        Err(unprocessable(otherwise))
    }
}

/// Checks that the keys of a YANG list are unique.
fn ensure_unique<K: Ord>(
    list: &str,
    keys: impl IntoIterator<Item = K>,
) -> Result<(), RequestFault> {
    let mut seen = BTreeSet::new();
    if keys.into_iter().all(|key| seen.insert(key)) {
        Ok(())
    } else {
        Err(bad_request(format_args!("duplicate entry in {list}")))
    }
}

/// Identifiers that travel in the path and never in a request's body (RFC 9132 §4.4.1.1, RFC 9244 §7.1.2 and §8.2).
const IN_PATH_ONLY: [&str; 6] = ["cdid", "cuid", "mid", "sid", "tsid", "tmid"];

/// Refuses identifiers, and parameters that must be understood where they mean nothing to a server.
fn check_places(parent: &str, json: &Value) -> Result<(), RequestFault> {
    match json {
        Value::Array(elements) => elements
            .iter()
            .try_for_each(|element| check_places(parent, element)),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            if IN_PATH_ONLY.contains(&name.as_str()) {
                return Err(bad_request(format_args!("{name} must not be in the body")));
            }
            let required = by_name(name)
                .is_none_or(|found| Comprehension::of(found.key) == Comprehension::Required);
            if required && !required_members(parent).contains(&name.as_str()) {
                return Err(bad_request(format_args!("{name} has no place in {parent}")));
            }
            check_places(name, value)
        }),
        _ => Ok(()),
    }
}

/// Comprehension-required members that a request may have in each container and list of the YANG modules.
fn required_members(parent: &str) -> &'static [&'static str] {
    match parent {
        "body" => &[
            Mitigation::ROOT,
            SignalConfig::ROOT,
            Redirect::ROOT,
            Heartbeat::ROOT,
            TelemetrySetup::ROOT,
            Telemetry::ROOT,
        ],
        Mitigation::ROOT => &["scope"],
        "scope" => &[
            "target-prefix",
            "target-port-range",
            "target-protocol",
            "target-fqdn",
            "target-uri",
            "alias-name",
            "lifetime",
            "trigger-mitigation",
            "attack-status",
            "ietf-dots-signal-control:acl-list",
        ],
        "target" | "baseline" => &[
            "target-prefix",
            "target-port-range",
            "target-protocol",
            "target-fqdn",
            "target-uri",
            "alias-name",
        ],
        "target-port-range" | "source-port-range" | "ietf-dots-call-home:source-port-range" => {
            &["lower-port", "upper-port"]
        }
        "ietf-dots-signal-control:acl-list" => &["acl-name", "activation-type"],
        SignalConfig::ROOT => &["mitigating-config", "idle-config"],
        "mitigating-config" | "idle-config" => &[
            "heartbeat-interval",
            "missing-hb-allowed",
            "probing-rate",
            "max-retransmit",
            "ack-timeout",
            "ack-random-factor",
        ],
        "heartbeat-interval"
        | "missing-hb-allowed"
        | "probing-rate"
        | "max-retransmit"
        | "ietf-dots-robust-trans:max-payloads"
        | "ietf-dots-robust-trans:non-max-retransmit" => &["current-value"],
        "ack-timeout"
        | "ack-random-factor"
        | "ietf-dots-robust-trans:non-timeout"
        | "ietf-dots-robust-trans:non-receive-timeout"
        | "ietf-dots-robust-trans:non-probing-wait"
        | "ietf-dots-robust-trans:non-partial-timeout" => &["current-value-decimal"],
        Heartbeat::ROOT => &["peer-hb-status"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn heartbeat_has_one_member() {
        let good = json!({"ietf-dots-signal-channel:heartbeat": {"peer-hb-status": true}});
        assert_eq!(check_request(BodyKind::Heartbeat, &good), Ok(()));
        let empty = json!({"ietf-dots-signal-channel:heartbeat": {}});
        assert!(matches!(
            check_request(BodyKind::Heartbeat, &empty),
            Err(RequestFault::BadRequest(_))
        ));
        assert!(matches!(
            check_request(BodyKind::Mitigation, &good),
            Err(RequestFault::BadRequest(_))
        ));
    }

    #[test]
    fn parameters_out_of_place_are_refused_unless_optional() {
        let with = |name: &str, value: Value| {
            let mut json = json!({"ietf-dots-signal-channel:heartbeat": {"peer-hb-status": true}});
            json["ietf-dots-signal-channel:heartbeat"][name] = value;
            check_request(BodyKind::Heartbeat, &json)
        };
        assert_eq!(
            with("lifetime", json!(5)),
            Err(bad_request(
                "lifetime has no place in ietf-dots-signal-channel:heartbeat"
            ))
        );
        assert_eq!(
            with("cuid", json!("x")),
            Err(bad_request("cuid must not be in the body"))
        );
        assert_eq!(
            with("tmid", json!(1)),
            Err(bad_request("tmid must not be in the body"))
        );
        assert_eq!(with("attack-id", json!(1)), Ok(()));
    }

    #[test]
    fn redirects_name_a_server() {
        let json = json!({"ietf-dots-signal-channel:redirected-signal": {"alt-server-record": ["2001:db8::1"]}});
        assert!(check_response(BodyKind::Redirect, &json).is_err());
        let json =
            json!({"ietf-dots-signal-channel:redirected-signal": {"alt-server": "alt.example"}});
        assert_eq!(check_response(BodyKind::Redirect, &json), Ok(()));
    }
}
