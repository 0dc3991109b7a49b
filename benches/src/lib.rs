//! Traffic for the benchmarks: export datagrams of a seeded, synthetic exporter, made before anything is measured.
//!
//! `cargo bench -p weir-benches` measures decoding and aggregation; `cargo bench -p weir-benches -- --test` only runs everything
//! once. `cargo run --release -p weir-benches --bin harness` measures the whole way, from datagrams over loopback,
//! `--bin dots` the DOTS server with many sessions, and `--bin detectors` two detectors of a cluster beside one.

pub mod broker;
pub mod metrics;
pub mod process;
pub mod sender;

use std::net::SocketAddr;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weir_flow_aggregate::{
    AggregateSettings, AggregationConfig, Aggregator, Automatic, Interesting, ZonePrefixes,
};
use weir_flow_record::{
    Address, ColumnSet, Direction, ExportTime, FlowBatch, ObservationDomainId, ReceivedAt, Row,
    TCP_ACK, TCP_SYN, Vector, ZoneId,
};
use weir_netflow::encode::{Encoder, Format};
use weir_netflow::{CheckedLimits, Decoder};

/// Records in a datagram.
pub const RECORDS: usize = 24;
/// Datagrams that make one batch: about a thousand records, as the collector's shards have it.
pub const DATAGRAMS: usize = 43;
/// Targets, all inside the zone.
pub const TARGETS: u32 = 100_000;
/// Sources.
pub const SOURCES: u32 = 1_000_000;
/// Records a second of received time.
pub const RATE: i64 = 1_000_000;

const SECOND: i64 = 1_000_000_000;
const EPOCH: i64 = 1_700_000_000 * SECOND;
const SAMPLING_RATE: u32 = 100;

/// Address families of the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Where traffic goes: inside 10.0.0.0/8, or 2001:db8:a00::/40.
#[derive(Clone, Copy, Debug)]
pub struct Targets {
    /// Addresses, from the first one on.
    pub addresses: u32,
    /// Parts of equal size that these are cut into.
    pub zones: u32,
    /// Addresses of each part that share a [fifth](Self::BUSY_SHARE) of all records.
    pub busy: u32,
    /// Of the packets, the exporters look at one in so many.
    pub sampling_rate: u32,
}

impl Targets {
    /// [`TARGETS`] that are all alike.
    pub const UNIFORM: Self = Self {
        addresses: TARGETS,
        zones: 1,
        busy: 0,
        sampling_rate: SAMPLING_RATE,
    };
    /// The share of records that busy addresses have, where there are any.
    pub const BUSY_SHARE: f64 = 0.2;

    /// Packets a second of each busy address at a rate of records, scaled; about.
    pub fn busy_packets(&self, records_per_second: u64) -> f64 {
        let busy = f64::from(self.zones * self.busy).max(1.0);
        let records = records_per_second as f64 * Self::BUSY_SHARE / busy;
        // 85 % of the records have one packet, the others 20 on average.
        records * (0.85 + 0.15 * 20.0) * f64::from(self.sampling_rate)
    }

    fn draw(&self, random: &mut ChaCha8Rng) -> u32 {
        if self.busy == 0 || !random.random_bool(Self::BUSY_SHARE) {
            return random.random_range(0..self.addresses);
        }
        let size = self.addresses / self.zones;
        let (zone, which) = (
            random.random_range(0..self.zones),
            random.random_range(0..self.busy),
        );
        // Apart from each other.
        zone * size + which * (size / self.busy)
    }
}

/// Export datagrams of 24 records each; played round and round while received time goes on.
#[derive(Debug)]
pub struct Traffic {
    templates: Vec<Vec<u8>>,
    datagrams: Vec<Vec<u8>>,
}

impl Traffic {
    /// At least `records` records: uniform over targets and sources, durations 0 s (85 %), up to 10 s (10 %) and up to 60 s
    /// (5 %). Equal for equal arguments.
    pub fn new(format: Format, family: Family, records: usize) -> Self {
        Self::to(format, family, records, &Targets::UNIFORM)
    }

    /// The same to other targets.
    pub fn to(format: Format, family: Family, records: usize, targets: &Targets) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut encoder = Encoder::new(format, ObservationDomainId(1))
            .with_sampling_rate(targets.sampling_rate)
            .with_mtu(9000);
        let now = ExportTime::from_nanos(EPOCH);
        let mut templates = Vec::new();
        encoder.encode_templates(now, &mut templates);
        let mut datagrams = Vec::new();
        for _ in 0..records.div_ceil(RECORDS).next_multiple_of(DATAGRAMS) {
            let rows: Vec<Row> = (0..RECORDS)
                .map(|_| row(&mut random, family, targets))
                .collect();
            encoder.encode_flows(now, &rows, &mut datagrams);
        }
        Self {
            templates,
            datagrams,
        }
    }

    /// Datagrams with the templates; send them first.
    pub fn templates(&self) -> &[Vec<u8>] {
        &self.templates
    }

    /// Datagrams of [`RECORDS`] records each.
    pub fn datagrams(&self) -> &[Vec<u8>] {
        &self.datagrams
    }

    /// Number of batches before the traffic repeats.
    pub fn batches(&self) -> usize {
        self.datagrams.len() / DATAGRAMS
    }
}

fn row(random: &mut ChaCha8Rng, family: Family, targets: &Targets) -> Row {
    let duration = match random.random_range(0..100) {
        0..85 => 0,
        85..95 => random.random_range(0..10 * SECOND),
        _ => random.random_range(0..60 * SECOND),
    };
    let end = EPOCH - random.random_range(0..SECOND);
    let tcp = random.random_bool(0.7);
    let packets = if duration == 0 {
        1
    } else {
        random.random_range(1..40)
    };
    Row {
        source_address: address(0x2400_0000, random.random_range(0..SOURCES), family),
        destination_address: address(0x0a00_0000, targets.draw(random), family),
        source_port: if random.random_bool(0.3) {
            443
        } else {
            random.random_range(1024..=u16::MAX)
        },
        destination_port: if random.random_bool(0.5) { 443 } else { 53 },
        protocol: if tcp { 6 } else { 17 },
        tcp_flags: match (tcp, random.random_bool(0.2)) {
            (true, true) => TCP_SYN,
            (true, false) => TCP_ACK,
            (false, _) => 0,
        },
        octets: packets * random.random_range(60..1500),
        packets,
        flow_start: end - duration,
        flow_end: end,
        sampling_rate: targets.sampling_rate,
        ..Row::default()
    }
}

/// The address `number` of a net; in IPv6 each /64 has 256 of them.
fn address(net: u32, number: u32, family: Family) -> Address {
    match family {
        Family::V4 => Address::from_v4((net + number).to_be_bytes()),
        Family::V6 => {
            let high = (0x2001_0db8_u128 << 96) | (u128::from(net >> 24) << 88);
            let low = (u128::from(number >> 8) << 64) | u128::from(number & 0xff);
            Address::from_octets((high | low).to_be_bytes())
        }
    }
}

/// A decoder and an aggregator that the traffic runs through.
pub struct Pipeline<'t> {
    traffic: &'t Traffic,
    from: SocketAddr,
    decoder: Decoder,
    aggregator: Aggregator,
    batch: FlowBatch,
    /// Buffers that datagrams are received into, as the collector's are.
    received: Vec<Vec<u8>>,
    next: usize,
    now: i64,
    summaries: u64,
}

impl<'t> Pipeline<'t> {
    /// A pipeline that knows the templates and has run once through the traffic: tables and columns are there.
    pub fn warm(traffic: &'t Traffic) -> Self {
        let mut pipeline = Self {
            traffic,
            from: SocketAddr::from(([192, 0, 2, 1], 4739)),
            decoder: Decoder::new(CheckedLimits::default(), ColumnSet::NONE),
            aggregator: Aggregator::new(settings()),
            batch: FlowBatch::default(),
            received: (0..DATAGRAMS).map(|_| Vec::with_capacity(9000)).collect(),
            next: 0,
            now: EPOCH,
            summaries: 0,
        };
        for template in &traffic.templates {
            let at = ReceivedAt::from_nanos(EPOCH);
            pipeline
                .decoder
                .handle_datagram(at, pipeline.from, template, &mut pipeline.batch);
        }
        for _ in 0..traffic.batches() {
            pipeline.receive();
            pipeline.decode();
            pipeline.aggregate();
        }
        pipeline
    }

    /// Copies the next datagrams into the receive buffers, as the kernel does: so they are in the processor's cache.
    pub fn receive(&mut self) {
        for buffer in &mut self.received {
            let datagram = &self.traffic.datagrams[self.next];
            self.next = (self.next + 1) % self.traffic.datagrams.len();
            buffer.clear();
            buffer.extend_from_slice(datagram);
        }
    }

    /// Decodes what was received; returns its records.
    pub fn decode(&mut self) -> usize {
        self.batch.clear();
        for datagram in &self.received {
            self.now += RECORDS as i64 * SECOND / RATE;
            let at = ReceivedAt::from_nanos(self.now);
            self.decoder
                .handle_datagram(at, self.from, datagram, &mut self.batch);
        }
        self.batch.len()
    }

    /// Aggregates what was decoded last, and evaluates the tick if it is due; returns the summaries so far.
    pub fn aggregate(&mut self) -> u64 {
        self.aggregator.handle_batch(&self.batch);
        self.aggregator
            .handle_timeout(ReceivedAt::from_nanos(self.now));
        while self.aggregator.poll_summary().is_some() {
            self.summaries += 1;
        }
        self.summaries
    }

    /// The same batch into aggregation again, without a tick: for counting allocations.
    pub fn aggregate_batch(&mut self) {
        self.aggregator.handle_batch(&self.batch);
    }

    /// Hosts in the table, and octets of memory for each.
    pub fn host_state(&self) -> (usize, usize) {
        self.aggregator.host_state()
    }
}

/// One zone, with the limits of the built-in threshold.
fn settings() -> AggregateSettings {
    let zone = ZonePrefixes {
        zone: ZoneId(0),
        prefixes: ["10.0.0.0/8", "2001:db8:a00::/40"]
            .iter()
            .flat_map(|prefix| prefix.parse())
            .collect(),
        interesting: vec![Interesting {
            direction: Direction::In,
            octets: Some(62_500_000),
            packets: Some(50_000),
            flows: Some(10_000),
        }],
        prefix_lengths: Vec::new(),
        automatic: Vector::ALL
            .into_iter()
            .map(|vector| Automatic {
                direction: Direction::In,
                vector,
                octets: Some(3_906_250),
                packets: Some(3_125),
            })
            .collect(),
    };
    AggregateSettings {
        config: AggregationConfig::default(),
        zones: vec![zone],
        links: Vec::new(),
        shard: 0,
        active_timeouts: vec![(
            "192.0.2.0/24".parse().unwrap_or_default(),
            Duration::from_secs(120),
        )],
    }
}
