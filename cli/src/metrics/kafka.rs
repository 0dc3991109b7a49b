//! What was published to Kafka, what brokers took, and what was dropped.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use weir_kafka::{DropReason, Figures, ProducerState, TopicCounters};

use super::counter;

/// A total of a topic.
type Total = fn(&TopicCounters) -> u64;
/// A figure of a producer.
type Figure = fn(&ProducerState) -> u64;

/// All figures; `behind` are records that found no room before the thread that publishes them.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    figures: Option<&Figures>,
    behind: u64,
) -> fmt::Result {
    let Some(figures) = figures else {
        return Ok(());
    };
    let topics = figures.topics();
    let totals: [(&str, &str, Total); 4] = [
        (
            "weir_kafka_records",
            "Records, events, reports and labels to be published",
            |topic| topic.records,
        ),
        (
            "weir_kafka_acknowledged_records",
            "Those that brokers have acknowledged",
            |topic| topic.acknowledged,
        ),
        (
            "weir_kafka_acknowledged_messages",
            "Messages that brokers have acknowledged: a block of records is one",
            |topic| topic.acknowledged_messages,
        ),
        (
            "weir_kafka_acknowledged_bytes",
            "Octets of those, before compression",
            |topic| topic.acknowledged_octets,
        ),
    ];
    for (name, help, total) in totals {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (topic, counters) in &topics {
            let labels = [("topic", topic.as_str())];
            ConstCounter::new(total(counters)).encode(family.encode_family(&labels)?)?;
        }
    }
    let mut family = encoder.encode_descriptor(
        "weir_kafka_dropped_records",
        "Records, events, reports and labels that no broker took, by reason",
        None,
        MetricType::Counter,
    )?;
    for (topic, counters) in &topics {
        for reason in DropReason::ALL {
            let labels = [("topic", topic.as_str()), ("reason", reason.name())];
            let dropped = counters.dropped(reason);
            ConstCounter::new(dropped).encode(family.encode_family(&labels)?)?;
        }
    }
    counter(
        encoder,
        "weir_kafka_behind_records",
        "Records that are not published because the thread that does so had fallen behind",
        behind,
    )?;
    let states: [(&str, &str, Figure); 5] = [
        (
            "weir_kafka_queued_messages",
            "Messages that wait for a broker",
            |state| state.queued_messages,
        ),
        (
            "weir_kafka_queued_bytes",
            "Octets of messages that wait for a broker",
            |state| state.queued_octets,
        ),
        (
            "weir_kafka_brokers_up",
            "Brokers that are connected",
            |state| state.brokers_up,
        ),
        (
            "weir_kafka_brokers_known",
            "Brokers of the cluster",
            |state| state.brokers_known,
        ),
        (
            "weir_kafka_producer_restarts",
            "How often a producer had to begin anew",
            |state| state.restarts,
        ),
    ];
    for (name, help, figure) in states {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (producer, state) in figures.producers() {
            let value = i64::try_from(figure(&state)).unwrap_or(i64::MAX);
            let labels = [("producer", producer)];
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
