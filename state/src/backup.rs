//! A copy of the state file, and the way back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use redb::Database;
use serde::{Deserialize, Serialize};

use crate::file::{copy, insert, write_versions};
use crate::{FILE_NAME, Snapshot, Stage, State, StateError};

/// How a backup is called while it is looked at in the state directory.
const RESTORED: &str = "restore";

/// What a stage has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StageView<Name = &'static str> {
    /// The stage's table.
    pub stage: Name,
    /// The version of its rows.
    pub version: u32,
    /// How many there are.
    pub rows: u64,
    /// Octets of keys and values.
    pub octets: u64,
}

/// Writes a snapshot to a new state file.
pub(crate) fn write(path: &Path, snapshot: Snapshot) -> Result<(), StateError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let file = options
        .open(path)
        .map_err(|error| StateError::io(path, error))?;
    let written = fill(path, file, snapshot);
    if written.is_err() {
        // Half a backup is none.
        let _ = fs::remove_file(path);
    }
    written
}

fn fill(path: &Path, file: File, snapshot: Snapshot) -> Result<(), StateError> {
    let database = Database::builder()
        .create_file(file)
        .map_err(|error| StateError::opening(path, error))?;
    let transaction = database.begin_write()?;
    for batch in snapshot {
        insert(&transaction, &batch?)?;
    }
    write_versions(&transaction, Stage::ALL)?;
    Ok(transaction.commit()?)
}

/// Puts a backup in the place of the state in `dir`, where no process may have that open; what was there is kept beside it
/// under the name that is given back. A backup of an older program is brought to today's form, a damaged or newer one
/// refused before anything is changed.
pub fn restore(dir: &Path, backup: &Path) -> Result<Option<PathBuf>, StateError> {
    // Looked at in a folder of its own, where it may be repaired and brought to today's form.
    let trial = dir.join(RESTORED);
    let current = dir.join(FILE_NAME);
    let owned = match State::open_existing(dir) {
        Ok(state) => Some(state),
        // A file that is beyond use is what one restores for.
        Err(StateError::Damaged { .. } | StateError::NewerVersion { .. }) => None,
        Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let restored = put_in_place(dir, backup, &trial, &current);
    // Whatever became of it, nothing of the trial stays.
    let _ = fs::remove_dir_all(&trial);
    drop(owned);
    restored
}

fn put_in_place(
    dir: &Path,
    backup: &Path,
    trial: &Path,
    current: &Path,
) -> Result<Option<PathBuf>, StateError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| StateError::Io { path, source }
    };
    File::open(backup).map_err(io(backup))?;
    let _ = fs::remove_dir_all(trial);
    crate::file::make_dir(dir)?;
    crate::file::make_dir(trial)?;
    let new = trial.join(FILE_NAME);
    copy(backup, &new).map_err(io(&new))?;
    drop(State::open_existing(trial)?);
    let aside = if current.exists() {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        let aside = dir.join(format!("{FILE_NAME}.before-{seconds}"));
        fs::rename(current, &aside).map_err(io(current))?;
        Some(aside)
    } else {
        None
    };
    fs::rename(&new, current).map_err(io(current))?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io(dir))?;
    Ok(aside)
}
