//! Bundles of attacks: what is in them, who may read them, what bounds them, and what a crash leaves.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use weir_attack_event::{AttackEvent, AttackId, Coverage, EventKind, Severity, Target, Traffic};
use weir_flow_format::records;
use weir_flow_record::{
    Address, ByteSize, ColumnSet, DatagramInfo, Direction, ExportProtocol, ExportTime, ExporterId,
    FlowBatch, ObservationDomainId, ReceivedAt, Row, Timestamp,
};
use weir_flow_store::{
    EvidenceConfig, EvidenceSelector, EvidenceSettings, EvidenceStore, FlowReader, RecentWindow,
    Selected, bundle, bundles,
};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_700_000_000;

fn settings(folder: &Path, change: impl FnOnce(&mut EvidenceConfig)) -> EvidenceSettings {
    let mut config = EvidenceConfig::default();
    change(&mut config);
    config.check(folder).unwrap().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(START + second)
}

fn event(kind: EventKind, target: &str, second: i64) -> AttackEvent {
    event_of(kind, target, target, second)
}

fn event_of(kind: EventKind, name: &str, target: &str, second: i64) -> AttackEvent {
    AttackEvent {
        kind,
        id: AttackId(name.replace(['/', ':'], "-").into()),
        time: at(second),
        detected_at: at(1),
        start_time: at(0),
        end_time: (kind == EventKind::AttackEnd).then(|| at(second)),
        target: Target {
            prefix: target.parse().unwrap(),
            other_prefixes: Vec::new(),
            zone: "zone".into(),
            direction: Direction::In,
        },
        vectors: Vec::new(),
        severity: Severity::Low,
        traffic: Traffic::default(),
        baseline: None,
        why: Vec::new(),
        model: None,
        findings: None,
        coverage: Coverage(1.0),
        degraded: false,
        mitigation: None,
        dry_run: false,
    }
}

/// Rows to 203.0.113.0 … `hosts`, received at `second`; `packets` tells them apart. The exporter's clock is an hour slow.
fn batch(second: i64, hosts: u8, packets: u64) -> FlowBatch {
    let mut batch = FlowBatch::with_projection(ColumnSet::NONE);
    let export = (START + second - 3600) * SECOND;
    for host in 0..hosts {
        batch.push(&Row {
            source_address: Address::from_v4([198, 51, 100, 7]),
            destination_address: Address::from_v4([203, 0, 113, host]),
            protocol: 17,
            packets,
            octets: packets * 100,
            flow_start: export - SECOND / 2,
            flow_end: export,
            sampling_rate: 10,
            input_interface: 3,
            ..Row::default()
        });
    }
    batch.datagrams.push(DatagramInfo {
        rows: 0..u32::from(hosts),
        exporter: ExporterId(0),
        exporter_address: Address::from_v4([192, 0, 2, 1]),
        domain: ObservationDomainId(1),
        protocol: ExportProtocol::Ipfix,
        sequence: 5,
        received_at: ReceivedAt(at(second)),
        export_time: ExportTime::from_nanos(export),
        present: ColumnSet::FLOW_TIMES,
    });
    batch
}

/// Window, selector and store as the daemon has them.
struct Keeper {
    window: RecentWindow,
    selector: EvidenceSelector,
    store: EvidenceStore,
}

impl Keeper {
    fn new(settings: EvidenceSettings) -> Self {
        Self {
            window: RecentWindow::new(ByteSize(16 << 20)),
            selector: EvidenceSelector::new(&settings),
            store: EvidenceStore::open(settings).unwrap(),
        }
    }

    fn batch(&mut self, second: i64, batch: &FlowBatch) {
        self.window.handle_batch(batch);
        for selected in self.selector.handle_batch(batch) {
            self.rows(second, &selected);
        }
    }

    fn event(&mut self, second: i64, event: &AttackEvent) {
        let selected = self.selector.handle_event(event, &self.window);
        if event.kind == EventKind::AttackEnd {
            selected.iter().for_each(|rows| self.rows(second, rows));
            self.store.handle_event(at(second), event);
        } else {
            self.store.handle_event(at(second), event);
            selected.iter().for_each(|rows| self.rows(second, rows));
        }
    }

    fn rows(&mut self, second: i64, selected: &Selected) {
        self.store.handle_rows(at(second), selected);
        while let Some(attack) = self.store.poll_full() {
            self.selector.stop(&attack);
        }
    }
}

/// Packets of the rows of a bundle, with the last octet of their destination.
fn stored(folder: &Path) -> Vec<(u64, u8)> {
    let mut rows = Vec::new();
    for batch in FlowReader::open(&[folder.to_owned()]).unwrap() {
        let batch = batch.unwrap();
        rows.extend(
            records(&batch)
                .zip(&batch.destination_address)
                .map(|(record, destination)| (record.packets, destination.octets()[15])),
        );
    }
    rows
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn of_a_second_with_very_many_rows_each_attack_keeps_its_share_and_counts_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), |config| config.max_rows_per_second = 20);
    let mut keeper = Keeper::new(settings);
    for name in ["203.0.113.0/24", "203.0.113.4/32"] {
        keeper.event(1, &event(EventKind::AttackStart, name, 1));
    }
    for (second, packets) in [(2, 1), (2, 2), (3, 3)] {
        keeper.batch(second, &batch(second, 100, packets));
    }
    for (name, rows, left_out) in [("203.0.113.0/24", 20, 280), ("203.0.113.4/32", 3, 0)] {
        keeper.event(9, &event(EventKind::AttackEnd, name, 9));
        let id = AttackId(name.replace(['/', ':'], "-").into());
        let found = bundle(&folder.path().join("evidence"), &id).unwrap();
        let info = found.unwrap().info.unwrap();
        assert_eq!((info.rows, info.left_out_rows), (rows, left_out), "{name}");
    }
}

#[test]
fn a_bundle_holds_the_targets_rows_from_before_the_start_until_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(settings(folder.path(), |_| {}));
    // Second 15 before the start is too early, 8 before is not.
    for (second, packets) in [(-15, 1), (-8, 2), (0, 3)] {
        keeper.batch(second, &batch(second, 10, packets));
    }
    keeper.event(1, &event(EventKind::AttackStart, "203.0.113.4/32", 1));
    keeper.batch(2, &batch(2, 10, 4));
    keeper.event(9, &event(EventKind::AttackEnd, "203.0.113.4/32", 9));
    keeper.batch(10, &batch(10, 10, 5));
    let id = AttackId("203.0.113.4-32".into());
    let found = bundle(&folder.path().join("evidence"), &id)
        .unwrap()
        .unwrap();
    assert_eq!(stored(&found.folder), [(2, 4), (3, 4), (4, 4)]);
    let info = found.info.unwrap();
    assert_eq!((info.rows, info.left_out_rows), (3, 0));
    assert_eq!(info.ended, Some(at(9)));
    let names: Vec<_> = found
        .files
        .iter()
        .map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["events.ndjson", "flows-000001.parquet"]);
    assert_eq!(mode(&found.folder), 0o700);
    for (path, _) in &found.files {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
    let events = fs::read_to_string(found.folder.join("events.ndjson")).unwrap();
    let kinds: Vec<EventKind> = events
        .lines()
        .map(|line| serde_json::from_str::<AttackEvent>(line).unwrap().kind)
        .collect();
    assert_eq!(kinds, [EventKind::AttackStart, EventKind::AttackEnd]);
    let newest = bundles(&folder.path().join("evidence")).unwrap();
    assert_eq!((newest.len(), newest[0].kind), (1, EventKind::AttackEnd));
}

#[test]
fn rows_keep_their_second_and_their_exporter() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(settings(folder.path(), |_| {}));
    keeper.batch(0, &batch(0, 1, 3));
    keeper.event(1, &event(EventKind::AttackStart, "203.0.113.0/32", 1));
    keeper.batch(2, &batch(2, 1, 4));
    keeper.event(3, &event(EventKind::AttackEnd, "203.0.113.0/32", 3));
    let read = FlowReader::open(&[folder.path().join("evidence")]).unwrap();
    let mut seen = Vec::new();
    for batch in read {
        let batch = batch.unwrap();
        for datagram in &batch.datagrams {
            let age = datagram.export_time.nanos() - batch.flow_end[datagram.rows.start as usize];
            seen.push((
                datagram.received_at.0,
                age,
                datagram.exporter_address.to_string(),
                batch.input_interface[0],
                batch.sampling_rate[0],
            ));
        }
    }
    // The first comes from the recent window, the second from the stream: both end as they are received.
    let row = |second| (at(second), 0, "192.0.2.1".to_owned(), 3, 10);
    assert_eq!(seen, [row(0), row(2)]);
}

#[test]
fn a_target_that_grows_takes_in_what_is_new_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(settings(folder.path(), |_| {}));
    keeper.batch(0, &batch(0, 8, 1));
    keeper.event(
        1,
        &event_of(EventKind::AttackStart, "a", "203.0.113.0/31", 1),
    );
    keeper.batch(2, &batch(2, 8, 2));
    keeper.event(
        3,
        &event_of(EventKind::AttackUpdate, "a", "203.0.113.0/30", 3),
    );
    keeper.batch(4, &batch(4, 8, 3));
    keeper.event(5, &event_of(EventKind::AttackEnd, "a", "203.0.113.0/30", 5));
    let mut rows = stored(&folder.path().join("evidence"));
    rows.sort_unstable();
    let expected: Vec<(u64, u8)> = (1..=3)
        .flat_map(|packets| (0..4).map(move |host| (packets, host)))
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn a_bundle_is_bounded_and_counts_what_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let limit = 1 << 20;
    let mut keeper = Keeper::new(settings(folder.path(), |config| {
        config.max_size_per_attack = ByteSize(limit);
    }));
    keeper.event(
        1,
        &event_of(EventKind::AttackStart, "a", "203.0.113.0/24", 1),
    );
    let mut random = 1_u64;
    let mut sent = 0;
    for second in 2..1200 {
        let mut rows = batch(second, 200, 1);
        for source in &mut rows.source_address {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *source = Address::from_octets(u128::from(random).pow(2).to_be_bytes());
        }
        sent += 200;
        keeper.batch(second, &rows);
    }
    keeper.event(
        1200,
        &event_of(EventKind::AttackEnd, "a", "203.0.113.0/24", 1200),
    );
    let id = AttackId("a".into());
    let found = bundle(&folder.path().join("evidence"), &id)
        .unwrap()
        .unwrap();
    let octets: u64 = found.files.iter().map(|(_, octets)| octets).sum();
    assert!(octets <= limit && octets > limit / 4, "{octets}");
    let info = found.info.unwrap();
    assert_eq!(info.rows + info.left_out_rows, sent);
    assert_eq!(stored(&found.folder).len() as u64, info.rows);
    let counters = keeper.store.counters();
    assert_eq!(counters.left_out_rows, info.left_out_rows);
}

#[test]
fn what_was_closed_before_a_crash_stays_and_leftovers_go() {
    let folder = tempfile::tempdir().unwrap();
    let evidence = folder.path().join("evidence");
    let settings = || {
        settings(folder.path(), |config| {
            config.interval.0 = Duration::from_secs(5)
        })
    };
    let mut keeper = Keeper::new(settings());
    keeper.event(
        1,
        &event_of(EventKind::AttackStart, "a", "203.0.113.1/32", 1),
    );
    keeper.batch(2, &batch(2, 3, 7));
    keeper.store.handle_timeout(at(8));
    keeper.batch(9, &batch(9, 3, 8));
    // As after kill -9: nothing is finished, a line is half written.
    drop(keeper);
    let part = evidence.join("a/flows-000002.parquet.part");
    assert!(part.is_file());
    assert_eq!(stored(&evidence), [(7, 1)]);
    let events = evidence.join("a/events.ndjson");
    let text = fs::read_to_string(&events).unwrap();
    fs::write(&events, format!("{text}{{\"event\":\"att")).unwrap();

    let mut keeper = Keeper::new(settings());
    assert_eq!(keeper.store.counters().leftover_files, 1);
    assert!(!part.exists());
    // The attack goes on under its name.
    keeper.event(
        20,
        &event_of(EventKind::AttackUpdate, "a", "203.0.113.1/32", 20),
    );
    keeper.batch(21, &batch(21, 3, 9));
    keeper.event(
        30,
        &event_of(EventKind::AttackEnd, "a", "203.0.113.1/32", 30),
    );
    assert_eq!(stored(&evidence), [(7, 1), (9, 1)]);
    let text = fs::read_to_string(&events).unwrap();
    assert_eq!(text.lines().count(), 3);
    for line in text.lines() {
        serde_json::from_str::<AttackEvent>(line).unwrap();
    }
}

#[test]
fn an_attack_that_ended_while_nobody_looked_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(settings(folder.path(), |_| {}));
    keeper.event(
        1,
        &event_of(EventKind::AttackStart, "a", "203.0.113.1/32", 1),
    );
    keeper.batch(2, &batch(2, 3, 7));
    keeper.store.finish_all(at(3));
    let mut store = EvidenceStore::open(settings(folder.path(), |_| {})).unwrap();
    store.keep_open(at(100), &BTreeSet::new());
    let found = bundle(&folder.path().join("evidence"), &AttackId("a".into()));
    assert_eq!(found.unwrap().unwrap().info.unwrap().ended, Some(at(100)));
}

#[test]
fn old_bundles_are_deleted_and_open_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let evidence = folder.path().join("evidence");
    let mut keeper = Keeper::new(settings(folder.path(), |config| {
        config.retain.0 = Duration::from_secs(3600);
    }));
    for name in ["a", "b"] {
        keeper.event(
            1,
            &event_of(EventKind::AttackStart, name, "203.0.113.1/32", 1),
        );
    }
    keeper.batch(2, &batch(2, 3, 7));
    keeper.event(3, &event_of(EventKind::AttackEnd, "a", "203.0.113.1/32", 3));
    keeper.store.handle_timeout(at(3602));
    assert!(evidence.join("a").is_dir());
    // A folder that is none of ours is left alone.
    fs::create_dir(evidence.join("other")).unwrap();
    keeper.store.handle_timeout(at(3603));
    assert!(!evidence.join("a").exists());
    assert!(evidence.join("b").is_dir() && evidence.join("other").is_dir());
    let counters = keeper.store.counters();
    assert_eq!((counters.expired_bundles, counters.bundles), (1, 1));
}

#[test]
fn the_oldest_ended_bundle_gives_way() {
    let folder = tempfile::tempdir().unwrap();
    let evidence = folder.path().join("evidence");
    let mut keeper = Keeper::new(settings(folder.path(), |config| {
        config.max_size = ByteSize(40_000);
    }));
    for (number, name) in ["a", "b", "c", "d", "e", "f", "g", "h"]
        .into_iter()
        .enumerate()
    {
        let second = number as i64 * 10;
        keeper.event(
            second,
            &event_of(EventKind::AttackStart, name, "203.0.113.1/32", second),
        );
        keeper.batch(second, &batch(second, 3, 7));
        keeper.event(
            second + 5,
            &event_of(EventKind::AttackEnd, name, "203.0.113.1/32", second),
        );
    }
    assert!(!evidence.join("a").exists() && evidence.join("h").is_dir());
    assert!(keeper.store.counters().octets <= 40_000);
    assert!(keeper.store.counters().expired_bundles >= 1);
}

#[test]
fn too_many_attacks_at_once_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(settings(folder.path(), |config| config.max_attacks = 2));
    for host in 0..5 {
        let target = format!("203.0.113.{host}/32");
        keeper.event(1, &event(EventKind::AttackStart, &target, 1));
        keeper.event(2, &event(EventKind::AttackUpdate, &target, 2));
    }
    keeper.batch(3, &batch(3, 5, 1));
    assert_eq!(keeper.selector.refused_attacks(), 3);
    keeper.store.finish_all(at(4));
    assert_eq!(keeper.store.counters().rows, 2);
}
