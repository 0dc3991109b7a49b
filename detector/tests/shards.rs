//! An attack on many hosts is the same attack whether one shard sees all of it, or each of four a part.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use support::{at, batch, flow, packets, zone};
use weir_attack_event::{AttackEvent, EventKind};
use weir_detector::{Detector, DetectorConfig, DetectorOutput, check};
use weir_flow_aggregate::{AggregateSettings, AggregationConfig, Aggregator, Merger};
use weir_flow_record::{Address, ReceivedAt, Row, Timestamp};

struct Shards {
    shards: Vec<Aggregator>,
    merger: Merger,
    detector: Detector,
    events: Vec<AttackEvent>,
}

impl Shards {
    fn new(count: u16) -> Self {
        let zones = [zone(&["10.9.0.0/16"])];
        let settings = check(&DetectorConfig::default(), &[packets(100_000)], &zones).unwrap();
        let config = AggregationConfig::default();
        let shard = |shard| {
            Aggregator::new(AggregateSettings {
                config: config.clone(),
                zones: settings.zone_prefixes(count),
                links: Vec::new(),
                shard,
                active_timeouts: Vec::new(),
            })
        };
        Self {
            shards: (0..count).map(shard).collect(),
            merger: Merger::new(count, &config),
            detector: Detector::new(settings),
            events: Vec::new(),
        }
    }

    fn run(&mut self, until: Timestamp) {
        loop {
            let ticks = self.shards.iter().filter_map(Aggregator::poll_timeout);
            let due = ticks
                .map(|due| due.0)
                .chain(self.detector.poll_timeout())
                .min();
            let Some(due) = due.filter(|due| *due <= until) else {
                return;
            };
            for shard in 0..self.shards.len() {
                self.shards[shard].handle_timeout(ReceivedAt(due));
                while let Some(summary) = self.shards[shard].poll_summary() {
                    self.merger.handle_summary(summary);
                    while let Some(summary) = self.merger.poll_summary() {
                        self.detector.handle_window(&summary);
                    }
                    self.drain();
                }
            }
            self.detector.handle_timeout(due);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.detector.poll_output() {
            match output {
                DetectorOutput::Event(event) => self.events.push(*event),
                DetectorOutput::Watch(list) => self.merger.handle_watch(&list),
                DetectorOutput::Persist(_) | DetectorOutput::DrillDown(_) => {}
            }
        }
        while let Some((shard, list)) = self.merger.poll_watch() {
            self.shards[usize::from(shard)].handle_watch(&list);
        }
    }

    /// Each row comes by one of eight exporters, which are spread over the shards.
    fn receive(&mut self, received: Timestamp, rows: &[Row]) {
        self.run(received);
        let count = self.shards.len();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let of_shard = |index: &usize| index % 8 % count == number;
            let rows = rows.iter().enumerate();
            let rows = rows.filter(|(index, _)| of_shard(index));
            shard.handle_batch(&batch(received, rows.map(|(_, row)| row)));
        }
    }
}

/// Peace on some hosts, then 512 hosts that get 1,000 packets a second each; each host's rows come by any exporter.
fn attacked(shards: u16) -> Vec<AttackEvent> {
    let mut shards = Shards::new(shards);
    for second in 0..40 {
        for tenth in 0..10_u32 {
            let from = f64::from(second) + f64::from(tenth) * 0.1;
            let hosts = if second < 25 { 8 } else { 512 };
            let rows: Vec<Row> = (0..hosts)
                .map(|host| {
                    let target = Address::from_v4([10, 9, 40 + (host >> 8) as u8, host as u8]);
                    let packets = if second < 25 { 20 } else { 100 };
                    flow(target, at(from), at(from + 0.09), packets * 100, packets)
                })
                .collect();
            // The order changes, so each host's rows come by all exporters.
            let turned = tenth as usize % rows.len();
            let rows = [&rows[turned..], &rows[..turned]].concat();
            shards.receive(at(from + 0.1), &rows);
        }
    }
    shards.run(at(1_000.0));
    shards.events
}

#[test]
fn one_shard_and_four_tell_the_same_carpet() {
    let one = attacked(1);
    let starts = |events: &[AttackEvent]| -> Vec<AttackEvent> {
        let starts = events.iter().filter(|e| e.kind == EventKind::AttackStart);
        starts.cloned().collect()
    };
    let first = starts(&one);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].target.prefix, "10.9.40.0/23".parse().unwrap());
    for shards in [2, 4] {
        let many = attacked(shards);
        assert_eq!(many, attacked(shards), "two runs differ");
        let starts = starts(&many);
        assert_eq!(starts.len(), 1, "{shards} shards");
        assert_eq!(starts[0].target, first[0].target);
        assert_eq!(starts[0].id, first[0].id);
        assert_eq!(starts[0].vectors[0].name, first[0].vectors[0].name);
        let later = starts[0].detected_at.nanos() - first[0].detected_at.nanos();
        assert!(later.abs() <= 200_000_000, "{later} ns later");
        let peak = |events: &[AttackEvent]| {
            let last = events.last().unwrap();
            last.traffic.packets_per_second.peak
        };
        assert_eq!(peak(&many), peak(&one), "{shards} shards");
    }
}
