//! Chance: seeded generators, and numbers that depend on nothing but a seed and a place.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, LogNormal, Poisson, StandardNormal};

/// A generator of its own for each part of the simulation, so that one does not disturb another.
pub(super) fn dice(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    dice.set_stream(stream);
    dice
}

/// Mixes numbers (the finaliser of SplitMix64).
pub(super) fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |state, part| {
        let mut mixed = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// From 0 to 1, of a hash.
pub(super) fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// Normally distributed (mean 0, deviation 1), of a hash: Box and Muller's transform.
pub(super) fn gaussian(of: u64) -> f64 {
    let (one, two) = (unit(hash(&[of, 1])), unit(hash(&[of, 2])));
    (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * two).cos()
}

pub(super) fn exponential(rng: &mut impl Rng) -> f64 {
    rng.sample(Exp1)
}

pub(super) fn normal(rng: &mut impl Rng) -> f64 {
    rng.sample(StandardNormal)
}

/// A factor with median 1.
pub(super) fn log_normal(rng: &mut impl Rng, sigma: f64) -> f64 {
    LogNormal::new(0.0, sigma).map_or(1.0, |spread| spread.sample(rng))
}

/// A Poisson number; 0 where the mean is none.
pub(super) fn poisson(rng: &mut impl Rng, mean: f64) -> u64 {
    Poisson::new(mean).map_or(0, |distribution| distribution.sample(rng) as u64)
}

/// A Poisson number that is not 0.
pub(super) fn positive_poisson(rng: &mut impl Rng, mean: f64) -> u64 {
    if mean > 20.0 {
        return poisson(rng, mean).max(1);
    }
    // Inversion over what is left above 0.
    let none = (-mean).exp();
    let mut left = rng.random::<f64>() * (1.0 - none);
    let mut term = none;
    for count in 1..200_u32 {
        term *= mean / f64::from(count);
        left -= term;
        if left <= 0.0 {
            return u64::from(count);
        }
    }
    200
}

/// A place in a table of cumulated weights.
pub(super) fn pick(rng: &mut impl Rng, cumulated: &[f64]) -> usize {
    let total = cumulated.last().copied().unwrap_or(0.0);
    let ticket = rng.random::<f64>() * total;
    let place = cumulated.partition_point(|sum| *sum <= ticket);
    place.min(cumulated.len().saturating_sub(1))
}

/// Sums so far.
pub(super) fn cumulate(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sum = 0.0;
    weights
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect()
}

/// A Pareto distribution between two bounds: heavy-tailed sizes that still have a mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoundedPareto {
    pub(super) alpha: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl BoundedPareto {
    /// The share below `x`.
    pub(super) fn below(&self, x: f64) -> f64 {
        if x >= self.most {
            return 1.0;
        }
        let tail = |x: f64| (self.least / x).powf(self.alpha);
        ((1.0 - tail(x.max(self.least))) / (1.0 - tail(self.most))).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_as_they_should_be() {
        let mut rng = dice(1, 0);
        for mean in [0.01, 0.5, 3.0, 50.0] {
            let sum: u64 = (0..20_000).map(|_| positive_poisson(&mut rng, mean)).sum();
            let expected = mean / (1.0 - (-mean).exp());
            let seen = sum as f64 / 20_000.0;
            assert!((seen / expected - 1.0).abs() < 0.05, "{mean}: {seen}");
        }
        let mean: f64 = (0..20_000).map(gaussian).sum::<f64>() / 20_000.0;
        let square: f64 = (0..20_000).map(|of| gaussian(of).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (square - 1.0).abs() < 0.05);
    }

    #[test]
    fn picks_follow_their_weights() {
        let table = cumulate([1.0, 0.0, 3.0].into_iter());
        let mut rng = dice(2, 0);
        let mut seen = [0; 3];
        for _ in 0..10_000 {
            seen[pick(&mut rng, &table)] += 1;
        }
        assert_eq!(seen[1], 0);
        assert!((2300..2700).contains(&seen[0]), "{seen:?}");
    }

    #[test]
    fn the_tail_is_heavy_and_bounded() {
        let sizes = BoundedPareto {
            alpha: 1.2,
            least: 3.0,
            most: 1e6,
        };
        assert_eq!((sizes.below(3.0), sizes.below(1e6)), (0.0, 1.0));
        let beyond = 1.0 - sizes.below(1000.0);
        assert!((0.0005..0.002).contains(&beyond), "{beyond}");
    }
}
