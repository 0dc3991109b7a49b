//! Decoding allocates nothing once exporter, data sources and columns are there.

mod common;

use common::{at, batch, datagrams, decoder, encoder, flows, from};
use weir_sflow::InterfaceCounters;
use weir_sflow::encode::Sample;

#[test]
fn a_warm_decoder_allocates_nothing() {
    let mut samples = flows(500);
    samples.push(Sample::Counters(InterfaceCounters::default()));
    samples.push(Sample::Discarded {
        input_interface: 1,
        reason: 1,
    });
    let datagrams = datagrams(&mut encoder(), &samples);
    let (mut decoder, mut batch) = (decoder(), batch());
    let mut round = || {
        batch.clear();
        for datagram in &datagrams {
            decoder.handle_datagram(at(0), from(1), datagram, &mut batch);
        }
        while decoder.poll_counters().is_some() {}
        batch.len()
    };
    assert_eq!((round(), round()), (500, 500));
    let used = allocation_counter::measure(|| {
        round();
    });
    assert_eq!(used.count_total, 0);
    let used = allocation_counter::measure(|| {
        std::hint::black_box(Vec::<u8>::with_capacity(100));
    });
    assert!(used.count_total > 0, "the measure sees allocations");
}
