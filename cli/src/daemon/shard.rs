//! The threads that own sockets, decoders and aggregators.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::Duration;

use weir_collector::{Coverage, Receiver as Sockets, Shard, Silence, SilenceEdge, wall_clock};
use weir_ebpf::Sampler;
use weir_flow_aggregate::WatchList;
use weir_flow_record::{ExporterView, FlowBatch, ReceivedAt};

use super::intake::{Intake, Turn};
use super::judge::Input;
use super::window::Ask;
use crate::journal::Journal;
use crate::naming::Naming;
use crate::views::{ExporterRow, ShardView, Views};

/// Pause after a drain: sleeping a little costs less than waking for every datagram. Receive buffers of 4 MiB take five times
/// as long to fill at five million records a second.
const PAUSE: Duration = Duration::from_millis(3);

/// One shard's thread.
pub(super) struct ShardThread {
    pub(super) number: u16,
    pub(super) shard: Shard,
    pub(super) intake: Intake,
    /// Of all shards' exporters; one shard's thread looks.
    pub(super) silence: Option<Silence>,
    pub(super) input: SyncSender<Input>,
    pub(super) ask: SyncSender<Ask>,
    pub(super) spares: Receiver<FlowBatch>,
    pub(super) watched: Receiver<WatchList>,
    pub(super) views: Arc<Views>,
    pub(super) journal: Arc<Journal>,
    pub(super) naming: Arc<Naming>,
    /// Names, by number.
    pub(super) zones: Arc<[String]>,
    pub(super) last_view: i64,
}

impl ShardThread {
    /// Works until it is told to stop; gives sockets and samplers back.
    pub(super) fn run(mut self, stop: &AtomicBool) -> (Sockets, Vec<Sampler>) {
        while !stop.load(Ordering::Relaxed) {
            self.turn();
        }
        self.keep_sequences();
        let samplers = self.intake.packets.into_samplers();
        (self.intake.receiver, samplers.collect())
    }

    fn turn(&mut self) {
        match self.intake.turn(&mut self.shard) {
            Ok(Turn::Nothing | Turn::More) => {}
            Ok(Turn::All) => std::thread::sleep(PAUSE),
            Err(error) => {
                tracing::error!(%error, "cannot receive");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        while let Ok(list) = self.watched.try_recv() {
            self.shard.handle_watch(&list);
        }
        let now = wall_clock();
        self.shard.handle_timeout(ReceivedAt::from_nanos(now));
        while let Some(summary) = self.shard.poll_summary() {
            if self
                .input
                .try_send(Input::Summary(Box::new(summary)))
                .is_err()
            {
                self.views
                    .counters
                    .lost_summaries
                    .fetch_add(1, Ordering::Relaxed);
            }
        }
        self.hand_over_batches();
        while let Some(change) = self.shard.poll_change() {
            self.journal.keep_decoder_state(change);
        }
        while let Some(statement) = self.shard.poll_name() {
            if let Some(name) = self.naming.handle_statement(&statement) {
                self.journal.keep_name(name);
            }
        }
        if now - self.last_view >= 1_000_000_000 {
            self.keep_sequences();
            self.last_view = now;
            self.publish();
            self.tell_silence(ReceivedAt::from_nanos(now));
        }
    }

    fn hand_over_batches(&mut self) {
        while let Some(batch) = self.shard.poll_batch() {
            if let Err(
                TrySendError::Full(Ask::Batch(_, batch))
                | TrySendError::Disconnected(Ask::Batch(_, batch)),
            ) = self.ask.try_send(Ask::Batch(self.number, batch))
            {
                let counters = &self.views.counters;
                counters.lost_batches.fetch_add(1, Ordering::Relaxed);
                let rows = batch.len() as u64;
                counters
                    .store_queue_full_rows
                    .fetch_add(rows, Ordering::Relaxed);
                self.shard.recycle(batch);
            }
        }
        while let Ok(batch) = self.spares.try_recv() {
            self.shard.recycle(batch);
        }
        let unpolled = self.shard.take_unpolled_rows();
        if unpolled > 0 {
            let counters = &self.views.counters;
            counters
                .store_queue_full_rows
                .fetch_add(unpolled, Ordering::Relaxed);
        }
    }

    fn publish(&self) {
        let exporters: Vec<ExporterRow> =
            self.shard.exporters().map(|view| self.row(view)).collect();
        self.views.set_shard(
            self.number,
            ShardView {
                shares: self.shares(&exporters),
                exporters,
                sockets: self.intake.receiver.sockets().collect(),
                trust: *self.intake.trust.counters(),
                refused: self.intake.trust.exporters().collect(),
                mirrors: self.intake.mirrors.counters().collect(),
                samplers: self.intake.packets.views(),
                aggregate: self.shard.aggregate_counters(),
                refused_datagrams: self.shard.refused_datagrams(),
            },
        );
    }

    /// Keeps the sequences that moved since the last time.
    fn keep_sequences(&self) {
        for state in self.shard.sequences(ReceivedAt::from_nanos(self.last_view)) {
            self.journal.keep_decoder_state(state);
        }
    }

    /// Says who fell silent, and who is back.
    fn tell_silence(&mut self, now: ReceivedAt) {
        let Some(silence) = &mut self.silence else {
            return;
        };
        let exporters = self.views.shard().exporters;
        let heard = exporters
            .iter()
            .map(|row| (row.view.address, row.view.last_seen));
        silence.handle_exporters(now, heard);
        while let Some(event) = silence.poll_event() {
            let exporter = self
                .shard
                .exporter_name(event.exporter)
                .map_or_else(|| event.exporter.to_string(), str::to_owned);
            match event.edge {
                SilenceEdge::Silent => {
                    tracing::warn!(exporter, address = %event.exporter, since = %event.since.0, "an exporter is silent");
                }
                SilenceEdge::Back => {
                    tracing::info!(exporter, address = %event.exporter, since = %event.since.0, "an exporter is back");
                }
            }
        }
        self.views.set_silent(silence.silent().collect());
    }

    fn row(&self, view: ExporterView) -> ExporterRow {
        let coverage = Coverage::of(&view);
        ExporterRow {
            name: self
                .shard
                .exporter_name(view.address)
                .map_or_else(|| view.address.to_string(), str::to_owned),
            silent_since: None,
            skew_seconds: view.skew_nanos as f64 / 1e9,
            coverage_share: coverage.share(),
            coverage,
            interfaces: self.naming.interfaces(view.address),
            view,
        }
    }

    fn shares(&self, exporters: &[ExporterRow]) -> Vec<(String, Coverage, u64)> {
        let mut by_id: Vec<_> = exporters
            .iter()
            .map(|row| (row.view.id, row.coverage))
            .collect();
        by_id.sort_unstable_by_key(|(id, _)| *id);
        let coverage = |exporter| {
            let index = by_id.binary_search_by_key(&exporter, |(id, _)| *id).ok()?;
            Some(by_id[index].1)
        };
        self.shard
            .exporter_shares()
            .filter_map(|(zone, exporter, records)| {
                let name = self.zones.get(usize::from(zone.0))?.clone();
                Some((name, coverage(exporter)?, records))
            })
            .collect()
    }
}
