//! `weir score`: events against labels.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use weir_datasets::score::{
    Details, Difference, Requirement, Score, Told, Truth, Window, compare, read_events,
    read_truths, score,
};
use weir_flow_record::{ColumnSet, Timestamp};

use crate::arguments::{ConfigArgument, ReplayArguments};
use crate::{config, replay};

#[derive(Args, Debug)]
pub(crate) struct ScoreArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Events, one JSON object a line, as `weir replay` and the daemon write them; - reads standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "replay")]
    pub(crate) events: Option<PathBuf>,
    /// Labels: CSV with the header start,end,target,attack; an empty attack marks a time of peace.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: PathBuf,
    /// Scores nothing that ended before (RFC 3339); from the first label or attack told by default.
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<Timestamp>,
    /// Scores nothing that began later; to the end of the last label or detection by default.
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<Timestamp>,
    /// Replays these captures or Parquet files by the configuration instead of reading events.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "events")]
    pub(crate) replay: Vec<PathBuf>,
    /// Scores these events too, and says what they do better or worse.
    #[arg(long, value_name = "EVENTS")]
    pub(crate) compare: Option<PathBuf>,
    /// Replays by this configuration too, and says what it does better or worse.
    #[arg(
        long,
        value_name = "CONFIG",
        requires = "replay",
        conflicts_with = "compare"
    )]
    pub(crate) compare_config: Option<PathBuf>,
    /// Lists misses, false alarms, duplicates and detections as well.
    #[arg(long)]
    pub(crate) details: bool,
    /// Exit status 1 unless the score keeps this bound, such as 'recall>=0.98'; may be given several times.
    #[arg(long, value_name = "BOUND")]
    pub(crate) require: Vec<Requirement>,
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    score: Score,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<Score>,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Difference>,
}

/// Runs the command.
pub(crate) fn run(arguments: &ScoreArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let zones = settings.detector.zones.iter();
    let window = Window {
        from: arguments.from,
        to: arguments.to,
        zones: zones.flat_map(|zone| zone.prefixes.clone()).collect(),
    };
    let truths = truths(&arguments.labels)?;
    let told = match &arguments.events {
        Some(path) => events(path)?,
        None => replayed(&arguments.replay, &arguments.config.config)?,
    };
    let (figures, details) = score(&told, &truths, &window);
    let other = match (&arguments.compare, &arguments.compare_config) {
        (Some(path), _) => Some(events(path)?),
        (None, Some(config)) => Some(replayed(&arguments.replay, config)?),
        (None, None) => None,
    };
    let other = other.map(|told| score(&told, &truths, &window).0);
    let violations: Vec<String> = arguments
        .require
        .iter()
        .filter_map(|requirement| requirement.violation(&figures))
        .collect();
    let report = Report {
        difference: other.as_ref().map(|other| compare(&figures, other)),
        other,
        score: figures,
        details: arguments.details.then_some(details),
    };
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &report)?;
    out.write_all(b"\n")?;
    if let Some(difference) = &report.difference {
        eprintln!("{}", difference.sentence);
    }
    anyhow::ensure!(violations.is_empty(), "{}", violations.join("; "));
    Ok(())
}

fn truths(path: &Path) -> anyhow::Result<Vec<Truth>> {
    read_truths(open(path)?).with_context(|| path.display().to_string())
}

fn events(path: &Path) -> anyhow::Result<Vec<Told>> {
    read_events(open(path)?).with_context(|| path.display().to_string())
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let path = match path.to_str() {
        Some("-") => Path::new("/dev/stdin"),
        _ => path,
    };
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(BufReader::new(file))
}

/// The events of a replay by this configuration.
fn replayed(files: &[PathBuf], config: &Path) -> anyhow::Result<Vec<Told>> {
    let written = tempfile::NamedTempFile::new()?;
    replay::run(&ReplayArguments {
        read_as: None,
        config: ConfigArgument {
            config: config.to_owned(),
        },
        files: files.to_vec(),
        events: Some(written.path().to_owned()),
        telemetry: None,
        baselines: None,
        evidence: None,
        shards: 1,
        model: None,
        shadow: None,
    })?;
    events(written.path())
}
