//! Minutes for baselines: sums of busy hosts and prefixes, zones by protocol and port.

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

mod support;

use std::collections::BTreeMap;

use support::*;
use weir_flow_aggregate::{
    AggregateSettings, AggregationConfig, Aggregator, Interesting, MinuteProfile, PrefixLength,
    TargetScope, TrafficPart, ZonePrefixes,
};
use weir_flow_record::{Address, Direction, Row, TCP_SYN, ZoneId};

/// The minute's beginning: a multiple of 60 s.
const MINUTE: i64 = START - START % (60 * SECOND) + 60 * SECOND;

fn both_ways() -> Aggregator {
    let interesting = |direction| Interesting {
        direction,
        octets: Some(u64::MAX / 4),
        packets: None,
        flows: None,
    };
    Aggregator::new(AggregateSettings {
        config: AggregationConfig::default(),
        zones: vec![ZonePrefixes {
            zone: ZoneId(0),
            prefixes: vec!["10.0.0.0/8".parse().unwrap()],
            interesting: vec![interesting(Direction::In), interesting(Direction::Out)],
            prefix_lengths: vec![PrefixLength {
                v4: 24,
                v6: 48,
                interesting: interesting(Direction::In),
            }],
            automatic: Vec::new(),
        }],
        links: Vec::new(),
        shard: 0,
        active_timeouts: Vec::new(),
    })
}

fn https(to: Address, received: i64, packets: u64) -> Row {
    Row {
        protocol: 6,
        source_port: 51_000,
        destination_port: 443,
        tcp_flags: TCP_SYN,
        ..row(to, received, 0, 0, packets * 100, packets, 10)
    }
}

/// Feeds each tenth of a second until `until` seconds of the minute; all slices of the minute that was told.
fn run(
    aggregator: &mut Aggregator,
    until: i64,
    rows: impl Fn(i64) -> Vec<Row>,
) -> Vec<MinuteProfile> {
    let mut told = Vec::new();
    for tenth in -50..until * 10 {
        let received = MINUTE + tenth * SECOND / 10;
        aggregator.handle_batch(&batch(received, &rows(received)));
        let minute = tick(aggregator).and_then(|summary| summary.minute);
        told.extend(minute.filter(|minute| minute.first_second == second(MINUTE)));
    }
    told
}

#[test]
fn a_minute_holds_what_passed_in_it() {
    let mut aggregator = both_ways();
    let told = run(&mut aggregator, 70, |received| {
        let mut rows = vec![https(v4(1), received, 2), https(v4(300), received, 1)];
        // One packet in 20 s is not worth telling.
        if received % (20 * SECOND) == 0 {
            rows.push(row(v4(2), received, 0, 0, 100, 1, 1));
        }
        rows
    });
    assert_eq!(told.len(), 1);
    assert!(told[0].is_last);
    let rows: BTreeMap<(TargetScope, String), _> = told[0]
        .targets
        .iter()
        .map(|row| ((row.scope, row.target.prefix.to_string()), *row))
        .collect();
    let names: Vec<&str> = rows.keys().map(|(_, prefix)| prefix.as_str()).collect();
    assert_eq!(
        names,
        ["10.0.0.1/32", "10.0.1.44/32", "10.0.0.0/24", "10.0.1.0/24"]
    );
    let host = &rows[&(TargetScope::Host, "10.0.0.1/32".to_owned())];
    // 60 s of ten records a second, of 2 packets, sampled one in ten; a second may be gone already.
    assert!((59..=60).contains(&host.seconds), "{}", host.seconds);
    assert_eq!(host.packets, u64::from(host.seconds) * 200);
    assert_eq!((host.peak_packets, host.peak_flows), (200, 10));
    assert_eq!(host.octets, host.packets * 100);
    let prefix = &rows[&(TargetScope::Prefix, "10.0.0.0/24".to_owned())];
    assert!(prefix.packets >= host.packets && prefix.packets <= host.packets + 3);
    let zone = &told[0].zones[0];
    assert_eq!(zone.target.direction, Direction::In);
    let parts: BTreeMap<_, _> = zone.parts.iter().copied().collect();
    let tcp = &parts[&TrafficPart::Protocol(6)];
    assert_eq!(
        (tcp.flows, tcp.packets, tcp.connections),
        (1200, 18_000, 12_000)
    );
    let port = TrafficPart::Port {
        protocol: 6,
        port: 443,
    };
    assert_eq!(&parts[&port], tcp);
    assert_eq!(parts[&TrafficPart::Protocol(17)].flows, 3);
}

#[test]
fn hosts_are_told_in_slices_and_each_once() {
    let mut aggregator = aggregator(None, 8192);
    let told = run(&mut aggregator, 75, |received| {
        // 5,000 hosts, each with 100 packets in the minute.
        let slice = (received / (SECOND / 10)).rem_euclid(10) as u16 * 500;
        let rows = (slice..slice + 500).map(|host| row(v4(host), received, 0, 0, 6000, 60, 1));
        if (received / SECOND) % 10 == 0 {
            rows.collect()
        } else {
            Vec::new()
        }
    });
    assert!(told.len() >= 3, "{}", told.len());
    let rows = told.iter().flat_map(|minute| &minute.targets);
    let mut hosts: Vec<_> = rows.map(|row| row.target.prefix).collect();
    let all = hosts.len();
    hosts.sort_unstable();
    hosts.dedup();
    assert_eq!((all, hosts.len()), (5000, 5000));
    let last: Vec<bool> = told.iter().map(|minute| minute.is_last).collect();
    assert_eq!(last.iter().filter(|last| **last).count(), 1);
}

#[test]
fn estimates_from_some_of_the_records_come_close() {
    let mut aggregator = aggregator(None, 8192);
    // 128 records are a pass; beyond 2,048 passes some stand for all.
    let told = run(&mut aggregator, 66, |received| {
        (0..2048)
            .map(|at| https(v4(at % 100), received, 1 + u64::from(at % 3)))
            .collect()
    });
    let parts: BTreeMap<_, _> = told[0].zones[0].parts.iter().copied().collect();
    let tcp = &parts[&TrafficPart::Protocol(6)];
    let (flows, packets) = (600 * 2048, 600 * 2048 * 20);
    let ratio = |found: u64, wanted: u64| found as f64 / wanted as f64;
    assert!(
        (0.98..1.02).contains(&ratio(tcp.flows, flows)),
        "{}",
        tcp.flows
    );
    assert!(
        (0.98..1.02).contains(&ratio(tcp.packets, packets)),
        "{}",
        tcp.packets
    );
}
