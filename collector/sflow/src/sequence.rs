//! What datagram sequence numbers say about loss: each sub-agent counts the datagrams it sends.

/// Larger skips are a restart.
const LARGEST_GAP: u32 = 1 << 17;
/// Datagrams that come later than this are a restart.
const LATEST: u32 = 512;
/// An uptime that falls by more than this, in ms, is a restart; less is reordering.
const UPTIME_FALL: u32 = 60_000;

/// What a datagram's sequence number means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    InOrder,
    /// So many datagrams were skipped.
    Gap(u32),
    /// Late, and known to have been missing.
    Late,
    /// Late, and perhaps here already.
    Duplicate,
    /// The sequence begins anew.
    Reset,
}

/// The sequence of one sub-agent.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sequence {
    newest: Option<u32>,
    /// Bit n: the datagram n before the newest was seen.
    seen: u64,
    /// What would follow the newest duplicate: two of these in a row are a restart, not a copy.
    after_duplicate: Option<u32>,
    uptime: u32,
}

impl Sequence {
    /// Goes on where an earlier run stood: what came before was never missing.
    pub(crate) fn restore(&mut self, newest: u32, uptime: u32) {
        self.seen = u64::MAX;
        self.advance(newest, uptime);
    }

    /// The newest number and the uptime with it, if anything came.
    pub(crate) fn newest(&self) -> Option<(u32, u32)> {
        Some((self.newest?, self.uptime))
    }

    /// Takes in a datagram's number and the agent's uptime in ms.
    pub(crate) fn observe(&mut self, sequence: u32, uptime: u32) -> Verdict {
        let verdict = self.judge(sequence, uptime);
        match (verdict, self.newest) {
            (Verdict::InOrder | Verdict::Gap(_), Some(newest)) => {
                let ahead = sequence.wrapping_sub(newest);
                self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
                self.advance(sequence, uptime);
            }
            (Verdict::InOrder | Verdict::Gap(_) | Verdict::Reset, _) => {
                // What came before the first datagram, or before a restart, was never missing.
                self.seen = u64::MAX;
                self.advance(sequence, uptime);
            }
            (Verdict::Late, _) => self.after_duplicate = None,
            (Verdict::Duplicate, _) => self.after_duplicate = Some(sequence.wrapping_add(1)),
        }
        verdict
    }

    fn advance(&mut self, sequence: u32, uptime: u32) {
        self.newest = Some(sequence);
        self.uptime = uptime;
        self.after_duplicate = None;
    }

    fn judge(&mut self, sequence: u32, uptime: u32) -> Verdict {
        let Some(newest) = self.newest else {
            return Verdict::InOrder;
        };
        let fallen = self.uptime.wrapping_sub(uptime);
        if uptime < self.uptime && (UPTIME_FALL..u32::MAX / 2).contains(&fallen) {
            return Verdict::Reset;
        }
        let (ahead, behind) = (sequence.wrapping_sub(newest), newest.wrapping_sub(sequence));
        match (ahead, behind) {
            (1, _) => Verdict::InOrder,
            (_, 0..64) if self.seen >> behind & 1 == 0 => {
                self.seen |= 1 << behind;
                Verdict::Late
            }
            (_, 0..=LATEST) if self.after_duplicate == Some(sequence) => Verdict::Reset,
            (_, 0..=LATEST) => Verdict::Duplicate,
            (2..=LARGEST_GAP, _) => Verdict::Gap(ahead - 1),
            _ => Verdict::Reset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: &[u32]) -> Vec<Verdict> {
        let mut sequence = Sequence::default();
        steps
            .iter()
            .map(|&number| sequence.observe(number, 1_000))
            .collect()
    }

    #[test]
    fn gaps_are_counted_and_numbers_wrap() {
        assert_eq!(
            run(&[u32::MAX, 0, 4, 5]),
            [
                Verdict::InOrder,
                Verdict::InOrder,
                Verdict::Gap(3),
                Verdict::InOrder
            ]
        );
    }

    #[test]
    fn reordering_is_no_loss_and_a_copy_restores_nothing() {
        assert_eq!(
            run(&[10, 13, 11, 11, 12, 13, 14]),
            [
                Verdict::InOrder,
                Verdict::Gap(2),
                Verdict::Late,
                Verdict::Duplicate,
                Verdict::Late,
                Verdict::Duplicate,
                Verdict::InOrder
            ]
        );
    }

    #[test]
    fn a_restart_is_no_loss() {
        assert_eq!(
            run(&[200, 1, 2, 3]),
            [
                Verdict::InOrder,
                Verdict::Duplicate,
                Verdict::Reset,
                Verdict::InOrder
            ]
        );
        assert_eq!(run(&[5, 1 << 30]), [Verdict::InOrder, Verdict::Reset]);
        let mut sequence = Sequence::default();
        sequence.observe(100, 5_000_000);
        assert_eq!(sequence.observe(101, 1_000), Verdict::Reset);
    }
}
