//! A back end on a thread of its own, so that no call of the server waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_dots_proto::body::{MitigationStatus, Scope};

use super::{MitigationId, Mitigator, MitigatorFigures, MitigatorReport};

/// Mitigations that one back end holds; what is beyond is reported as exceeding its capability.
const MAX_MITIGATIONS: usize = 10_000;
/// A back end that has not ended after this is left to itself.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a back end is to do.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Change {
    /// Filter, or filter by another scope.
    Apply(MitigationId, Box<Scope>),
    /// Filter no more. Only for what was applied.
    Withdraw(MitigationId),
}

/// What really filters, as its thread drives it. Its calls may take as long as its time limits.
pub(crate) trait Backend: Send + 'static {
    /// Takes in what has changed, without doing it yet: what is to be applied comes first.
    fn handle_changes(&mut self, now: Instant, changes: Vec<Change>);

    /// Does one thing that is due; this may block.
    fn work(&mut self, now: Instant);

    /// When [`work`](Self::work) is due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The next report. Poll until `None` after `work`.
    fn poll_report(&mut self) -> Option<MitigatorReport>;

    /// The server ends; this may block.
    fn handle_shutdown(&mut self, now: Instant);
}

/// The server's end of a [`Backend`]. What it is told waits as the state that is wanted and not as a queue: that is bounded by
/// the mitigations there are, and a slow back end never loses a withdrawal.
#[derive(Debug)]
pub(crate) struct Worker {
    name: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    mailbox: Mutex<Mailbox>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Mailbox {
    /// `None` is a withdrawal.
    wanted: BTreeMap<MitigationId, Option<Scope>>,
    /// What the back end has been told to filter.
    taken: BTreeSet<MitigationId>,
    /// The newest of each mitigation.
    reports: BTreeMap<MitigationId, MitigatorReport>,
    /// Mitigations that the back end is not able to filter, by its last word.
    failing: BTreeSet<MitigationId>,
    figures: MitigatorFigures,
    closing: bool,
    ended: bool,
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn start(name: &str, backend: impl Backend) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("mitigator {name}"))
            .spawn(move || its.serve(backend))?;
        Ok(Self {
            name: name.to_owned(),
            shared,
            thread: Some(thread),
        })
    }
}

impl Mitigator for Worker {
    fn apply(&mut self, id: MitigationId, scope: &Scope) {
        let mut mailbox = self.shared.lock();
        if mailbox.has_room_for(id) {
            mailbox.wanted.insert(id, Some(scope.clone()));
            self.shared.bell.notify_all();
            return;
        }
        mailbox.figures.refused += 1;
        if mailbox.reports.len() < 2 * MAX_MITIGATIONS {
            mailbox.reports.insert(id, MitigatorReport::unable(id));
        }
        tracing::error!(
            mitigator = self.name,
            id = id.0,
            refused = mailbox.figures.refused,
            dead = mailbox.ended,
            "a mitigation is not handed to the back end: it has too many, or has ended"
        );
    }

    fn withdraw(&mut self, id: MitigationId) {
        let mut mailbox = self.shared.lock();
        mailbox.reports.remove(&id);
        if mailbox.taken.contains(&id) {
            mailbox.wanted.insert(id, None);
        } else {
            mailbox.wanted.remove(&id);
        }
        self.shared.bell.notify_all();
    }

    fn figures(&self) -> Vec<MitigatorFigures> {
        let mailbox = self.shared.lock();
        vec![MitigatorFigures {
            name: self.name.clone(),
            held: mailbox.taken.len() as u64,
            ..mailbox.figures.clone()
        }]
    }

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        let (_, report) = self.shared.lock().reports.pop_first()?;
        Some(report)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut mailbox = self.shared.lock();
        mailbox.closing = true;
        self.shared.bell.notify_all();
        let deadline = Instant::now() + PATIENCE;
        while !mailbox.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::error!(mitigator = self.name, "the back end does not end");
                return;
            }
            mailbox = self.shared.wait(mailbox, left);
        }
        drop(mailbox);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Mailbox {
    fn has_room_for(&self, id: MitigationId) -> bool {
        let known = self.taken.contains(&id) || self.wanted.contains_key(&id);
        let room = self.taken.len() + self.wanted.len() < MAX_MITIGATIONS;
        !self.ended && (known || room)
    }

    /// What has changed: the new filters before the old ones end.
    fn take(&mut self) -> Vec<Change> {
        let (applied, withdrawn): (Vec<_>, Vec<_>) = std::mem::take(&mut self.wanted)
            .into_iter()
            .partition(|(_, scope)| scope.is_some());
        for (id, _) in &withdrawn {
            self.taken.remove(id);
            self.failing.remove(id);
        }
        self.figures.applied += applied.len() as u64;
        self.figures.withdrawn += withdrawn.len() as u64;
        self.taken.extend(applied.iter().map(|(id, _)| *id));
        let applied = applied
            .into_iter()
            .filter_map(|(id, scope)| Some(Change::Apply(id, Box::new(scope?))));
        let withdrawn = withdrawn.into_iter().map(|(id, _)| Change::Withdraw(id));
        applied.chain(withdrawn).collect()
    }

    /// Takes in a report, unless it comes too late.
    fn note_report(&mut self, report: MitigatorReport) {
        if !self.is_awaited(report.id) {
            return;
        }
        if report.status == MitigationStatus::AttackExceededCapability {
            self.figures.failed += u64::from(self.failing.insert(report.id));
        } else {
            self.failing.remove(&report.id);
        }
        self.reports.insert(report.id, report);
    }

    fn is_awaited(&self, id: MitigationId) -> bool {
        self.taken.contains(&id) && self.wanted.get(&id).is_none_or(Option::is_some)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        mailbox: MutexGuard<'a, Mailbox>,
        most: Duration,
    ) -> MutexGuard<'a, Mailbox> {
        let waited = self.bell.wait_timeout(mailbox, most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The thread.
    fn serve(&self, mut backend: impl Backend) {
        let _ended = Ended(self);
        while let Some(changes) = self.next_changes(backend.poll_timeout()) {
            let now = Instant::now();
            if !changes.is_empty() {
                backend.handle_changes(now, changes);
            }
            if backend.poll_timeout().is_some_and(|due| due <= now) {
                backend.work(now);
            }
            let mut mailbox = self.lock();
            mailbox.figures.busy += now.elapsed();
            while let Some(report) = backend.poll_report() {
                mailbox.note_report(report);
            }
        }
        let now = Instant::now();
        let changes = self.lock().take();
        backend.handle_changes(now, changes);
        backend.handle_shutdown(now);
    }

    /// What has changed by the time that the back end wants to go on; `None` at the end.
    fn next_changes(&self, due: Option<Instant>) -> Option<Vec<Change>> {
        let mut mailbox = self.lock();
        loop {
            if mailbox.closing {
                return None;
            }
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            if !mailbox.wanted.is_empty() || left.is_some_and(|left| left.is_zero()) {
                return Some(mailbox.take());
            }
            mailbox = self.wait(mailbox, left.unwrap_or(Duration::from_secs(3600)));
        }
    }
}

/// Says that the thread is gone, however it went.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut mailbox = self.0.lock();
        mailbox.ended = true;
        self.0.bell.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Waits for a permission before each batch, and says what was in it.
    struct Slow {
        began: Instant,
        permits: Receiver<()>,
        seen: Sender<Vec<Change>>,
        pending: Vec<Change>,
        reports: Vec<MitigatorReport>,
    }

    impl Backend for Slow {
        fn handle_changes(&mut self, _now: Instant, changes: Vec<Change>) {
            self.pending.extend(changes);
        }

        fn work(&mut self, _now: Instant) {
            let _ = self.permits.recv();
            for change in &self.pending {
                let (Change::Apply(id, _) | Change::Withdraw(id)) = change;
                self.reports.push(MitigatorReport::unable(*id));
            }
            let _ = self.seen.send(std::mem::take(&mut self.pending));
        }

        fn poll_timeout(&self) -> Option<Instant> {
            (!self.pending.is_empty()).then_some(self.began)
        }

        fn poll_report(&mut self) -> Option<MitigatorReport> {
            self.reports.pop()
        }

        fn handle_shutdown(&mut self, _now: Instant) {
            let _ = self.seen.send(Vec::new());
        }
    }

    fn slow() -> (Worker, Sender<()>, Receiver<Vec<Change>>) {
        let (permit, permits) = channel();
        let (seen, batches) = channel();
        let backend = Slow {
            began: Instant::now(),
            permits,
            seen,
            pending: Vec::new(),
            reports: Vec::new(),
        };
        (Worker::start("slow", backend).unwrap(), permit, batches)
    }

    fn scope(prefix: &str) -> Scope {
        Scope {
            target_prefix: vec![prefix.parse().unwrap()],
            ..Scope::default()
        }
    }

    #[test]
    fn a_back_end_that_hangs_neither_blocks_nor_loses_a_withdrawal() {
        let (mut worker, permit, batches) = slow();
        let (first, second) = (MitigationId(1), MitigationId(2));
        worker.apply(first, &scope("192.0.2.1/32"));
        // The thread has it, and hangs.
        while !worker.shared.lock().wanted.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let began = Instant::now();
        for id in 3..3000 {
            worker.apply(MitigationId(id), &scope("192.0.2.3/32"));
            worker.withdraw(MitigationId(id));
        }
        worker.withdraw(first);
        worker.apply(second, &scope("192.0.2.2/32"));
        assert!(began.elapsed() < Duration::from_secs(1));
        permit.send(()).unwrap();
        assert_eq!(
            batches.recv().unwrap(),
            [Change::Apply(first, Box::new(scope("192.0.2.1/32")))]
        );
        permit.send(()).unwrap();
        assert_eq!(
            batches.recv().unwrap(),
            [
                Change::Apply(second, Box::new(scope("192.0.2.2/32"))),
                Change::Withdraw(first)
            ]
        );
        let report = loop {
            match worker.poll_report() {
                Some(report) => break report,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        // Of what is withdrawn nothing is told.
        assert_eq!(report.id, second);
        drop(permit);
        drop(worker);
        assert_eq!(batches.recv().unwrap(), []);
    }

    #[test]
    fn what_is_beyond_the_bound_is_refused_and_said_so() {
        let (mut worker, permit, _batches) = slow();
        for id in 0..=MAX_MITIGATIONS as u64 {
            worker.apply(MitigationId(id), &scope("192.0.2.1/32"));
        }
        let refused = MitigationId(MAX_MITIGATIONS as u64);
        // The thread may have taken some meanwhile: the bound is on both together.
        let report = worker.poll_report().unwrap();
        assert_eq!(report.id, refused);
        assert_eq!(report.status, MitigationStatus::AttackExceededCapability);
        drop(permit);
    }

    #[test]
    fn a_back_end_that_is_dead_is_not_silent() {
        let (mut worker, permit, batches) = slow();
        drop(batches);
        drop(permit);
        worker.shared.lock().closing = true;
        worker.shared.bell.notify_all();
        while !worker.shared.lock().ended {
            std::thread::sleep(Duration::from_millis(1));
        }
        worker.apply(MitigationId(1), &scope("192.0.2.1/32"));
        let report = worker.poll_report().unwrap();
        assert_eq!(report.status, MitigationStatus::AttackExceededCapability);
    }
}
