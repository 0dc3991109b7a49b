//! What sequence numbers say about loss. v5 and v7 count flows, v9 datagrams (RFC 3954 §5.1), IPFIX the data records of its
//! domain before this message (RFC 7011 §3.1).

/// Larger skips are a restart, in records and in datagrams.
const LARGEST_GAP: [u32; 2] = [1 << 22, 1 << 17];
/// Datagrams that come later than this are a restart.
const LATEST: [u32; 2] = [1 << 14, 512];

/// What a sequence counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counts {
    Records,
    Datagrams,
}

/// What a datagram's sequence number means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    InOrder,
    /// So many records or datagrams were skipped.
    Gap(u32),
    /// Late or twice; so many of those that were missing are there now.
    Late(u32),
    /// The sequence begins anew.
    Reset,
}

/// The sequence of one session.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sequence {
    expected: Option<u32>,
    previous: u32,
    previous_records: u32,
    /// What would follow the newest late datagram: two of these in a row are a restart, not a delay.
    after_late: Option<u32>,
    outstanding: u32,
    uptime: u32,
}

impl Sequence {
    /// Takes in a datagram's number and what it counts for; `units` is `None` where the datagram held Sets that could not
    /// be counted, so nothing can be said about the next.
    pub(crate) fn observe(
        &mut self,
        counts: Counts,
        sequence: u32,
        units: Option<u32>,
        records: u32,
        uptime: Option<u32>,
    ) -> Verdict {
        let next = units.map(|units| sequence.wrapping_add(units));
        let restarted = self.restarted(uptime);
        let verdict = match self.expected {
            Some(_) if restarted => Verdict::Reset,
            Some(expected) => self.compare(counts, sequence, expected, units),
            None => Verdict::InOrder,
        };
        match verdict {
            Verdict::Late(restored) => {
                self.outstanding -= restored;
                self.after_late = next;
            }
            Verdict::Gap(missing) => {
                self.outstanding = self.outstanding.saturating_add(missing);
                self.advance(sequence, next, records);
            }
            Verdict::InOrder => self.advance(sequence, next, records),
            Verdict::Reset => {
                self.outstanding = 0;
                self.advance(sequence, next, records);
            }
        }
        verdict
    }

    fn advance(&mut self, sequence: u32, next: Option<u32>, records: u32) {
        self.expected = next;
        self.previous = sequence;
        self.previous_records = records;
        self.after_late = None;
    }

    fn compare(&self, counts: Counts, sequence: u32, expected: u32, units: Option<u32>) -> Verdict {
        let kind = usize::from(counts == Counts::Datagrams);
        let (ahead, behind) = (
            sequence.wrapping_sub(expected),
            expected.wrapping_sub(sequence),
        );
        if ahead == 0 || self.counts_records_after_all(counts, sequence) {
            Verdict::InOrder
        } else if LARGEST_GAP.get(kind).is_some_and(|&most| ahead <= most) {
            Verdict::Gap(ahead)
        } else if LATEST.get(kind).is_some_and(|&most| behind <= most) {
            let restored = self.outstanding.min(units.unwrap_or(0));
            if restored == 0 && self.after_late == Some(sequence) {
                Verdict::Reset
            } else {
                Verdict::Late(restored)
            }
        } else {
            Verdict::Reset
        }
    }

    /// Some v9 exporters count records.
    fn counts_records_after_all(&self, counts: Counts, sequence: u32) -> bool {
        counts == Counts::Datagrams
            && self.previous_records > 1
            && sequence.wrapping_sub(self.previous) == self.previous_records
    }

    /// sysUpTime fell by more than reordering explains, and did not wrap.
    fn restarted(&mut self, uptime: Option<u32>) -> bool {
        let Some(uptime) = uptime else {
            return false;
        };
        let fell = self.uptime.saturating_sub(uptime);
        self.uptime = uptime;
        (60_000..u32::MAX / 2).contains(&fell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(counts: Counts, steps: &[(u32, u32)]) -> Vec<Verdict> {
        let mut sequence = Sequence::default();
        steps
            .iter()
            .map(|&(number, units)| sequence.observe(counts, number, Some(units), units, None))
            .collect()
    }

    #[test]
    fn gaps_are_counted_in_units() {
        assert_eq!(
            run(Counts::Records, &[(100, 10), (110, 10), (150, 5), (155, 1)]),
            [
                Verdict::InOrder,
                Verdict::InOrder,
                Verdict::Gap(30),
                Verdict::InOrder
            ]
        );
    }

    #[test]
    fn reordering_restores_what_was_missing() {
        assert_eq!(
            run(
                Counts::Records,
                &[(0, 10), (30, 10), (10, 10), (20, 10), (40, 10)]
            ),
            [
                Verdict::InOrder,
                Verdict::Gap(20),
                Verdict::Late(10),
                Verdict::Late(10),
                Verdict::InOrder
            ]
        );
    }

    #[test]
    fn a_restart_is_no_loss() {
        assert_eq!(
            run(Counts::Records, &[(1_000, 30), (0, 30), (30, 30), (60, 30)]),
            [
                Verdict::InOrder,
                Verdict::Late(0),
                Verdict::Reset,
                Verdict::InOrder
            ]
        );
        assert_eq!(
            run(Counts::Datagrams, &[(u32::MAX - 5, 1), (1 << 30, 1)]),
            [Verdict::InOrder, Verdict::Reset]
        );
    }

    #[test]
    fn numbers_wrap() {
        assert_eq!(
            run(Counts::Datagrams, &[(u32::MAX, 1), (0, 1), (2, 1)]),
            [Verdict::InOrder, Verdict::InOrder, Verdict::Gap(1)]
        );
    }

    #[test]
    fn a_v9_exporter_may_count_records() {
        let mut sequence = Sequence::default();
        for (number, records) in [(100, 20), (120, 18), (138, 20)] {
            let verdict = sequence.observe(Counts::Datagrams, number, Some(1), records, None);
            assert_eq!(verdict, Verdict::InOrder);
        }
    }

    #[test]
    fn a_fallen_uptime_is_a_restart() {
        let mut sequence = Sequence::default();
        sequence.observe(Counts::Records, 10, Some(10), 10, Some(5_000_000));
        let verdict = sequence.observe(Counts::Records, 500, Some(10), 10, Some(1_000));
        assert_eq!(verdict, Verdict::Reset);
    }
}
