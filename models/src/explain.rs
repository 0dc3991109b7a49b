use serde::Serialize;

use crate::features::{FeatureVector, schema};
use crate::model::Model;

/// One thing that a verdict rests on.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Reason {
    /// In words, such as `flows that stay without answer`.
    pub words: String,
    /// The feature, as the schema names it.
    pub feature: String,
    /// Its value.
    pub value: f32,
    /// Its median in peace.
    pub usual: f32,
    /// By how much the probability of an attack falls if the feature is as usual; the same feature of both windows together.
    pub weight: f32,
}

/// Puts one feature after the other back to what is usual, and sees how far the verdict falls.
pub(crate) fn reasons(model: &Model, features: &FeatureVector, most: usize) -> Vec<Reason> {
    let schema = schema();
    let whole = 1.0 - model.forest.probabilities(features)[0];
    let mut reasons: Vec<Reason> = Vec::new();
    for (number, feature) in schema.iter().enumerate() {
        let Some(base) = feature
            .name
            .strip_prefix("10s.")
            .or_else(|| feature.name.strip_prefix("target."))
        else {
            continue;
        };
        let (Some(value), Some(usual)) = (
            features.get(number).copied(),
            model.usual.get(number).copied(),
        ) else {
            continue;
        };
        if value.is_nan() || usual.is_nan() || value == usual {
            continue;
        }
        let twin = format!("1s.{base}");
        let mut other = *features;
        for (at, one) in schema
            .iter()
            .enumerate()
            .filter(|(at, one)| *at == number || one.name == twin)
        {
            if let (Some(place), Some(usual)) = (other.get_mut(at), model.usual.get(at)) {
                debug_assert!(!one.name.is_empty());
                *place = *usual;
            }
        }
        reasons.push(Reason {
            words: if value > usual {
                feature.high.clone()
            } else {
                feature.low.clone()
            },
            feature: feature.name.clone(),
            value,
            usual,
            weight: whole - (1.0 - model.forest.probabilities(&other)[0]),
        });
    }
    reasons.retain(|reason| reason.weight > 0.005);
    reasons.sort_by(|one, other| {
        other
            .weight
            .total_cmp(&one.weight)
            .then_with(|| one.feature.cmp(&other.feature))
    });
    reasons.truncate(most);
    reasons
}
