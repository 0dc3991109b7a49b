use super::ArtefactError;

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_floats(out: &mut Vec<u8>, values: &[f32]) {
    out.extend_from_slice(&(values.len() as u64).to_le_bytes());
    for value in values {
        // One bit pattern for all that is unknown.
        let value = if value.is_nan() { f32::NAN } else { *value };
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

/// Reads little-endian numbers; no length is believed before the octets are there.
pub(super) struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(octets: &'a [u8], at: usize) -> Self {
        Self { octets, at }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ArtefactError> {
        let end = self
            .at
            .checked_add(count)
            .ok_or(ArtefactError::Garbled(self.at))?;
        let taken = self
            .octets
            .get(self.at..end)
            .ok_or(ArtefactError::Garbled(self.at))?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ArtefactError> {
        let octets = self
            .take(4)?
            .try_into()
            .map_err(|_| ArtefactError::Garbled(self.at))?;
        Ok(u32::from_le_bytes(octets))
    }

    fn length(&mut self) -> Result<usize, ArtefactError> {
        let octets = self
            .take(8)?
            .try_into()
            .map_err(|_| ArtefactError::Garbled(self.at))?;
        usize::try_from(u64::from_le_bytes(octets)).map_err(|_| ArtefactError::Garbled(self.at))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], ArtefactError> {
        let length = self.length()?;
        self.take(length)
    }

    pub(super) fn floats(&mut self) -> Result<Vec<f32>, ArtefactError> {
        let octets = self
            .length()?
            .checked_mul(4)
            .ok_or(ArtefactError::Garbled(self.at))?;
        let (words, _) = self.take(octets)?.as_chunks::<4>();
        Ok(words
            .iter()
            .map(|word| f32::from_bits(u32::from_le_bytes(*word)))
            .collect())
    }
}
