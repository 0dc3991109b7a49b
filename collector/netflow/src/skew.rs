//! How far an exporter's clock is from ours.

/// How long a smallest value holds, in ns.
const PERIOD: i64 = 60_000_000_000;
/// One in so many: the weight of the newest value in the mean.
const WEIGHT: i64 = 16;

/// Our clock less the exporter's, in ns. Each value holds the way from exporter to us and what a header in whole seconds
/// cuts off; the smallest of a minute or two holds least of both.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Skew {
    pub(crate) newest: i64,
    /// Exponentially weighted.
    pub(crate) mean: i64,
    /// Of this period and of the one before.
    smallest: Option<[i64; 2]>,
    period_ends: i64,
}

impl Skew {
    /// Takes in a datagram's two times.
    pub(crate) fn observe(&mut self, received_at: i64, export_time: i64) {
        let skew = received_at.saturating_sub(export_time);
        self.newest = skew;
        let Some([current, before]) = self.smallest else {
            self.mean = skew;
            self.start(received_at, [skew; 2]);
            return;
        };
        self.mean = self
            .mean
            .saturating_add(skew.saturating_sub(self.mean) / WEIGHT);
        if received_at >= self.period_ends {
            self.start(received_at, [skew, current]);
        } else {
            self.smallest = Some([current.min(skew), before]);
        }
    }

    /// The smallest of the last one or two minutes.
    pub(crate) fn smallest(&self) -> i64 {
        self.smallest
            .map_or(0, |[current, before]| current.min(before))
    }

    fn start(&mut self, now: i64, smallest: [i64; 2]) {
        self.smallest = Some(smallest);
        self.period_ends = now.saturating_add(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_forgets_after_two_minutes_and_the_mean_follows() {
        const SECOND: i64 = 1_000_000_000;
        let mut skew = Skew::default();
        skew.observe(0, -SECOND / 2);
        assert_eq!((skew.smallest(), skew.mean), (SECOND / 2, SECOND / 2));
        for second in 1..=50 {
            skew.observe(second * SECOND, second * SECOND - 9 * SECOND);
        }
        assert_eq!(skew.smallest(), SECOND / 2);
        assert!(skew.mean > 8 * SECOND, "{}", skew.mean);
        for second in 51..=200 {
            skew.observe(second * SECOND, second * SECOND - 9 * SECOND);
        }
        assert_eq!(skew.smallest(), 9 * SECOND);
        skew.observe(i64::MAX, i64::MIN);
        assert_eq!(skew.newest, i64::MAX);
    }
}
