//! What the daemon does with baselines beside learning: keeps them, shows their figures, and tells upstreams of them.

use std::sync::Arc;
use std::time::Duration;

use weir_baseline::{BaselineConfig, BaselineReport, Baselines, SavedRow};
use weir_dots_export::{ClientCommand, has_changed};
use weir_dots_server::ReportedBaselines;
use weir_flow_record::Timestamp;

use crate::baseline::import_reported;
use crate::config::Settings;
use crate::journal::Journal;
use crate::upstreams;
use crate::views::{BaselineView, Views};

/// Time between two looks at the figures.
const LOOK: Duration = Duration::from_secs(60);

/// Keeps, shows and tells baselines.
pub(super) struct Teaching {
    settings: Box<Settings>,
    /// A row for which there was no room.
    waiting: Option<SavedRow>,
    /// What upstreams were told, and when.
    told: Vec<BaselineReport>,
    told_at: Option<Timestamp>,
    looked_at: Option<Timestamp>,
    checked_at: Option<Timestamp>,
}

impl Teaching {
    /// `told` is what the upstreams were told at the start.
    pub(super) fn new(settings: &Settings, told: Vec<BaselineReport>) -> Self {
        Self {
            settings: Box::new(settings.clone()),
            waiting: None,
            told,
            told_at: None,
            looked_at: None,
            checked_at: None,
        }
    }

    /// Hands rows on to be written, as far as the disk keeps up.
    pub(super) fn keep(&mut self, baselines: &mut Baselines, journal: &Journal) {
        while let Some(row) = self.waiting.take().or_else(|| baselines.poll_persist()) {
            if let Err(row) = journal.keep_baseline(row) {
                self.waiting = Some(row);
                return;
            }
        }
    }

    /// Writes all, at the end.
    pub(super) fn keep_all(&mut self, baselines: &mut Baselines, journal: &Journal) {
        let rows = self.waiting.take().into_iter().chain(baselines.save_all());
        journal.keep_baselines(rows);
    }

    /// Shows the figures once a minute.
    pub(super) fn show(&mut self, now: Timestamp, baselines: &Baselines, views: &Views) {
        if !is_due(&mut self.looked_at, now, LOOK) {
            return;
        }
        views.set_baselines(BaselineView {
            targets: baselines.len() as u64,
            octets: baselines.octets() as u64,
            counters: baselines.counters(),
        });
    }

    /// What each upstream is told, where that has changed noticeably and the last time is long ago.
    pub(super) fn tell(
        &mut self,
        now: Timestamp,
        baselines: &Baselines,
    ) -> Vec<(Arc<str>, ClientCommand)> {
        let config = &self.settings.baseline.config;
        let interval = config.tell_interval.0;
        let waits = self.told_at.is_some_and(|told| told.plus(interval) > now);
        if waits || !is_due(&mut self.checked_at, now, (interval / 12).max(LOOK)) {
            return Vec::new();
        }
        let reports = told_reports(baselines);
        if !has_changed(&self.told, &reports, config.tell_change) {
            return Vec::new();
        }
        tracing::info!(targets = reports.len(), "upstreams are told what is normal");
        self.told_at = Some(now);
        let upstreams = self.settings.export.upstreams().iter();
        let commands = upstreams
            .map(|upstream| {
                let command = upstreams::setup(&self.settings, upstream, &reports);
                (Arc::clone(&upstream.name), command)
            })
            .collect();
        self.told = reports;
        commands
    }
}

/// Takes in what a client of our DOTS server says is normal.
pub(super) fn import(now: Timestamp, baselines: &mut Baselines, reported: &ReportedBaselines) {
    let imported = import_reported(baselines, now, reported);
    let (client, targets) = (&reported.client, imported.targets.len());
    tracing::info!(%client, targets, "a client reports what is normal");
    for why in &imported.refused {
        tracing::warn!(%client, why, "a reported baseline is left out");
    }
}

/// What upstreams are told: what we have learned ourselves, in the percentiles of which our telemetry is.
pub(super) fn told_reports(baselines: &Baselines) -> Vec<BaselineReport> {
    let config = &baselines.settings().config;
    if config.percentiles != BaselineConfig::default().percentiles {
        return Vec::new();
    }
    let most = config.tell_targets;
    let mut reports = baselines.reports(most);
    reports.retain(|report| report.total.imported < 1.0);
    reports
}

/// Whether a time has passed since the last one; it begins anew then.
fn is_due(last: &mut Option<Timestamp>, now: Timestamp, interval: Duration) -> bool {
    let due = last.is_none_or(|last| last.plus(interval) <= now);
    if due {
        *last = Some(now);
    }
    due
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests may")]

    use weir_baseline::{BaselineTarget, Subject};
    use weir_flow_aggregate::Bucket;
    use weir_flow_record::{ColumnSet, Direction, ZoneId};

    use super::*;
    use crate::config;

    const START: i64 = 1_767_571_200;

    fn settings() -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.toml");
        let upstream = |name: &str, rest: &str| {
            format!(
                "[[upstream]]\nname = \"{name}\"\nserver = \"192.0.2.1\"\nca = \"ca.pem\"\ncertificate = \"c.pem\"\nkey = \"c.key\"\n{rest}\n"
            )
        };
        let zone = "[[zone]]\nname = \"web\"\nprefixes = [\"203.0.113.0/24\"]\n";
        let all = [
            zone.to_owned(),
            upstream("told", ""),
            upstream("deaf", "share = [\"mitigation\"]"),
            upstream("other", "prefixes = [\"198.51.100.0/24\"]"),
        ];
        std::fs::write(&path, all.concat()).unwrap();
        config::load(&path, ColumnSet::NONE).unwrap()
    }

    /// An hour of so many octets a second.
    fn teach(baselines: &mut Baselines, from: i64, octets: u64) {
        let zone = BaselineTarget {
            subject: Subject::Zone(ZoneId(0)),
            direction: Direction::In,
        };
        let bucket = Bucket {
            octets,
            packets: octets / 500,
            ..Bucket::default()
        };
        for second in from..from + 3600 {
            baselines.handle_second(&zone, second, &bucket, [], true);
        }
    }

    #[test]
    fn upstreams_that_may_know_are_told_when_it_has_changed_and_not_too_often() {
        let settings = settings();
        let mut baselines = Baselines::new(settings.baseline.clone());
        let mut teaching = Teaching::new(&settings, told_reports(&baselines));
        let at = |minutes: i64| Timestamp::from_seconds(START + minutes * 60);
        assert!(
            teaching.tell(at(0), &baselines).is_empty(),
            "nothing is known"
        );
        teach(&mut baselines, START, 1_000_000);
        let told = teaching.tell(at(60), &baselines);
        let plans: Vec<(&str, bool)> = told
            .iter()
            .map(|(upstream, command)| match command {
                ClientCommand::Setup { plan } => (&**upstream, plan.contains_key("baseline")),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(plans, [("told", true), ("deaf", false), ("other", false)]);
        assert!(
            teaching.tell(at(130), &baselines).is_empty(),
            "it is the same"
        );
        teach(&mut baselines, START + 3600, 9_000_000);
        teach(&mut baselines, START + 7200, 9_000_000);
        assert_eq!(teaching.tell(at(190), &baselines).len(), 3);
        teach(&mut baselines, START + 10_800, 90_000_000);
        teach(&mut baselines, START + 14_400, 90_000_000);
        assert!(
            teaching.tell(at(240), &baselines).is_empty(),
            "it is too soon"
        );
    }
}
