//! From records to events, over the real aggregator: time, thresholds, life and scopes, told as stories.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::collections::VecDeque;
use std::time::Duration;

use support::{Pipeline, START, at, bits, flow, host, packets, second};
use weir_attack_event::{AttackEvent, EventKind, MitigationStatus, Severity};
use weir_detector::{DetectorConfig, Scope, ThresholdConfig, ZoneConfig, check};
use weir_flow_record::{Address, Direction, Period, Row, Vector};

#[test]
fn a_long_record_raises_no_alarm_and_the_same_octets_in_3_s_do() {
    for target in [
        host(7),
        Address::from("2001:db8:a::7".parse::<std::net::IpAddr>().unwrap()),
    ] {
        // 4.5 GB in 60 s are 600 Mb/s.
        let mut slow = Pipeline::new(&[bits(1_000_000_000)]);
        slow.receive(
            at(60.0),
            &[flow(target, at(0.0), at(60.0), 4_500_000_000, 3_000_000)],
        );
        slow.finish();
        assert_eq!(slow.kinds(), []);

        let mut fast = Pipeline::new(&[bits(1_000_000_000)]);
        fast.receive(
            at(60.0),
            &[flow(target, at(57.0), at(60.0), 4_500_000_000, 3_000_000)],
        );
        fast.finish();
        assert_eq!(fast.kinds().first(), Some(&EventKind::AttackStart));
        assert_eq!(fast.kinds().last(), Some(&EventKind::AttackEnd));
        let start = &fast.events[0];
        assert_eq!(start.target.prefix, target.host());
        assert_eq!(start.severity, Severity::High, "12 × the limit");
        assert!(
            start.why[0].0.contains("12,000,000,000 bit/s"),
            "{:?}",
            start.why
        );
    }
}

#[test]
fn an_attack_told_in_one_burst_begins_in_its_own_time() {
    let mut pipeline = Pipeline::new(&[packets(1_000)]);
    // Seconds 100 to 102 are told at 130, all at once.
    let rows: Vec<Row> = (0..300)
        .map(|index| {
            let start = at(100.0 + f64::from(index) * 0.01);
            flow(host(9), start, start, 6_000, 100)
        })
        .collect();
    pipeline.receive(at(130.0), &rows);
    pipeline.finish();
    let (first, last) = (&pipeline.events[0], pipeline.events.last().unwrap());
    assert_eq!(first.kind, EventKind::AttackStart);
    assert_eq!(first.start_time, at(100.0));
    assert!(
        first.detected_at >= at(130.0) && first.detected_at < at(130.5),
        "{}",
        first.detected_at
    );
    assert_eq!(last.kind, EventKind::AttackEnd);
    assert_eq!(last.end_time, Some(at(103.0)));
    assert_eq!(last.vectors[0].name, Vector::UdpFlood);
    // Again, from the same records: the same events.
    let mut again = Pipeline::new(&[packets(1_000)]);
    again.receive(at(130.0), &rows);
    again.finish();
    assert_eq!(again.events, pipeline.events);
}

#[test]
fn for_3_s_needs_three_seconds_in_a_row() {
    let limit = ThresholdConfig {
        hold: Period(Duration::from_secs(3)),
        ..packets(1_000)
    };
    let mut pipeline = Pipeline::new(&[limit]);
    for (begin, packets) in [
        (0.0, 2_000),
        (1.0, 2_000),
        (2.0, 10),
        (3.0, 2_000),
        (4.0, 2_000),
    ] {
        second(&mut pipeline, begin, host(1), packets, |_| {});
    }
    assert_eq!(pipeline.kinds(), []);
    second(&mut pipeline, 5.0, host(1), 2_000, |_| {});
    pipeline.run(at(6.2));
    assert_eq!(pipeline.kinds(), [EventKind::AttackStart]);
    assert_eq!(pipeline.events[0].start_time, at(3.0));
}

#[test]
fn few_samples_at_a_high_rate_prove_nothing() {
    // 20 sampled packets, 1 in 10,000: 200,000 packets, give or take 88,000.
    let mut pipeline = Pipeline::new(&[packets(150_000)]);
    let mut row = flow(host(2), at(0.5), at(0.5), 2_000, 20);
    row.sampling_rate = 10_000;
    pipeline.receive(at(0.6), &[row]);
    pipeline.finish();
    assert_eq!(pipeline.kinds(), []);
    // At 1 in 10 the same estimate is sure.
    let mut pipeline = Pipeline::new(&[packets(150_000)]);
    let mut row = flow(host(2), at(0.5), at(0.5), 2_000_000, 20_000);
    row.sampling_rate = 10;
    pipeline.receive(at(0.6), &[row]);
    pipeline.finish();
    assert_eq!(pipeline.kinds().first(), Some(&EventKind::AttackStart));
}

#[test]
fn an_unknown_rate_leaves_the_upper_bound_open() {
    let mut pipeline = Pipeline::new(&[packets(1_000)]);
    second(&mut pipeline, 0.0, host(3), 5_000, |row| {
        row.sampling_rate = 0
    });
    pipeline.run(at(1.5));
    let start = &pipeline.events[0];
    assert_eq!(start.traffic.packets_per_second.interval.1, None);
    assert!(
        start
            .why
            .iter()
            .any(|reason| reason.0.contains("no sampling rate")),
        "{:?}",
        start.why
    );
}

#[test]
fn the_upstreams_word_counts() {
    let mut pipeline = Pipeline::new(&[packets(1_000)]);
    for begin in 0..3 {
        second(&mut pipeline, f64::from(begin), host(4), 50_000, |_| {});
    }
    let id = pipeline.events[0].id.clone();
    // The mitigation makes it quiet, and goes on dropping: the attack goes on.
    for elapsed in [4.0, 10.0, 20.0, 30.0] {
        pipeline.run(at(elapsed));
        pipeline.report(
            &id,
            MitigationStatus::AttackSuccessfullyMitigated,
            5_000_000,
            3600,
        );
    }
    pipeline.run(at(60.0));
    assert!(!pipeline.kinds().contains(&EventKind::AttackEnd));
    // The upstream says that the attack has stopped: 10 s later it is over.
    pipeline.report(&id, MitigationStatus::AttackStopped, 0, 3600);
    pipeline.run(at(69.0));
    assert!(!pipeline.kinds().contains(&EventKind::AttackEnd));
    pipeline.run(at(71.0));
    assert_eq!(pipeline.kinds().last(), Some(&EventKind::AttackEnd));
    let end = pipeline.events.last().unwrap();
    assert_eq!(end.end_time, Some(at(3.0)));
    assert_eq!(
        end.mitigation.as_ref().map(|m| m.status),
        Some(MitigationStatus::AttackStopped)
    );
}

#[test]
fn a_mitigation_that_runs_out_holds_nothing() {
    let mut pipeline = Pipeline::new(&[packets(1_000)]);
    second(&mut pipeline, 0.0, host(4), 50_000, |_| {});
    let id = pipeline.events[0].id.clone();
    pipeline.report(
        &id,
        MitigationStatus::AttackSuccessfullyMitigated,
        5_000_000,
        120,
    );
    pipeline.run(at(110.0));
    assert!(!pipeline.kinds().contains(&EventKind::AttackEnd));
    pipeline.run(at(125.0));
    assert_eq!(pipeline.kinds().last(), Some(&EventKind::AttackEnd));
}

#[test]
fn quiet_is_below_clear_below_and_lasts_clear_for() {
    let mut pipeline = Pipeline::new(&[packets(1_000)]);
    second(&mut pipeline, 0.0, host(5), 2_000, |_| {});
    // 900 is below the limit and above 0.8 × the limit.
    for begin in 1..20 {
        second(&mut pipeline, f64::from(begin), host(5), 900, |_| {});
    }
    assert!(!pipeline.kinds().contains(&EventKind::AttackEnd));
    for begin in 20..40 {
        second(&mut pipeline, f64::from(begin), host(5), 700, |_| {});
    }
    let end = pipeline
        .events
        .iter()
        .find(|event| event.kind == EventKind::AttackEnd)
        .unwrap();
    assert_eq!(end.end_time, Some(at(20.0)));
    // settle (5 s) and clear_for (10 s) after the last busy second.
    assert_eq!(end.time.second(), START + 35);
}

#[test]
fn after_a_restart_the_attack_goes_on_under_its_name() {
    let limits = [packets(1_000)];
    let mut first = Pipeline::new(&limits);
    for begin in 0..3 {
        second(&mut first, f64::from(begin), host(6), 5_000, |_| {});
    }
    let id = first.events[0].id.clone();
    let mut next = Pipeline::new(&limits);
    for row in first.kept() {
        next.detector.restore(row);
    }
    next.drain();
    assert_eq!(next.detector.open_attacks().collect::<Vec<_>>(), [&id]);
    for begin in 10..13 {
        second(&mut next, f64::from(begin), host(6), 5_000, |_| {});
    }
    next.finish();
    assert!(
        !next.kinds().contains(&EventKind::AttackStart),
        "{:?}",
        next.kinds()
    );
    let end = next.events.last().unwrap();
    assert_eq!(
        (end.kind, &end.id, end.end_time),
        (EventKind::AttackEnd, &id, Some(at(13.0)))
    );
    let row = next.saved.iter().rfind(|row| row.key() == id.to_string());
    assert!(row.unwrap().is_removal());
}

#[test]
fn vectors_join_and_severity_never_falls() {
    let mut pipeline = Pipeline::new(&[packets(1_000)]);
    second(&mut pipeline, 0.0, host(8), 4_000, |_| {});
    for begin in 1..5 {
        second(&mut pipeline, f64::from(begin), host(8), 1_500, |row| {
            (row.protocol, row.tcp_flags) = (6, weir_flow_record::TCP_SYN);
        });
    }
    pipeline.finish();
    let names = |event: &AttackEvent| {
        let vectors = event.vectors.iter();
        vectors.filter_map(|v| v.name.vector()).collect::<Vec<_>>()
    };
    assert_eq!(names(&pipeline.events[0]), [Vector::UdpFlood]);
    let end = pipeline.events.last().unwrap();
    assert_eq!(names(end), [Vector::TcpSynFlood, Vector::UdpFlood]);
    let shares: f64 = end.vectors.iter().map(|vector| vector.share).sum();
    assert!((shares - 1.0).abs() < 1e-9);
    assert!(pipeline.events.is_sorted_by_key(|event| event.severity));
    assert_eq!(end.severity, Severity::Medium);
}

#[test]
fn carpet_bombing_is_seen_on_the_zone_and_a_single_host_is_told_once() {
    let zone = ThresholdConfig {
        scope: Scope::Zone,
        ..packets(50_000)
    };
    let host_limit = packets(5_000);
    // 100 hosts with 1,000 packets each: each far below its own limit.
    let mut carpet = Pipeline::new(&[host_limit.clone(), zone.clone()]);
    let rows: Vec<Row> = (0..100)
        .map(|last| {
            let mut row = flow(host(last), at(0.5), at(0.5), 100_000, 1_000);
            row.source_port = 123;
            row
        })
        .collect();
    carpet.receive(at(0.6), &rows);
    carpet.finish();
    let starts: Vec<&AttackEvent> = carpet
        .events
        .iter()
        .filter(|event| event.kind == EventKind::AttackStart)
        .collect();
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0].target.prefix, "203.0.113.0/25".parse().unwrap());
    assert_eq!(starts[0].vectors[0].name, Vector::NtpAmplification);

    // Without automatic prefixes the zone is told.
    let plain = DetectorConfig {
        automatic_prefixes: false,
        ..DetectorConfig::default()
    };
    let zones = [support::zone(&["203.0.113.0/24", "2001:db8:a::/48"])];
    let limits = [host_limit.clone(), zone.clone()];
    let mut whole = Pipeline::with(check(&plain, &limits, &zones).unwrap());
    whole.receive(at(0.6), &rows);
    whole.finish();
    assert_eq!(whole.starts().len(), 1);
    let target = &whole.events[0].target;
    assert_eq!(target.prefix, "203.0.113.0/24".parse().unwrap());
    assert_eq!(target.other_prefixes.len(), 1);

    // One host with all of it: the host is told, the zone is not.
    let mut single = Pipeline::new(&[host_limit, zone]);
    second(&mut single, 0.0, host(1), 100_000, |_| {});
    single.finish();
    let starts: Vec<_> = single
        .events
        .iter()
        .filter(|e| e.kind == EventKind::AttackStart)
        .collect();
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0].target.prefix, host(1).host());
}

#[test]
fn outbound_attacks_have_thresholds_of_their_own() {
    let limit = ThresholdConfig {
        direction: Direction::Out,
        ..packets(1_000)
    };
    let mut pipeline = Pipeline::new(&[limit]);
    second(
        &mut pipeline,
        0.0,
        Address::from_v4([198, 51, 100, 99]),
        5_000,
        |row| row.source_address = host(66),
    );
    pipeline.finish();
    assert_eq!(pipeline.events[0].target.prefix, host(66).host());
    assert_eq!(pipeline.events[0].target.direction, Direction::Out);
}

#[test]
fn mistakes_of_the_configuration_are_all_told_with_their_places() {
    let wrong = ThresholdConfig {
        vector: "dns".to_owned(),
        clear_below: 2.0,
        ..ThresholdConfig::default()
    };
    let zones = [
        ZoneConfig {
            name: "a".to_owned(),
            prefixes: vec!["10.0.0.0/8".parse().unwrap()],
            ..ZoneConfig::default()
        },
        ZoneConfig {
            name: "a".to_owned(),
            prefixes: vec!["10.0.0.0/8".parse().unwrap()],
            ..ZoneConfig::default()
        },
    ];
    let faults = check(&DetectorConfig::default(), &[wrong], &zones).unwrap_err();
    let paths: VecDeque<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "threshold[0].vector",
            "threshold[0]",
            "threshold[0].clear_below",
            "zone[1].name",
            "zone[1].prefixes"
        ]
    );
}
