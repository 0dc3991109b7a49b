//! A partition's state on the compacted topic: each commit as one Kafka transaction, so that another machine goes on from a
//! whole one, and a former owner that wakes up can write no more.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use weir_kafka::{client_config, rdkafka};
use weir_state::{Batch, Mirror, MirrorError, Stage};

use super::bus::Logged;
use crate::config::cluster::ClusterSettings;
use crate::daemon::spawn;

/// Octets of one transaction, about.
const FULL: usize = 4 << 20;
/// Batches that may wait while what they hold may get lost.
const BACKLOG: usize = 256;
/// How long brokers may take for a step.
const STEP: Duration = Duration::from_secs(10);
/// How long a partition that is given up waits for brokers.
const CLOSING: Duration = Duration::from_secs(4);

/// Takes commits to the topic.
#[derive(Debug)]
pub(super) struct StateMirror {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Set once another one owns the partition.
    lost: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(u64, Batch)>,
    /// Number of the newest commit that is there.
    done: u64,
    closing: Option<Instant>,
}

/// The producer of a partition's state: with it, any earlier one is shut out.
pub(super) struct StateProducer {
    producer: ThreadedProducer<Logged>,
    topic: String,
    partition: u32,
}

/// Somebody else owns the partition.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("another detector owns the partition")]
struct Lost;

impl StateProducer {
    /// Shuts out earlier producers of the partition, and ends what they had begun.
    pub(super) fn open(cluster: &ClusterSettings, partition: u32) -> anyhow::Result<Self> {
        let mut config = client_config(&cluster.kafka)?;
        let id = format!("{}-state-{partition}", cluster.group);
        config
            .set("transactional.id", id)
            // What a killed owner had begun is in nobody's way for long.
            .set("transaction.timeout.ms", "5000")
            .set("compression.codec", "zstd")
            .set("linger.ms", "0");
        let producer: ThreadedProducer<Logged> = config.create_with_context(Logged)?;
        producer.init_transactions(STEP)?;
        Ok(Self {
            producer,
            topic: cluster.state(),
            partition,
        })
    }

    fn attempt(&self, batches: &[Batch]) -> Result<(), KafkaError> {
        self.producer.begin_transaction()?;
        for change in batches.iter().flat_map(Batch::changes) {
            let mut key = vec![change.stage.code()];
            key.extend_from_slice(change.key);
            loop {
                let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic)
                    .partition(self.partition.cast_signed())
                    .key(&key);
                if let Some(value) = change.value {
                    record = record.payload(value);
                }
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err((error, _)) if is_full(&error) => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err((error, _)) => return Err(error),
                }
            }
        }
        loop {
            match self.producer.commit_transaction(STEP) {
                Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                    tracing::debug!(%error, "kafka");
                }
                done => return done,
            }
        }
    }

    /// Writes batches as one; tries again until it is there, the partition is another's, or there is no time left.
    fn commit(&self, batches: &[Batch], closing: impl Fn() -> Option<Instant>) -> Result<(), Lost> {
        loop {
            let Err(error) = self.attempt(batches) else {
                return Ok(());
            };
            let is_over = closing().is_some_and(|since| since.elapsed() > CLOSING);
            if is_fatal(&error) || is_over {
                tracing::warn!(%error, partition = self.partition, "state is not written");
                return Err(Lost);
            }
            tracing::info!(%error, partition = self.partition, "state is written again");
            if let Err(error) = self.producer.abort_transaction(STEP)
                && is_fatal(&error)
            {
                return Err(Lost);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn is_full(error: &KafkaError) -> bool {
    let full = rdkafka::error::RDKafkaErrorCode::QueueFull;
    error.rdkafka_error_code() == Some(full)
}

fn is_fatal(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    if let KafkaError::Transaction(error) = error
        && error.is_fatal()
    {
        return true;
    }
    matches!(
        error.rdkafka_error_code(),
        Some(Code::Fatal | Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
    )
}

impl StateMirror {
    /// Starts the thread that writes. `lost` is set where another owner shuts it out.
    pub(super) fn start(
        producer: StateProducer,
        lost: Arc<AtomicBool>,
    ) -> anyhow::Result<(Arc<Self>, JoinHandle<()>)> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            lost,
        });
        let thread = spawn("weir-mirror", {
            let shared = Arc::clone(&shared);
            move || shared.run(&producer)
        })?;
        Ok((Arc::new(Self { shared }), thread))
    }

    /// Ends the thread once what waits is written, or after a few seconds.
    pub(super) fn close(&self) {
        self.shared.lock().closing = Some(Instant::now());
        self.shared.changed.notify_all();
    }
}

impl Mirror for StateMirror {
    fn handle_wish(&self, _: &Batch) -> Result<(), MirrorError> {
        if self.shared.is_lost() {
            return Err(Lost.into());
        }
        Ok(())
    }

    fn handle_commit(&self, number: u64, batch: &Batch) {
        self.shared
            .lock()
            .waiting
            .push_back((number, batch.clone()));
        self.shared.changed.notify_all();
    }

    fn wait(&self, number: u64, batch: &Batch) -> Result<(), MirrorError> {
        // What traffic taught may get lost; but it must not pile up.
        let mut stages = batch.changes().map(|change| change.stage);
        let may_get_lost = stages.all(|stage| stage == Stage::Baselines);
        let is_waiting = |queue: &mut Queue| {
            let waits = if may_get_lost {
                queue.waiting.len() > BACKLOG
            } else {
                queue.done < number
            };
            waits && !self.shared.is_lost()
        };
        let queue = self.shared.lock();
        let waited = self.shared.changed.wait_while(queue, is_waiting);
        drop(waited);
        if self.shared.is_lost() {
            return Err(Lost.into());
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    fn run(&self, producer: &StateProducer) {
        while let Some((number, batches)) = self.next() {
            if producer.commit(&batches, || self.lock().closing).is_err() {
                self.lost.store(true, Ordering::Release);
                self.changed.notify_all();
                return;
            }
            self.lock().done = number;
            self.changed.notify_all();
        }
    }

    /// What waits, as far as it fits into one transaction, and the number of its last commit; `None` at the end.
    fn next(&self) -> Option<(u64, Vec<Batch>)> {
        let queue = self.lock();
        let idle = |queue: &mut Queue| {
            queue.waiting.is_empty() && queue.closing.is_none() && !self.is_lost()
        };
        // Whoever sets `lost` elsewhere tells nobody: look now and then.
        let mut queue =
            match self
                .changed
                .wait_timeout_while(queue, Duration::from_millis(500), idle)
            {
                Ok((queue, _)) => queue,
                Err(error) => error.into_inner().0,
            };
        loop {
            if self.is_lost() {
                return None;
            }
            if !queue.waiting.is_empty() {
                break;
            }
            if queue.closing.is_some() {
                return None;
            }
            let waited = self
                .changed
                .wait_timeout_while(queue, Duration::from_millis(500), idle);
            queue = match waited {
                Ok((queue, _)) => queue,
                Err(error) => error.into_inner().0,
            };
        }
        let mut batches = Vec::new();
        let (mut last, mut octets) = (0, 0);
        while octets < FULL
            && let Some((number, batch)) = queue.waiting.pop_front()
        {
            let sizes = batch.changes();
            octets += sizes
                .map(|change| change.key.len() + change.value.map_or(0, <[u8]>::len))
                .sum::<usize>();
            last = number;
            batches.push(batch);
        }
        Some((last, batches))
    }
}
