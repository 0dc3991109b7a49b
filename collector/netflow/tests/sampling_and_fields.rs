//! Sampling rates, times, fragments and optional columns.

mod common;

use common::{Bytes, NOW, decode, decoder, ipfix, template, v9};
use weir_flow_record::{ColumnSet, FragmentKind};

const SECOND: i64 = 1_000_000_000;

fn one(sets: &Bytes) -> weir_flow_record::FlowBatch {
    let (outcome, batch) = decode(&mut decoder(), 0, 1, &ipfix(1, 0, sets));
    assert_eq!(outcome.undecodable_sets, 0);
    assert_eq!(outcome.records, 1);
    batch
}

/// A template of `fields`, and one record of it.
fn record(fields: &[(u16, u16)], content: Bytes) -> Bytes {
    Bytes::default()
        .set(2, &template(256, fields))
        .set(256, &content)
}

/// RFC 5476: sampler `id` takes `interval` packets, then leaves `space`.
fn sampler(id: u64, interval: u32, space: u32) -> Bytes {
    let options = Bytes::default().u16s(&[999, 3, 1, 302, 8, 305, 4, 306, 4]);
    let said = Bytes::default().u64(id).u32(interval).u32(space);
    Bytes::default().set(3, &options).set(999, &said)
}

#[test]
fn a_domain_with_one_rate_needs_no_sampler_in_records() {
    let data = record(&[(1, 4)], Bytes::default().u32(1));
    let mut decoder = decoder();
    let (outcome, _) = decode(&mut decoder, 0, 1, &ipfix(1, 0, &sampler(1, 2, 998)));
    assert_eq!((outcome.options_records, outcome.options_templates), (1, 1));
    let (_, batch) = decode(&mut decoder, 0, 1, &ipfix(1, 1, &data));
    assert_eq!(batch.sampling_rate, [500]);
    // Another domain's rate is nobody else's.
    let (_, batch) = decode(&mut decoder, 0, 1, &ipfix(2, 1, &data));
    assert_eq!(batch.sampling_rate, [0]);
    assert_eq!(decoder.counters().unknown_rate_records, 1);
}

#[test]
fn several_rates_are_none_unless_a_record_names_its_sampler() {
    let mut decoder = decoder();
    decode(&mut decoder, 0, 1, &ipfix(1, 0, &sampler(1, 1, 99)));
    decode(&mut decoder, 0, 1, &ipfix(1, 1, &sampler(2, 1, 199)));
    let unnamed = record(&[(1, 4)], Bytes::default().u32(1));
    let (_, batch) = decode(&mut decoder, 0, 1, &ipfix(1, 2, &unnamed));
    assert_eq!(batch.sampling_rate, [0]);
    assert_eq!(decoder.counters().ambiguous_rate_records, 1);
    let named = record(
        &[(1, 4), (302, 1)],
        Bytes::default().u32(1).u8(2).u32(1).u8(1).u32(1).u8(9),
    );
    let (_, batch) = decode(&mut decoder, 0, 1, &ipfix(1, 3, &named));
    assert_eq!(batch.sampling_rate, [200, 100, 0]);
    assert_eq!(decoder.counters().ambiguous_rate_records, 1);
    let view = decoder.exporters().next().unwrap();
    assert_eq!(view.sampling_rates.len(), 2);
    assert_eq!(view.unknown_rate_records, 2);
}

#[test]
fn a_rate_in_the_record_wins() {
    let mut decoder = decoder();
    decode(&mut decoder, 0, 1, &ipfix(1, 0, &sampler(1, 1, 99)));
    let data = record(
        &[(1, 4), (34, 4)],
        Bytes::default().u32(1).u32(10).u32(1).u32(0),
    );
    let (_, batch) = decode(&mut decoder, 0, 1, &ipfix(1, 1, &data));
    assert_eq!(batch.sampling_rate, [10, 100]);
    let pair = record(&[(309, 4), (310, 4)], Bytes::default().u32(3).u32(30));
    let (_, batch) = decode(&mut decoder, 0, 1, &ipfix(1, 3, &pair));
    assert_eq!(batch.sampling_rate, [10]);
}

#[test]
fn v9_samplers_are_ciscos() {
    let options = Bytes::default().u16s(&[257, 4, 12, 1, 4, 48, 1, 49, 1, 50, 2]);
    let said = Bytes::default().u32(0).u8(3).u8(2).u16(1_000);
    let sets = Bytes::default()
        .set(1, &options)
        .set(257, &said)
        .set(0, &template(256, &[(1, 4), (48, 1)]))
        .set(256, &Bytes::default().u32(1).u8(3));
    let (outcome, batch) = decode(&mut decoder(), 0, 1, &v9(1, 0, &sets));
    assert_eq!(outcome.options_records, 1);
    assert_eq!(batch.sampling_rate, [1_000]);
}

#[test]
fn every_way_to_state_a_time_is_understood() {
    let ntp = |seconds: u64| (1_700_000_000 - 5 + seconds + 2_208_988_800) << 32 | 1 << 31;
    let half = SECOND / 2;
    let cases: [(u16, u16, Bytes, i64, i64); 5] = [
        (
            150,
            4,
            Bytes::default().u32(1_699_999_995).u32(1_699_999_999),
            -5 * SECOND,
            -SECOND,
        ),
        (
            152,
            8,
            Bytes::default()
                .u64(1_699_999_995_500)
                .u64(1_699_999_999_500),
            -4 * SECOND - half,
            -half,
        ),
        (
            154,
            8,
            Bytes::default().u64(ntp(0)).u64(ntp(4)),
            -4 * SECOND - half,
            -half,
        ),
        (
            156,
            8,
            Bytes::default().u64(ntp(0)).u64(ntp(4)),
            -4 * SECOND - half,
            -half,
        ),
        (
            158,
            4,
            Bytes::default().u32(2_000_000).u32(500_000),
            -2 * SECOND,
            -half,
        ),
    ];
    for (start, length, content, from, to) in cases {
        let batch = one(&record(&[(start, length), (start + 1, length)], content));
        assert_eq!(batch.flow_start, [NOW + from], "IE {start}");
        assert_eq!(batch.flow_end, [NOW + to], "IE {start}");
        assert!(batch.datagrams[0].present.has(ColumnSet::FLOW_TIMES));
    }
}

#[test]
fn uptimes_count_from_the_header_even_when_they_wrapped() {
    let sets = Bytes::default()
        .set(0, &template(256, &[(22, 4), (21, 4)]))
        .set(
            256,
            &Bytes::default().u32(0u32.wrapping_sub(1_000)).u32(99_000),
        );
    let (_, batch) = decode(&mut decoder(), 0, 1, &v9(1, 0, &sets));
    assert_eq!(batch.flow_start, [NOW - 101 * SECOND]);
    assert_eq!(batch.flow_end, [NOW - SECOND]);
}

#[test]
fn ipfix_uptimes_need_the_start_of_the_exporter() {
    let fields = [(22, 4), (21, 4)];
    let times = Bytes::default().u32(1_000).u32(4_000);
    // Unknown: the duration is all there is.
    let batch = one(&record(&fields, times.clone()));
    assert_eq!(
        (batch.flow_start[0], batch.flow_end[0]),
        (NOW - 3 * SECOND, NOW)
    );
    // In the record.
    let init = 1_700_000_000_000 - 10_000;
    let with_init = [(22, 4), (21, 4), (160, 8)];
    let batch = one(&record(&with_init, times.clone().u64(init)));
    assert_eq!(
        (batch.flow_start[0], batch.flow_end[0]),
        (NOW - 9 * SECOND, NOW - 6 * SECOND)
    );
    // In options data.
    let sets = Bytes::default()
        .set(3, &Bytes::default().u16s(&[999, 2, 1, 149, 4, 160, 8]))
        .set(999, &Bytes::default().u32(1).u64(init))
        .raw(&record(&fields, times).0);
    let batch = one(&sets);
    assert_eq!(
        (batch.flow_start[0], batch.flow_end[0]),
        (NOW - 9 * SECOND, NOW - 6 * SECOND)
    );
}

#[test]
fn missing_times_follow_from_others() {
    let end = 1_699_999_990_000u64;
    let at = NOW - 10 * SECOND;
    let only_end = one(&record(&[(153, 8)], Bytes::default().u64(end)));
    assert_eq!((only_end.flow_start[0], only_end.flow_end[0]), (at, at));
    let duration = one(&record(
        &[(153, 8), (161, 4)],
        Bytes::default().u64(end).u32(2_000),
    ));
    assert_eq!(duration.flow_start, [at - 2 * SECOND]);
    let only_start = one(&record(&[(152, 8)], Bytes::default().u64(end)));
    assert_eq!(
        (only_start.flow_start[0], only_start.flow_end[0]),
        (at, NOW)
    );
    let none = one(&record(&[(1, 4)], Bytes::default().u32(0)));
    assert_eq!((none.flow_start[0], none.flow_end[0]), (NOW, NOW));
    assert!(!none.datagrams[0].present.has(ColumnSet::FLOW_TIMES));
    let zero = one(&record(
        &[(152, 8), (153, 8)],
        Bytes::default().u64(0).u64(0),
    ));
    assert_eq!(zero.flow_end, [NOW]);
}

#[test]
fn fragments_are_told_apart() {
    let kind = |fields: &[(u16, u16)], content| one(&record(fields, content)).fragment_kind(0);
    let bytes = Bytes::default;
    assert_eq!(kind(&[(88, 2)], bytes().u16(0x4000)), FragmentKind::None);
    assert_eq!(kind(&[(88, 2)], bytes().u16(185)), FragmentKind::NotFirst);
    assert_eq!(
        kind(&[(88, 2), (197, 1)], bytes().u16(0).u8(0x20)),
        FragmentKind::First
    );
    assert_eq!(
        kind(&[(88, 2), (197, 1)], bytes().u16(0).u8(0x40)),
        FragmentKind::None
    );
    assert_eq!(
        kind(&[(7, 2), (197, 1)], bytes().u16(53).u8(0x20)),
        FragmentKind::First
    );
    assert_eq!(
        kind(&[(7, 2), (197, 1)], bytes().u16(0).u8(0x20)),
        FragmentKind::NotFirst
    );
}

#[test]
fn totals_stand_in_for_deltas_and_are_no_deltas() {
    let sets = record(&[(85, 8), (86, 8)], Bytes::default().u64(700).u64(7));
    let (outcome, batch) = decode(&mut decoder(), 0, 1, &ipfix(1, 0, &sets));
    assert_eq!((batch.octets[0], batch.packets[0]), (700, 7));
    assert_eq!((outcome.delta_octets, outcome.delta_packets), (0, 0));
    let initiator = one(&record(
        &[(231, 4), (298, 4)],
        Bytes::default().u32(9).u32(1),
    ));
    assert_eq!((initiator.octets[0], initiator.packets[0]), (9, 1));
}

#[test]
fn integers_come_in_any_width() {
    let sets = record(
        &[
            (1, 3),
            (2, 5),
            (10, 2),
            (14, 3),
            (7, 4),
            (6, 1),
            (61, 1),
            (89, 4),
        ],
        Bytes::default()
            .raw(&[1, 0, 0])
            .raw(&[0, 0, 0, 1, 1])
            .u16(9)
            .raw(&[0, 1, 0])
            .u32(70_000)
            .u8(0x12)
            .u8(1)
            .u32(64),
    );
    let row = one(&sets).row(0);
    assert_eq!((row.octets, row.packets), (65_536, 257));
    assert_eq!((row.input_interface, row.output_interface), (9, 256));
    // What does not fit is the largest value, not the low bits.
    assert_eq!(row.source_port, u16::MAX);
    assert_eq!(
        (row.tcp_flags, row.direction, row.forwarding_status),
        (0x12, 1, 64)
    );
}

#[test]
fn optional_columns_are_filled_where_projected() {
    let sets = record(
        &[
            (5, 1),
            (192, 1),
            (32, 2),
            (58, 2),
            (16, 4),
            (17, 2),
            (15, 4),
            (9, 1),
            (13, 1),
            (56, 6),
            (80, 6),
            (31, 3),
        ],
        Bytes::default()
            .u8(0x2e)
            .u8(63)
            .u16(0x0301)
            .u16(100)
            .u32(64_496)
            .u16(64_497)
            .raw(&[192, 0, 2, 254])
            .u8(24)
            .u8(16)
            .raw(&[1, 2, 3, 4, 5, 6])
            .raw(&[6, 5, 4, 3, 2, 1])
            .raw(&[1, 0, 1]),
    );
    let extra = one(&sets).extra;
    assert_eq!((extra.tos[0], extra.ttl[0]), (0x2e, 63));
    assert_eq!((extra.icmp_type[0], extra.icmp_code[0]), (3, 1));
    assert_eq!(
        (
            extra.vlan_id[0],
            extra.source_as[0],
            extra.destination_as[0]
        ),
        (100, 64_496, 64_497)
    );
    assert_eq!(extra.next_hop[0].to_string(), "192.0.2.254");
    assert_eq!(
        (
            extra.source_prefix_length[0],
            extra.destination_prefix_length[0]
        ),
        (24, 16)
    );
    assert_eq!(extra.source_mac[0], [1, 2, 3, 4, 5, 6]);
    assert_eq!(extra.destination_mac[0], [6, 5, 4, 3, 2, 1]);
    assert_eq!(extra.flow_label[0], 65_537);
}

#[test]
fn a_template_may_carry_both_families() {
    let v6 = [0x20; 16];
    let sets = record(
        &[(8, 4), (27, 16), (12, 4), (28, 16)],
        Bytes::default()
            .u32(0)
            .raw(&v6)
            .raw(&[192, 0, 2, 1])
            .raw(&[0; 16]),
    );
    let row = one(&sets).row(0);
    assert_eq!(row.source_address.octets(), v6);
    assert_eq!(row.destination_address.to_string(), "192.0.2.1");
}
