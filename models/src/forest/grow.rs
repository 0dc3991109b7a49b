use std::num::NonZero;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::bins::{BINS, Binned};
use super::{Forest, ForestError, LEAF, MAX_CLASSES, Node};

/// Rows of features, one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) features: usize,
}

impl Matrix<'_> {
    pub(crate) fn rows(&self) -> usize {
        self.values.len().checked_div(self.features).unwrap_or(0)
    }

    pub(crate) fn value(&self, row: usize, feature: usize) -> f32 {
        self.values
            .get(row * self.features + feature)
            .copied()
            .unwrap_or(f32::NAN)
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        self.values
            .get(row * self.features..(row + 1) * self.features)
            .unwrap_or(&[])
    }
}

/// How trees grow.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) trees: usize,
    pub(crate) depth: usize,
    /// Weight of a leaf at least.
    pub(crate) leaf_weight: f32,
    /// Share of features tried at a node.
    pub(crate) tried: f32,
    pub(crate) seed: u64,
}

/// A forest, and for every row the votes of the trees that did not see its block.
pub(crate) struct Grown {
    pub(crate) forest: Forest,
    /// `classes` numbers a row; NaN where every tree saw the row.
    pub(crate) unseen: Vec<f32>,
}

/// Rows with classes, weights and blocks: what lies in one block (a minute of a capture) resembles each other, so a tree
/// draws whole blocks.
pub(crate) struct Lesson<'a> {
    pub(crate) matrix: Matrix<'a>,
    pub(crate) labels: &'a [u16],
    pub(crate) weights: &'a [f32],
    pub(crate) blocks: &'a [u32],
    pub(crate) classes: usize,
}

impl Settings {
    pub(crate) fn grow(&self, lesson: &Lesson<'_>) -> Result<Grown, ForestError> {
        let rows = lesson.matrix.rows();
        if lesson.classes > MAX_CLASSES {
            return Err(ForestError::TooManyClasses(lesson.classes));
        }
        let lengths = [
            lesson.labels.len(),
            lesson.weights.len(),
            lesson.blocks.len(),
        ];
        if let Some(labels) = lengths.into_iter().find(|length| *length != rows) {
            return Err(ForestError::Lengths { rows, labels });
        }
        if lesson
            .labels
            .iter()
            .any(|label| usize::from(*label) >= lesson.classes)
        {
            return Err(ForestError::Lengths { rows, labels: rows });
        }
        let first = lesson.labels.first();
        if lesson.labels.iter().all(|label| Some(label) == first) {
            return Err(ForestError::NothingToLearn {
                rows,
                classes: rows.min(1),
            });
        }
        let binned = Binned::new(&lesson.matrix);
        let trees = self.grow_trees(lesson, &binned);
        Ok(join(lesson, trees))
    }

    /// Trees by several threads; each depends on its number alone, so their count changes nothing.
    fn grow_trees(&self, lesson: &Lesson<'_>, binned: &Binned) -> Vec<Tree> {
        let threads = std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(8);
        std::thread::scope(|scope| {
            let work = |first: usize| {
                let numbers = (first..self.trees).step_by(threads);
                numbers
                    .map(|number| self.grow_tree(number as u64, lesson, binned))
                    .collect::<Vec<_>>()
            };
            let workers: Vec<_> = (0..threads)
                .map(|first| scope.spawn(move || work(first)))
                .collect();
            let mut parts: Vec<_> = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_default().into_iter())
                .collect();
            (0..self.trees)
                .filter_map(|number| parts.get_mut(number % threads)?.next())
                .collect()
        })
    }

    fn grow_tree(&self, number: u64, lesson: &Lesson<'_>, binned: &Binned) -> Tree {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(number + 1);
        let drawn = draw_blocks(lesson.blocks, &mut random);
        let rows = (0..lesson.matrix.rows() as u32).filter(|row| {
            let block = lesson.blocks.get(*row as usize).copied().unwrap_or(0);
            drawn.get(block as usize).is_some_and(|times| *times > 0)
        });
        let mut growth = Growth {
            settings: self,
            lesson,
            binned,
            drawn: &drawn,
            tree: Tree::default(),
            features: (0..lesson.matrix.features).collect(),
            histogram: vec![0.0; (BINS + 2) * lesson.classes],
        };
        let mut rows: Vec<u32> = rows.collect();
        growth.run(&mut rows, &mut random);
        let mut tree = growth.tree;
        tree.drawn = drawn;
        tree
    }
}

/// How often each block was drawn: about 63 % at least once.
fn draw_blocks(blocks: &[u32], random: &mut ChaCha8Rng) -> Vec<u8> {
    let count = blocks.iter().max().map_or(0, |most| *most as usize + 1);
    let mut drawn = vec![0_u8; count];
    for _ in 0..count {
        if let Some(times) = drawn.get_mut(random.random_range(0..count)) {
            *times = times.saturating_add(1);
        }
    }
    drawn
}

#[derive(Default)]
struct Tree {
    nodes: Vec<Node>,
    leaves: Vec<f32>,
    drawn: Vec<u8>,
}

struct Growth<'a> {
    settings: &'a Settings,
    lesson: &'a Lesson<'a>,
    binned: &'a Binned,
    drawn: &'a [u8],
    tree: Tree,
    features: Vec<usize>,
    /// Weights by bin and class.
    histogram: Vec<f32>,
}

/// A split found: feature, last bin that goes left, where unknown values go.
#[derive(Clone, Copy)]
struct Split {
    feature: usize,
    bin: usize,
    missing_left: bool,
    gain: f32,
}

impl Growth<'_> {
    fn run(&mut self, rows: &mut [u32], random: &mut ChaCha8Rng) {
        self.tree.nodes.push(PENDING);
        let mut pending = vec![(0_usize, 0_usize, rows.len(), 0_usize)];
        while let Some((node, from, to, depth)) = pending.pop() {
            let Some(part) = rows.get_mut(from..to) else {
                continue;
            };
            let weights = self.class_weights(part);
            let split = if depth < self.settings.depth {
                self.best_split(part, &weights, random)
            } else {
                None
            };
            let Some(split) = split else {
                self.leaf(node, &weights);
                continue;
            };
            let middle = from + self.partition(part, split);
            let children = self.tree.nodes.len();
            self.tree.nodes.extend([PENDING, PENDING]);
            if let Some(node) = self.tree.nodes.get_mut(node) {
                *node = Node {
                    threshold: threshold(self.binned, split),
                    feature: split.feature as u16,
                    missing_left: split.missing_left,
                    left: children as u32,
                    right: children as u32 + 1,
                };
            }
            pending.push((children + 1, middle, to, depth + 1));
            pending.push((children, from, middle, depth + 1));
        }
    }

    fn weight(&self, row: u32) -> (usize, f32) {
        let row = row as usize;
        let label = self
            .lesson
            .labels
            .get(row)
            .map_or(0, |label| usize::from(*label));
        let block = self
            .lesson
            .blocks
            .get(row)
            .map_or(0, |block| *block as usize);
        let times = self.drawn.get(block).copied().unwrap_or(0);
        (
            label,
            self.lesson.weights.get(row).copied().unwrap_or(0.0) * f32::from(times),
        )
    }

    fn class_weights(&self, rows: &[u32]) -> [f32; MAX_CLASSES] {
        let mut weights = [0.0; MAX_CLASSES];
        for row in rows {
            let (label, weight) = self.weight(*row);
            if let Some(sum) = weights.get_mut(label) {
                *sum += weight;
            }
        }
        weights
    }

    fn best_split(
        &mut self,
        rows: &[u32],
        weights: &[f32; MAX_CLASSES],
        random: &mut ChaCha8Rng,
    ) -> Option<Split> {
        let total: f32 = weights.iter().sum();
        let pure = weights.iter().filter(|weight| **weight > 0.0).count() < 2;
        if pure || total < 2.0 * self.settings.leaf_weight {
            return None;
        }
        let mut features = std::mem::take(&mut self.features);
        let tried = ((features.len() as f32 * self.settings.tried).ceil() as usize).max(1);
        let (chosen, _) = features.partial_shuffle(random, tried);
        let mut best: Option<Split> = None;
        for feature in chosen.iter() {
            let split = self.split_of(*feature, rows, weights);
            if let Some(split) = split.filter(|one| best.is_none_or(|best| one.gain > best.gain)) {
                best = Some(split);
            }
        }
        self.features = features;
        best
    }

    /// The best split by one feature: gini impurity over a histogram of classes by bin.
    fn split_of(
        &mut self,
        feature: usize,
        rows: &[u32],
        weights: &[f32; MAX_CLASSES],
    ) -> Option<Split> {
        let column = self.binned.columns.get(feature)?;
        let edges = self.binned.edges.get(feature)?.len();
        let classes = self.lesson.classes;
        let mut histogram = std::mem::take(&mut self.histogram);
        histogram.fill(0.0);
        for row in rows {
            let (label, weight) = self.weight(*row);
            let bin = column.get(*row as usize).map_or(0, |bin| usize::from(*bin));
            if let Some(cell) = histogram.get_mut(bin * classes + label) {
                *cell += weight;
            }
        }
        let mut missing = [0.0; MAX_CLASSES];
        add(&mut missing, &histogram, 0, classes);
        let any_missing = missing.iter().any(|weight| *weight > 0.0);
        let (_, parent) = purity(weights, classes);
        let mut best: Option<Split> = None;
        for missing_left in [false, true] {
            if missing_left && !any_missing {
                break;
            }
            let mut left = if missing_left {
                missing
            } else {
                [0.0; MAX_CLASSES]
            };
            for bin in 0..=edges {
                // Bin 0 stands for "only unknown values go left", which needs them there.
                if bin > 0 {
                    add(&mut left, &histogram, bin, classes);
                } else if !missing_left {
                    continue;
                }
                let mut right = [0.0; MAX_CLASSES];
                let pairs = weights.iter().zip(&left).take(classes);
                for (rest, (all, gone)) in right.iter_mut().zip(pairs) {
                    *rest = (all - gone).max(0.0);
                }
                let ((left_weight, left_purity), (right_weight, right_purity)) =
                    (purity(&left, classes), purity(&right, classes));
                if left_weight.min(right_weight) < self.settings.leaf_weight {
                    continue;
                }
                let gain = left_purity + right_purity - parent;
                if gain > 1e-6 * parent && best.is_none_or(|best| gain > best.gain) {
                    best = Some(Split {
                        feature,
                        bin,
                        missing_left,
                        gain,
                    });
                }
            }
        }
        self.histogram = histogram;
        best
    }

    /// Rows that go left first; returns how many.
    fn partition(&self, rows: &mut [u32], split: Split) -> usize {
        let column = self.binned.columns.get(split.feature);
        let goes_left = |row: u32| {
            let bin = column
                .and_then(|column| column.get(row as usize))
                .map_or(0, |bin| usize::from(*bin));
            if bin == 0 {
                split.missing_left
            } else {
                bin <= split.bin
            }
        };
        let mut left = 0;
        for at in 0..rows.len() {
            if goes_left(rows[at]) {
                rows.swap(at, left);
                left += 1;
            }
        }
        left
    }

    fn leaf(&mut self, node: usize, weights: &[f32; MAX_CLASSES]) {
        let classes = self.lesson.classes;
        let total: f32 = weights.iter().sum::<f32>().max(f32::MIN_POSITIVE);
        let at = self.tree.leaves.len() as u32;
        self.tree
            .leaves
            .extend(weights.iter().take(classes).map(|weight| weight / total));
        if let Some(node) = self.tree.nodes.get_mut(node) {
            *node = Node {
                threshold: 0.0,
                feature: LEAF,
                missing_left: false,
                left: at,
                right: 0,
            };
        }
    }
}

const PENDING: Node = Node {
    threshold: 0.0,
    feature: LEAF,
    missing_left: false,
    left: 0,
    right: 0,
};

fn threshold(binned: &Binned, split: Split) -> f32 {
    if split.bin == 0 {
        return f32::NEG_INFINITY;
    }
    let edges = binned.edges.get(split.feature);
    edges
        .and_then(|edges| edges.get(split.bin - 1))
        .copied()
        .unwrap_or(f32::INFINITY)
}

/// The weight, and weight × (1 − gini impurity): what a split is to raise.
fn purity(weights: &[f32; MAX_CLASSES], classes: usize) -> (f32, f32) {
    let (mut total, mut squares) = (0.0, 0.0);
    for weight in weights.iter().take(classes) {
        total += weight;
        squares += weight * weight;
    }
    (total, if total > 0.0 { squares / total } else { 0.0 })
}

fn add(sums: &mut [f32; MAX_CLASSES], histogram: &[f32], bin: usize, classes: usize) {
    let cells = histogram
        .get(bin * classes..(bin + 1) * classes)
        .unwrap_or(&[]);
    for (sum, more) in sums.iter_mut().zip(cells) {
        *sum += more;
    }
}

/// Puts trees one behind the other, and lets each vote on the rows that it did not see.
fn join(lesson: &Lesson<'_>, trees: Vec<Tree>) -> Grown {
    let classes = lesson.classes;
    let rows = lesson.matrix.rows();
    let mut forest = Forest {
        classes,
        ..Forest::default()
    };
    let mut unseen = vec![0.0; rows * classes];
    let mut voters = vec![0_u32; rows];
    for tree in trees {
        let root = forest.nodes.len() as u32;
        let first_leaf = forest.leaves.len() as u32;
        forest.nodes.extend(
            tree.nodes
                .iter()
                .map(|node| shifted(node, root, first_leaf)),
        );
        forest.leaves.extend(&tree.leaves);
        forest.roots.push(root);
        let last = Forest {
            classes,
            roots: vec![0],
            nodes: tree.nodes,
            leaves: tree.leaves,
        };
        for row in 0..rows {
            let block = lesson.blocks.get(row).map_or(0, |block| *block as usize);
            if tree.drawn.get(block).is_some_and(|times| *times == 0) {
                let votes = last.probabilities(lesson.matrix.row(row));
                let place = unseen.get_mut(row * classes..(row + 1) * classes);
                for (sum, vote) in place.into_iter().flatten().zip(votes) {
                    *sum += vote;
                }
                if let Some(count) = voters.get_mut(row) {
                    *count += 1;
                }
            }
        }
    }
    for (row, count) in voters.iter().enumerate() {
        if let Some(place) = unseen.get_mut(row * classes..(row + 1) * classes) {
            // 0 / 0 is NaN: nobody could say.
            place.iter_mut().for_each(|sum| *sum /= *count as f32);
        }
    }
    Grown { forest, unseen }
}

fn shifted(node: &Node, root: u32, first_leaf: u32) -> Node {
    if node.feature == LEAF {
        Node {
            left: node.left + first_leaf,
            ..*node
        }
    } else {
        Node {
            left: node.left + root,
            right: node.right + root,
            ..*node
        }
    }
}
