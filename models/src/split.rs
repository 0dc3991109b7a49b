use std::collections::BTreeMap;

use crate::samples::Samples;

/// How samples are divided into those to learn from and those to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SplitBy {
    /// The last 30 % of each class's time in each capture are told.
    Time,
    /// Each kind of attack in turn is told without having been learned, beside later peace.
    Family,
    /// Each capture in turn is told without having been learned.
    Capture,
}

/// One division.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fold {
    /// The family or capture left out; `time`.
    pub name: String,
    /// Rows to learn from.
    pub train: Vec<usize>,
    /// Rows to be told.
    pub test: Vec<usize>,
}

/// Seconds between what is learned and what is told: windows overlap.
const GAP: i64 = 20;

/// Divides samples; rows of all thinnings go the same way.
pub fn split(samples: &Samples, by: SplitBy) -> Vec<Fold> {
    match by {
        SplitBy::Time => vec![by_time(samples)],
        SplitBy::Family => by_family(samples),
        SplitBy::Capture => by_capture(samples),
    }
}

fn by_time(samples: &Samples) -> Fold {
    let cuts = cuts(samples);
    let mut fold = Fold {
        name: "time".to_owned(),
        train: Vec::new(),
        test: Vec::new(),
    };
    for row in 0..samples.len() {
        match side(samples, &cuts, row) {
            Some(true) => fold.test.push(row),
            Some(false) => fold.train.push(row),
            None => {}
        }
    }
    fold
}

fn by_family(samples: &Samples) -> Vec<Fold> {
    let time = by_time(samples);
    let present = |class: &usize| (0..samples.len()).any(|row| samples.label(row) == *class);
    let fold = |class: usize| Fold {
        name: samples.classes().get(class).cloned().unwrap_or_default(),
        train: time
            .train
            .iter()
            .copied()
            .filter(|row| samples.label(*row) != class)
            .collect(),
        test: (0..samples.len())
            .filter(|row| samples.label(*row) == class)
            .chain(
                time.test
                    .iter()
                    .copied()
                    .filter(|row| samples.label(*row) == 0),
            )
            .collect(),
    };
    (1..samples.classes().len())
        .filter(present)
        .map(fold)
        .collect()
}

fn by_capture(samples: &Samples) -> Vec<Fold> {
    let fold = |(number, name): (usize, &String)| {
        let is_it = |row: &usize| {
            samples
                .captures
                .get(*row)
                .is_some_and(|one| usize::from(*one) == number)
        };
        let (test, train) = (0..samples.len()).partition(is_it);
        Fold {
            name: name.clone(),
            train,
            test,
        }
    };
    samples.captures().iter().enumerate().map(fold).collect()
}

/// The second of each (capture, class) after which 30 % of its windows lie; none for runs too short to be cut.
fn cuts(samples: &Samples) -> BTreeMap<(u16, usize), i64> {
    let mut seconds: BTreeMap<(u16, usize), Vec<i64>> = BTreeMap::new();
    for row in 0..samples.len() {
        let (_, second, thinned) = samples.origin(row);
        if thinned <= 1 {
            let capture = samples.captures.get(row).copied().unwrap_or(0);
            seconds
                .entry((capture, samples.label(row)))
                .or_default()
                .push(second);
        }
    }
    let cut = |mut seconds: Vec<i64>| {
        seconds.sort_unstable();
        let long = seconds.last()? - seconds.first()? > 3 * GAP;
        long.then(|| seconds.get(seconds.len() * 7 / 10).copied())
            .flatten()
    };
    seconds
        .into_iter()
        .filter_map(|(key, seconds)| Some((key, cut(seconds)?)))
        .collect()
}

/// Whether a row is to be told; `None` for the gap.
fn side(samples: &Samples, cuts: &BTreeMap<(u16, usize), i64>, row: usize) -> Option<bool> {
    let (_, second, _) = samples.origin(row);
    let capture = samples.captures.get(row).copied().unwrap_or(0);
    let Some(cut) = cuts.get(&(capture, samples.label(row))) else {
        return Some(false);
    };
    if second >= *cut {
        Some(true)
    } else {
        (second < cut - GAP).then_some(false)
    }
}
