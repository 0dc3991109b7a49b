//! Decoding of sFlow v5 datagrams with sampled headers: time per flow sample (the reciprocal of criterion's `elem/s`).

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weir_flow_record::{Address, ColumnSet, ExporterId, FlowBatch, ReceivedAt, Row};
use weir_sflow::encode::{Encoder, Sample};
use weir_sflow::{CheckedLimits, Decoder};

/// Flow samples of a batch, and how many of them agents send together.
const SAMPLES: usize = 1024;
const TOGETHER: usize = 8;

fn sflow(criterion: &mut Criterion) {
    let datagrams = datagrams();
    let from = SocketAddr::from(([192, 0, 2, 1], 6343));
    let mut decoder = Decoder::new(CheckedLimits::default(), ColumnSet::NONE, ExporterId(0));
    let mut batch = FlowBatch::default();
    let mut group = criterion.benchmark_group("sflow");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            batch.clear();
            for datagram in &datagrams {
                let at = ReceivedAt::from_nanos(1_700_000_000_000_000_000);
                black_box(decoder.handle_datagram(at, from, datagram, &mut batch));
            }
            assert_eq!(batch.len(), SAMPLES);
        });
    });
    group.finish();
}

fn datagrams() -> Vec<Vec<u8>> {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut encoder = Encoder::new(Address::from_v4([192, 0, 2, 1]), 0);
    let mut datagrams = Vec::new();
    for _ in 0..SAMPLES / TOGETHER {
        let samples: Vec<Sample> = (0..TOGETHER).map(|_| sample(&mut random)).collect();
        encoder.encode(1_000, &samples, &mut datagrams);
    }
    datagrams
}

fn sample(random: &mut ChaCha8Rng) -> Sample {
    Sample::flow(Row {
        source_address: Address::from_v4(random.random::<u32>().to_be_bytes()),
        destination_address: Address::from_v4([10, 0, random.random(), random.random()]),
        source_port: random.random(),
        destination_port: 443,
        protocol: if random.random_bool(0.7) { 6 } else { 17 },
        octets: random.random_range(64..1518),
        packets: 1,
        sampling_rate: 1_000,
        ..Row::default()
    })
}

criterion_group!(benches, sflow);
criterion_main!(benches);
