//! `weir baseline …`: what is normal, shown, exported and imported.

mod orders;
mod routes;
mod text;

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use hyper::Method;
use serde_json::Value;
use weir_baseline::{BaselineSettings, Baselines};
use weir_flow_record::{ColumnSet, Direction, Timestamp};
use weir_state::{Batch, Stage, State};

pub(crate) use self::orders::{BaselineOrder, Imported, answer, import_reported};
pub(crate) use self::routes::routes;
use crate::admin;
use crate::arguments::{
    BaselineCommand, BaselineExportArguments, BaselineImportArguments, BaselineShowArguments,
};
use crate::config::{self, Settings};
use crate::dots::runtime;

/// Runs a command.
pub(crate) fn run(command: &BaselineCommand) -> anyhow::Result<()> {
    match command {
        BaselineCommand::Show(arguments) => show(arguments),
        BaselineCommand::Export(arguments) => export(arguments),
        BaselineCommand::Import(arguments) => import(arguments),
    }
}

fn show(arguments: &BaselineShowArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let direction = if arguments.out {
        Direction::Out
    } else {
        Direction::In
    };
    let order = match &arguments.target {
        Some(target) => BaselineOrder::Show {
            target: target.clone(),
            direction,
        },
        None => BaselineOrder::List {
            direction,
            most: arguments.most,
        },
    };
    let told = ask(&settings, &order)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&told)?);
    } else if arguments.target.is_some() {
        print!("{}", text::target(&serde_json::from_value(told)?));
    } else {
        print!("{}", text::list(&serde_json::from_value::<Vec<_>>(told)?));
    }
    Ok(())
}

fn export(arguments: &BaselineExportArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let most = arguments.targets;
    let body = ask(&settings, &BaselineOrder::Export { most })?;
    let text = format!("{}\n", serde_json::to_string_pretty(&body)?);
    match &arguments.output {
        Some(path) => {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        }
        None => Ok(std::io::stdout().lock().write_all(text.as_bytes())?),
    }
}

fn import(arguments: &BaselineImportArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let path = &arguments.file;
    let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let body: Value =
        serde_json::from_slice(&file).with_context(|| format!("{} is no JSON", path.display()))?;
    let told = ask(&settings, &BaselineOrder::Import { body })?;
    let imported: Imported = serde_json::from_value(told)?;
    for target in &imported.targets {
        println!("imported: {target}");
    }
    for reason in &imported.refused {
        eprintln!("left out: {reason}");
    }
    if imported.targets.is_empty() {
        bail!("nothing was imported");
    }
    Ok(())
}

/// Asks the running daemon, or without one the state file.
fn ask(settings: &Settings, order: &BaselineOrder) -> anyhow::Result<Value> {
    let asked = admin::ask(
        &settings.state_dir,
        Method::POST,
        "/api/v1/baselines",
        Some(order),
    );
    if let Some(octets) = runtime()?.block_on(asked)? {
        return Ok(serde_json::from_slice(&octets)?);
    }
    let state = State::open(&settings.state_dir)?;
    let mut baselines = restored(&settings.baseline, &state)?;
    let now = Timestamp::from_nanos(weir_collector::wall_clock());
    let told = answer(&mut baselines, now, order)?;
    if matches!(order, BaselineOrder::Import { .. }) {
        keep(&state, &mut baselines)?;
    }
    Ok(told)
}

/// What the state file holds. Rows that cannot be read are left out and said.
pub(crate) fn restored(settings: &BaselineSettings, state: &State) -> anyhow::Result<Baselines> {
    let mut baselines = Baselines::new(settings.clone());
    state.for_each(Stage::Baselines, |key, value| {
        if let Err(error) = baselines.restore(key, value) {
            tracing::warn!(target = %String::from_utf8_lossy(key), %error, "a baseline is lost");
        }
    })?;
    Ok(baselines)
}

fn keep(state: &State, baselines: &mut Baselines) -> anyhow::Result<()> {
    let mut batch = Batch::new();
    for row in baselines.save_all() {
        match &row.value {
            Some(value) => batch.put(Stage::Baselines, &row.key, value),
            None => batch.delete(Stage::Baselines, &row.key),
        }
    }
    Ok(state.write(&batch)?)
}

/// Baselines that an earlier replay has left in a file; none where there is no such file.
pub(crate) fn from_file(settings: &BaselineSettings, path: &Path) -> anyhow::Result<Baselines> {
    let mut baselines = Baselines::new(settings.clone());
    let file = match fs::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(baselines),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let rows = weir_baseline::from_archive(&file)
        .with_context(|| format!("cannot read {}", path.display()))?;
    for row in rows {
        let restored = baselines.restore(&row.key, &row.value.unwrap_or_default());
        restored.with_context(|| {
            let target = String::from_utf8_lossy(&row.key);
            format!("cannot read `{target}` of {}", path.display())
        })?;
    }
    Ok(baselines)
}

/// Leaves baselines in a file; one that was there is replaced as a whole.
pub(crate) fn to_file(baselines: &mut Baselines, path: &Path) -> anyhow::Result<()> {
    let file = weir_baseline::to_archive(&baselines.save_all());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, file)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
