//! A producer that never waits: messages go into librdkafka's queue, and a thread of its own counts what becomes of them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use serde::Deserialize;

use crate::client::StartError;
use crate::counters::{DropReason, Kind, ProducerState, Shared, lock};

/// Between two statistics: how old the figures of queue and brokers may be.
const STATISTICS: Duration = Duration::from_secs(2);
/// Between two producers, where one breaks after the other.
const PAUSE: Duration = Duration::from_secs(1);

/// What is purged is told within it.
const PURGE_PATIENCE: Duration = Duration::from_millis(500);

/// A producer and its counters.
pub(crate) struct Producer {
    config: ClientConfig,
    client: RwLock<Client>,
    topics: [String; Kind::ALL.len()],
    shared: Arc<Shared>,
}

struct Client {
    producer: ThreadedProducer<Callbacks>,
    began: Instant,
}

impl Producer {
    /// Starts its threads; brokers need not answer. `topics` are in the order of [`Kind::ALL`].
    pub(crate) fn start(
        mut config: ClientConfig,
        name: &'static str,
        topics: [String; Kind::ALL.len()],
    ) -> Result<Self, StartError> {
        config.set("statistics.interval.ms", STATISTICS.as_millis().to_string());
        let shared = Arc::new(Shared::new(name));
        let client = RwLock::new(Client::start(&config, &shared)?);
        Ok(Self {
            config,
            client,
            topics,
            shared,
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Publishes a message that holds `records`; does not wait. What finds no room is counted.
    pub(crate) fn send(&self, kind: Kind, key: &[u8], value: &[u8], records: u32) {
        let totals = self.shared.topic(kind);
        let count = u64::from(records);
        totals.records.fetch_add(count, Ordering::Relaxed);
        if self.shared.is_broken.load(Ordering::Relaxed) {
            self.begin_anew();
        }
        let opaque = Opaque { kind, records };
        let record = BaseRecord::with_opaque_to(&self.topics[kind.index()], opaque.packed())
            .key(key)
            .payload(value);
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner);
        if let Err((error, _)) = client.producer.send(record) {
            totals.drop(reason(&error), count);
        }
    }

    /// Waits for brokers to take what is queued; what they have not taken by then is dropped, and counted.
    pub(crate) fn finish(&self, patience: Duration) {
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner);
        if client.producer.flush(patience).is_err() {
            let all = PurgeConfig::default().queue().inflight();
            client.producer.purge(all);
            // What was purged is told to `delivery`.
            let _ = client.producer.flush(PURGE_PATIENCE);
        }
        let dropped = self.shared.dropped();
        let mut telling = lock(&self.shared.telling);
        telling.tell_drops(self.shared.name, Instant::now(), dropped);
    }

    /// An idempotent producer that has met a fatal error takes nothing any more; what it holds is told as failed.
    fn begin_anew(&self) {
        let mut client = self.client.write().unwrap_or_else(PoisonError::into_inner);
        let is_broken = self.shared.is_broken.load(Ordering::Relaxed);
        if !is_broken || client.began.elapsed() < PAUSE {
            return;
        }
        match Client::start(&self.config, &self.shared) {
            Ok(new) => {
                let old = std::mem::replace(&mut *client, new);
                // Its end takes up to a second, which whoever publishes must not wait for.
                std::thread::spawn(move || drop(old));
                self.shared.is_broken.store(false, Ordering::Relaxed);
                lock(&self.shared.state).restarts += 1;
            }
            Err(error) => {
                client.began = Instant::now();
                tracing::error!(%error, producer = self.shared.name, "no new Kafka producer");
            }
        }
    }
}

impl Client {
    fn start(config: &ClientConfig, shared: &Arc<Shared>) -> Result<Self, StartError> {
        let callbacks = Callbacks {
            shared: Arc::clone(shared),
        };
        Ok(Self {
            producer: config.create_with_context(callbacks)?,
            began: Instant::now(),
        })
    }
}

fn reason(error: &KafkaError) -> DropReason {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) => DropReason::QueueFull,
        Some(
            RDKafkaErrorCode::MessageTimedOut
            | RDKafkaErrorCode::PurgeQueue
            | RDKafkaErrorCode::PurgeInflight,
        ) => DropReason::TimedOut,
        _ => DropReason::Refused,
    }
}

/// What a message carries back to `delivery`, in one word, so that none needs memory of its own.
struct Opaque {
    kind: Kind,
    records: u32,
}

impl Opaque {
    /// Blocks hold [`MAX_ROWS`](crate::block::MAX_ROWS) records at most: nothing is cut on 32 bits.
    fn packed(&self) -> usize {
        (self.records as usize) << 2 | self.kind.index()
    }

    fn unpacked(packed: usize) -> (Kind, u64) {
        (Kind::ALL[packed & 3], (packed >> 2) as u64)
    }
}

struct Callbacks {
    shared: Arc<Shared>,
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (kind, records) = Opaque::unpacked(opaque);
        let totals = self.shared.topic(kind);
        match result {
            Ok(message) => totals.acknowledge(records, message.payload_len() as u64),
            Err((error, _)) => {
                let reason = reason(error);
                totals.drop(reason, records);
                if reason == DropReason::Refused {
                    lock(&self.shared.telling).reason = error.to_string();
                }
            }
        }
    }
}

impl ClientContext for Callbacks {
    /// librdkafka tells of each attempt to connect: what matters of that comes by `error` and `stats_raw`.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(producer = self.shared.name, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // It says no more than the errors of the brokers before it.
            Some(RDKafkaErrorCode::AllBrokersDown) => {}
            Some(RDKafkaErrorCode::Fatal) => {
                tracing::error!(
                    producer = self.shared.name,
                    reason,
                    "a Kafka producer broke"
                );
                self.shared.is_broken.store(true, Ordering::Relaxed);
            }
            _ => {
                let mut telling = lock(&self.shared.telling);
                if telling.reason != reason {
                    tracing::debug!(producer = self.shared.name, %error, reason, "kafka");
                    telling.reason = reason.to_owned();
                }
            }
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else {
            return;
        };
        // Before metadata come, only addresses of the configuration are there, without a number.
        let is_up = |broker: &&Broker| matches!(broker.state.as_str(), "UP" | "UPDATE");
        let known = statistics.brokers.values().filter(|b| b.nodeid >= 0);
        let brokers_up = statistics.brokers.values().filter(is_up).count() as u64;
        {
            let mut state = lock(&self.shared.state);
            *state = ProducerState {
                queued_messages: statistics.msg_cnt,
                queued_octets: statistics.msg_size,
                brokers_up,
                brokers_known: known.count() as u64,
                restarts: state.restarts,
                trouble: String::new(),
            };
        }
        let dropped = self.shared.dropped();
        let mut telling = lock(&self.shared.telling);
        telling.handle(self.shared.name, Instant::now(), brokers_up, dropped);
    }
}

/// What is read of librdkafka's statistics.
#[derive(Deserialize)]
struct Statistics {
    msg_cnt: u64,
    msg_size: u64,
    #[serde(default)]
    brokers: std::collections::HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i64,
    state: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_carries_comes_back() {
        for kind in Kind::ALL {
            let packed = Opaque {
                kind,
                records: 2048,
            };
            assert_eq!(Opaque::unpacked(packed.packed()), (kind, 2048));
        }
    }
}
