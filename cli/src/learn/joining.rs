//! `weir join`: flows with what was said of them, as a file to look at, to keep and to learn from.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use weir_datasets::{LabelJoin, LabelledFlow, Truth};
use weir_flow_store::{LabelledWriter, labelled_header};

use super::arguments::{DataArguments, TrustArguments};
use super::data;

#[derive(Args, Debug)]
pub(crate) struct JoinArguments {
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    trust: TrustArguments,
    /// Where to write the labelled flows, which `weir train` takes as they are: Parquet where the name ends in `.parquet`, else CSV.
    ///
    /// `label` is attack, normal or undeclared.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// What came of it, as it is printed.
#[derive(Serialize, Default)]
struct Counts {
    records: u64,
    attack: u64,
    normal: u64,
    /// Records of which nobody says anything.
    undeclared: u64,
    /// Labels of attacks that no record matched.
    unmatched_labels: usize,
    labels: Vec<Matched>,
}

#[derive(Serialize)]
struct Matched {
    target: String,
    attack: String,
    by: String,
    records: u64,
}

/// Runs the command.
pub(crate) fn run(arguments: &JoinArguments) -> anyhow::Result<()> {
    let join = data::read_labels(&arguments.data, &arguments.trust)?;
    let mut join = join.context("a join needs --labels")?;
    let folder = arguments.output.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    let mut out = Output::new(file.as_file().try_clone()?, &arguments.output)?;
    let mut counts = Counts::default();
    for path in &arguments.data.data {
        let mut written = Ok(());
        data::flows(path, &mut |flow| {
            if written.is_ok() {
                written = write(&mut out, &mut join, flow, &mut counts);
            }
        })
        .with_context(|| path.display().to_string())?;
        written.with_context(|| format!("cannot write {}", arguments.output.display()))?;
    }
    out.finish()?;
    file.as_file().sync_all()?;
    file.persist(&arguments.output)
        .with_context(|| format!("cannot write {}", arguments.output.display()))?;
    counts.unmatched_labels = join.unmatched().len();
    let matched = join.matches().map(|(label, records)| Matched {
        target: label.target.to_string(),
        attack: label.attack.clone(),
        by: label.by.clone(),
        records,
    });
    counts.labels = matched.collect();
    println!("{}", serde_json::to_string_pretty(&counts)?);
    Ok(())
}

/// The file, by its ending.
enum Output {
    Csv(BufWriter<File>),
    Parquet(Box<LabelledWriter>),
}

impl Output {
    fn new(file: File, name: &Path) -> anyhow::Result<Self> {
        if name.extension().is_some_and(|ending| ending == "parquet") {
            return Ok(Self::Parquet(Box::new(LabelledWriter::new(file)?)));
        }
        let mut out = BufWriter::new(file);
        writeln!(out, "{}", labelled_header())?;
        Ok(Self::Csv(out))
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Csv(mut out) => Ok(out.flush()?),
            Self::Parquet(out) => Ok(out.finish()?),
        }
    }
}

impl Write for Output {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Csv(out) => out.write(octets),
            Self::Parquet(out) => out.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Csv(out) => out.flush(),
            Self::Parquet(out) => out.flush(),
        }
    }
}

fn write(
    out: &mut impl Write,
    join: &mut LabelJoin,
    flow: &LabelledFlow<'_>,
    counts: &mut Counts,
) -> std::io::Result<()> {
    let row = &flow.row;
    let joined = join.join(row);
    let (label, class, by, answer) = match (flow.truth, joined.attack) {
        (Truth::Attack(words), _) => ("attack", words, flow.by, flow.answer),
        (Truth::Peace, _) => ("normal", "", flow.by, flow.answer),
        (_, Some(attack)) => ("attack", attack, joined.by, Some(joined.answer)),
        (_, None) if joined.declared => ("normal", "", "", flow.answer),
        (_, None) => ("undeclared", "", "", flow.answer),
    };
    counts.records += 1;
    *match label {
        "attack" => &mut counts.attack,
        "normal" => &mut counts.normal,
        _ => &mut counts.undeclared,
    } += 1;
    let answer = answer.map_or("", |answer| if answer { "1" } else { "0" });
    let [class, capture, by] = [class, flow.capture, by].map(plain);
    writeln!(
        out,
        "{},{},{},{},{},{},{},{},{},{},{},{label},{class},{capture},{answer},{by}",
        row.source_address,
        row.destination_address,
        row.source_port,
        row.destination_port,
        row.protocol,
        row.flow_start,
        row.flow_end,
        row.packets,
        row.octets,
        row.tcp_flags,
        row.sampling_rate,
    )
}

/// A text that a field of CSV can hold as it is.
fn plain(text: &str) -> String {
    let odd = |c: char| c.is_control() || matches!(c, ',' | '"');
    text.chars().map(|c| if odd(c) { '_' } else { c }).collect()
}
