//! How well the pipeline tells attacks with a model that acts: by events, as `weir score` counts them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use weir_datasets::family;
use weir_datasets::score::{Details, Score, Window, read_events, read_truths, score};
use weir_flow_store::is_parquet;
use weir_models::{Model, ModelId};

use super::data::looks_captured;
use super::watcher::Watcher;
use crate::config::Settings;
use crate::replay;

/// Flows with labels, and the configuration that they are replayed by.
pub(super) struct Trial {
    pub(super) settings: Settings,
    pub(super) files: Vec<PathBuf>,
    pub(super) labels: PathBuf,
}

/// The figures of events.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
pub(super) struct Figures {
    /// Labels with an attack.
    attacks: u64,
    /// Detected ones.
    detected: u64,
    /// Detected ones whose events name the label's attack.
    named: u64,
    /// Attacks told of nothing.
    false_alarms: u64,
    /// Attacks told twice.
    duplicates: u64,
    precision: f64,
    recall: f64,
    detect_p50_s: Option<f64>,
    detect_p95_s: Option<f64>,
    /// All delays, and the whole label's length for each that was not detected: what waiting costs, in seconds.
    undetected_s: f64,
    #[serde(skip)]
    delays: Vec<f64>,
    /// Attacks told that are detections.
    #[serde(skip)]
    hits: u64,
}

/// Seconds of delay that are no difference.
const ALIKE: f64 = 1.0;

/// The figures of the pipeline over several trials with this model, or without any.
pub(super) fn run_all(
    trials: &[Trial],
    model: Option<(&Model, &ModelId)>,
) -> anyhow::Result<Figures> {
    let mut sum = Figures::default();
    for trial in trials {
        sum.add(&trial.run(model)?);
    }
    Ok(sum)
}

impl Trial {
    fn run(&self, model: Option<(&Model, &ModelId)>) -> anyhow::Result<Figures> {
        let mut settings = self.settings.clone();
        settings.collector.shards = 1;
        let watcher = model.map(|(model, id)| {
            let sink = Box::new(std::io::sink());
            let mut watcher = Watcher::new((model.clone(), id.clone()), &settings, sink);
            watcher.act(true);
            watcher
        });
        let mut lines = Vec::new();
        replay::events_of(&settings, &self.files, watcher, &mut lines)?;
        let told = read_events(lines.as_slice())?;
        let truths = truths(&self.labels)?;
        let zones = settings.detector.zones.iter();
        let window = Window {
            zones: zones.flat_map(|zone| zone.prefixes.clone()).collect(),
            ..Window::default()
        };
        let (score, details) = score(&told, &truths, &window);
        Ok(Figures::of(&score, &details))
    }
}

fn truths(labels: &Path) -> anyhow::Result<Vec<weir_datasets::score::Truth>> {
    let name = || labels.display().to_string();
    let file = std::fs::File::open(labels).with_context(name)?;
    read_truths(std::io::BufReader::new(file)).with_context(name)
}

impl Figures {
    fn of(score: &Score, details: &Details) -> Self {
        let told = details.detections.iter();
        let named = told.clone().filter(|one| {
            let vectors = one.vectors.iter();
            vectors
                .into_iter()
                .any(|name| family(name) == family(&one.attack))
        });
        let ids: BTreeSet<&String> = told.clone().map(|one| &one.id).collect();
        let missed = details.misses.iter().map(|one| one.end.since(one.start));
        let mut figures = Self {
            attacks: score.attacks,
            detected: score.detected,
            named: named.count() as u64,
            false_alarms: score.false_alarms,
            duplicates: score.duplicates,
            undetected_s: missed.map(|time| time.as_secs_f64()).sum(),
            delays: told.map(|one| one.delay_s).collect(),
            hits: ids.len() as u64,
            ..Self::default()
        };
        figures.undetected_s += figures.delays.iter().sum::<f64>();
        figures.work_out();
        figures
    }

    /// Whether a label names an attack.
    pub(super) fn has_attacks(&self) -> bool {
        self.attacks > 0
    }

    fn add(&mut self, other: &Self) {
        self.attacks += other.attacks;
        self.detected += other.detected;
        self.named += other.named;
        self.false_alarms += other.false_alarms;
        self.duplicates += other.duplicates;
        self.undetected_s += other.undetected_s;
        self.delays.extend(&other.delays);
        self.hits += other.hits;
        self.work_out();
    }

    /// Works out shares and percentiles from what is counted. Shares of nothing are 1, as in `weir score`.
    fn work_out(&mut self) {
        let share = |part: u64, whole: u64| match whole {
            0 => 1.0,
            whole => rounded(part as f64 / whole as f64),
        };
        self.precision = share(self.hits, self.hits + self.false_alarms);
        self.recall = share(self.detected, self.attacks);
        self.delays.sort_by(f64::total_cmp);
        let percentile = |share: f64| {
            let rank = (share * self.delays.len() as f64).ceil() as usize;
            self.delays.get(rank.saturating_sub(1)).copied()
        };
        self.detect_p50_s = percentile(0.5);
        self.detect_p95_s = percentile(0.95);
        self.undetected_s = rounded(self.undetected_s);
    }

    /// Whether nothing is worse than in another's: as many attacks found, no more false alarms, none told oftener, none found
    /// later.
    pub(super) fn is_no_worse(&self, other: &Self) -> bool {
        self.detected >= other.detected
            && self.false_alarms <= other.false_alarms
            && self.duplicates <= other.duplicates
            && self.undetected_s <= other.undetected_s + ALIKE
    }

    /// Whether it is no worse, and something is better: more found, fewer false alarms, found earlier, or more called by their
    /// names.
    pub(super) fn is_better(&self, other: &Self) -> bool {
        self.is_no_worse(other)
            && (self.detected > other.detected
                || self.false_alarms < other.false_alarms
                || self.undetected_s < other.undetected_s - ALIKE
                || self.named > other.named)
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        let delay = self
            .detect_p50_s
            .map_or_else(|| "-".to_owned(), |delay| format!("{delay:.1} s"));
        format!(
            "{} of {} attacks detected, {} named, {} false alarms, {} told twice, median delay {delay}",
            self.detected, self.attacks, self.named, self.false_alarms, self.duplicates
        )
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Whether all files can be replayed: captures, and Parquet files or folders of such.
pub(super) fn can_be_replayed(files: &[PathBuf]) -> bool {
    let fits = |path: &PathBuf| is_parquet(path) || looks_captured(path).unwrap_or(false);
    !files.is_empty() && files.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Figures {
        /// So many detected of labels of 100 s each, all at once.
        pub(in crate::learn) fn told(attacks: u64, detected: u64, false_alarms: u64) -> Self {
            Self {
                attacks,
                ..figures(detected, false_alarms, 0.0, 0)
            }
        }
    }

    fn figures(detected: u64, false_alarms: u64, delay: f64, named: u64) -> Figures {
        let mut figures = Figures {
            attacks: 10,
            detected,
            named,
            false_alarms,
            hits: detected,
            delays: vec![delay; detected as usize],
            undetected_s: delay * detected as f64 + 100.0 * (10 - detected) as f64,
            ..Figures::default()
        };
        figures.work_out();
        figures
    }

    #[test]
    fn better_is_more_or_earlier_or_named_and_never_bought_with_false_alarms() {
        let base = figures(5, 1, 4.0, 3);
        for (other, no_worse, better) in [
            (figures(5, 1, 4.0, 3), true, false),
            (figures(6, 1, 4.0, 3), true, true),
            (figures(6, 2, 4.0, 6), false, false),
            (figures(5, 0, 4.0, 3), true, true),
            (figures(4, 0, 1.0, 4), false, false),
            (figures(5, 1, 2.0, 3), true, true),
            (figures(5, 1, 9.0, 5), false, false),
            (figures(5, 1, 4.0, 5), true, true),
        ] {
            assert_eq!(other.is_no_worse(&base), no_worse, "{}", other.words());
            assert_eq!(other.is_better(&base), better, "{}", other.words());
        }
        let mut both = base.clone();
        both.add(&figures(10, 0, 2.0, 0));
        assert_eq!((both.attacks, both.detected, both.recall), (20, 15, 0.75));
        assert_eq!((both.precision, both.detect_p50_s), (0.9375, Some(2.0)));
    }
}
