//! The JSON form as text, which people and tools write (RFC 7951).

use serde_json::Value;

use crate::body::BodyError;
use crate::cbor;

/// Reads a body from JSON text, under the bounds and types of the wire: 64-bit numbers and decimals are strings, enumerations
/// names, and every member has a key.
pub fn read_json(text: &str) -> Result<Value, BodyError> {
    // Names are longer than keys, but a body that fits CBOR is not this much longer in JSON.
    if text.len() > 16 * cbor::MAX_BODY {
        return Err(BodyError::TooLarge);
    }
    let json = serde_json::from_str(text)?;
    cbor::encode(&json)?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_64_bits_are_strings() {
        let body = |gauge: &str| {
            format!(
                r#"{{"ietf-dots-telemetry:telemetry": {{"pre-or-ongoing-mitigation": [{{"total-traffic": [{{"peak-g": {gauge}}}]}}]}}}}"#
            )
        };
        assert!(read_json(&body("\"5\"")).is_ok());
        assert!(matches!(
            read_json(&body("5")),
            Err(BodyError::WrongType { name: "peak-g", .. })
        ));
        assert!(matches!(
            read_json(&body("\"-5\"")),
            Err(BodyError::WrongType { name: "peak-g", .. })
        ));
    }

    #[test]
    fn unknown_members_are_named() {
        let text = r#"{"ietf-dots-signal-channel:heartbeat": {"peer": true}}"#;
        assert_eq!(
            read_json(text),
            Err(BodyError::UnknownName("peer".to_owned()))
        );
        assert!(matches!(read_json("{"), Err(BodyError::Json(_))));
        assert_eq!(read_json("{}"), Err(BodyError::NotAMessage));
    }
}
