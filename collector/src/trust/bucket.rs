use weir_flow_record::ReceivedAt;

const SECOND: i64 = 1_000_000_000;
/// How far a datagram with many records may take an exporter into debt, in ns at its rate.
const DEEPEST_DEBT: i64 = 60 * SECOND;

/// A token bucket of one second's allowance, kept as the time at which it will be full again (ITU-T I.371, "virtual
/// scheduling"): one word, and no clock but that of the datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Bucket {
    /// In ns; at or before now = full.
    full_at: i64,
}

impl Bucket {
    /// Whether something is left at `at`.
    pub(super) fn has_some(self, at: ReceivedAt) -> bool {
        self.full_at.saturating_sub(at.nanos()) < SECOND
    }

    /// Takes `cost`, also more than there is, at `rate` a second (not 0).
    pub(super) fn charge(&mut self, at: ReceivedAt, cost: u64, rate: u64) {
        let time = cost.saturating_mul(SECOND as u64) / rate.max(1);
        let time = i64::try_from(time).unwrap_or(i64::MAX);
        let deepest = at.nanos().saturating_add(SECOND + DEEPEST_DEBT);
        let begin = self.full_at.max(at.nanos());
        self.full_at = begin.saturating_add(time).min(deepest);
    }

    /// Follows a clock that was set back by `nanos`.
    pub(super) fn shift_back(&mut self, nanos: i64) {
        self.full_at = self.full_at.saturating_sub(nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> ReceivedAt {
        ReceivedAt::from_nanos(1_700_000_000 * SECOND + millis * 1_000_000)
    }

    #[test]
    fn a_second_may_come_at_once_and_then_the_rate_holds() {
        let mut bucket = Bucket::default();
        let mut taken = [0; 3];
        for (index, (from, to)) in [(0, 1), (1, 1_001), (60_000, 60_001)]
            .into_iter()
            .enumerate()
        {
            for milli in from..to {
                for _ in 0..500 {
                    if bucket.has_some(at(milli)) {
                        bucket.charge(at(milli), 1, 100);
                        taken[index] += 1;
                    }
                }
            }
        }
        assert_eq!(taken, [100, 100, 100]);
    }

    #[test]
    fn debt_is_paid_and_has_an_end() {
        let mut bucket = Bucket::default();
        bucket.charge(at(0), 3_000, 1_000);
        assert!(!bucket.has_some(at(1_999)));
        assert!(bucket.has_some(at(2_001)));
        bucket.charge(at(3_000), u64::MAX, 1);
        assert!(!bucket.has_some(at(62_999)));
        assert!(bucket.has_some(at(63_001)));
    }
}
