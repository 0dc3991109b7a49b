//! The lab mitigator works before the router: what it drops is missing in the exports, and what it spares is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Reader, run};
use weir_datasets::{Attack, AttackVector, LabMitigator, LabScope, Network, Scenario, Sources};
use weir_flow_record::{Address, Timestamp, Vector};

fn start() -> Timestamp {
    Timestamp::from_seconds(1_700_000_000)
}

fn at(seconds: u64) -> Timestamp {
    start().plus(Duration::from_secs(seconds))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn scope(target: Address) -> LabScope {
    LabScope {
        prefixes: vec![target.host()],
        ..LabScope::default()
    }
}

#[test]
fn exports_show_that_mitigation_works() {
    for prefix in [0, 1] {
        let mut scenario = Scenario::lab(9, start());
        let target = scenario.host(prefix, 0).unwrap();
        scenario
            .attacks
            .push(Attack::lab(target, at(5), seconds(10)));
        let mut network = Network::new(scenario).unwrap();
        let mut mitigator = LabMitigator::new();
        let shared = mitigator.clone();
        let mut reader = Reader::default();

        run(&mut network, seconds(8), &mut mitigator, &mut reader);
        assert_eq!(shared.report(7), None);
        shared.apply(7, scope(target));
        assert_eq!(shared.report(7).unwrap().packets_dropped, 0);
        run(&mut network, seconds(2), &mut mitigator, &mut reader);
        let report = shared.report(7).unwrap();
        close(report.packets_per_second, 80_000, 0.05);
        close(report.bytes_per_second, 60_000 * 1200 + 20_000 * 60, 0.05);
        close(report.packets_dropped, 160_000, 0.05);
        assert_eq!(report.quiet_for, Duration::ZERO);

        run(&mut network, seconds(12), &mut mitigator, &mut reader);
        let report = shared.report(7).unwrap();
        assert_eq!((report.packets_per_second, report.bytes_per_second), (0, 0));
        assert!(report.quiet_for >= seconds(6), "{report:?}");
        let totals = network.totals();
        assert_eq!(
            totals.sent_packets - totals.passed_packets,
            report.packets_dropped
        );
        assert_eq!(
            totals.sent_octets - totals.passed_octets,
            report.bytes_dropped
        );

        let rate = |from, to| reader.octets_to(target.ip(), at(from), at(to)) / (to - from);
        let (normal, attacked, mitigated) = (rate(0, 5), rate(5, 8), rate(9, 14));
        assert!(attacked > 100 * normal.max(1000), "{normal} {attacked}");
        assert!(mitigated < attacked / 100, "{attacked} {mitigated}");
        assert!(mitigated > 0, "good traffic passes");
        assert_eq!(shared.withdraw(7), Some(report));
        assert_eq!((shared.withdraw(7), shared.ids()), (None, Vec::new()));
    }
}

#[test]
fn good_traffic_passes() {
    let scenario = Scenario {
        packets_per_second: 20_000,
        ..Scenario::lab(4, start())
    };
    let prefixes = scenario.prefixes.clone();
    let mut network = Network::new(scenario).unwrap();
    let mut mitigator = LabMitigator::new();
    network.handle_step(at(3), &mut mitigator);
    mitigator.apply(
        1,
        LabScope {
            prefixes,
            ..LabScope::default()
        },
    );
    network.handle_step(at(33), &mut mitigator);
    let dropped = mitigator.report(1).unwrap().packets_dropped;
    let sent = network.totals().sent_packets;
    assert!(dropped * 1000 < sent, "{dropped} of {sent}");
    assert_eq!(mitigator.refused_peers(), 0);
}

#[test]
fn only_what_the_scope_names_is_dropped() {
    let lab = Scenario::lab(4, start());
    let target = lab.host(0, 1).unwrap();
    let other = lab.host(0, 2).unwrap();
    let whole = scope(target);
    for (scope, expected) in [
        (whole.clone(), 80_000),
        (
            LabScope {
                protocols: vec![17],
                ..whole.clone()
            },
            60_000,
        ),
        (
            LabScope {
                protocols: vec![6],
                port_ranges: vec![440..=450],
                ..whole.clone()
            },
            20_000,
        ),
        (
            LabScope {
                port_ranges: vec![20_000..=65_535],
                ..whole.clone()
            },
            60_000,
        ),
        (
            LabScope {
                protocols: vec![6],
                port_ranges: vec![80..=80],
                ..whole.clone()
            },
            0,
        ),
        (
            LabScope {
                prefixes: vec![other.host()],
                ..LabScope::default()
            },
            0,
        ),
        (
            LabScope {
                prefixes: vec!["::/0".parse().unwrap()],
                ..LabScope::default()
            },
            0,
        ),
    ] {
        let mut scenario = Scenario {
            packets_per_second: 0,
            ..lab.clone()
        };
        scenario
            .attacks
            .push(Attack::lab(target, start(), seconds(1)));
        let mut network = Network::new(scenario).unwrap();
        let mut mitigator = LabMitigator::new();
        mitigator.apply(1, scope.clone());
        network.handle_step(at(1), &mut mitigator);
        let dropped = mitigator.report(1).unwrap().packets_dropped;
        assert!(
            dropped.abs_diff(expected) <= expected / 20,
            "{scope:?}: {dropped}"
        );
    }
}

#[test]
fn every_vector_is_held_down() {
    for vector in Vector::ALL {
        let mut scenario = Scenario {
            packets_per_second: 0,
            ..Scenario::lab(4, start())
        };
        let target = scenario.host(1, 1).unwrap();
        let vectors = vec![AttackVector {
            vector,
            packets_per_second: 50_000,
            packet_octets: 100,
            sources: Sources::Hosts(100),
        }];
        scenario.attacks.push(Attack {
            target,
            vectors,
            start: start(),
            duration: seconds(5),
        });
        let mut network = Network::new(scenario).unwrap();
        let mut mitigator = LabMitigator::new();
        mitigator.apply(1, scope(target));
        network.handle_step(at(5), &mut mitigator);
        let totals = network.totals();
        assert!(totals.passed_packets <= 1000 * 6, "{vector}: {totals:?}");
        assert!(totals.sent_packets > 240_000);
    }
}

fn close(seen: u64, expected: u64, tolerance: f64) {
    let ratio = seen as f64 / expected as f64;
    assert!(
        (ratio - 1.0).abs() < tolerance,
        "{seen} instead of {expected}"
    );
}
