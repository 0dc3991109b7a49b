//! Broken and hostile datagrams: counted, bounded, never a panic.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{at, batch, datagrams, decode, decoder, encoder, flows};
use proptest::prelude::*;
use weir_flow_record::{Address, ColumnSet, ExporterId};
use weir_sflow::encode::{Encoder, Sample};
use weir_sflow::{DatagramError, Decoder, Limits};

proptest! {
    #[test]
    fn any_octets_are_survived(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        weir_sflow::fuzzing::fuzz_datagrams(&data);
    }

    #[test]
    fn changed_datagrams_are_survived(changes in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..8)) {
        let mut data = Vec::new();
        for datagram in datagrams(&mut encoder(), &flows(30)) {
            data.extend((datagram.len() as u16).to_be_bytes());
            data.extend(datagram);
        }
        for (index, octet) in changes {
            let at = index.index(data.len());
            data[at] = octet;
        }
        weir_sflow::fuzzing::fuzz_datagrams(&data);
    }
}

fn one(samples: &[Sample]) -> Vec<u8> {
    datagrams(&mut encoder(), samples).remove(0)
}

#[test]
fn a_cut_datagram_gives_what_came_before() {
    let datagram = one(&flows(5));
    let mut seen = 0;
    for length in 0..datagram.len() {
        let (outcome, batch) = decode(&mut decoder(), 1, &datagram[..length]);
        assert!(outcome.malformed.is_some(), "{length}");
        assert!(batch.len() >= seen);
        seen = batch.len();
    }
    assert_eq!(seen, 4);
    let (outcome, _) = decode(&mut decoder(), 1, &datagram[..datagram.len() - 1]);
    let error = DatagramError::Truncated {
        stated: 5,
        missing: 1,
    };
    assert_eq!(outcome.malformed, Some(error));
}

#[test]
fn octets_behind_the_samples_do_not_matter() {
    let mut datagram = one(&flows(2));
    datagram.extend([0xff; 100]);
    let (outcome, batch) = decode(&mut decoder(), 1, &datagram);
    assert_eq!((outcome.malformed, batch.len()), (None, 2));
}

#[test]
fn samples_of_unknown_format_are_skipped() {
    let mut datagram = one(&flows(2));
    // Enterprise 4300, format 2: the first sample's word behind the header of 28 octets.
    datagram[28..32].copy_from_slice(&(4300_u32 << 12 | 2).to_be_bytes());
    let (outcome, batch) = decode(&mut decoder(), 1, &datagram);
    assert_eq!((outcome.skipped_samples, outcome.flow_samples), (1, 1));
    assert_eq!((batch.len(), batch.destination_port[0]), (1, 1));
}

#[test]
fn a_record_longer_than_its_sample_spoils_only_that_sample() {
    let mut datagram = one(&flows(2));
    // Sample header 8, flow fields 32, record format 4: the record's length.
    datagram[72..76].copy_from_slice(&4096_u32.to_be_bytes());
    let (outcome, batch) = decode(&mut decoder(), 1, &datagram);
    assert_eq!((outcome.malformed_samples, outcome.flow_samples), (1, 2));
    assert_eq!((batch.len(), outcome.records), (1, 1));
}

#[test]
fn other_versions_and_agents_are_refused() {
    let (outcome, _) = decode(&mut decoder(), 1, &[0, 0, 0, 4, 0, 0, 0, 1]);
    assert_eq!(
        outcome.malformed,
        Some(DatagramError::Version { version: 4 })
    );
    let mut datagram = one(&flows(1));
    datagram[7] = 3;
    let (outcome, _) = decode(&mut decoder(), 1, &datagram);
    assert!(matches!(
        outcome.malformed,
        Some(DatagramError::Header { .. })
    ));
    assert!(weir_sflow::is_sflow(&datagram) && !weir_sflow::is_sflow(&[0, 5, 0, 1]));
}

#[test]
fn an_agent_without_address_is_known_by_its_source() {
    let mut encoder = Encoder::new(Address::UNSPECIFIED, 0);
    let (_, batch) = decode(&mut decoder(), 9, &datagrams(&mut encoder, &flows(1))[0]);
    assert_eq!(
        batch.datagrams[0].exporter_address,
        Address::from_v4([192, 0, 2, 9])
    );
}

#[test]
fn tables_are_bounded_and_silent_exporters_give_way() {
    let limits = Limits {
        max_exporters: 3,
        max_agents_per_source: 2,
        max_sub_agents_per_exporter: 2,
        max_data_sources: 2,
        max_counters: 2,
    };
    let mut decoder = Decoder::new(limits.check().unwrap(), ColumnSet::NONE, ExporterId(0));
    let mut batch = batch();
    let mut send = |decoder: &mut Decoder, second: i64, source: u8, agent: u8, sub_agent: u32| {
        let mut encoder = Encoder::new(Address::from_v4([198, 51, 100, agent]), sub_agent);
        let datagram = datagrams(&mut encoder, &flows(1)).remove(0);
        decoder.handle_datagram(at(second), common::from(source), &datagram, &mut batch)
    };
    for agent in 0..3 {
        let outcome = send(&mut decoder, 0, 1, agent, 0);
        assert_eq!(
            outcome.malformed,
            (agent == 2).then_some(DatagramError::Refused)
        );
    }
    send(&mut decoder, 10, 2, 0, 0);
    assert_eq!(
        send(&mut decoder, 20, 3, 0, 0).malformed,
        Some(DatagramError::Refused)
    );
    assert_eq!(decoder.counters().refused_datagrams, 2);
    let late = send(&mut decoder, 3_605, 3, 0, 0);
    assert_eq!(
        late.exporter,
        Some(ExporterId(0)),
        "in the place of the silent one"
    );
    for sub_agent in 0..5 {
        assert_eq!(send(&mut decoder, 3_605, 3, 0, sub_agent).malformed, None);
    }
    assert!(decoder.counters().refused_data_sources > 0);
    assert_eq!(decoder.exporters().count(), 3);
}
