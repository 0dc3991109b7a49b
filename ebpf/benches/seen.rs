//! Which share of the packets each method brings to user space at the same offered rate, over a veth pair.
//!
//! `cargo bench -p weir-ebpf --bench seen` (root). With `--test` it only starts.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

#[path = "../tests/support/frames.rs"]
mod frames;
#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Lab, inside};
use weir_ebpf::{Method, Mode, Observation, Sampler, SamplerSettings, clock};
use weir_flow_record::{FlowBatch, ReceivedAt};

fn main() {
    let short = std::env::args().any(|argument| argument == "--test");
    let Some(lab) = Lab::new() else { return };
    let count = if short { 1_000 } else { 1_000_000 };
    let runs = [
        (Method::Native, 1),
        (Method::Native, 100),
        (Method::Generic, 1),
        (Method::Tpacket, 1),
        (Method::Pnet, 1),
    ];
    for (method, one_in) in runs {
        let settings = SamplerSettings {
            interface: "in0".into(),
            sample_one_in: one_in,
            mode: Mode::Only(method),
            headers: false,
            ..SamplerSettings::default()
        };
        let mut sampler = inside(&lab.there, || Sampler::open(&settings)).unwrap();
        let run = Run::new(&lab, &mut sampler, count);
        println!(
            "{method:35} 1 in {one_in:3}: {:7.0} packets/s offered, {:5.1} % counted, {:5.1} % of the samples kept",
            run.rate,
            run.counted * 100.0,
            run.kept * 100.0
        );
    }
}

struct Run {
    rate: f64,
    /// Of what was sent.
    counted: f64,
    /// Of what was to be sampled.
    kept: f64,
}

impl Run {
    fn new(lab: &Lab, sampler: &mut Sampler, count: u32) -> Self {
        let done = AtomicBool::new(false);
        let sender = lab.sender();
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let (frame, start) = (frames::cases().swap_remove(0).octets, Instant::now());
                for _ in 0..count {
                    sender.send(&frame);
                }
                let took = start.elapsed();
                std::thread::sleep(Duration::from_millis(100));
                done.store(true, Ordering::Relaxed);
                took
            });
            let records = read(sampler, &done);
            let took = sending.join().unwrap();
            let totals = sampler.totals();
            let due = f64::from(count) / f64::from(sampler.sampling_rate());
            Self {
                rate: f64::from(count) / took.as_secs_f64(),
                counted: totals.packets as f64 / f64::from(count),
                kept: records as f64 / due,
            }
        })
    }
}

/// Reads until nothing more comes; how many records.
fn read(sampler: &mut Sampler, done: &AtomicBool) -> usize {
    let mut batch = FlowBatch::default();
    let mut observation = Observation::of(sampler);
    let mut records = 0;
    loop {
        batch.clear();
        let now = ReceivedAt::from_nanos(clock::wall());
        let read = sampler.read(now, &mut observation, &mut batch, None);
        records += read;
        if read < Sampler::MOST_RECORDS {
            if done.load(Ordering::Relaxed) {
                return records;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
