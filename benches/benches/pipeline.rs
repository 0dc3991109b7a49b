//! Decoding, and decoding with aggregation: time per record (the reciprocal of criterion's `elem/s`), allocations per record
//! of a warm pipeline, octets of state per target.

use std::cell::LazyCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weir_benches::{DATAGRAMS, Family, Pipeline, RECORDS, Traffic};
use weir_netflow::encode::Format;

const CASES: [(&str, Format, Family); 4] = [
    ("ipfix-v4", Format::Ipfix, Family::V4),
    ("ipfix-v6", Format::Ipfix, Family::V6),
    ("v9-v4", Format::NetflowV9, Family::V4),
    ("v9-v6", Format::NetflowV9, Family::V6),
];

/// Records before the traffic repeats: enough that every target is there; few where it is only seen that all runs.
fn records() -> usize {
    if std::env::args().any(|argument| argument == "--test") {
        20_000
    } else {
        500_000
    }
}

fn pipeline(criterion: &mut Criterion) {
    for (name, format, family) in CASES {
        // Made when the first bench of the case runs: none does if the command line's filter leaves the case out.
        let traffic = LazyCell::new(|| Traffic::new(format, family, records()));
        let mut pipeline = LazyCell::new(|| Pipeline::warm(&traffic));
        let mut group = criterion.benchmark_group("pipeline");
        group.throughput(Throughput::Elements((DATAGRAMS * RECORDS) as u64));
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            let pipeline = LazyCell::force_mut(&mut pipeline);
            bencher.iter_custom(|batches| {
                measure(pipeline, batches, |pipeline| {
                    black_box(pipeline.decode());
                })
            });
        });
        group.bench_function(BenchmarkId::new("decode+aggregate", name), |bencher| {
            let pipeline = LazyCell::force_mut(&mut pipeline);
            bencher.iter_custom(|batches| {
                measure(pipeline, batches, |pipeline| {
                    pipeline.decode();
                    black_box(pipeline.aggregate());
                })
            });
        });
        group.finish();
        if let Some(pipeline) = LazyCell::get_mut(&mut pipeline) {
            report(name, pipeline);
        }
    }
}

/// The time of `work` on some batches; receiving them does not count.
fn measure<'t>(
    pipeline: &mut Pipeline<'t>,
    batches: u64,
    work: impl Fn(&mut Pipeline<'t>),
) -> Duration {
    let mut time = Duration::ZERO;
    for _ in 0..batches {
        pipeline.receive();
        let start = Instant::now();
        work(pipeline);
        time += start.elapsed();
    }
    time
}

/// What criterion does not measure.
fn report(name: &str, pipeline: &mut Pipeline<'_>) {
    let mut records = 0;
    let used = allocation_counter::measure(|| {
        for _ in 0..200 {
            pipeline.receive();
            records += pipeline.decode();
            pipeline.aggregate_batch();
        }
    });
    let (hosts, octets) = pipeline.host_state();
    println!(
        "{name}: {} allocations in {records} records; {hosts} targets, {octets} octets of state each\n",
        used.count_total
    );
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
