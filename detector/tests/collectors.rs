//! Attacks are the same whether one process sees all, or collectors publish to detectors that share the zones, over the octets
//! that travel between them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::sync::Arc;

use support::{at, batch, flow, packets, zone};
use weir_attack_event::{AttackEvent, EventKind};
use weir_detector::{
    Detector, DetectorConfig, DetectorOutput, DetectorSettings, Saved, ThresholdConfig, ZoneConfig,
    check,
};
use weir_flow_aggregate::cluster::{Coalescer, CollectorMerger, Part, Partitions};
use weir_flow_aggregate::{
    AggregateSettings, AggregationConfig, Aggregator, Merger, WindowSummary,
};
use weir_flow_record::{Address, Period, ReceivedAt, Row, Timestamp};

fn settings() -> DetectorSettings {
    let named = |name: &str, prefix: &str| ZoneConfig {
        name: name.to_owned(),
        ..zone(&[prefix])
    };
    let zones = [
        named("alpha", "10.1.0.0/16"),
        named("beta", "10.2.0.0/16"),
        named("gamma", "2001:db8:1::/48"),
        named("delta", "10.4.0.0/16"),
    ];
    let threshold = ThresholdConfig {
        clear_for: Period(std::time::Duration::from_secs(5)),
        ..packets(100_000)
    };
    check(&DetectorConfig::default(), &[threshold], &zones).unwrap()
}

fn aggregator(settings: &DetectorSettings, shards: u16, shard: u16) -> Aggregator {
    Aggregator::new(AggregateSettings {
        config: AggregationConfig::default(),
        zones: settings.zone_prefixes(shards),
        links: Vec::new(),
        shard,
        active_timeouts: Vec::new(),
    })
}

/// A collector with its shards, and what it published.
struct Collector {
    name: Arc<str>,
    epoch: u64,
    shards: Vec<Aggregator>,
    merger: Merger,
    coalescers: Vec<Coalescer>,
    sequence: u64,
}

/// The owner of a partition.
struct Owner {
    merger: CollectorMerger,
    detector: Detector,
    saved: Vec<Saved>,
}

struct Cluster {
    settings: DetectorSettings,
    partitions: Partitions,
    collectors: Vec<Collector>,
    owners: Vec<Owner>,
    /// By partition.
    log: Vec<Vec<Vec<u8>>>,
    events: Vec<AttackEvent>,
    /// Each part is delivered twice.
    repeats: bool,
    /// Every so many parts, one gets lost on its way, and is told again.
    loses: u64,
}

impl Cluster {
    fn new(collectors: usize, shards: u16, partitions: u32) -> Self {
        let settings = settings();
        let names = settings.zones.iter();
        let names = names.map(|zone| (zone.id, Arc::clone(&zone.name)));
        let partitions = Partitions::new(partitions, names);
        let all = collectors as u16 * shards;
        let collector = |number: usize| Collector {
            name: format!("collector-{number}").into(),
            epoch: 7,
            shards: (0..shards)
                .map(|shard| aggregator(&settings, all, shard))
                .collect(),
            merger: Merger::new(shards, &AggregationConfig::default()),
            coalescers: (0..partitions.count())
                .map(|_| Coalescer::default())
                .collect(),
            sequence: 0,
        };
        let owners = (0..partitions.count()).map(|_| Owner::new(&settings));
        Self {
            collectors: (0..collectors).map(collector).collect(),
            owners: owners.collect(),
            log: vec![Vec::new(); partitions.count() as usize],
            partitions,
            settings,
            events: Vec::new(),
            repeats: false,
            loses: 0,
        }
    }

    fn run(&mut self, until: Timestamp) {
        loop {
            let shards = self.collectors.iter().flat_map(|c| &c.shards);
            let ticks = shards.filter_map(|shard| Some(shard.poll_timeout()?.0));
            let owners = self.owners.iter();
            let timeouts = owners.filter_map(|owner| owner.detector.poll_timeout());
            let due = ticks.chain(timeouts).min();
            let Some(due) = due.filter(|due| *due <= until) else {
                return;
            };
            for collector in 0..self.collectors.len() {
                for (partition, part) in self.tick(collector, due) {
                    for _ in 0..=u8::from(self.repeats) {
                        self.deliver(partition, &part);
                    }
                    self.log[partition].push(part);
                }
            }
            for partition in 0..self.owners.len() {
                self.owners[partition].detector.handle_timeout(due);
                self.drain(partition);
            }
        }
    }

    /// What a collector publishes at a tick.
    fn tick(&mut self, number: usize, due: Timestamp) -> Vec<(usize, Vec<u8>)> {
        let (partitions, loses) = (&self.partitions, self.loses);
        let collector = &mut self.collectors[number];
        for shard in &mut collector.shards {
            shard.handle_timeout(ReceivedAt(due));
            while let Some(summary) = shard.poll_summary() {
                collector.merger.handle_summary(summary);
            }
            while let Some(summary) = collector.merger.poll_summary() {
                let parts = partitions.cut(summary);
                for (coalescer, part) in collector.coalescers.iter_mut().zip(parts) {
                    coalescer.handle_newer(part);
                }
            }
        }
        while let Some((shard, list)) = collector.merger.poll_watch() {
            collector.shards[usize::from(shard)].handle_watch(&list);
        }
        let mut published = Vec::new();
        for (partition, coalescer) in collector.coalescers.iter_mut().enumerate() {
            for summary in coalescer.take() {
                collector.sequence += 1;
                if loses > 0 && collector.sequence.is_multiple_of(loses) {
                    coalescer.handle_lost(summary);
                    continue;
                }
                let part = Part {
                    collector: Arc::clone(&collector.name),
                    epoch: collector.epoch,
                    sequence: collector.sequence,
                    summary,
                };
                published.push((partition, part.encode(partitions)));
            }
        }
        published
    }

    fn deliver(&mut self, partition: usize, octets: &[u8]) {
        let decoded = Part::decode(octets, &self.partitions).unwrap();
        assert_eq!(decoded.unknown, 0);
        let owner = &mut self.owners[partition];
        owner.merger.handle_part(decoded.part);
        while let Some(summary) = owner.merger.poll_summary() {
            owner.detector.handle_window(&summary);
        }
        self.drain(partition);
    }

    fn drain(&mut self, partition: usize) {
        let owner = &mut self.owners[partition];
        while let Some(output) = owner.detector.poll_output() {
            match output {
                DetectorOutput::Event(event) => self.events.push(*event),
                DetectorOutput::Watch(list) => owner.merger.handle_watch(&list),
                DetectorOutput::Persist(row) => owner.saved.push(*row),
                DetectorOutput::DrillDown(_) => {}
            }
        }
        while let Some((name, list)) = owner.merger.poll_watch() {
            let named = self.collectors.iter_mut().find(|c| c.name == name);
            named.unwrap().merger.handle_watch(&list);
        }
    }

    /// Another machine takes all partitions over: it has what was saved, and reads the newest parts again.
    fn take_over(&mut self) {
        for partition in 0..self.owners.len() {
            let mut next = Owner::new(&self.settings);
            for row in std::mem::take(&mut self.owners[partition].saved) {
                let text = serde_json::to_string(&row).unwrap();
                next.saved.retain(|known: &Saved| known.key() != row.key());
                if !row.is_removal() {
                    next.saved.push(serde_json::from_str(&text).unwrap());
                }
            }
            next.saved
                .iter()
                .for_each(|row| next.detector.restore(row.clone()));
            let log = &self.log[partition];
            for octets in &log[log.len().saturating_sub(1000)..] {
                let decoded = Part::decode(octets, &self.partitions).unwrap();
                next.merger.handle_part(decoded.part);
                while let Some(summary) = next.merger.poll_summary() {
                    next.detector.handle_past(&summary);
                }
            }
            self.owners[partition] = next;
            self.drain(partition);
        }
    }

    /// Each row comes by one of eight exporters, which are spread over the collectors and their shards.
    fn receive(&mut self, received: Timestamp, rows: &[Row]) {
        self.run(received);
        let collectors = self.collectors.iter_mut();
        let shards: Vec<&mut Aggregator> = collectors.flat_map(|c| &mut c.shards).collect();
        let count = shards.len();
        for (number, shard) in shards.into_iter().enumerate() {
            let rows = rows.iter().enumerate();
            let rows = rows.filter(|(index, _)| index % 8 % count == number);
            shard.handle_batch(&batch(received, rows.map(|(_, row)| row)));
        }
    }
}

impl Owner {
    fn new(settings: &DetectorSettings) -> Self {
        Self {
            merger: CollectorMerger::new(&AggregationConfig::default()),
            detector: Detector::new(settings.clone()),
            saved: Vec::new(),
        }
    }
}

/// Peace; then a host of alpha, 300 hosts of beta and a host of gamma are attacked.
fn traffic(mut receive: impl FnMut(i64, Timestamp, &[Row])) {
    let v4 = |zone: u8, host: u16| Address::from_v4([10, zone, (host >> 8) as u8, host as u8]);
    let v6 = |host: u8| {
        Address::from_octets([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
    };
    for second in 0..70_i64 {
        for tenth in 0..10_u32 {
            let from = second as f64 + f64::from(tenth) * 0.1;
            let mut rows: Vec<Row> = Vec::new();
            let mut tell = |target: Address, packets: u64| {
                rows.push(flow(
                    target,
                    at(from),
                    at(from + 0.09),
                    packets * 100,
                    packets,
                ));
            };
            for host in 0..8 {
                tell(v4(1, host), 20);
                tell(v4(2, 512 + host), 20);
                tell(v4(4, host), 20);
            }
            if (20..32).contains(&second) {
                (0..16).for_each(|_| tell(v4(1, 3), 1200));
            }
            if (25..45).contains(&second) {
                (0..300).for_each(|host| tell(v4(2, 512 + host), 90));
            }
            if (30..50).contains(&second) {
                (0..8).for_each(|_| tell(v6(1), 5000));
            }
            let turned = tenth as usize % rows.len();
            let rows = [&rows[turned..], &rows[..turned]].concat();
            receive(second, at(from + 0.1), &rows);
        }
    }
}

fn clustered(mut cluster: Cluster, takeovers: &[i64]) -> Vec<AttackEvent> {
    let mut left = takeovers.to_vec();
    traffic(|second, received, rows| {
        if left.first().is_some_and(|due| second >= *due) {
            left.remove(0);
            cluster.take_over();
        }
        cluster.receive(received, rows);
    });
    cluster.run(at(1_000.0));
    cluster.events
}

fn alone() -> Vec<AttackEvent> {
    let settings = settings();
    let mut aggregator = aggregator(&settings, 1, 0);
    let mut detector = Detector::new(settings);
    let mut events = Vec::new();
    let mut run = |aggregator: &mut Aggregator, until: Timestamp| {
        loop {
            let tick = aggregator.poll_timeout().map(|due| due.0);
            let due = [tick, detector.poll_timeout()].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= until) else {
                return;
            };
            aggregator.handle_timeout(ReceivedAt(due));
            while let Some(summary) = aggregator.poll_summary() {
                detector.handle_window(&summary);
            }
            detector.handle_timeout(due);
            while let Some(output) = detector.poll_output() {
                match output {
                    DetectorOutput::Event(event) => events.push(*event),
                    DetectorOutput::Watch(list) => aggregator.handle_watch(&list),
                    DetectorOutput::Persist(_) | DetectorOutput::DrillDown(_) => {}
                }
            }
        }
    };
    traffic(|_, received, rows| {
        run(&mut aggregator, received);
        aggregator.handle_batch(&batch(received, rows));
    });
    run(&mut aggregator, at(1_000.0));
    events
}

/// Starts and ends, in the order of their names.
fn edges(events: &[AttackEvent]) -> Vec<&AttackEvent> {
    let mut edges: Vec<&AttackEvent> = events
        .iter()
        .filter(|event| event.kind != EventKind::AttackUpdate)
        .collect();
    edges.sort_by_key(|event| (event.id.to_string(), event.kind == EventKind::AttackEnd));
    edges
}

/// The same attacks, told at most `later` ns apart.
fn assert_same(one: &[AttackEvent], many: &[AttackEvent], later: i64) {
    let (one, many) = (edges(one), edges(many));
    let named = |events: &[&AttackEvent]| -> Vec<String> {
        let name = |e: &&AttackEvent| format!("{:?} {} {}", e.kind, e.id, e.target.prefix);
        events.iter().map(name).collect()
    };
    assert_eq!(named(&one), named(&many));
    for (one, many) in one.into_iter().zip(many) {
        assert_eq!(one.end_time, many.end_time, "{}", one.id);
        assert_eq!(one.vectors[0].name, many.vectors[0].name, "{}", one.id);
        let apart = many.detected_at.nanos() - one.detected_at.nanos();
        assert!(apart.abs() <= later, "{}: {apart} ns later", one.id);
    }
}

#[test]
fn collectors_and_detectors_tell_what_one_process_tells() {
    let one = alone();
    assert_eq!(edges(&one).len(), 6, "three attacks start and end");
    for (collectors, shards, partitions) in [(1, 1, 1), (2, 1, 16), (2, 2, 3)] {
        let many = clustered(Cluster::new(collectors, shards, partitions), &[]);
        // A tick, and one more for hosts that another collector has to be told to watch.
        assert_same(&one, &many, 200_000_000);
    }
}

#[test]
fn parts_that_come_twice_or_are_told_again_change_nothing() {
    let one = alone();
    let mut cluster = Cluster::new(2, 1, 4);
    cluster.repeats = true;
    cluster.loses = 7;
    assert_same(&one, &clustered(cluster, &[]), 300_000_000);
}

#[test]
fn takeovers_at_any_time_open_no_attack_twice_and_lose_none() {
    let one = alone();
    let takeovers = [19, 21, 24, 26, 28, 31, 33, 36, 40, 46, 52, 58];
    let many = clustered(Cluster::new(2, 1, 4), &takeovers);
    assert_same(&one, &many, 300_000_000);
}

#[test]
fn what_is_over_stays_so_when_its_seconds_are_told_again_to_the_next_owner() {
    let mut cluster = Cluster::new(2, 1, 4);
    let mut told = Vec::new();
    traffic(|second, received, rows| {
        if second == 60 && told.is_empty() {
            told = cluster.events.clone();
            assert_eq!(edges(&told).len(), 6, "all three are over");
            cluster.take_over();
            // A collector that has started again is asked to watch the host, and tells all of its history.
            for owner in &mut cluster.owners {
                let list = weir_flow_aggregate::WatchList {
                    watch: vec![weir_flow_record::TargetKey {
                        prefix: "10.1.0.3/32".parse().unwrap(),
                        direction: weir_flow_record::Direction::In,
                        zone: weir_flow_record::ZoneId(0),
                    }],
                    ..weir_flow_aggregate::WatchList::default()
                };
                let mut again = CollectorMerger::new(&AggregationConfig::default());
                std::mem::swap(&mut again, &mut owner.merger);
                owner.merger.handle_watch(&list);
            }
            for partition in 0..cluster.owners.len() {
                for octets in cluster.log[partition].clone() {
                    let mut decoded = Part::decode(&octets, &cluster.partitions).unwrap();
                    // The time is now, the seconds are as they were.
                    decoded.part.summary.now = ReceivedAt(received);
                    decoded.part.summary.settled_until = received.second() - 5;
                    let owner = &mut cluster.owners[partition];
                    owner.merger.handle_part(decoded.part);
                    while let Some(summary) = owner.merger.poll_summary() {
                        owner.detector.handle_window(&summary);
                    }
                    cluster.drain(partition);
                }
            }
        }
        cluster.receive(received, rows);
    });
    cluster.run(at(1_000.0));
    let hosts = |events: &[AttackEvent]| {
        let edges = edges(events);
        edges
            .iter()
            .filter(|e| e.target.prefix.prefix_len() == 32)
            .count()
    };
    assert_eq!(hosts(&cluster.events), hosts(&told));
}

#[test]
fn a_collector_that_starts_again_is_added_and_one_that_is_gone_stalls_nobody() {
    let partitions = Partitions::new(1, [(weir_flow_record::ZoneId(0), "alpha".into())]);
    let mut merger = CollectorMerger::new(&AggregationConfig::default());
    let mut tell = |name: &str, epoch: u64, sequence: u64, second: i64| {
        let part = Part {
            collector: name.into(),
            epoch,
            sequence,
            summary: WindowSummary::new(
                0,
                0,
                ReceivedAt(at(second as f64)),
                support::START + second - 5,
            ),
        };
        let octets = part.encode(&partitions);
        let admission = merger.handle_part(Part::decode(&octets, &partitions).unwrap().part);
        let settled = merger
            .poll_summary()
            .map(|s| s.settled_until - support::START);
        (
            format!("{admission:?}"),
            settled,
            merger.counters().collectors,
        )
    };
    let joined = "Joined".to_owned();
    let taken = "Taken".to_owned();
    assert_eq!(tell("a", 1, 1, 10), (joined.clone(), Some(5), 1));
    assert_eq!(tell("b", 1, 1, 12), (joined.clone(), Some(5), 2));
    assert_eq!(tell("b", 1, 1, 12), ("Repeat".to_owned(), None, 2));
    assert_eq!(tell("a", 2, 1, 13), (joined, Some(7), 2));
    assert_eq!(tell("a", 1, 9, 14), ("Repeat".to_owned(), None, 2));
    assert_eq!(tell("b", 1, 2, 22), (taken.clone(), Some(8), 2));
    // Nothing of `a` for more than ten seconds.
    assert_eq!(tell("b", 1, 3, 24), (taken, Some(19), 1));
}
