//! Why a body is refused.

use thiserror::Error;

/// A body that is not a DOTS body. A server answers all of these with 4.00 and this text as diagnostic payload.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BodyError {
    /// More octets than [`crate::cbor::MAX_BODY`].
    #[error("body exceeds {} octets", crate::cbor::MAX_BODY)]
    TooLarge,
    /// More data items than [`crate::cbor::MAX_ITEMS`].
    #[error("body has more than {} data items", crate::cbor::MAX_ITEMS)]
    TooManyItems,
    /// Maps and arrays nested deeper than [`crate::cbor::MAX_DEPTH`].
    #[error("body is nested deeper than {}", crate::cbor::MAX_DEPTH)]
    TooDeep,
    /// Not well-formed CBOR, or cut off.
    #[error("malformed or truncated cbor at octet {offset}")]
    Malformed {
        /// Where reading stopped.
        offset: usize,
    },
    /// An item of indefinite length.
    #[error("indefinite length at octet {offset}")]
    Indefinite {
        /// Where the item starts.
        offset: usize,
    },
    /// Octets behind the body.
    #[error("trailing octets at octet {offset}")]
    Trailing {
        /// Where the body ended.
        offset: usize,
    },
    /// A map key that is not an integer of 1 to 65535 (RFC 9132 §6: keys are integers).
    #[error("invalid map key at octet {offset}")]
    InvalidKey {
        /// Where the key starts.
        offset: usize,
    },
    /// A key twice in one map.
    #[error("duplicate key {key}")]
    DuplicateKey {
        /// The key.
        key: u16,
    },
    /// Keys that the receiver must understand and does not (RFC 9132 §10.6.1: 1 to 127 and 256 to 16383); at most 16 of them are named.
    #[error("unknown comprehension-required keys {}", join(.0))]
    UnknownKeys(Vec<u16>),
    /// A value of the wrong type, such as a gauge as JSON number (RFC 7951 §6.1).
    #[error("{name} is not {expected}")]
    WrongType {
        /// The parameter.
        name: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// A value outside its type's range or enumeration.
    #[error("{name} is out of range")]
    OutOfRange {
        /// The parameter.
        name: &'static str,
    },
    /// A JSON member that has no key.
    #[error("unknown parameter {0:?}")]
    UnknownName(String),
    /// Not a map with one of the DOTS message types as its only member.
    #[error("body is not exactly one dots message")]
    NotAMessage,
    /// Another message type than the resource takes.
    #[error("body is not a {expected}")]
    WrongMessage {
        /// The message type that was expected.
        expected: &'static str,
    },
    /// JSON that is not the typed body, in serde's words.
    #[error("{0}")]
    Json(String),
}

impl From<serde_json::Error> for BodyError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

fn join(keys: &[u16]) -> String {
    let texts: Vec<String> = keys.iter().map(u16::to_string).collect();
    texts.join(", ")
}
