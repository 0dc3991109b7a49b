//! From summaries to requests: merger, detector and export policy as one state machine, driven live and by replay alike.

use std::sync::Arc;

use weir_attack_event::{AttackEvent, AttackId, DrillDown, Findings, MitigationReport};
use weir_baseline::Baselines;
use weir_detector::{
    Detector, DetectorOutput, LinkLevel, ModelCounters, ModelVerdict, Mute, Overridden, Override,
    OverrideError, Saved,
};
use weir_dots_export::{
    ClientCommand, ClientNotice, Decision, Exporter, ExporterCounters, Standing,
};
use weir_flow_aggregate::cluster::{Admission, CollectorCounters, CollectorMerger, Part};
use weir_flow_aggregate::{Merger, WatchList, WindowSummary};
use weir_flow_record::Timestamp;

/// Detector and export policy. After each `handle_*`, [`poll_verdict`](Self::poll_verdict) until it is empty.
pub(crate) struct Judge {
    merger: Sum,
    detector: Detector,
    exporter: Exporter,
    now: Timestamp,
}

/// What adds up what is told of the same targets.
pub(crate) enum Sum {
    /// Shards of this process.
    Shards(Box<Merger>),
    /// Collectors, which publish.
    Collectors(Box<CollectorMerger>),
}

/// Who is to watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Watcher {
    Shard(u16),
    Collector(Arc<str>),
}

/// What follows from what was seen.
pub(crate) enum Verdict {
    /// To be durable before the commands that follow it leave.
    Persist(Box<Saved>),
    /// To be told.
    Event(Box<AttackEvent>),
    /// For a shard, or a collector.
    Watch(Watcher, WatchList),
    /// For the recent window.
    DrillDown(DrillDown),
    /// For the audit log.
    Decision(Box<Decision>),
    /// For an upstream's client.
    Command(Arc<str>, Box<ClientCommand>),
}

impl Judge {
    /// A judge without open attacks.
    pub(crate) fn new(merger: Sum, detector: Detector, exporter: Exporter) -> Self {
        Self {
            merger,
            detector,
            exporter,
            now: Timestamp::default(),
        }
    }

    /// Time of the newest input.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Takes in a shard's tick.
    pub(crate) fn handle_summary(&mut self, summary: WindowSummary) {
        let Sum::Shards(merger) = &mut self.merger else {
            return;
        };
        merger.handle_summary(summary);
        while let Some(summary) = merger.poll_summary() {
            self.now = self.now.max(summary.time());
            self.detector.handle_window(&summary);
        }
    }

    /// Takes in what a collector says. What an earlier owner of its zones has judged (`is_past`) starts and ends nothing.
    pub(crate) fn handle_part(&mut self, part: Part, is_past: bool) -> Admission {
        let Sum::Collectors(merger) = &mut self.merger else {
            return Admission::Refused;
        };
        let admission = merger.handle_part(part);
        while let Some(summary) = merger.poll_summary() {
            self.now = self.now.max(summary.time());
            if is_past {
                self.detector.handle_past(&summary);
            } else {
                self.detector.handle_window(&summary);
            }
        }
        admission
    }

    /// What became of collectors' parts.
    pub(crate) fn collector_counters(&self) -> Option<CollectorCounters> {
        match &self.merger {
            Sum::Shards(_) => None,
            Sum::Collectors(merger) => Some(merger.counters()),
        }
    }

    /// Takes in the answer to a drill-down.
    pub(crate) fn handle_findings(&mut self, findings: Findings) {
        self.detector.handle_findings(findings);
    }

    /// Takes in what the active model says.
    pub(crate) fn handle_model(&mut self, now: Timestamp, verdict: &ModelVerdict) {
        self.now = self.now.max(now);
        self.detector.handle_verdict(self.now, verdict);
    }

    /// What became of the model's words.
    pub(crate) fn model_counters(&self) -> ModelCounters {
        self.detector.model_counters()
    }

    /// Takes in what an upstream's client says.
    pub(crate) fn handle_notice(&mut self, now: Timestamp, notice: &ClientNotice) {
        self.now = self.now.max(now);
        if let ClientNotice::Granted(report) | ClientNotice::Status(report) = notice {
            self.handle_report(report);
        }
        self.exporter.handle_notice(self.now, notice);
    }

    /// Takes an operator's word that help may be asked for; false where no such attack waits for it.
    pub(crate) fn handle_confirmation(&mut self, now: Timestamp, attack: &AttackId) -> bool {
        self.now = self.now.max(now);
        self.exporter.handle_confirmation(self.now, attack)
    }

    /// The newest second of each link.
    pub(crate) fn link_levels(&self) -> Vec<LinkLevel> {
        self.detector.link_levels().collect()
    }

    /// Takes an operator's word on attacks.
    pub(crate) fn handle_override(
        &mut self,
        now: Timestamp,
        word: Override,
    ) -> Result<Overridden, OverrideError> {
        self.now = self.now.max(now);
        self.detector.handle_override(self.now, word)
    }

    /// The muted prefixes.
    pub(crate) fn mutes(&self) -> impl Iterator<Item = &Mute> {
        self.detector.mutes()
    }

    /// Throws or releases the stop switch.
    pub(crate) fn handle_hold(&mut self, now: Timestamp, hold: bool, withdraw: bool) {
        self.now = self.now.max(now);
        self.exporter.handle_hold(self.now, hold, withdraw);
    }

    /// Whether the stop switch is thrown.
    pub(crate) fn is_on_hold(&self) -> bool {
        self.exporter.is_on_hold()
    }

    /// How the requests for all attacks stand.
    pub(crate) fn standings(&self) -> impl Iterator<Item = (&AttackId, Standing)> {
        self.exporter.standings()
    }

    /// What is normal.
    pub(crate) fn baselines(&self) -> &Baselines {
        self.detector.baselines()
    }

    /// What is normal, to be kept and imported.
    pub(crate) fn baselines_mut(&mut self) -> &mut Baselines {
        self.detector.baselines_mut()
    }

    /// What the policy has left out.
    pub(crate) fn policy_counters(&self) -> ExporterCounters {
        self.exporter.counters()
    }

    /// Series that the detector had no room for.
    pub(crate) fn refused_series(&self) -> u64 {
        self.detector.refused_series()
    }

    fn handle_report(&mut self, report: &MitigationReport) {
        self.detector.handle_mitigation(report);
    }

    /// Lets time pass.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.detector.handle_timeout(now);
        self.exporter.handle_timeout(now);
    }

    /// What follows, in order; poll until `None` after each call of a `handle_*`.
    #[must_use]
    pub(crate) fn poll_verdict(&mut self) -> Option<Verdict> {
        while let Some(output) = self.detector.poll_output() {
            match output {
                DetectorOutput::Event(event) => {
                    self.exporter.handle_event(self.now, &event);
                    return Some(Verdict::Event(event));
                }
                DetectorOutput::DrillDown(question) => return Some(Verdict::DrillDown(question)),
                DetectorOutput::Persist(row) => return Some(Verdict::Persist(row)),
                DetectorOutput::Watch(list) => match &mut self.merger {
                    Sum::Shards(merger) => merger.handle_watch(&list),
                    Sum::Collectors(merger) => merger.handle_watch(&list),
                },
            }
        }
        let watch = match &mut self.merger {
            Sum::Shards(merger) => merger
                .poll_watch()
                .map(|(shard, list)| (Watcher::Shard(shard), list)),
            Sum::Collectors(merger) => merger
                .poll_watch()
                .map(|(collector, list)| (Watcher::Collector(collector), list)),
        };
        if let Some((watcher, list)) = watch {
            return Some(Verdict::Watch(watcher, list));
        }
        if let Some(decision) = self.exporter.poll_decision() {
            return Some(Verdict::Decision(Box::new(decision)));
        }
        let (upstream, command) = self.exporter.poll_command()?;
        Some(Verdict::Command(upstream, Box::new(command)))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        [self.detector.poll_timeout(), self.exporter.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }
}
