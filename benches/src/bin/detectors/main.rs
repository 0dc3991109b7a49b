//! What detectors of a cluster cost: one collector publishes the summaries of zones with equal traffic to a Kafka of one broker,
//! and one detector, then two that share the partitions, judge them.
//!
//! ```text
//! cargo build --release && cargo run --release -p weir-benches --bin detectors
//! ```
//!
//! One and two take turns; then one process does everything. Only ratios within one run mean much.

mod member;
mod work;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use member::Member;
use weir_benches::broker::Broker;
use weir_benches::sender::Sender;
use weir_benches::{Family, Targets, Traffic};
use weir_netflow::encode::Format;
use work::{Work, tell_medians};

/// Addresses of all zones: 10.0.0.0/16.
const ADDRESSES: u32 = 65_536;
/// How long detectors may take until they judge all partitions.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time from there, or from the first record, to the measurement.
const WARM_UP: Duration = Duration::from_secs(5);

#[derive(Parser, Debug)]
#[command(
    about = "Measures one detector of a cluster and two: summaries judged per CPU-second, beside a collector and a Kafka of one broker"
)]
pub(crate) struct Arguments {
    /// Records a second.
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// Zones with equal traffic; a power of two, at most 4096, and a multiple of the partitions.
    #[arg(long, default_value_t = 32)]
    zones: u32,
    /// Hosts of each zone that have a fifth of all records, and are told of one by one; a power of two, at most 16, or 0.
    #[arg(long, default_value_t = 4)]
    busy: u32,
    /// Partitions of summaries; even.
    #[arg(long, default_value_t = 16)]
    partitions: u16,
    /// Seconds for each measurement, once all partitions are judged.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of traffic before the first measurement: flows last up to a minute, and summaries grow until the first have ended.
    #[arg(long, default_value_t = 75)]
    warm_up: u64,
    /// Exporters, each with an address of its own.
    #[arg(long, default_value_t = 16)]
    exporters: u8,
    /// The weir to measure.
    #[arg(long, default_value_os_t = default_weir())]
    weir: PathBuf,
}

fn default_weir() -> PathBuf {
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|path| Some(path.parent()?.join("weir")));
    beside.unwrap_or_else(|| "weir".into())
}

impl Arguments {
    /// Where the traffic goes.
    pub(crate) fn targets(&self) -> Targets {
        Targets {
            addresses: ADDRESSES,
            zones: self.zones,
            busy: self.busy,
            ..Targets::UNIFORM
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        if !self.zones.is_power_of_two() || self.zones > 4096 {
            return Err("--zones must be a power of two, at most 4096");
        }
        if self.busy != 0 && (!self.busy.is_power_of_two() || self.busy > 16) {
            return Err("--busy must be 0 or a power of two, at most 16");
        }
        let partitions = u32::from(self.partitions);
        if partitions == 0
            || !partitions.is_multiple_of(2)
            || !self.zones.is_multiple_of(partitions)
        {
            return Err("--partitions must be even, and --zones a multiple of it");
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    arguments.check()?;
    eprintln!("making the stream");
    let traffic = Traffic::to(Format::Ipfix, Family::V4, 1_000_000, &arguments.targets());
    let lab = Lab {
        arguments: &arguments,
        traffic: &traffic,
        folder: tempfile::tempdir()?,
    };
    println!(
        "{} records/s, {} zones, {} hosts of each told of, {} partitions, {} s each",
        arguments.rate, arguments.zones, arguments.busy, arguments.partitions, arguments.seconds
    );
    let broker = Broker::start()?;
    let address = Some(broker.address.as_str());
    let collector = Member::start(&arguments, lab.folder.path(), "collect", "c1", address)?;
    let mut works = Vec::new();
    lab.with_traffic(&collector, || {
        std::thread::sleep(Duration::from_secs(arguments.warm_up));
        for round in 0..arguments.rounds {
            let turns = if round % 2 == 0 { [1, 2] } else { [2, 1] };
            for detectors in turns {
                let work = lab.detect(&broker, &collector, (round, detectors))?;
                println!("{work}");
                works.push(work);
            }
        }
        Ok(())
    })?;
    collector.stop()?;
    drop(broker);
    for round in 0..arguments.rounds {
        let alone = lab.alone(round)?;
        println!("{alone}");
        works.push(alone);
    }
    tell_medians(&works);
    Ok(())
}

struct Lab<'a> {
    arguments: &'a Arguments,
    traffic: &'a Traffic,
    folder: tempfile::TempDir,
}

impl Lab<'_> {
    /// Does `work` while a member gets the stream.
    fn with_traffic<T>(&self, to: &Member, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let mut sender = Sender::new(self.traffic, self.arguments.exporters, to.address)?;
                sender.send_templates()?;
                std::thread::sleep(Duration::from_millis(200));
                while !stop.load(Ordering::Relaxed) {
                    sender.run(self.arguments.rate, Duration::from_secs(1))?;
                }
                Ok(())
            });
            let result = work();
            stop.store(true, Ordering::Relaxed);
            let sent = sending.join();
            sent.unwrap_or_else(|_| Err(io::Error::other("the sender panicked")))
                .and(result)
        })
    }

    /// One process that does everything, without Kafka.
    fn alone(&self, round: u32) -> io::Result<Work> {
        let name = format!("a{round}");
        let member = Member::start(self.arguments, self.folder.path(), "all", &name, None)?;
        let work = self.with_traffic(&member, || {
            std::thread::sleep(WARM_UP);
            Work::measure(self.arguments.seconds, None, &member, &[])
        })?;
        member.stop()?;
        Ok(work)
    }

    /// Some detectors beside the collector, once each has its share of the partitions.
    fn detect(
        &self,
        broker: &Broker,
        collector: &Member,
        (round, number): (u32, u16),
    ) -> io::Result<Work> {
        let detectors = (0..number)
            .map(|which| {
                let name = format!("d{round}-{number}-{which}");
                let (folder, address) = (self.folder.path(), Some(broker.address.as_str()));
                Member::start(self.arguments, folder, "detect", &name, address)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let share = f64::from(self.arguments.partitions / number);
        let give_up = Instant::now() + PATIENCE;
        while !detectors.iter().all(|one| judges(one, share)) {
            if Instant::now() > give_up {
                let message = format!("{number} detectors do not judge {share} partitions each");
                return Err(io::Error::other(message));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        std::thread::sleep(WARM_UP);
        let work = Work::measure(self.arguments.seconds, Some(broker), collector, &detectors)?;
        detectors.into_iter().try_for_each(Member::stop)?;
        Ok(work)
    }
}

/// Whether a detector judges its share, and is not behind.
fn judges(detector: &Member, share: f64) -> bool {
    detector.metrics().is_ok_and(|metrics| {
        metrics.sum("weir_cluster_owned_partitions") == share
            && metrics.sum("weir_cluster_judged_partitions") == share
            && metrics
                .max("weir_cluster_lag_seconds")
                .is_some_and(|lag| lag < 2.0)
    })
}
