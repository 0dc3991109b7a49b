use std::collections::{BTreeMap, HashMap, VecDeque};

use weir_flow_record::{Address, Row};

use crate::features::{Counters, Limits, Thinner, Window, Windows, sane};
use crate::samples::{NORMAL, Sample, Samples};

const NANOS: i64 = 1_000_000_000;

/// Seconds that a record's label stands for: the longest window.
const LABEL_SECONDS: i64 = 10;

/// Pieces that one flow is cut to at most (60 hours at an active timeout of a minute).
const MAX_PIECES: i64 = 3600;

/// How records become lessons.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LessonSettings {
    /// Sampling to train for: the data once for each, thinned to one packet in so many; 1 is as they are.
    pub thinning: Vec<u32>,
    /// Flows are cut as an exporter with this active timeout would have, in seconds.
    pub active_timeout: u32,
    /// Records kept for sorting; more are worked off in parts, and what comes out of order then is late.
    pub max_records: usize,
    /// Targets at a time.
    pub max_targets: usize,
    /// Every second pass sees one direction only, as an exporter on one link does.
    pub one_way: bool,
    /// The seed of all chance.
    pub seed: u64,
}

impl Default for LessonSettings {
    fn default() -> Self {
        Self {
            thinning: vec![1, 4, 16, 64, 256, 1024],
            active_timeout: 60,
            max_records: 4_000_000,
            max_targets: 65_536,
            one_way: true,
            seed: 1,
        }
    }
}

impl LessonSettings {
    /// The data as they are: for evaluation.
    pub fn plain() -> Self {
        Self {
            thinning: vec![1],
            one_way: false,
            ..Self::default()
        }
    }
}

/// Where a record comes from and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The capture; records of different captures never meet in a window.
    pub capture: &'a str,
    /// The attack that it belongs to; `None` is peace.
    pub attack: Option<&'a str>,
    /// Whether the source tells TCP flags.
    pub flags_known: bool,
    /// Whether it is known to be the answer to another flow: who answers an attack is its victim, not its target's target.
    /// `None` where the source does not say; then the flow that began first is the question.
    pub answer: Option<bool>,
}

/// What did not become a lesson.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct LessonCounters {
    /// Records taken.
    pub records: u64,
    /// Records of attacks that matched no window.
    pub unmatched: u64,
    /// Windows of attackers, who get answers: neither peace nor attack.
    pub involved: u64,
    /// Records for targets beyond the bound.
    pub refused: u64,
    /// Records out of order beyond what was sorted.
    pub late: u64,
}

#[derive(Clone, Copy)]
struct Kept {
    row: Row,
    attack: u16,
    flags_known: bool,
    answer: Option<bool>,
}

/// The label join: records with what they belong to, in; labelled windows, out.
///
/// A window is of an attack if a record of that attack to its target ended within the last ten seconds (of several attacks, the one
/// with most records); else of peace. What thinning leaves out is left out of the label too.
#[derive(Default)]
pub struct Lessons {
    settings: LessonSettings,
    captures: BTreeMap<String, Vec<Kept>>,
    held: usize,
    attacks: Vec<String>,
    lanes: BTreeMap<(String, usize), Lane>,
    samples: Samples,
    counters: LessonCounters,
}

impl Lessons {
    /// With nothing learned.
    pub fn new(settings: LessonSettings) -> Self {
        Self {
            settings,
            attacks: vec![NORMAL.to_owned()],
            ..Self::default()
        }
    }

    /// Takes a record; its times are event times.
    pub fn handle_row(&mut self, row: &Row, source: &Source<'_>) {
        self.counters.records += 1;
        let attack = source.attack.map_or(0, |name| self.attack(name));
        if !self.captures.contains_key(source.capture) {
            self.captures.insert(source.capture.to_owned(), Vec::new());
        }
        if let Some(kept) = self.captures.get_mut(source.capture) {
            kept.push(Kept {
                row: sane(row),
                attack,
                flags_known: source.flags_known,
                answer: source.answer,
            });
            self.held += 1;
        }
        if self.held >= self.settings.max_records {
            let fullest = self.captures.iter().max_by_key(|(_, kept)| kept.len());
            if let Some(name) = fullest.map(|(name, _)| name.clone()) {
                self.work_off(&name);
            }
        }
    }

    /// All windows, once all records are in.
    pub fn finish(mut self) -> (Samples, LessonCounters) {
        let names: Vec<String> = self.captures.keys().cloned().collect();
        for name in names {
            self.work_off(&name);
            let keys: Vec<_> = self
                .lanes
                .keys()
                .filter(|(capture, _)| *capture == name)
                .cloned()
                .collect();
            for key in keys {
                if let Some(mut lane) = self.lanes.remove(&key) {
                    lane.windows.handle_end();
                    lane.drain(&key.0, &self.attacks, &mut self.samples, &mut self.counters);
                    lane.close(&mut self.counters);
                }
            }
        }
        (self.samples, self.counters)
    }

    /// The number of an attack; beyond the table's bound all are `other`.
    fn attack(&mut self, name: &str) -> u16 {
        let at = self.attacks.iter().position(|one| one == name);
        let at = at.or_else(|| {
            let name = if self.attacks.len() < 255 {
                name
            } else {
                "other"
            };
            self.attacks.iter().position(|one| one == name).or_else(|| {
                self.attacks.push(name.to_owned());
                Some(self.attacks.len() - 1)
            })
        });
        at.and_then(|at| u16::try_from(at).ok()).unwrap_or(0)
    }

    fn work_off(&mut self, capture: &str) {
        let Some(mut rows) = self.captures.get_mut(capture).map(std::mem::take) else {
            return;
        };
        self.held -= rows.len();
        rows.sort_by_key(|kept| kept.row.flow_start);
        find_answers(&mut rows);
        let timeout = i64::from(self.settings.active_timeout.max(1)) * NANOS;
        for (number, one_in) in self.settings.thinning.clone().into_iter().enumerate() {
            let key = (capture.to_owned(), number);
            let mut lane = self
                .lanes
                .remove(&key)
                .unwrap_or_else(|| self.lane(number, one_in));
            let mut pieces: Vec<Kept> = Vec::with_capacity(rows.len());
            for kept in &rows {
                cut(kept, timeout, |piece| {
                    pieces.extend(
                        lane.thinner
                            .thin(&piece.row)
                            .map(|row| Kept { row, ..piece }),
                    );
                });
            }
            pieces.sort_by_key(|kept| kept.row.flow_end);
            for piece in &pieces {
                lane.handle(piece);
                lane.drain(
                    capture,
                    &self.attacks,
                    &mut self.samples,
                    &mut self.counters,
                );
            }
            self.lanes.insert(key, lane);
        }
    }

    fn lane(&self, number: usize, one_in: u32) -> Lane {
        Lane {
            thinner: Thinner::new(one_in, self.settings.seed),
            windows: Windows::new(Limits {
                max_targets: self.settings.max_targets,
                settle: 2,
                longest_settle: 2,
                every_target: true,
            }),
            one_in,
            one_way: self.settings.one_way && number % 2 == 1,
            attacked: HashMap::new(),
            attackers: HashMap::new(),
        }
    }
}

/// One pass over a capture with one thinning.
struct Lane {
    thinner: Thinner,
    windows: Windows,
    one_in: u32,
    one_way: bool,
    /// Records of attacks by target: second and attack, and whether a window had it.
    attacked: HashMap<Address, VecDeque<(i64, u16, bool)>>,
    /// The last second in which an attacker got an answer.
    attackers: HashMap<Address, i64>,
}

impl Lane {
    fn handle(&mut self, kept: &Kept) {
        let second = kept.row.flow_end.div_euclid(NANOS);
        let answer = kept.answer == Some(true);
        if !(answer && self.one_way) {
            self.windows.handle_row(&kept.row, kept.flags_known);
        }
        if kept.attack != 0 && answer {
            self.attackers.insert(kept.row.destination_address, second);
        } else if kept.attack != 0 {
            let records = self
                .attacked
                .entry(kept.row.destination_address)
                .or_default();
            records.push_back((second, kept.attack, false));
        }
        self.windows.handle_time(kept.row.flow_end);
    }

    fn drain(
        &mut self,
        capture: &str,
        attacks: &[String],
        samples: &mut Samples,
        counters: &mut LessonCounters,
    ) {
        while let Some(window) = self.windows.poll_window() {
            let attack = self.attack_of(&window, counters);
            let last = self.attackers.get(&window.target);
            if attack == 0 && last.is_some_and(|last| (last - window.second).abs() <= LABEL_SECONDS)
            {
                counters.involved += 1;
                continue;
            }
            samples.push(&Sample {
                features: &window.features,
                class: attacks
                    .get(usize::from(attack))
                    .map_or(NORMAL, String::as_str),
                capture,
                second: window.second,
                thinned: self.one_in,
                records: 1,
            });
        }
    }

    /// The attack with most records in the window; 0 if there is none.
    fn attack_of(&mut self, window: &Window, counters: &mut LessonCounters) -> u16 {
        let Some(records) = self.attacked.get_mut(&window.target) else {
            return 0;
        };
        while records
            .front()
            .is_some_and(|(second, ..)| *second <= window.second - LABEL_SECONDS)
        {
            let used = records.pop_front().is_some_and(|(.., used)| used);
            counters.unmatched += u64::from(!used && self.one_in == 1);
        }
        let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
        for (second, attack, used) in records.iter_mut() {
            if *second <= window.second {
                *counts.entry(*attack).or_default() += 1;
                *used = true;
            }
        }
        let most = counts
            .into_iter()
            .max_by_key(|(attack, count)| (*count, u16::MAX - attack));
        most.map_or(0, |(attack, _)| attack)
    }

    fn close(&self, counters: &mut LessonCounters) {
        let Counters { refused, late, .. } = self.windows.counters();
        counters.refused += refused;
        counters.late += late;
        if self.one_in == 1 {
            let unused =
                |records: &VecDeque<(i64, u16, bool)>| records.iter().filter(|one| !one.2).count();
            counters.unmatched += self.attacked.values().map(unused).sum::<usize>() as u64;
        }
    }
}

/// Tells answers among the records of attacks where the source does not: of two opposite flows the later one.
fn find_answers(rows: &mut [Kept]) {
    let mut seen: HashMap<(Address, Address, u16, u16, u8), ()> = HashMap::new();
    for kept in rows
        .iter_mut()
        .filter(|kept| kept.attack != 0 && kept.answer.is_none())
    {
        let row = &kept.row;
        let forth = (
            row.source_address,
            row.destination_address,
            row.source_port,
            row.destination_port,
            row.protocol,
        );
        let back = (forth.1, forth.0, forth.3, forth.2, forth.4);
        let answer = seen.contains_key(&back);
        kept.answer = Some(answer);
        if !answer {
            seen.insert(forth, ());
        }
    }
}

/// Cuts a flow as an exporter with that active timeout would have.
fn cut(kept: &Kept, timeout: i64, mut give: impl FnMut(Kept)) {
    let row = &kept.row;
    let whole = row.flow_end.saturating_sub(row.flow_start).max(0);
    if whole <= timeout || row.packets < 2 {
        give(*kept);
        return;
    }
    let pieces = (whole / timeout + 1).min(MAX_PIECES);
    let part = |total: u64, index: i64| (u128::from(total) * index as u128 / pieces as u128) as u64;
    for index in 0..pieces {
        let packets = part(row.packets, index + 1) - part(row.packets, index);
        if packets == 0 {
            continue;
        }
        let mut piece = *kept;
        piece.row.packets = packets;
        piece.row.octets = part(row.octets, index + 1) - part(row.octets, index);
        piece.row.flow_start = row.flow_start + whole / pieces * index;
        piece.row.flow_end = row.flow_start + whole / pieces * (index + 1);
        give(piece);
    }
}
