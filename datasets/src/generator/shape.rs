//! How the rate of an attack changes over time.

use std::time::Duration;

use super::draw::{gaussian, hash};

/// Nanoseconds.
pub(super) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A share of the full rate, between 0 and 1, for each instant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Shape {
    /// First packet and after the last one, ns.
    pub(super) start: i64,
    pub(super) end: i64,
    /// Time to the full rate, and from it to nothing at the end.
    pub(super) rise: i64,
    pub(super) fall: i64,
    /// Pulses: so long on, so long off; `None` = on.
    pub(super) pulse: Option<(i64, i64)>,
    /// How much the rate wavers from second to second, as a share.
    pub(super) waver: f64,
    /// Makes its wavering its own.
    pub(super) seed: u64,
}

const SECOND: i64 = 1_000_000_000;

impl Shape {
    /// The share of the full rate at `at`.
    pub(super) fn factor(&self, at: i64) -> f64 {
        if at < self.start || at >= self.end || self.next_on(at) != Some(at) {
            return 0.0;
        }
        let mut factor = 1.0_f64;
        if self.rise > 0 {
            factor = factor.min((at - self.start) as f64 / self.rise as f64);
        }
        if self.fall > 0 {
            factor = factor.min((self.end - at) as f64 / self.fall as f64);
        }
        if self.waver > 0.0 {
            let second = hash(&[self.seed, (at / SECOND).cast_unsigned()]);
            factor *= (1.0 - self.waver * gaussian(second).abs()).max(0.1);
        }
        factor
    }

    /// The first instant from `at` on at which it sends.
    pub(super) fn next_on(&self, at: i64) -> Option<i64> {
        let at = at.max(self.start);
        if at >= self.end {
            return None;
        }
        let Some((on, off)) = self.pulse else {
            return Some(at);
        };
        let period = (on + off).max(1);
        let phase = (at - self.start) % period;
        let next = if phase < on { at } else { at - phase + period };
        (next < self.end).then_some(next)
    }

    /// When it falls silent after `at`, at which it sends.
    pub(super) fn on_until(&self, at: i64) -> i64 {
        match self.pulse {
            None => self.end,
            Some((on, off)) => {
                let phase = (at - self.start).max(0) % (on + off).max(1);
                (at - phase + on).min(self.end)
            }
        }
    }

    /// The mean factor between two instants of one pulse.
    pub(super) fn mean(&self, from: i64, to: i64) -> f64 {
        const POINTS: i64 = 8;
        let at = |place: i64| from + (to - from) / POINTS * place + (to - from) / POINTS / 2;
        (0..POINTS).map(|place| self.factor(at(place))).sum::<f64>() / POINTS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            start: 10 * SECOND,
            end: 70 * SECOND,
            rise: 0,
            fall: 0,
            pulse: None,
            waver: 0.0,
            seed: 1,
        }
    }

    #[test]
    fn ramps_rise_and_fall() {
        let ramp = Shape {
            rise: 20 * SECOND,
            fall: 10 * SECOND,
            ..shape()
        };
        let at = |second: i64| ramp.factor(second * SECOND);
        assert_eq!(
            (at(9), at(20), at(40), at(65), at(70)),
            (0.0, 0.5, 1.0, 0.5, 0.0)
        );
        assert!((ramp.mean(10 * SECOND, 30 * SECOND) - 0.5).abs() < 0.01);
    }

    #[test]
    fn pulses_come_and_go() {
        let pulse = Shape {
            pulse: Some((20 * SECOND, 20 * SECOND)),
            ..shape()
        };
        assert_eq!(pulse.factor(29 * SECOND), 1.0);
        assert_eq!(pulse.factor(30 * SECOND), 0.0);
        assert_eq!(pulse.next_on(35 * SECOND), Some(50 * SECOND));
        assert_eq!(pulse.on_until(55 * SECOND), 70 * SECOND);
        assert_eq!(pulse.next_on(70 * SECOND), None);
    }

    #[test]
    fn wavering_stays_within_bounds() {
        let wavering = Shape {
            waver: 0.2,
            ..shape()
        };
        let factors: Vec<f64> = (10..70)
            .map(|second| wavering.factor(second * SECOND))
            .collect();
        assert!(factors.iter().all(|factor| (0.1..=1.0).contains(factor)));
        assert!(factors.iter().any(|factor| *factor < 0.9));
    }
}
