//! Attacks and benign extremes by chance: what nobody thought of when writing a scenario.

use std::time::Duration;

use rand::{Rng, RngExt};
use weir_flow_record::Period;

use super::draw::{dice, log_normal};
use super::kinds::KINDS;
use super::scenario::{ScenarioFile, SurgeTable};

/// The attacks and the benign extremes that the table `random` asks for.
pub(super) fn campaign(file: &ScenarioFile) -> (Vec<SurgeTable>, Vec<SurgeTable>) {
    let random = &file.random;
    let mut rng = dice(file.seed, 41);
    let attacks = (0..random.attacks)
        .map(|number| attack(file, &mut rng, number))
        .collect();
    let mut benign = Vec::new();
    for (kind, count) in [
        ("flash-crowd", random.flash_crowds),
        ("backup", random.backups),
        ("speed-test", random.speed_tests),
        ("scan", random.scans),
        ("cdn-push", random.cdn_pushes),
        ("busy-resolver", random.busy_servers / 2),
        ("busy-ntp", random.busy_servers - random.busy_servers / 2),
    ] {
        for _ in 0..count {
            benign.push(extreme(file, &mut rng, kind));
        }
    }
    (attacks, benign)
}

/// Attacks have a time slot each, so that labels of one target do not overlap; within it they begin by chance.
fn attack(file: &ScenarioFile, rng: &mut impl Rng, number: u32) -> SurgeTable {
    let random = &file.random;
    let whole = file.duration.0.as_secs_f64() - random.quiet.0.as_secs_f64();
    let slot = whole.max(1.0) / f64::from(random.attacks.max(1));
    let (shortest, longest) = random.lasts.map_or((120.0, 1800.0), |(a, b)| {
        (a.0.as_secs_f64(), b.0.as_secs_f64())
    });
    let longest = longest.min(slot * 0.6).max(1.0);
    let lasts = between(rng, shortest.min(longest), longest);
    let at = random.quiet.0.as_secs_f64()
        + slot * f64::from(number)
        + rng.random::<f64>() * (slot - lasts).max(0.0) * 0.6;
    let (least, most) = random.over.unwrap_or((1.5, 8.0));
    let kinds: Vec<&str> = KINDS
        .iter()
        .filter(|kind| kind.vector.is_some())
        .map(|kind| kind.name)
        .collect();
    let own = kinds[number as usize % kinds.len()];
    let mut table = SurgeTable {
        kind: own.to_owned(),
        at: period(at),
        lasts: period(lasts),
        target: "host".to_owned(),
        over: Some(between(rng, least, most)),
        waver: rng.random_range(0.0..0.2),
        ..SurgeTable::default()
    };
    if random.plain {
        table.waver = 0.0;
        return table;
    }
    match rng.random_range(0..10) {
        // Ramps up to two minutes long.
        0 | 1 => {
            table.rise = period(between(rng, 5.0, 120.0).min(lasts / 4.0));
            table.fall = period(between(rng, 5.0, 60.0).min(lasts / 4.0));
        }
        2 | 3 => {
            table.on = period(between(rng, 15.0, 60.0));
            table.off = period(between(rng, 10.0, 60.0));
        }
        4 => {
            let other = kinds[rng.random_range(0..kinds.len())];
            table.kind = format!("{own}+{other}");
            table.stagger = period(rng.random_range(0.0..lasts / 4.0));
            table.over = table.over.map(|over| over * 1.5);
        }
        5 => table.fragments = rng.random_range(0.1..0.6),
        6 => table.sources = Some(rng.random_range(2..40)),
        _ => {}
    }
    table
}

fn extreme(file: &ScenarioFile, rng: &mut impl Rng, kind: &str) -> SurgeTable {
    let whole = file.duration.0.as_secs_f64();
    let (lasts, share) = match kind {
        "flash-crowd" => (between(rng, 600.0, 7200.0), 0.0),
        "backup" => (between(rng, 3600.0, 3.0 * 3600.0), between(rng, 0.1, 0.6)),
        "speed-test" => (between(rng, 10.0, 30.0), between(rng, 0.2, 0.8)),
        "scan" => (between(rng, 60.0, 1800.0), between(rng, 0.02, 0.3)),
        "cdn-push" => (between(rng, 300.0, 1800.0), between(rng, 0.1, 0.6)),
        _ => (between(rng, 600.0, 7200.0), between(rng, 0.05, 0.3)),
    };
    let lasts = lasts.min(whole / 2.0);
    let prefix = &file.zones[rng.random_range(0..file.zones.len())].prefixes[0];
    SurgeTable {
        kind: kind.to_owned(),
        at: period(rng.random::<f64>() * (whole - lasts)),
        lasts: period(lasts),
        target: if kind == "scan" {
            prefix.to_string()
        } else {
            "host".to_owned()
        },
        over: (share > 0.0).then_some(share),
        times_normal: Some(between(rng, 2.0, 5.0)),
        rise: period(if kind == "flash-crowd" {
            lasts / 5.0
        } else {
            0.0
        }),
        fall: period(if kind == "flash-crowd" {
            lasts / 3.0
        } else {
            0.0
        }),
        outbound: kind == "backup" && rng.random_bool(0.5),
        ..SurgeTable::default()
    }
}

/// Even on a logarithmic scale, with a little noise.
fn between(rng: &mut impl Rng, least: f64, most: f64) -> f64 {
    let value = least * (most / least).powf(rng.random::<f64>());
    (value * log_normal(rng, 0.05)).clamp(least, most)
}

/// To a millisecond.
fn period(seconds: f64) -> Period {
    Period(Duration::from_millis((seconds.max(0.0) * 1000.0) as u64))
}
