//! The table of hosts: totals only, about 1.1 KiB each with a history of 64 s, bounded.

use foldhash::fast::RandomState;
use std::hash::BuildHasher;
use weir_flow_record::{Address, Direction};

use crate::addition::Addition;
use crate::bound::{Bounds, Periods};
use crate::budget::{Peak, Rates};
use crate::index::Index;
use crate::memory;
use crate::recent::RowNumber;
use crate::ring::{Clock, NEVER, Sums};
use crate::slabs::Slabs;

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;
/// Slots looked at for one that can be used again, when the table is full.
const SEARCH: usize = 16;

/// A host in one direction: a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Host {
    pub(crate) address: Address,
    pub(crate) bounds: Bounds,
    /// The newest second when it last had a record.
    seen: i64,
    /// Slot of its full rings, or [`NONE`].
    pub(crate) watched: u32,
    /// Its newest row among the recent ones.
    pub(crate) newest_row: RowNumber,
    /// Index of its zone.
    pub(crate) zone: u16,
    pub(crate) direction: Direction,
    /// Its cell, or [`NONE`].
    pub(crate) cell: u32,
    /// Whether it ever had a record without a known sampling rate.
    pub(crate) unknown_rate: bool,
    live: bool,
}

/// Hosts, by address and direction.
#[derive(Debug)]
pub(crate) struct Hosts {
    hasher: RandomState,
    index: Index,
    hosts: Vec<Host>,
    slabs: Slabs,
    periods: Periods,
    /// The hosts of a cell, chained: previous and next slot of each slot, and the first slot of each cell.
    links: Vec<[u32; 2]>,
    heads: Vec<u32>,
    free: Vec<u32>,
    max: usize,
    hand: usize,
}

impl Hosts {
    /// A table of at most `max` hosts. Its memory is asked for at once and used as hosts come.
    pub(crate) fn new(max: usize, clock: &Clock) -> Self {
        Self {
            hasher: RandomState::default(),
            index: Index::new(max),
            hosts: Vec::with_capacity(max),
            slabs: Slabs::new(max, clock),
            periods: Periods::new(clock),
            links: Vec::with_capacity(max),
            heads: Vec::new(),
            free: Vec::with_capacity(max),
            max,
            hand: 0,
        }
    }

    #[inline]
    pub(crate) fn hash(&self, address: Address, direction: Direction) -> u64 {
        hash_of(&self.hasher, address, direction)
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, address: Address, direction: Direction) -> Option<u32> {
        self.index
            .find(hash, |slot| self.is_at(slot, address, direction))
    }

    /// Asks for the memory that [`find_probable`](Self::find_probable) will need.
    #[inline]
    pub(crate) fn expect(&self, hash: u64) {
        self.index.expect(hash);
    }

    /// Finds the host of a hash, and asks for its memory: [`NONE`] where there is none, and sometimes another host where
    /// hashes are alike, so look with [`is_at`](Self::is_at).
    #[inline]
    pub(crate) fn find_probable(&self, hash: u64) -> u32 {
        let slot = self.index.find(hash, |_| true).unwrap_or(NONE);
        memory::expect(&self.hosts, slot as usize);
        slot
    }

    /// Adds a host that is not there; `None` where the table is full of hosts with traffic in the history.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        (address, direction, zone, cell): (Address, Direction, u16, u32),
        newest_row: RowNumber,
        clock: &Clock,
    ) -> Option<u32> {
        let slot = self.free_slot(clock)?;
        let host = Host {
            address,
            bounds: Bounds::default(),
            seen: clock.newest(),
            watched: NONE,
            newest_row,
            zone,
            direction,
            cell,
            unknown_rate: false,
            live: true,
        };
        match self.hosts.get_mut(slot as usize) {
            // A slot is free only when its seconds have all gone: there is nothing to clear.
            Some(place) => *place = host,
            None => self.hosts.push(host),
        }
        self.index.insert(hash, slot);
        self.link(slot, cell);
        Some(slot)
    }

    /// The host of a slot, if there is such a slot.
    pub(crate) fn get(&self, slot: u32) -> Option<&Host> {
        self.hosts.get(slot as usize)
    }

    #[inline]
    pub(crate) fn host(&self, slot: u32) -> &Host {
        &self.hosts[slot as usize]
    }

    #[inline]
    pub(crate) fn host_mut(&mut self, slot: u32) -> &mut Host {
        &mut self.hosts[slot as usize]
    }

    /// Whether a slot is that of a host.
    #[inline]
    pub(crate) fn is_at(&self, slot: u32, address: Address, direction: Direction) -> bool {
        let host = self.host(slot);
        host.live && host.address == address && host.direction == direction
    }

    /// Asks for the memory that adding a record to a host will need.
    #[inline]
    pub(crate) fn expect_steps(&self, slot: u32, clock: &Clock, addition: &impl Addition) {
        self.slabs.expect(slot, clock, addition);
    }

    /// Adds a record to a host. Returns whether one of its seconds may have become interesting.
    #[inline]
    pub(crate) fn add(
        &mut self,
        slot: u32,
        clock: &Clock,
        rates: &Rates,
        addition: &impl Addition,
    ) -> bool {
        self.slabs.add(slot, self.hosts.len(), clock, addition);
        let host = &mut self.hosts[slot as usize];
        host.bounds.advance(self.periods, host.seen, clock.newest());
        host.seen = clock.newest();
        host.bounds
            .add(self.periods, clock.oldest(), rates, addition)
    }

    /// Each second's sums, from the newest back.
    pub(crate) fn read<'a>(
        &'a self,
        slot: u32,
        clock: &'a Clock,
    ) -> impl Iterator<Item = (i64, Sums)> + 'a {
        self.slabs.read(slot, clock)
    }

    /// Looks at a host's seconds: its bounds become true.
    pub(crate) fn measure(&mut self, slot: u32, clock: &Clock, rates: &Rates) -> Peak {
        let mut peak = Peak::default();
        let seconds = self.read(slot, clock);
        let seconds = seconds.inspect(|(_, sums)| peak.add(*sums));
        let bounds = Bounds::measured(self.periods, rates, seconds);
        self.hosts[slot as usize].bounds = bounds;
        peak
    }

    /// Gives back hosts among the next `slots` ones that have had nothing for the whole history.
    pub(crate) fn sweep(&mut self, clock: &Clock, slots: usize) {
        for _ in 0..slots.min(self.hosts.len()) {
            self.hand = (self.hand + 1) % self.hosts.len();
            let host = &self.hosts[self.hand];
            if host.live && host.seen < clock.oldest() && host.watched == NONE {
                self.remove(self.hand as u32);
            }
        }
    }

    /// The hosts of a cell, the newest first.
    pub(crate) fn of_cell(&self, cell: u32) -> impl Iterator<Item = u32> {
        let mut slot = self.heads.get(cell as usize).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let found = (slot != NONE).then_some(slot)?;
            slot = self.links.get(slot as usize).map_or(NONE, |link| link[1]);
            Some(found)
        })
    }

    /// Whether a cell has hosts.
    pub(crate) fn has_hosts(&self, cell: u32) -> bool {
        self.heads
            .get(cell as usize)
            .is_some_and(|head| *head != NONE)
    }

    fn link(&mut self, slot: u32, cell: u32) {
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, [NONE; 2]);
        }
        if cell == NONE {
            self.links[slot as usize] = [NONE; 2];
            return;
        }
        if self.heads.len() <= cell as usize {
            self.heads.resize(cell as usize + 1, NONE);
        }
        let next = std::mem::replace(&mut self.heads[cell as usize], slot);
        self.links[slot as usize] = [NONE, next];
        if next != NONE {
            self.links[next as usize][0] = slot;
        }
    }

    fn unlink(&mut self, slot: u32, cell: u32) {
        let [previous, next] = self.links[slot as usize];
        if cell == NONE {
            return;
        }
        if previous == NONE {
            self.heads[cell as usize] = next;
        } else {
            self.links[previous as usize][1] = next;
        }
        if next != NONE {
            self.links[next as usize][0] = previous;
        }
    }

    /// Slots that were ever used.
    pub(crate) fn slots(&self) -> usize {
        self.hosts.len()
    }

    /// The host of a slot if it had a record since a second.
    pub(crate) fn active_since(&self, slot: u32, second: i64) -> Option<&Host> {
        let host = self.hosts.get(slot as usize)?;
        (host.live && host.seen >= second).then_some(host)
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Octets of memory of one host: itself, its steps, its places in the index and in the
    /// list of free slots.
    pub(crate) fn octets_per_host(&self) -> usize {
        size_of::<Host>()
            + self.slabs.octets_per_host()
            + Index::octets_per_slot()
            + size_of::<[u32; 2]>()
            + size_of::<u32>()
    }

    fn free_slot(&mut self, clock: &Clock) -> Option<u32> {
        if self.free.is_empty() && self.hosts.len() < self.max {
            return u32::try_from(self.hosts.len()).ok();
        }
        if self.free.is_empty() {
            self.sweep(clock, SEARCH);
        }
        self.free.pop()
    }

    fn remove(&mut self, slot: u32) {
        let host = self.hosts[slot as usize];
        let hash = self.hash(host.address, host.direction);
        let (hosts, hasher) = (&self.hosts, &self.hasher);
        self.index.remove(hash, slot, |slot| {
            let host = &hosts[slot as usize];
            hash_of(hasher, host.address, host.direction)
        });
        self.unlink(slot, host.cell);
        self.hosts[slot as usize].live = false;
        self.hosts[slot as usize].seen = NEVER;
        self.free.push(slot);
    }
}

#[inline]
fn hash_of(hasher: &RandomState, address: Address, direction: Direction) -> u64 {
    let (high, low) = address.words();
    hasher.hash_one((high ^ ((direction as u64) << 63), low))
}
