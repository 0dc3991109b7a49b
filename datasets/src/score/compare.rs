use serde::Serialize;

use super::Score;

/// What another set of events over the same labels does better or worse: its figures less those of the first.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Difference {
    /// Difference of the precisions.
    pub precision: f64,
    /// Difference of the recalls.
    pub recall: f64,
    /// Difference of the medians, where both detect anything.
    pub detect_p50_s: Option<f64>,
    /// Difference of the 95th percentiles.
    pub detect_p95_s: Option<f64>,
    /// More (or fewer) attacks told twice.
    pub duplicates: i64,
    /// More (or fewer) false alarms.
    pub false_alarms: i64,
    /// The same in a day.
    pub false_alarms_per_day: f64,
    /// The same in a day and for 1,000 prefixes.
    pub false_alarms_per_day_per_1000: f64,
    /// More (or fewer) labels detected.
    pub detected: i64,
    /// In words.
    pub sentence: String,
}

/// What `other` does better or worse than `first`.
pub fn compare(first: &Score, other: &Score) -> Difference {
    let step = |one: u64, two: u64| two.cast_signed().saturating_sub(one.cast_signed());
    let false_alarms = step(first.false_alarms, other.false_alarms);
    let per_day = |score: &Score| match score.days {
        days if days > 0.0 => score.false_alarms as f64 / days,
        _ => 0.0,
    };
    let mut difference = Difference {
        precision: less(other.precision, first.precision),
        recall: less(other.recall, first.recall),
        detect_p50_s: both(other.detect_p50_s, first.detect_p50_s),
        detect_p95_s: both(other.detect_p95_s, first.detect_p95_s),
        duplicates: step(first.duplicates, other.duplicates),
        false_alarms,
        false_alarms_per_day: less(per_day(other), per_day(first)),
        false_alarms_per_day_per_1000: less(
            other.false_alarms_per_day_per_1000,
            first.false_alarms_per_day_per_1000,
        ),
        detected: step(first.detected, other.detected),
        sentence: String::new(),
    };
    difference.sentence = sentence(&difference);
    difference
}

fn sentence(difference: &Difference) -> String {
    let mut parts = Vec::new();
    if difference.false_alarms != 0 {
        let rate = signed(difference.false_alarms_per_day, 1);
        // A capture of minutes would speak of thousands a day.
        parts.push(match difference.false_alarms_per_day.abs() {
            rate_size if (0.05..1000.0).contains(&rate_size) => {
                format!("{rate} false alarms a day")
            }
            _ => format!("{:+} false alarms", difference.false_alarms),
        });
    }
    if let Some(delay) = difference.detect_p50_s.filter(|delay| delay.abs() >= 0.05) {
        parts.push(format!("{} s to detection", signed(delay, 1)));
    }
    if difference.detected != 0 {
        parts.push(format!("{:+} attacks detected", difference.detected));
    }
    if difference.duplicates != 0 {
        parts.push(format!("{:+} told twice", difference.duplicates));
    }
    if parts.is_empty() {
        "no difference".to_owned()
    } else {
        parts.join(", ").replace('-', "−")
    }
}

/// With its sign, and without a fraction that says nothing.
fn signed(value: f64, places: usize) -> String {
    let text = format!("{value:+.places$}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn less(one: f64, other: f64) -> f64 {
    super::rounded(one - other)
}

fn both(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(less(one?, other?))
}

#[cfg(test)]
mod tests {
    use super::super::{Window, score};
    use super::*;

    #[test]
    fn the_difference_is_told_in_words() {
        let (base, _) = score(&[], &[], &Window::default());
        let first = Score {
            false_alarms: 10,
            days: 2.0,
            detect_p50_s: Some(1.0),
            ..base.clone()
        };
        let other = Score {
            false_alarms: 4,
            days: 2.0,
            detect_p50_s: Some(5.0),
            detected: 2,
            ..base
        };
        let difference = compare(&first, &other);
        assert_eq!(
            difference.sentence,
            "−3 false alarms a day, +4 s to detection, +2 attacks detected"
        );
        assert_eq!(difference.false_alarms_per_day, -3.0);
        assert_eq!(compare(&first, &first).sentence, "no difference");
    }
}
