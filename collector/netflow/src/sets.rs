//! The Sets of a v9 or IPFIX message: templates, options, data; and the data that waited for a template.

use std::sync::Arc;

use weir_flow_record::{
    DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch, ObservationDomainId,
};

use crate::biflow::answered;
use crate::change::TemplateDefinition;
use crate::columns::{self, Appended, Records, Shared};
use crate::cursor::Cursor;
use crate::decoder::{Decoder, Source};
use crate::firewall::Scope;
use crate::held_back::Awaited;
use crate::names::Layout;
use crate::outcome::DatagramOutcome;
use crate::plan::RowPlan;
use crate::sampling::{OptionsPlan, Statement};
use crate::tables::{SessionKey, Tables, Transport};
use crate::template::{Plan, Template, TemplateRecord, TemplateRecords};
use crate::templates::Defined;
use crate::times::Clock;

const SET_HEADER: usize = 4;
/// Octets that the records of one Set may take in their fixed form.
const SCRATCH: usize = 1 << 20;
/// Rows released by one datagram; what waits beyond comes with the next.
const RELEASED_ROWS: u32 = 1 << 17;

/// What a data Set gave.
#[derive(Default)]
struct Read {
    flows: u32,
    options: u32,
    bad: bool,
}

impl Source {
    fn is_v9(&self) -> bool {
        self.header.protocol == ExportProtocol::NetflowV9
    }

    fn awaited(&self, template: u16) -> Awaited {
        Awaited {
            exporter: self.exporter,
            domain: self.header.domain,
            template,
            netflow_v9: self.is_v9(),
            session: match self.transport {
                Transport::Datagram => None,
                Transport::Reliable => Some((self.session, self.session_number)),
            },
        }
    }
}

impl Decoder {
    /// RFC 7011 §3.3, RFC 3954 §5.
    pub(crate) fn handle_sets(
        &mut self,
        source: &Source,
        body: &[u8],
        out: &mut FlowBatch,
        outcome: &mut DatagramOutcome,
    ) {
        let mut cursor = Cursor::new(body);
        while cursor.remaining() >= SET_HEADER {
            let rest = cursor.rest();
            let Some((id, set)) = next_set(&mut cursor) else {
                // Some exporters fill datagrams up with zeros.
                outcome.undecodable_sets += u32::from(rest.iter().any(|&octet| octet != 0));
                return;
            };
            match (id, source.is_v9()) {
                (0, true) | (2, false) => self.handle_templates(source, set, false, out, outcome),
                (1, true) | (3, false) => self.handle_templates(source, set, true, out, outcome),
                (256.., _) => self.handle_data(source, id, set, out, outcome),
                _ => outcome.undecodable_sets += 1,
            }
        }
    }

    fn handle_templates(
        &mut self,
        source: &Source,
        set: &[u8],
        options: bool,
        out: &mut FlowBatch,
        outcome: &mut DatagramOutcome,
    ) {
        let mut records = TemplateRecords::new(set, source.is_v9(), options);
        let mut fields = std::mem::take(&mut self.fields);
        while let Some(record) = records.next(&mut fields) {
            match record {
                Ok(TemplateRecord::Definition { id, scope_fields }) => {
                    if options {
                        outcome.options_templates += 1;
                    } else {
                        outcome.templates += 1;
                    }
                    let definition = Definition {
                        netflow_v9: source.is_v9(),
                        scope_fields,
                        fields: &fields,
                    };
                    self.define(source, id, &definition);
                    self.release(&source.awaited(id), out, outcome);
                }
                Ok(TemplateRecord::Withdrawal { id }) => {
                    outcome.withdrawals += 1;
                    self.handle_withdrawal(source, id, options);
                }
                Err(_) => {
                    outcome.undecodable_sets += 1;
                    break;
                }
            }
        }
        self.fields = fields;
    }

    fn define(&mut self, source: &Source, id: u16, definition: &Definition<'_>) {
        let (slot, at) = (source.session, source.received_at);
        if self
            .tables
            .same_template(slot, id, at, |known| definition.is(&known.definition))
        {
            return;
        }
        let fields = definition.fields.len();
        if fields == 0 || fields > self.limits.max_fields_per_template {
            // Whatever the id meant before, it does not any more.
            self.counters.refused_templates += 1;
            self.forget(source, id);
            return;
        }
        let template = Arc::new(Template::compile(definition.to_owned(), self.columns));
        match self.tables.define(slot, id, Arc::clone(&template), at) {
            Defined::Refused => {
                self.counters.refused_templates += 1;
                return;
            }
            Defined::Redefined => {
                self.counters.redefinitions += 1;
                if let Some(exporter) = self.tables.exporter(source.exporter) {
                    exporter.figures.redefinitions += 1;
                }
            }
            Defined::New => {}
        }
        if source.transport == Transport::Datagram {
            self.changes.template(source.key(), id, &template);
        }
    }

    /// RFC 7011 §8.1; over UDP, withdrawals must be ignored (§8.4).
    fn handle_withdrawal(&mut self, source: &Source, id: u16, options: bool) {
        if source.transport == Transport::Datagram {
            self.counters.ignored_withdrawals += 1;
            if let Some(exporter) = self.tables.exporter(source.exporter) {
                exporter.figures.ignored_withdrawals += 1;
            }
            return;
        }
        if id >= 256 {
            self.forget(source, id);
            return;
        }
        for id in self.tables.template_ids(source.session, options) {
            self.forget(source, id);
        }
    }

    fn forget(&mut self, source: &Source, id: u16) {
        if self.tables.withdraw(source.session, id) && source.transport == Transport::Datagram {
            self.changes.withdrawn(source.key(), id);
        }
    }

    fn handle_data(
        &mut self,
        source: &Source,
        id: u16,
        set: &[u8],
        out: &mut FlowBatch,
        outcome: &mut DatagramOutcome,
    ) {
        let at = source.received_at;
        let Some((template, fallback)) = self.tables.template(source.session, id, at) else {
            self.hold_back(source, id, set, outcome);
            return;
        };
        if fallback {
            self.counters.template_fallbacks += 1;
            if let Some(exporter) = self.tables.exporter(source.exporter) {
                exporter.figures.template_fallbacks += 1;
            }
        }
        let read = self.read(source, &template, set, out, outcome);
        outcome.records += read.flows;
        outcome.options_records += read.options;
        outcome.undecodable_sets += u32::from(read.bad);
    }

    fn hold_back(&mut self, source: &Source, id: u16, set: &[u8], outcome: &mut DatagramOutcome) {
        let awaited = source.awaited(id);
        let (header, at) = (source.header, source.received_at);
        if self.held_back.push(&self.limits, awaited, header, at, set) {
            outcome.held_back_sets += 1;
            return;
        }
        outcome.undecodable_sets += 1;
        self.counters.refused_sets += 1;
        self.counters.refused_octets += set.len() as u64;
        if let Some(exporter) = self.tables.exporter(source.exporter) {
            exporter.figures.held_back_dropped += 1;
        }
    }

    /// Decodes what waited for a template that came now.
    fn release(&mut self, awaited: &Awaited, out: &mut FlowBatch, outcome: &mut DatagramOutcome) {
        while self.held_back.is_awaited(awaited) {
            if outcome.released_records >= RELEASED_ROWS {
                if !self.ready.contains(awaited) {
                    self.ready.push_back(*awaited);
                }
                return;
            }
            if self.release_one(awaited, out, outcome).is_none() {
                return;
            }
        }
    }

    pub(crate) fn release_ready(&mut self, out: &mut FlowBatch, outcome: &mut DatagramOutcome) {
        while outcome.released_records < RELEASED_ROWS
            && let Some(awaited) = self.ready.pop_front()
        {
            self.release(&awaited, out, outcome);
        }
    }

    /// `None` if the template was refused, or is gone again: then the Sets wait on.
    fn release_one(
        &mut self,
        awaited: &Awaited,
        out: &mut FlowBatch,
        outcome: &mut DatagramOutcome,
    ) -> Option<()> {
        let template = Arc::clone(self.tables.awaited_template(awaited)?);
        let address = self.tables.exporter(awaited.exporter)?.address;
        let held = self.held_back.take(awaited)?;
        let source = Source {
            exporter: awaited.exporter,
            address,
            port: 0,
            session: u32::MAX,
            session_number: 0,
            transport: match awaited.session {
                None => Transport::Datagram,
                Some(_) => Transport::Reliable,
            },
            header: held.header,
            received_at: held.received_at,
        };
        let read = self.read(&source, &template, &held.octets, out, outcome);
        outcome.released_records += read.flows;
        outcome.released_options_records += read.options;
        // Not this datagram's fault, nor its sequence's.
        outcome.released_undecodable_sets += u32::from(read.bad);
        self.counters.undecodable_sets += u64::from(read.bad);
        self.counters.released_sets += 1;
        self.counters.options_records += u64::from(read.options);
        let figures = &mut self.tables.exporter(awaited.exporter)?.figures;
        figures.options_records += u64::from(read.options);
        figures.released_sets += 1;
        figures.released_records += u64::from(read.flows);
        figures.undecodable_sets += u64::from(read.bad);
        figures.held_back = figures.held_back.saturating_sub(1);
        Some(())
    }

    fn read(
        &mut self,
        source: &Source,
        template: &Template,
        set: &[u8],
        out: &mut FlowBatch,
        outcome: &mut DatagramOutcome,
    ) -> Read {
        match &template.plan {
            Plan::Flows(plan) => {
                let (appended, bad) = self.read_flows(source, plan, set, out);
                self.note_appended(source, &appended, outcome);
                Read {
                    flows: appended.records,
                    options: 0,
                    bad,
                }
            }
            Plan::Options(plan) => {
                let (options, whole) = self.read_options(source, template, plan, set);
                Read {
                    flows: 0,
                    options,
                    bad: !whole,
                }
            }
        }
    }

    fn read_flows(
        &mut self,
        source: &Source,
        plan: &RowPlan,
        set: &[u8],
        out: &mut FlowBatch,
    ) -> (Appended, bool) {
        let (records, bad) = match &plan.normalizer {
            None => {
                let records = Records::new(set, plan.stride);
                let nothing = records.count() == 0 && set.iter().any(|&octet| octet != 0);
                (records, nothing)
            }
            Some(normalizer) => {
                self.scratch.clear();
                let whole = normalizer.normalize(set, &mut self.scratch, SCRATCH);
                (Records::new(&self.scratch, plan.stride), !whole)
            }
        };
        let rows = match &plan.firewall {
            None => records,
            Some(firewall) => {
                let scope = Scope {
                    exporter: source.exporter,
                    domain: source.header.domain,
                    received_at: source.received_at,
                };
                let room = &mut self.weighed;
                let connections = &mut self.connections;
                connections.weigh(firewall, records, plan.stride, scope, room)
            }
        };
        let mut appended = self.tables.append(plan, rows, source, out);
        if plan.firewall.is_some() {
            appended.count_as_exported(plan, records);
        }
        if let Some(reverse) = &plan.reverse {
            let rows = answered(rows, reverse, &mut self.answered);
            appended.add_rows(&self.tables.append(reverse, rows, source, out));
        }
        (appended, bad)
    }

    /// Adds up what rows gave, whoever counts them as records.
    pub(crate) fn note_appended(
        &mut self,
        source: &Source,
        appended: &Appended,
        outcome: &mut DatagramOutcome,
    ) {
        outcome.delta_octets = outcome.delta_octets.saturating_add(appended.delta_octets);
        outcome.delta_packets = outcome.delta_packets.saturating_add(appended.delta_packets);
        outcome.rows += appended.rows;
        self.counters.records += u64::from(appended.records);
        self.counters.rows += u64::from(appended.rows);
        self.counters.unknown_rate_records += appended.unknown_rate;
        self.counters.ambiguous_rate_records += appended.ambiguous_rate;
        if let Some(exporter) = self.tables.exporter(source.exporter) {
            exporter.figures.records += u64::from(appended.records);
            exporter.figures.unknown_rate_records += appended.unknown_rate;
        }
    }

    fn read_options(
        &mut self,
        source: &Source,
        template: &Template,
        plan: &OptionsPlan,
        set: &[u8],
    ) -> (u32, bool) {
        let definition = &template.definition;
        let layout = Layout {
            fields: &definition.fields,
            scope_fields: usize::from(definition.scope_fields.unwrap_or(0)),
            netflow_v9: definition.netflow_v9,
        };
        let whose = (source.address.ip(), source.header.domain);
        self.names.read(&layout, whose, set);
        plan.read(&definition.fields, set, |statement| {
            self.handle_statement(source, &statement);
        })
    }

    fn handle_statement(&mut self, source: &Source, statement: &Statement) {
        let domain = source.header.domain;
        let Statement {
            sampler,
            rate,
            system_init,
        } = *statement;
        if rate > 0 {
            let (address, at) = (source.address, source.received_at);
            match self.tables.set_rate(address, domain, sampler, rate, at) {
                Some(true) => self
                    .changes
                    .sampling_rate(source.address, domain, sampler, rate),
                Some(false) => {}
                None => self.counters.refused_samplers += 1,
            }
        }
        if let Some(init) = system_init
            && (self.tables).set_system_init(source.address, domain, init, source.received_at)
        {
            self.changes.system_init(source.address, domain, init);
        }
    }
}

impl Source {
    fn key(&self) -> SessionKey {
        SessionKey {
            address: self.address,
            port: self.port,
            domain: self.header.domain,
            protocol: self.header.protocol,
            transport: self.transport,
        }
    }
}

impl Tables {
    /// Appends records by a plan, with the sampling rates and clocks of their domain, and tells the batch whose they are.
    pub(crate) fn append(
        &self,
        plan: &RowPlan,
        records: Records<'_>,
        source: &Source,
        out: &mut FlowBatch,
    ) -> Appended {
        if records.count() == 0 {
            return Appended::default();
        }
        let header = &source.header;
        let (samplers, system_init) = self.domain(source.exporter, header.domain);
        let shared = Shared {
            clock: Clock {
                export_time: header.export_time,
                uptime: header
                    .uptime
                    .or_else(|| system_init.map(|init| uptime_since(init, header.export_time))),
            },
            samplers,
            header_rate: header.sampling_rate,
        };
        let start = out.len();
        let appended = columns::append(plan, records, &shared, out);
        note_rows(plan, source, start, out);
        appended
    }
}

/// sysUpTime of an exporter that said when it started (IE 160), modulo 2³².
fn uptime_since(init: u64, export_time: i64) -> u32 {
    (export_time.div_euclid(1_000_000) as u64).wrapping_sub(init) as u32
}

/// Describes the rows from `start` on, in one entry with those of the same datagram before them where both are alike.
fn note_rows(plan: &RowPlan, source: &Source, start: usize, out: &mut FlowBatch) {
    let number = |rows: usize| u32::try_from(rows).unwrap_or(u32::MAX);
    let (start, end) = (number(start), number(out.len()));
    let header = &source.header;
    let info = DatagramInfo {
        rows: start..end,
        exporter: ExporterId(source.exporter),
        exporter_address: source.address,
        domain: ObservationDomainId(header.domain),
        protocol: header.protocol,
        sequence: header.sequence,
        received_at: source.received_at,
        export_time: ExportTime::from_nanos(header.export_time),
        present: plan.present,
    };
    if let Some(last) = out.datagrams.last_mut()
        && last.rows.end == start
        && (last.sequence, last.received_at) == (info.sequence, info.received_at)
        && (last.exporter, last.domain) == (info.exporter, info.domain)
        && (last.protocol, last.present) == (info.protocol, info.present)
        && last.export_time == info.export_time
    {
        last.rows.end = end;
        return;
    }
    out.datagrams.push(info);
}

/// The id and content of the next Set; `None` if it is cut or shorter than its own header.
fn next_set<'a>(cursor: &mut Cursor<'a>) -> Option<(u16, &'a [u8])> {
    let id = cursor.u16()?;
    let length = usize::from(cursor.u16()?).checked_sub(SET_HEADER)?;
    Some((id, cursor.take(length)?))
}

/// A template as it stands in the message.
struct Definition<'a> {
    netflow_v9: bool,
    scope_fields: Option<u16>,
    fields: &'a [crate::change::FieldSpecifier],
}

impl Definition<'_> {
    fn is(&self, known: &TemplateDefinition) -> bool {
        known.netflow_v9 == self.netflow_v9
            && known.scope_fields == self.scope_fields
            && known.fields == self.fields
    }

    fn to_owned(&self) -> TemplateDefinition {
        TemplateDefinition {
            netflow_v9: self.netflow_v9,
            scope_fields: self.scope_fields,
            fields: self.fields.to_vec(),
        }
    }
}
