use std::collections::BTreeMap;
use std::collections::VecDeque;

use weir_flow_record::{Address, FlowBatch};

use crate::drift::Drift;
use crate::explain::Reason;
use crate::features::{LONGEST_SETTLE, Limits, Window, Windows, schema};
use crate::model::Model;

/// Windows that must count within [`RECENT`] seconds before an alarm is raised: one odd second is no attack.
const NEEDED: usize = 4;

/// Percent of the windows of these seconds that must count: what now and then looks like an attack is none.
const MOST: usize = 60;

/// See [`NEEDED`].
const RECENT: i64 = 10;

/// Seconds without such a window after which an alarm ends.
const QUIET: i64 = 60;

/// Seconds after which an alarm that goes on is told again.
const AGAIN: i64 = 10;

/// Windows after which features are compared with those of training.
const COMPARED: u64 = 20_000;

/// The stability index from which a feature has clearly changed.
const CHANGED: f32 = 0.25;

/// Records of targets in a second from which on packets are sampled: each takes about a microsecond.
const MOST_RECORDS: u32 = 32_768;

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
    /// The probability of an attack from which a window counts against its target.
    likely: f32,
    drift: Drift,
    judged: u64,
    /// The second in which it was last looked for alarms that are over.
    looked: i64,
    changed: Option<Vec<(String, f32)>>,
}

/// Something to be told.
#[derive(Clone, PartialEq, Debug)]
pub struct Alarm {
    /// Whom the attack is against.
    pub target: Address,
    /// What it is, in the model's classes.
    pub class: String,
    /// The mean probability of an attack of any kind over its windows.
    pub attack: f32,
    /// The mean probability of its kind over its windows.
    pub confidence: f32,
    /// The first second of it.
    pub start: i64,
    /// The second after which it was first told.
    pub detected: i64,
    /// The newest second that counts.
    pub last: i64,
    /// Whether it begins, goes on or is over.
    pub phase: Phase,
    /// What it rests on, strongest first.
    pub reasons: Vec<Reason>,
}

/// How an alarm stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It is told for the first time.
    Begins,
    /// There were further seconds that count; told every ten seconds at most.
    GoesOn,
    /// There were none for a minute.
    Over,
}

#[derive(Debug, Default)]
struct Suspect {
    /// The newest seconds with class and confidence; class 0 does not count. At most [`RECENT`] of them.
    recent: VecDeque<(i64, usize, f32)>,
    told: Option<Alarm>,
    last: i64,
    /// When it was told last.
    told_at: i64,
    attacks: f32,
    confidences: f32,
    count: u32,
}

impl Sentry {
    /// A sentry that watches nobody yet; `targets` at most. Windows count against a target from `likely` on, the probability of an
    /// attack.
    pub fn new(model: Model, targets: usize, likely: f32) -> Self {
        Self {
            drift: model.drift(),
            judged: 0,
            looked: i64::MIN,
            changed: None,
            model,
            windows: Windows::new(Limits {
                max_targets: targets,
                longest_settle: LONGEST_SETTLE,
                most_records: MOST_RECORDS,
                ..Limits::default()
            }),
            suspects: BTreeMap::new(),
            alarms: VecDeque::new(),
            likely,
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

    /// Targets watched, and those that found no room.
    pub fn watched(&self) -> (usize, u64) {
        (self.windows.targets(), self.windows.counters().refused)
    }

    /// One packet in how many is looked at: above some 30,000 records of targets in a second they are sampled.
    pub fn thinned_to(&self) -> u32 {
        self.windows.thinned_to()
    }

    /// Windows judged.
    pub fn judged(&self) -> u64 {
        self.windows.counters().windows
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
        let second = now.div_euclid(1_000_000_000);
        if second > self.looked {
            self.looked = second;
            self.end_quiet(second);
        }
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
        let counts = verdict.attack >= self.likely && verdict.class != 0;
        if !counts {
            if let Some(suspect) = self.suspects.get_mut(&window.target) {
                suspect.note(window.second, 0, 0.0);
            }
            return;
        }
        let suspect = self.suspects.entry(window.target).or_default();
        suspect.last = window.second;
        suspect.attacks += verdict.attack;
        suspect.confidences += verdict.confidence;
        suspect.count += 1;
        suspect.note(window.second, verdict.class, verdict.confidence);
        let wait = match suspect.told {
            Some(_) => window.second < suspect.told_at + AGAIN,
            None => false,
        };
        if wait || !suspect.is_enough() {
            return;
        }
        let class = self.model.class(suspect.likeliest());
        let mut alarm = match suspect.told.take() {
            Some(told) if told.class == class => told,
            Some(told) => Alarm {
                class: class.to_owned(),
                reasons: self.model.explain(&window.features, REASONS),
                ..told
            },
            None => Alarm {
                target: window.target,
                class: class.to_owned(),
                attack: 0.0,
                confidence: 0.0,
                start: suspect
                    .recent
                    .iter()
                    .find(|(_, class, _)| *class != 0)
                    .map_or(window.second, |(second, ..)| *second),
                detected: window.second,
                last: window.second,
                phase: Phase::Begins,
                reasons: self.model.explain(&window.features, REASONS),
            },
        };
        suspect.rate(&mut alarm);
        suspect.told_at = window.second;
        suspect.told = Some(Alarm {
            phase: Phase::GoesOn,
            ..alarm.clone()
        });
        self.alarms.push_back(alarm);
    }

    fn end_quiet(&mut self, now: i64) {
        let alarms = &mut self.alarms;
        self.suspects.retain(|_, suspect| {
            if now.saturating_sub(suspect.last) <= QUIET {
                return true;
            }
            if let Some(mut alarm) = suspect.told.take() {
                suspect.rate(&mut alarm);
                alarm.phase = Phase::Over;
                alarms.push_back(alarm);
            }
            false
        });
    }
}

impl Suspect {
    /// Notes a second, and forgets what is no longer recent.
    fn note(&mut self, second: i64, class: usize, confidence: f32) {
        self.recent.push_back((second, class, confidence));
        let is_old = |one: &(i64, usize, f32)| one.0 <= second - RECENT;
        while self.recent.front().is_some_and(is_old) {
            self.recent.pop_front();
        }
    }

    /// Whether so many of the newest seconds count that it is an attack.
    fn is_enough(&self) -> bool {
        let counting = self.recent.iter().filter(|(_, class, _)| *class != 0);
        let counting = counting.count();
        counting >= NEEDED && counting * 100 >= self.recent.len() * MOST
    }

    /// Brings an alarm's figures up to date.
    fn rate(&self, alarm: &mut Alarm) {
        alarm.last = self.last;
        alarm.attack = self.attacks / self.count as f32;
        alarm.confidence = self.confidences / self.count as f32;
    }

    /// The class with most confidence in the seconds that count; the first of equals.
    fn likeliest(&self) -> usize {
        let mut sums: BTreeMap<usize, f32> = BTreeMap::new();
        let counting = self.recent.iter().filter(|(_, class, _)| *class != 0);
        for (_, class, confidence) in counting {
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
