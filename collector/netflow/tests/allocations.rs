//! Decoding allocates nothing once exporter, templates and columns are there.

mod common;

use common::{Bytes, decode, decoder, export_time, from, ipfix, received, rows, template_of};
use weir_flow_record::{ColumnSet, FlowBatch, ObservationDomainId};
use weir_netflow::encode::{Encoder, Format};

#[test]
fn a_warm_decoder_allocates_nothing() {
    for format in [Format::Ipfix, Format::NetflowV9, Format::NetflowV5] {
        let mut encoder = Encoder::new(format, ObservationDomainId(1)).with_sampling_rate(100);
        let mut datagrams = Vec::new();
        encoder.encode_templates(export_time(0), &mut datagrams);
        encoder.encode_flows(export_time(0), &rows(500, false), &mut datagrams);
        encoder.encode_flows(export_time(0), &rows(500, true), &mut datagrams);
        let mut decoder = decoder();
        let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
        let mut round = |batch: &mut FlowBatch| {
            batch.clear();
            for datagram in &datagrams {
                decoder.handle_datagram(received(0), from(1), datagram, batch);
            }
            decoder.handle_timeout(received(0));
            while decoder.poll_change().is_some() {}
        };
        round(&mut batch);
        round(&mut batch);
        let used = allocation_counter::measure(|| round(&mut batch));
        assert_eq!(used.count_total, 0, "{format:?}");
        assert!(batch.len() >= 500);
    }
}

#[test]
fn neither_do_both_directions_variable_lengths_and_firewalls() {
    let define = Bytes::default()
        .set(
            2,
            &template_of(256, &[(0, 82, 65_535), (0, 1, 4), (29_305, 1, 4)]),
        )
        .set(
            2,
            &template_of(257, &[(0, 148, 4), (0, 233, 1), (0, 231, 4), (0, 232, 4)]),
        );
    let flow = |back: u32| Bytes::default().raw(b"\x02ab").u32(7).u32(back);
    let event = |kind: u8| Bytes::default().u32(1).u8(kind).u32(5).u32(0);
    let data = Bytes::default()
        .set(256, &flow(0).raw(&flow(9).0))
        .set(257, &event(5).raw(&event(2).0).raw(&event(1).0));
    let (mut decoder, mut batch) = (decoder(), FlowBatch::default());
    decode(&mut decoder, 0, 1, &ipfix(1, 0, &define));
    let message = ipfix(1, 0, &data);
    let mut round = || {
        batch.clear();
        let outcome = decoder.handle_datagram(received(0), from(1), &message, &mut batch);
        assert_eq!((outcome.records, outcome.rows), (5, 5));
    };
    round();
    let used = allocation_counter::measure(&mut round);
    assert_eq!(used.count_total, 0);
}

#[test]
fn the_measure_sees_allocations() {
    let mut decoder = decoder();
    let used = allocation_counter::measure(|| {
        decode(&mut decoder, 0, 1, &[0, 9]);
        std::hint::black_box(Vec::<u8>::with_capacity(100));
    });
    assert!(used.count_total > 0);
}
