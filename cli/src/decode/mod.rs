//! `weir decode`: export datagrams in captures → flow records, figures, or every field by name.

mod all_fields;
mod enriched;
pub(crate) mod records;
mod summary;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use weir_anonymise::{AnonymiseConfig, Anonymiser};
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
    let mut anonymiser = anonymiser(arguments)?;
    let mut octets = 0;
    for path in &arguments.files {
        let mut capture = Capture::open(path)?;
        let mut tell = |capture: &Capture| progress.set(octets + capture.octets_read());
        let done = if arguments.summary {
            summarise(path, &mut capture, &mut out, &mut tell)
        } else if arguments.all_fields {
            write_all_fields(&mut capture, &mut out, &mut tell)
        } else {
            let records = (&mut records, anonymiser.as_mut());
            write_records(&mut capture, records, &mut out, &mut tell)
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

/// What makes addresses anonymous, where that is asked for.
fn anonymiser(arguments: &DecodeArguments) -> anyhow::Result<Option<Anonymiser>> {
    let (method, key_file) = match (&arguments.anonymise, arguments.truncate.is_empty()) {
        (Some(key), _) => ("crypto-pan", key.clone()),
        (None, false) => ("truncate", PathBuf::new()),
        (None, true) if arguments.keep.is_empty() => return Ok(None),
        (None, true) => anyhow::bail!("--keep goes with --anonymise or --truncate"),
    };
    let config = AnonymiseConfig {
        method: method.to_owned(),
        key_file,
        truncate: match arguments.truncate[..] {
            [v4, v6] => [v4, v6],
            [] => AnonymiseConfig::default().truncate,
            _ => anyhow::bail!("--truncate takes two numbers, such as 24,48"),
        },
        keep: arguments.keep.clone(),
    };
    let settings = config.check().map_err(|faults| {
        let faults = faults.into_iter().map(|fault| fault.message);
        anyhow::anyhow!(faults.collect::<Vec<_>>().join("; "))
    })?;
    Ok(settings.as_ref().map(Anonymiser::new).transpose()?)
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
    (records, mut anonymiser): (&mut Records, Option<&mut Anonymiser>),
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
        if let Some(anonymiser) = &mut anonymiser {
            anonymiser.handle_batch(&mut batch);
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
