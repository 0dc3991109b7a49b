//! All baselines: seconds and minutes in peace in, what is normal out.

use std::collections::{BTreeMap, VecDeque};

use ipnet::IpNet;
use weir_flow_aggregate::{Bucket, MinuteProfile, MinuteSums, TrafficPart};
use weir_flow_record::{Direction, TargetKey, Timestamp, Vector, ZoneId};

use crate::config::BaselineSettings;
use crate::learner::{Learner, Pending, Taken};
use crate::normal::Normal;
use crate::profile::Sample;
use crate::saved::{self, RestoreError, SavedRow};
use crate::{Aspect, BaselineTarget, Subject};

/// Calls of [`Baselines::handle_timeout`] in which all targets are looked at: ten seconds or so of ticks.
const SLICES: usize = 100;
/// Targets looked at in one call at most: a tick must not take long.
const MAX_SLICE: usize = 1024;
/// Rows that wait to be fetched.
const MAX_ROWS: usize = 1024;
/// How much busier than one with full histograms a host must be to take its place.
const STAY: f64 = 1.2;

/// Learned profiles of normal traffic. Feed it settled seconds and minutes, ask it with [`normal`](Self::normal).
#[derive(Clone, Debug)]
pub struct Baselines {
    pub(crate) settings: BaselineSettings,
    pub(crate) targets: BTreeMap<BaselineTarget, Learner>,
    /// Newest second that anything was told of.
    pub(crate) now: i64,
    /// The last target that was looked at.
    cursor: Option<BaselineTarget>,
    ranked: i64,
    /// Hosts with full histograms, in and out.
    wide: [usize; 2],
    pub(crate) rows: VecDeque<SavedRow>,
    pub(crate) counters: BaselineCounters,
}

/// What baselines count.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct BaselineCounters {
    /// Seconds learned, of all targets.
    pub learned_seconds: u64,
    /// Seconds left out because of an attack.
    pub left_out_seconds: u64,
    /// Minutes and seconds of new targets that found no room.
    pub refused_targets: u64,
    /// Protocols and ports that found no room.
    pub refused_aspects: u64,
    /// Targets forgotten since nothing came of them.
    pub forgotten_targets: u64,
    /// Rows of an earlier run that could not be read.
    pub unreadable_rows: u64,
    /// Baselines imported.
    pub imported: u64,
}

impl Baselines {
    /// Knows nothing.
    #[must_use]
    pub fn new(settings: BaselineSettings) -> Self {
        Self {
            settings,
            targets: BTreeMap::new(),
            now: i64::MIN,
            cursor: None,
            ranked: i64::MIN,
            wide: [0; 2],
            rows: VecDeque::new(),
            counters: BaselineCounters::default(),
        }
    }

    /// Takes in one settled second of a zone, exporter or link: its sums, and those of its vectors (one that is missing had
    /// nothing). Seconds ascend; one told twice is left out. `peace` is false while an attack is open that makes up a
    /// noticeable part of the target's traffic. Prefixes and hosts are left out: they are told second by second only while
    /// they are interesting, which is not normal, and are learned by [`handle_minute`](Self::handle_minute).
    pub fn handle_second<'a>(
        &mut self,
        target: &BaselineTarget,
        second: i64,
        total: &Bucket,
        vectors: impl IntoIterator<Item = (Vector, &'a Bucket)>,
        peace: bool,
    ) {
        if target.is_by_minutes() {
            return;
        }
        let sample = Pending {
            first: second,
            seconds: 1,
            total: Some(of_second(total)),
            aspects: vectors
                .into_iter()
                .filter(|(vector, _)| *vector != Vector::Total)
                .map(|(vector, bucket)| (Aspect::Vector(vector), of_second(bucket)))
                .collect(),
        };
        self.handle(target, sample, peace);
    }

    /// Takes in several settled seconds without vectors, the first of them `first_second`.
    pub fn handle_seconds(
        &mut self,
        target: &BaselineTarget,
        first_second: i64,
        seconds: &[Bucket],
        peace: bool,
    ) {
        for (second, bucket) in (first_second..).zip(seconds) {
            self.handle_second(target, second, bucket, [], peace);
        }
    }

    /// Takes in a part of a minute: prefixes, busy hosts, and protocols and ports of zones. `peace` says of a target (for a
    /// zone's protocols and ports: the zone's first prefix) whether the minute was free of an attack on it.
    pub fn handle_minute(&mut self, minute: &MinuteProfile, peace: &dyn Fn(&TargetKey) -> bool) {
        for row in &minute.targets {
            let target = BaselineTarget::of(row.scope, &row.target);
            let seconds = f64::from(row.seconds.max(1));
            let rate = |sum: u64, factor: f64| Some((sum as f64 * factor / seconds) as f32);
            let sample = Pending {
                first: minute.first_second,
                seconds: 60,
                total: Some(Sample {
                    rates: [
                        rate(row.octets, 8.0),
                        rate(row.packets, 1.0),
                        rate(row.flows, 1.0),
                        None,
                    ],
                    peaks: [
                        row.peak_octets as f32 * 8.0,
                        row.peak_packets as f32,
                        row.peak_flows as f32,
                        0.0,
                    ],
                }),
                aspects: Vec::new(),
            };
            self.handle(&target, sample, peace(&row.target));
        }
        for zone in &minute.zones {
            let target = BaselineTarget {
                subject: Subject::Zone(zone.target.zone),
                direction: zone.target.direction,
            };
            let parts = zone.parts.iter();
            let sample = Pending {
                first: minute.first_second,
                seconds: 60,
                total: None,
                aspects: parts
                    .map(|(part, sums)| (aspect(*part), of_minute(*part, sums)))
                    .collect(),
            };
            self.handle(&target, sample, peace(&zone.target));
        }
    }

    /// Takes back what waits of a target since a second: an attack was found that began then, before it was known.
    pub fn forget_since(&mut self, target: &BaselineTarget, second: i64) {
        if let Some(learner) = self.targets.get_mut(target) {
            self.counters.left_out_seconds += learner.forget_since(second);
        }
    }

    /// The same of an attack on a prefix or host inside a zone: of the zone, of all prefixes around it and of all inside.
    pub fn forget_attack(
        &mut self,
        zone: ZoneId,
        prefix: IpNet,
        direction: Direction,
        second: i64,
    ) {
        let target = |subject| BaselineTarget { subject, direction };
        self.forget_since(&target(Subject::Zone(zone)), second);
        let mut around = prefix.supernet();
        while let Some(wider) = around {
            self.forget_since(&target(Subject::Prefix(wider)), second);
            around = wider.supernet();
        }
        let (from, to) = (prefix.trunc(), IpNet::from(prefix.broadcast()));
        for (inside, learner) in self.targets.range_mut(inside(from, to)) {
            if inside.direction == direction {
                self.counters.left_out_seconds += learner.forget_since(second);
            }
        }
    }

    /// What is normal for a part of a target's traffic at that hour of the week; `None` while unknown.
    #[must_use]
    pub fn normal(&self, target: &BaselineTarget, aspect: Aspect, at: Timestamp) -> Option<Normal> {
        let learner = self.targets.get(target)?;
        let second = at.second();
        learner.normal(&self.settings, aspect, Some(second), second.max(self.now))
    }

    /// What is normal over all hours of the week; `None` while unknown.
    #[must_use]
    pub fn overall(&self, target: &BaselineTarget, aspect: Aspect) -> Option<Normal> {
        let learner = self.targets.get(target)?;
        learner.normal(&self.settings, aspect, None, self.now)
    }

    /// Lets time pass: learns what has waited long enough, ends hours, forgets, gives the busiest hosts more room, and makes rows
    /// of what is to be saved; a slice of all targets each time. Call it at each tick, then [`poll_persist`](Self::poll_persist).
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let second = now.second();
        self.now = self.now.max(second);
        let hour = second.div_euclid(3600);
        if self.ranked != hour {
            self.ranked = hour;
            self.rank();
        }
        let most = (self.targets.len() / SLICES + 1).min(MAX_SLICE);
        let after = self
            .cursor
            .map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let slice: Vec<BaselineTarget> = self
            .targets
            .range((after, std::ops::Bound::Unbounded))
            .take(most)
            .map(|(target, _)| *target)
            .collect();
        self.cursor = slice.last().filter(|_| slice.len() == most).copied();
        for target in slice {
            self.look_after(&target, second);
        }
    }

    fn look_after(&mut self, target: &BaselineTarget, second: i64) {
        let Some(learner) = self.targets.get_mut(target) else {
            return;
        };
        let config = &self.settings.config;
        let quarantine = config.quarantine.0.as_secs() as i64;
        // Settled seconds are a little old when they are told.
        let taken = learner.learn_before(&self.settings, second - 2 * quarantine);
        // Samples that wait may still belong to the hour before.
        learner.close_before(&self.settings, second - 2 * quarantine - 60);
        learner.forget_aspects(&self.settings, second);
        let is_old =
            second.saturating_sub(learner.updated()) > config.forget_after.0.as_secs() as i64;
        let due =
            second.saturating_sub(learner.saved_at) >= config.save_interval.0.as_secs() as i64;
        if is_old && learner.updated() != i64::MIN {
            self.forget(target);
        } else if learner.dirty && due && self.rows.len() < MAX_ROWS {
            learner.saved_at = second;
            learner.dirty = false;
            let row = saved::row(&self.settings, target, learner);
            self.rows.extend(row);
        }
        self.count(taken);
    }

    fn forget(&mut self, target: &BaselineTarget) {
        if let Some(learner) = self.targets.remove(target) {
            self.leave(target, &learner);
            self.counters.forgotten_targets += 1;
            self.rows.extend(saved::gone(&self.settings, target));
        }
    }

    /// A row to be kept over a restart, or to be forgotten. Poll until `None` after each `handle_timeout`.
    #[must_use]
    pub fn poll_persist(&mut self) -> Option<SavedRow> {
        self.rows.pop_front()
    }

    /// Rows of all that is known, what waits included: for an orderly end, and for a file. In the order of their keys.
    pub fn save_all(&mut self) -> Vec<SavedRow> {
        let mut rows: Vec<SavedRow> = self
            .rows
            .drain(..)
            .filter(|row| row.value.is_none())
            .collect();
        for (target, learner) in &mut self.targets {
            let taken = learner.learn_before(&self.settings, i64::MAX);
            self.counters.learned_seconds += taken.learned;
            learner.dirty = false;
            learner.saved_at = self.now;
            rows.extend(saved::row(&self.settings, target, learner));
        }
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows
    }

    /// Brings back a row of an earlier run. One of a zone or link that is configured no more is left out.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        let restored = saved::read(&self.settings, key, value).inspect_err(|_| {
            self.counters.unreadable_rows += 1;
        })?;
        let Some((target, mut learner)) = restored else {
            return Ok(());
        };
        if self.targets.len() >= self.settings.config.max_targets {
            self.counters.refused_targets += 1;
            return Ok(());
        }
        if target.is_host() {
            let place = target.direction as usize;
            let is_wide = learner.total.histograms.is_some();
            if is_wide && self.wide[place] >= self.settings.config.busiest_hosts {
                learner.total.narrow();
            } else if is_wide {
                self.wide[place] += 1;
            }
        }
        if let Some(old) = self.targets.insert(target, learner) {
            self.leave(&target, &old);
        }
        Ok(())
    }

    /// All targets.
    pub fn targets(&self) -> impl Iterator<Item = &BaselineTarget> {
        self.targets.keys()
    }

    /// How many targets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> BaselineCounters {
        self.counters
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &BaselineSettings {
        &self.settings
    }

    /// Octets of memory, estimated; looks at every target.
    #[must_use]
    pub fn octets(&self) -> usize {
        let learners: usize = self.targets.values().map(Learner::octets).sum();
        // Nodes of the tree are two thirds full or more.
        learners
            + self.targets.len() * size_of::<BaselineTarget>() * 3 / 2
            + self.targets.len() * size_of::<Learner>() / 2
    }

    fn handle(&mut self, target: &BaselineTarget, sample: Pending, peace: bool) {
        self.now = self.now.max(sample.first);
        let settings = &self.settings;
        let learner = match self.targets.get_mut(target) {
            Some(learner) => learner,
            None => {
                if !peace {
                    // A host that is first seen under attack has nothing to teach.
                    self.counters.left_out_seconds += u64::from(sample.seconds);
                    return;
                }
                if self.targets.len() >= settings.config.max_targets {
                    self.counters.refused_targets += 1;
                    return;
                }
                let full = self.enters(target);
                self.targets
                    .entry(*target)
                    .or_insert_with(|| Learner::new(full))
            }
        };
        let taken = learner.handle(&self.settings, sample, peace);
        self.count(taken);
    }

    fn count(&mut self, taken: Taken) {
        self.counters.learned_seconds += taken.learned;
        self.counters.left_out_seconds += taken.left_out;
        self.counters.refused_aspects += taken.refused_aspects;
    }

    /// Whether a new target gets full histograms.
    pub(crate) fn enters(&mut self, target: &BaselineTarget) -> bool {
        if !target.is_host() {
            return true;
        }
        let wide = &mut self.wide[target.direction as usize];
        let full = *wide < self.settings.config.busiest_hosts;
        *wide += usize::from(full);
        full
    }

    fn leave(&mut self, target: &BaselineTarget, learner: &Learner) {
        if target.is_host() && learner.total.histograms.is_some() {
            let wide = &mut self.wide[target.direction as usize];
            *wide = wide.saturating_sub(1);
        }
    }

    /// Gives full histograms to the busiest hosts, where there are more hosts than room.
    fn rank(&mut self) {
        for direction in [Direction::In, Direction::Out] {
            let most = self.settings.config.busiest_hosts;
            let mut hosts: Vec<(f64, BaselineTarget)> = self
                .targets
                .iter()
                .filter(|(target, _)| target.is_host() && target.direction == direction)
                .map(|(target, learner)| {
                    let stay = learner.total.histograms.is_some();
                    (
                        learner.total.weight() * if stay { STAY } else { 1.0 },
                        *target,
                    )
                })
                .collect();
            if hosts.len() <= most {
                continue;
            }
            if most > 0 {
                hosts.select_nth_unstable_by(most - 1, |a, b| {
                    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
                });
            }
            for (place, (_, target)) in hosts.iter().enumerate() {
                let Some(learner) = self.targets.get_mut(target) else {
                    continue;
                };
                match (place < most, learner.total.histograms.is_some()) {
                    (true, false) => learner.total.widen(),
                    (false, true) => learner.total.narrow(),
                    _ => {}
                }
            }
            self.wide[direction as usize] = most;
        }
    }
}

/// All targets from one prefix to another.
fn inside(from: IpNet, to: IpNet) -> std::ops::RangeInclusive<BaselineTarget> {
    let target = |prefix, direction| BaselineTarget {
        subject: Subject::Prefix(prefix),
        direction,
    };
    target(from, Direction::In)..=target(to, Direction::Out)
}

fn of_second(bucket: &Bucket) -> Sample {
    Sample::flat([
        Some(bucket.octets as f32 * 8.0),
        Some(bucket.packets as f32),
        Some(bucket.flows as f32),
        None,
    ])
}

fn of_minute(part: TrafficPart, sums: &MinuteSums) -> Sample {
    let rate = |sum: u64| Some(sum as f32 / 60.0);
    let connected = match part {
        TrafficPart::Protocol(protocol) | TrafficPart::Port { protocol, .. } => {
            matches!(protocol, 6 | 132)
        }
    };
    Sample::flat([
        rate(sums.octets.saturating_mul(8)),
        rate(sums.packets),
        rate(sums.flows),
        rate(sums.connections).filter(|_| connected),
    ])
}

fn aspect(part: TrafficPart) -> Aspect {
    match part {
        TrafficPart::Protocol(protocol) => Aspect::Protocol(protocol),
        TrafficPart::Port { protocol, port } => Aspect::Port { protocol, port },
    }
}
