//! Configured prefix lengths: sums of everything inside, with all vectors. A bounded table.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use ipnet::IpNet;
use weir_flow_record::{Address, Direction, TargetKey, Vector, ZoneId};

use crate::addition::Addition;
use crate::budget::{Budget, Peak, Rates};
use crate::ring::{Clock, Rings, Sums};
use crate::{PrefixLength, Series, TargetScope};

/// Slots looked at for one that can be used again, when the table is full.
const SEARCH: usize = 16;

/// A prefix length of one zone and direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    /// Bits of the 16 octets that hold both families.
    v4: u8,
    v6: u8,
    rates: Rates,
}

/// First address of a prefix, its bits, index of the zone, direction.
type Key = (u128, u8, u16, Direction);

/// Prefixes by what they are.
#[derive(Debug)]
pub(crate) struct Prefixes {
    hasher: RandomState,
    index: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    changed: Vec<u32>,
    max: usize,
    hand: usize,
}

#[derive(Debug)]
struct Slot {
    key: Key,
    rates: Rates,
    budget: Budget,
    rings: Rings,
    /// Told once, a prefix is told at every change: the detector may hold an attack on it.
    told: bool,
    live: bool,
}

impl Length {
    pub(crate) fn new(length: &PrefixLength) -> Self {
        let direction = length.interesting.direction;
        Self {
            v4: 96 + length.v4.min(32),
            v6: length.v6.min(128),
            rates: Rates::lowest(&[length.interesting], direction),
        }
    }

    fn key(&self, address: Address, zone: u16, direction: Direction) -> Key {
        let bits = if address.is_v4() { self.v4 } else { self.v6 };
        let mask = u128::MAX
            .checked_shl(128 - u32::from(bits))
            .unwrap_or_default();
        let first = u128::from_be_bytes(address.octets()) & mask;
        (first, bits, zone, direction)
    }
}

impl Prefixes {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            hasher: RandomState::default(),
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            changed: Vec::new(),
            max,
            hand: 0,
        }
    }

    /// Adds a record to the prefix of `address`; `false` where the table has no room for it.
    #[inline]
    pub(crate) fn add(
        &mut self,
        length: &Length,
        (address, zone, direction): (Address, u16, Direction),
        clock: &Clock,
        (vector, addition, rate): (Vector, &impl Addition, u32),
    ) -> bool {
        let key = length.key(address, zone, direction);
        let hash = self.hasher.hash_one(key);
        let known = self
            .index
            .find(hash, |slot| self.slots[*slot as usize].key == key)
            .copied();
        let Some(index) = known.or_else(|| self.insert(hash, key, length.rates, clock)) else {
            return false;
        };
        let slot = &mut self.slots[index as usize];
        slot.budget.take(addition);
        if slot.rings.add(clock, vector, addition, rate) {
            self.changed.push(index);
        }
        true
    }

    /// Tells a prefix from now on, whatever its traffic, if it has this length.
    pub(crate) fn watch(&mut self, length: &Length, target: &TargetKey, zone: u16, clock: &Clock) {
        let address = Address::from(target.prefix.addr());
        let key = length.key(address, zone, target.direction);
        if prefix(key.0, key.1) != target.prefix {
            return;
        }
        let hash = self.hasher.hash_one(key);
        let known = self
            .index
            .find(hash, |slot| self.slots[*slot as usize].key == key)
            .copied();
        let Some(index) = known.or_else(|| self.insert(hash, key, length.rates, clock)) else {
            return;
        };
        let slot = &mut self.slots[index as usize];
        slot.told = true;
        slot.rings.mark_all(clock);
        self.changed.push(index);
    }

    /// The series of prefixes that changed and are, or once were, interesting.
    pub(crate) fn summarise(
        &mut self,
        clock: &Clock,
        zone_of: impl Fn(u16) -> ZoneId,
        out: &mut Vec<Series>,
    ) {
        for index in self.changed.drain(..) {
            let slot = &mut self.slots[index as usize];
            if !slot.told && slot.budget.is_exhausted() {
                slot.rings.refresh(clock);
                let peak = Peak::of(slot.rings.sums(clock));
                slot.budget = slot.rates.budget(peak);
                slot.told = slot.rates.reached_by(peak);
                if slot.told {
                    slot.rings.mark_all(clock);
                }
            }
            if !slot.told {
                slot.rings.unmark();
                continue;
            }
            let (first, bits, zone, direction) = slot.key;
            let target = TargetKey {
                prefix: prefix(first, bits),
                direction,
                zone: zone_of(zone),
            };
            out.extend(
                slot.rings
                    .read(clock)
                    .map(|reading| reading.series(target, TargetScope::Prefix)),
            );
        }
        out.sort_by_key(|series| series.target);
    }

    /// Gives back prefixes among the next `slots` ones that have had nothing for the whole history.
    pub(crate) fn sweep(&mut self, clock: &Clock, slots: usize) {
        for _ in 0..slots.min(self.slots.len()) {
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[self.hand];
            if slot.live && slot.rings.seen() < clock.oldest() && !slot.rings.is_changed() {
                slot.live = false;
                let (hash, hand) = (self.hasher.hash_one(slot.key), self.hand as u32);
                if let Ok(entry) = self.index.find_entry(hash, |other| *other == hand) {
                    entry.remove();
                }
                self.free.push(hand);
            }
        }
    }

    /// Slots that were ever used.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Tells each prefix of some slots that is in use: what it is (with the index of its zone), and its seconds from the newest
    /// back.
    pub(crate) fn minute(
        &mut self,
        slots: std::ops::Range<usize>,
        clock: &Clock,
        mut tell: impl FnMut((IpNet, u16, Direction), &mut dyn Iterator<Item = (i64, Sums)>),
    ) {
        for slot in self.slots.get_mut(slots).unwrap_or_default() {
            if slot.live && slot.rings.seen() >= clock.oldest() {
                slot.rings.refresh(clock);
                let (first, bits, zone, direction) = slot.key;
                let key = (prefix(first, bits), zone, direction);
                tell(key, &mut slot.rings.sums(clock));
            }
        }
    }

    /// Octets of memory.
    pub(crate) fn octets(&self) -> usize {
        self.slots.iter().map(|slot| slot.rings.octets()).sum()
    }

    fn insert(&mut self, hash: u64, key: Key, rates: Rates, clock: &Clock) -> Option<u32> {
        if self.free.is_empty() && self.slots.len() >= self.max {
            self.sweep(clock, SEARCH);
        }
        let budget = rates.budget(Peak::default());
        let index = match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.rings.clear();
                (slot.key, slot.rates, slot.budget) = (key, rates, budget);
                (slot.told, slot.live) = (false, true);
                index
            }
            None if self.slots.len() < self.max => {
                self.slots.push(Slot {
                    key,
                    rates,
                    budget,
                    rings: Rings::new(),
                    told: false,
                    live: true,
                });
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, index, |slot| {
            hasher.hash_one(slots[*slot as usize].key)
        });
        Some(index)
    }
}

fn prefix(first: u128, bits: u8) -> IpNet {
    let address = Address::from_octets(first.to_be_bytes());
    let v4_bits = bits.saturating_sub(96);
    address.prefix(v4_bits, bits)
}
