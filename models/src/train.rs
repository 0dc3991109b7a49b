use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::anomaly::{self, AnomalyError};
use crate::artefact::{Card, Checks, Data};
use crate::calibration::Calibration;
use crate::drift::Reference;
use crate::evaluate::{Evaluation, score};
use crate::features::{FEATURES, SCHEMA_VERSION, schema_hash};
use crate::forest::{Forest, ForestError, Lesson, Settings};
use crate::lessons::{LessonCounters, LessonSettings};
use crate::logistic;
use crate::model::Model;
use crate::samples::{NORMAL, Samples};
use crate::strangers::{self, Stranger};

/// How a model is made; all of it stands in the card.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// Trees of the forest.
    pub trees: usize,
    /// Their depth at most.
    pub depth: usize,
    /// The share of features tried at a node.
    pub tried: f32,
    /// The weight of a leaf at least.
    pub leaf_weight: f32,
    /// Trees of each of the forests that leave a family of attacks out, by which the vote is chosen from which a window is
    /// called an attack; 0 chooses it by known families alone.
    pub stranger_trees: usize,
    /// The share of windows of peace that may be called attacks so that families never learned are found: by trees that had not
    /// seen the minute, and of windows as they are and those thinned, so the whole forest makes fewer.
    pub false_alarms: f32,
    /// The seed of all chance.
    pub seed: u64,
    /// How records became windows.
    pub lessons: LessonSettings,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            trees: 60,
            depth: 14,
            tried: 0.2,
            leaf_weight: 1.0,
            stranger_trees: 12,
            false_alarms: 0.003,
            seed: 1,
            lessons: LessonSettings::default(),
        }
    }
}

/// Why there is no model.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The forest could not be fitted.
    #[error(transparent)]
    Forest(#[from] ForestError),
    /// Data of one class, and too little to learn what is unusual.
    #[error(transparent)]
    Anomaly(#[from] AnomalyError),
}

/// Learns a model from samples; the card takes `about` (name, licences, weaknesses) as it is.
///
/// With peace alone the model knows no kinds of attack, but what is unusual.
pub fn train(
    samples: &Samples,
    settings: &TrainSettings,
    counters: LessonCounters,
    about: Data,
) -> Result<Model, TrainError> {
    let anomaly = anomaly::fit(samples);
    let grower = |trees: usize| Settings {
        trees,
        depth: settings.depth,
        leaf_weight: settings.leaf_weight,
        tried: settings.tried,
        seed: settings.seed,
    };
    let (weights, blocks) = (samples.weights(), samples.blocks());
    let lesson = Lesson {
        matrix: samples.matrix(),
        labels: &samples.labels,
        weights: &weights,
        blocks: &blocks,
        classes: samples.classes().len(),
    };
    let mut checks = Checks::default();
    let mut calibration = Calibration::default();
    let mut point = 0.5;
    let forest = match grower(settings.trees).grow(&lesson) {
        Ok(grown) => {
            let strangers = strangers::leave_out(samples, &grower(settings.stranger_trees));
            let peace_weight = settings.lessons.peace_one_in.max(1) as f32;
            calibration = calibrate(samples, &grown.unseen, peace_weight, &strangers);
            let votes = grown.unseen.iter().step_by(samples.classes().len().max(1));
            let peace = votes
                .enumerate()
                .filter(|(row, _)| samples.label(*row) == 0)
                .map(|(_, vote)| 1.0 - vote);
            let even = calibrate(samples, &grown.unseen, peace_weight, &[]).even();
            let bounds = (even, settings.false_alarms);
            let found;
            (point, found) = strangers::operating_point(&strangers, peace.collect(), bounds);
            checks = check(samples, &grown.unseen, point);
            checks.never_learned = found;
            grown.forest
        }
        Err(ForestError::NothingToLearn { .. }) if anomaly.is_ok() => Forest {
            classes: samples.classes().len(),
            ..Forest::default()
        },
        Err(error) => return Err(error.into()),
    };
    checks.anomaly = anomaly.as_ref().err().map(ToString::to_string);
    let windows = samples.counts().into_iter().collect::<BTreeMap<_, _>>();
    let card = Card {
        schema_version: SCHEMA_VERSION,
        schema_hash: schema_hash(),
        classes: samples.classes().to_vec(),
        settings: settings.clone(),
        data: Data {
            fingerprint: samples.fingerprint(),
            windows,
            captures: samples.captures().to_vec(),
            counters,
            ..about
        },
        checks,
    };
    Ok(Model {
        card,
        forest,
        calibration,
        point,
        anomaly: anomaly.ok(),
        usual: usual(samples),
        reference: Reference::fit(samples),
    })
}

/// The part of attacks that are of a family never learned, as probabilities have it.
const STRANGE: f32 = 0.25;

/// The probability of an attack from votes of trees that had not seen the minute. Every window counts alike: weights are for
/// hearing rare classes, and would promise more attacks than there are. Some of the attacks count as they look to who never learned
/// their family: what is half like an attack is more likely a new kind of it than peace.
fn calibrate(
    samples: &Samples,
    unseen: &[f32],
    peace_weight: f32,
    strangers: &[Stranger],
) -> Calibration {
    let classes = samples.classes().len();
    let strange = if strangers.is_empty() { 0.0 } else { STRANGE };
    let votes = unseen.iter().step_by(classes.max(1)).enumerate();
    let mut rows: Vec<(f32, bool, f32)> = votes
        .map(|(row, peace)| match samples.label(row) {
            0 => (1.0 - peace, false, peace_weight),
            _ => (1.0 - peace, true, 1.0 - strange),
        })
        .collect();
    for stranger in strangers {
        let votes = stranger.votes.iter();
        rows.extend(votes.map(|vote| (*vote, true, strange * stranger.each)));
    }
    Calibration::fit(&mut rows)
}

/// What the forest tells of minutes that its trees had not seen, beside logistic regression on the same.
fn check(samples: &Samples, unseen: &[f32], point: f32) -> Checks {
    let classes = samples.classes().len().max(1);
    let told_of = |votes: &[f32]| {
        let peace = votes.first().copied()?;
        if peace.is_nan() {
            return None;
        }
        Some(if 1.0 - peace > point {
            1 + crate::argmax(votes.get(1..)?)
        } else {
            0
        })
    };
    let told: Vec<Option<usize>> = unseen.chunks_exact(classes).map(told_of).collect();
    let rows: Vec<usize> = (0..samples.len())
        .filter(|row| told.get(*row).is_some_and(Option::is_some))
        .collect();
    let forest = judged(samples, &rows, |row| {
        told.get(row).copied().flatten().unwrap_or(0)
    });
    let mut checks = Checks {
        unseen_minutes: Some(forest),
        ..Checks::default()
    };
    if let Some((rows, labels)) = logistic::check(samples) {
        let both = rows
            .into_iter()
            .zip(labels)
            .filter(|(row, _)| told.get(*row).is_some_and(Option::is_some));
        let labels: BTreeMap<usize, usize> = both.collect();
        let rows: Vec<usize> = labels.keys().copied().collect();
        let logistic = judged(samples, &rows, |row| labels.get(&row).copied().unwrap_or(0));
        let forest = judged(samples, &rows, |row| {
            told.get(row).copied().flatten().unwrap_or(0)
        });
        checks.logistic_macro_f1 = Some(logistic.macro_f1);
        checks.forest_macro_f1 = Some(forest.macro_f1);
    }
    checks
}

fn judged(samples: &Samples, rows: &[usize], told: impl Fn(usize) -> usize) -> Evaluation {
    let mut wanted = vec![false; samples.len()];
    for row in rows {
        if let Some(place) = wanted.get_mut(*row) {
            *place = true;
        }
    }
    let chosen: Vec<usize> = (0..samples.len())
        .filter(|row| wanted.get(*row) == Some(&true))
        .collect();
    let names: Vec<&str> = chosen
        .iter()
        .map(|row| {
            samples
                .classes()
                .get(told(*row))
                .map_or(NORMAL, String::as_str)
        })
        .collect();
    let part = samples.filter(|row| wanted.get(row) == Some(&true));
    score(&part, &names)
}

fn usual(samples: &Samples) -> Vec<f32> {
    let peace: Vec<usize> = (0..samples.len())
        .filter(|row| samples.label(*row) == 0)
        .collect();
    let median = |feature: usize| {
        let values = peace
            .iter()
            .filter_map(|row| samples.features(*row).get(feature).copied());
        let mut values: Vec<f32> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f32::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f32::NAN)
    };
    (0..FEATURES).map(median).collect()
}
