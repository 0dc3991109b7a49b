//! Where batches go once the recent window has seen them: to Kafka, to the Parquet files, and back to their shard. Whoever has
//! no room for a batch is passed over.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use weir_anonymise::Anonymiser;
use weir_flow_record::FlowBatch;
use weir_kafka::FlowPublisher;

use crate::kafka::FlowThread;
use crate::store::StoreWriter;
use crate::views::Views;

/// The way out.
pub(super) struct Outlet {
    kafka: Option<FlowThread>,
    rest: Arc<Rest>,
}

/// What comes after Kafka, which its thread and the window share.
struct Rest {
    store: Option<StoreWriter>,
    spares: Vec<SyncSender<FlowBatch>>,
}

impl Outlet {
    /// Starts the thread that publishes `flows`, anonymous where that is wished; batches end at their shard's `spares`.
    pub(super) fn start(
        flows: Option<(FlowPublisher, Option<Anonymiser>)>,
        store: Option<StoreWriter>,
        spares: Vec<SyncSender<FlowBatch>>,
        views: &Arc<Views>,
    ) -> anyhow::Result<Self> {
        let rest = Arc::new(Rest { store, spares });
        let kafka = flows
            .map(|flows| {
                let rest = Arc::clone(&rest);
                FlowThread::start(flows, Arc::clone(views), move |shard, batch| {
                    rest.take(shard, batch, true);
                })
            })
            .transpose()?;
        Ok(Self { kafka, rest })
    }

    /// Takes a batch that the window is done with.
    pub(super) fn take(&self, shard: u16, batch: FlowBatch) {
        let left = match &self.kafka {
            Some(kafka) => kafka.publish(shard, batch),
            None => Some(batch),
        };
        if let Some(batch) = left {
            self.rest.take(shard, batch, false);
        }
    }

    /// Writes what waits, and finishes all files.
    pub(super) fn finish(self) {
        if let Some(kafka) = self.kafka {
            kafka.finish();
        }
        // Kafka's thread had the other one, and is gone.
        if let Some(store) = Arc::into_inner(self.rest).and_then(|rest| rest.store) {
            store.finish();
        }
    }
}

impl Rest {
    /// `is_anonymous` says whether what should be has been done with its addresses.
    fn take(&self, shard: u16, batch: FlowBatch, is_anonymous: bool) {
        let left = match &self.store {
            Some(store) => store.store(shard, batch, is_anonymous),
            None => Some(batch),
        };
        // A full channel only means that the shard has spares enough.
        if let Some(batch) = left
            && let Some(spares) = self.spares.get(usize::from(shard))
        {
            let _ = spares.try_send(batch);
        }
    }
}
