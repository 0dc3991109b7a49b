//! What a mitigation drops per second, as RFC 9132 §4.4.2 tells it: measured into five-minute buckets, which are averaged over the
//! time since the mitigation was triggered.

use std::time::{Duration, Instant};

/// Length of a bucket.
const BUCKET: Duration = Duration::from_secs(300);

/// Octets and packets that were dropped.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Dropped {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
}

/// The averages of one mitigation. All buckets have the same length, so that the mean of those that are full is what was dropped
/// until the last of them ended, over that time: two numbers and no list. Until the first is full it is what was dropped so far.
#[derive(Debug)]
pub(crate) struct Average {
    began: Instant,
    newest: Dropped,
    /// Buckets that are full, and what was dropped in all of them.
    full: u32,
    in_full: Dropped,
}

impl Average {
    /// A mitigation that is triggered now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began: now,
            newest: Dropped::default(),
            full: 0,
            in_full: Dropped::default(),
        }
    }

    /// Takes in what was dropped since it was triggered. A reading that comes after the end of a bucket closes it by its share of
    /// the time since the reading before, for which `read` is the instant.
    pub(crate) fn handle_totals(&mut self, read: Instant, now: Instant, totals: Dropped) {
        let full = self.full_at(now);
        if full > self.full {
            let end = self.began + BUCKET * full;
            let span = now.saturating_duration_since(read).as_secs_f64();
            let part = end.saturating_duration_since(read).as_secs_f64();
            let share = if span > 0.0 {
                (part / span).min(1.0)
            } else {
                1.0
            };
            let until_end = |old: u64, new: u64| {
                let more = new.saturating_sub(old) as f64 * share;
                old.saturating_add(more.round() as u64)
            };
            self.in_full = Dropped {
                bytes: until_end(self.newest.bytes, totals.bytes),
                packets: until_end(self.newest.packets, totals.packets),
            };
            self.full = full;
        }
        self.newest = totals;
    }

    /// Octets and packets per second.
    pub(crate) fn per_second(&self, now: Instant) -> Dropped {
        let (sum, seconds) = match self.full {
            0 => (self.newest, now.saturating_duration_since(self.began)),
            full => (self.in_full, BUCKET * full),
        };
        // A rate over less than a second would say more than was measured.
        let seconds = seconds.as_secs().max(1);
        Dropped {
            bytes: sum.bytes / seconds,
            packets: sum.packets / seconds,
        }
    }

    fn full_at(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.began).as_secs();
        u32::try_from(since / BUCKET.as_secs()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(bytes: u64) -> Dropped {
        Dropped {
            bytes,
            packets: bytes / 100,
        }
    }

    #[test]
    fn the_first_five_minutes_are_averaged_as_they_pass() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut average = Average::new(began);
        assert_eq!(average.per_second(began), Dropped::default());
        average.handle_totals(at(0), at(10), dropped(50_000));
        assert_eq!(average.per_second(at(10)), dropped(5_000));
        assert_eq!(average.per_second(at(100)), dropped(500));
    }

    #[test]
    fn buckets_of_five_minutes_are_averaged_over_the_time_since_it_began() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut average = Average::new(began);
        // 1,000 octets a second for ten minutes, nothing for five more.
        for second in 1..=600 {
            average.handle_totals(at(second - 1), at(second), dropped(second * 1_000));
        }
        assert_eq!(average.per_second(at(600)), dropped(1_000));
        average.handle_totals(at(600), at(899), dropped(600_000));
        assert_eq!(average.per_second(at(899)), dropped(1_000), "not full yet");
        average.handle_totals(at(899), at(900), dropped(600_000));
        assert_eq!(average.per_second(at(900)).bytes, 666);
    }

    #[test]
    fn a_late_reading_counts_for_each_bucket_by_its_time() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut average = Average::new(began);
        average.handle_totals(at(0), at(200), dropped(200_000));
        // 200 s later: half of what came is of the first bucket.
        average.handle_totals(at(200), at(400), dropped(600_000));
        assert_eq!(average.per_second(at(400)).bytes, 400_000 / 300);
        // A counter that has begun anew takes nothing back.
        average.handle_totals(at(400), at(700), dropped(0));
        assert_eq!(average.per_second(at(700)).bytes, 600_000 / 600);
    }
}
