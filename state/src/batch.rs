use serde::Serialize;

use crate::migrate::{advance, is_like_todays};
use crate::{Stage, StateError};

/// Version of [`Batch::encode`]'s form.
const FORM: u8 = 1;

/// Changes that are kept together or not at all, in the order given.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Batch {
    changes: Vec<Owned>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Owned {
    stage: Stage,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// A row to keep, or to forget where there is no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change<'a> {
    /// Whose row it is.
    pub stage: Stage,
    /// The row's key.
    pub key: &'a [u8],
    /// What is kept; `None` = nothing any more.
    pub value: Option<&'a [u8]>,
}

/// Why octets are no batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A form of another program version.
    #[error("a batch has form {found}, this program knows {FORM}")]
    Form {
        /// What the first octet says.
        found: u8,
    },
    /// A stage of another program version.
    #[error("a batch has rows of the unknown stage {code} at octet {offset}")]
    UnknownStage {
        /// What stands for the stage.
        code: u8,
        /// Where.
        offset: usize,
    },
    /// Rows of a form that is newer, or that cannot be brought to today's.
    #[error("a batch has rows of table `{table}` in version {found}, this program writes {known}")]
    RowVersion {
        /// The stage's table.
        table: &'static str,
        /// The version found.
        found: u8,
        /// The version written here.
        known: u32,
    },
    /// It ends within a row.
    #[error("a batch is cut at octet {offset}")]
    Cut {
        /// Where the part begins that is not whole.
        offset: usize,
    },
    /// A length that no program writes.
    #[error("a batch has a bad length at octet {offset}")]
    Length {
        /// Where.
        offset: usize,
    },
}

impl Batch {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is no change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds: keep this row.
    pub fn put(&mut self, stage: Stage, key: &[u8], value: &[u8]) {
        self.change(stage, key, Some(value.to_vec()));
    }

    /// Adds: keep `value` as JSON.
    pub fn put_json<T: Serialize + ?Sized>(
        &mut self,
        stage: Stage,
        key: &[u8],
        value: &T,
    ) -> Result<(), StateError> {
        let value = serde_json::to_vec(value).map_err(|source| StateError::Json {
            table: stage.table(),
            source,
        })?;
        self.change(stage, key, Some(value));
        Ok(())
    }

    /// Adds: forget this row.
    pub fn delete(&mut self, stage: Stage, key: &[u8]) {
        self.change(stage, key, None);
    }

    /// Adds the changes of another batch, after those that are there.
    pub fn append(&mut self, other: Self) {
        self.changes.extend(other.changes);
    }

    /// The changes, in the order given.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = Change<'_>> {
        self.changes.iter().map(|change| Change {
            stage: change.stage,
            key: &change.key,
            value: change.value.as_deref(),
        })
    }

    /// The batch as octets, for another machine: the form's version, then per change the stage's code, the version of its
    /// rows, and key and value with their lengths in LEB128 (a value's is one more; 0 = forget the row).
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = vec![FORM];
        for change in &self.changes {
            // `a_version_fits_its_octet` keeps watch over this.
            let version = u8::try_from(change.stage.version()).unwrap_or(u8::MAX);
            octets.extend([change.stage.code(), version]);
            put_length(&mut octets, change.key.len());
            octets.extend(&change.key);
            match &change.value {
                Some(value) => {
                    put_length(&mut octets, value.len() + 1);
                    octets.extend(value);
                }
                None => octets.push(0),
            }
        }
        octets
    }

    /// Reads what [`Batch::encode`] wrote, of an older program too: its rows become today's. Takes memory for no more than the octets given.
    pub fn decode(octets: &[u8]) -> Result<Self, BatchError> {
        let mut input = Input { octets, offset: 0 };
        match input.octet()? {
            FORM => {}
            found => return Err(BatchError::Form { found }),
        }
        let mut batch = Self::new();
        while !input.is_empty() {
            let (stage, version) = input.stage()?;
            let length = input.length()?;
            let key = input.take(length)?.to_vec();
            let value = match input.length()? {
                0 => None,
                length => Some(input.take(length - 1)?.to_vec()),
            };
            batch.changes.push(todays(stage, version, key, value)?);
        }
        Ok(batch)
    }

    fn change(&mut self, stage: Stage, key: &[u8], value: Option<Vec<u8>>) {
        let key = key.to_vec();
        self.changes.push(Owned { stage, key, value });
    }
}

/// LEB128: seven bits an octet, the lowest first.
fn put_length(octets: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        octets.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    octets.push(length as u8);
}

/// A change in today's form. Which row of today's an older key stands for, its value alone tells: a row that is to be
/// forgotten has none, and whoever gets such a batch asks for a snapshot.
fn todays(
    stage: Stage,
    version: u8,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
) -> Result<Owned, BatchError> {
    let (key, value) = match value {
        Some(value) => advance(stage, version.into(), &key, &value)
            .map(|(key, value)| (key, Some(value)))
            .map_err(|_| row_version(stage, version))?,
        None if is_like_todays(stage, version.into()) => (key, None),
        None => return Err(row_version(stage, version)),
    };
    Ok(Owned { stage, key, value })
}

fn row_version(stage: Stage, found: u8) -> BatchError {
    BatchError::RowVersion {
        table: stage.table(),
        found,
        known: stage.version(),
    }
}

struct Input<'a> {
    octets: &'a [u8],
    offset: usize,
}

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.offset >= self.octets.len()
    }

    fn octet(&mut self) -> Result<u8, BatchError> {
        let offset = self.offset;
        let octet = self.octets.get(offset).ok_or(BatchError::Cut { offset })?;
        self.offset += 1;
        Ok(*octet)
    }

    fn stage(&mut self) -> Result<(Stage, u8), BatchError> {
        let offset = self.offset;
        let code = self.octet()?;
        let stage = Stage::of_code(code).ok_or(BatchError::UnknownStage { code, offset })?;
        let found = self.octet()?;
        if found == 0 || u32::from(found) > stage.version() {
            return Err(row_version(stage, found));
        }
        Ok((stage, found))
    }

    fn length(&mut self) -> Result<usize, BatchError> {
        let offset = self.offset;
        let mut length: usize = 0;
        // Five octets: up to 2^35, more than any batch.
        for shift in [0, 7, 14, 21, 28] {
            let octet = self.octet()?;
            length |= usize::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Ok(length);
            }
        }
        Err(BatchError::Length { offset })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], BatchError> {
        let offset = self.offset;
        let end = offset.checked_add(length);
        let taken = end.and_then(|end| self.octets.get(offset..end));
        self.offset += length;
        taken.ok_or(BatchError::Cut { offset })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_version_fits_its_octet_and_codes_are_unique() {
        for stage in Stage::ALL {
            assert!(u8::try_from(stage.version()).is_ok(), "{stage:?}");
            assert_eq!(Stage::of_code(stage.code()), Some(stage));
        }
    }

    #[test]
    fn octets_and_batch_side_by_side() {
        let mut batch = Batch::new();
        batch.put(Stage::Policy, b"hold", b"true");
        batch.delete(Stage::Attacks, b"a");
        batch.put(Stage::Attacks, b"", b"");
        let octets = b"\x01\x07\x01\x04hold\x05true\x04\x01\x01a\x00\x04\x01\x00\x01";
        assert_eq!(batch.encode(), octets);
        assert_eq!(Batch::decode(octets), Ok(batch));
        assert_eq!(Batch::decode(b"\x01"), Ok(Batch::new()));
    }

    #[test]
    fn what_is_no_batch_says_why() {
        let refused = |octets: &[u8]| Batch::decode(octets).unwrap_err();
        assert_eq!(refused(b""), BatchError::Cut { offset: 0 });
        assert_eq!(refused(b"\x02"), BatchError::Form { found: 2 });
        assert_eq!(
            refused(b"\x01\xf0"),
            BatchError::UnknownStage {
                code: 0xf0,
                offset: 1
            }
        );
        assert!(matches!(
            refused(b"\x01\x04\x09"),
            BatchError::RowVersion {
                table: "attacks",
                found: 9,
                ..
            }
        ));
        assert_eq!(
            refused(b"\x01\x04\x01\x05abc"),
            BatchError::Cut { offset: 4 }
        );
        assert_eq!(
            refused(b"\x01\x04\x01\xff\xff\xff\xff\xff\x01"),
            BatchError::Length { offset: 3 }
        );
    }

    #[test]
    fn rows_of_an_older_program_become_todays() {
        let row = br#"{"exporter":"192.0.2.1","interface":3,"name":"e"}"#;
        let mut octets = b"\x01\x03\x01\x01k".to_vec();
        octets.push(row.len() as u8 + 1);
        octets.extend(row);
        let mut batch = Batch::new();
        batch.put(Stage::Names, b"192.0.2.1/interface/3", row);
        assert_eq!(Batch::decode(&octets), Ok(batch));
        // What is to be forgotten cannot be found.
        let forgotten = Batch::decode(b"\x01\x03\x01\x01k\x00");
        assert_eq!(forgotten, Err(row_version(Stage::Names, 1)));
        let never = Batch::decode(b"\x01\x04\x00\x01k\x00");
        assert_eq!(never, Err(row_version(Stage::Attacks, 0)));
    }

    proptest! {
        #[test]
        fn a_batch_comes_back_whole(rows in proptest::collection::vec(
            (0..Stage::ALL.len(), any::<Vec<u8>>(), any::<Option<Vec<u8>>>()), 0..20))
        {
            let mut batch = Batch::new();
            for (stage, key, value) in rows {
                batch.change(Stage::ALL[stage], &key, value);
            }
            let octets = batch.encode();
            prop_assert_eq!(Batch::decode(&octets), Ok(batch.clone()));
            for cut in 1..octets.len() {
                // A cut between two rows is a smaller batch, any other an error.
                if let Ok(part) = Batch::decode(&octets[..cut]) {
                    prop_assert!(batch.changes.starts_with(&part.changes));
                }
            }
        }

        #[test]
        fn hostile_octets_never_panic(octets: Vec<u8>) {
            let _ = Batch::decode(&octets);
            let framed: Vec<u8> = [1, 4, 1].into_iter().chain(octets).collect();
            let _ = Batch::decode(&framed);
        }
    }
}
