//! `weir decode`: export datagrams in captures → flow records, figures, or every field by name.

mod all_fields;
mod enriched;
pub(crate) mod records;
mod summary;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use weir_collector::{Capture, DecoderLimits, Decoders};
use weir_flow_record::{ColumnSet, FlowBatch};

use crate::arguments::{DecodeArguments, RecordFormat};
use crate::config;
use crate::progress::Progress;
use all_fields::AllFields;
use enriched::Enriched;
use records::{Records, is_for_terminal};
use summary::Summary;

/// Runs the command.
pub(crate) fn run(arguments: &DecodeArguments) -> anyhow::Result<()> {
    if is_for_terminal(arguments.format, arguments.output.as_deref()) {
        anyhow::bail!("this format is not for a terminal: give a file with -o");
    }
    let mut out: Box<dyn Write> = match &arguments.output {
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    let progress = Progress::of_files("decode", &arguments.files);
    let mut records = Records::new(arguments.format, enriched(arguments)?)?;
    let mut octets = 0;
    for path in &arguments.files {
        let mut capture = Capture::open(path)?;
        let mut tell = |capture: &Capture| progress.set(octets + capture.octets_read());
        let done = if arguments.summary {
            summarise(path, &mut capture, &mut out, &mut tell)
        } else if arguments.all_fields {
            write_all_fields(&mut capture, &mut out, &mut tell)
        } else {
            write_records(&mut capture, &mut records, &mut out, &mut tell)
        };
        match done {
            // Whoever reads has seen enough, as with `| head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            done => {
                done.with_context(|| format!("cannot write the records of {}", path.display()))?
            }
        }
        octets += capture.octets_read();
        if capture.truncated() {
            tracing::warn!(file = %path.display(), "ends in the middle of a packet; what came before it was used");
        }
    }
    progress.finish();
    let ended = match arguments.summary || arguments.all_fields {
        true => Ok(()),
        false => records.finish(&mut out),
    };
    match ended.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write"),
    }
}

/// What the configuration knows of names and networks, where one is given.
fn enriched(arguments: &DecodeArguments) -> anyhow::Result<Option<Enriched>> {
    let Some(path) = &arguments.enrich else {
        return Ok(None);
    };
    let as_csv = match arguments.format {
        RecordFormat::Ndjson => false,
        RecordFormat::Csv => true,
        RecordFormat::Parquet | RecordFormat::Protobuf => {
            anyhow::bail!("names and networks have a place in ndjson and csv alone")
        }
    };
    let settings = config::load(path, ColumnSet::ALL)?;
    Ok(Some(Enriched::load(&settings, as_csv)?))
}

fn write_records(
    capture: &mut Capture,
    records: &mut Records,
    out: &mut impl Write,
    tell: &mut impl FnMut(&Capture),
) -> io::Result<()> {
    let mut decoders = Decoders::new(&DecoderLimits::default(), ColumnSet::ALL);
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    while let Some(datagram) = capture.next() {
        batch.clear();
        decoders.handle_datagram(datagram.at, datagram.from, &datagram.payload, &mut batch);
        while let Some(statement) = decoders.poll_name() {
            records.handle_name(&statement);
        }
        records.write(&batch, out)?;
        tell(capture);
    }
    Ok(())
}

fn write_all_fields(
    capture: &mut Capture,
    out: &mut impl Write,
    tell: &mut impl FnMut(&Capture),
) -> io::Result<()> {
    let mut parsers = AllFields::default();
    while let Some(datagram) = capture.next() {
        parsers.write(&datagram, out)?;
        tell(capture);
    }
    Ok(())
}

fn summarise(
    path: &Path,
    capture: &mut Capture,
    out: &mut impl Write,
    tell: &mut impl FnMut(&Capture),
) -> io::Result<()> {
    let mut decoders = Decoders::new(&DecoderLimits::default(), ColumnSet::NONE);
    let mut batch = FlowBatch::default();
    let mut summary = Summary::of(path);
    while let Some(datagram) = capture.next() {
        batch.clear();
        let outcome =
            decoders.handle_datagram(datagram.at, datagram.from, &datagram.payload, &mut batch);
        summary.add(&outcome);
        tell(capture);
    }
    serde_json::to_writer(&mut *out, &summary)?;
    out.write_all(b"\n")
}
