//! The life of an attack: pulse waves, repeats, stages, and what exporters do wrong.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::time::Duration;

use support::{Pipeline, at, flow, host, packets, second, zone};
use weir_attack_event::{EventKind, Severity};
use weir_detector::{DetectorConfig, Stage, ThresholdConfig, ZoneConfig, check};
use weir_flow_aggregate::ExporterCoverage;
use weir_flow_record::{ExporterId, Period, Quantity, Vector};

fn clearing(limit: ThresholdConfig, seconds: u64) -> ThresholdConfig {
    ThresholdConfig {
        clear_for: Period(Duration::from_secs(seconds)),
        ..limit
    }
}

/// 20 s on, 40 s off.
fn wave(pipeline: &mut Pipeline, pulses: u32) {
    for pulse in 0..pulses {
        for begin in 0..20 {
            let begin = f64::from(pulse * 60 + begin);
            second(pipeline, begin, host(1), 5_000, |_| {});
        }
    }
}

#[test]
fn half_an_hour_of_pulses_is_one_attack() {
    let mut pipeline = Pipeline::new(&[clearing(packets(1_000), 60)]);
    wave(&mut pipeline, 30);
    pipeline.finish();
    assert_eq!(pipeline.starts().len(), 1);
    let end = pipeline.events.last().unwrap();
    assert_eq!(end.kind, EventKind::AttackEnd);
    assert_eq!(end.end_time, Some(at(29.0 * 60.0 + 20.0)));
}

#[test]
fn pulses_with_long_pauses_are_held_open_once_they_are_known() {
    // Quiet for 10 s ends an attack: the second pulse is told again, and then held open through the pauses.
    let mut pipeline = Pipeline::new(&[clearing(packets(1_000), 10)]);
    wave(&mut pipeline, 30);
    pipeline.finish();
    assert_eq!(pipeline.starts().len(), 2);
    let held = |event: &weir_attack_event::AttackEvent| {
        event
            .why
            .iter()
            .any(|why| why.0.contains("attacked once shortly before"))
    };
    assert!(held(pipeline.starts()[1]));
}

#[test]
fn the_memory_of_pulses_survives_a_restart() {
    let limits = [clearing(packets(1_000), 10)];
    let mut first = Pipeline::new(&limits);
    wave(&mut first, 1);
    first.run(at(50.0));
    assert_eq!(first.kinds().last(), Some(&EventKind::AttackEnd));
    let mut next = Pipeline::new(&limits);
    for row in first.kept() {
        next.detector.restore(row);
    }
    for begin in 60..62 {
        second(&mut next, f64::from(begin), host(1), 5_000, |_| {});
    }
    next.run(at(64.0));
    let start = next.starts()[0].clone();
    assert!(
        start.why.iter().any(|why| why.0.contains("shortly before")),
        "{:?}",
        start.why
    );
    next.run(at(110.0));
    assert!(!next.kinds().contains(&EventKind::AttackEnd));
}

#[test]
fn a_target_that_is_attacked_again_and_again_spends_its_budget() {
    let mut pipeline = Pipeline::new(&[clearing(packets(1_000), 5)]);
    // Pauses that grow faster than they are held through.
    let mut begin = 0.0;
    let mut pause = 20.0;
    for _ in 0..9 {
        second(&mut pipeline, begin, host(1), 5_000, |_| {});
        begin += pause;
        pause *= 2.3;
    }
    pipeline.run(at(begin));
    let starts = pipeline.starts().len();
    assert!((2..=6).contains(&starts), "{starts}");
}

#[test]
fn a_carpet_goes_on_after_a_restart() {
    let limits = [packets(1_000)];
    let carpet = |pipeline: &mut Pipeline, from: u32, to: u32| {
        for begin in from..to {
            for part in 0..5_u8 {
                let begin = f64::from(begin) + f64::from(part) * 0.2;
                let rows: Vec<_> = (0..50)
                    .map(|last| {
                        let target = host(part * 50 + last);
                        let mut row = flow(target, at(begin), at(begin), 46_800, 100);
                        row.source_port = 123;
                        row
                    })
                    .collect();
                pipeline.receive(at(begin + 0.1), &rows);
            }
        }
    };
    let mut first = Pipeline::new(&limits);
    carpet(&mut first, 0, 5);
    let id = first.starts()[0].id.clone();
    let mut next = Pipeline::new(&limits);
    for row in first.kept() {
        next.detector.restore(row);
    }
    next.drain();
    carpet(&mut next, 7, 20);
    next.finish();
    assert_eq!(next.starts().len(), 0, "{:?}", next.kinds());
    let end = next.events.last().unwrap();
    assert_eq!((end.kind, &end.id), (EventKind::AttackEnd, &id));
    assert_eq!(end.end_time, Some(at(20.0)));
}

#[test]
fn connection_attempts_of_a_crowd_are_no_flood() {
    let limit = ThresholdConfig {
        vector: "tcp-syn-flood".to_owned(),
        beyond_connections: true,
        hold: Period(Duration::from_secs(2)),
        ..packets(1_000)
    };
    let run = |established: u64| {
        let mut pipeline = Pipeline::new(std::slice::from_ref(&limit));
        for begin in 0..5 {
            second(&mut pipeline, f64::from(begin), host(1), 4_000, |row| {
                (row.protocol, row.tcp_flags) = (6, weir_flow_record::TCP_SYN);
            });
            let begin = f64::from(begin) + 0.5;
            let mut row = flow(
                host(1),
                at(begin),
                at(begin),
                established * 900,
                established,
            );
            (row.protocol, row.tcp_flags) = (6, weir_flow_record::TCP_ACK);
            pipeline.receive(at(begin + 0.6), &[row]);
        }
        pipeline.finish();
        pipeline.starts().len()
    };
    assert_eq!((run(40_000), run(1_000)), (0, 1));
}

#[test]
fn an_unknown_rate_is_degraded_and_low_coverage_is_too() {
    let mut pipeline = Pipeline::new(&[packets(1_000)]);
    second(&mut pipeline, 0.0, host(3), 5_000, |row| {
        row.sampling_rate = 0
    });
    pipeline.run(at(1.5));
    assert!(pipeline.events[0].degraded);

    for (missing_records, degraded) in [(0, false), (250, true)] {
        let mut pipeline = Pipeline::new(&[packets(1_000)]);
        let coverage = |records, missing_records| ExporterCoverage {
            exporter: ExporterId(0),
            records,
            missing_records,
        };
        pipeline.aggregator.handle_coverage(&[coverage(0, 0)]);
        second(&mut pipeline, 0.0, host(3), 100, |_| {});
        pipeline
            .aggregator
            .handle_coverage(&[coverage(1_000, missing_records)]);
        second(&mut pipeline, 2.0, host(3), 5_000, |_| {});
        pipeline.run(at(3.5));
        let start = &pipeline.events[0];
        assert_eq!(start.degraded, degraded, "{:?}", start.coverage);
    }
}

/// A day of peace at 2,000 packets a second, in both hosts of a zone, then three times as much.
fn three_times_the_normal(stage: Stage) -> Pipeline {
    let limit = ThresholdConfig {
        scope: weir_detector::Scope::Zone,
        baseline_factor: Some(2.0),
        floor_packets_per_second: Some(Quantity(1_000)),
        ..support::threshold()
    };
    let zones = [ZoneConfig {
        stage,
        ..zone(&["203.0.113.0/24"])
    }];
    let mut pipeline = Pipeline::with(check(&DetectorConfig::default(), &[limit], &zones).unwrap());
    // A record a minute: what it says is spread over the minute.
    for minute in 0..2_880 {
        let (from, to) = (f64::from(minute) * 60.0, f64::from(minute) * 60.0 + 60.0);
        let rows = [1, 2].map(|last| flow(host(last), at(from), at(to), 60_000_000, 60_000));
        pipeline.receive(at(to), &rows);
    }
    let begin = 2_880.0 * 60.0;
    for after in 0..20 {
        let begin = begin + f64::from(after);
        second(&mut pipeline, begin, host(1), 6_000, |_| {});
    }
    pipeline.finish();
    pipeline
}

#[test]
fn three_times_the_normal_is_an_attack_once_that_is_known() {
    let learning = three_times_the_normal(Stage::Learning);
    assert_eq!(learning.kinds(), []);
    let dry = three_times_the_normal(Stage::DryRun);
    assert!(dry.starts().len() == 1 && dry.starts()[0].dry_run);
    let active = three_times_the_normal(Stage::Active);
    let start = active.starts()[0];
    assert!(!start.dry_run);
    assert!(
        start.why[0].0.contains("normal there at this hour"),
        "{:?}",
        start.why
    );
    let normal = start.baseline.as_ref().unwrap();
    assert!(
        (1_500..2_500).contains(&normal.packets_per_second),
        "{normal:?}"
    );
    assert_eq!(start.severity, Severity::Low);
}

#[test]
fn the_built_in_limits_know_reflection_from_large_transfers() {
    let limits = ThresholdConfig::all_built_in();
    // 900 Mbit/s of a download are below all limits; 200 Mbit/s of NTP answers are not.
    let mut download = Pipeline::new(&limits);
    let mut reflection = Pipeline::new(&limits);
    for begin in 0..5 {
        let (from, to) = (f64::from(begin), f64::from(begin) + 0.9);
        let mut row = flow(host(1), at(from), at(to), 112_500_000, 75_000);
        (row.protocol, row.tcp_flags) = (6, weir_flow_record::TCP_ACK);
        download.receive(at(to + 0.1), &[row]);
        let mut row = flow(host(1), at(from), at(to), 25_000_000, 53_000);
        row.source_port = 123;
        reflection.receive(at(to + 0.1), &[row]);
    }
    download.finish();
    reflection.finish();
    assert_eq!(download.kinds(), []);
    assert_eq!(reflection.starts().len(), 1);
    assert_eq!(
        reflection.events[0].vectors[0].name,
        Vector::NtpAmplification
    );
}
