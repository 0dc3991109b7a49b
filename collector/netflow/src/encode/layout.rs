use weir_flow_record::{Address, FragmentKind, Row};

use super::Format;
use crate::element as ie;

pub(super) const TEMPLATE_V4: u16 = 256;
pub(super) const TEMPLATE_V6: u16 = 257;
pub(super) const TEMPLATE_SAMPLING: u16 = 258;
pub(super) const SET_HEADER: usize = 4;
/// `fragmentFlags`: more fragments (RFC 5102 §5.4.39 as IANA states it).
const MORE_FRAGMENTS: u8 = 0x20;

type Field = (u16, u16);

pub(super) const IPFIX_SAMPLING: [Field; 4] = [
    (ie::SELECTOR_ID, 8),
    (ie::SELECTOR_ALGORITHM, 2),
    (ie::SAMPLING_PACKET_INTERVAL, 4),
    (ie::SAMPLING_PACKET_SPACE, 4),
];

/// The first is the scope: 1 = System (RFC 3954 §6.1).
pub(super) const V9_SAMPLING: [Field; 4] = [
    (1, 4),
    (ie::SAMPLER_ID, 1),
    (ie::SAMPLER_MODE, 1),
    (ie::SAMPLER_RANDOM_INTERVAL, 4),
];

const fn flows(v6: bool, absolute: bool) -> [Field; 16] {
    let (source, destination, address) = if v6 {
        (ie::SOURCE_IPV6_ADDRESS, ie::DESTINATION_IPV6_ADDRESS, 16)
    } else {
        (ie::SOURCE_IPV4_ADDRESS, ie::DESTINATION_IPV4_ADDRESS, 4)
    };
    let (start, end, time) = if absolute {
        (ie::FLOW_START_MILLISECONDS, ie::FLOW_END_MILLISECONDS, 8)
    } else {
        (ie::FLOW_START_SYS_UP_TIME, ie::FLOW_END_SYS_UP_TIME, 4)
    };
    [
        (source, address),
        (destination, address),
        (ie::SOURCE_TRANSPORT_PORT, 2),
        (ie::DESTINATION_TRANSPORT_PORT, 2),
        (ie::PROTOCOL_IDENTIFIER, 1),
        (ie::TCP_CONTROL_BITS, 2),
        (ie::OCTET_DELTA_COUNT, 8),
        (ie::PACKET_DELTA_COUNT, 4),
        (start, time),
        (end, time),
        (ie::INGRESS_INTERFACE, 4),
        (ie::EGRESS_INTERFACE, 4),
        (ie::FLOW_DIRECTION, 1),
        (ie::FORWARDING_STATUS, 1),
        (ie::FRAGMENT_OFFSET, 2),
        (ie::FRAGMENT_FLAGS, 1),
    ]
}

static FLOWS_V4_ABSOLUTE: [Field; 16] = flows(false, true);
static FLOWS_V6_ABSOLUTE: [Field; 16] = flows(true, true);
static FLOWS_V4_UPTIME: [Field; 16] = flows(false, false);
static FLOWS_V6_UPTIME: [Field; 16] = flows(true, false);

/// The fields of a flow template and how a row is written by it.
#[derive(Clone, Copy)]
pub(super) struct Layout(&'static [Field; 16]);

impl Layout {
    pub(super) fn flows_v4(format: Format) -> Self {
        Self(match format {
            Format::Ipfix => &FLOWS_V4_ABSOLUTE,
            _ => &FLOWS_V4_UPTIME,
        })
    }

    pub(super) fn flows_v6(format: Format) -> Self {
        Self(match format {
            Format::Ipfix => &FLOWS_V6_ABSOLUTE,
            _ => &FLOWS_V6_UPTIME,
        })
    }

    pub(super) fn fields(self) -> &'static [Field] {
        self.0
    }

    pub(super) fn record_length(self) -> usize {
        self.0.iter().map(|&(_, length)| usize::from(length)).sum()
    }

    pub(super) fn write(self, writer: &mut Writer, row: &Row, boot: i64) {
        for &(element, _) in self.0 {
            match element {
                ie::SOURCE_IPV4_ADDRESS => writer.v4(row.source_address),
                ie::DESTINATION_IPV4_ADDRESS => writer.v4(row.destination_address),
                ie::SOURCE_IPV6_ADDRESS => writer.bytes(&row.source_address.octets()),
                ie::DESTINATION_IPV6_ADDRESS => writer.bytes(&row.destination_address.octets()),
                ie::SOURCE_TRANSPORT_PORT => writer.u16(row.source_port),
                ie::DESTINATION_TRANSPORT_PORT => writer.u16(row.destination_port),
                ie::PROTOCOL_IDENTIFIER => writer.u8(row.protocol),
                ie::TCP_CONTROL_BITS => writer.u16(row.tcp_flags),
                ie::OCTET_DELTA_COUNT => writer.u64(row.octets),
                ie::PACKET_DELTA_COUNT => writer.u32(saturate(row.packets)),
                ie::FLOW_START_MILLISECONDS => writer.u64(milliseconds(row.flow_start)),
                ie::FLOW_END_MILLISECONDS => writer.u64(milliseconds(row.flow_end)),
                ie::FLOW_START_SYS_UP_TIME => writer.u32(uptime(row.flow_start, boot)),
                ie::FLOW_END_SYS_UP_TIME => writer.u32(uptime(row.flow_end, boot)),
                ie::INGRESS_INTERFACE => writer.u32(row.input_interface),
                ie::EGRESS_INTERFACE => writer.u32(row.output_interface),
                ie::FLOW_DIRECTION => writer.u8(row.direction),
                ie::FORWARDING_STATUS => writer.u8(row.forwarding_status),
                ie::FRAGMENT_OFFSET => writer.u16(fragment_offset(row.fragment)),
                _ => writer.u8(fragment_flags(row.fragment)),
            }
        }
    }
}

pub(super) fn header_length(format: Format) -> usize {
    match format {
        Format::Ipfix => 16,
        Format::NetflowV9 => 20,
        Format::NetflowV5 => 24,
    }
}

/// The 48 octets of a v5 record (Cisco, "NetFlow Export Datagram Format").
pub(super) fn write_v5(writer: &mut Writer, row: &Row, boot: i64) {
    writer.v4(row.source_address);
    writer.v4(row.destination_address);
    writer.u32(0);
    writer.u16(row.input_interface as u16);
    writer.u16(row.output_interface as u16);
    writer.u32(saturate(row.packets));
    writer.u32(saturate(row.octets));
    writer.u32(uptime(row.flow_start, boot));
    writer.u32(uptime(row.flow_end, boot));
    writer.u16(row.source_port);
    writer.u16(row.destination_port);
    writer.u8(0);
    writer.u8(row.tcp_flags as u8);
    writer.u8(row.protocol);
    writer.bytes(&[0; 9]);
}

/// Milliseconds since `boot`, modulo 2³².
pub(super) fn uptime(nanos: i64, boot: i64) -> u32 {
    nanos.saturating_sub(boot).div_euclid(1_000_000) as u32
}

fn milliseconds(nanos: i64) -> u64 {
    u64::try_from(nanos.div_euclid(1_000_000)).unwrap_or(0)
}

fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn fragment_offset(kind: FragmentKind) -> u16 {
    // 185 × 8 octets: the second fragment on a link with an MTU of 1,500.
    if kind == FragmentKind::NotFirst {
        185
    } else {
        0
    }
}

fn fragment_flags(kind: FragmentKind) -> u8 {
    if kind == FragmentKind::First {
        MORE_FRAGMENTS
    } else {
        0
    }
}

/// Big-endian octets of one datagram.
pub(super) struct Writer {
    pub(super) octets: Vec<u8>,
}

impl Writer {
    pub(super) fn with_capacity(octets: usize) -> Self {
        Self {
            octets: Vec::with_capacity(octets),
        }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.octets.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.octets.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    fn v4(&mut self, address: Address) {
        let [.., a, b, c, d] = address.octets();
        self.bytes(&[a, b, c, d]);
    }

    pub(super) fn fields(&mut self, fields: &[Field]) {
        for &(element, length) in fields {
            self.u16(element);
            self.u16(length);
        }
    }

    /// Begins a Set; its Length is patched by [`end_set`](Self::end_set).
    pub(super) fn begin_set(&mut self, id: u16) -> usize {
        let start = self.octets.len();
        self.u16(id);
        self.u16(0);
        start
    }

    pub(super) fn end_set(&mut self, start: usize) {
        let length = self.octets.len() - start;
        self.patch_u16(start + 2, length as u16);
    }

    pub(super) fn patch_u16(&mut self, at: usize, value: u16) {
        if let Some(place) = self.octets.get_mut(at..at + 2) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }
}
