//! Packet samplers.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use weir_ebpf::Totals;

use crate::daemon::SamplerView;

/// Name, help, and where the figure stands.
type Column = (&'static str, &'static str, fn(&Totals) -> u64);

const COLUMNS: [Column; 7] = [
    (
        "weir_sampler_packets",
        "Packets that a sampler saw, by interface",
        |totals| totals.packets,
    ),
    ("weir_sampler_bytes", "Octets of their frames", |totals| {
        totals.octets
    }),
    (
        "weir_sampler_samples",
        "Packets whose turn it was to be sampled",
        |totals| totals.samples,
    ),
    (
        "weir_sampler_packets_without_ip",
        "Of those (in exact mode of all packets), without IP",
        |totals| totals.without_ip,
    ),
    (
        "weir_sampler_cut_headers",
        "Packets whose headers reach beyond the first 128 octets",
        |totals| totals.cut,
    ),
    (
        "weir_sampler_lost_samples",
        "Samples for which the ring had no room",
        |totals| totals.ring_full,
    ),
    (
        "weir_sampler_refused_packets",
        "Packets for whose flow the table of exact mode had no room",
        |totals| totals.refused_packets,
    ),
];

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, samplers: &[SamplerView]) -> fmt::Result {
    if samplers.is_empty() {
        return Ok(());
    }
    for (name, help, value) in COLUMNS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for sampler in samplers {
            let labels = [
                ("interface", sampler.interface.as_str()),
                ("method", sampler.method),
            ];
            let counter = ConstCounter::<u64>::new(value(&sampler.totals));
            counter.encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
