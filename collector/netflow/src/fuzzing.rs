//! Bodies of fuzz targets: plain functions that take any octets and must return.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weir_flow_record::{ColumnSet, FlowBatch, ReceivedAt};

use crate::cursor::Cursor;
use crate::{Decoder, Limits};

/// Decodes `data` as a series of datagrams, each behind two octets of length, from four exporters in turn, with narrow
/// limits; checks that columns and descriptions fit each other. Panics only if the decoder is wrong.
pub fn fuzz_datagrams(data: &[u8]) {
    let limits = Limits {
        max_exporters: 3,
        max_domains_per_exporter: 4,
        max_templates_per_exporter: 16,
        max_fields_per_template: 64,
        max_samplers: 4,
        template_octets: 64 << 10,
        template_octets_per_exporter: 32 << 10,
        held_back_octets: 16 << 10,
        held_back_octets_per_exporter: 8 << 10,
        max_connections: 8,
        ..Limits::default()
    };
    let Ok(limits) = limits.check() else {
        return;
    };
    let mut decoder = Decoder::new(limits, ColumnSet::ALL);
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    let mut cursor = Cursor::new(data);
    let mut turn = 0u8;
    while let Some(length) = cursor.u16() {
        let length = usize::from(length).min(cursor.remaining());
        let Some(datagram) = cursor.take(length) else {
            return;
        };
        turn = turn.wrapping_add(1);
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, turn % 4)), 2055);
        let at = ReceivedAt::from_nanos(i64::from(turn) * 1_000_000_000);
        batch.clear();
        let outcome = match turn % 8 {
            5 => {
                decoder.handle_session_closed(from);
                decoder.handle_message(at, from, datagram, &mut batch)
            }
            6 | 7 => decoder.handle_message(at, from, datagram, &mut batch),
            _ => decoder.handle_datagram(at, from, datagram, &mut batch),
        };
        assert_eq!(u64::from(outcome.rows), batch.len() as u64);
        check_columns(&batch);
        decoder.handle_timeout(at);
        while decoder.poll_change().is_some() {}
        while decoder.poll_name().is_some() {}
    }
    assert!(decoder.exporters().all(|view| view.templates <= 16));
}

fn check_columns(batch: &FlowBatch) {
    let rows = batch.len();
    let described: usize = batch.datagrams.iter().map(|info| info.rows.len()).sum();
    assert_eq!(described, rows);
    if let Some(last) = rows.checked_sub(1) {
        let _ = batch.row(last);
    }
    assert_eq!(batch.forwarding_status.len(), rows);
    assert_eq!(batch.flow_start.len(), rows);
    assert_eq!(batch.flow_end.len(), rows);
    assert_eq!(batch.sampling_rate.len(), rows);
    assert_eq!(batch.extra.flow_label.len(), rows);
    assert_eq!(batch.extra.icmp_code.len(), rows);
    assert_eq!(batch.extra.next_hop.len(), rows);
}
