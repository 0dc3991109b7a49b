//! Whether the same flows are reported twice: by two exporters that both see them, or by one at its input and at its output.
//! Then every figure is too large, and `count` or `boundary_interfaces` of `[[exporter]]` should say which report counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weir_flow_record::{Address, FlowBatch, ReceivedAt};

/// One flow in 2⁸ is looked at; always the same ones.
const CHOSEN_BITS: u32 = 8;
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// Flows that are remembered at once.
const MOST_FLOWS: usize = 16_384;
/// Reporters that are told apart.
const MOST_REPORTERS: usize = 8_192;
/// Pairs of reporters that are counted.
const MOST_PAIRS: usize = 8_192;
/// How long a period lasts, in ns. Two routers report a flow within their active timeouts.
const PERIOD: i64 = 300_000_000_000;
/// Flows of a reporter in a period below which nothing is said.
const FEWEST: u32 = 50;
/// Share of the flows that another reports too, from which on it is said.
const SHARE: f64 = 0.2;

/// Who reports: an exporter, at its input (0), its output (1), or without saying which (255; IE 61).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Reporter {
    /// The exporter.
    pub exporter: Address,
    /// IE 61 flowDirection.
    pub direction: u8,
}

/// Two reporters of the same flows. Said once until they have been apart for a period.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DoubleCount {
    /// The one with fewer flows.
    pub first: Reporter,
    /// The other.
    pub second: Reporter,
    /// Share of the first one's flows that the second reports too, of 1.
    pub share: f64,
}

/// Compares reporters. Feed it all shards' batches, then poll [`poll_finding`](Self::poll_finding).
///
/// ```
/// use weir_collector::Overlap;
/// use weir_flow_record::FlowBatch;
///
/// let mut overlap = Overlap::default();
/// overlap.handle_batch(&FlowBatch::default());
/// while let Some(_finding) = overlap.poll_finding() { /* warn */ }
/// ```
#[derive(Default)]
pub struct Overlap {
    began: Option<i64>,
    /// Who reported a flow first, and the set of all its reporters so far.
    flows: HashMap<u64, BTreeSet<u16>>,
    reporters: HashMap<Reporter, u16>,
    names: Vec<Reporter>,
    counts: Vec<u32>,
    pairs: BTreeMap<(u16, u16), u32>,
    told: BTreeSet<(Reporter, Reporter)>,
    findings: Vec<DoubleCount>,
}

impl Overlap {
    /// Looks at the records of a batch.
    pub fn handle_batch(&mut self, batch: &FlowBatch) {
        for datagram in &batch.datagrams {
            self.handle_time(datagram.received_at);
            for row in datagram.rows.clone() {
                let row = row as usize;
                if !is_chosen(batch, row) || batch.packets[row] == 0 {
                    continue;
                }
                let flow = flow(batch, row);
                let reporter = Reporter {
                    exporter: datagram.exporter_address,
                    direction: batch.direction[row],
                };
                self.see(flow, reporter);
            }
        }
    }

    /// The next pair that reports the same flows.
    #[must_use]
    pub fn poll_finding(&mut self) -> Option<DoubleCount> {
        self.findings.pop()
    }

    fn handle_time(&mut self, at: ReceivedAt) {
        let began = *self.began.get_or_insert(at.nanos());
        if at.nanos().saturating_sub(began) >= PERIOD {
            self.judge();
            *self = Self {
                began: Some(at.nanos()),
                told: std::mem::take(&mut self.told),
                findings: std::mem::take(&mut self.findings),
                ..Self::default()
            };
        }
    }

    fn see(&mut self, flow: u64, reporter: Reporter) {
        let Some(number) = self.number_of(reporter) else {
            return;
        };
        if self.flows.len() >= MOST_FLOWS && !self.flows.contains_key(&flow) {
            return;
        }
        let reporters = self.flows.entry(flow).or_default();
        if !reporters.insert(number) {
            return;
        }
        self.counts[usize::from(number)] += 1;
        for other in reporters.iter().filter(|other| **other != number) {
            let pair = (number.min(*other), number.max(*other));
            if self.pairs.len() < MOST_PAIRS || self.pairs.contains_key(&pair) {
                *self.pairs.entry(pair).or_default() += 1;
            }
        }
    }

    fn number_of(&mut self, reporter: Reporter) -> Option<u16> {
        if let Some(number) = self.reporters.get(&reporter) {
            return Some(*number);
        }
        if self.names.len() >= MOST_REPORTERS {
            return None;
        }
        let number = u16::try_from(self.names.len()).ok()?;
        self.reporters.insert(reporter, number);
        self.names.push(reporter);
        self.counts.push(0);
        Some(number)
    }

    /// At the end of a period.
    fn judge(&mut self) {
        let mut now = BTreeSet::new();
        for ((a, b), both) in &self.pairs {
            let (a, b) = (usize::from(*a), usize::from(*b));
            let (first, second) = if self.counts[a] <= self.counts[b] {
                (a, b)
            } else {
                (b, a)
            };
            let share = f64::from(*both) / f64::from(self.counts[first].max(1));
            if self.counts[first] < FEWEST || share < SHARE {
                continue;
            }
            let pair = (self.names[first], self.names[second]);
            now.insert(pair);
            if !self.told.contains(&pair) {
                self.findings.push(DoubleCount {
                    first: pair.0,
                    second: pair.1,
                    share,
                });
            }
        }
        self.told = now;
    }
}

/// Whether a flow is looked at, by its addresses and the source port: for most records this is all that is done.
#[inline]
fn is_chosen(batch: &FlowBatch, row: usize) -> bool {
    let (_, source) = batch.source_address[row].words();
    let (_, destination) = batch.destination_address[row].words();
    let port = u64::from(batch.source_port[row]);
    let mixed = (source ^ destination.rotate_left(17) ^ port << 40).wrapping_mul(MIX);
    mixed >> (64 - CHOSEN_BITS) == 0
}

/// A number of the flow's key.
fn flow(batch: &FlowBatch, row: usize) -> u64 {
    let (source_high, source_low) = batch.source_address[row].words();
    let (destination_high, destination_low) = batch.destination_address[row].words();
    let ports = u64::from(batch.source_port[row]) << 32
        | u64::from(batch.destination_port[row]) << 8
        | u64::from(batch.protocol[row]);
    let mut mixed = ports;
    for word in [source_high, source_low, destination_high, destination_low] {
        mixed = (mixed.rotate_left(23) ^ word).wrapping_mul(MIX);
    }
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use weir_flow_record::{
        ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, ObservationDomainId, Row,
    };

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Flows `numbers` as an exporter reports them.
    fn batch(exporter: u8, direction: u8, numbers: std::ops::Range<u32>, at: i64) -> FlowBatch {
        let mut batch = FlowBatch::default();
        for number in numbers.clone() {
            batch.push(&Row {
                source_address: Address::from_v4((0x0a00_0000 + number).to_be_bytes()),
                destination_address: Address::from_v4([192, 0, 2, 1]),
                destination_port: 443,
                protocol: 6,
                packets: 1,
                direction,
                ..Row::default()
            });
        }
        batch.datagrams.push(DatagramInfo {
            rows: 0..numbers.len() as u32,
            exporter: ExporterId(0),
            exporter_address: Address::from_v4([198, 51, 100, exporter]),
            domain: ObservationDomainId(0),
            protocol: ExportProtocol::Ipfix,
            sequence: 0,
            received_at: ReceivedAt::from_nanos(at),
            export_time: ExportTime::from_nanos(at),
            present: ColumnSet::NONE,
        });
        batch
    }

    fn findings(overlap: &mut Overlap, at: i64) -> Vec<DoubleCount> {
        overlap.handle_batch(&batch(9, 0, 0..1, at));
        std::iter::from_fn(|| overlap.poll_finding()).collect()
    }

    #[test]
    fn two_exporters_on_one_path_are_found_once() {
        let mut overlap = Overlap::default();
        for period in 0..2 {
            let at = period * 301 * SECOND;
            overlap.handle_batch(&batch(1, 0, 0..40_000, at));
            overlap.handle_batch(&batch(2, 0, 20_000..90_000, at + SECOND));
            let found = findings(&mut overlap, at + 300 * SECOND);
            if period > 0 {
                assert!(found.is_empty(), "said twice");
                continue;
            }
            let [one] = found.as_slice() else {
                panic!("{found:?}");
            };
            assert_eq!(one.first.exporter, Address::from_v4([198, 51, 100, 1]));
            assert!((0.4..0.6).contains(&one.share), "{}", one.share);
        }
    }

    #[test]
    fn both_directions_of_one_exporter_count_as_two_reporters() {
        let mut overlap = Overlap::default();
        overlap.handle_batch(&batch(1, 0, 0..40_000, 0));
        overlap.handle_batch(&batch(1, 1, 0..40_000, 0));
        assert_eq!(findings(&mut overlap, 300 * SECOND).len(), 1);
    }

    #[test]
    fn repeated_reports_and_different_flows_are_no_double_counting() {
        let mut overlap = Overlap::default();
        for _ in 0..3 {
            overlap.handle_batch(&batch(1, 0, 0..40_000, 0));
        }
        overlap.handle_batch(&batch(2, 0, 40_000..80_000, 0));
        assert!(findings(&mut overlap, 300 * SECOND).is_empty());
    }
}
