//! Numbers and addresses as text, appended to a buffer: several times faster than `std::fmt`, with the same result.

use weir_flow_record::Address;

use crate::protocol_keyword;

/// Decimal digits of 0 to 99.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// An octet in decimal: its digits, and how many they are.
const OCTETS: [([u8; 3], u8); 256] = {
    let mut octets = [([0; 3], 0); 256];
    let mut number = 0;
    while number < 256 {
        let (a, b, c) = (
            b'0' + (number / 100) as u8,
            b'0' + (number / 10 % 10) as u8,
            b'0' + (number % 10) as u8,
        );
        octets[number] = match number {
            0..=9 => ([c, 0, 0], 1),
            10..=99 => ([b, c, 0], 2),
            _ => ([a, b, c], 3),
        };
        number += 1;
    }
    octets
};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends a number in decimal.
#[inline]
pub fn push_unsigned(out: &mut Vec<u8>, mut value: u64) {
    if value < 10 {
        out.push(b'0' + value as u8);
        return;
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    while value >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[value as usize]);
    } else {
        at -= 1;
        digits[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a number in decimal.
#[inline]
pub fn push_signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    push_unsigned(out, value.unsigned_abs());
}

/// Appends an address: IPv4 in dotted decimal, IPv6 as RFC 5952 says.
#[inline]
pub fn push_address(out: &mut Vec<u8>, address: Address) {
    let octets = address.octets();
    if address.is_v4() {
        push_v4(out, [octets[12], octets[13], octets[14], octets[15]]);
    } else {
        push_v6(out, octets);
    }
}

/// Appends a next hop; nothing where the record has none.
pub fn push_next_hop(out: &mut Vec<u8>, address: Address) {
    if address != Address::UNSPECIFIED {
        push_address(out, address);
    }
}

/// Appends the prefix of `length` bits that holds `address`; a longer length is cut to the host's.
pub fn push_net(out: &mut Vec<u8>, address: Address, length: u8) {
    let (unused, most) = if address.is_v4() { (96, 32) } else { (0, 128) };
    let length = length.min(most);
    let kept = u32::from(unused + length);
    let mask = u128::MAX.checked_shl(128 - kept).unwrap_or(0);
    // The prefix of an IPv4 address keeps the twelve octets that make it one.
    let network = u128::from_be_bytes(address.octets()) & mask;
    push_address(out, Address::from_octets(network.to_be_bytes()));
    out.push(b'/');
    push_unsigned(out, u64::from(length));
}

/// Appends a MAC address: six pairs of lower-case hexadecimal digits with colons.
pub fn push_mac(out: &mut Vec<u8>, octets: [u8; 6]) {
    let mut text = [b':'; 17];
    for (index, octet) in octets.into_iter().enumerate() {
        text[3 * index] = HEX[usize::from(octet >> 4)];
        text[3 * index + 1] = HEX[usize::from(octet & 15)];
    }
    out.extend_from_slice(&text);
}

/// Appends an IP protocol: its keyword, else its number.
#[inline]
pub fn push_protocol(out: &mut Vec<u8>, number: u8) {
    match protocol_keyword(number) {
        Some(keyword) => out.extend_from_slice(keyword.as_bytes()),
        None => push_unsigned(out, u64::from(number)),
    }
}

fn push_v4(out: &mut Vec<u8>, octets: [u8; 4]) {
    let mut text = [0; 16];
    let mut at = 0;
    for octet in octets {
        let (digits, count) = OCTETS[usize::from(octet)];
        text[at..at + 3].copy_from_slice(&digits);
        at += usize::from(count);
        text[at] = b'.';
        at += 1;
    }
    out.extend_from_slice(&text[..at - 1]);
}

fn push_v6(out: &mut Vec<u8>, octets: [u8; 16]) {
    let mut groups = [0; 8];
    for (group, pair) in groups.iter_mut().zip(octets.chunks_exact(2)) {
        *group = u16::from_be_bytes([pair[0], pair[1]]);
    }
    let (start, length) = longest_zeros(groups);
    let mut index = 0;
    while index < groups.len() {
        if index == start && length > 1 {
            out.extend_from_slice(b"::");
            index += length;
            continue;
        }
        if index > 0 && !(length > 1 && index == start + length) {
            out.push(b':');
        }
        push_hex(out, groups[index]);
        index += 1;
    }
}

/// Start and length of the first longest run of zero groups.
fn longest_zeros(groups: [u16; 8]) -> (usize, usize) {
    let (mut best, mut run) = ((0, 0), (0, 0));
    for (index, group) in groups.into_iter().enumerate() {
        run = match (group, run.1) {
            (0, 0) => (index, 1),
            (0, length) => (run.0, length + 1),
            _ => (0, 0),
        };
        if run.1 > best.1 {
            best = run;
        }
    }
    best
}

fn push_hex(out: &mut Vec<u8>, group: u16) {
    let digits = [
        HEX[usize::from(group >> 12)],
        HEX[usize::from(group >> 8 & 15)],
        HEX[usize::from(group >> 4 & 15)],
        HEX[usize::from(group & 15)],
    ];
    let skipped = (group.leading_zeros() / 4).min(3) as usize;
    out.extend_from_slice(&digits[skipped..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        for value in [0, 9, 10, 99, 100, 12_345, u64::MAX] {
            assert_eq!(text(|out| push_unsigned(out, value)), value.to_string());
        }
        for value in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(text(|out| push_signed(out, value)), value.to_string());
        }
    }

    #[test]
    fn a_mac_and_an_unknown_protocol_are_spelled_out() {
        assert_eq!(
            text(|out| push_mac(out, [0, 0x1b, 0xc0, 0xff, 0xe, 9])),
            "00:1b:c0:ff:0e:09"
        );
        assert_eq!(text(|out| push_protocol(out, 6)), "TCP");
        assert_eq!(text(|out| push_protocol(out, 253)), "253");
        assert_eq!(text(|out| push_next_hop(out, Address::UNSPECIFIED)), "");
    }

    proptest! {
        #[test]
        fn addresses_and_prefixes_are_those_of_the_standard_library(
            groups in prop::array::uniform8(prop_oneof![Just(0u16), 0u16..32, any::<u16>()]),
            v4 in any::<Option<[u8; 4]>>(),
            length in any::<u8>(),
        ) {
            let address = match v4 {
                Some(octets) => Address::from_v4(octets),
                None => Address::from(std::net::IpAddr::from(groups)),
            };
            prop_assert_eq!(text(|out| push_address(out, address)), address.to_string());
            prop_assert_eq!(
                text(|out| push_net(out, address, length)),
                address.prefix(length, length).to_string()
            );
        }
    }
}
