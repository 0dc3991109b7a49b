//! `weir replay`: the production pipeline over captures or stored flows, single-threaded, in the data's own time.

mod packets;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use weir_baseline::Baselines;
use weir_collector::{Capture, CapturedDatagram, CapturedFrame, Shard, shard_of};
use weir_detector::Detector;
use weir_dots_export::{Exporter, Record, Recorder};
use weir_flow_aggregate::{AggregateCounters, Merger};
use weir_flow_record::{ColumnSet, ReceivedAt, Timestamp};
use weir_flow_store::{FlowReader, RecentWindow, is_parquet};

use crate::arguments::{ReplayArguments, ReplayAs};
use crate::baseline;
use crate::config::{self, Settings};
use crate::evidence::ReplayedEvidence;
use crate::judge::{self, Judge, Sum, Verdict};
use crate::learn::{self, Watcher};
use crate::progress::Progress;

/// Runs the command.
pub(crate) fn run(arguments: &ReplayArguments) -> anyhow::Result<()> {
    let mut settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    // Not what the machine has CPUs for: the same events everywhere.
    settings.collector.shards = arguments.shards.max(1);
    let mut events: Box<dyn Write> = match &arguments.events {
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(io::stdout().lock()),
    };
    let bodies = arguments
        .telemetry
        .as_deref()
        .map(Bodies::create)
        .transpose()?;
    let evidence = arguments.evidence.as_deref();
    let evidence = evidence
        .map(|folder| ReplayedEvidence::create(folder, settings.evidence.as_ref()))
        .transpose()?;
    let baselines = match &arguments.baselines {
        Some(path) => baseline::from_file(&settings.baseline, path)?,
        None => Baselines::new(settings.baseline.clone()),
    };
    let mut replay = Replay::new(&settings, &mut events, bodies, baselines);
    if let Some(name) = &arguments.model {
        let out: Box<dyn Write + Send> = match &arguments.shadow {
            Some(path) => {
                let file = File::create(path)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Box::new(BufWriter::new(file))
            }
            None => Box::new(io::sink()),
        };
        let mut watcher = Watcher::new(learn::find_model(name, &settings)?, &settings, out);
        watcher.act(arguments.shadow.is_none());
        replay.model = Some(watcher);
    }
    replay.evidence = evidence;
    replay.run_all(&arguments.files, arguments.read_as)?;
    replay.report();
    if let Some(path) = &arguments.baselines {
        baseline::to_file(replay.judge.baselines_mut(), path)?;
    }
    drop(replay);
    events.flush().context("cannot write the events")
}

/// The event lines of a replay, with a model that acts, if there is one.
pub(crate) fn events_of(
    settings: &Settings,
    files: &[PathBuf],
    model: Option<Watcher>,
    events: &mut dyn Write,
) -> anyhow::Result<()> {
    let baselines = Baselines::new(settings.baseline.clone());
    let mut replay = Replay::new(settings, events, None, baselines);
    replay.model = model;
    replay.run_all(files, None)
}

/// The pipeline and what it writes.
struct Replay<'w> {
    shards: Vec<Shard>,
    window: RecentWindow,
    judge: Judge,
    recorder: Recorder,
    events: &'w mut dyn Write,
    bodies: Option<Bodies>,
    evidence: Option<ReplayedEvidence>,
    attacks: u64,
    /// A model that acts, or looks on.
    model: Option<Watcher>,
}

impl<'w> Replay<'w> {
    fn new(
        settings: &Settings,
        events: &'w mut dyn Write,
        bodies: Option<Bodies>,
        baselines: Baselines,
    ) -> Self {
        Self {
            shards: (0..settings.collector.shards)
                .map(|number| Shard::new(settings.shard(number)))
                .collect(),
            window: RecentWindow::new(settings.store.recent_window),
            judge: Judge::new(
                Sum::Shards(Box::new(Merger::new(
                    settings.collector.shards,
                    &settings.aggregation,
                ))),
                Detector::new(settings.detector.clone()).with_baselines(baselines),
                Exporter::new(settings.export.clone()),
            ),
            recorder: Recorder::new(&settings.export),
            events,
            bodies,
            evidence: None,
            attacks: 0,
            model: None,
        }
    }

    fn run_all(&mut self, files: &[PathBuf], read_as: Option<ReplayAs>) -> anyhow::Result<()> {
        let stored = files.iter().filter(|path| is_parquet(path));
        let warnings = match stored.count() {
            0 => match read_as.map_or_else(|| ReplayAs::of(files), Ok)? {
                ReplayAs::Exports => self.run_captures(files)?,
                ReplayAs::Packets => self.run_packets(files)?,
            },
            all if all == files.len() => self.run_stored(files)?,
            _ => anyhow::bail!("captures and Parquet files cannot be replayed together"),
        };
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// Replays captures; tells what is odd about them.
    fn run_captures(&mut self, files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
        let mut source = Merged::<CapturedDatagram>::open(files)?;
        let progress = Progress::of_files("replay", files);
        while let Some(datagram) = source.next() {
            self.handle_datagram(&datagram)?;
            progress.set(source.octets_read());
        }
        self.finish()?;
        progress.finish();
        Ok(source.warnings().collect())
    }

    /// Replays Parquet files and folders of such; nothing is odd about files that are read to their end.
    fn run_stored(&mut self, files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
        let mut source = FlowReader::open(files)?;
        let progress = Progress::of_files("replay", files);
        while let Some(batch) = source.next() {
            let batch = batch?;
            for datagram in &batch.datagrams {
                self.run_until(datagram.received_at.0)?;
                let exporter = datagram.exporter_address.ip();
                let number = shard_of(exporter, self.shards.len() as u16);
                if let Some(shard) = self.shards.get_mut(usize::from(number)) {
                    shard.handle_records(&batch, datagram);
                }
                self.drain()?;
            }
            progress.set(source.octets_read());
        }
        self.finish()?;
        progress.finish();
        Ok(Vec::new())
    }

    fn handle_datagram(&mut self, datagram: &CapturedDatagram) -> anyhow::Result<()> {
        self.run_until(datagram.at.0)?;
        let number = shard_of(datagram.from.ip(), self.shards.len() as u16);
        if let Some(shard) = self.shards.get_mut(usize::from(number)) {
            shard.handle_datagram(datagram.at, datagram.from, &datagram.payload);
        }
        self.drain()
    }

    /// Lets all timers run that are due before `limit`; gaps are jumped, since only timers that exist are visited.
    fn run_until(&mut self, limit: Timestamp) -> anyhow::Result<()> {
        while let Some(due) = self.next_timer().filter(|due| *due <= limit) {
            self.handle_timeout(due)?;
        }
        Ok(())
    }

    /// After the last datagram time runs on until all timers are quiet.
    fn finish(&mut self) -> anyhow::Result<()> {
        while let Some(due) = self.next_timer() {
            self.handle_timeout(due)?;
        }
        if let Some(evidence) = &mut self.evidence {
            evidence.finish(self.judge.now());
        }
        self.model.as_mut().map_or(Ok(()), Watcher::finish)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let shards = self.shards.iter().filter_map(Shard::poll_timeout);
        shards
            .map(|due| due.0)
            .chain(self.judge.poll_timeout())
            .min()
    }

    fn handle_timeout(&mut self, now: Timestamp) -> anyhow::Result<()> {
        for shard in &mut self.shards {
            shard.handle_timeout(ReceivedAt(now));
        }
        if let Some(model) = &mut self.model {
            model.handle_time(now.nanos())?;
        }
        self.drain()?;
        self.judge.handle_timeout(now);
        self.drain()
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        let mut summaries = Vec::new();
        for shard in &mut self.shards {
            while let Some(batch) = shard.poll_batch() {
                self.window.handle_batch(&batch);
                if let Some(evidence) = &mut self.evidence {
                    evidence.handle_batch(self.judge.now(), &batch);
                }
                if let Some(model) = &mut self.model {
                    model.handle_batch(&batch)?;
                }
                shard.recycle(batch);
            }
            while shard.poll_change().is_some() {}
            summaries.extend(std::iter::from_fn(|| shard.poll_summary()));
        }
        while let Some((now, verdict)) = self.model.as_mut().and_then(Watcher::poll_verdict) {
            self.judge.handle_model(now, &verdict);
        }
        for summary in summaries {
            self.judge.handle_summary(summary);
            // A replay keeps nothing as it goes.
            while self.judge.baselines_mut().poll_persist().is_some() {}
            self.drain_verdicts()?;
        }
        self.drain_verdicts()
    }

    fn drain_verdicts(&mut self) -> anyhow::Result<()> {
        while let Some(verdict) = self.judge.poll_verdict() {
            match verdict {
                Verdict::Event(event) => {
                    self.attacks +=
                        u64::from(event.kind == weir_attack_event::EventKind::AttackStart);
                    if let Some(evidence) = &mut self.evidence {
                        evidence.handle_event(self.judge.now(), &event, &self.window);
                    }
                    serde_json::to_writer(&mut *self.events, &event)?;
                    self.events
                        .write_all(b"\n")
                        .context("cannot write the events")?;
                }
                Verdict::DrillDown(question) => {
                    let findings = self.window.drill_down(&question);
                    self.judge.handle_findings(findings);
                }
                // Without collectors all watchers are shards.
                Verdict::Watch(judge::Watcher::Collector(_), _) => {}
                Verdict::Watch(judge::Watcher::Shard(number), list) => {
                    if let Some(shard) = self.shards.get_mut(usize::from(number)) {
                        shard.handle_watch(&list);
                    }
                }
                Verdict::Command(upstream, command) => {
                    let now = self.judge.now();
                    for record in self.recorder.handle_command(now, &upstream, &command) {
                        if let Some(bodies) = &mut self.bodies {
                            bodies.write(&record)?;
                        }
                    }
                }
                Verdict::Persist(_) | Verdict::Decision(_) => {}
            }
        }
        Ok(())
    }

    fn report(&self) {
        let counters = self
            .shards
            .iter()
            .map(Shard::aggregate_counters)
            .fold(AggregateCounters::default(), |sum, part| sum.plus(&part));
        let decoded = self.shards.iter().map(|shard| {
            let decoders = shard.decoders();
            decoders.netflow_counters().datagrams + decoders.sflow_counters().datagrams
        });
        tracing::info!(
            datagrams = decoded.sum::<u64>(),
            records = counters.records,
            outside_zones = counters.outside_records,
            late = counters.late_records,
            unknown_rate = counters.unknown_rate_records,
            attacks = self.attacks,
            "replayed"
        );
    }
}

/// The folder of DOTS bodies.
struct Bodies {
    folder: std::path::PathBuf,
    index: BufWriter<File>,
}

#[derive(Serialize)]
struct IndexLine<'a> {
    seq: u64,
    time: Timestamp,
    server: &'a str,
    method: &'a str,
    path: &'a str,
    event: &'a str,
    file: Option<String>,
}

impl Bodies {
    fn create(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let index = folder.join("index.ndjson");
        let file =
            File::create(&index).with_context(|| format!("cannot write {}", index.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            index: BufWriter::new(file),
        })
    }

    fn write(&mut self, record: &Record) -> anyhow::Result<()> {
        let file = match &record.body {
            Some(body) => {
                let name = format!("{:06}-{}.json", record.seq, record.kind);
                fs::write(self.folder.join(&name), serde_json::to_vec_pretty(body)?)
                    .with_context(|| format!("cannot write {name}"))?;
                Some(name)
            }
            None => None,
        };
        let line = IndexLine {
            seq: record.seq,
            time: record.time,
            server: &record.server,
            method: record.method,
            path: &record.path,
            event: &record.event,
            file,
        };
        serde_json::to_writer(&mut self.index, &line)?;
        self.index.write_all(b"\n")?;
        self.index.flush().context("cannot write index.ndjson")
    }
}

/// Several captures as one, by time stamp; files with equal stamps in the order of the command line.
pub(crate) struct Merged<T> {
    sources: Vec<(Capture, Option<T>, String)>,
}

/// What is read from a capture.
pub(crate) trait Captured: Sized {
    fn read(capture: &mut Capture) -> Option<Self>;
    fn at(&self) -> ReceivedAt;
}

impl Captured for CapturedDatagram {
    fn read(capture: &mut Capture) -> Option<Self> {
        capture.next()
    }

    fn at(&self) -> ReceivedAt {
        self.at
    }
}

impl Captured for CapturedFrame {
    fn read(capture: &mut Capture) -> Option<Self> {
        capture.next_frame()
    }

    fn at(&self) -> ReceivedAt {
        self.at
    }
}

impl<T: Captured> Merged<T> {
    pub(crate) fn open(files: &[std::path::PathBuf]) -> anyhow::Result<Self> {
        let mut sources = Vec::new();
        for path in files {
            let mut capture = Capture::open(path)?;
            let first = T::read(&mut capture);
            sources.push((capture, first, path.display().to_string()));
        }
        Ok(Self { sources })
    }

    fn octets_read(&self) -> u64 {
        self.sources
            .iter()
            .map(|(capture, ..)| capture.octets_read())
            .sum()
    }

    fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.sources
            .iter()
            .filter(|(capture, ..)| capture.truncated())
            .map(|(_, _, name)| {
                format!("{name} ends in the middle of a packet; what came before it was used")
            })
    }
}

impl<T: Captured> Iterator for Merged<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let (capture, head, _) = self
            .sources
            .iter_mut()
            .filter(|(_, head, _)| head.is_some())
            .min_by_key(|(_, head, _)| head.as_ref().map(T::at))?;
        std::mem::replace(head, T::read(capture))
    }
}
