//! `/metrics` in OpenMetrics text: totals that the stages keep are read at each scrape. A victim's address is never a label.

mod baselines;
mod cluster;
mod dots;
mod evidence;
mod exporters;
mod kafka;
mod links;
mod models;
mod packets;
mod sources;
mod standby;

use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::views::Views;
use std::sync::Arc;
use weir_flow_store::DropReason;

/// The text of one scrape.
pub(crate) fn scrape(views: &Arc<Views>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(Arc::clone(views))));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Arc<Views>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByListener {
    listener: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_collector(&mut encoder)?;
        self.encode_aggregate(&mut encoder)?;
        links::encode(&mut encoder, &self.0.links())?;
        self.encode_store(&mut encoder)?;
        baselines::encode(&mut encoder, &self.0.baselines())?;
        evidence::encode(&mut encoder, &self.0)?;
        cluster::encode(&mut encoder, &self.0.cluster())?;
        models::encode(&mut encoder, &self.0)?;
        let behind = &self.0.counters.kafka_behind_rows;
        let behind = behind.load(Ordering::Relaxed);
        kafka::encode(&mut encoder, self.0.kafka().as_ref(), behind)?;
        standby::encode(&mut encoder, self.0.standby().as_ref())?;
        self.encode_attacks(&mut encoder)
    }
}

impl Scrape {
    fn encode_collector(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let shard = self.0.shard();
        exporters::encode(encoder, &shard.exporters)?;
        exporters::encode_zones(encoder, &shard.zones())?;
        exporters::encode_refused(encoder, &shard)?;
        gauge(
            encoder,
            "weir_collector_silent_exporters",
            "Exporters that sent nothing for their time",
            self.0.silent().len() as u64,
        )?;
        packets::encode(encoder, &shard.samplers)?;
        sources::encode_mirrors(encoder, &shard.mirrors)?;
        sources::encode_streams(encoder, &self.0.streams())?;
        let mut family = encoder.encode_descriptor(
            "weir_collector_socket_drops",
            "Datagrams that the kernel dropped because the receive buffer was full",
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?;
        for socket in &shard.sockets {
            let labels = ByListener {
                listener: socket.address.to_string(),
            };
            ConstCounter::new(socket.drops).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "weir_collector_receive_buffer_bytes",
            "Receive buffer that the kernel granted",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?;
        for socket in &shard.sockets {
            let labels = ByListener {
                listener: socket.address.to_string(),
            };
            ConstGauge::new(i64::try_from(socket.granted_buffer).unwrap_or(i64::MAX))
                .encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_aggregate(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counters = self.0.shard().aggregate;
        counter(
            encoder,
            "weir_aggregate_records",
            "Records aggregated",
            counters.records,
        )?;
        counter(
            encoder,
            "weir_aggregate_counted_bytes",
            "Octets in buckets, scaled",
            counters.counted_octets,
        )?;
        let reasons = [
            ("outside-zones", counters.outside_records),
            ("late", counters.late_records),
            ("host-table-full", counters.refused_records),
        ];
        let mut family = encoder.encode_descriptor(
            "weir_aggregate_uncounted_records",
            "Records that are wholly or partly in no host's bucket, by reason",
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?;
        for (reason, value) in reasons {
            ConstCounter::new(value).encode(family.encode_family(&ByReason { reason })?)?;
        }
        counter(
            encoder,
            "weir_aggregate_early_records",
            "Records that end after their export time",
            counters.early_records,
        )?;
        counter(
            encoder,
            "weir_aggregate_refused_watches",
            "Hosts that should be watched and found no room",
            counters.refused_watches,
        )?;
        counter(
            encoder,
            "weir_aggregate_refused_cells",
            "Automatic prefixes that should be told and found no room",
            counters.refused_cells,
        )?;
        counter(
            encoder,
            "weir_aggregate_refused_cell_records",
            "Records of hosts of which automatic prefixes know nothing, since their table is full",
            counters.refused_cell_records,
        )?;
        counter(
            encoder,
            "weir_aggregate_refused_port_records",
            "Records whose service port found no room in a zone's minute, estimated",
            counters.refused_port_records,
        )?;
        counter(
            encoder,
            "weir_aggregate_refused_minute_rows",
            "Rows of minutes that came too late or found no room when shards were added up",
            counters.refused_minute_rows,
        )
    }

    fn encode_store(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(store) = self.0.store() else {
            return Ok(());
        };
        let counters = [
            (
                "weir_store_rows",
                "Rows in finished Parquet files",
                store.rows,
            ),
            (
                "weir_store_bytes",
                "Octets of finished Parquet files",
                store.octets,
            ),
            ("weir_store_files", "Parquet files finished", store.files),
            (
                "weir_store_abandoned_files",
                "Parquet files given up because of an error",
                store.abandoned_files,
            ),
            (
                "weir_store_leftover_files",
                "Unfinished Parquet files of an earlier run, removed at the start",
                store.leftover_files,
            ),
            (
                "weir_store_expired_files",
                "Parquet files that retention deleted",
                store.expired_files,
            ),
        ];
        for (name, help, value) in counters {
            counter(encoder, name, help, value)?;
        }
        gauge(
            encoder,
            "weir_store_stored_files",
            "Parquet files that are there",
            store.stored_files,
        )?;
        gauge(
            encoder,
            "weir_store_stored_bytes",
            "Octets of the Parquet files that are there",
            store.stored_octets,
        )?;
        let mut family = encoder.encode_descriptor(
            "weir_store_dropped_rows",
            "Rows that are in no Parquet file, by reason",
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?;
        for reason in DropReason::ALL {
            let label = ByReason {
                reason: reason.name(),
            };
            ConstCounter::new(store.dropped_rows(reason)).encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }

    fn encode_attacks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.0.totals();
        gauge(
            encoder,
            "weir_detector_open_attacks",
            "Attacks that are open",
            totals.open_attacks,
        )?;
        counter(
            encoder,
            "weir_detector_attacks",
            "Attacks detected",
            totals.attacks,
        )?;
        counter(
            encoder,
            "weir_detector_events",
            "Attack events",
            totals.events,
        )?;
        counter(
            encoder,
            "weir_detector_lost_summaries",
            "Summaries dropped because the detector fell behind",
            totals.lost_summaries,
        )?;
        counter(
            encoder,
            "weir_store_lost_batches",
            "Batches that the recent window could not take in time",
            totals.lost_batches,
        )?;
        counter(
            encoder,
            "weir_config_reload_failures",
            "Reloads refused because the configuration was bad",
            totals.reload_failures,
        )?;
        dots::encode(encoder, &self.0)
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}
