//! The whole way on one machine: export datagrams over loopback into `weir run` (receive, decode, aggregate, detect), or into a
//! collector of Debian's on the same stream, and what that costs.
//!
//! ```text
//! cargo build --release && cargo run --release -p weir-benches --bin harness -- --peer nfcapd
//! ```
//!
//! Only ratios within one run mean much: machines and their neighbours differ.

mod collector;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use collector::{Collector, Kind};
use weir_benches::broker::Broker;
use weir_benches::process::Usage;
use weir_benches::sender::Sender;
use weir_benches::{Family, RECORDS, Targets, Traffic};
use weir_netflow::encode::Format;

#[derive(Parser, Debug)]
#[command(
    about = "Measures collectors on one stream of IPFIX: records per CPU-second, loss, memory"
)]
struct Arguments {
    /// Records a second; several are measured one after the other.
    #[arg(long, default_values_t = [1_000_000, 2_000_000], value_delimiter = ',')]
    rate: Vec<u64>,
    /// Seconds for each measurement, after three of warm-up.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds; the collectors take turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Shards of weir; each number is measured.
    #[arg(long, default_values_t = [1], value_delimiter = ',')]
    shards: Vec<u16>,
    /// Exporters, each with an address of its own.
    #[arg(long, default_value_t = 16)]
    exporters: u8,
    /// Of the packets, the exporters look at one in so many. With 1, a million records a second are 4 million packets a
    /// second, and peace; with 100 they are an attack on all addresses, which is told and drilled into meanwhile.
    #[arg(long, default_value_t = 1)]
    sampling_rate: u32,
    /// Also measures weir with Parquet output.
    #[arg(long)]
    parquet: bool,
    /// Also measures weir with records published to a Kafka of its own, in blocks, as protobuf and as JSON. Rates should be
    /// those that one broker on this machine takes: `--rate 100000`.
    #[arg(long)]
    kafka: bool,
    /// Also measures a peer on the same stream.
    #[arg(long, value_enum)]
    peer: Vec<Kind>,
    /// The weir to measure.
    #[arg(long, default_value_os_t = default_weir())]
    weir: PathBuf,
    /// CPU of the sender; the collector gets all others, or all if it has more than one shard.
    #[arg(long, default_value_t = 0)]
    sender_cpu: usize,
}

fn default_weir() -> PathBuf {
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|path| Some(path.parent()?.join("weir")));
    beside.unwrap_or_else(|| "weir".into())
}

/// Forms of flow records in Kafka.
const FORMATS: [&str; 3] = ["blocks", "protobuf", "json"];

/// One measurement.
struct Figures {
    /// Share of the records that Kafka has acknowledged; `None` where nothing is published.
    published: Option<f64>,
    broker_cpu: Duration,
    records: u64,
    lost: u64,
    cpu: Duration,
    resident: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    // Before the sender is kept on one of them.
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut kinds: Vec<Kind> = arguments.shards.iter().map(|n| Kind::Weir(*n)).collect();
    if arguments.parquet {
        kinds.push(Kind::WeirParquet);
    }
    if arguments.kafka {
        kinds.extend(FORMATS.map(Kind::WeirKafka));
    }
    kinds.extend(&arguments.peer);
    eprintln!("making the stream");
    let targets = Targets {
        sampling_rate: arguments.sampling_rate,
        ..Targets::UNIFORM
    };
    let traffic = Traffic::to(Format::Ipfix, Family::V4, 1_000_000, &targets);
    println!(
        "{:<22} {:>12} {:>10} {:>16} {:>8}  records per CPU-second, loss, resident memory",
        "collector", "records/s", "loss %", "M rec/CPU-s", "MiB"
    );
    for rate in &arguments.rate {
        let mut best: Vec<(Kind, f64)> = Vec::new();
        for _ in 0..arguments.rounds {
            for kind in &kinds {
                let figures = measure(&arguments, *kind, *rate, &traffic, cpus)?;
                let speed = figures.records as f64 / 1e6 / figures.cpu.as_secs_f64();
                println!(
                    "{:<22} {:>12} {:>10.3} {:>16.2} {:>8}{}",
                    kind.to_string(),
                    rate,
                    figures.lost as f64 * 100.0 / (figures.records + figures.lost).max(1) as f64,
                    speed,
                    figures.resident >> 20,
                    figures.of_kafka(),
                );
                best.push((*kind, speed));
            }
        }
        tell_medians(&kinds, &best, *rate);
    }
    Ok(())
}

impl Figures {
    /// What Kafka acknowledged, and what that cost the broker.
    fn of_kafka(&self) -> String {
        let Some(published) = self.published else {
            return String::new();
        };
        format!(
            "  {:.2} % acknowledged, {:.2} µs of the broker's CPU a record",
            published * 100.0,
            self.broker_cpu.as_secs_f64() * 1e6 / self.records.max(1) as f64
        )
    }
}

fn tell_medians(kinds: &[Kind], speeds: &[(Kind, f64)], rate: u64) {
    let median = |kind: &Kind| {
        let mut all: Vec<f64> = speeds
            .iter()
            .filter(|(other, _)| other == kind)
            .map(|(_, speed)| *speed)
            .collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(0.0)
    };
    let first = kinds.first().map_or(0.0, median);
    for kind in kinds {
        let own = median(kind);
        println!(
            "median at {rate}/s: {kind}: {own:.2} M records per CPU-second; the first is {:.2} × that",
            first / own
        );
    }
}

/// A collector with several shards shares the sender's CPU, so that these have one each on a small machine.
fn cpus_of(arguments: &Arguments, kind: Kind, cpus: usize) -> Vec<String> {
    let shares = matches!(kind, Kind::Weir(2..)) || cpus == 1;
    (0..cpus)
        .filter(|cpu| shares || *cpu != arguments.sender_cpu)
        .map(|cpu| cpu.to_string())
        .collect()
}

fn measure(
    arguments: &Arguments,
    kind: Kind,
    rate: u64,
    traffic: &Traffic,
    cpus: usize,
) -> Result<Figures, Box<dyn std::error::Error>> {
    let broker = matches!(kind, Kind::WeirKafka(_))
        .then(Broker::start)
        .transpose()?;
    let address = broker.as_ref().map(|broker| broker.address.as_str());
    let cpus = cpus_of(arguments, kind, cpus);
    let collector = Collector::start(kind, &arguments.weir, &cpus, address)?;
    let mut sender = Sender::new(traffic, arguments.exporters, collector.address)?;
    sender.send_templates()?;
    std::thread::sleep(Duration::from_millis(200));
    sender.pin(arguments.sender_cpu)?;
    sender.run(rate, Duration::from_secs(3))?;
    let broker_cpu = || broker.as_ref().map_or(Ok(Duration::ZERO), Broker::cpu);
    let (before, broker_before) = (Usage::of(collector.id())?, broker_cpu()?);
    let (sent, drops) = (sender.records(), collector.drops()?);
    sender.run(rate, Duration::from_secs(arguments.seconds))?;
    let (after, broker_after) = (Usage::of(collector.id())?, broker_cpu()?);
    // What the socket still holds is read, and neither counted nor lost.
    std::thread::sleep(Duration::from_millis(500));
    let lost = (collector.drops()? - drops) * RECORDS as u64;
    let sent = sender.records() - sent;
    let published = broker.as_ref().map(|_| collector.published()).transpose()?;
    collector.stop();
    Ok(Figures {
        published,
        broker_cpu: broker_after.saturating_sub(broker_before),
        records: sent.saturating_sub(lost),
        lost,
        cpu: after.cpu.saturating_sub(before.cpu),
        resident: after.resident,
    })
}
