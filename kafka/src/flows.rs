//! Flow records as messages.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_flow_format::protobuf::Encoder;
use weir_flow_format::{Record, ndjson, rows};
use weir_flow_record::{Address, DatagramInfo, FlowBatch};

use crate::block;
use crate::config::FlowFormat;
use crate::counters::Kind;
use crate::producer::Producer;

/// Records at which a block is full. A datagram is not torn apart for it.
const BLOCK_ROWS: usize = 500;
/// The longest that a record waits for its block to be full.
const BLOCK_WAIT: Duration = Duration::from_millis(200);
/// Exporters and domains that have a block open, at most; beyond that all are sent as they are.
const OPEN_BLOCKS: usize = 4096;
/// Batches whose memory is kept for blocks to come.
const SPARES: usize = 64;

/// Publishes flow records. It is owned by one thread, which hands it batches and lets time pass; it never waits for a broker.
pub struct FlowPublisher {
    producer: Arc<Producer>,
    format: FlowFormat,
    encoder: Encoder,
    blocks: Blocks,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl FlowPublisher {
    pub(crate) fn new(producer: Arc<Producer>, format: FlowFormat) -> Self {
        Self {
            producer,
            format,
            encoder: Encoder::default(),
            blocks: Blocks::default(),
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Publishes all records of a batch; those of blocks that are not full wait.
    pub fn handle_batch(&mut self, now: Instant, batch: &FlowBatch) {
        match self.format {
            FlowFormat::Json => self.publish_each(batch, |publisher, row, record| {
                ndjson::append_record(record, &mut publisher.value);
                ndjson::append_inner(batch, row, &mut publisher.value);
                // A message needs no end of a line.
                publisher.value.pop();
            }),
            FlowFormat::Protobuf => self.publish_each(batch, |publisher, _, record| {
                let encoder = &mut publisher.encoder;
                encoder.append_with_length(record, &mut publisher.value);
            }),
            FlowFormat::Blocks => self.fill_blocks(now, batch),
        }
    }

    /// Sends the blocks that have waited for long enough.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((source, block)) = self.blocks.take_due(now) {
            self.send_block(source, block);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.blocks.due()
    }

    /// Sends all blocks as they are.
    pub fn flush(&mut self) {
        while let Some((source, block)) = self.blocks.take_first() {
            self.send_block(source, block);
        }
    }

    fn publish_each(&mut self, batch: &FlowBatch, write: impl Fn(&mut Self, usize, &Record)) {
        let mut source = None;
        for (row, record) in rows(batch) {
            let of_record = (record.sampler_address, record.observation_domain_id);
            if source != Some(of_record) {
                write_key(of_record, &mut self.key);
                source = Some(of_record);
            }
            self.value.clear();
            write(self, row, &record);
            self.producer.send(Kind::Flows, &self.key, &self.value, 1);
        }
    }

    fn fill_blocks(&mut self, now: Instant, batch: &FlowBatch) {
        for datagram in &batch.datagrams {
            let source = (datagram.exporter_address, datagram.domain.0);
            for part in parts(datagram, batch.len()) {
                if self.blocks.is_full_with(source, part.rows.len())
                    && let Some(block) = self.blocks.take(source)
                {
                    self.send_block(source, block);
                }
                if self.blocks.open.len() >= OPEN_BLOCKS {
                    self.flush();
                }
                if self.blocks.append(now, source, batch, &part) >= BLOCK_ROWS
                    && let Some(block) = self.blocks.take(source)
                {
                    self.send_block(source, block);
                }
            }
        }
        self.handle_timeout(now);
    }

    fn send_block(&mut self, source: Source, rows: FlowBatch) {
        write_key(source, &mut self.key);
        self.value.clear();
        block::encode(&rows, &mut self.value);
        // At most `MAX_ROWS`.
        let records = rows.len() as u32;
        self.producer
            .send(Kind::Flows, &self.key, &self.value, records);
        self.blocks.recycle(rows);
    }
}

/// An exporter and its observation domain.
type Source = (Address, u32);

/// `192.0.2.1/7`: the exporter, and its observation domain. Keyed by target, an attack would fill one partition.
fn write_key((exporter, domain): Source, key: &mut Vec<u8>) {
    key.clear();
    // Writing into memory does not fail.
    let _ = write!(key, "{exporter}/{domain}");
}

/// A datagram in parts that have room in a block: those of TCP and of packet samplers can be large.
fn parts(datagram: &DatagramInfo, rows: usize) -> impl Iterator<Item = DatagramInfo> + '_ {
    let end = datagram
        .rows
        .end
        .min(u32::try_from(rows).unwrap_or(u32::MAX));
    (datagram.rows.start..end)
        .step_by(block::MAX_ROWS)
        .map(move |start| DatagramInfo {
            rows: start..end.min(start + block::MAX_ROWS as u32),
            ..datagram.clone()
        })
}

/// Blocks that are not full.
#[derive(Default)]
struct Blocks {
    open: BTreeMap<Source, (Instant, FlowBatch)>,
    spares: Vec<FlowBatch>,
}

impl Blocks {
    /// Whether a source's block has no room for so many rows more.
    fn is_full_with(&self, source: Source, rows: usize) -> bool {
        let open = self.open.get(&source);
        open.is_some_and(|(_, block)| block.len() + rows > block::MAX_ROWS)
    }

    /// Appends rows of a datagram to its source's block; how many that has now.
    fn append(
        &mut self,
        now: Instant,
        source: Source,
        batch: &FlowBatch,
        part: &DatagramInfo,
    ) -> usize {
        let spares = &mut self.spares;
        let (_, block) = self
            .open
            .entry(source)
            .or_insert_with(|| (now, spares.pop().unwrap_or_default()));
        if block.is_empty() {
            block.projection = batch.projection;
        }
        block.append(batch, part);
        block.len()
    }

    fn take(&mut self, source: Source) -> Option<FlowBatch> {
        self.open.remove(&source).map(|(_, block)| block)
    }

    fn take_first(&mut self) -> Option<(Source, FlowBatch)> {
        let (source, (_, block)) = self.open.pop_first()?;
        Some((source, block))
    }

    /// A block that has waited for long enough.
    fn take_due(&mut self, now: Instant) -> Option<(Source, FlowBatch)> {
        let mut open = self.open.iter();
        let due = open.find(|(_, (began, _))| now.saturating_duration_since(*began) >= BLOCK_WAIT);
        let source = *due?.0;
        Some((source, self.take(source)?))
    }

    fn due(&self) -> Option<Instant> {
        let began = self.open.values().map(|(began, _)| *began).min()?;
        Some(began + BLOCK_WAIT)
    }

    fn recycle(&mut self, mut block: FlowBatch) {
        if self.spares.len() < SPARES {
            block.clear();
            self.spares.push(block);
        }
    }
}
