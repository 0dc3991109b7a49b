use std::net::SocketAddr;

use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, ExporterView,
    FlowBatch, ObservationDomainId, ReceivedAt,
};

use crate::counters::{CounterReport, InterfaceCounters, Reports};
use crate::cursor::Cursor;
use crate::datagram::Header;
use crate::limits::{CheckedLimits, Limits};
use crate::outcome::{DatagramError, DatagramOutcome, DecoderCounters};
use crate::record::Frame;
use crate::sample::{DataSource, FlowHeader, counter_records, discarded_packet, format, next};
use crate::sequence::Verdict;
use crate::state::SequenceState;
use crate::tables::{Key, SourceKey, Tables};

/// Generic interface counters.
const IF_COUNTERS: u32 = 1;

/// Decodes the sFlow datagrams of any number of agents; see the [crate](crate).
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    columns: ColumnSet,
    tables: Tables,
    reports: Reports,
    counters: DecoderCounters,
}

/// How a datagram came.
#[derive(Clone, Copy)]
struct Arrival {
    at: ReceivedAt,
    from: Address,
    /// Octets.
    length: usize,
}

/// Whose samples are decoded.
#[derive(Clone, Copy)]
struct Source {
    /// The exporter's place in the table.
    number: u32,
    sub_agent: u32,
    received_at: ReceivedAt,
    /// Octets of the datagram.
    length: usize,
    /// What the datagram's place in its sequence means.
    verdict: Verdict,
}

impl Decoder {
    /// A decoder that knows no exporter, and that numbers those that come from `first_exporter` on. Of the optional columns
    /// it fills those of `columns` that a batch projects ([`FlowBatch::projection`]); others get zeros.
    pub fn new(limits: CheckedLimits, columns: ColumnSet, first_exporter: ExporterId) -> Self {
        let limits = *limits.get();
        Self {
            limits,
            columns,
            tables: Tables::new(limits, first_exporter),
            reports: Reports::new(limits.max_counters),
            counters: DecoderCounters::default(),
        }
    }

    /// Decodes one datagram's UDP payload and appends a row for each flow sample to `out`, described by one entry of
    /// [`FlowBatch::datagrams`]. A sample of unknown format or with a bad record is skipped and counted, the rest of the
    /// datagram is used.
    ///
    /// Nothing is allocated once exporters, data sources and the batch's memory are there. Poll for counters afterwards.
    pub fn handle_datagram(
        &mut self,
        at: ReceivedAt,
        from: SocketAddr,
        octets: &[u8],
        out: &mut FlowBatch,
    ) -> DatagramOutcome {
        let mut outcome = DatagramOutcome::default();
        let mut cursor = Cursor::new(octets);
        let arrival = Arrival {
            at,
            from: Address::from(from.ip()),
            length: octets.len(),
        };
        match Header::read(&mut cursor) {
            Ok(header) => {
                self.handle_samples(&arrival, &header, cursor, out, &mut outcome);
                self.note_datagram(octets.len(), &outcome);
            }
            Err(error) => {
                outcome.malformed = Some(error);
                self.counters.bad_headers += 1;
                self.tables.note_malformed(arrival.from);
            }
        }
        outcome
    }

    /// An interface's counters as an agent reported them. Poll after [`handle_datagram`](Self::handle_datagram) until `None`;
    /// beyond `max_counters` the oldest are dropped and counted.
    #[must_use]
    pub fn poll_counters(&mut self) -> Option<CounterReport> {
        self.reports.poll()
    }

    /// Where the sequences of sub-agents stand that sent something since `since`: store them now and then.
    pub fn sequences(&self, since: ReceivedAt) -> impl Iterator<Item = SequenceState> + '_ {
        self.tables.sequences(since)
    }

    /// Brings back a sequence of an earlier run. Call before the first datagram.
    pub fn restore(&mut self, state: &SequenceState) {
        self.tables.restore(state, ReceivedAt::from_nanos(0));
    }

    /// Who exports, in the order of [`ExporterId`].
    pub fn exporters(&self) -> impl Iterator<Item = ExporterView> + '_ {
        self.tables.views()
    }

    /// Sums over all exporters, those refused included.
    pub fn counters(&self) -> &DecoderCounters {
        &self.counters
    }

    fn handle_samples(
        &mut self,
        arrival: &Arrival,
        header: &Header,
        mut cursor: Cursor<'_>,
        out: &mut FlowBatch,
        outcome: &mut DatagramOutcome,
    ) {
        let at = arrival.at;
        let agent = match header.agent {
            Address::UNSPECIFIED => arrival.from,
            agent => agent,
        };
        let key = Key {
            source: arrival.from,
            agent,
        };
        let Some(number) = self.tables.find_or_add(key, at) else {
            outcome.malformed = Some(DatagramError::Refused);
            return;
        };
        outcome.exporter = Some(self.tables.id(number));
        let source = Source {
            number,
            sub_agent: header.sub_agent,
            received_at: at,
            length: arrival.length,
            verdict: self.handle_sequence(number, header, at, outcome),
        };
        let first = out.len();
        let mut present = ColumnSet::NONE;
        for read in 0..header.samples {
            let Some((format, content)) = next(&mut cursor) else {
                outcome.malformed = Some(DatagramError::Truncated {
                    stated: header.samples,
                    missing: header.samples - read,
                });
                break;
            };
            let row = self.handle_sample(&source, format, content, out, outcome);
            present = present.with(row);
        }
        self.describe(&source, header, agent, first, present, out);
        self.note_samples(&source, outcome);
    }

    /// Returns the optional fields of the row that the sample gave.
    #[inline]
    fn handle_sample(
        &mut self,
        source: &Source,
        format: u32,
        content: Cursor<'_>,
        out: &mut FlowBatch,
        outcome: &mut DatagramOutcome,
    ) -> ColumnSet {
        let mut content = content;
        match format {
            format::FLOW | format::EXPANDED_FLOW => {
                outcome.flow_samples += 1;
                let header = if format == format::FLOW {
                    FlowHeader::compact(&mut content)
                } else {
                    FlowHeader::expanded(&mut content)
                };
                match header {
                    Some(header) => {
                        return self.handle_flow(source, &header, content, out, outcome);
                    }
                    None => outcome.malformed_samples += 1,
                }
            }
            format::COUNTERS | format::EXPANDED_COUNTERS => {
                outcome.counter_samples += 1;
                let expanded = format == format::EXPANDED_COUNTERS;
                if self.handle_counters(source, content, expanded).is_none() {
                    outcome.malformed_samples += 1;
                }
            }
            format::DISCARDED_PACKET => {
                outcome.drop_samples += 1;
                match discarded_packet(&mut content) {
                    Some((data_source, drops)) => {
                        self.follow(source, data_source, true, drops, 0);
                    }
                    None => outcome.malformed_samples += 1,
                }
            }
            _ => outcome.skipped_samples += 1,
        }
        ColumnSet::NONE
    }

    #[inline]
    fn handle_flow(
        &mut self,
        source: &Source,
        header: &FlowHeader,
        mut content: Cursor<'_>,
        out: &mut FlowBatch,
        outcome: &mut DatagramOutcome,
    ) -> ColumnSet {
        self.follow(source, header.source, false, header.drops, header.pool);
        let mut frame = Frame::read(&mut content, header.records);
        self.counters.skipped_records += u64::from(frame.skipped);
        if frame.malformed {
            outcome.malformed_samples += 1;
            if !frame.is_seen() {
                return ColumnSet::NONE;
            }
        }
        let now = source.received_at.nanos();
        let row = &mut frame.row;
        row.packets = 1;
        row.flow_start = now;
        row.flow_end = now;
        row.sampling_rate = header.sampling_rate;
        row.input_interface = header.input.index;
        row.output_interface = header.output.index;
        row.direction = header.direction();
        row.forwarding_status = header.output.forwarding_status;
        outcome.records += 1;
        outcome.octets += row.octets;
        self.counters.unknown_rate_records += u64::from(row.sampling_rate == 0);
        if row.sampling_rate == 0
            && let Some(exporter) = self.tables.exporter(source.number)
        {
            exporter.figures.unknown_rate_records += 1;
        }
        out.push_with(&frame.row, &frame.extra);
        frame.present
    }

    fn handle_counters(
        &mut self,
        source: &Source,
        mut content: Cursor<'_>,
        expanded: bool,
    ) -> Option<()> {
        for _ in 0..counter_records(&mut content, expanded)? {
            let (format, record) = next(&mut content)?;
            if format == IF_COUNTERS {
                self.reports.push(CounterReport {
                    exporter: self.tables.id(source.number),
                    received_at: source.received_at,
                    counters: InterfaceCounters::read(record)?,
                });
            }
        }
        Some(())
    }

    /// Follows the totals that tell what the agent itself lost. Late datagrams have old totals.
    #[inline]
    fn follow(
        &mut self,
        source: &Source,
        data_source: DataSource,
        discarded: bool,
        drops: u32,
        pool: u32,
    ) {
        if matches!(source.verdict, Verdict::Late | Verdict::Duplicate) {
            return;
        }
        let key = SourceKey {
            exporter: source.number,
            sub_agent: source.sub_agent,
            source: data_source,
            discarded,
        };
        let restarted = source.verdict == Verdict::Reset;
        let growth = self.tables.observe(key, drops, pool, restarted);
        self.counters.refused_data_sources = self.tables.refused_sources;
        self.counters.agent_drops += u64::from(growth.drops);
        if let Some(exporter) = self.tables.exporter(source.number) {
            exporter.figures.agent_drops += u64::from(growth.drops);
            exporter.figures.sample_pool += u64::from(growth.pool);
        }
    }

    fn handle_sequence(
        &mut self,
        number: u32,
        header: &Header,
        at: ReceivedAt,
        outcome: &mut DatagramOutcome,
    ) -> Verdict {
        let most = self.limits.max_sub_agents_per_exporter;
        let Some(exporter) = self.tables.exporter(number) else {
            return Verdict::InOrder;
        };
        let Some(sub_agent) = exporter.sub_agent(header.sub_agent, at, most) else {
            return Verdict::InOrder;
        };
        let verdict = sub_agent.sequence.observe(header.sequence, header.uptime);
        // The sequence counts datagrams: how many flow samples these would have held, the others tell.
        let (seen, held) = (sub_agent.datagrams, sub_agent.records);
        let records =
            |datagrams: u64| datagrams.saturating_mul(held).saturating_add(seen / 2) / seen.max(1);
        let (figures, counters) = (&mut exporter.figures, &mut self.counters);
        match verdict {
            Verdict::InOrder => {}
            Verdict::Gap(datagrams) => {
                let missing = records(u64::from(datagrams));
                outcome.sequence_gap = true;
                outcome.missing_records = u32::try_from(missing).unwrap_or(u32::MAX);
                figures.sequence_gaps += 1;
                figures.missing_records += missing;
                counters.sequence_gaps += 1;
                counters.missing_records += missing;
            }
            Verdict::Late => {
                let restored = records(1);
                figures.missing_records = figures.missing_records.saturating_sub(restored);
                counters.missing_records = counters.missing_records.saturating_sub(restored);
                counters.reordered_datagrams += 1;
                figures.recovered_records += restored;
                figures.reordered_datagrams += 1;
            }
            Verdict::Duplicate => {
                outcome.duplicate = true;
                counters.duplicate_datagrams += 1;
                figures.duplicate_datagrams += 1;
            }
            Verdict::Reset => {
                counters.sequence_resets += 1;
                figures.sequence_resets += 1;
            }
        }
        verdict
    }

    fn describe(
        &self,
        source: &Source,
        header: &Header,
        agent: Address,
        first: usize,
        present: ColumnSet,
        out: &mut FlowBatch,
    ) {
        let (Ok(start), Ok(end)) = (u32::try_from(first), u32::try_from(out.len())) else {
            out.truncate(first);
            return;
        };
        if start == end {
            return;
        }
        let nanos = source.received_at.nanos();
        out.datagrams.push(DatagramInfo {
            rows: start..end,
            exporter: self.tables.id(source.number),
            exporter_address: agent,
            domain: ObservationDomainId(header.sub_agent),
            protocol: ExportProtocol::SflowV5,
            sequence: header.sequence,
            received_at: source.received_at,
            export_time: ExportTime::from_nanos(nanos),
            present: ColumnSet(present.0 & self.columns.0),
        });
    }

    fn note_samples(&mut self, source: &Source, outcome: &DatagramOutcome) {
        let most = self.limits.max_sub_agents_per_exporter;
        let Some(exporter) = self.tables.exporter(source.number) else {
            return;
        };
        exporter.last_seen = exporter.last_seen.max(source.received_at);
        if let Some(sub_agent) = exporter.sub_agent(source.sub_agent, source.received_at, most) {
            sub_agent.datagrams += 1;
            sub_agent.records += u64::from(outcome.records);
        }
        let figures = &mut exporter.figures;
        figures.datagrams += 1;
        figures.octets += source.length as u64;
        figures.records += u64::from(outcome.records);
        figures.counter_samples += u64::from(outcome.counter_samples);
        figures.drop_samples += u64::from(outcome.drop_samples);
        figures.undecodable += u64::from(outcome.malformed_samples);
        figures.malformed_datagrams += u64::from(outcome.malformed.is_some());
    }

    fn note_datagram(&mut self, length: usize, outcome: &DatagramOutcome) {
        let counters = &mut self.counters;
        if outcome.malformed == Some(DatagramError::Refused) {
            counters.refused_datagrams += 1;
            return;
        }
        counters.datagrams += 1;
        counters.octets += length as u64;
        counters.records += u64::from(outcome.records);
        counters.flow_samples += u64::from(outcome.flow_samples);
        counters.counter_samples += u64::from(outcome.counter_samples);
        counters.drop_samples += u64::from(outcome.drop_samples);
        counters.skipped_samples += u64::from(outcome.skipped_samples);
        counters.malformed_samples += u64::from(outcome.malformed_samples);
        counters.truncated_datagrams += u64::from(outcome.malformed.is_some());
        counters.dropped_counters = self.reports.dropped;
    }
}
