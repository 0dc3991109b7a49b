//! Limits that follow from what is normal: a floor, and a factor on the baseline of the hour.

use serde::{Deserialize, Serialize};
use weir_baseline::{Aspect, BaselineTarget, Baselines, Level, Normal, Subject};
use weir_flow_aggregate::TargetScope;
use weir_flow_record::{TargetKey, Timestamp, Vector};

use crate::config::{Stage, Threshold, Zone};
use crate::track::{Limit, Metric};

/// How sure a baseline must be before a limit rests on it: about a day's.
const SURE: f64 = 0.08;
/// Times the largest normal second that a limit is at least.
const ABOVE_PEAK: f64 = 1.25;

/// What a limit was measured against.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Basis {
    /// Bits, packets and flows per second: the high percentile of the hour.
    pub(crate) normal: [u64; 3],
    pub(crate) factor: f64,
    /// Seconds that were learned from, and the newest of them.
    pub(crate) seconds_learned: u64,
    pub(crate) updated: Timestamp,
    /// Whether it is the level of the whole zone, for want of the target's own.
    pub(crate) of_zone: bool,
}

/// How far a zone has come: whether attacks that only a baseline shows are told, and acted on.
pub(crate) fn stage(zone: &Zone, baselines: &Baselines, key: &TargetKey, now: Timestamp) -> Stage {
    if zone.stage != Stage::Auto {
        return zone.stage;
    }
    let target = BaselineTarget {
        subject: Subject::Zone(key.zone),
        direction: key.direction,
    };
    let Some(normal) = baselines.normal(&target, Aspect::Total, now) else {
        return Stage::Learning;
    };
    let age = now.since(normal.since);
    if age < zone.learn_for {
        Stage::Learning
    } else if age < zone.learn_for + zone.dry_run_for {
        Stage::DryRun
    } else {
        Stage::Active
    }
}

/// The limit that a threshold's factor makes of what is normal; `None` while that is not known well enough.
pub(crate) fn limit(
    threshold: &Threshold,
    baselines: &Baselines,
    (scope, key): (TargetScope, TargetKey),
    now: Timestamp,
) -> Option<(Limit, Basis)> {
    let factor = threshold.baseline_factor?;
    let (normal, of_zone) = normal_of(baselines, (scope, key), threshold.vector, now)?;
    if normal.confidence < SURE {
        return None;
    }
    let level = |metric: Metric| match metric {
        Metric::Bits => normal.bits,
        Metric::Packets => normal.packets,
        Metric::Flows => normal.flows,
    };
    let of = |metric: Metric| {
        let floor = threshold.floors[metric as usize]?;
        let Level { high, peak, .. } = level(metric);
        let limit = (high * factor).max(peak * ABOVE_PEAK).max(0.0) as u64;
        Some(limit.max(floor).max(1))
    };
    let limits = Metric::ALL.map(of);
    limits.iter().any(Option::is_some).then(|| {
        let limit = Limit {
            relative: true,
            limits,
            ..Limit::of(threshold)
        };
        let basis = Basis {
            normal: Metric::ALL.map(|metric| level(metric).high.max(0.0) as u64),
            factor,
            seconds_learned: normal.seconds_learned,
            updated: normal.updated,
            of_zone,
        };
        (limit, basis)
    })
}

/// What is normal for a target, or of its zone for want of it: no part of a zone should have more than all of it has.
fn normal_of(
    baselines: &Baselines,
    (scope, key): (TargetScope, TargetKey),
    vector: Vector,
    now: Timestamp,
) -> Option<(Normal, bool)> {
    let aspect = match vector {
        Vector::Total => Aspect::Total,
        vector => Aspect::Vector(vector),
    };
    let own = baselines.normal(&BaselineTarget::of(scope, &key), aspect, now);
    if let Some(own) = own {
        return Some((own, false));
    }
    let zone = BaselineTarget {
        subject: Subject::Zone(key.zone),
        direction: key.direction,
    };
    Some((baselines.normal(&zone, aspect, now)?, true))
}
