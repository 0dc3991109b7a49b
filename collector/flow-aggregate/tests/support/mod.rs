//! An aggregator with one zone, and records for it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test binaries, each of which uses a part"
)]

use weir_flow_aggregate::{
    AggregateSettings, AggregationConfig, Aggregator, Interesting, WindowSummary, ZonePrefixes,
};
use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, Direction, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, ReceivedAt, Row, Timestamp, ZoneId,
};

pub const SECOND: i64 = 1_000_000_000;
pub const START: i64 = 1_700_000_000 * SECOND;

/// An aggregator whose hosts are watched from `packets` per second on.
pub fn aggregator(packets: Option<u64>, max_hosts: u32) -> Aggregator {
    let config = AggregationConfig {
        max_hosts,
        ..AggregationConfig::default()
    };
    with(packets, config)
}

/// The same with room for so many watched hosts.
pub fn crowded(packets: Option<u64>, max_watched: u32) -> Aggregator {
    let config = AggregationConfig {
        max_watched,
        ..AggregationConfig::default()
    };
    with(packets, config)
}

fn with(packets: Option<u64>, config: AggregationConfig) -> Aggregator {
    let interesting = Interesting {
        direction: Direction::In,
        octets: None,
        packets,
        flows: None,
    };
    Aggregator::new(AggregateSettings {
        config,
        zones: vec![ZonePrefixes {
            zone: ZoneId(0),
            prefixes: vec![
                "10.0.0.0/8".parse().unwrap(),
                "2001:db8::/32".parse().unwrap(),
            ],
            interesting: vec![interesting],
            prefix_lengths: Vec::new(),
            automatic: Vec::new(),
        }],
        links: Vec::new(),
        shard: 0,
        active_timeouts: Vec::new(),
    })
}

pub fn v4(host: u16) -> Address {
    let [high, low] = host.to_be_bytes();
    Address::from_v4([10, 0, high, low])
}

pub fn v6(host: u16) -> Address {
    let mut octets = [0; 16];
    octets[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    octets[14..].copy_from_slice(&host.to_be_bytes());
    Address::from_octets(octets)
}

/// A record that ends `age` before its export and lasted `duration`; all in ns.
pub fn row(
    target: Address,
    received: i64,
    age: i64,
    duration: i64,
    octets: u64,
    packets: u64,
    rate: u32,
) -> Row {
    Row {
        source_address: Address::from_v4([192, 0, 2, 1]),
        destination_address: target,
        protocol: 17,
        source_port: 53,
        octets,
        packets,
        flow_start: received - age - duration,
        flow_end: received - age,
        sampling_rate: rate,
        ..Row::default()
    }
}

pub fn batch(received: i64, rows: &[Row]) -> FlowBatch {
    let mut batch = FlowBatch::default();
    rows.iter().for_each(|row| batch.push(row));
    batch.datagrams.push(DatagramInfo {
        rows: 0..u32::try_from(rows.len()).unwrap(),
        exporter: ExporterId(0),
        exporter_address: Address::from_v4([192, 0, 2, 254]),
        domain: ObservationDomainId(0),
        protocol: ExportProtocol::Ipfix,
        sequence: 0,
        received_at: ReceivedAt::from_nanos(received),
        export_time: ExportTime::from_nanos(received),
        present: ColumnSet::FLOW_TIMES,
    });
    batch
}

/// Lets the tick pass that follows the newest batch.
pub fn tick(aggregator: &mut Aggregator) -> Option<WindowSummary> {
    let due = aggregator.poll_timeout()?;
    aggregator.handle_timeout(due);
    aggregator.poll_summary()
}

pub fn second(nanos: i64) -> i64 {
    Timestamp::from_nanos(nanos).second()
}
