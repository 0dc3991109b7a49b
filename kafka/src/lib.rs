//! Kafka between collectors, detectors and the systems that a provider already runs.

pub use rdkafka::error::KafkaError;
