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
        NetflowPacket::V5(packet) => packet
            .flowsets
            .iter()
            .map(|flow| (flow.d_octets.into(), flow.d_pkts.into()))
            .collect(),
        NetflowPacket::V7(packet) => packet
            .flowsets
            .iter()
            .map(|flow| (flow.d_octets.into(), flow.d_pkts.into()))
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// A v5 or v7 datagram of random records.
fn legacy(random: &mut ChaCha8Rng, version: u16) -> (Vec<u8>, u32) {
    let count = random.random_range(1..28u16);
    let record = if version == 5 { 48 } else { 52 };
    let mut content = vec![0; usize::from(count) * record];
    random.fill_bytes(&mut content);
    let datagram = Bytes::default()
        .u16(version)
        .u16(count)
        .u32(100_000)
        .u32(1_700_000_000)
        .u32(0)
        .u32(0)
        .u32(0)
        .raw(&content);
    (datagram.0, u32::from(count))
}

#[test]
fn random_v5_and_v7_give_the_same_sums_and_fields() {
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let (mut ours, mut theirs) = (decoder(), NetflowParser::default());
    for round in 0..400 {
        let (datagram, records) = legacy(&mut random, [5, 7][round % 2]);
        compare(&mut ours, &mut theirs, &datagram, records);
        let (_, batch) = decode(&mut ours, 0, 1, &datagram);
        let fields: Vec<String> = theirs
            .parse_bytes(&datagram)
            .packets
            .into_iter()
            .flat_map(|packet| match packet {
                NetflowPacket::V5(packet) => packet
                    .flowsets
                    .iter()
                    .map(|f| {
                        let addresses = (f.src_addr, f.dst_addr, f.next_hop);
                        let ports = (f.src_port, f.dst_port, f.protocol_number, f.tcp_flags);
                        let rest = (f.input, f.output, f.tos, f.src_as, f.dst_as);
                        format!(
                            "{addresses:?} {ports:?} {rest:?} {:?}",
                            (f.src_mask, f.dst_mask)
                        )
                    })
                    .collect::<Vec<_>>(),
                NetflowPacket::V7(packet) => packet
                    .flowsets
                    .iter()
                    .map(|f| {
                        let addresses = (f.src_addr, f.dst_addr, f.next_hop);
                        let ports = (f.src_port, f.dst_port, f.protocol_number, f.tcp_flags);
                        let rest = (f.input, f.output, f.tos, f.src_as, f.dst_as);
                        format!(
                            "{addresses:?} {ports:?} {rest:?} {:?}",
                            (f.src_mask, f.dst_mask)
                        )
                    })
                    .collect(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(fields.len(), batch.len());
        for (index, theirs) in fields.iter().enumerate() {
            let (row, extra) = (batch.row(index), &batch.extra);
            let addresses = (
                row.source_address.ip(),
                row.destination_address.ip(),
                extra.next_hop[index].ip(),
            );
            let ports = (
                row.source_port,
                row.destination_port,
                row.protocol,
                row.tcp_flags,
            );
            let rest = (
                row.input_interface,
                row.output_interface,
                extra.tos[index],
                extra.source_as[index],
                extra.destination_as[index],
            );
            let masks = (
                extra.source_prefix_length[index],
                extra.destination_prefix_length[index],
            );
            assert_eq!(
                &format!("{addresses:?} {ports:?} {rest:?} {masks:?}"),
                theirs
            );
        }
    }
}

#[test]
fn random_options_give_as_many_records() {
    let mut random = ChaCha8Rng::seed_from_u64(10);
    let (mut ours, mut theirs) = (decoder(), NetflowParser::default());
    for round in 0..400 {
        let options = [(34, 4), (35, 1), (36, 2), (37, 2), (48, 1), (50, 4)];
        let options = &options[..random.random_range(1..=options.len())];
        let records = random.random_range(1..6);
        let stride: u16 = 4 + options.iter().map(|&(_, width)| width).sum::<u16>();
        let mut content = vec![0; usize::from(stride) * records];
        random.fill_bytes(&mut content);
        let id = random.random_range(256..260);
        let datagram = if round % 2 == 0 {
            let sets = Bytes::default()
                .set(1, &common::v9_options(id, &[(1, 4)], options))
                .set(id, &Bytes(content));
            let mut datagram = v9(1, 0, &sets);
            datagram[3] = 2;
            datagram
        } else {
            let mut fields = vec![(0, 149, 4)];
            fields.extend(options.iter().map(|&(element, width)| (0, element, width)));
            let sets = Bytes::default()
                .set(3, &common::options_template_of(id, 1, &fields))
                .set(id, &Bytes(content));
            ipfix(1, 0, &sets)
        };
        let (outcome, _) = decode(&mut ours, 0, 1, &datagram);
        let result = theirs.parse_bytes(&datagram);
        assert!(result.error.is_none(), "{:?}", result.error);
        let counted: usize = result.packets.iter().map(options_records).sum();
        assert_eq!(outcome.options_records as usize, records);
        assert_eq!(counted, records);
    }
}

fn options_records(packet: &NetflowPacket) -> usize {
    match packet {
        NetflowPacket::IPFix(message) => message
            .flowsets
            .iter()
            .map(|set| match &set.body {
                other_ipfix::FlowSetBody::OptionsData(data) => data.fields.len(),
                _ => 0,
            })
            .sum(),
        NetflowPacket::V9(message) => message
            .flowsets
            .iter()
            .map(|set| match &set.body {
                other_v9::FlowSetBody::OptionsData(data) => data.fields.len(),
                _ => 0,
            })
            .sum(),
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
