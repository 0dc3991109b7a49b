//! A MaxMind database whose records were all read when it was opened: looking up decodes nothing.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use hashbrown::HashMap;
use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader};
use weir_flow_record::Address;

use crate::CountryCode;
use crate::config::MOST_TEXT;
use crate::soundness::{self, Examined};

/// Octets of a database file, at most.
const MOST_OCTETS: u64 = 512 << 20;

/// Why a MaxMind database is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The file is larger than any database of autonomous systems or countries.
    #[error("has more than {MOST_OCTETS} octets")]
    TooLarge,
    /// The marker of the format is missing.
    #[error("is no MaxMind database, or is cut short: it has no metadata")]
    NoDatabase,
    /// The metadata are broken, or do not fit the file.
    #[error("has broken metadata, or is cut short")]
    Metadata,
    /// A record of the search tree points to nothing.
    #[error("has a broken search tree")]
    Tree,
    /// A record is broken, or points in a circle.
    #[error("has a broken record at octet {offset} of its data")]
    Record {
        /// Where the record begins, in the data section.
        offset: u32,
    },
    /// A record has other content than expected.
    #[error("cannot be used: {0}")]
    Content(#[from] MaxMindDbError),
    /// It is a database of something else.
    #[error("is a database of type {kind}, which has no {wanted}")]
    Other {
        /// The type that it states.
        kind: String,
        /// What was looked for.
        wanted: &'static str,
    },
}

/// What a record of a database gives.
pub(crate) trait Content: Sized {
    /// What it is called in messages.
    const NAME: &'static str;

    /// `None` where the record says nothing of it.
    fn read(found: &Found<'_>) -> Result<Option<Self>, MaxMindDbError>;
}

/// An autonomous system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AutonomousSystem {
    pub(crate) number: u32,
    pub(crate) name: Box<str>,
}

/// A record as it stands in the file.
pub(crate) struct Found<'a> {
    result: LookupResult<'a, Vec<u8>>,
    /// IPinfo's databases are flat, with an AS number like `AS64496`.
    flat: bool,
}

/// A database of `T`.
pub(crate) struct Database<T> {
    reader: Reader<Vec<u8>>,
    /// By place in the data section, numbers of `contents`.
    numbers: HashMap<usize, u32>,
    contents: Vec<T>,
    /// Where ranges of IPv4 addresses begin; `None` if they are too many.
    pub(crate) v4_starts: Option<Vec<u32>>,
}

impl<T: Content> Database<T> {
    pub(crate) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let mut octets = Vec::new();
        File::open(path)?
            .take(MOST_OCTETS + 1)
            .read_to_end(&mut octets)?;
        if octets.len() as u64 > MOST_OCTETS {
            return Err(DatabaseError::TooLarge);
        }
        Self::from_octets(octets)
    }

    pub(crate) fn from_octets(octets: Vec<u8>) -> Result<Self, DatabaseError> {
        let Examined {
            addresses,
            v4_starts,
        } = soundness::examine(&octets)?;
        let mut database = Self {
            reader: Reader::from_source(octets)?,
            numbers: HashMap::new(),
            contents: Vec::new(),
            v4_starts,
        };
        for address in &addresses {
            database.take(*address)?;
        }
        if database.contents.is_empty() && !addresses.is_empty() {
            return Err(DatabaseError::Other {
                kind: database.reader.metadata.database_type.clone(),
                wanted: T::NAME,
            });
        }
        Ok(database)
    }

    fn take(&mut self, address: IpAddr) -> Result<(), DatabaseError> {
        let found = Found {
            result: self.reader.lookup(address)?,
            flat: self.reader.metadata.database_type.starts_with("ipinfo"),
        };
        let content = T::read(&found)?;
        let offset = found.result.offset();
        if let (Some(content), Some(offset)) = (content, offset)
            && let Ok(number) = u32::try_from(self.contents.len())
        {
            self.contents.push(content);
            self.numbers.insert(offset, number);
        }
        Ok(())
    }

    /// The number of what holds for an address. An error of the reader cannot come after the examination.
    pub(crate) fn find(&self, address: Address) -> Option<u32> {
        let offset = self.reader.lookup(address.ip()).ok()?.offset()?;
        self.numbers.get(&offset).copied()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.contents.get(number as usize)
    }

    /// Distinct records.
    pub(crate) fn len(&self) -> usize {
        self.contents.len()
    }

    /// When it was built, in seconds since 1970, as it says itself.
    pub(crate) fn built(&self) -> u64 {
        self.reader.metadata.build_epoch
    }
}

impl Found<'_> {
    fn text(&self, path: &[&str]) -> Result<Option<&str>, MaxMindDbError> {
        self.result.decode_path(&elements(path))
    }

    fn number(&self, path: &[&str]) -> Result<Option<u32>, MaxMindDbError> {
        self.result.decode_path(&elements(path))
    }
}

fn elements<'a>(path: &[&'a str]) -> Vec<PathElement<'a>> {
    path.iter().copied().map(PathElement::Key).collect()
}

impl Content for AutonomousSystem {
    const NAME: &'static str = "AS numbers";

    fn read(found: &Found<'_>) -> Result<Option<Self>, MaxMindDbError> {
        let (number, name) = if found.flat {
            let text = found.text(&["asn"])?.unwrap_or_default();
            let number = text
                .strip_prefix("AS")
                .and_then(|digits| digits.parse().ok());
            let name = match found.text(&["as_name"])? {
                Some(name) => Some(name),
                None => found.text(&["name"])?,
            };
            (number, name)
        } else {
            (
                found.number(&["autonomous_system_number"])?,
                found.text(&["autonomous_system_organization"])?,
            )
        };
        Ok(number.filter(|number| *number > 0).map(|number| Self {
            number,
            name: clipped(name.unwrap_or_default()).into(),
        }))
    }
}

impl Content for CountryCode {
    const NAME: &'static str = "countries";

    fn read(found: &Found<'_>) -> Result<Option<Self>, MaxMindDbError> {
        let code = match found.flat {
            false
                if found
                    .result
                    .decode_path::<serde::de::IgnoredAny>(&elements(&["country"]))?
                    .is_none() =>
            {
                None
            }
            false => found.text(&["country", "iso_code"])?,
            true => match found.text(&["country_code"])? {
                Some(code) => Some(code),
                None => found.text(&["country"])?,
            },
        };
        Ok(code.and_then(Self::new))
    }
}

/// The text without control characters' tail, and not longer than a name may be.
fn clipped(text: &str) -> &str {
    let text = text.split(char::is_control).next().unwrap_or_default();
    text.get(..text.floor_char_boundary(MOST_TEXT))
        .unwrap_or_default()
}
