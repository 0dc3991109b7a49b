use std::str::FromStr;

use serde_json::Value;

use super::Score;

/// A bound that a score must keep, such as `recall>=0.98`.
#[derive(Clone, PartialEq, Debug)]
pub struct Requirement {
    text: String,
    key: String,
    relation: Relation,
    bound: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Relation {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
}

/// Why a text is no requirement.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequirementError {
    /// No relation in it.
    #[error("`{0}` is no requirement: write a figure, one of >= <= > < ==, and a number")]
    Form(String),
    /// The score has no such figure.
    #[error("`{0}` is no figure of a score")]
    Key(String),
}

const RELATIONS: [(&str, Relation); 5] = [
    (">=", Relation::AtLeast),
    ("<=", Relation::AtMost),
    ("==", Relation::Equal),
    (">", Relation::Above),
    ("<", Relation::Below),
];

/// Figures that may be required.
const KEYS: [&str; 13] = [
    "precision",
    "recall",
    "detect_p50_s",
    "detect_p95_s",
    "duplicates",
    "false_alarms",
    "false_alarms_per_day_per_1000",
    "attacks",
    "detected",
    "prefixes",
    "days",
    "receipt_p50_s",
    "receipt_p95_s",
];

impl FromStr for Requirement {
    type Err = RequirementError;

    fn from_str(text: &str) -> Result<Self, RequirementError> {
        let form = || RequirementError::Form(text.to_owned());
        let (key, relation, bound) = RELATIONS
            .into_iter()
            .find_map(|(sign, relation)| {
                let (key, bound) = text.split_once(sign)?;
                Some((key.trim(), relation, bound.trim()))
            })
            .ok_or_else(form)?;
        if !KEYS.contains(&key) {
            return Err(RequirementError::Key(key.to_owned()));
        }
        let bound: f64 = bound.parse().map_err(|_| form())?;
        Ok(Self {
            text: text.to_owned(),
            key: key.to_owned(),
            relation,
            bound,
        })
    }
}

impl Requirement {
    /// What is wrong with a score, in a sentence; `None` where it keeps the bound. A time to detection of nothing
    /// keeps every bound: what was missed is the recall's to say.
    pub fn violation(&self, score: &Score) -> Option<String> {
        let figures = serde_json::to_value(score).unwrap_or(Value::Null);
        let value = figures.get(&self.key).and_then(Value::as_f64)?;
        let kept = match self.relation {
            Relation::AtLeast => value >= self.bound,
            Relation::AtMost => value <= self.bound,
            Relation::Above => value > self.bound,
            Relation::Below => value < self.bound,
            Relation::Equal => value == self.bound,
        };
        (!kept).then(|| format!("{} is {value}, required is {}", self.key, self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Window, score};
    use super::*;

    #[test]
    fn bounds_are_kept_or_not() {
        let (empty, _) = score(&[], &[], &Window::default());
        for (text, kept) in [
            ("recall>=0.98", true),
            ("recall > 1", false),
            ("false_alarms<=0", true),
            ("duplicates==0", true),
            ("duplicates==1", false),
            ("attacks<0", false),
            ("detect_p50_s<=1", true),
        ] {
            let requirement: Requirement = text.parse().unwrap();
            assert_eq!(requirement.violation(&empty).is_none(), kept, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "recall", "recall>=much", "speed>=1"] {
            assert!(text.parse::<Requirement>().is_err(), "{text}");
        }
    }
}
