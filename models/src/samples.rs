use std::collections::BTreeMap;

use ndarray::{Array1, Array2};
use sha2::{Digest, Sha256};

use crate::features::{FEATURES, FeatureVector};
use crate::forest::{MAX_CLASSES, Matrix};

/// The class of peace.
pub const NORMAL: &str = "normal";

/// One labelled window.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The features.
    pub features: &'a FeatureVector,
    /// Its class; [`NORMAL`] for peace.
    pub class: &'a str,
    /// The capture that it comes from.
    pub capture: &'a str,
    /// Its last second, since 1970.
    pub second: i64,
    /// One packet in how many was left by thinning; 1 for the data as they are.
    pub thinned: u32,
    /// Records of the target in the second.
    pub records: u32,
    /// Who says so; empty for the data themselves.
    pub by: &'a str,
}

/// Labelled windows in columns; class 0 is peace.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    pub(crate) values: Vec<f32>,
    pub(crate) labels: Vec<u16>,
    pub(crate) captures: Vec<u16>,
    pub(crate) seconds: Vec<i64>,
    pub(crate) thinned: Vec<u32>,
    sayers: Vec<u16>,
    classes: Vec<String>,
    capture_names: Vec<String>,
    sayer_names: Vec<String>,
    refused: u64,
}

impl Samples {
    /// Adds a window; false, and counted, if its class is one beyond [`MAX_CLASSES`].
    pub fn push(&mut self, sample: &Sample<'_>) -> bool {
        if self.classes.is_empty() {
            self.classes.push(NORMAL.to_owned());
        }
        let Some(label) = number(&mut self.classes, sample.class, MAX_CLASSES) else {
            self.refused += 1;
            return false;
        };
        let Some(capture) = number(&mut self.capture_names, sample.capture, 4096) else {
            self.refused += 1;
            return false;
        };
        let Some(sayer) = number(&mut self.sayer_names, sample.by, 4096) else {
            self.refused += 1;
            return false;
        };
        self.values.extend_from_slice(sample.features);
        self.sayers.push(sayer);
        self.labels.push(label);
        self.captures.push(capture);
        self.seconds.push(sample.second);
        self.thinned.push(sample.thinned);
        true
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Windows of classes beyond the bound.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The classes' names; the first is [`NORMAL`].
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The captures' names.
    pub fn captures(&self) -> &[String] {
        &self.capture_names
    }

    /// A window's features.
    pub fn features(&self, row: usize) -> &[f32] {
        self.matrix().row_of(row)
    }

    /// The class of a window.
    pub fn class(&self, row: usize) -> &str {
        let label = self.label(row);
        self.classes.get(label).map_or(NORMAL, String::as_str)
    }

    /// The capture, second and thinning of a window.
    pub fn origin(&self, row: usize) -> (&str, i64, u32) {
        let capture = self.captures.get(row).map_or(0, |one| usize::from(*one));
        let name = self.capture_names.get(capture).map_or("", String::as_str);
        let second = self.seconds.get(row).copied().unwrap_or(0);
        (name, second, self.thinned.get(row).copied().unwrap_or(1))
    }

    /// Who says what a window is; empty for the data themselves.
    pub fn by(&self, row: usize) -> &str {
        let sayer = self.sayers.get(row).map_or(0, |one| usize::from(*one));
        self.sayer_names.get(sayer).map_or("", String::as_str)
    }

    /// How many windows each class has, as they are (not thinned) and in all.
    pub fn counts(&self) -> BTreeMap<String, [usize; 2]> {
        let mut counts = BTreeMap::new();
        for row in 0..self.len() {
            let count: &mut [usize; 2] = counts.entry(self.class(row).to_owned()).or_default();
            count[0] += usize::from(self.origin(row).2 <= 1);
            count[1] += 1;
        }
        counts
    }

    /// The rows that `keep` wants. Classes keep their numbers.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(usize) -> bool) -> Self {
        let mut kept = Self {
            classes: self.classes.clone(),
            capture_names: self.capture_names.clone(),
            sayer_names: self.sayer_names.clone(),
            ..Self::default()
        };
        for row in (0..self.len()).filter(|row| keep(*row)) {
            kept.values.extend_from_slice(self.features(row));
            kept.labels.push(self.labels.get(row).copied().unwrap_or(0));
            kept.captures
                .push(self.captures.get(row).copied().unwrap_or(0));
            kept.seconds
                .push(self.seconds.get(row).copied().unwrap_or(0));
            kept.thinned
                .push(self.thinned.get(row).copied().unwrap_or(1));
            kept.sayers.push(self.sayers.get(row).copied().unwrap_or(0));
        }
        kept
    }

    /// SHA-256 of all windows with their labels, in hexadecimal: the training data's fingerprint.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for row in 0..self.len() {
            for value in self.features(row) {
                // One bit pattern for all that is unknown.
                let value = if value.is_nan() { f32::NAN } else { *value };
                hash.update(value.to_bits().to_le_bytes());
            }
            hash.update(self.class(row).as_bytes());
            hash.update(self.origin(row).1.to_le_bytes());
        }
        crate::hex(&hash.finalize())
    }

    /// As linfa's data set, unknown values as NaN.
    pub fn dataset(&self) -> linfa::Dataset<f32, usize, ndarray::Ix1> {
        let rows = self.len();
        let records = Array2::from_shape_vec((rows, FEATURES), self.values.clone())
            .unwrap_or_else(|_| Array2::zeros((0, FEATURES)));
        let labels: Array1<usize> = self
            .labels
            .iter()
            .map(|label| usize::from(*label))
            .collect();
        linfa::Dataset::new(records, labels)
    }

    pub(crate) fn matrix(&self) -> Matrix<'_> {
        Matrix {
            values: &self.values,
            features: FEATURES,
        }
    }

    /// Mean and standard deviation of a feature over some rows, those in which it is not known left out; zeros where none is.
    pub(crate) fn moments(&self, rows: &[usize], feature: usize) -> (f64, f64) {
        let values = rows
            .iter()
            .filter_map(|row| self.features(*row).get(feature));
        let known: Vec<f64> = values
            .filter(|value| value.is_finite())
            .map(|value| f64::from(*value))
            .collect();
        let count = known.len().max(1) as f64;
        let mean = known.iter().sum::<f64>() / count;
        let variance = known
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
            / count;
        (mean, variance.sqrt())
    }

    pub(crate) fn label(&self, row: usize) -> usize {
        self.labels.get(row).map_or(0, |label| usize::from(*label))
    }

    /// Dense numbers of minutes within captures.
    pub(crate) fn blocks(&self) -> Vec<u32> {
        let mut numbers = BTreeMap::new();
        let keys = self.captures.iter().zip(&self.seconds);
        keys.map(|(capture, second)| {
            let next = numbers.len() as u32;
            *numbers
                .entry((*capture, second.div_euclid(60)))
                .or_insert(next)
        })
        .collect()
    }

    /// Weights that let rare classes be heard: the square root of how much rarer than the mean they are.
    pub(crate) fn weights(&self) -> Vec<f32> {
        let mut counts = [0_usize; MAX_CLASSES];
        for label in &self.labels {
            if let Some(count) = counts.get_mut(usize::from(*label)) {
                *count += 1;
            }
        }
        let present = counts.iter().filter(|count| **count > 0).count().max(1);
        let mean = self.len() as f32 / present as f32;
        let weight = |label: &u16| {
            let count = counts.get(usize::from(*label)).copied().unwrap_or(1).max(1);
            (mean / count as f32).sqrt().min(50.0)
        };
        self.labels.iter().map(weight).collect()
    }
}

impl<'a> Matrix<'a> {
    fn row_of(self, row: usize) -> &'a [f32] {
        self.values
            .get(row * self.features..(row + 1) * self.features)
            .unwrap_or(&[])
    }
}

fn number(names: &mut Vec<String>, name: &str, most: usize) -> Option<u16> {
    if let Some(at) = names.iter().position(|one| one == name) {
        return u16::try_from(at).ok();
    }
    if names.len() >= most {
        return None;
    }
    names.push(name.to_owned());
    u16::try_from(names.len() - 1).ok()
}
