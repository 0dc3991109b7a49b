//! The thread that writes Parquet: neither packets nor drill-downs ever wait for a disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use weir_anonymise::Anonymiser;
use weir_collector::wall_clock;
use weir_flow_record::{FlowBatch, Timestamp};
use weir_flow_store::{ParquetSettings, ParquetStore};

use crate::background::give_way;
use crate::views::Views;

/// Batches that wait for the disk: half a second at a million records a second, at most 100 MB.
const QUEUE: usize = 512;
/// Longest wait for a batch, so that files end in time.
const PATIENCE: Duration = Duration::from_secs(1);

/// Looks at the store's folder; an error here ends the start.
pub(crate) fn open(settings: &ParquetSettings) -> anyhow::Result<ParquetStore> {
    let store = ParquetStore::open(settings.clone(), 0)
        .with_context(|| format!("cannot use {}", settings.folder.display()))?;
    let leftovers = store.counters().leftover_files;
    if leftovers > 0 {
        tracing::warn!(
            files = leftovers,
            "removed Parquet files that an earlier run left unfinished"
        );
    }
    Ok(store)
}

/// A batch on its way.
struct Handed {
    shard: u16,
    batch: FlowBatch,
    /// Whether what should be has been done with its addresses.
    is_anonymous: bool,
}

/// The way to the thread, which one writer for all shards runs on.
pub(crate) struct StoreWriter {
    batches: SyncSender<Handed>,
    thread: JoinHandle<()>,
    views: Arc<Views>,
}

impl StoreWriter {
    /// Starts the thread; batches that it is done with go back to their shard's `spares`.
    pub(crate) fn start(
        store: ParquetStore,
        anonymiser: Option<Anonymiser>,
        views: Arc<Views>,
        spares: Vec<SyncSender<FlowBatch>>,
    ) -> anyhow::Result<Self> {
        views.set_store(store.counters());
        let (batches, queue) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("weir-store".to_owned())
            .spawn({
                let views = Arc::clone(&views);
                move || run((store, anonymiser), &queue, &spares, &views)
            })
            .context("cannot start a thread")?;
        Ok(Self {
            batches,
            thread,
            views,
        })
    }

    /// Hands a shard's batch over, which may be anonymous already; gives it back where the thread has fallen behind, with its
    /// rows counted as dropped.
    pub(crate) fn store(
        &self,
        shard: u16,
        batch: FlowBatch,
        is_anonymous: bool,
    ) -> Option<FlowBatch> {
        let handed = Handed {
            shard,
            batch,
            is_anonymous,
        };
        match self.batches.try_send(handed) {
            Ok(()) => None,
            Err(TrySendError::Full(handed) | TrySendError::Disconnected(handed)) => {
                let batch = handed.batch;
                let rows = batch.len() as u64;
                let dropped = &self.views.counters.store_queue_full_rows;
                dropped.fetch_add(rows, Ordering::Relaxed);
                Some(batch)
            }
        }
    }

    /// Writes what waits, and finishes all files.
    pub(crate) fn finish(self) {
        drop(self.batches);
        let _ = self.thread.join();
    }
}

fn run(
    (mut store, mut anonymiser): (ParquetStore, Option<Anonymiser>),
    queue: &Receiver<Handed>,
    spares: &[SyncSender<FlowBatch>],
    views: &Views,
) {
    give_way();
    loop {
        let received = queue.recv_timeout(patience(&store));
        let now = Timestamp::from_nanos(wall_clock());
        match received {
            Ok(mut handed) => {
                if let Some(anonymiser) = anonymiser.as_mut().filter(|_| !handed.is_anonymous) {
                    anonymiser.handle_batch(&mut handed.batch);
                }
                let Handed { shard, batch, .. } = handed;
                store.handle_batch(now, &batch);
                // A full channel only means that the shard has spares enough.
                if let Some(spares) = spares.get(usize::from(shard)) {
                    let _ = spares.try_send(batch);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if store.poll_timeout().is_some_and(|due| due <= now) {
            store.handle_timeout(now);
        }
        views.set_store(store.counters());
    }
    store.finish_all(Timestamp::from_nanos(wall_clock()));
    views.set_store(store.counters());
}

fn patience(store: &ParquetStore) -> Duration {
    let now = Timestamp::from_nanos(wall_clock());
    let due = store
        .poll_timeout()
        .map_or(Duration::MAX, |due| due.since(now));
    due.clamp(Duration::from_millis(1), PATIENCE)
}
