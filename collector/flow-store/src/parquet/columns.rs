use polars::error::PolarsResult;
use polars::prelude::PlSmallStr;
use polars_arrow::array::{Array, PrimitiveArray};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field, TimeUnit};
use polars_arrow::types::NativeType;
use polars_parquet::write::Encoding;
use weir_flow_format::COLUMNS;
use weir_flow_record::{Address, DatagramInfo, FlowBatch};

use super::dictionary::{Dictionary, Mac, Net, NextHop, Protocol};

/// The exporter's clock at export: with it a record's event time can be computed again.
pub(crate) const EXPORT_TIME: &str = "export_time_ns";
/// IE 61: 0 ingress, 1 egress, 255 not stated.
pub(crate) const FLOW_DIRECTION: &str = "flow_direction";
/// IE 89.
pub(crate) const FORWARDING_STATUS: &str = "forwarding_status";
/// Number of the `FragmentKind`.
pub(crate) const FRAGMENT: &str = "fragment";
/// Bits of the `ColumnSet` that the exporter really sent: absent is not zero.
pub(crate) const PRESENT_COLUMNS: &str = "present_columns";

/// Columns that Parquet has beyond [`COLUMNS`].
const MORE_COLUMNS: [&str; 5] = [
    EXPORT_TIME,
    FLOW_DIRECTION,
    FORWARDING_STATUS,
    FRAGMENT,
    PRESENT_COLUMNS,
];

/// Rows of a row group in the making.
#[derive(Default)]
pub(crate) struct Columns {
    kind: Dictionary<&'static str>,
    time_received: Vec<i64>,
    sequence: Vec<u32>,
    sampling_rate: Vec<u32>,
    sampler_address: Dictionary<Address>,
    domain: Vec<u32>,
    flow_start: Vec<i64>,
    flow_end: Vec<i64>,
    octets: Vec<u64>,
    packets: Vec<u64>,
    source: Dictionary<Address>,
    destination: Dictionary<Address>,
    etype: Dictionary<&'static str>,
    protocol: Dictionary<Protocol>,
    source_port: Vec<u16>,
    destination_port: Vec<u16>,
    input_interface: Vec<u32>,
    output_interface: Vec<u32>,
    source_mac: Dictionary<Mac>,
    destination_mac: Dictionary<Mac>,
    vlan_id: Vec<u16>,
    tos: Vec<u8>,
    ttl: Vec<u8>,
    tcp_flags: Vec<u16>,
    icmp_type: Vec<u8>,
    icmp_code: Vec<u8>,
    flow_label: Vec<u32>,
    source_as: Vec<u32>,
    destination_as: Vec<u32>,
    next_hop: Dictionary<NextHop>,
    source_net: Dictionary<Net>,
    destination_net: Dictionary<Net>,
    export_time: Vec<i64>,
    direction: Vec<u8>,
    forwarding_status: Vec<u8>,
    fragment: Vec<u8>,
    present: Vec<u32>,
}

/// A column ready to be encoded.
pub(crate) struct Sealed {
    pub(crate) array: Box<dyn Array>,
    pub(crate) encoding: Encoding,
}

impl Columns {
    pub(crate) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Appends the rows `start..end` of a batch, all of them of `datagram`.
    pub(crate) fn push(
        &mut self,
        batch: &FlowBatch,
        datagram: &DatagramInfo,
        start: usize,
        end: usize,
    ) {
        let (rows, extra) = (end - start, &batch.extra);
        self.kind.push_times(datagram.protocol.name(), rows);
        repeat(&mut self.time_received, datagram.received_at.nanos(), rows);
        repeat(&mut self.sequence, datagram.sequence, rows);
        self.sampler_address
            .push_times(datagram.exporter_address, rows);
        repeat(&mut self.domain, datagram.domain.0, rows);
        repeat(&mut self.export_time, datagram.export_time.nanos(), rows);
        repeat(&mut self.present, datagram.present.0, rows);

        macro_rules! copy {
            ($($column:ident = $from:expr),* $(,)?) => {
                $( self.$column.extend_from_slice(&$from[start..end]); )*
            };
        }
        copy!(
            sampling_rate = batch.sampling_rate,
            flow_start = batch.flow_start,
            flow_end = batch.flow_end,
            octets = batch.octets,
            packets = batch.packets,
            source_port = batch.source_port,
            destination_port = batch.destination_port,
            input_interface = batch.input_interface,
            output_interface = batch.output_interface,
            tcp_flags = batch.tcp_flags,
            direction = batch.direction,
            forwarding_status = batch.forwarding_status,
            fragment = batch.fragment,
        );
        copy_extra(&mut self.vlan_id, &extra.vlan_id, start, end);
        copy_extra(&mut self.tos, &extra.tos, start, end);
        copy_extra(&mut self.ttl, &extra.ttl, start, end);
        copy_extra(&mut self.icmp_type, &extra.icmp_type, start, end);
        copy_extra(&mut self.icmp_code, &extra.icmp_code, start, end);
        copy_extra(&mut self.flow_label, &extra.flow_label, start, end);
        copy_extra(&mut self.source_as, &extra.source_as, start, end);
        copy_extra(&mut self.destination_as, &extra.destination_as, start, end);
        for row in start..end {
            let source = batch.source_address[row];
            let destination = batch.destination_address[row];
            let v4 = source.is_v4() && destination.is_v4();
            self.source.push(source);
            self.destination.push(destination);
            self.etype.push(if v4 { "IPv4" } else { "IPv6" });
            self.protocol.push(Protocol(batch.protocol[row]));
            self.source_mac.push(Mac(at(&extra.source_mac, row)));
            self.destination_mac
                .push(Mac(at(&extra.destination_mac, row)));
            self.next_hop.push(NextHop(at(&extra.next_hop, row)));
            let length = at(&extra.source_prefix_length, row);
            self.source_net.push(Net::of(source, length));
            let length = at(&extra.destination_prefix_length, row);
            self.destination_net.push(Net::of(destination, length));
        }
    }

    /// The columns in the order of [`schema`]; the rows are forgotten.
    pub(crate) fn take(&mut self) -> PolarsResult<Vec<Sealed>> {
        Ok(vec![
            text(self.kind.take()?),
            time(&mut self.time_received),
            delta(&mut self.sequence),
            number(&mut self.sampling_rate),
            text(self.sampler_address.take()?),
            number(&mut self.domain),
            time(&mut self.flow_start),
            time(&mut self.flow_end),
            number(&mut self.octets),
            number(&mut self.packets),
            text(self.source.take()?),
            text(self.destination.take()?),
            text(self.etype.take()?),
            text(self.protocol.take()?),
            number(&mut self.source_port),
            number(&mut self.destination_port),
            number(&mut self.input_interface),
            number(&mut self.output_interface),
            text(self.source_mac.take()?),
            text(self.destination_mac.take()?),
            number(&mut self.vlan_id),
            number(&mut self.tos),
            number(&mut self.ttl),
            number(&mut self.tcp_flags),
            number(&mut self.icmp_type),
            number(&mut self.icmp_code),
            number(&mut self.flow_label),
            number(&mut self.source_as),
            number(&mut self.destination_as),
            text(self.next_hop.take()?),
            text(self.source_net.take()?),
            text(self.destination_net.take()?),
            time(&mut self.export_time),
            number(&mut self.direction),
            number(&mut self.forwarding_status),
            number(&mut self.fragment),
            number(&mut self.present),
        ])
    }
}

/// Names and kinds of all columns. Nothing is ever missing: no column is nullable.
///
/// Times are `TIMESTAMP` of nanoseconds in UTC without a time zone, which both polars' SQL and DuckDB compare with
/// `TIMESTAMP '2026-11-21 04:00:00'`, and show readably. With a zone polars refuses that literal, and DuckDB rounds to
/// microseconds and reads it in the session's zone; a bare integer neither shows as a time nor is cut into minutes.
pub(crate) fn schema() -> ArrowSchema {
    COLUMNS
        .into_iter()
        .chain(MORE_COLUMNS)
        .map(|name| Field::new(PlSmallStr::from_static(name), data_type(name), false))
        .collect()
}

fn data_type(name: &str) -> ArrowDataType {
    match name {
        "type" | "sampler_address" | "src_addr" | "dst_addr" | "etype" | "proto" | "src_mac"
        | "dst_mac" | "next_hop" | "src_net" | "dst_net" => ArrowDataType::Utf8View,
        "time_received_ns" | "time_flow_start_ns" | "time_flow_end_ns" | EXPORT_TIME => timestamp(),
        "bytes" | "packets" => ArrowDataType::UInt64,
        "src_port" | "dst_port" | "vlan_id" | "tcp_flags" => ArrowDataType::UInt16,
        "ip_tos" | "ip_ttl" | "icmp_type" | "icmp_code" | FLOW_DIRECTION | FORWARDING_STATUS
        | FRAGMENT => ArrowDataType::UInt8,
        _ => ArrowDataType::UInt32,
    }
}

fn timestamp() -> ArrowDataType {
    ArrowDataType::Timestamp(TimeUnit::Nanosecond, None)
}

fn text(array: polars_arrow::array::DictionaryArray<u32>) -> Sealed {
    Sealed {
        array: Box::new(array),
        encoding: Encoding::RleDictionary,
    }
}

/// By dictionary where values repeat enough, else plain: the encoder finds out.
fn number<T: NativeType>(column: &mut Vec<T>) -> Sealed {
    Sealed {
        array: Box::new(PrimitiveArray::from_vec(taken(column))),
        encoding: Encoding::RleDictionary,
    }
}

/// By differences, which are small.
fn delta(column: &mut Vec<u32>) -> Sealed {
    Sealed {
        encoding: Encoding::DeltaBinaryPacked,
        ..number(column)
    }
}

fn time(column: &mut Vec<i64>) -> Sealed {
    Sealed {
        array: Box::new(PrimitiveArray::from_vec(taken(column)).to(timestamp())),
        encoding: Encoding::DeltaBinaryPacked,
    }
}

/// The next row group will have as many rows.
fn taken<T>(column: &mut Vec<T>) -> Vec<T> {
    let rows = column.len();
    std::mem::replace(column, Vec::with_capacity(rows))
}

fn repeat<T: Clone>(column: &mut Vec<T>, value: T, rows: usize) {
    column.resize(column.len() + rows, value);
}

/// A column that is not projected is empty, and reads as zeros.
fn copy_extra<T: Copy + Default>(column: &mut Vec<T>, from: &[T], start: usize, end: usize) {
    match from.get(start..end) {
        Some(values) => column.extend_from_slice(values),
        None => repeat(column, T::default(), end - start),
    }
}

fn at<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}
