//! Templates come, change, go, and outlive restarts.

mod common;

use common::{Bytes, decode, decoder, export_time, ipfix, received, rows, template, v9};
use weir_flow_record::{ColumnSet, ObservationDomainId, ReceivedAt};
use weir_netflow::encode::{Encoder, Format};
use weir_netflow::{Decoder, Limits};

fn datagrams(format: Format, count: usize) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(format, ObservationDomainId(5));
    let mut datagrams = Vec::new();
    encoder.encode_templates(export_time(0), &mut datagrams);
    encoder.encode_flows(export_time(0), &rows(count, false), &mut datagrams);
    datagrams
}

#[test]
fn data_wait_for_their_template_and_keep_their_times() {
    for format in [Format::Ipfix, Format::NetflowV9] {
        let datagrams = datagrams(format, 10);
        let mut decoder = decoder();
        let (outcome, batch) = decode(&mut decoder, 0, 1, &datagrams[1]);
        assert_eq!((outcome.records, outcome.held_back_sets), (0, 1));
        assert!(batch.is_empty());
        assert_eq!(decoder.exporters().next().unwrap().held_back, 1);
        let (outcome, batch) = decode(&mut decoder, 9, 1, &datagrams[0]);
        assert_eq!((outcome.records, outcome.released_records), (0, 10));
        assert_eq!(batch.datagrams.len(), 1);
        assert_eq!(batch.datagrams[0].received_at, received(0));
        assert_eq!(batch.row(9).octets, 10_000);
        assert_eq!(decoder.exporters().next().unwrap().held_back, 0);
    }
}

#[test]
fn data_do_not_wait_for_ever_nor_in_any_number() {
    let datagrams = datagrams(Format::Ipfix, 10);
    let limits = Limits {
        held_back_octets: 2_000,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(limits.check().unwrap(), ColumnSet::ALL);
    let sets: Vec<u32> = (0..4)
        .map(|_| decode(&mut decoder, 0, 1, &datagrams[1]).0.held_back_sets)
        .collect();
    assert_eq!(sets, [1, 1, 0, 0]);
    assert_eq!(decoder.counters().refused_sets, 2);
    decoder.handle_timeout(received(299));
    assert_eq!(decoder.counters().expired_sets, 0);
    decoder.handle_timeout(received(301));
    assert_eq!(decoder.counters().expired_sets, 2);
    let (outcome, _) = decode(&mut decoder, 301, 1, &datagrams[0]);
    assert_eq!(outcome.released_records, 0);
}

#[test]
fn a_redefined_template_counts_from_there_on() {
    let define = |fields: &[(u16, u16)]| Bytes::default().set(2, &template(300, fields));
    let data = Bytes::default().set(300, &Bytes::default().u32(7).u32(9));
    let mut decoder = decoder();
    decode(&mut decoder, 0, 1, &ipfix(1, 0, &define(&[(1, 4), (2, 4)])));
    let (_, batch) = decode(&mut decoder, 0, 1, &ipfix(1, 0, &data));
    assert_eq!((batch.row(0).octets, batch.row(0).packets), (7, 9));
    decode(&mut decoder, 0, 1, &ipfix(1, 1, &define(&[(2, 4), (1, 4)])));
    let (_, batch) = decode(&mut decoder, 0, 1, &ipfix(1, 1, &data));
    assert_eq!((batch.row(0).octets, batch.row(0).packets), (9, 7));
    assert_eq!(decoder.counters().redefinitions, 1);
}

#[test]
fn one_datagram_may_define_use_and_redefine() {
    let sets = Bytes::default()
        .set(0, &template(256, &[(1, 4)]))
        .set(256, &Bytes::default().u32(5))
        .set(0, &template(256, &[(2, 2), (1, 2)]))
        .set(256, &Bytes::default().u16(1).u16(6));
    let (outcome, batch) = decode(&mut decoder(), 0, 1, &v9(0, 0, &sets));
    assert_eq!((outcome.templates, outcome.records), (2, 2));
    assert_eq!(batch.octets, [5, 6]);
    assert_eq!((outcome.delta_octets, outcome.delta_packets), (11, 1));
}

#[test]
fn another_port_of_the_same_domain_helps_out() {
    let datagrams = datagrams(Format::NetflowV9, 10);
    let mut decoder = decoder();
    decode(&mut decoder, 0, 1, &datagrams[0]);
    let (outcome, _) = decode(&mut decoder, 0, 2, &datagrams[1]);
    assert_eq!(outcome.records, 10);
    assert_eq!(decoder.counters().template_fallbacks, 1);
}

#[test]
fn domains_do_not_share_templates() {
    let sets = Bytes::default().set(2, &template(256, &[(1, 4)]));
    let data = Bytes::default().set(256, &Bytes::default().u32(1));
    let mut decoder = decoder();
    decode(&mut decoder, 0, 1, &ipfix(1, 0, &sets));
    assert_eq!(
        decode(&mut decoder, 0, 1, &ipfix(2, 0, &data))
            .0
            .held_back_sets,
        1
    );
    assert_eq!(decode(&mut decoder, 0, 1, &ipfix(1, 0, &data)).0.records, 1);
}

#[test]
fn a_restarted_decoder_goes_on_with_what_was_kept() {
    let mut encoder = Encoder::new(Format::Ipfix, ObservationDomainId(5)).with_sampling_rate(64);
    let mut datagrams = Vec::new();
    encoder.encode_templates(export_time(0), &mut datagrams);
    encoder.encode_flows(export_time(0), &rows(3, true), &mut datagrams);
    let mut before = decoder();
    decode(&mut before, 0, 1, &datagrams[0]);
    let mut kept = std::collections::BTreeMap::new();
    while let Some(change) = before.poll_change() {
        assert!(!change.is_removal());
        kept.insert(change.key(), serde_json::to_string(&change).unwrap());
    }
    // Three templates and a rate; repeating them is no news.
    assert_eq!(kept.len(), 4);
    decode(&mut before, 0, 1, &datagrams[0]);
    assert!(before.poll_change().is_none());

    let mut after = decoder();
    for text in kept.values() {
        after.restore(serde_json::from_str(text).unwrap());
    }
    assert!(after.poll_change().is_none());
    let (outcome, batch) = decode(&mut after, 0, 4_000, &datagrams[1]);
    assert_eq!(outcome.records, 3);
    assert_eq!(batch.sampling_rate, [64; 3]);
}

#[test]
fn sets_of_variable_length_give_rows() {
    // interfaceName, octets, enterprise field, source address, packets of variable length
    let fields = Bytes::default()
        .u16s(&[400, 5, 82, 65_535, 1, 8])
        .u16s(&[0x8000 | 7, 65_535])
        .u32(32_473)
        .u16s(&[8, 4, 2, 65_535]);
    let record = |name: &[u8], octets: u64, last: u8| {
        Bytes::default()
            .u8(name.len() as u8)
            .raw(name)
            .u64(octets)
            .u8(255)
            .u16(3)
            .raw(b"xyz")
            .raw(&[192, 0, 2, last])
            .raw(&[2, 1, 0])
    };
    let data = record(b"ge-0/0/0", 11, 1)
        .raw(&record(b"", 12, 2).0)
        .raw(&[0, 0]);
    let sets = Bytes::default().set(2, &fields).set(400, &data);
    let (outcome, batch) = decode(&mut decoder(), 0, 1, &ipfix(1, 0, &sets));
    assert_eq!((outcome.records, outcome.undecodable_sets), (2, 0));
    assert_eq!(batch.octets, [11, 12]);
    assert_eq!(batch.packets, [256, 256]);
    assert_eq!(batch.source_address[1].to_string(), "192.0.2.2");
    assert_eq!(batch.datagrams.len(), 1);
}

#[test]
fn a_bad_set_costs_only_itself() {
    let good = Bytes::default().set(256, &Bytes::default().u32(1).u32(2));
    let sets = Bytes::default()
        .set(2, &template(256, &[(1, 4)]))
        .set(2, &Bytes::default().u16s(&[257, 900, 1, 4]))
        .set(77, &Bytes::default().u32(1))
        .raw(&good.0)
        .u16(256)
        .u16(3)
        .u32(0xffff_ffff);
    let (outcome, batch) = decode(&mut decoder(), 0, 1, &ipfix(1, 0, &sets));
    assert_eq!(outcome.undecodable_sets, 3);
    assert_eq!(batch.octets, [1, 2]);
}

#[test]
fn refused_templates_are_counted() {
    let limits = Limits {
        max_fields_per_template: 2,
        max_templates_per_exporter: 1,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(limits.check().unwrap(), ColumnSet::ALL);
    let sets = Bytes::default()
        .set(2, &template(256, &[(1, 4), (2, 4), (4, 1)]))
        .set(2, &template(257, &[(1, 4)]))
        .set(2, &template(258, &[(1, 4)]));
    let (outcome, _) = decode(&mut decoder, 0, 1, &ipfix(1, 0, &sets));
    assert_eq!(outcome.templates, 3);
    assert_eq!(decoder.counters().refused_templates, 2);
    // A known one may still be repeated or changed.
    let sets = Bytes::default().set(2, &template(257, &[(2, 4)]));
    decode(&mut decoder, 0, 1, &ipfix(1, 0, &sets));
    assert_eq!(decoder.counters().refused_templates, 2);
}

#[test]
fn silent_sessions_give_way_after_an_hour() {
    let limits = Limits {
        max_exporters: 1,
        max_domains_per_exporter: 2,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(limits.check().unwrap(), ColumnSet::ALL);
    let sets = Bytes::default().set(2, &template(256, &[(1, 4)]));
    for domain in 0..3 {
        decode(&mut decoder, 0, 1, &ipfix(domain, 0, &sets));
    }
    assert_eq!(decoder.counters().refused_datagrams, 1);
    let (outcome, _) = decode(&mut decoder, 3_700, 1, &ipfix(2, 0, &sets));
    assert!(outcome.malformed.is_none());
    assert_eq!(decoder.exporters().next().unwrap().templates, 2);

    let mut batch = weir_flow_record::FlowBatch::with_projection(ColumnSet::ALL);
    let other = "198.51.100.7:1".parse().unwrap();
    let at = |seconds| ReceivedAt(received(seconds).0);
    let full = decoder.handle_datagram(at(3_800), other, &ipfix(0, 0, &sets), &mut batch);
    assert!(full.exporter.is_none());
    let room = decoder.handle_datagram(at(9_000), other, &ipfix(0, 0, &sets), &mut batch);
    assert!(room.exporter.is_some());
    let views: Vec<_> = decoder.exporters().collect();
    assert_eq!((views.len(), views[0].templates), (1, 1));
}
