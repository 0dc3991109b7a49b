//! A member of a cluster: what a collector publishes, and how a detector's partitions stand.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use weir_flow_record::Timestamp;

use super::{counter, gauge};
use crate::daemon::{ClusterView, PartitionFigures, PublishView};

type Figure = (&'static str, &'static str, fn(&PartitionFigures) -> u64);

/// Nothing of a process that is no member.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, view: &ClusterView) -> fmt::Result {
    if view.published.is_on.load(Ordering::Relaxed) {
        encode_published(encoder, &view.published)?;
    }
    if view.is_detector.load(Ordering::Relaxed) {
        encode_detector(encoder, view)?;
    }
    Ok(())
}

fn encode_published(encoder: &mut DescriptorEncoder<'_>, view: &PublishView) -> fmt::Result {
    let counters: [(&str, &str, &AtomicU64); 5] = [
        (
            "weir_cluster_published_summaries",
            "Summaries that brokers have taken",
            &view.delivered,
        ),
        (
            "weir_cluster_published_bytes",
            "Octets of summaries that brokers have taken, before compression",
            &view.octets,
        ),
        (
            "weir_cluster_summaries_told_again",
            "Summaries that no broker took in time, whose content is told again with later ones",
            &view.told_again,
        ),
        (
            "weir_cluster_refused_minutes",
            "Slices of minutes, for baselines, for which there was no room while brokers were away",
            &view.refused_minutes,
        ),
        (
            "weir_cluster_bad_orders",
            "Messages of detectors that could not be read",
            &view.bad_orders,
        ),
    ];
    for (name, help, value) in counters {
        counter(encoder, name, help, value.load(Ordering::Relaxed))?;
    }
    Ok(())
}

fn encode_detector(encoder: &mut DescriptorEncoder<'_>, view: &ClusterView) -> fmt::Result {
    let now = Timestamp::from_nanos(weir_collector::wall_clock());
    let partitions = view.partitions(now);
    let judged = partitions.iter().filter(|one| one.judges).count();
    gauge(
        encoder,
        "weir_cluster_owned_partitions",
        "Partitions that this detector owns",
        partitions.len() as u64,
    )?;
    gauge(
        encoder,
        "weir_cluster_judged_partitions",
        "Partitions that it owns, and has begun to judge",
        judged as u64,
    )?;
    let collectors = partitions.iter().map(|one| one.counters.collectors).max();
    gauge(
        encoder,
        "weir_cluster_collectors",
        "Collectors that are heard",
        collectors.unwrap_or(0),
    )?;
    for (name, help, value) in [
        (
            "weir_cluster_takeovers",
            "Partitions that were taken up",
            &view.takeovers,
        ),
        (
            "weir_cluster_releases",
            "Partitions that were given up",
            &view.releases,
        ),
        (
            "weir_cluster_fenced_partitions",
            "Partitions given up since another detector had taken them over",
            &view.fenced,
        ),
    ] {
        counter(encoder, name, help, value.load(Ordering::Relaxed))?;
    }
    let name = "weir_cluster_lag_seconds";
    let help = "Age of the newest tick that is judged, by partition";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for one in &partitions {
        let Some(lag) = one.lag else { continue };
        let labels = [("partition", one.partition)];
        ConstGauge::new(lag.as_secs_f64()).encode(family.encode_family(&labels)?)?;
    }
    let figures: [Figure; 7] = [
        (
            "weir_cluster_summaries",
            "Summaries that counted, by partition",
            |one| one.counters.parts,
        ),
        (
            "weir_cluster_repeated_summaries",
            "Summaries that came before, or of a collector's earlier life, by partition",
            |one| one.counters.repeats,
        ),
        (
            "weir_cluster_refused_summaries",
            "Summaries of collectors for which there was no room, by partition",
            |one| one.counters.refused,
        ),
        (
            "weir_cluster_bad_summaries",
            "Messages that are no summaries, or of an unknown form, by partition",
            |one| one.bad,
        ),
        (
            "weir_cluster_early_summaries",
            "Summaries of a collector whose clock is more than a minute ahead, by partition",
            |one| one.early,
        ),
        (
            "weir_cluster_unawaited_summaries",
            "Summaries of collectors whose findings nobody waits for, since there are too many, by partition",
            |one| one.unawaited,
        ),
        (
            "weir_cluster_unknown_series",
            "Series of zones that are not configured here, by partition",
            |one| one.unknown,
        ),
    ];
    for (name, help, figure) in figures {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for one in &partitions {
            let labels = [("partition", one.partition)];
            ConstCounter::new(figure(one)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
