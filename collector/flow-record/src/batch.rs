use std::ops::Range;

use crate::{Address, ExportTime, ReceivedAt, Vector};

/// An exporter by its dense number within the process; who it is stands in the decoder's exporter table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ExporterId(pub u32);

/// RFC 7011 §3.1 Observation Domain ID; NetFlow v9's Source ID; v5's engine type and id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ObservationDomainId(pub u32);

/// The export protocol of a datagram. Names in output are goflow2's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ExportProtocol {
    NetflowV1,
    NetflowV5,
    NetflowV7,
    NetflowV9,
    Ipfix,
    SflowV5,
    Xdp,
}

impl ExportProtocol {
    /// The name in flow records (`type`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetflowV1 => "NETFLOW_V1",
            Self::NetflowV5 => "NETFLOW_V5",
            Self::NetflowV7 => "NETFLOW_V7",
            Self::NetflowV9 => "NETFLOW_V9",
            Self::Ipfix => "IPFIX",
            Self::SflowV5 => "SFLOW_5",
            Self::Xdp => "XDP",
        }
    }
}

/// Which part of an IP packet a record describes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum FragmentKind {
    /// Whole packets, or the exporter does not say.
    #[default]
    None = 0,
    /// First fragments: their ports are real.
    First = 1,
    /// Later fragments: no ports.
    NotFirst = 2,
}

impl FragmentKind {
    /// The kind of a number in the column; `None` for any other.
    #[inline]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::First,
            2 => Self::NotFirst,
            _ => Self::None,
        }
    }
}

/// Optional columns, as a set of bits: what a consumer asked for, or what a template carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ColumnSet(pub u32);

impl ColumnSet {
    /// No optional column.
    pub const NONE: Self = Self(0);
    /// Type of service or traffic class (IE 5).
    pub const TOS: Self = Self(1);
    /// TTL or hop limit (IE 192).
    pub const TTL: Self = Self(1 << 1);
    /// ICMP type and code (IE 32, 139, 176–179).
    pub const ICMP: Self = Self(1 << 2);
    /// VLAN (IE 58, 243).
    pub const VLAN: Self = Self(1 << 3);
    /// Source and destination AS (IE 16, 17).
    pub const AS: Self = Self(1 << 4);
    /// Next hop (IE 15, 62).
    pub const NEXT_HOP: Self = Self(1 << 5);
    /// Prefix lengths (IE 9, 13, 29, 30).
    pub const PREFIX_LENGTHS: Self = Self(1 << 6);
    /// MAC addresses (IE 56, 80).
    pub const MAC: Self = Self(1 << 7);
    /// IPv6 flow label (IE 31).
    pub const FLOW_LABEL: Self = Self(1 << 8);
    /// A record's own flow start and end (else they equal the export time).
    pub const FLOW_TIMES: Self = Self(1 << 9);
    /// TCP flags (IE 6).
    pub const TCP_FLAGS: Self = Self(1 << 10);
    /// Addresses, ports and protocol of the packet within a tunnel, where a sampled header shows it.
    pub const INNER: Self = Self(1 << 11);
    /// Everything.
    pub const ALL: Self = Self((1 << 12) - 1);

    /// Whether all columns of `other` are in this set.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What all rows of one datagram (or one Set of it) share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatagramInfo {
    /// Rows of the batch.
    pub rows: Range<u32>,
    /// Who sent it.
    pub exporter: ExporterId,
    /// The exporter's address.
    pub exporter_address: Address,
    /// Its observation domain.
    pub domain: ObservationDomainId,
    /// The protocol.
    pub protocol: ExportProtocol,
    /// The header's sequence number.
    pub sequence: u32,
    /// Our clock.
    pub received_at: ReceivedAt,
    /// The exporter's clock; equals `received_at` where the protocol states none.
    pub export_time: ExportTime,
    /// Which optional columns the records really carried: absent is not zero.
    pub present: ColumnSet,
}

/// Columns filled only where projected (see [`FlowBatch::projection`]); empty otherwise.
#[derive(Clone, Default, Debug)]
#[allow(
    missing_docs,
    reason = "one column each, named as its information element"
)]
pub struct ExtraColumns {
    pub tos: Vec<u8>,
    pub ttl: Vec<u8>,
    pub icmp_type: Vec<u8>,
    pub icmp_code: Vec<u8>,
    pub vlan_id: Vec<u16>,
    pub source_as: Vec<u32>,
    pub destination_as: Vec<u32>,
    pub next_hop: Vec<Address>,
    pub source_prefix_length: Vec<u8>,
    pub destination_prefix_length: Vec<u8>,
    pub source_mac: Vec<[u8; 6]>,
    pub destination_mac: Vec<[u8; 6]>,
    pub flow_label: Vec<u32>,
    pub inner_source_address: Vec<Address>,
    pub inner_destination_address: Vec<Address>,
    pub inner_source_port: Vec<u16>,
    pub inner_destination_port: Vec<u16>,
    pub inner_protocol: Vec<u8>,
}

/// Flow records in columns. All always-filled columns have the same length; a decoder appends, consumers read, and the
/// owner [`clear`](Self::clear)s and reuses it, so that nothing is allocated per record.
#[derive(Clone, Default, Debug)]
#[allow(
    missing_docs,
    reason = "one column each, named as its information element"
)]
pub struct FlowBatch {
    /// Per datagram, with the rows it gave; rows outside all datagrams do not exist.
    pub datagrams: Vec<DatagramInfo>,
    pub source_address: Vec<Address>,
    pub destination_address: Vec<Address>,
    pub source_port: Vec<u16>,
    pub destination_port: Vec<u16>,
    pub protocol: Vec<u8>,
    pub tcp_flags: Vec<u16>,
    /// [`FragmentKind`] as a number.
    pub fragment: Vec<u8>,
    /// Octets as exported, not scaled.
    pub octets: Vec<u64>,
    /// Packets as exported, not scaled.
    pub packets: Vec<u64>,
    /// ns, the exporter's clock.
    pub flow_start: Vec<i64>,
    /// ns, the exporter's clock.
    pub flow_end: Vec<i64>,
    /// One in how many; 0 = unknown.
    pub sampling_rate: Vec<u32>,
    pub input_interface: Vec<u32>,
    pub output_interface: Vec<u32>,
    /// IE 61: 0 ingress, 1 egress, 255 not stated.
    pub direction: Vec<u8>,
    /// IE 89; 0 = not stated.
    pub forwarding_status: Vec<u8>,
    /// Which of `extra` are filled.
    pub projection: ColumnSet,
    pub extra: ExtraColumns,
}

/// One record's always-filled fields, for code that builds batches record by record (generator, tests).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the fields of FlowBatch")]
pub struct Row {
    pub source_address: Address,
    pub destination_address: Address,
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u8,
    pub tcp_flags: u16,
    pub fragment: FragmentKind,
    pub octets: u64,
    pub packets: u64,
    pub flow_start: i64,
    pub flow_end: i64,
    pub sampling_rate: u32,
    pub input_interface: u32,
    pub output_interface: u32,
    pub direction: u8,
    pub forwarding_status: u8,
}

/// One record's optional fields; see [`FlowBatch::push_with`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[allow(missing_docs, reason = "the fields of ExtraColumns")]
pub struct ExtraRow {
    pub tos: u8,
    pub ttl: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    pub vlan_id: u16,
    pub source_as: u32,
    pub destination_as: u32,
    pub next_hop: Address,
    pub source_prefix_length: u8,
    pub destination_prefix_length: u8,
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    pub flow_label: u32,
    pub inner_source_address: Address,
    pub inner_destination_address: Address,
    pub inner_source_port: u16,
    pub inner_destination_port: u16,
    pub inner_protocol: u8,
}

/// Calls a macro with the optional columns of each set.
macro_rules! with_extra_columns {
    ($apply:ident) => {
        $apply! {
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

impl FlowBatch {
    /// An empty batch whose optional columns of `projection` will be filled.
    pub fn with_projection(projection: ColumnSet) -> Self {
        Self {
            projection,
            ..Self::default()
        }
    }

    /// Number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether there is no record.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Forgets all records and keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(0);
        self.datagrams.clear();
    }

    /// Cuts all columns to `rows`: what a decoder does with a record that turned out bad. Datagrams are left alone.
    pub fn truncate(&mut self, rows: usize) {
        macro_rules! cut {
            ($($column:expr),* $(,)?) => { $( $column.truncate(rows); )* };
        }
        let extra = &mut self.extra;
        cut!(
            self.source_address,
            self.destination_address,
            self.source_port,
            self.destination_port,
            self.protocol,
            self.tcp_flags,
            self.fragment,
            self.octets,
            self.packets,
            self.flow_start,
            self.flow_end,
            self.sampling_rate,
            self.input_interface,
            self.output_interface,
            self.direction,
            self.forwarding_status,
            extra.tos,
            extra.ttl,
            extra.icmp_type,
            extra.icmp_code,
            extra.vlan_id,
            extra.source_as,
            extra.destination_as,
            extra.next_hop,
            extra.source_prefix_length,
            extra.destination_prefix_length,
            extra.source_mac,
            extra.destination_mac,
            extra.flow_label,
            extra.inner_source_address,
            extra.inner_destination_address,
            extra.inner_source_port,
            extra.inner_destination_port,
            extra.inner_protocol,
        );
    }

    /// Appends one record's always-filled columns; projected columns get zeros.
    pub fn push(&mut self, row: &Row) {
        self.push_fixed(row);
        self.fill_extra();
    }

    /// Appends one record with those of its optional fields that are projected.
    #[inline]
    pub fn push_with(&mut self, row: &Row, fields: &ExtraRow) {
        self.push_fixed(row);
        let projection = self.projection;
        let extra = &mut self.extra;
        macro_rules! append {
            ($($set:ident: $($column:ident),+;)*) => {
                $( if projection.has(ColumnSet::$set) { $( extra.$column.push(fields.$column); )+ } )*
            };
        }
        with_extra_columns!(append);
    }

    #[inline]
    fn push_fixed(&mut self, row: &Row) {
        self.source_address.push(row.source_address);
        self.destination_address.push(row.destination_address);
        self.source_port.push(row.source_port);
        self.destination_port.push(row.destination_port);
        self.protocol.push(row.protocol);
        self.tcp_flags.push(row.tcp_flags);
        self.fragment.push(row.fragment as u8);
        self.octets.push(row.octets);
        self.packets.push(row.packets);
        self.flow_start.push(row.flow_start);
        self.flow_end.push(row.flow_end);
        self.sampling_rate.push(row.sampling_rate);
        self.input_interface.push(row.input_interface);
        self.output_interface.push(row.output_interface);
        self.direction.push(row.direction);
        self.forwarding_status.push(row.forwarding_status);
    }

    /// Appends the rows of a datagram of another batch, with the optional columns of this one's projection; what `other` does
    /// not hold is zero.
    pub fn append(&mut self, other: &Self, datagram: &DatagramInfo) {
        let end = (datagram.rows.end as usize).min(other.len());
        let rows = (datagram.rows.start as usize).min(end)..end;
        // A batch has fewer rows than 2³²: its datagrams count them so.
        let start = self.len() as u32;
        macro_rules! append {
            ($($column:ident),* $(,)?) => {
                $( self.$column.extend_from_slice(&other.$column[rows.clone()]); )*
            };
        }
        append!(
            source_address,
            destination_address,
            source_port,
            destination_port,
            protocol,
            tcp_flags,
            fragment,
            octets,
            packets,
            flow_start,
            flow_end,
            sampling_rate,
            input_interface,
            output_interface,
            direction,
            forwarding_status,
        );
        macro_rules! append_extra {
            ($($set:ident: $($column:ident),+;)*) => {
                $( if self.projection.has(ColumnSet::$set) {
                    $( if let Some(values) = other.extra.$column.get(rows.clone()) {
                        self.extra.$column.extend_from_slice(values);
                    } )+
                } )*
            };
        }
        with_extra_columns!(append_extra);
        self.fill_extra();
        self.datagrams.push(DatagramInfo {
            rows: start..self.len() as u32,
            ..datagram.clone()
        });
    }

    /// Makes every projected optional column as long as the others, with zeros.
    pub fn fill_extra(&mut self) {
        let rows = self.len();
        let projection = self.projection;
        let extra = &mut self.extra;
        macro_rules! fill {
            ($($set:ident: $($column:ident),+;)*) => {
                $( if projection.has(ColumnSet::$set) { $( extra.$column.resize(rows, Default::default()); )+ } )*
            };
        }
        with_extra_columns!(fill);
    }

    /// The optional fields of the record at `row`; zeros where a column is not projected.
    pub fn extra_row(&self, row: usize) -> ExtraRow {
        let mut fields = ExtraRow::default();
        let extra = &self.extra;
        macro_rules! read {
            ($($set:ident: $($column:ident),+;)*) => {
                $( $( fields.$column = extra.$column.get(row).copied().unwrap_or_default(); )+ )*
            };
        }
        with_extra_columns!(read);
        fields
    }

    /// The record at `row`; panics beyond the end.
    pub fn row(&self, row: usize) -> Row {
        Row {
            source_address: self.source_address[row],
            destination_address: self.destination_address[row],
            source_port: self.source_port[row],
            destination_port: self.destination_port[row],
            protocol: self.protocol[row],
            tcp_flags: self.tcp_flags[row],
            fragment: self.fragment_kind(row),
            octets: self.octets[row],
            packets: self.packets[row],
            flow_start: self.flow_start[row],
            flow_end: self.flow_end[row],
            sampling_rate: self.sampling_rate[row],
            input_interface: self.input_interface[row],
            output_interface: self.output_interface[row],
            direction: self.direction[row],
            forwarding_status: self.forwarding_status[row],
        }
    }

    /// The fragment column as its type.
    #[inline]
    pub fn fragment_kind(&self, row: usize) -> FragmentKind {
        FragmentKind::from_number(self.fragment[row])
    }

    /// The traffic vector of a record.
    #[inline(always)]
    pub fn vector(&self, row: usize) -> Vector {
        Vector::classify(
            self.protocol[row],
            self.source_port[row],
            self.destination_port[row],
            self.tcp_flags[row],
            self.fragment_kind(row),
        )
    }
}

impl Default for Row {
    fn default() -> Self {
        Self {
            source_address: Address::UNSPECIFIED,
            destination_address: Address::UNSPECIFIED,
            source_port: 0,
            destination_port: 0,
            protocol: 0,
            tcp_flags: 0,
            fragment: FragmentKind::None,
            octets: 0,
            packets: 0,
            flow_start: 0,
            flow_end: 0,
            sampling_rate: 0,
            input_interface: 0,
            output_interface: 0,
            direction: 255,
            forwarding_status: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_equally_long() {
        let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
        let row = Row {
            octets: 7,
            protocol: 17,
            source_port: 53,
            ..Row::default()
        };
        batch.push(&row);
        let fields = ExtraRow {
            tos: 3,
            inner_protocol: 6,
            ..ExtraRow::default()
        };
        batch.push_with(&Row::default(), &fields);
        assert_eq!(batch.extra_row(1), fields);
        assert_eq!(batch.row(0), row);
        assert_eq!(batch.vector(0), Vector::DnsAmplification);
        assert_eq!(batch.extra.flow_label.len(), 2);
        batch.truncate(1);
        assert_eq!((batch.len(), batch.extra.tos.len()), (1, 1));
        let all = DatagramInfo {
            rows: 0..9,
            exporter: ExporterId(1),
            exporter_address: Address::UNSPECIFIED,
            domain: ObservationDomainId(0),
            protocol: ExportProtocol::Ipfix,
            sequence: 0,
            received_at: ReceivedAt::default(),
            export_time: ExportTime::default(),
            present: ColumnSet::NONE,
        };
        let mut few = FlowBatch::with_projection(ColumnSet::TTL);
        few.push(&Row::default());
        few.append(&batch, &all);
        few.append(&FlowBatch::default(), &all);
        assert_eq!((few.row(1), few.extra.ttl.len()), (row, 2));
        assert!(few.extra.tos.is_empty(), "what is not projected stays out");
        assert_eq!(few.datagrams[0].rows, 1..2);
        assert!(few.datagrams[1].rows.is_empty());
        batch.clear();
        assert!(batch.is_empty());
    }
}
