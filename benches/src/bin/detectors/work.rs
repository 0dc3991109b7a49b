//! What was done in a measurement, and what it cost.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use weir_benches::RECORDS;
use weir_benches::broker::Broker;

use crate::member::{Member, SUMMARIES, Snapshot};

/// One measurement; CPU in seconds.
pub(crate) struct Work {
    seconds: f64,
    /// Of each detector; none where the collector does everything.
    partitions: Vec<f64>,
    /// Summaries that detectors have judged.
    judged: f64,
    detectors_cpu: f64,
    collector_cpu: f64,
    broker_cpu: f64,
    records: f64,
    lost: f64,
    /// Summaries that the broker has taken, their octets, and their octets on its disk.
    published: f64,
    octets: f64,
    stored: f64,
    /// Attacks that were told: none should be.
    attacks: f64,
}

impl Work {
    /// Lets everything run for some seconds.
    pub(crate) fn measure(
        seconds: u64,
        broker: Option<&Broker>,
        collector: &Member,
        detectors: &[Member],
    ) -> io::Result<Self> {
        let of_broker = || {
            broker.map_or(Ok((0.0, 0)), |broker| {
                Ok::<_, io::Error>((broker.cpu()?.as_secs_f64(), broker.stored(SUMMARIES)?))
            })
        };
        let of_detectors = || {
            let snapshots = detectors.iter().map(Member::snapshot);
            snapshots.collect::<io::Result<Vec<_>>>()
        };
        let start = Instant::now();
        let before = (collector.snapshot()?, of_detectors()?, of_broker()?);
        std::thread::sleep(Duration::from_secs(seconds));
        let measured = start.elapsed();
        let after = (collector.snapshot()?, of_detectors()?, of_broker()?);
        let grown = |name: &str| after.0.metrics.sum(name) - before.0.metrics.sum(name);
        let judged = |all: &[Snapshot]| -> f64 {
            all.iter()
                .map(|one| one.metrics.sum("weir_cluster_summaries_total"))
                .sum()
        };
        let cpu = |all: &[Snapshot]| -> f64 { all.iter().map(|one| one.cpu).sum() };
        let attacks = |one: &Snapshot| one.metrics.sum("weir_detector_attacks_total");
        Ok(Self {
            seconds: measured.as_secs_f64(),
            partitions: after
                .1
                .iter()
                .map(|one| one.metrics.sum("weir_cluster_judged_partitions"))
                .collect(),
            judged: judged(&after.1) - judged(&before.1),
            detectors_cpu: cpu(&after.1) - cpu(&before.1),
            collector_cpu: after.0.cpu - before.0.cpu,
            broker_cpu: after.2.0 - before.2.0,
            records: grown("weir_aggregate_records_total"),
            lost: ((after.0.drops - before.0.drops) * RECORDS as u64) as f64,
            published: grown("weir_cluster_published_summaries_total"),
            octets: grown("weir_cluster_published_bytes_total"),
            stored: after.2.1.saturating_sub(before.2.1) as f64,
            attacks: attacks(&after.0) + after.1.iter().map(attacks).sum::<f64>(),
        })
    }

    /// Summaries judged per second of the detectors' CPU.
    fn speed(&self) -> f64 {
        self.judged / self.detectors_cpu.max(0.01)
    }

    /// CPU seconds of the collector for a million records.
    fn per_million_records(&self) -> f64 {
        self.collector_cpu * 1e6 / self.records.max(1.0)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.records / self.seconds;
        let (own, lost) = (self.per_million_records(), self.lost);
        let attacks = self.attacks;
        if self.partitions.is_empty() {
            return write!(
                f,
                "one process: {rate:.0} records/s, {lost} lost; {own:.3} s of CPU per million records; {attacks} attacks"
            );
        }
        write!(
            f,
            "partitions {:?}: {:.1} summaries/s judged, {:.2} s of CPU in {:.1} s, {:.0} summaries per CPU-second; \
             collector: {rate:.0} records/s, {lost} lost, {own:.3} s per million records; \
             {:.1} summaries/s of {:.0} octets ({:.0} on disk), {:.0} octets/s; broker: {:.2} s; {attacks} attacks",
            self.partitions,
            self.judged / self.seconds,
            self.detectors_cpu,
            self.seconds,
            self.speed(),
            self.published / self.seconds,
            self.octets / self.published.max(1.0),
            self.stored / self.published.max(1.0),
            self.octets / self.seconds,
            self.broker_cpu,
        )
    }
}

/// Medians over the rounds, and the ratio that counts.
pub(crate) fn tell_medians(works: &[Work]) {
    let median = |detectors: usize, figure: fn(&Work) -> f64| {
        let those = works
            .iter()
            .filter(|work| work.partitions.len() == detectors);
        let mut all: Vec<f64> = those.map(figure).collect();
        all.sort_by(f64::total_cmp);
        let middle = all.len().saturating_sub(1) / 2..all.len() / 2 + 1;
        let middle = all.get(middle).unwrap_or_default();
        middle.iter().sum::<f64>() / middle.len().max(1) as f64
    };
    let (one, two) = (median(1, Work::speed), median(2, Work::speed));
    println!(
        "median: one detector {one:.0} summaries per CPU-second, two {two:.0}: {:.2} × one's",
        two / one.max(1.0)
    );
    for (detectors, what) in [
        (0, "one process that does everything"),
        (1, "a collector, judged by one detector"),
        (2, "a collector, judged by two"),
    ] {
        println!(
            "median: {what}: {:.3} s of CPU per million records",
            median(detectors, Work::per_million_records)
        );
    }
    println!(
        "median: {:.0} octets a summary, {:.0} on disk; {:.0} s of detectors' CPU per million summaries with one, {:.0} with two",
        median(1, |work| work.octets / work.published.max(1.0)),
        median(1, |work| work.stored / work.published.max(1.0)),
        1e6 / one.max(1.0),
        1e6 / two.max(1.0),
    );
}
