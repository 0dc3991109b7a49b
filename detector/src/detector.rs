//! The detector: summaries in, events, questions and watch lists out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weir_attack_event::{
    AttackId, DrillDown, EventKind, Findings, MitigationReport, Severity, Target,
};
use weir_flow_aggregate::{ExporterCoverage, Series, TargetScope, WatchList, WindowSummary};
use weir_flow_record::{EventTime, TargetKey, Timestamp};

use crate::DetectorOutput;
use crate::attack::{Attack, Beginning, SavedAttack};
use crate::config::{DetectorSettings, Threshold, Zone};
use crate::track::{Metric, Track};
use crate::words::{self, Crossing};

/// Attacks that may be open at once.
const MAX_ATTACKS: usize = 10_000;
/// Targets that are tracked without an attack; the aggregator's bounds keep it below in practice.
const MAX_TRACKS: usize = 65_536;
/// A target without an attack is forgotten after this.
const FORGET: i64 = 120;
/// Time over which coverage is taken.
const COVERAGE: i64 = 60;

/// Judges window after window. After each `handle_*`, poll [`poll_output`](Self::poll_output) until it is empty.
#[derive(Debug)]
pub struct Detector {
    settings: DetectorSettings,
    tracks: BTreeMap<(TargetScope, TargetKey), Track>,
    attacks: BTreeMap<(TargetScope, TargetKey), Attack>,
    settle: Duration,
    now: Timestamp,
    coverage: VecDeque<(i64, u64, u64)>,
    refused_attacks: u64,
    refused_series: u64,
    outputs: VecDeque<DetectorOutput>,
    swept: i64,
}

impl Detector {
    /// A detector without attacks.
    #[must_use]
    pub fn new(settings: DetectorSettings) -> Self {
        Self {
            settings,
            tracks: BTreeMap::new(),
            attacks: BTreeMap::new(),
            settle: Duration::from_secs(5),
            now: Timestamp::default(),
            coverage: VecDeque::new(),
            refused_attacks: 0,
            refused_series: 0,
            outputs: VecDeque::new(),
            swept: 0,
        }
    }

    /// Brings back an attack of an earlier run: it goes on under its name. An attack of a zone that is configured no more is
    /// ended at the next `handle_*`, as one that has been quiet.
    pub fn restore(&mut self, saved: SavedAttack) {
        if saved.is_closed() || self.attacks.len() >= MAX_ATTACKS {
            return;
        }
        let mut attack = Attack::restore(saved);
        let zone = self
            .settings
            .zones
            .iter()
            .find(|zone| zone.name == attack.target.zone);
        if let Some(zone) = zone {
            attack.key.zone = zone.id;
            attack.fired = matching(zone, attack.scope, &attack.key)
                .map(|(index, _)| index)
                .collect();
            attack.clear_for = longest_clear(zone, &attack.fired);
        }
        self.outputs.push_back(DetectorOutput::Watch(WatchList {
            watch: vec![attack.key],
            release: Vec::new(),
        }));
        self.attacks.insert((attack.scope, attack.key), attack);
    }

    /// Takes in what changed by a tick.
    pub fn handle_window(&mut self, summary: &WindowSummary) {
        self.handle_now(summary.time());
        let settle = summary.time().second() - summary.settled_until;
        self.settle = Duration::from_secs(u64::try_from(settle).unwrap_or(0));
        self.handle_coverage(&summary.coverage);
        // From narrow to wide: an attack on a host is not told again for its prefix and zone.
        for series in summary
            .hosts
            .iter()
            .chain(&summary.prefixes)
            .chain(&summary.zones)
        {
            self.handle_series(series);
        }
        self.handle_due();
        self.sweep();
    }

    /// Takes in the answer to a drill-down.
    pub fn handle_findings(&mut self, findings: Findings) {
        if let Some(attack) = self
            .attacks
            .values_mut()
            .find(|attack| attack.id == findings.attack)
        {
            attack.news |= attack.findings.is_none();
            attack.findings = Some(findings);
        }
    }

    /// Takes in the upstream's word.
    pub fn handle_mitigation(&mut self, report: &MitigationReport) {
        let now = self.now;
        let Some(attack) = self
            .attacks
            .values_mut()
            .find(|attack| attack.id == report.attack)
        else {
            return;
        };
        let zone = self.settings.zone(attack.key.zone);
        attack.handle_mitigation(
            now,
            report,
            zone.map_or(&[], |zone| zone.thresholds.as_slice()),
        );
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.handle_now(now);
        self.handle_due();
    }

    /// What follows, in order. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<DetectorOutput> {
        self.outputs.pop_front()
    }

    /// When `handle_timeout` is due; `None` while no attack is open.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let due = |attack: &Attack| {
            attack
                .end_due(self.settle)
                .min(attack.update_due(self.settings.update_interval))
        };
        // Due at once is due after now: time must pass.
        self.attacks
            .values()
            .map(due)
            .min()
            .map(|due| due.max(self.now.plus(Duration::from_nanos(1))))
    }

    /// Names of the open attacks.
    pub fn open_attacks(&self) -> impl Iterator<Item = &AttackId> {
        self.attacks.values().map(|attack| &attack.id)
    }

    /// Attacks that were not opened because too many are.
    #[must_use]
    pub fn refused_attacks(&self) -> u64 {
        self.refused_attacks
    }

    /// Series of targets that were not judged because too many targets are tracked.
    #[must_use]
    pub fn refused_series(&self) -> u64 {
        self.refused_series
    }

    fn handle_now(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        for attack in self.attacks.values_mut().filter(|attack| attack.restored) {
            // What happened while nobody looked is unknown: quiet is counted from now.
            attack.restored = false;
            attack.last_busy = attack.last_busy.max(now.second());
        }
    }

    fn handle_coverage(&mut self, coverage: &[ExporterCoverage]) {
        let sum = |figure: fn(&ExporterCoverage) -> u64| {
            coverage.iter().map(figure).fold(0, u64::saturating_add)
        };
        let second = self.now.second();
        if self
            .coverage
            .back()
            .is_none_or(|(newest, ..)| *newest < second)
        {
            self.coverage
                .push_back((second, sum(|c| c.records), sum(|c| c.missing_records)));
        }
        while self
            .coverage
            .front()
            .is_some_and(|(oldest, ..)| *oldest < second - COVERAGE)
        {
            self.coverage.pop_front();
        }
    }

    /// Share of the exported records that arrived, over the last minute.
    fn seen(&self) -> f64 {
        let (Some(first), Some(last)) = (self.coverage.front(), self.coverage.back()) else {
            return 1.0;
        };
        let (records, missing) = match self.coverage.len() {
            1 => (last.1, last.2),
            _ => (
                last.1.saturating_sub(first.1),
                last.2.saturating_sub(first.2),
            ),
        };
        if missing == 0 {
            1.0
        } else {
            records as f64 / (records + missing) as f64
        }
    }

    fn handle_series(&mut self, series: &Series) {
        let key = (series.scope, series.target);
        if !self.tracks.contains_key(&key) && self.tracks.len() >= MAX_TRACKS {
            self.refused_series += 1;
            return;
        }
        let track = self.tracks.entry(key).or_insert_with(Track::new);
        let mut attack = self.attacks.get_mut(&key);
        track.handle_series(series, |second, content| {
            if let Some(attack) = attack.as_deref_mut() {
                attack.handle_forgotten(second, &content);
            }
        });
        self.judge(key);
    }

    /// Holds a target's seconds against the thresholds of its zone.
    fn judge(&mut self, key: (TargetScope, TargetKey)) {
        let (scope, target) = key;
        let Some(zone) = self.settings.zones.get(usize::from(target.zone.0)) else {
            return;
        };
        let Some(track) = self.tracks.get(&key) else {
            return;
        };
        let mut opened = false;
        for (index, threshold) in matching(zone, scope, &target) {
            let Some((start, crossing)) = crossed(track, threshold) else {
                continue;
            };
            if !self.attacks.contains_key(&key) {
                if self.is_told_narrower(zone, key, start, crossing.metric, crossing.value) {
                    continue;
                }
                if self.attacks.len() >= MAX_ATTACKS {
                    self.refused_attacks += 1;
                    continue;
                }
                let attack = Attack::begin(Beginning {
                    key: target,
                    scope,
                    target: told_target(zone, scope, &target),
                    start_second: start,
                    now: self.now,
                    metric: crossing.metric,
                    dry_run: zone.dry_run,
                });
                self.attacks.insert(key, attack);
                opened = true;
            }
            let Some(attack) = self.attacks.get_mut(&key) else {
                continue;
            };
            let ratio = crossing.lower as f64 / crossing.limit as f64;
            attack.severity = attack.severity.max(severity(ratio));
            if !attack.fired.contains(&index) {
                attack.fired.push(index);
                let name = target_name(zone, &attack.target, scope);
                attack
                    .why
                    .push(words::crossing(threshold, &name, &crossing));
            }
        }
        let seen = self.seen();
        let Some(attack) = self.attacks.get_mut(&key) else {
            return self.settle_track(key);
        };
        attack.clear_for = longest_clear(zone, &attack.fired);
        attack.severity = attack.severity.max(pipe_severity(track, zone, attack));
        if opened {
            attack
                .why
                .extend(words::sampling(track.unknown_rate, track.max_sampling_rate));
            attack.why.extend(words::coverage(seen));
        }
        attack.measure(track, &zone.thresholds, self.settings.vendor_id, self.now);
        self.settle_track(key);
        if opened {
            self.open(key);
        }
    }

    /// Marks a track's seconds as looked at.
    fn settle_track(&mut self, key: (TargetScope, TargetKey)) {
        if let Some(track) = self.tracks.get_mut(&key) {
            track.changed_from = i64::MAX;
        }
    }

    /// Tells a new attack: it is saved first, and waits for no drill-down.
    fn open(&mut self, key: (TargetScope, TargetKey)) {
        let watch = WatchList {
            watch: vec![key.1],
            release: Vec::new(),
        };
        self.outputs.push_back(DetectorOutput::Watch(watch));
        self.tell(key, EventKind::AttackStart);
        self.ask(key);
    }

    fn tell(&mut self, key: (TargetScope, TargetKey), kind: EventKind) {
        let (now, seen) = (self.now, self.seen());
        let Some(attack) = self.attacks.get_mut(&key) else {
            return;
        };
        let event = attack.event(kind, now, seen);
        self.outputs
            .push_back(DetectorOutput::Persist(Box::new(attack.save(&event))));
        self.outputs
            .push_back(DetectorOutput::Event(Box::new(event)));
    }

    fn ask(&mut self, key: (TargetScope, TargetKey)) {
        let Some(attack) = self.attacks.get(&key) else {
            return;
        };
        let to = Timestamp::from_seconds(attack.last_busy + 1).plus(Duration::from_secs(1));
        self.outputs.push_back(DetectorOutput::DrillDown(DrillDown {
            attack: attack.id.clone(),
            target: attack.key,
            other_prefixes: attack.target.other_prefixes.clone(),
            from: EventTime(attack.start),
            to: EventTime(to),
            top: self.settings.top_talkers,
        }));
    }

    /// Ends what is over, updates what has changed or was not told for long.
    fn handle_due(&mut self) {
        let (now, settle, interval) = (self.now, self.settle, self.settings.update_interval);
        let ended: Vec<_> = self
            .attacks
            .iter()
            .filter(|(_, attack)| attack.end_due(settle) <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in ended {
            self.tell(key, EventKind::AttackEnd);
            let Some(attack) = self.attacks.remove(&key) else {
                continue;
            };
            if let Some(track) = self.tracks.get_mut(&key) {
                track.judged_until = attack.last_busy + 1;
            }
            let release = WatchList {
                watch: Vec::new(),
                release: vec![key.1],
            };
            self.outputs.push_back(DetectorOutput::Watch(release));
        }
        let updated: Vec<_> = self
            .attacks
            .iter()
            .filter(|(_, attack)| attack.update_due(interval) <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in updated {
            let only_time_has_passed = self.attacks.get(&key).is_some_and(|attack| !attack.news);
            self.tell(key, EventKind::AttackUpdate);
            if only_time_has_passed {
                self.ask(key);
            }
        }
    }

    /// Whether attacks on narrower targets inside explain at least half of a wider one's traffic.
    fn is_told_narrower(
        &self,
        zone: &Zone,
        (scope, target): (TargetScope, TargetKey),
        second: i64,
        metric: Metric,
        value: u64,
    ) -> bool {
        if scope == TargetScope::Host {
            return false;
        }
        let inside = |key: &TargetKey| match scope {
            TargetScope::Zone => zone.id == key.zone,
            _ => target.prefix.contains(&key.prefix) && target.zone == key.zone,
        };
        let told: u64 = self
            .attacks
            .keys()
            .filter(|(other, key)| {
                (*other, key.prefix.prefix_len()) != (scope, target.prefix.prefix_len())
                    && *other < TargetScope::Zone
                    && key.direction == target.direction
                    && inside(key)
            })
            .filter_map(|key| self.tracks.get(key)?.second(second))
            .map(|second| metric.value(&second.total))
            .fold(0, u64::saturating_add);
        told.saturating_mul(2) >= value
    }

    /// Forgets targets that nothing came from for long.
    fn sweep(&mut self) {
        let second = self.now.second();
        if second < self.swept + 10 {
            return;
        }
        self.swept = second;
        let attacks = &self.attacks;
        self.tracks
            .retain(|key, track| track.end() > second - FORGET || attacks.contains_key(key));
    }
}

/// The thresholds that hold for a target, with their places.
fn matching<'z>(
    zone: &'z Zone,
    scope: TargetScope,
    target: &TargetKey,
) -> impl Iterator<Item = (usize, &'z Threshold)> + use<'z> {
    let (direction, prefix) = (target.direction, target.prefix);
    zone.thresholds
        .iter()
        .enumerate()
        .filter(move |(_, threshold)| {
            let length = match threshold.prefix_length {
                Some((v4, v6)) => {
                    prefix.prefix_len() == if prefix.addr().is_ipv4() { v4 } else { v6 }
                }
                None => true,
            };
            threshold.scope == scope
                && threshold.direction == direction
                && (scope != TargetScope::Prefix || length)
        })
}

/// The newest run of seconds in which a threshold is crossed long enough, if it reaches into what changed: its first second,
/// and by how much the worst second of it is over.
fn crossed(track: &Track, threshold: &Threshold) -> Option<(i64, Crossing)> {
    let from = track.changed_from.saturating_sub(threshold.hold);
    let mut run: Option<(i64, Crossing)> = None;
    let mut best: Option<(i64, Crossing)> = None;
    for (second, content) in track.since(track.judged_until) {
        let bucket = content.of(threshold.vector);
        let over = Metric::ALL
            .into_iter()
            .filter_map(|metric| {
                let limit = threshold.limits[metric as usize]?;
                let lower = metric.lower(&bucket);
                (lower >= limit).then(|| Crossing {
                    metric,
                    value: metric.value(&bucket),
                    lower,
                    limit,
                })
            })
            .max_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        run = match (over, run) {
            (None, _) => None,
            (Some(over), None) => Some((second, over)),
            (Some(over), Some((start, worst))) => Some((
                start,
                if ratio(&over) > ratio(&worst) {
                    over
                } else {
                    worst
                },
            )),
        };
        if let Some((start, worst)) = &run
            && second + 1 - start >= threshold.hold
            && second >= from
        {
            let first = best
                .as_ref()
                .map_or(*start, |(first, _)| (*first).min(*start));
            let worst = Crossing { ..*worst };
            best = match best.take() {
                Some((_, known)) if ratio(&known) >= ratio(&worst) => Some((first, known)),
                _ => Some((first, worst)),
            };
        }
    }
    best
}

fn ratio(crossing: &Crossing) -> f64 {
    crossing.lower as f64 / crossing.limit as f64
}

fn severity(ratio: f64) -> Severity {
    if ratio >= 10.0 {
        Severity::High
    } else if ratio >= 3.0 {
        Severity::Medium
    } else {
        Severity::Low
    }
}

/// High where the target takes at least half of the zone's pipe.
fn pipe_severity(track: &Track, zone: &Zone, attack: &Attack) -> Severity {
    let Some(capacity) = zone.pipe_capacity else {
        return Severity::Low;
    };
    let seconds = track.since(attack.start.second());
    let most = seconds
        .map(|(_, second)| Metric::Bits.lower(&second.total))
        .max()
        .unwrap_or(0);
    if most >= capacity / 2 {
        Severity::High
    } else {
        Severity::Low
    }
}

fn longest_clear(zone: &Zone, fired: &[usize]) -> Duration {
    fired
        .iter()
        .filter_map(|index| zone.thresholds.get(*index))
        .map(|threshold| threshold.clear_for)
        .max()
        .unwrap_or_default()
}

fn told_target(zone: &Zone, scope: TargetScope, target: &TargetKey) -> Target {
    let other_prefixes = match scope {
        TargetScope::Zone => zone
            .prefixes
            .iter()
            .copied()
            .filter(|prefix| *prefix != target.prefix)
            .collect(),
        TargetScope::Host | TargetScope::Prefix => Vec::new(),
    };
    Target {
        prefix: target.prefix,
        other_prefixes,
        zone: zone.name.clone(),
        direction: target.direction,
    }
}

fn target_name(zone: &Zone, target: &Target, scope: TargetScope) -> String {
    match scope {
        TargetScope::Zone => format!("zone {}", zone.name),
        TargetScope::Host | TargetScope::Prefix => target.prefix.to_string(),
    }
}
