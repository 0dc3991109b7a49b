//! Topics: made where they are missing, else looked at.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::client::{StartError, client_config};
use crate::config::KafkaSettings;

/// A topic as it is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Partitions where it is made.
    pub partitions: u16,
    /// Whether one that is there must have exactly so many: what is kept by partition cannot move.
    pub is_fixed: bool,
    /// Whether only the newest message of each key is kept.
    pub is_compacted: bool,
}

/// Why a topic cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// A file of the configuration.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No broker answers, or it refuses everything.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The brokers' word on one topic.
    #[error("topic {name}: {code}")]
    Refused {
        /// The topic.
        name: String,
        /// What they say.
        code: RDKafkaErrorCode,
    },
    /// A topic that is missing, and is not to be made.
    #[error("topic {0} does not exist, and create_topics is off")]
    Missing(String),
    /// A topic of another number of partitions, on which state depends.
    #[error("topic {name} has {there} partitions where {wanted} are configured")]
    Partitions {
        /// The topic.
        name: String,
        /// What it has.
        there: usize,
        /// What is configured.
        wanted: u16,
    },
}

/// Makes the topics that are missing, as `[kafka]` allows, and checks those that are there. Waits for brokers for `patience`.
pub fn ensure_topics(
    settings: &KafkaSettings,
    topics: &[Topic],
    patience: Duration,
) -> Result<(), TopicError> {
    let admin: AdminClient<DefaultClientContext> = client_config(settings)?
        .create()
        .map_err(StartError::from)?;
    let mut missing = Vec::new();
    for topic in topics {
        match partitions(&admin, topic, patience)? {
            None => missing.push(topic),
            Some(there) if topic.is_fixed && there != usize::from(topic.partitions) => {
                return Err(TopicError::Partitions {
                    name: topic.name.clone(),
                    there,
                    wanted: topic.partitions,
                });
            }
            Some(_) => {}
        }
    }
    match missing.first() {
        None => Ok(()),
        Some(topic) if !settings.config().create_topics => {
            Err(TopicError::Missing(topic.name.clone()))
        }
        Some(_) => create(&admin, settings, &missing, patience),
    }
}

/// How many partitions a topic has; `None` where there is no such topic.
fn partitions(
    admin: &AdminClient<DefaultClientContext>,
    topic: &Topic,
    patience: Duration,
) -> Result<Option<usize>, TopicError> {
    let metadata = admin.inner().fetch_metadata(Some(&topic.name), patience)?;
    let found = metadata.topics().iter().find(|t| t.name() == topic.name);
    let Some(found) = found else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(Some(found.partitions().len())),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Ok(None)
        }
        Some(code) => Err(TopicError::Refused {
            name: topic.name.clone(),
            code,
        }),
    }
}

fn create(
    admin: &AdminClient<DefaultClientContext>,
    settings: &KafkaSettings,
    topics: &[&Topic],
    patience: Duration,
) -> Result<(), TopicError> {
    // −1 is the brokers' default.
    let replication = match settings.config().replication {
        0 => -1,
        copies => i32::from(copies),
    };
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| {
            let partitions = i32::from(topic.partitions);
            let new = NewTopic::new(
                &topic.name,
                partitions,
                TopicReplication::Fixed(replication),
            );
            if topic.is_compacted {
                new.set("cleanup.policy", "compact")
            } else {
                new
            }
        })
        .collect();
    let options = AdminOptions::new()
        .request_timeout(Some(patience))
        .operation_timeout(Some(patience));
    for result in block_on(admin.create_topics(&new, &options))? {
        match result {
            // Another of us was quicker.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(TopicError::Refused { name, code }),
        }
    }
    Ok(())
}

/// Waits for one future, which librdkafka's own thread wakes.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
