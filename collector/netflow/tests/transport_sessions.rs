//! Reliable transport sessions (TCP, TLS) keep templates to themselves; UDP knows no withdrawal.

mod common;

use common::{
    Bytes, decode, decoder, export_time, from, ipfix, received, rows, template, template_of,
};
use weir_flow_record::{ColumnSet, FlowBatch, ObservationDomainId};
use weir_netflow::encode::{Encoder, Format};
use weir_netflow::{DatagramOutcome, Decoder, message_length};

fn message(decoder: &mut Decoder, port: u16, octets: &[u8]) -> (DatagramOutcome, FlowBatch) {
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    let outcome = decoder.handle_message(received(0), from(port), octets, &mut batch);
    (outcome, batch)
}

fn define(id: u16) -> Vec<u8> {
    ipfix(1, 0, &Bytes::default().set(2, &template(id, &[(1, 4)])))
}

fn data(id: u16) -> Vec<u8> {
    ipfix(1, 0, &Bytes::default().set(id, &Bytes::default().u32(7)))
}

#[test]
fn over_udp_a_withdrawal_is_ignored_and_counted() {
    let mut encoder = Encoder::new(Format::Ipfix, ObservationDomainId(5));
    let mut datagrams = Vec::new();
    encoder.encode_templates(export_time(0), &mut datagrams);
    encoder.encode_withdrawal(export_time(0), &mut datagrams);
    encoder.encode_flows(export_time(0), &rows(1, false), &mut datagrams);
    let mut decoder = decoder();
    decode(&mut decoder, 0, 1, &datagrams[0]);
    assert_eq!(decode(&mut decoder, 0, 1, &datagrams[1]).0.withdrawals, 2);
    assert_eq!(decode(&mut decoder, 0, 1, &datagrams[2]).0.records, 1);
    assert_eq!(decoder.counters().ignored_withdrawals, 2);
    let view = decoder.exporters().next().unwrap();
    assert_eq!((view.templates, view.ignored_withdrawals), (2, 2));
}

#[test]
fn a_session_may_withdraw_one_template() {
    let mut decoder = decoder();
    message(&mut decoder, 1, &define(256));
    message(&mut decoder, 1, &define(257));
    let gone = Bytes::default().set(2, &Bytes::default().u16(256).u16(0));
    message(&mut decoder, 1, &ipfix(1, 0, &gone));
    assert_eq!(message(&mut decoder, 1, &data(256)).0.held_back_sets, 1);
    assert_eq!(message(&mut decoder, 1, &data(257)).0.records, 1);
}

#[test]
fn a_session_may_withdraw_all_templates_of_a_kind() {
    let mut decoder = decoder();
    message(&mut decoder, 1, &define(256));
    message(&mut decoder, 1, &define(257));
    let options = Bytes::default().u16s(&[300, 2, 1, 149, 4, 34, 4]);
    message(
        &mut decoder,
        1,
        &ipfix(1, 0, &Bytes::default().set(3, &options)),
    );
    let all = Bytes::default().set(2, &Bytes::default().u16(2).u16(0));
    message(&mut decoder, 1, &ipfix(1, 0, &all));
    assert_eq!(decoder.exporters().next().unwrap().templates, 1);
    let all = Bytes::default().set(3, &Bytes::default().u16(3).u16(0));
    message(&mut decoder, 1, &ipfix(1, 0, &all));
    assert_eq!(decoder.exporters().next().unwrap().templates, 0);
}

#[test]
fn sessions_do_not_share_templates_with_each_other_nor_with_udp() {
    let mut decoder = decoder();
    message(&mut decoder, 1, &define(256));
    assert_eq!(message(&mut decoder, 2, &data(256)).0.held_back_sets, 1);
    assert_eq!(decode(&mut decoder, 0, 1, &data(256)).0.held_back_sets, 1);
    // What waits over UDP is not released by a session's template, and the other way round.
    assert_eq!(message(&mut decoder, 3, &define(256)).0.released_records, 0);
    assert_eq!(
        decode(&mut decoder, 0, 9, &define(256)).0.released_records,
        1
    );
    assert_eq!(message(&mut decoder, 2, &define(256)).0.released_records, 1);
    assert_eq!(decoder.counters().template_fallbacks, 0);
}

#[test]
fn a_closed_session_leaves_nothing_behind() {
    let mut decoder = decoder();
    message(&mut decoder, 1, &define(256));
    message(&mut decoder, 1, &data(300));
    message(&mut decoder, 2, &define(256));
    decode(&mut decoder, 0, 1, &define(400));
    decoder.handle_session_closed(from(1));
    let view = decoder.exporters().next().unwrap();
    assert_eq!(
        (view.templates, view.held_back, view.expired_sets),
        (2, 0, 1)
    );
    // The same port again: a new session.
    assert_eq!(message(&mut decoder, 1, &data(256)).0.held_back_sets, 1);
    assert_eq!(message(&mut decoder, 2, &data(256)).0.records, 1);
    assert_eq!(decode(&mut decoder, 0, 1, &data(400)).0.records, 1);
    // An unknown one does no harm.
    decoder.handle_session_closed("203.0.113.9:1".parse().unwrap());
}

#[test]
fn a_sessions_templates_are_no_state_to_keep_and_its_rates_are() {
    let mut decoder = decoder();
    let options = Bytes::default().u16s(&[300, 2, 1, 149, 4, 34, 4]);
    let sets = Bytes::default()
        .set(2, &template(256, &[(1, 4)]))
        .set(3, &options)
        .set(300, &Bytes::default().u32(1).u32(512));
    message(&mut decoder, 1, &ipfix(1, 0, &sets));
    decoder.handle_session_closed(from(1));
    let mut changes = Vec::new();
    while let Some(change) = decoder.poll_change() {
        changes.push(String::from_utf8(change.key()).unwrap());
    }
    assert_eq!(changes, ["192.0.2.1/1/sampler"]);
}

#[test]
fn a_stream_is_read_message_by_message() {
    let stream = [define(256), data(256), data(256)].concat();
    let (mut decoder, mut rest, mut records) = (decoder(), &stream[..], 0);
    while let Some(length) = message_length(rest).unwrap() {
        let (octets, behind) = rest.split_at(length);
        let outcome = message(&mut decoder, 1, octets).0;
        assert!(outcome.malformed.is_none());
        records += outcome.records;
        rest = behind;
    }
    assert_eq!(records, 2);
}

#[test]
fn connections_that_come_and_go_do_not_use_tables_up() {
    let mut decoder = decoder();
    for round in 0..2_000u32 {
        let sets = Bytes::default().set(2, &template_of(256, &[(0, 1, 4)]));
        let domain = round;
        let (outcome, _) = message(&mut decoder, 1, &ipfix(domain, 0, &sets));
        decoder.handle_session_closed(from(1));
        // Beyond 256 domains, one that no session speaks for gives way, once a second.
        assert!(outcome.malformed.is_none() || round >= 256);
    }
    assert_eq!(decoder.exporters().next().unwrap().templates, 0);
    let mut batch = FlowBatch::default();
    let later = decoder.handle_message(received(5), from(1), &define(256), &mut batch);
    assert!(later.malformed.is_none());
}
