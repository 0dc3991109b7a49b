/// Reads big-endian integers off the front of some octets; `None` at their end, never a panic.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn remaining(self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// The content of a variable-length field (RFC 7011 §7): a length of one octet, or 255 and a length of two.
    #[inline]
    pub(crate) fn variable_length(&mut self) -> Option<&'a [u8]> {
        let length = match self.u8()? {
            255 => usize::from(self.u16()?),
            short => usize::from(short),
        };
        self.take(length)
    }
}

/// An unsigned integer of any width; wider than eight octets gives the low eight.
pub(crate) fn unsigned(octets: &[u8]) -> u64 {
    octets
        .iter()
        .fold(0, |value, &octet| (value << 8) | u64::from(octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_lengths_have_two_forms() {
        let mut cursor = Cursor::new(&[2, 7, 8, 255, 0, 1, 9, 5, 0]);
        assert_eq!(cursor.variable_length(), Some(&[7, 8][..]));
        assert_eq!(cursor.variable_length(), Some(&[9][..]));
        assert_eq!(cursor.variable_length(), None);
    }

    #[test]
    fn integers_of_odd_width() {
        assert_eq!(unsigned(&[1, 0, 0]), 65_536);
        assert_eq!(unsigned(&[]), 0);
    }
}
