//! Records of variable length (RFC 7011 §7), brought into a form of fixed length that holds just what rows need.

use crate::cursor::Cursor;
use crate::plan::VARIABLE;
use crate::section::{SLOT, copy_section};

/// One step through a record.
#[derive(Clone, Copy, Debug)]
enum Step {
    Skip(u32),
    Copy(u16),
    SkipVariable,
    /// Copies a field of variable length into so many octets, right-aligned; one that is longer counts as zero.
    CopyVariable(u16),
    /// Copies the first octets of a packet section, behind their number.
    CopySection,
}

/// The way through a record of variable length.
#[derive(Default, Debug)]
pub(crate) struct Normalizer {
    steps: Vec<Step>,
    stride: u32,
    shortest: usize,
}

impl Normalizer {
    /// Adds a field that is of no use.
    pub(crate) fn skip(&mut self, length: u16) {
        self.count(length);
        if length == VARIABLE {
            self.steps.push(Step::SkipVariable);
        } else if let Some(Step::Skip(octets)) = self.steps.last_mut() {
            *octets = octets.saturating_add(u32::from(length));
        } else {
            self.steps.push(Step::Skip(u32::from(length)));
        }
    }

    /// Adds a field that is kept in `slot` octets; returns where.
    pub(crate) fn copy(&mut self, length: u16, slot: u16) -> u32 {
        self.count(length);
        self.steps.push(match (length, slot) {
            (VARIABLE, SLOT) => Step::CopySection,
            (VARIABLE, _) => Step::CopyVariable(slot),
            _ => Step::Copy(length),
        });
        let at = self.stride;
        self.stride = at.saturating_add(u32::from(slot));
        at
    }

    /// Ends the compilation; returns the size of a normalized record, at least 1.
    pub(crate) fn finish(&mut self) -> usize {
        self.steps.shrink_to_fit();
        // A record that keeps nothing still is a record.
        self.stride = self.stride.max(1);
        self.stride as usize
    }

    fn count(&mut self, length: u16) {
        self.shortest += if length == VARIABLE {
            1
        } else {
            usize::from(length)
        };
    }

    /// Appends the records of a Set to `out`, each in its fixed form; `false` if the last one was cut. What is shorter than
    /// any record is padding (RFC 7011 §3.3.1), and so are zeros at the end.
    pub(crate) fn normalize(&self, set: &[u8], out: &mut Vec<u8>, room: usize) -> bool {
        let mut cursor = Cursor::new(set);
        while cursor.remaining() >= self.shortest {
            let (begin, record) = (out.len(), cursor.rest());
            if begin + self.stride as usize > room {
                return false;
            }
            if self.record(&mut cursor, out).is_none() {
                out.truncate(begin);
                return record.iter().all(|&octet| octet == 0);
            }
            out.resize(begin + self.stride as usize, 0);
        }
        true
    }

    fn record(&self, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Option<()> {
        for &step in &self.steps {
            match step {
                Step::Skip(octets) => drop(cursor.take(octets as usize)?),
                Step::Copy(octets) => out.extend_from_slice(cursor.take(usize::from(octets))?),
                Step::SkipVariable => drop(cursor.variable_length()?),
                Step::CopySection => copy_section(cursor.variable_length()?, out),
                Step::CopyVariable(slot) => {
                    let (slot, value) = (usize::from(slot), cursor.variable_length()?);
                    let value = if value.len() <= slot { value } else { &[] };
                    out.resize(out.len() + slot - value.len(), 0);
                    out.extend_from_slice(value);
                }
            }
        }
        Some(())
    }

    /// Octets that the steps occupy.
    pub(crate) fn memory(&self) -> usize {
        self.steps.capacity() * size_of::<Step>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalizer() -> Normalizer {
        let mut normalizer = Normalizer::default();
        normalizer.skip(VARIABLE);
        assert_eq!(normalizer.copy(2, 2), 0);
        assert_eq!(normalizer.copy(VARIABLE, 4), 2);
        assert_eq!(normalizer.finish(), 6);
        normalizer
    }

    #[test]
    fn records_get_a_fixed_form() {
        let mut out = Vec::new();
        let set = [3, 1, 2, 3, 7, 8, 1, 9, 0, 5, 6, 0];
        assert!(normalizer().normalize(&set, &mut out, 1 << 16));
        assert_eq!(out, [7, 8, 0, 0, 0, 9, 5, 6, 0, 0, 0, 0]);
    }

    #[test]
    fn a_cut_record_is_told_from_padding() {
        let mut out = Vec::new();
        assert!(!normalizer().normalize(&[9, 1, 1, 1, 1], &mut out, 1 << 16));
        assert!(out.is_empty());
        assert!(normalizer().normalize(&[0, 0, 0], &mut out, 1 << 16));
    }
}
