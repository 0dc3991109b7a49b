use linfa::traits::Fit;
use linfa::{DatasetBase, ParamGuard};
use linfa_clustering::GaussianMixtureModel;
use linfa_reduction::Pca;
use ndarray::{Array2, Axis};

use super::{Anomaly, AnomalyError, CLIP, Gaussian, MAX_COMPONENTS, Tail};
use crate::features::{FEATURES, FeatureVector, schema};
use crate::samples::Samples;

/// Windows of peace at least.
const LEAST: usize = 200;

/// Windows that analysis and mixture learn from at most.
const MOST: usize = 12_000;

/// Gaussians of the mixture.
const MIXTURE: usize = 5;

/// Components kept.
const COMPONENTS: usize = 10;

/// One block in so many is left for calibration.
const HELD_BACK: u32 = 4;

/// Learns what peace looks like; linfa's solvers seed themselves, always alike. Features of volume are left out: a network grows.
pub(crate) fn fit(samples: &Samples) -> Result<Anomaly, AnomalyError> {
    let peace: Vec<usize> = (0..samples.len())
        .filter(|row| samples.label(*row) == 0)
        .collect();
    if peace.len() < LEAST {
        return Err(AnomalyError::TooFew(peace.len()));
    }
    let blocks = samples.blocks();
    let held_back = |row: &usize| blocks.get(*row).is_some_and(|block| block % HELD_BACK == 0);
    let (unseen, seen): (Vec<usize>, Vec<usize>) = peace.iter().partition(|row| held_back(row));
    let (unseen, seen) = if unseen.len() < LEAST / 4 || seen.len() < LEAST / 4 {
        (peace.clone(), peace)
    } else {
        (unseen, seen)
    };
    let step = seen.len().div_ceil(MOST);
    let seen: Vec<usize> = seen.into_iter().step_by(step).collect();
    let mut anomaly = Anomaly {
        scale: scale(samples, &seen),
        ..Anomaly::default()
    };
    let scaled = Array2::from_shape_fn((seen.len(), FEATURES), |(row, feature)| {
        let value = seen
            .get(row)
            .and_then(|row| samples.features(*row).get(feature))
            .copied();
        let [mean, inverse] = anomaly.scale.get(feature).copied().unwrap_or_default();
        let value = value.filter(|value| !value.is_nan()).unwrap_or(mean);
        f64::from(((value - mean) * inverse).clamp(-CLIP, CLIP))
    });
    let points = components(&mut anomaly, scaled)?;
    mixture(&mut anomaly, points)?;
    calibrate(&mut anomaly, samples, &unseen);
    Ok(anomaly)
}

fn scale(samples: &Samples, rows: &[usize]) -> Vec<[f32; 2]> {
    let schema = schema();
    let scale = |feature: usize| {
        let (mean, deviation) = samples.moments(rows, feature);
        let absolute = schema.get(feature).is_none_or(|one| one.absolute);
        // A feature that hardly varies in peace still tells much when it moves: not less than a twentieth of a unit.
        let inverse = if absolute {
            0.0
        } else {
            1.0 / deviation.max(0.05)
        };
        [mean as f32, inverse as f32]
    };
    (0..FEATURES).map(scale).collect()
}

/// Principal components; returns the points along them, whitened.
fn components(anomaly: &mut Anomaly, scaled: Array2<f64>) -> Result<Array2<f64>, AnomalyError> {
    // Peace is moved to the origin by the scale already, but for what was clipped.
    let rows = scaled.nrows() as f64;
    let data = DatasetBase::from(scaled.clone());
    let pca = Pca::params(COMPONENTS.min(MAX_COMPONENTS))
        .fit(&data)
        .map_err(|error| AnomalyError::Components(error.to_string()))?;
    let deviations = pca.singular_values().mapv(|value| value / rows.sqrt());
    let found = pca.components();
    if found.iter().any(|value| !value.is_finite()) {
        return Err(AnomalyError::Components("they are not finite".to_owned()));
    }
    anomaly.components = found.iter().map(|value| *value as f32).collect();
    anomaly.inverse_deviations = deviations
        .iter()
        .map(|value| (1.0 / value.max(1e-3)) as f32)
        .collect();
    let mut points = scaled.dot(&found.t());
    for (mut column, inverse) in points
        .axis_iter_mut(Axis(1))
        .zip(&anomaly.inverse_deviations)
    {
        column *= f64::from(*inverse);
    }
    Ok(points)
}

fn mixture(anomaly: &mut Anomaly, points: Array2<f64>) -> Result<(), AnomalyError> {
    let wrong = |error: &dyn std::fmt::Display| AnomalyError::Mixture(error.to_string());
    let dimensions = points.ncols();
    let params = GaussianMixtureModel::params(MIXTURE)
        .n_runs(1)
        .tolerance(1e-3)
        .reg_covariance(1e-3)
        .max_n_iterations(200)
        .check()
        .map_err(|error| wrong(&error))?;
    let found = params
        .fit(&DatasetBase::from(points))
        .map_err(|error| wrong(&error))?;
    for (index, weight) in found.weights().iter().enumerate() {
        let mean = found.means().index_axis(Axis(0), index);
        let precision = found.precisions().index_axis(Axis(0), index).to_owned();
        let Some(log_determinant) = log_determinant(&precision) else {
            continue;
        };
        let log_2_pi = std::f64::consts::TAU.ln();
        let constant =
            weight.max(1e-12).ln() + 0.5 * (log_determinant - dimensions as f64 * log_2_pi);
        anomaly.gaussians.push(Gaussian {
            constant: constant as f32,
            mean: mean.iter().map(|value| *value as f32).collect(),
            precision: precision.iter().map(|value| *value as f32).collect(),
        });
    }
    if anomaly.gaussians.is_empty() {
        return Err(AnomalyError::Mixture(
            "no covariance could be inverted".to_owned(),
        ));
    }
    Ok(())
}

/// By Cholesky's decomposition; `None` for a matrix that is not positive definite.
fn log_determinant(matrix: &Array2<f64>) -> Option<f64> {
    let size = matrix.nrows();
    let mut lower = Array2::<f64>::zeros((size, size));
    let mut log = 0.0;
    for row in 0..size {
        for column in 0..=row {
            let sum: f64 = (0..column)
                .map(|at| lower[(row, at)] * lower[(column, at)])
                .sum();
            let rest = matrix[(row, column)] - sum;
            if row == column {
                if rest <= 0.0 || rest.is_nan() {
                    return None;
                }
                lower[(row, row)] = rest.sqrt();
                log += rest.ln();
            } else {
                lower[(row, column)] = rest / lower[(column, column)];
            }
        }
    }
    Some(log)
}

fn calibrate(anomaly: &mut Anomaly, samples: &Samples, rows: &[usize]) {
    let mut residuals = Vec::with_capacity(rows.len());
    let mut densities = Vec::with_capacity(rows.len());
    for row in rows {
        if let Ok(features) = <&FeatureVector>::try_from(samples.features(*row)) {
            let (residual, density) = anomaly.scores(features);
            residuals.push(residual);
            densities.push(density);
        }
    }
    anomaly.residuals = Tail::fit(residuals);
    anomaly.densities = Tail::fit(densities);
}
