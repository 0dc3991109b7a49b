use serde::{Deserialize, Serialize};

use crate::features::{FEATURES, FeatureVector};
use crate::samples::Samples;

/// Parts that a feature's distribution is cut to; one more is for unknown values.
const PARTS: usize = 10;

/// Windows below which nothing is said.
const LEAST: u64 = 500;

/// What features were like in training: the edges of tenths, and their real shares.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reference {
    edges: Vec<Vec<f32>>,
    shares: Vec<Vec<f32>>,
}

/// Compares windows seen with those of training: the alarm that a model speaks of another world than it learned.
///
/// By the population stability index of each feature: below 0.1 alike, above 0.25 clearly different.
#[derive(Clone, Debug)]
pub struct Drift {
    reference: Reference,
    counts: Vec<[u64; PARTS + 1]>,
    seen: u64,
}

impl Reference {
    pub(crate) fn fit(samples: &Samples) -> Self {
        let mut reference = Self::default();
        // Peace and attacks are mixed otherwise in life than in data: peace is what is compared.
        let rows: Vec<usize> = (0..samples.len())
            .filter(|row| samples.label(*row) == 0)
            .collect();
        for feature in 0..FEATURES {
            let values = rows
                .iter()
                .filter_map(|row| samples.features(*row).get(feature));
            let mut values: Vec<f32> = values.copied().filter(|value| value.is_finite()).collect();
            values.sort_by(f32::total_cmp);
            let mut edges: Vec<f32> = (1..PARTS)
                .filter_map(|part| values.get(part * values.len() / PARTS).copied())
                .collect();
            edges.dedup();
            let mut counts = [0_u64; PARTS + 1];
            for row in &rows {
                let value = samples
                    .features(*row)
                    .get(feature)
                    .copied()
                    .unwrap_or(f32::NAN);
                count(&mut counts, part(&edges, value));
            }
            let total = rows.len().max(1) as f32;
            reference
                .shares
                .push(counts.iter().map(|count| *count as f32 / total).collect());
            reference.edges.push(edges);
        }
        reference
    }
}

impl Drift {
    pub(crate) fn new(reference: Reference) -> Self {
        Self {
            reference,
            counts: vec![[0; PARTS + 1]; FEATURES],
            seen: 0,
        }
    }

    /// Counts a window.
    pub fn handle_window(&mut self, features: &FeatureVector) {
        self.seen += 1;
        for ((counts, value), edges) in self
            .counts
            .iter_mut()
            .zip(features)
            .zip(&self.reference.edges)
        {
            count(counts, part(edges, *value));
        }
    }

    /// The index of each feature, greatest first, as (number in the schema, index); empty while too few windows were seen.
    pub fn indexes(&self) -> Vec<(usize, f32)> {
        if self.seen < LEAST {
            return Vec::new();
        }
        let pairs = self.counts.iter().zip(&self.reference.shares).enumerate();
        let mut indexes: Vec<(usize, f32)> = pairs
            .map(|(feature, (counts, shares))| (feature, self.index(counts, shares)))
            .collect();
        indexes.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        indexes
    }

    /// Forgets what was seen.
    pub fn clear(&mut self) {
        self.seen = 0;
        self.counts
            .iter_mut()
            .for_each(|counts| *counts = [0; PARTS + 1]);
    }

    fn index(&self, counts: &[u64; PARTS + 1], shares: &[f32]) -> f32 {
        let part = |(count, expected): (&u64, &f32)| {
            let seen = (*count as f32 / self.seen as f32).max(1e-3);
            let expected = expected.max(1e-3);
            (seen - expected) * (seen / expected).ln()
        };
        counts.iter().zip(shares).map(part).sum()
    }
}

/// The part of a value: 0 where it is unknown.
fn part(edges: &[f32], value: f32) -> usize {
    if value.is_nan() {
        0
    } else {
        1 + edges.partition_point(|edge| *edge <= value)
    }
}

fn count(counts: &mut [u64; PARTS + 1], part: usize) {
    if let Some(count) = counts.get_mut(part) {
        *count += 1;
    }
}
