//! Bodies of fuzz targets: plain functions that take any octets and must return.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weir_flow_record::{ColumnSet, ExporterId, FlowBatch, ReceivedAt};

use crate::{Decoder, Limits};

/// Decodes `data` as a series of datagrams, each behind two octets of length, from four sources in turn, with narrow limits;
/// checks that columns and descriptions fit each other. Panics only if the decoder is wrong.
pub fn fuzz_datagrams(data: &[u8]) {
    let limits = Limits {
        max_exporters: 3,
        max_agents_per_source: 2,
        max_sub_agents_per_exporter: 2,
        max_data_sources: 8,
        max_counters: 4,
    };
    let Ok(limits) = limits.check() else {
        return;
    };
    let mut decoder = Decoder::new(limits, ColumnSet::ALL, ExporterId(1000));
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    let (mut rest, mut turn) = (data, 0_u8);
    while let [high, low, datagrams @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(datagrams.len());
        let (datagram, others) = datagrams.split_at(length);
        rest = others;
        turn = turn.wrapping_add(1);
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, turn % 4)), 6343);
        let at = ReceivedAt::from_nanos(i64::from(turn) * 1_000_000_000_000);
        batch.clear();
        let outcome = decoder.handle_datagram(at, from, datagram, &mut batch);
        assert_eq!(outcome.records as usize, batch.len());
        assert!(outcome.records <= outcome.flow_samples);
        check_columns(&batch);
    }
    assert!(decoder.exporters().count() <= 3);
    assert!((0..=4).contains(&std::iter::from_fn(|| decoder.poll_counters()).count()));
}

fn check_columns(batch: &FlowBatch) {
    let rows = batch.len();
    let described: usize = batch.datagrams.iter().map(|info| info.rows.len()).sum();
    assert_eq!(described, rows);
    if let Some(last) = rows.checked_sub(1) {
        let _ = batch.row(last);
    }
    assert_eq!(batch.forwarding_status.len(), rows);
    assert_eq!(batch.extra.tos.len(), rows);
    assert_eq!(batch.extra.next_hop.len(), rows);
    assert_eq!(batch.extra.inner_protocol.len(), rows);
}
