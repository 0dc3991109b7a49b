//! The thread that owns the recent window: polars never runs where packets or judgements do.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use weir_attack_event::{AttackEvent, DrillDown};
use weir_collector::{DoubleCount, Overlap, Reporter, wall_clock};
use weir_flow_record::FlowBatch;
use weir_flow_store::RecentWindow;

use super::judge::Input;
use super::outlet::Outlet;
use crate::background::give_way;
use crate::evidence::EvidenceKeeper;
use crate::learn::Watchers;
use crate::naming::Naming;
use crate::views::Views;

/// Batches come by the hundred, and waking for each costs more than taking it in.
const PAUSE: Duration = Duration::from_millis(5);
/// Without batches for so long, models are told the time.
const IDLE: Duration = Duration::from_secs(1);
/// What an attack-start may wait for its findings.
const SLOW: Duration = Duration::from_millis(250);

/// What the window thread takes in.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are batches, and a box would be an allocation for each"
)]
pub(super) enum Ask {
    /// A shard's batch, which goes back to it.
    Batch(u16, FlowBatch),
    /// A question, and when it was asked.
    DrillDown(DrillDown, Instant),
    /// What became of an attack, for its bundle.
    Attack(Box<AttackEvent>),
}

/// Serves until nobody can ask any more.
pub(super) fn run(
    mut window: RecentWindow,
    asks: &Receiver<Ask>,
    input: &SyncSender<Input>,
    (naming, views): (&Naming, &Views),
    (outlet, mut evidence, mut models): (Outlet, Option<EvidenceKeeper>, Watchers),
) {
    give_way();
    let mut overlap = Overlap::default();
    views.set_watchers(models.view());
    'serve: loop {
        let first = match asks.recv_timeout(IDLE) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => {
                models.handle_time(wall_clock());
                None
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        for ask in first.into_iter().chain(asks.try_iter()) {
            match ask {
                Ask::Batch(shard, batch) => {
                    window.handle_batch(&batch);
                    if let Some(evidence) = &mut evidence {
                        evidence.handle_batch(&batch);
                    }
                    overlap.handle_batch(&batch);
                    models.handle_batch(&batch);
                    tell(&mut models, input, views);
                    while let Some(finding) = overlap.poll_finding() {
                        warn_of(&finding);
                    }
                    outlet.take(shard, batch);
                }
                Ask::Attack(event) => {
                    if let Some(evidence) = &mut evidence {
                        evidence.handle_event(event, &window);
                    }
                }
                Ask::DrillDown(question, asked) => {
                    let snapshot = naming.snapshot();
                    let mut findings = window.drill_down_with(&question, &|address| {
                        weir_enrichment::origin_of(address, &snapshot)
                    });
                    weir_enrichment::annotate(&mut findings, &snapshot);
                    note_time(views, asked.elapsed());
                    if input.send(Input::Findings(Box::new(findings))).is_err() {
                        break 'serve;
                    }
                }
            }
        }
        tell(&mut models, input, views);
        if let Some(view) = models.look() {
            views.set_watchers(view);
        }
        std::thread::sleep(PAUSE);
    }
    outlet.finish();
    if let Some(evidence) = evidence {
        evidence.finish();
    }
}

/// Brings what the active model says to the judge. What is lost is said again in ten seconds.
fn tell(models: &mut Watchers, input: &SyncSender<Input>, views: &Views) {
    while let Some((now, verdict)) = models.poll_verdict() {
        if input
            .try_send(Input::Model(now, Box::new(verdict)))
            .is_err()
        {
            let lost = &views.counters.lost_verdicts;
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn note_time(views: &Views, took: Duration) {
    let counters = &views.counters;
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    counters.drill_downs.fetch_add(1, Ordering::Relaxed);
    counters
        .drill_down_nanos
        .fetch_add(nanos, Ordering::Relaxed);
    let slow = u64::from(took > SLOW);
    counters.slow_drill_downs.fetch_add(slow, Ordering::Relaxed);
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
