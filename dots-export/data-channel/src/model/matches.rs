//! What a filter's entry matches (RFC 8783 §4.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::element::{Element, put};
use super::ip_match::read_operator;
use super::{BodyFault, Ipv4Match, Ipv6Match, Operator, PortMatch, TcpFlags};

/// Longest `rest-of-header` that is taken, in octets; the module sets no bound.
const MAX_REST_OF_HEADER: usize = 256;

/// Matches on both layers; without any, every packet matches.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Matches {
    /// Network layer.
    pub l3: Option<L3>,
    /// Transport layer.
    pub l4: Option<L4>,
}

/// Network layer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum L3 {
    /// IPv4.
    Ipv4(Ipv4Match),
    /// IPv6.
    Ipv6(Ipv6Match),
}

/// Transport layer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum L4 {
    /// TCP.
    Tcp(TcpMatch),
    /// UDP.
    Udp(UdpMatch),
    /// ICMP, or ICMPv6 where the filter or its network layer is of IPv6.
    Icmp(IcmpMatch),
}

/// Fields of the TCP header.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TcpMatch {
    /// Sequence number.
    pub sequence_number: Option<u32>,
    /// Acknowledgement number.
    pub acknowledgement_number: Option<u32>,
    /// Header length in 32-bit words, 5 to 15.
    pub data_offset: Option<u8>,
    /// Reserved bits.
    pub reserved: Option<u8>,
    /// Flags, not together with [`Self::flags_bitmask`].
    pub flags: Option<TcpFlags>,
    /// Window size.
    pub window_size: Option<u16>,
    /// Urgent pointer.
    pub urgent_pointer: Option<u16>,
    /// Options, 1 to 40 octets.
    pub options: Option<Vec<u8>>,
    /// Mask of flags.
    pub flags_bitmask: Option<FlagsBitmask>,
    /// Source ports.
    pub source_port: Option<PortMatch>,
    /// Destination ports.
    pub destination_port: Option<PortMatch>,
}

/// A match on the last four bits of octet 12 and on octet 13 of the TCP header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlagsBitmask {
    /// How the mask is applied; `match` where a request has none.
    pub operator: Operator,
    /// The mask.
    pub bitmask: u16,
}

/// Fields of the UDP header.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct UdpMatch {
    /// Length of header and data in octets.
    pub length: Option<u16>,
    /// Source ports.
    pub source_port: Option<PortMatch>,
    /// Destination ports.
    pub destination_port: Option<PortMatch>,
}

/// Fields of the ICMP or ICMPv6 header.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct IcmpMatch {
    /// Type.
    pub kind: Option<u8>,
    /// Code.
    pub code: Option<u8>,
    /// What follows the checksum, up to 256 octets.
    pub rest_of_header: Option<Vec<u8>>,
}

impl Matches {
    /// Where matching packets go, where that is restricted.
    #[must_use]
    pub fn destination(&self) -> Option<IpNet> {
        match self.l3.as_ref()? {
            L3::Ipv4(ipv4) => ipv4.destination.map(IpNet::V4),
            L3::Ipv6(ipv6) => ipv6.destination.map(IpNet::V6),
        }
    }

    /// Where matching packets come from, where that is restricted.
    #[must_use]
    pub fn source(&self) -> Option<IpNet> {
        match self.l3.as_ref()? {
            L3::Ipv4(ipv4) => ipv4.source.map(IpNet::V4),
            L3::Ipv6(ipv6) => ipv6.source.map(IpNet::V6),
        }
    }

    /// Whether nothing but addresses is looked at.
    #[must_use]
    pub fn is_of_all_traffic(&self) -> bool {
        let bare = match &self.l3 {
            None => true,
            Some(L3::Ipv4(ipv4)) => ipv4.is_of_all_traffic(),
            Some(L3::Ipv6(ipv6)) => ipv6.is_of_all_traffic(),
        };
        bare && self.l4.is_none()
    }

    pub(super) fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let l3 = match (element.container("ipv4")?, element.container("ipv6")?) {
            (None, None) => None,
            (Some(ipv4), None) => Some(L3::Ipv4(Ipv4Match::read(ipv4)?)),
            (None, Some(ipv6)) => Some(L3::Ipv6(Ipv6Match::read(ipv6)?)),
            (Some(_), Some(_)) => return Err(element.invalid("ipv6", "stands beside ipv4")),
        };
        let l4 = (
            element.container("tcp")?,
            element.container("udp")?,
            element.container("icmp")?,
        );
        let l4 = match l4 {
            (None, None, None) => None,
            (Some(tcp), None, None) => Some(L4::Tcp(TcpMatch::read(tcp)?)),
            (None, Some(udp), None) => Some(L4::Udp(UdpMatch::read(udp)?)),
            (None, None, Some(icmp)) => Some(L4::Icmp(IcmpMatch::read(icmp)?)),
            _ => {
                let problem = "has more than one of tcp, udp and icmp";
                return Err(BodyFault::invalid(element.place(), problem));
            }
        };
        element.finish()?;
        Ok(Self { l3, l4 })
    }

    pub(super) fn json(&self) -> Value {
        let mut members = Map::new();
        match &self.l3 {
            Some(L3::Ipv4(ipv4)) => put(&mut members, "ipv4", Some(ipv4.json())),
            Some(L3::Ipv6(ipv6)) => put(&mut members, "ipv6", Some(ipv6.json())),
            None => {}
        }
        match &self.l4 {
            Some(L4::Tcp(tcp)) => put(&mut members, "tcp", Some(tcp.json())),
            Some(L4::Udp(udp)) => put(&mut members, "udp", Some(udp.json())),
            Some(L4::Icmp(icmp)) => put(&mut members, "icmp", Some(icmp.json())),
            None => {}
        }
        Value::Object(members)
    }
}

impl TcpMatch {
    fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let found = Self {
            sequence_number: element.number("sequence-number")?,
            acknowledgement_number: element.number("acknowledgement-number")?,
            data_offset: element.ranged("data-offset", 5..=15)?,
            reserved: element.number("reserved")?,
            flags: element.leaf("flags", TcpFlags::read)?,
            window_size: element.number("window-size")?,
            urgent_pointer: element.number("urgent-pointer")?,
            options: element.leaf("options", |value| binary(value, 1, 40))?,
            flags_bitmask: element
                .container("flags-bitmask")?
                .map(FlagsBitmask::read)
                .transpose()?,
            source_port: ports(&mut element, SOURCE_PORT)?,
            destination_port: ports(&mut element, DESTINATION_PORT)?,
        };
        if found.flags.is_some() && found.flags_bitmask.is_some() {
            return Err(element.invalid("flags", "stands beside flags-bitmask"));
        }
        element.finish()?;
        Ok(found)
    }

    fn json(&self) -> Value {
        let mut members = Map::new();
        put(&mut members, "sequence-number", self.sequence_number);
        put(
            &mut members,
            "acknowledgement-number",
            self.acknowledgement_number,
        );
        put(&mut members, "data-offset", self.data_offset);
        put(&mut members, "reserved", self.reserved);
        put(&mut members, "flags", self.flags);
        put(&mut members, "window-size", self.window_size);
        put(&mut members, "urgent-pointer", self.urgent_pointer);
        put(
            &mut members,
            "options",
            self.options.as_ref().map(|octets| STANDARD.encode(octets)),
        );
        put(
            &mut members,
            "flags-bitmask",
            self.flags_bitmask.map(FlagsBitmask::json),
        );
        put_ports(&mut members, self.source_port, self.destination_port);
        Value::Object(members)
    }
}

fn put_ports(
    members: &mut Map<String, Value>,
    source: Option<PortMatch>,
    destination: Option<PortMatch>,
) {
    put(members, SOURCE_PORT, source.map(PortMatch::json));
    put(members, DESTINATION_PORT, destination.map(PortMatch::json));
}

impl FlagsBitmask {
    fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let operator = read_operator(&mut element)?;
        let bitmask = element.number("bitmask")?;
        let bitmask = bitmask.ok_or_else(|| element.missing("bitmask"))?;
        element.finish()?;
        Ok(Self { operator, bitmask })
    }

    fn json(self) -> Value {
        let mut members = Map::new();
        put(&mut members, "operator", Some(self.operator));
        put(&mut members, "bitmask", Some(self.bitmask));
        Value::Object(members)
    }
}

impl UdpMatch {
    fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let found = Self {
            length: element.number("length")?,
            source_port: ports(&mut element, SOURCE_PORT)?,
            destination_port: ports(&mut element, DESTINATION_PORT)?,
        };
        element.finish()?;
        Ok(found)
    }

    fn json(&self) -> Value {
        let mut members = Map::new();
        put(&mut members, "length", self.length);
        put_ports(&mut members, self.source_port, self.destination_port);
        Value::Object(members)
    }
}

impl IcmpMatch {
    fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let found = Self {
            kind: element.number("type")?,
            code: element.number("code")?,
            rest_of_header: element.leaf("rest-of-header", |value| {
                binary(value, 0, MAX_REST_OF_HEADER)
            })?,
        };
        element.finish()?;
        Ok(found)
    }

    fn json(&self) -> Value {
        let mut members = Map::new();
        put(&mut members, "type", self.kind);
        put(&mut members, "code", self.code);
        let rest = self.rest_of_header.as_ref();
        put(
            &mut members,
            "rest-of-header",
            rest.map(|octets| STANDARD.encode(octets)),
        );
        Value::Object(members)
    }
}

pub(super) const SOURCE_PORT: &str = "source-port-range-or-operator";
pub(super) const DESTINATION_PORT: &str = "destination-port-range-or-operator";

fn ports(element: &mut Element<'_>, name: &str) -> Result<Option<PortMatch>, BodyFault> {
    element.container(name)?.map(PortMatch::read).transpose()
}

fn binary(value: &Value, least: usize, most: usize) -> Option<Vec<u8>> {
    let octets = STANDARD.decode(value.as_str()?).ok()?;
    (least..=most).contains(&octets.len()).then_some(octets)
}
