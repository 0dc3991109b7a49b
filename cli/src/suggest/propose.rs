//! From levels to thresholds in readable figures.

use std::collections::BTreeMap;

use weir_detector::{Scope, ThresholdConfig};
use weir_flow_aggregate::TargetScope;
use weir_flow_record::{Quantity, Vector};

use super::levels::{Class, Level};

/// Limits are never lower, in bits, packets and flows per second: below, a single client's download is an attack.
const FLOORS: [u64; 3] = [1_000_000, 1_000, 200];
/// A kind of traffic is worth a threshold of its own from this share of the class's total on, by any rate.
const WORTH: f64 = 0.02;

/// A threshold, and what it rests on.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) class: Class,
    pub(super) level: Level,
    /// In bits, packets and flows per second.
    pub(super) limits: [u64; 3],
}

/// Proposals for all classes with traffic, in order.
pub(super) fn propose(levels: &BTreeMap<Class, Level>, burst: f64) -> Vec<Proposal> {
    let mut proposals: Vec<Proposal> = levels
        .iter()
        .filter(|(class, level)| is_worth(levels, class, level))
        .map(|(class, level)| Proposal {
            class: *class,
            level: level.clone(),
            limits: limits(level, burst),
        })
        .collect();
    // IPv4 and IPv6 prefixes of one length have one threshold: the higher limits hold.
    proposals.dedup_by(|next, kept| {
        let same = is_same_threshold(&next.class, &kept.class);
        if same {
            for metric in 0..3 {
                kept.limits[metric] = kept.limits[metric].max(next.limits[metric]);
                kept.level.peak[metric] = kept.level.peak[metric].max(next.level.peak[metric]);
            }
            kept.level.targets += next.level.targets;
        }
        same
    });
    proposals
}

/// Whether two classes are held by one threshold.
fn is_same_threshold(a: &Class, b: &Class) -> bool {
    (a.zone, a.scope, a.direction, a.vector, v4_length(a))
        == (b.zone, b.scope, b.direction, b.vector, v4_length(b))
}

/// The IPv4 length of a threshold that holds prefixes of this class; an IPv6 one is twice as long.
fn v4_length(class: &Class) -> u8 {
    if class.v6 {
        class.length / 2
    } else {
        class.length
    }
}

fn is_worth(levels: &BTreeMap<Class, Level>, class: &Class, level: &Level) -> bool {
    let total = Class {
        vector: Vector::Total,
        ..*class
    };
    let Some(total) = levels.get(&total).filter(|_| class.vector != Vector::Total) else {
        return class.vector == Vector::Total;
    };
    (0..3).any(|metric| level.quantile[metric] as f64 >= WORTH * total.quantile[metric] as f64)
}

fn limits(level: &Level, burst: f64) -> [u64; 3] {
    let mut limits = [0; 3];
    for metric in 0..3 {
        let limit = level.quantile[metric] as f64 * burst;
        limits[metric] = readable((limit as u64).max(FLOORS[metric]));
    }
    limits
}

/// The next number that has two digits: 1 234 567 becomes 1 300 000.
fn readable(value: u64) -> u64 {
    let mut unit = 1;
    while value / unit >= 100 {
        unit *= 10;
    }
    value.div_ceil(unit).saturating_mul(unit)
}

/// A number as configurations write it: `1300000` becomes `1.3M`.
pub(super) fn quantity(value: u64) -> String {
    let units = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    let unit = units
        .into_iter()
        .find(|(unit, _)| value >= *unit && value.is_multiple_of(unit / 10));
    match unit {
        Some((unit, name)) if value.is_multiple_of(unit) => format!("{}{name}", value / unit),
        Some((unit, name)) => format!("{}.{}{name}", value / unit, value % unit / (unit / 10)),
        None => value.to_string(),
    }
}

impl Proposal {
    /// As the configuration has it.
    pub(super) fn threshold(&self) -> ThresholdConfig {
        let scope = match self.class.scope {
            TargetScope::Host => Scope::Host,
            TargetScope::Prefix => Scope::Prefix,
            _ => Scope::Zone,
        };
        let [bits, packets, flows] = self.limits.map(|limit| Some(Quantity(limit)));
        ThresholdConfig {
            scope,
            prefix_length: (scope == Scope::Prefix).then(|| v4_length(&self.class)),
            direction: self.class.direction,
            vector: self.class.vector.name().to_owned(),
            bits_per_second: bits,
            packets_per_second: packets,
            flows_per_second: flows,
            ..ThresholdConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_two_digits() {
        for (value, text) in [
            (1_234_567, "1.3M"),
            (1_000_000, "1M"),
            (99, "99"),
            (101, "110"),
            (2_000, "2k"),
            (11_900, "12k"),
            (99_100_000_000, "100G"),
        ] {
            assert_eq!(quantity(readable(value)), text);
            assert_eq!(text.parse(), Ok(Quantity(readable(value))));
        }
        assert!(readable(u64::MAX) > 0);
    }
}
