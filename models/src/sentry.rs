use std::collections::BTreeMap;
use std::collections::VecDeque;

use weir_flow_record::{Address, FlowBatch};

use crate::drift::Drift;
use crate::explain::Reason;
use crate::features::{Limits, Window, Windows, schema};
use crate::model::Model;

/// The probability of an attack from which a window counts against its target.
const LIKELY: f32 = 0.9;

/// Windows that must count within [`RECENT`] seconds before an alarm is raised: one odd second is no attack.
const NEEDED: usize = 3;

/// See [`NEEDED`].
const RECENT: i64 = 10;

/// Seconds without such a window after which an alarm ends.
const QUIET: i64 = 60;

/// Windows after which features are compared with those of training.
const COMPARED: u64 = 20_000;

/// The stability index from which a feature has clearly changed.
const CHANGED: f32 = 0.25;

/// Reasons given with an alarm.
const REASONS: usize = 3;

/// A model that watches targets: records in, alarms out. It decides nothing: what is made of an alarm is its owner's.
///
/// Feed [`watch`](Self::watch), [`handle_batch`](Self::handle_batch) and [`handle_time`](Self::handle_time), and after each drain
/// [`poll_alarm`](Self::poll_alarm). In the data's own time, so that a replay says what a live run would have said.
#[derive(Debug)]
pub struct Sentry {
    model: Model,
    windows: Windows,
    suspects: BTreeMap<Address, Suspect>,
    alarms: VecDeque<Alarm>,
    drift: Drift,
    judged: u64,
    changed: Option<Vec<(String, f32)>>,
}

/// Something to be told.
#[derive(Clone, PartialEq, Debug)]
pub struct Alarm {
    /// Whom the attack is against.
    pub target: Address,
    /// What it is, in the model's classes.
    pub class: String,
    /// The mean probability of that class over its windows.
    pub confidence: f32,
    /// The first second of it.
    pub start: i64,
    /// The second after which it was first told.
    pub detected: i64,
    /// Its last second, once it is over.
    pub end: Option<i64>,
    /// What it rests on, strongest first.
    pub reasons: Vec<Reason>,
}

#[derive(Debug, Default)]
struct Suspect {
    /// Seconds that count, with class and confidence; at most [`RECENT`] of them.
    recent: VecDeque<(i64, usize, f32)>,
    told: Option<Alarm>,
    last: i64,
    sum: f32,
    count: u32,
}

impl Sentry {
    /// A sentry that watches nobody yet; `targets` at most.
    pub fn new(model: Model, targets: usize) -> Self {
        Self {
            drift: model.drift(),
            judged: 0,
            changed: None,
            model,
            windows: Windows::new(Limits {
                max_targets: targets,
                ..Limits::default()
            }),
            suspects: BTreeMap::new(),
            alarms: VecDeque::new(),
        }
    }

    /// Begins to watch a target; false if there are too many.
    pub fn watch(&mut self, target: Address) -> bool {
        self.windows.watch(target)
    }

    /// Whether it watches a target.
    pub fn is_watched(&self, target: Address) -> bool {
        self.windows.is_watched(target)
    }

    /// The model that judges.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Takes in records.
    pub fn handle_batch(&mut self, batch: &FlowBatch) {
        self.windows.handle_batch(batch);
    }

    /// The data's time has come to `now`, ns.
    pub fn handle_time(&mut self, now: i64) {
        self.windows.handle_time(now);
        while let Some(window) = self.windows.poll_window() {
            self.judge(&window);
        }
        self.end_quiet(now.div_euclid(1_000_000_000));
    }

    /// No more records will come: what is open ends.
    pub fn handle_end(&mut self) {
        self.windows.handle_end();
        while let Some(window) = self.windows.poll_window() {
            self.judge(&window);
        }
        self.end_quiet(i64::MAX);
    }

    /// The next thing to be told, in order of time.
    #[must_use]
    pub fn poll_alarm(&mut self) -> Option<Alarm> {
        self.alarms.pop_front()
    }

    /// Features that have drifted from training, with their stability indexes, greatest first: the model may speak of
    /// another world than it learned. At most once in 20,000 windows.
    #[must_use]
    pub fn poll_drift(&mut self) -> Option<Vec<(String, f32)>> {
        self.changed.take()
    }

    fn compare(&mut self) {
        let schema = schema();
        let far = self
            .drift
            .indexes()
            .into_iter()
            .take_while(|(_, index)| *index > CHANGED);
        let named =
            far.filter_map(|(feature, index)| Some((schema.get(feature)?.name.clone(), index)));
        let changed: Vec<(String, f32)> = named.collect();
        self.changed = (!changed.is_empty()).then_some(changed);
        self.drift.clear();
    }

    fn judge(&mut self, window: &Window) {
        let verdict = self.model.judge(&window.features);
        // What looks like an attack is not what the world has become.
        if verdict.class == 0 {
            self.drift.handle_window(&window.features);
            self.judged += 1;
            if self.judged.is_multiple_of(COMPARED) {
                self.compare();
            }
        }
        if verdict.attack < LIKELY || verdict.class == 0 {
            return;
        }
        let suspect = self.suspects.entry(window.target).or_default();
        suspect.last = window.second;
        suspect.sum += verdict.confidence;
        suspect.count += 1;
        suspect
            .recent
            .push_back((window.second, verdict.class, verdict.confidence));
        while suspect
            .recent
            .front()
            .is_some_and(|(second, ..)| *second <= window.second - RECENT)
        {
            suspect.recent.pop_front();
        }
        if suspect.told.is_some() || suspect.recent.len() < NEEDED {
            return;
        }
        let class = suspect.likeliest();
        let alarm = Alarm {
            target: window.target,
            class: self.model.class(class).to_owned(),
            confidence: suspect.sum / suspect.count as f32,
            start: suspect
                .recent
                .front()
                .map_or(window.second, |(second, ..)| *second),
            detected: window.second,
            end: None,
            reasons: self.model.explain(&window.features, REASONS),
        };
        suspect.told = Some(alarm.clone());
        self.alarms.push_back(alarm);
    }

    fn end_quiet(&mut self, now: i64) {
        let alarms = &mut self.alarms;
        self.suspects.retain(|_, suspect| {
            if now.saturating_sub(suspect.last) <= QUIET {
                return true;
            }
            if let Some(mut alarm) = suspect.told.take() {
                alarm.end = Some(suspect.last + 1);
                alarm.confidence = suspect.sum / suspect.count as f32;
                alarms.push_back(alarm);
            }
            false
        });
    }
}

impl Suspect {
    /// The class with most confidence in the seconds that count; the first of equals.
    fn likeliest(&self) -> usize {
        let mut sums: BTreeMap<usize, f32> = BTreeMap::new();
        for (_, class, confidence) in &self.recent {
            *sums.entry(*class).or_default() += confidence;
        }
        let mut best = (0, 0.0);
        for (class, sum) in sums {
            if sum > best.1 {
                best = (class, sum);
            }
        }
        best.0
    }
}
