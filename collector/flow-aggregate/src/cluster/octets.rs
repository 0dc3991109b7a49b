//! Numbers as octets: LEB128, signed ones zigzag.

use super::WireError;

/// Appends an unsigned number.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a float: whole numbers have their zeros at the end, which is turned to the front.
pub(super) fn put_float(out: &mut Vec<u8>, value: f64) {
    put(out, value.to_bits().swap_bytes());
}

/// Appends a text of at most 255 octets; a longer one is cut at a character.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut length = text.len().min(255);
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    out.push(length as u8);
    out.extend_from_slice(&text.as_bytes()[..length]);
}

/// Octets that are read from the front.
pub(super) struct Input<'a> {
    octets: &'a [u8],
    offset: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self { octets, offset: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offset >= self.octets.len()
    }

    /// Octets that are left.
    pub(super) fn rest(&self) -> usize {
        self.octets.len() - self.offset
    }

    pub(super) fn bad(&self) -> WireError {
        WireError::Value {
            offset: self.offset,
        }
    }

    pub(super) fn octet(&mut self) -> Result<u8, WireError> {
        let octet = self.octets.get(self.offset);
        let octet = *octet.ok_or(WireError::Cut {
            offset: self.offset,
        })?;
        self.offset += 1;
        Ok(octet)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let cut = WireError::Cut {
            offset: self.offset,
        };
        let end = self.offset.checked_add(length).ok_or(cut)?;
        let taken = self.octets.get(self.offset..end).ok_or(cut)?;
        self.offset = end;
        Ok(taken)
    }

    pub(super) fn number(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let octet = self.octet()?;
            let part = u64::from(octet & 0x7f);
            if shift == 63 && part > 1 {
                return Err(self.bad());
            }
            value |= part << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.bad())
    }

    /// A number of at most `most`.
    pub(super) fn up_to(&mut self, most: u64) -> Result<u64, WireError> {
        let value = self.number()?;
        if value > most {
            return Err(self.bad());
        }
        Ok(value)
    }

    pub(super) fn narrow(&mut self) -> Result<u32, WireError> {
        Ok(self.up_to(u32::MAX.into())? as u32)
    }

    pub(super) fn signed(&mut self) -> Result<i64, WireError> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A float that is no less than 0, and finite.
    pub(super) fn float(&mut self) -> Result<f64, WireError> {
        let value = f64::from_bits(self.number()?.swap_bytes());
        if !value.is_finite() || value < 0.0 {
            return Err(self.bad());
        }
        Ok(value)
    }

    /// How many items follow, each of which takes at least an octet.
    pub(super) fn count(&mut self) -> Result<usize, WireError> {
        let count = self.number()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest() => Ok(count),
            _ => Err(self.bad()),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, WireError> {
        let length = self.octet()?;
        let octets = self.take(length.into())?;
        std::str::from_utf8(octets).map_err(|_| self.bad())
    }
}
