//! The thresholds that hold where the file has none: for every vector of the catalogue, far above what services need.

use std::time::Duration;

use weir_flow_record::{Direction, Period, Quantity, Vector};

use crate::config::ThresholdConfig;

const M: u64 = 1_000_000;
const K: u64 = 1_000;

/// A row of the tables: vector, bits and packets per second, seconds.
type Row = (Vector, u64, u64, u64);

/// To a host. What answers its own requests may be much; what nobody asks for is little. Connection attempts count as far as
/// accepted connections do not explain them.
const INBOUND: [Row; 15] = [
    (Vector::UdpFlood, 1000 * M, 100 * K, 1),
    (Vector::TcpAckFlood, 1000 * M, 100 * K, 1),
    (Vector::TcpSynFlood, 1000 * M, 20 * K, 2),
    (Vector::TcpSynackReflection, 1000 * M, 20 * K, 2),
    (Vector::TcpRstFlood, 1000 * M, 20 * K, 1),
    (Vector::IcmpFlood, 200 * M, 20 * K, 1),
    (Vector::IpFragments, 300 * M, 30 * K, 2),
    (Vector::DnsAmplification, 300 * M, 50 * K, 2),
    (Vector::NtpAmplification, 100 * M, 20 * K, 1),
    (Vector::SsdpAmplification, 100 * M, 20 * K, 1),
    (Vector::SnmpAmplification, 200 * M, 20 * K, 1),
    (Vector::CldapAmplification, 100 * M, 20 * K, 1),
    (Vector::MemcachedAmplification, 100 * M, 20 * K, 1),
    (Vector::ChargenAmplification, 100 * M, 20 * K, 1),
    (Vector::DnsQueryFlood, 500 * M, 50 * K, 1),
];

/// From a host: servers send much, but nobody serves SYNs, pings or reflections.
const OUTBOUND: [Row; 13] = [
    (Vector::UdpFlood, 4000 * M, 400 * K, 5),
    (Vector::TcpSynFlood, 1000 * M, 20 * K, 2),
    (Vector::TcpRstFlood, 1000 * M, 50 * K, 2),
    (Vector::IcmpFlood, 200 * M, 20 * K, 2),
    (Vector::IpFragments, 500 * M, 50 * K, 2),
    (Vector::DnsAmplification, 500 * M, 100 * K, 2),
    (Vector::NtpAmplification, 200 * M, 50 * K, 2),
    (Vector::SsdpAmplification, 100 * M, 20 * K, 2),
    (Vector::SnmpAmplification, 200 * M, 20 * K, 2),
    (Vector::CldapAmplification, 100 * M, 20 * K, 2),
    (Vector::MemcachedAmplification, 100 * M, 20 * K, 2),
    (Vector::ChargenAmplification, 100 * M, 20 * K, 2),
    (Vector::DnsQueryFlood, 500 * M, 50 * K, 5),
];

impl ThresholdConfig {
    /// The threshold for all traffic to a host that holds where the file has none.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            bits_per_second: Some(Quantity(1000 * M)),
            packets_per_second: Some(Quantity(100 * K)),
            flows_per_second: Some(Quantity(20 * K)),
            ..Self::default()
        }
    }

    /// All thresholds that hold where the file has none: for all traffic to a host, and for each vector, in and out.
    #[must_use]
    pub fn all_built_in() -> Vec<Self> {
        let inbound = INBOUND.iter().map(|row| of(row, Direction::In));
        let outbound = OUTBOUND.iter().map(|row| of(row, Direction::Out));
        std::iter::once(Self::built_in())
            .chain(inbound)
            .chain(outbound)
            .collect()
    }
}

fn of((vector, bits, packets, seconds): &Row, direction: Direction) -> ThresholdConfig {
    ThresholdConfig {
        direction,
        vector: vector.name().to_owned(),
        bits_per_second: Some(Quantity(*bits)),
        packets_per_second: Some(Quantity(*packets)),
        beyond_connections: matches!(vector, Vector::TcpSynFlood | Vector::TcpSynackReflection),
        hold: Period(Duration::from_secs(*seconds)),
        ..ThresholdConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_has_a_limit_inbound() {
        let all = ThresholdConfig::all_built_in();
        for vector in Vector::ALL {
            let of_vector =
                |t: &&ThresholdConfig| t.vector == vector.name() && t.direction == Direction::In;
            assert_eq!(all.iter().filter(of_vector).count(), 1, "{vector}");
        }
    }
}
