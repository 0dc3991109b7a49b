//! `weir run`: the daemon's life, and its signals.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use weir_flow_record::ColumnSet;

use crate::config::cluster::Role;
use crate::config::{self, ConfigError, Settings};
use crate::daemon::{Daemon, Detectors, Hooks, Kept};
use crate::log;
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
    let views = Arc::new(Views::default());
    let mut kept = None;
    let mut before: Option<Settings> = None;
    loop {
        let started = Running::start(runtime.handle(), &settings, kept.take(), &views);
        let daemon = match (started, before.take()) {
            (Ok(daemon), _) => daemon,
            (Err(error), None) => return Err(error),
            // What no check finds, such as a port that another program has.
            (Err(error), Some(old)) => {
                refused(&views, &error);
                settings = old;
                start_again(&runtime, &settings, &views)?
            }
        };
        let next = runtime.block_on(wait(&mut signals, (path, role), &views));
        kept = daemon.stop(runtime.handle());
        match next {
            Some(new) => before = Some(std::mem::replace(&mut settings, *new)),
            None => break,
        }
        tracing::info!("configuration reloaded");
    }
    tracing::info!("stopped");
    Ok(())
}

/// What runs, by its role.
enum Running {
    Daemon(Box<Daemon>),
    Detectors(Detectors),
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
            return Ok(Self::Detectors(detectors));
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

/// Starts what ran before. What the refused configuration had started already ends by itself, and holds the state file until
/// then.
fn start_again(
    runtime: &Runtime,
    settings: &Settings,
    views: &Arc<Views>,
) -> anyhow::Result<Running> {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        match Running::start(runtime.handle(), settings, None, views) {
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

struct Signals {
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

/// Waits for the end, or for a reload with a good configuration; a bad one is refused and the old one kept.
async fn wait(
    signals: &mut Signals,
    (path, role): (&Path, Role),
    views: &Views,
) -> Option<Box<Settings>> {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return None,
            _ = signals.interrupt.recv() => return None,
            _ = signals.reload.recv() => match load(path, role) {
                Ok(settings) => return Some(Box::new(settings)),
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
