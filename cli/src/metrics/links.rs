//! Links and exporters as targets: what passes them.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use weir_detector::LinkLevel;
use weir_flow_record::Direction;

/// A figure of a link, if it has it.
type Figure = fn(&LinkLevel) -> Option<u64>;

/// The newest settled second of each link.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, links: &[LinkLevel]) -> fmt::Result {
    let figures: [(&str, &str, Figure); 3] = [
        (
            "weir_link_bits_per_second",
            "What passes a link in a second, scaled by the sampling rate",
            |link| Some(link.bits_per_second),
        ),
        (
            "weir_link_packets_per_second",
            "Packets that pass a link in a second",
            |link| Some(link.packets_per_second),
        ),
        (
            "weir_link_capacity_bits_per_second",
            "Capacity of a link as configured",
            |link| link.capacity,
        ),
    ];
    for (name, help, figure) in figures {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for link in links {
            let Some(value) = figure(link) else { continue };
            let direction = match link.direction {
                Direction::In => "in",
                Direction::Out => "out",
            };
            let labels = [("link", &*link.name), ("direction", direction)];
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
