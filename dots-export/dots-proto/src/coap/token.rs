use std::fmt;

/// Matches a response to its request (RFC 7252 §5.3.1): up to 8 octets, chosen by the requester.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Token {
    length: u8,
    octets: [u8; 8],
}

impl Token {
    /// The token of these octets; `None` where there are more than 8.
    #[must_use]
    pub fn new(octets: &[u8]) -> Option<Self> {
        let mut token = Self {
            length: u8::try_from(octets.len()).ok()?,
            octets: [0; 8],
        };
        token
            .octets
            .get_mut(..octets.len())?
            .copy_from_slice(octets);
        Some(token)
    }

    /// A token of 8 octets.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self {
            length: 8,
            octets: number.to_be_bytes(),
        }
    }

    /// The octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.octets
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.octets()
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}
