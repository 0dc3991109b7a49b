//! Levels by hour: of the week where there is room for that, of the day, and of all hours together.

use crate::cell::{Cell, HourLevels, Levels, METRICS, Pace};
use crate::scale::Rate;

/// Hours of a week.
pub(crate) const WEEK: usize = 168;
/// Hours of a day.
pub(crate) const DAY: usize = 24;
/// So many minutes of an hour's own samples weigh as much as all that is known of wider ones.
const PRIOR: f64 = 4.0;

/// What is known of a target by hour. Hours are of UTC; a week begins on Monday.
#[derive(Clone, Debug)]
pub(crate) struct Hours {
    /// By hour of the week; `None` for targets of less importance.
    pub(crate) week: Option<Box<[Cell; WEEK]>>,
    /// By hour of the day.
    pub(crate) day: Box<[Cell; DAY]>,
    /// All hours.
    pub(crate) all: Cell,
}

/// The place of an hour since the epoch in its week: 1970-01-01 was a Thursday.
pub(crate) fn hour_of_week(hour: i64) -> usize {
    usize::try_from((hour + 72).rem_euclid(WEEK as i64)).unwrap_or(0)
}

impl Hours {
    /// Nothing known.
    pub(crate) fn new(full: bool) -> Self {
        Self {
            week: full.then(|| Box::new([Cell::default(); WEEK])),
            day: Box::new([Cell::default(); DAY]),
            all: Cell::default(),
        }
    }

    /// Learns one hour; by how much it was above what it may be, for each metric.
    pub(crate) fn learn(
        &mut self,
        hour: &HourLevels,
        memory_hours: f64,
        rise: f64,
    ) -> [f64; METRICS] {
        let of_week = hour_of_week(i64::from(hour.hour));
        let pace = |every: f64| Pace {
            memory: memory_hours / every,
            rise,
        };
        let all = self.all;
        let of_day = &mut self.day[of_week % DAY];
        let excess = of_day.learn(hour, pace(DAY as f64), Some(&all));
        let of_day = *of_day;
        if let Some(cell) = self.week.as_mut().and_then(|week| week.get_mut(of_week)) {
            cell.learn(hour, pace(WEEK as f64), Some(&of_day));
        }
        // What all hours teach is bounded by the hour of the day, whose traffic is more alike.
        let mut cut = *hour;
        for (levels, excess) in cut.levels.iter_mut().zip(excess) {
            *levels = levels.map(|levels| levels.map(|level| level / excess));
        }
        let own = Pace {
            memory: memory_hours,
            rise: f64::INFINITY,
        };
        self.all.learn(&cut, own, None);
        excess
    }

    /// What a metric is in an hour: its own level, as far as it is known, else what the hour of the day and all hours say.
    pub(crate) fn estimate(&self, metric: usize, hour: i64) -> Option<Levels> {
        let of_week = hour_of_week(hour);
        // On the logarithmic scale: by day and night traffic differs by factors.
        let mut estimate = self.all.log_level(metric)?;
        let own = self.week.as_ref().and_then(|week| week.get(of_week));
        for cell in self.day.get(of_week % DAY).into_iter().chain(own) {
            let Some(levels) = cell.log_level(metric) else {
                continue;
            };
            let minutes = f64::from(cell.minutes);
            let part = minutes / (minutes + PRIOR);
            for (estimate, level) in estimate.iter_mut().zip(levels) {
                *estimate += part * (level - *estimate);
            }
        }
        Some(estimate.map(|level| Rate(level.round() as u16).value()))
    }

    /// How much an estimate of an hour rests on, in weeks of its own.
    pub(crate) fn support(&self, hour: i64) -> f64 {
        let of_week = hour_of_week(hour);
        let hours = |cell: &Cell| f64::from(cell.minutes) / 60.0;
        let own = self.week.as_ref().and_then(|week| week.get(of_week));
        let own = own.map_or(0.0, hours);
        let day = self.day.get(of_week % DAY).map_or(0.0, hours) / 7.0;
        own + day / 2.0 + hours(&self.all) / WEEK as f64 / 4.0
    }

    /// Gives each hour of the week a cell, with what is known of the hour of the day.
    pub(crate) fn widen(&mut self) {
        if self.week.is_some() {
            return;
        }
        let mut week = Box::new([Cell::default(); WEEK]);
        for (place, cell) in week.iter_mut().enumerate() {
            *cell = self.day[place % DAY];
            cell.minutes /= 7;
        }
        self.week = Some(week);
    }

    /// Gives up the hours of the week.
    pub(crate) fn narrow(&mut self) {
        self.week = None;
    }

    pub(crate) fn octets(&self) -> usize {
        let week = self.week.as_ref().map_or(0, |week| size_of_val(&**week));
        week + size_of_val(&*self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(hour: u32, level: f64) -> HourLevels {
        HourLevels {
            levels: [Some([level; 5]), None, None, None],
            minutes: 60.0,
            hour,
        }
    }

    #[test]
    fn an_hour_that_was_not_seen_is_as_on_other_days_and_else_as_all() {
        let mut hours = Hours::new(true);
        // Thursday, 1970-01-01, until noon.
        for at in 0..12 {
            hours.learn(&hour(at, f64::from(at + 1) * 1e9), 1008.0, 1.2);
        }
        let of = |at| hours.estimate(0, at).unwrap()[1] / 1e9;
        assert!((of(24 + 9) - 10.0).abs() < 0.4, "Friday at 9: {}", of(33));
        assert!((of(18) - 6.5).abs() < 0.5, "the evening: {}", of(18));
        assert!(hours.estimate(1, 0).is_none());
        assert!(hours.support(9) > hours.support(33));
        assert_eq!(hour_of_week(0), 72);
    }

    #[test]
    fn widening_keeps_what_is_known() {
        let mut hours = Hours::new(false);
        (0..24 * 14).for_each(|at| {
            hours.learn(&hour(at, 1e6 * f64::from(at % 24 + 1)), 1008.0, 1.2);
        });
        let before = hours.estimate(0, 500).unwrap();
        hours.widen();
        let after = hours.estimate(0, 500).unwrap();
        assert!(
            (before[1] / after[1] - 1.0).abs() < 0.05,
            "{before:?} {after:?}"
        );
        assert_eq!(hours.week.as_ref().unwrap()[0].minutes, 120);
        hours.narrow();
        assert_eq!(hours.estimate(0, 500), Some(before));
    }
}
