//! Writes frames: for tests, benches and the traffic generator.

use weir_flow_record::{ExtraRow, FragmentKind, Row};

/// Appends the headers of the Ethernet frame that a record of one packet describes: MAC addresses, the VLAN tag if
/// `extra.vlan_id` is not 0, IPv4 or IPv6, and the first octets of what it carries. `row.octets` is the frame's length and
/// becomes the IP length. Checksums are 0. The headers take 100 octets at most.
pub fn ethernet(row: &Row, extra: &ExtraRow, out: &mut Vec<u8>) {
    out.extend_from_slice(&extra.destination_mac);
    out.extend_from_slice(&extra.source_mac);
    let mut link = 14;
    if extra.vlan_id != 0 {
        out.extend_from_slice(&[0x81, 0]);
        out.extend_from_slice(&(extra.vlan_id & 0x0fff).to_be_bytes());
        link += 4;
    }
    let v4 = row.source_address.is_v4() && row.destination_address.is_v4();
    out.extend_from_slice(if v4 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
    ip(row, extra, row.octets.saturating_sub(link), out);
}

/// Appends the headers of an IP packet of `length` octets; see [`ethernet`].
pub fn ip(row: &Row, extra: &ExtraRow, length: u64, out: &mut Vec<u8>) {
    if row.source_address.is_v4() && row.destination_address.is_v4() {
        v4(row, extra, length, out);
    } else {
        v6(row, extra, length, out);
    }
    if row.fragment != FragmentKind::NotFirst {
        transport(row, extra, out);
    }
}

fn v4(row: &Row, extra: &ExtraRow, length: u64, out: &mut Vec<u8>) {
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    let fragment: u16 = match row.fragment {
        FragmentKind::None => 0x4000,
        FragmentKind::First => 0x2000,
        FragmentKind::NotFirst => 185,
    };
    out.extend_from_slice(&[0x45, extra.tos]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&fragment.to_be_bytes());
    out.extend_from_slice(&[extra.ttl, row.protocol, 0, 0]);
    out.extend_from_slice(&row.source_address.octets()[12..]);
    out.extend_from_slice(&row.destination_address.octets()[12..]);
}

fn v6(row: &Row, extra: &ExtraRow, length: u64, out: &mut Vec<u8>) {
    let payload = u16::try_from(length.saturating_sub(40)).unwrap_or(u16::MAX);
    let word = 6 << 28 | u32::from(extra.tos) << 20 | extra.flow_label & 0x000f_ffff;
    let fragmented = row.fragment != FragmentKind::None;
    out.extend_from_slice(&word.to_be_bytes());
    out.extend_from_slice(&payload.to_be_bytes());
    out.extend_from_slice(&[if fragmented { 44 } else { row.protocol }, extra.ttl]);
    out.extend_from_slice(&row.source_address.octets());
    out.extend_from_slice(&row.destination_address.octets());
    if fragmented {
        let field: u16 = match row.fragment {
            FragmentKind::NotFirst => 181 << 3,
            _ => 1,
        };
        out.extend_from_slice(&[row.protocol, 0]);
        out.extend_from_slice(&field.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 1]);
    }
}

fn transport(row: &Row, extra: &ExtraRow, out: &mut Vec<u8>) {
    match row.protocol {
        6 => {
            ports(row, out);
            out.extend_from_slice(&[0; 8]);
            out.extend_from_slice(&(0x5000 | row.tcp_flags & 0x01ff).to_be_bytes());
            out.extend_from_slice(&[0; 6]);
        }
        17 | 33 | 132 | 136 => {
            ports(row, out);
            out.extend_from_slice(&[0; 8]);
        }
        1 | 58 => out.extend_from_slice(&[extra.icmp_type, extra.icmp_code, 0, 0, 0, 0, 0, 0]),
        _ => {}
    }
}

fn ports(row: &Row, out: &mut Vec<u8>) {
    out.extend_from_slice(&row.source_port.to_be_bytes());
    out.extend_from_slice(&row.destination_port.to_be_bytes());
}
