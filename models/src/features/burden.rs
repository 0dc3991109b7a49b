//! How many records a second are bearable: above that their packets are sampled.

use weir_flow_record::Row;

use super::thinning::Thinner;

/// Sampling grows and falls by this factor, and no further than this.
const STEP: u32 = 4;
const MOST: u32 = 4096;
/// Below this part of what is bearable less is left out: well below one step, so that it does not swing.
const CALM: u32 = 3 * STEP;

/// Thins records as far as their number asks for it. It follows the data's time: a replay thins as a live run did.
#[derive(Debug)]
pub(super) struct Burden {
    most: u32,
    second: i64,
    kept: u32,
    thinner: Thinner,
}

impl Burden {
    /// So many records of a second are bearable.
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            second: i64::MIN,
            kept: 0,
            thinner: Thinner::new(1, 0),
        }
    }

    /// What is left of a record.
    #[inline]
    pub(super) fn thin(&mut self, row: &Row) -> Option<Row> {
        let row = self.thinner.thin(row)?;
        self.kept = self.kept.saturating_add(1);
        Some(row)
    }

    /// The data's time has come to a second.
    pub(super) fn handle_second(&mut self, second: i64) {
        if second <= self.second {
            return;
        }
        self.second = second;
        let kept = std::mem::take(&mut self.kept);
        let one_in = self.one_in();
        let wanted = if kept > self.most {
            (one_in * STEP).min(MOST)
        } else if kept < self.most / CALM {
            (one_in / STEP).max(1)
        } else {
            one_in
        };
        if wanted != one_in {
            self.thinner = Thinner::new(wanted, 0);
        }
    }

    /// One packet in how many is taken.
    pub(super) fn one_in(&self) -> u32 {
        self.thinner.one_in()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of so many records each; the packets that they stand for in the last one, and the records kept of it.
    fn run(burden: &mut Burden, seconds: std::ops::Range<i64>, records: u32) -> (u64, u32) {
        let mut last = (0, 0);
        for second in seconds {
            burden.handle_second(second);
            last = (0, 0);
            for _ in 0..records {
                let row = Row {
                    packets: 2,
                    sampling_rate: 10,
                    ..Row::default()
                };
                if let Some(row) = burden.thin(&row) {
                    last.0 += row.packets * u64::from(row.sampling_rate);
                    last.1 += 1;
                }
            }
        }
        last
    }

    #[test]
    fn many_records_are_thinned_and_stand_for_as_many_packets() {
        let mut burden = Burden::new(1_000);
        assert_eq!(run(&mut burden, 0..5, 900), (18_000, 900));
        let (packets, kept) = run(&mut burden, 5..15, 20_000);
        assert!((16..=64).contains(&burden.one_in()), "{}", burden.one_in());
        assert!(kept <= 1_000, "{kept}");
        assert!((340_000..460_000).contains(&packets), "{packets}");
        // And back, step by step.
        run(&mut burden, 15..20, 50);
        assert_eq!(burden.one_in(), 1);
    }

    #[test]
    fn it_does_not_swing() {
        let mut burden = Burden::new(1_000);
        for records in [1_500, 4_000, 9_000, 100_000] {
            let next = burden.second + 1;
            run(&mut burden, next..next + 8, records);
            let before = burden.one_in();
            for _ in 0..20 {
                let next = burden.second + 1;
                run(&mut burden, next..next + 1, records);
                assert_eq!(burden.one_in(), before, "{records}");
            }
        }
    }
}
