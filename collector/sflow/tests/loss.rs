//! Lost, late and doubled datagrams, restarts, and what agents lose themselves.

mod common;

use common::{datagrams, decode, decoder, encoder, flows};
use weir_flow_record::Address;
use weir_sflow::encode::Encoder;

#[test]
fn a_gap_is_counted_in_flow_samples() {
    let (mut encoder, mut decoder) = (encoder(), decoder());
    for datagram in datagrams(&mut encoder, &flows(40)) {
        decode(&mut decoder, 1, &datagram);
    }
    let (sent, records) = (decoder.counters().datagrams, decoder.counters().records);
    let view = decoder.exporters().next().unwrap();
    assert_eq!((view.datagrams, view.records), (sent, 40));
    assert_eq!(view.octets, decoder.counters().octets);
    encoder.lose_datagrams(10);
    let next = datagrams(&mut encoder, &flows(1));
    let (outcome, _) = decode(&mut decoder, 1, &next[0]);
    assert!(outcome.sequence_gap);
    let wanted = (10 * records + sent / 2) / sent;
    assert_eq!(u64::from(outcome.missing_records), wanted);
    let view = decoder.exporters().next().unwrap();
    assert_eq!((view.sequence_gaps, view.missing_records), (1, wanted));
}

#[test]
fn late_datagrams_were_not_missing() {
    let (mut encoder, mut decoder) = (encoder(), decoder());
    let sent = datagrams(&mut encoder, &flows(200));
    let mut order: Vec<usize> = (0..sent.len()).collect();
    order.swap(4, 7);
    for index in order {
        decode(&mut decoder, 1, &sent[index]);
    }
    let counters = decoder.counters();
    assert!(counters.sequence_gaps > 0 && counters.reordered_datagrams > 0);
    assert_eq!(counters.missing_records, 0);
    assert_eq!(counters.records, 200);
    decode(&mut decoder, 1, &sent[5]);
    assert_eq!(decoder.counters().duplicate_datagrams, 1);
}

#[test]
fn sub_agents_count_for_themselves() {
    let agent = Address::from_v4([198, 51, 100, 1]);
    let mut decoder = decoder();
    let mut encoders = [Encoder::new(agent, 0), Encoder::new(agent, 1)];
    encoders[1].lose_datagrams(5_000);
    for _ in 0..5 {
        for encoder in &mut encoders {
            decode(&mut decoder, 1, &datagrams(encoder, &flows(1))[0]);
        }
    }
    assert_eq!(decoder.counters().sequence_gaps, 0);
    assert_eq!(decoder.exporters().count(), 1);
}

#[test]
fn agents_behind_one_source_are_exporters_of_their_own() {
    let mut decoder = decoder();
    for host in [1, 2] {
        let mut encoder = Encoder::new(Address::from_v4([198, 51, 100, host]), 0);
        decode(&mut decoder, 9, &datagrams(&mut encoder, &flows(3))[0]);
    }
    let seen: Vec<_> = decoder
        .exporters()
        .map(|view| (view.id.0, view.address.to_string(), view.records))
        .collect();
    assert_eq!(
        seen,
        [
            (100, "198.51.100.1".to_owned(), 3),
            (101, "198.51.100.2".to_owned(), 3)
        ]
    );
}

#[test]
fn samples_lost_by_the_agent_are_counted() {
    let (mut encoder, mut decoder) = (encoder(), decoder());
    encoder.lose_samples(1_000);
    decode(&mut decoder, 1, &datagrams(&mut encoder, &flows(1))[0]);
    assert_eq!(decoder.counters().agent_drops, 0, "a total before we came");
    encoder.lose_samples(7);
    decode(&mut decoder, 1, &datagrams(&mut encoder, &flows(2))[0]);
    let view = decoder.exporters().next().unwrap();
    assert_eq!((view.agent_drops, view.sample_pool), (7, 2_000));
}

#[test]
fn a_restarted_agent_is_no_loss() {
    let mut decoder = decoder();
    let mut running = encoder();
    running.lose_datagrams(90_000);
    let mut sent = Vec::new();
    running.encode(500_000_000, &flows(1), &mut sent);
    let mut restarted = encoder();
    restarted.lose_samples(3);
    restarted.encode(2_000, &flows(1), &mut sent);
    for datagram in &sent {
        decode(&mut decoder, 1, datagram);
    }
    let counters = decoder.counters();
    assert_eq!((counters.sequence_resets, counters.missing_records), (1, 0));
    assert_eq!(counters.agent_drops, 0);
}

#[test]
fn what_is_lost_while_nobody_listens_is_told_after_a_restart() {
    let (mut encoder, mut before) = (encoder(), decoder());
    for datagram in datagrams(&mut encoder, &flows(40)) {
        decode(&mut before, 1, &datagram);
    }
    let kept: Vec<_> = before
        .sequences(weir_flow_record::ReceivedAt::from_nanos(0))
        .collect();
    assert_eq!(kept.len(), 1);
    let mut after = decoder();
    after.restore(&kept[0]);
    encoder.lose_datagrams(10);
    let (outcome, _) = decode(&mut after, 1, &datagrams(&mut encoder, &flows(1))[0]);
    assert!(outcome.sequence_gap && outcome.missing_records > 0);
}
