//! Flow records as text: goflow2 v2's field names and kinds of value.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;
use weir_flow_record::{Address, DatagramInfo, FlowBatch};

/// One record in its published form.
#[derive(Serialize)]
struct Record {
    #[serde(rename = "type")]
    kind: &'static str,
    time_received_ns: i64,
    sequence_num: u32,
    sampling_rate: u32,
    sampler_address: Address,
    observation_domain_id: u32,
    time_flow_start_ns: i64,
    time_flow_end_ns: i64,
    bytes: u64,
    packets: u64,
    src_addr: Address,
    dst_addr: Address,
    etype: &'static str,
    proto: Protocol,
    src_port: u16,
    dst_port: u16,
    in_if: u32,
    out_if: u32,
    src_mac: Mac,
    dst_mac: Mac,
    vlan_id: u16,
    ip_tos: u8,
    ip_ttl: u8,
    tcp_flags: u16,
    icmp_type: u8,
    icmp_code: u8,
    ipv6_flow_label: u32,
    src_as: u32,
    dst_as: u32,
    next_hop: NextHop,
    src_net: Net,
    dst_net: Net,
}

/// The header line of the CSV form.
pub(crate) const CSV_HEADER: &str = "type,time_received_ns,sequence_num,sampling_rate,sampler_address,observation_domain_id,\
time_flow_start_ns,time_flow_end_ns,bytes,packets,src_addr,dst_addr,etype,proto,src_port,dst_port,in_if,out_if,src_mac,dst_mac,\
vlan_id,ip_tos,ip_ttl,tcp_flags,icmp_type,icmp_code,ipv6_flow_label,src_as,dst_as,next_hop,src_net,dst_net";

/// Writes all records of a batch, one JSON object a line.
pub(crate) fn write_ndjson(batch: &FlowBatch, out: &mut impl Write) -> io::Result<()> {
    for_each(batch, |record| {
        serde_json::to_writer(&mut *out, &record)?;
        out.write_all(b"\n")
    })
}

/// Writes all records of a batch as CSV lines; no value holds a comma, so nothing is quoted.
pub(crate) fn write_csv(batch: &FlowBatch, out: &mut impl Write) -> io::Result<()> {
    for_each(batch, |r| {
        write!(
            out,
            "{},{},{},{},{},",
            r.kind, r.time_received_ns, r.sequence_num, r.sampling_rate, r.sampler_address
        )?;
        write!(
            out,
            "{},{},{},",
            r.observation_domain_id, r.time_flow_start_ns, r.time_flow_end_ns
        )?;
        write!(
            out,
            "{},{},{},{},{},{},",
            r.bytes, r.packets, r.src_addr, r.dst_addr, r.etype, r.proto
        )?;
        write!(
            out,
            "{},{},{},{},{},{},",
            r.src_port, r.dst_port, r.in_if, r.out_if, r.src_mac, r.dst_mac
        )?;
        write!(
            out,
            "{},{},{},{},{},{},",
            r.vlan_id, r.ip_tos, r.ip_ttl, r.tcp_flags, r.icmp_type, r.icmp_code
        )?;
        write!(
            out,
            "{},{},{},{},{},{}",
            r.ipv6_flow_label, r.src_as, r.dst_as, r.next_hop, r.src_net, r.dst_net
        )?;
        out.write_all(b"\n")
    })
}

fn for_each(batch: &FlowBatch, mut write: impl FnMut(Record) -> io::Result<()>) -> io::Result<()> {
    for datagram in &batch.datagrams {
        for row in datagram.rows.clone() {
            write(record(batch, datagram, row as usize))?;
        }
    }
    Ok(())
}

fn record(batch: &FlowBatch, datagram: &DatagramInfo, row: usize) -> Record {
    let extra = &batch.extra;
    let (source, destination) = (batch.source_address[row], batch.destination_address[row]);
    Record {
        kind: datagram.protocol.name(),
        time_received_ns: datagram.received_at.nanos(),
        sequence_num: datagram.sequence,
        sampling_rate: batch.sampling_rate[row],
        sampler_address: datagram.exporter_address,
        observation_domain_id: datagram.domain.0,
        time_flow_start_ns: batch.flow_start[row],
        time_flow_end_ns: batch.flow_end[row],
        bytes: batch.octets[row],
        packets: batch.packets[row],
        src_addr: source,
        dst_addr: destination,
        etype: if source.is_v4() && destination.is_v4() {
            "IPv4"
        } else {
            "IPv6"
        },
        proto: Protocol(batch.protocol[row]),
        src_port: batch.source_port[row],
        dst_port: batch.destination_port[row],
        in_if: batch.input_interface[row],
        out_if: batch.output_interface[row],
        src_mac: Mac(at(&extra.source_mac, row)),
        dst_mac: Mac(at(&extra.destination_mac, row)),
        vlan_id: at(&extra.vlan_id, row),
        ip_tos: at(&extra.tos, row),
        ip_ttl: at(&extra.ttl, row),
        tcp_flags: batch.tcp_flags[row],
        icmp_type: at(&extra.icmp_type, row),
        icmp_code: at(&extra.icmp_code, row),
        ipv6_flow_label: at(&extra.flow_label, row),
        src_as: at(&extra.source_as, row),
        dst_as: at(&extra.destination_as, row),
        next_hop: NextHop(at(&extra.next_hop, row)),
        src_net: Net(source, at(&extra.source_prefix_length, row)),
        dst_net: Net(destination, at(&extra.destination_prefix_length, row)),
    }
}

fn at<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}

macro_rules! serialize_as_text {
    ($($name:ty),*) => {
        $(impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        })*
    };
}

serialize_as_text!(Mac, Net, NextHop, Protocol);

struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The routed prefix of an address; a length of 0 is also what exporters write for "unknown".
struct Net(Address, u8);

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.prefix(self.1, self.1).fmt(f)
    }
}

/// A next hop; empty where the record has none.
struct NextHop(Address);

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Address::UNSPECIFIED {
            Ok(())
        } else {
            self.0.fmt(f)
        }
    }
}

/// An IP protocol by IANA's keyword, as goflow2 writes it; by its number where it has none here.
struct Protocol(u8);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
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
            number => return number.fmt(f),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use weir_flow_record::{
        ColumnSet, ExportProtocol, ExportTime, ExporterId, ObservationDomainId, ReceivedAt, Row,
    };

    use super::*;

    fn batch() -> FlowBatch {
        let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
        batch.push(&Row {
            source_address: Address::from_v4([192, 0, 2, 1]),
            destination_address: Address::from_v4([203, 0, 113, 9]),
            source_port: 53,
            destination_port: 4444,
            protocol: 17,
            octets: 1500,
            packets: 1,
            sampling_rate: 100,
            ..Row::default()
        });
        batch.extra.source_prefix_length[0] = 24;
        batch.datagrams.push(DatagramInfo {
            rows: 0..1,
            exporter: ExporterId(0),
            exporter_address: Address::from_v4([198, 51, 100, 1]),
            domain: ObservationDomainId(7),
            protocol: ExportProtocol::Ipfix,
            sequence: 9,
            received_at: ReceivedAt::from_nanos(5),
            export_time: ExportTime::from_nanos(4),
            present: ColumnSet::NONE,
        });
        batch
    }

    #[test]
    fn json_has_goflow2s_names_and_kinds() {
        let mut out = Vec::new();
        write_ndjson(&batch(), &mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        for (name, expected) in [
            ("type", serde_json::json!("IPFIX")),
            ("sampler_address", "198.51.100.1".into()),
            ("proto", "UDP".into()),
            ("etype", "IPv4".into()),
            ("bytes", 1500.into()),
            ("src_net", "192.0.2.0/24".into()),
            ("next_hop", "".into()),
            ("src_mac", "00:00:00:00:00:00".into()),
        ] {
            assert_eq!(value[name], expected, "{name}");
        }
    }

    #[test]
    fn csv_and_json_have_the_same_fields() {
        let mut json = Vec::new();
        write_ndjson(&batch(), &mut json).unwrap();
        let mut csv = Vec::new();
        write_csv(&batch(), &mut csv).unwrap();
        let json = String::from_utf8(json).unwrap();
        let csv = String::from_utf8(csv).unwrap();
        let names: Vec<_> = CSV_HEADER.split(',').collect();
        let values: Vec<_> = csv.trim_end().split(',').collect();
        assert_eq!(names.len(), values.len());
        let mut rest = json.as_str();
        for (name, value) in names.iter().zip(&values) {
            let at = rest
                .find(&format!("\"{name}\":"))
                .unwrap_or_else(|| panic!("{name} out of order"));
            rest = &rest[at..];
            assert!(rest.contains(value), "{name}");
        }
    }
}
