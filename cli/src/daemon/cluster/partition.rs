//! A partition that this detector owns: taken up from where its last owner stood, judged, and given up whole.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::watch;
use weir_attack_event::AttackId;
use weir_collector::wall_clock;
use weir_flow_aggregate::cluster::{CollectorMerger, Part};
use weir_flow_record::Timestamp;
use weir_kafka::{consumer_config, rdkafka};

use super::bus::{Bus, Logged};
use super::control::{Answer, Control, Question, Watch};
use super::inquiry::Inquiry;
use super::mirror::{StateMirror, StateProducer};
use super::owned::{Arrival, Owned};
use super::view::{ClusterView, PartitionView};
use super::{QUEUE, restore};
use crate::audit::AuditLog;
use crate::config::Settings;
use crate::config::cluster::ClusterSettings;
use crate::daemon::clients::{Clients, Hearers};
use crate::daemon::judge::{Input, JudgeThread};
use crate::daemon::restored::{self, Restored};
use crate::daemon::teaching::Teaching;
use crate::daemon::window::Ask;
use crate::daemon::{open_events, spawn};
use crate::journal::{Journal, Position};
use crate::judge::{Sum, Watcher};
use crate::kafka::Announcer;
use crate::views::Views;

/// How far a collector's clock may be ahead of ours.
const EARLY: Duration = Duration::from_secs(60);

/// What all partitions of a detector share.
pub(super) struct Common {
    pub(super) settings: Settings,
    pub(super) cluster: ClusterSettings,
    pub(super) runtime: Handle,
    pub(super) bus: Bus,
    pub(super) views: Arc<Views>,
    pub(super) view: Arc<ClusterView>,
    pub(super) announcer: Announcer,
}

/// An owned partition.
pub(super) struct Partition {
    pub(super) number: u32,
    pub(super) input: SyncSender<Input>,
    common: Arc<Common>,
    views: Arc<Views>,
    stop: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
    shutdown: watch::Sender<bool>,
    pump: JoinHandle<()>,
    judge: JoinHandle<()>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    mirror: Arc<StateMirror>,
    mirroring: JoinHandle<()>,
    folder: PathBuf,
}

impl Partition {
    /// Takes a partition up: shuts its last owner out, reads what it kept, and goes on from there.
    pub(super) fn open(common: &Arc<Common>, number: u32) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let cluster = &common.cluster;
        let producer = StateProducer::open(cluster, number)?;
        let consumer = consumer(cluster)?;
        let rows = restore::read(&consumer, &cluster.state(), number)?;
        let folder = common.settings.state_dir.join("partitions");
        let folder = folder.join(number.to_string());
        let state = Arc::new(restore::open(&folder, rows)?);
        let lost = Arc::new(AtomicBool::new(false));
        let (mirror, mirroring) = StateMirror::start(producer, Arc::clone(&lost))?;
        state.set_mirror(Some(mirror.clone()));
        let journal = Arc::new(Journal::new(Arc::clone(&state)));
        let position = journal.position()?;
        let settings = settings_of(common, number, &folder);
        let views = Arc::new(Views::default());
        let merger = CollectorMerger::new(&settings.aggregation);
        let sum = Sum::Collectors(Box::new(merger));
        let Restored {
            judge,
            open,
            normal,
        } = restored::judge(&settings, (&journal, &state), &views, sum)?;

        let (shutdown, stopped) = watch::channel(false);
        let (input, inputs) = sync_channel(QUEUE);
        let (questions, asks) = sync_channel(QUEUE);
        let _runtime = common.runtime.enter();
        let suffix = format!(".{number}");
        let hearers = Hearers {
            input: input.clone(),
            views: Arc::clone(&views),
            story: None,
        };
        let Clients {
            commands, tasks, ..
        } = Clients::start(
            &settings,
            &suffix,
            &journal,
            (&open, &normal),
            hearers,
            &stopped,
        )?;

        let stop = Arc::new(AtomicBool::new(false));
        let view = Arc::new(PartitionView::default());
        let history = settings.aggregation.history.0;
        let owned = Owned::new(
            Arc::clone(&lost),
            Arc::clone(&view),
            history,
            position.as_ref(),
        );
        let thread = JudgeThread {
            judge,
            inputs,
            questions,
            watches: Box::new({
                let (bus, cluster) = (common.bus.clone(), cluster.clone());
                move |watcher, list| {
                    let Watcher::Collector(collector) = watcher else {
                        return;
                    };
                    for order in Watch::of(&collector, &list, &cluster.partitions) {
                        bus.send(&cluster.control(), 0, &order);
                    }
                }
            }),
            commands,
            journal,
            views: Arc::clone(&views),
            events: settings.events.as_deref().map(open_events).transpose()?,
            audit: AuditLog::open(&folder)?,
            announcer: common.announcer.clone(),
            story: None,
            observer: None,
            levels: BTreeMap::new(),
            teaching: Teaching::new(&settings, normal),
            keeps_evidence: false,
            stop: Arc::clone(&stop),
            owned: Some(owned),
        };
        seek(&consumer, cluster, number, position.as_ref())?;
        let pump = Pump {
            consumer,
            cluster: cluster.clone(),
            number,
            judged: position.map_or(0, |position| position.offset),
            input: input.clone(),
            asks,
            bus: common.bus.clone(),
            inquiry: Inquiry::default(),
            view: Arc::clone(&view),
            stop: Arc::clone(&stop),
            lost: Arc::clone(&lost),
        };
        common.view.insert(number, view);
        common.view.takeovers.fetch_add(1, Ordering::Relaxed);
        common.views.add_part(&views);
        tracing::info!(partition = number, open = open.len(), took = ?begun.elapsed(), "takes a partition up");
        Ok(Self {
            number,
            input,
            common: Arc::clone(common),
            views,
            stop,
            lost,
            shutdown,
            pump: spawn("weir-pump", move || pump.run())?,
            judge: spawn("weir-judge", move || thread.run())?,
            tasks,
            mirror,
            mirroring,
            folder,
        })
    }

    /// Whether another one owns it by now, or it cannot go on.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire) || self.judge.is_finished() || self.pump.is_finished()
    }

    /// Lets it come to its end: nothing is taken in any more.
    pub(super) fn begin_close(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Finishes, keeps everything, closes sessions without withdrawing anything.
    pub(super) fn close(self) {
        self.begin_close();
        let was_lost = self.is_lost();
        drop(self.input);
        let _ = self.pump.join();
        let _ = self.judge.join();
        // A client's last words need no answer.
        let _ = self.shutdown.send(true);
        self.common.runtime.block_on(async {
            for task in self.tasks {
                let _ = tokio::time::timeout(Duration::from_secs(2), task).await;
            }
        });
        self.mirror.close();
        let _ = self.mirroring.join();
        let view = &self.common.view;
        view.remove(self.number);
        view.releases.fetch_add(1, Ordering::Relaxed);
        view.fenced
            .fetch_add(u64::from(was_lost), Ordering::Relaxed);
        self.common.views.remove_part(&self.views);
        // It is on the topic; the folder holds nothing that anybody reads.
        let _ = std::fs::remove_dir_all(&self.folder);
        tracing::info!(partition = self.number, was_lost, "gives a partition up");
    }
}

/// The settings of one partition's zones.
fn settings_of(common: &Common, number: u32, folder: &std::path::Path) -> Settings {
    let mut settings = common.settings.clone();
    let partitions = &common.cluster.partitions;
    settings.state_dir = folder.to_owned();
    settings.export = settings.export.only_for(|name| {
        partitions
            .zone(name)
            .and_then(|zone| partitions.of(zone))
            .is_some_and(|of| of == number)
    });
    settings
}

/// A consumer of no group's partitions, which tells of ends.
fn consumer(cluster: &ClusterSettings) -> anyhow::Result<BaseConsumer<Logged>> {
    let mut config = consumer_config(&cluster.kafka, &cluster.group)?;
    config
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "100");
    Ok(config.create_with_context(Logged)?)
}

/// Goes to where seconds begin that are still looked at; where nobody has judged yet, to what is a minute old.
fn seek(
    consumer: &BaseConsumer<Logged>,
    cluster: &ClusterSettings,
    number: u32,
    position: Option<&Position>,
) -> anyhow::Result<()> {
    let patience = Duration::from_secs(5);
    let (summaries, findings) = (cluster.summaries(), cluster.findings());
    let partition = number.cast_signed();
    let from = match position {
        Some(position) => Offset::Offset(position.rewind),
        None => {
            let minute = wall_clock() / 1_000_000 - 64_000;
            let mut times = TopicPartitionList::new();
            times.add_partition_offset(&summaries, partition, Offset::Offset(minute))?;
            let found = consumer.offsets_for_times(times, patience)?;
            let found = found.find_partition(&summaries, partition);
            found.map_or(Offset::End, |found| found.offset())
        }
    };
    let (_, next) = consumer.fetch_watermarks(&findings, partition, patience)?;
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(&summaries, partition, from)?;
    all.add_partition_offset(&findings, partition, Offset::Offset(next))?;
    consumer.assign(&all)?;
    Ok(())
}

/// Brings summaries and answers to the judge.
struct Pump {
    consumer: BaseConsumer<Logged>,
    cluster: ClusterSettings,
    number: u32,
    /// Offset of the first message that no earlier owner has judged.
    judged: i64,
    input: SyncSender<Input>,
    asks: Receiver<Ask>,
    bus: Bus,
    inquiry: Inquiry,
    view: Arc<PartitionView>,
    stop: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
}

impl Pump {
    fn run(mut self) {
        let summaries = self.cluster.summaries();
        let is_over =
            |pump: &Self| pump.stop.load(Ordering::Relaxed) || pump.lost.load(Ordering::Acquire);
        while !is_over(&self) {
            let patience = if self.inquiry.is_waiting() { 5 } else { 50 };
            // The consumer's borrow ends with what is made of the message.
            let input = match self.consumer.poll(Duration::from_millis(patience)) {
                Some(Ok(message)) if message.topic() == summaries => self.arrival(&message),
                Some(Ok(message)) => {
                    let answer = message.payload().map(serde_json::from_slice::<Answer>);
                    match answer {
                        Some(Ok(answer)) => self.inquiry.handle_answer(answer),
                        _ => {
                            self.view.bad.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    None
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None => None,
                Some(Err(error)) => {
                    tracing::debug!(%error, "kafka");
                    None
                }
            };
            let now = Instant::now();
            if let Some(arrival) = input {
                self.hear(now, &arrival.part.collector);
                if self.input.send(Input::Arrival(Box::new(arrival))).is_err() {
                    return;
                }
            }
            while let Ok(ask) = self.asks.try_recv() {
                self.ask(now, &ask);
            }
            while let Some(findings) = self.inquiry.poll_findings(now) {
                if self
                    .input
                    .send(Input::Findings(Box::new(findings)))
                    .is_err()
                {
                    return;
                }
            }
        }
    }

    fn arrival(&self, message: &BorrowedMessage<'_>) -> Option<Arrival> {
        let payload = message.payload().unwrap_or_default();
        let decoded = match Part::decode(payload, &self.cluster.partitions) {
            Ok(decoded) => decoded,
            Err(error) => {
                if self.view.bad.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(%error, partition = self.number, "a message is no summary");
                }
                return None;
            }
        };
        let unknown = &self.view.unknown;
        unknown.fetch_add(decoded.unknown, Ordering::Relaxed);
        let limit = Timestamp::from_nanos(wall_clock()).plus(EARLY);
        if decoded.part.summary.time() > limit {
            if self.view.early.fetch_add(1, Ordering::Relaxed) == 0 {
                let collector = &decoded.part.collector;
                tracing::warn!(%collector, "a collector's clock is more than a minute ahead: it is left out");
            }
            return None;
        }
        Some(Arrival {
            part: decoded.part,
            offset: message.offset(),
            is_past: message.offset() < self.judged,
        })
    }

    fn hear(&mut self, now: Instant, collector: &Arc<str>) {
        let unawaited = &self.view.unawaited;
        if !self.inquiry.handle_collector(now, collector)
            && unawaited.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::warn!(%collector, "too many collectors: nobody waits for this one's findings");
        }
    }

    fn ask(&mut self, now: Instant, ask: &Ask) {
        let Ask::DrillDown(asked, _) = ask else {
            return;
        };
        let question = Question::of(self.number, asked, &self.cluster.partitions);
        if let Some(question) = question
            && self.inquiry.handle_question(now, &asked.attack, asked.top)
        {
            let order = Control::Ask(question);
            self.bus.send(&self.cluster.control(), 0, &order);
        }
    }
}

/// The attack of an operator's word is in one of the partitions.
pub(super) fn owner_of<'p>(
    partitions: impl Iterator<Item = &'p Partition>,
    attack: &AttackId,
) -> Option<&'p Partition> {
    let mut partitions = partitions;
    partitions.find(|partition| partition.views.attack(&attack.to_string()).is_some())
}
