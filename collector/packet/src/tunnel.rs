use crate::cursor::Cursor;
use crate::link::{Layers, by_ether_type};

const IPV4: u8 = 4;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const ETHER_IP: u8 = 97;
/// RFC 8986 §9.1: the Ethernet frame of an SRv6 service.
const ETHERNET: u8 = 143;
const VXLAN_PORT: u16 = 4789;
const TRANSPARENT_ETHERNET: u16 = 0x6558;

/// What an IP packet carries.
#[derive(Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) protocol: u8,
    pub(crate) destination_port: u16,
    pub(crate) octets: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Where IP begins within the tunnel; `None` where this is none that is known here.
    #[inline]
    pub(crate) fn tunnelled(self) -> Option<Cursor<'a>> {
        let cursor = Cursor::new(self.octets);
        match self.protocol {
            UDP if self.destination_port == VXLAN_PORT => vxlan(cursor),
            IPV4 | IPV6 => Some(cursor),
            GRE => gre(cursor),
            ETHER_IP => ether_ip(cursor),
            ETHERNET => Layers::ethernet(cursor).network,
            _ => None,
        }
    }
}

/// RFC 7348 §5: behind the UDP header eight octets, the flag I set, then Ethernet.
fn vxlan(mut cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    cursor.skip(8)?;
    let [flags, ..] = cursor.array::<8>()?;
    if flags & 0x08 == 0 {
        return None;
    }
    Layers::ethernet(cursor).network
}

/// RFC 2784 §2, RFC 2890 §2: checksum, key and sequence number are there if their flags are set. Source routes (RFC 1701)
/// and version 1 (PPTP) are not followed.
fn gre(mut cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    let flags = cursor.u16()?;
    let protocol = cursor.u16()?;
    if flags & 0x4007 != 0 {
        return None;
    }
    let fields = (flags & 0xb000).count_ones() as usize;
    cursor.skip(fields * 4)?;
    match protocol {
        TRANSPARENT_ETHERNET => Layers::ethernet(cursor).network,
        protocol => by_ether_type(protocol, cursor),
    }
}

/// RFC 3378 §3: version 3, twelve reserved bits, then Ethernet.
fn ether_ip(mut cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    (cursor.u16()? >> 12 == 3).then(|| Layers::ethernet(cursor).network)?
}
