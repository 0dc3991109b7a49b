//! Batches of flow records whose octets number them.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "shared by several test binaries, each of which uses a part"
)]

use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, ReceivedAt, Row,
};

/// Exporter `n` and its domain.
pub fn source(n: u32) -> (String, u32) {
    (format!("198.51.100.{n}"), 70 + n)
}

/// `rows` records of each of `sources`, numbered on from `number`.
pub fn batch(sources: u32, rows: u32, number: &mut u64) -> FlowBatch {
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    let now = 1_790_000_000_000_000_000;
    for n in 0..sources {
        let start = batch.len() as u32;
        for _ in 0..rows {
            batch.push(&Row {
                source_address: Address::from_v4(
                    (0xc000_0200 | (*number as u32 & 0xff)).to_be_bytes(),
                ),
                destination_address: Address::from_v4([203, 0, 113, *number as u8]),
                source_port: *number as u16,
                destination_port: 53,
                protocol: 17,
                octets: *number,
                packets: 1 + *number % 7,
                flow_start: now - 2_000_000_000,
                flow_end: now,
                sampling_rate: 1000,
                forwarding_status: 64,
                ..Row::default()
            });
            *number += 1;
        }
        batch.datagrams.push(DatagramInfo {
            rows: start..batch.len() as u32,
            exporter: ExporterId(n),
            exporter_address: Address::from_v4([198, 51, 100, n as u8]),
            domain: ObservationDomainId(source(n).1),
            protocol: ExportProtocol::Ipfix,
            sequence: *number as u32,
            received_at: ReceivedAt::from_nanos(now),
            export_time: ExportTime::from_nanos(now),
            present: ColumnSet::NONE,
        });
    }
    batch.extra.destination_mac.fill([2, 0, 0, 0, 0, 1]);
    batch
}
