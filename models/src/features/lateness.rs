use super::accumulator::LONGEST_SETTLE;

const NANOS: i64 = 1_000_000_000;

/// Percent of the records that a window waits for.
const SHARE: u64 = 95;

/// Seconds after which what was seen counts half.
const HALF: i64 = 60;

/// How late records come after the ends of their flows: exporters tell of most only after a pause of some seconds.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    /// Records by whole seconds of lateness; the last holds all that are later.
    counts: [u64; LONGEST_SETTLE as usize + 1],
    halved: i64,
    worked_out: i64,
    settle: u8,
}

impl Lateness {
    /// A record that was received so long (ns) after the end of its flow.
    pub(crate) fn add(&mut self, received: i64, end: i64) {
        let late = received.saturating_sub(end).max(0) / NANOS;
        let place = usize::try_from(late).unwrap_or(usize::MAX);
        let place = place.min(self.counts.len() - 1);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
    }

    /// Seconds to wait for nearly all of a window's records; worked out once a second.
    pub(crate) fn settle(&mut self, second: i64, least: u8, most: u8) -> u8 {
        if second != self.worked_out {
            self.worked_out = second;
            if second >= self.halved.saturating_add(HALF) {
                self.halved = second;
                self.counts.iter_mut().for_each(|count| *count /= 2);
            }
            let all: u64 = self.counts.iter().sum();
            let mut waited_for = 0;
            let enough = self.counts.iter().position(|count| {
                waited_for += count;
                waited_for * 100 >= all * SHARE
            });
            // Up to a whole second later than its place says.
            self.settle = enough.map_or(least, |place| {
                u8::try_from(place + usize::from(place > 0)).unwrap_or(most)
            });
        }
        self.settle.clamp(least, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_waits_as_long_as_records_come_late() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.settle(0, 2, 20), 2);
        (0..100).for_each(|_| lateness.add(5 * NANOS, 5 * NANOS - 300));
        assert_eq!(lateness.settle(1, 2, 20), 2);
        (0..100).for_each(|_| lateness.add(30 * NANOS, 15 * NANOS - 1));
        assert_eq!(lateness.settle(2, 2, 20), 16);
        // A few stragglers are not waited for.
        (0..5).for_each(|_| lateness.add(99 * NANOS, 0));
        assert_eq!(lateness.settle(3, 2, 20), 16);
        (0..500).for_each(|_| lateness.add(99 * NANOS, 0));
        assert_eq!(lateness.settle(4, 2, 20), 20);
        // What was long ago is forgotten.
        for second in (60..2_000).step_by(60) {
            (0..10).for_each(|_| lateness.add(5 * NANOS, 5 * NANOS));
            let _ = lateness.settle(second, 2, 20);
        }
        assert_eq!(lateness.settle(2_001, 2, 20), 2);
    }
}
