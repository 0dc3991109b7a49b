use polars::error::PolarsResult;
use polars::prelude::PlSmallStr;
use polars_arrow::array::{Array, DictionaryArray, PrimitiveArray};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field, TimeUnit};
use polars_arrow::types::NativeType;
use polars_parquet::write::Encoding;
use weir_flow_format::COLUMNS;
use weir_flow_record::{Address, DatagramInfo, FlowBatch};

use super::dictionary::{Dictionary, Mac, Net, NextHop, Protocol, Text};

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
    /// Keys of all columns with one value.
    zeros: PrimitiveArray<u32>,
}

/// A column ready to be encoded.
pub(crate) struct Sealed {
    pub(crate) array: Box<dyn Array>,
    pub(crate) encoding: Encoding,
}

impl Columns {
    /// Appends what `rows` rows of a datagram share; their own columns come with [`push_rows`](Self::push_rows).
    pub(crate) fn push_header(&mut self, datagram: &DatagramInfo, rows: usize) {
        self.kind.push_times(datagram.protocol.name(), rows);
        repeat(&mut self.time_received, datagram.received_at.nanos(), rows);
        repeat(&mut self.sequence, datagram.sequence, rows);
        self.sampler_address
            .push_times(datagram.exporter_address, rows);
        repeat(&mut self.domain, datagram.domain.0, rows);
        repeat(&mut self.export_time, datagram.export_time.nanos(), rows);
        repeat(&mut self.present, datagram.present.0, rows);
    }

    /// Appends the columns of the rows `start..end` of a batch.
    pub(crate) fn push_rows(&mut self, batch: &FlowBatch, start: usize, end: usize) {
        if start == end {
            return;
        }
        let extra = &batch.extra;
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
        let sources = &batch.source_address[start..end];
        let destinations = &batch.destination_address[start..end];
        self.source.extend(sources.iter().copied());
        self.destination.extend(destinations.iter().copied());
        self.etype.extend(
            sources
                .iter()
                .zip(destinations)
                .map(|(source, destination)| {
                    if source.is_v4() && destination.is_v4() {
                        "IPv4"
                    } else {
                        "IPv6"
                    }
                }),
        );
        let protocols = batch.protocol[start..end].iter();
        self.protocol
            .extend(protocols.map(|number| Protocol(*number)));
        extend(&mut self.source_mac, &extra.source_mac, start, end, Mac);
        extend(
            &mut self.destination_mac,
            &extra.destination_mac,
            start,
            end,
            Mac,
        );
        extend(&mut self.next_hop, &extra.next_hop, start, end, NextHop);
        extend_nets(
            &mut self.source_net,
            sources,
            &extra.source_prefix_length,
            start,
        );
        extend_nets(
            &mut self.destination_net,
            destinations,
            &extra.destination_prefix_length,
            start,
        );
    }

    /// The columns in the order of [`schema`]; the rows are forgotten.
    pub(crate) fn take(&mut self) -> PolarsResult<Vec<Sealed>> {
        let rows = self.octets.len();
        if self.zeros.len() != rows {
            self.zeros = PrimitiveArray::from_vec(vec![0; rows]);
        }
        let zeros = &self.zeros;
        Ok(vec![
            text(self.kind.take(zeros)?),
            time(&mut self.time_received, zeros)?,
            delta(&mut self.sequence, zeros)?,
            number(&mut self.sampling_rate, zeros)?,
            text(self.sampler_address.take(zeros)?),
            number(&mut self.domain, zeros)?,
            time(&mut self.flow_start, zeros)?,
            time(&mut self.flow_end, zeros)?,
            number(&mut self.octets, zeros)?,
            number(&mut self.packets, zeros)?,
            text(self.source.take(zeros)?),
            text(self.destination.take(zeros)?),
            text(self.etype.take(zeros)?),
            text(self.protocol.take(zeros)?),
            number(&mut self.source_port, zeros)?,
            number(&mut self.destination_port, zeros)?,
            number(&mut self.input_interface, zeros)?,
            number(&mut self.output_interface, zeros)?,
            text(self.source_mac.take(zeros)?),
            text(self.destination_mac.take(zeros)?),
            number(&mut self.vlan_id, zeros)?,
            number(&mut self.tos, zeros)?,
            number(&mut self.ttl, zeros)?,
            number(&mut self.tcp_flags, zeros)?,
            number(&mut self.icmp_type, zeros)?,
            number(&mut self.icmp_code, zeros)?,
            number(&mut self.flow_label, zeros)?,
            number(&mut self.source_as, zeros)?,
            number(&mut self.destination_as, zeros)?,
            text(self.next_hop.take(zeros)?),
            text(self.source_net.take(zeros)?),
            text(self.destination_net.take(zeros)?),
            time(&mut self.export_time, zeros)?,
            number(&mut self.direction, zeros)?,
            number(&mut self.forwarding_status, zeros)?,
            number(&mut self.fragment, zeros)?,
            number(&mut self.present, zeros)?,
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

/// By the dictionary that is there.
fn text(array: DictionaryArray<u32>) -> Sealed {
    Sealed {
        array: Box::new(array),
        encoding: Encoding::RleDictionary,
    }
}

/// By dictionary where values repeat enough, else plain: the encoder finds out.
fn number<T: NativeType>(column: &mut Vec<T>, zeros: &PrimitiveArray<u32>) -> PolarsResult<Sealed> {
    number_by(Encoding::RleDictionary, T::PRIMITIVE.into(), column, zeros)
}

/// By differences, which are small.
fn delta(column: &mut Vec<u32>, zeros: &PrimitiveArray<u32>) -> PolarsResult<Sealed> {
    number_by(
        Encoding::DeltaBinaryPacked,
        ArrowDataType::UInt32,
        column,
        zeros,
    )
}

fn time(column: &mut Vec<i64>, zeros: &PrimitiveArray<u32>) -> PolarsResult<Sealed> {
    number_by(Encoding::DeltaBinaryPacked, timestamp(), column, zeros)
}

/// Most columns of most exporters hold one value all over: these are told from others in one quick pass, their memory is
/// kept, and all share the same keys.
fn number_by<T: NativeType>(
    encoding: Encoding,
    data_type: ArrowDataType,
    column: &mut Vec<T>,
    zeros: &PrimitiveArray<u32>,
) -> PolarsResult<Sealed> {
    if let Some(first) = column.first().copied()
        && column.iter().all(|value| *value == first)
    {
        column.clear();
        let value = PrimitiveArray::from_vec(vec![first]).to(data_type);
        return DictionaryArray::try_from_keys(zeros.clone(), value.boxed(), false).map(text);
    }
    let rows = column.len();
    let values = std::mem::replace(column, Vec::with_capacity(rows));
    Ok(Sealed {
        array: Box::new(PrimitiveArray::from_vec(values).to(data_type)),
        encoding,
    })
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

fn extend<V: Text, T: Copy + Default>(
    column: &mut Dictionary<V>,
    from: &[T],
    start: usize,
    end: usize,
    value: fn(T) -> V,
) {
    match from.get(start..end) {
        Some(values) => column.extend(values.iter().map(|from| value(*from))),
        None => column.push_times(value(T::default()), end - start),
    }
}

fn extend_nets(column: &mut Dictionary<Net>, addresses: &[Address], lengths: &[u8], start: usize) {
    match lengths.get(start..start + addresses.len()) {
        Some(lengths) => {
            let nets = addresses.iter().zip(lengths);
            column.extend(nets.map(|(address, length)| Net::of(*address, *length)));
        }
        None => column.extend(addresses.iter().map(|address| Net::of(*address, 0))),
    }
}
