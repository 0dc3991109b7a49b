//! The judge as an earlier run, or an earlier owner of its zones, has left it.

use std::sync::Arc;

use weir_attack_event::AttackId;
use weir_baseline::BaselineReport;
use weir_detector::{Detector, Saved};
use weir_dots_export::Exporter;
use weir_flow_record::Timestamp;
use weir_state::State;

use super::teaching;
use crate::baseline;
use crate::config::Settings;
use crate::journal::Journal;
use crate::judge::{Judge, Sum};
use crate::views::Views;

/// A judge, with what was left over.
pub(super) struct Restored {
    pub(super) judge: Judge,
    /// Attacks that are open.
    pub(super) open: Vec<AttackId>,
    /// What upstreams are told of normal times.
    pub(super) normal: Vec<BaselineReport>,
}

/// Reads what was saved, and shows it.
pub(super) fn judge(
    settings: &Settings,
    (journal, state): (&Journal, &State),
    views: &Arc<Views>,
    sum: Sum,
) -> anyhow::Result<Restored> {
    let mut detector = Detector::new(settings.detector.clone())
        .with_baselines(baseline::restored(&settings.baseline, state)?);
    for row in journal.attacks()? {
        if let Saved::Attack(attack) = &row {
            views.restore_open(attack.event());
        }
        detector.restore(row);
    }
    let normal = teaching::told_reports(detector.baselines());
    let open: Vec<AttackId> = detector.open_attacks().cloned().collect();
    let mut exporter = Exporter::new(settings.export.clone());
    exporter.restore(open.iter().cloned());
    if journal.is_on_hold()? {
        tracing::warn!(
            "the stop switch is thrown: nothing is asked for until `weir dots hold --release`"
        );
        let now = Timestamp::from_nanos(weir_collector::wall_clock());
        exporter.handle_hold(now, true, false);
    }
    let judge = Judge::new(sum, detector, exporter);
    views.set_mutes(judge.mutes().cloned().collect());
    Ok(Restored {
        judge,
        open,
        normal,
    })
}
