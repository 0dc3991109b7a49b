//! Holds targets' seconds against the thresholds of their zones.

use std::time::Duration;

use ipnet::IpNet;
use weir_attack_event::{Severity, Target};
use weir_flow_aggregate::{Series, TargetScope};
use weir_flow_record::TargetKey;

use super::{Detector, MAX_TRACKS};
use crate::attack::{Attack, Beginning};
use crate::config::{Stage, Threshold, Zone};
use crate::overrides::Silence;
use crate::relative::{self, Basis};
use crate::track::{Limit, Metric, Second, Track};
use crate::words::{self, Crossing};

/// Times its own limit from which on a target inside a wider one that is attacked is told by itself.
const APART: f64 = 3.0;

impl Detector {
    pub(super) fn handle_series(&mut self, series: &Series) {
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

    fn judge(&mut self, key: (TargetScope, TargetKey)) {
        let (scope, target) = key;
        let Some(zone) = self.settings.zone(target.zone) else {
            return;
        };
        let Some(track) = self.tracks.get(&key) else {
            return;
        };
        let is_muted = self.is_muted(&target.prefix);
        let (mut opened, mut taken_over) = (false, false);
        let stage = relative::stage(zone, &self.baselines, &target, self.now);
        for (threshold, limit, basis) in self.tests(zone, key, stage) {
            let Some(run) = crossed(track, &limit, threshold.hold) else {
                continue;
            };
            if !self.attacks.contains_key(&key) {
                let ended = self.silences.until_quiet(&key);
                if is_muted || ended.is_some() {
                    let silence = Silence {
                        last_busy: run.last,
                        clear_for: limit.clear_for,
                        until_quiet: ended.is_some(),
                    };
                    self.silences.note(key, silence);
                    continue;
                }
                if self.is_told_narrower(zone, key, &run) || self.is_part_of_wider(key, &run) {
                    continue;
                }
                if self.may_be_told_narrower(key) {
                    self.deferred.insert(key);
                    continue;
                }
                if self.is_full() {
                    self.refused_attacks += 1;
                    continue;
                }
                let mut attack = Attack::begin(Beginning {
                    key: target,
                    scope,
                    target: told_target(zone, scope, &target),
                    start_second: run.first,
                    now: self.now,
                    metric: run.worst.metric,
                    dry_run: zone.dry_run || (limit.relative && stage == Stage::DryRun),
                });
                let repeat = self.repeats.handle_start(&key, run.first, limit.clear_for);
                if let Some((repeat, held_for)) = repeat {
                    attack.held_for = held_for;
                    attack.why.push(words::repeat(&repeat, held_for));
                }
                self.attacks.insert(key, attack);
                opened = true;
            }
            let Some(attack) = self.attacks.get_mut(&key) else {
                continue;
            };
            attack.severity = attack.severity.max(severity(run.worst.ratio()));
            if attack.is_model_only() {
                // From here on it is an attack as if the model had said nothing, but for its name.
                taken_over = true;
                attack.metric = run.worst.metric;
                attack.news = true;
                let repeat = self.repeats.handle_start(&key, run.first, limit.clear_for);
                if let Some((repeat, held_for)) = repeat {
                    attack.held_for = held_for;
                    attack.why.push(words::repeat(&repeat, held_for));
                }
            }
            if !attack.limits.iter().any(|fired| fired.is_same(&limit)) {
                let name = target_name(zone, &attack.target, scope);
                let reason = match &basis {
                    Some(basis) => words::above_normal(threshold, &name, &run.worst, basis),
                    None => words::crossing(threshold, &name, &run.worst),
                };
                if !limit.relative && attack.dry_run && !zone.dry_run {
                    attack.dry_run = false;
                    attack.news = true;
                }
                // The threshold comes first: what is known of the target besides stands behind it.
                let place = if opened || taken_over {
                    attack.limits.len()
                } else {
                    attack.why.len()
                };
                attack.why.insert(place, reason);
                attack.limits.push(limit);
            }
        }
        if opened {
            self.tell_sampling(key);
        }
        let (Some(attack), Some(track), Some(zone)) = (
            self.attacks.get_mut(&key),
            self.tracks.get(&key),
            self.settings.zone(target.zone),
        ) else {
            return self.settle_track(key);
        };
        if !attack.is_model_only() {
            attack.severity = attack.severity.max(pipe_severity(track, zone, attack));
        }
        attack.measure(track, self.settings.vendor_id, self.now);
        attack.hold(&self.repeats);
        self.settle_track(key);
        if opened {
            self.take_over(key);
            self.open(key);
        } else if taken_over {
            self.heard.counters.taken_over += 1;
            self.unlearn(key);
        }
    }

    /// What a target is held against: the limits that thresholds state, and those that they make of what is normal.
    fn tests<'z>(
        &self,
        zone: &'z Zone,
        key: (TargetScope, TargetKey),
        stage: Stage,
    ) -> Vec<(&'z Threshold, Limit, Option<Basis>)> {
        let mut tests = Vec::new();
        for threshold in matching(zone, key.0, &key.1) {
            if threshold.limits.iter().any(Option::is_some) {
                tests.push((threshold, Limit::of(threshold), None));
            }
            if stage == Stage::Learning {
                continue;
            }
            let relative = relative::limit(threshold, &self.baselines, key, self.now);
            tests.extend(relative.map(|(limit, basis)| (threshold, limit, Some(basis))));
        }
        tests
    }

    /// Judges targets again that waited for narrower ones to be told.
    pub(super) fn judge_deferred(&mut self) {
        for key in std::mem::take(&mut self.deferred) {
            self.judge(key);
        }
    }

    /// Whether something inside a target is about to be told.
    fn may_be_told_narrower(&self, (scope, target): (TargetScope, TargetKey)) -> bool {
        let side = (target.zone, target.direction);
        match scope {
            TargetScope::Host | TargetScope::Automatic => false,
            TargetScope::Prefix => self.automatics.is_waiting(side, Some(&target.prefix)),
            TargetScope::Zone => self.automatics.is_waiting(side, None),
            TargetScope::Link => false,
        }
    }

    /// Marks a track's seconds as looked at, unless it is to be judged again.
    fn settle_track(&mut self, key: (TargetScope, TargetKey)) {
        if self.deferred.contains(&key) {
            return;
        }
        if let Some(track) = self.tracks.get_mut(&key) {
            track.changed_from = i64::MAX;
        }
    }

    /// Whether narrower targets inside, attacks on which are told or silenced, explain at least half of a wider one's traffic.
    pub(super) fn is_told_narrower(
        &self,
        zone: &Zone,
        (scope, target): (TargetScope, TargetKey),
        run: &Run,
    ) -> bool {
        if scope == TargetScope::Host {
            return false;
        }
        let is_inside = |(other, key): &&(TargetScope, TargetKey)| {
            let inside = match scope {
                TargetScope::Zone => zone.id == key.zone,
                // What a link carries may be for any zone.
                TargetScope::Link => true,
                _ => target.prefix.contains(&key.prefix) && target.zone == key.zone,
            };
            inside
                && key.direction == target.direction
                && *other < scope.max(TargetScope::Zone)
                && (*other, key.prefix) != (scope, target.prefix)
        };
        let mut narrower: Vec<&(TargetScope, TargetKey)> = self
            .attacks
            .iter()
            // What only a model says explains nothing away.
            .filter(|(_, attack)| !attack.is_model_only())
            .map(|(key, _)| key)
            .chain(self.silences.keys())
            .filter(is_inside)
            .collect();
        // What lies inside a wider one of them counts with it.
        narrower.sort_by_key(|(_, key)| (key.prefix.prefix_len(), key.prefix));
        let mut counted: Vec<&(TargetScope, TargetKey)> = Vec::new();
        let mut told: u64 = 0;
        for key in narrower {
            if counted
                .iter()
                .any(|wider| wider.1.prefix.contains(&key.1.prefix))
            {
                continue;
            }
            counted.push(key);
            let second = self
                .tracks
                .get(key)
                .and_then(|track| track.second(run.first));
            told = told
                .saturating_add(second.map_or(0, |second| run.worst.metric.value(&second.total)));
        }
        told.saturating_mul(2) >= run.worst.value
    }
}

impl Detector {
    /// Whether an attack is open on something wider that holds the target.
    pub(super) fn is_told_wider(&self, key: (TargetScope, TargetKey)) -> bool {
        self.wider(key).next().is_some()
    }

    /// Whether an attack on something wider explains what a target has: it does not hold most of it, nor is it far above its limit.
    fn is_part_of_wider(&self, (scope, target): (TargetScope, TargetKey), run: &Run) -> bool {
        if run.worst.ratio() >= APART {
            return false;
        }
        let value = run.worst.value;
        let (metric, second) = (run.worst.metric, run.first);
        self.wider((scope, target))
            .filter_map(|key| self.tracks.get(key)?.second(second))
            .any(|wider| metric.value(&wider.total) > value.saturating_mul(2))
    }

    fn wider(
        &self,
        (of, target): (TargetScope, TargetKey),
    ) -> impl Iterator<Item = &(TargetScope, TargetKey)> {
        let open = self.attacks.iter().filter(move |((scope, key), attack)| {
            let holds = |prefix: &IpNet| prefix.contains(&target.prefix);
            let wider = (*scope, *key) != (of, target)
                && *scope != TargetScope::Host
                && (key.zone, key.direction) == (target.zone, target.direction);
            let told = &attack.target;
            wider
                && (holds(&key.prefix)
                    || holds(&told.prefix)
                    || told.other_prefixes.iter().any(holds))
        });
        open.map(|(key, _)| key)
    }
}

/// Seconds in a row in which a limit is crossed for long enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) first: i64,
    pub(super) last: i64,
    /// By how much the worst of them is over.
    pub(super) worst: Crossing,
}

/// The thresholds that hold for a target.
pub(super) fn matching<'z>(
    zone: &'z Zone,
    scope: TargetScope,
    target: &TargetKey,
) -> impl Iterator<Item = &'z Threshold> + use<'z> {
    let (direction, prefix) = (target.direction, target.prefix);
    zone.thresholds.iter().filter(move |threshold| {
        let length = match threshold.prefix_length {
            Some((v4, v6)) => prefix.prefix_len() == if prefix.addr().is_ipv4() { v4 } else { v6 },
            None => true,
        };
        threshold.scope == scope
            && threshold.direction == direction
            && (scope != TargetScope::Prefix || length)
    })
}

/// The runs of seconds in which a limit is crossed long enough, as far as they reach into what changed, as one: the first
/// second of the earliest, the last of the newest, and the worst of all.
pub(super) fn crossed(track: &Track, limit: &Limit, hold: i64) -> Option<Run> {
    let from = track.changed_from.saturating_sub(hold);
    let mut running: Option<(i64, Crossing)> = None;
    let mut found: Option<Run> = None;
    for (second, content) in track.since(beginning(track, limit, from)) {
        let before = track.second(second - 1);
        running = match (worst_metric(limit, content, before), running.take()) {
            (None, _) => None,
            (Some(over), Some((first, worst))) if over.ratio() <= worst.ratio() => {
                Some((first, worst))
            }
            (Some(over), running) => Some((running.map_or(second, |(first, _)| first), over)),
        };
        let Some((first, worst)) = &running else {
            continue;
        };
        if second + 1 - first < hold || second < from {
            continue;
        }
        match &mut found {
            Some(run) => {
                run.first = run.first.min(*first);
                run.last = second;
                if worst.ratio() > run.worst.ratio() {
                    run.worst = *worst;
                }
            }
            None => {
                found = Some(Run {
                    first: *first,
                    last: second,
                    worst: *worst,
                });
            }
        }
    }
    found
}

/// The second from which on a limit is looked at: `from`, or before it the beginning of the run that reaches it.
fn beginning(track: &Track, limit: &Limit, from: i64) -> i64 {
    let oldest = track.judged_until.max(track.first());
    let mut first = from.clamp(oldest, track.end().max(oldest));
    while first > oldest
        && let Some(content) = track.second(first - 1)
        && worst_metric(limit, content, track.second(first - 2)).is_some()
    {
        first -= 1;
    }
    first
}

/// The metric that is furthest over its limit in a second, if one is.
fn worst_metric(limit: &Limit, content: &Second, before: Option<&Second>) -> Option<Crossing> {
    // Nearly every second is far below: what is tested, and what it is at least, is less than what there is.
    let all = content.of(limit.vector);
    let may_cross = |metric: Metric| {
        limit.limits[metric as usize].is_some_and(|limit| metric.value(&all) >= limit)
    };
    if !Metric::ALL.into_iter().any(may_cross) {
        return None;
    }
    let bucket = limit.tested(content, before);
    Metric::ALL
        .into_iter()
        .filter_map(|metric| {
            let limit = limit.limits[metric as usize]?;
            let lower = metric.lower(&bucket);
            (lower >= limit).then(|| Crossing {
                metric,
                value: metric.value(&bucket),
                lower,
                limit,
            })
        })
        .max_by(|a, b| a.ratio().total_cmp(&b.ratio()))
}

pub(super) fn severity(ratio: f64) -> Severity {
    if ratio >= 10.0 {
        Severity::High
    } else if ratio >= 3.0 {
        Severity::Medium
    } else {
        Severity::Low
    }
}

/// High where the target takes at least half of the zone's pipe.
pub(super) fn pipe_severity(track: &Track, zone: &Zone, attack: &Attack) -> Severity {
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

/// The longest time for which the limits that fired want quiet.
pub(super) fn longest_clear(limits: &[Limit]) -> Duration {
    let times = limits.iter().map(|limit| limit.clear_for);
    times.max().unwrap_or_default()
}

pub(super) fn told_target(zone: &Zone, scope: TargetScope, target: &TargetKey) -> Target {
    let other_prefixes = match scope {
        TargetScope::Zone => zone
            .prefixes
            .iter()
            .copied()
            .filter(|prefix| *prefix != target.prefix)
            .collect(),
        _ => Vec::new(),
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
        TargetScope::Link => format!("link {}", zone.name),
        _ => target.prefix.to_string(),
    }
}
