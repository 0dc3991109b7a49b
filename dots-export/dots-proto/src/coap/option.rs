//! Option numbers and values (RFC 7252 §12.2 and others).

/// If-Match: critical.
pub const IF_MATCH: u16 = 1;
/// Uri-Host: critical.
pub const URI_HOST: u16 = 3;
/// Observe (RFC 7641): elective.
pub const OBSERVE: u16 = 6;
/// Uri-Port: critical.
pub const URI_PORT: u16 = 7;
/// Uri-Path: critical.
pub const URI_PATH: u16 = 11;
/// Content-Format: elective.
pub const CONTENT_FORMAT: u16 = 12;
/// Max-Age: elective.
pub const MAX_AGE: u16 = 14;
/// Uri-Query: critical.
pub const URI_QUERY: u16 = 15;
/// Hop-Limit (RFC 8768): elective.
pub const HOP_LIMIT: u16 = 16;
/// Accept: critical.
pub const ACCEPT: u16 = 17;
/// Block2 (RFC 7959): critical.
pub const BLOCK2: u16 = 23;
/// Block1: critical.
pub const BLOCK1: u16 = 27;
/// Size2: elective.
pub const SIZE2: u16 = 28;

/// Content-Format `application/dots+cbor` (RFC 9132 §10.3).
pub const DOTS_CBOR: u32 = 271;

/// Whether a receiver that does not know the option must refuse the message (RFC 7252 §5.4.6).
#[must_use]
pub const fn is_critical(number: u16) -> bool {
    number & 1 == 1
}

/// Reads an unsigned value (RFC 7252 §3.2); `None` where it has more than 4 octets.
#[must_use]
pub fn number(value: &[u8]) -> Option<u32> {
    (value.len() <= 4).then(|| {
        value
            .iter()
            .fold(0, |sum, octet| sum << 8 | u32::from(*octet))
    })
}

/// Writes an unsigned value in as few octets as it needs.
#[must_use]
pub fn octets(number: u32) -> Vec<u8> {
    number
        .to_be_bytes()
        .into_iter()
        .skip_while(|octet| *octet == 0)
        .collect()
}
