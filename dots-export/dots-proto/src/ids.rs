//! Identifiers that the client chooses and that travel as `Uri-Path` options (RFC 9132 §4.4.1, RFC 9244 §7 and §8).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A text that is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// Empty values are invalid (RFC 9132 §4.4.1.1).
    #[error("empty identifier")]
    Empty,
    /// Longer than a `Uri-Path` option can carry with its name.
    #[error("identifier of {length} octets is longer than {MAX_CUID_LENGTH}")]
    TooLong {
        /// Octets found.
        length: usize,
    },
    /// A character that this identifier cannot contain.
    #[error("invalid character in identifier")]
    InvalidCharacter,
    /// Greater than 2^32 - 1.
    #[error("identifier exceeds 32 bits")]
    OutOfRange,
}

/// Octets that remain in a `Uri-Path` option of at most 255 octets (RFC 7252 §5.10) after `cuid=`.
pub const MAX_CUID_LENGTH: usize = 250;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// Returns the identifier that follows, which restarts at 0 past 3221225471 (RFC 9132 §4.4.1.1).
            ///
            /// The caller restarts only while no attack is on, as the RFC demands.
            #[must_use]
            pub fn next(self) -> Self {
                if self.0 >= LAST_BEFORE_RESTART { Self(0) } else { Self(self.0 + 1) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_number(text).map(Self)
            }
        }
    };
}

/// Three quarters of the number space: 3221225471 = 3 × 2^30 - 1.
const LAST_BEFORE_RESTART: u32 = 3_221_225_471;

number_id! {
    /// Identifies a mitigation request of one client (RFC 9132 §4.4.1.1). It grows with every new request.
    Mid
}
number_id! {
    /// Identifies telemetry data of one client (RFC 9244 §8.1). It grows with every new item.
    Tmid
}
number_id! {
    /// Identifies telemetry setup data of one client (RFC 9244 §7.1.2). It grows with every new setup.
    Tsid
}
number_id! {
    /// Identifies a session configuration (RFC 9132 §4.5.2). It grows with every new configuration.
    Sid
}

/// Identifies a client among those of its domain (RFC 9132 §4.4.1.1): 1 to 250 visible ASCII characters without `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cuid(String);

impl Cuid {
    /// Checks a text that came from a configuration or a peer.
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > MAX_CUID_LENGTH {
            return Err(IdError::TooLong { length: text.len() });
        }
        if !text
            .bytes()
            .all(|octet| octet.is_ascii_graphic() && octet != b'/')
        {
            return Err(IdError::InvalidCharacter);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the recommended `cuid`: base64url without padding of the first 16 octets of the SHA-256 over the
    /// certificate's SPKI in DER, the raw public key, or the PSK identity (RFC 9132 §4.4.1.1).
    #[must_use]
    pub fn from_hash_input(sha256: [u8; 32]) -> Self {
        let (first, _) = sha256.split_at(16);
        Self(URL_SAFE_NO_PAD.encode(first))
    }

    /// Returns another `cuid` for a client whose first is taken (RFC 9132 §4.4.1.2); `None` where it would be too long.
    #[must_use]
    pub fn following(&self) -> Option<Self> {
        let (stem, number) = match self.0.rsplit_once('~') {
            Some((stem, number)) => (stem, number.parse::<u32>().unwrap_or(0)),
            None => (self.0.as_str(), 0),
        };
        Self::new(&format!("{stem}~{}", number.saturating_add(1))).ok()
    }

    /// Returns the text as it stands in the `Uri-Path`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Cuid {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Cuid {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Self::new(&text)
    }
}

impl From<Cuid> for String {
    fn from(cuid: Cuid) -> Self {
        cuid.0
    }
}

fn parse_number(text: &str) -> Result<u32, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(IdError::InvalidCharacter);
    }
    text.parse().map_err(|_| IdError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuid_is_the_start_of_a_hash() {
        // SHA-256 of the PSK identity "dots-client-1".
        let mut sha256 = [0; 32];
        sha256[..16].copy_from_slice(&[
            0xcf, 0xce, 0x4f, 0x17, 0x4e, 0xc5, 0xd1, 0x88, 0x87, 0x99, 0xab, 0x3e, 0x7c, 0x99,
            0x2a, 0x46,
        ]);
        let cuid = Cuid::from_hash_input(sha256);
        assert_eq!(cuid.as_str(), "z85PF07F0YiHmas-fJkqRg");
        assert_eq!(cuid.as_str().len(), 22);
    }

    #[test]
    fn cuid_refuses_what_a_path_cannot_carry() {
        assert_eq!(Cuid::new(""), Err(IdError::Empty));
        assert_eq!(Cuid::new("a/b"), Err(IdError::InvalidCharacter));
        assert_eq!(Cuid::new("a b"), Err(IdError::InvalidCharacter));
        assert_eq!(
            Cuid::new(&"x".repeat(251)),
            Err(IdError::TooLong { length: 251 })
        );
        assert!(Cuid::new("dz6pHjaADkaFTbjr0JGBpw").is_ok());
    }

    #[test]
    fn numbers_are_digits_of_32_bits() {
        assert_eq!("123".parse(), Ok(Mid(123)));
        assert_eq!("+1".parse::<Mid>(), Err(IdError::InvalidCharacter));
        assert_eq!("".parse::<Tmid>(), Err(IdError::Empty));
        assert_eq!("4294967296".parse::<Tsid>(), Err(IdError::OutOfRange));
    }

    #[test]
    fn numbers_restart_at_three_quarters() {
        assert_eq!(Mid(7).next(), Mid(8));
        assert_eq!(Mid(3_221_225_471).next(), Mid(0));
    }
}
