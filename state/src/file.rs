use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::migrate::{Unmoved, migrate};
use crate::{Batch, Mirror, Snapshot, Stage, StageView, StateError, backup};

/// The file's name in the state directory.
pub const FILE_NAME: &str = "weir.redb";
/// Where a new file is prepared: under its own name it appears only once it is whole.
const NEW_FILE_NAME: &str = "weir.redb.new";
/// What a file is copied to before its rows are brought to a newer form.
const OLDER_FILE_NAME: &str = "weir.redb.older";
/// Per stage's table, the version of its rows.
const VERSIONS: TableDefinition<'static, &'static str, u32> = TableDefinition::new("versions");

/// The open state file. All methods take `&self`; writers wait for each other.
#[derive(Debug)]
pub struct State {
    database: Database,
    path: PathBuf,
    /// Held over a commit and what must happen in its order.
    feed: Mutex<Feed>,
}

/// Where commits go on to.
#[derive(Default, Debug)]
struct Feed {
    /// Commits since the file was opened.
    commits: u64,
    mirror: Option<Arc<dyn Mirror>>,
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

impl State {
    /// Opens `weir.redb` in `dir`. Makes the directory (mode 0700) and the file (0600) where they are missing; a file
    /// that another process has open, that is damaged or that a newer program wrote is refused and left as it is.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        make_dir(dir)?;
        let path = dir.join(FILE_NAME);
        let exists = path
            .try_exists()
            .map_err(|error| StateError::io(&path, error))?;
        if !exists {
            create(dir, &path)?;
        }
        Self::open_existing(dir)
    }

    /// The same where there must be a file already.
    pub fn open_existing(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(FILE_NAME);
        let mut database =
            Database::open(&path).map_err(|error| StateError::opening(&path, error))?;
        // Pages carry checksums, but only this reads them all; the file is small. What a crash left half done is
        // repaired by it: that loses no transaction that was ever reported as kept.
        database
            .check_integrity()
            .map_err(|error| StateError::opening(&path, error))?;
        let state = Self {
            database,
            path,
            feed: Mutex::default(),
        };
        let older = state.older_stages()?;
        if older.iter().any(|(_, version)| version.is_some()) {
            state.keep_older()?;
        }
        state.migrate(&older)?;
        Ok(state)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of `key`, if there is one.
    pub fn get(&self, stage: Stage, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(stage.rows()) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    /// All rows of a stage, in the order of their keys.
    pub fn entries(&self, stage: Stage) -> Result<Vec<Entry>, StateError> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(stage.rows()) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        table
            .iter()?
            .map(|row| {
                let (key, value) = row?;
                Ok((key.value().to_vec(), value.value().to_vec()))
            })
            .collect()
    }

    /// Shows all rows of a stage, in the order of their keys: of a stage whose rows should not all be in memory at once.
    pub fn for_each(
        &self,
        stage: Stage,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), StateError> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(stage.rows()) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for row in table.iter()? {
            let (key, value) = row?;
            visit(key.value(), value.value());
        }
        Ok(())
    }

    /// Keeps one row; it is on disk when this returns.
    pub fn put(&self, stage: Stage, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let mut batch = Batch::new();
        batch.put(stage, key, value);
        self.write(&batch)
    }

    /// Forgets one row; that it was there is not asked for.
    pub fn delete(&self, stage: Stage, key: &[u8]) -> Result<(), StateError> {
        let mut batch = Batch::new();
        batch.delete(stage, key);
        self.write(&batch)
    }

    /// Keeps rows of one stage in one transaction.
    pub fn put_many<'a>(
        &self,
        stage: Stage,
        rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), StateError> {
        let mut batch = Batch::new();
        for (key, value) in rows {
            batch.put(stage, key, value);
        }
        self.write(&batch)
    }

    /// Keeps a batch in one transaction; it is on disk when this returns, and the mirror, if there is one, has taken it.
    pub fn write(&self, batch: &Batch) -> Result<(), StateError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (mirror, number) = {
            let mut feed = self.feed();
            if let Some(mirror) = &feed.mirror {
                mirror.handle_wish(batch).map_err(StateError::Refused)?;
            }
            self.commit(|transaction| insert(transaction, batch))?;
            feed.commits += 1;
            let number = feed.commits;
            if let Some(mirror) = &feed.mirror {
                mirror.handle_commit(number, batch);
            }
            (feed.mirror.clone(), number)
        };
        // Others may commit while this one waits for its answer.
        match mirror {
            Some(mirror) => mirror.wait(number, batch).map_err(StateError::Mirror),
            None => Ok(()),
        }
    }

    /// Keeps a batch that another place's [`Mirror`] handed on; this one's mirror does not get it.
    pub fn apply(&self, batch: &Batch) -> Result<(), StateError> {
        let mut feed = self.feed();
        self.commit(|transaction| insert(transaction, batch))?;
        feed.commits += 1;
        Ok(())
    }

    /// Forgets all rows and keeps those of `batches`, in one transaction: the first state of a mirror's other end. An error
    /// among them changes nothing. The mirror here does not get them.
    pub fn replace_all<E: From<StateError>>(
        &self,
        batches: impl IntoIterator<Item = Result<Batch, E>>,
    ) -> Result<(), E> {
        let mut feed = self.feed();
        self.commit(|transaction| {
            for stage in Stage::ALL {
                let deleted = transaction.delete_table(stage.rows());
                deleted.map_err(StateError::from)?;
            }
            for batch in batches {
                insert(transaction, &batch?)?;
            }
            Ok::<(), E>(())
        })?;
        feed.commits += 1;
        Ok(())
    }

    /// From now on each commit is handed to `mirror`; `None` ends that.
    pub fn set_mirror(&self, mirror: Option<Arc<dyn Mirror>>) {
        self.feed().mirror = mirror;
    }

    /// All rows as they are after the last commit, however long it takes to read them.
    pub fn snapshot(&self) -> Result<Snapshot, StateError> {
        let feed = self.feed();
        let transaction = self.database.begin_read()?;
        Ok(Snapshot::new(transaction, feed.commits))
    }

    /// What each stage has.
    pub fn stages(&self) -> Result<Vec<StageView>, StateError> {
        let view = |stage| {
            let (mut rows, mut octets) = (0, 0);
            self.for_each(stage, |key, value| {
                rows += 1;
                octets += (key.len() + value.len()) as u64;
            })?;
            Ok(StageView {
                stage: stage.table(),
                version: stage.version(),
                rows,
                octets,
            })
        };
        Stage::ALL.into_iter().map(view).collect()
    }

    /// Writes all rows, as they are at this moment, to a new file that [`restore`](crate::restore) takes back. A file that
    /// is there is not replaced.
    pub fn back_up(&self, path: &Path) -> Result<(), StateError> {
        backup::write(path, self.snapshot()?)
    }

    fn feed(&self) -> MutexGuard<'_, Feed> {
        // What it guards is whole at every point where a panic could leave it.
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit<E: From<StateError>>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), E>,
    ) -> Result<(), E> {
        let transaction = self.database.begin_write().map_err(StateError::from)?;
        change(&transaction)?;
        transaction.commit().map_err(StateError::from)?;
        Ok(())
    }

    /// The value of `key`, read as JSON.
    pub fn get_json<T: DeserializeOwned>(
        &self,
        stage: Stage,
        key: &[u8],
    ) -> Result<Option<T>, StateError> {
        self.get(stage, key)?
            .map(|value| from_json(stage, &value))
            .transpose()
    }

    /// All rows of a stage, their values read as JSON.
    pub fn entries_json<T: DeserializeOwned>(
        &self,
        stage: Stage,
    ) -> Result<Vec<(Vec<u8>, T)>, StateError> {
        self.entries(stage)?
            .into_iter()
            .map(|(key, value)| Ok((key, from_json(stage, &value)?)))
            .collect()
    }

    /// Keeps `value` as JSON; it is on disk when this returns.
    pub fn put_json<T: Serialize + ?Sized>(
        &self,
        stage: Stage,
        key: &[u8],
        value: &T,
    ) -> Result<(), StateError> {
        let mut batch = Batch::new();
        batch.put_json(stage, key, value)?;
        self.write(&batch)
    }

    /// Refuses tables of a newer form; gives those of an older one with their version, and those without any.
    fn older_stages(&self) -> Result<Vec<(Stage, Option<u32>)>, StateError> {
        let transaction = self.database.begin_read()?;
        let versions = match transaction.open_table(VERSIONS) {
            Ok(versions) => versions,
            Err(TableError::TableDoesNotExist(_)) => {
                return Ok(Stage::ALL.map(|stage| (stage, None)).to_vec());
            }
            Err(error) => return Err(error.into()),
        };
        let mut older = Vec::new();
        for stage in Stage::ALL {
            let found = versions.get(stage.table())?.map(|version| version.value());
            if let Some(found) = found {
                self.check_version(stage, found)?;
            }
            if found != Some(stage.version()) {
                older.push((stage, found));
            }
        }
        Ok(older)
    }

    /// Brings older rows to today's form, all in one transaction; tables without a version are new.
    fn migrate(&self, older: &[(Stage, Option<u32>)]) -> Result<(), StateError> {
        if older.is_empty() {
            return Ok(());
        }
        let transaction = self.database.begin_write()?;
        for (stage, version) in older {
            let Some(version) = version else { continue };
            migrate(&transaction, *stage, *version).map_err(|unmoved| match unmoved {
                Unmoved::State(error) => error,
                Unmoved::Row(reason) => StateError::damaged(
                    &self.path,
                    format_args!("table `{}`, version {version}: {reason}", stage.table()),
                ),
            })?;
        }
        write_versions(&transaction, older.iter().map(|(stage, _)| *stage))?;
        Ok(transaction.commit()?)
    }

    /// Keeps the file as an older program left it: that one could not read it any more.
    fn keep_older(&self) -> Result<(), StateError> {
        let older = self.path.with_file_name(OLDER_FILE_NAME);
        copy(&self.path, &older).map_err(|error| StateError::io(&older, error))
    }

    fn check_version(&self, stage: Stage, found: u32) -> Result<(), StateError> {
        match found {
            0 => Err(StateError::damaged(
                &self.path,
                format_args!("table `{}` has version 0", stage.table()),
            )),
            found if found > stage.version() => Err(StateError::NewerVersion {
                path: self.path.clone(),
                table: stage.table(),
                found,
                known: stage.version(),
            }),
            _ => Ok(()),
        }
    }
}

pub(crate) fn make_dir(dir: &Path) -> Result<(), StateError> {
    let mut maker = DirBuilder::new();
    let made = maker.recursive(true).mode(0o700).create(dir);
    made.map_err(|error| StateError::io(dir, error))
}

/// Prepares a file beside its place and links it there once it is whole: a kill in between leaves no broken state file.
fn create(dir: &Path, path: &Path) -> Result<(), StateError> {
    let new = dir.join(NEW_FILE_NAME);
    let prepared = match prepare(&new) {
        // What an earlier start left unfinished holds nobody's data.
        Err(StateError::Damaged { .. }) => {
            fs::remove_file(&new).map_err(|error| StateError::io(&new, error))?;
            prepare(&new)?
        }
        other => other?,
    };
    // A link replaces no file that another process has made meanwhile.
    let linked = fs::hard_link(&new, path);
    drop(prepared);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StateError::io(path, error))
        }
        _ => fs::remove_file(&new)
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(|error| StateError::io(dir, error)),
    }
}

/// Copies a file to one that its owner alone may read, durably; one that is there is replaced.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut target = options.open(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

fn prepare(new: &Path) -> Result<Database, StateError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(new)
        .map_err(|error| StateError::io(new, error))?;
    Database::builder()
        .create_file(file)
        .map_err(|error| StateError::opening(new, error))
}

pub(crate) fn insert(transaction: &WriteTransaction, batch: &Batch) -> Result<(), StateError> {
    for change in batch.changes() {
        let mut table = transaction.open_table(change.stage.rows())?;
        match change.value {
            Some(value) => drop(table.insert(change.key, value)?),
            None => drop(table.remove(change.key)?),
        }
    }
    Ok(())
}

pub(crate) fn write_versions(
    transaction: &WriteTransaction,
    stages: impl IntoIterator<Item = Stage>,
) -> Result<(), StateError> {
    let mut versions = transaction.open_table(VERSIONS)?;
    for stage in stages {
        versions.insert(stage.table(), stage.version())?;
    }
    Ok(())
}

fn from_json<T: DeserializeOwned>(stage: Stage, value: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(value).map_err(|source| StateError::Json {
        table: stage.table(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_table_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        state.put(Stage::Attacks, b"a", b"1").unwrap();
        set_version(&state, Stage::Attacks.version() + 1);
        drop(state);
        let refusal = State::open(dir.path()).unwrap_err();
        assert!(
            matches!(
                refusal,
                StateError::NewerVersion {
                    table: "attacks",
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{refusal}"
        );
        let database = Database::open(dir.path().join(FILE_NAME)).unwrap();
        let transaction = database.begin_read().unwrap();
        let rows = transaction.open_table(Stage::Attacks.rows()).unwrap();
        assert_eq!(rows.get(b"a".as_slice()).unwrap().unwrap().value(), b"1");
    }

    #[test]
    fn version_zero_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        set_version(&State::open(dir.path()).unwrap(), 0);
        assert!(matches!(
            State::open(dir.path()),
            Err(StateError::Damaged { .. })
        ));
    }

    #[test]
    fn what_an_interrupted_first_start_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NEW_FILE_NAME), [0; 4096]).unwrap();
        State::open(dir.path())
            .unwrap()
            .put(Stage::Sequences, b"mid", b"1")
            .unwrap();
        assert!(!dir.path().join(NEW_FILE_NAME).exists());
    }

    fn set_version(state: &State, version: u32) {
        let transaction = state.database.begin_write().unwrap();
        transaction
            .open_table(VERSIONS)
            .unwrap()
            .insert(Stage::Attacks.table(), version)
            .unwrap();
        transaction.commit().unwrap();
    }
}
