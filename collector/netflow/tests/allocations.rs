//! Decoding allocates nothing once exporter, templates and columns are there.

mod common;

use common::{decode, decoder, export_time, from, received, rows};
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
fn the_measure_sees_allocations() {
    let mut decoder = decoder();
    let used = allocation_counter::measure(|| {
        decode(&mut decoder, 0, 1, &[0, 9]);
        std::hint::black_box(Vec::<u8>::with_capacity(100));
    });
    assert!(used.count_total > 0);
}
