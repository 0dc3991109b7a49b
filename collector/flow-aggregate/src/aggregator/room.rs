//! Who is watched: interesting hosts, and where there is no room for all of these, those that are furthest above.

use super::{Aggregator, rates_of};
use crate::budget::{Peak, Rates};
use crate::hosts::NONE;

/// Newest seconds of a host in which it is seen what it has now.
const NEWEST: usize = 3;
/// Watched hosts looked at between two ticks for one that can give way.
pub(super) const SEARCHES: usize = 256;

impl Aggregator {
    /// Promotes a host if one of its seconds really is interesting.
    pub(super) fn look_at(&mut self, slot: u32) {
        let host = self.hosts.host(slot);
        let rates = rates_of(&self.zones, host.zone, host.direction);
        if self.watched.is_full() {
            // There may be very many of these: few of their seconds can be read.
            let (_, peak) = self.newest(slot);
            if !rates.are_far_below(peak) || !self.make_room() {
                return self.refuse(slot);
            }
            return self.promote(slot);
        }
        let peak = self.hosts.measure(slot, &self.clock, &rates);
        if rates.reached_by(peak) {
            self.promote(slot);
        }
    }

    /// Whether the newest seconds of a host are interesting.
    pub(super) fn is_urgent(&self, slot: u32) -> bool {
        let (rates, peak) = self.newest(slot);
        rates.reached_by(peak)
    }

    /// There is no room for a host; it is asked about again only when as much has come once more.
    pub(super) fn refuse(&mut self, slot: u32) {
        self.counters.refused_watches += 1;
        self.hosts.host_mut(slot).bounds = Default::default();
    }

    /// Releases a watched host that is not interesting at the moment, and that nobody wants; false where none is found soon.
    pub(super) fn make_room(&mut self) -> bool {
        while self.searches > 0 {
            self.searches -= 1;
            let found = self.watched.next_unwanted(1).next();
            let Some((index, slot)) = found.filter(|(_, slot)| !self.is_urgent(*slot)) else {
                continue;
            };
            self.watched.give_back(index);
            self.hosts.host_mut(slot).watched = NONE;
            return true;
        }
        false
    }

    fn newest(&self, slot: u32) -> (Rates, Peak) {
        let host = self.hosts.host(slot);
        let newest = self.hosts.read(slot, &self.clock).take(NEWEST);
        (
            rates_of(&self.zones, host.zone, host.direction),
            Peak::of(newest),
        )
    }
}
