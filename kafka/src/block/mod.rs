//! Blocks of flow records: one message of Kafka holds some 500 records of one exporter and observation domain, in columns. It
//! takes a seventh of the work of as many single messages, and about a third of their octets.
//!
//! Version 1; numbers are varints (LEB128, at most ten octets) but where it says otherwise, and `i64` are zigzag:
//!
//! ```text
//! "WEIR" version:u8 rows datagrams projection exporter:[u8; 16] domain
//! datagrams × { rows protocol:u8 sequence received_at−before:i64 export_time−received_at:i64 present }
//! columns, those of `projection` last: tag:u8 and then, by the tag,
//!     0  one value that all rows have
//!     1  a value each
//!     2  IPv4 addresses, four octets each; times in ms
//! ```
//!
//! Addresses, prefix lengths, MAC addresses and all other columns of octets are written as they are. `flow_end` is the
//! difference to the row before, `flow_start` to the row's `flow_end`. `projection` and `present` are the bits of
//! [`ColumnSet`](weir_flow_record::ColumnSet).

mod columns;
mod decode;
mod encode;

pub use decode::{BlockError, decode};
pub use encode::encode;

/// Records of a block, at most: in the worst case these are 400 kB, and a broker takes 1 MB.
pub const MAX_ROWS: usize = 2048;

/// The first octets of every block.
const MAGIC: [u8; 4] = *b"WEIR";
/// The version that is written and read.
const VERSION: u8 = 1;

/// All rows have the same value, which follows.
const SAME: u8 = 0;
/// Each row has its value.
const EACH: u8 = 1;
/// Each row has its value, in a shorter form.
const SHORT: u8 = 2;

const NANOS_OF_MS: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_flow_record::{
        Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, ExtraRow,
        FlowBatch, FragmentKind, ObservationDomainId, ReceivedAt, Row,
    };

    use super::*;
    use crate::fuzzing::fuzz_block;

    fn exporter() -> (Address, ObservationDomainId) {
        (
            Address::from_v4([198, 51, 100, 1]),
            ObservationDomainId(4_000_000_000),
        )
    }

    fn datagram(rows: std::ops::Range<u32>, sequence: u32, times: (i64, i64)) -> DatagramInfo {
        let (exporter_address, domain) = exporter();
        DatagramInfo {
            rows,
            exporter: ExporterId(0),
            exporter_address,
            domain,
            protocol: ExportProtocol::Ipfix,
            sequence,
            received_at: ReceivedAt::from_nanos(times.0),
            export_time: ExportTime::from_nanos(times.1),
            present: ColumnSet::FLOW_TIMES,
        }
    }

    /// A batch of `rows` by an arbitrary pattern: equal, small and extreme values all occur.
    fn batch(rows: &[(u64, u64)], projection: u32, split: usize) -> FlowBatch {
        let mut batch = FlowBatch::with_projection(ColumnSet(projection & ColumnSet::ALL.0));
        for (a, b) in rows {
            let address = |value: u64| match value % 3 {
                0 => Address::from_v4((value as u32).to_be_bytes()),
                1 => Address::from_octets((u128::from(value) << 64).to_be_bytes()),
                _ => Address::UNSPECIFIED,
            };
            let row = Row {
                source_address: address(*a),
                destination_address: address(*b),
                source_port: *a as u16,
                destination_port: *b as u16,
                protocol: *a as u8,
                tcp_flags: *b as u16,
                fragment: FragmentKind::from_number((*a % 3) as u8),
                octets: *a,
                packets: *b,
                flow_start: *a as i64,
                flow_end: *b as i64,
                sampling_rate: *a as u32,
                input_interface: *b as u32,
                output_interface: *a as u32,
                direction: *b as u8,
                forwarding_status: *a as u8,
            };
            let extra = ExtraRow {
                tos: *a as u8,
                ttl: *b as u8,
                icmp_type: *a as u8,
                icmp_code: *b as u8,
                vlan_id: *a as u16,
                source_as: *b as u32,
                destination_as: *a as u32,
                next_hop: address(*a),
                source_prefix_length: *a as u8,
                destination_prefix_length: *b as u8,
                source_mac: [*a as u8; 6],
                destination_mac: [*b as u8; 6],
                flow_label: *a as u32,
                inner_source_address: address(*b),
                inner_destination_address: address(*a),
                inner_source_port: *b as u16,
                inner_destination_port: *a as u16,
                inner_protocol: *b as u8,
            };
            batch.push_with(&row, &extra);
        }
        let (split, end) = (split.min(rows.len()) as u32, rows.len() as u32);
        let (a, b) = rows.first().copied().unwrap_or_default();
        batch
            .datagrams
            .push(datagram(0..split, a as u32, (a as i64, b as i64)));
        batch
            .datagrams
            .push(datagram(split..end, b as u32, (i64::MIN, i64::MAX)));
        batch
    }

    fn assert_equal(left: &FlowBatch, right: &FlowBatch) {
        assert_eq!(
            (left.len(), left.projection),
            (right.len(), right.projection)
        );
        for row in 0..left.len() {
            assert_eq!(left.row(row), right.row(row), "row {row}");
            assert_eq!(left.extra_row(row), right.extra_row(row), "row {row}");
        }
        let datagrams = |batch: &FlowBatch| {
            let told = batch.datagrams.iter().filter(|d| !d.rows.is_empty());
            told.cloned().collect::<Vec<_>>()
        };
        assert_eq!(datagrams(left), datagrams(right));
    }

    fn read(block: &[u8]) -> Result<FlowBatch, BlockError> {
        let mut read = FlowBatch::default();
        decode(block, &mut read).map(|()| read)
    }

    #[test]
    fn a_usual_block_is_small() {
        let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
        for n in 0..500_u32 {
            batch.push(&Row {
                source_address: Address::from_v4((0x0a00_0000 + n * 977).to_be_bytes()),
                destination_address: Address::from_v4([203, 0, 113, n as u8]),
                source_port: (n * 7919) as u16,
                destination_port: 443,
                protocol: 6,
                tcp_flags: 24,
                octets: 1500 * u64::from(n),
                packets: n.into(),
                flow_start: 1_700_000_000_000_000_000 + i64::from(n) * 3_000_000,
                flow_end: 1_700_000_005_000_000_000 + i64::from(n) * 2_000_000,
                sampling_rate: 1000,
                ..Row::default()
            });
        }
        let times = (1_700_000_006_000_000_000, 1_700_000_005_999_000_000);
        batch.datagrams.push(datagram(0..500, 1, times));
        let mut block = Vec::new();
        encode(&batch, &mut block);
        assert!(block.len() < 500 * 24, "{} octets", block.len());
        assert_equal(&read(&block).unwrap(), &batch);
    }

    #[test]
    fn the_largest_block_fits_into_a_message() {
        let rows: Vec<(u64, u64)> = (0..MAX_ROWS as u64)
            .map(|n| (u64::MAX - 3 * n - n % 2, u64::MAX / 2 + 3 * n + 1))
            .collect();
        let mut batch = batch(&rows, ColumnSet::ALL.0, 0);
        batch.datagrams = (0..MAX_ROWS as u32)
            .map(|n| datagram(n..n + 1, u32::MAX, (i64::MIN * i64::from(n % 2), i64::MAX)))
            .collect();
        let mut block = Vec::new();
        encode(&batch, &mut block);
        assert!(block.len() < 900_000, "{} octets", block.len());
        assert_equal(&read(&block).unwrap(), &batch);
    }

    #[test]
    fn a_block_of_another_version_is_told_from_garbage() {
        let mut block = Vec::new();
        encode(&batch(&[(1, 2)], 0, 1), &mut block);
        block[4] = 2;
        assert_eq!(read(&block).unwrap_err(), BlockError::Version(2));
        block[0] = b'w';
        assert_eq!(read(&block).unwrap_err(), BlockError::Magic);
    }

    #[test]
    fn counts_are_bounded_before_memory_is_taken() {
        // 2⁶³ rows in 24 octets.
        let mut block = b"WEIR\x01".to_vec();
        block.extend_from_slice(&[0xff; 8]);
        block.extend_from_slice(&[0x7f; 11]);
        assert!(matches!(read(&block), Err(BlockError::Value { .. })));
    }

    proptest! {
        // A case reads its block once for each octet of it.
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_is_written_is_read(
            rows in prop::collection::vec(
                prop_oneof![
                    (any::<u64>(), any::<u64>()),
                    (0..5_u64, 0..5_u64),
                    (Just(7_000_000_u64), 0..3_u64).prop_map(|(a, b)| (a, b * 1_000_000)),
                ],
                1..40,
            ),
            projection in any::<u32>(),
            split in 0..40_usize,
        ) {
            let batch = batch(&rows, projection, split);
            let mut block = Vec::new();
            encode(&batch, &mut block);
            assert_equal(&read(&block).unwrap(), &batch);
            // Every block cut short is an error, and so is one with something behind it.
            for end in 0..block.len() {
                prop_assert!(read(&block[..end]).is_err(), "cut at {end}");
            }
            block.push(0);
            prop_assert!(read(&block).is_err());
        }

        #[test]
        fn hostile_octets_do_no_harm(
            rows in prop::collection::vec((any::<u64>(), 0..9_u64), 1..20),
            projection in any::<u32>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut block = Vec::new();
            encode(&batch(&rows, projection, 5), &mut block);
            for (at, value) in changes {
                let at = at.index(block.len());
                block[at] = value;
            }
            fuzz_block(&block);
            fuzz_block(&noise);
            fuzz_block(&[b"WEIR\x01".as_slice(), &noise].concat());
        }
    }
}
