//! goflow2 v2's protobuf (`pb/flow.proto`, message `flowpb.FlowMessage`): each message behind its length as a varint, which is
//! how goflow2's `-format bin` writes files and Kafka messages, and how ClickHouse's `Protobuf` format reads them.

use prost::Message;
use weir_flow_record::{Address, ExportProtocol, FlowBatch};

use crate::record::{Record, records};

/// The fields of `flowpb.FlowMessage` that a flow record has; those that a decoder meets beyond them it skips.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are goflow2's")]
pub struct FlowMessage {
    /// [`FlowType`].
    #[prost(enumeration = "FlowType", tag = "1")]
    pub r#type: i32,
    #[prost(uint64, tag = "3")]
    pub sampling_rate: u64,
    #[prost(uint32, tag = "4")]
    pub sequence_num: u32,
    /// 4 octets of IPv4 or 16 of IPv6, in network order, as all addresses here.
    #[prost(bytes = "vec", tag = "6")]
    pub src_addr: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    pub dst_addr: Vec<u8>,
    #[prost(uint64, tag = "9")]
    pub bytes: u64,
    #[prost(uint64, tag = "10")]
    pub packets: u64,
    #[prost(bytes = "vec", tag = "11")]
    pub sampler_address: Vec<u8>,
    #[prost(bytes = "vec", tag = "12")]
    pub next_hop: Vec<u8>,
    #[prost(uint32, tag = "14")]
    pub src_as: u32,
    #[prost(uint32, tag = "15")]
    pub dst_as: u32,
    /// Length of the routed prefix in bits.
    #[prost(uint32, tag = "16")]
    pub src_net: u32,
    #[prost(uint32, tag = "17")]
    pub dst_net: u32,
    #[prost(uint32, tag = "18")]
    pub in_if: u32,
    #[prost(uint32, tag = "19")]
    pub out_if: u32,
    #[prost(uint32, tag = "20")]
    pub proto: u32,
    #[prost(uint32, tag = "21")]
    pub src_port: u32,
    #[prost(uint32, tag = "22")]
    pub dst_port: u32,
    #[prost(uint32, tag = "23")]
    pub ip_tos: u32,
    #[prost(uint32, tag = "24")]
    pub forwarding_status: u32,
    #[prost(uint32, tag = "25")]
    pub ip_ttl: u32,
    #[prost(uint32, tag = "26")]
    pub tcp_flags: u32,
    /// The six octets as one number, most significant first.
    #[prost(uint64, tag = "27")]
    pub src_mac: u64,
    #[prost(uint64, tag = "28")]
    pub dst_mac: u64,
    #[prost(uint32, tag = "29")]
    pub vlan_id: u32,
    /// EtherType: 0x0800 or 0x86dd.
    #[prost(uint32, tag = "30")]
    pub etype: u32,
    #[prost(uint32, tag = "31")]
    pub icmp_type: u32,
    #[prost(uint32, tag = "32")]
    pub icmp_code: u32,
    #[prost(uint32, tag = "37")]
    pub ipv6_flow_label: u32,
    #[prost(uint32, tag = "70")]
    pub observation_domain_id: u32,
    #[prost(uint64, tag = "110")]
    pub time_received_ns: u64,
    #[prost(uint64, tag = "111")]
    pub time_flow_start_ns: u64,
    #[prost(uint64, tag = "112")]
    pub time_flow_end_ns: u64,
}

/// `flowpb.FlowMessage.FlowType`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum FlowType {
    /// Also what goflow2 has no name for: NetFlow v1 and v7, and records of a packet sampler.
    Flowunknown = 0,
    /// sFlow v5.
    Sflow5 = 1,
    /// NetFlow v5.
    NetflowV5 = 2,
    /// NetFlow v9.
    NetflowV9 = 3,
    /// IPFIX.
    Ipfix = 4,
}

impl From<ExportProtocol> for FlowType {
    fn from(protocol: ExportProtocol) -> Self {
        match protocol {
            ExportProtocol::SflowV5 => Self::Sflow5,
            ExportProtocol::NetflowV5 => Self::NetflowV5,
            ExportProtocol::NetflowV9 => Self::NetflowV9,
            ExportProtocol::Ipfix => Self::Ipfix,
            ExportProtocol::NetflowV1 | ExportProtocol::NetflowV7 | ExportProtocol::Xdp => {
                Self::Flowunknown
            }
        }
    }
}

/// Writes messages; keeps one message's memory, so that nothing is allocated per record.
#[derive(Default, Debug)]
pub struct Encoder {
    message: FlowMessage,
}

impl Encoder {
    /// Appends one record's message, without its length.
    pub fn append(&mut self, record: &Record, out: &mut Vec<u8>) {
        fill(&mut self.message, record);
        self.message.encode_raw(out);
    }

    /// Appends all records of a batch, each behind its length as a varint.
    pub fn append_delimited(&mut self, batch: &FlowBatch, out: &mut Vec<u8>) {
        for record in records(batch) {
            self.append_with_length(&record, out);
        }
    }

    /// Appends one record's message behind its length as a varint: the value of a Kafka record as goflow2 writes it.
    pub fn append_with_length(&mut self, record: &Record, out: &mut Vec<u8>) {
        let start = out.len();
        // No message reaches 2^14 octets, most lie between 128 and 300: two octets hold the length of each. They are
        // written afterwards, which saves a walk over all fields to learn it beforehand.
        out.extend_from_slice(&[0, 0]);
        self.append(record, out);
        let length = out.len() - start - 2;
        if length < 0x80 {
            out.copy_within(start + 2.., start + 1);
            out.truncate(out.len() - 1);
            out[start] = length as u8;
        } else {
            out[start] = length as u8 | 0x80;
            out[start + 1] = (length >> 7) as u8;
        }
    }
}

fn fill(message: &mut FlowMessage, record: &Record) {
    message.r#type = FlowType::from(record.kind).into();
    message.sampling_rate = record.sampling_rate.into();
    message.sequence_num = record.sequence_num;
    set_address(&mut message.src_addr, record.src_addr);
    set_address(&mut message.dst_addr, record.dst_addr);
    message.bytes = record.bytes;
    message.packets = record.packets;
    set_address(&mut message.sampler_address, record.sampler_address);
    set_address(&mut message.next_hop, record.next_hop);
    message.src_as = record.src_as;
    message.dst_as = record.dst_as;
    message.src_net = record.src_net.into();
    message.dst_net = record.dst_net.into();
    message.in_if = record.in_if;
    message.out_if = record.out_if;
    message.proto = record.proto.into();
    message.src_port = record.src_port.into();
    message.dst_port = record.dst_port.into();
    message.ip_tos = record.ip_tos.into();
    message.forwarding_status = record.forwarding_status.into();
    message.ip_ttl = record.ip_ttl.into();
    message.tcp_flags = record.tcp_flags.into();
    message.src_mac = mac(record.src_mac);
    message.dst_mac = mac(record.dst_mac);
    message.vlan_id = record.vlan_id.into();
    message.etype = if record.is_v4() { 0x0800 } else { 0x86dd };
    message.icmp_type = record.icmp_type.into();
    message.icmp_code = record.icmp_code.into();
    message.ipv6_flow_label = record.ipv6_flow_label;
    message.observation_domain_id = record.observation_domain_id;
    message.time_received_ns = nanos(record.time_received_ns);
    message.time_flow_start_ns = nanos(record.time_flow_start_ns);
    message.time_flow_end_ns = nanos(record.time_flow_end_ns);
}

/// Empty for "the record has none".
fn set_address(field: &mut Vec<u8>, address: Address) {
    let octets = address.octets();
    field.clear();
    if address.is_v4() {
        field.extend_from_slice(&octets[12..]);
    } else if address != Address::UNSPECIFIED {
        field.extend_from_slice(&octets);
    }
}

fn mac([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// The message's times are unsigned: what lies before 1970 becomes 0, "not known".
fn nanos(time: i64) -> u64 {
    u64::try_from(time).unwrap_or(0)
}
