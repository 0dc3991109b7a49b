use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use weir_flow_record::{DatagramInfo, FlowBatch, Timestamp};

use super::encode::{EncodeError, ParquetEncoder};
use super::files::{Files, create_file, make_folders, part_of, path_of, sync_folder};

const HOUR: i64 = 3_600_000_000_000;
/// Rows of an hour may come so long after its end: batches of several shards arrive a little out of order.
const GRACE: Duration = Duration::from_secs(2);
/// After a failure nothing is tried for so long.
const PAUSE: Duration = Duration::from_secs(10);
/// Hours that are written at the same time.
const MOST_OPEN: usize = 2;
/// A file of so many octets ends before its time, so that the one flush to disk does not take long.
const LARGEST_FILE: u64 = 256 << 20;

/// What a store is built of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParquetSettings {
    /// The store's folder.
    pub folder: PathBuf,
    /// Rows of a row group, at most.
    pub rows_per_group: usize,
    /// How long rows stay; zero = for ever.
    pub retain: Duration,
    /// Octets of all files together, the ones in work included; 0 = no bound. The newest finished file always stays.
    pub max_size: u64,
    /// How long a file is written before it is finished: what a crash loses at most.
    pub interval: Duration,
}

/// Why rows are not in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// The file system or quota is full.
    DiskFull,
    /// Another error of the file system.
    WriteError,
    /// They cannot be encoded.
    EncodeError,
    /// The writer fell behind: counted by the owner of the queue before it.
    QueueFull,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [
        Self::DiskFull,
        Self::WriteError,
        Self::EncodeError,
        Self::QueueFull,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DiskFull => "disk-full",
            Self::WriteError => "write-error",
            Self::EncodeError => "encode-error",
            Self::QueueFull => "queue-full",
        }
    }
}

/// What a store did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StoreCounters {
    /// Rows in files that were finished.
    pub rows: u64,
    /// Octets of files that were finished.
    pub octets: u64,
    /// Files that were finished.
    pub files: u64,
    /// Files that were given up because of an error.
    pub abandoned_files: u64,
    /// Unfinished files of an earlier run, removed at the start.
    pub leftover_files: u64,
    /// Files that retention deleted.
    pub expired_files: u64,
    /// Finished files that are there now.
    pub stored_files: u64,
    /// Their octets.
    pub stored_octets: u64,
    dropped_rows: [u64; DropReason::ALL.len()],
}

impl StoreCounters {
    /// Rows that are not in the store.
    pub fn dropped_rows(&self, reason: DropReason) -> u64 {
        self.dropped_rows[reason as usize]
    }

    /// Counts rows that did not come so far.
    pub fn drop_rows(&mut self, reason: DropReason, rows: u64) {
        self.dropped_rows[reason as usize] += rows;
    }
}

/// Writes flow records to Parquet files by day and hour of receipt. It owns no thread and no clock; `now` is wall time.
///
/// A file has a name of its own until it is whole and on disk; then it is renamed. So readers see whole files only, and a
/// crash loses the rows of the last `interval` at most. An error of the file system costs the file in work and its rows,
/// which are counted; then nothing is tried for 10 s, and rows of that time are counted as dropped too. A full disk never
/// makes retention delete more than it is told to.
pub struct ParquetStore {
    settings: ParquetSettings,
    shard: u16,
    seq: u64,
    files: Files,
    /// By hour since 1970.
    open: BTreeMap<i64, OpenFile>,
    /// Until when nothing is tried, and why.
    paused: Option<(Timestamp, DropReason)>,
    counters: StoreCounters,
}

/// A file in work.
struct OpenFile {
    path: PathBuf,
    file: File,
    encoder: ParquetEncoder,
    /// Time of the first row, ns.
    start: i64,
    due: Timestamp,
    octets: u64,
}

/// Why a file is given up.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Failure {
    fn reason(&self) -> DropReason {
        match self {
            Self::Io(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DropReason::DiskFull,
                _ => DropReason::WriteError,
            },
            Self::Encode(_) => DropReason::EncodeError,
        }
    }
}

impl ParquetStore {
    /// Looks at what the folder holds, which no other process may be writing to, and removes what an earlier run left
    /// unfinished.
    pub fn open(settings: ParquetSettings, shard: u16) -> io::Result<Self> {
        let (files, leftovers) = Files::scan(&settings.folder)?;
        let mut store = Self {
            settings,
            shard,
            seq: 0,
            files,
            open: BTreeMap::new(),
            paused: None,
            counters: StoreCounters {
                leftover_files: leftovers,
                ..StoreCounters::default()
            },
        };
        store.note_stored();
        Ok(store)
    }

    /// Takes in all rows of a batch.
    pub fn handle_batch(&mut self, now: Timestamp, batch: &FlowBatch) {
        let hour_of = |datagram: &DatagramInfo| datagram.received_at.nanos().div_euclid(HOUR);
        for datagrams in batch.datagrams.chunk_by(|a, b| hour_of(a) == hour_of(b)) {
            self.handle_datagrams(now, batch, datagrams);
        }
        self.write_ready(now);
    }

    /// Takes in datagrams of one hour.
    fn handle_datagrams(&mut self, now: Timestamp, batch: &FlowBatch, datagrams: &[DatagramInfo]) {
        let rows: u64 = datagrams
            .iter()
            .map(|datagram| rows_of(batch, datagram))
            .sum();
        let Some(first) = datagrams.first().filter(|_| rows > 0) else {
            return;
        };
        if let Some((_, reason)) = self.paused.filter(|(until, _)| *until > now) {
            self.counters.drop_rows(reason, rows);
            return;
        }
        self.paused = None;
        let received = first.received_at.nanos();
        let hour = received.div_euclid(HOUR);
        match self.open_file(now, hour, received) {
            Ok(file) => {
                let all = file.encoder.rows() + rows;
                if let Err(error) = file.encoder.push_datagrams(batch, datagrams) {
                    // Rows that it did not come to are lost like those in the file.
                    let untaken = all.saturating_sub(file.encoder.rows());
                    self.counters.drop_rows(DropReason::EncodeError, untaken);
                    self.abandon(now, hour, &error.into());
                }
            }
            Err(error) => {
                self.counters.drop_rows(error.reason(), rows);
                self.pause(now, &error);
            }
        }
    }

    /// Finishes files that are due, and deletes what is too old.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(hour) = self.hour_where(|file| file.due <= now) {
            self.finish(now, hour);
        }
        self.expire(now);
    }

    /// When `handle_timeout` is due; poll after every `handle_*`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let due = self.open.values().map(|file| file.due).min();
        [due, self.next_expiry()].into_iter().flatten().min()
    }

    /// Finishes all files.
    pub fn finish_all(&mut self, now: Timestamp) {
        while let Some(hour) = self.hour_where(|_| true) {
            self.finish(now, hour);
        }
    }

    /// What was done so far.
    pub fn counters(&self) -> StoreCounters {
        self.counters
    }

    fn hour_where(&self, is_wanted: impl Fn(&OpenFile) -> bool) -> Option<i64> {
        let mut open = self.open.iter();
        open.find(|(_, file)| is_wanted(file))
            .map(|(hour, _)| *hour)
    }

    /// The file of an hour, made if it is not there.
    fn open_file(
        &mut self,
        now: Timestamp,
        hour: i64,
        received: i64,
    ) -> Result<&mut OpenFile, Failure> {
        if !self.open.contains_key(&hour) {
            if self.open.len() >= MOST_OPEN
                && let Some(oldest) = self.hour_where(|_| true)
            {
                self.finish(now, oldest);
            }
            let file = self.create(now, hour, received)?;
            self.open.insert(hour, file);
        }
        self.open
            .get_mut(&hour)
            .ok_or_else(|| io::Error::other("the file is gone").into())
    }

    fn create(&mut self, now: Timestamp, hour: i64, start: i64) -> Result<OpenFile, Failure> {
        let mut path = path_of(&self.settings.folder, start, self.shard, self.seq);
        // A replay or a stepped clock may bring the same time again.
        while path.exists() {
            self.seq += 1;
            path = path_of(&self.settings.folder, start, self.shard, self.seq);
        }
        self.seq += 1;
        make_folders(&path)?;
        let file = create_file(&part_of(&path))?;
        let hour_end = Timestamp::from_nanos((hour + 1).saturating_mul(HOUR)).plus(GRACE);
        let interval_end = now.plus(self.settings.interval);
        Ok(OpenFile {
            encoder: ParquetEncoder::new(self.settings.rows_per_group)?,
            path,
            file,
            start,
            // Rows of an hour that is long over are collected like others.
            due: if hour_end > now {
                interval_end.min(hour_end)
            } else {
                interval_end
            },
            octets: 0,
        })
    }

    /// Writes the row groups that are complete.
    fn write_ready(&mut self, now: Timestamp) {
        let mut failed = Vec::new();
        let mut large = Vec::new();
        for (hour, file) in &mut self.open {
            let octets = file.encoder.take_octets();
            file.octets += octets.len() as u64;
            if let Err(error) = file.file.write_all(&octets) {
                failed.push((*hour, error));
            } else if file.octets >= LARGEST_FILE {
                large.push(*hour);
            }
        }
        for (hour, error) in failed {
            self.abandon(now, hour, &error.into());
        }
        for hour in large {
            self.finish(now, hour);
        }
        self.keep_within_size();
    }

    fn finish(&mut self, now: Timestamp, hour: i64) {
        let Some(file) = self.open.remove(&hour) else {
            return;
        };
        let (rows, path, start) = (file.encoder.rows(), file.path.clone(), file.start);
        match file.finish() {
            Ok(octets) => {
                self.counters.rows += rows;
                self.counters.octets += octets;
                self.counters.files += 1;
                self.files.insert(start, octets, path);
                self.keep_within_size();
                self.note_stored();
            }
            Err(error) => self.give_up(now, &path, rows, &error),
        }
    }

    fn abandon(&mut self, now: Timestamp, hour: i64, error: &Failure) {
        if let Some(file) = self.open.remove(&hour) {
            let (path, rows) = (file.path.clone(), file.encoder.rows());
            drop(file);
            self.give_up(now, &path, rows, error);
        }
    }

    fn give_up(&mut self, now: Timestamp, path: &std::path::Path, rows: u64, error: &Failure) {
        self.counters.abandoned_files += 1;
        self.counters.drop_rows(error.reason(), rows);
        if let Err(error) = fs::remove_file(part_of(path)) {
            tracing::warn!(file = %path.display(), %error, "an unfinished file stays behind");
        }
        self.pause(now, error);
    }

    fn pause(&mut self, now: Timestamp, error: &Failure) {
        self.paused = Some((now.plus(PAUSE), error.reason()));
        tracing::error!(
            folder = %self.settings.folder.display(),
            reason = error.reason().name(),
            %error,
            "flow records are not stored for 10 s"
        );
    }

    /// When the oldest file's last row may be too old.
    fn next_expiry(&self) -> Option<Timestamp> {
        let retain = self.settings.retain;
        let oldest = self.files.oldest().filter(|_| !retain.is_zero())?;
        // A file's rows came within an interval of its first.
        Some(
            Timestamp::from_nanos(oldest)
                .plus(self.settings.interval)
                .plus(retain),
        )
    }

    fn expire(&mut self, now: Timestamp) {
        while self.next_expiry().is_some_and(|due| due <= now) {
            self.remove_oldest();
        }
        self.note_stored();
    }

    fn keep_within_size(&mut self) {
        if self.settings.max_size == 0 {
            return;
        }
        let in_work: u64 = self.open.values().map(|file| file.octets).sum();
        while self.files.octets() + in_work > self.settings.max_size && self.files.len() > 1 {
            self.remove_oldest();
        }
        self.note_stored();
    }

    fn remove_oldest(&mut self) {
        match self.files.remove_oldest() {
            Ok(()) => self.counters.expired_files += 1,
            Err(error) => tracing::warn!(%error, "an old file cannot be deleted"),
        }
    }

    fn note_stored(&mut self) {
        self.counters.stored_files = self.files.len();
        self.counters.stored_octets = self.files.octets();
    }
}

fn rows_of(batch: &FlowBatch, datagram: &DatagramInfo) -> u64 {
    let end = (datagram.rows.end as usize).min(batch.len());
    end.saturating_sub(datagram.rows.start as usize) as u64
}

impl OpenFile {
    /// Ends the file and gives it its name once all of it is on disk; tells its octets.
    fn finish(mut self) -> Result<u64, Failure> {
        let octets = self.encoder.finish()?;
        self.file.write_all(&octets)?;
        self.file.sync_all()?;
        fs::rename(part_of(&self.path), &self.path)?;
        if let Some(folder) = self.path.parent() {
            sync_folder(folder)?;
        }
        Ok(self.octets + octets.len() as u64)
    }
}
