//! The gate before a promotion: both models tell clean, labelled data, and only the better one passes.

use serde::Serialize;
use weir_models::{Evaluation, LessonSettings, Model, evaluate};

use super::arguments::{Classes, DataArguments, PromoteArguments};
use super::data;

/// The share of peace that a model without a predecessor may call an attack.
const FALSE_ALARMS: f64 = 0.01;

/// How two models tell the same data.
#[derive(Serialize)]
pub(super) struct Comparison {
    candidate: Figures,
    active: Option<Figures>,
}

/// What decides.
#[derive(Clone, Copy, Serialize)]
struct Figures {
    attack_f1: f64,
    false_alarms: f64,
    macro_f1: f64,
    windows: usize,
}

/// Lets both tell the data.
pub(super) fn compare(
    candidate: &Model,
    active: Option<&Model>,
    arguments: &PromoteArguments,
) -> anyhow::Result<Comparison> {
    let data = DataArguments {
        data: arguments.on.clone(),
        labels: arguments.labels.clone(),
        tolerance: 2.0,
    };
    let figures = |model: &Model| -> anyhow::Result<Figures> {
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
    };
    Ok(Comparison {
        candidate: figures(candidate)?,
        active: active.map(figures).transpose()?,
    })
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
}

impl Comparison {
    /// Better is: no worse in telling attacks, no more false alarms, and better in one of them or in naming.
    pub(super) fn is_better(&self) -> bool {
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

    /// In a sentence.
    pub(super) fn sentence(&self) -> String {
        let words = |one: &Figures| {
            format!(
                "attack F1 {:.4}, false alarms {:.4}, macro F1 {:.4} of {} windows",
                one.attack_f1, one.false_alarms, one.macro_f1, one.windows
            )
        };
        match &self.active {
            Some(active) => format!(
                "candidate: {}; active: {}",
                words(&self.candidate),
                words(active)
            ),
            None => format!("candidate: {}; no model is active", words(&self.candidate)),
        }
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
        let passes = |candidate, active| Comparison { candidate, active }.is_better();
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
}
