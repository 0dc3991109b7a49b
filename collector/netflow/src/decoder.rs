use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use weir_flow_record::{
    Address, ColumnSet, ExportProtocol, ExporterId, ExporterView, FlowBatch, ReceivedAt,
};

use crate::change::{Changes, FieldSpecifier, StateChange, TemplateDefinition};
use crate::columns::Records;
use crate::held_back::{Awaited, HeldBack};
use crate::legacy::LegacyPlans;
use crate::limits::{CheckedLimits, Limits};
use crate::message::{Header, Message};
use crate::names::{NameStatement, Names};
use crate::outcome::{DatagramError, DatagramOutcome, DecoderCounters};
use crate::sequence::{Counts, Verdict};
use crate::tables::{Defined, SessionKey, Tables};
use crate::template::Template;
use crate::view::view;

/// Decodes the export datagrams of any number of exporters; see the [crate](crate).
pub struct Decoder {
    pub(crate) limits: Limits,
    pub(crate) columns: ColumnSet,
    pub(crate) tables: Tables,
    pub(crate) held_back: HeldBack,
    /// Templates that came while Sets waited for them, where more waited than one datagram may release.
    pub(crate) ready: VecDeque<Awaited>,
    pub(crate) changes: Changes,
    pub(crate) names: Names,
    pub(crate) counters: DecoderCounters,
    /// Records of variable length in their fixed form.
    pub(crate) scratch: Vec<u8>,
    /// The fields of the template that is being read.
    pub(crate) fields: Vec<FieldSpecifier>,
    legacy: LegacyPlans,
}

/// Whose Set is decoded, and by which clocks.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) exporter: u32,
    pub(crate) address: Address,
    pub(crate) port: u16,
    /// The session that defines templates.
    pub(crate) session: u32,
    pub(crate) header: Header,
    pub(crate) received_at: ReceivedAt,
}

impl Decoder {
    /// A decoder that knows no exporter. Of the optional columns it can fill those of `columns`; which of them it fills is
    /// each batch's choice ([`FlowBatch::projection`]), others get zeros.
    pub fn new(limits: CheckedLimits, columns: ColumnSet) -> Self {
        let limits = *limits.get();
        Self {
            limits,
            columns,
            tables: Tables::new(limits),
            held_back: HeldBack::new(),
            ready: VecDeque::new(),
            changes: Changes::default(),
            names: Names::default(),
            counters: DecoderCounters::default(),
            scratch: Vec::new(),
            fields: Vec::new(),
            legacy: LegacyPlans::new(columns),
        }
    }

    /// Decodes one datagram's UDP payload and appends its flow records to `out`, each run of rows described by an entry of
    /// its own in [`FlowBatch::datagrams`]. Sets that waited for a template that came now follow with the times at which
    /// they came. A bad Set is skipped and counted, the rest of the datagram is used.
    ///
    /// Nothing is allocated once exporters, templates and the batch's memory are there. Poll for changes afterwards.
    pub fn handle_datagram(
        &mut self,
        at: ReceivedAt,
        from: SocketAddr,
        octets: &[u8],
        out: &mut FlowBatch,
    ) -> DatagramOutcome {
        let mut outcome = DatagramOutcome::default();
        if !self.ready.is_empty() {
            self.release_ready(out, &mut outcome);
        }
        match Message::parse(octets) {
            Ok(message) => self.handle_message(at, from, octets.len(), &message, out, &mut outcome),
            Err(error) => self.refuse_datagram(from, octets, error, &mut outcome),
        }
        outcome
    }

    /// Drops what has waited too long for its template. Call about once a second.
    pub fn handle_timeout(&mut self, now: ReceivedAt) {
        while let Some(held) = self.held_back.expire(&self.limits, now) {
            self.counters.expired_sets += 1;
            self.counters.expired_octets += held.octets.len() as u64;
            if let Some(exporter) = self.tables.exporter(held.awaited.exporter) {
                exporter.figures.held_back_dropped += 1;
                exporter.figures.held_back = exporter.figures.held_back.saturating_sub(1);
            }
        }
    }

    /// What must survive a restart. Poll after [`handle_datagram`](Self::handle_datagram) until `None`; beyond 65,536
    /// unpolled changes new ones are dropped and counted.
    #[must_use]
    pub fn poll_change(&mut self) -> Option<StateChange> {
        self.changes.poll()
    }

    /// What exporters call their interfaces, domains and applications. Poll after
    /// [`handle_datagram`](Self::handle_datagram) until `None`; beyond 4,096 unpolled names new ones are dropped and counted.
    #[must_use]
    pub fn poll_name(&mut self) -> Option<NameStatement> {
        self.names.poll()
    }

    /// Brings back a change of an earlier run. Call before the first datagram; the limits hold here too.
    pub fn restore(&mut self, change: StateChange) {
        match change {
            StateChange::Template {
                exporter,
                port,
                domain,
                id,
                template,
            } => self.restore_template(SocketAddr::new(exporter, port), domain, id, template),
            StateChange::Withdrawn {
                exporter,
                port,
                domain,
                id,
                netflow_v9,
            } => {
                let from = SocketAddr::new(exporter, port);
                let key = SessionKey::new(from, domain, protocol(netflow_v9));
                if let Some(slot) = self.tables.find(&key) {
                    self.tables.withdraw(slot, id);
                }
            }
            StateChange::SamplingRate {
                exporter,
                domain,
                sampler,
                rate,
            } if rate > 0 => {
                self.tables
                    .set_rate(Address::from(exporter), domain, sampler, rate);
            }
            StateChange::SamplingRate { .. } => {}
            StateChange::SystemInit {
                exporter,
                domain,
                milliseconds,
            } => {
                self.tables
                    .set_system_init(Address::from(exporter), domain, milliseconds);
            }
        }
    }

    /// Who exports, in the order of [`ExporterId`].
    pub fn exporters(&self) -> impl Iterator<Item = ExporterView> + '_ {
        let exporters = self.tables.exporters().iter().enumerate();
        exporters.map(|(index, exporter)| view(index, exporter))
    }

    /// Sums over all exporters, those refused included.
    pub fn counters(&self) -> &DecoderCounters {
        &self.counters
    }

    fn restore_template(
        &mut self,
        from: SocketAddr,
        domain: u32,
        id: u16,
        definition: TemplateDefinition,
    ) {
        let fields = definition.fields.len();
        if id < 256 || fields == 0 || fields > self.limits.max_fields_per_template {
            return;
        }
        let key = SessionKey::new(from, domain, protocol(definition.netflow_v9));
        let never = ReceivedAt::from_nanos(0);
        if let Some(slot) = self.tables.find_or_add(key, never, &mut None) {
            let template = Arc::new(Template::compile(definition, self.columns));
            if self.tables.define(slot, id, template) == Defined::Refused {
                self.counters.refused_templates += 1;
            }
        }
    }

    fn refuse_datagram(
        &mut self,
        from: SocketAddr,
        octets: &[u8],
        error: DatagramError,
        outcome: &mut DatagramOutcome,
    ) {
        outcome.malformed = Some(error);
        if let DatagramError::Version { .. } = error {
            self.counters.unknown_versions += 1;
            return;
        }
        self.counters.malformed_datagrams += 1;
        outcome.protocol = match octets {
            [0, 1, ..] => Some(ExportProtocol::NetflowV1),
            [0, 5, ..] => Some(ExportProtocol::NetflowV5),
            [0, 7, ..] => Some(ExportProtocol::NetflowV7),
            [0, 9, ..] => Some(ExportProtocol::NetflowV9),
            [0, 10, ..] => Some(ExportProtocol::Ipfix),
            _ => None,
        };
        if let Some(exporter) = self.tables.exporter_by_address(Address::from(from.ip())) {
            exporter.figures.malformed_datagrams += 1;
        }
    }

    fn handle_message(
        &mut self,
        at: ReceivedAt,
        from: SocketAddr,
        length: usize,
        message: &Message<'_>,
        out: &mut FlowBatch,
        outcome: &mut DatagramOutcome,
    ) {
        let header = message.header;
        outcome.protocol = Some(header.protocol);
        let key = SessionKey::new(from, header.domain, header.protocol);
        let Some((session, exporter)) = self.session(key, at) else {
            self.counters.refused_datagrams += 1;
            outcome.malformed = Some(DatagramError::Refused);
            return;
        };
        outcome.exporter = Some(ExporterId(exporter));
        outcome.malformed = message.cut;
        let source = Source {
            exporter,
            address: key.address,
            port: key.port,
            session,
            header,
            received_at: at,
        };
        match self.legacy.plan(header.protocol) {
            Some(plan) => {
                let records = Records::new(message.body, plan.stride);
                let appended = self.tables.append(&plan, records, &source, out);
                outcome.records = appended.rows;
                self.note_appended(&source, &appended, outcome);
            }
            None => self.handle_sets(&source, message.body, out, outcome),
        }
        self.handle_sequence(&source, outcome);
        self.note_datagram(&source, length, outcome);
    }

    fn session(&mut self, key: SessionKey, at: ReceivedAt) -> Option<(u32, u32)> {
        let mut replaced = None;
        let slot = self.tables.find_or_add(key, at, &mut replaced);
        if let Some(exporter) = replaced {
            self.counters.expired_sets += self.held_back.drop_exporter(exporter);
        }
        while let Some((key, id)) = self.tables.poll_evicted() {
            self.changes.withdrawn(key, id);
        }
        let slot = slot?;
        let exporter = self.tables.session(slot)?.exporter;
        Some((slot, exporter))
    }

    fn handle_sequence(&mut self, source: &Source, outcome: &mut DatagramOutcome) {
        let Some(session) = self.tables.session(source.session) else {
            return;
        };
        let records = outcome.records + outcome.options_records;
        let whole = outcome.held_back_sets == 0
            && outcome.undecodable_sets == 0
            && outcome.malformed.is_none();
        let (counts, units) = match source.header.protocol {
            ExportProtocol::NetflowV5 | ExportProtocol::NetflowV7 => {
                (Counts::Records, Some(u32::from(source.header.count)))
            }
            ExportProtocol::NetflowV9 => (Counts::Datagrams, Some(1)),
            ExportProtocol::Ipfix => (Counts::Records, whole.then_some(records)),
            _ => return,
        };
        session.datagrams += 1;
        session.records += u64::from(records);
        let each = match counts {
            Counts::Records => 1,
            Counts::Datagrams => session.records.div_ceil(session.datagrams),
        };
        let verdict = session.sequence.observe(
            counts,
            source.header.sequence,
            units,
            if whole { records } else { 0 },
            source.header.uptime,
        );
        self.note_verdict(source.exporter, verdict, each, outcome);
    }

    fn note_verdict(
        &mut self,
        exporter: u32,
        verdict: Verdict,
        each: u64,
        outcome: &mut DatagramOutcome,
    ) {
        let Some(exporter) = self.tables.exporter(exporter) else {
            return;
        };
        let (figures, counters) = (&mut exporter.figures, &mut self.counters);
        match verdict {
            Verdict::InOrder => {}
            Verdict::Gap(units) => {
                let missing = u64::from(units).saturating_mul(each);
                outcome.sequence_gap = true;
                outcome.missing_records = u32::try_from(missing).unwrap_or(u32::MAX);
                figures.sequence_gaps += 1;
                figures.missing_records += missing;
                counters.sequence_gaps += 1;
                counters.missing_records += missing;
            }
            Verdict::Late(restored) => {
                let restored = u64::from(restored).saturating_mul(each);
                figures.missing_records = figures.missing_records.saturating_sub(restored);
                counters.missing_records = counters.missing_records.saturating_sub(restored);
                counters.reordered_datagrams += 1;
            }
            Verdict::Reset => counters.sequence_resets += 1,
        }
    }

    fn note_datagram(&mut self, source: &Source, length: usize, outcome: &DatagramOutcome) {
        let counters = &mut self.counters;
        counters.datagrams += 1;
        counters.octets += length as u64;
        counters.options_records += u64::from(outcome.options_records);
        counters.templates += u64::from(outcome.templates);
        counters.options_templates += u64::from(outcome.options_templates);
        counters.withdrawals += u64::from(outcome.withdrawals);
        counters.undecodable_sets += u64::from(outcome.undecodable_sets);
        counters.held_back_sets += u64::from(outcome.held_back_sets);
        counters.malformed_datagrams += u64::from(outcome.malformed.is_some());
        counters.dropped_changes = self.changes.dropped;
        counters.dropped_names = self.names.dropped;
        let Some(exporter) = self.tables.exporter(source.exporter) else {
            return;
        };
        exporter.last_seen = exporter.last_seen.max(source.received_at);
        let figures = &mut exporter.figures;
        figures.datagrams += 1;
        figures.octets += length as u64;
        figures.options_records += u64::from(outcome.options_records);
        figures.undecodable_sets += u64::from(outcome.undecodable_sets);
        figures.held_back += u64::from(outcome.held_back_sets);
        figures.malformed_datagrams += u64::from(outcome.malformed.is_some());
        figures.skew_nanos = source
            .received_at
            .nanos()
            .saturating_sub(source.header.export_time);
    }
}

fn protocol(netflow_v9: bool) -> ExportProtocol {
    if netflow_v9 {
        ExportProtocol::NetflowV9
    } else {
        ExportProtocol::Ipfix
    }
}
