//! Reads what an earlier owner has kept of a partition.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use weir_kafka::rdkafka;
use weir_state::{Batch, Stage, State};

use super::bus::Logged;

/// How long brokers may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// The newest row of each key, from the topic's beginning to its end. The consumer tells of ends.
pub(super) fn read(
    consumer: &BaseConsumer<Logged>,
    topic: &str,
    partition: u32,
) -> anyhow::Result<Batch> {
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, partition.cast_signed(), Offset::Beginning)?;
    consumer.assign(&from)?;
    let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut heard = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let Some(key) = message.key() else { continue };
                match message.payload() {
                    Some(value) => rows.insert(key.to_vec(), value.to_vec()),
                    None => rows.remove(key),
                };
            }
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) if heard.elapsed() > PATIENCE => return Err(error.into()),
            Some(Err(error)) => tracing::debug!(%error, "kafka"),
            None if heard.elapsed() > PATIENCE => bail!("no broker tells of the state"),
            None => {}
        }
    }
    let mut batch = Batch::new();
    for (key, value) in rows {
        let (code, key) = key.split_first().context("a row of the state has no key")?;
        match Stage::of_code(*code) {
            Some(stage) => batch.put(stage, key, &value),
            // What a newer program has kept means nothing to this one.
            None => tracing::warn!(code, "a row of the state is of an unknown stage"),
        }
    }
    Ok(batch)
}

/// A state file of these rows and nothing else, in a folder of its own.
pub(super) fn open(folder: &std::path::Path, rows: Batch) -> anyhow::Result<State> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
        }
        _ => {}
    }
    let state = State::open(folder)?;
    state.apply(&rows)?;
    Ok(state)
}
