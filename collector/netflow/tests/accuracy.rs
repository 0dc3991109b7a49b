//! Loss, delay, repeats and restarts are told apart; what an exporter's view says of them; bounds that each exporter has of
//! its own.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::net::SocketAddr;

use common::{
    Bytes, NOW, decode, decoder, from, ipfix, options_template_of, received, template, v9,
};
use weir_flow_record::{ColumnSet, FlowBatch, ReceivedAt};
use weir_netflow::{Decoder, ExporterView, Limits, StateChange};

/// An IPFIX message of `records` records, exported `seconds` after [`NOW`].
fn message(sequence: u32, records: u32, seconds: u32) -> Vec<u8> {
    let data = (0..records).fold(Bytes::default(), |data, record| data.u32(record));
    let sets = Bytes::default().set(256, &data);
    let mut octets = ipfix(1, sequence, &sets);
    octets[4..8].copy_from_slice(&(1_700_000_000 + seconds).to_be_bytes());
    octets
}

fn with_template() -> Decoder {
    let mut decoder = decoder();
    let sets = Bytes::default().set(2, &template(256, &[(1, 4)]));
    decode(&mut decoder, 0, 1, &ipfix(1, 0, &sets));
    decoder
}

fn view(decoder: &Decoder) -> ExporterView {
    decoder.exporters().next().unwrap()
}

#[test]
fn loss_delay_and_repeats_are_counted_apart() {
    let mut decoder = with_template();
    for (sequence, seconds) in [(0, 0), (10, 0), (40, 1), (20, 0), (50, 1), (50, 1), (10, 0)] {
        decode(&mut decoder, 1, 1, &message(sequence, 10, seconds));
    }
    let view = view(&decoder);
    assert_eq!((view.sequence_gaps, view.sequence_resets), (1, 0));
    // 20 to 39 were skipped, 20 to 29 came late.
    assert_eq!((view.missing_records, view.recovered_records), (10, 10));
    assert_eq!((view.reordered_datagrams, view.duplicate_datagrams), (1, 2));
    let counters = decoder.counters();
    assert_eq!(counters.duplicate_datagrams, 2);
    assert_eq!(counters.missing_records, 10);
}

#[test]
fn a_restart_is_told_from_loss_and_from_delay() {
    let mut decoder = with_template();
    decode(&mut decoder, 1, 1, &message(5_000, 10, 0));
    let (outcome, _) = decode(&mut decoder, 9, 1, &message(0, 10, 9));
    assert!(outcome.restarted && !outcome.reordered && !outcome.sequence_gap);
    let (outcome, _) = decode(&mut decoder, 9, 1, &message(10, 10, 9));
    assert!(!outcome.restarted);
    assert_eq!(view(&decoder).sequence_resets, 1);
}

#[test]
fn v5_and_v9_restart_by_their_uptime() {
    let v5 = |uptime: u32, sequence: u32| {
        let header = Bytes::default().u16(5).u16(1).u32(uptime);
        let rest = header.u32(1_700_000_000).u32(0).u32(sequence).u32(0);
        rest.raw(&[0; 48]).0
    };
    let mut decoder = decoder();
    decode(&mut decoder, 0, 1, &v5(900_000, 7));
    assert!(decode(&mut decoder, 0, 1, &v5(1_000, 9)).0.restarted);
    let v9_at = |uptime: u32, sequence: u32| {
        let mut octets = v9(4, sequence, &Bytes::default());
        octets[4..8].copy_from_slice(&uptime.to_be_bytes());
        octets
    };
    decode(&mut decoder, 0, 1, &v9_at(900_000, 7));
    assert!(decode(&mut decoder, 0, 1, &v9_at(1_000, 9)).0.restarted);
    assert_eq!(view(&decoder).sequence_gaps, 0);
}

#[test]
fn v5_engines_and_domains_have_sequences_of_their_own() {
    let v5 = |engine: u16, sequence: u32| {
        let header = Bytes::default().u16(5).u16(2).u32(900_000);
        let rest = header.u32(1_700_000_000).u32(0).u32(sequence).u16(engine);
        rest.u16(0).raw(&[0; 96]).0
    };
    let mut decoder = decoder();
    for (engine, sequence) in [(0, 100), (1, 7_000), (0, 102), (1, 7_002), (1, 7_006)] {
        decode(&mut decoder, 0, 1, &v5(engine, sequence));
    }
    let view = view(&decoder);
    assert_eq!((view.sequence_gaps, view.missing_records), (1, 2));
    assert_eq!(view.sequence_resets, 0);
}

#[test]
fn options_data_are_data_records_of_the_sequence() {
    let mut decoder = decoder();
    let options = options_template_of(300, 1, &[(0, 149, 4), (0, 41, 8)]);
    let sets = Bytes::default()
        .set(3, &options)
        .set(300, &Bytes::default().u32(1).u64(9).u32(1).u64(9));
    decode(&mut decoder, 0, 1, &ipfix(1, 0, &sets));
    decode(&mut decoder, 0, 1, &ipfix(1, 2, &sets));
    let (outcome, _) = decode(&mut decoder, 0, 1, &ipfix(1, 5, &sets));
    assert!(outcome.sequence_gap);
    assert_eq!(outcome.missing_records, 1);
}

#[test]
fn clocks_apart_show_in_the_smallest_skew() {
    let mut decoder = with_template();
    let mut batch = FlowBatch::default();
    for (step, waited) in [900, 40, 700, 300].into_iter().enumerate() {
        let at = NOW + step as i64 * 1_000_000_000 + waited * 1_000_000 + 3_600_000_000_000;
        let octets = message(step as u32, 1, step as u32);
        decoder.handle_datagram(ReceivedAt::from_nanos(at), from(1), &octets, &mut batch);
    }
    let view = view(&decoder);
    // The template came at once, an hour "before".
    assert_eq!(view.skew_nanos, 3_600_300_000_000);
    assert_eq!(view.skew_smallest_nanos, 0);
    assert!(view.skew_mean_nanos > 0 && view.skew_mean_nanos < view.skew_nanos);
    assert_eq!(view.last_seen.nanos(), NOW + 3_603_300_000_000);
}

#[test]
fn late_templates_are_counted_for_their_exporter() {
    let mut decoder = decoder();
    decode(&mut decoder, 0, 1, &message(0, 3, 0));
    decode(&mut decoder, 0, 1, &message(3, 4, 0));
    let other = Bytes::default().set(999, &Bytes::default().u32(1));
    decode(&mut decoder, 0, 1, &ipfix(1, 7, &other));
    let sets = Bytes::default().set(2, &template(256, &[(1, 4)]));
    let (outcome, _) = decode(&mut decoder, 5, 1, &ipfix(1, 8, &sets));
    assert_eq!(outcome.released_records, 7);
    decoder.handle_timeout(received(400));
    let view = view(&decoder);
    assert_eq!((view.held_back_sets, view.held_back), (3, 0));
    assert_eq!((view.released_sets, view.released_records), (2, 7));
    assert_eq!((view.expired_sets, view.held_back_dropped), (1, 1));
    assert_eq!(view.records, 7);
}

#[test]
fn an_exporter_that_fills_its_share_leaves_room_for_others() {
    let limits = Limits {
        template_octets_per_exporter: 8 << 10,
        held_back_octets_per_exporter: 2 << 10,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(limits.check().unwrap(), ColumnSet::ALL);
    let mut batch = FlowBatch::default();
    let (greedy, modest): (SocketAddr, SocketAddr) = (from(1), "192.0.2.9:1".parse().unwrap());
    for id in 256..400 {
        let sets = Bytes::default()
            .set(2, &template(id, &[(1, 4), (2, 4)]))
            .set(id + 1_000, &Bytes(vec![7; 400]));
        decoder.handle_datagram(received(0), greedy, &ipfix(1, 0, &sets), &mut batch);
    }
    let sets = Bytes::default()
        .set(2, &template(256, &[(1, 4)]))
        .set(999, &Bytes::default().u32(1));
    let outcome = decoder.handle_datagram(received(0), modest, &ipfix(1, 0, &sets), &mut batch);
    assert_eq!((outcome.held_back_sets, outcome.undecodable_sets), (1, 0));
    let views: Vec<_> = decoder.exporters().collect();
    assert!(views[0].templates < 20 && views[0].refused > 100);
    assert!(views[0].held_back < 4 && views[0].held_back_dropped > 100);
    assert_eq!((views[1].templates, views[1].refused), (1, 0));
}

#[test]
fn unused_templates_give_way_only_where_there_is_no_room() {
    let limits = Limits {
        max_templates_per_exporter: 2,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(limits.check().unwrap(), ColumnSet::ALL);
    let define = |id| ipfix(1, 0, &Bytes::default().set(2, &template(id, &[(1, 4)])));
    let data = Bytes::default().set(257, &Bytes::default().u32(1));
    decode(&mut decoder, 0, 1, &define(256));
    decode(&mut decoder, 0, 1, &define(257));
    decode(&mut decoder, 1_000, 1, &define(258));
    assert_eq!(decoder.counters().refused_templates, 1);
    // An hour later both are still there; one was used meanwhile.
    decode(&mut decoder, 3_000, 1, &ipfix(1, 0, &data));
    assert_eq!(view(&decoder).templates, 2);
    while decoder.poll_change().is_some() {}
    decode(&mut decoder, 3_600, 1, &define(258));
    assert_eq!((view(&decoder).templates, view(&decoder).evicted), (2, 1));
    let changes: Vec<_> = std::iter::from_fn(|| decoder.poll_change()).collect();
    let withdrawn = |change: &StateChange| matches!(change, StateChange::Withdrawn { id: 256, .. });
    assert!(changes.iter().any(withdrawn));
    assert_eq!(
        decode(&mut decoder, 3_601, 1, &ipfix(1, 0, &data))
            .0
            .records,
        1
    );
}

#[test]
fn samplers_not_stated_for_an_hour_give_way_and_are_to_be_forgotten() {
    let limits = Limits {
        max_samplers: 2,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(limits.check().unwrap(), ColumnSet::ALL);
    let sampler = |id: u64| {
        let options = options_template_of(300, 1, &[(0, 302, 8), (0, 34, 4)]);
        let sets = Bytes::default()
            .set(3, &options)
            .set(300, &Bytes::default().u64(id).u32(100));
        ipfix(1, 0, &sets)
    };
    decode(&mut decoder, 0, 1, &sampler(1));
    decode(&mut decoder, 10, 1, &sampler(2));
    decode(&mut decoder, 20, 1, &sampler(3));
    assert_eq!(decoder.counters().refused_samplers, 1);
    while decoder.poll_change().is_some() {}
    decode(&mut decoder, 3_605, 1, &sampler(3));
    let known: Vec<_> = view(&decoder)
        .sampling_rates
        .iter()
        .map(|known| known.sampler)
        .collect();
    assert_eq!(known, [Some(2), Some(3)]);
    let removed = std::iter::from_fn(|| decoder.poll_change()).find(StateChange::is_removal);
    assert_eq!(removed.unwrap().key(), b"192.0.2.1/1/sampler/1");
}

#[test]
fn domains_nobody_speaks_for_give_way() {
    let limits = Limits {
        max_domains_per_exporter: 2,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(limits.check().unwrap(), ColumnSet::ALL);
    for domain in [7, 8] {
        decoder.restore(StateChange::SamplingRate {
            exporter: from(1).ip(),
            domain,
            sampler: None,
            rate: 100,
        });
    }
    let sets = Bytes::default().set(2, &template(256, &[(1, 4)]));
    assert!(
        decode(&mut decoder, 0, 1, &ipfix(1, 0, &sets))
            .0
            .malformed
            .is_none()
    );
    assert_eq!(view(&decoder).sampling_rates.len(), 1);
    assert_eq!(view(&decoder).evicted, 1);
    let removed = decoder.poll_change().unwrap();
    assert!(removed.is_removal());
    assert_eq!(removed.key(), b"192.0.2.1/7/sampler");
}

#[test]
fn what_is_lost_while_nobody_listens_is_told_after_a_restart() {
    let mut before = with_template();
    decode(&mut before, 1, 1, &message(0, 10, 0));
    let mut kept: Vec<StateChange> = before.sequences(ReceivedAt::from_nanos(0)).collect();
    assert_eq!(kept.len(), 1);
    kept.extend(std::iter::from_fn(|| before.poll_change()));
    // As it is stored.
    let stored = serde_json::to_vec(&kept).unwrap();
    let kept: Vec<StateChange> = serde_json::from_slice(&stored).unwrap();
    let mut after = decoder();
    for change in kept {
        after.restore(change);
    }
    let (outcome, _) = decode(&mut after, 9, 1, &message(250, 10, 9));
    assert!(outcome.sequence_gap && !outcome.restarted);
    assert_eq!((outcome.records, outcome.missing_records), (10, 240));
    // Nothing came since: nothing is stored again.
    assert_eq!(after.sequences(received(10)).count(), 0);
}
