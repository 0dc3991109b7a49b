//! The gate before a promotion: candidate and active model act in replays of clean, labelled data, and tell its windows; only the
//! better one passes.

use std::path::Path;

use serde::Serialize;
use weir_flow_record::{ColumnSet, Period};
use weir_models::{Evaluation, LessonSettings, Model, ModelId, evaluate};

use super::arguments::{Classes, DataArguments, PromoteArguments};
use super::data;
use super::events::{self, Trial, can_be_replayed};
use crate::config;
use crate::generate::{self, GenerateArguments};

/// The share of peace that a model without a predecessor may call an attack.
const FALSE_ALARMS: f64 = 0.01;

/// How far a model that is better by events may fall behind in F1 and in the share of false alarms, by windows.
const SLACK: [f64; 2] = [0.02, 0.002];

/// How two models tell the same data.
#[derive(Serialize)]
pub(super) struct Comparison {
    #[serde(flatten)]
    windows: Option<Windows>,
    events: Option<Events>,
}

/// By windows.
#[derive(Clone, Copy, Serialize)]
struct Windows {
    candidate: Figures,
    active: Option<Figures>,
}

/// By the events of replays.
#[derive(Clone, Serialize)]
struct Events {
    candidate: events::Figures,
    active: Option<events::Figures>,
    /// Of the pipeline without a model.
    without: events::Figures,
}

/// What decides of windows.
#[derive(Clone, Copy, Serialize)]
struct Figures {
    attack_f1: f64,
    false_alarms: f64,
    macro_f1: f64,
    windows: usize,
}

/// Lets both tell the data.
pub(super) fn compare(
    candidate: (&Model, &ModelId),
    active: Option<(&Model, &ModelId)>,
    arguments: &PromoteArguments,
) -> anyhow::Result<Comparison> {
    let windows = match arguments.on.is_empty() {
        true => None,
        false => Some(Windows {
            candidate: windows(candidate.0, arguments)?,
            active: active
                .map(|(model, _)| windows(model, arguments))
                .transpose()?,
        }),
    };
    let folder = tempfile::tempdir()?;
    let trials = trials(arguments, folder.path())?;
    let run = |model| events::run_all(&trials, model);
    let events = match trials.is_empty() {
        true => None,
        false => Some(Events {
            candidate: run(Some(candidate))?,
            active: active.map(|model| run(Some(model))).transpose()?,
            without: run(None)?,
        }),
    };
    if let Some(events) = &events {
        anyhow::ensure!(
            events.without.has_attacks(),
            "a comparison by events needs labels of attacks"
        );
    }
    Ok(Comparison { windows, events })
}

fn windows(model: &Model, arguments: &PromoteArguments) -> anyhow::Result<Figures> {
    let data = DataArguments {
        data: arguments.on.clone(),
        labels: arguments.labels.clone(),
        tolerance: 2.0,
    };
    let taught = data::read(&data, Classes::of(model), LessonSettings::plain())?;
    let has = |attack: bool| {
        taught
            .samples
            .counts()
            .iter()
            .any(|(class, _)| (class != weir_models::NORMAL) == attack)
    };
    anyhow::ensure!(
        has(true) && has(false),
        "a comparison needs attacks and peace"
    );
    Ok(Figures::of(&evaluate(model, &taught.samples)))
}

/// What can be replayed: captures and stored flows with labels by the daemon's configuration, scenarios by their own.
fn trials(arguments: &PromoteArguments, folder: &Path) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    if let Some(labels) = &arguments.labels
        && can_be_replayed(&arguments.on)
    {
        trials.push(Trial {
            settings: config::load(&arguments.config.config, ColumnSet::NONE)?,
            files: arguments.on.clone(),
            labels: labels.clone(),
        });
    }
    for (number, scenario) in arguments.scenarios.iter().enumerate() {
        let path = |what: &str| folder.join(format!("{number}-{what}"));
        let (capture, labels, config) = (path("pcap"), path("csv"), path("toml"));
        generate::run(&GenerateArguments {
            scenario: Some(scenario.clone()),
            output: Some(capture.clone()),
            labels: Some(labels.clone()),
            weir_config: Some(config.clone()),
            seed: arguments.seed,
            duration: None,
            to: None,
            remote: false,
            speed: 1.0,
            rate: None,
            at_most: Period(std::time::Duration::ZERO),
            list: false,
            show: false,
        })?;
        trials.push(Trial {
            settings: config::load(&config, ColumnSet::NONE)?,
            files: vec![capture],
            labels,
        });
    }
    Ok(trials)
}

impl Figures {
    fn of(evaluation: &Evaluation) -> Self {
        Self {
            attack_f1: evaluation.attack.f1,
            false_alarms: evaluation.attack.false_alarms,
            macro_f1: evaluation.macro_f1,
            windows: evaluation.windows,
        }
    }

    fn words(&self) -> String {
        format!(
            "attack F1 {:.4}, false alarms {:.4}, macro F1 {:.4} of {} windows",
            self.attack_f1, self.false_alarms, self.macro_f1, self.windows
        )
    }
}

impl Windows {
    /// Better is: no worse in telling attacks, no more false alarms, and better in one of them or in naming.
    fn is_better(&self) -> bool {
        let new = &self.candidate;
        match &self.active {
            None => new.attack_f1 > 0.5 && new.false_alarms <= FALSE_ALARMS,
            Some(old) => {
                let no_worse = new.attack_f1 >= old.attack_f1
                    && new.false_alarms <= old.false_alarms
                    && new.macro_f1 >= old.macro_f1;
                no_worse
                    && (new.attack_f1 > old.attack_f1
                        || new.false_alarms < old.false_alarms
                        || new.macro_f1 > old.macro_f1)
            }
        }
    }

    /// Whether it is about as good: enough for a model that is better by events.
    fn is_near(&self) -> bool {
        let new = &self.candidate;
        match &self.active {
            None => new.false_alarms <= FALSE_ALARMS,
            Some(old) => {
                let [f1, false_alarms] = SLACK;
                new.attack_f1 >= old.attack_f1 - f1
                    && new.false_alarms <= old.false_alarms + false_alarms
            }
        }
    }
}

impl Events {
    /// No worse than the active model, nor than no model at all.
    fn is_no_worse(&self) -> bool {
        let active = self.active.as_ref().unwrap_or(&self.without);
        self.candidate.is_no_worse(active) && self.candidate.is_no_worse(&self.without)
    }

    fn is_better(&self) -> bool {
        let active = self.active.as_ref().unwrap_or(&self.without);
        self.is_no_worse() && self.candidate.is_better(active)
    }
}

impl Comparison {
    /// Events decide where there are any, and windows where events are alike: what is better by events must be about as good by
    /// windows, and what is worse by events never passes.
    pub(super) fn is_better(&self) -> bool {
        match (&self.events, &self.windows) {
            (None, None) => false,
            (None, Some(windows)) => windows.is_better(),
            (Some(events), None) => events.is_better(),
            (Some(events), Some(windows)) => {
                (events.is_better() && windows.is_near())
                    || (events.is_no_worse() && windows.is_better())
            }
        }
    }

    /// In sentences.
    pub(super) fn sentence(&self) -> String {
        let mut lines = Vec::new();
        let mut both = |what: &str, candidate: String, active: Option<String>| {
            lines.push(match active {
                Some(active) => format!("{what}: candidate: {candidate}; active: {active}"),
                None => format!("{what}: candidate: {candidate}; no model is active"),
            });
        };
        if let Some(windows) = &self.windows {
            let active = windows.active.as_ref().map(Figures::words);
            both("windows", windows.candidate.words(), active);
        }
        if let Some(events) = &self.events {
            let active = events.active.as_ref().map(events::Figures::words);
            both("events", events.candidate.words(), active);
            lines.push(format!(
                "events: without a model: {}",
                events.without.words()
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(attack_f1: f64, false_alarms: f64, macro_f1: f64) -> Figures {
        Figures {
            attack_f1,
            false_alarms,
            macro_f1,
            windows: 100,
        }
    }

    #[test]
    fn only_the_better_passes() {
        let passes = |candidate, active| {
            Comparison {
                windows: Some(Windows { candidate, active }),
                events: None,
            }
            .is_better()
        };
        let active = Some(figures(0.9, 0.01, 0.8));
        assert!(passes(figures(0.95, 0.01, 0.8), active));
        assert!(passes(figures(0.9, 0.005, 0.8), active));
        assert!(
            !passes(figures(0.9, 0.01, 0.8), active),
            "equal is not better"
        );
        assert!(
            !passes(figures(0.95, 0.02, 0.9), active),
            "bought with false alarms"
        );
        assert!(!passes(figures(0.89, 0.0, 0.9), active), "misses more");
        assert!(passes(figures(0.6, 0.01, 0.1), None));
        assert!(
            !passes(figures(0.99, 0.02, 0.9), None),
            "the first has a bound too"
        );
    }

    #[test]
    fn events_decide_where_there_are_any() {
        let told = |detected, false_alarms| events::Figures::told(10, detected, false_alarms);
        let passes = |candidate, active, by_windows: [Figures; 2]| {
            let [new, old] = by_windows;
            Comparison {
                windows: Some(Windows {
                    candidate: new,
                    active: Some(old),
                }),
                events: Some(Events {
                    candidate,
                    active: Some(active),
                    without: told(4, 0),
                }),
            }
            .is_better()
        };
        let old = figures(0.9, 0.01, 0.8);
        assert!(passes(
            told(6, 0),
            told(5, 0),
            [figures(0.89, 0.01, 0.7), old]
        ));
        assert!(!passes(
            told(6, 0),
            told(5, 0),
            [figures(0.8, 0.01, 0.9), old]
        ));
        assert!(passes(
            told(5, 0),
            told(5, 0),
            [figures(0.95, 0.01, 0.8), old]
        ));
        assert!(!passes(told(5, 0), told(5, 0), [old, old]));
        assert!(!passes(
            told(4, 0),
            told(5, 0),
            [figures(0.99, 0.0, 0.9), old]
        ));
        assert!(
            !passes(told(9, 1), told(5, 1), [figures(0.99, 0.0, 0.9), old]),
            "a new false alarm that the pipeline without a model does not have"
        );
    }
}
