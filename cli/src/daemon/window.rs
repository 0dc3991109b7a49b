//! The thread that owns the recent window: polars never runs where packets or judgements do.

use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use weir_attack_event::DrillDown;
use weir_collector::{DoubleCount, Overlap, Reporter};
use weir_flow_record::FlowBatch;
use weir_flow_store::RecentWindow;

use super::judge::Input;
use crate::learn::{self, Shadow};
use crate::naming::Naming;
use crate::store::StoreWriter;

/// Batches come by the hundred, and waking for each costs more than taking it in.
const PAUSE: Duration = Duration::from_millis(5);

/// What the window thread takes in.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are batches, and a box would be an allocation for each"
)]
pub(super) enum Ask {
    /// A shard's batch, which goes back to it.
    Batch(u16, FlowBatch),
    DrillDown(DrillDown),
}

/// Serves until nobody can ask any more.
pub(super) fn run(
    mut window: RecentWindow,
    asks: &Receiver<Ask>,
    spares: &[SyncSender<FlowBatch>],
    input: &SyncSender<Input>,
    (naming, store): (&Naming, Option<StoreWriter>),
    mut shadows: Vec<Shadow>,
) {
    let mut overlap = Overlap::default();
    'serve: while let Ok(first) = asks.recv() {
        for ask in std::iter::once(first).chain(asks.try_iter()) {
            match ask {
                Ask::Batch(shard, batch) => {
                    window.handle_batch(&batch);
                    overlap.handle_batch(&batch);
                    learn::show(&mut shadows, &batch);
                    while let Some(finding) = overlap.poll_finding() {
                        warn_of(&finding);
                    }
                    let left = match &store {
                        Some(store) => store.store(shard, batch),
                        None => Some(batch),
                    };
                    // A full channel only means that the shard has spares enough.
                    if let Some(batch) = left
                        && let Some(spares) = spares.get(usize::from(shard))
                    {
                        let _ = spares.try_send(batch);
                    }
                }
                Ask::DrillDown(question) => {
                    let mut findings = window.drill_down(&question);
                    weir_enrichment::annotate(&mut findings, &naming.snapshot());
                    if input.send(Input::Findings(findings)).is_err() {
                        break 'serve;
                    }
                }
            }
        }
        std::thread::sleep(PAUSE);
    }
    if let Some(store) = store {
        store.finish();
    }
}

fn warn_of(finding: &DoubleCount) {
    let name = |reporter: &Reporter| match reporter.direction {
        0 => format!("{} (ingress)", reporter.exporter),
        1 => format!("{} (egress)", reporter.exporter),
        _ => reporter.exporter.to_string(),
    };
    tracing::warn!(
        first = name(&finding.first),
        second = name(&finding.second),
        percent = (finding.share * 100.0).round(),
        "two report the same flows, which count twice: see `count` and `boundary_interfaces` of [[exporter]]"
    );
}
