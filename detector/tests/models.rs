//! The active model's word: it names, rates and raises, and no threshold says less because of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use support::{Pipeline, START, at, host, packets, second, zone};
use weir_attack_event::{AttackEvent, AttackId, AttackName, EventKind, Severity};
use weir_detector::{
    DetectorConfig, DetectorSettings, ModelVerdict, ModelsConfig, Override, Scope, Stage,
    ThresholdConfig, ZoneConfig, check,
};
use weir_flow_record::{Period, Vector};

fn settings(
    thresholds: &[ThresholdConfig],
    models: &ModelsConfig,
    change: impl FnOnce(&mut ZoneConfig),
) -> DetectorSettings {
    let mut zone = zone(&["203.0.113.0/24"]);
    change(&mut zone);
    let settings = check(&DetectorConfig::default(), thresholds, &[zone]).unwrap();
    settings.with_models(models).unwrap()
}

/// The configuration in which a model's first word raises an attack.
fn at_once() -> ModelsConfig {
    ModelsConfig {
        raise_after: Period(Duration::from_secs(1)),
        ..ModelsConfig::default()
    }
}

fn pipeline(thresholds: &[ThresholdConfig]) -> Pipeline {
    Pipeline::with(settings(thresholds, &at_once(), |_| {}))
}

fn verdict(last: u8, name: &str, start: i64, newest: i64) -> ModelVerdict {
    ModelVerdict {
        target: host(last).host(),
        model: "0123456789abcdef".into(),
        name: AttackName::of(name),
        attack: 0.97,
        confidence: 0.97,
        start: START + start,
        last: START + newest,
        reasons: vec!["flows that stay without answer".to_owned()],
    }
}

fn say(pipeline: &mut Pipeline, verdict: &ModelVerdict) {
    pipeline.detector.handle_verdict(pipeline.now, verdict);
    pipeline.drain();
}

fn named(event: &AttackEvent) -> Vec<&str> {
    event.vectors.iter().map(|one| one.name.name()).collect()
}

#[test]
fn a_model_raises_what_no_threshold_shows_and_it_ends_by_its_quiet() {
    let mut pipeline = pipeline(&[packets(1_000)]);
    for begin in 0..30 {
        second(&mut pipeline, f64::from(begin), host(3), 200, |_| {});
        if begin == 5 || begin == 15 {
            let begin = i64::from(begin);
            say(&mut pipeline, &verdict(3, "slow-http", 2, begin));
        }
    }
    pipeline.finish();
    let (first, end) = (&pipeline.events[0], pipeline.events.last().unwrap());
    assert_eq!(
        (first.kind, first.severity, first.start_time),
        (EventKind::AttackStart, Severity::Low, at(2.0))
    );
    assert!(first.detected_at >= at(5.9) && first.detected_at <= at(6.1));
    let vector = &first.vectors[0];
    assert_eq!(
        (vector.attack_id, vector.name.name(), vector.confidence),
        (65, "slow-http", 0.97)
    );
    let model = first.model.as_ref().unwrap();
    assert!(model.alone && &*model.id == "0123456789abcdef");
    assert!(
        first.why[0]
            .0
            .contains("model 0123456789abcdef takes it for slow-http (97 % sure): flows that stay"),
        "{:?}",
        first.why
    );
    assert_eq!(pipeline.starts().len(), 1);
    assert_eq!(
        (end.kind, end.end_time, named(end)),
        (EventKind::AttackEnd, Some(at(16.0)), vec!["slow-http"])
    );
    // Quiet for a minute since the model's last second, and settled.
    assert!(
        end.time >= at(76.0) && end.time <= at(83.0),
        "{:?}",
        end.time
    );
    let counters = pipeline.detector.model_counters();
    assert_eq!((counters.verdicts, counters.raised), (2, 1));
}

#[test]
fn a_threshold_that_fires_later_takes_the_attack_over_under_its_name() {
    let mut pipeline = pipeline(&[packets(1_000)]);
    second(&mut pipeline, 0.0, host(3), 200, |_| {});
    say(&mut pipeline, &verdict(3, "slow-http", 0, 1));
    for begin in 1..5 {
        second(&mut pipeline, f64::from(begin), host(3), 4_000, |_| {});
    }
    pipeline.finish();
    let [start] = pipeline.starts()[..] else {
        panic!("one attack, one name: {:?}", pipeline.events);
    };
    let taken = pipeline
        .events
        .iter()
        .find(|event| event.model.as_ref().is_some_and(|model| !model.alone))
        .unwrap();
    assert_eq!((&taken.id, taken.severity), (&start.id, Severity::Medium));
    assert!(
        taken.why[0].0.contains("the limit of 1,000"),
        "{:?}",
        taken.why
    );
    assert!(taken.why.iter().any(|one| one.0.starts_with("model ")));
    let last = pipeline.events.last().unwrap();
    // What was measured, and the model's name beside it.
    assert_eq!(named(last), ["udp-flood", "slow-http"]);
    assert_eq!((last.vectors[0].share, last.vectors[1].share), (1.0, 0.0));
    assert_eq!(pipeline.detector.model_counters().taken_over, 1);
}

#[test]
fn a_model_names_and_rates_what_a_threshold_found_and_removes_nothing() {
    let mut pipeline = pipeline(&[packets(1_000)]);
    for begin in 0..10 {
        second(&mut pipeline, f64::from(begin), host(3), 4_000, |_| {});
        let name = if begin < 6 { "http-flood" } else { "udp-flood" };
        if begin > 2 {
            say(&mut pipeline, &verdict(3, name, 1, i64::from(begin)));
        }
    }
    pipeline.finish();
    let [start] = pipeline.starts()[..] else {
        panic!("{:?}", pipeline.events);
    };
    assert_eq!(start.model, None);
    let with = |name: &str| {
        let known = |one: &&AttackEvent| one.model.as_ref().is_some_and(|m| m.name.name() == name);
        pipeline.events.iter().find(known).unwrap()
    };
    assert_eq!(named(with("http-flood")), ["udp-flood", "http-flood"]);
    assert_eq!(with("http-flood").severity, Severity::Medium);
    let renamed = pipeline.events.last().unwrap();
    assert_eq!(named(renamed), ["udp-flood"]);
    assert_eq!(renamed.vectors[0].confidence, 0.97);
    let lines = renamed.why.iter().filter(|one| one.0.starts_with("model "));
    assert_eq!(lines.count(), 1, "{:?}", renamed.why);
    // Its word does not hold open what a limit opened.
    assert!(renamed.time < at(30.0), "{:?}", renamed.time);
}

/// Traffic that crosses limits of hosts, of the whole zone, and of many hosts together.
fn storm(model: impl Fn(&mut Pipeline, i64)) -> Pipeline {
    let whole = ThresholdConfig {
        scope: Scope::Zone,
        ..packets(5_000)
    };
    let mut pipeline = pipeline(&[packets(1_000), whole]);
    for begin in 0..40_i64 {
        let from = begin as f64;
        // One busy host in peace below its limit, from the 10th second on others that lift the zone above its own.
        second(&mut pipeline, from, host(1), 900, |_| {});
        if begin >= 10 {
            for other in 2..8 {
                second(&mut pipeline, from, host(other), 900, |_| {});
            }
        }
        if (20..25).contains(&begin) {
            second(&mut pipeline, from, host(9), 4_000, |_| {});
        }
        model(&mut pipeline, begin);
    }
    pipeline.finish();
    pipeline
}

/// A model that sees attacks everywhere silences nothing: each target that limits show without it is told with it, at that time.
#[test]
fn a_threshold_is_never_silenced_by_a_model() {
    let without = storm(|_, _| {});
    let with = storm(|pipeline, second| {
        for one in 1..=9 {
            say(pipeline, &verdict(one, "udp-flood", 0, second));
        }
    });
    let shown: Vec<&AttackEvent> = without.starts();
    assert!(shown.len() >= 2, "{shown:?}");
    for one in shown {
        let told = with.events.iter().any(|event| {
            event.target.prefix == one.target.prefix
                && event.time <= one.time
                && event.model.as_ref().is_none_or(|model| !model.alone)
                && event.why.iter().any(|why| why.0.contains("the limit of"))
        });
        assert!(
            told,
            "{} is silenced: {:#?}",
            one.target.prefix, with.events
        );
    }
    let mut open: BTreeMap<AttackId, IpNet> = BTreeMap::new();
    for event in &with.events {
        let (id, target) = (&event.id, event.target.prefix);
        if event.kind == EventKind::AttackEnd {
            open.remove(id);
            continue;
        }
        open.insert(id.clone(), target);
        let names = open.values().filter(|one| **one == target).count();
        assert_eq!(names, 1, "one attack, one name: {target}");
    }
}

#[test]
fn an_attack_on_the_zone_goes_on_with_the_name_of_the_host_that_is_most_of_it() {
    let whole = ThresholdConfig {
        scope: Scope::Zone,
        ..packets(5_000)
    };
    let mut pipeline = pipeline(&[whole]);
    for begin in 0..10 {
        let size = if begin < 5 { 500 } else { 6_000 };
        second(&mut pipeline, f64::from(begin), host(1), size, |_| {});
        if begin == 3 {
            say(&mut pipeline, &verdict(1, "udp-flood", 0, 3));
        }
    }
    pipeline.finish();
    let [start] = pipeline.starts()[..] else {
        panic!("{:?}", pipeline.events);
    };
    let end = pipeline.events.last().unwrap();
    assert_eq!((&end.id, end.kind), (&start.id, EventKind::AttackEnd));
    assert_eq!(end.target.prefix, "203.0.113.0/24".parse().unwrap());
    assert!(
        end.why
            .iter()
            .any(|one| one.0.contains("it has grown from"))
    );
}

#[test]
fn the_configuration_a_mute_the_stage_and_the_hourly_bound_hold_a_model_back() {
    let starts = |models: ModelsConfig, change: fn(&mut ZoneConfig), muted: bool| {
        let mut pipeline = Pipeline::with(settings(&[packets(1_000)], &models, change));
        pipeline.run(at(10.0));
        if muted {
            let word = Override::Mute {
                prefix: "203.0.113.0/28".parse().unwrap(),
                until: None,
                note: "load test".to_owned(),
            };
            pipeline.order(word).unwrap();
        }
        for one in 1..=5 {
            say(&mut pipeline, &verdict(one, "udp-flood", 5, 9));
        }
        let dry = pipeline.starts().iter().filter(|one| one.dry_run).count();
        (pipeline.starts().len(), dry)
    };
    let plain = at_once();
    assert_eq!(starts(plain.clone(), |_| {}, false), (5, 0));
    let none = ModelsConfig {
        raise: false,
        ..plain.clone()
    };
    assert_eq!(starts(none, |_| {}, false), (0, 0));
    let surer = ModelsConfig {
        least_confidence: 0.98,
        ..plain.clone()
    };
    assert_eq!(starts(surer, |_| {}, false), (0, 0));
    let surer_to_raise = ModelsConfig {
        raise_confidence: 0.98,
        ..plain.clone()
    };
    assert_eq!(starts(surer_to_raise, |_| {}, false), (0, 0));
    let later = ModelsConfig {
        raise_after: Period(Duration::from_secs(6)),
        ..plain.clone()
    };
    assert_eq!(starts(later, |_| {}, false), (0, 0), "five seconds are few");
    let few = ModelsConfig {
        max_events_per_hour: 2,
        ..plain.clone()
    };
    assert_eq!(starts(few, |_| {}, false), (2, 0));
    assert_eq!(starts(plain.clone(), |_| {}, true), (0, 0));
    let learning = |zone: &mut ZoneConfig| zone.stage = Stage::Learning;
    assert_eq!(starts(plain.clone(), learning, false), (0, 0));
    let dry = |zone: &mut ZoneConfig| zone.dry_run = true;
    assert_eq!(starts(plain.clone(), dry, false), (5, 5));
    let staged = |zone: &mut ZoneConfig| zone.stage = Stage::DryRun;
    assert_eq!(starts(plain, staged, false), (5, 5));
    let faults = ModelsConfig {
        least_confidence: 0.2,
        raise_confidence: 1.5,
        targets: 0,
        ..ModelsConfig::default()
    };
    let settings = settings(&[packets(1)], &ModelsConfig::default(), |_| {});
    assert_eq!(settings.with_models(&faults).unwrap_err().len(), 3);
}

#[test]
fn what_it_is_not_sure_enough_of_to_raise_it_still_names() {
    let mut pipeline = pipeline(&[packets(1_000)]);
    let unsure = |newest: i64| ModelVerdict {
        attack: 0.93,
        ..verdict(3, "slow-http", 0, newest)
    };
    second(&mut pipeline, 0.0, host(3), 200, |_| {});
    say(&mut pipeline, &unsure(1));
    assert!(pipeline.starts().is_empty());
    for begin in 1..5 {
        second(&mut pipeline, f64::from(begin), host(3), 4_000, |_| {});
    }
    say(&mut pipeline, &unsure(5));
    pipeline.finish();
    assert_eq!(pipeline.starts().len(), 1);
    let last = pipeline.events.last().unwrap();
    assert!(!last.model.as_ref().unwrap().alone);
    assert!(named(last).contains(&"slow-http"), "{last:?}");
}

#[test]
fn what_an_operator_has_ended_is_not_raised_again_by_the_same_alarm() {
    let mut pipeline = pipeline(&[packets(1_000)]);
    pipeline.run(at(10.0));
    say(&mut pipeline, &verdict(3, "slow-http", 5, 9));
    let attack = pipeline.starts()[0].id.clone();
    let note = "our own scanner".to_owned();
    pipeline.order(Override::End { attack, note }).unwrap();
    for newest in 1..40 {
        pipeline.run(at(10.0 * newest as f64));
        say(&mut pipeline, &verdict(3, "slow-http", 5, 10 * newest));
    }
    assert_eq!(pipeline.starts().len(), 1);
    // A new alarm, after quiet, is another matter.
    second(&mut pipeline, 495.0, host(200), 10, |_| {});
    pipeline.run(at(500.0));
    say(&mut pipeline, &verdict(3, "slow-http", 495, 499));
    assert_eq!(pipeline.starts().len(), 2);
}

#[test]
fn an_attack_that_a_model_raised_survives_a_restart_and_its_quiet_ends_it() {
    let mut pipeline = pipeline(&[packets(1_000)]);
    pipeline.run(at(10.0));
    say(&mut pipeline, &verdict(3, "slow-http", 5, 9));
    let kept = pipeline.kept();
    assert_eq!(kept.len(), 1);
    let mut again = Pipeline::with(settings(&[packets(1_000)], &at_once(), |_| {}));
    kept.into_iter().for_each(|row| again.detector.restore(row));
    again.run(at(12.0));
    again.detector.handle_timeout(at(12.0));
    // The model begins anew, and speaks of the same attack.
    say(&mut again, &verdict(3, "slow-http", 14, 20));
    again.run(at(60.0));
    assert_eq!(again.starts().len(), 0);
    again.finish();
    let end = again.events.last().unwrap();
    assert_eq!(
        (&end.id, end.kind),
        (&pipeline.starts()[0].id, EventKind::AttackEnd)
    );
    let quiet = end.time.since(at(20.0));
    assert!(
        quiet >= Duration::from_secs(60) && quiet < Duration::from_secs(80),
        "{quiet:?}"
    );
    assert_eq!(named(end), ["slow-http"]);
    assert_eq!(end.vectors[0].name.vector(), None::<Vector>);
}
