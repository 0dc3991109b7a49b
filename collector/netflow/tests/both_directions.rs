//! RFC 5103: a record of both directions is one record and two rows.

mod common;

use common::{Bytes, NOW, decode, decoder, ipfix, template_of};
use weir_flow_record::{ColumnSet, FlowBatch};
use weir_netflow::DatagramOutcome;

const SECOND: i64 = 1_000_000_000;

fn one_template(fields: &[(u32, u16, u16)], records: &[Bytes]) -> (DatagramOutcome, FlowBatch) {
    let all = records
        .iter()
        .fold(Bytes::default(), |all, record| all.raw(&record.0));
    let sets = Bytes::default()
        .set(2, &template_of(256, fields))
        .set(256, &all);
    let (outcome, batch) = decode(&mut decoder(), 0, 1, &ipfix(1, 0, &sets));
    assert_eq!(outcome.undecodable_sets, 0);
    (outcome, batch)
}

const FIELDS: [(u32, u16, u16); 18] = [
    (0, 8, 4),
    (0, 12, 4),
    (0, 7, 2),
    (0, 11, 2),
    (0, 4, 1),
    (0, 6, 2),
    (29_305, 6, 2),
    (0, 1, 8),
    (29_305, 1, 4),
    (0, 2, 4),
    (29_305, 2, 4),
    (0, 152, 8),
    (0, 153, 8),
    (29_305, 152, 8),
    (29_305, 153, 8),
    (0, 10, 4),
    (0, 14, 4),
    (0, 5, 1),
];

fn record(answer: u32) -> Bytes {
    Bytes::default()
        .raw(&[192, 0, 2, 1, 198, 51, 100, 2])
        .u16(50_000)
        .u16(80)
        .u8(6)
        .u16(0x02)
        .u16(0x12)
        .u64(1_000)
        .u32(answer * 100)
        .u32(10)
        .u32(answer)
        .u64(1_699_999_990_000)
        .u64(1_699_999_998_000)
        .u64(1_699_999_991_000)
        .u64(1_699_999_999_000)
        .u32(5)
        .u32(6)
        .u8(0x2e)
}

#[test]
fn the_second_row_has_ends_exchanged_and_counts_flags_and_times_of_its_own() {
    let (outcome, batch) = one_template(&FIELDS, &[record(4)]);
    assert_eq!((outcome.records, outcome.rows, batch.len()), (1, 2, 2));
    let (forward, back) = (batch.row(0), batch.row(1));
    assert_eq!((forward.octets, forward.packets), (1_000, 10));
    assert_eq!((back.octets, back.packets), (400, 4));
    assert_eq!(back.source_address, forward.destination_address);
    assert_eq!(back.destination_address, forward.source_address);
    assert_eq!((back.source_port, back.destination_port), (80, 50_000));
    assert_eq!((back.input_interface, back.output_interface), (6, 5));
    assert_eq!((forward.tcp_flags, back.tcp_flags), (0x02, 0x12));
    assert_eq!(back.flow_start, NOW - 9 * SECOND);
    assert_eq!(back.flow_end, NOW - SECOND);
    assert_eq!(back.protocol, 6);
    assert_eq!(back.direction, 255);
    // What was said of the way there says nothing of the way back.
    assert_eq!(batch.extra.tos, [0x2e, 0]);
    // Sums are of IE 1 and 2 as exported.
    assert_eq!((outcome.delta_octets, outcome.delta_packets), (1_000, 10));
}

#[test]
fn what_nobody_answered_has_no_second_row() {
    let (outcome, batch) = one_template(&FIELDS, &[record(0), record(3), record(0)]);
    assert_eq!((outcome.records, outcome.rows), (3, 4));
    assert_eq!(batch.octets, [1_000, 1_000, 1_000, 300]);
    // The answers carry fewer columns than the flows, which are described apart.
    let [forward, back] = &batch.datagrams[..] else {
        panic!("{:?}", batch.datagrams);
    };
    assert_eq!((forward.rows.clone(), back.rows.clone()), (0..3, 3..4));
    assert!(forward.present.has(ColumnSet::TOS) && !back.present.has(ColumnSet::TOS));
    let (outcome, _) = one_template(&FIELDS, &[record(0)]);
    assert_eq!(outcome.rows, 1);
}

#[test]
fn records_of_variable_length_have_two_directions_too() {
    let fields = [(0, 82, 65_535), (0, 1, 8), (29_305, 1, 65_535), (0, 8, 4)];
    let record = |name: &[u8], back: u16| {
        Bytes::default()
            .u8(name.len() as u8)
            .raw(name)
            .u64(10)
            .u8(2)
            .u16(back)
            .raw(&[192, 0, 2, 1])
    };
    let (outcome, batch) = one_template(&fields, &[record(b"eth0", 300), record(b"", 0)]);
    assert_eq!((outcome.records, outcome.rows), (2, 3));
    assert_eq!(batch.octets, [10, 10, 300]);
    assert_eq!(batch.destination_address[2].to_string(), "192.0.2.1");
}

#[test]
fn without_times_of_its_own_the_answer_has_those_of_the_flow() {
    let fields = [(0, 1, 4), (29_305, 1, 4), (0, 150, 4), (0, 151, 4)];
    let record = Bytes::default()
        .u32(1)
        .u32(2)
        .u32(1_699_999_995)
        .u32(1_699_999_999);
    let (_, batch) = one_template(&fields, &[record]);
    assert_eq!(batch.flow_start, [NOW - 5 * SECOND; 2]);
    assert_eq!(batch.flow_end, [NOW - SECOND; 2]);
}

#[test]
fn responder_counts_are_the_other_direction() {
    let fields = [(0, 231, 8), (0, 232, 8), (0, 298, 8), (0, 299, 8)];
    let record = Bytes::default().u64(10).u64(20).u64(1).u64(2);
    let (outcome, batch) = one_template(&fields, &[record]);
    assert_eq!(batch.octets, [10, 20]);
    assert_eq!(batch.packets, [1, 2]);
    assert_eq!(outcome.delta_octets, 0);
}

#[test]
fn sequences_count_records_and_not_rows() {
    let sets = Bytes::default()
        .set(2, &template_of(256, &[(0, 1, 4), (29_305, 1, 4)]))
        .set(256, &Bytes::default().u32(1).u32(2).u32(3).u32(4));
    let mut decoder = decoder();
    for sequence in [0, 2, 4] {
        let (outcome, batch) = decode(&mut decoder, 0, 1, &ipfix(1, sequence, &sets));
        assert!(!outcome.sequence_gap && !outcome.reordered);
        assert_eq!((outcome.records, batch.len()), (2, 4));
    }
    let view = decoder.exporters().next().unwrap();
    assert_eq!((view.records, view.missing_records), (6, 0));
}
