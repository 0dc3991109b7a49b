//! Where pnet's packet views tell something, they tell what our parser tells.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/frames.rs"]
mod frames;
mod support;

use pnet_packet::Packet;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::icmp::IcmpPacket;
use pnet_packet::icmpv6::Icmpv6Packet;
use pnet_packet::ip::IpNextHeaderProtocols as Protocols;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::TcpPacket;
use pnet_packet::udp::UdpPacket;
use pnet_packet::vlan::VlanPacket;
use weir_collector::Capture;
use weir_ebpf::{HEADERS, Sample, parse};
use weir_flow_record::{Address, FragmentKind};
use weir_packet::LinkType;

#[derive(Default)]
struct Count {
    ip: u64,
    transport: u64,
}

/// Compares what pnet shows of a frame with `sample`.
fn compare(octets: &[u8], sample: &Sample, count: &mut Count) {
    let octets = &octets[..octets.len().min(HEADERS)];
    let Some(ethernet) = EthernetPacket::new(octets) else {
        return;
    };
    assert_eq!(sample.source_mac, ethernet.get_source().octets());
    let (mut kind, mut payload) = (ethernet.get_ethertype(), ethernet.payload().to_vec());
    let mut outermost = None;
    while kind == EtherTypes::Vlan || kind == EtherTypes::QinQ || kind == EtherTypes::PBridge {
        let Some(tag) = VlanPacket::new(&payload) else {
            return;
        };
        outermost.get_or_insert(tag.get_vlan_identifier());
        kind = tag.get_ethertype();
        payload = tag.payload().to_vec();
    }
    assert!(outermost.is_none() || sample.vlan_id() == outermost);
    let (protocol, transport) = match kind {
        EtherTypes::Ipv4 => {
            let Some(packet) = Ipv4Packet::new(&payload).filter(|packet| packet.get_version() == 4)
            else {
                return;
            };
            assert_eq!(
                sample.source(),
                Address::from(std::net::IpAddr::V4(packet.get_source()))
            );
            assert_eq!(sample.destination().ip(), packet.get_destination());
            let stated = u32::from(packet.get_total_length());
            assert!(stated == 0 || sample.octets == stated);
            assert_eq!(sample.ttl, packet.get_ttl());
            assert_eq!(sample.tos, packet.get_dscp() << 2 | packet.get_ecn());
            let header = usize::from(packet.get_header_length()) * 4;
            if header < 20 || sample.fragment() == FragmentKind::NotFirst {
                return;
            }
            let rest = payload.get(header..).unwrap_or_default().to_vec();
            (packet.get_next_level_protocol(), rest)
        }
        EtherTypes::Ipv6 => {
            let Some(packet) = Ipv6Packet::new(&payload).filter(|packet| packet.get_version() == 6)
            else {
                return;
            };
            assert_eq!(sample.destination().ip(), packet.get_destination());
            assert_eq!(sample.flow_label, packet.get_flow_label());
            assert_eq!(sample.tos, packet.get_traffic_class());
            assert_eq!(sample.ttl, packet.get_hop_limit());
            let rest = payload.get(40..).unwrap_or_default().to_vec();
            (packet.get_next_header(), rest)
        }
        _ => return,
    };
    count.ip += 1;
    let ports = match protocol {
        Protocols::Tcp => TcpPacket::new(&transport).map(|tcp| {
            assert_eq!(sample.tcp_flags & 0xff, u16::from(tcp.get_flags()));
            (tcp.get_source(), tcp.get_destination())
        }),
        Protocols::Udp => {
            UdpPacket::new(&transport).map(|udp| (udp.get_source(), udp.get_destination()))
        }
        Protocols::Icmp => {
            let icmp = IcmpPacket::new(&transport);
            let shown = icmp.map(|icmp| (icmp.get_icmp_type().0, icmp.get_icmp_code().0));
            assert!(shown.is_none() || sample.icmp() == shown);
            None
        }
        Protocols::Icmpv6 => {
            let icmp = Icmpv6Packet::new(&transport);
            let shown = icmp.map(|icmp| (icmp.get_icmpv6_type().0, icmp.get_icmpv6_code().0));
            assert!(shown.is_none() || sample.icmp() == shown);
            None
        }
        _ => return,
    };
    assert_eq!(sample.protocol, protocol.0);
    if let Some(ports) = ports {
        count.transport += 1;
        assert_eq!((sample.source_port, sample.destination_port), ports);
    }
}

#[test]
fn crafted_frames_are_read_as_pnet_reads_them() {
    let mut count = Count::default();
    for case in frames::cases() {
        if let Some(sample) = parse(&case.octets, case.octets.len() as u32) {
            compare(&case.octets, &sample, &mut count);
        }
    }
    assert_eq!(
        (count.ip, count.transport),
        (19, 10),
        "pnet shows as much as before"
    );
}

#[test]
fn captures_are_read_as_pnet_reads_them() {
    let Some(files) = support::captures() else {
        eprintln!("skipped: no shared captures (WEIR_SHARED)");
        return;
    };
    let mut count = Count::default();
    for file in files {
        let mut capture = Capture::open(&file).unwrap();
        while let Some(frame) = capture.next_frame() {
            if frame.link == LinkType::Ethernet
                && let Some(sample) = parse(&frame.octets, frame.length)
            {
                compare(&frame.octets, &sample, &mut count);
            }
        }
    }
    eprintln!("{} IP packets, {} with ports", count.ip, count.transport);
    assert!(count.transport > 50_000);
}
