//! The running pipeline: threads for packets, judgement and the recent window, one tokio runtime for DOTS and HTTP.
//!
//! ```text
//! sockets → shard threads ── summaries ─→ judge thread ── commands ──→ upstream tasks (tokio)
//!              │    ↑────── watch lists ───┘  │   ↑ └─ notices ←──────┘
//!              └ batches → window thread ← drill-down, findings
//!                             └ batches → Kafka's thread → store thread → Parquet
//! ```

mod clients;
mod cluster;
mod intake;
mod judge;
mod outlet;
mod packets;
mod restored;
mod shard;
mod streams;
mod teaching;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use weir_anonymise::Anonymiser;
use weir_attack_event::{AttackEvent, AttackId};
use weir_collector::{Receiver, Shard, Silence};
use weir_dots_export::ClientNotice;
use weir_dots_server::{Mitigator, Report, ReportedBaselines};
use weir_ebpf::{Sampler, capability};
use weir_enrichment::LearnedName;
use weir_flow_aggregate::{Merger, WatchList};
use weir_flow_store::RecentWindow;
use weir_kafka::Publisher;
use weir_state::State;

use self::clients::{Clients, Hearers};
pub(crate) use self::cluster::{ClusterView, Detectors, PartitionFigures, PublishView};
use self::intake::Intake;
pub(crate) use self::judge::{Input, Order};
use self::judge::{JudgeThread, Watches};
use self::outlet::Outlet;
use self::packets::Packets;
pub(crate) use self::packets::{Headers, SamplerView};
use self::restored::Restored;
use self::shard::ShardThread;
use self::teaching::Teaching;
use crate::admin::Admin;
use crate::attacks::Said;
use crate::audit::AuditLog;
use crate::config::Settings;
use crate::data_channel;
use crate::evidence::EvidenceKeeper;
use crate::http;
use crate::journal::Journal;
use crate::judge::{Sum, Watcher};
use crate::kafka::{self, Announcer};
use crate::learn::Watchers;
use crate::naming::{self, Naming};
use crate::store::{self, StoreWriter};
use crate::upstreams;
use crate::views::Views;

/// Inputs that wait for the judge, batches and questions that wait for the window.
const QUEUE: usize = 1024;

/// What a caller wants to see or to replace: used by the demo and by tests.
#[derive(Default)]
pub(crate) struct Hooks {
    /// What filters for the embedded DOTS server, beside the back ends of the configuration.
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
    receivers: Vec<Receiver>,
    samplers: Vec<Sampler>,
    state: Arc<State>,
    state_dir: PathBuf,
    publishing: Option<JoinHandle<()>>,
}

impl Kept {
    /// State that is open already, and no sockets.
    pub(crate) fn of_state(state: Arc<State>, state_dir: &Path) -> Self {
        Self {
            receivers: Vec::new(),
            samplers: Vec::new(),
            state,
            state_dir: state_dir.to_owned(),
            publishing: None,
        }
    }

    /// Closes all of it, but for the thread in which Kafka still takes what was queued.
    pub(crate) fn close(self) -> Option<JoinHandle<()>> {
        self.publishing
    }
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
    shards: Vec<JoinHandle<(Receiver, Vec<Sampler>)>>,
    judge: JoinHandle<()>,
    window: JoinHandle<()>,
    /// IPFIX over TCP and TLS.
    sessions: Option<JoinHandle<()>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    publisher: Option<Publisher>,
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
        let (receivers, samplers, state) = match kept {
            Some(kept) if kept.state_dir == settings.state_dir => {
                (kept.receivers, kept.samplers, Some(kept.state))
            }
            Some(kept) => (kept.receivers, kept.samplers, None),
            None => (Vec::new(), Vec::new(), None),
        };
        let state = match state {
            Some(state) => state,
            None => Arc::new(State::open(&settings.state_dir)?),
        };
        if !settings.samplers.is_empty() {
            capability::raise().context("cannot take up privileges")?;
        }
        let journal = Arc::new(Journal::new(Arc::clone(&state)));
        let receivers = if is_bound_to(&receivers, settings) {
            receivers
        } else {
            drop(receivers);
            Receiver::bind_group(
                &settings.collector.listen,
                settings.collector.shards,
                settings.collector.receive_buffer,
            )?
        };
        let collector = log_sockets(&receivers, settings.collector.receive_buffer);
        let samplers = packets::open(&settings.samplers, receivers.len(), samplers)?;
        let headers = Headers::new(if settings.samplers.is_empty() {
            0
        } else {
            receivers.len()
        });
        views.set_headers(headers.clone());
        let mut shards = start_shards(settings, &journal)?;
        let naming = Arc::new(load_naming(settings, &journal.names()?)?);
        let merger = Merger::new(settings.collector.shards, &settings.aggregation);
        let Restored {
            judge,
            open,
            normal,
        } = restored::judge(
            settings,
            (&journal, &state),
            &views,
            Sum::Shards(Box::new(merger)),
        )?;
        let folder = settings.evidence.as_ref().map(|kept| kept.folder.clone());
        views.set_evidence_folder(folder);
        let publisher = settings.kafka.as_ref().map(Publisher::start).transpose()?;
        views.set_kafka(publisher.as_ref().map(Publisher::figures));
        let announcer = Announcer::new(
            publisher.as_ref().and_then(Publisher::notes),
            settings.detector.vendor_id,
        );

        let (shutdown, stopped) = watch::channel(false);
        let (input, inputs) = sync_channel(QUEUE);
        let (ask, asks) = sync_channel(QUEUE);
        let questions = ask.clone();

        let _runtime = runtime.enter();
        let hearers = Hearers {
            input: input.clone(),
            views: Arc::clone(&views),
            story: hooks.story.clone(),
        };
        let clients = Clients::start(settings, "", &journal, (&open, &normal), hearers, &stopped)?;
        let Clients {
            commands,
            heard,
            mut tasks,
        } = clients;
        let first = settings
            .export
            .upstreams()
            .first()
            .map(|upstream| Arc::clone(&upstream.name));
        let admin = Arc::new(Admin::new(
            commands.clone(),
            first,
            heard,
            Arc::clone(&views),
            input.clone(),
            Arc::clone(&journal),
            announcer.clone(),
        ));
        let mut observer = None;
        if let Some(server) = &settings.dots_server {
            let (observed, observations) = mpsc::channel(QUEUE);
            observer = Some(observed);
            let (report, reported) = mpsc::channel(QUEUE);
            tasks.push(tokio::spawn(pass_on(reported, input.clone())));
            let labels = announcer.has_labels().then(|| {
                let (label, labels) = mpsc::channel(QUEUE);
                tasks.push(tokio::spawn(announce(labels, announcer.clone())));
                label
            });
            let data = runtime.block_on(data_channel::open_server(settings))?;
            let (task, view) = upstreams::start_server(
                server,
                hooks.mitigator,
                data,
                Arc::clone(&state),
                upstreams::Ears {
                    observations: Some(observations),
                    reported: Some(report),
                    labels,
                },
                stopped.clone(),
            )?;
            views.set_dots_server(view);
            tasks.push(task);
        }
        let http = serve_http(settings, &views, &admin, &stopped, &mut tasks)?;

        let parquet = settings.store.parquet.as_ref();
        let parquet = parquet.map(store::open).transpose()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut watches = Vec::new();
        let mut spares = Vec::new();
        let sessions = streams::start(&settings.collector, Arc::clone(&views), Arc::clone(&stop))?;
        let (inlets, sessions) = sessions.unzip();
        let mut inlets = inlets.into_iter().flatten();
        views.set_shards(receivers.len());
        let zones = settings.detector.zones.iter();
        let zones: Arc<[String]> = zones.map(|zone| zone.name.to_string()).collect();
        let sources = receivers.into_iter().zip(samplers);
        for ((number, mut shard), (receiver, samplers)) in (0..).zip(shards.drain(..)).zip(sources)
        {
            let packets = Packets::new(&mut shard, number.into(), samplers, headers.clone());
            let (watch, watched) = std::sync::mpsc::channel();
            let (spare, spared) = sync_channel(QUEUE);
            watches.push(watch);
            spares.push(spare);
            let thread = ShardThread {
                number,
                shard,
                intake: Intake::open(
                    receiver,
                    &settings.collector,
                    &settings.mirrors,
                    inlets.next(),
                    packets,
                )?,
                silence: (number == 0).then(|| Silence::new(settings.collector.silence())),
                input: input.clone(),
                ask: ask.clone(),
                spares: spared,
                watched,
                views: Arc::clone(&views),
                journal: Arc::clone(&journal),
                naming: Arc::clone(&naming),
                zones: Arc::clone(&zones),
                last_view: 0,
            };
            let stop = Arc::clone(&stop);
            threads.push(spawn(&format!("weir-shard-{number}"), move || {
                thread.run(&stop)
            })?);
        }
        drop(ask);
        let window = spawn("weir-window", {
            let limit = settings.store.recent_window;
            let store = parquet
                .map(|parquet| {
                    let anonymiser = anonymiser(settings)?;
                    StoreWriter::start(parquet, anonymiser, Arc::clone(&views), spares.clone())
                })
                .transpose()?;
            let flows = publisher.as_ref().and_then(Publisher::flows);
            let flows = flows
                .map(|flows| anyhow::Ok((flows, anonymiser(settings)?)))
                .transpose()?;
            let outlet = Outlet::start(flows, store, spares, &views)?;
            let open: BTreeSet<AttackId> = open.into_iter().collect();
            let evidence = settings.evidence.as_ref();
            let evidence = evidence
                .map(|kept| EvidenceKeeper::start(kept, &open, Arc::clone(&views)))
                .transpose()?;
            let window = RecentWindow::new(limit);
            let views = Arc::clone(&views);
            let models = Watchers::of_daemon(settings)?;
            move || {
                let outside = (&*naming, &*views);
                window::run(window, &asks, &input, outside, (outlet, evidence, models));
            }
        })?;
        let judge = if let Some(cluster) = &settings.cluster {
            let watch = shard_watches(watches);
            cluster::publish(settings, cluster, (inputs, questions, watch), &views, &stop)?
        } else {
            let thread = JudgeThread {
                judge,
                inputs,
                questions,
                watches: shard_watches(watches),
                commands,
                journal,
                views: Arc::clone(&views),
                events: settings.events.as_deref().map(open_events).transpose()?,
                audit: AuditLog::open(&settings.state_dir)?,
                announcer,
                story: hooks.story,
                observer,
                levels: BTreeMap::new(),
                teaching: Teaching::new(settings, normal),
                keeps_evidence: settings.evidence.is_some(),
                stop: Arc::clone(&stop),
                owned: None,
            };
            spawn("weir-judge", move || thread.run())?
        };
        Ok(Self {
            state,
            state_dir: settings.state_dir.clone(),
            collector,
            http,
            stop,
            shutdown,
            shards: threads,
            judge,
            window,
            sessions,
            tasks,
            publisher,
        })
    }

    /// Drains what was received, saves, closes sessions without withdrawing anything, and gives back what a daemon that
    /// follows at once goes on with.
    pub(crate) fn stop(self, runtime: &Handle) -> Option<Kept> {
        self.stop.store(true, Ordering::Relaxed);
        let shards = self.shards.into_iter().map(JoinHandle::join).collect();
        // The judge ends when the shard's and the upstreams' channels are closed; it still handles what they sent.
        let _ = self.shutdown.send(true);
        runtime.block_on(async {
            for task in self.tasks {
                let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
            }
        });
        if let Some(sessions) = self.sessions {
            let _ = sessions.join();
        }
        let _ = self.judge.join();
        let _ = self.window.join();
        // A daemon that follows at once does not wait for brokers, which may be gone.
        let publishing = self
            .publisher
            .and_then(|publisher| spawn("weir-last", move || kafka::finish(publisher)).ok());
        let shards: Vec<(Receiver, Vec<Sampler>)> = Result::ok(shards)?;
        let (receivers, samplers): (Vec<_>, Vec<_>) = shards.into_iter().unzip();
        Some(Kept {
            receivers,
            samplers: samplers.into_iter().flatten().collect(),
            state: self.state,
            state_dir: self.state_dir,
            publishing,
        })
    }
}

/// The way of watch lists to the shards of this process.
fn shard_watches(watches: Vec<std::sync::mpsc::Sender<WatchList>>) -> Watches {
    Box::new(move |watcher, list| {
        // A shard is gone only when everything stops.
        if let Watcher::Shard(shard) = watcher
            && let Some(watches) = watches.get(usize::from(shard))
        {
            let _ = watches.send(list);
        }
    })
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

/// Names and networks, as the configuration and earlier runs know them.
fn load_naming(settings: &Settings, learned: &[LearnedName]) -> anyhow::Result<Naming> {
    let (config, exporters) = (&settings.enrichment, settings.collector.names());
    Naming::load(config, exporters, learned)
        .map_err(|faults| anyhow::anyhow!(naming::listed(&faults)))
}

/// Shards that know what those of an earlier run did, each of its own exporters.
fn start_shards(settings: &Settings, journal: &Journal) -> anyhow::Result<Vec<Shard>> {
    let count = settings.collector.shards;
    let mut shards: Vec<Shard> = (0..count)
        .map(|number| Shard::new(settings.shard(number)))
        .collect();
    for change in journal.decoder_state()? {
        let number = weir_collector::shard_of(change.source(), count);
        if let Some(shard) = shards.get_mut(usize::from(number)) {
            shard.restore(change);
        }
    }
    Ok(shards)
}

fn is_bound_to(receivers: &[Receiver], settings: &Settings) -> bool {
    let collector = &settings.collector;
    receivers.len() == usize::from(collector.shards)
        && receivers.iter().all(|receiver| {
            let bound = receiver.sockets().map(|socket| socket.address);
            bound.eq(collector.listen.iter().copied())
        })
}

fn log_sockets(receivers: &[Receiver], wanted: u64) -> Vec<SocketAddr> {
    let shards = receivers.len();
    let sockets = receivers.first().into_iter().flat_map(Receiver::sockets);
    sockets
        .map(|socket| {
            let (address, granted) = (socket.address, socket.granted_buffer as u64);
            if granted < wanted {
                tracing::warn!(%address, shards, wanted, granted, "listening; the kernel granted less receive buffer: raise net.core.rmem_max");
            } else {
                tracing::info!(%address, shards, granted, "listening for NetFlow, IPFIX and sFlow");
            }
            address
        })
        .collect()
}

/// What makes addresses anonymous, where they are to be; one for each thread that lets records out.
fn anonymiser(settings: &Settings) -> Result<Option<Anonymiser>, weir_anonymise::KeyError> {
    settings.anonymise.as_ref().map(Anonymiser::new).transpose()
}

fn open_events(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(path);
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

/// Brings the baselines that clients of our DOTS server report to the judge.
async fn pass_on(mut reported: mpsc::Receiver<ReportedBaselines>, input: SyncSender<Input>) {
    while let Some(report) = reported.recv().await {
        if input.try_send(Input::Reported(report)).is_err() {
            tracing::warn!("the judge is behind: a reported baseline is left out");
        }
    }
}

/// Brings what clients of our DOTS server say of attacks to Kafka.
async fn announce(mut labels: mpsc::Receiver<Report>, announcer: Announcer) {
    while let Some(report) = labels.recv().await {
        announcer.label(&Said::Client(report));
    }
}
