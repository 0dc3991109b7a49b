use bytemuck::Zeroable;
use weir_packet::{LinkType, Packet};

use crate::layout::{HEADERS, PRESENT_ICMP, PRESENT_VLAN, Sample};

/// Reads an Ethernet frame as the kernel program does: its first 128 octets, of `frame_octets` that it had; `None` where it
/// carries no IP. The time is 0.
#[inline]
pub fn parse(octets: &[u8], frame_octets: u32) -> Option<Sample> {
    let octets = octets.get(..HEADERS).unwrap_or(octets);
    sample_of(&Packet::ethernet(octets), frame_octets)
}

/// The same for a frame of another link type.
pub fn parse_link(link: LinkType, octets: &[u8], frame_octets: u32) -> Option<Sample> {
    let octets = octets.get(..HEADERS).unwrap_or(octets);
    sample_of(&Packet::parse(link, octets), frame_octets)
}

fn sample_of(packet: &Packet, frame_octets: u32) -> Option<Sample> {
    let ip = packet.ip?;
    let mut sample = Sample {
        source: ip.source.octets(),
        destination: ip.destination.octets(),
        octets: ip.length,
        frame_octets,
        flow_label: ip.flow_label,
        source_port: ip.source_port,
        destination_port: ip.destination_port,
        tcp_flags: ip.tcp_flags,
        protocol: ip.protocol,
        tos: ip.tos,
        ttl: ip.ttl,
        fragment: ip.fragment as u8,
        ..Sample::zeroed()
    };
    // Segmentation offload and jumbograms (RFC 2675) leave the length to the frame.
    let open = if ip.is_v4() { 0 } else { 40 };
    if ip.length == open {
        sample.octets = frame_octets.saturating_sub(packet.network_offset);
    }
    if let Some(mac) = packet.mac {
        sample.source_mac = mac.source;
        sample.destination_mac = mac.destination;
    }
    if let Some(vlan_id) = packet.vlan_id {
        sample.vlan_id = vlan_id;
        sample.present |= PRESENT_VLAN;
    }
    if let Some((kind, code)) = ip.icmp {
        (sample.icmp_type, sample.icmp_code) = (kind, code);
        sample.present |= PRESENT_ICMP;
    }
    Some(sample)
}
