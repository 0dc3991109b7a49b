//! Bodies of fuzz targets: plain functions that take any octets and must return.

use weir_flow_record::FragmentKind;

use crate::{IpPacket, LinkType, Packet};

/// Reads `data` by every link type, whole and cut after each of its first 128 octets, and checks that a longer sample never
/// tells less. Panics only if the parser is wrong.
pub fn fuzz_packet(data: &[u8]) {
    for link in [
        LinkType::Ethernet,
        LinkType::Ppp,
        LinkType::Mpls,
        LinkType::Ip,
    ] {
        let whole = Packet::parse(link, data);
        for packet in [whole.ip, whole.inner].into_iter().flatten() {
            check(&packet);
        }
        for length in 0..data.len().min(128) {
            let cut = Packet::parse(link, &data[..length]);
            assert!(cut.mac.is_none() || cut.mac == whole.mac);
            assert!(cut.vlan_id.is_none() || cut.vlan_id == whole.vlan_id);
            if let Some(ip) = cut.ip {
                assert_eq!(
                    Some((ip.source, ip.destination, ip.length)),
                    whole.ip.map(|ip| (ip.source, ip.destination, ip.length))
                );
            }
            assert!(cut.inner.is_none() || whole.inner.is_some());
        }
    }
}

fn check(packet: &IpPacket) {
    let transport = (
        packet.source_port,
        packet.destination_port,
        packet.tcp_flags,
        packet.icmp,
    );
    assert!(packet.fragment != FragmentKind::NotFirst || transport == (0, 0, 0, None));
    assert!(packet.tcp_flags < 512 && packet.flow_label < 1 << 20);
    assert!(packet.tcp_flags == 0 || packet.protocol == 6);
}
