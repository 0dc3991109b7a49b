//! What commits go through on the active, and what can be looked at on both.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use weir_state::{Batch, Mirror, MirrorError, Stage};

use crate::claim::Epoch;
use crate::{Role, StandbySettings};

/// Octets of commits that may wait for the connection; with more the standby gets a snapshot instead.
const MAX_QUEUED: usize = 64 << 20;
/// How long a commit waits to learn whether the peer has taken over: longer than a look takes.
const UNSURE: Duration = Duration::from_secs(2);

/// A commit on its way: its number, and the batch encoded.
pub(crate) type Queued = (u64, Vec<u8>);

/// The pair as this daemon sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StandbyView {
    /// This daemon.
    pub name: String,
    /// The other.
    pub peer: String,
    /// What this daemon is.
    pub role: Role,
    /// The epoch of the rows.
    pub epoch: u64,
    /// Whether the other is connected.
    pub connected: bool,
    /// Whether neither the peer nor the witness answered when this one last looked.
    pub cut_off: bool,
    /// Whether the standby has, or on a standby: gets, each commit as it is made.
    pub in_step: bool,
    /// Commits that the standby has not confirmed.
    pub unacknowledged: u64,
    /// How often this daemon has begun to work since it was started.
    pub takeovers: u64,
    /// When it last did, seconds since 1970.
    pub last_takeover: Option<u64>,
    /// Commits that requests rest on, and that no standby had when they were acted on.
    pub alone_commits: u64,
    /// Commits that the standby did not confirm in time.
    pub late_acknowledgements: u64,
    /// Writes that were refused since this daemon is not the active one, or might not be.
    pub refused_writes: u64,
    /// Connections that were no peer's: a wrong certificate or name, or no TLS.
    pub refused_connections: u64,
    /// Commits of the peer that are kept here.
    pub applied_commits: u64,
    /// Snapshots of the peer that replaced the rows here.
    pub snapshots: u64,
}

/// How commits stand to the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// This daemon does not work: it may change nothing.
    Idle,
    /// No peer is there.
    Alone,
    /// The standby gets a snapshot.
    Syncing,
    /// The standby has all that was waited for.
    InStep,
    /// The standby answers too late: nothing waits for it until it has caught up.
    Behind,
    /// The connection is lost; whether the peer has taken over is being found out.
    Unsure,
}

/// The mirror of the active's state, and what both roles show.
#[derive(Debug)]
pub(crate) struct Feed {
    inner: Mutex<Inner>,
    changed: Condvar,
    lease: Duration,
    acknowledge: Duration,
}

#[derive(Debug)]
struct Inner {
    standing: Standing,
    queue: Option<UnboundedSender<Queued>>,
    queued: usize,
    newest: u64,
    acknowledged: u64,
    /// When the standby was last heard.
    heard: Instant,
    view: StandbyView,
}

impl Feed {
    pub(crate) fn new(settings: &StandbySettings) -> Self {
        let view = StandbyView {
            name: settings.name.clone(),
            peer: settings.peer_name.clone(),
            role: Role::Starting,
            epoch: 0,
            connected: false,
            cut_off: false,
            in_step: false,
            unacknowledged: 0,
            takeovers: 0,
            last_takeover: None,
            alone_commits: 0,
            late_acknowledgements: 0,
            refused_writes: 0,
            refused_connections: 0,
            applied_commits: 0,
            snapshots: 0,
        };
        Self {
            inner: Mutex::new(Inner {
                standing: Standing::Idle,
                queue: None,
                queued: 0,
                newest: 0,
                acknowledged: 0,
                heard: Instant::now(),
                view,
            }),
            changed: Condvar::new(),
            lease: settings.lease,
            acknowledge: settings.acknowledge,
        }
    }

    pub(crate) fn view(&self) -> StandbyView {
        let inner = self.lock();
        let mut view = inner.view.clone();
        if inner.standing != Standing::Idle {
            view.in_step = inner.standing == Standing::InStep;
            let linked = inner.queue.is_some();
            view.unacknowledged = inner.newest.saturating_sub(inner.acknowledged);
            view.unacknowledged *= u64::from(linked);
        }
        view
    }

    /// This daemon works from now on: writes are allowed.
    pub(crate) fn begin(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut inner = self.lock();
        inner.standing = Standing::Alone;
        inner.view.role = Role::Active;
        inner.view.takeovers += 1;
        inner.view.last_takeover = now.ok().map(|since| since.as_secs());
    }

    /// This daemon works no longer: every write is refused, those that wait too.
    pub(crate) fn fence(&self) {
        let mut inner = self.lock();
        inner.standing = Standing::Idle;
        inner.queue = None;
        drop(inner);
        self.changed.notify_all();
    }

    pub(crate) fn set_role(&self, role: Role) {
        let mut inner = self.lock();
        inner.view.role = role;
        inner.view.in_step = false;
    }

    pub(crate) fn set_epoch(&self, epoch: &Epoch) {
        self.lock().view.epoch = epoch.number;
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        let view = &mut self.lock().view;
        view.connected = connected;
        view.cut_off &= !connected;
    }

    pub(crate) fn set_cut_off(&self, cut_off: bool) {
        self.lock().view.cut_off = cut_off;
    }

    pub(crate) fn count_refused_connection(&self) {
        self.lock().view.refused_connections += 1;
    }

    /// On the standby: the peer's rows have replaced those here.
    pub(crate) fn count_snapshot(&self) {
        let view = &mut self.lock().view;
        view.snapshots += 1;
        view.in_step = true;
    }

    /// On the standby: commits of the peer are kept.
    pub(crate) fn count_applied(&self, commits: u64) {
        self.lock().view.applied_commits += commits;
    }

    /// A standby has connected: commits from now on come out of the queue. The snapshot is taken after this.
    pub(crate) fn open_queue(&self) -> UnboundedReceiver<Queued> {
        let (queue, commits) = unbounded_channel();
        let mut inner = self.lock();
        inner.standing = Standing::Syncing;
        inner.queue = Some(queue);
        inner.queued = 0;
        inner.heard = Instant::now();
        drop(inner);
        self.changed.notify_all();
        commits
    }

    /// A commit has left the queue.
    pub(crate) fn sent(&self, octets: usize) {
        let mut inner = self.lock();
        inner.queued = inner.queued.saturating_sub(octets);
    }

    /// The standby lives.
    pub(crate) fn heard(&self) {
        self.lock().heard = Instant::now();
    }

    /// The standby has all up to this commit on disk.
    pub(crate) fn acknowledged(&self, number: u64) {
        let mut inner = self.lock();
        inner.heard = Instant::now();
        inner.acknowledged = inner.acknowledged.max(number);
        let caught_up = inner.acknowledged >= inner.newest;
        match inner.standing {
            Standing::Syncing => inner.standing = Standing::InStep,
            Standing::Behind if caught_up => {
                tracing::info!("the standby has caught up");
                inner.standing = Standing::InStep;
            }
            _ => {}
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Whether the standby has everything.
    pub(crate) fn is_acknowledged(&self) -> bool {
        let inner = self.lock();
        inner.acknowledged >= inner.newest
    }

    /// The connection to the standby is lost.
    pub(crate) fn lost(&self) {
        let mut inner = self.lock();
        inner.queue = None;
        inner.view.connected = false;
        if inner.standing != Standing::Idle {
            inner.standing = Standing::Unsure;
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Nobody answered at the peer's address; whether that is new.
    pub(crate) fn nobody_there(&self) -> bool {
        let mut inner = self.lock();
        let is_new = inner.standing == Standing::Unsure;
        if is_new {
            inner.standing = Standing::Alone;
        }
        drop(inner);
        self.changed.notify_all();
        is_new
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change of it is whole before anything could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mirror for Feed {
    fn handle_wish(&self, _: &Batch) -> Result<(), MirrorError> {
        let mut inner = self.lock();
        if inner.standing == Standing::Idle {
            inner.view.refused_writes += 1;
            return Err("this daemon is not the active one of its pair".into());
        }
        Ok(())
    }

    fn handle_commit(&self, number: u64, batch: &Batch) {
        let mut inner = self.lock();
        inner.newest = number;
        let Some(queue) = &inner.queue else { return };
        let octets = batch.encode();
        let length = octets.len();
        if inner.queued + length > MAX_QUEUED || queue.send((number, octets)).is_err() {
            tracing::warn!("the standby is too far behind: it gets a snapshot");
            inner.queue = None;
            return;
        }
        inner.queued += length;
    }

    fn wait(&self, number: u64, batch: &Batch) -> Result<(), MirrorError> {
        if !batch.changes().any(|change| is_waited_for(change.stage)) {
            return Ok(());
        }
        let began = Instant::now();
        let mut inner = self.lock();
        loop {
            let patience = match inner.standing {
                Standing::Idle => {
                    inner.view.refused_writes += 1;
                    return Err("the peer has taken over".into());
                }
                Standing::InStep | Standing::Behind if inner.acknowledged >= number => {
                    return Ok(());
                }
                Standing::Alone | Standing::Syncing | Standing::Behind => {
                    inner.view.alone_commits += 1;
                    return Ok(());
                }
                Standing::InStep => self.acknowledge,
                Standing::Unsure => UNSURE,
            };
            let Some(left) = patience.checked_sub(began.elapsed()) else {
                return self.unanswered(&mut inner);
            };
            let waited = self.changed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Feed {
    /// A commit was not confirmed in time.
    fn unanswered(&self, inner: &mut Inner) -> Result<(), MirrorError> {
        // A process that stood still for a lease may have been given up: it must not act on what it believed before.
        if inner.standing == Standing::Unsure || inner.heard.elapsed() >= self.lease {
            inner.view.refused_writes += 1;
            return Err("the peer may have taken over".into());
        }
        tracing::warn!("the standby does not confirm: going on alone");
        inner.standing = Standing::Behind;
        inner.view.late_acknowledgements += 1;
        inner.view.alone_commits += 1;
        Ok(())
    }
}

/// Rows that requests to others rest on. What exporters state and traffic teaches comes again.
fn is_waited_for(stage: Stage) -> bool {
    match stage {
        Stage::Attacks
        | Stage::Mitigations
        | Stage::Sequences
        | Stage::Policy
        | Stage::Labels
        | Stage::DotsServer
        | Stage::Standby => true,
        Stage::Templates | Stage::SamplingRates | Stage::Names | Stage::Baselines => false,
    }
}
