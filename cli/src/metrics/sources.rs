//! Mirrors, and IPFIX over TCP and TLS.

use std::fmt;
use std::net::SocketAddr;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use weir_collector::{CloseReason, MirrorCounters, Refusal};

use super::{counter, gauge};
use crate::views::StreamView;

/// What went to each mirror, and what did not.
pub(super) fn encode_mirrors(
    encoder: &mut DescriptorEncoder<'_>,
    mirrors: &[(SocketAddr, MirrorCounters)],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "weir_collector_mirrored_datagrams",
        "Datagrams for mirrors, by what became of them",
        None,
        MetricType::Counter,
    )?;
    for (to, counters) in mirrors {
        let results = [
            ("sent", counters.sent),
            ("buffer-full", counters.full),
            ("failed", counters.failed),
            ("other-family", counters.other_family),
        ];
        for (result, value) in results {
            let labels = [("to", to.to_string()), ("result", result.to_owned())];
            ConstCounter::<u64>::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Sessions over TCP and TLS.
pub(super) fn encode_streams(
    encoder: &mut DescriptorEncoder<'_>,
    view: &StreamView,
) -> fmt::Result {
    let counters = &view.counters;
    gauge(
        encoder,
        "weir_collector_stream_connections",
        "Connections for IPFIX over TCP and TLS now",
        view.connections as u64,
    )?;
    counter(
        encoder,
        "weir_collector_stream_sessions",
        "IPFIX sessions that began",
        counters.opened,
    )?;
    counter(
        encoder,
        "weir_collector_stream_messages",
        "IPFIX messages of sessions",
        counters.messages,
    )?;
    counter(
        encoder,
        "weir_collector_stream_stalls",
        "How often a session waited for its shard",
        counters.stalls,
    )?;
    let mut family = encoder.encode_descriptor(
        "weir_collector_stream_closed",
        "IPFIX sessions that ended, by reason",
        None,
        MetricType::Counter,
    )?;
    for reason in CloseReason::ALL {
        let labels = [("reason", reason.name())];
        let value = counters.closed(*reason);
        ConstCounter::<u64>::new(value).encode(family.encode_family(&labels)?)?;
    }
    let mut family = encoder.encode_descriptor(
        "weir_collector_stream_refused",
        "Connections that did not become a session, by reason",
        None,
        MetricType::Counter,
    )?;
    for refusal in Refusal::ALL {
        let labels = [("reason", refusal.name())];
        let value = counters.refused(*refusal);
        ConstCounter::<u64>::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
