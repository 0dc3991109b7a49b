//! What vendors' exporters send, layout by layout, and what it must mean.

mod common;

use common::{
    Bytes, NOW, decode, decoder, ipfix, options_template_of, template, template_of, v9, v9_options,
};
use weir_flow_record::FlowBatch;
use weir_netflow::{DatagramOutcome, Decoder};

const SECOND: i64 = 1_000_000_000;

fn v9_from(decoder: &mut Decoder, domain: u32, sets: &Bytes) -> (DatagramOutcome, FlowBatch) {
    let (outcome, batch) = decode(decoder, 0, 1, &v9(domain, 0, sets));
    assert_eq!((outcome.undecodable_sets, outcome.held_back_sets), (0, 0));
    (outcome, batch)
}

fn ipfix_from(decoder: &mut Decoder, domain: u32, sets: &Bytes) -> (DatagramOutcome, FlowBatch) {
    let (outcome, batch) = decode(decoder, 0, 1, &ipfix(domain, 0, sets));
    assert_eq!((outcome.undecodable_sets, outcome.held_back_sets), (0, 0));
    (outcome, batch)
}

#[test]
fn nx_os_has_uptimes_of_eight_octets() {
    // nfdump issue 80: Nexus 7700, NX-OS 8.1. The four octets that matter stand at one end or the other.
    let sets = Bytes::default()
        .set(0, &template(256, &[(1, 8), (2, 8), (22, 8), (21, 8)]))
        .set(
            256,
            &Bytes::default()
                .u64(1_500)
                .u64(1)
                .u64(95_000)
                .u64(99_000)
                .u64(1_500)
                .u64(1)
                .u64(95_000 << 32)
                .u64(99_000 << 32)
                .u64(1_500)
                .u64(1)
                .u64(1_699_999_995_000)
                .u64(1_699_999_999_000),
        );
    let (_, batch) = v9_from(&mut decoder(), 0, &sets);
    assert_eq!(batch.flow_start, [NOW - 5 * SECOND; 3]);
    assert_eq!(batch.flow_end, [NOW - SECOND; 3]);
}

#[test]
fn ios_xr_names_samplers_in_records_and_their_intervals_in_options() {
    // "options sampler-table": scope System, sampler id, mode, random interval, name.
    let options = v9_options(257, &[(1, 4)], &[(48, 2), (49, 1), (50, 4), (84, 32)]);
    let sampler = |id: u16, interval: u32| {
        Bytes::default()
            .u32(2)
            .u16(id)
            .u8(2)
            .u32(interval)
            .raw(&[b's'; 32])
    };
    let table = sampler(1, 1_000).raw(&sampler(2, 8_192).0);
    let data = |id: u16| Bytes::default().u32(100).u32(1).u16(id);
    let records = data(1).raw(&data(2).0).raw(&data(1).0).raw(&data(9).0);
    let mut decoder = decoder();
    let sets = Bytes::default()
        .set(1, &options)
        .set(257, &table)
        .set(0, &template(260, &[(1, 4), (2, 4), (48, 2)]));
    v9_from(&mut decoder, 5, &sets);
    let (_, batch) = v9_from(&mut decoder, 5, &Bytes::default().set(260, &records));
    assert_eq!(batch.sampling_rate, [1_000, 8_192, 1_000, 0]);
    assert_eq!(decoder.counters().unknown_rate_records, 1);
}

#[test]
fn ios_xe_tells_samplers_in_a_domain_without_flows() {
    let options = v9_options(257, &[(1, 4)], &[(48, 4), (49, 1), (50, 4)]);
    let sampler = |id: u32, interval: u32| Bytes::default().u32(6).u32(id).u8(2).u32(interval);
    let told = |rate| {
        let table = sampler(1, rate);
        Bytes::default().set(1, &options).set(257, &table)
    };
    let flows = Bytes::default()
        .set(0, &template(260, &[(1, 4), (48, 1)]))
        .set(260, &Bytes::default().u32(100).u8(1));
    let mut decoder = decoder();
    v9_from(&mut decoder, 6, &told(1_000));
    assert_eq!(v9_from(&mut decoder, 256, &flows).1.sampling_rate, [1_000]);
    // Another such domain contradicts it; then nothing is known.
    v9_from(&mut decoder, 7, &told(100));
    assert_eq!(v9_from(&mut decoder, 256, &flows).1.sampling_rate, [0]);
    // A domain with flows of its own speaks for itself alone.
    v9_from(&mut decoder, 7, &flows);
    assert_eq!(v9_from(&mut decoder, 256, &flows).1.sampling_rate, [1_000]);
    // And what a domain says of itself wins.
    v9_from(&mut decoder, 256, &told(64));
    assert_eq!(v9_from(&mut decoder, 256, &flows).1.sampling_rate, [64]);
}

#[test]
fn juniper_inline_names_no_sampler() {
    // IPFIX, MX and PTX: scope exporting process, then the system's totals and the interval; records name no sampler.
    let options = options_template_of(
        512,
        1,
        &[
            (0, 144, 4),
            (0, 41, 8),
            (0, 42, 8),
            (0, 36, 2),
            (0, 37, 2),
            (0, 34, 4),
            (0, 160, 8),
        ],
    );
    let said = |interval: u32| {
        Bytes::default()
            .u32(1)
            .u64(9)
            .u64(99)
            .u16(0)
            .u16(0)
            .u32(interval)
            .u64(1_699_999_000_000)
    };
    let flows = [(8, 4), (12, 4), (1, 8), (2, 8), (61, 1), (152, 8), (153, 8)];
    let record = Bytes::default()
        .raw(&[10, 0, 0, 1, 10, 0, 0, 2])
        .u64(1_500)
        .u64(1)
        .u8(255)
        .u64(1_699_999_999_000)
        .u64(1_699_999_999_000);
    let data = Bytes::default().set(256, &record);
    let mut decoder = decoder();
    let sets = Bytes::default()
        .set(3, &options)
        .set(512, &said(0))
        .set(2, &template(256, &flows));
    ipfix_from(&mut decoder, 524_288, &sets);
    // PTX states an interval of 0 first (nfdump issue 187): unknown, and not 1.
    let (_, batch) = ipfix_from(&mut decoder, 524_288, &data);
    assert_eq!(batch.sampling_rate, [0]);
    ipfix_from(
        &mut decoder,
        524_288,
        &Bytes::default().set(512, &said(10_000)),
    );
    let (_, batch) = ipfix_from(&mut decoder, 524_288, &data);
    assert_eq!(batch.sampling_rate, [10_000]);
}

#[test]
fn juniper_v9_states_a_rate_by_line_card() {
    let options = v9_options(576, &[(3, 2)], &[(34, 4), (35, 1)]);
    let card = |card: u16, rate: u32| Bytes::default().u16(card).u32(rate).u8(2);
    let flows = Bytes::default()
        .set(0, &template(256, &[(1, 4)]))
        .set(256, &Bytes::default().u32(9));
    let mut decoder = decoder();
    let cards = card(0, 2_000).raw(&card(1, 2_000).0);
    v9_from(
        &mut decoder,
        1,
        &Bytes::default().set(1, &options).set(576, &cards),
    );
    assert_eq!(v9_from(&mut decoder, 1, &flows).1.sampling_rate, [2_000]);
    // Cards that differ: a record does not say which it came by.
    v9_from(&mut decoder, 1, &Bytes::default().set(576, &card(1, 500)));
    assert_eq!(v9_from(&mut decoder, 1, &flows).1.sampling_rate, [0]);
    assert_eq!(decoder.counters().ambiguous_rate_records, 1);
}

#[test]
fn nokia_samples_one_packet_and_leaves_a_space() {
    // SR OS 21: no sampler named (nfdump issue 410), 1 of 500 (akvorado issue 1189).
    let options = options_template_of(
        258,
        1,
        &[(0, 130, 4), (0, 304, 2), (0, 305, 4), (0, 306, 4)],
    );
    let said = Bytes::default().raw(&[192, 0, 2, 1]).u16(1).u32(1).u32(499);
    let sets = Bytes::default()
        .set(3, &options)
        .set(258, &said)
        .set(2, &template(256, &[(1, 8), (2, 8)]))
        .set(256, &Bytes::default().u64(64).u64(1));
    let (_, batch) = ipfix_from(&mut decoder(), 0, &sets);
    assert_eq!(batch.sampling_rate, [500]);
}

#[test]
fn cisco_random_samplers_take_some_of_a_population() {
    // pmacct pull request 663: n out of N, selectors of any width.
    for width in [1u16, 2, 4, 8] {
        let fields = [
            (0, 302, width),
            (0, 304, 2),
            (0, 309, 4),
            (0, 310, 4),
            (0, 335, 65_535),
        ];
        let said = Bytes::default()
            .raw(&7u64.to_be_bytes()[8 - usize::from(width)..])
            .u16(3)
            .u32(2)
            .u32(2_000)
            .raw(b"\x06random");
        let sets = Bytes::default()
            .set(3, &options_template_of(258, 1, &fields))
            .set(258, &said)
            .set(2, &template(256, &[(1, 8), (302, 4)]))
            .set(256, &Bytes::default().u64(64).u32(7));
        let (outcome, batch) = ipfix_from(&mut decoder(), 0, &sets);
        assert_eq!(outcome.options_records, 1);
        assert_eq!(batch.sampling_rate, [1_000], "{width}");
    }
}

#[test]
fn huawei_netstream_v9_states_samplers_by_interface() {
    // NE40: sampler id in the options' scope-less part, per interface; records carry it too.
    let options = v9_options(320, &[(2, 4)], &[(48, 1), (49, 1), (50, 4)]);
    let sampler =
        |interface: u32, id: u8, rate: u32| Bytes::default().u32(interface).u8(id).u8(1).u32(rate);
    let told = sampler(75, 1, 1_000).raw(&sampler(74, 2, 2_000).0);
    let record = |interface: u32, id: u8| Bytes::default().u32(60).u32(interface).u8(id);
    let data = record(75, 1).raw(&record(74, 2).0);
    let sets = Bytes::default()
        .set(1, &options)
        .set(320, &told)
        .set(0, &template(1_024, &[(1, 4), (10, 4), (48, 1)]))
        .set(1_024, &data);
    let (_, batch) = v9_from(&mut decoder(), 0, &sets);
    assert_eq!(batch.sampling_rate, [1_000, 2_000]);
}

#[test]
fn huawei_netstream_v5_states_an_interval_without_a_mode() {
    let mut datagram = Bytes::default()
        .u16(5)
        .u16(1)
        .u32(100_000)
        .u32(1_700_000_000)
        .u32(0)
        .u32(0)
        .u16(0)
        .u16(1_000)
        .0;
    datagram.extend([0; 48]);
    let (_, batch) = decode(&mut decoder(), 0, 1, &datagram);
    assert_eq!(batch.sampling_rate, [1_000]);
    // fastnetmon issue 649: others leave even the interval at 0. Unknown, so that a configured default can hold.
    datagram[22..24].fill(0);
    let (_, batch) = decode(&mut decoder(), 0, 1, &datagram);
    assert_eq!(batch.sampling_rate, [0]);
}

#[test]
fn mikrotik_states_the_rate_in_every_record_and_sends_no_options() {
    // RouterOS 7: template 256 ends in interval and algorithm; a rate of 0 where sampling is off (akvorado issue 841).
    let fields = [
        (60, 1),
        (10, 4),
        (14, 4),
        (8, 4),
        (12, 4),
        (4, 1),
        (7, 2),
        (11, 2),
        (1, 4),
        (2, 4),
        (22, 4),
        (21, 4),
        (34, 4),
        (35, 1),
    ];
    let record = |rate: u32| {
        Bytes::default()
            .u8(4)
            .u32(2)
            .u32(3)
            .raw(&[10, 0, 0, 1, 10, 0, 0, 2])
            .u8(17)
            .u16(53)
            .u16(5_000)
            .u32(512)
            .u32(1)
            .u32(98_000)
            .u32(99_000)
            .u32(rate)
            .u8(1)
    };
    let sets = Bytes::default()
        .set(0, &template(256, &fields))
        .set(256, &record(2_222).raw(&record(0).0));
    let (outcome, batch) = v9_from(&mut decoder(), 0, &sets);
    assert_eq!(outcome.options_records, 0);
    assert_eq!(batch.sampling_rate, [2_222, 0]);
    assert_eq!(batch.flow_start[0], NOW - 2 * SECOND);
}

#[test]
fn vmware_reports_tenants_in_elements_of_its_own() {
    // NSX-v: uptimes of eight octets without a start of the system; PEN 6876 for the inner packet of a VXLAN.
    let fields = [
        (0, 8, 4),
        (0, 12, 4),
        (0, 1, 8),
        (0, 2, 8),
        (0, 22, 8),
        (0, 21, 8),
        (0, 4, 1),
        (6_876, 880, 1),
        (6_876, 881, 4),
        (6_876, 882, 4),
        (6_876, 886, 2),
        (6_876, 888, 2),
        (6_876, 898, 65_535),
    ];
    let record = Bytes::default()
        .raw(&[192, 0, 2, 10, 192, 0, 2, 20])
        .u64(5_000)
        .u64(5)
        .u64(70_000)
        .u64(74_000)
        .u8(17)
        .u8(6)
        .raw(&[10, 1, 0, 1, 10, 1, 0, 2])
        .u16(443)
        .u16(3)
        .raw(b"\x07segment");
    let sets = Bytes::default()
        .set(2, &template_of(256, &fields))
        .set(256, &Bytes::default().raw(&record.0).raw(&record.0));
    let (_, batch) = ipfix_from(&mut decoder(), 0, &sets);
    assert_eq!(batch.octets, [5_000; 2]);
    assert_eq!(batch.source_address[1].to_string(), "192.0.2.10");
    // The outer packet is the row; how long it lasted is known, and when only by the export.
    assert_eq!(batch.protocol, [17; 2]);
    assert_eq!(batch.flow_start, [NOW - 4 * SECOND; 2]);
}

#[test]
fn softflowd_counts_both_directions_in_records_of_their_own_and_icmp_in_the_port() {
    let fields = [
        (8, 4),
        (12, 4),
        (21, 4),
        (22, 4),
        (1, 4),
        (2, 4),
        (10, 4),
        (14, 4),
        (7, 2),
        (11, 2),
        (4, 1),
        (6, 1),
        (60, 1),
        (5, 1),
    ];
    let record = |protocol: u8, port: u16| {
        Bytes::default()
            .raw(&[10, 0, 0, 1, 10, 0, 0, 2])
            .u32(99_000)
            .u32(98_000)
            .u32(84)
            .u32(1)
            .u32(0)
            .u32(0)
            .u16(0)
            .u16(port)
            .u8(protocol)
            .raw(&[0, 4, 0])
    };
    // "options sampling" with scope Interface, and algorithm 0 where nothing is sampled.
    let options = v9_options(256, &[(2, 4)], &[(34, 4), (35, 1)]);
    let sets = Bytes::default()
        .set(1, &options)
        .set(256, &Bytes::default().u32(0).u32(1).u8(1))
        .set(0, &template(1_024, &fields))
        .set(1_024, &record(1, 0x0301).raw(&record(17, 0x0301).0));
    let (_, batch) = v9_from(&mut decoder(), 0, &sets);
    assert_eq!(batch.sampling_rate, [1, 1]);
    assert_eq!(batch.extra.icmp_type, [3, 0]);
    assert_eq!(batch.extra.icmp_code, [1, 0]);
}

#[test]
fn nprobe_counts_the_other_direction_as_outgoing() {
    // v9 with ntop's numbers (57590 = L7_PROTO): IE 23 and 24 are octets and packets from destination to source.
    let fields = [
        (8, 4),
        (12, 4),
        (7, 2),
        (11, 2),
        (4, 1),
        (1, 4),
        (2, 4),
        (23, 4),
        (24, 4),
        (57_590, 2),
    ];
    let record = |back: u32| {
        Bytes::default()
            .raw(&[10, 0, 0, 1, 10, 0, 0, 2])
            .u16(40_000)
            .u16(443)
            .u8(6)
            .u32(700)
            .u32(7)
            .u32(back)
            .u32(back / 100)
            .u16(91)
    };
    let sets = Bytes::default()
        .set(0, &template(256, &fields))
        .set(256, &record(900).raw(&record(0).0));
    let (outcome, batch) = v9_from(&mut decoder(), 0, &sets);
    assert_eq!((outcome.records, outcome.rows), (2, 3));
    assert_eq!(batch.octets, [700, 700, 900]);
    assert_eq!((outcome.delta_octets, outcome.delta_packets), (1_400, 14));
    assert_eq!(batch.source_port, [40_000, 40_000, 443]);
    // The same in IPFIX, by ntop's enterprise number.
    let sets = Bytes::default()
        .set(
            2,
            &template_of(300, &[(0, 1, 4), (0, 23, 4), (35_632, 118, 2)]),
        )
        .set(300, &Bytes::default().u32(5).u32(6).u16(1));
    assert_eq!(ipfix_from(&mut decoder(), 0, &sets).1.octets, [5, 6]);
}

#[test]
fn yaf_has_flags_and_delays_of_its_own_and_lists_to_be_skipped() {
    // YAF 2: totals in both directions, CERT's flags and delay, and a subTemplateMultiList at the end.
    let fields = [
        (0, 152, 8),
        (0, 153, 8),
        (0, 85, 8),
        (29_305, 85, 8),
        (0, 86, 8),
        (29_305, 86, 8),
        (0, 8, 4),
        (0, 12, 4),
        (0, 7, 2),
        (0, 11, 2),
        (0, 4, 1),
        (0, 136, 1),
        (6_871, 21, 4),
        (6_871, 14, 1),
        (6_871, 15, 1),
        (6_871, 16_398, 1),
        (6_871, 16_399, 1),
        (0, 293, 65_535),
    ];
    let list = Bytes::default().u8(3).u16(49_155).u16(12).u32(1).u32(2).0;
    let record = Bytes::default()
        .u64(1_699_999_990_000)
        .u64(1_699_999_999_000)
        .u64(304)
        .u64(292)
        .u64(6)
        .u64(4)
        .raw(&[10, 0, 0, 1, 10, 0, 0, 2])
        .u16(40_000)
        .u16(80)
        .u8(6)
        .u8(1)
        .u32(250)
        .raw(&[0x02, 0x19, 0x12, 0x18])
        .u8(255)
        .u16(list.len() as u16)
        .raw(&list);
    let sets = Bytes::default()
        .set(2, &template_of(45_841, &fields))
        .set(45_841, &Bytes::default().raw(&record.0).raw(&record.0));
    let (outcome, batch) = ipfix_from(&mut decoder(), 0, &sets);
    assert_eq!((outcome.records, outcome.rows), (2, 4));
    let (forward, back) = (batch.row(1), batch.row(3));
    assert_eq!((forward.octets, forward.packets), (304, 6));
    assert_eq!((back.octets, back.packets), (292, 4));
    assert_eq!((forward.tcp_flags, back.tcp_flags), (0x1b, 0x1a));
    assert_eq!(forward.flow_start, NOW - 10 * SECOND);
    assert_eq!(back.flow_start, NOW - 10 * SECOND + SECOND / 4);
    assert_eq!(back.flow_end, NOW - SECOND);
    assert_eq!(back.destination_address.to_string(), "10.0.0.1");
}

#[test]
fn pmacct_states_its_rate_by_a_sampler_for_the_whole_process() {
    // nfprobe: scope System, sampler id 1 in options and in records; v9.
    let options = v9_options(258, &[(1, 4)], &[(34, 4), (35, 1)]);
    let fields = [
        (21, 4),
        (22, 4),
        (1, 4),
        (2, 4),
        (60, 1),
        (10, 4),
        (14, 4),
        (61, 1),
        (8, 4),
        (12, 4),
        (48, 1),
    ];
    let record = Bytes::default()
        .u32(99_000)
        .u32(98_000)
        .u32(40)
        .u32(1)
        .u8(4)
        .u32(0)
        .u32(0)
        .u8(0)
        .raw(&[10, 0, 0, 1, 10, 0, 0, 2])
        .u8(1);
    let sets = Bytes::default()
        .set(1, &options)
        .set(258, &Bytes::default().u32(0).u32(256).u8(1))
        .set(0, &template(1_024, &fields))
        .set(1_024, &record);
    let (_, batch) = v9_from(&mut decoder(), 0, &sets);
    assert_eq!(batch.sampling_rate, [256]);
}

#[test]
fn egress_netflow_has_outgoing_counters_alone() {
    let sets = Bytes::default()
        .set(0, &template(256, &[(8, 4), (23, 4), (24, 4), (61, 1)]))
        .set(
            256,
            &Bytes::default().raw(&[10, 0, 0, 1]).u32(900).u32(9).u8(1),
        );
    let (outcome, batch) = v9_from(&mut decoder(), 0, &sets);
    assert_eq!((outcome.rows, outcome.delta_octets), (1, 0));
    assert_eq!((batch.octets[0], batch.packets[0]), (900, 9));
}
