//! What a packet costs in the kernel, by `BPF_PROG_TEST_RUN`, mode by mode beside an empty program; and what a sample costs in
//! user space.
//!
//! `cargo bench -p weir-ebpf --bench kernel` (root). With `--test` it only starts.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::time::{Duration, Instant};

use weir_ebpf::{KernelSettings, Observation, Program, Sample, push_sample};
use weir_flow_record::{Address, ColumnSet, ExporterId, ExtraRow, FlowBatch, Row};

/// Aims of issue 7, in ns over the empty program.
const AIMS: [(&str, u32, bool, f64); 2] = [
    ("1 in 100 to the ring", 100, false, 20.0),
    ("every packet to the ring", 1, false, 80.0),
];

fn main() {
    let short = std::env::args().any(|argument| argument == "--test");
    let repeat = if short { 1_000 } else { 1_000_000 };
    let load = |sample_one_in, headers, exact| {
        Program::load(&KernelSettings {
            sample_one_in,
            headers,
            exact,
            ring_octets: 256 << 20,
            max_flows: 1 << 17,
        })
    };
    let frame = frame(1);
    let empty = match load(1, false, false) {
        Ok(mut program) => best(|| program.test_run("empty", &frame, repeat).unwrap()),
        Err(error) => {
            eprintln!("skipped: needs root and a kernel with XDP: {error}");
            return;
        }
    };
    println!("empty program                        {empty:6.1} ns");
    for (what, one_in, headers, aim) in AIMS {
        let mut program = load(one_in, headers, false).unwrap();
        let cost = best(|| ring_run(&mut program, &frame, repeat));
        let over = cost - empty;
        println!("{what:36} {cost:6.1} ns, {over:5.1} over empty (aim {aim})");
    }
    for (what, one_in) in [
        ("1 in 100 with headers", 100),
        ("every packet with headers", 1),
    ] {
        let mut program = load(one_in, true, false).unwrap();
        let cost = best(|| ring_run(&mut program, &frame, repeat));
        println!("{what:36} {cost:6.1} ns, {:5.1} over empty", cost - empty);
    }
    exact(&mut load(0, false, true).unwrap(), repeat, empty);
    user_space(repeat, short);
}

/// One run, and the ring emptied: it must not fill while it is measured.
fn ring_run(program: &mut Program, frame: &[u8], repeat: u32) -> Duration {
    let lost = program.totals().ring_full;
    let mean = program.test_run("sampler", frame, repeat).unwrap();
    program.take(usize::MAX, |_, _| {});
    assert_eq!(program.totals().ring_full, lost, "the ring was full");
    mean
}

/// The flow table with few and with many flows; the latter in turns of 1,000 packets.
fn exact(program: &mut Program, repeat: u32, empty: f64) {
    let one = frame(1);
    let cost = best(|| program.test_run("sampler", &one, repeat).unwrap());
    println!(
        "exact, 1 flow                        {cost:6.1} ns, {:5.1} over empty",
        cost - empty
    );
    let turns = if repeat > 1_000 { 4_096 } else { 16 };
    let frames: Vec<Vec<u8>> = (0..turns).map(frame).collect();
    let mut sum = 0.0;
    for frame in &frames {
        sum += program.test_run("sampler", frame, 50).unwrap().as_nanos() as f64;
    }
    let cost = sum / f64::from(turns);
    println!(
        "exact, {turns:5} flows                   {cost:6.1} ns, {:5.1} over empty",
        cost - empty
    );
    let start = Instant::now();
    let mut flows = 0;
    program.take_flows(|_, _| flows += 1).unwrap();
    println!("draining {flows} flows took {:?}", start.elapsed());
}

/// From the ring to the columns.
fn user_space(repeat: u32, short: bool) {
    let mut program = Program::load(&KernelSettings {
        sample_one_in: 1,
        headers: false,
        exact: false,
        ring_octets: 256 << 20,
        max_flows: 1,
    })
    .unwrap();
    let observation = Observation {
        exporter: ExporterId(0),
        address: Address::from_v4([192, 0, 2, 1]),
        interface: 1,
        sampling_rate: 1,
        sequence: 0,
    };
    for (what, columns) in [
        ("no optional column", ColumnSet::NONE),
        ("all columns", ColumnSet::ALL),
    ] {
        let mut batch = FlowBatch::with_projection(columns);
        let mut best = f64::MAX;
        for _ in 0..if short { 1 } else { 5 } {
            program.test_run("sampler", &frame(1), repeat).unwrap();
            let (start, mut samples) = (Instant::now(), 0_u32);
            loop {
                batch.clear();
                let mut each = |sample: &Sample, headers: &[u8]| {
                    push_sample(sample, headers, 0, &observation, &mut batch);
                };
                match program.take(1024, &mut each) {
                    0 => break,
                    count => samples += count as u32,
                }
            }
            best = best.min(start.elapsed().as_nanos() as f64 / f64::from(samples.max(1)));
        }
        println!("a sample in user space, {what:20} {best:6.1} ns (aim 40)");
    }
}

/// The best of five: what others do on this machine only adds.
fn best(mut run: impl FnMut() -> Duration) -> f64 {
    (0..5)
        .map(|_| run().as_nanos() as f64)
        .fold(f64::MAX, f64::min)
}

fn frame(number: u32) -> Vec<u8> {
    let row = Row {
        source_address: Address::from_v4([192, 0, 2, 1]),
        destination_address: Address::from_v4(number.to_be_bytes()),
        source_port: 53,
        destination_port: 4444,
        protocol: 17,
        octets: 600,
        ..Row::default()
    };
    let mut octets = Vec::new();
    weir_packet::encode::ethernet(&row, &ExtraRow::default(), &mut octets);
    octets.resize(600, 0);
    octets
}
