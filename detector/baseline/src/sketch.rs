//! The distribution of one hour's samples, sparse: an hour's traffic lies within few doublings.

use crate::scale::{bucket, value_in};

/// Counts by bucket of the logarithmic scale, with sum and largest value.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Sketch {
    pub(crate) buckets: Vec<(u16, u16)>,
    pub(crate) count: u32,
    pub(crate) sum: f64,
    pub(crate) peak: f32,
}

impl Sketch {
    /// Adds a value `times` times; `peak` is the largest that it stands for.
    pub(crate) fn add(&mut self, value: f64, peak: f64, times: u16) {
        let at = bucket(value);
        match self
            .buckets
            .binary_search_by_key(&at, |(bucket, _)| *bucket)
        {
            Ok(place) => {
                if let Some((_, count)) = self.buckets.get_mut(place) {
                    *count = count.saturating_add(times);
                }
            }
            Err(place) => self.buckets.insert(place, (at, times)),
        }
        self.count += u32::from(times);
        self.sum += value * f64::from(times);
        self.peak = self.peak.max(peak as f32);
    }

    /// Forgets everything, and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.buckets.clear();
        (self.count, self.sum, self.peak) = (0, 0.0, 0.0);
    }

    /// Low, mid and high percentile (as shares of 1), peak and average; `None` without samples.
    pub(crate) fn levels(&self, shares: [f64; 3]) -> Option<[f64; 5]> {
        if self.count == 0 {
            return None;
        }
        let peak = f64::from(self.peak);
        let average = self.sum / f64::from(self.count);
        let [low, mid, high] = shares.map(|share| self.quantile(share).min(peak));
        Some([low, mid, high, peak, average])
    }

    /// The value below which a share of the samples lies; within a bucket samples are taken as spread evenly.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = share * f64::from(self.count);
        let mut before = 0.0;
        for (bucket, count) in &self.buckets {
            let count = f64::from(*count);
            if before + count >= wanted {
                return value_in(*bucket, ((wanted - before) / count).clamp(0.0, 1.0));
            }
            before += count;
        }
        f64::from(self.peak)
    }

    pub(crate) fn octets(&self) -> usize {
        self.buckets.capacity() * size_of::<(u16, u16)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_an_hour_are_within_a_bucket() {
        let mut sketch = Sketch::default();
        for value in 1..=3600_u32 {
            let value = f64::from(value) * 1e6;
            sketch.add(value, value, 1);
        }
        let [low, mid, high, peak, average] = sketch.levels([0.1, 0.5, 0.9]).unwrap();
        for (found, true_value) in [(low, 360e6), (mid, 1800e6), (high, 3240e6), (peak, 3600e6)] {
            assert!(
                (found / true_value - 1.0).abs() < 0.02,
                "{found} {true_value}"
            );
        }
        assert!((average / 1800.5e6 - 1.0).abs() < 1e-9);
        assert_eq!(Sketch::default().levels([0.1, 0.5, 0.9]), None);
    }
}
