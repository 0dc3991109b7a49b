//! The role `collect`: publishes what the shards sum, and does what detectors want.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::runtime::Handle;
use weir_attack_event::{AttackId, Findings};
use weir_collector::wall_clock;
use weir_flow_aggregate::cluster::{Coalescer, Part};
use weir_flow_aggregate::{Merger, WindowSummary};
use weir_flow_record::ReceivedAt;
use weir_kafka::{TopicError, consumer_config, producer_config, rdkafka};

use super::bus::{Bus, Logged, log};
use super::control::{Answer, Control};
use super::view::ClusterView;
use super::{QUEUE, topics};
use crate::config::Settings;
use crate::config::cluster::ClusterSettings;
use crate::daemon::judge::{Input, Watches};
use crate::daemon::spawn;
use crate::daemon::window::Ask;
use crate::judge::Watcher;
use crate::views::Views;

/// Longest time for which summaries are gathered.
const TICK: Duration = Duration::from_millis(100);
/// Time without a tick after which there is no traffic.
const IDLE: Duration = Duration::from_millis(500);
/// How long a message may wait for a broker before it is told again, with what has come since.
const DELIVERY: &str = "10000";
/// Questions whose answers may be on their way.
const MOST_QUESTIONS: usize = 1024;

/// Starts to publish, in the place of a judge.
pub(in crate::daemon) fn publish(
    settings: &Settings,
    cluster: &ClusterSettings,
    (inputs, questions, watches): (Receiver<Input>, SyncSender<Ask>, Watches),
    views: &Arc<Views>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<JoinHandle<()>> {
    match topics::ensure(&Handle::current(), cluster) {
        Ok(()) => {}
        // Packets do not wait for brokers.
        Err(error @ TopicError::Kafka(_)) => {
            tracing::warn!(%error, "Kafka does not answer yet: summaries are gathered");
        }
        Err(error) => return Err(error.into()),
    }
    let view = views.cluster();
    view.published.is_on.store(true, Ordering::Relaxed);
    let delivery = Arc::new(Delivery {
        lost: Mutex::default(),
        view: Arc::clone(&view),
    });
    let mut config = producer_config(&cluster.kafka)?;
    config
        .set("linger.ms", "2")
        .set("message.timeout.ms", DELIVERY);
    let count = cluster.partitions.count() as usize;
    let (order, orders) = sync_channel(QUEUE);
    let publisher = Publisher {
        producer: config.create_with_context(Context(Arc::clone(&delivery)))?,
        bus: Bus::open(cluster)?,
        delivery,
        merger: Merger::new(settings.collector.shards, &settings.aggregation),
        shards: usize::from(settings.collector.shards),
        coalescers: (0..count).map(|_| Coalescer::default()).collect(),
        sequences: vec![0; count],
        epoch: wall_clock().unsigned_abs(),
        topic: cluster.summaries(),
        cluster: cluster.clone(),
        gathered: 0,
        since: Instant::now(),
        ticked: Instant::now(),
        settle: i64::try_from(settings.aggregation.settle.0.as_secs()).unwrap_or(i64::MAX),
        can_publish: false,
        questions,
        watches,
        asked: BTreeMap::new(),
        view: Arc::clone(&view),
        stop: Arc::clone(stop),
    };
    let listener = Listener {
        cluster: cluster.clone(),
        order,
        view,
        stop: Arc::clone(stop),
        runtime: Handle::current(),
    };
    spawn("weir-orders", move || listener.run())?;
    spawn("weir-publish", move || publisher.run(&inputs, &orders))
}

/// A message that no broker has acknowledged yet.
struct Told {
    partition: u32,
    octets: u64,
    summary: WindowSummary,
}

struct Delivery {
    lost: Mutex<Vec<(u32, WindowSummary)>>,
    view: Arc<ClusterView>,
}

impl Delivery {
    fn lose(&self, told: Told) {
        let view = &self.view.published;
        view.told_again.fetch_add(1, Ordering::Relaxed);
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.push((told.partition, told.summary));
    }
}

struct Context(Arc<Delivery>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Told>;

    fn delivery(&self, result: &DeliveryResult<'_>, told: Box<Told>) {
        match result {
            Ok(_) => {
                let view = &self.0.view.published;
                view.delivered.fetch_add(1, Ordering::Relaxed);
                view.octets.fetch_add(told.octets, Ordering::Relaxed);
            }
            Err((error, _)) => {
                tracing::debug!(%error, "a summary is told again");
                self.0.lose(*told);
            }
        }
    }
}

/// What the listener has heard.
enum Heard {
    /// Orders are heard from now on.
    Listening,
    Order(Control),
}

struct Publisher {
    producer: ThreadedProducer<Context>,
    bus: Bus,
    delivery: Arc<Delivery>,
    merger: Merger,
    shards: usize,
    /// By partition.
    coalescers: Vec<Coalescer>,
    sequences: Vec<u64>,
    epoch: u64,
    topic: String,
    cluster: ClusterSettings,
    /// Summaries since the last time that all were published.
    gathered: usize,
    since: Instant,
    /// When a shard ticked last.
    ticked: Instant,
    /// Seconds after which a second is settled.
    settle: i64,
    /// Detectors answer a collector's first message, so orders are heard before it.
    can_publish: bool,
    questions: SyncSender<Ask>,
    watches: Watches,
    /// Partitions that wait for answers.
    asked: BTreeMap<AttackId, u32>,
    view: Arc<ClusterView>,
    stop: Arc<AtomicBool>,
}

impl Publisher {
    fn run(mut self, inputs: &Receiver<Input>, orders: &Receiver<Heard>) {
        loop {
            match inputs.recv_timeout(Duration::from_millis(10)) {
                Ok(Input::Summary(summary)) => self.handle_summary(*summary),
                Ok(Input::Findings(findings)) => self.answer(*findings),
                // Nobody judges here.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if self.stop.load(Ordering::Relaxed) => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while let Ok(heard) = orders.try_recv() {
                match heard {
                    Heard::Listening => self.can_publish = true,
                    Heard::Order(order) => self.handle_order(&order),
                }
            }
            while let Some((shard, list)) = self.merger.poll_watch() {
                (self.watches)(Watcher::Shard(shard), list);
            }
            if self.ticked.elapsed() >= IDLE {
                self.handle_idle();
            }
            if self.gathered >= self.shards || (self.gathered > 0 && self.since.elapsed() >= TICK) {
                self.publish();
            }
        }
        self.publish();
        // What does not arrive is gone with us.
        let _ = self.producer.flush(Duration::from_secs(2));
        self.bus.flush();
    }

    /// Without traffic no shard ticks, and all that there was is told: time passes all the same.
    fn handle_idle(&mut self) {
        self.ticked = Instant::now();
        let now = ReceivedAt::from_nanos(wall_clock());
        let settled = now.0.second() - self.settle;
        for coalescer in &mut self.coalescers {
            coalescer.handle_idle(now, settled);
        }
        self.publish();
    }

    fn handle_summary(&mut self, summary: WindowSummary) {
        self.ticked = Instant::now();
        if self.gathered == 0 {
            self.since = Instant::now();
        }
        self.gathered += 1;
        self.merger.handle_summary(summary);
        while let Some(summary) = self.merger.poll_summary() {
            let parts = self.cluster.partitions.cut(summary);
            for (coalescer, part) in self.coalescers.iter_mut().zip(parts) {
                coalescer.handle_newer(part);
            }
        }
    }

    fn publish(&mut self) {
        let lost = self.delivery.lost.lock();
        let lost = std::mem::take(&mut *lost.unwrap_or_else(PoisonError::into_inner));
        for (partition, summary) in lost {
            if let Some(coalescer) = self.coalescers.get_mut(partition as usize) {
                coalescer.handle_lost(summary);
            }
        }
        if !self.can_publish {
            return;
        }
        self.gathered = 0;
        for partition in 0..self.cluster.partitions.count() {
            let Some(coalescer) = self.coalescers.get_mut(partition as usize) else {
                continue;
            };
            for summary in coalescer.take() {
                self.tell(partition, summary);
            }
        }
        let refused = self.coalescers.iter().map(Coalescer::refused_minutes).sum();
        let shown = &self.view.published.refused_minutes;
        shown.store(refused, Ordering::Relaxed);
    }

    fn tell(&mut self, partition: u32, summary: WindowSummary) {
        let Some(sequence) = self.sequences.get_mut(partition as usize) else {
            return;
        };
        *sequence += 1;
        let part = Part {
            collector: Arc::clone(&self.cluster.name),
            epoch: self.epoch,
            sequence: *sequence,
            summary,
        };
        let octets = part.encode(&self.cluster.partitions);
        let told = Box::new(Told {
            partition,
            octets: octets.len() as u64,
            summary: part.summary,
        });
        let record = BaseRecord::with_opaque_to(&self.topic, told)
            .partition(partition.cast_signed())
            .key(self.cluster.name.as_bytes())
            .payload(&octets);
        if let Err((error, record)) = self.producer.send(record) {
            tracing::debug!(%error, "a summary is told again");
            self.delivery.lose(*record.delivery_opaque);
        }
    }

    fn handle_order(&mut self, order: &Control) {
        let partitions = &self.cluster.partitions;
        match order {
            Control::Watch(watch) if *watch.collector == *self.cluster.name => {
                self.merger.handle_watch(&watch.list(partitions));
            }
            Control::Watch(_) => {}
            Control::Ask(question) => {
                let Some(asked) = question.drill_down(partitions) else {
                    return;
                };
                if self.asked.len() >= MOST_QUESTIONS {
                    self.asked.pop_first();
                }
                self.asked.insert(asked.attack.clone(), question.partition);
                // The asker does not wait for long.
                let _ = self
                    .questions
                    .try_send(Ask::DrillDown(asked, Instant::now()));
            }
        }
    }

    fn answer(&mut self, findings: Findings) {
        let Some(partition) = self.asked.remove(&findings.attack) else {
            return;
        };
        let answer = Answer {
            collector: self.cluster.name.to_string(),
            findings,
        };
        self.bus.send(&self.cluster.findings(), partition, &answer);
    }
}

/// Hears what detectors want.
struct Listener {
    cluster: ClusterSettings,
    order: SyncSender<Heard>,
    view: Arc<ClusterView>,
    stop: Arc<AtomicBool>,
    runtime: Handle,
}

impl Listener {
    fn run(&self) {
        while !self.is_over() {
            match self.open() {
                Ok(consumer) => self.listen(&consumer),
                Err(error) => {
                    tracing::info!(%error, "cannot hear detectors yet");
                    std::thread::sleep(Duration::from_secs(1));
                    let _ = topics::ensure(&self.runtime, &self.cluster);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A consumer of what is ordered from now on.
    fn open(&self) -> anyhow::Result<BaseConsumer<Logged>> {
        let topic = self.cluster.control();
        let mut config = consumer_config(&self.cluster.kafka, &self.cluster.group)?;
        config.set("fetch.wait.max.ms", "100");
        let consumer: BaseConsumer<Logged> = config.create_with_context(Logged)?;
        let (_, next) = consumer.fetch_watermarks(&topic, 0, Duration::from_secs(2))?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&topic, 0, Offset::Offset(next))?;
        consumer.assign(&from)?;
        Ok(consumer)
    }

    fn listen(&self, consumer: &BaseConsumer<Logged>) {
        if self.order.send(Heard::Listening).is_err() {
            return;
        }
        while !self.is_over() {
            let message = match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    tracing::debug!(%error, "kafka");
                    continue;
                }
                None => continue,
            };
            let order = serde_json::from_slice(message.payload().unwrap_or_default());
            let heard = match order {
                Ok(order) => Heard::Order(order),
                Err(_) => {
                    let bad = &self.view.published.bad_orders;
                    bad.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            if self.order.send(heard).is_err() {
                return;
            }
        }
    }
}
