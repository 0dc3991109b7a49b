//! What is known of each exporter, by its name.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use weir_collector::Coverage;
use weir_flow_record::ExporterView;

use crate::views::{ExporterRow, ShardView};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByExporter {
    exporter: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByZone {
    zone: String,
}

type Figure = fn(&ExporterView) -> u64;

/// Counters: what, help, figure.
const COUNTERS: [(&str, &str, Figure); 28] = [
    ("datagrams", "Export datagrams received", |e| e.datagrams),
    ("bytes", "Octets of export datagrams received", |e| e.octets),
    ("records", "Flow records decoded", |e| e.records),
    ("options_records", "Options records read", |e| {
        e.options_records
    }),
    (
        "missing_records",
        "Records that sequence numbers say were lost (NetFlow v9, sFlow: an estimate)",
        |e| e.missing_records,
    ),
    (
        "recovered_records",
        "Records that were missing and came late",
        |e| e.recovered_records,
    ),
    ("sequence_gaps", "Gaps in sequence numbers", |e| {
        e.sequence_gaps
    }),
    (
        "sequence_resets",
        "How often sequences began anew: restarts",
        |e| e.sequence_resets,
    ),
    ("reordered_datagrams", "Datagrams that came late", |e| {
        e.reordered_datagrams
    }),
    (
        "duplicate_datagrams",
        "Datagrams that came twice; they count once",
        |e| e.duplicate_datagrams,
    ),
    (
        "undecodable_sets",
        "Sets and samples skipped because they are malformed",
        |e| e.undecodable_sets,
    ),
    (
        "malformed_datagrams",
        "Datagrams that are no export message or broken",
        |e| e.malformed_datagrams,
    ),
    (
        "held_back_sets",
        "Sets that came before their template",
        |e| e.held_back_sets,
    ),
    (
        "held_back_released_sets",
        "Sets decoded when their template came",
        |e| e.released_sets,
    ),
    (
        "held_back_expired_sets",
        "Sets whose template did not come in time",
        |e| e.expired_sets,
    ),
    (
        "held_back_dropped_sets",
        "Sets that waited for a template in vain, or that there was no room for",
        |e| e.held_back_dropped,
    ),
    (
        "template_fallbacks",
        "Sets decoded by a template that came from another port",
        |e| e.template_fallbacks,
    ),
    (
        "template_redefinitions",
        "Templates that replaced a different one of the same id",
        |e| e.redefinitions,
    ),
    (
        "ignored_withdrawals",
        "Template withdrawals over UDP, where they mean nothing",
        |e| e.ignored_withdrawals,
    ),
    (
        "refused_state",
        "Templates and samplers that there was no room for",
        |e| e.refused,
    ),
    (
        "evicted_state",
        "Templates, samplers, domains and sessions that gave way to newer ones",
        |e| e.evicted,
    ),
    (
        "unknown_rate_records",
        "Records without a known sampling rate",
        |e| e.unknown_rate_records,
    ),
    ("counter_samples", "Counter samples of sFlow agents", |e| {
        e.counter_samples
    }),
    (
        "drop_samples",
        "Samples of discarded packets of sFlow agents",
        |e| e.drop_samples,
    ),
    (
        "agent_lost_samples",
        "Samples that sFlow agents say they lost themselves",
        |e| e.agent_drops,
    ),
    (
        "agent_sample_pool",
        "Packets that sFlow agents could have sampled",
        |e| e.sample_pool,
    ),
    (
        "interface_octets",
        "Octets by interface counters, of the times compared with flow samples",
        |e| e.interface_octets,
    ),
    (
        "interface_flow_octets",
        "Octets by flow samples of the same interfaces and times, scaled",
        |e| e.interface_flow_octets,
    ),
];

/// All figures of exporters.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, rows: &[ExporterRow]) -> fmt::Result {
    // Several exporters may go by one name: a rule's, or that of a router which speaks NetFlow and sFlow.
    let mut by_name = BTreeMap::<&str, Vec<&ExporterRow>>::new();
    for row in rows {
        by_name.entry(&row.name).or_default().push(row);
    }
    for (what, help, figure) in COUNTERS {
        let name = format!("weir_collector_{what}");
        let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
        for (exporter, rows) in &by_name {
            let sum = rows.iter().map(|row| figure(&row.view)).sum();
            let labels = labels(exporter);
            ConstCounter::<u64>::new(sum).encode(family.encode_family(&labels)?)?;
        }
    }
    let mut gauge = |name: &str, help: &str, of: &dyn Fn(&[&ExporterRow]) -> f64| {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (exporter, rows) in &by_name {
            ConstGauge::new(of(rows)).encode(family.encode_family(&labels(exporter))?)?;
        }
        Ok::<(), fmt::Error>(())
    };
    gauge("weir_collector_templates", "Templates known", &|rows| {
        rows.iter().map(|row| row.view.templates).sum::<usize>() as f64
    })?;
    gauge(
        "weir_collector_held_back_waiting_sets",
        "Sets that wait for their template now",
        &|rows| rows.iter().map(|row| row.view.held_back).sum::<u64>() as f64,
    )?;
    gauge(
        "weir_collector_clock_skew_seconds",
        "Received time less export time: of several clocks the one that is most wrong",
        &|rows| {
            let worst = |a: f64, b: f64| if b.abs() > a.abs() { b } else { a };
            rows.iter().map(|row| row.skew_seconds).fold(0.0, worst)
        },
    )?;
    gauge(
        "weir_collector_last_datagram_timestamp_seconds",
        "When the newest datagram came",
        &|rows| {
            let newest = rows.iter().map(|row| row.view.last_seen.nanos()).max();
            newest.unwrap_or(0) as f64 / 1e9
        },
    )?;
    gauge(
        "weir_collector_coverage_ratio",
        "Share of the reported records that were seen",
        &|rows| {
            let parts = rows.iter().map(|row| (row.coverage, row.coverage.seen));
            Coverage::weighted(parts).share()
        },
    )
}

/// The coverage of zones.
pub(super) fn encode_zones(
    encoder: &mut DescriptorEncoder<'_>,
    zones: &BTreeMap<String, Coverage>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "weir_aggregate_zone_coverage_ratio",
        "Share of the records reported by a zone's exporters that were seen",
        None,
        MetricType::Gauge,
    )?;
    for (zone, coverage) in zones {
        let labels = ByZone { zone: zone.clone() };
        ConstGauge::new(coverage.share()).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Datagrams that were not decoded, by reason; those of capped exporters by name too.
pub(super) fn encode_refused(
    encoder: &mut DescriptorEncoder<'_>,
    shard: &ShardView,
) -> fmt::Result {
    let reasons = [
        ("allow-list", shard.trust.strangers),
        ("datagram-cap", shard.trust.too_many_datagrams),
        ("record-cap", shard.trust.too_many_records),
    ];
    let mut family = encoder.encode_descriptor(
        "weir_collector_refused_datagrams",
        "Datagrams that were not decoded, by reason",
        None,
        MetricType::Counter,
    )?;
    for (reason, value) in reasons {
        let labels = [("reason", reason)];
        ConstCounter::<u64>::new(value).encode(family.encode_family(&labels)?)?;
    }
    let mut family = encoder.encode_descriptor(
        "weir_collector_capped_datagrams",
        "Datagrams that an exporter sent beyond its caps",
        None,
        MetricType::Counter,
    )?;
    let mut sums = BTreeMap::<String, u64>::new();
    for view in &shard.refused {
        let known = shard.exporters.iter();
        let known = known.filter(|row| row.view.address == view.exporter);
        let name = known.map(|row| row.name.clone()).next();
        let name = name.unwrap_or_else(|| view.exporter.to_string());
        *sums.entry(name).or_default() += view.too_many_datagrams + view.too_many_records;
    }
    for (exporter, sum) in &sums {
        ConstCounter::<u64>::new(*sum).encode(family.encode_family(&labels(exporter))?)?;
    }
    Ok(())
}

fn labels(exporter: &str) -> ByExporter {
    ByExporter {
        exporter: exporter.to_owned(),
    }
}
