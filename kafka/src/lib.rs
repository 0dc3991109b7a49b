//! Kafka between collectors, detectors and the systems that a provider already runs: flow records as JSON, as goflow2's
//! protobuf or in blocks of some 500; events, mitigation reports and labels as JSON.
//!
//! [`KafkaConfig`] is the table `[kafka]`; [`client_config`], [`producer_config`] and [`consumer_config`] make of it what
//! librdkafka takes, and [`ensure_topics`] makes the topics.
//!
//! It judges and aggregates nothing. What is published never blocks its caller: a queue that is full, and a message that no
//! broker took in time, are counters.

pub mod block;
mod client;
mod config;
mod counters;
mod flows;
pub mod fuzzing;
mod producer;
mod publisher;
mod telling;
mod topics;

pub use client::{StartError, client_config, consumer_config, producer_config};
pub use config::{
    Fault, FlowFormat, KafkaConfig, KafkaSettings, Mechanism, TlsConfig, TopicsConfig,
};
pub use counters::{DropReason, Kind, ProducerState, TopicCounters};
pub use flows::FlowPublisher;
pub use publisher::{Figures, Notes, Publisher};
pub use rdkafka;
pub use topics::{Topic, TopicError, ensure_topics};
