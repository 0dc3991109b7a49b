//! Bodies of fuzz targets: plain functions, for cargo-fuzz and for seeded smoke tests alike.

use crate::cbor;

/// Reads hostile octets; what is understood must survive writing and reading again.
///
/// # Panics
///
/// Panics if it does not, which is the bug that fuzzing looks for.
pub fn fuzz(data: &[u8]) {
    let Ok(json) = cbor::decode(data) else {
        return;
    };
    let octets = cbor::encode(&json).map_err(|error| error.to_string());
    let again = octets.and_then(|octets| cbor::decode(&octets).map_err(|error| error.to_string()));
    assert_eq!(again, Ok(json), "a body does not survive its encoding");
}
