//! Multinomial logistic regression: a check. A forest that is no better has learned nothing that a plane could not tell.

use linfa::DatasetBase;
use linfa::traits::{Fit, Predict};
use linfa_logistic::MultiLogisticRegression;
use ndarray::{Array1, Array2};

use crate::features::FEATURES;
use crate::samples::Samples;

/// Rows to learn from at most: the solver is slow.
const MOST: usize = 2000;

/// One block in so many is left to be told.
const HELD_BACK: u32 = 4;

/// Labels told for the rows of blocks held back, with those rows; `None` where the classes are too few or the solver fails.
pub(crate) fn check(samples: &Samples) -> Option<(Vec<usize>, Vec<usize>)> {
    let blocks = samples.blocks();
    let held_back = |row: &usize| blocks.get(*row).is_some_and(|block| block % HELD_BACK == 0);
    let (test, train): (Vec<usize>, Vec<usize>) = (0..samples.len()).partition(held_back);
    let step = train.len().div_ceil(MOST).max(1);
    let train: Vec<usize> = train.into_iter().step_by(step).collect();
    let scale = scale(samples, &train);
    let labels: Array1<usize> = train.iter().map(|row| samples.label(*row)).collect();
    let first = labels.first().copied()?;
    if test.is_empty() || labels.iter().all(|label| *label == first) {
        return None;
    }
    let data = DatasetBase::new(matrix(samples, &train, &scale), labels);
    let fitted = MultiLogisticRegression::default()
        .max_iterations(40)
        .alpha(1.0)
        .fit(&data)
        .ok()?;
    let told: Array1<usize> = fitted.predict(&matrix(samples, &test, &scale));
    Some((test, told.to_vec()))
}

fn scale(samples: &Samples, rows: &[usize]) -> Vec<[f64; 2]> {
    let scale = |feature: usize| {
        let (mean, deviation) = samples.moments(rows, feature);
        [mean, 1.0 / deviation.max(1e-3)]
    };
    (0..FEATURES).map(scale).collect()
}

fn matrix(samples: &Samples, rows: &[usize], scale: &[[f64; 2]]) -> Array2<f64> {
    Array2::from_shape_fn((rows.len(), FEATURES), |(row, feature)| {
        let value = rows
            .get(row)
            .and_then(|row| samples.features(*row).get(feature))
            .copied();
        let [mean, inverse] = scale.get(feature).copied().unwrap_or_default();
        let value = value
            .filter(|value| value.is_finite())
            .map_or(mean, f64::from);
        ((value - mean) * inverse).clamp(-8.0, 8.0)
    })
}
