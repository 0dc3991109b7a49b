//! Rows in a file: what a replay has learned, for the next one.

use crate::SavedRow;

/// How a file begins.
const MAGIC: &[u8] = b"weir-baselines 1\n";

/// Why a file is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It begins otherwise.
    #[error("this is no file of baselines")]
    Foreign,
    /// It ends within a row.
    #[error("the file ends within a row at octet {0}")]
    Cut(usize),
}

/// A file of rows, in their order.
#[must_use]
pub fn to_archive(rows: &[SavedRow]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    for row in rows {
        let Some(value) = &row.value else { continue };
        for part in [&row.key, value] {
            // A row is far below 4 GiB.
            file.extend(u32::try_from(part.len()).unwrap_or(0).to_be_bytes());
            file.extend(part);
        }
    }
    file
}

/// The rows of a file.
pub fn from_archive(file: &[u8]) -> Result<Vec<SavedRow>, ArchiveError> {
    let mut rest = file.strip_prefix(MAGIC).ok_or(ArchiveError::Foreign)?;
    let part = |rest: &mut &[u8]| {
        let cut = ArchiveError::Cut(file.len() - rest.len());
        let (length, after) = rest.split_first_chunk::<4>().ok_or(cut)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut)?;
        let (part, after) = after.split_at_checked(length).ok_or(cut)?;
        *rest = after;
        Ok(part.to_vec())
    };
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let key = part(&mut rest)?;
        let value = Some(part(&mut rest)?);
        rows.push(SavedRow { key, value });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_rows_and_a_part_of_it_does_not() {
        let row = |key: &str, value: &[u8]| SavedRow {
            key: key.as_bytes().to_vec(),
            value: Some(value.to_vec()),
        };
        let rows = [row("zone/in/a", &[1, 2, 3]), row("zone/out/a", &[])];
        let file = to_archive(&rows);
        assert_eq!(from_archive(&file).unwrap(), rows);
        assert_eq!(from_archive(&file[..40]), Err(ArchiveError::Cut(37)));
        assert_eq!(from_archive(b"anything"), Err(ArchiveError::Foreign));
        let huge = [MAGIC, &[0xff; 4]].concat();
        assert!(from_archive(&huge).is_err());
    }
}
