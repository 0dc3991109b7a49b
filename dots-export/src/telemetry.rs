//! The `/tm` body of an attack (RFC 9244 §8.1).

use std::collections::BTreeSet;

use weir_attack_event::{
    AttackEvent, AttackName, EventKind, Findings, Gauge, PortSide, Severity, TopTalker,
};
use weir_dots_proto::Mid;
use weir_dots_proto::body::{
    AttackDetail, AttackSeverity, AttackStatus, Body, Gauges, PreOrOngoingMitigation, SourceCount,
    Talker, Target, Telemetry, TopTalkers, Traffic, TrafficPort, TrafficProtocol,
};
use weir_flow_record::{Direction, Timestamp};

use crate::client::Efficacy;
use crate::scope;

/// Most octets of `application/dots+cbor` in one request. The path MTU is taken for 1280 octets while nothing else is known
/// (RFC 9132 §7.3); IPv6, UDP, a DTLS record and CoAP with the longest path of ours leave a little more than this.
pub const MAX_BODY_OCTETS: usize = 1050;

/// Most octets of telemetry that goes in blocks.
pub const MAX_LARGE_OCTETS: usize = 8192;

/// Octets that `mid-list` may still add to a body: a key, an array and numbers of up to five octets.
const MID_LIST_OCTETS: usize = 32;

/// Ports with a smaller share of the packets are not listed.
const LEAST_PORT_SHARE: f64 = 0.1;

/// Protocols with a smaller share of the packets are not listed.
const LEAST_SHARE: f64 = 0.01;

/// The telemetry of an attack, without `tmid` and `mid-list`, trimmed to [`MAX_LARGE_OCTETS`]: the least of the top talkers go
/// first, then the least of ports, protocols, vectors and prefixes. Where it is larger than a datagram, a server gets it in
/// blocks, and trimmed to [`MAX_BODY_OCTETS`] while it does not answer.
#[must_use]
pub fn telemetry_body(event: &AttackEvent) -> Telemetry {
    let item = PreOrOngoingMitigation {
        target: Some(Target {
            target_prefix: scope::prefixes(&event.target),
            ..Target::default()
        }),
        total_traffic: total_traffic(event),
        total_attack_traffic: total_attack_traffic(event),
        total_attack_traffic_protocol: traffic_by_protocol(event),
        total_attack_traffic_port: traffic_by_port(event),
        attack_detail: attack_details(event),
        ..PreOrOngoingMitigation::default()
    };
    trimmed(single(item), MAX_LARGE_OCTETS)
}

/// The same, trimmed to one datagram.
pub(crate) fn lean(body: Telemetry) -> Telemetry {
    trimmed(body, MAX_BODY_OCTETS)
}

fn single(item: PreOrOngoingMitigation) -> Telemetry {
    Telemetry {
        pre_or_ongoing_mitigation: vec![item],
    }
}

/// An attack of which less than this share of its peak is left is mitigated.
const MITIGATED: f64 = 0.05;

/// What of an attack arrives now (RFC 9132 §4.4.3, RFC 9244 §9.1).
pub(crate) fn efficacy(event: &AttackEvent) -> Efficacy {
    let normal = event
        .baseline
        .as_ref()
        .map_or(0, |normal| normal.packets_per_second);
    let packets = &event.traffic.packets_per_second;
    let above = |value: u64| value.saturating_sub(normal) as f64;
    let left = above(packets.current) / above(packets.peak).max(1.0);
    Efficacy {
        status: if left < MITIGATED {
            AttackStatus::AttackSuccessfullyMitigated
        } else {
            AttackStatus::UnderAttack
        },
        total_attack_traffic: total_attack_traffic(event),
    }
}

/// The same body without descriptions, which are not sent once the vendor's mapping was shared (RFC 9244 §8.1.5).
pub(crate) fn without_descriptions(mut body: Telemetry) -> Telemetry {
    let items = body.pre_or_ongoing_mitigation.iter_mut();
    for detail in items.flat_map(|item| &mut item.attack_detail) {
        // What only a model has a name for is in no mapping.
        if AttackName::is_catalogued(detail.attack_id) {
            detail.attack_description = None;
        }
    }
    body
}

/// The same body with the mitigations that it belongs to.
pub(crate) fn with_mids(body: &Telemetry, mids: &[Mid]) -> Telemetry {
    let mut body = body.clone();
    for item in &mut body.pre_or_ongoing_mitigation {
        item.target.get_or_insert_default().mid_list = mids.to_vec();
    }
    body
}

fn total_traffic(event: &AttackEvent) -> Vec<Traffic> {
    let traffic = &event.traffic;
    vec![
        Traffic::in_bits(&gauges(&traffic.bits_per_second, 0)),
        Traffic::in_packets(&gauges(&traffic.packets_per_second, 0)),
    ]
}

/// What exceeds the normal level; without a baseline all of it.
fn total_attack_traffic(event: &AttackEvent) -> Vec<Traffic> {
    let (bits, packets) = match &event.baseline {
        Some(normal) => (normal.bits_per_second, normal.packets_per_second),
        None => (0, 0),
    };
    vec![
        Traffic::in_bits(&gauges(&event.traffic.bits_per_second, bits)),
        Traffic::in_packets(&gauges(&event.traffic.packets_per_second, packets)),
    ]
}

/// Percentiles in order, which RFC 9244 §7.1 demands, less `normal`.
fn gauges(gauge: &Gauge, normal: u64) -> Gauges {
    let mid = gauge.mid.max(gauge.low);
    let high = gauge.high.max(mid);
    let above = |value: u64| Some(value.saturating_sub(normal));
    Gauges {
        low_percentile_g: above(gauge.low),
        mid_percentile_g: above(mid),
        high_percentile_g: above(high),
        peak_g: above(gauge.peak.max(high)),
        current_g: above(gauge.current),
    }
}

fn traffic_by_protocol(event: &AttackEvent) -> Vec<TrafficProtocol> {
    let Some(findings) = &event.findings else {
        return Vec::new();
    };
    let packets = &event.traffic.packets_per_second;
    let mut seen = BTreeSet::new();
    findings
        .protocols
        .iter()
        .filter(|entry| entry.share >= LEAST_SHARE && seen.insert(entry.protocol))
        .map(|entry| TrafficProtocol {
            protocol: entry.protocol,
            traffic: packets_of(packets, entry.share),
        })
        .collect()
}

/// By the port of the target that it goes to.
fn traffic_by_port(event: &AttackEvent) -> Vec<TrafficPort> {
    let Some(findings) = &event.findings else {
        return Vec::new();
    };
    let packets = &event.traffic.packets_per_second;
    let mut seen = BTreeSet::new();
    findings
        .ports
        .iter()
        .filter(|entry| {
            entry.side == PortSide::Destination
                && entry.share >= LEAST_PORT_SHARE
                && seen.insert(entry.port)
        })
        .map(|entry| TrafficPort {
            port: entry.port,
            traffic: packets_of(packets, entry.share),
        })
        .collect()
}

/// `share` (0 to 1) of the packets.
fn packets_of(packets: &Gauge, share: f64) -> Traffic {
    Traffic::in_packets(&Gauges {
        mid_percentile_g: Some(part(packets.mid, share)),
        peak_g: Some(part(packets.peak.max(packets.mid), share)),
        ..Gauges::default()
    })
}

/// `share` (0 to 1) of a rate.
fn part(rate: u64, share: f64) -> u64 {
    (rate as f64 * share.clamp(0.0, 1.0)).round() as u64
}

/// One entry a vector; what the drill-down found is about the attack as a whole and stands with the largest.
fn attack_details(event: &AttackEvent) -> Vec<AttackDetail> {
    let mut seen = BTreeSet::new();
    let mut details: Vec<AttackDetail> = event
        .vectors
        .iter()
        .filter(|vector| seen.insert((vector.vendor_id, vector.attack_id)))
        .map(|vector| AttackDetail {
            vendor_id: vector.vendor_id,
            attack_id: vector.attack_id,
            attack_description: Some(match event.target.direction {
                Direction::In => vector.name.description(),
                Direction::Out => format!("outgoing: {}", vector.name.description()),
            }),
            attack_severity: Some(severity(event.severity)),
            start_time: Some(seconds(event.start_time)),
            end_time: end_time(event),
            ..AttackDetail::default()
        })
        .collect();
    if let (Some(first), Some(findings)) = (details.first_mut(), &event.findings) {
        first.source_count = source_count(findings);
        first.top_talker = top_talkers(&findings.top_talkers);
    }
    details
}

fn severity(severity: Severity) -> AttackSeverity {
    match severity {
        Severity::Low => AttackSeverity::Low,
        Severity::Medium => AttackSeverity::Medium,
        Severity::High => AttackSeverity::High,
    }
}

fn end_time(event: &AttackEvent) -> Option<u64> {
    match event.kind {
        EventKind::AttackEnd => Some(seconds(event.end_time.unwrap_or(event.time))),
        EventKind::AttackStart | EventKind::AttackUpdate => event.end_time.map(seconds),
    }
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.second()).unwrap_or(0)
}

fn source_count(findings: &Findings) -> Option<SourceCount> {
    (findings.source_count > 0).then(|| SourceCount {
        current_g: Some(findings.source_count),
        ..SourceCount::default()
    })
}

fn top_talkers(found: &[TopTalker]) -> Option<TopTalkers> {
    let mut seen = BTreeSet::new();
    let talker: Vec<Talker> = found
        .iter()
        .filter(|talker| seen.insert(talker.source_prefix.trunc()))
        .map(|found| {
            let mut talker = Talker::new(found.source_prefix.trunc());
            talker.spoofed_status = found.spoofed;
            talker.total_attack_traffic = vec![
                Traffic::in_bits(&mean(found.bits_per_second)),
                Traffic::in_packets(&mean(found.packets_per_second)),
            ];
            talker
        })
        .collect();
    (!talker.is_empty()).then_some(TopTalkers { talker })
}

/// RFC 9244 §7.1 takes the mid percentile for the average.
fn mean(rate: u64) -> Gauges {
    Gauges {
        mid_percentile_g: Some(rate),
        ..Gauges::default()
    }
}

fn trimmed(mut body: Telemetry, octets: usize) -> Telemetry {
    while !fits(&body, octets - MID_LIST_OCTETS) {
        let Some(item) = body.pre_or_ongoing_mitigation.first_mut() else {
            break;
        };
        if !shorten(item) {
            break;
        }
    }
    body
}

/// Whether a body fits one datagram.
pub(crate) fn fits<B: Body>(body: &B, octets: usize) -> bool {
    body.to_cbor().is_ok_and(|cbor| cbor.len() <= octets)
}

/// Takes out what matters least; false when only what is mandatory is left.
fn shorten(item: &mut PreOrOngoingMitigation) -> bool {
    let talkers = item
        .attack_detail
        .first_mut()
        .and_then(|detail| detail.top_talker.as_mut());
    if let Some(talkers) = talkers {
        talkers.talker.pop();
        if talkers.talker.is_empty() {
            item.attack_detail[0].top_talker = None;
        }
        return true;
    }
    if item.total_attack_traffic_port.pop().is_some() {
        return true;
    }
    if item.total_attack_traffic_protocol.pop().is_some() {
        return true;
    }
    if item.attack_detail.len() > 1 {
        item.attack_detail.pop();
        return true;
    }
    match &mut item.target {
        Some(target) if target.target_prefix.len() > 1 => {
            target.target_prefix.pop();
            true
        }
        _ => false,
    }
}
