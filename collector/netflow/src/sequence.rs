//! What sequence numbers say about loss. v5 and v7 count flows, v9 datagrams (RFC 3954 §5.1), IPFIX the data records of its
//! domain before this message, those of options included (RFC 7011 §3.1). Exporters that count otherwise are found out.

use crate::change::SequenceState;

/// Larger skips are a restart, in records and in datagrams.
const LARGEST_GAP: [u32; 2] = [1 << 22, 1 << 17];
/// Datagrams that come later than this are a restart.
const LATEST: [u32; 2] = [1 << 14, 512];
/// What a restarted exporter's clocks fall behind at least, in ms; reordering explains less.
const CLOCK_FALLS: i64 = 60_000;
/// More than headers in whole seconds cut off.
const SECOND: i64 = 1_000_000_000;
/// Gaps remembered, to tell what comes late from what comes twice.
const GAPS: usize = 8;
/// Sequence numbers remembered for the same end.
const RECENT: usize = 16;
/// Clear answers after which an exporter's way to count is settled.
const SETTLED: u8 = 8;

/// What a sequence counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counts {
    /// Data records, those of options included.
    Records,
    /// Flow records only: some IPFIX exporters leave options data out.
    FlowRecords,
    /// Datagrams.
    Datagrams,
}

/// What one message says about its place in the sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) sequence: u32,
    /// Its data records; `None` where it held Sets that could not be counted, so nothing can be said about the next.
    pub(crate) records: Option<u32>,
    /// Of those, options data.
    pub(crate) options: u32,
    /// sysUpTime in ms.
    pub(crate) uptime: Option<u32>,
    /// Exporter's clock, ns.
    pub(crate) export_time: i64,
    /// Whether it brought templates, as exporters do when they start.
    pub(crate) templates: bool,
}

/// What a datagram's sequence number means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    InOrder,
    /// So many records or datagrams were skipped.
    Gap(u32),
    /// Late; so many of those that were missing are there now.
    Late(u32),
    /// Seen before.
    Duplicate,
    /// The sequence begins anew.
    Reset,
}

/// The sequence of one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence {
    counts: Counts,
    /// How often it was clear that the sequence counts so.
    certain: u8,
    newest: Option<Position>,
    gaps: Gaps,
    recent: [Option<u32>; RECENT],
    turn: usize,
    /// What would follow the newest late datagram: two of these in a row are a restart, not a delay.
    after_late: Option<u32>,
}

impl Sequence {
    /// A sequence that counts what its protocol says.
    pub(crate) fn new(counts: Counts) -> Self {
        Self {
            counts,
            certain: 0,
            newest: None,
            gaps: Gaps::default(),
            recent: [None; RECENT],
            turn: 0,
            after_late: None,
        }
    }

    /// Goes on where an earlier run stood.
    pub(crate) fn restore(&mut self, state: &SequenceState) {
        self.counts = match state.counts {
            0 => Counts::Records,
            1 => Counts::FlowRecords,
            _ => Counts::Datagrams,
        };
        self.newest = Some(Position {
            sequence: state.number,
            records: state.records,
            options: state.options,
            uptime: state.uptime,
            export_time: state.export_time,
            templates: false,
        });
    }

    /// Where it stands, if anything came.
    pub(crate) fn state(&self, version: u16) -> Option<SequenceState> {
        let newest = self.newest?;
        Some(SequenceState {
            version,
            counts: match self.counts {
                Counts::Records => 0,
                Counts::FlowRecords => 1,
                Counts::Datagrams => 2,
            },
            number: newest.sequence,
            records: newest.records,
            options: newest.options,
            uptime: newest.uptime,
            export_time: newest.export_time,
        })
    }

    /// What the exporter was found to count.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes in a datagram.
    pub(crate) fn observe(&mut self, position: &Position) -> Verdict {
        let verdict = match self.newest {
            None => Verdict::InOrder,
            Some(newest) if restarted(&newest, position) => Verdict::Reset,
            Some(newest) => self.compare(&newest, position),
        };
        match verdict {
            Verdict::Late(_) | Verdict::Duplicate => {
                let step = step(self.counts, position);
                self.after_late = step.map(|step| position.sequence.wrapping_add(step));
                if verdict != Verdict::Duplicate {
                    self.remember(position);
                }
            }
            Verdict::InOrder | Verdict::Gap(_) => self.advance(position),
            Verdict::Reset => {
                self.gaps = Gaps::default();
                self.recent = [None; RECENT];
                self.advance(position);
            }
        }
        verdict
    }

    fn advance(&mut self, position: &Position) {
        self.newest = Some(*position);
        self.after_late = None;
        self.remember(position);
    }

    fn remember(&mut self, position: &Position) {
        // What moves the sequence by nothing, as templates do, has the number of what follows.
        if step(self.counts, position) == Some(0) {
            return;
        }
        if let Some(place) = self.recent.get_mut(self.turn) {
            *place = Some(position.sequence);
        }
        self.turn = (self.turn + 1) % RECENT;
    }

    fn compare(&mut self, newest: &Position, position: &Position) -> Verdict {
        let moved = position.sequence.wrapping_sub(newest.sequence);
        let Some(expected_step) = step(self.counts, newest) else {
            return Verdict::InOrder;
        };
        if moved == expected_step || self.counts_otherwise(newest, position, moved) {
            if self.certain < SETTLED {
                self.settle(newest, moved);
            }
            return Verdict::InOrder;
        }
        let expected = newest.sequence.wrapping_add(expected_step);
        let ahead = position.sequence.wrapping_sub(expected);
        let behind = expected.wrapping_sub(position.sequence);
        let kind = usize::from(self.counts == Counts::Datagrams);
        if LARGEST_GAP.get(kind).is_some_and(|&most| ahead <= most) {
            if clock_fell(newest, position) {
                return Verdict::Reset;
            }
            self.gaps.push(expected, ahead);
            Verdict::Gap(ahead)
        } else if LATEST.get(kind).is_some_and(|&most| behind <= most) {
            self.judge_old(newest, position)
        } else {
            Verdict::Reset
        }
    }

    /// A number from before: late, twice, or of an exporter that began anew.
    fn judge_old(&mut self, newest: &Position, position: &Position) -> Verdict {
        // What is late or comes twice was exported before the newest.
        let exported_later = position.export_time.saturating_sub(newest.export_time) > SECOND;
        if exported_later {
            return Verdict::Reset;
        }
        let restored = match step(self.counts, position) {
            Some(0) => return Verdict::Late(0),
            Some(units) => self.gaps.take(position.sequence, units),
            None => 0,
        };
        if restored > 0 {
            return Verdict::Late(restored);
        }
        let begins = position.templates && position.sequence == 0;
        if begins || clock_fell(newest, position) {
            Verdict::Reset
        } else if self.recent.contains(&Some(position.sequence)) {
            Verdict::Duplicate
        } else if self.after_late == Some(position.sequence) {
            Verdict::Reset
        } else {
            Verdict::Late(0)
        }
    }

    /// Some v9 exporters count records, some of IPFIX datagrams or flow records only.
    fn counts_otherwise(&mut self, newest: &Position, position: &Position, moved: u32) -> bool {
        // What does not move is a repeat, save where options data were not counted and flows follow.
        let has_flows = position.records.is_some_and(|all| all > position.options);
        if self.certain >= SETTLED || moved == 0 && !has_flows {
            return false;
        }
        let others = [Counts::Records, Counts::FlowRecords, Counts::Datagrams];
        let other = others.into_iter().find(|&other| {
            let repeats = moved == 0 && newest.options == 0;
            other != self.counts && step(other, newest) == Some(moved) && !repeats
        });
        if let Some(other) = other {
            self.counts = other;
            self.certain = 0;
        }
        other.is_some()
    }

    fn settle(&mut self, newest: &Position, moved: u32) {
        let others = [Counts::Records, Counts::FlowRecords, Counts::Datagrams];
        let clear = others
            .into_iter()
            .all(|other| other == self.counts || step(other, newest) != Some(moved));
        if clear {
            self.certain += 1;
        }
    }
}

/// By how much a message moves the sequence.
fn step(counts: Counts, position: &Position) -> Option<u32> {
    match counts {
        Counts::Records => position.records,
        Counts::FlowRecords => position
            .records
            .map(|records| records.saturating_sub(position.options)),
        Counts::Datagrams => Some(1),
    }
}

/// sysUpTime fell, and not because it wrapped after 49.7 days: then it would have gone on with the clock.
fn restarted(newest: &Position, position: &Position) -> bool {
    let (Some(before), Some(uptime)) = (newest.uptime, position.uptime) else {
        return false;
    };
    let elapsed = position.export_time.saturating_sub(newest.export_time) / 1_000_000;
    let expected = before.wrapping_add(elapsed as u32);
    let off = i64::from(uptime.wrapping_sub(expected) as i32);
    uptime < before && off.abs() > CLOCK_FALLS
}

fn clock_fell(newest: &Position, position: &Position) -> bool {
    newest.export_time.saturating_sub(position.export_time) > CLOCK_FALLS * 1_000_000
}

/// What is missing, as runs of numbers; the oldest are forgotten first.
#[derive(Clone, Copy, Default, Debug)]
struct Gaps {
    runs: [(u32, u32); GAPS],
    turn: usize,
}

impl Gaps {
    fn push(&mut self, start: u32, units: u32) {
        if let Some(run) = self.runs.get_mut(self.turn) {
            *run = (start, units);
        }
        self.turn = (self.turn + 1) % GAPS;
    }

    /// Fills `units` from `start` in; returns how many of them were missing.
    fn take(&mut self, start: u32, units: u32) -> u32 {
        for index in 0..GAPS {
            let Some(run) = self.runs.get_mut(index) else {
                break;
            };
            let offset = start.wrapping_sub(run.0);
            if offset >= run.1 {
                continue;
            }
            let taken = units.min(run.1 - offset);
            let rest = (run.0.wrapping_add(offset + taken), run.1 - offset - taken);
            run.1 = offset;
            if offset == 0 {
                *run = rest;
            } else if rest.1 > 0 {
                self.push(rest.0, rest.1);
            }
            return taken;
        }
        0
    }
}

/// What the verdicts on an exporter's datagrams add up to.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) gaps: u64,
    pub(crate) missing_records: u64,
    pub(crate) recovered_records: u64,
    pub(crate) reordered: u64,
    pub(crate) duplicates: u64,
    pub(crate) resets: u64,
}

impl Tally {
    /// Adds a verdict, of units that stand for `each` records.
    pub(crate) fn add(&mut self, verdict: Verdict, each: u64) {
        match verdict {
            Verdict::InOrder => {}
            Verdict::Gap(units) => {
                self.gaps += 1;
                self.missing_records += u64::from(units).saturating_mul(each);
            }
            Verdict::Late(restored) => {
                let restored = u64::from(restored)
                    .saturating_mul(each)
                    .min(self.missing_records);
                self.missing_records -= restored;
                self.recovered_records += restored;
                self.reordered += 1;
            }
            Verdict::Duplicate => self.duplicates += 1,
            Verdict::Reset => self.resets += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter::zip;

    use super::*;

    fn at(sequence: u32, records: u32) -> Position {
        Position {
            sequence,
            records: Some(records),
            options: 0,
            uptime: None,
            export_time: 1_700_000_000_000_000_000,
            templates: false,
        }
    }

    fn run(counts: Counts, steps: &[(u32, u32)]) -> Vec<Verdict> {
        let mut sequence = Sequence::new(counts);
        let steps = steps.iter();
        steps
            .map(|&(number, records)| sequence.observe(&at(number, records)))
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
                &[(0, 10), (30, 10), (20, 10), (10, 10), (40, 10)]
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
    fn what_comes_twice_restores_nothing_and_is_no_restart() {
        let verdicts = run(
            Counts::Records,
            &[
                (0, 10),
                (10, 10),
                (20, 10),
                (0, 10),
                (10, 10),
                (20, 10),
                (50, 10),
                (40, 10),
                (40, 10),
            ],
        );
        assert_eq!(verdicts[3..6], [Verdict::Duplicate; 3]);
        assert_eq!(verdicts[6..8], [Verdict::Gap(20), Verdict::Late(10)]);
        assert_eq!(verdicts[8], Verdict::Duplicate);
        let mut tally = Tally::default();
        for verdict in verdicts {
            tally.add(verdict, 1);
        }
        assert_eq!((tally.duplicates, tally.reordered, tally.gaps), (4, 1, 1));
        assert_eq!((tally.missing_records, tally.recovered_records), (10, 10));
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
    fn a_restart_shows_in_the_export_time_or_in_templates() {
        let mut sequence = Sequence::new(Counts::Records);
        sequence.observe(&at(1_000, 30));
        let later = Position {
            export_time: at(0, 0).export_time + 5_000_000_000,
            ..at(0, 30)
        };
        assert_eq!(sequence.observe(&later), Verdict::Reset);
        let mut sequence = Sequence::new(Counts::Records);
        sequence.observe(&at(1_000, 30));
        let templates = Position {
            templates: true,
            ..at(0, 1)
        };
        assert_eq!(sequence.observe(&templates), Verdict::Reset);
        let mut sequence = Sequence::new(Counts::Records);
        sequence.observe(&at(1_000, 30));
        let clock_fell = Position {
            export_time: 946_684_800_000_000_000,
            ..at(2_000, 30)
        };
        assert_eq!(sequence.observe(&clock_fell), Verdict::Reset);
    }

    #[test]
    fn numbers_wrap() {
        assert_eq!(
            run(Counts::Datagrams, &[(u32::MAX, 1), (0, 1), (2, 1)]),
            [Verdict::InOrder, Verdict::InOrder, Verdict::Gap(1)]
        );
    }

    #[test]
    fn exporters_that_count_otherwise_are_found_out() {
        let cases = [
            (Counts::Datagrams, [(100, 20), (120, 18), (138, 20)]),
            (Counts::Records, [(7, 20), (8, 18), (9, 20)]),
        ];
        for (counts, steps) in cases {
            assert_eq!(run(counts, &steps), [Verdict::InOrder; 3]);
        }
        let mut sequence = Sequence::new(Counts::Records);
        for number in [0, 10, 20, 30] {
            let position = Position {
                options: 2,
                ..at(number, 12)
            };
            assert_eq!(sequence.observe(&position), Verdict::InOrder);
        }
        assert_eq!(sequence.counts(), Counts::FlowRecords);
        let options_alone = Position {
            options: 3,
            ..at(40, 3)
        };
        for counts in [Counts::FlowRecords, Counts::Records] {
            let mut sequence = Sequence::new(counts);
            sequence.observe(&at(30, 10));
            assert_eq!(sequence.observe(&options_alone), Verdict::InOrder);
            assert_eq!(sequence.observe(&at(40, 10)), Verdict::InOrder);
            assert_eq!(sequence.observe(&at(40, 10)), Verdict::Duplicate);
        }
    }

    #[test]
    fn a_settled_exporter_is_not_doubted() {
        let mut steps: Vec<(u32, u32)> = (0..20).map(|number| (number, 24)).collect();
        steps.push((43, 24));
        let verdicts = run(Counts::Datagrams, &steps);
        assert_eq!(verdicts.last(), Some(&Verdict::Gap(23)));
    }

    #[test]
    fn a_fallen_uptime_is_a_restart_and_a_wrapped_one_is_not() {
        let day = 86_400_000u32;
        let up = |sequence, uptime, seconds: i64| Position {
            uptime: Some(uptime),
            export_time: at(0, 0).export_time + seconds * 1_000_000_000,
            ..at(sequence, 10)
        };
        for before in [5_000_000, 40 * day] {
            let mut sequence = Sequence::new(Counts::Records);
            sequence.observe(&up(10, before, 0));
            let verdict = sequence.observe(&up(500, 1_000, 30));
            assert_eq!(verdict, Verdict::Reset, "up for {before} ms");
        }
        let mut sequence = Sequence::new(Counts::Records);
        sequence.observe(&up(10, u32::MAX - 500, 0));
        assert_eq!(sequence.observe(&up(20, 499, 1)), Verdict::InOrder);
    }

    #[test]
    fn runs_are_split() {
        let mut gaps = Gaps::default();
        gaps.push(u32::MAX - 4, 20);
        let taken: Vec<u32> = zip([0, u32::MAX - 4, 5, 0, 14], [5, 5, 10, 5, 1])
            .map(|(start, units)| gaps.take(start, units))
            .collect();
        assert_eq!(taken, [5, 5, 10, 0, 0]);
    }
}
