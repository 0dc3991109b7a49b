//! `weir run`: the daemon's life, and its signals.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use weir_flow_record::ColumnSet;
use weir_standby::{Pair, Turn};

use crate::config::cluster::Role;
use crate::config::{self, ConfigError, Settings};
use crate::daemon::{Daemon, Detectors, Hooks, Kept};
use crate::log;
use crate::standby;
use crate::views::Views;

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(path: &Path, role: Role) -> anyhow::Result<()> {
    let mut settings = load(path, role)?;
    if !settings.samplers.is_empty() {
        // No thread has them but while samplers are opened.
        weir_ebpf::capability::lower()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Clients of partitions wait for brokers when they keep something.
        .worker_threads(if role == Role::Detect { 8 } else { 2 })
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let mut signals = {
        let _guard = runtime.enter();
        Signals::new().context("cannot listen for signals")?
    };
    let mut pair = standby::start(&settings)?;
    let mut views = new_views(pair.as_ref());
    let mut kept = None;
    let mut before: Option<Settings> = None;
    loop {
        if let Some(pair) = pair.as_mut().filter(|pair| pair.turn() != Turn::Work) {
            let waited = standby::wait(pair, &settings, &views, &mut signals, path);
            match runtime.block_on(waited)? {
                None => {}
                Some(Next::Settings(new)) => {
                    settings = same_pair(*new, &settings);
                    continue;
                }
                Some(_) => break,
            }
        }
        let state = kept
            .take()
            .or_else(|| Some(standby::kept(pair.as_ref()?, &settings)));
        let started = Running::start(runtime.handle(), &settings, state, &views);
        let daemon = match (started, before.take()) {
            (Ok(daemon), _) => daemon,
            (Err(error), None) => return Err(error),
            // What no check finds, such as a port that another program has.
            (Err(error), Some(old)) => {
                refused(&views, &error);
                settings = old;
                start_again(&runtime, &settings, &views, pair.as_ref())?
            }
        };
        let source = (path, role);
        let next = runtime.block_on(wait(&mut signals, source, &views, pair.as_mut()));
        kept = daemon.stop(runtime.handle());
        match next {
            Next::Settings(new) => {
                let new = same_pair(*new, &settings);
                before = Some(std::mem::replace(&mut settings, new));
                tracing::info!("configuration reloaded");
            }
            Next::Again => {
                before = Some(settings.clone());
                tracing::info!("asking the upstreams anew what they know");
            }
            Next::StepDown => {
                kept = None;
                // What the other one did meanwhile is not what these show.
                views = new_views(pair.as_ref());
                if let Some(pair) = &pair {
                    pair.released();
                    runtime.block_on(pair.waiting());
                }
            }
            Next::End => break,
        }
    }
    // The other one of a pair gets what is left, and takes over at once.
    let publishing = kept.and_then(Kept::close);
    drop(pair);
    if let Some(publishing) = publishing {
        let _ = publishing.join();
    }
    tracing::info!("stopped");
    Ok(())
}

/// What runs, by its role.
enum Running {
    Daemon(Box<Daemon>),
    Detectors(Box<Detectors>),
}

impl Running {
    fn start(
        runtime: &Handle,
        settings: &Settings,
        kept: Option<Kept>,
        views: &Arc<Views>,
    ) -> anyhow::Result<Self> {
        if let (Role::Detect, Some(cluster)) = (settings.role, &settings.cluster) {
            let detectors = Detectors::start(runtime, settings, cluster, views)?;
            return Ok(Self::Detectors(Box::new(detectors)));
        }
        let (hooks, views) = (Hooks::default(), Arc::clone(views));
        let daemon = Daemon::start(runtime, settings, hooks, kept, views)?;
        Ok(Self::Daemon(Box::new(daemon)))
    }

    fn stop(self, runtime: &Handle) -> Option<Kept> {
        match self {
            Self::Daemon(daemon) => daemon.stop(runtime),
            Self::Detectors(detectors) => {
                detectors.stop(runtime);
                None
            }
        }
    }
}

fn new_views(pair: Option<&Pair>) -> Arc<Views> {
    let views = Views::default();
    if let Some(pair) = pair {
        views.set_standby(pair.viewer());
    }
    Arc::new(views)
}

/// New settings, in which what makes the pair stays as it was.
fn same_pair(mut new: Settings, old: &Settings) -> Settings {
    let has_moved = old.standby.is_some() && new.state_dir != old.state_dir;
    if new.standby != old.standby || has_moved {
        tracing::warn!("a change of [standby], or of its state_dir, waits for a restart");
        new.standby.clone_from(&old.standby);
        new.state_dir.clone_from(&old.state_dir);
    }
    new
}

/// Starts what ran before. What the refused configuration had started already ends by itself, and holds the state file until
/// then.
fn start_again(
    runtime: &Runtime,
    settings: &Settings,
    views: &Arc<Views>,
    pair: Option<&Pair>,
) -> anyhow::Result<Running> {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        let kept = pair.map(|pair| standby::kept(pair, settings));
        match Running::start(runtime.handle(), settings, kept, views) {
            Err(_) if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(100)),
            started => return started,
        }
    }
}

fn load(path: &Path, role: Role) -> anyhow::Result<Settings> {
    let settings = config::load(path, ColumnSet::NONE)?;
    let settings = settings
        .for_role(role)
        .map_err(|message| ConfigError::Mistakes(format!("{}: {message}", path.display())))?;
    config::check_files(&settings)?;
    log::start(&settings.log);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    Ok(settings)
}

pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

/// What comes after what runs now.
pub(crate) enum Next {
    /// Nothing.
    End,
    /// The same with a new configuration.
    Settings(Box<Settings>),
    /// The same once more.
    Again,
    /// Waiting, since the other one of the pair works.
    StepDown,
}

/// Waits for the end, for a reload with a good configuration (a bad one is refused and the old one kept), or for what the other
/// one of the pair makes necessary.
async fn wait(
    signals: &mut Signals,
    source: (&Path, Role),
    views: &Views,
    pair: Option<&mut Pair>,
) -> Next {
    let Some(pair) = pair else {
        return signalled(signals, source, views).await;
    };
    tokio::select! {
        next = signalled(signals, source, views) => next,
        next = standby::working(pair) => next,
    }
}

/// Waits for a signal that has a consequence.
pub(crate) async fn signalled(
    signals: &mut Signals,
    (path, role): (&Path, Role),
    views: &Views,
) -> Next {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Next::End,
            _ = signals.interrupt.recv() => return Next::End,
            _ = signals.reload.recv() => match load(path, role) {
                Ok(settings) => return Next::Settings(Box::new(settings)),
                Err(error) => refused(views, &error),
            },
        }
    }
}

fn refused(views: &Views, error: &anyhow::Error) {
    views
        .counters
        .reload_failures
        .fetch_add(1, Ordering::Relaxed);
    tracing::error!("the new configuration is refused and the old one kept: {error:#}");
}
