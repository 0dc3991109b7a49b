//! An operator's word: attacks by hand, ends by hand, mutes and maintenance; and what of it survives a restart.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::time::Duration;

use support::{Pipeline, at, host, packets, second, zone};
use weir_attack_event::{EventKind, Severity};
use weir_detector::{
    DetectorConfig, MaintenanceConfig, Overridden, Override, OverrideError, check,
};
use weir_flow_record::{Direction, Vector};

fn start(target: &str, lifetime: Option<u64>) -> Override {
    Override::Start {
        target: target.parse().unwrap(),
        direction: Direction::In,
        vector: Vector::UdpFlood,
        lifetime: lifetime.map(Duration::from_secs),
        note: "a customer has called".to_owned(),
    }
}

fn mute(prefix: &str, until: Option<f64>) -> Override {
    Override::Mute {
        prefix: prefix.parse().unwrap(),
        until: until.map(at),
        note: "load test".to_owned(),
    }
}

#[test]
fn an_attack_by_hand_lasts_its_time_without_any_traffic() {
    let mut pipeline = Pipeline::new(&[packets(1_000)]);
    pipeline.run(at(5.0));
    let Ok(Overridden::Started(id)) = pipeline.order(start("203.0.113.9/32", Some(600))) else {
        panic!("it does not start");
    };
    pipeline.run(at(604.0));
    let first = pipeline.events[0].clone();
    assert_eq!(
        (first.kind, &first.id, first.severity),
        (EventKind::AttackStart, &id, Severity::High)
    );
    assert_eq!(first.vectors[0].name, Vector::UdpFlood);
    assert!(first.why[0].0.contains("a customer has called"));
    assert!(!pipeline.kinds().contains(&EventKind::AttackEnd));
    pipeline.run(at(606.0));
    assert_eq!(pipeline.kinds().last(), Some(&EventKind::AttackEnd));
    assert_eq!(
        pipeline.order(start("198.51.100.1/32", None)),
        Err(OverrideError::NoZone("198.51.100.1/32".parse().unwrap()))
    );
}

#[test]
fn an_open_attack_is_held_open_by_hand() {
    let mut pipeline = Pipeline::new(&[packets(1_000)]);
    second(&mut pipeline, 0.0, host(1), 5_000, |_| {});
    pipeline.run(at(1.5));
    let id = pipeline.events[0].id.clone();
    let done = pipeline.order(start("203.0.113.1/32", Some(300)));
    assert_eq!(done, Ok(Overridden::Held(id)));
    pipeline.run(at(300.0));
    assert!(!pipeline.kinds().contains(&EventKind::AttackEnd));
    pipeline.run(at(302.0));
    assert_eq!(pipeline.kinds().last(), Some(&EventKind::AttackEnd));
    assert_eq!(pipeline.starts().len(), 1);
}

#[test]
fn an_attack_that_is_ended_by_hand_comes_back_only_after_quiet() {
    let mut pipeline = Pipeline::new(&[packets(1_000)]);
    for begin in 0..3 {
        second(&mut pipeline, f64::from(begin), host(1), 5_000, |_| {});
    }
    let attack = pipeline.events[0].id.clone();
    let word = Override::End {
        attack: attack.clone(),
        note: "it is a load test".to_owned(),
    };
    assert_eq!(
        pipeline.order(word.clone()),
        Ok(Overridden::Ended(attack.clone()))
    );
    assert_eq!(pipeline.order(word), Err(OverrideError::NotOpen(attack)));
    let end = pipeline.events.last().unwrap();
    assert_eq!(end.kind, EventKind::AttackEnd);
    assert!(end.why.last().unwrap().0.contains("it is a load test"));
    for begin in 3..20 {
        second(&mut pipeline, f64::from(begin), host(1), 5_000, |_| {});
    }
    // A restart does not forget it.
    let mut next = Pipeline::new(&[packets(1_000)]);
    for row in pipeline.kept() {
        next.detector.restore(row);
    }
    for begin in 20..40 {
        second(&mut next, f64::from(begin), host(1), 5_000, |_| {});
    }
    assert_eq!((pipeline.starts().len(), next.starts().len()), (1, 0));
    for begin in 160..163 {
        second(&mut next, f64::from(begin), host(1), 5_000, |_| {});
    }
    assert_eq!(next.starts().len(), 1);
}

#[test]
fn a_muted_target_is_not_told_until_the_mute_is_over() {
    let mut pipeline = Pipeline::new(&[packets(1_000)]);
    second(&mut pipeline, 0.0, host(1), 5_000, |_| {});
    pipeline.run(at(1.2));
    let id = pipeline.events[0].id.clone();
    let done = pipeline.order(mute("203.0.113.0/25", Some(20.0)));
    assert_eq!(done, Ok(Overridden::Muted(vec![id])));
    assert_eq!(pipeline.kinds().last(), Some(&EventKind::AttackEnd));
    for begin in 2..18 {
        second(&mut pipeline, f64::from(begin), host(1), 5_000, |_| {});
    }
    assert_eq!(pipeline.starts().len(), 1);
    // What is outside is told.
    second(&mut pipeline, 18.0, host(200), 5_000, |_| {});
    pipeline.run(at(19.5));
    assert_eq!(pipeline.starts().len(), 2);
    for begin in 20..23 {
        second(&mut pipeline, f64::from(begin), host(1), 5_000, |_| {});
    }
    assert_eq!(pipeline.starts().len(), 3);
}

#[test]
fn a_mute_survives_a_restart_and_ends_by_hand() {
    let mut first = Pipeline::new(&[packets(1_000)]);
    first.run(at(1.0));
    first.order(mute("203.0.113.0/24", None)).unwrap();
    let mut next = Pipeline::new(&[packets(1_000)]);
    for row in first.kept() {
        next.detector.restore(row);
    }
    assert_eq!(next.detector.mutes().count(), 1);
    second(&mut next, 2.0, host(1), 5_000, |_| {});
    next.run(at(4.0));
    assert_eq!(next.starts().len(), 0);
    let prefix = "203.0.113.0/24".parse().unwrap();
    assert_eq!(
        next.order(Override::Unmute { prefix }),
        Ok(Overridden::Unmuted)
    );
    assert_eq!(
        next.order(Override::Unmute { prefix }),
        Err(OverrideError::NotMuted(prefix))
    );
    second(&mut next, 5.0, host(1), 5_000, |_| {});
    next.run(at(7.0));
    assert_eq!(next.starts().len(), 1);
    assert_eq!(
        next.order(mute("203.0.113.0/24", Some(1.0))),
        Err(OverrideError::Past)
    );
}

#[test]
fn nothing_is_told_of_targets_in_maintenance() {
    let window = MaintenanceConfig {
        prefixes: vec!["203.0.113.0/24".parse().unwrap()],
        from: Some(at(0.0)),
        to: Some(at(10.0)),
        ..MaintenanceConfig::default()
    };
    let zones = [zone(&["203.0.113.0/24"])];
    let settings = check(&DetectorConfig::default(), &[packets(1_000)], &zones).unwrap();
    let mut pipeline = Pipeline::with(settings.with_maintenance(&[window]).unwrap());
    for begin in 2..9 {
        second(&mut pipeline, f64::from(begin), host(1), 5_000, |_| {});
    }
    pipeline.run(at(9.5));
    assert_eq!(pipeline.starts().len(), 0);
    for begin in 11..13 {
        second(&mut pipeline, f64::from(begin), host(1), 5_000, |_| {});
    }
    assert_eq!(pipeline.starts().len(), 1);
}
