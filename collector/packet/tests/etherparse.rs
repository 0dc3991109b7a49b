//! What `etherparse` reads, this reads too: over frames built by it, and over any octets behind an Ethernet header.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use etherparse::{
    LaxNetSlice, LaxSlicedPacket, PacketBuilder, SlicedPacket, TransportSlice, VlanId, VlanSlice,
};
use proptest::prelude::*;
use weir_flow_record::{Address, FragmentKind};
use weir_packet::{IpPacket, Packet};

proptest! {
    #[test]
    fn built_frames_are_read_alike(
        addresses in any::<([u8; 6], [u8; 6], [u8; 16], [u8; 16])>(),
        (v4, vlan, kind) in (any::<bool>(), proptest::option::of(0..4096_u16), 0..4_u8),
        (ports, flags, ttl) in any::<((u16, u16), u16, u8)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let (source_mac, destination_mac, source, destination) = addresses;
        let frame = build(source_mac, destination_mac, source, destination, v4, vlan, kind, ports, flags, ttl, &payload);
        compare(&frame)?;
        weir_packet::fuzzing::fuzz_packet(&frame);
    }

    #[test]
    fn any_octets_are_read_alike(
        ether_type in prop_oneof![Just(0x0800_u16), Just(0x86dd), Just(0x8100), Just(0x88a8)],
        first in prop_oneof![Just(0x45_u8), Just(0x46), Just(0x4f), Just(0x60)],
        next in prop_oneof![Just(0_u8), Just(43), Just(44), Just(60), Just(6), Just(17), Just(4), Just(41), Just(47), any::<u8>()],
        mut rest in proptest::collection::vec(any::<u8>(), 0..160),
    ) {
        // Most random lengths are longer than the sample: keep the extension headers short.
        if let Some(octet) = rest.get_mut(0) { *octet = first; }
        if let Some(octet) = rest.get_mut(6) { *octet = next; }
        if let Some(octet) = rest.get_mut(41) { *octet &= 3; }
        let mut frame = vec![2; 12];
        frame.extend(ether_type.to_be_bytes());
        frame.extend(rest);
        compare(&frame)?;
        weir_packet::fuzzing::fuzz_packet(&frame);
    }
}

#[expect(clippy::too_many_arguments, reason = "one for each field of a frame")]
fn build(
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
    source: [u8; 16],
    destination: [u8; 16],
    v4: bool,
    vlan: Option<u16>,
    kind: u8,
    (source_port, destination_port): (u16, u16),
    flags: u16,
    ttl: u8,
    payload: &[u8],
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(source_mac, destination_mac);
    let short = |address: [u8; 16]| *address.first_chunk::<4>().unwrap();
    macro_rules! above {
        ($link:expr) => {
            if v4 {
                $link.ipv4(short(source), short(destination), ttl)
            } else {
                $link.ipv6(source, destination, ttl)
            }
        };
    }
    let ip = match vlan {
        Some(id) => above!(builder.single_vlan(VlanId::try_new(id).unwrap())),
        None => above!(builder),
    };
    let mut frame = Vec::new();
    match kind {
        0 => ip
            .udp(source_port, destination_port)
            .write(&mut frame, payload)
            .unwrap(),
        1 => {
            let mut tcp = etherparse::TcpHeader::new(source_port, destination_port, 1, 2);
            tcp.ns = flags & 0x100 != 0;
            tcp.syn = flags & 2 != 0;
            tcp.ack = flags & 16 != 0;
            tcp.cwr = flags & 128 != 0;
            ip.tcp_header(tcp).write(&mut frame, payload).unwrap();
        }
        2 => ip
            .icmpv4_echo_request(1, 2)
            .write(&mut frame, payload)
            .unwrap(),
        _ if v4 => ip
            .icmpv4_raw(3, 13, [0; 4])
            .write(&mut frame, payload)
            .unwrap(),
        _ => ip
            .icmpv6_echo_request(1, 2)
            .write(&mut frame, payload)
            .unwrap(),
    }
    frame
}

fn compare(frame: &[u8]) -> Result<(), TestCaseError> {
    let ours = Packet::ethernet(frame);
    let Ok(theirs) = LaxSlicedPacket::from_ethernet(frame) else {
        prop_assert_eq!(ours, Packet::default());
        return Ok(());
    };
    let vlan = theirs.vlan().map(|vlan| match vlan {
        VlanSlice::SingleVlan(tag) => tag.vlan_identifier().value(),
        VlanSlice::DoubleVlan(tags) => tags.outer.vlan_identifier().value(),
    });
    prop_assert_eq!(ours.vlan_id, vlan);
    let Some(net) = &theirs.net else {
        return Ok(());
    };
    let ip = ours.ip.unwrap_or_default();
    compare_network(&ip, net)?;
    if SlicedPacket::from_ethernet(frame).is_err() {
        // Lengths that contradict each other: ours goes by the octets, theirs by the stated lengths.
        return Ok(());
    }
    match &theirs.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            prop_assert_eq!(
                (ip.source_port, ip.destination_port),
                (tcp.source_port(), tcp.destination_port())
            );
            let flags = [
                tcp.fin(),
                tcp.syn(),
                tcp.rst(),
                tcp.psh(),
                tcp.ack(),
                tcp.urg(),
                tcp.ece(),
                tcp.cwr(),
                tcp.ns(),
            ];
            let flags = flags
                .iter()
                .enumerate()
                .fold(0, |sum, (bit, set)| sum | u16::from(*set) << bit);
            prop_assert_eq!(ip.tcp_flags, flags);
        }
        Some(TransportSlice::Udp(udp)) => {
            prop_assert_eq!(
                (ip.source_port, ip.destination_port),
                (udp.source_port(), udp.destination_port())
            );
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            prop_assert_eq!(ip.icmp, Some((icmp.type_u8(), icmp.code_u8())))
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            prop_assert_eq!(ip.icmp, Some((icmp.type_u8(), icmp.code_u8())))
        }
        _ => {}
    }
    Ok(())
}

fn compare_network(ip: &IpPacket, net: &LaxNetSlice<'_>) -> Result<(), TestCaseError> {
    match net {
        LaxNetSlice::Ipv4(v4) => {
            let header = v4.header();
            prop_assert_eq!(ip.source, Address::from_v4(header.source()));
            prop_assert_eq!(ip.destination, Address::from_v4(header.destination()));
            prop_assert_eq!((ip.protocol, ip.ttl), (header.protocol().0, header.ttl()));
            prop_assert_eq!(ip.length, u32::from(header.total_len()));
            prop_assert_eq!(
                ip.fragment != FragmentKind::None,
                header.is_fragmenting_payload()
            );
        }
        LaxNetSlice::Ipv6(v6) => {
            let header = v6.header();
            prop_assert_eq!(ip.source, Address::from_octets(header.source()));
            prop_assert_eq!(ip.destination, Address::from_octets(header.destination()));
            prop_assert_eq!(ip.flow_label, header.flow_label().value());
            prop_assert_eq!(
                (ip.tos, ip.ttl),
                (header.traffic_class(), header.hop_limit())
            );
            prop_assert_eq!(ip.length, u32::from(header.payload_length()) + 40);
        }
        _ => {}
    }
    Ok(())
}
