//! Reasons in words and figures.

use std::time::Duration;

use ipnet::IpNet;
use weir_attack_event::Reason;
use weir_flow_aggregate::TargetScope;
use weir_flow_record::{Direction, Vector};

use crate::config::Threshold;
use crate::relative::Basis;
use crate::repeat::Repeat;
use crate::track::Metric;

/// A threshold that fired, and by what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    pub(crate) metric: Metric,
    pub(crate) value: u64,
    pub(crate) lower: u64,
    pub(crate) limit: u64,
}

impl Crossing {
    /// How far the lower bound is over the limit: at least 1.
    pub(crate) fn ratio(&self) -> f64 {
        self.lower as f64 / self.limit as f64
    }
}

/// That a target was attacked before.
pub(crate) fn repeat(repeat: &Repeat, held_for: Duration) -> Reason {
    let times = match repeat.starts {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    Reason(format!(
        "attacked {times} shortly before, with up to {} s between: held open through {} s of quiet",
        grouped(repeat.longest_gap.max(0).unsigned_abs()),
        grouped(held_for.as_secs()),
    ))
}

/// Why a limit fired that follows from the baseline.
pub(crate) fn above_normal(
    threshold: &Threshold,
    target: &str,
    crossing: &Crossing,
    basis: &Basis,
) -> Reason {
    let unit = crossing.metric.unit();
    let normal = basis.normal[crossing.metric as usize];
    let whose = if basis.of_zone {
        "in the whole zone"
    } else {
        "there"
    };
    Reason(format!(
        "{} {} {target}: {} {unit}{} for {} s, {:.1} × the {} {unit} that are normal {whose} at this hour (limit {} {unit}; learned over {}, until {})",
        traffic_of(threshold.vector),
        preposition(threshold.direction),
        grouped(crossing.value),
        least(crossing),
        threshold.hold,
        crossing.value as f64 / normal.max(1) as f64,
        grouped(normal),
        grouped(crossing.limit),
        length(basis.seconds_learned),
        basis.updated,
    ))
}

/// A length of time in words.
pub(crate) fn length(seconds: u64) -> String {
    match seconds {
        0..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// What an attack on many hosts is measured against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carpet {
    /// Hosts with traffic.
    pub(crate) hosts: u64,
    /// Octets and packets a second that are usual.
    pub(crate) usual: [u64; 2],
    /// Seconds over which that was learned.
    pub(crate) known_for: u32,
}

/// Why an automatic prefix is attacked.
pub(crate) fn carpet(
    vector: Vector,
    direction: Direction,
    target: &str,
    crossing: &Crossing,
    carpet: &Carpet,
) -> Reason {
    let (preposition, unit) = (preposition(direction), crossing.metric.unit());
    let usual = match crossing.metric {
        Metric::Bits => Some(carpet.usual[0].saturating_mul(8)),
        Metric::Packets => Some(carpet.usual[1]),
        Metric::Flows => None,
    };
    let usual = match usual {
        Some(usual) if carpet.known_for >= 10 => format!(
            "; {} {unit} were usual over {} s",
            grouped(usual),
            grouped(u64::from(carpet.known_for.min(300)))
        ),
        _ => String::new(),
    };
    Reason(format!(
        "{} {preposition} {target}, spread over {} hosts: {} {unit}{}, {:.1} × the limit of {} {unit} for all together{usual}",
        traffic_of(vector),
        grouped(carpet.hosts),
        grouped(crossing.value),
        least(crossing),
        crossing.value as f64 / crossing.limit as f64,
        grouped(crossing.limit),
    ))
}

/// That an attack has grown.
pub(crate) fn wider(from: &IpNet, to: &IpNet) -> Reason {
    Reason(format!("it has grown from {from} to {to}"))
}

fn traffic_of(vector: Vector) -> String {
    match vector {
        Vector::Total => "traffic".to_owned(),
        vector => vector.to_string(),
    }
}

fn preposition(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "to",
        Direction::Out => "from",
    }
}

fn least(crossing: &Crossing) -> String {
    if crossing.lower == crossing.value {
        String::new()
    } else {
        format!(" (with 95 % at least {})", grouped(crossing.lower))
    }
}

/// Why a threshold fired.
pub(crate) fn crossing(threshold: &Threshold, target: &str, crossing: &Crossing) -> Reason {
    let traffic = traffic_of(threshold.vector);
    let preposition = preposition(threshold.direction);
    let scope = match threshold.scope {
        TargetScope::Host => "host",
        TargetScope::Automatic | TargetScope::Prefix => "prefix",
        TargetScope::Zone => "zone",
        TargetScope::Link => "link",
    };
    let Crossing {
        metric,
        value,
        limit,
        ..
    } = crossing;
    let unit = metric.unit();
    let least = least(crossing);
    let seconds = threshold.hold;
    Reason(format!(
        "{traffic} {preposition} {target}: {} {unit}{least} for {seconds} s, {:.1} × the limit of {} {unit} for a {scope}",
        grouped(*value),
        *value as f64 / *limit as f64,
        grouped(*limit),
    ))
}

/// What the figures rest on.
pub(crate) fn sampling(unknown_rate: bool, rate: u32) -> Option<Reason> {
    if unknown_rate {
        Some(Reason(
            "the exporter states no sampling rate: the figures are lower bounds".to_owned(),
        ))
    } else if rate > 1 {
        Some(Reason(format!(
            "estimated from packets sampled 1 in {}",
            grouped(u64::from(rate))
        )))
    } else {
        None
    }
}

/// What was not seen.
pub(crate) fn coverage(seen: f64) -> Option<Reason> {
    (seen < 0.95).then(|| {
        Reason(format!(
            "only {:.0} % of the exported records arrived: the figures are lower bounds",
            seen * 100.0
        ))
    })
}

/// A number with thin groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
