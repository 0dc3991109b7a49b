//! Records that carry the first octets of sampled packets (IE 313, 315).

mod common;

use common::{Bytes, decode, decoder, ipfix, template};
use weir_flow_record::{Address, ColumnSet, ExtraRow, FlowBatch, Row};

const VARIABLE: u16 = 65_535;

fn row() -> Row {
    Row {
        source_address: Address::from_v4([192, 0, 2, 1]),
        destination_address: Address::from_v4([203, 0, 113, 9]),
        source_port: 53,
        destination_port: 4444,
        protocol: 17,
        octets: 1200,
        ..Row::default()
    }
}

fn frame() -> Vec<u8> {
    let extra = ExtraRow {
        vlan_id: 7,
        ttl: 63,
        tos: 8,
        source_mac: [1; 6],
        destination_mac: [2; 6],
        ..ExtraRow::default()
    };
    let mut frame = Vec::new();
    weir_packet::encode::ethernet(&row(), &extra, &mut frame);
    frame
}

fn batch(fields: &[(u16, u16)], records: &[u8]) -> FlowBatch {
    let sets = Bytes::default()
        .set(2, &template(256, fields))
        .set(256, &Bytes::default().raw(records));
    let (outcome, batch) = decode(&mut decoder(), 0, 1, &ipfix(1, 0, &sets));
    assert_eq!(outcome.undecodable_sets, 0);
    assert_eq!(outcome.records as usize, batch.len());
    batch
}

fn assert_is_row(batch: &FlowBatch, index: usize) {
    let (got, want) = (batch.row(index), row());
    assert_eq!(
        (got.source_address, got.destination_address, got.protocol),
        (want.source_address, want.destination_address, want.protocol)
    );
    assert_eq!((got.source_port, got.destination_port), (53, 4444));
}

#[test]
fn frames_of_any_length_fill_rows() {
    let frame = frame();
    let mut records = Vec::new();
    for length in [frame.len(), 300, 20] {
        let mut section = frame.clone();
        section.resize(length, 0xee);
        records.extend([4, 176]);
        if length < 255 {
            records.push(length as u8);
        } else {
            records.push(255);
            records.extend((length as u16).to_be_bytes());
        }
        records.extend(section);
    }
    let batch = batch(&[(312, 2), (315, VARIABLE)], &records);
    assert_eq!(batch.octets, [1200, 1200, 1200]);
    assert_eq!(batch.packets, [1, 1, 1]);
    assert_is_row(&batch, 0);
    assert_is_row(&batch, 1);
    assert_eq!(batch.source_address[2], Address::UNSPECIFIED, "cut");
    assert_eq!(batch.extra.source_mac, [[1; 6]; 3]);
    assert_eq!(
        (
            batch.extra.vlan_id[0],
            batch.extra.ttl[0],
            batch.extra.tos[0]
        ),
        (7, 63, 8)
    );
    assert!(
        batch.datagrams[0]
            .present
            .has(ColumnSet::MAC.with(ColumnSet::TTL))
    );
}

#[test]
fn packets_of_fixed_length_fill_rows_and_own_elements_win() {
    let mut packet = Vec::new();
    weir_packet::encode::ip(&row(), &ExtraRow::default(), 900, &mut packet);
    packet.resize(40, 0);
    let records = [
        &[0, 0, 0, 80][..],
        &packet,
        &9_u32.to_be_bytes(),
        &[0, 0, 3, 0],
    ]
    .concat();
    let batch = batch(&[(10, 4), (313, 40), (2, 4), (1, 4)], &records);
    assert_is_row(&batch, 0);
    assert_eq!(
        (batch.packets[0], batch.octets[0], batch.input_interface[0]),
        (9, 768, 80)
    );
    let [source, destination] = [[10, 0, 0, 1], [10, 0, 0, 2]];
    let records = [&source[..], &destination, &packet].concat();
    let batch = self::batch(&[(8, 4), (12, 4), (313, 40)], &records);
    assert_eq!(batch.source_address[0], Address::from_v4(source));
    assert_eq!(
        (batch.source_port[0], batch.octets[0], batch.packets[0]),
        (53, 900, 1)
    );
}

#[test]
fn the_packet_within_a_tunnel_stands_apart() {
    let mut packet = Vec::new();
    let outer = Row {
        protocol: 4,
        source_port: 0,
        destination_port: 0,
        ..row()
    };
    weir_packet::encode::ip(&outer, &ExtraRow::default(), 100, &mut packet);
    weir_packet::encode::ip(&row(), &ExtraRow::default(), 80, &mut packet);
    let length = packet.len() as u16;
    let batch = batch(&[(313, length)], &packet);
    assert_eq!((batch.protocol[0], batch.source_port[0]), (4, 0));
    let extra = batch.extra_row(0);
    assert_eq!((extra.inner_protocol, extra.inner_source_port), (17, 53));
    assert_eq!(extra.inner_destination_address, row().destination_address);
}
