use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_flow_record::{Direction, Timestamp};

use crate::{Evidence, Findings, MitigationReport, ModelWord, Severity, TopTalker, VectorShare};

/// An attack's name: derived from zone, target, direction and start second, so that a replay gives the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttackId(pub Arc<str>);

impl AttackId {
    /// The name of the attack on `target` that began in `start_second` (since the epoch): 16 hexadecimal digits of FNV-1a.
    pub fn derive(zone: &str, target: IpNet, direction: Direction, start_second: i64) -> Self {
        let text = format!("{zone}\0{target}\0{direction:?}\0{start_second}");
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(format!("{hash:016x}").into())
    }
}

impl fmt::Display for AttackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an event tells of its attack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// It was judged an attack for the first time.
    AttackStart,
    /// Vectors, severity, target, findings or mitigation changed, or `update_interval` has passed.
    AttackUpdate,
    /// It is over.
    AttackEnd,
}

/// What is attacked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The prefix; a host is a /32 or /128. For a whole zone its first prefix.
    pub prefix: IpNet,
    /// All prefixes where the target is a whole zone with several; else empty.
    pub other_prefixes: Vec<IpNet>,
    /// The zone's name.
    pub zone: Arc<str>,
    /// Traffic to the target or from it.
    pub direction: Direction,
}

/// One metric of an attack: percentiles over 1-s samples since the start (at most the measurement interval), the peak, the
/// newest complete second, and the interval (95 %) in which the current value lies.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Gauge {
    /// 10th percentile.
    pub low: u64,
    /// 50th percentile.
    pub mid: u64,
    /// 90th percentile.
    pub high: u64,
    /// Largest sample.
    pub peak: u64,
    /// Newest sample.
    pub current: u64,
    /// Lower and upper bound of `current`; no upper bound where a sampling rate is unknown.
    pub interval: (u64, Option<u64>),
}

/// The three metrics of a target.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Traffic {
    /// Bits per second.
    pub bits_per_second: Gauge,
    /// Packets per second.
    pub packets_per_second: Gauge,
    /// New flows per second.
    pub flows_per_second: Gauge,
}

/// The normal level that an attack was measured against.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct BaselineRef {
    /// Normal bits per second.
    pub bits_per_second: u64,
    /// Normal packets per second.
    pub packets_per_second: u64,
    /// The high percentile of the hour: bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_bits_per_second: Option<u64>,
    /// The same in packets per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_packets_per_second: Option<u64>,
    /// Seconds in peace that it was learned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_learned: Option<u64>,
    /// The newest second that it was learned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
    /// How much it rests on: 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// Why an attack was called one: a sentence with figures.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reason(pub String);

/// How much of the exported traffic was seen: 0 to 1; missing records and socket drops lower it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coverage(pub f64);

/// A message about one attack.
#[derive(Clone, PartialEq, Debug)]
pub struct AttackEvent {
    /// Start, update or end.
    pub kind: EventKind,
    /// The attack.
    pub id: AttackId,
    /// When this message was made.
    pub time: Timestamp,
    /// When the attack was first judged one.
    pub detected_at: Timestamp,
    /// When it began, by event time.
    pub start_time: Timestamp,
    /// When it ended; only in an end.
    pub end_time: Option<Timestamp>,
    /// What is attacked.
    pub target: Target,
    /// Kinds of traffic, largest share first; in an end those of the whole attack.
    pub vectors: Vec<VectorShare>,
    /// The worst so far.
    pub severity: Severity,
    /// Its traffic.
    pub traffic: Traffic,
    /// The normal level, where one is known.
    pub baseline: Option<BaselineRef>,
    /// Why, in words and figures.
    pub why: Vec<Reason>,
    /// What the drill-down found; `None` until it has answered.
    pub findings: Option<Findings>,
    /// How much of the traffic was seen.
    pub coverage: Coverage,
    /// Whether the figures are less sure than they look: much was not seen, or a sampling rate is unknown.
    pub degraded: bool,
    /// The upstream's latest word.
    pub mitigation: Option<MitigationReport>,
    /// Whether the zone (or the detector) runs dry: nobody is asked for help.
    pub dry_run: bool,
    /// What a model says of it, where one does.
    pub model: Option<ModelWord>,
}

/// The published form of an event.
#[derive(Serialize, Deserialize)]
struct Line {
    event: EventKind,
    id: AttackId,
    time: Timestamp,
    detected_at: Timestamp,
    start_time: Timestamp,
    end_time: Option<Timestamp>,
    target: IpNet,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    other_prefixes: Vec<IpNet>,
    zone: Arc<str>,
    direction: Direction,
    vectors: Vec<VectorShare>,
    severity: Severity,
    traffic: Traffic,
    baseline: Option<BaselineRef>,
    why: Vec<Reason>,
    top_talkers: Vec<TopTalker>,
    ports: Vec<crate::PortShare>,
    protocols: Vec<crate::ProtocolShare>,
    source_count: Option<u64>,
    #[serde(flatten)]
    evidence: Evidence,
    coverage: Coverage,
    #[serde(default)]
    degraded: bool,
    mitigation: Option<MitigationReport>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<ModelWord>,
}

impl Serialize for AttackEvent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.clone();
        let (top_talkers, ports, protocols, source_count, evidence) = match event.findings {
            Some(found) => (
                found.top_talkers,
                found.ports,
                found.protocols,
                Some(found.source_count),
                found.evidence,
            ),
            None => Default::default(),
        };
        Line {
            event: event.kind,
            id: event.id,
            time: event.time,
            detected_at: event.detected_at,
            start_time: event.start_time,
            end_time: event.end_time,
            target: event.target.prefix,
            other_prefixes: event.target.other_prefixes,
            zone: event.target.zone,
            direction: event.target.direction,
            vectors: event.vectors,
            severity: event.severity,
            traffic: event.traffic,
            baseline: event.baseline,
            why: event.why,
            top_talkers,
            ports,
            protocols,
            source_count,
            evidence,
            coverage: event.coverage,
            degraded: event.degraded,
            mitigation: event.mitigation,
            dry_run: event.dry_run,
            model: event.model,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AttackEvent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let line = Line::deserialize(deserializer)?;
        let findings = line.source_count.map(|source_count| Findings {
            attack: line.id.clone(),
            top_talkers: line.top_talkers,
            ports: line.ports,
            protocols: line.protocols,
            source_count,
            rows: 0,
            complete: true,
            evidence: line.evidence,
        });
        Ok(Self {
            kind: line.event,
            id: line.id,
            time: line.time,
            detected_at: line.detected_at,
            start_time: line.start_time,
            end_time: line.end_time,
            target: Target {
                prefix: line.target,
                other_prefixes: line.other_prefixes,
                zone: line.zone,
                direction: line.direction,
            },
            vectors: line.vectors,
            severity: line.severity,
            traffic: line.traffic,
            baseline: line.baseline,
            why: line.why,
            findings,
            coverage: line.coverage,
            degraded: line.degraded,
            mitigation: line.mitigation,
            dry_run: line.dry_run,
            model: line.model,
        })
    }
}
