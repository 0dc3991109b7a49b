//! A pipeline of aggregator and detector, and traffic for it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use weir_attack_event::{AttackEvent, AttackId, EventKind, MitigationReport, MitigationStatus};
use weir_detector::{
    Detector, DetectorConfig, DetectorOutput, DetectorSettings, Overridden, Override,
    OverrideError, Saved, ThresholdConfig, ZoneConfig, check,
};
use weir_flow_aggregate::{AggregateSettings, AggregationConfig, Aggregator};
use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, Period, Quantity, ReceivedAt, Row, Timestamp,
};

pub(crate) const START: i64 = 1_700_000_000;

pub(crate) fn at(seconds: f64) -> Timestamp {
    Timestamp::from_nanos(START * 1_000_000_000 + (seconds * 1e9) as i64)
}

pub(crate) fn zone(prefixes: &[&str]) -> ZoneConfig {
    ZoneConfig {
        name: "zone".to_owned(),
        prefixes: prefixes
            .iter()
            .map(|prefix| prefix.parse().unwrap())
            .collect(),
        ..ZoneConfig::default()
    }
}

pub(crate) fn threshold() -> ThresholdConfig {
    ThresholdConfig {
        clear_for: Period(Duration::from_secs(10)),
        ..ThresholdConfig::default()
    }
}

pub(crate) fn bits(limit: u64) -> ThresholdConfig {
    ThresholdConfig {
        bits_per_second: Some(Quantity(limit)),
        ..threshold()
    }
}

pub(crate) fn packets(limit: u64) -> ThresholdConfig {
    ThresholdConfig {
        packets_per_second: Some(Quantity(limit)),
        ..threshold()
    }
}

pub(crate) struct Pipeline {
    pub(crate) aggregator: Aggregator,
    pub(crate) detector: Detector,
    pub(crate) now: Timestamp,
    pub(crate) events: Vec<AttackEvent>,
    pub(crate) saved: Vec<Saved>,
}

impl Pipeline {
    pub(crate) fn new(thresholds: &[ThresholdConfig]) -> Self {
        let zone = zone(&["203.0.113.0/24", "2001:db8:a::/48"]);
        Self::with(check(&DetectorConfig::default(), thresholds, &[zone]).unwrap())
    }

    pub(crate) fn with(settings: DetectorSettings) -> Self {
        let aggregator = Aggregator::new(AggregateSettings {
            config: AggregationConfig::default(),
            zones: settings.zone_prefixes(1),
            links: settings.link_interfaces(),
            shard: 0,
            active_timeouts: Vec::new(),
        });
        let detector = Detector::new(settings);
        Self {
            aggregator,
            detector,
            now: at(0.0),
            events: Vec::new(),
            saved: Vec::new(),
        }
    }

    /// Lets all timers run that are due until `until`.
    pub(crate) fn run(&mut self, until: Timestamp) {
        loop {
            let tick = self.aggregator.poll_timeout().map(|due| due.0);
            let due = [tick, self.detector.poll_timeout()]
                .into_iter()
                .flatten()
                .min();
            let Some(due) = due.filter(|due| *due <= until) else {
                break;
            };
            self.now = self.now.max(due);
            self.aggregator.handle_timeout(ReceivedAt(due));
            while let Some(summary) = self.aggregator.poll_summary() {
                self.detector.handle_window(&summary);
                self.drain();
            }
            self.detector.handle_timeout(due);
            self.drain();
        }
        self.now = self.now.max(until);
    }

    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.detector.poll_output() {
            match output {
                DetectorOutput::Event(event) => self.events.push(*event),
                DetectorOutput::Watch(list) => self.aggregator.handle_watch(&list),
                DetectorOutput::Persist(attack) => self.saved.push(*attack),
                DetectorOutput::DrillDown(_) => {}
            }
        }
    }

    /// Records that arrive at `received`, whose exporter's clock is right.
    pub(crate) fn receive(&mut self, received: Timestamp, rows: &[Row]) {
        self.run(received);
        self.aggregator.handle_batch(&batch(received, rows));
    }

    pub(crate) fn order(&mut self, word: Override) -> Result<Overridden, OverrideError> {
        let done = self.detector.handle_override(self.now, word);
        self.drain();
        done
    }

    /// What a restart finds: the newest row of each name.
    pub(crate) fn kept(&self) -> Vec<Saved> {
        let mut rows = std::collections::BTreeMap::new();
        for row in &self.saved {
            let text = serde_json::to_string(row).unwrap();
            rows.insert(row.key(), serde_json::from_str(&text).unwrap());
        }
        rows.retain(|_, row: &mut Saved| !row.is_removal());
        rows.into_values().collect()
    }

    pub(crate) fn starts(&self) -> Vec<&AttackEvent> {
        let events = self.events.iter();
        events
            .filter(|event| event.kind == EventKind::AttackStart)
            .collect()
    }

    /// Time runs on until nothing is left to happen.
    pub(crate) fn finish(&mut self) {
        self.run(at(100_000.0));
    }

    pub(crate) fn kinds(&self) -> Vec<EventKind> {
        self.events.iter().map(|event| event.kind).collect()
    }

    pub(crate) fn report(
        &mut self,
        id: &AttackId,
        status: MitigationStatus,
        dropped: u64,
        lifetime: u32,
    ) {
        self.detector.handle_timeout(self.now);
        self.drain();
        self.detector.handle_mitigation(&MitigationReport {
            attack: id.clone(),
            upstream: "provider".into(),
            mid: 1,
            status,
            bytes_dropped_per_second: Some(dropped),
            packets_dropped_per_second: Some(dropped / 100),
            bytes_dropped: Some(dropped),
            packets_dropped: Some(dropped / 100),
            attack_bits_per_second: None,
            lifetime: Some(lifetime),
        });
        self.drain();
    }
}

pub(crate) fn host(last: u8) -> Address {
    Address::from_v4([203, 0, 113, last])
}

/// A record to `target` from `start` to `end`.
pub(crate) fn flow(
    target: Address,
    start: Timestamp,
    end: Timestamp,
    octets: u64,
    packets: u64,
) -> Row {
    Row {
        source_address: Address::from_v4([198, 51, 100, 1]),
        destination_address: target,
        source_port: 4444,
        destination_port: 4445,
        protocol: 17,
        octets,
        packets,
        flow_start: start.nanos(),
        flow_end: end.nanos(),
        sampling_rate: 1,
        ..Row::default()
    }
}

/// `packets` of a second, told in ten records.
pub(crate) fn second(
    pipeline: &mut Pipeline,
    second: f64,
    target: Address,
    packets: u64,
    change: impl Fn(&mut Row),
) {
    for tenth in 0..10 {
        let from = second + f64::from(tenth) * 0.1;
        let mut row = flow(
            target,
            at(from),
            at(from + 0.09),
            packets * 10,
            packets / 10,
        );
        change(&mut row);
        pipeline.receive(at(from + 0.1), &[row]);
    }
}

/// Records that arrive at `received`, whose exporter's clock is right.
pub(crate) fn batch<'a>(received: Timestamp, rows: impl IntoIterator<Item = &'a Row>) -> FlowBatch {
    let mut batch = FlowBatch::default();
    rows.into_iter().for_each(|row| batch.push(row));
    batch.datagrams.push(DatagramInfo {
        rows: 0..u32::try_from(batch.len()).unwrap(),
        exporter: ExporterId(0),
        exporter_address: Address::from_v4([192, 0, 2, 1]),
        domain: ObservationDomainId(0),
        protocol: ExportProtocol::Ipfix,
        sequence: 0,
        received_at: ReceivedAt(received),
        export_time: ExportTime(received),
        present: ColumnSet::FLOW_TIMES,
    });
    batch
}
