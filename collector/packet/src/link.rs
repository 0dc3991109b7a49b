use crate::cursor::Cursor;

const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
const OLD_QINQ: u16 = 0x9100;
const MPLS: u16 = 0x8847;
const MPLS_UPSTREAM: u16 = 0x8848;
const PPPOE_SESSION: u16 = 0x8864;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// How a frame begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkType {
    /// Ethernet (sFlow header_protocol 1, pcap link type 1).
    Ethernet,
    /// PPP, with or without address and control octets (sFlow header_protocol 7 and 14, pcap link type 9).
    Ppp,
    /// An MPLS label stack (sFlow header_protocol 13, IPFIX IE 316).
    Mpls,
    /// IPv4 or IPv6 (sFlow header_protocol 11 and 12, pcap link type 101, IPFIX IE 313).
    Ip,
}

impl LinkType {
    /// The link type of an sFlow `header_protocol`; `None` for those that carry no IP or are extinct.
    #[inline]
    pub const fn of_sflow(header_protocol: u32) -> Option<Self> {
        match header_protocol {
            1 => Some(Self::Ethernet),
            7 | 14 => Some(Self::Ppp),
            11 | 12 => Some(Self::Ip),
            13 => Some(Self::Mpls),
            _ => None,
        }
    }
}

/// The addresses of an Ethernet header.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MacAddresses {
    /// Who sent the frame on this link.
    pub source: [u8; 6],
    /// Whom it is for on this link.
    pub destination: [u8; 6],
}

/// What lies below IP, and where IP begins.
#[derive(Clone, Copy, Default)]
pub(crate) struct Layers<'a> {
    pub(crate) mac: Option<MacAddresses>,
    pub(crate) vlan_id: Option<u16>,
    pub(crate) network: Option<Cursor<'a>>,
}

impl<'a> Layers<'a> {
    #[inline]
    pub(crate) fn ethernet(mut cursor: Cursor<'a>) -> Self {
        let mut layers = Self::default();
        let (Some(destination), Some(source)) = (cursor.array(), cursor.array()) else {
            return layers;
        };
        layers.mac = Some(MacAddresses {
            source,
            destination,
        });
        if let Some(ether_type) = cursor.u16() {
            layers.read_ether_type(ether_type, cursor);
        }
        layers
    }

    pub(crate) fn ppp(cursor: Cursor<'a>) -> Self {
        Self {
            network: ppp(cursor),
            ..Self::default()
        }
    }

    pub(crate) fn mpls(cursor: Cursor<'a>) -> Self {
        Self {
            network: below_labels(cursor),
            ..Self::default()
        }
    }

    #[inline]
    pub(crate) fn ip(cursor: Cursor<'a>) -> Self {
        Self {
            network: Some(cursor),
            ..Self::default()
        }
    }

    #[inline]
    fn read_ether_type(&mut self, mut ether_type: u16, mut cursor: Cursor<'a>) {
        while matches!(ether_type, VLAN | QINQ | OLD_QINQ) {
            let (Some(control), Some(next)) = (cursor.u16(), cursor.u16()) else {
                return;
            };
            self.vlan_id.get_or_insert(control & 0x0fff);
            ether_type = next;
        }
        self.network = by_ether_type(ether_type, cursor);
    }
}

/// Where IP begins behind an EtherType other than a VLAN tag's.
#[inline]
pub(crate) fn by_ether_type(ether_type: u16, mut cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    match ether_type {
        // Which of them it is, the packet's version says.
        IPV4 | IPV6 => Some(cursor),
        MPLS | MPLS_UPSTREAM => below_labels(cursor),
        PPPOE_SESSION => {
            // RFC 2516 §4: version, type, code, session and length; PPP follows.
            cursor.skip(6)?;
            ppp(cursor)
        }
        _ => None,
    }
}

/// RFC 1661 §2, RFC 1662 §3.1: address and control octets may be left out, and the protocol's first octet too.
fn ppp(mut cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    if cursor.rest().starts_with(&[0xff, 0x03]) {
        cursor.skip(2)?;
    }
    let protocol = match cursor.rest() {
        [compressed, ..] if compressed & 1 == 1 => {
            cursor.skip(1)?;
            u16::from(*compressed)
        }
        _ => cursor.u16()?,
    };
    match protocol {
        0x0021 | 0x0057 => Some(cursor),
        0x0281 => below_labels(cursor),
        _ => None,
    }
}

/// RFC 3032 §2.1: labels of four octets; the bottom one is marked, and nothing says what it carries but the first octet.
fn below_labels(mut cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    loop {
        let [_, _, bottom, _] = cursor.array::<4>()?;
        if bottom & 1 == 1 {
            return matches!(cursor.version(), Some(4 | 6)).then_some(cursor);
        }
    }
}
