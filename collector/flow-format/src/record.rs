use weir_flow_record::{Address, DatagramInfo, ExportProtocol, FlowBatch};

/// The columns of a published record, in their order.
pub const COLUMNS: [&str; 32] = [
    "type",
    "time_received_ns",
    "sequence_num",
    "sampling_rate",
    "sampler_address",
    "observation_domain_id",
    "time_flow_start_ns",
    "time_flow_end_ns",
    "bytes",
    "packets",
    "src_addr",
    "dst_addr",
    "etype",
    "proto",
    "src_port",
    "dst_port",
    "in_if",
    "out_if",
    "src_mac",
    "dst_mac",
    "vlan_id",
    "ip_tos",
    "ip_ttl",
    "tcp_flags",
    "icmp_type",
    "icmp_code",
    "ipv6_flow_label",
    "src_as",
    "dst_as",
    "next_hop",
    "src_net",
    "dst_net",
];

/// One record in its published form; what the exporter did not send is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the fields are named as the columns")]
pub struct Record {
    pub kind: ExportProtocol,
    pub time_received_ns: i64,
    pub sequence_num: u32,
    /// One in how many; 0 = unknown.
    pub sampling_rate: u32,
    pub sampler_address: Address,
    pub observation_domain_id: u32,
    pub time_flow_start_ns: i64,
    pub time_flow_end_ns: i64,
    /// As exported, not scaled.
    pub bytes: u64,
    /// As exported, not scaled.
    pub packets: u64,
    pub src_addr: Address,
    pub dst_addr: Address,
    pub proto: u8,
    pub src_port: u16,
    pub dst_port: u16,
    pub in_if: u32,
    pub out_if: u32,
    pub src_mac: [u8; 6],
    pub dst_mac: [u8; 6],
    pub vlan_id: u16,
    pub ip_tos: u8,
    pub ip_ttl: u8,
    pub tcp_flags: u16,
    pub icmp_type: u8,
    pub icmp_code: u8,
    pub ipv6_flow_label: u32,
    pub src_as: u32,
    pub dst_as: u32,
    /// `::` where the record has none.
    pub next_hop: Address,
    /// Length of the routed prefix of the source in bits; 0 is also what exporters write for "unknown".
    pub src_net: u8,
    /// Length of the routed prefix of the destination in bits.
    pub dst_net: u8,
    /// IE 89; only protobuf has a place for it.
    pub forwarding_status: u8,
}

impl Record {
    /// The record at `row` of a batch, which `datagram` brought; panics beyond the end.
    pub fn of(batch: &FlowBatch, datagram: &DatagramInfo, row: usize) -> Self {
        let extra = &batch.extra;
        Self {
            kind: datagram.protocol,
            time_received_ns: datagram.received_at.nanos(),
            sequence_num: datagram.sequence,
            sampling_rate: batch.sampling_rate[row],
            sampler_address: datagram.exporter_address,
            observation_domain_id: datagram.domain.0,
            time_flow_start_ns: batch.flow_start[row],
            time_flow_end_ns: batch.flow_end[row],
            bytes: batch.octets[row],
            packets: batch.packets[row],
            src_addr: batch.source_address[row],
            dst_addr: batch.destination_address[row],
            proto: batch.protocol[row],
            src_port: batch.source_port[row],
            dst_port: batch.destination_port[row],
            in_if: batch.input_interface[row],
            out_if: batch.output_interface[row],
            src_mac: at(&extra.source_mac, row),
            dst_mac: at(&extra.destination_mac, row),
            vlan_id: at(&extra.vlan_id, row),
            ip_tos: at(&extra.tos, row),
            ip_ttl: at(&extra.ttl, row),
            tcp_flags: batch.tcp_flags[row],
            icmp_type: at(&extra.icmp_type, row),
            icmp_code: at(&extra.icmp_code, row),
            ipv6_flow_label: at(&extra.flow_label, row),
            src_as: at(&extra.source_as, row),
            dst_as: at(&extra.destination_as, row),
            next_hop: at(&extra.next_hop, row),
            src_net: at(&extra.source_prefix_length, row),
            dst_net: at(&extra.destination_prefix_length, row),
            forwarding_status: batch.forwarding_status[row],
        }
    }

    /// Whether both addresses are IPv4.
    pub fn is_v4(&self) -> bool {
        self.src_addr.is_v4() && self.dst_addr.is_v4()
    }

    /// The layer-3 protocol as text; empty where the frame had none that we read.
    pub fn etype(&self) -> &'static str {
        let none = Address::UNSPECIFIED;
        if self.is_v4() {
            "IPv4"
        } else if (self.src_addr, self.dst_addr, self.proto) == (none, none, 0) {
            ""
        } else {
            "IPv6"
        }
    }
}

/// The packet inside a tunnel, for records that have one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the fields are named as the columns")]
pub struct Inner {
    pub src_addr: Address,
    pub dst_addr: Address,
    pub proto: u8,
    pub src_port: u16,
    pub dst_port: u16,
}

impl Inner {
    /// What is inside the record at `row`; `None` where nothing is, or the columns are not projected.
    pub fn of(batch: &FlowBatch, row: usize) -> Option<Self> {
        let extra = &batch.extra;
        let inner = Self {
            src_addr: at(&extra.inner_source_address, row),
            dst_addr: at(&extra.inner_destination_address, row),
            proto: at(&extra.inner_protocol, row),
            src_port: at(&extra.inner_source_port, row),
            dst_port: at(&extra.inner_destination_port, row),
        };
        let none = Address::UNSPECIFIED;
        ((inner.src_addr, inner.dst_addr) != (none, none)).then_some(inner)
    }
}

/// All records of a batch, datagram by datagram.
pub fn records(batch: &FlowBatch) -> impl Iterator<Item = Record> + '_ {
    rows(batch).map(|(_, record)| record)
}

/// All records of a batch with their rows.
pub fn rows(batch: &FlowBatch) -> impl Iterator<Item = (usize, Record)> + '_ {
    batch.datagrams.iter().flat_map(move |datagram| {
        let rows = datagram.rows.start as usize..(datagram.rows.end as usize).min(batch.len());
        rows.map(move |row| (row, Record::of(batch, datagram, row)))
    })
}

/// A column that is not projected is empty.
fn at<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}

/// An IP protocol's keyword as goflow2 writes it, after IANA; `None` for one that is written by its number.
pub const fn protocol_keyword(number: u8) -> Option<&'static str> {
    Some(match number {
        0 => "HOPOPT",
        1 => "ICMP",
        2 => "IGMP",
        3 => "GGP",
        4 => "IPv4",
        6 => "TCP",
        8 => "EGP",
        9 => "IGP",
        17 => "UDP",
        27 => "RDP",
        33 => "DCCP",
        41 => "IPv6",
        43 => "IPv6-Route",
        44 => "IPv6-Frag",
        46 => "RSVP",
        47 => "GRE",
        50 => "ESP",
        51 => "AH",
        58 => "IPv6-ICMP",
        59 => "IPv6-NoNxt",
        60 => "IPv6-Opts",
        88 => "EIGRP",
        89 => "OSPFIGP",
        94 => "IPIP",
        97 => "ETHERIP",
        98 => "ENCAP",
        103 => "PIM",
        108 => "IPComp",
        112 => "VRRP",
        115 => "L2TP",
        124 => "ISIS over IPv4",
        132 => "SCTP",
        133 => "FC",
        135 => "Mobility Header",
        136 => "UDPLite",
        137 => "MPLS-in-IP",
        _ => return None,
    })
}
