//! A record as it is added: on our clock, scaled by its sampling rate, in one second or cut into several.

use weir_flow_record::{DatagramInfo, FlowBatch};

use crate::recent::RecentRow;
use crate::spread::{Counts, SECOND, Shares, Span, Spread};

/// Bits of packets in a packed count; flows stand above them.
pub(crate) const PACKET_BITS: u32 = 40;
/// One flow in a packed count.
pub(crate) const FLOW: u64 = 1 << PACKET_BITS;
/// Ends beyond the export time up to this are rounding.
const ROUNDING: i64 = SECOND;
/// Most octets and packets of one record once scaled; so many records fit into a second's counts without overflow.
const MAX_OCTETS: u64 = 1 << 48;
const MAX_PACKETS: u64 = 1 << 36;

/// What rings need of a record. Two kinds, so that each has code of its own: most records last less than a second.
pub(crate) trait Addition {
    /// First second.
    fn first(&self) -> i64;
    /// Last second.
    fn last(&self) -> i64;
    /// 1, or 0 for a record that weighs nothing.
    fn flows(&self) -> u64;
    /// Octets of all seconds.
    fn octets(&self) -> u64;
    /// The most that any second gets, or a little more.
    fn most(&self) -> Counts;
    /// The second that gets everything, and what it gets, flows packed above packets; `None` for a record over several.
    fn point(&self) -> Option<(i64, Counts)>;
    /// Octets of seconds before `oldest`.
    fn octets_before(&self, oldest: i64) -> u64;
    /// Variance of octets and of packets, of the whole record.
    fn variance(&self) -> (f64, f64);
    /// Calls `step` for each step of seconds from `oldest` on, and maybe for older ones: what it adds, with flows packed above
    /// packets, and the part, of 1, by which variance is spread.
    fn steps(&self, oldest: i64, step: impl FnMut(i64, Counts, f64));
}

/// Octets, packets and flows of a record, scaled, and the sampling rate (0 = unknown).
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Whole {
    pub(crate) counts: Counts,
    pub(crate) flows: u64,
    pub(crate) rate: u32,
}

/// A record within one second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) second: i64,
    pub(crate) whole: Whole,
}

/// A record over several seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Long {
    spread: Spread,
    shares: Shares,
    whole: Whole,
}

/// Either kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record {
    Point(Point),
    Long(Long),
}

impl Whole {
    /// Octets, packets and the sampling rate as exported; also whether they stated more than a bucket should hold.
    #[inline]
    pub(crate) fn new((octets, packets, rate): (u64, u64, u32)) -> (Self, bool) {
        let factor = u64::from(rate.max(1));
        let stated = Counts {
            octets: octets.saturating_mul(factor),
            packets: packets.saturating_mul(factor),
        };
        let counts = Counts {
            octets: stated.octets.min(MAX_OCTETS),
            packets: stated.packets.min(MAX_PACKETS),
        };
        let whole = Self {
            counts,
            flows: u64::from(packets != 0 || octets != 0),
            rate,
        };
        (whole, counts != stated)
    }

    /// Variance of octets and packets by sampling one in `rate`: each sampled packet stands for `rate` of its size, with a
    /// variance of `rate × (rate − 1)`; so Σ over the sampled ones is that of all of them × `(rate − 1)`.
    #[inline]
    fn variance(&self) -> (f64, f64) {
        if self.rate <= 1 || self.counts.packets == 0 {
            return (0.0, 0.0);
        }
        // Both are far below 2⁶³; signed numbers are converted faster.
        let (octets, packets) = (
            self.counts.octets as i64 as f64,
            self.counts.packets as i64 as f64,
        );
        let excess = f64::from(self.rate - 1);
        (octets * octets / packets * excess, packets * excess)
    }
}

impl Record {
    /// The same for the same row, whenever it is made.
    #[inline]
    pub(crate) fn new(span: Span, whole: Whole) -> Self {
        match Spread::only_second(span) {
            Some(second) => Self::Point(Point { second, whole }),
            None => Self::Long(Long::new(span, whole)),
        }
    }

    /// A row again that was added before.
    pub(crate) fn again(row: &RecentRow) -> Self {
        let (whole, _) = Whole::new((row.octets, row.packets, row.rate));
        Self::new(row.span, whole)
    }

    /// Without its flow if that began before `oldest`.
    #[must_use]
    pub(crate) fn without_flow_before(mut self, oldest: i64) -> Self {
        match &mut self {
            Self::Long(long) if long.spread.first < oldest => long.whole.flows = 0,
            _ => (),
        }
        self
    }
}

impl Long {
    /// Cuts a record that touches several seconds.
    #[inline]
    pub(crate) fn new(span: Span, whole: Whole) -> Self {
        let spread = Spread::new(span);
        Self {
            spread,
            shares: spread.cut(whole.counts, salt(span, whole.counts.octets)),
            whole,
        }
    }
}

impl Addition for Point {
    #[inline]
    fn first(&self) -> i64 {
        self.second
    }

    #[inline]
    fn last(&self) -> i64 {
        self.second
    }

    #[inline]
    fn flows(&self) -> u64 {
        self.whole.flows
    }

    #[inline]
    fn octets(&self) -> u64 {
        self.whole.counts.octets
    }

    #[inline]
    fn most(&self) -> Counts {
        self.whole.counts
    }

    #[inline]
    fn point(&self) -> Option<(i64, Counts)> {
        let counts = self.whole.counts.plus(packed(self.whole.flows));
        Some((self.second, counts))
    }

    #[inline]
    fn octets_before(&self, oldest: i64) -> u64 {
        if self.second < oldest {
            self.whole.counts.octets
        } else {
            0
        }
    }

    #[inline]
    fn variance(&self) -> (f64, f64) {
        self.whole.variance()
    }

    #[inline]
    fn steps(&self, oldest: i64, mut step: impl FnMut(i64, Counts, f64)) {
        if self.second < oldest {
            return;
        }
        let counts = self.whole.counts.plus(packed(self.whole.flows));
        step(self.second, counts, 1.0);
        step(self.second - 1, Counts::default().less(counts), -1.0);
    }
}

impl Addition for Long {
    #[inline]
    fn first(&self) -> i64 {
        self.spread.first
    }

    #[inline]
    fn last(&self) -> i64 {
        self.spread.last
    }

    #[inline]
    fn flows(&self) -> u64 {
        self.whole.flows
    }

    #[inline]
    fn octets(&self) -> u64 {
        self.whole.counts.octets
    }

    #[inline]
    fn most(&self) -> Counts {
        self.shares.most()
    }

    #[inline]
    fn point(&self) -> Option<(i64, Counts)> {
        None
    }

    fn octets_before(&self, oldest: i64) -> u64 {
        self.shares.before(&self.spread, oldest).octets
    }

    #[inline]
    fn variance(&self) -> (f64, f64) {
        self.whole.variance()
    }

    #[inline]
    fn steps(&self, oldest: i64, mut step: impl FnMut(i64, Counts, f64)) {
        let Spread { first, last, .. } = self.spread;
        if last < oldest {
            return;
        }
        let (spread, shares) = (&self.spread, &self.shares);
        let (nothing, flow) = (Counts::default(), packed(self.whole.flows));
        step(last, shares.last, spread.last_part);
        let before_last = spread.inner_part - spread.last_part;
        step(last - 1, shares.inner.less(shares.last), before_last);
        if first >= oldest {
            let of_first = shares.first.plus(flow);
            let at_first = spread.first_part - spread.inner_part;
            step(first, of_first.less(shares.inner), at_first);
            step(first - 1, nothing.less(of_first), -spread.first_part);
        } else {
            // The flow began before what is held: it counts in the oldest second.
            step(oldest, flow, 0.0);
        }
        if shares.more != nothing {
            step(shares.run.1, shares.more, 0.0);
            step(shares.run.0 - 1, nothing.less(shares.more), 0.0);
        }
    }
}

/// Event time (design, "Time"): ages are by the exporter's clock, so its offset from ours does no harm. `clip` is the longest
/// duration in nanoseconds.
#[inline]
pub(crate) fn span(batch: &FlowBatch, datagram: &DatagramInfo, row: usize, clip: i64) -> Span {
    let (start, end) = (batch.flow_start[row], batch.flow_end[row]);
    let age = datagram.export_time.nanos().saturating_sub(end).max(0);
    let duration = end.saturating_sub(start).clamp(0, clip.max(0));
    let end = datagram.received_at.nanos().saturating_sub(age);
    Span {
        start: end.saturating_sub(duration),
        end,
    }
}

/// Whether a row ends later than its export time, by more than rounding.
#[inline]
pub(crate) fn is_early(batch: &FlowBatch, datagram: &DatagramInfo, row: usize) -> bool {
    let export_time = datagram.export_time.nanos();
    batch.flow_end[row].saturating_sub(export_time) > ROUNDING
}

#[inline]
fn packed(flows: u64) -> Counts {
    Counts {
        octets: 0,
        packets: flows.wrapping_mul(FLOW),
    }
}

/// Chooses where a record's rounding goes: different for different records.
#[inline]
fn salt(span: Span, octets: u64) -> u32 {
    let mixed = (span.start ^ span.end.rotate_left(23)) as u64 ^ octets.rotate_left(41);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}
