//! Families of attacks that a model never learned: what votes they get, and from which vote a window is called an attack so that
//! they are found too.

use std::collections::BTreeMap;

use crate::features::FeatureVector;
use crate::forest::{Lesson, Settings};
use crate::samples::Samples;

/// Windows of a family below which leaving it out says little.
const FEWEST: usize = 20;

/// Windows of a family that are told at most.
const MOST: usize = 2000;

/// Points that are tried.
const STEPS: u8 = 100;

/// What lowering the point must find more of strangers to be worth its false alarms.
const WORTH: f64 = 0.01;

/// A family that was left out.
pub(crate) struct Stranger {
    /// Its votes for "attack" by a forest that never learned it, rising.
    pub(crate) votes: Vec<f32>,
    /// Its windows for each vote.
    pub(crate) each: f32,
    family: String,
}

/// Each family of attacks with enough windows, told by a forest that never learned it.
///
/// `settings` are those of the forest with fewer trees. Empty with fewer than two families: then nothing is left to learn from.
pub(crate) fn leave_out(samples: &Samples, settings: &Settings) -> Vec<Stranger> {
    let count = |family: usize| {
        (0..samples.len())
            .filter(|row| samples.label(*row) == family)
            .count()
    };
    let families: Vec<(usize, usize)> = (1..samples.classes().len())
        .map(|family| (family, count(family)))
        .filter(|(_, count)| *count > 0)
        .collect();
    if families.len() < 2 || settings.trees == 0 {
        return Vec::new();
    }
    let told = families.iter().filter(|(_, count)| *count >= FEWEST);
    told.filter_map(|(family, count)| without(samples, settings, *family, *count))
        .collect()
}

/// The vote above which a window is called an attack, and the share of each stranger's windows above it.
///
/// `peace` are votes of trees that had not seen the minute, of which a share of `false_alarms` may lie above the point. It lies as
/// high as the strangers allow: where lowering it further would find less than a hundredth more of them. At most `most`, where
/// known families are more likely attacks than not.
pub(crate) fn operating_point(
    strangers: &[Stranger],
    mut peace: Vec<f32>,
    (most, false_alarms): (f32, f32),
) -> (f32, BTreeMap<String, f64>) {
    peace.retain(|vote| vote.is_finite());
    peace.sort_by(f32::total_cmp);
    let share = |votes: &[f32], point: f32| {
        let above = votes.len() - votes.partition_point(|vote| *vote <= point);
        above as f64 / votes.len().max(1) as f64
    };
    let mean = |point: f32| {
        let found = strangers.iter().map(|one| share(&one.votes, point));
        found.sum::<f64>() / strangers.len().max(1) as f64
    };
    let points = (1..=STEPS)
        .rev()
        .map(|step| most * f32::from(step) / f32::from(STEPS));
    let quiet = |point: &f32| share(&peace, *point) <= f64::from(false_alarms);
    let points: Vec<f32> = points.take_while(quiet).collect();
    let lowest = points.last().copied().unwrap_or(most);
    let enough = mean(lowest) - WORTH;
    let point = points.into_iter().find(|point| mean(*point) >= enough);
    let point = point.unwrap_or(most);
    let found = strangers
        .iter()
        .map(|one| (one.family.clone(), share(&one.votes, point)));
    (point, found.collect())
}

fn without(
    samples: &Samples,
    settings: &Settings,
    family: usize,
    count: usize,
) -> Option<Stranger> {
    let known = samples.filter(|row| samples.label(row) != family);
    let (weights, blocks) = (known.weights(), known.blocks());
    let lesson = Lesson {
        matrix: known.matrix(),
        labels: &known.labels,
        weights: &weights,
        blocks: &blocks,
        classes: known.classes().len(),
    };
    let forest = settings.grow(&lesson).ok()?.forest;
    let step = count.div_ceil(MOST).max(1);
    let rows = (0..samples.len())
        .filter(|row| samples.label(*row) == family)
        .step_by(step)
        .filter_map(|row| <&FeatureVector>::try_from(samples.features(row)).ok());
    let mut votes: Vec<f32> = rows
        .map(|features| 1.0 - forest.probabilities(features)[0])
        .collect();
    votes.sort_by(f32::total_cmp);
    let family = samples.classes().get(family).cloned().unwrap_or_default();
    Some(Stranger {
        votes,
        each: step as f32,
        family,
    })
}
