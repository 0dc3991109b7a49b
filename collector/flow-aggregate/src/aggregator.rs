//! The aggregator: batches in, summaries of what changed out.

mod add;
mod automatic;
mod minute;
mod room;
mod tell;

use std::time::Duration;

use hashbrown::HashMap;
use weir_flow_record::{
    Address, DatagramInfo, Direction, ExporterId, ReceivedAt, TargetKey, Timestamp, ZoneId,
};

use crate::addition::{Long, Point};
use crate::budget::Rates;
use crate::cells::{self, Cells, Fulls, Triggers};
use crate::hosts::{Hosts, NONE};
use crate::links::Links;
use crate::prefixes::{Length, Prefixes};
use crate::recent::Recent;
use crate::ring::{Clock, Rings};
use crate::watched::Watched;
use crate::zones::ZoneTable;
use crate::{
    AggregateCounters, AggregateSettings, ExporterCoverage, WatchList, WindowSummary, ZonePrefixes,
};

/// Exporters whose clip is remembered: more than a decoder's table holds by default.
const MAX_CLIPS: usize = 1 << 16;

/// Pairs of zone and exporter whose shares are counted.
pub(crate) const MAX_SHARES: usize = 1 << 16;

/// One shard's sums. After `handle_timeout`, poll [`poll_summary`](Self::poll_summary).
#[derive(Debug)]
pub struct Aggregator {
    shard: u16,
    tick: i64,
    settle: Duration,
    /// Seconds of hosts and prefixes.
    clock: Clock,
    /// Seconds of zones.
    zone_clock: Clock,
    zones: Vec<Zone>,
    table: ZoneTable,
    outgoing: bool,
    hosts: Hosts,
    watched: Watched,
    /// Watched hosts that may still be looked at before the next tick for one that can give way.
    searches: usize,
    prefixes: Prefixes,
    links: Links,
    cells: Cells,
    fulls: Fulls,
    recent: Recent,
    pending: Vec<add::Pending>,
    found: Vec<u32>,
    points: Vec<add::Cut<Point>>,
    longs: Vec<add::Cut<Long>>,
    active_timeouts: Vec<(ipnet::IpNet, Duration)>,
    clips: Vec<Option<i64>>,
    coverage: Vec<ExporterCoverage>,
    /// `outside_records` is filled in when they are told.
    counters: AggregateCounters,
    inside_records: u64,
    /// The row that was counted as inside last.
    inside_row: u32,
    /// Passes in which the first record was of a zone and an exporter.
    shares: HashMap<(u16, u32), u64>,
    next_tick: Option<ReceivedAt>,
    ticks: u64,
    summary: Option<WindowSummary>,
    minutes: minute::Minutes,
}

#[derive(Debug)]
struct Zone {
    prefixes: ZonePrefixes,
    sides: [Side; 2],
}

/// One direction of a zone.
#[derive(Debug)]
struct Side {
    wanted: bool,
    rings: Rings,
    /// From which on a host is watched.
    rates: Rates,
    lengths: Vec<Length>,
    /// From which on a cell is told; `None` where none is.
    triggers: Option<Box<Triggers>>,
}

impl Aggregator {
    /// An aggregator without records.
    pub fn new(settings: AggregateSettings) -> Self {
        let config = &settings.config;
        let seconds = |period: weir_flow_record::Period| period.0.as_secs().clamp(2, 4096) as usize;
        let clock = Clock::new(seconds(config.history));
        let table = ZoneTable::new(&settings.zones);
        let zones: Vec<Zone> = settings.zones.into_iter().map(Zone::new).collect();
        let tick = i64::try_from(config.tick.0.as_nanos()).unwrap_or(i64::MAX);
        Self {
            shard: settings.shard,
            tick: tick.max(1),
            settle: config.settle.0,
            zone_clock: Clock::new(seconds(config.zone_history)),
            table,
            outgoing: zones
                .iter()
                .any(|zone| zone.side(Direction::Out).is_some_and(|side| side.wanted)),
            hosts: Hosts::new(config.max_hosts as usize, &clock),
            watched: Watched::new(config.max_watched as usize),
            searches: room::SEARCHES,
            prefixes: Prefixes::new((config.max_hosts as usize / 16).max(16)),
            links: Links::new(settings.links),
            cells: Cells::new((config.max_hosts as usize / 4).max(16)),
            fulls: Fulls::new((config.max_watched as usize / 8).max(1)),
            recent: Recent::new(),
            pending: Vec::with_capacity(add::PASS),
            found: Vec::with_capacity(add::PASS),
            points: Vec::with_capacity(add::PASS),
            longs: Vec::with_capacity(add::PASS),
            active_timeouts: settings.active_timeouts,
            clips: Vec::new(),
            coverage: Vec::new(),
            counters: AggregateCounters::default(),
            inside_records: 0,
            inside_row: u32::MAX,
            shares: HashMap::new(),
            next_tick: None,
            ticks: 0,
            summary: None,
            clock,
            minutes: minute::Minutes::new(zones.len()),
            zones,
        }
    }

    /// Watches and releases hosts, and watches prefixes of a configured length; zones, and prefixes once they are interesting,
    /// are always told.
    pub fn handle_watch(&mut self, list: &WatchList) {
        for target in &list.watch {
            if let Some(slot) = self.slot_of(target) {
                if self.watched.is_full() && self.hosts.host(slot).watched == NONE {
                    self.make_room();
                }
                self.promote(slot);
                self.watched.pin(self.hosts.host(slot).watched, true);
            } else {
                self.watch_prefix(target);
                self.watch_cell(target);
            }
        }
        for target in &list.look {
            self.look_at_cell(target);
        }
        for target in &list.release {
            if let Some(slot) = self.known_slot_of(target) {
                self.watched.pin(self.hosts.host(slot).watched, false);
            } else {
                self.release_cell(target);
            }
        }
    }

    /// Takes the exporters' losses for the next summary.
    pub fn handle_coverage(&mut self, coverage: &[ExporterCoverage]) {
        self.coverage.clear();
        self.coverage.extend_from_slice(coverage);
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
        AggregateCounters {
            outside_records: self.counters.records - self.inside_records,
            refused_port_records: self.minutes.parts.refused(),
            ..self.counters
        }
    }

    /// Which exporters bring the traffic of which zone: records, estimated from one in a hundred or so.
    pub fn exporter_shares(&self) -> impl Iterator<Item = (ZoneId, ExporterId, u64)> + '_ {
        let shares = self.shares.iter();
        shares.filter_map(|((zone, exporter), passes)| {
            let zone = self.zones.get(usize::from(*zone))?.prefixes.zone;
            Some((zone, ExporterId(*exporter), *passes))
        })
    }

    /// Hosts in the table, and octets of memory that each takes.
    #[must_use]
    pub fn host_state(&self) -> (usize, usize) {
        (self.hosts.len(), self.hosts.octets_per_host())
    }

    /// Octets of memory that watched hosts, prefixes, zones, and their protocols and ports take at the moment.
    #[must_use]
    pub fn detail_octets(&self) -> usize {
        let sides = self.zones.iter().flat_map(|zone| &zone.sides);
        let zones: usize = sides.map(|side| side.rings.octets()).sum();
        let cells = self.cells.octets() + self.fulls.octets() + self.links.octets();
        zones + self.watched.octets() + self.prefixes.octets() + cells + self.minutes.parts.octets()
    }

    /// Sum of octets in all buckets of a host, for tests of conservation: what has scrolled out of the history is gone.
    #[must_use]
    pub fn octets_in_buckets(&self, address: Address, direction: Direction) -> u64 {
        let hash = self.hosts.hash(address, direction);
        let Some(slot) = self.hosts.find(hash, address, direction) else {
            return 0;
        };
        self.hosts
            .read(slot, &self.clock)
            .map(|(_, sums)| sums.octets)
            .fold(0, u64::wrapping_add)
    }

    fn watch_prefix(&mut self, target: &TargetKey) {
        let is_it = |zone: &Zone| zone.prefixes.zone == target.zone;
        let Some(index) = self.zones.iter().position(is_it) else {
            return;
        };
        for length in &self.zones[index].sides[target.direction as usize].lengths {
            self.prefixes
                .watch(length, target, index as u16, &self.clock);
        }
    }

    fn known_slot_of(&self, target: &TargetKey) -> Option<u32> {
        if target.prefix.prefix_len() != target.prefix.max_prefix_len() {
            return None;
        }
        let address = Address::from(target.prefix.addr());
        let hash = self.hosts.hash(address, target.direction);
        self.hosts.find(hash, address, target.direction)
    }

    fn slot_of(&mut self, target: &TargetKey) -> Option<u32> {
        if target.prefix.prefix_len() != target.prefix.max_prefix_len() {
            return None;
        }
        let known = self.known_slot_of(target);
        known.or_else(|| {
            let address = Address::from(target.prefix.addr());
            let zone = self.table.zone(address)?;
            let hash = self.hosts.hash(address, target.direction);
            let slot = self.new_host(hash, address, target.direction, zone);
            self.counters.refused_watches += u64::from(slot.is_none());
            slot
        })
    }

    /// The longest duration, in nanoseconds, that records of a datagram's exporter may have.
    fn clip_of(&mut self, datagram: &DatagramInfo) -> i64 {
        if self.active_timeouts.is_empty() {
            return i64::MAX;
        }
        let index = datagram.exporter.0 as usize;
        if let Some(Some(clip)) = self.clips.get(index) {
            return *clip;
        }
        let holds =
            |(prefix, _): &&(ipnet::IpNet, Duration)| datagram.exporter_address.is_in(prefix);
        let rule = self
            .active_timeouts
            .iter()
            .filter(holds)
            .max_by_key(|(prefix, _)| prefix.prefix_len());
        let clip = rule.map_or(i64::MAX, |(_, timeout)| {
            i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX)
        });
        if index < MAX_CLIPS {
            if self.clips.len() <= index {
                self.clips.resize(index + 1, None);
            }
            self.clips[index] = Some(clip);
        }
        clip
    }

    fn tick_after(&self, at: Timestamp) -> ReceivedAt {
        let ticks = at.nanos().div_euclid(self.tick).saturating_add(1);
        ReceivedAt::from_nanos(ticks.saturating_mul(self.tick))
    }
}

impl Zone {
    fn new(prefixes: ZonePrefixes) -> Self {
        let sides = [Direction::In, Direction::Out].map(|direction| Side {
            wanted: direction == Direction::In || is_named(&prefixes, direction),
            rings: Rings::new(),
            rates: Rates::lowest(&prefixes.interesting, direction),
            lengths: prefixes
                .prefix_lengths
                .iter()
                .filter(|length| length.interesting.direction == direction)
                .map(Length::new)
                .collect(),
            triggers: cells::triggers(&prefixes.automatic, direction),
        });
        Self { prefixes, sides }
    }

    fn side(&self, direction: Direction) -> Option<&Side> {
        self.sides.get(direction as usize)
    }
}

fn is_named(zone: &ZonePrefixes, direction: Direction) -> bool {
    let lengths = zone.prefix_lengths.iter();
    // A cell needs its hosts.
    zone.interesting
        .iter()
        .chain(lengths.map(|length| &length.interesting))
        .any(|interesting| interesting.direction == direction)
}

/// The rates of hosts in a zone and direction.
fn rates_of(zones: &[Zone], zone: u16, direction: Direction) -> Rates {
    let side = zones
        .get(usize::from(zone))
        .and_then(|zone| zone.side(direction));
    side.map_or_else(|| Rates::lowest(&[], direction), |side| side.rates)
}
