use serde::{Deserialize, Serialize};

/// A rising curve from votes to probabilities, learned by isotonic regression (pool adjacent violators).
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Calibration {
    /// Votes and probabilities, both rising; empty says that votes are probabilities.
    points: Vec<(f32, f32)>,
}

/// Points kept of a curve.
const MAX_POINTS: usize = 64;

/// Rows below which a curve would be a guess.
const MIN_ROWS: usize = 50;

impl Calibration {
    /// Learns from votes, whether it was so, and weights.
    pub(crate) fn fit(rows: &mut Vec<(f32, bool, f32)>) -> Self {
        rows.retain(|(vote, ..)| vote.is_finite());
        let hits = rows.iter().filter(|(_, hit, _)| *hit).count();
        if rows.len() < MIN_ROWS || hits < MIN_ROWS / 5 || rows.len() - hits < MIN_ROWS / 5 {
            return Self::default();
        }
        rows.sort_by(|one, other| one.0.total_cmp(&other.0));
        // Pools: sum of votes, of hits, of weights.
        let mut pools: Vec<[f64; 3]> = Vec::new();
        for (vote, hit, weight) in rows.iter() {
            let weight = f64::from(*weight);
            pools.push([
                f64::from(*vote) * weight,
                if *hit { weight } else { 0.0 },
                weight,
            ]);
            while let [.., before, last] = pools.as_slice() {
                if before[1] / before[2] < last[1] / last[2] {
                    break;
                }
                let joined = [
                    before[0] + last[0],
                    before[1] + last[1],
                    before[2] + last[2],
                ];
                pools.truncate(pools.len() - 2);
                pools.push(joined);
            }
        }
        let total: f64 = pools.iter().map(|pool| pool[2]).sum();
        // Nothing is certain after so many rows: half a row of the other kind in each pool.
        let unit = 0.5 * total / rows.len() as f64;
        let points = pools.iter().map(|[votes, hits, weight]| {
            (
                (votes / weight) as f32,
                ((hits + unit) / (weight + 2.0 * unit)) as f32,
            )
        });
        let mut points: Vec<(f32, f32)> = points.collect();
        thin(&mut points);
        Self { points }
    }

    /// The probability of a vote.
    pub(crate) fn probability(&self, vote: f32) -> f32 {
        let at = self.points.partition_point(|(known, _)| *known < vote);
        match (
            at.checked_sub(1).and_then(|at| self.points.get(at)),
            self.points.get(at),
        ) {
            (Some((low, from)), Some((high, to))) if high > low => {
                from + (to - from) * (vote - low) / (high - low)
            }
            (_, Some((_, probability))) | (Some((_, probability)), None) => *probability,
            (None, None) => vote,
        }
        .clamp(0.0, 1.0)
    }
}

impl Calibration {
    /// The lowest vote above which an attack is likelier than not.
    pub(crate) fn even(&self) -> f32 {
        let (mut low, mut high) = (0.0_f32, 1.0_f32);
        for _ in 0..24 {
            let middle = (low + high) / 2.0;
            if self.probability(middle) > 0.5 {
                high = middle;
            } else {
                low = middle;
            }
        }
        low
    }
}

fn thin(points: &mut Vec<(f32, f32)>) {
    let mut highest = 0.0_f32;
    for point in points.iter_mut() {
        highest = highest.max(point.1);
        point.1 = highest;
    }
    if points.len() > MAX_POINTS {
        let last = points.len() - 1;
        *points = (0..MAX_POINTS)
            .filter_map(|part| points.get(part * last / (MAX_POINTS - 1)).copied())
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_become_frequencies() {
        // A forest that always says 0.8 too high a number: what it calls v happens in v² of cases.
        let mut rows: Vec<(f32, bool, f32)> = (0..10_000)
            .map(|row| {
                let vote = (row % 100) as f32 / 100.0;
                (vote, (row / 100) as f32 / 100.0 < vote * vote, 1.0)
            })
            .collect();
        let curve = Calibration::fit(&mut rows);
        for vote in [0.1_f32, 0.3, 0.5, 0.7, 0.9] {
            assert!(
                (curve.probability(vote) - vote * vote).abs() < 0.03,
                "{vote}: {}",
                curve.probability(vote)
            );
        }
        assert!(curve.probability(0.2) <= curve.probability(0.21));
    }

    #[test]
    fn few_rows_leave_votes_alone() {
        let mut rows = vec![(0.9, true, 1.0), (0.2, false, 1.0)];
        assert_eq!(Calibration::fit(&mut rows).probability(0.37), 0.37);
    }
}
