use std::net::IpAddr;

use weir_flow_record::{Address, TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG};

pub(super) fn address(text: &str) -> Option<Address> {
    text.trim().parse::<IpAddr>().ok().map(Address::from)
}

/// A port in decimal, or hexadecimal as Argus writes it; 0 for none.
pub(super) fn port(text: &str) -> u16 {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.split('.').next().and_then(|whole| whole.parse().ok()),
    };
    value
        .and_then(|value| u16::try_from(value).ok())
        .unwrap_or(0)
}

/// A protocol by number or name; unknown names become 255 (reserved), so that their traffic still counts.
pub(super) fn protocol(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    Some(match text.to_ascii_lowercase().as_str() {
        "" => return None,
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "gre" => 47,
        "esp" => 50,
        "ipv6-icmp" | "icmp6" => 58,
        "sctp" => 132,
        _ => 255,
    })
}

/// A count that may be written as a float; none if negative or no number.
pub(super) fn count(text: &str) -> Option<u64> {
    number(text).and_then(|value| u64::try_from(value).ok())
}

/// An integer that may be written as a float.
pub(super) fn number(text: &str) -> Option<i64> {
    if let Ok(value) = text.parse() {
        return Some(value);
    }
    let value: f64 = text.parse().ok()?;
    (value.is_finite() && value.abs() < 9e18).then_some(value as i64)
}

/// TCP flags as letters (`...APRSF`), as a number, or as Zeek's history, of which lower case is the answer's; `None` if empty.
pub(super) fn flags(text: &str, answer: bool) -> Option<u16> {
    if text.is_empty() {
        return None;
    }
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return u16::from_str_radix(digits, 16).ok();
    }
    let dotted =
        text.contains('.') || text.chars().all(|one| "UAPRSFCEN".contains(one)) && text.len() == 8;
    Some(if dotted {
        letters(text)
    } else {
        zeek_flags(text, answer)
    })
}

fn letters(text: &str) -> u16 {
    text.chars().fold(0, |flags, letter| {
        flags
            | match letter {
                'F' => TCP_FIN,
                'S' => TCP_SYN,
                'R' => TCP_RST,
                'P' => TCP_PSH,
                'A' => TCP_ACK,
                'U' => TCP_URG,
                _ => 0,
            }
    })
}

/// Zeek's history: S a SYN, H a SYN with ACK, A an ACK, D data, F a FIN, R a RST; lower case is the answer's.
pub(super) fn zeek_flags(history: &str, answer: bool) -> u16 {
    history
        .chars()
        .filter(|one| one.is_ascii_lowercase() == answer)
        .fold(0, |flags, letter| {
            flags
                | match letter.to_ascii_uppercase() {
                    'S' => TCP_SYN,
                    'H' => TCP_SYN | TCP_ACK,
                    'A' => TCP_ACK,
                    'D' => TCP_PSH | TCP_ACK,
                    'F' => TCP_FIN,
                    'R' => TCP_RST,
                    _ => 0,
                }
        })
}
