//! The level of one hour of the week, one hour of the day or all hours: robust, bounded in its rise, ageing.

use crate::scale::Rate;

/// Metrics of a cell.
pub(crate) const METRICS: usize = 4;
/// Low, mid and high percentile, peak, average.
pub(crate) type Levels = [f64; 5];
const HIGH: usize = 2;
const PEAK: usize = 3;

/// Below these rates (bits, packets, flows, connections a second) a rise is not bounded: it hides nothing.
const FREE: [f64; METRICS] = [1e6, 1e3, 100.0, 100.0];
/// An hour that was never seen may be this many times what is known of others.
const NEW: f64 = 4.0;
/// Rises are bounded less while fewer hours than this were seen.
const EARLY: f64 = 4.0;
/// Time in which a ceiling that is not reached falls to half, in weeks.
const CEILING_HALF: f64 = 6.0;
/// Hours of a week.
const WEEK: f64 = 168.0;

/// What is known of the hours that a cell stands for.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(crate) struct Cell {
    pub(crate) levels: [[Rate; 5]; METRICS],
    /// The highest that the high percentile was lately: traffic may come back to it at once.
    pub(crate) ceilings: [Rate; METRICS],
    /// Minutes of samples, as far as they still count.
    pub(crate) minutes: u16,
    /// Which metrics were ever measured, as bits.
    pub(crate) known: u8,
    /// Hour since the epoch when it was last learned.
    pub(crate) updated: u32,
}

/// One hour's samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HourLevels {
    pub(crate) levels: [Option<Levels>; METRICS],
    /// Minutes of samples, up to 60.
    pub(crate) minutes: f64,
    /// Hours since the epoch.
    pub(crate) hour: u32,
}

/// How a cell learns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Hours of samples after which the oldest count no more.
    pub(crate) memory: f64,
    /// The factor by which a level may rise in a week.
    pub(crate) rise: f64,
}

impl Cell {
    /// Learns an hour. What was never seen is bounded by `reference`, where that is known well. Returns by how much the hour
    /// was above what it may be, for each metric: 1 where it was not.
    pub(crate) fn learn(
        &mut self,
        hour: &HourLevels,
        pace: Pace,
        reference: Option<&Self>,
    ) -> [f64; METRICS] {
        let seen = f64::from(self.minutes) / 60.0;
        let fraction = (hour.minutes / 60.0).clamp(0.0, 1.0);
        let part = fraction / (seen.min(pace.memory) + fraction).max(f64::MIN_POSITIVE);
        let weeks = f64::from(hour.hour.saturating_sub(self.updated)).min(4.0 * WEEK) / WEEK;
        let mut excess = [1.0; METRICS];
        for (metric, levels) in hour.levels.iter().enumerate() {
            let Some(levels) = levels else { continue };
            let bit = 1 << metric;
            if self.known & bit == 0 {
                let bound = reference
                    .filter(|other| other.known & bit != 0 && other.minutes >= 24 * 60)
                    .map_or(f64::INFINITY, |other| NEW * other.ceilings[metric].value());
                excess[metric] = self.set(metric, levels, bound.max(FREE[metric]));
                self.known |= bit;
                continue;
            }
            let early = (EARLY / seen.max(1.0)).max(1.0);
            let bound = self.ceilings[metric].value() * pace.rise.powf(weeks) * early;
            let fade = 0.5_f64.powf(weeks / CEILING_HALF);
            let bound = bound.max(FREE[metric]);
            excess[metric] = (levels[HIGH] / bound).max(1.0);
            self.approach(metric, levels, part, bound);
            let high = self.levels[metric][HIGH];
            self.ceilings[metric] = high.max(Rate::of(self.ceilings[metric].value() * fade));
        }
        let most = (pace.memory * 60.0).min(f64::from(u16::MAX));
        self.minutes = (f64::from(self.minutes) + hour.minutes).min(most).round() as u16;
        self.updated = hour.hour;
        excess
    }

    /// The first hour of a metric.
    fn set(&mut self, metric: usize, levels: &Levels, bound: f64) -> f64 {
        let excess = (levels[HIGH] / bound).max(1.0);
        self.levels[metric] = levels.map(|level| Rate::of(level / excess));
        self.ceilings[metric] = self.levels[metric][HIGH];
        excess
    }

    /// Moves towards an hour's levels, up to a bound of the high percentile; all of them together, so that they stay in order.
    fn approach(&mut self, metric: usize, levels: &Levels, part: f64, bound: f64) {
        let old = self.levels[metric].map(Rate::value);
        let mut new = old;
        for (new, level) in new.iter_mut().zip(levels) {
            *new += part * (level - *new);
        }
        let cut = (new[HIGH] / bound).max(1.0);
        new.iter_mut().for_each(|level| *level /= cut);
        // A peak counts at once, and is forgotten slowly.
        let most = (bound * 3.0).max(old[PEAK]);
        new[PEAK] = new[PEAK].max(levels[PEAK].min(most)).max(new[HIGH]);
        self.levels[metric] = new.map(Rate::of);
    }

    /// The levels of a metric on the logarithmic scale.
    pub(crate) fn log_level(&self, metric: usize) -> Option<Levels> {
        let levels = self.levels.get(metric)?;
        (self.known & (1 << metric) != 0).then(|| levels.map(|level| f64::from(level.0)))
    }

    /// The levels of a metric, if it was ever measured.
    pub(crate) fn level(&self, metric: usize) -> Option<Levels> {
        let levels = self.levels.get(metric)?;
        (self.known & (1 << metric) != 0).then(|| levels.map(Rate::value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        memory: 42.0,
        rise: 1.2,
    };

    fn hour(hour: u32, level: f64) -> HourLevels {
        let levels = [level / 2.0, level, level * 1.5, level * 2.0, level];
        HourLevels {
            levels: [Some(levels), None, None, None],
            minutes: 60.0,
            hour,
        }
    }

    /// A cell that has seen `level` for some days.
    fn cell(days: u32, level: f64) -> Cell {
        let mut cell = Cell::default();
        (0..days).for_each(|day| {
            cell.learn(&hour(day * 24, level), PACE, None);
        });
        cell
    }

    #[test]
    fn one_wild_hour_moves_a_level_by_no_more_than_its_bound() {
        let mut cell = cell(14, 1e9);
        let excess = cell.learn(&hour(14 * 24, 1e12), PACE, None)[0];
        assert!(excess > 900.0, "{excess}");
        let high = cell.level(0).unwrap()[HIGH];
        assert!(high < 1.5e9 * 1.03, "{high}");
    }

    #[test]
    fn a_rise_of_five_per_cent_a_day_is_bounded() {
        let mut cell = cell(14, 1e9);
        for day in 14..44 {
            let poison = 1e9 * 1.05_f64.powi(day - 13);
            cell.learn(&hour(day as u32 * 24, poison), PACE, None);
        }
        // Thirty days of 5 % are a factor of 4.3; the bound of 1.2 a week makes 2.2 of it.
        let mid = cell.level(0).unwrap()[1] / 1e9;
        assert!(mid < 1.2_f64.powf(30.0 / 7.0) && mid > 1.0, "{mid}");
    }

    #[test]
    fn a_lasting_change_is_learned_in_time_and_a_return_at_once() {
        let mut cell = cell(28, 1e9);
        (28..70).for_each(|day| {
            cell.learn(&hour(day * 24, 1.5e9), PACE, None);
        });
        let mid = cell.level(0).unwrap()[1];
        assert!(mid > 1.25e9, "{mid}");
        (70..80).for_each(|day| {
            cell.learn(&hour(day * 24, 0.1e9), PACE, None);
        });
        (80..90).for_each(|day| {
            assert_eq!(cell.learn(&hour(day * 24, 1e9), PACE, None)[0], 1.0);
        });
        assert!(cell.level(0).unwrap()[1] > 0.9e9);
    }

    #[test]
    fn what_was_never_seen_is_bounded_by_what_is_known() {
        let known = cell(30, 1e9);
        let mut new = Cell::default();
        let excess = new.learn(&hour(1, 100e9), PACE, Some(&known))[0];
        assert!(excess > 20.0, "{excess}");
        let high = new.level(0).unwrap()[HIGH];
        assert!((high / 6e9 - 1.0).abs() < 0.01, "{high}");
        assert_eq!(new.level(1), None);
    }
}
