//! The detector: summaries in, events, questions and watch lists out.

mod automatic;
mod cells;
mod judging;
mod learning;
mod models;
mod operator;
mod telling;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use weir_attack_event::{AttackId, Findings, MitigationReport};
use weir_baseline::Baselines;
use weir_flow_aggregate::{ExporterCoverage, Series, TargetScope, WatchList, WindowSummary};
use weir_flow_record::{Direction, TargetKey, Timestamp};

use self::cells::Automatics;
use crate::DetectorOutput;
use crate::attack::Attack;
use crate::config::DetectorSettings;
use crate::links::LinkLevel;
use crate::model::Heard;
use crate::overrides::{Mutes, Silence, Silences};
use crate::repeat::{Repeat, Repeats};
use crate::saved::{Saved, SavedAttack, SavedEnd, SavedMute, SavedRepeat, scope_of};
use crate::track::{Limit, Metric, Track};

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
    mutes: Mutes,
    silences: Silences,
    repeats: Repeats,
    automatics: Automatics,
    heard: Heard,
    /// Targets above their limits that wait for narrower ones to be told.
    deferred: BTreeSet<(TargetScope, TargetKey)>,
    settle: Duration,
    now: Timestamp,
    coverage: VecDeque<(i64, u64, u64)>,
    refused_attacks: u64,
    refused_series: u64,
    outputs: VecDeque<DetectorOutput>,
    swept: i64,
    baselines: Baselines,
    /// Of each zone, the second before which all is learned.
    learned: BTreeMap<TargetKey, i64>,
    /// Whether the newest seconds are those of an earlier owner.
    is_past: bool,
}

impl Detector {
    /// A detector without attacks.
    #[must_use]
    pub fn new(settings: DetectorSettings) -> Self {
        let repeats = Repeats::new(
            settings.repeat_within,
            settings.repeat_budget,
            settings.longest_hold,
        );
        Self {
            baselines: learning::default_baselines(&settings),
            learned: BTreeMap::new(),
            is_past: false,
            settings,
            tracks: BTreeMap::new(),
            attacks: BTreeMap::new(),
            mutes: Mutes::default(),
            silences: Silences::default(),
            repeats,
            automatics: Automatics::default(),
            heard: Heard::default(),
            deferred: BTreeSet::new(),
            settle: Duration::from_secs(5),
            now: Timestamp::default(),
            coverage: VecDeque::new(),
            refused_attacks: 0,
            refused_series: 0,
            outputs: VecDeque::new(),
            swept: 0,
        }
    }

    /// Brings back a row of an earlier run. An attack goes on under its name; one of a zone that is configured no more is ended at
    /// the next `handle_*`, as one that has been quiet.
    pub fn restore(&mut self, saved: Saved) {
        match saved {
            Saved::Attack(attack) => self.restore_attack(*attack),
            Saved::Mute(SavedMute {
                mute: Some(mute), ..
            }) => {
                // It was within the bound when it was saved.
                let _ = self.mutes.insert(mute);
            }
            Saved::Ended(row) => {
                if let Some(last_busy) = row.last_busy {
                    let key = (scope_of(row.ended_scope), row.ended);
                    let silence = Silence {
                        last_busy,
                        clear_for: row.clear_for,
                        until_quiet: true,
                    };
                    self.silences.note(key, silence);
                }
            }
            Saved::Repeat(row) => {
                let key = (scope_of(row.repeat_scope), row.repeated);
                let repeat = Repeat {
                    starts: row.starts,
                    last_end: row.last_end,
                    longest_gap: row.longest_gap,
                };
                self.repeats.restore(key, repeat);
            }
            Saved::Mute(SavedMute { mute: None, .. }) => {}
        }
    }

    fn restore_attack(&mut self, saved: SavedAttack) {
        if saved.is_closed() || self.attacks.len() >= MAX_ATTACKS {
            return;
        }
        let mut attack = Attack::restore(saved);
        let links = self.settings.links.iter().map(|link| &link.zone);
        let zone = self
            .settings
            .zones
            .iter()
            .chain(links)
            .find(|zone| zone.name == attack.target.zone);
        match zone {
            Some(zone) => {
                attack.key.zone = zone.id;
                let unknown = attack.limits.is_empty() && attack.by_hand.is_none();
                if unknown && attack.raised_for.is_none() {
                    attack.limits = judging::matching(zone, attack.scope, &attack.key)
                        .map(Limit::of)
                        .collect();
                }
            }
            None => {
                attack.limits.clear();
                attack.by_hand = None;
                attack.raised_for = None;
            }
        }
        let quiet = attack.raised_for.map_or(Duration::ZERO, |quiet| quiet.0);
        attack.clear_for = judging::longest_clear(&attack.limits).max(quiet);
        self.outputs.push_back(DetectorOutput::Watch(WatchList {
            watch: attack.watched(),
            ..WatchList::default()
        }));
        self.attacks.insert((attack.scope, attack.key), attack);
    }

    /// Takes in what changed by a tick.
    pub fn handle_window(&mut self, summary: &WindowSummary) {
        self.handle_now(summary.time());
        let settle = summary.time().second() - summary.settled_until;
        self.settle = Duration::from_secs(u64::try_from(settle).unwrap_or(0));
        if std::mem::take(&mut self.is_past) {
            self.settle_past(summary.settled_until);
        }
        self.handle_coverage(&summary.coverage);
        // From narrow to wide: an attack on a host is not told again for its prefix and zone.
        for series in &summary.hosts {
            self.handle_series(series);
        }
        let (cells, prefixes): (Vec<&Series>, Vec<&Series>) = summary
            .prefixes
            .iter()
            .partition(|series| series.scope == TargetScope::Automatic);
        for series in cells {
            self.handle_cell(series);
        }
        self.judge_automatic();
        let wide = summary.zones.iter().chain(&summary.links);
        for series in prefixes.into_iter().chain(wide) {
            self.handle_series(series);
        }
        self.learn(summary);
        self.handle_due();
        self.sweep();
    }

    /// Takes in what an earlier owner of the zones has judged and learned: it opens and teaches nothing, but is known to what
    /// comes after it.
    pub fn handle_past(&mut self, summary: &WindowSummary) {
        let lists = [
            &summary.hosts,
            &summary.prefixes,
            &summary.zones,
            &summary.links,
        ];
        for series in lists.into_iter().flatten() {
            let key = (series.scope, series.target);
            let has_room = self.tracks.len() < MAX_TRACKS || self.tracks.contains_key(&key);
            match series.scope {
                TargetScope::Automatic => self.handle_past_cell(series, summary.time().second()),
                _ if has_room => {
                    let track = self.tracks.entry(key).or_insert_with(Track::new);
                    let mut attack = self.attacks.get_mut(&key);
                    track.handle_series(series, |second, content| {
                        if let Some(attack) = attack.as_deref_mut() {
                            attack.handle_forgotten(second, &content);
                        }
                    });
                    if let Some(attack) = attack {
                        // Somebody looked: when it was busy last is known.
                        attack.restored = false;
                        attack.measure(track, self.settings.vendor_id, summary.time());
                    }
                    track.changed_from = i64::MAX;
                }
                _ => self.refused_series += 1,
            }
            if series.scope >= TargetScope::Zone {
                self.learned.insert(series.target, summary.settled_until);
            }
        }
        self.follow_past();
        self.is_past = true;
    }

    /// What was busy in the past, and is no open attack now, was an attack that is over, or none: it stays so whenever its
    /// seconds are told again. What had only begun still counts.
    fn settle_past(&mut self, settled: i64) {
        for (key, track) in &mut self.tracks {
            if self.attacks.contains_key(key) {
                continue;
            }
            let zone = self.settings.zone(key.1.zone);
            let holds = zone.into_iter().flat_map(|zone| {
                judging::matching(zone, key.0, &key.1).map(|threshold| threshold.hold)
            });
            let begun = settled - holds.max().unwrap_or(0) - 1;
            let over = self
                .repeats
                .last_end(key)
                .map_or(begun, |last| begun.max(last + 1));
            track.judged_until = track.judged_until.max(over);
        }
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
        attack.handle_mitigation(now, report);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.handle_now(now);
        self.open_due();
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
            .chain(self.automatics.poll_timeout())
            .min()
            .map(|due| due.max(self.now.plus(Duration::from_nanos(1))))
    }

    /// The newest settled second of each link that has told anything.
    pub fn link_levels(&self) -> impl Iterator<Item = LinkLevel> {
        let settled = self.now.minus(self.settle).second() - 1;
        self.settings.links.iter().flat_map(move |link| {
            let sides = [Direction::In, Direction::Out].into_iter();
            sides.filter_map(move |direction| {
                let key = TargetKey {
                    prefix: *link.zone.prefixes.first()?,
                    direction,
                    zone: link.zone.id,
                };
                let track = self.tracks.get(&(TargetScope::Link, key))?;
                let total = track.second(settled).map(|second| second.total);
                let total = total.unwrap_or_default();
                Some(LinkLevel {
                    name: link.zone.name.clone(),
                    direction,
                    bits_per_second: Metric::Bits.value(&total),
                    packets_per_second: total.packets,
                    capacity: link.zone.pipe_capacity,
                })
            })
        })
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

    /// Whether the bound of open attacks is reached; those of a model's word alone take nobody's room.
    fn is_full(&self) -> bool {
        let others = || self.attacks.values().filter(|one| !one.is_model_only());
        self.attacks.len() >= MAX_ATTACKS && others().count() >= MAX_ATTACKS
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

    /// Forgets targets that nothing came from for long.
    fn sweep(&mut self) {
        let second = self.now.second();
        if second < self.swept + 10 {
            return;
        }
        self.swept = second;
        self.sweep_memory(second);
        self.heard.sweep(second);
        self.automatics.forget_before(second - FORGET);
        let attacks = &self.attacks;
        self.tracks
            .retain(|key, track| track.end() > second - FORGET || attacks.contains_key(key));
    }

    /// Forgets mutes that are over, targets that have become quiet, and attacks of long ago.
    fn sweep_memory(&mut self, second: i64) {
        let mut gone: Vec<Saved> = Vec::new();
        for mute in self.mutes.take_over(self.now) {
            let muted = mute.prefix;
            gone.push(Saved::Mute(SavedMute { muted, mute: None }));
        }
        let settled = second - i64::try_from(self.settle.as_secs()).unwrap_or(0);
        for (scope, ended) in self.silences.take_quiet(settled) {
            gone.push(Saved::Ended(SavedEnd {
                ended,
                ended_scope: scope.number(),
                last_busy: None,
                clear_for: Duration::ZERO,
            }));
        }
        for (scope, repeated) in self.repeats.take_old(second) {
            gone.push(Saved::Repeat(SavedRepeat {
                repeated,
                repeat_scope: scope.number(),
                starts: 0,
                last_end: 0,
                longest_gap: 0,
            }));
        }
        let rows = gone.into_iter().map(Box::new);
        self.outputs.extend(rows.map(DetectorOutput::Persist));
    }
}
