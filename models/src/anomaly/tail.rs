use serde::{Deserialize, Serialize};

/// How often a score of peace was at least as great: quantiles, finer towards the end.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tail {
    /// Shares of peace above, falling, with the score; scores rise.
    points: Vec<(f32, f32)>,
    count: usize,
}

impl Tail {
    pub(crate) fn fit(mut scores: Vec<f32>) -> Self {
        scores.retain(|score| score.is_finite());
        scores.sort_by(f32::total_cmp);
        let count = scores.len();
        let mut points: Vec<(f32, f32)> = Vec::new();
        let mut share = 1.0_f64;
        while share * count as f64 >= 1.0 {
            let at = ((1.0 - share) * count as f64) as usize;
            if let Some(score) = scores.get(at.min(count - 1)) {
                points.push((share as f32, *score));
            }
            share *= 0.8;
        }
        Self { points, count }
    }

    /// The share of peace with a score as great; never less than what one window more would have been.
    pub(crate) fn of(&self, score: f32) -> f32 {
        let at = self.points.partition_point(|(_, known)| *known <= score);
        let least = 1.0 / (self.count + 1) as f32;
        let after = self.points.get(at);
        match (at.checked_sub(1).and_then(|at| self.points.get(at)), after) {
            (None, _) => 1.0,
            (Some(_), None) => least,
            (Some((from, low)), Some((to, high))) => {
                from + (to - from) * (score - low) / (high - low).max(f32::MIN_POSITIVE)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_scores() {
        let tail = Tail::fit((0..10_000).map(|score| score as f32).collect());
        for (score, share) in [(0.0, 1.0), (5000.0, 0.5), (9000.0, 0.1), (9990.0, 0.001)] {
            assert!(
                (tail.of(score) - share).abs() < 0.001 + share * 0.02,
                "{score}: {}",
                tail.of(score)
            );
        }
        assert!(tail.of(1e9) < 2e-4);
        assert_eq!(tail.of(-1.0), 1.0);
    }
}
