use std::collections::VecDeque;
use std::net::SocketAddr;

use weir_flow_aggregate::{
    AggregateCounters, AggregateSettings, Aggregator, ExporterCoverage, WatchList, WindowSummary,
};
use weir_flow_record::{
    Address, DatagramInfo, ExporterId, ExporterView, FlowBatch, ReceivedAt, ZoneId,
};
use weir_netflow::NameStatement;

use crate::allow::AllowList;
use crate::config::CollectorSettings;
use crate::coverage::Coverage;
use crate::decoders::{DecoderState, Decoders, Outcome};
use crate::exporter::{Count, ExporterRule};
use crate::interfaces::Interfaces;
use crate::sampled::{Sampled, SampledTotals};

/// Rows after which a batch goes to aggregation without waiting for a tick: small enough to stay in the cache.
const ROWS: usize = 1024;
/// Time between two looks at the exporters' losses, in ns.
const COVERAGE: i64 = 1_000_000_000;
/// Emptied batches that are kept for reuse.
const SPARE_BATCHES: usize = 64;

/// One set of decoders and one aggregator: datagrams in, summaries and batches out. No I/O and no clock.
pub struct Shard {
    allow: AllowList,
    collector: CollectorSettings,
    decoders: Decoders,
    interfaces: Interfaces,
    sampled: Sampled,
    aggregator: Aggregator,
    batch: FlowBatch,
    spare: Vec<FlowBatch>,
    full: VecDeque<FlowBatch>,
    unpolled_rows: u64,
    /// Rule of each exporter, by its dense number.
    rules: Vec<Option<Option<usize>>>,
    coverage: Vec<ExporterCoverage>,
    /// Losses are looked at once a second, not at every tick.
    covered_until: i64,
    refused_datagrams: u64,
}

/// What a shard is built of.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// Sockets, bounds, exporter rules.
    pub collector: CollectorSettings,
    /// Zones and tables.
    pub aggregate: AggregateSettings,
}

impl Shard {
    /// A shard that knows no exporter yet.
    pub fn new(settings: ShardSettings) -> Self {
        let columns = settings.collector.columns;
        let limits = &settings.collector.limits;
        Self {
            sampled: Sampled::new(
                limits.netflow.get().max_exporters + limits.sflow.get().max_exporters,
            ),
            decoders: Decoders::new(&settings.collector.limits, columns),
            interfaces: Interfaces::default(),
            aggregator: Aggregator::new(settings.aggregate),
            batch: FlowBatch::with_projection(columns),
            spare: Vec::new(),
            full: VecDeque::new(),
            unpolled_rows: 0,
            rules: Vec::new(),
            coverage: Vec::new(),
            covered_until: i64::MIN,
            refused_datagrams: 0,
            allow: AllowList::new(&settings.collector.allow),
            collector: settings.collector,
        }
    }

    /// Brings back a template or sampling rate of an earlier run. Call before the first datagram.
    pub fn restore(&mut self, state: DecoderState) {
        self.decoders.restore(state);
    }

    /// Decodes a datagram; its records wait for the next tick or for a full batch.
    pub fn handle_datagram(
        &mut self,
        at: ReceivedAt,
        from: SocketAddr,
        octets: &[u8],
    ) -> Option<Outcome> {
        if !self.allow.allows(Address::from(from.ip())) {
            self.refused_datagrams += 1;
            return None;
        }
        let (rows, datagrams) = (self.batch.len(), self.batch.datagrams.len());
        let outcome = self
            .decoders
            .handle_datagram(at, from, octets, &mut self.batch);
        if outcome.is_duplicate() {
            // What came before counts once.
            self.batch.truncate(rows);
            self.batch.datagrams.truncate(datagrams);
        }
        if matches!(outcome, Outcome::Sflow(_)) {
            self.cross_check(rows);
        }
        if self.batch.len() >= ROWS {
            self.flush();
        }
        Some(outcome)
    }

    /// Decodes a message of a TCP or TLS session like a datagram; an outcome that is malformed ends the session.
    pub fn handle_message(
        &mut self,
        at: ReceivedAt,
        from: SocketAddr,
        octets: &[u8],
    ) -> Option<Outcome> {
        if !self.allow.allows(Address::from(from.ip())) {
            self.refused_datagrams += 1;
            return None;
        }
        let outcome = self
            .decoders
            .handle_message(at, from, octets, &mut self.batch);
        if self.batch.len() >= ROWS {
            self.flush();
        }
        Some(outcome)
    }

    /// Forgets the templates of a session that ended.
    pub fn handle_session_closed(&mut self, from: SocketAddr) {
        self.decoders.handle_session_closed(from);
    }

    /// Takes in records that were decoded before, of one datagram of `batch`: what a Parquet file holds. Exporters are numbered
    /// by who read them, so a shard takes either these or datagrams.
    pub fn handle_records(&mut self, batch: &FlowBatch, datagram: &DatagramInfo) {
        if !self.allow.allows(datagram.exporter_address) {
            self.refused_datagrams += 1;
            return;
        }
        self.batch.append(batch, datagram);
        if self.batch.len() >= ROWS {
            self.flush();
        }
    }

    /// Makes room for a sampler of this host's own packets, which exports under `address`.
    pub fn add_sampler(&mut self, address: Address) -> ExporterId {
        self.sampled.add(address)
    }

    /// Takes in records that a sampler appends, as datagrams of the number that [`add_sampler`](Self::add_sampler) gave; how many.
    pub fn handle_sampled(
        &mut self,
        sampler: ExporterId,
        at: ReceivedAt,
        append: impl FnOnce(&mut FlowBatch),
    ) -> usize {
        let rows = self.batch.len();
        append(&mut self.batch);
        let records = self.batch.len().saturating_sub(rows);
        if records > 0 {
            self.sampled.handle_records(sampler, at, records);
        }
        if self.batch.len() >= ROWS {
            self.flush();
        }
        records
    }

    /// Takes in what a sampler counted since it was opened.
    pub fn handle_sampled_totals(&mut self, sampler: ExporterId, totals: SampledTotals) {
        self.sampled.handle_totals(sampler, totals);
    }

    /// Hands what is decoded to aggregation, and evaluates the tick if it is due.
    pub fn handle_timeout(&mut self, now: ReceivedAt) {
        self.flush();
        let due = self.aggregator.poll_timeout().is_some_and(|due| due <= now);
        if due && now.nanos() >= self.covered_until {
            self.covered_until = now.nanos().saturating_add(COVERAGE);
            self.coverage.clear();
            self.coverage.extend(
                self.decoders
                    .exporters()
                    .chain(self.sampled.exporters())
                    .map(|exporter| ExporterCoverage {
                        exporter: exporter.id,
                        records: exporter.records,
                        missing_records: Coverage::of(&exporter).lost(),
                    }),
            );
            self.aggregator.handle_coverage(&self.coverage);
        }
        self.aggregator.handle_timeout(now);
        self.decoders.handle_timeout(now);
    }

    /// Watches and releases targets.
    pub fn handle_watch(&mut self, list: &WatchList) {
        self.aggregator.handle_watch(list);
    }

    /// The summary of a tick. Poll after `handle_timeout`.
    #[must_use]
    pub fn poll_summary(&mut self) -> Option<WindowSummary> {
        self.aggregator.poll_summary()
    }

    /// A batch that aggregation is done with, for the recent window. Poll after every `handle_*`; unpolled batches beyond
    /// a few are dropped, oldest first.
    #[must_use]
    pub fn poll_batch(&mut self) -> Option<FlowBatch> {
        self.full.pop_front()
    }

    /// Rows of batches that were dropped since the last call because nobody polled them.
    #[must_use]
    pub fn take_unpolled_rows(&mut self) -> u64 {
        std::mem::take(&mut self.unpolled_rows)
    }

    /// Takes a polled batch back, so that its memory is used again.
    pub fn recycle(&mut self, mut batch: FlowBatch) {
        if self.spare.len() < SPARE_BATCHES {
            batch.clear();
            self.spare.push(batch);
        }
    }

    /// A template or sampling rate to be kept over a restart.
    #[must_use]
    pub fn poll_change(&mut self) -> Option<DecoderState> {
        self.decoders.poll_change()
    }

    /// Where the sequences of exporters stand that sent something since `since`: to be kept now and then, so that what is lost
    /// while nobody listens is told after a restart.
    pub fn sequences(&self, since: ReceivedAt) -> impl Iterator<Item = DecoderState> + '_ {
        self.decoders.sequences(since)
    }

    /// What an exporter says that something of its is called. Exporters repeat themselves.
    #[must_use]
    pub fn poll_name(&mut self) -> Option<NameStatement> {
        self.decoders.poll_name()
    }

    /// When `handle_timeout` is due; `None` while nothing is left to evaluate.
    pub fn poll_timeout(&self) -> Option<ReceivedAt> {
        if self.batch.is_empty() {
            self.aggregator.poll_timeout()
        } else {
            // Rows wait: they are evaluated with the tick that follows the newest datagram.
            let newest = self
                .batch
                .datagrams
                .last()
                .map(|datagram| datagram.received_at);
            self.aggregator.poll_timeout().or(newest)
        }
    }

    /// Which exporters bring the traffic of which zone: records, estimated from a part of them.
    pub fn exporter_shares(&self) -> impl Iterator<Item = (ZoneId, ExporterId, u64)> + '_ {
        self.aggregator.exporter_shares()
    }

    /// The aggregator's counters.
    pub fn aggregate_counters(&self) -> AggregateCounters {
        self.aggregator.counters()
    }

    /// The decoders, for their counters.
    pub fn decoders(&self) -> &Decoders {
        &self.decoders
    }

    /// Who exports; this host's samplers last.
    pub fn exporters(&self) -> impl Iterator<Item = ExporterView> + '_ {
        let decoded = self.decoders.exporters().map(|mut view| {
            self.interfaces.tell(&mut view);
            view
        });
        decoded.chain(self.sampled.exporters())
    }

    /// The configured name of an exporter.
    pub fn exporter_name(&self, address: Address) -> Option<&str> {
        let rule = self.collector.rule(address)?;
        (!rule.name.is_empty()).then_some(rule.name.as_str())
    }

    /// Datagrams of exporters outside the allow list.
    pub fn refused_datagrams(&self) -> u64 {
        self.refused_datagrams
    }

    /// Sets flow samples, the rows from `rows` on, against interface counters.
    fn cross_check(&mut self, rows: usize) {
        self.interfaces.handle_rows(&self.batch, rows);
        while let Some(report) = self.decoders.poll_counters() {
            self.interfaces.handle_report(&report);
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            self.batch.clear();
            return;
        }
        self.apply_rules();
        self.aggregator.handle_batch(&self.batch);
        let columns = self.collector.columns;
        let next = self
            .spare
            .pop()
            .unwrap_or_else(|| FlowBatch::with_projection(columns));
        self.full
            .push_back(std::mem::replace(&mut self.batch, next));
        if self.full.len() > SPARE_BATCHES
            && let Some(oldest) = self.full.pop_front()
        {
            self.unpolled_rows += oldest.len() as u64;
            self.recycle(oldest);
        }
    }

    /// Applies the `[[exporter]]` tables: configured sampling rates, and which records count.
    fn apply_rules(&mut self) {
        if self.collector.rules.is_empty() {
            return;
        }
        for index in 0..self.batch.datagrams.len() {
            let datagram = &self.batch.datagrams[index];
            let (rows, id, address) = (
                datagram.rows.clone(),
                datagram.exporter,
                datagram.exporter_address,
            );
            if let Some(rule) = self.rule_of(id, address) {
                let rows = rows.start as usize..rows.end as usize;
                apply(&self.collector.rules[rule], rows, &mut self.batch);
            }
        }
    }

    fn rule_of(&mut self, exporter: ExporterId, address: Address) -> Option<usize> {
        let index = exporter.0 as usize;
        if self.rules.len() <= index {
            self.rules.resize(index + 1, None);
        }
        *self.rules[index].get_or_insert_with(|| {
            self.collector
                .rules
                .iter()
                .position(|rule| address.is_in(&rule.prefix))
        })
    }
}

/// Records that do not count keep their row for the record's sake and weigh nothing.
fn apply(rule: &ExporterRule, rows: std::ops::Range<usize>, batch: &mut FlowBatch) {
    for row in rows {
        let rate = &mut batch.sampling_rate[row];
        if rule.override_sampling_rate != 0 {
            *rate = rule.override_sampling_rate;
        } else if *rate == 0 {
            *rate = rule.default_sampling_rate;
        }
        if !counts(rule, batch, row) {
            batch.octets[row] = 0;
            batch.packets[row] = 0;
        }
    }
}

fn counts(rule: &ExporterRule, batch: &FlowBatch, row: usize) -> bool {
    let direction = !matches!(
        (rule.count, batch.direction[row]),
        (Count::Ingress, 1) | (Count::Egress, 0)
    );
    let interface = if batch.direction[row] == 1 {
        batch.output_interface[row]
    } else {
        batch.input_interface[row]
    };
    direction
        && (rule.boundary_interfaces.is_empty()
            || rule.boundary_interfaces.binary_search(&interface).is_ok())
}
