//! From summaries to requests: detector and export policy as one state machine, driven live and by replay alike.

use std::sync::Arc;

use weir_attack_event::{AttackEvent, DrillDown, Findings, MitigationReport};
use weir_detector::{Detector, DetectorOutput, SavedAttack};
use weir_dots_export::{ClientCommand, ClientNotice, Exporter};
use weir_flow_aggregate::{WatchList, WindowSummary};
use weir_flow_record::Timestamp;

/// Detector and export policy. After each `handle_*`, [`poll_verdict`](Self::poll_verdict) until it is empty.
pub(crate) struct Judge {
    detector: Detector,
    exporter: Exporter,
    now: Timestamp,
}

/// What follows from what was seen.
pub(crate) enum Verdict {
    /// To be durable before the commands that follow it leave.
    Persist(Box<SavedAttack>),
    /// To be told.
    Event(Box<AttackEvent>),
    /// For the shards.
    Watch(WatchList),
    /// For the recent window.
    DrillDown(DrillDown),
    /// For an upstream's client.
    Command(Arc<str>, Box<ClientCommand>),
}

impl Judge {
    /// A judge without open attacks.
    pub(crate) fn new(detector: Detector, exporter: Exporter) -> Self {
        Self {
            detector,
            exporter,
            now: Timestamp::default(),
        }
    }

    /// Time of the newest input.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Takes in a tick.
    pub(crate) fn handle_summary(&mut self, summary: &WindowSummary) {
        self.now = self.now.max(summary.time());
        self.detector.handle_window(summary);
    }

    /// Takes in the answer to a drill-down.
    pub(crate) fn handle_findings(&mut self, findings: Findings) {
        self.detector.handle_findings(findings);
    }

    /// Takes in what an upstream's client says.
    pub(crate) fn handle_notice(&mut self, now: Timestamp, notice: &ClientNotice) {
        self.now = self.now.max(now);
        if let ClientNotice::Granted(report) | ClientNotice::Status(report) = notice {
            self.handle_report(report);
        }
        self.exporter.handle_notice(self.now, notice);
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
        if let Some(output) = self.detector.poll_output() {
            return Some(match output {
                DetectorOutput::Event(event) => {
                    self.exporter.handle_event(self.now, &event);
                    Verdict::Event(event)
                }
                DetectorOutput::Watch(list) => Verdict::Watch(list),
                DetectorOutput::DrillDown(question) => Verdict::DrillDown(question),
                DetectorOutput::Persist(attack) => Verdict::Persist(attack),
            });
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
