//! Compares models on the same windows and splits: the forest of this crate, an ensemble of linfa's trees, linfa's logistic
//! regression; and writes the windows for `benches/models/compare.py`, which does the same with scikit-learn.
//!
//! `cargo run --release -p weir-models --example compare -- [--matrix OUT.csv] [--by time|family|capture] DATA…`

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

use linfa::Dataset;
use linfa::prelude::{Fit, Predict};
use linfa_trees::DecisionTree;
use ndarray::{Array1, Array2};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weir_datasets::{LabelledFlow, Truth, family, import};
use weir_models::{
    Data, Evaluation, FEATURES, FeatureVector, LessonCounters, LessonSettings, Lessons, Model,
    NORMAL, Samples, Source, SplitBy, TrainSettings, evaluate, schema, split, train,
};

/// Shares of windows of peace that are called attacks, at which models are held against each other.
const PRICES: [f64; 2] = [0.003, 0.01];

const HEADER: &str = "| fold | windows | macro F1 | accuracy | attack F1 | false alarms | AUC | at 0.3 %: F1 | recall | at 1 %: F1 | recall | fit s | row µs |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

fn main() -> Result<(), Box<dyn Error>> {
    let mut matrix = None;
    let mut by = SplitBy::Time;
    let mut linfa: Option<usize> = None;
    let mut files = Vec::new();
    let mut lessons = LessonSettings::default();
    let mut settings = TrainSettings::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--matrix" => matrix = arguments.next(),
            "--by" => {
                by = match arguments.next().as_deref() {
                    Some("family") => SplitBy::Family,
                    Some("capture") => SplitBy::Capture,
                    _ => SplitBy::Time,
                }
            }
            "--thin" => {
                let list = arguments.next().unwrap_or_default();
                lessons.thinning = list.split(',').filter_map(|one| one.parse().ok()).collect();
            }
            // Trees of linfa, 0 for none: 30 take hours of a busy machine.
            "--linfa" => {
                let trees = arguments.next().and_then(|trees| trees.parse().ok());
                linfa = trees.filter(|trees| *trees > 0);
            }
            "--peace-one-in" => {
                let one_in = arguments.next().and_then(|one_in| one_in.parse().ok());
                lessons.peace_one_in = one_in.unwrap_or(1);
            }
            "--false-alarms" => {
                let share = arguments.next().and_then(|share| share.parse().ok());
                settings.false_alarms = share.unwrap_or(settings.false_alarms);
            }
            _ => files.push(argument),
        }
    }
    let started = Instant::now();
    let (samples, counters) = read(&files, lessons)?;
    println!(
        "{} windows of {} features in {:.1} s, {counters:?}",
        samples.len(),
        FEATURES,
        started.elapsed().as_secs_f64()
    );
    for (class, [plain, all]) in samples.counts() {
        println!("  {class}: {plain} as they are, {all} with those thinned");
    }
    let mut out = matrix
        .map(|path| File::create(path).map(BufWriter::new))
        .transpose()?;
    if let Some(out) = &mut out {
        let names: Vec<String> = schema().into_iter().map(|one| one.name).collect();
        writeln!(out, "fold,side,thinned,class,{}", names.join(","))?;
    }
    let mut table = vec![HEADER.to_owned()];
    for fold in split(&samples, by) {
        let (learned, told) = (
            samples.filter(|row| fold.train.binary_search(&row).is_ok()),
            {
                let mut test = fold.test.clone();
                test.sort_unstable();
                samples.filter(|row| test.binary_search(&row).is_ok() && samples.origin(row).2 <= 1)
            },
        );
        if told.is_empty() || learned.is_empty() {
            continue;
        }
        println!(
            "\n## {}: {} windows to learn, {} to tell (as they are)",
            fold.name,
            learned.len(),
            told.len()
        );
        if let Some(out) = &mut out {
            write_rows(out, &fold.name, "train", &learned)?;
            write_rows(out, &fold.name, "test", &told)?;
        }
        let started = Instant::now();
        match train(
            &learned,
            &settings,
            LessonCounters::default(),
            Data::default(),
        ) {
            Ok(model) => {
                let fitted = started.elapsed();
                let evaluation = evaluate(&model, &told);
                let row = judging(&model, &told);
                let size = model.write()?.len();
                println!(
                    "forest and anomaly: fit {:.1} s, {row:.2} µs a row, {size} octets",
                    fitted.as_secs_f64()
                );
                print(&evaluation);
                table.push(format!(
                    "| {} | {} | {:.3} | {:.3} | {:.3} | {:.4} | {} | {:.1} | {row:.2} |",
                    fold.name,
                    told.len(),
                    evaluation.macro_f1,
                    evaluation.accuracy,
                    evaluation.attack.f1,
                    evaluation.attack.false_alarms,
                    Curve::new(&model, &told).cells(),
                    fitted.as_secs_f64(),
                ));
                let checks = &model.card().checks;
                println!(
                    "  unseen minutes: macro F1 {:?}, logistic {:?}",
                    checks.forest_macro_f1, checks.logistic_macro_f1
                );
            }
            Err(error) => println!("forest: {error}"),
        }
        if let Some(trees) = linfa {
            linfa_trees(trees, &learned, &told)?;
        }
    }
    println!("\n{}", table.join("\n"));
    Ok(())
}

fn read(
    files: &[String],
    settings: LessonSettings,
) -> Result<(Samples, LessonCounters), Box<dyn Error>> {
    let mut lessons = Lessons::new(settings);
    for file in files {
        let name = file.rsplit('/').next().unwrap_or(file);
        let report = import(File::open(file)?, name, &mut |flow: &LabelledFlow<'_>| {
            let attack = match flow.truth {
                Truth::Attack(words) => Some(family(words)),
                _ => None,
            };
            let source = Source {
                flags_known: flow.flags_known,
                answer: flow.answer,
                undeclared: flow.truth == Truth::Undeclared,
                ..Source::new(flow.capture, attack.as_deref())
            };
            lessons.handle_row(&flow.row, &source);
        })?;
        println!("{file}: {report:?}");
    }
    Ok(lessons.finish())
}

/// Microseconds a row: the least of many passes, since the machine does other things too.
fn judging(model: &Model, samples: &Samples) -> f64 {
    let rows: Vec<&FeatureVector> = (0..samples.len().min(200))
        .filter_map(|row| samples.features(row).try_into().ok())
        .collect();
    let pass = || {
        let started = Instant::now();
        let sum: f32 = rows
            .iter()
            .map(|features| model.judge(features).attack)
            .sum();
        std::hint::black_box(sum);
        started.elapsed().as_secs_f64() * 1e6 / rows.len().max(1) as f64
    };
    (0..200).map(|_| pass()).fold(f64::INFINITY, f64::min)
}

/// How attacks are told from peace by one number a window, wherever the point lies from which it is an attack.
struct Curve {
    /// Share of windows of peace above the point, recall, F1: rising.
    points: Vec<[f64; 3]>,
    auc: f64,
}

impl Curve {
    /// By the forest's vote, as scikit-learn's is judged too.
    fn new(model: &Model, samples: &Samples) -> Self {
        let mut scores: Vec<(f32, bool)> = (0..samples.len())
            .map(|row| {
                let votes = model.forest().probabilities(samples.features(row));
                (1.0 - votes[0], samples.class(row) != NORMAL)
            })
            .collect();
        scores.sort_by(|one, other| other.0.total_cmp(&one.0));
        let attacks = scores.iter().filter(|one| one.1).count().max(1) as f64;
        let peace = scores.iter().filter(|one| !one.1).count().max(1) as f64;
        let (mut hits, mut alarms, mut area) = (0.0, 0.0, 0.0);
        let mut points = Vec::new();
        for equal in scores.chunk_by(|one, other| one.0 == other.0) {
            let found = equal.iter().filter(|one| one.1).count() as f64;
            let wrong = equal.len() as f64 - found;
            area += wrong * (hits + found / 2.0);
            hits += found;
            alarms += wrong;
            points.push([
                alarms / peace,
                hits / attacks,
                2.0 * hits / (hits + alarms + attacks),
            ]);
        }
        Self {
            points,
            auc: area / attacks / peace,
        }
    }

    /// F1 and recall where at most this share of peace is called an attack: these windows themselves choose the point.
    fn at(&self, price: f64) -> [f64; 2] {
        let within = self.points.iter().take_while(|point| point[0] <= price);
        within
            .last()
            .map_or([0.0; 2], |[_, recall, f1]| [*f1, *recall])
    }

    /// The cells of a table: AUC, F1 and recall at each price.
    fn cells(&self) -> String {
        let prices = PRICES.map(|price| {
            let [f1, recall] = self.at(price);
            format!("{f1:.3} | {recall:.3}")
        });
        format!("{:.3} | {}", self.auc, prices.join(" | "))
    }
}

fn print(evaluation: &Evaluation) {
    println!(
        "  macro F1 {:.3}, accuracy {:.3}, calibration error {:.3}; attack: precision {:.3} recall {:.3} F1 {:.3} false alarms {:.4} AUC {:.3}",
        evaluation.macro_f1,
        evaluation.accuracy,
        evaluation.calibration_error,
        evaluation.attack.precision,
        evaluation.attack.recall,
        evaluation.attack.f1,
        evaluation.attack.false_alarms,
        evaluation.attack.auc.unwrap_or(f64::NAN)
    );
    if let Some(anomaly) = &evaluation.anomaly {
        println!(
            "  anomaly alone: recall {:.3} at 1 % (really {:.3}), AUC {:.3}",
            anomaly.recall_at_1_percent,
            anomaly.false_alarms_at_1_percent,
            anomaly.auc.unwrap_or(f64::NAN)
        );
    }
    for (class, score) in &evaluation.classes {
        println!(
            "    {class}: precision {:.3} recall {:.3} F1 {:.3} of {}; told {:?}",
            score.precision,
            score.recall,
            score.f1,
            score.support,
            evaluation.confusion.get(class)
        );
    }
}

fn write_rows(
    out: &mut impl Write,
    fold: &str,
    side: &str,
    samples: &Samples,
) -> std::io::Result<()> {
    for row in 0..samples.len() {
        write!(
            out,
            "{fold},{side},{},{}",
            samples.origin(row).2,
            samples.class(row)
        )?;
        for value in samples.features(row) {
            if value.is_nan() {
                write!(out, ",")?
            } else {
                write!(out, ",{value}")?
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// An ensemble of linfa's trees on bootstrapped rows and jittered features, voting: what the forest was chosen over.
fn linfa_trees(count: usize, learned: &Samples, told: &Samples) -> Result<(), Box<dyn Error>> {
    const MOST: usize = 20_000;
    let started = Instant::now();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    // linfa's trees know no unknown value: far below all others.
    let known = |value: f32| {
        if value.is_nan() {
            -1e3
        } else {
            f64::from(value)
        }
    };
    let rows = learned.len().min(MOST);
    let mut trees = Vec::with_capacity(count);
    for _ in 0..count {
        let drawn: Vec<usize> = (0..rows)
            .map(|_| random.random_range(0..learned.len()))
            .collect();
        let records = Array2::from_shape_fn((rows, FEATURES), |(row, feature)| {
            known(learned.features(drawn[row])[feature]) + random.random_range(-1e-6..1e-6)
        });
        let class = |row: &usize| {
            learned
                .classes()
                .iter()
                .position(|one| one == learned.class(*row))
                .unwrap_or(0)
        };
        let labels: Array1<usize> = drawn.iter().map(class).collect();
        trees.push(
            DecisionTree::params()
                .max_depth(Some(14))
                .fit(&Dataset::new(records, labels))?,
        );
    }
    let fitted = started.elapsed();
    let records = Array2::from_shape_fn((told.len(), FEATURES), |(row, feature)| {
        known(told.features(row)[feature])
    });
    let started = Instant::now();
    let votes: Vec<Array1<usize>> = trees.iter().map(|tree| tree.predict(&records)).collect();
    let row = started.elapsed().as_secs_f64() * 1e6 / told.len() as f64;
    let mut right = 0;
    // Truth, told: for F1.
    let classes = learned.classes().len();
    let mut confusion = vec![vec![0_usize; classes]; classes];
    for at in 0..told.len() {
        let mut counts = vec![0; classes];
        votes.iter().for_each(|vote| counts[vote[at]] += 1);
        let most = (0..classes)
            .max_by_key(|class| (counts[*class], classes - class))
            .unwrap_or(0);
        let truth = learned
            .classes()
            .iter()
            .position(|one| one == told.class(at))
            .unwrap_or(0);
        confusion[truth][most] += 1;
        right += usize::from(truth == most);
    }
    let scores: Vec<f64> = (0..classes)
        .filter(|class| confusion[*class].iter().sum::<usize>() > 0)
        .map(|class| {
            let named: usize = confusion.iter().map(|row| row[class]).sum();
            let support: usize = confusion[class].iter().sum();
            2.0 * confusion[class][class] as f64 / (named + support).max(1) as f64
        })
        .collect();
    println!(
        "{count} trees of linfa on {rows} rows each: fit {:.1} s, {row:.2} µs a row, macro F1 {:.3}, accuracy {:.3}",
        fitted.as_secs_f64(),
        scores.iter().sum::<f64>() / scores.len().max(1) as f64,
        right as f64 / told.len() as f64
    );
    Ok(())
}
