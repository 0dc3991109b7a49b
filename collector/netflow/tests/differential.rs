//! `netflow_parser` as a second opinion: on random templates and records both find as many records and the same sums.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Bytes, decode, decoder, ipfix, v9};
use netflow_parser::variable_versions::{ipfix as other_ipfix, v9 as other_v9};
use netflow_parser::{NetflowPacket, NetflowParser};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Elements with the widths that both sides know; octets and packets come first in every template.
const ELEMENTS: [(u16, &[u16]); 20] = [
    (8, &[4]),
    (12, &[4]),
    (27, &[16]),
    (28, &[16]),
    (7, &[2]),
    (11, &[2]),
    (4, &[1]),
    (6, &[1]),
    (5, &[1]),
    (10, &[2, 4]),
    (14, &[2, 4]),
    (21, &[4]),
    (22, &[4]),
    (16, &[2, 4]),
    (17, &[2, 4]),
    (9, &[1]),
    (13, &[1]),
    (56, &[6]),
    (58, &[2]),
    (61, &[1]),
];

struct Generated {
    sets: Bytes,
    records: u32,
}

/// A template and a data Set of it; octets and packets have `width` octets.
fn generate(random: &mut ChaCha8Rng, template_set: u16) -> Generated {
    let width = [4u16, 8][random.random_range(0..2)];
    let mut fields = vec![(1, width), (2, width)];
    for _ in 0..random.random_range(0..14) {
        let (element, widths) = ELEMENTS[random.random_range(0..ELEMENTS.len())];
        if fields.iter().all(|&(known, _)| known != element) {
            fields.push((element, widths[random.random_range(0..widths.len())]));
        }
    }
    let last = random.random_range(0..fields.len());
    fields.swap(0, last);
    let id = random.random_range(256..260);
    let records = random.random_range(1..20);
    let stride: u16 = fields.iter().map(|&(_, width)| width).sum();
    let mut content = vec![0; usize::from(stride) * records as usize];
    random.fill_bytes(&mut content);
    // Sums must not overflow: the high half of 64-bit counters stays zero.
    for record in content.chunks_exact_mut(usize::from(stride)) {
        let mut at = 0;
        for &(element, width) in &fields {
            if element < 3 && width == 8 {
                record[at..at + 4].fill(0);
            }
            at += usize::from(width);
        }
    }
    let sets = Bytes::default()
        .set(template_set, &common::template(id, &fields))
        .set(id, &Bytes(content));
    Generated { sets, records }
}

/// Records, octets and packets as the other decoder finds them.
fn second_opinion(parser: &mut NetflowParser, datagram: &[u8]) -> (u32, u64, u64) {
    let result = parser.parse_bytes(datagram);
    assert!(result.error.is_none(), "{:?}", result.error);
    let flows: Vec<(u64, u64)> = result.packets.into_iter().flat_map(packet_flows).collect();
    (
        flows.len() as u32,
        flows.iter().map(|flow| flow.0).sum(),
        flows.iter().map(|flow| flow.1).sum(),
    )
}

/// Octets and packets of every flow record.
fn packet_flows(packet: NetflowPacket) -> Vec<(u64, u64)> {
    let number = |value: &netflow_parser::variable_versions::field_value::FieldValue| {
        u64::try_from(value)
            .or_else(|_| u32::try_from(value).map(u64::from))
            .unwrap()
    };
    match packet {
        NetflowPacket::IPFix(message) => message
            .flowsets
            .iter()
            .filter_map(|set| match &set.body {
                other_ipfix::FlowSetBody::Data(data) => Some(&data.fields),
                _ => None,
            })
            .flatten()
            .map(|record| {
                let value = |name: &str| {
                    let found = record
                        .iter()
                        .find(|(field, _)| format!("{field:?}").contains(name));
                    number(&found.unwrap().1)
                };
                (value("OctetDeltaCount"), value("PacketDeltaCount"))
            })
            .collect(),
        NetflowPacket::V9(message) => message
            .flowsets
            .iter()
            .filter_map(|set| match &set.body {
                other_v9::FlowSetBody::Data(data) => Some(&data.fields),
                _ => None,
            })
            .flatten()
            .map(|record| {
                let value = |name: &str| {
                    let found = record
                        .iter()
                        .find(|(field, _)| format!("{field:?}") == name);
                    number(&found.unwrap().1)
                };
                (value("InBytes"), value("InPkts"))
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn random_ipfix_gives_the_same_sums() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut ours, mut theirs) = (decoder(), NetflowParser::default());
    for _ in 0..400 {
        let generated = generate(&mut random, 2);
        let datagram = ipfix(1, 0, &generated.sets);
        compare(&mut ours, &mut theirs, &datagram, generated.records);
    }
}

#[test]
fn random_v9_gives_the_same_sums() {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let (mut ours, mut theirs) = (decoder(), NetflowParser::default());
    for _ in 0..400 {
        let generated = generate(&mut random, 0);
        let mut datagram = v9(1, 0, &generated.sets);
        // The other decoder believes the Count: FlowSets, here.
        datagram[3] = 2;
        compare(&mut ours, &mut theirs, &datagram, generated.records);
    }
}

fn compare(
    ours: &mut weir_netflow::Decoder,
    theirs: &mut NetflowParser,
    datagram: &[u8],
    records: u32,
) {
    let (outcome, _) = decode(ours, 0, 1, datagram);
    let mine = (outcome.records, outcome.delta_octets, outcome.delta_packets);
    assert_eq!(mine.0, records);
    assert_eq!(mine, second_opinion(theirs, datagram));
}
