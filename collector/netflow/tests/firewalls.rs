//! Firewalls report a connection's beginning, its progress and its end: each octet and packet must count once.

mod common;

use common::{Bytes, NOW, decode, decoder, template, v9, v9_options};
use weir_flow_record::FlowBatch;
use weir_netflow::{DatagramOutcome, Decoder};

const CREATED: u8 = 1;
const DELETED: u8 = 2;
const DENIED: u8 = 3;
const UPDATED: u8 = 5;

/// ASA 9.x: template 263, "IPv44 flow teardown", less the names of ACLs and users.
const TEARDOWN: [(u16, u16); 19] = [
    (148, 4),
    (8, 4),
    (7, 2),
    (10, 2),
    (12, 4),
    (11, 2),
    (14, 2),
    (4, 1),
    (176, 1),
    (177, 1),
    (225, 4),
    (226, 4),
    (227, 2),
    (228, 2),
    (233, 1),
    (33_002, 2),
    (323, 8),
    (231, 4),
    (232, 4),
];
/// Template 256, "IPv44 flow creation": the same without counts. Denied flows look alike.
const CREATION: [(u16, u16); 10] = [
    (148, 4),
    (8, 4),
    (7, 2),
    (12, 4),
    (11, 2),
    (4, 1),
    (233, 1),
    (33_002, 2),
    (323, 8),
    (33_000, 12),
];

fn asa_template() -> Bytes {
    Bytes::default()
        .set(0, &template(263, &TEARDOWN))
        .set(0, &template(256, &CREATION))
}

fn counted(connection: u32, event: u8, initiator: u32, responder: u32) -> Bytes {
    let record = Bytes::default()
        .u32(connection)
        .raw(&[10, 0, 0, 1])
        .u16(40_000)
        .u16(3)
        .raw(&[203, 0, 113, 9])
        .u16(443)
        .u16(4)
        .raw(&[6, 0, 0])
        .raw(&[198, 51, 100, 1])
        .raw(&[203, 0, 113, 9])
        .u16(40_001)
        .u16(443)
        .u8(event)
        .u16(2_030)
        .u64(1_699_999_999_000)
        .u32(initiator)
        .u32(responder);
    Bytes::default().set(263, &record)
}

fn uncounted(connection: u32, event: u8) -> Bytes {
    let record = Bytes::default()
        .u32(connection)
        .raw(&[10, 0, 0, 1])
        .u16(40_000)
        .raw(&[203, 0, 113, 9])
        .u16(443)
        .u8(6)
        .u8(event)
        .u16(1_001)
        .u64(1_699_999_999_000)
        .raw(&[0; 12]);
    Bytes::default().set(256, &record)
}

fn send(decoder: &mut Decoder, sets: &Bytes) -> (DatagramOutcome, FlowBatch) {
    let (outcome, batch) = decode(decoder, 0, 1, &v9(1, 0, sets));
    assert_eq!(outcome.undecodable_sets, 0);
    assert_eq!(outcome.rows as usize, batch.len());
    (outcome, batch)
}

fn asa() -> Decoder {
    let mut decoder = decoder();
    send(&mut decoder, &asa_template());
    decoder
}

#[test]
fn asa_a_connection_without_updates_counts_at_its_end_in_both_directions() {
    let mut asa = asa();
    let (outcome, batch) = send(&mut asa, &uncounted(7, CREATED));
    // A record, but nothing passed yet and its end is to come.
    assert_eq!((outcome.records, batch.len()), (1, 0));
    let (outcome, batch) = send(&mut asa, &counted(7, DELETED, 1_000, 9_000));
    assert_eq!(outcome.records, 1);
    assert_eq!(batch.octets, [1_000, 9_000]);
    let (forward, back) = (batch.row(0), batch.row(1));
    assert_eq!(forward.source_address.to_string(), "10.0.0.1");
    assert_eq!(back.source_address.to_string(), "203.0.113.9");
    assert_eq!((back.source_port, back.destination_port), (443, 40_000));
    assert_eq!((back.input_interface, back.output_interface), (4, 3));
    assert_eq!(forward.flow_end, NOW - 1_000_000_000);
}

#[test]
fn asa_updates_and_the_end_do_not_count_twice() {
    let mut asa = asa();
    let events = [
        counted(7, UPDATED, 100, 1_000),
        counted(8, UPDATED, 50, 60),
        counted(7, UPDATED, 200, 2_000),
        counted(7, DELETED, 350, 3_000),
        // The last update comes behind the end that includes it.
        counted(7, UPDATED, 50, 0),
        counted(8, DELETED, 50, 60),
    ];
    let mut octets = Vec::new();
    for event in &events {
        octets.push(send(&mut asa, event).1.octets);
    }
    let expected: [&[u64]; 6] = [&[100, 1_000], &[50, 60], &[200, 2_000], &[50], &[], &[0]];
    assert_eq!(octets, expected);
}

#[test]
fn asa_a_connection_id_used_again_starts_at_nothing() {
    let mut asa = asa();
    send(&mut asa, &counted(7, UPDATED, 100, 100));
    send(&mut asa, &uncounted(7, CREATED));
    let (_, batch) = send(&mut asa, &counted(7, DELETED, 120, 30));
    assert_eq!(batch.octets, [120, 30]);
}

#[test]
fn asa_denied_flows_are_rows_without_weight() {
    let mut asa = asa();
    let (_, batch) = send(&mut asa, &uncounted(0, DENIED));
    assert_eq!((batch.len(), batch.octets[0]), (1, 0));
    let (_, batch) = send(&mut asa, &counted(0, DENIED, 60, 60));
    assert_eq!(batch.octets, [0]);
}

#[test]
fn asa_8_has_totals_and_an_event_number_of_its_own() {
    let fields = [(148, 4), (8, 4), (12, 4), (40_005, 1), (85, 4)];
    let event = |event: u8, total: u32| {
        let record = Bytes::default()
            .u32(3)
            .raw(&[10, 0, 0, 1, 10, 0, 0, 2])
            .u8(event)
            .u32(total);
        Bytes::default().set(256, &record)
    };
    let mut decoder = decoder();
    send(
        &mut decoder,
        &Bytes::default().set(0, &template(256, &fields)),
    );
    let octets: Vec<u64> = [(CREATED, 0), (UPDATED, 500), (UPDATED, 700), (DELETED, 800)]
        .iter()
        .flat_map(|&(kind, total)| send(&mut decoder, &event(kind, total)).1.octets)
        .collect();
    assert_eq!(octets, [500, 200, 100]);
}

#[test]
fn a_flood_of_connections_is_bounded_and_counts_at_their_ends() {
    let limits = weir_netflow::Limits {
        max_connections: 10,
        ..weir_netflow::Limits::default()
    };
    let columns = weir_flow_record::ColumnSet::ALL;
    let mut decoder = Decoder::new(limits.check().unwrap(), columns);
    send(&mut decoder, &asa_template());
    let mut sum = 0;
    for connection in 0..100 {
        let (_, batch) = send(&mut decoder, &counted(connection, UPDATED, 10, 0));
        sum += batch.octets.iter().sum::<u64>();
    }
    assert_eq!(decoder.counters().refused_connections, 90);
    for connection in 0..100 {
        let (_, batch) = send(&mut decoder, &counted(connection, DELETED, 30, 0));
        sum += batch.octets.iter().sum::<u64>();
    }
    assert_eq!(sum, 100 * 30);
}

#[test]
fn palo_alto_events_carry_deltas_beside_their_own_elements() {
    // PAN-OS, template 257 "IPv4 enterprise": v9 with numbers of its own for App-ID and User-ID, and its enterprise number
    // as IE 346.
    let fields = [
        (8, 4),
        (12, 4),
        (1, 8),
        (2, 8),
        (4, 1),
        (7, 2),
        (11, 2),
        (6, 1),
        (22, 4),
        (21, 4),
        (32, 2),
        (61, 1),
        (148, 4),
        (233, 1),
        (346, 4),
        (56_701, 32),
        (56_702, 64),
    ];
    let event = |kind: u8, octets: u64| {
        let record = Bytes::default()
            .raw(&[10, 0, 0, 1, 203, 0, 113, 9])
            .u64(octets)
            .u64(octets / 100)
            .u8(6)
            .u16(40_000)
            .u16(443)
            .u8(0x1b)
            .u32(90_000)
            .u32(99_000)
            .u16(0)
            .u8(0)
            .u32(7)
            .u8(kind)
            .u32(25_461)
            .raw(&[b'a'; 96]);
        Bytes::default().set(257, &record)
    };
    let options = v9_options(300, &[(1, 4)], &[(34, 4), (35, 1)]);
    let sets = Bytes::default()
        .set(0, &template(257, &fields))
        .set(1, &options)
        .set(300, &Bytes::default().u32(1).u32(10).u8(2));
    let mut decoder = decoder();
    send(&mut decoder, &sets);
    let octets: Vec<u64> = [(CREATED, 100), (UPDATED, 400), (DELETED, 500), (DENIED, 60)]
        .iter()
        .flat_map(|&(kind, octets)| {
            let (outcome, batch) = send(&mut decoder, &event(kind, octets));
            // What it exported, whatever that weighs.
            assert_eq!(outcome.delta_octets, octets);
            assert_eq!(batch.sampling_rate, [10]);
            batch.octets
        })
        .collect();
    assert_eq!(octets, [100, 400, 500, 0]);
    let (_, batch) = send(&mut decoder, &event(CREATED, 0));
    assert!(batch.is_empty());
}

#[test]
fn fortinet_options_that_do_not_fit_their_template_state_no_rate() {
    // FortiOS: scope System, totals, timeouts, then interval and algorithm; the values stand beside their fields.
    let options = [
        (40, 8),
        (41, 8),
        (42, 8),
        (36, 2),
        (37, 2),
        (34, 4),
        (35, 1),
    ];
    let said = |interval: u32, algorithm: u8| {
        let record = Bytes::default()
            .u16(1)
            .u64(1)
            .u64(2)
            .u64(3)
            .u16(60)
            .u16(15)
            .u32(interval)
            .u8(algorithm);
        Bytes::default().set(256, &record)
    };
    let flows = [(8, 4), (12, 4), (1, 4), (2, 4), (136, 1), (233, 1)];
    let data = Bytes::default()
        .raw(&[10, 0, 0, 1, 10, 0, 0, 2])
        .u32(100)
        .u32(1)
        .u8(3)
        .u8(DELETED);
    let data = Bytes::default().set(258, &data);
    let sets = Bytes::default()
        .set(1, &v9_options(256, &[(1, 2)], &options))
        .set(0, &template(258, &flows));
    let mut decoder = decoder();
    send(&mut decoder, &sets);
    send(&mut decoder, &said(1_713, 31));
    assert_eq!(send(&mut decoder, &data).1.sampling_rate, [0]);
    send(&mut decoder, &said(100, 2));
    let (_, batch) = send(&mut decoder, &data);
    assert_eq!((batch.sampling_rate[0], batch.octets[0]), (100, 100));
}
