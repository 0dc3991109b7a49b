use std::collections::VecDeque;

use weir_attack_event::{DrillDown, Findings, Origin};
use weir_flow_record::{Address, ByteSize, EventTime, FlowBatch};

use crate::drill;
use crate::evidence::Watched;
use crate::segment::{KEPT, ROW_OCTETS, Segment};

/// Rows that are dropped together.
const SEGMENT_ROWS: usize = 8192;
/// So many segments at least, so that dropping one does not empty the window.
const FEWEST_SEGMENTS: usize = 8;

/// The newest flow records, within a bound of memory; the oldest give way.
pub struct RecentWindow {
    segments: VecDeque<Segment>,
    segment_rows: usize,
    most_segments: usize,
    dropped_rows: u64,
    /// The last point of event time in what was dropped.
    dropped_until: Option<i64>,
}

impl RecentWindow {
    /// An empty window that takes at most `limit` octets (at least those of 8 rows).
    pub fn new(limit: ByteSize) -> Self {
        let rows = usize::try_from(limit.0).unwrap_or(usize::MAX) / ROW_OCTETS;
        let segment_rows = (rows / FEWEST_SEGMENTS).clamp(1, SEGMENT_ROWS);
        Self {
            segments: VecDeque::new(),
            segment_rows,
            most_segments: (rows / segment_rows).max(FEWEST_SEGMENTS),
            dropped_rows: 0,
            dropped_until: None,
        }
    }

    /// Takes in the rows of a batch.
    pub fn handle_batch(&mut self, batch: &FlowBatch) {
        for datagram in &batch.datagrams {
            let end = (datagram.rows.end as usize).min(batch.len());
            let mut first = datagram.rows.start as usize;
            while first < end {
                let room = self.segment_rows;
                let segment = self.open_segment();
                let next = end.min(first + (room - segment.len()));
                segment.extend(batch, first..next, datagram);
                first = next;
            }
        }
    }

    /// Answers who and what makes up the traffic of a target. Of very many rows it looks at the newest million, and then
    /// says that the answer is not complete.
    pub fn drill_down(&self, question: &DrillDown) -> Findings {
        self.drill_down_with(question, &|_| Origin::default())
    }

    /// The same, where somebody knows where addresses are.
    pub fn drill_down_with(
        &self,
        question: &DrillDown,
        origin: &dyn Fn(Address) -> Origin,
    ) -> Findings {
        let mut findings = drill::drill_down(question, self.segments.iter().rev(), origin);
        let from = question.from.nanos();
        findings.complete &= self.dropped_until.is_none_or(|dropped| dropped < from);
        findings
    }

    /// The newest rows of a target since `from`, at most `most`, in the order in which they came; and how many more there are.
    pub(crate) fn copy_of(
        &self,
        watched: &Watched,
        except: Option<&Watched>,
        from: EventTime,
        most: usize,
    ) -> (FlowBatch, u64) {
        let from = from.nanos();
        let wanted = |segment: &Segment, row: usize| {
            let ends = [segment.source(row), segment.destination(row)];
            segment.is_within(row, from, i64::MAX)
                && watched.holds(ends)
                && !except.is_some_and(|other| other.holds(ends))
        };
        let may_hold = |segment: &&Segment| segment.overlaps(from, i64::MAX);
        let counts = self.segments.iter().rev().filter(may_hold).map(|segment| {
            (0..segment.len())
                .filter(|row| wanted(segment, *row))
                .count()
        });
        // Whole segments from the newest on, as many as fit.
        let (mut kept, mut segments, mut left_out) = (0, 0, 0);
        for count in counts {
            if left_out == 0 && kept + count <= most {
                kept += count;
                segments += 1;
            } else {
                left_out += count as u64;
            }
        }
        let mut batch = FlowBatch::with_projection(KEPT);
        let newest: Vec<&Segment> = self
            .segments
            .iter()
            .rev()
            .filter(may_hold)
            .take(segments)
            .collect();
        for segment in newest.into_iter().rev() {
            segment.copy_into(&mut batch, |row| wanted(segment, row));
        }
        (batch, left_out)
    }

    /// Rows held.
    pub fn rows(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.len() as u64)
            .sum()
    }

    /// Octets of memory that the rows' columns take.
    pub fn octets(&self) -> u64 {
        (self.segments.len() * self.segment_rows * ROW_OCTETS) as u64
    }

    /// Rows that gave way to newer ones.
    pub fn dropped_rows(&self) -> u64 {
        self.dropped_rows
    }

    /// The segment that has room for a row.
    fn open_segment(&mut self) -> &mut Segment {
        let is_full = |segment: &Segment| segment.len() >= self.segment_rows;
        if self.segments.back().is_none_or(is_full) {
            let segment = self.new_segment();
            self.segments.push_back(segment);
        }
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    fn new_segment(&mut self) -> Segment {
        let oldest = (self.segments.len() >= self.most_segments)
            .then(|| self.segments.pop_front())
            .flatten();
        let Some(mut oldest) = oldest else {
            return Segment::with_capacity(self.segment_rows);
        };
        self.dropped_rows += oldest.len() as u64;
        self.dropped_until = self.dropped_until.max(Some(oldest.last_end()));
        oldest.clear();
        oldest
    }
}
