//! Reasons in words and figures.

use std::time::Duration;

use weir_attack_event::Reason;
use weir_flow_aggregate::TargetScope;
use weir_flow_record::Vector;

use crate::config::Threshold;
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

/// Why a threshold fired.
pub(crate) fn crossing(threshold: &Threshold, target: &str, crossing: &Crossing) -> Reason {
    let traffic = match threshold.vector {
        Vector::Total => "traffic".to_owned(),
        vector => vector.to_string(),
    };
    let preposition = match threshold.direction {
        weir_flow_record::Direction::In => "to",
        weir_flow_record::Direction::Out => "from",
    };
    let scope = match threshold.scope {
        TargetScope::Host => "host",
        TargetScope::Prefix => "prefix",
        TargetScope::Zone => "zone",
    };
    let Crossing {
        metric,
        value,
        lower,
        limit,
    } = crossing;
    let unit = metric.unit();
    let least = if lower == value {
        String::new()
    } else {
        format!(" (with 95 % at least {})", grouped(*lower))
    };
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
