//! `weir models`: models taken up, in a folder of the state directory.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use weir_flow_record::ColumnSet;

use super::arguments::{
    AddArguments, ListArguments, ModelsCommand, PromoteArguments, RollbackArguments, ShowArguments,
};
use super::gate::{self, Comparison};
use super::{Artefact, card, read_model, shipped, training};
use crate::config;

/// The folder in the state directory.
pub(super) const FOLDER: &str = "models";

/// Which model is what.
const INDEX: &str = "models.json";

/// Held by whoever changes the index.
const LOCK: &str = "models.lock";

/// What was done to models, as JSON lines.
const AUDIT: &str = "models-audit.ndjson";

/// Runs `weir models`.
pub(crate) fn run(command: ModelsCommand) -> anyhow::Result<()> {
    match command {
        ModelsCommand::List(arguments) => list(&arguments),
        ModelsCommand::Show(arguments) => show(&arguments),
        ModelsCommand::Add(arguments) => add(&arguments),
        ModelsCommand::Promote(arguments) => promote(&arguments),
        ModelsCommand::Rollback(arguments) => rollback(&arguments),
    }
}

/// Which model is active, and which were before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Index {
    active: Option<String>,
    /// Active ones before, the last one last.
    before: Vec<String>,
    /// The one that shipped with the program, when it was put here.
    shipped: Option<String>,
}

/// One line of `list`.
#[derive(Serialize)]
struct Listed {
    id: String,
    state: &'static str,
    name: String,
    classes: Vec<String>,
    windows: usize,
    unseen_macro_f1: Option<f64>,
}

/// A line of the audit log.
#[derive(Serialize)]
struct Audit<'a> {
    time: jiff::Timestamp,
    action: &'a str,
    model: &'a str,
    replaces: Option<&'a str>,
    forced: bool,
    comparison: Option<&'a Comparison>,
}

/// A model that a daemon is to run.
pub(super) struct Watching {
    pub(super) id: String,
    pub(super) path: PathBuf,
    /// Whether it is the active one.
    pub(super) acts: bool,
}

/// The model of an id taken up, of the beginning of one, or the active one.
pub(super) fn find(state_dir: &Path, name: &str) -> anyhow::Result<Artefact> {
    let folder = state_dir.join(FOLDER);
    anyhow::ensure!(folder.is_dir(), "there is no model `{name}`");
    let registry = Registry::at(folder)?;
    match (name, &registry.index.active) {
        ("active", Some(active)) => read_model(&registry.path(active)),
        ("active", None) => anyhow::bail!("no model is active"),
        _ => registry.find(name),
    }
}

/// Puts the model that ships with the program into the folder, in shadow, once: where an operator has deleted it, it stays away. One
/// that shipped before gives way, unless it is or was active. `wanted` false takes it away.
pub(super) fn ship(state_dir: &Path, wanted: bool) -> anyhow::Result<()> {
    let folder = state_dir.join(FOLDER);
    if !wanted && !folder.is_dir() {
        return Ok(());
    }
    let mut registry = Registry::make(folder)?;
    let artefact = shipped::artefact()?;
    let id = artefact.id.0.clone();
    let now = wanted.then_some(&id);
    if registry.index.shipped.as_ref() == now {
        return Ok(());
    }
    let before = registry.index.shipped.take();
    if let Some(before) = before.filter(|before| registry.state(before) == "shadow") {
        match fs::remove_file(registry.path(&before)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    if wanted {
        registry.audit(&Audit {
            time: jiff::Timestamp::now(),
            action: "ship",
            model: &id,
            replaces: None,
            forced: false,
            comparison: None,
        })?;
        registry.take_up(&artefact)?;
    }
    let id = wanted.then_some(id);
    registry.change(|index| {
        index.shipped = id;
        Ok(())
    })
}

/// The models that a daemon is to run: the active one first, then those in shadow; not those retired.
pub(super) fn watching(state_dir: &Path) -> anyhow::Result<Vec<Watching>> {
    let folder = state_dir.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let registry = Registry::at(folder)?;
    let mut ids = registry.ids()?;
    ids.retain(|id| registry.state(id) != "retired");
    ids.sort_by_key(|id| registry.state(id) != "active");
    let watching = ids.into_iter().map(|id| Watching {
        path: registry.path(&id),
        acts: registry.state(&id) == "active",
        id,
    });
    Ok(watching.collect())
}

/// The folder of models.
struct Registry {
    folder: PathBuf,
    index: Index,
}

impl Registry {
    fn open(arguments: &crate::arguments::ConfigArgument) -> anyhow::Result<Self> {
        let settings = config::load(&arguments.config, ColumnSet::NONE)?;
        Self::make(settings.state_dir.join(FOLDER))
    }

    /// In a folder, which is made if it is missing.
    fn make(folder: PathBuf) -> anyhow::Result<Self> {
        let mut maker = fs::DirBuilder::new();
        let made = maker.recursive(true).mode(0o700).create(&folder);
        made.with_context(|| format!("cannot make {}", folder.display()))?;
        Self::at(folder)
    }

    fn at(folder: PathBuf) -> anyhow::Result<Self> {
        let path = folder.join(INDEX);
        let index = match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).with_context(|| path.display().to_string())?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Index::default(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        Ok(Self { folder, index })
    }

    /// The model of an id taken up (or the beginning of one), or of a file.
    fn find(&self, name: &str) -> anyhow::Result<Artefact> {
        if name == shipped::NAME {
            return shipped::artefact();
        }
        let ids = self.ids()?;
        let known: Vec<&String> = ids.iter().filter(|id| id.starts_with(name)).collect();
        match known.as_slice() {
            [id] => read_model(&self.path(id)),
            [] => read_model(Path::new(name)),
            _ => anyhow::bail!("several models begin with {name}"),
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.weirmodel"))
    }

    /// Ids of all files, sorted.
    fn ids(&self) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            ids.extend(
                name.to_str()
                    .and_then(|name| name.strip_suffix(".weirmodel"))
                    .map(str::to_owned),
            );
        }
        ids.sort();
        Ok(ids)
    }

    fn take_up(&self, artefact: &Artefact) -> anyhow::Result<()> {
        training::write(&self.path(&artefact.id.0), &artefact.octets, 0o600)
    }

    /// Changes the index as it is now, not as it was read: a daemon that starts and a command may both do so.
    fn change(
        &mut self,
        change: impl FnOnce(&mut Index) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let path = self.folder.join(LOCK);
        let mut options = OpenOptions::new();
        let lock = options.create(true).append(true).mode(0o600).open(&path);
        let lock = lock.with_context(|| format!("cannot write {}", path.display()))?;
        // Held until it is dropped.
        lock.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        self.index = Self::at(self.folder.clone())?.index;
        change(&mut self.index)?;
        let text = serde_json::to_vec_pretty(&self.index)?;
        training::write(&self.folder.join(INDEX), &text, 0o600)
    }

    /// The line is written before the deed: what is not told is not done.
    fn audit(&self, line: &Audit<'_>) -> anyhow::Result<()> {
        let path = self.folder.join(AUDIT);
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).mode(0o600).open(&path)?;
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        file.write_all(&text)
            .and_then(|()| file.sync_all())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn state(&self, id: &str) -> &'static str {
        if self.index.active.as_deref() == Some(id) {
            "active"
        } else if self.index.before.iter().any(|one| one == id) {
            "retired"
        } else {
            "shadow"
        }
    }
}

fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let registry = Registry::open(&arguments.config)?;
    let mut listed = Vec::new();
    for id in registry.ids()? {
        let artefact = read_model(&registry.path(&id))?;
        let card = artefact.model.card();
        listed.push(Listed {
            state: registry.state(&id),
            name: card.data.name.clone(),
            classes: card.classes.clone(),
            windows: card.data.windows.values().map(|[_, all]| all).sum(),
            unseen_macro_f1: card.checks.unseen_minutes.as_ref().map(|one| one.macro_f1),
            id,
        });
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&listed)?);
        return Ok(());
    }
    for one in &listed {
        let f1 = one
            .unseen_macro_f1
            .map_or_else(|| "-".to_owned(), |f1| format!("{f1:.3}"));
        println!(
            "{}  {:<8} macro F1 {f1:<6} {} windows  {}",
            one.id, one.state, one.windows, one.name
        );
    }
    if listed.is_empty() {
        println!("no models: weir train DATA… -o MODEL, weir models add MODEL");
    }
    Ok(())
}

fn show(arguments: &ShowArguments) -> anyhow::Result<()> {
    // A file needs no configuration.
    let file = arguments
        .model
        .as_deref()
        .filter(|name| Path::new(name).is_file());
    let (Artefact { model, id, .. }, state) = match file {
        Some(file) => (read_model(Path::new(file))?, None),
        None if arguments.model.as_deref() == Some(shipped::NAME) => (shipped::artefact()?, None),
        None => {
            let registry = Registry::open(&arguments.config)?;
            let name = arguments.model.clone().or(registry.index.active.clone());
            let artefact = registry.find(&name.context("no model is active")?)?;
            let state = registry.state(&artefact.id.0);
            (artefact, Some(state))
        }
    };
    if arguments.json {
        println!("{}", serde_json::to_string(model.card())?);
    } else {
        println!(
            "model         {id}{}",
            state.map_or_else(String::new, |state| format!(" ({state})"))
        );
        print!("{}", card::words(model.card()));
    }
    Ok(())
}

fn add(arguments: &AddArguments) -> anyhow::Result<()> {
    let registry = Registry::open(&arguments.config)?;
    let artefact = read_model(&arguments.model)?;
    let id = &artefact.id;
    registry.audit(&Audit {
        time: jiff::Timestamp::now(),
        action: "add",
        model: &id.0,
        replaces: None,
        forced: false,
        comparison: None,
    })?;
    registry.take_up(&artefact)?;
    println!("{id} is taken up, in shadow");
    Ok(())
}

fn promote(arguments: &PromoteArguments) -> anyhow::Result<()> {
    let mut registry = Registry::open(&arguments.config)?;
    let artefact = registry.find(&arguments.model)?;
    let id = &artefact.id;
    let active = registry.index.active.clone();
    anyhow::ensure!(
        active.as_deref() != Some(id.0.as_str()),
        "{id} is active already"
    );
    let held = match &active {
        Some(active) => Some(read_model(&registry.path(active))?),
        None => None,
    };
    let comparison = match arguments.on.is_empty() && arguments.scenarios.is_empty() {
        true => None,
        false => {
            let held = held.as_ref().map(|held| (&held.model, &held.id));
            let candidate = (&artefact.model, &artefact.id);
            Some(gate::compare(candidate, held, arguments)?)
        }
    };
    if let Some(comparison) = &comparison {
        eprintln!("{}", comparison.sentence());
    }
    let better = comparison.as_ref().is_some_and(Comparison::is_better);
    let mut line = Audit {
        time: jiff::Timestamp::now(),
        action: "promote",
        model: &id.0,
        replaces: active.as_deref(),
        forced: !better,
        comparison: comparison.as_ref(),
    };
    if !better && !arguments.force {
        line.action = "refuse";
        line.forced = false;
        registry.audit(&line)?;
        anyhow::bail!(
            "{id} is no better than what it would replace, and was not promoted (--force does it anyway, and says so)"
        );
    }
    registry.audit(&line)?;
    registry.take_up(&artefact)?;
    registry.change(|index| {
        anyhow::ensure!(
            index.active == active,
            "another model has become active meanwhile: promote it again"
        );
        index.before.retain(|one| *one != id.0);
        index.before.extend(active);
        index.active = Some(id.0.clone());
        Ok(())
    })?;
    println!("{id} is active{}", if better { "" } else { ", by force" });
    Ok(())
}

fn rollback(arguments: &RollbackArguments) -> anyhow::Result<()> {
    let mut registry = Registry::open(&arguments.config)?;
    let active = registry
        .index
        .active
        .clone()
        .context("no model is active")?;
    let before = registry.index.before.last().cloned();
    if let Some(before) = &before {
        // What cannot be read shall not become active.
        read_model(&registry.path(before))?;
    }
    registry.audit(&Audit {
        time: jiff::Timestamp::now(),
        action: "rollback",
        model: before.as_deref().unwrap_or("none"),
        replaces: Some(&active),
        forced: false,
        comparison: None,
    })?;
    registry.change(|index| {
        anyhow::ensure!(
            index.active.as_ref() == Some(&active),
            "another model has become active meanwhile"
        );
        index.before.pop();
        index.active = before;
        Ok(())
    })?;
    match &registry.index.active {
        Some(id) => println!("{id} is active, {active} is in shadow"),
        None => println!("no model is active, {active} is in shadow"),
    }
    Ok(())
}
