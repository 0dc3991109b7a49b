use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_attack_event::{AttackEvent, AttackId};
use weir_flow_record::{Direction, Timestamp};

/// Event lines of the attack.
const EVENTS: &str = "events.ndjson";
/// What the bundle is.
const INFO: &str = "bundle.json";
/// Behind the name of a file in work.
const PART: &str = "part";
/// Longest name of a bundle.
const LONGEST_NAME: usize = 128;
/// Longest line that is read back from event lines.
const LONGEST_LINE: u64 = 1 << 20;

/// What a bundle holds: its `bundle.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BundleInfo {
    /// The attack.
    pub attack: AttackId,
    /// What was attacked, in the newest event.
    pub target: IpNet,
    /// In which direction.
    pub direction: Direction,
    /// Rows in finished files.
    pub rows: u64,
    /// Rows of the attack that are in no file: for want of room, or of time to write them.
    pub left_out_rows: u64,
    /// When the attack ended; `None` while it is open.
    pub ended: Option<Timestamp>,
}

/// A bundle on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bundle {
    /// Its folder: what `weir replay` takes.
    pub folder: PathBuf,
    /// What is in it; `None` while its first file is in work.
    pub info: Option<BundleInfo>,
    /// Finished files and their octets, in order.
    pub files: Vec<(PathBuf, u64)>,
}

/// The bundle of an attack, if there is one.
pub fn bundle(evidence: &Path, attack: &AttackId) -> io::Result<Option<Bundle>> {
    let Some(folder) = folder_of(evidence, attack).filter(|folder| folder.is_dir()) else {
        return Ok(None);
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if !is_part(&path) && !is_named(&path, INFO) {
            // It may have been deleted a moment ago.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            files.push((path, metadata.len()));
        }
    }
    files.sort();
    Ok(Some(Bundle {
        info: read_info(&folder),
        folder,
        files,
    }))
}

/// The newest event of each bundle; what cannot be read is left out.
pub fn bundles(evidence: &Path) -> io::Result<Vec<AttackEvent>> {
    let mut events = Vec::new();
    for (_, folder) in folders(evidence)? {
        events.extend(last_event(&folder));
    }
    Ok(events)
}

/// Attacks whose folders are there.
pub(super) fn folders(evidence: &Path) -> io::Result<Vec<(AttackId, PathBuf)>> {
    let entries = match fs::read_dir(evidence) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_safe(name)) else {
            continue;
        };
        // Other folders are none of ours.
        let path = entry.path();
        let is_ours = || path.join(EVENTS).is_file() || path.join(INFO).is_file();
        if entry.file_type()?.is_dir() && is_ours() {
            folders.push((AttackId(name.into()), path));
        }
    }
    folders.sort();
    Ok(folders)
}

/// Where an attack's bundle is; `None` for a name that is no file name.
pub(super) fn folder_of(evidence: &Path, attack: &AttackId) -> Option<PathBuf> {
    is_safe(&attack.0).then(|| evidence.join(&*attack.0))
}

fn is_safe(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && !name.starts_with('.')
        && name.chars().all(is_plain)
}

/// Name of a file of flows.
pub(super) fn flows(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("flows-{number:06}.parquet"))
}

/// The number in a name that [`flows`] gave.
pub(super) fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let number = name.strip_prefix("flows-")?.strip_suffix(".parquet")?;
    number.parse().ok()
}

/// The name that a file has until it is whole.
pub(super) fn part_of(path: &Path) -> PathBuf {
    path.with_added_extension(PART)
}

pub(super) fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == PART)
}

fn is_named(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|found| found == name)
}

/// Makes a folder, and those above it, for the owner alone.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A new file, for the owner alone.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Puts a file in place once it is on disk.
pub(super) fn publish(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(part_of(path), path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Adds an event line; gives its octets.
pub(super) fn add_event(folder: &Path, event: &AttackEvent) -> io::Result<u64> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(folder.join(EVENTS))?;
    file.write_all(&line)?;
    Ok(line.len() as u64)
}

/// Cuts off a line that a crash left unfinished.
pub(super) fn mend_events(folder: &Path) -> io::Result<()> {
    let path = folder.join(EVENTS);
    let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(LONGEST_LINE);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|octet| *octet == b'\n');
    let whole = whole.map_or(0, |place| place as u64 + 1);
    if from + whole < length {
        file.set_len(from + whole)?;
    }
    Ok(())
}

/// The newest event of a bundle.
fn last_event(folder: &Path) -> Option<AttackEvent> {
    let mut file = File::open(folder.join(EVENTS)).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_LINE)))
        .ok()?;
    let lines = BufReader::new(file.take(LONGEST_LINE)).split(b'\n');
    let events = lines.filter_map(|line| serde_json::from_slice(&line.ok()?).ok());
    events.last()
}

pub(super) fn read_info(folder: &Path) -> Option<BundleInfo> {
    let text = fs::read(folder.join(INFO)).ok()?;
    serde_json::from_slice(&text).ok()
}

pub(super) fn write_info(folder: &Path, info: &BundleInfo) -> io::Result<()> {
    let path = folder.join(INFO);
    let mut file = create(&part_of(&path))?;
    file.write_all(&serde_json::to_vec_pretty(info)?)?;
    publish(&file, &path)
}

/// What a folder holds: octets, the newest change, the number that the next file gets.
pub(super) struct Contents {
    pub(super) octets: u64,
    pub(super) changed: Timestamp,
    pub(super) next: u32,
    /// Unfinished files of an earlier run, which are gone now.
    pub(super) leftovers: u64,
}

/// Looks at a folder, and removes files that an earlier run left unfinished.
pub(super) fn contents(folder: &Path) -> io::Result<Contents> {
    let mut contents = Contents {
        octets: 0,
        changed: Timestamp::from_nanos(0),
        next: 1,
        leftovers: 0,
    };
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if is_part(&path) {
            fs::remove_file(&path)?;
            contents.leftovers += 1;
            continue;
        }
        let metadata = fs::metadata(&path)?;
        let changed = metadata.modified()?.duration_since(UNIX_EPOCH);
        let nanos = changed.map_or(0, |since| since.as_nanos());
        contents.octets += metadata.len();
        contents.changed = contents
            .changed
            .max(Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(0)));
        if let Some(number) = number_of(&path) {
            contents.next = contents.next.max(number.saturating_add(1));
        }
    }
    Ok(contents)
}

/// Deletes a bundle: the files in its folder, and the folder if nothing else is in it.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attacks_are_file_names_or_nothing() {
        let at = |name: &str| folder_of(Path::new("/e"), &AttackId(name.into()));
        assert_eq!(at("00ff"), Some("/e/00ff".into()));
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "a\0b", "ä"] {
            assert_eq!(at(name), None, "{name:?}");
        }
        assert_eq!(at(&"a".repeat(129)), None);
    }

    #[test]
    fn a_line_that_was_not_finished_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(EVENTS);
        mend_events(folder.path()).unwrap();
        for (before, after) in [("a\nb", "a\n"), ("a\n", "a\n"), ("ab", ""), ("", "")] {
            fs::write(&path, before).unwrap();
            mend_events(folder.path()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn files_have_numbers() {
        let path = flows(Path::new("/e/a"), 7);
        assert_eq!(path, Path::new("/e/a/flows-000007.parquet"));
        assert_eq!(number_of(&path), Some(7));
        assert!(is_part(&part_of(&path)));
        assert_eq!(number_of(&part_of(&path)), None);
    }
}
