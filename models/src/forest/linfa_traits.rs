use linfa::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use ndarray::{Array1, ArrayBase, Data, Ix2};

use super::grow::Lesson;
use super::{Forest, ForestError, Matrix, Settings};

/// Parameters of a [`Forest`], to be fitted by linfa's [`Fit`].
///
/// ```
/// use linfa::Dataset;
/// use linfa::traits::{Fit, Predict};
/// use ndarray::{Array1, Array2};
/// use weir_models::ForestParams;
///
/// # fn main() -> Result<(), weir_models::ForestError> {
/// let records = Array2::from_shape_fn((200, 2), |(row, column)| (row * (column + 1) % 20) as f32);
/// let labels: Array1<usize> = records.outer_iter().map(|row| usize::from(row[0] > 9.0)).collect();
/// let forest = ForestParams::default().fit(&Dataset::new(records.clone(), labels.clone()))?;
/// assert_eq!(forest.predict(&records), labels);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ForestParams(pub(crate) Settings);

impl Default for ForestParams {
    fn default() -> Self {
        Self(Settings {
            trees: 60,
            depth: 14,
            leaf_weight: 1.0,
            tried: 0.2,
            seed: 1,
        })
    }
}

impl ForestParams {
    /// How many trees; 60 by default.
    #[must_use]
    pub fn trees(mut self, trees: usize) -> Self {
        self.0.trees = trees;
        self
    }

    /// How deep a tree is at most; 14 by default.
    #[must_use]
    pub fn depth(mut self, depth: usize) -> Self {
        self.0.depth = depth;
        self
    }

    /// The seed of draws and of features tried.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }
}

impl<D: Data<Elem = f32>> Fit<ArrayBase<D, Ix2>, Array1<usize>, ForestError> for ForestParams {
    type Object = Forest;

    fn fit(
        &self,
        dataset: &DatasetBase<ArrayBase<D, Ix2>, Array1<usize>>,
    ) -> Result<Forest, ForestError> {
        let records = dataset.records();
        let classes = dataset.targets().iter().max().map_or(0, |most| most + 1);
        if classes > super::MAX_CLASSES {
            return Err(ForestError::TooManyClasses(classes));
        }
        let values: Vec<f32> = records.iter().copied().collect();
        let labels: Vec<u16> = dataset
            .targets()
            .iter()
            .map(|label| *label as u16)
            .collect();
        let weights = match dataset.weights() {
            Some(weights) => weights.to_vec(),
            None => vec![1.0; labels.len()],
        };
        let blocks: Vec<u32> = (0..labels.len() as u32).collect();
        let lesson = Lesson {
            matrix: Matrix {
                values: &values,
                features: records.ncols(),
            },
            labels: &labels,
            weights: &weights,
            blocks: &blocks,
            classes,
        };
        Ok(self.0.grow(&lesson)?.forest)
    }
}

impl<D: Data<Elem = f32>> PredictInplace<ArrayBase<D, Ix2>, Array1<usize>> for Forest {
    fn predict_inplace<'a>(&'a self, x: &'a ArrayBase<D, Ix2>, y: &mut Array1<usize>) {
        for (row, label) in x.outer_iter().zip(y.iter_mut()) {
            let row: Vec<f32> = row.iter().copied().collect();
            *label = crate::argmax(&self.probabilities(&row));
        }
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array1<usize> {
        Array1::zeros(x.nrows())
    }
}
