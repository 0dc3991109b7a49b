//! Who says what: labels of several sources, held against each other.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::artefact::Data;
use crate::evaluate::evaluate;
use crate::lessons::LessonCounters;
use crate::samples::{NORMAL, Samples};
use crate::train::{TrainSettings, train};

/// Sources that are looked at, at most: those with most windows.
const MOST: usize = 32;

/// Trees that judge a source: it is a look, not a model.
const TREES: usize = 20;

/// How well what one source says agrees with a model that learned from all others.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Agreement {
    /// The source; empty for the data themselves.
    pub source: String,
    /// Windows of attacks that it labels, as they are.
    pub windows: usize,
    /// The share of these that the others' model takes for attacks too; none where the others know no attack.
    pub attack: Option<f64>,
    /// Of those whose kind the others know, the share to which their model gives the same name; none where there are too few.
    pub name: Option<f64>,
}

impl Agreement {
    /// Whether the others contradict it: most of what it calls attacks looks like peace to them, or most of its names are others.
    ///
    /// A source that alone knows a new kind of attack may be contradicted and right: this is for people to look at.
    pub fn is_contradicted(&self) -> bool {
        self.attack.is_some_and(|share| share < 0.5) || self.name.is_some_and(|share| share < 0.5)
    }
}

/// Holds each source of attacks against a model that learned from the others and from peace; by name. Empty with fewer than two
/// sources.
pub fn agreements(samples: &Samples, settings: &TrainSettings) -> Vec<Agreement> {
    let attacks: Vec<usize> = (0..samples.len())
        .filter(|row| samples.label(*row) != 0)
        .collect();
    let sources: BTreeSet<&str> = attacks.iter().map(|row| samples.by(*row)).collect();
    if sources.len() < 2 {
        return Vec::new();
    }
    let of = |source: &str| {
        attacks
            .iter()
            .filter(|row| samples.by(**row) == source && samples.origin(**row).2 <= 1)
            .count()
    };
    let mut counted: Vec<(usize, &str)> = sources.into_iter().map(|one| (of(one), one)).collect();
    counted.sort_by(|one, other| (other.0, one.1).cmp(&(one.0, other.1)));
    counted.truncate(MOST);
    let mut found: Vec<Agreement> = counted
        .into_iter()
        .filter(|(windows, _)| *windows > 0)
        .map(|(windows, source)| agreement(samples, settings, source, windows))
        .collect();
    found.sort_by(|one, other| one.source.cmp(&other.source));
    found
}

fn agreement(
    samples: &Samples,
    settings: &TrainSettings,
    source: &str,
    windows: usize,
) -> Agreement {
    let is_its = |row: usize| samples.label(row) != 0 && samples.by(row) == source;
    let others = samples.filter(|row| !is_its(row));
    let its = samples.filter(|row| is_its(row) && samples.origin(row).2 <= 1);
    let settings = TrainSettings {
        trees: TREES.min(settings.trees),
        stranger_trees: 4.min(settings.stranger_trees),
        ..settings.clone()
    };
    let unknown = Agreement {
        source: source.to_owned(),
        windows,
        attack: None,
        name: None,
    };
    if (0..others.len()).all(|row| others.label(row) == 0) {
        return unknown;
    }
    let Ok(model) = train(
        &others,
        &settings,
        LessonCounters::default(),
        Data::default(),
    ) else {
        return unknown;
    };
    let evaluation = evaluate(&model, &its);
    let known: BTreeSet<&str> = (0..others.len()).map(|row| others.class(row)).collect();
    // Told to be an attack of whatever kind, and of these the name.
    let (mut told, mut named) = (0, 0);
    for (truth, row) in &evaluation.confusion {
        let attacks: usize = row
            .iter()
            .filter(|(kind, _)| *kind != NORMAL)
            .map(|(_, n)| n)
            .sum();
        if known.contains(truth.as_str()) {
            told += attacks;
            named += row.get(truth).copied().unwrap_or(0);
        }
    }
    Agreement {
        attack: Some(evaluation.attack.recall),
        name: (told >= 10).then(|| named as f64 / told as f64),
        ..unknown
    }
}
