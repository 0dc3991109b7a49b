//! The columns of a block, in their order, and how each kind is written and read. The order is part of the
//! format, so it is told here and not by the crate of the batch.

use weir_flow_record::Address;

use super::decode::{BlockError, Reader};
use super::encode;

/// Calls a macro with the columns of a block: those that are always there but for the times, then the optional ones.
macro_rules! with_columns {
    ($apply:ident) => {
        $apply! {
            source_address, destination_address, source_port, destination_port, protocol, tcp_flags, fragment, octets, packets,
            sampling_rate, input_interface, output_interface, direction, forwarding_status;
            TOS: tos;
            TTL: ttl;
            ICMP: icmp_type, icmp_code;
            VLAN: vlan_id;
            AS: source_as, destination_as;
            NEXT_HOP: next_hop;
            PREFIX_LENGTHS: source_prefix_length, destination_prefix_length;
            MAC: source_mac, destination_mac;
            FLOW_LABEL: flow_label;
            INNER: inner_source_address, inner_destination_address, inner_source_port, inner_destination_port, inner_protocol;
        }
    };
}
pub(super) use with_columns;

/// A kind of column.
pub(super) trait Column: Sized {
    /// Appends a column.
    fn write(column: &[Self], out: &mut Vec<u8>);
    /// Appends `rows` values to an empty column.
    fn read(reader: &mut Reader<'_>, rows: usize, column: &mut Vec<Self>)
    -> Result<(), BlockError>;
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $( impl Column for $number {
            fn write(column: &[Self], out: &mut Vec<u8>) {
                encode::values(column, out, |out, value| encode::unsigned(out, value.into()));
            }

            fn read(reader: &mut Reader<'_>, rows: usize, column: &mut Vec<Self>) -> Result<(), BlockError> {
                reader.values(rows, column, Reader::number)
            }
        } )*
    };
}
numbers!(u16, u32, u64);

impl Column for u8 {
    fn write(column: &[Self], out: &mut Vec<u8>) {
        encode::values(column, out, Vec::push);
    }

    fn read(
        reader: &mut Reader<'_>,
        rows: usize,
        column: &mut Vec<Self>,
    ) -> Result<(), BlockError> {
        reader.values(rows, column, |reader| reader.array().map(|[octet]| octet))
    }
}

impl Column for [u8; 6] {
    fn write(column: &[Self], out: &mut Vec<u8>) {
        encode::values(column, out, |out, mac| out.extend_from_slice(&mac));
    }

    fn read(
        reader: &mut Reader<'_>,
        rows: usize,
        column: &mut Vec<Self>,
    ) -> Result<(), BlockError> {
        reader.values(rows, column, Reader::array)
    }
}

impl Column for Address {
    fn write(column: &[Self], out: &mut Vec<u8>) {
        encode::addresses(column, out);
    }

    fn read(
        reader: &mut Reader<'_>,
        rows: usize,
        column: &mut Vec<Self>,
    ) -> Result<(), BlockError> {
        reader.addresses(rows, column)
    }
}
