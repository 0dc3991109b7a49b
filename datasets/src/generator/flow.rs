//! What becomes of a flow in an exporter's cache, worked out per exported record: however many packets it has, a record
//! costs a few draws.

use rand::{Rng, RngExt};

use super::draw::{exponential, normal, poisson};
use super::shape::Shape;

/// How the sampled packets of a flow come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// Sampled packets per nanosecond at the full rate.
    pub(super) per_nanosecond: f64,
    /// After the last packet.
    pub(super) until: i64,
}

/// An entry of the cache from its first sampled packet to its export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) packets: u64,
    pub(super) exported_at: i64,
}

/// Timeouts of the cache, ns; none for sFlow, where each sampled packet is a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) active: i64,
    pub(super) inactive: i64,
}

/// From so many packets expected on, single ones are not followed.
const MANY: f64 = 40.0;

impl Course {
    /// The next sampled packet after `at`.
    pub(super) fn arrival(
        &self,
        rng: &mut impl Rng,
        at: i64,
        shape: Option<&Shape>,
    ) -> Option<i64> {
        let mut at = at;
        loop {
            at = at.saturating_add((exponential(rng) / self.per_nanosecond) as i64 + 1);
            let Some(shape) = shape else {
                return (at < self.until).then_some(at);
            };
            if at >= self.until {
                return None;
            }
            let factor = shape.factor(at);
            if factor > 0.0 && rng.random::<f64>() < factor {
                return Some(at);
            }
            if factor == 0.0 {
                // Silence is jumped, not waited for.
                at = shape.next_on(at)?;
            }
        }
    }

    /// What becomes of the entry whose first sampled packet comes at `first`.
    pub(super) fn entry(
        &self,
        rng: &mut impl Rng,
        first: i64,
        shape: Option<&Shape>,
        timeouts: Timeouts,
    ) -> Entry {
        let horizon = first.saturating_add(timeouts.active).min(self.until);
        let (mut last, mut packets) = (first, 1);
        loop {
            if timeouts.active == 0 {
                break;
            }
            let on_until = shape
                .map_or(self.until, |shape| shape.on_until(last))
                .min(horizon);
            let mean = shape.map_or(1.0, |shape| shape.mean(last, on_until));
            let expected = self.per_nanosecond * mean * (on_until - last).max(0) as f64;
            let gaps = self.per_nanosecond * mean * timeouts.inactive as f64;
            if expected > MANY && gaps > 12.0 {
                packets += poisson(rng, expected);
                last = on_until;
            }
            // Single packets, and the one that comes after a pause.
            match self.arrival(rng, last, shape) {
                Some(next) if next < horizon && next - last <= timeouts.inactive => {
                    packets += 1;
                    last = next;
                }
                _ => break,
            }
        }
        // The cache's own age decides, not when the last packet came.
        let aged = first.saturating_add(timeouts.active);
        Entry {
            first,
            last,
            packets,
            exported_at: aged.min(last.saturating_add(timeouts.inactive)),
        }
    }
}

/// Octets of so many packets of this mean size and spread (as a share of it).
pub(super) fn octets(rng: &mut impl Rng, packets: u64, mean: f64, spread: f64) -> u64 {
    let count = packets as f64;
    let all = count * mean * (1.0 + spread * normal(rng) / count.sqrt());
    let (least, most) = (count * 28.0_f64.min(mean), count * 1500.0_f64.max(mean));
    all.clamp(least, most).round() as u64
}

#[cfg(test)]
mod tests {
    use super::super::draw::dice;
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const ROUTER: Timeouts = Timeouts {
        active: 60 * SECOND,
        inactive: 15 * SECOND,
    };

    fn course(per_second: f64, until: i64) -> Course {
        Course {
            per_nanosecond: per_second / 1e9,
            until: until * SECOND,
        }
    }

    #[test]
    fn a_lasting_flow_is_exported_each_active_timeout() {
        let mut rng = dice(1, 1);
        for per_second in [2.0, 1000.0] {
            let entry = course(per_second, 3600).entry(&mut rng, 0, None, ROUTER);
            assert_eq!(entry.exported_at, 60 * SECOND);
            let expected = per_second * 60.0;
            assert!(
                (entry.packets as f64 / expected - 1.0).abs() < 0.4,
                "{entry:?}"
            );
        }
    }

    #[test]
    fn a_flow_that_ends_is_exported_after_the_inactive_timeout() {
        let mut rng = dice(1, 2);
        let entry = course(100.0, 10).entry(&mut rng, 0, None, ROUTER);
        assert!(entry.last <= 10 * SECOND && entry.last > 9 * SECOND);
        assert_eq!(entry.exported_at, entry.last + 15 * SECOND);
        let lone = course(1e-6, 3600).entry(&mut rng, 0, None, ROUTER);
        assert_eq!((lone.packets, lone.exported_at), (1, 15 * SECOND));
    }

    #[test]
    fn pulses_are_one_entry_only_where_the_pause_is_short() {
        let pulse = |off: i64| Shape {
            start: 0,
            end: 3600 * SECOND,
            rise: 0,
            fall: 0,
            pulse: Some((10 * SECOND, off * SECOND)),
            waver: 0.0,
            seed: 1,
        };
        let mut rng = dice(1, 3);
        let short = course(100.0, 3600).entry(&mut rng, 0, Some(&pulse(10)), ROUTER);
        assert!((2500..3500).contains(&short.packets), "{short:?}");
        let long = course(100.0, 3600).entry(&mut rng, 0, Some(&pulse(20)), ROUTER);
        assert!((800..1200).contains(&long.packets), "{long:?}");
        assert_eq!(long.exported_at, long.last + 15 * SECOND);
    }

    #[test]
    fn without_a_cache_each_packet_is_a_record() {
        let mut rng = dice(1, 4);
        let none = Timeouts {
            active: 0,
            inactive: 0,
        };
        let entry = course(100.0, 60).entry(&mut rng, 5, None, none);
        assert_eq!(
            entry,
            Entry {
                first: 5,
                last: 5,
                packets: 1,
                exported_at: 5
            }
        );
    }

    #[test]
    fn the_mean_rate_is_kept() {
        let mut rng = dice(1, 5);
        let (course, mut at, mut packets) = (course(0.05, 1_000_000), 0, 0);
        while let Some(first) = course.arrival(&mut rng, at, None) {
            let entry = course.entry(&mut rng, first, None, ROUTER);
            packets += entry.packets;
            // Between the last packet and the export there was none.
            at = entry.exported_at;
        }
        assert!((47_000..53_000).contains(&packets), "{packets}");
    }
}
