use crate::anomaly::Anomaly;
use crate::artefact::Card;
use crate::calibration::Calibration;
use crate::drift::{Drift, Reference};
use crate::explain::{self, Reason};
use crate::features::FeatureVector;
use crate::forest::{Forest, MAX_CLASSES};
use crate::samples::NORMAL;

/// What a model learned, with its card.
#[derive(Clone, PartialEq, Debug)]
pub struct Model {
    pub(crate) card: Card,
    pub(crate) forest: Forest,
    pub(crate) calibration: Calibration,
    /// The vote above which a window is called an attack.
    pub(crate) point: f32,
    pub(crate) anomaly: Option<Anomaly>,
    /// The medians of peace, one for each feature: what "usual" means in explanations.
    pub(crate) usual: Vec<f32>,
    pub(crate) reference: Reference,
}

/// What a model says of a window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Verdict {
    /// The probability of an attack of a kind that the model knows, calibrated.
    pub attack: f32,
    /// The likeliest kind, as a number in the card's classes; 0 (peace) below the model's operating point. That lies where kinds
    /// never learned are found best, so that an attack may be called one whose probability, as a known kind, is below a half.
    pub class: usize,
    /// The probability of that class.
    pub confidence: f32,
    /// How often peace looks as strange, where the model has learned that: 0.001 is once in a thousand windows.
    pub anomaly: Option<f32>,
}

impl Model {
    /// The model card.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Judges a window. Allocates nothing.
    pub fn judge(&self, features: &FeatureVector) -> Verdict {
        let votes = self.forest.probabilities(features);
        let vote = 1.0 - votes[0];
        let attack = self.calibration.probability(vote);
        let known = self.card.classes.len().min(MAX_CLASSES);
        let attacks = votes.get(1..known.max(1)).unwrap_or(&[]);
        let likeliest = 1 + crate::argmax(attacks);
        let share = votes.get(likeliest).copied().unwrap_or(0.0)
            / attacks.iter().sum::<f32>().max(f32::MIN_POSITIVE);
        let anomaly = self.anomaly.as_ref().map(|anomaly| anomaly.tail(features));
        if vote > self.point && !attacks.is_empty() {
            Verdict {
                attack,
                class: likeliest,
                confidence: attack * share,
                anomaly,
            }
        } else {
            Verdict {
                attack,
                class: 0,
                confidence: 1.0 - attack,
                anomaly,
            }
        }
    }

    /// The name of a class.
    pub fn class(&self, class: usize) -> &str {
        self.card.classes.get(class).map_or(NORMAL, String::as_str)
    }

    /// What the verdict rests on: the features without which it would be weaker, strongest first. Costs about a hundred
    /// judgements, so it is for what is told, not for every window.
    pub fn explain(&self, features: &FeatureVector, most: usize) -> Vec<Reason> {
        explain::reasons(self, features, most)
    }

    /// The vote of its trees above which a window is called an attack.
    pub fn operating_point(&self) -> f32 {
        self.point
    }

    /// A comparison of windows seen with those of training.
    pub fn drift(&self) -> Drift {
        Drift::new(self.reference.clone())
    }

    /// The picture of peace, where there was enough of it.
    pub fn anomaly(&self) -> Option<&Anomaly> {
        self.anomaly.as_ref()
    }

    /// The forest.
    pub fn forest(&self) -> &Forest {
        &self.forest
    }
}
