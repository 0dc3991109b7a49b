//! What is normal in a history: rates of each target over windows of ten seconds, as quantiles.

use std::collections::{BTreeMap, HashMap};

use weir_flow_aggregate::{Bucket, Series, TargetScope, WindowSummary};
use weir_flow_record::{Direction, TargetKey, Vector, ZoneId};

/// Seconds over which a rate is a mean.
const WINDOW: i64 = 10;
/// Targets that are looked at, at most.
const MAX_TARGETS: usize = 262_144;
/// Bins of a power of two: a quantile is off by 4.5 % at most.
const BINS: f64 = 8.0;

/// Which thresholds would hold a target: one proposal for each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Class {
    pub(super) zone: ZoneId,
    pub(super) scope: TargetScope,
    /// Of a prefix: 0 for hosts and zones.
    pub(super) length: u8,
    pub(super) v6: bool,
    pub(super) direction: Direction,
    pub(super) vector: Vector,
}

/// What was seen of a class, in bits, packets and flows per second.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// The quantile of the busiest target.
    pub(super) quantile: [u64; 3],
    /// Largest rate of any target in one second.
    pub(super) peak: [u64; 3],
    /// Targets with traffic.
    pub(super) targets: u64,
}

/// Takes in summaries, and learns rates from settled seconds.
#[derive(Default)]
pub(super) struct Levels {
    targets: HashMap<(TargetScope, TargetKey), Target>,
    refused: u64,
    first: Option<i64>,
    last: Option<i64>,
}

#[derive(Default)]
struct Target {
    /// Seconds that are not settled yet.
    open: BTreeMap<i64, Second>,
    rates: BTreeMap<Vector, Rates>,
}

type Second = Vec<(Vector, [u64; 3])>;

/// Rates of one target and vector.
#[derive(Default)]
struct Rates {
    /// Number of the window at hand, and its sums.
    window: i64,
    sums: [u64; 3],
    /// Windows by the logarithm of their rate, for each metric.
    bins: [BTreeMap<u16, u32>; 3],
    peak: [u64; 3],
}

impl Levels {
    /// Takes in a tick.
    pub(super) fn handle_summary(&mut self, summary: &WindowSummary) {
        let all = [&summary.hosts, &summary.prefixes, &summary.zones];
        for series in all.into_iter().flatten() {
            self.handle_series(series);
        }
        self.settle(summary.settled_until);
    }

    /// Everything is settled.
    pub(super) fn finish(&mut self) {
        self.settle(i64::MAX);
        for target in self.targets.values_mut() {
            target.rates.values_mut().for_each(Rates::close);
        }
    }

    /// First and last second with traffic.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        self.first.zip(self.last)
    }

    /// Targets that found no room.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// The quantile `share` (0 to 1) of each class.
    pub(super) fn of(&self, share: f64) -> BTreeMap<Class, Level> {
        let mut levels = BTreeMap::<Class, Level>::new();
        for ((scope, key), target) in &self.targets {
            for (vector, rates) in &target.rates {
                let level = levels.entry(class(*scope, key, *vector)).or_default();
                level.targets += 1;
                for metric in 0..3 {
                    let quantile = quantile(&rates.bins[metric], share);
                    level.quantile[metric] = level.quantile[metric].max(quantile);
                    level.peak[metric] = level.peak[metric].max(rates.peak[metric]);
                }
            }
        }
        levels
    }

    fn handle_series(&mut self, series: &Series) {
        let key = (series.scope, series.target);
        if !self.targets.contains_key(&key) && self.targets.len() >= MAX_TARGETS {
            self.refused += 1;
            return;
        }
        let target = self.targets.entry(key).or_default();
        for (place, total) in series.total.iter().enumerate() {
            let mut second = vec![(Vector::Total, figures(total))];
            for (vector, buckets) in series.vectors.iter().flatten() {
                if let Some(bucket) = buckets.get(place).filter(|_| *vector != Vector::Total) {
                    second.push((*vector, figures(bucket)));
                }
            }
            second.retain(|(_, figures)| *figures != [0; 3]);
            let at = series.first_second + place as i64;
            // A later series replaces what an earlier one said.
            target.open.insert(at, second);
        }
    }

    fn settle(&mut self, until: i64) {
        let (mut first, mut last) = (self.first, self.last);
        for target in self.targets.values_mut() {
            while let Some(entry) = target.open.first_entry() {
                if *entry.key() >= until {
                    break;
                }
                let (second, content) = entry.remove_entry();
                if !content.is_empty() {
                    first = Some(first.map_or(second, |first| first.min(second)));
                    last = last.max(Some(second));
                }
                for (vector, figures) in content {
                    target.rates.entry(vector).or_default().add(second, figures);
                }
            }
        }
        (self.first, self.last) = (first, last);
    }
}

impl Rates {
    fn add(&mut self, second: i64, figures: [u64; 3]) {
        let window = second.div_euclid(WINDOW);
        if window != self.window {
            self.close();
            self.window = window;
        }
        for (metric, figure) in figures.into_iter().enumerate() {
            self.sums[metric] = self.sums[metric].saturating_add(figure);
            self.peak[metric] = self.peak[metric].max(figure);
        }
    }

    /// Counts the window at hand; those without traffic do not count: a threshold is about the busy ones.
    fn close(&mut self) {
        let sums = std::mem::take(&mut self.sums);
        if sums == [0; 3] {
            return;
        }
        for (bins, sum) in self.bins.iter_mut().zip(sums) {
            let rate = sum as f64 / WINDOW as f64;
            // At most 64 · 8: an octet count is below 2⁶⁴.
            let bin = (rate.max(1.0).log2() * BINS).ceil() as u16;
            *bins.entry(bin).or_default() += 1;
        }
    }
}

/// Bits, packets and flows.
fn figures(bucket: &Bucket) -> [u64; 3] {
    [
        bucket.octets.saturating_mul(8),
        bucket.packets,
        bucket.flows,
    ]
}

fn class(scope: TargetScope, key: &TargetKey, vector: Vector) -> Class {
    let is_prefix = scope == TargetScope::Prefix;
    Class {
        zone: key.zone,
        scope,
        length: if is_prefix {
            key.prefix.prefix_len()
        } else {
            0
        },
        v6: is_prefix && key.prefix.addr().is_ipv6(),
        direction: key.direction,
        vector,
    }
}

/// The upper end of the bin that holds the quantile; 0 where there is none.
fn quantile(bins: &BTreeMap<u16, u32>, share: f64) -> u64 {
    let all: u64 = bins.values().map(|count| u64::from(*count)).sum();
    let rank = (all as f64 * share).ceil() as u64;
    let mut below = 0;
    let found = bins.iter().find(|(_, count)| {
        below += u64::from(**count);
        below >= rank
    });
    found.map_or(0, |(bin, _)| (f64::from(*bin) / BINS).exp2().ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_count_busy_windows_only() {
        let mut rates = Rates::default();
        // 95 busy windows at 1,000, 5 at 8,000, and long pauses between.
        for window in 0..100 {
            let packets = if window % 20 == 19 { 8_000 } else { 1_000 };
            for second in 0..WINDOW {
                rates.add(window * 100 * WINDOW + second, [packets * 80, packets, 1]);
            }
        }
        rates.close();
        let near = |metric: usize, share: f64, value: f64| {
            let found = quantile(&rates.bins[metric], share) as f64;
            assert!((1.0..1.1).contains(&(found / value)), "{found} of {value}");
        };
        near(1, 0.95, 1_000.0);
        near(1, 0.96, 8_000.0);
        near(0, 0.5, 80_000.0);
        assert_eq!(rates.peak[1], 8_000);
        assert_eq!(quantile(&BTreeMap::new(), 0.95), 0);
    }
}
