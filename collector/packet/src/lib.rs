//! Reads sampled packet headers: the first octets of a frame in, fields out. sFlow samples, IPFIX sections (IE 313, 315) and
//! packet captures all come through here.
//!
//! A sample may be cut anywhere: what the octets show is told, what lies behind the cut is absent. Of a tunnel the outer
//! packet is the record, and the packet within is told apart ([`Packet::inner`]). Nothing is allocated, nothing reassembled,
//! no checksum verified. [`encode`] writes frames for tests, benches and the traffic generator.
//!
//! ```
//! use weir_flow_record::{Address, Row};
//! use weir_packet::Packet;
//!
//! let row = Row { source_address: Address::from_v4([192, 0, 2, 1]), destination_address: Address::from_v4([203, 0, 113, 9]),
//!     protocol: 17, source_port: 53, destination_port: 4444, octets: 1200, ..Row::default() };
//! let mut frame = Vec::new();
//! weir_packet::encode::ethernet(&row, &Default::default(), &mut frame);
//! let ip = Packet::ethernet(&frame).ip.ok_or("no IP")?;
//! assert_eq!((ip.source, ip.source_port), (row.source_address, 53));
//! # Ok::<(), &str>(())
//! ```

mod cursor;
pub mod encode;
pub mod fuzzing;
mod ip;
mod link;
mod tunnel;

pub use ip::IpPacket;
pub use link::{LinkType, MacAddresses};

use cursor::Cursor;
use link::Layers;
use tunnel::Payload;

/// What the first octets of a frame show.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Packet {
    /// MAC addresses; `None` without Ethernet header.
    pub mac: Option<MacAddresses>,
    /// The outermost VLAN tag's identifier (IEEE 802.1Q, 12 bits); `None` without tag.
    pub vlan_id: Option<u16>,
    /// The IP packet; `None` where the frame carries none or is cut before its addresses.
    pub ip: Option<IpPacket>,
    /// The IP packet within a tunnel: GRE, IP in IP, VXLAN, EtherIP, SRv6.
    pub inner: Option<IpPacket>,
    /// Octets before the IP packet; 0 where there is none.
    pub network_offset: u32,
}

impl Packet {
    /// Reads a frame of any link type that is known here.
    #[inline]
    pub fn parse(link: LinkType, octets: &[u8]) -> Self {
        match link {
            LinkType::Ethernet => Self::ethernet(octets),
            LinkType::Ppp => Self::of(octets, Layers::ppp(Cursor::new(octets))),
            LinkType::Mpls => Self::of(octets, Layers::mpls(Cursor::new(octets))),
            LinkType::Ip => Self::ip(octets),
        }
    }

    /// Reads an Ethernet frame, from its destination address on.
    #[inline]
    pub fn ethernet(octets: &[u8]) -> Self {
        Self::of(octets, Layers::ethernet(Cursor::new(octets)))
    }

    /// Reads an IPv4 or IPv6 packet, told apart by its version.
    #[inline]
    pub fn ip(octets: &[u8]) -> Self {
        Self::of(octets, Layers::ip(Cursor::new(octets)))
    }

    #[inline]
    fn of(octets: &[u8], layers: Layers<'_>) -> Self {
        let (ip, inner) = match layers.network.and_then(IpPacket::parse) {
            Some((ip, payload)) => (Some(ip), inner(payload)),
            None => (None, None),
        };
        let network = layers.network.filter(|_| ip.is_some());
        Self {
            mac: layers.mac,
            vlan_id: layers.vlan_id,
            ip,
            inner,
            // A frame is shorter than 2³² octets.
            network_offset: network.map_or(0, |at| (octets.len() - at.rest().len()) as u32),
        }
    }
}

/// The first packet within a tunnel; tunnels in tunnels are not followed.
#[inline]
fn inner(payload: Payload<'_>) -> Option<IpPacket> {
    let network = payload.tunnelled()?;
    IpPacket::parse(network).map(|(ip, _)| ip)
}
