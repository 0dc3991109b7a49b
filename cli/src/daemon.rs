//! The running pipeline: threads for packets, judgement and the recent window, one tokio runtime for DOTS and HTTP.
//!
//! ```text
//! sockets → shard thread ── summaries ──→ judge thread ── commands ──→ upstream tasks (tokio)
//!              │    ↑────── watch lists ───┘  │   ↑ └─ notices ←──────┘
//!              └ batches → window thread ← drill-down, findings
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{
    Receiver as StdReceiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel,
};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, watch};
use weir_attack_event::{AttackEvent, AttackId, DrillDown, Findings};
use weir_collector::{ReceiveBuffers, Receiver, Shard, wall_clock};
use weir_detector::Detector;
use weir_dots_export::{ClientCommand, ClientNotice, Exporter};
use weir_dots_server::Mitigator;
use weir_flow_aggregate::{WatchList, WindowSummary};
use weir_flow_record::{Direction, FlowBatch, ReceivedAt, Timestamp, ZoneId};
use weir_flow_store::RecentWindow;
use weir_state::State;

use crate::admin::Admin;
use crate::config::Settings;
use crate::http;
use crate::journal::Journal;
use crate::judge::{Judge, Verdict};
use crate::upstreams;
use crate::views::{ExporterRow, ShardView, Views};

/// Longest wait for datagrams, so that ticks and a stop are seen in time.
const PATIENCE: Duration = Duration::from_millis(10);
/// Pause after a drain: sleeping a little costs less than waking for every datagram.
const PAUSE: Duration = Duration::from_millis(1);
/// Inputs that wait for the judge, batches and questions that wait for the window.
const QUEUE: usize = 1024;

/// What a caller wants to see or to replace: used by the demo and by tests.
#[derive(Default)]
pub(crate) struct Hooks {
    /// What filters for the embedded DOTS server; by default nothing does.
    pub(crate) mitigator: Option<Box<dyn Mitigator>>,
    /// Told of everything that happens.
    pub(crate) story: Option<std::sync::mpsc::Sender<Story>>,
}

/// Something that happened.
pub(crate) enum Story {
    /// A zone's inbound traffic in a settled second.
    Level { second: i64, octets: u64 },
    /// An attack event.
    Event(Box<AttackEvent>),
    /// An upstream's word.
    Notice(ClientNotice),
}

/// What a daemon hands to the one that follows it at once: sockets lose no datagram, and the state file stays locked.
pub(crate) struct Kept {
    receiver: Receiver,
    state: Arc<State>,
    state_dir: PathBuf,
}

/// A running daemon.
pub(crate) struct Daemon {
    /// Where it listens for exports.
    pub(crate) collector: Vec<SocketAddr>,
    /// Where its HTTP interface listens.
    pub(crate) http: SocketAddr,
    state: Arc<State>,
    state_dir: PathBuf,
    stop: Arc<AtomicBool>,
    shutdown: watch::Sender<bool>,
    shard: JoinHandle<Receiver>,
    judge: JoinHandle<()>,
    window: JoinHandle<()>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// What the judge thread takes in.
enum Input {
    Summary(Box<WindowSummary>),
    Findings(Findings),
    Notice(ClientNotice),
}

/// What the window thread takes in.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are batches, and a box would be an allocation for each"
)]
enum Ask {
    Batch(FlowBatch),
    DrillDown(DrillDown),
}

impl Daemon {
    /// Opens state, sockets and credentials, restores what an earlier run knew, and starts.
    pub(crate) fn start(
        runtime: &Handle,
        settings: &Settings,
        hooks: Hooks,
        kept: Option<Kept>,
        views: Arc<Views>,
    ) -> anyhow::Result<Self> {
        let (receiver, state) = match kept {
            Some(kept) if kept.state_dir == settings.state_dir => {
                (Some(kept.receiver), Some(kept.state))
            }
            Some(kept) => (Some(kept.receiver), None),
            None => (None, None),
        };
        let state = match state {
            Some(state) => state,
            None => Arc::new(State::open(&settings.state_dir)?),
        };
        let journal = Arc::new(Journal::new(Arc::clone(&state)));
        let receiver = match receiver {
            Some(receiver) if is_bound_to(&receiver, settings) => receiver,
            _ => Receiver::bind(
                &settings.collector.listen,
                settings.collector.receive_buffer,
            )?,
        };
        let collector = log_sockets(&receiver, settings.collector.receive_buffer);
        let mut shard = Shard::new(settings.shard());
        for change in journal.decoder_state()? {
            shard.restore(change);
        }
        let mut detector = Detector::new(settings.detector.clone());
        for attack in journal.attacks()? {
            detector.restore(attack);
        }
        let open: Vec<AttackId> = detector.open_attacks().cloned().collect();
        let mut exporter = Exporter::new(settings.export.clone());
        exporter.restore(open.iter().cloned());
        let judge = Judge::new(detector, exporter);

        let (shutdown, stopped) = watch::channel(false);
        let (input, inputs) = sync_channel(QUEUE);
        let (ask, asks) = sync_channel(QUEUE);
        let questions = ask.clone();
        let (spare, spares) = sync_channel(QUEUE);
        let (watches, watched) = std::sync::mpsc::channel();
        let (notice, notices) = mpsc::channel(QUEUE);
        let (heard, _) = broadcast::channel(QUEUE);
        let mut tasks = Vec::new();

        let _runtime = runtime.enter();
        let mut commands = BTreeMap::new();
        for upstream in upstreams::start(settings, &journal, &notice, &stopped)? {
            for command in upstreams::left_over(&upstream.held, |attack| open.contains(attack)) {
                upstream
                    .commands
                    .try_send(command)
                    .context("too many mitigations are left over")?;
            }
            commands.insert(upstream.name, upstream.commands);
            tasks.push(upstream.task);
        }
        drop(notice);
        let first = settings
            .export
            .upstreams()
            .first()
            .map(|upstream| Arc::clone(&upstream.name));
        let admin = Arc::new(Admin::new(
            commands.clone(),
            first,
            heard.clone(),
            Arc::clone(&views),
        ));
        tasks.push(tokio::spawn(forward(
            notices,
            input.clone(),
            heard,
            Arc::clone(&views),
            hooks.story.clone(),
        )));
        if let Some(server) = &settings.dots_server {
            let mitigator = hooks
                .mitigator
                .unwrap_or_else(|| Box::new(weir_dots_server::NoMitigator::default()));
            tasks.push(upstreams::start_server(server, mitigator, stopped.clone())?);
        }
        let http = serve_http(settings, &views, &admin, &stopped, &mut tasks)?;

        let stop = Arc::new(AtomicBool::new(false));
        let shard = spawn("weir-shard-0", {
            let (stop, views, state) =
                (Arc::clone(&stop), Arc::clone(&views), Arc::clone(&journal));
            let input = input.clone();
            move || {
                let buffers = ReceiveBuffers::default();
                let mut thread = ShardThread {
                    shard,
                    receiver,
                    buffers,
                    input,
                    ask,
                    spares,
                    watched,
                    views,
                    journal: state,
                    last_view: 0,
                };
                while !stop.load(Ordering::Relaxed) {
                    thread.turn();
                }
                thread.receiver
            }
        })?;
        let window = spawn("weir-window", {
            let (limit, input) = (settings.store.recent_window, input);
            move || run_window(RecentWindow::new(limit), &asks, &spare, &input)
        })?;
        let judge = spawn("weir-judge", {
            let thread = JudgeThread {
                judge,
                inputs,
                questions,
                watches,
                commands,
                journal,
                views: Arc::clone(&views),
                events: settings.events.as_deref().map(open_events).transpose()?,
                story: hooks.story,
                levels: BTreeMap::new(),
                stop: Arc::clone(&stop),
            };
            move || thread.run()
        })?;
        Ok(Self {
            state,
            state_dir: settings.state_dir.clone(),
            collector,
            http,
            stop,
            shutdown,
            shard,
            judge,
            window,
            tasks,
        })
    }

    /// Drains what was received, saves, closes sessions without withdrawing anything, and gives back what a daemon that
    /// follows at once goes on with.
    pub(crate) fn stop(self, runtime: &Handle) -> Option<Kept> {
        self.stop.store(true, Ordering::Relaxed);
        let receiver = self.shard.join().ok();
        // The judge ends when the shard's and the upstreams' channels are closed; it still handles what they sent.
        let _ = self.shutdown.send(true);
        runtime.block_on(async {
            for task in self.tasks {
                let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
            }
        });
        let _ = self.judge.join();
        let _ = self.window.join();
        Some(Kept {
            receiver: receiver?,
            state: self.state,
            state_dir: self.state_dir,
        })
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .context("cannot start a thread")
}

fn is_bound_to(receiver: &Receiver, settings: &Settings) -> bool {
    let bound: Vec<SocketAddr> = receiver.sockets().map(|socket| socket.address).collect();
    bound == settings.collector.listen
}

fn log_sockets(receiver: &Receiver, wanted: u64) -> Vec<SocketAddr> {
    receiver
        .sockets()
        .map(|socket| {
            let (address, granted) = (socket.address, socket.granted_buffer as u64);
            if granted < wanted {
                tracing::warn!(%address, wanted, granted, "listening; the kernel granted less receive buffer: raise net.core.rmem_max");
            } else {
                tracing::info!(%address, granted, "listening for NetFlow, IPFIX and sFlow");
            }
            address
        })
        .collect()
}

fn open_events(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

fn serve_http(
    settings: &Settings,
    views: &Arc<Views>,
    admin: &Arc<Admin>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut Vec<tokio::task::JoinHandle<()>>,
) -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(settings.http)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .with_context(|| format!("cannot listen on {} for HTTP", settings.http))?;
    let address = listener.local_addr()?;
    tasks.push(tokio::spawn(http::serve(
        TcpListener::from_std(listener)?,
        Arc::clone(views),
        stopped.clone(),
    )));
    let socket = settings.state_dir.join(crate::admin::SOCKET);
    let listener = http::bind_admin(&socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    tasks.push(tokio::spawn(http::serve_admin(
        listener,
        Arc::clone(views),
        Arc::clone(admin),
        stopped.clone(),
    )));
    tracing::info!(%address, admin = %socket.display(), "HTTP interface");
    Ok(address)
}

/// Brings the upstreams' words to the judge and to whoever listens.
async fn forward(
    mut notices: mpsc::Receiver<ClientNotice>,
    input: SyncSender<Input>,
    heard: broadcast::Sender<ClientNotice>,
    views: Arc<Views>,
    story: Option<std::sync::mpsc::Sender<Story>>,
) {
    while let Some(notice) = notices.recv().await {
        upstreams::note(&views, &notice);
        // Nobody needs to listen.
        let _ = heard.send(notice.clone());
        if let Some(story) = &story {
            let _ = story.send(Story::Notice(notice.clone()));
        }
        let mut waiting = Input::Notice(notice);
        while let Err(error) = input.try_send(waiting) {
            match error {
                TrySendError::Full(input) => waiting = input,
                TrySendError::Disconnected(_) => return,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The thread that owns sockets, decoder and aggregator.
struct ShardThread {
    shard: Shard,
    receiver: Receiver,
    buffers: ReceiveBuffers,
    input: SyncSender<Input>,
    ask: SyncSender<Ask>,
    spares: StdReceiver<FlowBatch>,
    watched: StdReceiver<WatchList>,
    views: Arc<Views>,
    journal: Arc<Journal>,
    last_view: i64,
}

impl ShardThread {
    fn turn(&mut self) {
        let shard = &mut self.shard;
        let received = self
            .receiver
            .receive(&mut self.buffers, PATIENCE, |at, from, octets| {
                shard.handle_datagram(at, from, octets);
            });
        match received {
            Ok(0) => {}
            Ok(_) => std::thread::sleep(PAUSE),
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
        let mut changes = Vec::new();
        while let Some(change) = self.shard.poll_change() {
            changes.push(change);
        }
        if !changes.is_empty() {
            self.journal.keep_decoder_state(changes);
        }
        if now - self.last_view >= 1_000_000_000 {
            self.last_view = now;
            self.publish();
        }
    }

    fn hand_over_batches(&mut self) {
        while let Some(batch) = self.shard.poll_batch() {
            if let Err(
                TrySendError::Full(Ask::Batch(batch))
                | TrySendError::Disconnected(Ask::Batch(batch)),
            ) = self.ask.try_send(Ask::Batch(batch))
            {
                self.views
                    .counters
                    .lost_batches
                    .fetch_add(1, Ordering::Relaxed);
                self.shard.recycle(batch);
            }
        }
        while let Ok(batch) = self.spares.try_recv() {
            self.shard.recycle(batch);
        }
    }

    fn publish(&self) {
        let exporters = self.shard.exporters().map(|view| ExporterRow {
            name: self
                .shard
                .exporter_name(view.address)
                .map_or_else(|| view.address.to_string(), str::to_owned),
            skew_seconds: view.skew_nanos as f64 / 1e9,
            view,
        });
        self.views.set_shard(ShardView {
            exporters: exporters.collect(),
            sockets: self.receiver.sockets().collect(),
            aggregate: self.shard.aggregate_counters(),
            refused_datagrams: self.shard.refused_datagrams(),
        });
    }
}

/// The thread that owns the recent window: polars never runs where packets or judgements do.
fn run_window(
    mut window: RecentWindow,
    asks: &StdReceiver<Ask>,
    spare: &SyncSender<FlowBatch>,
    input: &SyncSender<Input>,
) {
    while let Ok(ask) = asks.recv() {
        match ask {
            Ask::Batch(batch) => {
                window.handle_batch(&batch);
                // A full channel only means that the shard has spares enough.
                let _ = spare.try_send(batch);
            }
            Ask::DrillDown(question) => {
                let findings = window.drill_down(&question);
                if input.send(Input::Findings(findings)).is_err() {
                    return;
                }
            }
        }
    }
}

/// The thread that owns detector and export policy.
struct JudgeThread {
    judge: Judge,
    inputs: StdReceiver<Input>,
    questions: SyncSender<Ask>,
    watches: std::sync::mpsc::Sender<WatchList>,
    commands: BTreeMap<Arc<str>, mpsc::Sender<ClientCommand>>,
    journal: Arc<Journal>,
    views: Arc<Views>,
    events: Option<File>,
    story: Option<std::sync::mpsc::Sender<Story>>,
    /// Octets of seconds that are not settled yet, for the story.
    levels: BTreeMap<(i64, ZoneId), u64>,
    stop: Arc<AtomicBool>,
}

impl JudgeThread {
    fn run(mut self) {
        loop {
            match self.inputs.recv_timeout(self.patience()) {
                Ok(input) => self.handle_input(input),
                Err(RecvTimeoutError::Timeout) if self.stop.load(Ordering::Relaxed) => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Timestamp::from_nanos(wall_clock());
            if self.judge.poll_timeout().is_some_and(|due| due <= now) {
                self.judge.handle_timeout(now);
            }
            self.carry_out();
        }
    }

    fn patience(&self) -> Duration {
        let now = Timestamp::from_nanos(wall_clock());
        let due = self
            .judge
            .poll_timeout()
            .map_or(Duration::MAX, |due| due.since(now));
        due.clamp(Duration::from_millis(1), Duration::from_millis(100))
    }

    fn handle_input(&mut self, input: Input) {
        match input {
            Input::Summary(summary) => {
                self.tell_level(&summary);
                self.judge.handle_summary(&summary);
            }
            Input::Findings(findings) => self.judge.handle_findings(findings),
            Input::Notice(notice) => self
                .judge
                .handle_notice(Timestamp::from_nanos(wall_clock()), &notice),
        }
    }

    /// What must survive is durable before any command leaves that rests on it.
    fn carry_out(&mut self) {
        let mut commands = Vec::new();
        let mut saved = Vec::new();
        while let Some(verdict) = self.judge.poll_verdict() {
            match verdict {
                Verdict::Persist(attack) => saved.push(*attack),
                Verdict::Event(event) => self.tell(event),
                // The shard is gone only when everything stops.
                Verdict::Watch(list) => drop(self.watches.send(list)),
                Verdict::DrillDown(question) => {
                    if self.questions.try_send(Ask::DrillDown(question)).is_err() {
                        tracing::warn!("the recent window is behind: a drill-down was left out");
                    }
                }
                Verdict::Command(upstream, command) => commands.push((upstream, *command)),
            }
        }
        if !saved.is_empty()
            && let Err(error) = self.journal.keep_attacks(&saved)
        {
            tracing::error!(%error, "attacks are not saved");
        }
        for (upstream, command) in commands {
            let sent = self
                .commands
                .get(&upstream)
                .map(|sender| sender.try_send(command));
            if !matches!(sent, Some(Ok(()))) {
                tracing::error!(%upstream, "the upstream's client does not take commands");
            }
        }
    }

    fn tell(&mut self, event: Box<AttackEvent>) {
        self.views.handle_event(&event);
        tracing::info!(
            event = ?event.kind,
            id = %event.id,
            target = %event.target.prefix,
            zone = %event.target.zone,
            severity = ?event.severity,
            why = event.why.first().map_or("", |reason| reason.0.as_str()),
            "attack"
        );
        if let Some(file) = &mut self.events {
            let line = serde_json::to_vec(&event).map_err(std::io::Error::other);
            let written = line.and_then(|mut line| {
                line.push(b'\n');
                file.write_all(&line)
            });
            if let Err(error) = written {
                tracing::error!(%error, "an event is not in the file");
            }
        }
        if let Some(story) = &self.story {
            let _ = story.send(Story::Event(event));
        }
    }

    /// Tells each second of the zones once it is settled.
    fn tell_level(&mut self, summary: &WindowSummary) {
        let Some(story) = &self.story else { return };
        let inbound = summary
            .zones
            .iter()
            .filter(|zone| zone.target.direction == Direction::In);
        for zone in inbound {
            for (second, bucket) in (zone.first_second..).zip(&zone.total) {
                self.levels
                    .insert((second, zone.target.zone), bucket.octets);
            }
        }
        while let Some(((second, _), _)) = self.levels.first_key_value()
            && *second < summary.settled_until
            && let Some(((second, _), octets)) = self.levels.pop_first()
        {
            let _ = story.send(Story::Level { second, octets });
        }
    }
}
