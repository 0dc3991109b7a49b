//! What is known of one part of a target's traffic, and the hour that is being learned.

use crate::cell::{HourLevels, Levels, METRICS};
use crate::config::BaselineSettings;
use crate::histograms::Histograms;
use crate::hours::Hours;
use crate::sketch::Sketch;

/// A part of a target's traffic.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) hours: Hours,
    /// Of targets that deserve them.
    pub(crate) histograms: Option<Box<Histograms>>,
    /// The hour that is being learned, in hours since the epoch, and the seconds of it that were.
    pub(crate) hour: i64,
    pub(crate) seconds: u32,
    pub(crate) sketches: [Sketch; METRICS],
    /// Seconds learned of all hours.
    pub(crate) learned: u64,
    /// First and newest second that was learned.
    pub(crate) since: i64,
    pub(crate) updated: i64,
}

/// Samples of a second or a minute: rates, and the largest second among them; `None` where a metric was not measured.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(crate) struct Sample {
    pub(crate) rates: [Option<f32>; METRICS],
    pub(crate) peaks: [f32; METRICS],
}

impl Profile {
    /// Nothing known.
    pub(crate) fn new(full: bool) -> Self {
        Self {
            hours: Hours::new(full),
            histograms: full.then(Box::default),
            hour: 0,
            seconds: 0,
            sketches: Default::default(),
            learned: 0,
            since: i64::MAX,
            updated: i64::MIN,
        }
    }

    /// Learns a sample of `seconds` seconds that begin at `first`, `times` times.
    pub(crate) fn learn(
        &mut self,
        settings: &BaselineSettings,
        (first, seconds, times): (i64, u32, u16),
        sample: &Sample,
    ) {
        let hour = first.div_euclid(3600);
        if hour != self.hour {
            self.close(settings);
            self.hour = hour;
        }
        for ((sketch, rate), peak) in self.sketches.iter_mut().zip(sample.rates).zip(sample.peaks) {
            if let Some(rate) = rate {
                sketch.add(f64::from(rate), f64::from(peak), times);
            }
        }
        let seconds = seconds.saturating_mul(u32::from(times));
        self.seconds = self.seconds.saturating_add(seconds);
        self.learned = self.learned.saturating_add(u64::from(seconds));
        self.since = self.since.min(first);
        self.updated = self.updated.max(first + i64::from(seconds) - 1);
    }

    /// Learns a sample of one metric that another count brings: seconds are not counted again.
    pub(crate) fn learn_metric(&mut self, first: i64, metric: usize, sample: &Sample) {
        if first.div_euclid(3600) != self.hour {
            return;
        }
        if let (Some(sketch), Some(Some(rate)), Some(peak)) = (
            self.sketches.get_mut(metric),
            sample.rates.get(metric),
            sample.peaks.get(metric),
        ) {
            sketch.add(f64::from(*rate), f64::from(*peak), 1);
        }
    }

    /// Ends the hour, if it is over at `second`; whether there was one.
    pub(crate) fn close_before(&mut self, settings: &BaselineSettings, second: i64) -> bool {
        let over = self.seconds > 0 && self.hour < second.div_euclid(3600);
        if over {
            self.close(settings);
        }
        over
    }

    fn close(&mut self, settings: &BaselineSettings) {
        if self.seconds == 0 {
            return;
        }
        let shares = settings.shares();
        let mut levels: [Option<Levels>; METRICS] = [None; METRICS];
        for (levels, sketch) in levels.iter_mut().zip(&self.sketches) {
            *levels = sketch.levels(shares);
        }
        let hour = HourLevels {
            levels,
            minutes: f64::from(self.seconds.min(3600)) / 60.0,
            hour: u32::try_from(self.hour).unwrap_or(0),
        };
        let memory = settings.memory_hours();
        let excess = self
            .hours
            .learn(&hour, memory, settings.config.max_rise_per_week);
        if let Some(histograms) = &mut self.histograms {
            // Samples of a second for all but prefixes, whose minutes weigh less than that and so live longer.
            let samples = (memory * 3600.0) as u64;
            for (metric, (sketch, excess)) in self.sketches.iter().zip(excess).enumerate() {
                if sketch.count > 0 {
                    histograms.add(metric, sketch, excess, samples);
                }
            }
        }
        self.sketches.iter_mut().for_each(Sketch::clear);
        self.seconds = 0;
    }

    /// What a metric is in the hour of a second.
    pub(crate) fn estimate(
        &self,
        settings: &BaselineSettings,
        metric: usize,
        second: i64,
    ) -> Option<Levels> {
        let known = self.hours.estimate(metric, second.div_euclid(3600));
        self.with_this_hour(settings, metric, known)
    }

    /// What a metric is over all hours.
    pub(crate) fn overall(&self, settings: &BaselineSettings, metric: usize) -> Option<Levels> {
        let histograms = self.histograms.as_ref();
        let known = histograms
            .and_then(|histograms| histograms.levels(metric, settings.shares()))
            .or_else(|| self.hours.all.level(metric));
        self.with_this_hour(settings, metric, known)
    }

    /// While less than an hour is known, the hour that is being learned counts by its time.
    fn with_this_hour(
        &self,
        settings: &BaselineSettings,
        metric: usize,
        known: Option<Levels>,
    ) -> Option<Levels> {
        let minutes = f64::from(self.hours.all.minutes);
        let Some(known) = known else {
            return self.of_this_hour(settings, metric);
        };
        if minutes >= 60.0 {
            return Some(known);
        }
        let Some(now) = self.of_this_hour(settings, metric) else {
            return Some(known);
        };
        let own = f64::from(self.seconds) / 60.0;
        let part = own / (own + minutes).max(f64::MIN_POSITIVE);
        let mut levels = known;
        for (level, now) in levels.iter_mut().zip(now) {
            *level += part * (now - *level);
        }
        Some(levels)
    }

    fn of_this_hour(&self, settings: &BaselineSettings, metric: usize) -> Option<Levels> {
        self.sketches.get(metric)?.levels(settings.shares())
    }

    /// Weeks of its own that the estimate of an hour rests on.
    pub(crate) fn support(&self, second: i64) -> f64 {
        let now = f64::from(self.seconds.min(3600)) / 3600.0;
        self.hours.support(second.div_euclid(3600)) + now / 168.0
    }

    /// The average of bits over all hours: how important a host is.
    pub(crate) fn weight(&self) -> f64 {
        let known = self.hours.all.level(0).map_or(0.0, |levels| levels[4]);
        let sketch = &self.sketches[0];
        let now = sketch.sum / f64::from(sketch.count.max(60));
        known.max(now)
    }

    /// Gives it room for hours of the week and full histograms.
    pub(crate) fn widen(&mut self) {
        self.hours.widen();
        self.histograms.get_or_insert_default();
    }

    /// Takes that room away.
    pub(crate) fn narrow(&mut self) {
        self.hours.narrow();
        self.histograms = None;
    }

    /// Octets of memory beside itself.
    pub(crate) fn octets(&self) -> usize {
        let sketches: usize = self.sketches.iter().map(Sketch::octets).sum();
        let histograms = self.histograms.as_ref();
        let histograms = histograms.map_or(0, |it| size_of::<Histograms>() + it.octets());
        self.hours.octets() + histograms + sketches
    }
}

impl Sample {
    /// A sample of one second, or of several alike.
    pub(crate) fn flat(rates: [Option<f32>; METRICS]) -> Self {
        Self {
            rates,
            peaks: rates.map(Option::unwrap_or_default),
        }
    }
}
