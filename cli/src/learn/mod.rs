//! `weir train`, `weir evaluate`, `weir models`: learning from labelled flows.

mod arguments;
mod card;
mod data;
mod evaluation;
mod events;
mod gate;
mod joining;
mod registry;
mod shipped;
mod training;
mod watcher;
mod watchers;
mod zones;

use std::fs;
use std::path::Path;

use anyhow::Context;
use weir_models::{Model, ModelId};

use crate::config::Settings;

pub(crate) use arguments::{EvaluateArguments, ModelsCommand, TrainArguments};
pub(crate) use evaluation::run as evaluate;
pub(crate) use joining::{JoinArguments, run as join};
pub(crate) use registry::run as models;
pub(crate) use training::run as train;
pub(crate) use watcher::Watcher;
pub(crate) use watchers::{Watchers, WatchersView};

/// An artefact as it was read; copies keep its octets, and so its id.
struct Artefact {
    model: Model,
    id: ModelId,
    octets: Vec<u8>,
}

/// A model's file, the id of one taken up (or the beginning of one), `active`, or `default`.
pub(crate) fn find_model(name: &str, settings: &Settings) -> anyhow::Result<(Model, ModelId)> {
    let Artefact { model, id, .. } = match Path::new(name).is_file() {
        true => read_model(Path::new(name))?,
        false if name == shipped::NAME => shipped::artefact()?,
        false => registry::find(&settings.state_dir, name)?,
    };
    Ok((model, id))
}

/// Reads an artefact.
fn read_model(path: &Path) -> anyhow::Result<Artefact> {
    let octets = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (model, id) = Model::read(&octets).with_context(|| path.display().to_string())?;
    Ok(Artefact { model, id, octets })
}
