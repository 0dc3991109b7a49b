//! Cells that rise above what is usual: promoted, told, and left again.

use ipnet::IpNet;
use weir_flow_record::TargetKey;

use super::Aggregator;
use super::tell::zone_id;
use crate::addition::{Addition, Record};
use crate::cells::{self, NONE, Weights};
use crate::ring::Sums;
use crate::{TargetScope, WindowSummary};

/// Hosts whose seconds are read at a tick to promote cells.
const HOSTS_AT_A_TICK: usize = 4096;
/// The same to look at the shape of those that are told, where it is known already.
const SHAPED_AT_A_TICK: usize = 1024;
/// Hosts of a cell that are looked at.
const HOSTS_OF_A_CELL: usize = 4096;
/// Cells looked at for promotion at a tick.
const HOT_AT_A_TICK: usize = 256;
/// Newest seconds over which a shape is taken; more of them where the fewer ones have nothing.
const SHAPED: [usize; 3] = [4, 16, usize::MAX];

impl Aggregator {
    /// Promotes what is hot, and tells what is promoted.
    pub(super) fn summarise_cells(&mut self, second: i64, summary: &mut WindowSummary) {
        let mut budget = HOSTS_AT_A_TICK;
        self.promote_hot(&mut budget);
        budget = budget.min(SHAPED_AT_A_TICK);
        let first = summary.prefixes.len();
        for index in self.fulls.take_changed(second) {
            self.refresh_shape(index, &mut budget);
            let Some(full) = self.fulls.get_mut(index) else {
                continue;
            };
            let cell = self.cells.get(full.cell);
            let zone = self.zones.get(usize::from(cell.zone()));
            let prefixes = zone.map_or(&[] as &[IpNet], |zone| &zone.prefixes.prefixes);
            let target = TargetKey {
                prefix: self.cells.prefix(full.cell, prefixes),
                direction: cell.direction(),
                zone: zone_id(&self.zones, cell.zone()),
            };
            let shape = full.shape.clone().map(Box::new);
            let Some(reading) = full.rings_mut().read(&self.clock) else {
                continue;
            };
            let mut series = reading.series(target, TargetScope::Automatic);
            series.shape = shape;
            summary.prefixes.push(series);
        }
        if let Some(told) = summary.prefixes.get_mut(first..) {
            told.sort_by_key(|series| series.target);
        }
    }

    /// Leaves cells that have been as usual for a while, and forgets those that are empty.
    pub(super) fn sweep_cells(&mut self, slots: usize) {
        let newest = self.clock.newest();
        for (index, cell) in self.fulls.next_unwanted(newest, 64) {
            self.fulls.give_back(index);
            self.cells.set_full(cell, NONE);
        }
        let hosts = &self.hosts;
        self.cells
            .sweep(self.clock.oldest(), slots, |cell| hosts.has_hosts(cell));
    }

    /// Tells the cell of a prefix from now on, whatever its traffic.
    pub(super) fn watch_cell(&mut self, target: &TargetKey) {
        let Some(cell) = self.cell_of(target) else {
            return;
        };
        if self.cells.get(cell).full() == NONE {
            self.promote_cell(cell);
        }
        self.fulls.pin(self.cells.get(cell).full(), true);
        self.cells.freeze(cell, true);
    }

    /// Tells the cell of a prefix for a few seconds: another shard has seen it rise.
    pub(super) fn look_at_cell(&mut self, target: &TargetKey) {
        let Some(cell) = self.cell_of(target) else {
            return;
        };
        if self.cells.get(cell).full() == NONE {
            self.promote_cell(cell);
        }
        let newest = self.clock.newest();
        self.fulls.keep(self.cells.get(cell).full(), newest, false);
    }

    pub(super) fn release_cell(&mut self, target: &TargetKey) {
        if let Some(cell) = self.cell_of(target) {
            self.fulls.pin(self.cells.get(cell).full(), false);
            self.cells.freeze(cell, false);
        }
    }

    /// The cell that stands for a target, in a zone that has cells.
    fn cell_of(&mut self, target: &TargetKey) -> Option<u32> {
        let is_it = |zone: &super::Zone| zone.prefixes.zone == target.zone;
        let zone = self.zones.iter().position(is_it)?;
        let side = self.zones[zone].side(target.direction)?;
        side.triggers.as_ref()?;
        let (v4, v6) = cells::CELL_BITS;
        let least = if target.prefix.addr().is_ipv4() {
            v4
        } else {
            v6
        };
        let prefixes = &self.zones[zone].prefixes.prefixes;
        if target.prefix.prefix_len() < least {
            return None;
        }
        let cell = self.cells.of_target(target, zone as u16)?;
        (self.cells.prefix(cell, prefixes) == target.prefix).then_some(cell)
    }

    fn promote_hot(&mut self, budget: &mut usize) {
        let newest = self.clock.newest();
        while *budget > 0 {
            let hot = self.cells.take_hot(1);
            let Some(cell) = hot.first() else {
                break;
            };
            *budget = budget.saturating_sub(HOSTS_AT_A_TICK / HOT_AT_A_TICK);
            let full = self.cells.get(*cell).full();
            if full == NONE {
                *budget = budget.saturating_sub(self.promote_cell(*cell));
            }
            let full = self.cells.get(*cell).full();
            self.fulls.keep(full, newest, true);
            self.cells.calm(*cell);
        }
    }

    /// Gives a cell full rings. Its earlier seconds are those of its hosts, classified as far as their rows are remembered.
    /// Returns the number of hosts that were read.
    fn promote_cell(&mut self, cell: u32) -> usize {
        let Some(full) = self.fulls.take(cell, &self.clock) else {
            self.counters.refused_cells += 1;
            return 0;
        };
        self.cells.set_full(cell, full);
        let oldest = self.clock.oldest();
        for row in self.recent.all() {
            let host = self.hosts.get(row.slot);
            if host.is_none_or(|host| host.cell != cell) {
                continue;
            }
            let (vector, rate) = (row.vector, row.rate);
            match Record::again(row).without_flow_before(oldest) {
                Record::Point(point) if point.last() >= oldest => {
                    self.fulls.add(full, &self.clock, (vector, &point, rate));
                }
                Record::Long(long) if long.last() >= oldest => {
                    self.fulls.add(full, &self.clock, (vector, &long, rate));
                }
                _ => (),
            }
        }
        let mut totals: Vec<(i64, Sums)> = Vec::new();
        let mut hosts = 0;
        for slot in self.hosts.of_cell(cell).take(HOSTS_OF_A_CELL) {
            hosts += 1;
            if self.hosts.host(slot).unknown_rate {
                self.fulls.mark_unknown_rate(full, self.clock.newest());
            }
            for (at, (second, sums)) in self.hosts.read(slot, &self.clock).enumerate() {
                match totals.get_mut(at) {
                    Some((_, total)) => *total = total.and(sums),
                    None => totals.push((second, sums)),
                }
            }
        }
        self.fulls.fill(full, &self.clock, &totals);
        hosts
    }

    /// Takes a cell's shape anew, once a second.
    fn refresh_shape(&mut self, index: u32, budget: &mut usize) {
        let newest = self.clock.newest();
        let Some(full) = self.fulls.get_mut(index) else {
            return;
        };
        let is_fresh = full.shaped_at == newest || (full.shape.is_some() && *budget == 0);
        if is_fresh {
            return;
        }
        let (cell, risen) = (full.cell, full.has_risen(newest));
        let mut weights = Weights::default();
        for seconds in SHAPED {
            for slot in self.hosts.of_cell(cell).take(HOSTS_OF_A_CELL) {
                *budget = budget.saturating_sub(1);
                let read = self.hosts.read(slot, &self.clock).take(seconds);
                let sum = read.fold(Sums::default(), |sum, (_, sums)| sum.and(sums));
                weights.push(self.hosts.host(slot).address, sum.octets, sum.packets());
            }
            if !weights.is_empty() {
                break;
            }
        }
        let known_for = u32::try_from(self.cells.age(newest)).unwrap_or(u32::MAX);
        let shape = cells::shape(
            &weights,
            self.cells.get(cell).span(),
            risen,
            (known_for, self.cells.levels(cell)),
        );
        if let Some(full) = self.fulls.get_mut(index) {
            full.shape = Some(shape);
            full.shaped_at = newest;
        }
    }
}
