//! Typed bodies in the shape of their JSON form. Unknown members are ignored when reading: what a receiver has to
//! understand is decided by [`crate::cbor::decode`] and [`crate::check_request`].
//!
//! ```
//! use weir_dots_proto::body::{Lifetime, Mitigation, Scope};
//! use weir_dots_proto::{Body, BodyKind, check_request, decode};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let request = Mitigation::single(Scope {
//!     target_prefix: vec!["192.0.2.7/32".parse()?],
//!     target_protocol: vec![17],
//!     lifetime: Some(Lifetime::Seconds(3600)),
//!     ..Scope::default()
//! });
//! let octets = request.to_cbor()?;
//!
//! // At the server: octets, JSON form, rules, types.
//! let json = decode(&octets)?;
//! check_request(BodyKind::Mitigation, &json)?;
//! assert_eq!(Mitigation::from_json(&json)?, request);
//! # Ok(())
//! # }
//! ```

mod config;
mod counter;
mod enums;
mod error;
mod mitigation;
mod setup;
mod target;
mod telemetry;
mod traffic;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use config::{ConfigParameters, Heartbeat, Redirect, SignalConfig, Tunable, TunableDecimal};
pub(crate) use counter::parse as parse_counter;
pub use enums::{
    ActivationType, AttackSeverity, AttackStatus, ConflictCause, ConflictStatus,
    MeasurementInterval, MeasurementSample, MitigationStatus, QueryType, Unit, UnitClass,
};
pub use error::BodyError;
pub use mitigation::{
    AclActivation, ConflictAcl, ConflictInformation, ConflictScope, InvalidLifetime, Lifetime,
    Mitigation, Scope,
};
pub use setup::{
    Baseline, ConnectionCapacity, PipeCapacity, TelemetryParameters, TelemetrySettings,
    TelemetrySetup, TrafficNormal, TrafficNormalPort, TrafficNormalProtocol, UnitClasses,
    UnitConfig,
};
pub use target::{IcmpTypeRange, PortRange, Target};
pub use telemetry::{
    AttackConnection, AttackConnectionPort, AttackConnectionProtocol, AttackDetail,
    PreOrOngoingMitigation, SourceCount, Talker, Telemetry, TopTalkers,
};
pub use traffic::{Gauges, Traffic, TrafficPort, TrafficProtocol};

use crate::cbor;

/// A message type: what is below one of [`crate::keys::ROOTS`].
pub trait Body: Serialize + DeserializeOwned {
    /// Name of the body's only member.
    const ROOT: &'static str;

    /// Returns the JSON form with its root.
    #[must_use]
    fn to_json(&self) -> Value {
        // Bodies are structs of numbers, texts and lists, which serde_json always takes.
        let inner = serde_json::to_value(self).unwrap_or_default();
        Value::Object(Map::from_iter([(Self::ROOT.to_owned(), inner)]))
    }

    /// Reads the JSON form with its root.
    fn from_json(json: &Value) -> Result<Self, BodyError> {
        let inner = match json.as_object() {
            Some(members) if members.len() == 1 => members.get(Self::ROOT),
            _ => None,
        };
        let inner = inner.ok_or(BodyError::WrongMessage {
            expected: Self::ROOT,
        })?;
        Ok(Self::deserialize(inner)?)
    }

    /// Writes `application/dots+cbor` without the optional tag.
    fn to_cbor(&self) -> Result<Vec<u8>, BodyError> {
        cbor::encode(&self.to_json())
    }

    /// Reads `application/dots+cbor`.
    fn from_cbor(octets: &[u8]) -> Result<Self, BodyError> {
        Self::from_json(&cbor::decode(octets)?)
    }
}

impl Body for Mitigation {
    const ROOT: &'static str = "ietf-dots-signal-channel:mitigation-scope";
}

impl Body for SignalConfig {
    const ROOT: &'static str = "ietf-dots-signal-channel:signal-config";
}

impl Body for Redirect {
    const ROOT: &'static str = "ietf-dots-signal-channel:redirected-signal";
}

impl Body for Heartbeat {
    const ROOT: &'static str = "ietf-dots-signal-channel:heartbeat";
}

impl Body for TelemetrySetup {
    const ROOT: &'static str = "ietf-dots-telemetry:telemetry-setup";
}

impl Body for Telemetry {
    const ROOT: &'static str = "ietf-dots-telemetry:telemetry";
}
