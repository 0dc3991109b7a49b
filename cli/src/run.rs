//! `weir run`: the daemon's life, and its signals.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use weir_flow_record::ColumnSet;

use crate::config::{self, Settings};
use crate::daemon::{Daemon, Hooks};
use crate::log;
use crate::views::Views;

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let mut settings = load(path)?;
    if !settings.samplers.is_empty() {
        // No thread has them but while samplers are opened.
        weir_ebpf::capability::lower()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
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
        let started = Daemon::start(
            runtime.handle(),
            &settings,
            Hooks::default(),
            kept.take(),
            Arc::clone(&views),
        );
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
        let next = runtime.block_on(wait(&mut signals, path, &views));
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

/// Starts what ran before. What the refused configuration had started already ends by itself, and holds the state file until
/// then.
fn start_again(
    runtime: &Runtime,
    settings: &Settings,
    views: &Arc<Views>,
) -> anyhow::Result<Daemon> {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        let hooks = Hooks::default();
        match Daemon::start(runtime.handle(), settings, hooks, None, Arc::clone(views)) {
            Err(_) if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(100)),
            started => return started,
        }
    }
}

fn load(path: &Path) -> anyhow::Result<Settings> {
    let settings = config::load(path, ColumnSet::NONE)?;
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
async fn wait(signals: &mut Signals, path: &Path, views: &Views) -> Option<Box<Settings>> {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return None,
            _ = signals.interrupt.recv() => return None,
            _ = signals.reload.recv() => match load(path) {
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
