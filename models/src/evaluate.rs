use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::features::FeatureVector;
use crate::model::{Model, Verdict};
use crate::samples::{NORMAL, Samples};

/// How well a model tells windows, as `weir evaluate` prints it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Evaluation {
    /// Windows told.
    pub windows: usize,
    /// Per class of the data; a class that the model does not know has recall 0.
    pub classes: BTreeMap<String, ClassScore>,
    /// The mean F1 of the classes that the data hold.
    pub macro_f1: f64,
    /// The share of windows told right.
    pub accuracy: f64,
    /// The mean distance between confidence and how often it was right, over ten bins of confidence.
    pub calibration_error: f64,
    /// Attack against peace, whatever the kind.
    pub attack: BinaryScore,
    /// The picture of peace alone, where the model has one.
    pub anomaly: Option<AnomalyScore>,
    /// What was told of what: truth → told → windows.
    pub confusion: BTreeMap<String, BTreeMap<String, usize>>,
}

/// One class.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ClassScore {
    /// Of the windows told to be so, the share that are.
    pub precision: f64,
    /// Of the windows that are so, the share told.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// Windows that are so.
    pub support: usize,
}

/// Attack against peace.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct BinaryScore {
    /// Of the windows told to be attacks, the share that are.
    pub precision: f64,
    /// Of the attacks' windows, the share told.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// The share of windows of peace told to be attacks.
    pub false_alarms: f64,
    /// The chance that a window of attack has a higher probability than one of peace; none if one is missing.
    pub auc: Option<f64>,
}

/// The picture of peace as a judge of its own.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct AnomalyScore {
    /// The share of attacks' windows stranger than all but one in a hundred of training's peace.
    pub recall_at_1_percent: f64,
    /// The share of peace that is so too: 0.01 if this peace is like that of training.
    pub false_alarms_at_1_percent: f64,
    /// The chance that a window of attack is stranger than one of peace; none if one is missing.
    pub auc: Option<f64>,
}

/// Lets a model tell the samples.
pub fn evaluate(model: &Model, samples: &Samples) -> Evaluation {
    let verdicts: Vec<Verdict> = (0..samples.len())
        .filter_map(|row| <&FeatureVector>::try_from(samples.features(row)).ok())
        .map(|features| model.judge(features))
        .collect();
    let told: Vec<&str> = verdicts
        .iter()
        .map(|verdict| model.class(verdict.class))
        .collect();
    let mut evaluation = score(samples, &told);
    evaluation.calibration_error = calibration_error(samples, &told, &verdicts);
    let attacks: Vec<f32> = verdicts.iter().map(|verdict| verdict.attack).collect();
    evaluation.attack.auc = auc(samples, &attacks);
    evaluation.anomaly = anomaly_score(samples, &verdicts);
    evaluation
}

/// Scores of labels told, without probabilities.
pub(crate) fn score(samples: &Samples, told: &[&str]) -> Evaluation {
    let mut evaluation = Evaluation {
        windows: told.len(),
        ..Evaluation::default()
    };
    for (row, told) in told.iter().enumerate() {
        let row = evaluation
            .confusion
            .entry(samples.class(row).to_owned())
            .or_default();
        *row.entry((*told).to_owned()).or_default() += 1;
    }
    let confusion = &evaluation.confusion;
    let right: usize = confusion
        .iter()
        .filter_map(|(truth, row)| row.get(truth))
        .sum();
    evaluation.accuracy = ratio(right, told.len());
    for (truth, row) in confusion {
        let hits = row.get(truth).copied().unwrap_or(0);
        let support = row.values().sum();
        let named: usize = confusion.values().filter_map(|row| row.get(truth)).sum();
        let (precision, recall) = (ratio(hits, named), ratio(hits, support));
        let score = ClassScore {
            precision,
            recall,
            f1: f1(precision, recall),
            support,
        };
        evaluation.classes.insert(truth.clone(), score);
    }
    let sum: f64 = evaluation.classes.values().map(|class| class.f1).sum();
    evaluation.macro_f1 = sum / evaluation.classes.len().max(1) as f64;
    evaluation.attack = binary(samples, told);
    evaluation
}

fn binary(samples: &Samples, told: &[&str]) -> BinaryScore {
    // Truth, told.
    let mut counts = [[0_usize; 2]; 2];
    for (row, told) in told.iter().enumerate() {
        let truth = usize::from(samples.label(row) != 0);
        let told = usize::from(*told != NORMAL);
        counts[truth][told] += 1;
    }
    let [[_, false_alarms], [missed, hits]] = counts;
    let (precision, recall) = (ratio(hits, hits + false_alarms), ratio(hits, hits + missed));
    BinaryScore {
        precision,
        recall,
        f1: f1(precision, recall),
        false_alarms: ratio(false_alarms, counts[0][0] + false_alarms),
        auc: None,
    }
}

fn calibration_error(samples: &Samples, told: &[&str], verdicts: &[Verdict]) -> f64 {
    // Sum of confidences, right ones, windows.
    let mut bins = [(0.0_f64, 0_usize, 0_usize); 10];
    for (row, (told, verdict)) in told.iter().zip(verdicts).enumerate() {
        let bin = ((verdict.confidence * 10.0) as usize).min(9);
        if let Some((sum, right, count)) = bins.get_mut(bin) {
            *sum += f64::from(verdict.confidence);
            *right += usize::from(samples.class(row) == *told);
            *count += 1;
        }
    }
    let gaps = bins
        .iter()
        .map(|(sum, right, _)| (sum - *right as f64).abs());
    gaps.sum::<f64>() / verdicts.len().max(1) as f64
}

fn anomaly_score(samples: &Samples, verdicts: &[Verdict]) -> Option<AnomalyScore> {
    let tails: Vec<f32> = verdicts
        .iter()
        .map(|verdict| verdict.anomaly)
        .collect::<Option<_>>()?;
    let share = |attack: bool| {
        let rows = || {
            tails
                .iter()
                .enumerate()
                .filter(|(row, _)| (samples.label(*row) != 0) == attack)
        };
        ratio(
            rows().filter(|(_, tail)| **tail <= 0.01).count(),
            rows().count(),
        )
    };
    let strangeness: Vec<f32> = tails.iter().map(|tail| -tail).collect();
    Some(AnomalyScore {
        recall_at_1_percent: share(true),
        false_alarms_at_1_percent: share(false),
        auc: auc(samples, &strangeness),
    })
}

/// By ranks; equal scores share theirs.
fn auc(samples: &Samples, scores: &[f32]) -> Option<f64> {
    let mut order: Vec<(f32, bool)> = scores
        .iter()
        .enumerate()
        .map(|(row, score)| (*score, samples.label(row) != 0))
        .collect();
    order.sort_by(|one, other| one.0.total_cmp(&other.0));
    let attacks = order.iter().filter(|(_, attack)| *attack).count();
    let peace = order.len() - attacks;
    if attacks == 0 || peace == 0 {
        return None;
    }
    let mut ranks = 0.0;
    let mut before = 0;
    for equal in order.chunk_by(|one, other| one.0 == other.0) {
        let rank = before as f64 + (equal.len() as f64 + 1.0) / 2.0;
        ranks += rank * equal.iter().filter(|(_, attack)| *attack).count() as f64;
        before += equal.len();
    }
    let attacks = attacks as f64;
    Some((ranks - attacks * (attacks + 1.0) / 2.0) / (attacks * peace as f64))
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn f1(precision: f64, recall: f64) -> f64 {
    if precision + recall > 0.0 {
        2.0 * precision * recall / (precision + recall)
    } else {
        0.0
    }
}
