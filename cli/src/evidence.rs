//! Bundles of attacked targets' flows: rows are picked where the recent window is, and written by a thread of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use weir_attack_event::{AttackEvent, AttackId, EventKind};
use weir_collector::wall_clock;
use weir_flow_record::{FlowBatch, Timestamp};
use weir_flow_store::{
    EvidenceConfig, EvidenceSelector, EvidenceSettings, EvidenceStore, RecentWindow, Selected,
};

use crate::background::give_way;
use crate::views::Views;

/// Selections and events that wait for the disk.
const QUEUE: usize = 1024;
/// Sampled packets of an attack that are kept, 144 octets each.
const HEADERS: usize = 10_000;
/// Longest wait, so that files end in time.
const PATIENCE: Duration = Duration::from_secs(1);

/// Something for the disk, in order.
enum Job {
    Rows(Box<Selected>),
    Event(Box<AttackEvent>),
}

/// The daemon's bundles: what the thread of the recent window holds of them.
pub(crate) struct EvidenceKeeper {
    selector: EvidenceSelector,
    jobs: SyncSender<Job>,
    /// Attacks whose bundles take no more.
    full: Receiver<AttackId>,
    /// Rows that found no room in the queue, by attack: told with its next selection.
    refused: BTreeMap<AttackId, u64>,
    thread: JoinHandle<()>,
    views: Arc<Views>,
}

impl EvidenceKeeper {
    /// Looks at the folder and starts the thread; attacks that are not among the `open` ones have ended. An error here ends
    /// the start.
    pub(crate) fn start(
        settings: &EvidenceSettings,
        open: &BTreeSet<AttackId>,
        views: Arc<Views>,
    ) -> anyhow::Result<Self> {
        let mut store = EvidenceStore::open(settings.clone())
            .with_context(|| format!("cannot use {}", settings.folder.display()))?;
        store.keep_open(now(), open);
        views.set_evidence(store.counters());
        let (jobs, queue) = sync_channel(QUEUE);
        let (tell_full, full) = channel();
        let thread = std::thread::Builder::new()
            .name("weir-evidence".to_owned())
            .spawn({
                let views = Arc::clone(&views);
                move || run(store, &queue, &tell_full, &views)
            })
            .context("cannot start a thread")?;
        Ok(Self {
            selector: EvidenceSelector::new(settings),
            jobs,
            full,
            refused: BTreeMap::new(),
            thread,
            views,
        })
    }

    /// Takes in what came.
    pub(crate) fn handle_batch(&mut self, batch: &FlowBatch) {
        while let Ok(attack) = self.full.try_recv() {
            self.selector.stop(&attack);
        }
        for selected in self.selector.handle_batch(batch) {
            self.store(selected);
        }
    }

    /// Takes in an event; the bundle begins with what `window` holds.
    pub(crate) fn handle_event(&mut self, event: Box<AttackEvent>, window: &RecentWindow) {
        let selected = self.selector.handle_event(&event, window);
        let refused = self.selector.refused_attacks();
        let counters = &self.views.counters;
        counters
            .evidence_refused_attacks
            .store(refused, Ordering::Relaxed);
        for job in in_order(selected, event) {
            match job {
                Job::Rows(selected) => self.store(*selected),
                event => {
                    if self.jobs.try_send(event).is_err() {
                        let lost = &self.views.counters.evidence_lost_events;
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// Writes what waits, and finishes all files.
    pub(crate) fn finish(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }

    fn store(&mut self, mut selected: Selected) {
        selected.left_out += self.refused.remove(&selected.attack).unwrap_or(0);
        let (attack, rows) = (
            selected.attack.clone(),
            selected.left_out + selected.rows.len() as u64,
        );
        if self.jobs.try_send(Job::Rows(Box::new(selected))).is_err() {
            *self.refused.entry(attack).or_default() += rows;
        }
    }
}

/// Rows of a bundle come after its first event, and before its last.
fn in_order(selected: Option<Selected>, event: Box<AttackEvent>) -> impl Iterator<Item = Job> {
    let is_last = event.kind == EventKind::AttackEnd;
    let rows = selected.map(|selected| Job::Rows(Box::new(selected)));
    let (first, last) = if is_last {
        (rows, Some(Job::Event(event)))
    } else {
        (Some(Job::Event(event)), rows)
    };
    first.into_iter().chain(last)
}

fn run(mut store: EvidenceStore, queue: &Receiver<Job>, full: &Sender<AttackId>, views: &Views) {
    give_way();
    loop {
        let received = queue.recv_timeout(PATIENCE);
        match received {
            Ok(job) => {
                let headers = headers(&job, views);
                handle(&mut store, now(), job);
                if let Some((attack, capture)) = headers {
                    store.handle_headers(&attack, &capture);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        while let Some(attack) = store.poll_full() {
            // Whoever picks rows may have gone.
            let _ = full.send(attack);
        }
        if store.poll_timeout().is_some_and(|due| due <= now()) {
            store.handle_timeout(now());
        }
        views.set_evidence(store.counters());
    }
    store.finish_all(now());
    views.set_evidence(store.counters());
}

/// With an event, what packet samplers saw of the attack.
fn headers(job: &Job, views: &Views) -> Option<(AttackId, Vec<u8>)> {
    let Job::Event(event) = job else { return None };
    Some((event.id.clone(), views.headers_of(event, HEADERS)?))
}

fn handle(store: &mut EvidenceStore, now: Timestamp, job: Job) {
    match job {
        Job::Rows(selected) => store.handle_rows(now, &selected),
        Job::Event(event) => store.handle_event(now, &event),
    }
}

fn now() -> Timestamp {
    Timestamp::from_nanos(wall_clock())
}

/// A replay's bundles, written at once and in the time of the data.
pub(crate) struct ReplayedEvidence {
    selector: EvidenceSelector,
    store: EvidenceStore,
}

impl ReplayedEvidence {
    /// Bundles in `folder`, bounded as the configuration says, kept for ever.
    pub(crate) fn create(
        folder: &Path,
        settings: Option<&EvidenceSettings>,
    ) -> anyhow::Result<Self> {
        let config = EvidenceConfig::default().check(folder)?;
        let settings = settings.cloned().or(config);
        let mut settings = settings.context("[evidence] has no defaults")?;
        settings.folder = folder.to_owned();
        settings.retain = Duration::ZERO;
        settings.max_size = 0;
        let store = EvidenceStore::open(settings.clone())
            .with_context(|| format!("cannot use {}", folder.display()))?;
        Ok(Self {
            selector: EvidenceSelector::new(&settings),
            store,
        })
    }

    /// Takes in what came.
    pub(crate) fn handle_batch(&mut self, now: Timestamp, batch: &FlowBatch) {
        for selected in self.selector.handle_batch(batch) {
            self.store.handle_rows(now, &selected);
        }
        self.settle(now);
    }

    /// Takes in an event; the bundle begins with what `window` holds.
    pub(crate) fn handle_event(
        &mut self,
        now: Timestamp,
        event: &AttackEvent,
        window: &RecentWindow,
    ) {
        let selected = self.selector.handle_event(event, window);
        for job in in_order(selected, Box::new(event.clone())) {
            handle(&mut self.store, now, job);
        }
        self.settle(now);
    }

    /// Finishes all files.
    pub(crate) fn finish(&mut self, now: Timestamp) {
        self.store.finish_all(now);
    }

    fn settle(&mut self, now: Timestamp) {
        while let Some(attack) = self.store.poll_full() {
            self.selector.stop(&attack);
        }
        if self.store.poll_timeout().is_some_and(|due| due <= now) {
            self.store.handle_timeout(now);
        }
    }
}
