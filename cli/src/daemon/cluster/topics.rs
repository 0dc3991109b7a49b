//! The topics of a cluster: made where they are missing.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use tokio::runtime::Handle;
use weir_kafka::{Topic, TopicError, client_config, ensure_topics, rdkafka};

use crate::config::cluster::ClusterSettings;

/// How long brokers may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is told of the newest minutes only. Segments are short, for only whole ones go.
const BRIEF: &[(&str, &str)] = &[
    ("cleanup.policy", "delete"),
    ("retention.ms", "900000"),
    ("segment.ms", "300000"),
];
/// The newest row of each key. The active segment is never compacted, so it is short.
const COMPACTED: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("segment.ms", "600000"),
    ("min.cleanable.dirty.ratio", "0.1"),
    ("delete.retention.ms", "86400000"),
];

/// Makes the topics, or looks whether they are as they must be.
pub(super) fn ensure(runtime: &Handle, cluster: &ClusterSettings) -> Result<(), TopicError> {
    let count = u16::try_from(cluster.partitions.count()).unwrap_or(u16::MAX);
    let wanted = [
        (cluster.summaries(), count, BRIEF),
        (cluster.findings(), count, BRIEF),
        (cluster.control(), 1, BRIEF),
        (cluster.state(), count, COMPACTED),
    ];
    if cluster.kafka.config().create_topics {
        create(runtime, cluster, &wanted)?;
    }
    let wanted = wanted.map(|(name, partitions, settings)| Topic {
        name,
        partitions,
        is_fixed: true,
        is_compacted: settings == COMPACTED,
    });
    ensure_topics(&cluster.kafka, &wanted, PATIENCE)
}

type Wanted = (String, u16, &'static [(&'static str, &'static str)]);

fn create(
    runtime: &Handle,
    cluster: &ClusterSettings,
    wanted: &[Wanted],
) -> Result<(), TopicError> {
    let admin: AdminClient<DefaultClientContext> = client_config(&cluster.kafka)?
        .create()
        .map_err(weir_kafka::StartError::from)?;
    // −1 is the brokers' default.
    let copies = match cluster.kafka.config().replication {
        0 => -1,
        copies => i32::from(copies),
    };
    let topics: Vec<NewTopic<'_>> = wanted
        .iter()
        .map(|(name, partitions, settings)| {
            let copies = TopicReplication::Fixed(copies);
            let topic = NewTopic::new(name, (*partitions).into(), copies);
            // What is acknowledged survives the loss of any one broker.
            let topic = match cluster.kafka.config().replication {
                3.. => topic.set("min.insync.replicas", "2"),
                _ => topic,
            };
            let settings = settings.iter();
            settings.fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE));
    for result in runtime.block_on(admin.create_topics(&topics, &options))? {
        match result {
            // It was there, or another of us was quicker.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(TopicError::Refused { name, code }),
        }
    }
    Ok(())
}
