use std::collections::{BTreeMap, HashMap, VecDeque};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
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
    /// Of windows of peace one in so many is kept, by chance: there are always enough. Probabilities count for it.
    pub peace_one_in: u32,
    /// The share, in percent, of a window's records, packets or octets that an attack needs to be the window's label: a wrong
    /// label among many right ones makes no attack.
    pub least_percent: u8,
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
            peace_one_in: 1,
            least_percent: 20,
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
    /// Who says what it is; empty for the data themselves.
    pub by: &'a str,
    /// Nobody says what it is, and no peace is declared for it: its windows are not learned from, unless they are of an attack.
    pub undeclared: bool,
}

impl<'a> Source<'a> {
    /// A record that its data set labels itself.
    pub fn new(capture: &'a str, attack: Option<&'a str>) -> Self {
        Self {
            capture,
            attack,
            flags_known: true,
            answer: None,
            by: "",
            undeclared: false,
        }
    }
}

/// What did not become a lesson.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct LessonCounters {
    /// Records taken.
    pub records: u64,
    /// Records of attacks that matched no window.
    pub unmatched: u64,
    /// Windows with too small a share of attack to be one: they count as peace.
    #[serde(default)]
    pub outweighed: u64,
    /// Windows of which nobody says anything: neither peace nor attack.
    #[serde(default)]
    pub undeclared: u64,
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
    by: u16,
    flags_known: bool,
    answer: Option<bool>,
    undeclared: bool,
}

/// The label join: records with what they belong to, in; labelled windows, out.
///
/// A window is of an attack if records of that attack to its target ended within the last ten seconds and are a share of at least
/// [`least_percent`](LessonSettings::least_percent) of all its records, packets or octets (of several attacks, the one with most
/// records); else of peace. What thinning leaves out is left out of the label too.
#[derive(Default)]
pub struct Lessons {
    settings: LessonSettings,
    captures: BTreeMap<String, Vec<Kept>>,
    held: usize,
    attacks: Vec<String>,
    /// Who says what records are; the first is the data themselves.
    sayers: Vec<String>,
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
            sayers: vec![String::new()],
            ..Self::default()
        }
    }

    /// Takes a record; its times are event times.
    pub fn handle_row(&mut self, row: &Row, source: &Source<'_>) {
        self.counters.records += 1;
        let attack = source
            .attack
            .map_or(0, |name| number(&mut self.attacks, name));
        let by = number(&mut self.sayers, source.by);
        if !self.captures.contains_key(source.capture) {
            self.captures.insert(source.capture.to_owned(), Vec::new());
        }
        if let Some(kept) = self.captures.get_mut(source.capture) {
            kept.push(Kept {
                row: sane(row),
                attack,
                by,
                flags_known: source.flags_known,
                answer: source.answer,
                undeclared: source.undeclared && attack == 0,
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
                    let names = (self.attacks.as_slice(), self.sayers.as_slice());
                    lane.drain(&key.0, names, &mut self.samples, &mut self.counters);
                    lane.close(&mut self.counters);
                }
            }
        }
        (self.samples, self.counters)
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
                    (&self.attacks, &self.sayers),
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
                ..Limits::default()
            }),
            one_in,
            one_way: self.settings.one_way && number % 2 == 1,
            least_percent: self.settings.least_percent,
            peace: self
                .settings
                .peace_one_in
                .checked_sub(1)
                .filter(|others| *others > 0)
                .map(|others| {
                    let seed = self.settings.seed ^ (number as u64) << 32;
                    (ChaCha8Rng::seed_from_u64(seed), others + 1)
                }),
            seen: HashMap::new(),
            swept: i64::MIN,
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
    least_percent: u8,
    /// Which windows of peace are kept: one in so many.
    peace: Option<(ChaCha8Rng, u32)>,
    /// All records by target and second.
    seen: HashMap<Address, VecDeque<(i64, Sums)>>,
    /// When idle targets were last swept out of `seen`.
    swept: i64,
    /// Those of attacks.
    attacked: HashMap<Address, VecDeque<Part>>,
    /// The last second in which an attacker got an answer.
    attackers: HashMap<Address, i64>,
}

/// What there was of something.
#[derive(Clone, Copy, Default)]
struct Sums {
    records: u64,
    packets: u64,
    octets: u64,
    undeclared: u64,
}

/// An attack's part in a second of its target.
struct Part {
    second: i64,
    attack: u16,
    by: u16,
    sums: Sums,
    /// Whether a window had it.
    used: bool,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.packets = self.packets.saturating_add(other.packets);
        self.octets = self.octets.saturating_add(other.octets);
        self.undeclared += other.undeclared;
    }

    /// Whether this is so many percent of a whole, in whatever is counted.
    fn is_share(&self, whole: &Self, percent: u8) -> bool {
        let enough = |part: u64, whole: u64| {
            u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
        };
        enough(self.records, whole.records)
            || enough(self.packets, whole.packets)
            || enough(self.octets, whole.octets)
    }
}

impl Lane {
    fn handle(&mut self, kept: &Kept) {
        let second = kept.row.flow_end.div_euclid(NANOS);
        let answer = kept.answer == Some(true);
        let target = kept.row.destination_address;
        let sums = Sums {
            records: 1,
            packets: kept.row.packets,
            octets: kept.row.octets,
            undeclared: u64::from(kept.undeclared),
        };
        if !(answer && self.one_way) {
            self.windows.handle_row(&kept.row, kept.flags_known);
            let seconds = self.seen.entry(target).or_default();
            match seconds.back_mut() {
                Some((last, seen)) if *last == second => seen.add(&sums),
                _ => seconds.push_back((second, sums)),
            }
        }
        if kept.attack != 0 && answer {
            self.attackers.insert(target, second);
        } else if kept.attack != 0 {
            let parts = self.attacked.entry(target).or_default();
            let same = |part: &&mut Part| {
                (part.second, part.attack, part.by, part.used)
                    == (second, kept.attack, kept.by, false)
            };
            match parts.iter_mut().rev().take(4).find(same) {
                Some(part) => part.sums.add(&sums),
                None => parts.push_back(Part {
                    second,
                    attack: kept.attack,
                    by: kept.by,
                    sums,
                    used: false,
                }),
            }
        }
        self.windows.handle_time(kept.row.flow_end);
        self.sweep(second);
    }

    /// Forgets what no window asks for any more, once a minute.
    fn sweep(&mut self, second: i64) {
        if second < self.swept.saturating_add(60) {
            return;
        }
        self.swept = second;
        let old = |last: i64| last < second - 3 * LABEL_SECONDS;
        self.seen
            .retain(|_, seconds| seconds.back().is_some_and(|(last, _)| !old(*last)));
        self.attackers.retain(|_, last| !old(*last));
    }

    fn drain(
        &mut self,
        capture: &str,
        (attacks, sayers): (&[String], &[String]),
        samples: &mut Samples,
        counters: &mut LessonCounters,
    ) {
        while let Some(window) = self.windows.poll_window() {
            let Some((attack, by)) = self.label_of(&window, counters) else {
                counters.undeclared += 1;
                continue;
            };
            let last = self.attackers.get(&window.target);
            if attack == 0 && last.is_some_and(|last| (last - window.second).abs() <= LABEL_SECONDS)
            {
                counters.involved += 1;
                continue;
            }
            let left_out =
                |(random, one_in): &mut (ChaCha8Rng, u32)| random.random_range(0..*one_in) > 0;
            if attack == 0 && self.peace.as_mut().is_some_and(left_out) {
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
                by: sayers.get(usize::from(by)).map_or("", String::as_str),
            });
        }
    }

    /// The attack with most records in the window if it is enough of it, and who says so; (0, 0) for peace, `None` where nobody
    /// says that it is peace.
    fn label_of(&mut self, window: &Window, counters: &mut LessonCounters) -> Option<(u16, u16)> {
        let first = window.second - LABEL_SECONDS + 1;
        let mut whole = Sums::default();
        if let Some(seconds) = self.seen.get_mut(&window.target) {
            while seconds.front().is_some_and(|(second, _)| *second < first) {
                seconds.pop_front();
            }
            let within = seconds
                .iter()
                .filter(|(second, _)| *second <= window.second);
            within.for_each(|(_, sums)| whole.add(sums));
        }
        let peace = (whole.undeclared == 0).then_some((0, 0));
        let Some(parts) = self.attacked.get_mut(&window.target) else {
            return peace;
        };
        while parts.front().is_some_and(|part| part.second < first) {
            if let Some(part) = parts
                .pop_front()
                .filter(|part| !part.used && self.one_in == 1)
            {
                counters.unmatched += part.sums.records;
            }
        }
        let mut attacks: BTreeMap<u16, Sums> = BTreeMap::new();
        let mut sayers: BTreeMap<(u16, u16), u64> = BTreeMap::new();
        for part in parts.iter_mut().filter(|part| part.second <= window.second) {
            attacks.entry(part.attack).or_default().add(&part.sums);
            *sayers.entry((part.attack, part.by)).or_default() += part.sums.records;
            part.used = true;
        }
        let most = attacks
            .into_iter()
            .max_by_key(|(attack, sums)| (sums.records, u16::MAX - attack));
        let Some((attack, sums)) = most else {
            return peace;
        };
        if !sums.is_share(&whole, self.least_percent) {
            counters.outweighed += 1;
            return peace;
        }
        let by = sayers
            .into_iter()
            .filter(|((of, _), _)| *of == attack)
            .max_by_key(|((_, by), records)| (*records, u16::MAX - by));
        Some((attack, by.map_or(0, |((_, by), _)| by)))
    }

    fn close(&self, counters: &mut LessonCounters) {
        let Counters { refused, late, .. } = self.windows.counters();
        counters.refused += refused;
        counters.late += late;
        if self.one_in == 1 {
            let unused = self.attacked.values().flatten().filter(|part| !part.used);
            counters.unmatched += unused.map(|part| part.sums.records).sum::<u64>();
        }
    }
}

/// The number of a name; beyond the table's bound all are `other`.
fn number(names: &mut Vec<String>, name: &str) -> u16 {
    let at = names.iter().position(|one| one == name);
    let at = at.or_else(|| {
        let name = if names.len() < 255 { name } else { "other" };
        names.iter().position(|one| one == name).or_else(|| {
            names.push(name.to_owned());
            Some(names.len() - 1)
        })
    });
    at.and_then(|at| u16::try_from(at).ok()).unwrap_or(0)
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
