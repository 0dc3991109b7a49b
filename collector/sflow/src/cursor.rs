use weir_flow_record::Address;

/// Reads XDR (RFC 4506) off the front of some octets; `None` at their end, never a panic.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    #[inline]
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// As many words as the array holds.
    #[inline]
    pub(crate) fn words<const N: usize>(&mut self) -> Option<[u32; N]> {
        let mut words = [0; N];
        for word in &mut words {
            *word = self.u32()?;
        }
        Some(words)
    }

    #[inline]
    pub(crate) fn take(&mut self, length: u32) -> Option<Self> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(Self { rest: taken })
    }

    /// An address behind its type; `UNSPECIFIED` for type 0.
    #[inline]
    pub(crate) fn address(&mut self) -> Option<Address> {
        match self.u32()? {
            0 => Some(Address::UNSPECIFIED),
            1 => self.array().map(Address::from_v4),
            2 => self.array().map(Address::from_octets),
            _ => None,
        }
    }
}
