//! What drill-downs cost, and what is kept of attacks.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use super::{counter, gauge};
use crate::views::Views;

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, views: &Views) -> fmt::Result {
    encode_drill_downs(encoder, views)?;
    let Some(kept) = views.evidence() else {
        return Ok(());
    };
    let counters = [
        (
            "weir_evidence_rows",
            "Rows in finished files of attacks",
            kept.rows,
        ),
        (
            "weir_evidence_left_out_rows",
            "Rows of attacks that are in no file of theirs, for want of room or of time",
            kept.left_out_rows,
        ),
        (
            "weir_evidence_files",
            "Parquet files of attacks finished",
            kept.files,
        ),
        (
            "weir_evidence_abandoned_files",
            "Parquet files of attacks given up because of an error",
            kept.abandoned_files,
        ),
        (
            "weir_evidence_leftover_files",
            "Unfinished files of an earlier run, removed at the start",
            kept.leftover_files,
        ),
        (
            "weir_evidence_lost_events",
            "Events that are not in the bundle of their attack",
            kept.lost_events,
        ),
        (
            "weir_evidence_refused_attacks",
            "Attacks whose flows are not kept because too many are open",
            kept.refused_attacks,
        ),
        (
            "weir_evidence_expired_bundles",
            "Bundles of attacks that retention deleted",
            kept.expired_bundles,
        ),
    ];
    for (name, help, value) in counters {
        counter(encoder, name, help, value)?;
    }
    gauge(
        encoder,
        "weir_evidence_bundles",
        "Bundles of attacks that are there",
        kept.bundles,
    )?;
    gauge(
        encoder,
        "weir_evidence_bytes",
        "Octets of the bundles that are there",
        kept.octets,
    )
}

fn encode_drill_downs(encoder: &mut DescriptorEncoder<'_>, views: &Views) -> fmt::Result {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &views.counters;
    counter(
        encoder,
        "weir_store_drill_downs",
        "Drill-downs answered",
        read(&counters.drill_downs),
    )?;
    counter(
        encoder,
        "weir_store_slow_drill_downs",
        "Drill-downs whose answer took longer than 250 ms from the question",
        read(&counters.slow_drill_downs),
    )?;
    counter(
        encoder,
        "weir_store_lost_drill_downs",
        "Drill-downs left out because the recent window was behind",
        read(&counters.lost_drill_downs),
    )?;
    let seconds = ConstCounter::new(read(&counters.drill_down_nanos) as f64 / 1e9);
    let name = "weir_store_drill_down_seconds";
    let help = "Time from questions to answers, summed";
    seconds.encode(encoder.encode_descriptor(name, help, None, seconds.metric_type())?)
}
