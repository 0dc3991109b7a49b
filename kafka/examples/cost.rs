//! What publishing flow records costs this process, by form: CPU time per record, at a broker of its own.
//!
//! ```text
//! cargo run --release -p weir-kafka --example cost
//! ```

use std::time::{Duration, Instant};

use weir_kafka::{FlowFormat, KafkaConfig, Publisher, TopicsConfig};

#[path = "../tests/flows/mod.rs"]
mod flows;
#[path = "../tests/support/mod.rs"]
mod support;

/// Exporters, and records of each in a batch.
const SHAPE: (u32, u32) = (16, 500);
/// How long each form is published.
const TIME: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(brokers) = support::Brokers::start(1) else {
        return Ok(());
    };
    let mut number = 0;
    let batch = flows::batch(SHAPE.0, SHAPE.1, &mut number);
    let forms = [FlowFormat::Blocks, FlowFormat::Protobuf, FlowFormat::Json];
    for (format, per_second) in forms.into_iter().zip([800_000, 100_000, 100_000]) {
        let config = KafkaConfig {
            brokers: vec![brokers.bootstrap.clone()],
            flow_format: format,
            partitions: 4,
            topics: TopicsConfig {
                flows: format!("{format:?}"),
                ..TopicsConfig::default()
            },
            ..KafkaConfig::default()
        };
        let settings = config.check().map_err(|faults| format!("{faults:?}"))?;
        let publisher = Publisher::start(&settings.ok_or("no broker")?)?;
        let mut flows = publisher.flows().ok_or("no topic")?;
        let figures = publisher.figures();
        let (before, began) = (cpu()?, Instant::now());
        let mut sent = 0_u64;
        while began.elapsed() < TIME {
            flows.handle_batch(Instant::now(), &batch);
            sent += number;
            let due = Duration::from_secs_f64(sent as f64 / f64::from(per_second));
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        flows.flush();
        drop(flows);
        publisher.finish(Duration::from_secs(20));
        let used = cpu()? - before;
        for (topic, totals) in figures.topics() {
            println!(
                "{topic}: {:.2} µs of CPU a record, {:.1} octets before compression; {sent} sent, {} acknowledged",
                used.as_secs_f64() * 1e6 / sent as f64,
                totals.acknowledged_octets as f64 / totals.acknowledged.max(1) as f64,
                totals.acknowledged
            );
        }
    }
    Ok(())
}

/// CPU time of all threads of this process.
fn cpu() -> std::io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    // `utime` and `stime`, in hundredths of a second.
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(10 * ticks))
}
