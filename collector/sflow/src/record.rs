//! The records of a flow sample: what they say of the frame, as a row.

use weir_flow_record::{Address, ColumnSet, ExtraRow, Row};
use weir_packet::{IpPacket, LinkType, Packet};

use crate::cursor::Cursor;
use crate::sample::next;

mod format {
    pub(super) const RAW_HEADER: u32 = 1;
    pub(super) const ETHERNET: u32 = 2;
    pub(super) const IPV4: u32 = 3;
    pub(super) const IPV6: u32 = 4;
    pub(super) const SWITCH: u32 = 1001;
    pub(super) const ROUTER: u32 = 1002;
    pub(super) const GATEWAY: u32 = 1003;
}

/// What a flow sample's records say.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Frame {
    pub(crate) row: Row,
    pub(crate) extra: ExtraRow,
    /// Which optional fields were there.
    pub(crate) present: ColumnSet,
    /// Records of unknown format.
    pub(crate) skipped: u32,
    /// Records that are cut, or fewer of them than stated.
    pub(crate) malformed: bool,
    /// By which record the octets are known.
    measured: Measure,
    has_ip: bool,
}

/// Which record says how long the frame was; a later one knows better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
enum Measure {
    #[default]
    Unknown,
    Ip,
    Ethernet,
    RawHeader,
}

impl Frame {
    /// Reads the records of a sample, as far as they are whole.
    #[inline]
    pub(crate) fn read(cursor: &mut Cursor<'_>, records: u32) -> Self {
        let mut frame = Self::default();
        for _ in 0..records {
            let read = next(cursor).and_then(|(format, content)| frame.add(format, content));
            if read.is_none() {
                frame.malformed = true;
                break;
            }
        }
        frame
    }

    /// Whether any record described the frame itself.
    pub(crate) fn is_seen(&self) -> bool {
        self.measured != Measure::Unknown
    }

    #[inline]
    fn add(&mut self, format: u32, content: Cursor<'_>) -> Option<()> {
        match format {
            format::RAW_HEADER => self.add_raw_header(content),
            format::ETHERNET => self.add_ethernet(content),
            format::IPV4 => {
                let (length, protocol, source, destination) = ip_fields(content, Address::from_v4)?;
                self.add_ip(length, protocol, [source, destination], skip(content, 16)?)
            }
            format::IPV6 => {
                let (length, protocol, source, destination) =
                    ip_fields(content, Address::from_octets)?;
                self.add_ip(length, protocol, [source, destination], skip(content, 40)?)
            }
            format::SWITCH => self.add_switch(content),
            format::ROUTER => self.add_router(content),
            format::GATEWAY => self.add_gateway(content),
            _ => {
                self.skipped += 1;
                Some(())
            }
        }
    }

    /// `sampled_header`: the frame's first octets.
    #[inline]
    fn add_raw_header(&mut self, mut content: Cursor<'_>) -> Option<()> {
        let [protocol, frame_length, _stripped, header_length] = content.words()?;
        self.measure(Measure::RawHeader, frame_length);
        let length = usize::try_from(header_length).ok()?;
        let (header, whole) = match content.rest().get(..length) {
            Some(header) => (header, true),
            None => (content.rest(), false),
        };
        if let Some(link) = LinkType::of_sflow(protocol) {
            self.add_packet(&Packet::parse(link, header));
        }
        whole.then_some(())
    }

    #[inline]
    fn add_packet(&mut self, packet: &Packet) {
        if let Some(mac) = packet.mac {
            self.extra.source_mac = mac.source;
            self.extra.destination_mac = mac.destination;
            self.mark(ColumnSet::MAC);
        }
        if let Some(vlan_id) = packet.vlan_id {
            self.extra.vlan_id = vlan_id;
            self.mark(ColumnSet::VLAN);
        }
        if let Some(ip) = &packet.ip {
            self.add_ip_packet(ip);
        }
        if let Some(inner) = &packet.inner {
            self.extra.inner_source_address = inner.source;
            self.extra.inner_destination_address = inner.destination;
            self.extra.inner_source_port = inner.source_port;
            self.extra.inner_destination_port = inner.destination_port;
            self.extra.inner_protocol = inner.protocol;
            self.mark(ColumnSet::INNER);
        }
    }

    #[inline]
    fn add_ip_packet(&mut self, ip: &IpPacket) {
        self.has_ip = true;
        let row = &mut self.row;
        row.source_address = ip.source;
        row.destination_address = ip.destination;
        row.source_port = ip.source_port;
        row.destination_port = ip.destination_port;
        row.protocol = ip.protocol;
        row.tcp_flags = ip.tcp_flags;
        row.fragment = ip.fragment;
        let extra = &mut self.extra;
        extra.tos = ip.tos;
        extra.ttl = ip.ttl;
        extra.flow_label = ip.flow_label;
        self.mark(ColumnSet::TOS.with(ColumnSet::TTL));
        if !ip.is_v4() {
            self.mark(ColumnSet::FLOW_LABEL);
        }
        if ip.protocol == TCP {
            self.mark(ColumnSet::TCP_FLAGS);
        }
        if let Some((kind, code)) = ip.icmp {
            self.extra.icmp_type = kind;
            self.extra.icmp_code = code;
            self.mark(ColumnSet::ICMP);
        }
    }

    /// `sampled_ethernet`: length, MAC addresses padded to eight octets, type.
    fn add_ethernet(&mut self, mut content: Cursor<'_>) -> Option<()> {
        let length = content.u32()?;
        let [s0, s1, s2, s3, s4, s5, _, _] = content.array::<8>()?;
        let [d0, d1, d2, d3, d4, d5, _, _] = content.array::<8>()?;
        self.measure(Measure::Ethernet, length);
        if !self.present.has(ColumnSet::MAC) {
            self.extra.source_mac = [s0, s1, s2, s3, s4, s5];
            self.extra.destination_mac = [d0, d1, d2, d3, d4, d5];
            self.mark(ColumnSet::MAC);
        }
        Some(())
    }

    /// `sampled_ipv4` and `sampled_ipv6`, whose ends are alike: ports, TCP flags, type of service or priority.
    fn add_ip(
        &mut self,
        length: u32,
        protocol: u32,
        [source, destination]: [Address; 2],
        mut rest: Cursor<'_>,
    ) -> Option<()> {
        let [source_port, destination_port, tcp_flags, tos] = rest.words()?;
        self.measure(Measure::Ip, length);
        // A raw header says the same and more.
        if self.has_ip {
            return Some(());
        }
        self.has_ip = true;
        let row = &mut self.row;
        row.source_address = source;
        row.destination_address = destination;
        row.protocol = u8::try_from(protocol).unwrap_or(0);
        row.source_port = u16::try_from(source_port).unwrap_or(0);
        row.destination_port = u16::try_from(destination_port).unwrap_or(0);
        if row.protocol == TCP {
            row.tcp_flags = (tcp_flags & 0x01ff) as u16;
            self.mark(ColumnSet::TCP_FLAGS);
        }
        self.extra.tos = (tos & 0xff) as u8;
        self.mark(ColumnSet::TOS);
        Some(())
    }

    /// `extended_switch`: the VLAN by which the frame came, where its header shows none.
    fn add_switch(&mut self, mut content: Cursor<'_>) -> Option<()> {
        let [vlan_id, ..] = content.words::<4>()?;
        if !self.present.has(ColumnSet::VLAN)
            && let Ok(vlan_id @ 1..=4094) = u16::try_from(vlan_id)
        {
            self.extra.vlan_id = vlan_id;
            self.mark(ColumnSet::VLAN);
        }
        Some(())
    }

    /// `extended_router`: next hop and prefix lengths.
    fn add_router(&mut self, mut content: Cursor<'_>) -> Option<()> {
        let next_hop = content.address()?;
        let [source, destination] = content.words()?;
        let extra = &mut self.extra;
        extra.next_hop = next_hop;
        extra.source_prefix_length = u8::try_from(source).unwrap_or(0);
        extra.destination_prefix_length = u8::try_from(destination).unwrap_or(0);
        self.mark(ColumnSet::NEXT_HOP.with(ColumnSet::PREFIX_LENGTHS));
        Some(())
    }

    /// `extended_gateway`: BGP's next hop where no router record names one, and the AS numbers: the source's, else the
    /// router's own; the last of the path, else the router's own.
    fn add_gateway(&mut self, mut content: Cursor<'_>) -> Option<()> {
        let next_hop = content.address()?;
        let [own_as, source_as, _peer_as, segments] = content.words()?;
        let mut destination_as = own_as;
        for _ in 0..segments {
            let [_kind, length] = content.words()?;
            let path = content.take(length.checked_mul(4)?)?;
            if let Some(last) = path.rest().last_chunk::<4>() {
                destination_as = u32::from_be_bytes(*last);
            }
        }
        self.extra.source_as = if source_as == 0 { own_as } else { source_as };
        self.extra.destination_as = destination_as;
        self.mark(ColumnSet::AS);
        if !self.present.has(ColumnSet::NEXT_HOP) {
            self.extra.next_hop = next_hop;
            self.mark(ColumnSet::NEXT_HOP);
        }
        Some(())
    }

    #[inline]
    fn measure(&mut self, measure: Measure, length: u32) {
        if measure > self.measured {
            self.measured = measure;
            self.row.octets = u64::from(length);
        }
    }

    #[inline]
    fn mark(&mut self, columns: ColumnSet) {
        self.present = self.present.with(columns);
    }
}

const TCP: u8 = 6;

/// Length, protocol and addresses of `N` octets.
fn ip_fields<const N: usize>(
    mut content: Cursor<'_>,
    address: impl Fn([u8; N]) -> Address,
) -> Option<(u32, u32, Address, Address)> {
    let [length, protocol] = content.words()?;
    let (source, destination) = (content.array()?, content.array()?);
    Some((length, protocol, address(source), address(destination)))
}

fn skip(mut content: Cursor<'_>, length: u32) -> Option<Cursor<'_>> {
    content.take(length)?;
    Some(content)
}
