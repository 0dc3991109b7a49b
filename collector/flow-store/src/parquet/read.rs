use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::prelude::{ParallelStrategy, ParquetReader, PolarsError, SerReader};
use polars_parquet::read::{FileMetadata, RowGroupMetadata};
use weir_flow_record::{Address, ColumnSet, ExporterId, FlowBatch};

use super::files::start_of;
use super::rows::batch_of;

/// Rows of a batch, about: what is handed over at once.
const BATCH_ROWS: usize = 8192;
/// Files that are read at the same time where they overlap in time; each holds a row group.
const MOST_OPEN: usize = 16;
/// Exporters that files may name.
const MOST_EXPORTERS: usize = 65_536;

/// What keeps Parquet files from being read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file system's word.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not Parquet, broken, or without the columns of a flow record.
    #[error("cannot read {path}: {source}")]
    Parquet {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: PolarsError,
    },
    /// A text that is no value of its column.
    #[error("`{value}` is no value of column {column}")]
    Value {
        /// The column.
        column: &'static str,
        /// The text.
        value: String,
    },
    /// More exporters than there is room for.
    #[error("more than 65536 exporters")]
    TooManyExporters,
}

/// Whether `path` is a folder or a Parquet file, told by its first octets.
pub fn is_parquet(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    path.is_dir() || (read.is_ok() && &magic == b"PAR1")
}

/// Flow records of Parquet files in the order of receipt, in batches of some thousand rows with all columns.
///
/// A file is opened when its time comes and read by row group; files that overlap in time are merged. Memory is that of
/// one row group for each of at most 16 files. Missing columns read as "not stated", save for times, addresses, `bytes`
/// and `packets`. Exporters are numbered as they come.
pub struct FlowReader {
    /// Files that are not opened yet, the latest first.
    waiting: Vec<(i64, PathBuf)>,
    open: Vec<Source>,
    exporters: Exporters,
    octets: u64,
}

/// Numbers of exporters.
#[derive(Default)]
pub(crate) struct Exporters(BTreeMap<Address, u32>);

impl Exporters {
    pub(crate) fn id(&mut self, address: Address) -> Result<ExporterId, ReadError> {
        if let Some(id) = self.0.get(&address) {
            return Ok(ExporterId(*id));
        }
        if self.0.len() >= MOST_EXPORTERS {
            return Err(ReadError::TooManyExporters);
        }
        let id = self.0.len() as u32;
        self.0.insert(address, id);
        Ok(ExporterId(id))
    }
}

impl FlowReader {
    /// Finds the files among `paths`; of a folder all `*.parquet` below it.
    pub fn open(paths: &[PathBuf]) -> Result<Self, ReadError> {
        let mut files = Vec::new();
        for path in paths {
            find(path, &mut files)?;
        }
        files.sort();
        files.dedup();
        let mut waiting = Vec::new();
        for path in files {
            let start = match start_of(&path) {
                Some(start) => Some(start),
                None => first_received(&path)?,
            };
            waiting.extend(start.map(|start| (start, path)));
        }
        waiting.sort_by(|a, b| b.cmp(a));
        Ok(Self {
            waiting,
            open: Vec::new(),
            exporters: Exporters::default(),
            octets: 0,
        })
    }

    /// Octets of the files that were opened so far.
    pub fn octets_read(&self) -> u64 {
        self.octets
    }

    fn next_batch(&mut self) -> Result<Option<FlowBatch>, ReadError> {
        self.open_due()?;
        let heads = self.open.iter().map(Source::head).enumerate();
        let Some((first, _)) = heads.min_by_key(|(_, head)| *head) else {
            return Ok(None);
        };
        let others = self.open.iter().enumerate();
        let others = others
            .filter(|(index, _)| *index != first)
            .map(|(_, source)| source.head());
        let limit = others
            .chain(self.waiting.last().map(|(start, _)| *start))
            .min();
        let source = &mut self.open[first];
        let batch = source.take_until(limit.unwrap_or(i64::MAX));
        if source.is_empty() && !source.read_group(&mut self.exporters)? {
            self.open.swap_remove(first);
        }
        Ok(Some(batch))
    }

    /// Opens files whose time has come.
    fn open_due(&mut self) -> Result<(), ReadError> {
        while self.open.len() < MOST_OPEN
            && let Some((start, _)) = self.waiting.last()
            && self.open.iter().all(|source| source.head() >= *start)
            && let Some((_, path)) = self.waiting.pop()
        {
            let mut source = Source::open(&path)?;
            self.octets += source.octets;
            if source.read_group(&mut self.exporters)? {
                self.open.push(source);
            }
        }
        Ok(())
    }
}

impl Iterator for FlowReader {
    type Item = Result<FlowBatch, ReadError>;

    /// After an error it ends.
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_batch();
        if next.is_err() {
            self.waiting.clear();
            self.open.clear();
        }
        next.transpose()
    }
}

/// An open file and the rows of its current row group.
struct Source {
    path: PathBuf,
    file: File,
    octets: u64,
    /// All but the row groups.
    metadata: FileMetadata,
    groups: std::vec::IntoIter<RowGroupMetadata>,
    batch: FlowBatch,
    /// The datagram that is handed over next.
    next: usize,
}

impl Source {
    fn open(path: &Path) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(io)?;
        let octets = file.metadata().map_err(io)?.len();
        let mut metadata = polars_parquet::read::read_metadata(&mut file).map_err(|source| {
            ReadError::Parquet {
                path: path.to_owned(),
                source,
            }
        })?;
        let groups = std::mem::take(&mut metadata.row_groups).into_iter();
        Ok(Self {
            path: path.to_owned(),
            file,
            octets,
            metadata,
            groups,
            batch: FlowBatch::default(),
            next: 0,
        })
    }

    /// When the next datagram was received; only of a source that is not empty.
    fn head(&self) -> i64 {
        let head = self.batch.datagrams.get(self.next);
        head.map_or(i64::MAX, |datagram| datagram.received_at.nanos())
    }

    fn is_empty(&self) -> bool {
        self.next >= self.batch.datagrams.len()
    }

    /// Datagrams up to `limit` (ns), one at least.
    fn take_until(&mut self, limit: i64) -> FlowBatch {
        let mut taken = FlowBatch::with_projection(ColumnSet::ALL);
        while let Some(datagram) = self.batch.datagrams.get(self.next) {
            let is_later = datagram.received_at.nanos() > limit || taken.len() >= BATCH_ROWS;
            if !taken.is_empty() && is_later {
                break;
            }
            taken.append(&self.batch, datagram);
            self.next += 1;
        }
        taken
    }

    /// Reads the next row group that has rows; `false` at the end of the file.
    fn read_group(&mut self, exporters: &mut Exporters) -> Result<bool, ReadError> {
        while let Some(group) = self.groups.next() {
            let parquet = |source| ReadError::Parquet {
                path: self.path.clone(),
                source,
            };
            let file = self.file.try_clone().map_err(|source| ReadError::Io {
                path: self.path.clone(),
                source,
            })?;
            // To polars the file has this one row group: of several it would look at each again.
            let mut metadata = self.metadata.clone();
            metadata.num_rows = group.num_rows();
            metadata.max_row_group_height = group.num_rows();
            metadata.row_groups = vec![group];
            let mut reader = ParquetReader::new(file);
            reader.set_metadata(Arc::new(metadata));
            let frame = reader
                .read_parallel(ParallelStrategy::None)
                .finish()
                .map_err(parquet)?;
            self.batch = batch_of(&frame, exporters).map_err(|error| match error {
                super::rows::RowsError::Parquet(source) => parquet(source),
                super::rows::RowsError::Read(error) => error,
            })?;
            self.next = 0;
            if !self.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn find(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let io = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?.path();
        if entry.is_dir() || entry.extension().is_some_and(|ending| ending == "parquet") {
            find(&entry, files)?;
        }
    }
    Ok(())
}

/// The received time of a file's first row; `None` of an empty file.
fn first_received(path: &Path) -> Result<Option<i64>, ReadError> {
    let mut source = Source::open(path)?;
    let read = source.read_group(&mut Exporters::default())?;
    Ok(read.then(|| source.head()))
}
