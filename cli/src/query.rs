//! `weir query`: SQL over stored flows, attacks and labels.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use weir_flow_record::ColumnSet;
use weir_flow_store::Query;

use crate::arguments::{AnswerFormat, QueryArguments};
use crate::config;

/// Runs the command.
pub(crate) fn run(arguments: &QueryArguments) -> anyhow::Result<()> {
    let sources = Sources::of(arguments)?;
    let mut query = Query::default();
    // A table whose source is configured but not there yet is missed by statements that name it only.
    if let Some(store) = &sources.store {
        query = match query.with_flows(store) {
            Ok(query) => query,
            Err(error) if arguments.statement.contains("flows") => return Err(error.into()),
            Err(_) => Query::default(),
        };
    }
    if let Some(path) = &sources.events {
        let (with, skipped) = query.with_attacks(open(path)?)?;
        warn(path, skipped);
        query = with;
    }
    if let Some(path) = &sources.labels {
        let (with, skipped) = query.with_labels(open(path)?)?;
        warn(path, skipped);
        query = with;
    }
    let mut answer = query.run(&arguments.statement)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    match arguments.format {
        AnswerFormat::Table => answer.write_table(&mut out)?,
        AnswerFormat::Csv => answer.write_csv(&mut out)?,
        AnswerFormat::Json => answer.write_json(&mut out)?,
    }
    out.flush().context("cannot write the answer")
}

/// Where tables come from; `None` = not there.
struct Sources {
    store: Option<PathBuf>,
    events: Option<PathBuf>,
    labels: Option<PathBuf>,
}

impl Sources {
    /// What the command line names, else the configuration; which is not read where it is not needed.
    fn of(arguments: &QueryArguments) -> anyhow::Result<Self> {
        let mut sources = Self {
            store: arguments.store.clone(),
            events: arguments.events.clone(),
            labels: arguments.labels.clone(),
        };
        let named = sources.store.is_some() || sources.events.is_some() || sources.labels.is_some();
        if !named {
            let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
            sources.store = settings.store.parquet.map(|parquet| parquet.folder);
            sources.events = settings.events.filter(|path| path.exists());
        }
        Ok(sources)
    }
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(BufReader::new(file))
}

fn warn(path: &Path, skipped: u64) {
    if skipped > 0 {
        tracing::warn!(
            "{}: {skipped} lines are skipped: they do not fit the format",
            path.display()
        );
    }
}
