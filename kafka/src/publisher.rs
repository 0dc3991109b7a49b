//! What the daemon publishes: flow records by one producer, all else by another, so that a flood of records takes no room from
//! the news of an attack.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::{StartError, producer_config};
use crate::config::KafkaSettings;
use crate::counters::{Kind, ProducerState, Shared, TopicCounters, lock};
use crate::flows::FlowPublisher;
use crate::producer::Producer;
use crate::topics::{Topic, TopicError, ensure_topics};

/// The longest wait for an answer of the brokers on topics.
const TOPIC_PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts to make topics.
const TOPIC_PAUSE: Duration = Duration::from_secs(1);
/// The queue of events, reports and labels: octets and messages.
const NOTES_QUEUE: (&str, &str) = ("32768", "100000");

/// Everything that is published. Threads end with it.
pub struct Publisher {
    flows: Option<Arc<Producer>>,
    notes: Option<Notes>,
    settings: KafkaSettings,
    stop: Arc<AtomicBool>,
    topics: Option<JoinHandle<()>>,
}

/// Publishes events, reports and labels. Any thread may have one.
#[derive(Clone)]
pub struct Notes {
    producer: Arc<Producer>,
    is_on: [bool; Kind::ALL.len()],
}

impl Notes {
    /// Whether a topic is named for such messages.
    pub fn has(&self, kind: Kind) -> bool {
        self.is_on[kind.index()]
    }

    /// Publishes one message under `key`, if there is a topic for its kind; does not wait.
    pub fn publish(&self, kind: Kind, key: &str, value: &[u8]) {
        if self.has(kind) {
            self.producer.send(kind, key.as_bytes(), value, 1);
        }
    }
}

impl Publisher {
    /// Starts what the configuration names. Brokers need not answer: topics are made once they do, and messages wait.
    pub fn start(settings: &KafkaSettings) -> Result<Self, StartError> {
        let config = producer_config(settings)?;
        let topics = names(settings);
        let flows = settings
            .has_flows()
            .then(|| Producer::start(config.clone(), "flows", topics.clone()))
            .transpose()?;
        let mut is_on = topics.each_ref().map(|name| !name.is_empty());
        is_on[Kind::Flows.index()] = false;
        let notes = is_on
            .contains(&true)
            .then(|| {
                let mut config = config.clone();
                let (octets, messages) = NOTES_QUEUE;
                config.set("queue.buffering.max.kbytes", octets);
                config.set("queue.buffering.max.messages", messages);
                Producer::start(config, "notes", topics.clone())
            })
            .transpose()?;
        let stop = Arc::new(AtomicBool::new(false));
        let wanted = wanted(settings);
        if !wanted.is_empty() {
            let names: Vec<&str> = wanted.iter().map(|topic| topic.name.as_str()).collect();
            let brokers = settings.config().brokers.join(",");
            tracing::info!(brokers, topics = names.join(","), "publishing to Kafka");
        }
        let topics = (!wanted.is_empty())
            .then(|| {
                let (settings, stop) = (settings.clone(), Arc::clone(&stop));
                std::thread::Builder::new()
                    .name("weir-topics".to_owned())
                    .spawn(move || make_topics(&settings, &wanted, &stop))
            })
            .transpose()?;
        Ok(Self {
            flows: flows.map(Arc::new),
            notes: notes.map(|producer| Notes {
                producer: Arc::new(producer),
                is_on,
            }),
            settings: settings.clone(),
            stop,
            topics,
        })
    }

    /// What publishes flow records; `None` where they have no topic.
    pub fn flows(&self) -> Option<FlowPublisher> {
        let producer = Arc::clone(self.flows.as_ref()?);
        let format = self.settings.config().flow_format;
        Some(FlowPublisher::new(producer, format))
    }

    /// What publishes all else; `None` where nothing else has a topic.
    pub fn notes(&self) -> Option<Notes> {
        self.notes.clone()
    }

    /// Where its figures can be read from now on.
    pub fn figures(&self) -> Figures {
        let notes = self.notes.as_ref().map(|notes| &notes.producer);
        let of = |producer: Option<&Arc<Producer>>| {
            producer.map(|producer| Arc::clone(producer.shared()))
        };
        Figures {
            topics: names(&self.settings),
            flows: of(self.flows.as_ref()),
            notes: of(notes),
        }
    }

    /// Waits for the brokers to take what is queued, at most for `patience`; the rest is dropped, and counted.
    /// Nothing should be published after it.
    pub fn finish(self, patience: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let notes = self.notes.map(|notes| notes.producer);
        let end = Instant::now() + patience;
        for producer in notes.iter().chain(&self.flows) {
            producer.finish(end.saturating_duration_since(Instant::now()));
        }
        if let Some(topics) = self.topics {
            topics.thread().unpark();
            let _ = topics.join();
        }
    }
}

/// The figures of a publisher, also after it is gone.
#[derive(Clone, Debug)]
pub struct Figures {
    topics: [String; Kind::ALL.len()],
    flows: Option<Arc<Shared>>,
    notes: Option<Arc<Shared>>,
}

impl Figures {
    /// The totals of each topic, by its name.
    pub fn topics(&self) -> Vec<(String, TopicCounters)> {
        Kind::ALL
            .into_iter()
            .zip(&self.topics)
            .filter(|(_, name)| !name.is_empty())
            .filter_map(|(kind, name)| {
                let shared = match kind {
                    Kind::Flows => self.flows.as_ref()?,
                    _ => self.notes.as_ref()?,
                };
                Some((name.clone(), shared.topic(kind).read()))
            })
            .collect()
    }

    /// The producers by name, and how they stand.
    pub fn producers(&self) -> Vec<(&'static str, ProducerState)> {
        [&self.flows, &self.notes]
            .into_iter()
            .flatten()
            .map(|shared| {
                let trouble = lock(&shared.telling).reason.clone();
                let state = lock(&shared.state).clone();
                (shared.name, ProducerState { trouble, ..state })
            })
            .collect()
    }
}

/// The names of the topics in the order of [`Kind::ALL`].
fn names(settings: &KafkaSettings) -> [String; Kind::ALL.len()] {
    let topics = &settings.config().topics;
    [
        topics.flows.clone(),
        topics.events.clone(),
        topics.mitigations.clone(),
        topics.labels.clone(),
    ]
}

/// The topics as they are made. Events, reports and labels are few: one partition keeps each in its order.
fn wanted(settings: &KafkaSettings) -> Vec<Topic> {
    let topics = Kind::ALL.into_iter().zip(names(settings));
    topics
        .filter(|(_, name)| !name.is_empty())
        .map(|(kind, name)| Topic {
            name,
            partitions: match kind {
                Kind::Flows => settings.config().partitions,
                _ => 1,
            },
            is_fixed: false,
            is_compacted: false,
        })
        .collect()
}

/// Makes topics as soon as brokers answer.
fn make_topics(settings: &KafkaSettings, wanted: &[Topic], stop: &AtomicBool) {
    let mut told = String::new();
    while !stop.load(Ordering::Relaxed) {
        let error = match ensure_topics(settings, wanted, TOPIC_PATIENCE) {
            Ok(()) => return,
            Err(error) => error,
        };
        // That no broker answers is told by the producers.
        let message = error.to_string();
        if !matches!(error, TopicError::Kafka(_)) && message != told {
            tracing::error!(error = message, "Kafka topics are not as configured");
            told = message;
        }
        std::thread::park_timeout(TOPIC_PAUSE);
    }
}
