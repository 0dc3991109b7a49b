//! Distributions over all hours, of targets that deserve them: hdrhistogram with two digits and a fixed range, one per metric.

use hdrhistogram::Histogram;

use crate::cell::METRICS;
use crate::scale::value_in;
use crate::sketch::Sketch;

/// Smallest and largest rate that is told apart: bits, packets, flows, connections a second. Beyond it counts as the largest.
const RANGES: [(u64, u64); METRICS] =
    [(1 << 10, 1 << 44), (1, 1 << 34), (1, 1 << 28), (1, 1 << 28)];

/// One histogram for each metric that was ever measured.
#[derive(Clone, Default, Debug)]
pub(crate) struct Histograms {
    metrics: [Option<Histogram<u32>>; METRICS],
}

impl Histograms {
    /// Adds an hour's samples, each divided by `excess`; once there are more than `memory` samples, the older ones lose half.
    pub(crate) fn add(&mut self, metric: usize, sketch: &Sketch, excess: f64, memory: u64) {
        let Some(histogram) = self.metric_mut(metric) else {
            return;
        };
        for (bucket, count) in &sketch.buckets {
            let value = value_in(*bucket, 0.5) / excess;
            histogram.saturating_record_n(value.round() as u64, u32::from(*count));
        }
        if histogram.len() > memory.max(1) {
            halve(histogram);
        }
    }

    /// Low, mid and high percentile (as shares of 1), peak and average.
    pub(crate) fn levels(&self, metric: usize, shares: [f64; 3]) -> Option<[f64; 5]> {
        let histogram = self.metrics.get(metric)?.as_ref()?;
        if histogram.is_empty() {
            return None;
        }
        let [low, mid, high] = shares.map(|share| histogram.value_at_quantile(share) as f64);
        Some([low, mid, high, histogram.max() as f64, histogram.mean()])
    }

    /// Values and counts of a metric, for a row.
    pub(crate) fn counts(&self, metric: usize) -> impl Iterator<Item = (u64, u32)> + '_ {
        let histogram = self.metrics.get(metric).and_then(Option::as_ref);
        histogram
            .into_iter()
            .flat_map(Histogram::iter_recorded)
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
    }

    /// Adds a value of a row.
    pub(crate) fn restore(&mut self, metric: usize, value: u64, count: u32) {
        if let Some(histogram) = self.metric_mut(metric) {
            histogram.saturating_record_n(value, count);
        }
    }

    pub(crate) fn octets(&self) -> usize {
        let each = |histogram: &Histogram<u32>| histogram.distinct_values() * size_of::<u32>();
        self.metrics.iter().flatten().map(each).sum()
    }

    fn metric_mut(&mut self, metric: usize) -> Option<&mut Histogram<u32>> {
        let (low, high) = *RANGES.get(metric)?;
        let place = self.metrics.get_mut(metric)?;
        if place.is_none() {
            // The bounds are sound, so this gives a histogram.
            *place = Histogram::new_with_bounds(low, high, 2).ok();
        }
        place.as_mut()
    }
}

fn halve(histogram: &mut Histogram<u32>) {
    let counts: Vec<(u64, u32)> = histogram
        .iter_recorded()
        .map(|step| (step.value_iterated_to(), step.count_at_value()))
        .collect();
    histogram.reset();
    for (value, count) in counts {
        // What was rare is kept: it may have been the peak.
        histogram.saturating_record_n(value, count.div_ceil(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_within_two_digits_and_old_samples_lose_weight() {
        let mut histograms = Histograms::default();
        let mut hour = Sketch::default();
        (0..3600).for_each(|at| hour.add(1e9 + f64::from(at) * 1e5, 2e9, 1));
        histograms.add(0, &hour, 1.0, 10_000);
        let [low, mid, high, ..] = histograms.levels(0, [0.1, 0.5, 0.9]).unwrap();
        for (found, true_value) in [(low, 1.036e9), (mid, 1.18e9), (high, 1.324e9)] {
            assert!(
                (found / true_value - 1.0).abs() < 0.03,
                "{found} {true_value}"
            );
        }
        let mut later = Sketch::default();
        (0..3600).for_each(|_| later.add(10e9, 10e9, 1));
        (0..6).for_each(|_| histograms.add(0, &later, 1.0, 10_000));
        let [low, ..] = histograms.levels(0, [0.2, 0.5, 0.9]).unwrap();
        assert!((low / 10e9 - 1.0).abs() < 0.03, "{low}");
        let kept: u32 = histograms.counts(0).map(|(_, count)| count).sum();
        assert!(kept <= 13_600, "{kept}");
        // A row gives the same again.
        let mut again = Histograms::default();
        histograms
            .counts(0)
            .for_each(|(value, count)| again.restore(0, value, count));
        let shares = [0.1, 0.5, 0.9];
        assert_eq!(
            histograms.levels(0, shares).unwrap()[..3],
            again.levels(0, shares).unwrap()[..3]
        );
    }
}
