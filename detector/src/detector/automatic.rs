//! Judges automatic prefixes: attacks on many hosts, told once, for the prefix that explains them, which may grow.

use std::collections::{BTreeSet, VecDeque};

use ipnet::IpNet;
use weir_attack_event::BaselineRef;
use weir_flow_aggregate::{Series, TargetScope};
use weir_flow_record::{TargetKey, Vector};

use super::cells::{Cell, Pending, Side, sum};
use super::judging::{Run, crossed, pipe_severity, severity};
use super::{Detector, MAX_TRACKS};
use crate::attack::{Attack, Beginning};
use crate::automatic::{
    AutomaticLimit, Cluster, PART, clusters, hull, is_one, is_ordinary, told_prefix, usual,
};
use crate::overrides::Silence;
use crate::track::{Limit, Track};
use crate::words::{self, Carpet};

impl Detector {
    /// Takes in a cell's seconds; they are judged with those of the other cells.
    pub(super) fn handle_cell(&mut self, series: &Series) {
        if let Some((side, _)) = self.keep_cell(series, self.now.second()) {
            self.automatics.changed.insert(side);
        }
    }

    /// Takes in what an earlier owner has judged.
    pub(super) fn handle_past_cell(&mut self, series: &Series, second: i64) {
        if let Some((side, _)) = self.keep_cell(series, second) {
            self.automatics.changed.insert(side);
        }
    }

    /// Measures open attacks by what an earlier owner has judged.
    pub(super) fn follow_past(&mut self) {
        for side in std::mem::take(&mut self.automatics.changed) {
            let open = self.attacks.keys().copied().filter(|(scope, key)| {
                *scope == TargetScope::Automatic && (key.zone, key.direction) == side
            });
            for key in open.collect::<Vec<_>>() {
                self.sum_members(key, false);
                self.measure_automatic(key);
                if let Some(attack) = self.attacks.get_mut(&key) {
                    // Somebody looked: when it was busy last is known.
                    attack.restored = false;
                }
            }
            for cell in self.automatics.sides.entry(side).or_default().values_mut() {
                cell.track.changed_from = i64::MAX;
            }
        }
    }

    fn keep_cell(&mut self, series: &Series, second: i64) -> Option<(Side, &mut Cell)> {
        let shape = series.shape.as_ref()?;
        let side = (series.target.zone, series.target.direction);
        let automatics = &mut self.automatics;
        let cells = automatics.sides.entry(side).or_default();
        if !cells.contains_key(&series.target.prefix) {
            if automatics.count >= MAX_TRACKS {
                self.refused_series += 1;
                return None;
            }
            automatics.count += 1;
        }
        let cell = cells.entry(series.target.prefix).or_insert_with(|| Cell {
            track: Track::new(),
            shape: (**shape).clone(),
            usual: VecDeque::new(),
            peaks: [[0; 2]; Vector::COUNT],
        });
        cell.shape.clone_from(shape);
        cell.note_usual(second);
        cell.track.handle_series(series, |_, _| {});
        Some((side, cell))
    }

    /// Judges the sides of which cells have changed.
    pub(super) fn judge_automatic(&mut self) {
        for side in std::mem::take(&mut self.automatics.changed) {
            let Some(zone) = self.settings.zone(side.0) else {
                continue;
            };
            let limits = AutomaticLimit::all(zone, side.1);
            let prefixes = zone.prefixes.clone();
            for cell in self.automatics.sides.entry(side).or_default().values_mut() {
                cell.take_peaks();
            }
            self.follow_open(side, &limits);
            for limit in &limits {
                self.judge_vector(side, limit, &limits, &prefixes);
            }
            for cell in self.automatics.sides.entry(side).or_default().values_mut() {
                cell.track.changed_from = i64::MAX;
            }
        }
        self.open_due();
    }

    /// Opens what has stopped growing.
    pub(super) fn open_due(&mut self) {
        let now = self.now;
        let mut due: Vec<(Side, Pending)> = Vec::new();
        for (side, pending) in &mut self.automatics.pending {
            while let Some(at) = pending.iter().position(|pending| pending.due() <= now) {
                due.push((*side, pending.swap_remove(at)));
            }
        }
        self.automatics
            .pending
            .retain(|_, pending| !pending.is_empty());
        for (side, pending) in due {
            self.open_automatic(side, pending);
        }
        if self.automatics.pending.is_empty() {
            self.judge_deferred();
        }
    }

    /// Sums the cells of open attacks anew, and looks what else is above its limit there.
    fn follow_open(&mut self, side: Side, limits: &[AutomaticLimit]) {
        let open: Vec<_> = self
            .attacks
            .iter()
            .filter(|((scope, key), _)| {
                *scope == TargetScope::Automatic && (key.zone, key.direction) == side
            })
            .map(|(key, _)| *key)
            .collect();
        for key in open {
            self.sum_members(key, false);
            let Some(members) = self.attacks.get(&key).map(|a| a.members.clone()) else {
                continue;
            };
            for limit in limits {
                let track = self.tracks.get(&key);
                let fired = track.and_then(|track| self.hold_against(side, &members, limit, track));
                let Some((limit, run, carpet)) = fired else {
                    continue;
                };
                self.fire(key, limit, &run, &carpet);
            }
            self.stretch(key);
            self.measure_automatic(key);
        }
    }

    /// Makes the target of an attack on a part of a cell as wide as what is hit by now.
    fn stretch(&mut self, key: (TargetScope, TargetKey)) {
        let side = (key.1.zone, key.1.direction);
        let Some(attack) = self.attacks.get_mut(&key) else {
            return;
        };
        let [cell] = attack.members.as_slice() else {
            return;
        };
        let cells = self.automatics.sides.get(&side);
        let Some(holds) = cells.and_then(|cells| Some(cells.get(cell)?.shape.holds)) else {
            return;
        };
        let before = attack.target.prefix;
        if let Some(hull) = hull(&before, &holds).filter(|hull| *hull != before) {
            attack.target.prefix = hull;
            attack.why.push(words::wider(&before, &hull));
            attack.news = true;
        }
    }

    /// Makes an attack's track the sum of its cells; of all their seconds, or of those that changed.
    fn sum_members(&mut self, key: (TargetScope, TargetKey), all: bool) {
        let side = (key.1.zone, key.1.direction);
        let Some(attack) = self.attacks.get_mut(&key) else {
            return;
        };
        let members = std::mem::take(&mut attack.members);
        let tracks = self.automatics.tracks(side, &members);
        let from = if all {
            tracks.clone().map(Track::first).min()
        } else {
            tracks.clone().map(|track| track.changed_from).min()
        };
        let from = from.unwrap_or(i64::MAX);
        if let Some(series) = sum(key.1, tracks, from) {
            let track = self.tracks.entry(key).or_insert_with(Track::new);
            track.handle_series(&series, |second, content| {
                attack.handle_forgotten(second, &content);
            });
        }
        attack.members = members;
    }

    fn measure_automatic(&mut self, key: (TargetScope, TargetKey)) {
        let (Some(attack), Some(track)) = (self.attacks.get_mut(&key), self.tracks.get_mut(&key))
        else {
            return;
        };
        if let Some(zone) = self.settings.zone(key.1.zone) {
            attack.severity = attack.severity.max(pipe_severity(track, zone, attack));
        }
        attack.measure(track, self.settings.vendor_id, self.now);
        attack.hold(&self.repeats);
        track.changed_from = i64::MAX;
    }

    /// Notes that a limit fired on an open attack.
    fn fire(&mut self, key: (TargetScope, TargetKey), limit: Limit, run: &Run, carpet: &Carpet) {
        let Some(attack) = self.attacks.get_mut(&key) else {
            return;
        };
        attack.severity = attack.severity.max(severity(run.worst.ratio()));
        if attack.limits.iter().any(|fired| fired.is_same(&limit)) {
            return;
        }
        let name = attack.target.prefix.to_string();
        let reason = words::carpet(limit.vector, key.1.direction, &name, &run.worst, carpet);
        attack.why.push(reason);
        attack.limits.push(limit);
    }

    /// Holds cells together against the limit of a vector.
    fn evaluate(
        &self,
        side: Side,
        cells: &[IpNet],
        limit: &AutomaticLimit,
    ) -> Option<(Limit, Run, Carpet)> {
        let tracks = self.automatics.tracks(side, cells);
        let changed = tracks.clone().map(|track| track.changed_from).min()?;
        if changed == i64::MAX {
            return None;
        }
        let target = TargetKey {
            prefix: *cells.first()?,
            direction: side.1,
            zone: side.0,
        };
        let series = sum(target, tracks, changed.saturating_sub(limit.hold))?;
        let mut track = Track::new();
        track.handle_series(&series, |_, _| {});
        track.changed_from = changed;
        self.hold_against(side, cells, limit, &track)
    }

    /// Holds the sum of cells against the limit of a vector.
    fn hold_against(
        &self,
        side: Side,
        cells: &[IpNet],
        limit: &AutomaticLimit,
        sum: &Track,
    ) -> Option<(Limit, Run, Carpet)> {
        let shapes = self.automatics.shapes(side, cells);
        let (usual, known) = usual(shapes, cells, limit.vector);
        let hold = limit.hold;
        let limit = limit.limit(usual, known)?;
        let run = crossed(sum, &limit, hold)?;
        let told = self.automatics.sides.get(&side);
        let hosts = cells.iter().filter_map(|cell| told?.get(cell));
        let carpet = Carpet {
            hosts: hosts.map(|cell| u64::from(cell.shape.hosts)).sum(),
            usual,
            known_for: known.known_for,
        };
        Some((limit, run, carpet))
    }

    /// Looks for cells whose traffic of a vector has risen, and for the targets that they make up.
    fn judge_vector(
        &mut self,
        side: Side,
        limit: &AutomaticLimit,
        limits: &[AutomaticLimit],
        zone: &[IpNet],
    ) {
        let risen = self.risen(side, limit);
        let taken: BTreeSet<IpNet> = self
            .attacks
            .iter()
            .filter(|((scope, key), _)| {
                *scope == TargetScope::Automatic && (key.zone, key.direction) == side
            })
            .flat_map(|(_, attack)| attack.members.iter().copied())
            .collect();
        let new: Vec<IpNet> = risen
            .into_iter()
            .filter(|cell| !taken.contains(cell))
            .collect();
        if new.is_empty() {
            return;
        }
        let found = clusters(&new, zone);
        let mut alone = Vec::new();
        for cluster in &found {
            if !self.widen(side, cluster, limits, zone) {
                alone.push(cluster);
            }
        }
        let mut any = false;
        for cluster in &alone {
            if let Some(fired) = self.evaluate(side, &cluster.cells, limit) {
                any = true;
                self.wait(side, &cluster.cells, fired, zone);
            }
        }
        // Cells that lie apart, each part below the limit, are one target all the same.
        if !any && alone.len() > 1 {
            let cells: Vec<IpNet> = alone.iter().flat_map(|c| c.cells.clone()).collect();
            if let Some(fired) = self.evaluate(side, &cells, limit) {
                self.wait(side, &cells, fired, zone);
            }
        }
    }

    /// Cells in whose changed seconds a vector is above what is usual, and worth anything.
    fn risen(&self, side: Side, limit: &AutomaticLimit) -> Vec<IpNet> {
        let Some(cells) = self.automatics.sides.get(&side) else {
            return Vec::new();
        };
        let is_risen = |cell: &Cell| {
            let (usual, _) = usual(std::iter::once(cell.usually()), &[], limit.vector);
            let usual = [usual[0].saturating_mul(8), usual[1]];
            let least = [0, 1].map(|metric| {
                limit.limits[metric]
                    .map(|limit| (limit / PART).max(1).max(usual[metric].saturating_mul(2)))
            });
            let peaks = cell.peaks[limit.vector.index()];
            let mut both = peaks.into_iter().zip(least);
            both.any(|(peak, least)| least.is_some_and(|least| peak >= least))
        };
        cells
            .iter()
            .filter(|(_, cell)| is_risen(cell))
            .map(|(prefix, _)| *prefix)
            .collect()
    }

    /// Adds cells to a target that waits, or makes one.
    fn wait(&mut self, side: Side, cells: &[IpNet], fired: (Limit, Run, Carpet), zone: &[IpNet]) {
        let now = self.now;
        let waiting = self.automatics.pending.entry(side).or_default();
        let belongs = |pending: &Pending| {
            let mut all = pending.cells.clone();
            all.extend(cells);
            let all: Vec<IpNet> = all.into_iter().collect();
            cells.iter().any(|cell| pending.cells.contains(cell)) || is_one(&all, zone)
        };
        let at = waiting.iter().position(belongs);
        let index = at.unwrap_or_else(|| {
            waiting.push(Pending {
                cells: BTreeSet::new(),
                fired: Vec::new(),
                since: now,
                grown_at: now,
            });
            waiting.len() - 1
        });
        let Some(pending) = waiting.get_mut(index) else {
            return;
        };
        let before = pending.cells.len();
        pending.cells.extend(cells);
        if pending.cells.len() > before {
            pending.grown_at = now;
        }
        let same = |(limit, ..): &(Limit, Run, Carpet)| limit.is_same(&fired.0);
        match pending.fired.iter_mut().find(|known| same(known)) {
            Some(known) => {
                let first = known.1.first.min(fired.1.first);
                *known = fired;
                known.1.first = first;
            }
            None => pending.fired.push(fired),
        }
    }

    fn open_automatic(&mut self, side: Side, mut pending: Pending) {
        let Some(zone) = self.settings.zone(side.0) else {
            return;
        };
        let cells: Vec<IpNet> = pending.cells.into_iter().collect();
        let mut found = clusters(&cells, &zone.prefixes);
        // Parts that lie apart are told together.
        let Some(mut cluster) = found.pop() else {
            return;
        };
        for part in found {
            cluster.prefixes.extend(part.prefixes);
        }
        cluster.prefixes.sort_by_key(|p| (p.prefix_len(), *p));
        cluster.cells = cells;
        let ratio = |fired: &(Limit, Run, Carpet)| fired.1.worst.ratio();
        // What stands out most is told first.
        pending.fired.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)));
        let Some((limit, run, _)) = pending.fired.first() else {
            return;
        };
        let key = TargetKey {
            prefix: cluster.prefixes.first().copied().unwrap_or_default(),
            direction: side.1,
            zone: side.0,
        };
        let key = (TargetScope::Automatic, key);
        let first = pending.fired.iter().map(|(_, run, _)| run.first).min();
        let first = first.unwrap_or(run.first);
        let is_muted = self.is_muted(&key.1.prefix);
        let ended = self.silences.until_quiet(&key);
        if is_muted || ended.is_some() {
            self.silences.note(
                key,
                Silence {
                    last_busy: run.last,
                    clear_for: limit.clear_for,
                    until_quiet: ended.is_some(),
                },
            );
            return;
        }
        let told = self.is_told_narrower(zone, key, run) || self.is_told_wider(key);
        if told || self.attacks.contains_key(&key) {
            return;
        }
        if self.is_full() {
            self.refused_attacks += 1;
            return;
        }
        let holds = match cluster.cells.as_slice() {
            [cell] => {
                let cells = self.automatics.sides.get(&side);
                cells.and_then(|cells| Some(cells.get(cell)?.shape.holds))
            }
            _ => None,
        };
        let mut target = super::judging::told_target(zone, TargetScope::Automatic, &key.1);
        target.prefix = told_prefix(&cluster, holds);
        target.other_prefixes = cluster.prefixes.iter().skip(1).copied().collect();
        let mut attack = Attack::begin(Beginning {
            key: key.1,
            scope: TargetScope::Automatic,
            target,
            start_second: first,
            now: self.now,
            metric: run.worst.metric,
            dry_run: zone.dry_run,
        });
        let repeat = self.repeats.handle_start(&key, first, limit.clear_for);
        let usual = self.usual_of(side, &cluster.cells);
        attack.members = cluster.cells.clone();
        self.attacks.insert(key, attack);
        self.tracks.remove(&key);
        self.sum_members(key, true);
        for (limit, run, carpet) in pending.fired {
            self.fire(key, limit, &run, &carpet);
        }
        if let (Some((repeat, held_for)), Some(attack)) = (repeat, self.attacks.get_mut(&key)) {
            attack.held_for = held_for;
            attack.why.push(words::repeat(&repeat, held_for));
        }
        if let Some(track) = self.tracks.get_mut(&key) {
            track.changed_from = first;
        }
        if let (Some(usual), Some(attack)) = (usual, self.attacks.get_mut(&key)) {
            attack.baseline = Some(usual);
        }
        self.tell_sampling(key);
        self.measure_automatic(key);
        self.take_over(key);
        self.open(key);
    }

    /// What was usual in cells, where it was learned for long enough to say so.
    fn usual_of(&self, side: Side, cells: &[IpNet]) -> Option<BaselineRef> {
        let (usual, known) = usual(self.automatics.shapes(side, cells), cells, Vector::Total);
        (known.known_for >= 60).then(|| BaselineRef {
            bits_per_second: usual[0].saturating_mul(8),
            packets_per_second: usual[1],
            seconds_learned: Some(u64::from(known.known_for)),
            ..BaselineRef::default()
        })
    }

    /// Adds cells to an open attack, if they are one target with it and have risen together.
    fn widen(
        &mut self,
        side: Side,
        cluster: &Cluster,
        limits: &[AutomaticLimit],
        zone: &[IpNet],
    ) -> bool {
        let near = self.attacks.iter().find_map(|(key, attack)| {
            let open = key.0 == TargetScope::Automatic && (key.1.zone, key.1.direction) == side;
            if !open {
                return None;
            }
            let mut all = attack.members.clone();
            all.extend(&cluster.cells);
            all.sort_unstable();
            all.dedup();
            let mut found = clusters(&all, zone);
            (found.len() == 1).then(|| (*key, found.remove(0)))
        });
        let Some((key, wider)) = near else {
            return false;
        };
        // What is added must be part of the attack: of a vector that fired there.
        let fired: Vec<Vector> = self
            .attacks
            .get(&key)
            .map(|attack| attack.limits.iter().map(|limit| limit.vector).collect())
            .unwrap_or_default();
        let of_attack = |vector: Vector| {
            fired.contains(&vector) || fired.iter().any(|v| is_ordinary(*v) && is_ordinary(vector))
        };
        let rises = limits.iter().any(|limit| {
            of_attack(limit.vector) && {
                let risen = self.risen(side, limit);
                cluster.cells.iter().all(|cell| risen.contains(cell))
            }
        });
        if !rises {
            return false;
        }
        self.re_key(key, wider);
        true
    }

    /// Makes an attack one on a wider target.
    fn re_key(&mut self, key: (TargetScope, TargetKey), wider: Cluster) {
        let Some(mut attack) = self.attacks.remove(&key) else {
            return;
        };
        self.tracks.remove(&key);
        let prefix = wider.prefixes.first().copied().unwrap_or(key.1.prefix);
        let new = (TargetScope::Automatic, TargetKey { prefix, ..key.1 });
        if self.attacks.contains_key(&new) {
            let reason = format!("it goes on as part of the attack on {prefix}");
            self.attacks.insert(key, attack);
            self.end(key, Some(weir_attack_event::Reason(reason)));
            return;
        }
        let watch: Vec<TargetKey> = wider
            .cells
            .iter()
            .filter(|cell| !attack.members.contains(cell))
            .map(|cell| TargetKey {
                prefix: *cell,
                ..key.1
            })
            .collect();
        if attack.target.prefix != prefix {
            attack
                .why
                .push(words::wider(&attack.target.prefix, &prefix));
            attack.news = true;
        }
        attack.target.prefix = prefix;
        attack.target.other_prefixes = wider.prefixes.iter().skip(1).copied().collect();
        attack.key = new.1;
        attack.members = wider.cells;
        let start = attack.start.second();
        self.attacks.insert(new, attack);
        self.watch(watch, Vec::new());
        self.sum_members(new, true);
        if let Some(track) = self.tracks.get_mut(&new) {
            track.changed_from = start;
        }
        self.measure_automatic(new);
    }
}
