use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use polars::error::PolarsError;
use polars_parquet::read::ParquetError;
use polars_parquet::write::{
    CompressionOptions, Compressor, DynIter, DynStreamingIterator, FallibleStreamingIterator,
    FileWriter, ParquetType, StatisticsOptions, Version, WriteOptions, ZstdLevel, array_to_columns,
};
use weir_flow_record::{DatagramInfo, FlowBatch};

use super::columns::{Columns, Sealed, schema};

/// Level of zstd: higher ones cost much more time than they save octets of dictionary-encoded columns.
const ZSTD_LEVEL: i32 = 1;

/// What keeps rows from becoming Parquet; never their values.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode Parquet: {0}")]
pub struct EncodeError(#[from] PolarsError);

/// One Parquet file in the making: batches in, octets of the file out.
///
/// It holds at most one row group of rows and one of octets; who owns the file fetches these after each `push`.
pub struct ParquetEncoder {
    columns: Columns,
    writer: FileWriter<Shared>,
    octets: Shared,
    fields: Vec<ParquetType>,
    rows_per_group: usize,
    /// Rows of the group in work.
    group_rows: usize,
    /// Rows of the groups before it.
    ended_rows: u64,
}

impl ParquetEncoder {
    /// A file whose row groups have at most `rows_per_group` rows.
    pub fn new(rows_per_group: usize) -> Result<Self, EncodeError> {
        let octets = Shared::default();
        let writer = FileWriter::try_new(octets.clone(), schema(), options()?)?;
        Ok(Self {
            columns: Columns::default(),
            fields: writer.parquet_schema().fields().to_vec(),
            writer,
            octets,
            rows_per_group: rows_per_group.max(1),
            group_rows: 0,
            ended_rows: 0,
        })
    }

    /// Appends all rows of a batch.
    pub fn push(&mut self, batch: &FlowBatch) -> Result<(), EncodeError> {
        self.push_datagrams(batch, &batch.datagrams)
    }

    /// Appends the rows of some datagrams of a batch.
    pub fn push_datagrams(
        &mut self,
        batch: &FlowBatch,
        datagrams: &[DatagramInfo],
    ) -> Result<(), EncodeError> {
        // Rows that follow each other are copied at once, whatever datagrams they came in.
        let mut run = 0..0;
        for datagram in datagrams {
            let end = (datagram.rows.end as usize).min(batch.len());
            let mut start = datagram.rows.start as usize;
            if start >= end {
                continue;
            }
            if start != run.end {
                self.columns.push_rows(batch, run.start, run.end);
                run = start..start;
            }
            while start < end {
                let stop = end.min(start + self.rows_per_group - self.group_rows);
                self.columns.push_header(datagram, stop - start);
                self.group_rows += stop - start;
                run.end = stop;
                start = stop;
                if self.group_rows >= self.rows_per_group {
                    self.columns.push_rows(batch, run.start, run.end);
                    run = stop..stop;
                    self.end_row_group()?;
                }
            }
        }
        self.columns.push_rows(batch, run.start, run.end);
        Ok(())
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.ended_rows + self.group_rows as u64
    }

    /// The octets of the file that are ready, which follow those fetched before.
    #[must_use]
    pub fn take_octets(&mut self) -> Vec<u8> {
        mem::take(&mut *self.octets.lock())
    }

    /// Ends the file and gives its last octets.
    pub fn finish(mut self) -> Result<Vec<u8>, EncodeError> {
        if self.group_rows > 0 {
            self.end_row_group()?;
        }
        self.writer.end(None)?;
        Ok(self.take_octets())
    }

    fn end_row_group(&mut self) -> Result<(), EncodeError> {
        let rows = std::mem::take(&mut self.group_rows) as u64;
        self.ended_rows += rows;
        let options = options()?;
        let columns = self.columns.take()?;
        let pages = columns
            .into_iter()
            .zip(&self.fields)
            .map(move |(column, field)| compressed(&column, field, options));
        self.writer.write(rows, DynIter::new(pages))?;
        Ok(())
    }
}

type Pages = DynStreamingIterator<'static, polars_parquet::write::CompressedPage, PolarsError>;

fn compressed(
    column: &Sealed,
    field: &ParquetType,
    options: WriteOptions,
) -> Result<Pages, PolarsError> {
    // No column is nested: each gives one run of pages.
    let pages = array_to_columns(
        &column.array,
        field.clone(),
        options,
        std::slice::from_ref(&column.encoding),
    )?;
    let pages = pages
        .into_iter()
        .flatten()
        .map(|page| page.map_err(|error| ParquetError::FeatureNotSupported(error.to_string())));
    let pages = Compressor::new(DynIter::new(pages), options.compression, Vec::new());
    Ok(DynStreamingIterator::new(pages.map_err(PolarsError::from)))
}

fn options() -> Result<WriteOptions, PolarsError> {
    Ok(WriteOptions {
        statistics: StatisticsOptions::default(),
        version: Version::V1,
        compression: CompressionOptions::Zstd(Some(ZstdLevel::try_new(ZSTD_LEVEL)?)),
        data_page_size: None,
    })
}

/// Where the encoder's writer puts its octets and their owner finds them.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Shared {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.lock().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
