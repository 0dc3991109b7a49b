//! `application/dots+cbor` to and from the JSON form of a body, driven by [`crate::keys::PARAMETERS`].
//!
//! Reading is for hostile input: octets, items and depth are bounded, lengths are believed only as far as octets follow,
//! and everything that two readers could understand differently (duplicate keys, indefinite lengths, trailing octets,
//! text keys) is refused. Writing is deterministic: keys ascend and every head is as short as it can be.

mod reader;
mod writer;

use serde_json::Value;

use self::reader::Reader;
use self::writer::Writer;
use crate::body::{BodyError, parse_counter};
use crate::keys::{Kind, ROOTS};

/// Greatest number of octets of a body.
pub const MAX_BODY: usize = 65_536;
/// Greatest depth of maps and arrays; the deepest body of the RFCs has 12.
pub const MAX_DEPTH: usize = 16;
/// Greatest number of data items, keys included.
pub const MAX_ITEMS: usize = 8192;

/// Tag of a decimal fraction (RFC 8949 §3.4.4).
const DECIMAL_TAG: u64 = 4;
/// Exponent of every decimal fraction in DOTS.
const DECIMAL_EXPONENT: i64 = -2;

/// Reads a body. Unknown comprehension-optional keys are left out (RFC 9132 §6).
pub fn decode(octets: &[u8]) -> Result<Value, BodyError> {
    if octets.len() > MAX_BODY {
        return Err(BodyError::TooLarge);
    }
    let mut reader = Reader::new(octets);
    let body = reader.body()?;
    reader.finish()?;
    check_root(&body)?;
    Ok(body)
}

/// Writes a body without the optional tag 271.
pub fn encode(json: &Value) -> Result<Vec<u8>, BodyError> {
    check_root(json)?;
    let mut writer = Writer::default();
    writer.map(ROOT, json, 1)?;
    writer.finish()
}

/// Name that errors give the outermost map.
const ROOT: &str = "body";

fn check_root(json: &Value) -> Result<(), BodyError> {
    match json
        .as_object()
        .map(|members| members.keys().map(String::as_str).collect::<Vec<_>>())
        .as_deref()
    {
        Some([name]) if ROOTS.contains(name) => Ok(()),
        _ => Err(BodyError::NotAMessage),
    }
}

fn number_to_json(name: &'static str, kind: Kind, number: i128) -> Result<Value, BodyError> {
    let value = match kind {
        Kind::Unsigned(greatest) => bounded(number, greatest).map(Value::from),
        Kind::RetryTimer => bounded(number, u32::MAX).map(Value::from),
        Kind::Lifetime if number == -1 => Some(Value::from(-1)),
        Kind::Lifetime => bounded(number, u32::MAX).map(Value::from),
        Kind::Counter => u64::try_from(number)
            .ok()
            .map(|number| Value::from(number.to_string())),
        Kind::Enumeration(labels) => usize::try_from(number - 1)
            .ok()
            .and_then(|index| labels.get(index))
            .map(|label| Value::from(*label)),
        _ => return Err(wrong_type(name, kind)),
    };
    value.ok_or(BodyError::OutOfRange { name })
}

fn bounded(number: i128, greatest: u32) -> Option<u32> {
    u32::try_from(number)
        .ok()
        .filter(|number| *number <= greatest)
}

fn wrong_type(name: &'static str, kind: Kind) -> BodyError {
    let expected = match kind {
        Kind::Map => "a map",
        Kind::List => "a list of maps",
        Kind::Text => "text",
        Kind::TextList => "a list of texts",
        Kind::Unsigned(_) => "an unsigned integer",
        Kind::UnsignedList(_) => "a list of unsigned integers",
        Kind::Counter => "a 64-bit integer (in json a string)",
        Kind::Lifetime => "an unsigned integer or -1",
        Kind::RetryTimer => "a number of seconds",
        Kind::Boolean => "a boolean",
        Kind::Decimal => "a decimal of two fraction digits (in json a string)",
        Kind::Enumeration(_) => "an enumeration",
        Kind::EnumerationList(_) => "a list of enumerations",
    };
    BodyError::WrongType { name, expected }
}

fn json_to_number(name: &'static str, kind: Kind, value: &Value) -> Result<i128, BodyError> {
    let wrong = wrong_type(name, kind);
    let number = match (kind, value) {
        (Kind::Counter, Value::String(text)) => {
            return parse_counter(text).map(i128::from).ok_or(wrong);
        }
        // RFC 9132 Table 5 has the retry-timer as a string, RFC 9387 Figure 19 a port.
        (Kind::RetryTimer | Kind::Unsigned(_), Value::String(text)) => {
            i128::from(parse_counter(text).ok_or(wrong)?)
        }
        (Kind::Enumeration(labels), Value::String(text)) => {
            let index = labels.iter().position(|label| label == text);
            return index
                .map(|index| index as i128 + 1)
                .ok_or(BodyError::OutOfRange { name });
        }
        (Kind::Unsigned(_) | Kind::Lifetime | Kind::RetryTimer, Value::Number(number)) => {
            i128::from(number.as_i64().ok_or(wrong)?)
        }
        _ => return Err(wrong),
    };
    number_to_json(name, kind, number).map(|_| number)
}
