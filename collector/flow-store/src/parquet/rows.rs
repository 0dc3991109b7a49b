use std::sync::LazyLock;

use polars::prelude::{Column, DataFrame, DataType, PolarsError, TimeUnit};
use weir_flow_format::protocol_keyword;
use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, FlowBatch, ObservationDomainId,
    ReceivedAt,
};

use super::columns::{EXPORT_TIME, FLOW_DIRECTION, FORWARDING_STATUS, FRAGMENT, PRESENT_COLUMNS};
use super::read::{Exporters, ReadError};

/// Why a frame is no flow records.
pub(crate) enum RowsError {
    Parquet(PolarsError),
    Read(ReadError),
}

impl From<PolarsError> for RowsError {
    fn from(error: PolarsError) -> Self {
        Self::Parquet(error)
    }
}

impl From<ReadError> for RowsError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// The rows of a frame as a batch; consecutive rows with the same header are one datagram.
pub(crate) fn batch_of(
    frame: &DataFrame,
    exporters: &mut Exporters,
) -> Result<FlowBatch, RowsError> {
    let columns = Frame(frame);
    let mut batch = FlowBatch {
        source_address: needed(columns.texts("src_addr", address)?, "src_addr")?,
        destination_address: needed(columns.texts("dst_addr", address)?, "dst_addr")?,
        source_port: columns.u16("src_port", 0)?,
        destination_port: columns.u16("dst_port", 0)?,
        protocol: columns.protocols()?,
        tcp_flags: columns.u16("tcp_flags", 0)?,
        fragment: columns.u8(FRAGMENT, 0)?,
        octets: columns.u64("bytes")?,
        packets: columns.u64("packets")?,
        flow_start: columns.times("time_flow_start_ns")?,
        flow_end: columns.times("time_flow_end_ns")?,
        sampling_rate: columns.u32("sampling_rate", 0)?,
        input_interface: columns.u32("in_if", 0)?,
        output_interface: columns.u32("out_if", 0)?,
        direction: columns.u8(FLOW_DIRECTION, 255)?,
        forwarding_status: columns.u8(FORWARDING_STATUS, 0)?,
        projection: ColumnSet::ALL,
        ..FlowBatch::default()
    };
    let extra = &mut batch.extra;
    extra.tos = columns.u8("ip_tos", 0)?;
    extra.ttl = columns.u8("ip_ttl", 0)?;
    extra.icmp_type = columns.u8("icmp_type", 0)?;
    extra.icmp_code = columns.u8("icmp_code", 0)?;
    extra.vlan_id = columns.u16("vlan_id", 0)?;
    extra.source_as = columns.u32("src_as", 0)?;
    extra.destination_as = columns.u32("dst_as", 0)?;
    extra.flow_label = columns.u32("ipv6_flow_label", 0)?;
    extra.next_hop = columns.texts("next_hop", next_hop)?.unwrap_or_default();
    extra.source_mac = columns.texts("src_mac", mac)?.unwrap_or_default();
    extra.destination_mac = columns.texts("dst_mac", mac)?.unwrap_or_default();
    extra.source_prefix_length = columns.texts("src_net", net_length)?.unwrap_or_default();
    extra.destination_prefix_length = columns.texts("dst_net", net_length)?.unwrap_or_default();
    batch.fill_extra();
    batch.datagrams = datagrams(&columns, batch.len(), exporters)?;
    Ok(batch)
}

fn datagrams(
    columns: &Frame<'_>,
    rows: usize,
    exporters: &mut Exporters,
) -> Result<Vec<DatagramInfo>, RowsError> {
    let kind = columns.texts("type", kind)?;
    let received = columns.times("time_received_ns")?;
    let exported = columns.has(EXPORT_TIME).then(|| columns.times(EXPORT_TIME));
    let exported = exported.transpose()?;
    let sequence = columns.u32("sequence_num", 0)?;
    let sampler = needed(
        columns.texts("sampler_address", address)?,
        "sampler_address",
    )?;
    let domain = columns.u32("observation_domain_id", 0)?;
    let present = columns.u32(PRESENT_COLUMNS, ColumnSet::ALL.0)?;
    let mut datagrams: Vec<DatagramInfo> = Vec::new();
    for row in 0..rows {
        let header = DatagramInfo {
            rows: 0..0,
            exporter: Default::default(),
            exporter_address: sampler[row],
            domain: ObservationDomainId(domain[row]),
            protocol: kind
                .as_ref()
                .map_or(ExportProtocol::Ipfix, |kind| kind[row]),
            sequence: sequence[row],
            received_at: ReceivedAt::from_nanos(received[row]),
            export_time: ExportTime::from_nanos(
                exported
                    .as_ref()
                    .map_or(received[row], |exported| exported[row]),
            ),
            present: ColumnSet(present[row]),
        };
        // A row group has fewer rows than 2³²: the batch's own bound.
        let row = row as u32;
        if let Some(last) = datagrams.last_mut()
            && is_same(last, &header)
        {
            last.rows.end = row + 1;
            continue;
        }
        datagrams.push(DatagramInfo {
            rows: row..row + 1,
            exporter: exporters.id(header.exporter_address)?,
            ..header
        });
    }
    Ok(datagrams)
}

fn is_same(a: &DatagramInfo, b: &DatagramInfo) -> bool {
    (a.received_at, a.sequence, a.exporter_address, a.domain)
        == (b.received_at, b.sequence, b.exporter_address, b.domain)
        && (a.protocol, a.export_time, a.present) == (b.protocol, b.export_time, b.present)
}

/// A frame's columns as the batch has them; kinds that differ in width are cast, and values that do not fit are refused.
struct Frame<'f>(&'f DataFrame);

macro_rules! numbers {
    ($($name:ident: $kind:ident),*) => {
        $(
            fn $name(&self, name: &str, absent: $name) -> Result<Vec<$name>, PolarsError> {
                if !self.has(name) {
                    return Ok(vec![absent; self.0.height()]);
                }
                let column = self.0.column(name)?.strict_cast(&DataType::$kind)?;
                Ok(column.$name()?.iter().map(|value| value.unwrap_or(absent)).collect())
            }
        )*
    };
}

impl Frame<'_> {
    numbers!(u8: UInt8, u16: UInt16, u32: UInt32);

    fn has(&self, name: &str) -> bool {
        self.0.get_column_index(name).is_some()
    }

    fn u64(&self, name: &str) -> Result<Vec<u64>, PolarsError> {
        let column = self.0.column(name)?.strict_cast(&DataType::UInt64)?;
        Ok(column
            .u64()?
            .iter()
            .map(Option::unwrap_or_default)
            .collect())
    }

    /// ns since 1970, of an integer or a point in time.
    fn times(&self, name: &str) -> Result<Vec<i64>, PolarsError> {
        let column = self.0.column(name)?;
        let column = match column.dtype() {
            DataType::Datetime(unit, zone) if *unit != TimeUnit::Nanoseconds => {
                column.cast(&DataType::Datetime(TimeUnit::Nanoseconds, zone.clone()))?
            }
            _ => column.clone(),
        };
        let column = column.cast(&DataType::Int64)?;
        Ok(column
            .i64()?
            .iter()
            .map(Option::unwrap_or_default)
            .collect())
    }

    /// A column of text by what `parse` makes of it; `None` without the column.
    fn texts<T: Copy>(
        &self,
        name: &'static str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<Option<Vec<T>>, RowsError> {
        if !self.has(name) {
            return Ok(None);
        }
        let column: &Column = self.0.column(name)?;
        let mut values = Vec::with_capacity(column.len());
        let mut last: Option<(&str, T)> = None;
        for text in column.str()?.iter() {
            let text = text.unwrap_or_default();
            let value = match last {
                Some((seen, value)) if seen == text => value,
                _ => parse(text).ok_or_else(|| ReadError::Value {
                    column: name,
                    value: text.to_owned(),
                })?,
            };
            last = Some((text, value));
            values.push(value);
        }
        Ok(Some(values))
    }

    /// By keyword or number.
    fn protocols(&self) -> Result<Vec<u8>, RowsError> {
        match self.0.column("proto") {
            Ok(column) if column.dtype() == &DataType::String => {
                Ok(self.texts("proto", protocol)?.unwrap_or_default())
            }
            _ => Ok(self.u8("proto", 0)?),
        }
    }
}

fn needed<T>(column: Option<Vec<T>>, name: &'static str) -> Result<Vec<T>, PolarsError> {
    column.ok_or_else(|| PolarsError::ColumnNotFound(name.into()))
}

fn address(text: &str) -> Option<Address> {
    text.parse::<std::net::IpAddr>().ok().map(Address::from)
}

fn next_hop(text: &str) -> Option<Address> {
    if text.is_empty() {
        Some(Address::UNSPECIFIED)
    } else {
        address(text)
    }
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut digits = text.split(':');
    for octet in &mut octets {
        *octet = u8::from_str_radix(digits.next()?, 16).ok()?;
    }
    digits.next().is_none().then_some(octets)
}

fn net_length(text: &str) -> Option<u8> {
    match text.split_once('/') {
        Some((_, length)) => length.parse().ok(),
        None => text.is_empty().then_some(0),
    }
}

fn kind(text: &str) -> Option<ExportProtocol> {
    use ExportProtocol::{Ipfix, NetflowV1, NetflowV5, NetflowV7, NetflowV9, SflowV5, Xdp};
    [
        NetflowV1, NetflowV5, NetflowV7, NetflowV9, Ipfix, SflowV5, Xdp,
    ]
    .into_iter()
    .find(|kind| kind.name() == text)
}

fn protocol(text: &str) -> Option<u8> {
    static KEYWORDS: LazyLock<std::collections::BTreeMap<&'static str, u8>> = LazyLock::new(|| {
        (0..=u8::MAX)
            .filter_map(|number| protocol_keyword(number).map(|keyword| (keyword, number)))
            .collect()
    });
    text.parse().ok().or_else(|| KEYWORDS.get(text).copied())
}
