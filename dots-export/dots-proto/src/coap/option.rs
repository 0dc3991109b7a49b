//! Option numbers and values (RFC 7252 §12.2 and others).

/// If-Match: critical.
pub const IF_MATCH: u16 = 1;
/// Uri-Host: critical.
pub const URI_HOST: u16 = 3;
/// `ETag`: elective.
pub const ETAG: u16 = 4;
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
/// Q-Block1 (RFC 9177): critical.
pub const Q_BLOCK1: u16 = 19;
/// Block2 (RFC 7959): critical.
pub const BLOCK2: u16 = 23;
/// Block1: critical.
pub const BLOCK1: u16 = 27;
/// Size2: elective.
pub const SIZE2: u16 = 28;
/// Q-Block2 (RFC 9177): critical.
pub const Q_BLOCK2: u16 = 31;
/// RFC 7959 §4.
pub const SIZE1: u16 = 60;
/// Request-Tag (RFC 9175 §3): elective.
pub const REQUEST_TAG: u16 = 292;

/// Proxy-Uri: critical.
pub const PROXY_URI: u16 = 35;
/// Proxy-Scheme: critical.
pub const PROXY_SCHEME: u16 = 39;

/// Content-Format `application/dots+cbor` (RFC 9132 §10.3).
pub const DOTS_CBOR: u32 = 271;
/// Content-Format `application/missing-blocks+cbor-seq` (RFC 9177 §12.3).
pub const MISSING_BLOCKS: u32 = 272;

/// Whether a receiver that does not know the option must refuse the message (RFC 7252 §5.4.6).
#[must_use]
pub const fn is_critical(number: u16) -> bool {
    number & 1 == 1
}

/// Whether the option may stand more than once in a message (RFC 7252 §5.10, RFC 9175 §3.2, RFC 9177 §4.1).
#[must_use]
pub const fn is_repeatable(number: u16) -> bool {
    matches!(
        number,
        IF_MATCH | ETAG | URI_PATH | URI_QUERY | Q_BLOCK2 | REQUEST_TAG
    )
}

/// Whether a value of that length is one (RFC 7252 §5.10, RFC 7641 §2, RFC 7959 §2.1, RFC 8768 §3, RFC 9175, RFC 9177). An option of
/// another length is treated like one that is not known (RFC 7252 §5.4.3).
#[must_use]
pub const fn is_length_of(number: u16, length: usize) -> bool {
    match number {
        IF_MATCH | REQUEST_TAG => length <= 8,
        ETAG => 1 <= length && length <= 8,
        URI_HOST | PROXY_SCHEME => 1 <= length && length <= 255,
        URI_PORT | CONTENT_FORMAT | ACCEPT => length <= 2,
        URI_PATH | URI_QUERY => length <= 255,
        OBSERVE | BLOCK1 | BLOCK2 | Q_BLOCK1 | Q_BLOCK2 => length <= 3,
        MAX_AGE | SIZE1 | SIZE2 => length <= 4,
        HOP_LIMIT => length == 1,
        _ => true,
    }
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
