//! Small messages between members: orders of detectors, findings of collectors.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};
use serde::Serialize;
use weir_kafka::{StartError, producer_config, rdkafka};

use crate::config::cluster::ClusterSettings;

/// What librdkafka says goes to our log.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Logged;

impl ClientContext for Logged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Logged {}

impl ProducerContext for Logged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            tracing::warn!(%error, "a message to other members is lost");
        }
    }
}

/// Says what librdkafka says, of which most passes by itself.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::info!(facility, message, "kafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(facility, message, "kafka");
        }
    }
}

/// A producer that several threads share.
#[derive(Clone)]
pub(super) struct Bus {
    producer: Arc<ThreadedProducer<Logged>>,
}

impl Bus {
    pub(super) fn open(cluster: &ClusterSettings) -> Result<Self, StartError> {
        let mut config = producer_config(&cluster.kafka)?;
        config.set("linger.ms", "1");
        let producer = config.create_with_context(Logged)?;
        Ok(Self {
            producer: Arc::new(producer),
        })
    }

    /// Sends a message as JSON; where there is no room for it, it is lost and that is said.
    pub(super) fn send<T: Serialize>(&self, topic: &str, partition: u32, message: &T) {
        let Ok(text) = serde_json::to_vec(message) else {
            return;
        };
        let record = BaseRecord::<(), [u8]>::to(topic)
            .partition(partition.cast_signed())
            .payload(&text);
        if let Err((error, _)) = self.producer.send(record) {
            tracing::warn!(%error, topic, "a message to other members is lost");
        }
    }

    /// Waits a little for what is on its way.
    pub(super) fn flush(&self) {
        // Whoever misses it asks again.
        let _ = self.producer.flush(Duration::from_secs(2));
    }
}
