//! The aggregator: batches in, summaries of what changed out.

use std::time::Duration;

use weir_flow_record::{
    Address, DatagramInfo, Direction, FlowBatch, ReceivedAt, SamplingRate, TargetKey, Timestamp,
    Vector,
};

use crate::hosts::{Hosts, NONE, Peak};
use crate::prefixes::Prefixes;
use crate::recent::{Recent, RecentRow};
use crate::ring::{Addition, Rings};
use crate::spread::{Span, Spread};
use crate::watched::Watched;
use crate::zones::ZoneTable;
use crate::{
    AggregateCounters, AggregateSettings, ExporterCoverage, Interesting, Series, TargetScope,
    WatchList, WindowSummary, ZonePrefixes,
};

/// Ends beyond the export time up to this are rounding.
const ROUNDING: i64 = 1_000_000_000;
/// Host slots looked at for recycling at each tick.
const SWEEP: usize = 2048;

/// One shard's sums. After `handle_timeout`, poll [`poll_summary`](Self::poll_summary).
#[derive(Debug)]
pub struct Aggregator {
    shard: u16,
    tick: i64,
    settle: Duration,
    history: i64,
    zone_history: i64,
    zones: Vec<Zone>,
    table: ZoneTable,
    directions: [bool; 2],
    hosts: Hosts,
    watched: Watched,
    prefixes: Prefixes,
    recent: Recent,
    /// Hosts whose bound crossed the interesting rate in this batch.
    candidates: Vec<u32>,
    active_timeouts: Vec<(ipnet::IpNet, Duration)>,
    clip: Vec<Option<i64>>,
    coverage: Vec<ExporterCoverage>,
    counters: AggregateCounters,
    newest: ReceivedAt,
    next_tick: Option<ReceivedAt>,
    ticks: u64,
    summary: Option<WindowSummary>,
}

#[derive(Debug)]
struct Zone {
    prefixes: ZonePrefixes,
    rings: [Rings; 2],
    interesting: [Peak; 2],
}

impl Aggregator {
    /// An aggregator without records.
    pub fn new(settings: AggregateSettings) -> Self {
        let config = &settings.config;
        let seconds = |period: weir_flow_record::Period| period.0.as_secs().max(2) as usize;
        let (history, zone_history) = (seconds(config.history), seconds(config.zone_history));
        let wanted = |direction| {
            settings.zones.iter().any(|zone| {
                zone.interesting.iter().any(|i| i.direction == direction)
                    || zone
                        .prefix_lengths
                        .iter()
                        .any(|length| length.interesting.direction == direction)
            })
        };
        Self {
            shard: settings.shard,
            tick: config
                .tick
                .0
                .as_nanos()
                .try_into()
                .unwrap_or(100_000_000)
                .max(1),
            settle: config.settle.0,
            history: history as i64,
            zone_history: zone_history as i64,
            table: ZoneTable::new(&settings.zones),
            directions: [true, wanted(Direction::Out)],
            hosts: Hosts::new(config.max_hosts as usize, history),
            watched: Watched::new(config.max_watched as usize, history),
            prefixes: Prefixes::new(config.max_hosts as usize / 4 + 16, zone_history),
            recent: Recent::default(),
            candidates: Vec::new(),
            active_timeouts: settings.active_timeouts,
            clip: Vec::new(),
            coverage: Vec::new(),
            counters: AggregateCounters::default(),
            newest: ReceivedAt::default(),
            next_tick: None,
            ticks: 0,
            summary: None,
            zones: settings
                .zones
                .into_iter()
                .map(|zone| Zone::new(zone, zone_history))
                .collect(),
        }
    }

    /// Adds all records of a batch.
    pub fn handle_batch(&mut self, batch: &FlowBatch) {
        for datagram in &batch.datagrams {
            if datagram.received_at > self.newest {
                self.newest = datagram.received_at;
            }
            let clip = self.clip_of(datagram);
            for row in datagram.rows.clone() {
                self.add(batch, datagram, row as usize, clip);
            }
        }
        if !batch.is_empty() && self.next_tick.is_none() {
            self.next_tick = Some(self.tick_after(self.newest));
        }
        self.promote_candidates();
    }

    /// Watches and releases hosts; prefixes and zones are always told.
    pub fn handle_watch(&mut self, list: &WatchList) {
        for target in &list.watch {
            if let Some(slot) = self.slot_of(target) {
                self.hosts.host_mut(slot);
                self.promote(slot);
                self.watched.pin(self.hosts.host(slot).watched, true);
            }
        }
        for target in &list.release {
            if let Some(slot) = self.slot_of(target) {
                self.watched.pin(self.hosts.host(slot).watched, false);
            }
        }
    }

    /// Takes the exporters' losses for the next summary.
    pub fn handle_coverage(&mut self, coverage: &[ExporterCoverage]) {
        self.coverage.clear();
        self.coverage.extend_from_slice(coverage);
    }

    /// Evaluates the tick, if it is due.
    pub fn handle_timeout(&mut self, now: ReceivedAt) {
        if self.next_tick.is_none_or(|due| due > now) {
            return;
        }
        self.next_tick = None;
        self.ticks += 1;
        let settled = now.0.minus(self.settle).second();
        let mut summary = WindowSummary::new(self.shard, self.ticks, now, settled);
        self.summarise_zones(&mut summary);
        self.prefixes.summarise(
            self.newest.0.second(),
            &self.zones_of_prefixes(),
            &mut summary.prefixes,
        );
        self.summarise_hosts(&mut summary);
        summary.coverage.clone_from(&self.coverage);
        summary.counters = self.counters;
        self.hosts.sweep(self.oldest(), SWEEP);
        self.summary = Some(summary);
    }

    /// What changed by the newest tick. Poll after `handle_timeout`.
    #[must_use]
    pub fn poll_summary(&mut self) -> Option<WindowSummary> {
        self.summary.take()
    }

    /// When `handle_timeout` is due; `None` while nothing has changed since the last tick.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<ReceivedAt> {
        self.next_tick
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> AggregateCounters {
        self.counters
    }

    /// Hosts in the table, and octets of memory that each takes.
    #[must_use]
    pub fn host_state(&self) -> (usize, usize) {
        (self.hosts.len(), self.hosts.octets_per_host())
    }

    /// Sum of octets in all buckets of all hosts, for tests of conservation: what has scrolled out of the history is gone.
    #[must_use]
    pub fn octets_in_buckets(&self, address: Address, direction: Direction) -> u64 {
        let slot = self.hosts.find(address, direction);
        slot.map_or(0, |slot| {
            self.hosts
                .read(slot)
                .map(|(_, octets, ..)| octets)
                .fold(0, u64::wrapping_add)
        })
    }

    fn oldest(&self) -> i64 {
        // The newest second and the one after it must fit as well.
        self.newest.0.second() + 2 - self.history
    }

    fn zone_oldest(&self) -> i64 {
        self.newest.0.second() + 2 - self.zone_history
    }

    fn tick_after(&self, at: ReceivedAt) -> ReceivedAt {
        ReceivedAt(Timestamp::from_nanos(
            (at.nanos().div_euclid(self.tick) + 1).saturating_mul(self.tick),
        ))
    }

    #[inline]
    fn add(&mut self, batch: &FlowBatch, datagram: &DatagramInfo, row: usize, clip: Option<i64>) {
        self.counters.records += 1;
        let mut inside = false;
        let destination = batch.destination_address[row];
        if self.table.may_hold(destination) {
            inside |= self.add_to(batch, datagram, row, clip, destination, Direction::In);
        }
        if self.directions[Direction::Out as usize] {
            let source = batch.source_address[row];
            if self.table.may_hold(source) {
                inside |= self.add_to(batch, datagram, row, clip, source, Direction::Out);
            }
        }
        self.counters.outside_records += u64::from(!inside);
    }

    fn add_to(
        &mut self,
        batch: &FlowBatch,
        datagram: &DatagramInfo,
        row: usize,
        clip: Option<i64>,
        address: Address,
        direction: Direction,
    ) -> bool {
        let known = self.hosts.find(address, direction);
        let zone = match known {
            Some(slot) => self.hosts.host(slot).zone,
            None => match self.table.zone(address) {
                Some(zone) => zone,
                None => return false,
            },
        };
        let span = self.span(batch, datagram, row, clip);
        let rate = batch.sampling_rate[row];
        let scale = SamplingRate::known(rate).unwrap_or(SamplingRate::ALL).get();
        let octets = batch.octets[row].saturating_mul(u64::from(scale));
        let packets = batch.packets[row].saturating_mul(u64::from(scale));
        self.counters.unknown_rate_records += u64::from(rate == 0);
        let (octets_variance, packets_variance) =
            variance(batch.octets[row], batch.packets[row], scale);
        let addition_over = |oldest: i64| {
            let spread = Spread::new(span, oldest)?;
            Some(Addition {
                spread,
                octets: spread.cut(octets),
                packets: spread.cut(packets),
                octets_variance,
                packets_variance,
                flows: u32::from(packets != 0 || octets != 0),
            })
        };
        let vector = batch.vector(row);
        let (oldest, zone_oldest) = (self.oldest(), self.zone_oldest());
        let of_zone = addition_over(zone_oldest);
        if let Some(addition) = &of_zone
            && let Some(zone) = self.zones.get_mut(usize::from(zone))
        {
            let rings = &mut zone.rings[direction as usize];
            rings.advance(zone_oldest);
            rings.add(vector, addition, rate);
        }
        let Some(addition) = addition_over(oldest) else {
            self.counters.late_records += 1;
            self.counters.late_octets = self.counters.late_octets.saturating_add(octets);
            return true;
        };
        if addition.octets.late != 0 || addition.packets.late != 0 {
            self.counters.late_records += 1;
            self.counters.late_octets = self
                .counters
                .late_octets
                .saturating_add(addition.octets.late);
        }
        let counted = octets - addition.octets.late;
        let slot = known.or_else(|| self.new_host(address, direction, zone, oldest));
        let Some(slot) = slot else {
            self.counters.refused_records += 1;
            self.counters.refused_octets = self.counters.refused_octets.saturating_add(counted);
            return true;
        };
        self.counters.counted_octets = self.counters.counted_octets.saturating_add(counted);
        let bound = self.hosts.add(slot, oldest, &addition);
        let host = self.hosts.host(slot);
        if host.prefix_list != NONE
            && let Some(addition) = &of_zone
        {
            self.prefixes
                .add(host.prefix_list, zone_oldest, vector, addition, rate);
        }
        if host.watched != NONE {
            self.watched
                .add(host.watched, oldest, vector, &addition, rate);
        } else if crosses(bound, self.interesting(zone, direction)) {
            self.candidates.push(slot);
        }
        self.recent.push(RecentRow {
            slot,
            vector,
            rate,
            addition,
        });
        true
    }

    /// Event time (design, "Time"): ages are by the exporter's clock, so its offset from ours does no harm.
    #[inline]
    fn span(
        &mut self,
        batch: &FlowBatch,
        datagram: &DatagramInfo,
        row: usize,
        clip: Option<i64>,
    ) -> Span {
        let (start, end) = (batch.flow_start[row], batch.flow_end[row]);
        let age = datagram.export_time.nanos().saturating_sub(end);
        self.counters.early_records += u64::from(age < -ROUNDING);
        let mut duration = end.saturating_sub(start).max(0);
        if let Some(clip) = clip {
            duration = duration.min(clip);
        }
        let end = datagram.received_at.nanos().saturating_sub(age.max(0));
        Span {
            start: end.saturating_sub(duration),
            end,
        }
    }

    fn new_host(
        &mut self,
        address: Address,
        direction: Direction,
        zone: u16,
        oldest: i64,
    ) -> Option<u32> {
        let slot = self.hosts.insert(address, direction, zone, oldest)?;
        let lengths = &self.zones.get(usize::from(zone))?.prefixes.prefix_lengths;
        if lengths
            .iter()
            .any(|length| length.interesting.direction == direction)
        {
            let list =
                self.prefixes
                    .list(zone, address, direction, lengths, self.newest.0.second());
            self.hosts.host_mut(slot).prefix_list = list;
        }
        Some(slot)
    }

    #[inline]
    fn interesting(&self, zone: u16, direction: Direction) -> Peak {
        self.zones
            .get(usize::from(zone))
            .map_or([u64::MAX; 3], |zone| zone.interesting[direction as usize])
    }

    fn promote_candidates(&mut self) {
        let mut candidates = std::mem::take(&mut self.candidates);
        for slot in candidates.drain(..) {
            let host = *self.hosts.host(slot);
            if host.watched != NONE {
                continue;
            }
            let peak = self.hosts.measure(slot, self.oldest());
            if crosses(peak, self.interesting(host.zone, host.direction)) {
                self.promote(slot);
            }
        }
        self.candidates = candidates;
    }

    /// Gives a host full rings; its earlier rows are classified from the recent ones, and what is not found there counts as
    /// `total`, so that the vectors always add up to the host's sums.
    fn promote(&mut self, slot: u32) {
        if self.hosts.host(slot).watched != NONE {
            return;
        }
        let oldest = self.oldest();
        self.hosts.measure(slot, oldest);
        let Some(watched) = self.watched.take(slot, oldest) else {
            self.counters.refused_watches += 1;
            return;
        };
        self.hosts.host_mut(slot).watched = watched;
        for row in self.recent.of(slot) {
            if row.addition.spread.first_second >= oldest {
                self.watched
                    .add(watched, oldest, row.vector, &row.addition, row.rate);
            }
        }
        self.watched
            .fill_total(watched, oldest, self.hosts.read(slot));
    }

    fn slot_of(&mut self, target: &TargetKey) -> Option<u32> {
        if target.prefix.prefix_len() != target.prefix.max_prefix_len() {
            return None;
        }
        let address = Address::from(target.prefix.addr());
        if let Some(slot) = self.hosts.find(address, target.direction) {
            return Some(slot);
        }
        let zone = self.table.zone(address)?;
        self.new_host(address, target.direction, zone, self.oldest())
    }

    fn clip_of(&mut self, datagram: &DatagramInfo) -> Option<i64> {
        if self.active_timeouts.is_empty() {
            return None;
        }
        let index = datagram.exporter.0 as usize;
        if self.clip.len() <= index {
            self.clip.resize(index + 1, None);
        }
        let found = self.clip[index].get_or_insert_with(|| {
            let rule = self
                .active_timeouts
                .iter()
                .find(|(prefix, _)| datagram.exporter_address.is_in(prefix));
            rule.map_or(i64::MAX, |(_, timeout)| {
                timeout.as_nanos().try_into().unwrap_or(i64::MAX)
            })
        });
        Some(*found)
    }

    fn summarise_zones(&mut self, summary: &mut WindowSummary) {
        let (newest, oldest) = (self.newest.0.second(), self.zone_oldest());
        for zone in &mut self.zones {
            for direction in [Direction::In, Direction::Out] {
                let rings = &mut zone.rings[direction as usize];
                if !rings.is_changed() {
                    continue;
                }
                rings.advance(oldest);
                let Some(prefix) = zone.prefixes.prefixes.first() else {
                    continue;
                };
                let target = TargetKey {
                    prefix: *prefix,
                    direction,
                    zone: zone.prefixes.zone,
                };
                summary.zones.extend(
                    rings
                        .read(newest)
                        .map(|reading| reading.series(target, TargetScope::Zone)),
                );
            }
        }
    }

    fn summarise_hosts(&mut self, summary: &mut WindowSummary) {
        let (newest, oldest) = (self.newest.0.second(), self.oldest());
        for index in 0..self.watched.slots() {
            let Some(slot) = self.watched.host(index) else {
                continue;
            };
            let host = *self.hosts.host(slot);
            if let Some(reading) = self.watched.read(index, oldest, newest) {
                let zone = self
                    .zones
                    .get(usize::from(host.zone))
                    .map_or_else(Default::default, |zone| zone.prefixes.zone);
                let target = TargetKey {
                    prefix: host.address.host(),
                    direction: host.direction,
                    zone,
                };
                summary
                    .hosts
                    .push(reading.series(target, TargetScope::Host));
            } else if !self.watched.is_pinned(index) && self.hosts.is_quiet(slot, oldest) {
                self.watched.give_back(index);
                self.hosts.host_mut(slot).watched = NONE;
            }
        }
        summary.hosts.sort_by_key(|series| series.target);
    }

    fn zones_of_prefixes(&self) -> Vec<weir_flow_record::ZoneId> {
        self.zones.iter().map(|zone| zone.prefixes.zone).collect()
    }
}

impl Zone {
    fn new(prefixes: ZonePrefixes, history: usize) -> Self {
        let interesting = [Direction::In, Direction::Out]
            .map(|direction| lowest(&prefixes.interesting, direction));
        Self {
            prefixes,
            rings: [
                Rings::new(history, i64::MIN / 2),
                Rings::new(history, i64::MIN / 2),
            ],
            interesting,
        }
    }
}

/// The lowest rates of a direction; `u64::MAX` where there is none.
fn lowest(interesting: &[Interesting], direction: Direction) -> Peak {
    let mut lowest = [u64::MAX; 3];
    for rates in interesting
        .iter()
        .filter(|rates| rates.direction == direction)
    {
        for (lowest, rate) in lowest
            .iter_mut()
            .zip([rates.octets, rates.packets, rates.flows])
        {
            *lowest = rate.map_or(*lowest, |rate| rate.min(*lowest));
        }
    }
    lowest
}

#[inline]
fn crosses(peak: Peak, limits: Peak) -> bool {
    peak.iter()
        .zip(limits)
        .any(|(value, limit)| *value >= limit)
}

/// Variance by sampling one in `rate`: each sampled packet stands for `rate` with a variance of `rate × (rate − 1)`.
#[inline]
fn variance(octets: u64, packets: u64, rate: u32) -> (f64, f64) {
    if rate <= 1 || packets == 0 {
        return (0.0, 0.0);
    }
    let (octets, packets, rate) = (octets as f64, packets as f64, f64::from(rate));
    let each = rate * (rate - 1.0);
    (octets * octets / packets * each, packets * each)
}

impl crate::ring::Reading {
    pub(crate) fn series(self, target: TargetKey, scope: TargetScope) -> Series {
        Series {
            target,
            scope,
            first_second: self.first_second,
            total: self.total,
            vectors: Some(self.vectors),
            unknown_rate: self.unknown_rate,
            max_sampling_rate: self.max_sampling_rate,
        }
    }
}

/// The vector of what was not classified in time.
pub(crate) const UNCLASSIFIED: Vector = Vector::Total;
