//! A record as it is added: on our clock, scaled by its sampling rate, cut into seconds.

use weir_flow_record::{DatagramInfo, FlowBatch};

use crate::recent::RecentRow;
use crate::ring::Addition;
use crate::spread::{Counts, SECOND, Span, Spread};

/// Ends beyond the export time up to this are rounding.
const ROUNDING: i64 = SECOND;
/// Most octets and packets of one record once scaled; so many records fit into a second's counts without overflow.
const MAX_OCTETS: u64 = 1 << 48;
const MAX_PACKETS: u64 = 1 << 36;

/// A record as it is added: the same for the same row, whenever it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scaled {
    pub(crate) addition: Addition,
    pub(crate) span: Span,
    /// Octets and packets as exported, and the sampling rate (0 = unknown).
    pub(crate) exported: (u64, u64, u32),
    /// Octets scaled.
    pub(crate) octets: u64,
    /// Whether the record stated more than a bucket should hold.
    pub(crate) is_cut: bool,
}

impl Scaled {
    #[inline]
    pub(crate) fn new(span: Span, exported: (u64, u64, u32)) -> Self {
        let spread = Spread::new(span);
        let (octets, packets, rate) = exported;
        let factor = u64::from(rate.max(1));
        let stated = (
            octets.saturating_mul(factor),
            packets.saturating_mul(factor),
        );
        let scaled = (stated.0.min(MAX_OCTETS), stated.1.min(MAX_PACKETS));
        let whole = Counts {
            octets: scaled.0,
            packets: scaled.1,
        };
        let salt = salt(span, octets);
        let (octets_variance, packets_variance) = variance(octets, packets, rate);
        Self {
            addition: Addition {
                spread,
                shares: spread.cut(whole, salt),
                octets_variance,
                packets_variance,
                flows: u64::from(packets != 0 || octets != 0),
            },
            span,
            exported,
            octets: scaled.0,
            is_cut: stated != scaled,
        }
    }

    /// A row again that was added before.
    pub(crate) fn again(row: &RecentRow) -> Self {
        Self::new(row.span, (row.octets, row.packets, row.rate))
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

/// Chooses where a record's rounding goes: different for different records.
#[inline]
fn salt(span: Span, octets: u64) -> u32 {
    let mixed = (span.start ^ span.end.rotate_left(23)) as u64 ^ octets.rotate_left(41);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Variance by sampling one in `rate`: each sampled packet stands for `rate` with a variance of `rate × (rate − 1)`.
#[inline]
fn variance(octets: u64, packets: u64, rate: u32) -> (f64, f64) {
    if rate <= 1 || packets == 0 {
        return (0.0, 0.0);
    }
    let (octets, packets, rate) = (octets as f64, packets as f64, f64::from(rate));
    let each = rate * (rate - 1.0);
    (octets * octets / packets * each, packets * each)
}
