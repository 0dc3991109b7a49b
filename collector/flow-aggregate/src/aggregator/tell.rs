//! The tick: what changed, as absolute sums.

use weir_flow_record::{Direction, ReceivedAt, TargetKey, Timestamp, ZoneId};

use super::{Aggregator, Zone, rates_of, room};
use crate::hosts::NONE;
use crate::ring::Reading;
use crate::{Series, TargetScope, WindowSummary};

/// Slots of hosts and of prefixes looked at for recycling at each tick.
const SWEEP: usize = 2048;
/// Watched hosts looked at for release at each tick.
const SWEEP_WATCHED: usize = 64;

impl Aggregator {
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
        self.links.summarise(&self.zone_clock, &mut summary.links);
        let zones = &self.zones;
        self.prefixes.summarise(
            &self.clock,
            |index| zone_id(zones, index),
            &mut summary.prefixes,
        );
        self.summarise_hosts(now.0.second(), &mut summary);
        self.summarise_cells(now.0.second(), &mut summary);
        self.tell_minute(&mut summary);
        summary.coverage.clone_from(&self.coverage);
        summary.counters = self.counters();
        self.release_quiet();
        self.searches = room::SEARCHES;
        self.hosts.sweep(&self.clock, SWEEP);
        self.sweep_cells(SWEEP);
        self.prefixes.sweep(&self.clock, SWEEP);
        if self.watched.is_waiting() || self.fulls.is_waiting() {
            self.next_tick = Some(ReceivedAt(Timestamp::from_seconds(now.0.second() + 1)));
        }
        self.summary = Some(summary);
    }

    fn summarise_zones(&mut self, summary: &mut WindowSummary) {
        for zone in &mut self.zones {
            let Some(prefix) = zone.prefixes.prefixes.first() else {
                continue;
            };
            for (direction, side) in [Direction::In, Direction::Out]
                .into_iter()
                .zip(&mut zone.sides)
            {
                let target = TargetKey {
                    prefix: *prefix,
                    direction,
                    zone: zone.prefixes.zone,
                };
                let reading = side.rings.read(&self.zone_clock);
                summary
                    .zones
                    .extend(reading.map(|reading| reading.series(target, TargetScope::Zone)));
            }
        }
    }

    /// Tells the hosts that changed: those that the detector wants and those that are interesting now at once, all others
    /// once a second.
    fn summarise_hosts(&mut self, second: i64, summary: &mut WindowSummary) {
        for (index, slot) in self.watched.take_changed() {
            if !self.watched.is_due(index, second) && !self.is_urgent(slot) {
                self.watched.defer(index);
                continue;
            }
            let Some(reading) = self.watched.read(index, second, &self.clock) else {
                continue;
            };
            let host = self.hosts.host(slot);
            let target = TargetKey {
                prefix: host.address.host(),
                direction: host.direction,
                zone: zone_id(&self.zones, host.zone),
            };
            summary
                .hosts
                .push(reading.series(target, TargetScope::Host));
        }
        summary.hosts.sort_by_key(|series| series.target);
    }

    /// Hosts whose seconds have all been below a quarter of the interesting rates for the whole history become cold again,
    /// unless the detector wants them.
    fn release_quiet(&mut self) {
        let unwanted: Vec<(u32, u32)> = self.watched.next_unwanted(SWEEP_WATCHED).collect();
        for (index, slot) in unwanted {
            let host = self.hosts.host(slot);
            let rates = rates_of(&self.zones, host.zone, host.direction);
            let peak = self.hosts.measure(slot, &self.clock, &rates);
            if rates.are_far_above(peak) {
                self.watched.give_back(index);
                self.hosts.host_mut(slot).watched = NONE;
            }
        }
    }
}

pub(super) fn zone_id(zones: &[Zone], index: u16) -> ZoneId {
    let zone = zones.get(usize::from(index));
    zone.map_or_else(ZoneId::default, |zone| zone.prefixes.zone)
}

impl Reading {
    pub(crate) fn series(self, target: TargetKey, scope: TargetScope) -> Series {
        Series {
            target,
            scope,
            first_second: self.first_second,
            total: self.total,
            vectors: Some(self.vectors),
            unknown_rate: self.unknown_rate,
            max_sampling_rate: self.max_sampling_rate,
            shape: None,
        }
    }
}
