use crate::coap::option;

/// The value of Block1 and Block2 (RFC 7959 §2.2), and of Q-Block1 and Q-Block2 (RFC 9177 §4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Which block, counted from 0 in blocks of this size; at most 20 bits.
    pub number: u32,
    /// Whether more blocks follow.
    pub more: bool,
    exponent: u8,
}

impl Block {
    /// The first block, of 1024 octets, the largest size there is.
    pub const FIRST: Self = Self {
        number: 0,
        more: false,
        exponent: 6,
    };

    /// Reads an option's value; `None` where it is too long or has the reserved size exponent 7.
    #[must_use]
    pub fn from_value(value: &[u8]) -> Option<Self> {
        let bits = option::number(value).filter(|_| value.len() <= 3)?;
        let exponent = (bits & 7) as u8;
        (exponent < 7).then_some(Self {
            number: bits >> 4,
            more: bits & 8 != 0,
            exponent,
        })
    }

    /// The option's value.
    #[must_use]
    pub fn octets(self) -> Vec<u8> {
        option::octets(self.number << 4 | u32::from(self.more) << 3 | u32::from(self.exponent))
    }

    /// The first block of the same size.
    #[must_use]
    pub const fn first(self) -> Self {
        Self {
            number: 0,
            more: false,
            ..self
        }
    }

    /// The same block, with the word whether more follow.
    #[must_use]
    pub const fn followed(self, more: bool) -> Self {
        Self { more, ..self }
    }

    /// The block of that number and the same size.
    #[must_use]
    pub const fn numbered(self, number: u32) -> Self {
        Self {
            number,
            more: false,
            ..self
        }
    }

    /// Octets of a block: 16 to 1024.
    #[must_use]
    pub const fn size(self) -> usize {
        16 << self.exponent
    }

    /// Where the block begins in the body.
    #[must_use]
    pub const fn offset(self) -> usize {
        self.number as usize * self.size()
    }

    /// The block of this size that begins at an offset; `None` past the last number.
    #[must_use]
    pub fn at(self, offset: usize) -> Option<Self> {
        let number = u32::try_from(offset / self.size()).ok()?;
        (number < 1 << 20).then_some(Self {
            number,
            more: false,
            ..self
        })
    }

    /// The block that follows; `None` past the last number.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let number = self.number + 1;
        (number < 1 << 20).then_some(Self {
            number,
            more: false,
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_number_more_and_size() {
        for (octets, number, more, size) in [
            (&[][..], 0, false, 16),
            (&[0x06], 0, false, 1024),
            (&[0x0e], 0, true, 1024),
            (&[0x1a], 1, true, 64),
            (&[0xff, 0xff, 0xf6], 0xf_ffff, false, 1024),
        ] {
            let block = Block::from_value(octets).unwrap();
            assert_eq!(
                (block.number, block.more, block.size()),
                (number, more, size)
            );
            assert_eq!(block.octets(), octets);
        }
        assert_eq!(Block::from_value(&[0x07]), None);
        assert_eq!(Block::from_value(&[0, 0, 0, 0x06]), None);
        assert_eq!(Block::from_value(&[0xff, 0xff, 0xf6]).unwrap().next(), None);
    }
}
