//! Models that watch, and what becomes of the active one's words.

use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::DescriptorEncoder;

use super::{counter, gauge};
use crate::views::Views;

/// Who watches whom, and what was said.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, views: &Views) -> fmt::Result {
    let (watching, words) = views.models();
    for (name, help, value) in [
        (
            "weir_models_active",
            "Whether a model is acted on",
            u64::from(watching.active),
        ),
        (
            "weir_models_in_shadow",
            "Models whose verdicts are only noted",
            watching.in_shadow,
        ),
        (
            "weir_models_targets",
            "Hosts that models watch, summed over models",
            watching.targets,
        ),
        (
            "weir_models_thinned_to",
            "One packet in how many models look at: above some 30,000 records of their hosts in a second they sample",
            watching.thinned_to,
        ),
    ] {
        gauge(encoder, name, help, value)?;
    }
    for (name, help, value) in [
        (
            "weir_models_windows",
            "Seconds of hosts that models judged",
            watching.windows,
        ),
        (
            "weir_models_refused_targets",
            "Times that a host found no room among those watched",
            watching.refused_targets,
        ),
        (
            "weir_models_lost_verdicts",
            "Verdicts that found no room in the queue before the detector",
            views.counters.lost_verdicts.load(Ordering::Relaxed),
        ),
        (
            "weir_models_verdicts",
            "Verdicts of the active model that the detector heard",
            words.verdicts,
        ),
        (
            "weir_models_raised_attacks",
            "Attacks that the active model raised",
            words.raised,
        ),
        (
            "weir_models_named_attacks",
            "Attacks of limits and operators that the active model named",
            words.named,
        ),
        (
            "weir_models_taken_over_attacks",
            "Attacks that the active model raised and a limit fired on later",
            words.taken_over,
        ),
        (
            "weir_models_capped_verdicts",
            "Verdicts that raised nothing because of max_events_per_hour or too many open attacks",
            words.capped,
        ),
    ] {
        counter(encoder, name, help, value)?;
    }
    Ok(())
}
