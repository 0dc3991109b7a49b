//! The window stays within its bound, and says when an answer lacks what gave way.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use weir_attack_event::{AttackId, DrillDown};
use weir_flow_record::{
    Address, ByteSize, ColumnSet, DatagramInfo, Direction, EventTime, ExportProtocol, ExportTime,
    ExporterId, FlowBatch, ObservationDomainId, ReceivedAt, Row, TargetKey, ZoneId,
};
use weir_flow_store::RecentWindow;

const SECOND: i64 = 1_000_000_000;

fn target() -> Address {
    Address::from_octets([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
}

/// A batch of `rows` at second `second`.
fn batch(second: i64, rows: u32) -> FlowBatch {
    let mut batch = FlowBatch::default();
    let at = second * SECOND;
    for _ in 0..rows {
        batch.push(&Row {
            destination_address: target(),
            packets: 1,
            octets: 100,
            flow_start: at,
            flow_end: at,
            sampling_rate: 1,
            ..Row::default()
        });
    }
    batch.datagrams.push(DatagramInfo {
        rows: 0..rows,
        exporter: ExporterId(0),
        exporter_address: Address::UNSPECIFIED,
        domain: ObservationDomainId(0),
        protocol: ExportProtocol::NetflowV9,
        sequence: 0,
        received_at: ReceivedAt::from_nanos(at),
        export_time: ExportTime::from_nanos(at),
        present: ColumnSet::FLOW_TIMES,
    });
    batch
}

fn ask(window: &RecentWindow, from: i64, to: i64) -> (u64, bool) {
    let found = window.drill_down(&DrillDown {
        attack: AttackId("a".into()),
        target: TargetKey {
            prefix: target().host(),
            direction: Direction::In,
            zone: ZoneId(0),
        },
        other_prefixes: Vec::new(),
        from: EventTime::from_nanos(from * SECOND),
        to: EventTime::from_nanos(to * SECOND),
        top: 10,
    });
    (found.rows, found.complete)
}

#[test]
fn the_oldest_rows_give_way() {
    let limit = 2 << 20;
    let mut window = RecentWindow::new(ByteSize(limit));
    for second in 0..100 {
        window.handle_batch(&batch(second, 1000));
        assert!(window.octets() <= limit, "{}", window.octets());
    }
    assert!(window.octets() > limit / 2);
    assert_eq!(window.rows() + window.dropped_rows(), 100_000);
    assert!(window.rows() > 20_000, "{}", window.rows());
    assert_eq!(ask(&window, 90, 100), (10_000, true));
    let (rows, complete) = ask(&window, 0, 100);
    assert_eq!((rows, complete), (window.rows(), false));
    assert_eq!(ask(&window, 0, 10), (0, false));
}

#[test]
fn a_tiny_window_works() {
    let mut window = RecentWindow::new(ByteSize(0));
    window.handle_batch(&batch(1, 20));
    assert_eq!((window.rows(), window.dropped_rows()), (8, 12));
}

#[test]
fn rows_of_no_datagram_and_rows_that_are_not_there_are_left_out() {
    let mut odd = batch(1, 10);
    odd.datagrams[0].rows = 5..50;
    let mut window = RecentWindow::new(ByteSize(1 << 20));
    window.handle_batch(&odd);
    assert_eq!(ask(&window, 1, 2), (5, true));
}

#[test]
fn a_drill_down_looks_at_a_million_rows_at_most() {
    let mut window = RecentWindow::new(ByteSize(128 << 20));
    for second in 0..11 {
        window.handle_batch(&batch(second, 100_000));
    }
    assert_eq!(window.dropped_rows(), 0);
    assert_eq!(ask(&window, 0, 11), (1_000_000, false));
    assert_eq!(ask(&window, 2, 11), (900_000, true));
}
