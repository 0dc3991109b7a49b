//! What is normal as RFC 9244 says it (§7.3): learned baselines into a telemetry setup, and others' back into ours.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weir_baseline::{
    Aspect, BaselineReport, CapacityConfig, ImportedBaseline, Level, Metric, PortNormal,
    ProtocolNormal,
};
use weir_dots_proto::body::{
    Baseline, ConnectionCapacity, Gauges, TelemetrySettings, TelemetrySetup, Traffic, TrafficPort,
    TrafficProtocol, Unit, UnitClass,
};
use weir_flow_record::{Direction, Quantity};

use crate::config::{Share, UpstreamSettings};

/// Protocols and ports told of a target: the busiest.
const MAX_PROTOCOLS: usize = 8;
const MAX_PORTS: usize = 16;

/// Baselines as one setup, numbered from 1; `None` where there is nothing to tell.
#[must_use]
pub fn baseline_settings(reports: &[BaselineReport]) -> Option<TelemetrySettings> {
    let baseline: Vec<Baseline> = (1..).zip(reports).map(|(id, it)| item(id, it)).collect();
    (!baseline.is_empty()).then(|| TelemetrySettings {
        baseline,
        ..TelemetrySettings::default()
    })
}

/// The body of a telemetry setup with baselines.
#[must_use]
pub fn baseline_body(reports: &[BaselineReport]) -> TelemetrySetup {
    TelemetrySetup {
        telemetry: baseline_settings(reports).into_iter().collect(),
        ..TelemetrySetup::default()
    }
}

/// The part of an upstream's setup plan that tells baselines; `None` where it may not know, or there is none of its prefixes.
#[must_use]
pub fn baseline_plan(
    upstream: &UpstreamSettings,
    reports: &[BaselineReport],
) -> Option<TelemetrySettings> {
    if !upstream.share.contains(&Share::Setup) {
        return None;
    }
    let told: Vec<BaselineReport> = reports
        .iter()
        .filter(|report| upstream.holds(&report.prefixes))
        .cloned()
        .collect();
    baseline_settings(&told)
}

/// Whether baselines differ noticeably from those that were told: a target has come, or a level of all its traffic has
/// changed by more than `change` of what it was.
#[must_use]
pub fn has_changed(told: &[BaselineReport], now: &[BaselineReport], change: f64) -> bool {
    now.iter().any(|report| {
        let known = told
            .iter()
            .find(|other| (&other.kind, &other.name) == (&report.kind, &report.name));
        known.is_none_or(|known| {
            let levels = [
                (known.total.bits, report.total.bits),
                (known.total.packets, report.total.packets),
            ];
            known.capacities != report.capacities
                || levels.iter().any(|(old, new)| {
                    [(old.mid, new.mid), (old.high, new.high)]
                        .iter()
                        .any(|(old, new)| (new - old).abs() > change * old.max(1.0))
                })
        })
    })
}

fn item(id: u32, report: &BaselineReport) -> Baseline {
    let mut protocols: Vec<&ProtocolNormal> = report.protocols.iter().collect();
    protocols.sort_by(|a, b| b.normal.bits.average.total_cmp(&a.normal.bits.average));
    protocols.truncate(MAX_PROTOCOLS);
    protocols.sort_by_key(|it| it.protocol);
    let mut ports: Vec<(u16, [Level; 2])> = by_port(report).into_iter().collect();
    ports.sort_by(|a, b| b.1[0].average.total_cmp(&a.1[0].average));
    ports.truncate(MAX_PORTS);
    ports.sort_by_key(|(port, _)| *port);
    let of_zone = || report.capacities.iter();
    Baseline {
        id,
        target_prefix: report.prefixes.clone(),
        total_traffic_normal: traffic(&report.total.bits, &report.total.packets).into(),
        total_traffic_normal_per_protocol: protocols
            .iter()
            .flat_map(|ProtocolNormal { protocol, normal }| {
                traffic(&normal.bits, &normal.packets).map(|traffic| TrafficProtocol {
                    protocol: *protocol,
                    traffic,
                })
            })
            .collect(),
        total_traffic_normal_per_port: ports
            .iter()
            .flat_map(|(port, [bits, packets])| {
                traffic(bits, packets).map(|traffic| TrafficPort {
                    port: *port,
                    traffic,
                })
            })
            .collect(),
        total_connection_capacity: of_zone()
            .filter(|capacity| capacity.port.is_none())
            .map(capacity)
            .collect(),
        total_connection_capacity_per_port: of_zone()
            .filter(|capacity| capacity.port.is_some())
            .map(capacity)
            .collect(),
        ..Baseline::default()
    }
}

/// Ports with all their protocols together, bits and packets: RFC 9244 tells them without.
fn by_port(report: &BaselineReport) -> BTreeMap<u16, [Level; 2]> {
    let mut ports = BTreeMap::<u16, [Level; 2]>::new();
    for PortNormal { port, normal, .. } in &report.ports {
        let [bits, packets] = ports.entry(*port).or_default();
        add(bits, &normal.bits);
        add(packets, &normal.packets);
    }
    ports
}

fn add(level: &mut Level, other: &Level) {
    level.low += other.low;
    level.mid += other.mid;
    level.high += other.high;
    level.peak += other.peak;
    level.average += other.average;
}

fn traffic(bits: &Level, packets: &Level) -> [Traffic; 2] {
    [
        Traffic::in_bits(&gauges(bits)),
        Traffic::in_packets(&gauges(packets)),
    ]
}

fn gauges(level: &Level) -> Gauges {
    // A baseline has no current value (RFC 9244 §7.3).
    let whole = |value: f64| Some(value.round() as u64);
    Gauges {
        low_percentile_g: whole(level.low),
        mid_percentile_g: whole(level.mid),
        high_percentile_g: whole(level.high),
        peak_g: whole(level.peak),
        current_g: None,
    }
}

fn capacity(capacity: &CapacityConfig) -> ConnectionCapacity {
    let number = |quantity: Option<Quantity>| quantity.map(|quantity| quantity.0);
    ConnectionCapacity {
        protocol: capacity.protocol,
        port: capacity.port,
        connection: number(capacity.connections),
        connection_client: number(capacity.connections_per_client),
        embryonic: number(capacity.embryonic),
        connection_ps: number(capacity.connections_per_second),
        connection_client_ps: number(capacity.connections_per_second_per_client),
        request_ps: number(capacity.requests_per_second),
        ..ConnectionCapacity::default()
    }
}

/// Others' baselines as ours takes them, and how many say nothing that can be taken: of names, of ranges of ports. `owned` stands
/// for the whole domain where a baseline names no target.
#[must_use]
pub fn imported_baselines<'a>(
    baselines: impl IntoIterator<Item = &'a Baseline>,
    owned: &[IpNet],
) -> (Vec<ImportedBaseline>, usize) {
    let mut imported: Vec<ImportedBaseline> = Vec::new();
    let mut refused = 0;
    for baseline in baselines {
        let Some(one) = import(baseline, owned) else {
            refused += 1;
            continue;
        };
        // Of one target there may be several, each of a protocol or port.
        match imported.iter_mut().find(|it| it.prefixes == one.prefixes) {
            Some(known) => known.aspects.extend(one.aspects),
            None => imported.push(one),
        }
    }
    (imported, refused)
}

fn import(baseline: &Baseline, owned: &[IpNet]) -> Option<ImportedBaseline> {
    let named = !baseline.target_fqdn.is_empty()
        || !baseline.target_uri.is_empty()
        || !baseline.alias_name.is_empty();
    if named {
        return None;
    }
    let mut aspects: Vec<(Aspect, Vec<(Metric, Level)>)> = Vec::new();
    let whole = whole_aspect(baseline)?;
    for traffic in &baseline.total_traffic_normal {
        note(&mut aspects, whole, traffic);
    }
    if whole == Aspect::Total {
        for TrafficProtocol { protocol, traffic } in &baseline.total_traffic_normal_per_protocol {
            note(&mut aspects, Aspect::Protocol(*protocol), traffic);
        }
        for TrafficPort { port, traffic } in &baseline.total_traffic_normal_per_port {
            let (protocol, port) = (0, *port);
            note(&mut aspects, Aspect::Port { protocol, port }, traffic);
        }
    }
    let prefixes = match baseline.target_prefix.as_slice() {
        [] => owned,
        prefixes => prefixes,
    };
    (!aspects.is_empty()).then(|| ImportedBaseline {
        prefixes: prefixes.to_vec(),
        direction: Direction::In,
        aspects,
    })
}

/// What the traffic of a baseline as a whole is of: `None` where it is of several protocols or ports together.
fn whole_aspect(baseline: &Baseline) -> Option<Aspect> {
    let protocol = match baseline.target_protocol.as_slice() {
        [] => None,
        [protocol] => Some(*protocol),
        _ => return None,
    };
    match (baseline.target_port_range.as_slice(), protocol) {
        ([], None) => Some(Aspect::Total),
        ([], Some(protocol)) => Some(Aspect::Protocol(protocol)),
        ([range], protocol)
            if range
                .upper_port
                .is_none_or(|upper| upper == range.lower_port) =>
        {
            Some(Aspect::Port {
                protocol: protocol.unwrap_or(0),
                port: range.lower_port,
            })
        }
        _ => None,
    }
}

fn note(aspects: &mut Vec<(Aspect, Vec<(Metric, Level)>)>, aspect: Aspect, traffic: &Traffic) {
    let (metric, factor) = match traffic.unit.class() {
        UnitClass::BitPs => (Metric::Bits, 1.0),
        UnitClass::BytePs => (Metric::Bits, 8.0),
        UnitClass::PacketPs => (Metric::Packets, 1.0),
    };
    let Some(level) = level(traffic, factor) else {
        return;
    };
    let place = match aspects.iter().position(|(other, _)| *other == aspect) {
        Some(place) => place,
        None => {
            aspects.push((aspect, Vec::new()));
            aspects.len() - 1
        }
    };
    if let Some((_, metrics)) = aspects.get_mut(place)
        && !metrics.iter().any(|(other, _)| *other == metric)
    {
        metrics.push((metric, level));
    }
}

/// A level in base units; what is not said is as the nearest that is. `None` where nothing is said.
fn level(traffic: &Traffic, factor: f64) -> Option<Level> {
    let unit: Unit = traffic.unit;
    let value =
        |gauge: Option<u64>| gauge.map(|gauge| gauge as f64 * unit.factor() as f64 * factor);
    let low = value(traffic.low_percentile_g);
    let mid = value(traffic.mid_percentile_g);
    let high = value(traffic.high_percentile_g);
    let peak = value(traffic.peak_g);
    let middle = mid.or(high).or(low).or(peak)?;
    Some(Level {
        low: low.unwrap_or(middle),
        mid: middle,
        high: high.unwrap_or(middle),
        peak: peak.or(high).unwrap_or(middle),
        average: middle,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_baseline::Normal;
    use weir_dots_proto::body::{Body, PortRange};
    use weir_flow_record::Timestamp;

    fn normal(bits: f64) -> Normal {
        let level = |mid: f64| Level {
            low: mid / 2.0,
            mid,
            high: mid * 1.5,
            peak: mid * 2.0,
            average: mid,
        };
        Normal {
            bits: level(bits),
            packets: level(bits / 8000.0),
            flows: level(bits / 1e6),
            connections: None,
            seconds_learned: 86_400,
            since: Timestamp::default(),
            updated: Timestamp::default(),
            confidence: 0.5,
            imported: 0.0,
        }
    }

    fn report(bits: f64) -> BaselineReport {
        BaselineReport {
            kind: "zone".to_owned(),
            name: "customer-a".to_owned(),
            prefixes: vec!["203.0.113.0/24".parse().unwrap()],
            direction: Direction::In,
            total: normal(bits),
            protocols: [(17, 4.0), (6, 2.0)]
                .map(|(protocol, part)| ProtocolNormal {
                    protocol,
                    normal: normal(bits / part),
                })
                .to_vec(),
            ports: [(6, 4.0), (17, 8.0)]
                .map(|(protocol, part)| PortNormal {
                    protocol,
                    port: 443,
                    normal: normal(bits / part),
                })
                .to_vec(),
            vectors: Vec::new(),
            capacities: vec![
                CapacityConfig {
                    zone: "customer-a".to_owned(),
                    protocol: 6,
                    connections: Some(Quantity(100_000)),
                    ..CapacityConfig::default()
                },
                CapacityConfig {
                    zone: "customer-a".to_owned(),
                    protocol: 6,
                    port: Some(443),
                    connections_per_second: Some(Quantity(5000)),
                    ..CapacityConfig::default()
                },
            ],
        }
    }

    #[test]
    fn what_goes_out_comes_back() {
        let body = baseline_body(&[report(4e9)]);
        let json = body.to_json();
        let again = TelemetrySetup::from_json(&json).unwrap();
        assert_eq!(again, body);
        let baseline = &again.telemetry[0].baseline[0];
        assert_eq!(baseline.total_traffic_normal[0].unit, Unit::MegabitPs);
        assert_eq!(
            baseline.total_connection_capacity[0].connection,
            Some(100_000)
        );
        let by_port = &baseline.total_connection_capacity_per_port[0];
        assert_eq!(
            (by_port.port, by_port.connection_ps),
            (Some(443), Some(5000))
        );
        let (imported, refused) = imported_baselines(&again.telemetry[0].baseline, &[]);
        assert_eq!((imported.len(), refused), (1, 0));
        let level = |aspect, metric| {
            let (_, metrics) = imported[0]
                .aspects
                .iter()
                .find(|(a, _)| *a == aspect)
                .unwrap();
            metrics.iter().find(|(m, _)| *m == metric).unwrap().1
        };
        let total = level(Aspect::Total, Metric::Bits);
        assert_eq!((total.low, total.mid, total.peak), (2e9, 4e9, 8e9));
        assert_eq!(level(Aspect::Total, Metric::Packets).mid, 500_000.0);
        assert_eq!(level(Aspect::Protocol(17), Metric::Bits).mid, 1e9);
        // TCP and UDP of a port together.
        let https = Aspect::Port {
            protocol: 0,
            port: 443,
        };
        assert_eq!(level(https, Metric::Bits).mid, 1.5e9);
    }

    #[test]
    fn what_is_no_level_of_a_prefix_is_left_out() {
        let traffic = vec![Traffic {
            unit: Unit::MegabytePs,
            low_percentile_g: None,
            mid_percentile_g: None,
            high_percentile_g: Some(10),
            peak_g: None,
            current_g: None,
        }];
        let baseline = |change: fn(&mut Baseline)| {
            let mut baseline = Baseline {
                id: 1,
                total_traffic_normal: traffic.clone(),
                ..Baseline::default()
            };
            change(&mut baseline);
            baseline
        };
        let range = |lower_port, upper_port| {
            vec![PortRange {
                lower_port,
                upper_port,
            }]
        };
        let all = [
            baseline(|_| ()),
            baseline(|it| it.target_protocol = vec![6]),
            baseline(|it| it.target_fqdn = vec!["www.example.net".to_owned()]),
            baseline(|it| it.target_protocol = vec![6, 17]),
            Baseline {
                target_port_range: range(443, None),
                ..baseline(|_| ())
            },
            Baseline {
                target_port_range: range(1, Some(1023)),
                ..baseline(|_| ())
            },
            Baseline::default(),
        ];
        let owned: IpNet = "203.0.113.0/24".parse().unwrap();
        let (imported, refused) = imported_baselines(&all, &[owned]);
        assert_eq!((imported.len(), refused), (1, 4));
        assert_eq!(imported[0].prefixes, [owned]);
        let aspects: Vec<Aspect> = imported[0]
            .aspects
            .iter()
            .map(|(aspect, _)| *aspect)
            .collect();
        let port = Aspect::Port {
            protocol: 0,
            port: 443,
        };
        assert_eq!(aspects, [Aspect::Total, Aspect::Protocol(6), port]);
        assert_eq!(imported[0].aspects[0].1[0].1.mid, 80e6);
    }

    #[test]
    fn only_what_changes_noticeably_is_told_again() {
        let told = [report(1e9)];
        assert!(!has_changed(&told, &[report(1.15e9)], 0.2));
        assert!(has_changed(&told, &[report(1.25e9)], 0.2));
        assert!(!has_changed(&told, &[], 0.2));
        assert!(has_changed(&[], &told, 0.2));
    }
}
