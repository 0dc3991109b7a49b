//! Which partitions are ours: the consumer group says it, and moves them when a detector goes or comes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use weir_kafka::{consumer_config, rdkafka};

use super::bus::log;
use super::partition::{Common, Partition};
use super::topics;
use crate::daemon::spawn;

/// Pause before another try to take a partition up.
const AGAIN: Duration = Duration::from_secs(1);

/// The partitions of this detector.
pub(super) struct Holdings {
    common: Arc<Common>,
    places: Mutex<BTreeMap<u32, Place>>,
    /// Numbers each taking up: one that was overtaken by a revocation counts no more.
    turns: Mutex<u64>,
    opened: Sender<Opened>,
}

enum Place {
    /// It is being taken up since; `None` = it is due.
    Opening(u64),
    Failed(Instant),
    Owned(Box<Partition>),
}

struct Opened {
    number: u32,
    turn: u64,
    result: anyhow::Result<Partition>,
}

/// Runs until it is told to stop; gives all partitions up then.
pub(super) struct Feed {
    pub(super) holdings: Arc<Holdings>,
    opened: Receiver<Opened>,
    stop: Arc<AtomicBool>,
}

impl Holdings {
    /// The partitions that are judged.
    pub(super) fn with<T>(&self, work: impl FnOnce(Vec<&Partition>) -> T) -> T {
        let places = self.lock();
        let owned = places.values().filter_map(|place| match place {
            Place::Owned(partition) => Some(&**partition),
            Place::Opening(_) | Place::Failed(_) => None,
        });
        work(owned.collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a partition up, on a thread of its own.
    fn begin(&self, number: u32) {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            *turns += 1;
            *turns
        };
        self.lock().insert(number, Place::Opening(turn));
        let (common, opened) = (Arc::clone(&self.common), self.opened.clone());
        let spawned = spawn("weir-takeover", move || {
            let result = Partition::open(&common, number);
            // Without anybody to take it, it is closed where it is dropped.
            if let Err(left) = opened.send(Opened {
                number,
                turn,
                result,
            }) && let Ok(partition) = left.0.result
            {
                partition.close();
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "a partition is not taken up");
            self.lock().insert(number, Place::Failed(Instant::now()));
        }
    }

    /// Gives partitions up, and waits until that is done.
    fn give_up(&self, numbers: impl Iterator<Item = u32>) {
        let places: Vec<Place> = {
            let mut held = self.lock();
            numbers.filter_map(|number| held.remove(&number)).collect()
        };
        close_all(places.into_iter().filter_map(|place| match place {
            Place::Owned(partition) => Some(*partition),
            // Whoever takes it up now finds that it is not wanted any more.
            Place::Opening(_) | Place::Failed(_) => None,
        }));
    }
}

/// Closes partitions side by side.
fn close_all(partitions: impl Iterator<Item = Partition>) {
    let partitions: Vec<Partition> = partitions.collect();
    partitions.iter().for_each(Partition::begin_close);
    let closing = partitions.into_iter().map(|partition| {
        let number = partition.number;
        spawn("weir-release", move || partition.close())
            .inspect_err(|error| tracing::error!(%error, number, "a partition is not closed"))
    });
    for thread in closing.collect::<Vec<_>>().into_iter().flatten() {
        let _ = thread.join();
    }
}

impl Feed {
    pub(super) fn new(common: Arc<Common>, stop: Arc<AtomicBool>) -> Self {
        let (sender, opened) = channel();
        let holdings = Holdings {
            common,
            places: Mutex::default(),
            turns: Mutex::default(),
            opened: sender,
        };
        Self {
            holdings: Arc::new(holdings),
            opened,
            stop,
        }
    }

    pub(super) fn run(self) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.follow() {
                tracing::warn!(%error, "cannot join the other detectors yet");
                std::thread::sleep(AGAIN);
                let common = &self.holdings.common;
                let _ = topics::ensure(&common.runtime, &common.cluster);
            }
        }
        let all: Vec<u32> = self.holdings.lock().keys().copied().collect();
        self.holdings.give_up(all.into_iter());
        // Those that were still being taken up.
        while let Ok(opened) = self.opened.recv_timeout(Duration::from_millis(10)) {
            close_all(opened.result.into_iter());
        }
    }

    /// Is a member of the group.
    fn follow(&self) -> anyhow::Result<()> {
        let cluster = &self.holdings.common.cluster;
        let mut config = consumer_config(&cluster.kafka, &cluster.group)?;
        config
            .set("group.instance.id", &*cluster.name)
            // Losses of others are heard of with the next heartbeat.
            .set("heartbeat.interval.ms", "1000");
        let context = Context(Arc::clone(&self.holdings));
        let consumer: BaseConsumer<Context> = config.create_with_context(context)?;
        let summaries = cluster.summaries();
        consumer.subscribe(&[&summaries])?;
        while !self.stop.load(Ordering::Relaxed) {
            // Partitions are paused: what is fetched before that is read again by who takes them up.
            match consumer.poll(Duration::from_millis(50)) {
                Some(Err(error)) if is_fatal(&error) => return Err(error.into()),
                Some(Err(error)) => tracing::debug!(%error, "kafka"),
                Some(Ok(_)) | None => {}
            }
            self.look_after();
        }
        Ok(())
    }

    /// Takes in what was taken up, and tries again what went wrong.
    fn look_after(&self) {
        while let Ok(opened) = self.opened.try_recv() {
            self.handle_opened(opened);
        }
        let mut again = Vec::new();
        let mut lost = Vec::new();
        for (number, place) in &*self.holdings.lock() {
            match place {
                Place::Failed(at) if at.elapsed() >= AGAIN => again.push(*number),
                Place::Owned(partition) if partition.is_lost() => lost.push(*number),
                Place::Failed(_) | Place::Owned(_) | Place::Opening(_) => {}
            }
        }
        self.holdings.give_up(lost.iter().copied());
        // If it is another's, the group says so before long.
        for number in lost {
            self.holdings
                .lock()
                .insert(number, Place::Failed(Instant::now()));
        }
        again
            .into_iter()
            .for_each(|number| self.holdings.begin(number));
    }

    fn handle_opened(&self, opened: Opened) {
        let mut places = self.holdings.lock();
        let number = opened.number;
        let is_wanted =
            matches!(places.get(&number), Some(Place::Opening(turn)) if *turn == opened.turn);
        match opened.result {
            Ok(partition) if is_wanted => {
                places.insert(number, Place::Owned(Box::new(partition)));
            }
            Ok(partition) => {
                drop(places);
                close_all(std::iter::once(partition));
            }
            Err(error) => {
                tracing::warn!(partition = number, "not taken up yet: {error:#}");
                if is_wanted {
                    places.insert(number, Place::Failed(Instant::now()));
                }
            }
        }
    }
}

/// An error after which the consumer is of no use.
fn is_fatal(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::Fatal | Code::FencedInstanceId | Code::UnknownMemberId)
    )
}

/// Told by the group what is ours.
struct Context(Arc<Holdings>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let numbers: Vec<u32> = numbers(list).collect();
            let lost = consumer.assignment_lost();
            tracing::info!(partitions = ?numbers, lost, "the group takes partitions away");
            // They are given up whole before the next owner gets them.
            self.0.give_up(numbers.into_iter());
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            if let Err(error) = consumer.pause(list) {
                tracing::debug!(%error, "kafka");
            }
            let numbers: Vec<u32> = numbers(list).collect();
            tracing::info!(partitions = ?numbers, "the group gives us partitions");
            numbers.into_iter().for_each(|number| self.0.begin(number));
        }
    }
}

fn numbers(list: &rdkafka::TopicPartitionList) -> impl Iterator<Item = u32> {
    let elements = list.elements();
    let numbers: Vec<u32> = elements
        .iter()
        .filter_map(|element| u32::try_from(element.partition()).ok())
        .collect();
    numbers.into_iter()
}
