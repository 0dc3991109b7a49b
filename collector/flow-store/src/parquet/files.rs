use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use weir_flow_record::Timestamp;

/// The folder in the store's that holds flows.
const FLOWS: &str = "flows";
/// Behind the name of a file in work.
const PART: &str = "part";

/// The finished files of a store, oldest first.
#[derive(Default)]
pub(crate) struct Files {
    /// By the time of the first row.
    by_start: BTreeMap<(i64, PathBuf), u64>,
    octets: u64,
}

impl Files {
    /// Looks at what is there, and removes files that an earlier run left unfinished: also gives their number.
    pub(crate) fn scan(store: &Path) -> io::Result<(Self, u64)> {
        let (mut files, mut leftovers) = (Self::default(), 0);
        for day in folders(&flows_folder(store), "date=")? {
            for hour in folders(&day, "hour=")? {
                for entry in fs::read_dir(&hour)? {
                    let path = entry?.path();
                    if is_part(&path) {
                        fs::remove_file(&path)?;
                        leftovers += 1;
                    } else if let Some(start) = start_of(&path) {
                        files.insert(start, fs::metadata(&path)?.len(), path);
                    }
                }
            }
        }
        Ok((files, leftovers))
    }

    pub(crate) fn insert(&mut self, start: i64, octets: u64, path: PathBuf) {
        self.by_start.insert((start, path), octets);
        self.octets += octets;
    }

    pub(crate) fn len(&self) -> u64 {
        self.by_start.len() as u64
    }

    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// The time of the oldest file's first row.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.by_start
            .first_key_value()
            .map(|((start, _), _)| *start)
    }

    /// Deletes the oldest file, and the folders that this leaves empty.
    pub(crate) fn remove_oldest(&mut self) -> io::Result<()> {
        let Some(((_, path), octets)) = self.by_start.pop_first() else {
            return Ok(());
        };
        self.octets -= octets;
        match fs::remove_file(&path) {
            // Somebody was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        // Folders that still hold something stay.
        let _ = path.parent().map(fs::remove_dir);
        let _ = path.ancestors().nth(2).map(fs::remove_dir);
        Ok(())
    }
}

/// The folder of a store that holds the flows, by day and hour.
pub(crate) fn flows_folder(store: &Path) -> PathBuf {
    store.join(FLOWS)
}

/// Where the file of `start` (ns) goes.
pub(crate) fn path_of(store: &Path, start: i64, shard: u16, seq: u64) -> PathBuf {
    let start = Timestamp::from_nanos(start);
    // `2026-11-21T04:05:06Z`: years of four digits are all that nanoseconds in an i64 can name.
    let text = Timestamp::from_seconds(start.second()).to_string();
    let (day, hour) = (
        text.get(..10).unwrap_or_default(),
        text.get(11..13).unwrap_or_default(),
    );
    let clock = text.trim_end_matches('Z').replace(['-', ':'], "");
    let fraction = start.nanos().rem_euclid(1_000_000_000);
    store
        .join(FLOWS)
        .join(format!("date={day}"))
        .join(format!("hour={hour}"))
        .join(format!(
            "weir-{clock}.{fraction:09}Z-{shard}-{seq:06}.parquet"
        ))
}

/// The name that a file has until it is whole; a reader's `*.parquet` does not match it.
pub(crate) fn part_of(path: &Path) -> PathBuf {
    path.with_added_extension(PART)
}

/// The time of the first row, from a name that [`path_of`] gave.
pub(crate) fn start_of(path: &Path) -> Option<i64> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_prefix("weir-")?.strip_suffix(".parquet")?;
    let (clock, _) = name.split_once('-')?;
    let (day, time) = clock.split_once('T')?;
    let text = format!(
        "{}-{}-{}T{}:{}:{}",
        day.get(..4)?,
        day.get(4..6)?,
        day.get(6..)?,
        time.get(..2)?,
        time.get(2..4)?,
        time.get(4..)?
    );
    text.parse::<Timestamp>().ok().map(Timestamp::nanos)
}

/// Makes the folders of a file, durably; their owner alone may enter.
pub(crate) fn make_folders(path: &Path) -> io::Result<()> {
    let Some(hour) = path.parent() else {
        return Ok(());
    };
    if hour.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(hour)?;
    // The hour's, the day's, the flows' and the store's own entry.
    hour.ancestors().skip(1).take(3).try_for_each(sync_folder)
}

/// Makes a file that its owner alone may read, or empties one that is there.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

/// What a folder lists survives a crash from here on.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn is_part(path: &Path) -> bool {
    let named = |name: &str| name.starts_with("weir-") && name.ends_with(".parquet.part");
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(named)
}

fn folders(parent: &Path, prefix: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        let named = entry.file_name().to_string_lossy().starts_with(prefix);
        if named && entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_day_hour_and_start() {
        let start: Timestamp = "2026-11-21T04:05:06.000000789Z".parse().unwrap();
        let path = path_of(Path::new("store"), start.nanos(), 3, 17);
        assert_eq!(
            path.to_str().unwrap(),
            "store/flows/date=2026-11-21/hour=04/weir-20261121T040506.000000789Z-3-000017.parquet"
        );
        assert_eq!(start_of(&path), Some(start.nanos()));
        assert!(is_part(&part_of(&path)));
        assert_eq!(start_of(&part_of(&path)), None);
        for name in [
            "other.parquet",
            "weir-.parquet",
            "weir-20261121T04-0-1.parquet",
        ] {
            assert_eq!(start_of(Path::new(name)), None, "{name}");
        }
    }
}
