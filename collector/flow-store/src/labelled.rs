//! Labelled flows as Parquet: the lines of the CSV that `weir join` makes, in typed columns and compressed.

use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::error::PolarsError;
use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    CsvReadOptions, CsvWriter, DataType, ParquetReader, ParquetWriter, Schema, SerReader, SerWriter,
};

/// Octets of lines that become a row group.
const GROUP: usize = 16 << 20;
/// Rows that are turned into lines at a time.
const ROWS: usize = 1 << 16;

/// The columns, which are those of the CSV. A file with all of them holds labelled flows.
const COLUMNS: [(&str, DataType); 16] = [
    ("src_addr", DataType::String),
    ("dst_addr", DataType::String),
    ("src_port", DataType::UInt16),
    ("dst_port", DataType::UInt16),
    ("proto", DataType::UInt8),
    ("time_flow_start_ns", DataType::Int64),
    ("time_flow_end_ns", DataType::Int64),
    ("packets", DataType::UInt64),
    ("bytes", DataType::UInt64),
    ("tcp_flags", DataType::UInt16),
    ("sampling_rate", DataType::UInt32),
    ("label", DataType::String),
    ("class", DataType::String),
    ("capture", DataType::String),
    ("answer", DataType::UInt8),
    ("by", DataType::String),
];

fn schema() -> Schema {
    let columns = COLUMNS.iter().cloned();
    columns.map(|(name, kind)| (name.into(), kind)).collect()
}

/// The first line of the CSV.
pub fn labelled_header() -> String {
    COLUMNS.map(|(name, _)| name).join(",")
}

/// Why labelled flows cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelledError {
    /// The file.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What polars says of it.
    #[error(transparent)]
    Polars(#[from] PolarsError),
}

/// Takes lines without a header, and makes a Parquet file of them. Memory is that of some ten megabytes of lines.
pub struct LabelledWriter {
    lines: Vec<u8>,
    schema: Arc<Schema>,
    out: BatchedWriter<File>,
}

impl LabelledWriter {
    /// Begins a file.
    pub fn new(out: File) -> Result<Self, LabelledError> {
        let schema = schema();
        Ok(Self {
            lines: Vec::new(),
            out: ParquetWriter::new(out).batched(&schema)?,
            schema: Arc::new(schema),
        })
    }

    /// Ends the file, which is nothing without this.
    pub fn finish(mut self) -> Result<(), LabelledError> {
        self.write_group(self.lines.len())?;
        self.out.finish()?;
        Ok(())
    }

    /// Makes a row group of the first octets, which are whole lines.
    fn write_group(&mut self, octets: usize) -> Result<(), LabelledError> {
        let rest = self.lines.split_off(octets);
        let lines = std::mem::replace(&mut self.lines, rest);
        if lines.is_empty() {
            return Ok(());
        }
        let options = CsvReadOptions::default()
            .with_has_header(false)
            .with_schema(Some(Arc::clone(&self.schema)));
        let frame = options
            .into_reader_with_file_handle(Cursor::new(lines))
            .finish()?;
        self.out.write_batch(&frame)?;
        Ok(())
    }
}

impl Write for LabelledWriter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.lines.extend_from_slice(octets);
        if self.lines.len() >= GROUP
            && let Some(last) = self.lines.iter().rposition(|octet| *octet == b'\n')
        {
            self.write_group(last + 1).map_err(io::Error::other)?;
        }
        Ok(octets.len())
    }

    /// Lines wait for others of their row group: [`finish`](Self::finish) writes the last ones.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Labelled flows of a Parquet file, read as the CSV that they were.
pub struct LabelledReader {
    path: PathBuf,
    rows: usize,
    next: usize,
    lines: Cursor<Vec<u8>>,
}

impl LabelledReader {
    /// Opens a Parquet file; `None` where it has not the columns of labelled flows.
    pub fn open(path: &Path) -> Result<Option<Self>, LabelledError> {
        let mut reader = ParquetReader::new(open(path)?);
        let columns = reader.schema()?;
        if !COLUMNS.iter().all(|(name, _)| columns.contains(name)) {
            return Ok(None);
        }
        Ok(Some(Self {
            path: path.to_owned(),
            rows: reader.num_rows()?,
            next: 0,
            lines: Cursor::new((labelled_header() + "\n").into_bytes()),
        }))
    }

    /// Turns the next rows into lines; false at the end.
    fn advance(&mut self) -> Result<bool, LabelledError> {
        if self.next >= self.rows {
            return Ok(false);
        }
        let names = COLUMNS.map(|(name, _)| name.to_owned()).to_vec();
        let mut frame = ParquetReader::new(open(&self.path)?)
            .with_columns(Some(names))
            .with_slice(Some((self.next, ROWS)))
            .finish()?;
        self.next += ROWS;
        let mut lines = Vec::new();
        CsvWriter::new(&mut lines)
            .include_header(false)
            .finish(&mut frame)?;
        self.lines = Cursor::new(lines);
        Ok(true)
    }
}

impl Read for LabelledReader {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.lines.read(octets)?;
            if read > 0 || octets.is_empty() || !self.advance().map_err(io::Error::other)? {
                return Ok(read);
            }
        }
    }
}

fn open(path: &Path) -> Result<File, LabelledError> {
    File::open(path).map_err(|source| LabelledError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> String {
        let by = ["", "dots:dms"][number % 2];
        let answer = ["", "0", "1"][number % 3];
        format!(
            "198.51.100.{},2001:db8::{number:x},{},53,17,{number},{},9,900,0,1000,attack,dns-amplification,c.pcap,{answer},{by}\n",
            number % 250,
            number % 60_000,
            number + 5
        )
    }

    #[test]
    fn what_was_written_in_several_groups_is_read_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("said.parquet");
        let mut lines = String::new();
        let mut writer = LabelledWriter::new(File::create(&path).unwrap()).unwrap();
        for number in 0..200_000 {
            // Pieces of a line come one by one.
            let line = line(number);
            let (first, second) = line.split_at(7);
            writer.write_all(first.as_bytes()).unwrap();
            writer.write_all(second.as_bytes()).unwrap();
            lines.push_str(&line);
        }
        assert!(lines.len() > GROUP);
        writer.finish().unwrap();
        let mut read = String::new();
        let mut reader = LabelledReader::open(&path).unwrap().unwrap();
        reader.read_to_string(&mut read).unwrap();
        assert!(read == labelled_header() + "\n" + &lines);
        assert!(path.metadata().unwrap().len() * 4 < lines.len() as u64);
    }

    #[test]
    fn no_flow_at_all_is_a_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.parquet");
        let writer = LabelledWriter::new(File::create(&path).unwrap()).unwrap();
        writer.finish().unwrap();
        let mut read = String::new();
        let mut reader = LabelledReader::open(&path).unwrap().unwrap();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, labelled_header() + "\n");
    }
}
