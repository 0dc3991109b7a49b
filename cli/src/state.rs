//! `weir state …`: what survives a restart, shown, backed up and restored; of the running daemon, else of its file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::Method;
use serde::{Deserialize, Serialize};
use weir_collector::wall_clock;
use weir_flow_record::ColumnSet;
use weir_standby::StandbyView;
use weir_state::{StageView, State, StateError, restore};

use crate::admin;
use crate::arguments::{
    StateBackupArguments, StateCommand, StateRestoreArguments, StateShowArguments,
};
use crate::config::{self, Settings};
use crate::dots::runtime;

/// Where the daemon has put a backup, until the command takes it away.
#[derive(Debug, Serialize, Deserialize)]
struct BackedUp {
    file: PathBuf,
}

/// Runs a command.
pub(crate) fn run(command: &StateCommand) -> anyhow::Result<()> {
    match command {
        StateCommand::Show(arguments) => show(arguments),
        StateCommand::Backup(arguments) => back_up(arguments),
        StateCommand::Restore(arguments) => put_back(arguments),
    }
}

fn show(arguments: &StateShowArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let asked = admin::ask::<()>(&settings.state_dir, Method::GET, "/api/v1/state", None);
    let octets = match runtime()?.block_on(asked)? {
        Some(octets) => octets.to_vec(),
        None => serde_json::to_vec(&open(&settings)?.stages()?)?,
    };
    let stages: Vec<StageView<String>> = serde_json::from_slice(&octets)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&stages)?);
        return Ok(());
    }
    println!(
        "{:<16} {:>7} {:>10} {:>14}",
        "STAGE", "VERSION", "ROWS", "OCTETS"
    );
    for stage in &stages {
        let StageView {
            stage,
            version,
            rows,
            octets,
        } = stage;
        println!("{stage:<16} {version:>7} {rows:>10} {octets:>14}");
    }
    if let Some(pair) = pair(&settings)? {
        println!("{pair}");
    }
    Ok(())
}

/// How the pair stands that the running daemon is one of.
fn pair(settings: &Settings) -> anyhow::Result<Option<String>> {
    let asked = admin::ask::<()>(&settings.state_dir, Method::GET, "/api/v1/standby", None);
    let Some(octets) = runtime()?.block_on(asked)? else {
        return Ok(None);
    };
    let pair: Option<StandbyView> = serde_json::from_slice(&octets)?;
    Ok(pair.map(|pair| {
        let step = match (pair.connected, pair.in_step) {
            (_, true) => "in step",
            (true, false) => "connected, not in step",
            (false, _) => "not connected",
        };
        let (name, role, epoch) = (&pair.name, pair.role.name(), pair.epoch);
        format!(
            "`{name}` is {role}, epoch {epoch}; `{}` is {step}",
            pair.peer
        )
    }))
}

fn back_up(arguments: &StateBackupArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let path = &arguments.file;
    if path.exists() {
        bail!("{} is there already", path.display());
    }
    let wish = admin::ask::<()>(
        &settings.state_dir,
        Method::POST,
        "/api/v1/state/backup",
        None,
    );
    match runtime()?.block_on(wish)? {
        Some(octets) => {
            let made: BackedUp = serde_json::from_slice(&octets)?;
            take_away(&made.file, path).with_context(|| {
                format!("cannot move {} to {}", made.file.display(), path.display())
            })
        }
        None => Ok(open(&settings)?.back_up(path)?),
    }
}

/// Moves a file, over the border of a file system too; no file is replaced.
fn take_away(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) => {
            let mut options = fs::OpenOptions::new();
            use std::os::unix::fs::OpenOptionsExt;
            options.write(true).create_new(true).mode(0o600);
            let mut target = options.open(to)?;
            io::copy(&mut fs::File::open(from)?, &mut target)?;
            target.sync_all()?;
        }
        Ok(()) => {}
    }
    fs::remove_file(from)
}

fn put_back(arguments: &StateRestoreArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let restored = restore(&settings.state_dir, &arguments.file);
    let aside = restored.map_err(|error| match error {
        StateError::InUse { .. } => anyhow::Error::new(error).context("stop the daemon first"),
        error => error.into(),
    })?;
    if let Some(aside) = aside {
        eprintln!("what was there is in {}", aside.display());
    }
    Ok(())
}

fn open(settings: &Settings) -> anyhow::Result<State> {
    let dir = &settings.state_dir;
    State::open_existing(dir).with_context(|| format!("no daemon runs on {}", dir.display()))
}

/// `/api/v1/state`, on the admin socket.
pub(crate) fn routes(state: Arc<State>) -> Router {
    Router::new()
        .route("/api/v1/state", get(stages))
        .route("/api/v1/state/backup", post(backed_up))
        .with_state(state)
}

async fn stages(Shared(state): Shared<Arc<State>>) -> Response {
    // All rows are read.
    answer(tokio::task::spawn_blocking(move || state.stages()).await)
}

async fn backed_up(Shared(state): Shared<Arc<State>>) -> Response {
    let written = tokio::task::spawn_blocking(move || {
        let name = format!("backup-{:x}.redb", wall_clock());
        let file = state.path().with_file_name(name);
        state.back_up(&file)?;
        Ok(BackedUp { file })
    });
    answer(written.await)
}

fn answer<T: Serialize>(done: Result<Result<T, StateError>, tokio::task::JoinError>) -> Response {
    match done {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
