//! What goes to Kafka: flow records by a thread of their own, and what becomes of attacks from where it happens. Nobody waits
//! for a broker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use weir_anonymise::Anonymiser;
use weir_attack_event::{AttackEvent, AttackId, MitigationReport};
use weir_flow_record::{FlowBatch, Timestamp};
use weir_kafka::{FlowPublisher, Kind, Notes, Publisher};

use crate::attacks::Said;
use crate::views::Views;

/// Batches that wait for the thread: half a second at a million records a second, at most 100 MB.
const QUEUE: usize = 512;
/// Longest wait for a batch.
const PATIENCE: Duration = Duration::from_secs(1);
/// What brokers get to take what is queued when the daemon ends.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Waits for brokers to take what is queued; what they do not take is dropped, and counted.
pub(crate) fn finish(publisher: Publisher) {
    publisher.finish(LAST_PATIENCE);
}

/// The way to the thread that publishes flow records.
pub(crate) struct FlowThread {
    batches: SyncSender<(u16, FlowBatch)>,
    thread: JoinHandle<()>,
    views: Arc<Views>,
}

impl FlowThread {
    /// Starts the thread; it hands on each batch that it is done with.
    pub(crate) fn start(
        flows: (FlowPublisher, Option<Anonymiser>),
        views: Arc<Views>,
        hand_on: impl Fn(u16, FlowBatch) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (batches, queue) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("weir-kafka".to_owned())
            .spawn(move || run(flows, &queue, hand_on))
            .context("cannot start a thread")?;
        Ok(Self {
            batches,
            thread,
            views,
        })
    }

    /// Hands a shard's batch over; gives it back where the thread has fallen behind, with its rows counted.
    pub(crate) fn publish(&self, shard: u16, batch: FlowBatch) -> Option<FlowBatch> {
        match self.batches.try_send((shard, batch)) {
            Ok(()) => None,
            Err(TrySendError::Full((_, batch)) | TrySendError::Disconnected((_, batch))) => {
                let rows = batch.len() as u64;
                let dropped = &self.views.counters.kafka_behind_rows;
                dropped.fetch_add(rows, Ordering::Relaxed);
                Some(batch)
            }
        }
    }

    /// Hands what waits to the producer; that brokers take it is not waited for.
    pub(crate) fn finish(self) {
        drop(self.batches);
        let _ = self.thread.join();
    }
}

fn run(
    (mut flows, mut anonymiser): (FlowPublisher, Option<Anonymiser>),
    queue: &Receiver<(u16, FlowBatch)>,
    hand_on: impl Fn(u16, FlowBatch),
) {
    loop {
        let due = flows.poll_timeout();
        let patience = due.map_or(PATIENCE, |due| {
            due.saturating_duration_since(Instant::now()).min(PATIENCE)
        });
        match queue.recv_timeout(patience) {
            Ok((shard, mut batch)) => {
                if let Some(anonymiser) = &mut anonymiser {
                    anonymiser.handle_batch(&mut batch);
                }
                flows.handle_batch(Instant::now(), &batch);
                hand_on(shard, batch);
            }
            Err(RecvTimeoutError::Timeout) => flows.handle_timeout(Instant::now()),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    flows.flush();
}

/// Tells Kafka what becomes of attacks, as JSON under the attack's name.
#[derive(Clone)]
pub(crate) struct Announcer {
    notes: Option<Notes>,
    /// Whose numbers of attacks are ours.
    vendor_id: u32,
}

/// A mitigation report, which does not tell its attack and its time where it is part of an event.
#[derive(Serialize)]
struct Reported<'r> {
    time: Timestamp,
    attack: &'r AttackId,
    #[serde(flatten)]
    report: &'r MitigationReport,
}

impl Announcer {
    /// To whatever topics there are.
    pub(crate) fn new(notes: Option<Notes>, vendor_id: u32) -> Self {
        Self { notes, vendor_id }
    }

    /// Whether there is a topic for labels.
    pub(crate) fn has_labels(&self) -> bool {
        self.notes
            .as_ref()
            .is_some_and(|notes| notes.has(Kind::Labels))
    }

    /// An attack's event, as it is in the events' file.
    pub(crate) fn event(&self, event: &AttackEvent) {
        self.publish(Kind::Events, event.id.to_string(), event);
    }

    /// An upstream's word on a mitigation.
    pub(crate) fn mitigation(&self, time: Timestamp, report: &MitigationReport) {
        let reported = Reported {
            time,
            attack: &report.attack,
            report,
        };
        self.publish(Kind::Mitigations, report.attack.to_string(), &reported);
    }

    /// What an operator or a client of our DOTS server says of an attack, in place of what was said under that name before.
    pub(crate) fn label(&self, said: &Said) {
        let told = said.told(self.vendor_id);
        self.publish(Kind::Labels, told.id.clone(), &told);
    }

    fn publish(&self, kind: Kind, key: String, value: &impl Serialize) {
        let Some(notes) = self.notes.as_ref().filter(|notes| notes.has(kind)) else {
            return;
        };
        match serde_json::to_vec(value) {
            Ok(value) => notes.publish(kind, &key, &value),
            Err(error) => tracing::error!(%error, ?kind, "Kafka is not told"),
        }
    }
}
