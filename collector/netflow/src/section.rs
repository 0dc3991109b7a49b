//! Records that carry the first octets of a sampled packet (PSAMP, RFC 5477 §8.5; Juniper, Cisco and others export so):
//! what the record has no element for is read from there.

use weir_flow_record::{Address, ColumnSet, FlowBatch};
use weir_packet::{IpPacket, LinkType, Packet};

use crate::change::FieldSpecifier;
use crate::columns::Records;
use crate::cursor::unsigned;
use crate::element as ie;
use crate::plan::{Choice, Field, RowPlan, VARIABLE};

/// Octets in which a section of variable length is kept: two for how many there are, then the first of them.
pub(crate) const SLOT: u16 = 256;

/// The elements that hold sections, the most telling first.
const SECTIONS: [(u16, LinkType); 3] = [
    (ie::DATA_LINK_FRAME_SECTION, LinkType::Ethernet),
    (ie::IP_HEADER_PACKET_SECTION, LinkType::Ip),
    (ie::MPLS_LABEL_STACK_SECTION, LinkType::Mpls),
];

/// What a section may tell beyond the always-filled columns.
const TELLS: ColumnSet = ColumnSet::TOS
    .with(ColumnSet::TTL)
    .with(ColumnSet::ICMP)
    .with(ColumnSet::FLOW_LABEL)
    .with(ColumnSet::TCP_FLAGS)
    .with(ColumnSet::INNER);

/// Where a section lies, and how it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SectionPlan {
    link: LinkType,
    field: Field,
    /// Whether two octets of length come first.
    counted: bool,
    /// How long the whole frame was.
    frame_size: Option<Field>,
}

/// Whether an element is a section, which needs more room than an integer.
pub(crate) fn is_section(element: u16) -> bool {
    SECTIONS.iter().any(|&(section, _)| section == element)
}

/// Adds a section of variable length to a record's fixed form.
pub(crate) fn copy_section(section: &[u8], out: &mut Vec<u8>) {
    let room = usize::from(SLOT) - 2;
    let kept = section.get(..room).unwrap_or(section);
    let end = out.len() + usize::from(SLOT);
    // At most 254, see above.
    out.extend_from_slice(&(kept.len() as u16).to_be_bytes());
    out.extend_from_slice(kept);
    out.resize(end, 0);
}

impl SectionPlan {
    /// The section of a template's records; `find` tells where an element lies.
    pub(crate) fn of(
        fields: &[FieldSpecifier],
        find: impl Fn(u16) -> Option<Field>,
    ) -> Option<Self> {
        let (element, link, field) = SECTIONS
            .iter()
            .find_map(|&(element, link)| Some((element, link, find(element)?)))?;
        let specifier = fields
            .iter()
            .find(|field| (field.enterprise, field.element) == (0, element) && field.length > 0)?;
        Some(Self {
            link,
            field,
            counted: specifier.length == VARIABLE,
            frame_size: find(ie::DATA_LINK_FRAME_SIZE).filter(|field| field.width <= 8),
        })
    }

    /// The optional columns that sections can fill.
    pub(crate) fn present(&self) -> ColumnSet {
        match self.link {
            LinkType::Ethernet => TELLS.with(ColumnSet::MAC).with(ColumnSet::VLAN),
            _ => TELLS,
        }
    }

    /// Fills what the records appended from row `start` on have no element for.
    pub(crate) fn fill(
        &self,
        plan: &RowPlan,
        records: Records<'_>,
        start: usize,
        out: &mut FlowBatch,
    ) {
        let absent = Absent::of(plan);
        for (row, record) in (start..).zip(records.iter()) {
            let packet = Packet::parse(self.link, self.section(record));
            if absent.packets {
                set(&mut out.packets, row, 1);
            }
            if absent.octets {
                let frame = self.frame_size.map(|field| unsigned(at(record, field)));
                let octets = frame
                    .filter(|&octets| octets > 0)
                    .or(packet.ip.map(|ip| u64::from(ip.length)));
                set(&mut out.octets, row, octets.unwrap_or(0));
            }
            absent.fill_link(&packet, row, out);
            if let Some(ip) = &packet.ip {
                absent.fill_ip(ip, row, out);
            }
            fill_inner(&packet, row, out);
        }
    }

    fn section<'a>(&self, record: &'a [u8]) -> &'a [u8] {
        let octets = at(record, self.field);
        if !self.counted {
            return octets;
        }
        let Some((length, octets)) = octets.split_first_chunk::<2>() else {
            return &[];
        };
        let length = usize::from(u16::from_be_bytes(*length));
        octets.get(..length).unwrap_or(octets)
    }
}

/// Columns that a template has no element for.
#[derive(Clone, Copy, Debug)]
struct Absent {
    source: bool,
    destination: bool,
    source_port: bool,
    destination_port: bool,
    protocol: bool,
    tcp_flags: bool,
    fragment: bool,
    octets: bool,
    packets: bool,
    tos: bool,
    ttl: bool,
    icmp: bool,
    vlan_id: bool,
    source_mac: bool,
    destination_mac: bool,
    flow_label: bool,
}

impl Absent {
    fn of(plan: &RowPlan) -> Self {
        let no = |choice: Choice| choice.first.is_none();
        let extra = &plan.extra;
        Self {
            source: plan.source.v4.or(plan.source.v6).is_none(),
            destination: plan.destination.v4.or(plan.destination.v6).is_none(),
            source_port: no(plan.source_port),
            destination_port: no(plan.destination_port),
            protocol: plan.protocol.is_none(),
            tcp_flags: plan.tcp_flags.is_none(),
            fragment: plan.fragment_offset.or(plan.fragment_flags).is_none(),
            octets: plan.octets.is_none(),
            packets: plan.packets.is_none(),
            tos: extra.tos.is_none(),
            ttl: no(extra.ttl),
            icmp: no(extra.icmp_type_code) && no(extra.icmp_type),
            vlan_id: no(extra.vlan_id),
            source_mac: extra.source_mac.is_none(),
            destination_mac: extra.destination_mac.is_none(),
            flow_label: extra.flow_label.is_none(),
        }
    }

    fn fill_link(&self, packet: &Packet, row: usize, out: &mut FlowBatch) {
        if let Some(vlan_id) = packet.vlan_id {
            set_if(self.vlan_id, &mut out.extra.vlan_id, row, vlan_id);
        }
        if let Some(mac) = packet.mac {
            set_if(self.source_mac, &mut out.extra.source_mac, row, mac.source);
            let column = &mut out.extra.destination_mac;
            set_if(self.destination_mac, column, row, mac.destination);
        }
    }

    fn fill_ip(&self, ip: &IpPacket, row: usize, out: &mut FlowBatch) {
        let addresses: [(bool, &mut Vec<Address>, Address); 2] = [
            (self.source, &mut out.source_address, ip.source),
            (
                self.destination,
                &mut out.destination_address,
                ip.destination,
            ),
        ];
        for (absent, column, value) in addresses {
            set_if(absent, column, row, value);
        }
        set_if(self.source_port, &mut out.source_port, row, ip.source_port);
        let column = &mut out.destination_port;
        set_if(self.destination_port, column, row, ip.destination_port);
        set_if(self.protocol, &mut out.protocol, row, ip.protocol);
        set_if(self.tcp_flags, &mut out.tcp_flags, row, ip.tcp_flags);
        set_if(self.fragment, &mut out.fragment, row, ip.fragment as u8);
        let extra = &mut out.extra;
        set_if(self.tos, &mut extra.tos, row, ip.tos);
        set_if(self.ttl, &mut extra.ttl, row, ip.ttl);
        set_if(self.flow_label, &mut extra.flow_label, row, ip.flow_label);
        if let Some((kind, code)) = ip.icmp {
            set_if(self.icmp, &mut extra.icmp_type, row, kind);
            set_if(self.icmp, &mut extra.icmp_code, row, code);
        }
    }
}

fn fill_inner(packet: &Packet, row: usize, out: &mut FlowBatch) {
    let Some(inner) = &packet.inner else { return };
    let extra = &mut out.extra;
    set(&mut extra.inner_source_address, row, inner.source);
    set(&mut extra.inner_destination_address, row, inner.destination);
    set(&mut extra.inner_source_port, row, inner.source_port);
    set(
        &mut extra.inner_destination_port,
        row,
        inner.destination_port,
    );
    set(&mut extra.inner_protocol, row, inner.protocol);
}

/// Columns that the batch does not project are empty.
fn set<T>(column: &mut [T], row: usize, value: T) {
    if let Some(cell) = column.get_mut(row) {
        *cell = value;
    }
}

fn set_if<T>(absent: bool, column: &mut [T], row: usize, value: T) {
    if absent {
        set(column, row, value);
    }
}

fn at(record: &[u8], field: Field) -> &[u8] {
    let begin = field.at as usize;
    record
        .get(begin..begin + usize::from(field.width))
        .unwrap_or(&[])
}
