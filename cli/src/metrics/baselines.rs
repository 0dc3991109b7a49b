//! What is learned of normal traffic.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::{counter, gauge};
use crate::views::BaselineView;

/// Targets, memory, and what was learned or not.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, view: &BaselineView) -> fmt::Result {
    let counters = &view.counters;
    for (name, help, value) in [
        (
            "weir_baseline_targets",
            "Targets of which it is learned what is normal",
            view.targets,
        ),
        (
            "weir_baseline_memory_bytes",
            "Memory of baselines, estimated",
            view.octets,
        ),
    ] {
        gauge(encoder, name, help, value)?;
    }
    for (name, help, value) in [
        (
            "weir_baseline_learned_seconds",
            "Seconds of all targets that were learned from",
            counters.learned_seconds,
        ),
        (
            "weir_baseline_left_out_seconds",
            "Seconds of all targets that were left out because of an attack",
            counters.left_out_seconds,
        ),
        (
            "weir_baseline_refused_targets",
            "Samples of targets that found no room",
            counters.refused_targets,
        ),
        (
            "weir_baseline_refused_aspects",
            "Samples of protocols and ports that found no room",
            counters.refused_aspects,
        ),
        (
            "weir_baseline_forgotten_targets",
            "Targets forgotten since nothing came of them for long",
            counters.forgotten_targets,
        ),
        (
            "weir_baseline_unreadable_rows",
            "Rows of earlier runs that could not be read",
            counters.unreadable_rows,
        ),
        (
            "weir_baseline_imported",
            "Baselines taken in from others",
            counters.imported,
        ),
    ] {
        counter(encoder, name, help, value)?;
    }
    Ok(())
}
