//! What is kept over a restart, and what others tell.

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

mod support;

use support::*;
use weir_baseline::{
    Aspect, BaselineConfig, Baselines, ImportError, ImportedBaseline, Level, Metric, RestoreError,
    SavedRow,
};
use weir_flow_record::{Direction, Timestamp};

/// The rows as a state file would hold them.
fn restored(rows: &[SavedRow]) -> Baselines {
    let mut baselines = baselines();
    for row in rows {
        baselines
            .restore(&row.key, row.value.as_ref().unwrap())
            .unwrap();
    }
    baselines
}

fn taught() -> Baselines {
    let mut baselines = baselines();
    teach(&mut baselines, MONDAY, MONDAY + 30 * HOUR + 1700, diurnal);
    for at in 0..90 {
        let hosts = [("203.0.113.9/32".to_owned(), 3e6)];
        baselines.handle_minute(&minute(MONDAY + at * 60, hosts), &|_| true);
    }
    baselines
}

#[test]
fn a_restart_keeps_all_and_learning_goes_on_in_the_same_hour() {
    let mut first = taught();
    let rows = first.save_all();
    let mut second = restored(&rows);
    for hour in 0..168 {
        let at = MONDAY + hour * HOUR;
        assert_eq!(normal(&first, at), normal(&second, at));
    }
    // The hour that was being learned goes on.
    let from = MONDAY + 30 * HOUR + 1700;
    for baselines in [&mut first, &mut second] {
        teach(baselines, from, from + 3 * HOUR, diurnal);
    }
    assert_eq!(normal(&first, from), normal(&second, from));
    assert_eq!(first.save_all(), second.save_all());
}

#[test]
fn what_was_fetched_at_each_tick_misses_minutes_at_most() {
    let mut baselines = baselines();
    let mut rows = std::collections::BTreeMap::new();
    let end = MONDAY + 5 * HOUR;
    for second in MONDAY..end {
        let target = zone(Direction::In);
        baselines.handle_second(&target, second, &bucket(1e9), [], true);
        baselines.handle_timeout(Timestamp::from_seconds(second + 5));
        while let Some(row) = baselines.poll_persist() {
            rows.insert(row.key.clone(), row);
        }
    }
    let rows: Vec<SavedRow> = rows.into_values().collect();
    let kept = normal(&restored(&rows), end).seconds_learned;
    // Five minutes until it is saved, two in quarantine.
    assert!(kept >= 5 * 3600 - 8 * 60, "{kept}");
}

#[test]
fn damaged_rows_are_refused_and_never_panic() {
    let rows = taught().save_all();
    let mut seed = 7_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize
    };
    let mut refused = 0;
    for row in &rows {
        let whole = row.value.as_ref().unwrap();
        for _ in 0..300 {
            let mut value = whole.clone();
            match random() % 3 {
                0 => value.truncate(random() % whole.len()),
                1 => value.push(0),
                _ => {
                    let at = random() % whole.len();
                    value[at] ^= 1 << (random() % 8);
                }
            }
            let mut baselines = baselines();
            refused += usize::from(baselines.restore(&row.key, &value).is_err());
            let _ = baselines.report(&zone(Direction::In));
            teach(
                &mut baselines,
                MONDAY + 40 * HOUR,
                MONDAY + 40 * HOUR + 20,
                diurnal,
            );
        }
    }
    assert!(refused > 300, "{refused}");
    let mut baselines = baselines();
    let value = rows[0].value.as_ref().unwrap();
    assert_eq!(
        baselines.restore(b"zone/up/x", value),
        Err(RestoreError::Key)
    );
    assert_eq!(baselines.restore(b"zone/in/gone", value), Ok(()));
    assert_eq!(
        baselines.restore(b"zone/in/customer-a", &[9]),
        Err(RestoreError::NewerVersion(9))
    );
}

fn import(prefixes: &[&str]) -> ImportedBaseline {
    let level = |mid: f64| Level {
        low: mid / 2.0,
        mid,
        high: mid * 2.0,
        peak: mid * 3.0,
        average: mid,
    };
    ImportedBaseline {
        prefixes: prefixes
            .iter()
            .map(|prefix| prefix.parse().unwrap())
            .collect(),
        direction: Direction::In,
        aspects: vec![
            (
                Aspect::Total,
                vec![(Metric::Bits, level(4e9)), (Metric::Packets, level(5e5))],
            ),
            (
                Aspect::Port {
                    protocol: 0,
                    port: 443,
                },
                vec![(Metric::Bits, level(1e9))],
            ),
        ],
    }
}

#[test]
fn an_imported_baseline_answers_at_once_and_gives_way_to_what_is_learned() {
    let mut baselines = baselines();
    let at = Timestamp::from_seconds(MONDAY);
    let target = baselines.import(&import(&["203.0.113.0/24"]), at).unwrap();
    assert_eq!(target, zone(Direction::In));
    let told = normal(&baselines, MONDAY);
    assert_eq!((told.bits.mid, told.imported), (4e9, 1.0));
    assert!(
        told.confidence > 0.4 && told.confidence <= 0.5,
        "{}",
        told.confidence
    );
    let https = baselines.normal(
        &target,
        Aspect::Port {
            protocol: 6,
            port: 443,
        },
        at,
    );
    assert_eq!(https.unwrap().bits.mid, 1e9);
    teach(&mut baselines, MONDAY, MONDAY + DAY, |_| 1e9);
    let day = normal(&baselines, MONDAY + DAY).bits.mid;
    assert!((day / 2.5e9 - 1.0).abs() < 0.05, "half and half: {day}");
    let rows = baselines.save_all();
    assert_eq!(
        normal(&restored(&rows), MONDAY + DAY),
        normal(&baselines, MONDAY + DAY)
    );
    teach(&mut baselines, MONDAY + DAY, MONDAY + 10 * DAY, |_| 1e9);
    let later = normal(&baselines, MONDAY + 10 * DAY).bits.mid;
    assert!(later < 1.4e9, "{later}");
}

#[test]
fn baselines_of_other_networks_are_refused() {
    let mut baselines = Baselines::new(settings(BaselineConfig {
        max_targets: 1,
        ..BaselineConfig::default()
    }));
    let at = Timestamp::from_seconds(MONDAY);
    let mut refused = |prefixes: &[&str]| baselines.import(&import(prefixes), at).unwrap_err();
    let foreign = "198.51.100.0/24";
    assert_eq!(
        refused(&[foreign]),
        ImportError::OutsideZones(foreign.parse().unwrap())
    );
    assert_eq!(refused(&[]), ImportError::NoTarget);
    let two = ["203.0.113.1/32", "203.0.113.2/32"];
    assert_eq!(refused(&two), ImportError::SeveralPrefixes(2));
    baselines.import(&import(&two[..1]), at).unwrap();
    let full = baselines.import(&import(&two[1..]), at);
    assert_eq!(full, Err(ImportError::Full));
}
