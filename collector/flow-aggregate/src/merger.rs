//! Shards into one: what each of them says of a target is kept, and told as the sum whenever one of them says something new.

use std::collections::{BTreeSet, HashMap};

use weir_flow_record::{ExporterId, Period, TargetKey};

use crate::minutes::MinuteMerger;
use crate::{
    AggregateCounters, AggregationConfig, ExporterCoverage, Series, TargetScope, WatchList,
    WindowSummary,
};

/// Seconds after which the other shards are asked again to look at an automatic prefix that one of them has seen rise.
const LOOK: i64 = 5;

/// Adds up the summaries of several shards. A target that one shard tells is watched by the others too, since each of them
/// sees only a part of its traffic. After each `handle_*`, poll [`poll_summary`](Self::poll_summary) and
/// [`poll_watch`](Self::poll_watch).
///
/// ```
/// use weir_flow_aggregate::{AggregationConfig, Merger, WindowSummary};
/// use weir_flow_record::ReceivedAt;
///
/// let mut merger = Merger::new(2, &AggregationConfig::default());
/// merger.handle_summary(WindowSummary::new(1, 7, ReceivedAt::from_nanos(0), 0));
/// assert_eq!(merger.poll_summary().map(|summary| summary.tick), Some(1));
/// while let Some((_shard, _list)) = merger.poll_watch() { /* the shard's `handle_watch` */ }
/// ```
#[derive(Debug)]
pub struct Merger {
    shards: usize,
    /// Seconds for which a host or prefix is kept that no shard tells any more.
    keep: i64,
    /// Seconds of a zone.
    zone_keep: i64,
    targets: HashMap<(TargetScope, TargetKey), Target>,
    /// What the detector wants to see.
    wanted: BTreeSet<TargetKey>,
    coverage: Vec<Vec<ExporterCoverage>>,
    counters: Vec<AggregateCounters>,
    watches: Vec<WatchList>,
    ticks: u64,
    swept: i64,
    summary: Option<WindowSummary>,
    minutes: MinuteMerger,
    /// Where members come and go: who is there.
    members: Option<Vec<bool>>,
}

/// What the shards said of a target.
#[derive(Debug)]
struct Target {
    parts: Vec<Option<Series>>,
    told: i64,
    /// When the other shards were last asked to look at an automatic prefix.
    looked: i64,
}

impl Merger {
    /// A merger of `shards` shards (at least one) with the histories of `config`.
    pub fn new(shards: u16, config: &AggregationConfig) -> Self {
        let shards = usize::from(shards.max(1));
        let seconds = |period: Period| period.0.as_secs().clamp(2, 4096) as i64;
        Self {
            shards,
            keep: seconds(config.history),
            zone_keep: seconds(config.zone_history),
            targets: HashMap::new(),
            wanted: BTreeSet::new(),
            coverage: vec![Vec::new(); shards],
            counters: vec![AggregateCounters::default(); shards],
            watches: vec![WatchList::default(); shards],
            ticks: 0,
            swept: i64::MIN,
            summary: None,
            minutes: MinuteMerger::new(shards),
            members: None,
        }
    }

    /// A merger of up to `most` members (at least one) that come and go; at first there is none.
    #[must_use]
    pub fn of_members(most: u16, config: &AggregationConfig) -> Self {
        let mut merger = Self::new(most, config);
        merger.members = Some(vec![false; merger.shards]);
        merger.minutes = MinuteMerger::new(0);
        merger
    }

    /// A member comes: it watches what all others do.
    pub fn join(&mut self, number: u16) {
        let place = usize::from(number);
        let Some(member) = self.members.as_mut().and_then(|all| all.get_mut(place)) else {
            return;
        };
        *member = true;
        self.count_members();
        let seen = self
            .targets
            .keys()
            .filter(|(scope, _)| matches!(scope, TargetScope::Host | TargetScope::Prefix));
        let mut watch: BTreeSet<TargetKey> = seen.map(|(_, target)| *target).collect();
        watch.extend(&self.wanted);
        self.watches[place] = WatchList {
            watch: watch.into_iter().collect(),
            ..WatchList::default()
        };
    }

    /// A member goes, and what it said of any second with it.
    pub fn leave(&mut self, number: u16) {
        let place = usize::from(number);
        let Some(member) = self.members.as_mut().and_then(|all| all.get_mut(place)) else {
            return;
        };
        *member = false;
        self.count_members();
        self.coverage[place] = Vec::new();
        self.counters[place] = AggregateCounters::default();
        self.watches[place] = WatchList::default();
        for target in self.targets.values_mut() {
            if let Some(part) = target.parts.get_mut(place) {
                *part = None;
            }
        }
    }

    /// Seconds that are kept at most.
    #[must_use]
    pub fn longest_history(&self) -> i64 {
        self.keep.max(self.zone_keep)
    }

    fn count_members(&mut self) {
        let members = self.members.iter().flatten();
        self.minutes
            .set_shards(members.filter(|member| **member).count());
    }

    /// Whether sums are what the one shard says.
    fn is_alone(&self) -> bool {
        self.shards == 1 && self.members.is_none()
    }

    /// Takes in a shard's tick. A summary of a shard that there is not is left out.
    pub fn handle_summary(&mut self, mut summary: WindowSummary) {
        let shard = usize::from(summary.shard);
        let is_member = |members: &Vec<bool>| members.get(shard).is_some_and(|member| *member);
        if shard >= self.shards || !self.members.as_ref().is_none_or(is_member) {
            return;
        }
        self.ticks += 1;
        let second = summary.time().second();
        for list in [
            &mut summary.zones,
            &mut summary.links,
            &mut summary.prefixes,
            &mut summary.hosts,
        ] {
            for series in list.iter_mut() {
                self.merge(shard, second, series);
            }
        }
        self.coverage[shard] = std::mem::take(&mut summary.coverage);
        self.counters[shard] = summary.counters;
        summary.coverage = self.all_coverage();
        summary.counters = self
            .counters
            .iter()
            .fold(AggregateCounters::default(), AggregateCounters::plus);
        if !self.is_alone() {
            summary.minute = self.minutes.merge(shard, second, summary.minute.take());
            summary.counters.refused_minute_rows += self.minutes.refused();
        }
        summary.shard = 0;
        summary.tick = self.ticks;
        if second > self.swept {
            self.swept = second;
            self.sweep(second);
        }
        self.summary = Some(summary);
    }

    /// What the detector wants to see, or no longer.
    pub fn handle_watch(&mut self, list: &WatchList) {
        self.wanted.extend(&list.watch);
        for target in &list.release {
            self.wanted.remove(target);
        }
        let (members, watches) = (&self.members, &mut self.watches);
        for (_, watches) in present(members, watches) {
            watches.watch.extend(&list.watch);
            watches.release.extend(&list.release);
            watches.look.extend(&list.look);
        }
    }

    /// The sum as of the newest tick. Poll after [`handle_summary`](Self::handle_summary).
    #[must_use]
    pub fn poll_summary(&mut self) -> Option<WindowSummary> {
        self.summary.take()
    }

    /// What a shard is to watch. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_watch(&mut self) -> Option<(u16, WatchList)> {
        let is_news = |list: &WatchList| {
            !list.watch.is_empty() || !list.release.is_empty() || !list.look.is_empty()
        };
        let shard = self.watches.iter().position(is_news)?;
        Some((shard as u16, std::mem::take(&mut self.watches[shard])))
    }

    /// Replaces what a shard said of a target, and makes `series` the sum.
    fn merge(&mut self, shard: usize, second: i64, series: &mut Series) {
        if self.is_alone() {
            return;
        }
        let key = (series.scope, series.target);
        // Members beyond those that have told of it take no room.
        let places = match &self.members {
            Some(_) => shard + 1,
            None => self.shards,
        };
        let target = self.targets.entry(key).or_insert_with(|| {
            if matches!(series.scope, TargetScope::Host | TargetScope::Prefix) {
                let others = present(&self.members, &mut self.watches);
                others
                    .filter(|(other, _)| *other != shard)
                    .for_each(|(_, list)| list.watch.push(series.target));
            }
            Target {
                parts: vec![None; places],
                told: second,
                looked: i64::MIN,
            }
        });
        // A member that lags behind is no reason to forget.
        target.told = target.told.max(second);
        if target.parts.len() < places {
            target.parts.resize(places, None);
        }
        let risen = series.shape.as_ref().is_some_and(|shape| shape.risen);
        if risen && second >= target.looked.saturating_add(LOOK) {
            target.looked = second;
            let others = present(&self.members, &mut self.watches);
            others
                .filter(|(other, _)| *other != shard)
                .for_each(|(_, list)| list.look.push(series.target));
        }
        match &mut target.parts[shard] {
            Some(part) => part.replace(series),
            part => *part = Some(series.clone()),
        }
        let keep = match series.scope {
            TargetScope::Zone | TargetScope::Link => self.zone_keep,
            TargetScope::Host | TargetScope::Automatic | TargetScope::Prefix => self.keep,
        };
        let first = series.first_second;
        for (other, part) in target.parts.iter_mut().enumerate() {
            let Some(part) = part else { continue };
            part.forget_before(second - keep - 1);
            if other != shard {
                series.merge(&part.since(first));
            }
        }
    }

    /// Forgets targets that no shard has told for the whole history.
    fn sweep(&mut self, second: i64) {
        let (keep, wanted) = (self.keep, &self.wanted);
        let (members, watches) = (&self.members, &mut self.watches);
        self.targets.retain(|(scope, target), state| {
            let stays = *scope >= TargetScope::Zone || state.told >= second - keep;
            if !stays && *scope != TargetScope::Automatic && !wanted.contains(target) {
                present(members, watches).for_each(|(_, list)| list.release.push(*target));
            }
            stays
        });
        // The table has no order.
        self.watches
            .iter_mut()
            .for_each(|list| list.release.sort_unstable());
    }

    /// Each shard numbers exporters from 0.
    fn all_coverage(&self) -> Vec<ExporterCoverage> {
        let shards = self.shards as u32;
        let numbered = self.coverage.iter().zip(0_u32..);
        numbered
            .flat_map(|(coverage, shard)| {
                coverage.iter().map(move |coverage| ExporterCoverage {
                    exporter: ExporterId(
                        coverage.exporter.0.wrapping_mul(shards).wrapping_add(shard),
                    ),
                    ..*coverage
                })
            })
            .collect()
    }
}

/// The lists of those that are there, with their places.
fn present<'a>(
    members: &'a Option<Vec<bool>>,
    watches: &'a mut [WatchList],
) -> impl Iterator<Item = (usize, &'a mut WatchList)> {
    watches.iter_mut().enumerate().filter(move |(place, _)| {
        let members = members.as_ref();
        members.is_none_or(|members| members.get(*place).is_some_and(|member| *member))
    })
}

#[cfg(test)]
mod tests {
    use weir_flow_record::{Direction, ReceivedAt, ZoneId};

    use super::*;
    use crate::Bucket;

    const SECOND: i64 = 1_000_000_000;

    fn target(prefix: &str) -> TargetKey {
        TargetKey {
            prefix: prefix.parse().unwrap(),
            direction: Direction::In,
            zone: ZoneId(0),
        }
    }

    fn summary(
        shard: u16,
        second: i64,
        octets: &[u64],
        rest: (TargetScope, &str),
    ) -> WindowSummary {
        let mut summary = WindowSummary::new(
            shard,
            1,
            ReceivedAt::from_nanos(second * SECOND),
            second - 5,
        );
        let series = Series {
            target: target(rest.1),
            scope: rest.0,
            first_second: second + 1 - octets.len() as i64,
            total: octets
                .iter()
                .map(|octets| Bucket {
                    octets: *octets,
                    ..Bucket::default()
                })
                .collect(),
            vectors: Some(Vec::new()),
            unknown_rate: false,
            max_sampling_rate: 1,
            shape: None,
        };
        match rest.0 {
            TargetScope::Zone => summary.zones.push(series),
            TargetScope::Link => summary.links.push(series),
            TargetScope::Automatic | TargetScope::Prefix => summary.prefixes.push(series),
            TargetScope::Host => summary.hosts.push(series),
        }
        summary.counters.records = octets.len() as u64;
        summary
    }

    fn told(merger: &mut Merger) -> (i64, Vec<u64>) {
        let summary = merger.poll_summary().unwrap();
        let mut series = summary.zones.iter().chain(&summary.hosts);
        let series = series.next().unwrap();
        let octets = series.total.iter().map(|bucket| bucket.octets).collect();
        (series.first_second, octets)
    }

    #[test]
    fn what_a_shard_says_replaces_what_it_said_and_adds_to_the_others() {
        let zone = (TargetScope::Zone, "10.0.0.0/8");
        let mut merger = Merger::new(2, &AggregationConfig::default());
        merger.handle_summary(summary(0, 100, &[1, 2, 3], zone));
        assert_eq!(told(&mut merger), (98, vec![1, 2, 3]));
        merger.handle_summary(summary(1, 101, &[10, 20], zone));
        assert_eq!(told(&mut merger), (100, vec![13, 20]));
        merger.handle_summary(summary(0, 101, &[4, 5], zone));
        assert_eq!(told(&mut merger), (100, vec![14, 25]));
        merger.handle_summary(summary(0, 103, &[7, 8], zone));
        assert_eq!(told(&mut merger), (102, vec![7, 8]));
        merger.handle_summary(summary(1, 103, &[1, 1, 1, 1], zone));
        assert_eq!(told(&mut merger), (100, vec![5, 6, 8, 9]));
    }

    #[test]
    fn a_host_of_one_shard_is_watched_by_the_others_and_released_when_all_are_quiet() {
        let host = (TargetScope::Host, "10.0.0.1/32");
        let mut merger = Merger::new(3, &AggregationConfig::default());
        merger.handle_summary(summary(1, 100, &[9], host));
        let watching: Vec<u16> = std::iter::from_fn(|| merger.poll_watch())
            .map(|(shard, list)| {
                assert_eq!(list.watch, [target("10.0.0.1/32")]);
                shard
            })
            .collect();
        assert_eq!(watching, [0, 2]);
        merger.handle_summary(summary(2, 130, &[9], host));
        assert!(merger.poll_watch().is_none());
        merger.handle_summary(WindowSummary::new(
            0,
            1,
            ReceivedAt::from_nanos(200 * SECOND),
            0,
        ));
        let released = std::iter::from_fn(|| merger.poll_watch());
        assert_eq!(
            released
                .filter(|(_, list)| !list.release.is_empty())
                .count(),
            3
        );
    }

    #[test]
    fn what_the_detector_wants_stays_watched() {
        let host = (TargetScope::Host, "10.0.0.1/32");
        let mut merger = Merger::new(2, &AggregationConfig::default());
        merger.handle_watch(&WatchList {
            watch: vec![target("10.0.0.1/32")],
            ..WatchList::default()
        });
        assert_eq!(std::iter::from_fn(|| merger.poll_watch()).count(), 2);
        merger.handle_summary(summary(0, 100, &[9], host));
        while merger.poll_watch().is_some() {}
        merger.handle_summary(WindowSummary::new(
            0,
            1,
            ReceivedAt::from_nanos(200 * SECOND),
            0,
        ));
        assert!(merger.poll_watch().is_none());
    }

    #[test]
    fn counters_and_coverage_are_those_of_all_shards() {
        let mut merger = Merger::new(2, &AggregationConfig::default());
        for shard in 0..2 {
            let mut summary = summary(shard, 100, &[1; 5], (TargetScope::Zone, "10.0.0.0/8"));
            summary.coverage.push(ExporterCoverage {
                exporter: ExporterId(3),
                records: 10,
                missing_records: 1,
            });
            merger.handle_summary(summary);
        }
        let summary = merger.poll_summary().unwrap();
        assert_eq!(summary.counters.records, 10);
        let exporters: Vec<u32> = summary.coverage.iter().map(|c| c.exporter.0).collect();
        assert_eq!(exporters, [6, 7]);
    }
}
