//! Where clients' rows are kept over a restart.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use openssl::sha::sha256;
use weir_dots_proto::Cuid;

use crate::store::{Change, SavedClient};

/// Something that keeps rows. A response to a change leaves after its row is kept.
pub trait Keep: Send {
    /// Keeps changed rows, and deletes those that are gone. On an error it is called again with the same changes.
    fn write(&mut self, changes: &[Change]) -> io::Result<()>;
}

/// A folder with a file for each client, which the owner alone can read.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Opens a folder, which is made where it is not there.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// The rows that are kept, and the files that hold none.
    pub fn load(&self) -> io::Result<(Vec<SavedClient>, Vec<PathBuf>)> {
        let mut rows = Vec::new();
        let mut unreadable = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match serde_json::from_slice(&fs::read(&path)?) {
                Ok(row) => rows.push(row),
                Err(_) => unreadable.push(path),
            }
        }
        Ok((rows, unreadable))
    }

    /// A cuid can be longer than a file's name, and hold what such a name cannot.
    fn file(&self, cuid: &Cuid) -> PathBuf {
        let hash = sha256(cuid.as_str().as_bytes());
        let name: String = hash.iter().map(|octet| format!("{octet:02x}")).collect();
        self.path.join(name).with_extension("json")
    }

    fn write_row(&self, cuid: &Cuid, row: &SavedClient) -> io::Result<()> {
        let path = self.file(cuid);
        let new = path.with_extension("new");
        let octets = serde_json::to_vec(row)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new)?;
        file.write_all(&octets)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    }
}

impl Keep for Folder {
    fn write(&mut self, changes: &[Change]) -> io::Result<()> {
        for Change { cuid, row } in changes {
            match row {
                Some(row) => self.write_row(cuid, row)?,
                None => match fs::remove_file(self.file(cuid)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                },
            }
        }
        // The names are in the folder's own blocks.
        File::open(&self.path)?.sync_all()
    }
}
