use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;
use weir_flow_record::ColumnSet;
use weir_models::{
    Evaluation, LessonCounters, LessonSettings, Model, ModelId, Samples, SplitBy, evaluate, split,
    train,
};

use super::arguments::{Classes, EvaluateArguments, Split};
use super::events::{self, Trial, can_be_replayed};
use super::{Artefact, data, read_model};
use crate::config;

/// What is printed: the design's keys, and how they came about.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    #[serde(flatten)]
    evaluation: Evaluation,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Events>,
    counters: LessonCounters,
}

/// How the pipeline tells the data's attacks.
#[derive(Serialize)]
struct Events {
    with_model: events::Figures,
    without: events::Figures,
}

/// What is printed of a split: each part, and the means over them.
#[derive(Serialize)]
struct SplitReport<'a> {
    model: &'a str,
    split: String,
    macro_f1: f64,
    accuracy: f64,
    calibration_error: f64,
    folds: BTreeMap<String, Evaluation>,
    counters: LessonCounters,
}

/// Runs `weir evaluate`.
pub(crate) fn run(arguments: &EvaluateArguments) -> anyhow::Result<()> {
    let Artefact { model, id, .. } = read_model(&arguments.model)?;
    let classes = Classes::of(&model);
    let mut out = std::io::stdout().lock();
    match arguments.split {
        None => {
            let settings = LessonSettings {
                thinning: vec![arguments.thin],
                seed: model.card().settings.seed,
                ..LessonSettings::plain()
            };
            let taught = data::read(&arguments.data, classes, settings)?;
            let evaluation = evaluate(&model, &taught.samples);
            serde_json::to_writer(
                &mut out,
                &Report {
                    model: &id.0,
                    evaluation,
                    events: replayed(arguments, (&model, &id))?,
                    counters: taught.counters,
                },
            )?;
        }
        Some(by) => {
            let mut settings = model.card().settings.lessons.clone();
            if !settings.thinning.contains(&arguments.thin) {
                settings.thinning.push(arguments.thin);
            }
            let taught = data::read(&arguments.data, classes, settings)?;
            let folds = folds(&model, &taught.samples, by, arguments.thin)?;
            let mean = |of: fn(&Evaluation) -> f64| {
                folds.values().map(of).sum::<f64>() / folds.len().max(1) as f64
            };
            let report = SplitReport {
                model: &id.0,
                split: format!("{by:?}").to_lowercase(),
                macro_f1: mean(|one| one.macro_f1),
                accuracy: mean(|one| one.accuracy),
                calibration_error: mean(|one| one.calibration_error),
                folds,
                counters: taught.counters,
            };
            serde_json::to_writer(&mut out, &report)?;
        }
    }
    out.write_all(b"\n")?;
    Ok(())
}

/// The score of events, where it is asked for.
fn replayed(
    arguments: &EvaluateArguments,
    model: (&Model, &ModelId),
) -> anyhow::Result<Option<Events>> {
    let Some(labels) = arguments.data.labels.as_ref().filter(|_| arguments.replay) else {
        return Ok(None);
    };
    anyhow::ensure!(
        can_be_replayed(&arguments.data.data),
        "only captures of exports and stored flows can be replayed"
    );
    let trial = [Trial {
        settings: config::load(&arguments.config.config, ColumnSet::NONE)?,
        files: arguments.data.data.clone(),
        labels: labels.clone(),
    }];
    Ok(Some(Events {
        with_model: events::run_all(&trial, Some(model))?,
        without: events::run_all(&trial, None)?,
    }))
}

/// Learns from one side of each division and tells the other.
fn folds(
    model: &Model,
    samples: &Samples,
    by: Split,
    thin: u32,
) -> anyhow::Result<BTreeMap<String, Evaluation>> {
    let by = match by {
        Split::Time => SplitBy::Time,
        Split::Family => SplitBy::Family,
        Split::Capture => SplitBy::Capture,
    };
    let mut folds = BTreeMap::new();
    for fold in split(samples, by) {
        let learned = rows(samples, &fold.train, |_| true);
        let told = rows(samples, &fold.test, |row| samples.origin(row).2 == thin);
        if told.is_empty() {
            tracing::warn!(fold = fold.name, "nothing of it is long enough to be told");
            continue;
        }
        match train(
            &learned,
            &model.card().settings,
            LessonCounters::default(),
            weir_models::Data::default(),
        ) {
            Ok(trained) => {
                folds.insert(fold.name, evaluate(&trained, &told));
            }
            Err(error) => {
                tracing::warn!(fold = fold.name, %error, "nothing can be learned from what is left")
            }
        }
    }
    anyhow::ensure!(!folds.is_empty(), "the data cannot be divided so");
    Ok(folds)
}

fn rows(samples: &Samples, wanted: &[usize], keep: impl Fn(usize) -> bool) -> Samples {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    samples.filter(|row| wanted.binary_search(&row).is_ok() && keep(row))
}

impl Classes {
    /// What the model tells apart: data are named alike to be compared.
    pub(super) fn of(model: &Model) -> Self {
        match model.card().data.classes.as_str() {
            "asis" => Self::AsIs,
            "binary" => Self::Binary,
            _ => Self::Family,
        }
    }
}
