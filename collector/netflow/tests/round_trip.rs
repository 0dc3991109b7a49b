//! What the encoder writes, the decoder reads.

mod common;

use common::{decode, decoder, export_time, from, received, rows};
use weir_flow_record::{
    ColumnSet, ExportProtocol, FlowBatch, FragmentKind, ObservationDomainId, Row,
};
use weir_netflow::encode::{DEFAULT_MTU, Encoder, Format};

fn round_trip(format: Format, rows: &[Row]) -> Vec<Row> {
    let mut encoder = Encoder::new(format, ObservationDomainId(3)).with_sampling_rate(100);
    let mut datagrams = Vec::new();
    encoder.encode_templates(export_time(0), &mut datagrams);
    encoder.encode_flows(export_time(0), rows, &mut datagrams);
    let mut decoder = decoder();
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    for datagram in &datagrams {
        assert!(datagram.len() <= DEFAULT_MTU);
        let outcome = decoder.handle_datagram(received(0), from(2055), datagram, &mut batch);
        assert!(!outcome.sequence_gap && outcome.malformed.is_none());
        assert_eq!(outcome.undecodable_sets, 0);
    }
    (0..batch.len()).map(|row| batch.row(row)).collect()
}

#[test]
fn ipfix_and_v9_carry_every_field_of_both_families() {
    for (format, v6) in [
        (Format::Ipfix, false),
        (Format::Ipfix, true),
        (Format::NetflowV9, false),
        (Format::NetflowV9, true),
    ] {
        let mut rows = rows(100, v6);
        let decoded = round_trip(format, &rows);
        for row in &mut rows {
            row.sampling_rate = 100;
        }
        assert_eq!(decoded, rows, "{format:?}");
    }
}

#[test]
fn v5_carries_what_it_can() {
    let rows: Vec<Row> = rows(40, false)
        .into_iter()
        .map(|row| Row {
            sampling_rate: 100,
            fragment: FragmentKind::None,
            output_interface: 7,
            direction: 255,
            forwarding_status: 0,
            ..row
        })
        .collect();
    assert_eq!(round_trip(Format::NetflowV5, &rows), rows);
}

#[test]
fn v5_leaves_ipv6_out() {
    let mut encoder = Encoder::new(Format::NetflowV5, ObservationDomainId(0));
    let mut datagrams = Vec::new();
    assert_eq!(
        encoder.encode_flows(export_time(0), &rows(3, true), &mut datagrams),
        3
    );
    assert!(datagrams.is_empty());
}

#[test]
fn a_full_ipfix_datagram_holds_24_records() {
    let mut encoder = Encoder::new(Format::Ipfix, ObservationDomainId(0));
    let mut datagrams = Vec::new();
    encoder.encode_templates(export_time(0), &mut datagrams);
    encoder.encode_flows(export_time(0), &rows(48, false), &mut datagrams);
    assert_eq!(datagrams.len(), 3);
    assert_eq!(encoder.sequence(), 48);
    let mut decoder = decoder();
    let (outcome, _) = decode(&mut decoder, 0, 1, &datagrams[0]);
    assert_eq!(outcome.templates, 2);
    let (outcome, batch) = decode(&mut decoder, 0, 1, &datagrams[1]);
    assert_eq!((outcome.records, batch.len()), (24, 24));
    let info = &batch.datagrams[0];
    assert_eq!(info.rows, 0..24);
    assert_eq!(info.protocol, ExportProtocol::Ipfix);
    assert!(
        info.present
            .has(ColumnSet::FLOW_TIMES.with(ColumnSet::TCP_FLAGS))
    );
    assert!(!info.present.has(ColumnSet::VLAN));
}

#[test]
fn a_lost_datagram_is_a_gap() {
    for (format, missing) in [
        (Format::Ipfix, 24),
        (Format::NetflowV9, 28),
        (Format::NetflowV5, 28),
    ] {
        let mut encoder = Encoder::new(format, ObservationDomainId(0));
        let mut datagrams = Vec::new();
        encoder.encode_flows(export_time(0), &rows(28 * 6, false), &mut datagrams);
        let mut templates = Vec::new();
        let mut other = Encoder::new(format, ObservationDomainId(0));
        other.encode_templates(export_time(0), &mut templates);
        let mut decoder = decoder();
        for template in &templates {
            decode(&mut decoder, 0, 1, template);
        }
        datagrams.remove(3);
        let gaps: Vec<u32> = datagrams
            .iter()
            .map(|datagram| decode(&mut decoder, 0, 1, datagram).0)
            .filter(|outcome| outcome.sequence_gap)
            .map(|outcome| outcome.missing_records)
            .collect();
        // The mean of a v9 session counts its template's datagram too.
        let missing = if format == Format::NetflowV9 {
            21..=28
        } else {
            missing..=missing
        };
        assert!(
            gaps.len() == 1 && missing.contains(&gaps[0]),
            "{format:?}: {gaps:?}"
        );
    }
}
