//! The table of all DOTS parameters, which drives both directions between CBOR and JSON.
//!
//! Names, keys and types are those of the IANA registry "DOTS Signal Channel CBOR Key Values": RFC 9132 Table 5,
//! RFC 9133 §5.1, RFC 9244 §13.1, RFC 9066 §7.1 and RFC 9362; numbers of enumerations come from the YANG modules of
//! the same RFCs ([`crate::body`]). A name belongs to one key: where a word means two things, as `total-traffic` does under
//! `/mitigate` (204) and `/tm` (145), JSON tells them apart by the module's name (RFC 7951 §4), and so does this table.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::body::{
    ActivationType, AttackSeverity, AttackStatus, ConflictCause, ConflictStatus,
    MeasurementInterval, MeasurementSample, MitigationStatus, QueryType, Unit,
};

/// One parameter of the registry.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Name in JSON, with its module where RFC 7951 §4 wants one.
    pub name: &'static str,
    /// Key in CBOR.
    pub key: u16,
    /// How values look on either side.
    pub kind: Kind,
}

/// How a parameter's values look in CBOR and in JSON (RFC 9132 §6, RFC 7951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A container: map and object.
    Map,
    /// A list: array of maps and array of objects.
    List,
    /// Text on both sides.
    Text,
    /// Array of text on both sides.
    TextList,
    /// An unsigned integer up to this bound; a JSON number.
    Unsigned(u32),
    /// An array of them.
    UnsignedList(u32),
    /// An unsigned integer of 64 bits; a JSON string.
    Counter,
    /// Seconds, or -1 for ever; a JSON number.
    Lifetime,
    /// Seconds; a JSON number by YANG, a JSON string by RFC 9132 Table 5: read as both, written as number.
    RetryTimer,
    /// A boolean on both sides.
    Boolean,
    /// Tag 4 with exponent -2; a JSON string with two decimals.
    Decimal,
    /// The number of a name, from 1; the name in JSON.
    Enumeration(&'static [&'static str]),
    /// An array of them.
    EnumerationList(&'static [&'static str]),
}

/// What a receiver does with a key that it does not know (RFC 9132 §10.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comprehension {
    /// Refuses the body.
    Required,
    /// Ignores the parameter.
    Optional,
}

impl Comprehension {
    /// Returns the rule for a key.
    #[must_use]
    pub fn of(key: u16) -> Self {
        match key {
            0..=127 | 256..=16383 => Self::Required,
            _ => Self::Optional,
        }
    }
}

/// The message types: the only member of a body is one of these.
pub const ROOTS: [&str; 6] = [
    "ietf-dots-signal-channel:mitigation-scope",
    "ietf-dots-signal-channel:signal-config",
    "ietf-dots-signal-channel:redirected-signal",
    "ietf-dots-signal-channel:heartbeat",
    "ietf-dots-telemetry:telemetry-setup",
    "ietf-dots-telemetry:telemetry",
];

/// Returns the parameter of a CBOR key.
#[must_use]
pub fn by_key(key: u16) -> Option<&'static Parameter> {
    let index = PARAMETERS
        .binary_search_by_key(&key, |parameter| parameter.key)
        .ok()?;
    PARAMETERS.get(index)
}

/// Returns the parameter of a JSON name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Parameter> {
    static NAMES: LazyLock<BTreeMap<&str, &Parameter>> = LazyLock::new(|| {
        PARAMETERS
            .iter()
            .map(|parameter| (parameter.name, parameter))
            .collect()
    });
    NAMES.get(name).copied()
}

use Kind::{
    Boolean, Counter, Decimal, Enumeration, EnumerationList, Lifetime, List, Map, RetryTimer, Text,
    TextList, Unsigned, UnsignedList,
};

const U8: u32 = 255;
const U16: u32 = 65_535;
const U32: u32 = u32::MAX;

/// All parameters, keys ascending.
#[rustfmt::skip]
pub static PARAMETERS: &[Parameter] = &[
    // RFC 9132
    p("ietf-dots-signal-channel:mitigation-scope", 1, Map),
    p("scope", 2, List),
    p("cdid", 3, Text),
    p("cuid", 4, Text),
    p("mid", 5, Unsigned(U32)),
    p("target-prefix", 6, TextList),
    p("target-port-range", 7, List),
    p("lower-port", 8, Unsigned(U16)),
    p("upper-port", 9, Unsigned(U16)),
    p("target-protocol", 10, UnsignedList(U8)),
    p("target-fqdn", 11, TextList),
    p("target-uri", 12, TextList),
    p("alias-name", 13, TextList),
    p("lifetime", 14, Lifetime),
    p("mitigation-start", 15, Counter),
    p("status", 16, Enumeration(MitigationStatus::NAMES)),
    p("conflict-information", 17, Map),
    p("conflict-status", 18, Enumeration(ConflictStatus::NAMES)),
    p("conflict-cause", 19, Enumeration(ConflictCause::NAMES)),
    p("retry-timer", 20, RetryTimer),
    p("conflict-scope", 21, Map),
    p("acl-list", 22, List),
    p("acl-name", 23, Text),
    p("acl-type", 24, Text),
    p("bytes-dropped", 25, Counter),
    p("bps-dropped", 26, Counter),
    p("pkts-dropped", 27, Counter),
    p("pps-dropped", 28, Counter),
    p("attack-status", 29, Enumeration(AttackStatus::NAMES)),
    p("ietf-dots-signal-channel:signal-config", 30, Map),
    p("sid", 31, Unsigned(U32)),
    p("mitigating-config", 32, Map),
    p("heartbeat-interval", 33, Map),
    p("max-value", 34, Unsigned(U16)),
    p("min-value", 35, Unsigned(U16)),
    p("current-value", 36, Unsigned(U16)),
    p("missing-hb-allowed", 37, Map),
    p("max-retransmit", 38, Map),
    p("ack-timeout", 39, Map),
    p("ack-random-factor", 40, Map),
    p("max-value-decimal", 41, Decimal),
    p("min-value-decimal", 42, Decimal),
    p("current-value-decimal", 43, Decimal),
    p("idle-config", 44, Map),
    p("trigger-mitigation", 45, Boolean),
    p("ietf-dots-signal-channel:redirected-signal", 46, Map),
    p("alt-server", 47, Text),
    p("alt-server-record", 48, TextList),
    p("ietf-dots-signal-channel:heartbeat", 49, Map),
    p("probing-rate", 50, Map),
    p("peer-hb-status", 51, Boolean),
    // RFC 9133
    p("activation-type", 52, Enumeration(ActivationType::NAMES)),
    p("ietf-dots-signal-control:acl-list", 53, List),
    // RFC 9244
    p("tsid", 128, Unsigned(U32)),
    p("telemetry", 129, List),
    p("low-percentile", 130, Decimal),
    p("mid-percentile", 131, Decimal),
    p("high-percentile", 132, Decimal),
    p("unit-config", 133, List),
    p("unit", 134, Enumeration(Unit::NAMES)),
    p("unit-status", 135, Boolean),
    p("total-pipe-capacity", 136, List),
    p("link-id", 137, Text),
    p("pre-or-ongoing-mitigation", 138, List),
    p("total-traffic-normal", 139, List),
    p("low-percentile-g", 140, Counter),
    p("mid-percentile-g", 141, Counter),
    p("high-percentile-g", 142, Counter),
    p("peak-g", 143, Counter),
    p("total-attack-traffic", 144, List),
    p("total-traffic", 145, List),
    p("total-connection-capacity", 146, List),
    p("connection", 147, Counter),
    p("connection-client", 148, Counter),
    p("embryonic", 149, Counter),
    p("embryonic-client", 150, Counter),
    p("connection-ps", 151, Counter),
    p("connection-client-ps", 152, Counter),
    p("request-ps", 153, Counter),
    p("request-client-ps", 154, Counter),
    p("partial-request-max", 155, Counter),
    p("partial-request-client-max", 156, Counter),
    p("total-attack-connection", 157, Map),
    p("connection-c", 158, Map),
    p("embryonic-c", 159, Map),
    p("connection-ps-c", 160, Map),
    p("request-ps-c", 161, Map),
    p("attack-detail", 162, List),
    p("id", 163, Unsigned(U32)),
    p("attack-id", 164, Unsigned(U32)),
    p("attack-description", 165, Text),
    p("attack-severity", 166, Enumeration(AttackSeverity::NAMES)),
    p("start-time", 167, Counter),
    p("end-time", 168, Counter),
    p("source-count", 169, Map),
    p("top-talker", 170, Map),
    p("spoofed-status", 171, Boolean),
    p("partial-request-c", 172, Map),
    p("total-attack-connection-protocol", 173, List),
    p("baseline", 174, List),
    p("current-config", 175, Map),
    p("max-config-values", 176, Map),
    p("min-config-values", 177, Map),
    p("supported-unit-classes", 178, Map),
    p("server-originated-telemetry", 179, Boolean),
    p("telemetry-notify-interval", 180, Unsigned(U16)),
    p("tmid", 181, Unsigned(U32)),
    p("measurement-interval", 182, Enumeration(MeasurementInterval::NAMES)),
    p("measurement-sample", 183, Enumeration(MeasurementSample::NAMES)),
    p("talker", 184, List),
    p("source-prefix", 185, Text),
    p("mid-list", 186, UnsignedList(U32)),
    p("source-port-range", 187, List),
    p("source-icmp-type-range", 188, List),
    p("target", 189, Map),
    p("capacity", 190, Counter),
    p("protocol", 191, Unsigned(U8)),
    p("total-traffic-normal-per-protocol", 192, List),
    p("total-traffic-normal-per-port", 193, List),
    p("total-connection-capacity-per-port", 194, List),
    p("total-traffic-protocol", 195, List),
    p("total-traffic-port", 196, List),
    p("total-attack-traffic-protocol", 197, List),
    p("total-attack-traffic-port", 198, List),
    p("total-attack-connection-port", 199, List),
    p("port", 200, Unsigned(U16)),
    p("supported-query-type", 201, EnumerationList(QueryType::NAMES)),
    p("vendor-id", 202, Unsigned(U32)),
    p("ietf-dots-telemetry:telemetry-setup", 203, Map),
    p("ietf-dots-telemetry:total-traffic", 204, List),
    p("ietf-dots-telemetry:total-attack-traffic", 205, List),
    p("ietf-dots-telemetry:total-attack-connection", 206, Map),
    p("ietf-dots-telemetry:attack-detail", 207, List),
    p("ietf-dots-telemetry:telemetry", 208, Map),
    p("current-g", 209, Counter),
    p("description-lang", 210, Text),
    // RFC 9066
    p("ietf-dots-call-home:source-prefix", 32768, TextList),
    p("ietf-dots-call-home:source-port-range", 32769, List),
    p("ietf-dots-call-home:source-icmp-type-range", 32770, List),
    p("lower-type", 32771, Unsigned(U8)),
    p("upper-type", 32772, Unsigned(U8)),
    p("ietf-dots-call-home:alt-ch-client", 32773, Text),
    p("ietf-dots-call-home:alt-ch-client-record", 32774, TextList),
    p("ietf-dots-call-home:ttl", 32775, Unsigned(U32)),
    // RFC 9362
    p("ietf-dots-robust-trans:max-payloads", 32776, Map),
    p("ietf-dots-robust-trans:non-max-retransmit", 32777, Map),
    p("ietf-dots-robust-trans:non-timeout", 32778, Map),
    p("ietf-dots-robust-trans:non-receive-timeout", 32779, Map),
    p("ietf-dots-robust-trans:non-probing-wait", 32780, Map),
    p("ietf-dots-robust-trans:non-partial-timeout", 32781, Map),
];

const fn p(name: &'static str, key: u16, kind: Kind) -> Parameter {
    Parameter { name, key, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ascend_and_names_are_unique() {
        assert!(PARAMETERS.windows(2).all(|pair| pair[0].key < pair[1].key));
        for parameter in PARAMETERS {
            assert_eq!(by_name(parameter.name).unwrap().key, parameter.key);
            assert_eq!(by_key(parameter.key).unwrap().name, parameter.name);
        }
        assert_eq!(PARAMETERS.len(), 150);
    }

    #[test]
    fn base_keys_are_required_and_the_rest_optional() {
        for parameter in PARAMETERS {
            let required = parameter.key <= 53;
            assert_eq!(
                Comprehension::of(parameter.key) == Comprehension::Required,
                required,
                "{}",
                parameter.name
            );
        }
        assert_eq!(Comprehension::of(16_383), Comprehension::Required);
        assert_eq!(Comprehension::of(16_384), Comprehension::Optional);
    }

    #[test]
    fn roots_are_containers() {
        assert!(ROOTS.iter().all(|name| by_name(name).unwrap().kind == Map));
    }
}
