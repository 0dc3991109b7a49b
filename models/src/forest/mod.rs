//! A histogram forest: decision trees over binned features, with class probabilities, deterministic for a seed.
//!
//! linfa's own trees split badly on values that repeat, its forests cannot be serialised and have no probabilities
//! (see the crate's docs for figures), so the trees are ours, behind linfa's `Fit` and `Predict`.

mod bins;
mod grow;
mod linfa_traits;

pub use linfa_traits::ForestParams;

pub(crate) use grow::{Lesson, Matrix, Settings};

/// Classes that a model tells apart, at most.
pub const MAX_CLASSES: usize = 32;

/// A node of a tree; children follow their parent, so that a walk always ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Node {
    /// Goes left if the feature is at most this.
    pub(crate) threshold: f32,
    /// The feature, or [`LEAF`].
    pub(crate) feature: u16,
    /// Where an unknown value goes.
    pub(crate) missing_left: bool,
    /// The left child, or where a leaf's probabilities begin.
    pub(crate) left: u32,
    /// The right child; 0 for a leaf.
    pub(crate) right: u32,
}

pub(crate) const LEAF: u16 = u16::MAX;

/// Probabilities of classes, as many as the model has; the rest are 0.
pub type Probabilities = [f32; MAX_CLASSES];

/// A fitted forest.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Forest {
    pub(crate) classes: usize,
    pub(crate) roots: Vec<u32>,
    pub(crate) nodes: Vec<Node>,
    /// Leaves' probabilities, `classes` numbers each.
    pub(crate) leaves: Vec<f32>,
}

/// Why a forest that was read is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForestError {
    /// No rows, or no two classes.
    #[error("nothing to learn: {rows} windows of {classes} classes")]
    NothingToLearn {
        /// Rows given.
        rows: usize,
        /// Classes among them.
        classes: usize,
    },
    /// More classes than [`MAX_CLASSES`].
    #[error("{0} classes are more than {MAX_CLASSES}")]
    TooManyClasses(usize),
    /// Labels or weights do not fit the rows.
    #[error("{rows} rows have {labels} labels")]
    Lengths {
        /// Rows given.
        rows: usize,
        /// Labels given.
        labels: usize,
    },
    /// A node leads backwards or out of the forest.
    #[error("node {0} of the forest leads nowhere")]
    Structure(usize),
    /// An error of linfa's.
    #[error("linfa: its data set is malformed")]
    Linfa,
}

impl From<linfa::Error> for ForestError {
    fn from(_: linfa::Error) -> Self {
        Self::Linfa
    }
}

impl Forest {
    /// The mean vote of all trees. Allocates nothing.
    pub fn probabilities(&self, features: &[f32]) -> Probabilities {
        let mut sum = [0.0; MAX_CLASSES];
        for root in &self.roots {
            let Some(leaf) = self.leaf(*root, features) else {
                continue;
            };
            for (sum, share) in sum.iter_mut().zip(leaf) {
                *sum += share;
            }
        }
        let trees = self.roots.len().max(1) as f32;
        sum.map(|one| one / trees)
    }

    /// How many trees it has.
    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    /// How many nodes they have together.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Checks what was read from a file: every walk ends in a leaf.
    pub(crate) fn check(&self, features: usize) -> Result<(), ForestError> {
        if self.classes > MAX_CLASSES {
            return Err(ForestError::TooManyClasses(self.classes));
        }
        let known = |at: u32| (at as usize) < self.nodes.len();
        for (at, node) in self.nodes.iter().enumerate() {
            let sound = if node.feature == LEAF {
                node.left as usize + self.classes <= self.leaves.len()
            } else {
                let forward = node.left as usize > at && node.right as usize > at;
                forward
                    && known(node.left)
                    && known(node.right)
                    && usize::from(node.feature) < features
            };
            if !sound {
                return Err(ForestError::Structure(at));
            }
        }
        match self.roots.iter().find(|root| !known(**root)) {
            Some(root) => Err(ForestError::Structure(*root as usize)),
            None => Ok(()),
        }
    }

    fn leaf(&self, root: u32, features: &[f32]) -> Option<&[f32]> {
        let mut node = self.nodes.get(root as usize)?;
        while node.feature != LEAF {
            let value = features
                .get(usize::from(node.feature))
                .copied()
                .unwrap_or(f32::NAN);
            let left = if value.is_nan() {
                node.missing_left
            } else {
                value <= node.threshold
            };
            node = self
                .nodes
                .get(if left { node.left } else { node.right } as usize)?;
        }
        self.leaves
            .get(node.left as usize..node.left as usize + self.classes)
    }
}
