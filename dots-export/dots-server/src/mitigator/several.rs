//! Several back ends at once, as one.

use std::collections::{BTreeMap, VecDeque};

use weir_dots_proto::body::{MitigationStatus, Scope};

use super::{MitigationId, Mitigator, MitigatorFigures, MitigatorReport};

/// Hands each mitigation to all back ends, and merges what they report: what they drop is added up, since none sees what
/// another one has dropped, and the best status holds: one that drops stands in for one that fails.
pub(crate) struct Several {
    backends: Vec<Box<dyn Mitigator>>,
    /// The newest report of each back end, and what was told of all.
    reports: BTreeMap<MitigationId, Merged>,
    ready: VecDeque<MitigationId>,
}

#[derive(Debug, Default)]
struct Merged {
    of: BTreeMap<usize, MitigatorReport>,
    is_ready: bool,
}

impl Several {
    /// Back ends in the order of the configuration.
    pub(crate) fn new(backends: Vec<Box<dyn Mitigator>>) -> Self {
        Self {
            backends,
            reports: BTreeMap::new(),
            ready: VecDeque::new(),
        }
    }

    fn gather(&mut self) {
        for (index, backend) in self.backends.iter_mut().enumerate() {
            while let Some(report) = backend.poll_report() {
                // One that comes late is of no use.
                let Some(merged) = self.reports.get_mut(&report.id) else {
                    continue;
                };
                merged.of.insert(index, report);
                if !std::mem::replace(&mut merged.is_ready, true) {
                    self.ready.push_back(report.id);
                }
            }
        }
    }
}

impl Mitigator for Several {
    fn apply(&mut self, id: MitigationId, scope: &Scope) {
        self.reports.entry(id).or_default();
        for backend in &mut self.backends {
            backend.apply(id, scope);
        }
    }

    fn withdraw(&mut self, id: MitigationId) {
        self.reports.remove(&id);
        for backend in &mut self.backends {
            backend.withdraw(id);
        }
    }

    fn figures(&self) -> Vec<MitigatorFigures> {
        let all = self.backends.iter();
        all.flat_map(|backend| backend.figures()).collect()
    }

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        if self.ready.is_empty() {
            self.gather();
        }
        loop {
            let id = self.ready.pop_front()?;
            if let Some(merged) = self.reports.get_mut(&id)
                && std::mem::take(&mut merged.is_ready)
            {
                return merge(id, merged.of.values());
            }
        }
    }
}

fn merge<'a>(
    id: MitigationId,
    reports: impl Iterator<Item = &'a MitigatorReport>,
) -> Option<MitigatorReport> {
    reports.copied().reduce(|a, b| MitigatorReport {
        id,
        status: std::cmp::max_by_key(a.status, b.status, |status| rank(*status)),
        bytes_dropped: a.bytes_dropped.saturating_add(b.bytes_dropped),
        packets_dropped: a.packets_dropped.saturating_add(b.packets_dropped),
        bytes_per_second_dropped: a
            .bytes_per_second_dropped
            .saturating_add(b.bytes_per_second_dropped),
        packets_per_second_dropped: a
            .packets_per_second_dropped
            .saturating_add(b.packets_per_second_dropped),
    })
}

/// One that has dropped knows more than one that waits for traffic, and one that works more than one that does not.
fn rank(status: MitigationStatus) -> u8 {
    match status {
        MitigationStatus::AttackSuccessfullyMitigated => 3,
        MitigationStatus::AttackStopped => 2,
        MitigationStatus::AttackMitigationInProgress => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Scripted(Arc<Mutex<(Vec<MitigationId>, VecDeque<MitigatorReport>)>>);

    impl Mitigator for Scripted {
        fn apply(&mut self, id: MitigationId, _scope: &Scope) {
            self.0.lock().unwrap().0.push(id);
        }

        fn withdraw(&mut self, id: MitigationId) {
            self.0.lock().unwrap().0.retain(|other| *other != id);
        }

        fn poll_report(&mut self) -> Option<MitigatorReport> {
            self.0.lock().unwrap().1.pop_front()
        }
    }

    fn report(id: u64, status: MitigationStatus, packets: u64) -> MitigatorReport {
        MitigatorReport {
            status,
            bytes_dropped: packets * 100,
            packets_dropped: packets,
            bytes_per_second_dropped: packets * 10,
            packets_per_second_dropped: packets,
            ..MitigatorReport::begun(MitigationId(id))
        }
    }

    #[test]
    fn drops_add_up_and_the_best_status_holds() {
        use MitigationStatus::{
            AttackExceededCapability as Unable, AttackMitigationInProgress as Begun,
            AttackStopped as Stopped, AttackSuccessfullyMitigated as Mitigated,
        };
        let (first, second) = (Scripted::default(), Scripted::default());
        let mut all = Several::new(vec![Box::new(first.clone()), Box::new(second.clone())]);
        all.apply(MitigationId(1), &Scope::default());
        assert_eq!(first.0.lock().unwrap().0, [MitigationId(1)]);
        assert_eq!(second.0.lock().unwrap().0, [MitigationId(1)]);
        assert_eq!(all.poll_report(), None);

        let say = |backend: &Scripted, report| backend.0.lock().unwrap().1.push_back(report);
        say(&first, report(1, Unable, 0));
        assert_eq!(all.poll_report(), Some(report(1, Unable, 0)));
        say(&second, report(1, Begun, 0));
        assert_eq!(all.poll_report(), Some(report(1, Begun, 0)));
        say(&second, report(1, Begun, 0));
        say(&second, report(1, Mitigated, 5));
        assert_eq!(all.poll_report(), Some(report(1, Mitigated, 5)));
        assert_eq!(all.poll_report(), None);
        say(&first, report(1, Mitigated, 7));
        assert_eq!(all.poll_report(), Some(report(1, Mitigated, 12)));
        say(&first, report(1, Begun, 7));
        say(&second, report(1, Stopped, 5));
        assert_eq!(all.poll_report(), Some(report(1, Stopped, 12)));

        all.withdraw(MitigationId(1));
        say(&first, report(1, Mitigated, 8));
        assert_eq!(all.poll_report(), None);
        assert!(second.0.lock().unwrap().0.is_empty());
    }
}
