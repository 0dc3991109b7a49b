//! What a flow record costs in each format: time on one core and octets, of spoofed floods and of a thousand clients.
//!
//! `cargo bench -p weir-flow-store --bench formats` (with `--test`: only whether it runs).
#![allow(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::hint::black_box;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use weir_flow_format::{csv, ndjson, protobuf};
use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, ReceivedAt, Row,
};
use weir_flow_store::{FlowReader, ParquetEncoder};

const ROWS: u32 = 1024;
const ROWS_PER_DATAGRAM: u32 = 24;
const START: i64 = 1_795_233_600_000_000_000;

/// xorshift64: enough for traffic.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// A batch as a shard seals it; `sources` clients talk to 10,000 servers.
fn batch(random: &mut Random, at: i64, sources: u64, columns: ColumnSet) -> FlowBatch {
    let mut batch = FlowBatch::with_projection(columns);
    for row in 0..ROWS {
        let age = random.below(60_000) as i64 * 1_000_000;
        let duration = random.below(10_000) as i64 * 1_000_000;
        let packets = 1 + random.below(20);
        batch.push(&Row {
            source_address: Address::from_v4(
                (0x0b00_0000 + random.below(sources) as u32).to_be_bytes(),
            ),
            destination_address: Address::from_v4(
                (0xc633_0000 + random.below(10_000) as u32).to_be_bytes(),
            ),
            source_port: 1024 + random.below(60_000) as u16,
            destination_port: [53, 80, 443, 443][random.below(4) as usize],
            protocol: if random.below(4) == 0 { 17 } else { 6 },
            tcp_flags: 0x1b,
            octets: packets * (40 + random.below(1460)),
            packets,
            flow_start: at - age - duration,
            flow_end: at - age,
            sampling_rate: 1000,
            input_interface: random.below(8) as u32,
            output_interface: random.below(8) as u32,
            ..Row::default()
        });
        if columns == ColumnSet::ALL {
            let last = row as usize;
            batch.extra.source_prefix_length[last] = 24;
            batch.extra.destination_prefix_length[last] = 22;
            batch.extra.source_as[last] = 64_500 + random.below(500) as u32;
            batch.extra.destination_as[last] = 64_496;
            batch.extra.ttl[last] = 50 + random.below(14) as u8;
            batch.extra.next_hop[last] = Address::from_v4([192, 0, 2, random.below(4) as u8]);
        }
    }
    let starts = (0..ROWS).step_by(ROWS_PER_DATAGRAM as usize);
    batch.datagrams = starts
        .enumerate()
        .map(|(sequence, start)| DatagramInfo {
            rows: start..(start + ROWS_PER_DATAGRAM).min(ROWS),
            exporter: ExporterId(0),
            exporter_address: Address::from_v4([198, 51, 100, 1]),
            domain: ObservationDomainId(7),
            protocol: ExportProtocol::Ipfix,
            sequence: sequence as u32 * ROWS_PER_DATAGRAM,
            received_at: ReceivedAt::from_nanos(at + sequence as i64 * 24_000),
            export_time: ExportTime::from_nanos(at / 1_000_000_000 * 1_000_000_000),
            present: ColumnSet::ALL,
        })
        .collect();
    batch
}

/// Time of this thread on a core: other work on the machine does not count.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

fn report(case: &str, format: &str, rows: u64, octets: usize, began: Duration) {
    let nanos = (cpu_time() - began).as_nanos() as f64 / rows as f64;
    let octets = octets as f64 / rows as f64;
    println!("{case:<28} {format:<14} {nanos:>7.1} ns/record {octets:>7.1} octets/record");
}

/// All formats, or that of the command line.
fn is_asked_for(format: &str) -> bool {
    let mut names = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'))
        .peekable();
    names.peek().is_none() || names.any(|name| name == format)
}

fn measure(case: &str, batches: &[FlowBatch], folder: &std::path::Path) {
    let rows: u64 = batches.iter().map(|batch| batch.len() as u64).sum();
    let mut out = Vec::with_capacity(4 << 20);
    let mut encoder = protobuf::Encoder::default();
    let mut text = |format: &str, write: &mut dyn FnMut(&FlowBatch, &mut Vec<u8>)| {
        if !is_asked_for(format) {
            return;
        }
        let (mut octets, began) = (0, cpu_time());
        for batch in batches {
            out.clear();
            write(batch, &mut out);
            octets += black_box(&out).len();
        }
        report(case, format, rows, octets, began);
    };
    text("ndjson", &mut |batch, out| ndjson::append(batch, out));
    text("csv", &mut |batch, out| csv::append(batch, out));
    text("protobuf", &mut |batch, out| {
        encoder.append_delimited(batch, out)
    });

    if !is_asked_for("parquet") {
        return;
    }
    let (mut file, began) = (Vec::with_capacity(64 << 20), cpu_time());
    let mut parquet = ParquetEncoder::new(131_072).unwrap();
    for batch in batches {
        parquet.push(batch).unwrap();
        file.append(&mut parquet.take_octets());
    }
    file.append(&mut parquet.finish().unwrap());
    report(case, "parquet", rows, file.len(), began);

    if is_asked_for("read") {
        read(case, &file, rows, folder);
    }
}

fn read(case: &str, file: &[u8], rows: u64, folder: &std::path::Path) {
    let path = folder.join("flows.parquet");
    std::fs::write(&path, file).unwrap();
    let began = cpu_time();
    let reader = FlowReader::open(&[path]).unwrap();
    let read: u64 = reader.map(|batch| batch.unwrap().len() as u64).sum();
    assert_eq!(read, rows);
    report(case, "parquet, read", rows, file.len(), began);
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let batches = if is_test { 2 } else { 1024 };
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(1);
    for (case, sources, columns) in [
        ("1,000 clients, few columns", 1_000, ColumnSet::NONE),
        ("1,000 clients, all columns", 1_000, ColumnSet::ALL),
        ("1M clients, all columns", 1_000_000, ColumnSet::ALL),
    ] {
        let made: Vec<FlowBatch> = (0..batches)
            .map(|index| batch(&mut random, START + index * 1_000_000, sources, columns))
            .collect();
        measure(case, &made, folder.path());
    }
}
