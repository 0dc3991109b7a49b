use std::io::{self, IsTerminal, Write};
use std::path::Path;

use weir_flow_format::{csv, ndjson, protobuf};
use weir_flow_record::FlowBatch;
use weir_flow_store::ParquetEncoder;
use weir_netflow::NameStatement;

use super::enriched::Enriched;
use crate::arguments::RecordFormat;

/// Octets that are collected before they are written.
const CHUNK: usize = 1 << 16;
/// Rows of a Parquet row group: what readers take into memory at once.
const ROWS_PER_GROUP: usize = 131_072;

/// Writes flow records in one of the formats.
pub(crate) struct Records {
    form: Form,
    buffer: Vec<u8>,
}

enum Form {
    Ndjson,
    Csv,
    /// JSON lines and CSV with what is known besides.
    Enriched(Box<Enriched>),
    Protobuf(Box<protobuf::Encoder>),
    Parquet(Box<ParquetEncoder>),
}

impl Records {
    /// Records without more than the exporter said, or with what `enriched` knows: JSON lines and CSV alone have a place
    /// for that.
    pub(crate) fn new(format: RecordFormat, enriched: Option<Enriched>) -> io::Result<Self> {
        let mut buffer = Vec::new();
        if let Some(enriched) = enriched {
            enriched.append_header(&mut buffer);
            let form = Form::Enriched(Box::new(enriched));
            return Ok(Self { form, buffer });
        }
        let form = match format {
            RecordFormat::Ndjson => Form::Ndjson,
            RecordFormat::Csv => {
                csv::append_header(&mut buffer);
                Form::Csv
            }
            RecordFormat::Protobuf => Form::Protobuf(Box::default()),
            RecordFormat::Parquet => {
                let encoder = ParquetEncoder::new(ROWS_PER_GROUP).map_err(io::Error::other)?;
                Form::Parquet(Box::new(encoder))
            }
        };
        Ok(Self { form, buffer })
    }

    /// Takes in what an exporter says that something of its is called.
    pub(crate) fn handle_name(&mut self, statement: &NameStatement) {
        if let Form::Enriched(enriched) = &mut self.form {
            enriched.handle_name(statement);
        }
    }

    pub(crate) fn write(&mut self, batch: &FlowBatch, out: &mut impl Write) -> io::Result<()> {
        match &mut self.form {
            Form::Ndjson => ndjson::append(batch, &mut self.buffer),
            Form::Csv => csv::append(batch, &mut self.buffer),
            Form::Enriched(enriched) => enriched.append(batch, &mut self.buffer),
            Form::Protobuf(encoder) => encoder.append_delimited(batch, &mut self.buffer),
            Form::Parquet(encoder) => {
                encoder.push(batch).map_err(io::Error::other)?;
                self.buffer.append(&mut encoder.take_octets());
            }
        }
        if self.buffer.len() >= CHUNK {
            self.write_buffer(out)?;
        }
        Ok(())
    }

    /// Writes what is there, for whoever looks on; of Parquet, whole row groups only.
    pub(crate) fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.write_buffer(out)?;
        out.flush()
    }

    /// Writes what is left; without it a Parquet file cannot be read.
    pub(crate) fn finish(mut self, out: &mut impl Write) -> io::Result<()> {
        self.write_buffer(out)?;
        if let Form::Parquet(encoder) = self.form {
            out.write_all(&encoder.finish().map_err(io::Error::other)?)?;
        }
        Ok(())
    }

    fn write_buffer(&mut self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Whether octets that no terminal can show would go to one.
pub(crate) fn is_for_terminal(format: RecordFormat, output: Option<&Path>) -> bool {
    let is_binary = matches!(format, RecordFormat::Parquet | RecordFormat::Protobuf);
    is_binary && output.is_none() && io::stdout().is_terminal()
}
