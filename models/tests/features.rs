//! The feature vector: the same for records and batches, honest about what is unknown, robust to sampling.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod traffic;

use traffic::{row, server};
use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, ReceivedAt, Row,
};
use weir_models::{FeatureVector, Limits, Thinner, Windows, schema};

const NANOS: i64 = 1_000_000_000;

fn feature(features: &FeatureVector, name: &str) -> f32 {
    let at = schema().iter().position(|one| one.name == name).unwrap();
    features[at]
}

fn describe(rows: &[Row]) -> Vec<(i64, FeatureVector)> {
    let mut windows = Windows::new(Limits::default());
    windows.watch(server(1));
    rows.iter().for_each(|row| windows.handle_row(row, true));
    windows.handle_end();
    std::iter::from_fn(|| windows.poll_window())
        .map(|window| (window.second, window.features))
        .collect()
}

fn flood(one_in: u64) -> Vec<Row> {
    let source = |number: u64| {
        Address::from_v4([198, (number >> 16) as u8, (number >> 8) as u8, number as u8])
    };
    let rows = (0..20_000_u64).map(|number| {
        let mut row = row(
            source(number * 7919),
            server(1),
            6,
            ((number * 31 % 60_000) as u16, 80),
            (number / 2000) as i64,
        );
        row.tcp_flags = 2;
        row
    });
    let mut thinner = Thinner::new(one_in as u32, 5);
    rows.filter_map(|row| thinner.thin(&row)).collect()
}

#[test]
fn a_syn_flood_looks_like_one() {
    let windows = describe(&flood(1));
    assert_eq!(windows.len(), 10);
    let features = &windows[9].1;
    assert!((feature(features, "10s.log_packets") - 2001_f32.log2()).abs() < 0.01);
    assert_eq!(feature(features, "10s.share.tcp-syn-flood"), 1.0);
    assert_eq!(feature(features, "10s.syn_only"), 1.0);
    assert_eq!(feature(features, "10s.single_packet"), 1.0);
    assert_eq!(feature(features, "10s.destination_port_top"), 1.0);
    assert!(feature(features, "10s.source_entropy") > 0.95);
    assert!(
        feature(features, "10s.packets_in_to_out").is_nan(),
        "nothing was seen to leave"
    );
    assert!(
        feature(features, "target.packets_over_level").is_nan(),
        "nothing is usual yet"
    );
}

#[test]
fn sampling_changes_kinds_and_rates_little() {
    let whole = describe(&flood(1));
    for one_in in [10, 100, 1000] {
        let sampled = describe(&flood(one_in));
        let (whole, sampled) = (&whole[9].1, &sampled.last().unwrap().1);
        for name in [
            "10s.log_packets",
            "10s.log_bits",
            "10s.share.tcp-syn-flood",
            "10s.syn_only",
            "10s.size_mean",
            "10s.source_entropy",
        ] {
            let (expected, seen) = (feature(whole, name), feature(sampled, name));
            assert!(
                (expected - seen).abs() < 0.6,
                "1 in {one_in}: {name} is {seen}, not {expected}"
            );
        }
        assert_eq!(
            feature(sampled, "target.log_sampling"),
            (one_in as f32).log2()
        );
    }
}

#[test]
fn a_long_record_is_spread_over_its_time() {
    let mut long = row(
        Address::from_v4([192, 0, 2, 1]),
        server(1),
        17,
        (1000, 2000),
        8,
    );
    long.packets = 800;
    long.octets = 80_000;
    long.flow_start = 0;
    let windows = describe(&[long]);
    let features = &windows[0].1;
    assert!(
        (feature(features, "10s.log_packets") - 81_f32.log2()).abs() < 0.05,
        "100 a second for 8 of 10 seconds"
    );
}

#[test]
fn answers_count_as_such() {
    let client = Address::from_v4([192, 0, 2, 1]);
    let mut rows = Vec::new();
    for second in 0..10 {
        rows.push(row(client, server(1), 6, (5000, 443), second));
        let mut answer = row(server(1), client, 6, (443, 5000), second);
        answer.packets = 3;
        rows.push(answer);
    }
    let features = describe(&rows)[9].1;
    assert!((feature(&features, "10s.packets_in_to_out") - (11.0_f32 / 31.0).log2()).abs() < 1e-3);
}

#[test]
fn batches_and_records_give_the_same() {
    let rows = flood(1);
    let skew = 10_800 * NANOS;
    let mut batch = FlowBatch::default();
    for (index, row) in rows.iter().enumerate() {
        // The exporter's clock is three hours off.
        batch.push(&Row {
            flow_start: row.flow_start + skew,
            flow_end: row.flow_end + skew,
            ..*row
        });
        batch.datagrams.push(DatagramInfo {
            rows: index as u32..index as u32 + 1,
            exporter: ExporterId(0),
            exporter_address: Address::from_v4([192, 0, 2, 250]),
            domain: ObservationDomainId(0),
            protocol: ExportProtocol::Ipfix,
            sequence: 0,
            received_at: ReceivedAt::from_nanos(row.flow_end),
            export_time: ExportTime::from_nanos(row.flow_end + skew),
            present: ColumnSet::TCP_FLAGS,
        });
    }
    let mut windows = Windows::new(Limits::default());
    windows.watch(server(1));
    windows.handle_batch(&batch);
    windows.handle_end();
    let from_batch: Vec<(i64, Vec<u32>)> = std::iter::from_fn(|| windows.poll_window())
        .map(|one| (one.second, one.features.map(f32::to_bits).to_vec()))
        .collect();
    let from_rows: Vec<(i64, Vec<u32>)> = describe(&rows)
        .into_iter()
        .map(|(second, features)| (second, features.map(f32::to_bits).to_vec()))
        .collect();
    assert_eq!(from_batch, from_rows);
}

#[test]
fn targets_are_bounded_and_refusals_counted() {
    let mut windows = Windows::new(Limits {
        max_targets: 2,
        every_target: true,
        ..Limits::default()
    });
    for number in 1..=5 {
        windows.handle_row(
            &row(
                Address::from_v4([192, 0, 2, 1]),
                server(number),
                17,
                (1, 2),
                0,
            ),
            true,
        );
    }
    assert_eq!(windows.counters().refused, 3);
    // The idle make room.
    windows.handle_row(
        &row(
            Address::from_v4([192, 0, 2, 1]),
            server(1),
            17,
            (1, 2),
            1000,
        ),
        true,
    );
    windows.handle_row(
        &row(
            Address::from_v4([192, 0, 2, 1]),
            server(9),
            17,
            (1, 2),
            1000,
        ),
        true,
    );
    assert!(windows.is_watched(server(9)));
}

#[test]
fn hostile_times_do_no_harm() {
    let mut windows = Windows::new(Limits {
        every_target: true,
        ..Limits::default()
    });
    for (start, end) in [
        (i64::MIN, i64::MAX),
        (i64::MAX, i64::MIN),
        (0, i64::MAX),
        (i64::MIN, 0),
        (5, 4),
    ] {
        let mut odd = row(Address::from_v4([192, 0, 2, 1]), server(1), 6, (1, 2), 0);
        (odd.flow_start, odd.flow_end) = (start, end);
        (odd.octets, odd.packets, odd.sampling_rate) = (u64::MAX, u64::MAX, u32::MAX);
        windows.handle_row(&odd, true);
        windows.handle_time(end);
    }
    windows.handle_end();
    while windows.poll_window().is_some() {}
}
