//! 64-bit quantities are strings in JSON (RFC 7951 §6.1). For `#[serde(with = "counter")]` on an `Option<u64>`.

use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(
    value: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text)
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom("not a decimal number of 64 bits"))
}

/// Reads up to 20 digits.
pub(crate) fn parse(text: &str) -> Option<u64> {
    if text.len() > 20 || !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}
