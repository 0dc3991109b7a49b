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

    /// One of the other tokens of the same body, which have the lower half in common (RFC 9177 §6); of a token of ours.
    #[must_use]
    pub(crate) fn sibling(self, number: u32) -> Self {
        let token = u64::from_be_bytes(self.octets);
        let upper = ((token >> 32) as u32).wrapping_add(number);
        Self::from_number(u64::from(upper) << 32 | token & 0xffff_ffff)
    }

    /// Whether both are of 8 octets and have the lower half in common.
    pub(crate) fn is_sibling(self, other: Self) -> bool {
        self.length == 8 && other.length == 8 && self.octets[4..] == other.octets[4..]
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
