//! `weir train`, `weir evaluate`, `weir models`: learning from labelled flows.

mod arguments;
mod card;
mod data;
mod evaluation;
mod gate;
mod registry;
mod shadow;
mod training;

use std::fs;
use std::path::Path;

use anyhow::Context;
use weir_models::{Model, ModelId};

pub(crate) use arguments::{EvaluateArguments, ModelsCommand, TrainArguments};
pub(crate) use evaluation::run as evaluate;
pub(crate) use registry::run as models;
pub(crate) use shadow::{Shadow, of_daemon, show};
pub(crate) use training::run as train;

/// An artefact as it was read; copies keep its octets, and so its id.
struct Artefact {
    model: Model,
    id: ModelId,
    octets: Vec<u8>,
}

/// Reads an artefact.
fn read_model(path: &Path) -> anyhow::Result<Artefact> {
    let octets = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (model, id) = Model::read(&octets).with_context(|| path.display().to_string())?;
    Ok(Artefact { model, id, octets })
}
