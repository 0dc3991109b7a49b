use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::evaluate::Evaluation;
use crate::lessons::LessonCounters;
use crate::train::TrainSettings;
use crate::trust::Agreement;

/// What stands in a model's file beside the numbers: the model card.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Card {
    /// The features' version.
    pub schema_version: u32,
    /// The features' hash.
    pub schema_hash: String,
    /// The classes; the first is peace.
    pub classes: Vec<String>,
    /// All parameters, the seed among them.
    pub settings: TrainSettings,
    /// What it learned from.
    pub data: Data,
    /// How it did in training.
    pub checks: Checks,
}

/// What a model learned from.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Data {
    /// The model's name.
    pub name: String,
    /// How attacks were named: `family`, `asis` or `binary`.
    pub classes: String,
    /// Where the data came from: files with their SHA-256, or the command that generates them.
    pub sources: Vec<String>,
    /// Their licences, as far as known.
    pub licences: Vec<String>,
    /// Known weaknesses of data and model.
    pub weaknesses: Vec<String>,
    /// SHA-256 over all windows and labels.
    pub fingerprint: String,
    /// Windows of each class: as they are, and with those thinned.
    pub windows: BTreeMap<String, [usize; 2]>,
    /// The captures.
    pub captures: Vec<String>,
    /// What did not become a window.
    pub counters: LessonCounters,
    /// How well each source of labels agrees with all others, where there are several.
    pub agreements: Vec<Agreement>,
}

/// How a model did in training.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Checks {
    /// On every window, by the trees that had not seen its minute: an optimistic figure, since an attack lasts for minutes.
    pub unseen_minutes: Option<Evaluation>,
    /// The mean F1 of multinomial logistic regression on minutes held back.
    pub logistic_macro_f1: Option<f64>,
    /// The mean F1 of the forest on the same windows, by the trees that had not seen their minute.
    pub forest_macro_f1: Option<f64>,
    /// Of each family of attacks, the share of windows that a forest which never learned it calls attacks of some kind.
    pub never_learned: BTreeMap<String, f64>,
    /// Why there is no picture of peace, if there is none.
    pub anomaly: Option<String>,
}
