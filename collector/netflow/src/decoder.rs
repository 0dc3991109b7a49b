use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use weir_flow_record::{
    Address, ColumnSet, ExportProtocol, ExporterId, ExporterView, FlowBatch, ReceivedAt,
};

use crate::change::{Changes, FieldSpecifier, StateChange, TemplateDefinition};
use crate::columns::Records;
use crate::firewall::Connections;
use crate::held_back::{Awaited, HeldBack};
use crate::legacy::LegacyPlans;
use crate::limits::{CheckedLimits, Limits};
use crate::message::{Header, Message};
use crate::names::{NameStatement, Names};
use crate::outcome::{DatagramError, DatagramOutcome, DecoderCounters};
use crate::sequence::{Counts, Position, Tally, Verdict};
use crate::tables::{Evicted, SessionKey, Tables, Transport};
use crate::template::Template;
use crate::templates::Defined;
use crate::view::view;

/// The time of what an earlier run knew.
const NEVER: ReceivedAt = ReceivedAt::from_nanos(0);

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
    tally: Tally,
    /// Records of variable length in their fixed form.
    pub(crate) scratch: Vec<u8>,
    /// A firewall's events that are rows.
    pub(crate) weighed: Vec<u8>,
    /// Records of both directions that count something in the other.
    pub(crate) answered: Vec<u8>,
    pub(crate) connections: Connections,
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
    pub(crate) session_number: u64,
    pub(crate) transport: Transport,
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
            tally: Tally::default(),
            scratch: Vec::new(),
            weighed: Vec::new(),
            answered: Vec::new(),
            connections: Connections::new(limits.max_connections),
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
        self.handle(at, (from, Transport::Datagram), octets, out)
    }

    /// Decodes one whole IPFIX message of a reliable transport session (TCP, TLS or SCTP; RFC 7011 §10.2 and §10.4), which
    /// `from`, the peer's address and port, names; [`message_length`](crate::message_length) finds where messages end.
    /// Otherwise like [`handle_datagram`](Self::handle_datagram), save that templates belong to the session alone: they can
    /// be withdrawn, and no other session may use them. They are gone with it and not among the changes.
    ///
    /// An outcome that is `malformed` ends the session (§10.4.3).
    pub fn handle_message(
        &mut self,
        at: ReceivedAt,
        from: SocketAddr,
        octets: &[u8],
        out: &mut FlowBatch,
    ) -> DatagramOutcome {
        self.handle(at, (from, Transport::Reliable), octets, out)
    }

    /// Forgets the templates of a reliable transport session, what waited for them, and its sequence numbers.
    pub fn handle_session_closed(&mut self, from: SocketAddr) {
        for session in self.tables.close(from) {
            let dropped = self.held_back.drop_session(session);
            self.counters.expired_sets += dropped;
            if let Some(exporter) = self.tables.exporter_by_address(Address::from(from.ip())) {
                exporter.figures.expired_sets += dropped;
                exporter.figures.held_back_dropped += dropped;
                exporter.figures.held_back = exporter.figures.held_back.saturating_sub(dropped);
            }
        }
        self.note_evicted();
    }

    /// Drops what has waited too long for its template. Call about once a second.
    pub fn handle_timeout(&mut self, now: ReceivedAt) {
        while let Some(held) = self.held_back.expire(&self.limits, now) {
            self.counters.expired_sets += 1;
            self.counters.expired_octets += held.octets.len() as u64;
            if let Some(exporter) = self.tables.exporter(held.awaited.exporter) {
                exporter.figures.expired_sets += 1;
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
                let key = SessionKey::new(from, domain, protocol(netflow_v9), Transport::Datagram);
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
                    .set_rate(Address::from(exporter), domain, sampler, rate, NEVER);
            }
            StateChange::SamplingRate { .. } => {}
            StateChange::SystemInit {
                exporter,
                domain,
                milliseconds,
            } => {
                let address = Address::from(exporter);
                self.tables
                    .set_system_init(address, domain, milliseconds, NEVER);
            }
            StateChange::Sequence {
                exporter,
                port,
                domain,
                sequence,
            } => {
                let from = SocketAddr::new(exporter, port);
                self.tables.restore_sequence(from, domain, &sequence, NEVER);
            }
        }
    }

    /// Where the sequences of exporters stand that sent something since `since`: store them now and then, and after a restart
    /// what was lost meanwhile is told. What came after the last storing counts as lost then, too.
    pub fn sequences(&self, since: ReceivedAt) -> impl Iterator<Item = StateChange> + '_ {
        self.tables.sequences(since)
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
        let version = protocol(definition.netflow_v9);
        let key = SessionKey::new(from, domain, version, Transport::Datagram);
        if let Some(slot) = self.tables.find_or_add(key, NEVER, &mut None) {
            let template = Arc::new(Template::compile(definition, self.columns));
            if self.tables.define(slot, id, template, NEVER) == Defined::Refused {
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

    fn handle(
        &mut self,
        at: ReceivedAt,
        from: (SocketAddr, Transport),
        octets: &[u8],
        out: &mut FlowBatch,
    ) -> DatagramOutcome {
        let mut outcome = DatagramOutcome::default();
        if !self.ready.is_empty() {
            self.release_ready(out, &mut outcome);
        }
        match Message::parse(octets) {
            Ok(message) => self.handle_parsed(at, from, octets.len(), &message, out, &mut outcome),
            Err(error) => self.refuse_datagram(from.0, octets, error, &mut outcome),
        }
        outcome
    }

    fn handle_parsed(
        &mut self,
        at: ReceivedAt,
        (from, transport): (SocketAddr, Transport),
        length: usize,
        message: &Message<'_>,
        out: &mut FlowBatch,
        outcome: &mut DatagramOutcome,
    ) {
        let header = message.header;
        outcome.protocol = Some(header.protocol);
        let key = SessionKey::new(from, header.domain, header.protocol, transport);
        let Some((session, session_number, exporter)) = self.session(key, at) else {
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
            session_number,
            transport,
            header,
            received_at: at,
        };
        match self.legacy.plan(header.protocol) {
            Some(plan) => {
                let records = Records::new(message.body, plan.stride);
                let appended = self.tables.append(&plan, records, &source, out);
                outcome.records = appended.records;
                self.note_appended(&source, &appended, outcome);
            }
            None => self.handle_sets(&source, message.body, out, outcome),
        }
        self.note_evicted();
        self.handle_sequence(&source, outcome);
        self.note_datagram(&source, length, outcome);
    }

    fn session(&mut self, key: SessionKey, at: ReceivedAt) -> Option<(u32, u64, u32)> {
        let mut replaced = None;
        let slot = self.tables.find_or_add(key, at, &mut replaced);
        if let Some(exporter) = replaced {
            self.counters.expired_sets += self.held_back.drop_exporter(exporter);
        }
        self.note_evicted();
        let slot = slot?;
        let session = self.tables.session(slot)?;
        let (number, exporter) = (session.number, session.exporter);
        self.tables.exporter(exporter)?.gather_rates();
        Some((slot, number, exporter))
    }

    /// Tells whoever stores it what gave way.
    fn note_evicted(&mut self) {
        while let Some(evicted) = self.tables.poll_evicted() {
            self.counters.evicted += 1;
            match evicted {
                Evicted::Template(key, id) => self.changes.withdrawn(key, id),
                Evicted::Rate(address, domain, sampler) => {
                    self.changes.sampling_rate(address, domain, sampler, 0);
                }
            }
        }
    }

    fn handle_sequence(&mut self, source: &Source, outcome: &mut DatagramOutcome) {
        let Some(session) = self.tables.session(source.session) else {
            return;
        };
        let header = &source.header;
        let records = outcome.records + outcome.options_records;
        let whole = outcome.held_back_sets == 0
            && outcome.undecodable_sets == 0
            && outcome.malformed.is_none();
        let counted = match header.protocol {
            ExportProtocol::NetflowV5 | ExportProtocol::NetflowV7 => Some(u32::from(header.count)),
            ExportProtocol::NetflowV9 | ExportProtocol::Ipfix => whole.then_some(records),
            _ => return,
        };
        session.datagrams += 1;
        session.records += u64::from(records);
        let first_flows = outcome.records > 0 && !std::mem::replace(&mut session.flows, true);
        let verdict = session.sequence.observe(&Position {
            sequence: header.sequence,
            records: counted,
            options: outcome.options_records,
            uptime: header.uptime,
            export_time: header.export_time,
            templates: outcome.templates + outcome.options_templates > 0,
        });
        let each = match session.sequence.counts() {
            Counts::Records | Counts::FlowRecords => 1,
            Counts::Datagrams => session.records.div_ceil(session.datagrams),
        };
        if first_flows {
            self.tables.note_flows(source.exporter, header.domain);
        }
        self.note_verdict(source.exporter, verdict, each, outcome);
    }

    fn note_verdict(
        &mut self,
        exporter: u32,
        verdict: Verdict,
        each: u64,
        outcome: &mut DatagramOutcome,
    ) {
        if verdict == Verdict::InOrder {
            return;
        }
        if let Verdict::Gap(units) = verdict {
            let missing = u64::from(units).saturating_mul(each);
            outcome.missing_records = u32::try_from(missing).unwrap_or(u32::MAX);
        }
        outcome.sequence_gap = matches!(verdict, Verdict::Gap(_));
        outcome.reordered = matches!(verdict, Verdict::Late(_));
        outcome.duplicate = verdict == Verdict::Duplicate;
        outcome.restarted = verdict == Verdict::Reset;
        if let Some(exporter) = self.tables.exporter(exporter) {
            exporter.tally.add(verdict, each);
        }
        self.tally.add(verdict, each);
        let counters = &mut self.counters;
        counters.sequence_gaps = self.tally.gaps;
        counters.missing_records = self.tally.missing_records;
        counters.recovered_records = self.tally.recovered_records;
        counters.reordered_datagrams = self.tally.reordered;
        counters.duplicate_datagrams = self.tally.duplicates;
        counters.sequence_resets = self.tally.resets;
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
        counters.refused_connections = self.connections.refused;
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
        figures.held_back_sets += u64::from(outcome.held_back_sets);
        figures.malformed_datagrams += u64::from(outcome.malformed.is_some());
        let export_time = source.header.export_time;
        (exporter.skew).observe(source.received_at.nanos(), export_time);
    }
}

fn protocol(netflow_v9: bool) -> ExportProtocol {
    if netflow_v9 {
        ExportProtocol::NetflowV9
    } else {
        ExportProtocol::Ipfix
    }
}
