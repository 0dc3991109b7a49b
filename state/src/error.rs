use std::io;
use std::path::{Path, PathBuf};

use crate::MirrorError;

/// Why state cannot be opened, read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The directory or the file cannot be made or opened.
    #[error("cannot use the state in {}: {source}", path.display())]
    Io {
        /// The directory or the file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Only one process at a time may have the file open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is no state file, or a broken one. It is left as it is.
    #[error("{} is damaged ({reason}); move it away to start without its state", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A newer program wrote the file: this one would misread its rows.
    #[error(
        "table `{table}` of {} has version {found}, this program knows {known}: use the newer weir, or move the file away",
        path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// The stage's table.
        table: &'static str,
        /// The version found.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Reading or writing failed; what was kept before stays kept.
    #[error("cannot read or keep state: {0}")]
    Storage(#[from] redb::Error),
    /// The mirror does not let this place change anything.
    #[error("not kept: {0}")]
    Refused(#[source] MirrorError),
    /// The rows are kept here, but not where they must be too.
    #[error("kept here only: {0}")]
    Mirror(#[source] MirrorError),
    /// A row is not the JSON that its reader expects, or a value has no JSON form.
    #[error("a row of table `{table}` does not fit its JSON form: {source}")]
    Json {
        /// The stage's table.
        table: &'static str,
        /// What serde says.
        source: serde_json::Error,
    },
}

impl StateError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// What it means that the file cannot be opened.
    pub(crate) fn opening(path: &Path, error: redb::DatabaseError) -> Self {
        use redb::{DatabaseError, StorageError};
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse {
                path: path.to_owned(),
            },
            DatabaseError::Storage(StorageError::Io(source))
                if !matches!(
                    source.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::io(path, source)
            }
            other => Self::damaged(path, other),
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(
            impl From<redb::$error> for StateError {
                fn from(error: redb::$error) -> Self {
                    Self::Storage(error.into())
                }
            }
        )*
    };
}

from_redb!(TransactionError, TableError, StorageError, CommitError);
