//! What is unlike peace, learned without labels: the residual of a principal component analysis and the density of a Gaussian
//! mixture over its components, both by linfa, both calibrated on windows of peace that they did not see.

mod fit;
mod tail;

use crate::features::{FEATURES, FeatureVector};

pub(crate) use fit::fit;
pub(crate) use tail::Tail;

/// Components of the analysis at most.
pub(crate) const MAX_COMPONENTS: usize = 16;

/// Standard deviations that a feature counts at most.
const CLIP: f32 = 8.0;

/// Why no picture of peace could be learned.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnomalyError {
    /// Too little peace.
    #[error("{0} windows of peace are too few to learn what is unusual")]
    TooFew(usize),
    /// linfa's analysis did not converge.
    #[error("principal components: {0}")]
    Components(String),
    /// linfa's mixture did not converge.
    #[error("gaussian mixture: {0}")]
    Mixture(String),
}

/// A picture of peace.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Anomaly {
    /// Mean and the inverse of the standard deviation of each feature; an inverse of 0 leaves the feature out.
    pub(crate) scale: Vec<[f32; 2]>,
    /// Principal components, [`FEATURES`] numbers each, and the inverse standard deviation along each.
    pub(crate) components: Vec<f32>,
    pub(crate) inverse_deviations: Vec<f32>,
    /// Gaussians over the components: log weight with the normalising constant, mean, precision matrix.
    pub(crate) gaussians: Vec<Gaussian>,
    pub(crate) residuals: Tail,
    pub(crate) densities: Tail,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Gaussian {
    pub(crate) constant: f32,
    pub(crate) mean: Vec<f32>,
    pub(crate) precision: Vec<f32>,
}

impl Anomaly {
    /// How often peace looks as strange as this, 0 to 1. Allocates nothing.
    pub fn tail(&self, features: &FeatureVector) -> f32 {
        let (residual, density) = self.scores(features);
        // Two looks at the same window: twice the chance of one false alarm.
        (2.0 * self.residuals.of(residual).min(self.densities.of(density))).min(1.0)
    }

    /// How often peace has a residual as great, and a density as small.
    pub fn tails(&self, features: &FeatureVector) -> [f32; 2] {
        let (residual, density) = self.scores(features);
        [self.residuals.of(residual), self.densities.of(density)]
    }

    /// The squared residual, and the negative logarithm of the density.
    pub(crate) fn scores(&self, features: &FeatureVector) -> (f32, f32) {
        let mut scaled = [0.0_f32; FEATURES];
        for ((scaled, value), [mean, inverse]) in scaled.iter_mut().zip(features).zip(&self.scale) {
            // What is unknown is taken as usual.
            if !value.is_nan() {
                *scaled = ((value - mean) * inverse).clamp(-CLIP, CLIP);
            }
        }
        let mut along = [0.0_f32; MAX_COMPONENTS];
        let mut rest = dot(&scaled, &scaled);
        let components = self.components.chunks_exact(FEATURES);
        for ((along, component), inverse) in along
            .iter_mut()
            .zip(components)
            .zip(&self.inverse_deviations)
        {
            let projection = dot(&scaled, component);
            rest -= projection * projection;
            *along = projection * inverse;
        }
        let used = along.get(..self.inverse_deviations.len()).unwrap_or(&along);
        (rest.max(0.0), self.surprise(used))
    }

    fn surprise(&self, point: &[f32]) -> f32 {
        let mut best = f32::NEG_INFINITY;
        let mut sum = 0.0;
        for gaussian in &self.gaussians {
            let log = gaussian.log_density(point);
            if log > best {
                sum = sum * (best - log).exp() + 1.0;
                best = log;
            } else {
                sum += (log - best).exp();
            }
        }
        -(best + sum.max(f32::MIN_POSITIVE).ln())
    }
}

impl Gaussian {
    fn log_density(&self, point: &[f32]) -> f32 {
        let mut away = [0.0_f32; MAX_COMPONENTS];
        for ((away, at), mean) in away.iter_mut().zip(point).zip(&self.mean) {
            *away = at - mean;
        }
        let size = self.mean.len().max(1);
        let away = away.get(..size).unwrap_or(&away);
        let squares = self
            .precision
            .chunks_exact(size)
            .zip(away)
            .map(|(row, left)| left * dot(row, away));
        self.constant - 0.5 * squares.sum::<f32>()
    }
}

/// In eight sums, which a processor works on at once; always in the same order.
fn dot(one: &[f32], other: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (ones, one_rest) = one.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    for (one, other) in ones.iter().zip(others) {
        for ((sum, one), other) in sums.iter_mut().zip(one).zip(other) {
            *sum += one * other;
        }
    }
    let rest: f32 = one_rest
        .iter()
        .zip(other_rest)
        .map(|(one, other)| one * other)
        .sum();
    sums.iter().sum::<f32>() + rest
}
