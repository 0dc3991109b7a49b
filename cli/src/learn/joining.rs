//! `weir join`: flows with what was said of them, as a file to look at, to keep and to learn from.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use weir_datasets::{LabelJoin, LabelledFlow, Truth};

use super::arguments::{DataArguments, TrustArguments};
use super::data;

/// Columns of the file: those of `weir decode --format csv` that flows are learned from, and what is said of them.
const HEADER: &str = "src_addr,dst_addr,src_port,dst_port,proto,time_flow_start_ns,time_flow_end_ns,packets,bytes,tcp_flags,sampling_rate,label,class,capture,answer,by";

#[derive(Args, Debug)]
pub(crate) struct JoinArguments {
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    trust: TrustArguments,
    /// Where to write the labelled flows: CSV that `weir train` takes as it is. `label` is attack, normal or undeclared.
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
    let mut out = BufWriter::new(file);
    writeln!(out, "{HEADER}")?;
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
    let file = out
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
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
