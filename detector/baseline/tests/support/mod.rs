//! Synthetic traffic for all tests.

#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "tests may")]

use std::f64::consts::TAU;

use weir_baseline::{
    Aspect, BaselineConfig, BaselineSettings, BaselineTarget, BaselineZone, Baselines, Normal,
    Subject,
};
use weir_flow_aggregate::{Bucket, MinuteProfile, MinuteRow, TargetScope};
use weir_flow_record::{Direction, TargetKey, Timestamp, ZoneId};

/// Monday, 2026-01-05, midnight UTC.
pub(crate) const MONDAY: i64 = 1_767_571_200;
pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;
pub(crate) const WEEK: i64 = 7 * DAY;

pub(crate) fn settings(config: BaselineConfig) -> BaselineSettings {
    let zones = [
        ("customer-a", "203.0.113.0/24"),
        ("customer-b", "2001:db8::/32"),
    ];
    let zones = zones.map(|(name, prefix)| BaselineZone {
        name: name.into(),
        prefixes: vec![prefix.parse().unwrap()],
    });
    BaselineSettings::new(config, zones.to_vec(), vec!["transit-1".into()])
}

pub(crate) fn baselines() -> Baselines {
    Baselines::new(settings(BaselineConfig::default()))
}

pub(crate) fn zone(direction: Direction) -> BaselineTarget {
    BaselineTarget {
        subject: Subject::Zone(ZoneId(0)),
        direction,
    }
}

pub(crate) fn host(address: &str) -> BaselineTarget {
    BaselineTarget {
        subject: Subject::Prefix(address.parse().unwrap()),
        direction: Direction::In,
    }
}

/// Bits per second of a working day's curve: 1 Gbit/s at 3:00, 9 Gbit/s at 15:00; a fifth less at the weekend.
pub(crate) fn diurnal(second: i64) -> f64 {
    let day = (second - MONDAY).rem_euclid(WEEK) / DAY;
    let phase = (second.rem_euclid(DAY) - 15 * HOUR) as f64 / DAY as f64;
    let level = 5e9 + 4e9 * (phase * TAU).cos();
    if day >= 5 { level * 0.8 } else { level }
}

/// A second of `bits` with packets of 1,000 octets and flows of 20 packets.
pub(crate) fn bucket(bits: f64) -> Bucket {
    Bucket {
        octets: (bits / 8.0) as u64,
        packets: (bits / 8000.0) as u64,
        flows: (bits / 160_000.0) as u64,
        ..Bucket::default()
    }
}

/// Something like noise, −0.15 to 0.15, the same each time.
pub(crate) fn noise(second: i64) -> f64 {
    let mixed = (second as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as f64 / (1 << 24) as f64 * 0.3 - 0.15
}

/// Teaches a zone each tenth second of a time, each for ten.
pub(crate) fn teach(baselines: &mut Baselines, from: i64, to: i64, level: impl Fn(i64) -> f64) {
    let target = zone(Direction::In);
    for second in from..to {
        let bits = level(second) * (1.0 + noise(second));
        baselines.handle_second(&target, second, &bucket(bits), [], true);
        if second % 10 == 0 {
            baselines.handle_timeout(Timestamp::from_seconds(second + 5));
        }
    }
}

pub(crate) fn normal(baselines: &Baselines, second: i64) -> Normal {
    let at = Timestamp::from_seconds(second);
    baselines
        .normal(&zone(Direction::In), Aspect::Total, at)
        .unwrap()
}

/// A minute of hosts, each with packets of 1,000 octets.
pub(crate) fn minute(
    first_second: i64,
    hosts: impl IntoIterator<Item = (String, f64)>,
) -> MinuteProfile {
    let rows = hosts.into_iter().map(|(prefix, bits)| {
        let octets = (bits * 60.0 / 8.0) as u64;
        MinuteRow {
            target: TargetKey {
                prefix: prefix.parse().unwrap(),
                direction: Direction::In,
                zone: ZoneId(0),
            },
            scope: TargetScope::Host,
            seconds: 60,
            octets,
            packets: octets / 1000,
            flows: octets / 20_000,
            peak_octets: octets / 30,
            peak_packets: octets / 30_000,
            peak_flows: octets / 600_000,
        }
    });
    MinuteProfile {
        first_second,
        targets: rows.collect(),
        zones: Vec::new(),
        is_last: true,
    }
}
