use weir_flow_record::{Address, FragmentKind};

use crate::cursor::Cursor;
use crate::tunnel::Payload;

const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
/// The routing type of segment routing (RFC 8754 §2).
const SEGMENT_ROUTING: u8 = 4;

/// An IP packet's header, and the ports, flags or type of what it carries as far as the octets reach; zeros beyond.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct IpPacket {
    /// Source address.
    pub source: Address,
    /// Destination address as it stands in the header: with segment routing, the next segment.
    pub destination: Address,
    /// The last segment of a segment routing header (RFC 8754 §2.1); `None` without one.
    pub final_destination: Option<Address>,
    /// IPv4 Protocol; for IPv6 the Next Header behind the extension headers, or of the one in which the octets end.
    pub protocol: u8,
    /// IPv4 Total Length, IPv6 Payload Length + 40, in octets.
    pub length: u32,
    /// Type of service, traffic class.
    pub tos: u8,
    /// Time to live, hop limit.
    pub ttl: u8,
    /// IPv6 flow label, 20 bits.
    pub flow_label: u32,
    /// Which fragment this is.
    pub fragment: FragmentKind,
    /// Source port of TCP, UDP, UDP-Lite, SCTP or DCCP.
    pub source_port: u16,
    /// Destination port of the same.
    pub destination_port: u16,
    /// The nine flags of TCP (RFC 9293 §3.1, AE as in RFC 3540's NS).
    pub tcp_flags: u16,
    /// Type and code of ICMP or ICMPv6.
    pub icmp: Option<(u8, u8)>,
}

impl IpPacket {
    /// Whether this is IPv4.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.source.is_v4()
    }

    /// Reads IPv4 or IPv6, whichever the version says, and what lies behind it.
    #[inline]
    pub(crate) fn parse(cursor: Cursor<'_>) -> Option<(Self, Payload<'_>)> {
        let (mut packet, rest) = match cursor.version()? {
            4 => v4(cursor)?,
            6 => v6(cursor)?,
            _ => return None,
        };
        let octets = match rest {
            Some(rest) if packet.fragment != FragmentKind::NotFirst => {
                packet.read_transport(rest);
                rest.rest()
            }
            _ => &[],
        };
        let payload = Payload {
            protocol: packet.protocol,
            destination_port: packet.destination_port,
            octets,
        };
        Some((packet, payload))
    }

    #[inline]
    fn read_transport(&mut self, mut cursor: Cursor<'_>) {
        match self.protocol {
            TCP => {
                self.read_ports(&mut cursor);
                // Sequence and acknowledgement numbers lie between ports and flags.
                if let Some([.., high, low]) = cursor.array::<10>() {
                    self.tcp_flags = u16::from_be_bytes([high & 1, low]);
                }
            }
            UDP | UDP_LITE | SCTP | DCCP => self.read_ports(&mut cursor),
            ICMP | ICMPV6 => self.icmp = cursor.array().map(|[kind, code]| (kind, code)),
            _ => {}
        }
    }

    #[inline]
    fn read_ports(&mut self, cursor: &mut Cursor<'_>) {
        if let Some([a, b, c, d]) = cursor.array() {
            self.source_port = u16::from_be_bytes([a, b]);
            self.destination_port = u16::from_be_bytes([c, d]);
        }
    }
}

/// RFC 791 §3.1. The cursor is `None` where options are cut or the header's length is impossible.
#[inline]
fn v4(mut cursor: Cursor<'_>) -> Option<(IpPacket, Option<Cursor<'_>>)> {
    let header = cursor.array::<20>()?;
    let [first, tos, l0, l1, _, _, f0, f1, ttl, protocol, ..] = header;
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let fragment = u16::from_be_bytes([f0, f1]);
    let packet = IpPacket {
        source: Address::from_v4([s0, s1, s2, s3]),
        destination: Address::from_v4([d0, d1, d2, d3]),
        protocol,
        length: u32::from(u16::from_be_bytes([l0, l1])),
        tos,
        ttl,
        fragment: fragment_kind(fragment & 0x1fff, fragment & 0x2000 != 0),
        ..IpPacket::default()
    };
    let options = (usize::from(first & 15) * 4).checked_sub(20);
    let rest = options.and_then(|length| cursor.skip(length).map(|()| cursor));
    Some((packet, rest))
}

/// RFC 8200 §3.
#[inline]
fn v6(mut cursor: Cursor<'_>) -> Option<(IpPacket, Option<Cursor<'_>>)> {
    let word = cursor.array().map(u32::from_be_bytes)?;
    let payload_length = cursor.u16()?;
    let [next_header, ttl] = cursor.array()?;
    let mut packet = IpPacket {
        source: Address::from_octets(cursor.array()?),
        destination: Address::from_octets(cursor.array()?),
        protocol: next_header,
        length: u32::from(payload_length) + 40,
        tos: (word >> 20) as u8,
        ttl,
        flow_label: word & 0x000f_ffff,
        ..IpPacket::default()
    };
    let rest = extension_headers(&mut packet, cursor);
    Some((packet, rest))
}

/// RFC 8200 §4: each header names the next. Every one takes eight octets at least, so the octets bound their number.
#[inline]
fn extension_headers<'a>(packet: &mut IpPacket, mut cursor: Cursor<'a>) -> Option<Cursor<'a>> {
    loop {
        let header = cursor;
        let length = match packet.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let [_, units] = cursor.array()?;
                usize::from(units) * 8 + 8
            }
            // RFC 4302 §2.2: in words of four octets, less two.
            AUTHENTICATION => {
                let [_, words] = cursor.array()?;
                usize::from(words) * 4 + 8
            }
            FRAGMENT => 8,
            _ => return Some(cursor),
        };
        cursor = header;
        let octets = header.rest().get(..length)?;
        cursor.skip(length)?;
        match (packet.protocol, octets) {
            (FRAGMENT, &[_, _, high, low, ..]) => {
                let field = u16::from_be_bytes([high, low]);
                packet.fragment = fragment_kind(field >> 3, field & 1 == 1);
            }
            (ROUTING, routing) => packet.final_destination = last_segment(routing),
            _ => {}
        }
        packet.protocol = *octets.first()?;
        if packet.fragment == FragmentKind::NotFirst {
            return None;
        }
    }
}

/// RFC 8754 §2: the segment list starts with the last segment of the path.
fn last_segment(routing: &[u8]) -> Option<Address> {
    let [_, _, SEGMENT_ROUTING, _, _, _, _, _, segments @ ..] = routing else {
        return None;
    };
    let (segment, _) = segments.split_first_chunk::<16>()?;
    Some(Address::from_octets(*segment))
}

fn fragment_kind(offset: u16, more: bool) -> FragmentKind {
    match (offset, more) {
        (0, false) => FragmentKind::None,
        (0, true) => FragmentKind::First,
        _ => FragmentKind::NotFirst,
    }
}
