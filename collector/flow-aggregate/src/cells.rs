//! Automatic prefixes: attacks on many hosts, each below its own limit.
//!
//! Every host belongs to a cell, the /24 or /56 around it. A cell counts what arrives in a second, by vector, and knows what
//! usually does; both so cheaply that each record can afford it. Where a count rises far above, the cell is promoted: from then on
//! it has full rings, as a watched host has, and is told, at first with every tick, until what arrives is usual again. Before that its seconds
//! are those of its hosts.
//!
//! The counts are by arrival: a long record counts at once, and so it may promote a cell for nothing. That does no harm: what is
//! told is spread over time, and told again only if it stays high.

mod full;
mod shape;

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use ipnet::IpNet;
use weir_flow_record::{Address, Direction, TargetKey, Vector};

use crate::ring::NEVER;
use crate::summary::Automatic;

pub(crate) use full::Fulls;
pub(crate) use shape::{Weights, shape};

/// No cell, no slot.
pub(crate) const NONE: u32 = u32::MAX;
/// Bits of a cell's prefix.
pub(crate) const CELL_BITS: (u8, u8) = (24, 56);
/// Seconds over which the usual level is learned: the weight of a second is one in so many.
const LEARNED: f32 = 300.0;
/// Times the usual level from which on a cell is worth telling.
const RISE: f32 = 2.0;
/// Seconds after which half of a raised trigger is forgotten.
const HALF: f32 = 120.0;

/// Counts of one vector in the second that is running, and the count from which on the cell is worth telling.
#[derive(Clone, Copy, Default, Debug)]
struct Lane {
    octets: u32,
    packets: u32,
    octets_trigger: u32,
    packets_trigger: u32,
}

/// What usually arrives in a second.
#[derive(Clone, Copy, Default, Debug)]
struct Level {
    octets: f32,
    packets: f32,
}

/// A cell: the first cache line is its own, the others hold a few vectors each.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Cell {
    first: u128,
    /// The second that its counts are of.
    second: i64,
    zone: u16,
    direction: Direction,
    live: bool,
    is_v4: bool,
    /// Whether it waits to be looked at.
    is_hot: bool,
    /// Whether what arrives is not to be learned.
    is_frozen: bool,
    /// Slot of its full rings, or [`NONE`].
    full: u32,
    lanes: [Lane; Vector::COUNT],
}

/// Rates from which on each vector of a cell is worth telling: octets and packets of one second.
pub(crate) type Triggers = [[u32; 2]; Vector::COUNT];

/// Cells by prefix, zone and direction: a bounded table.
#[derive(Debug)]
pub(crate) struct Cells {
    hasher: RandomState,
    index: HashTable<u32>,
    cells: Vec<Cell>,
    levels: Vec<[Level; Vector::COUNT]>,
    free: Vec<u32>,
    hot: Vec<u32>,
    max: usize,
    hand: usize,
    /// The first second there was.
    began: i64,
}

/// The triggers that a zone's limits make; `None` where nobody asks.
pub(crate) fn triggers(rates: &[Automatic], direction: Direction) -> Option<Box<Triggers>> {
    let mut triggers = Box::new([[u32::MAX; 2]; Vector::COUNT]);
    let mut any = false;
    for rate in rates.iter().filter(|rate| rate.direction == direction) {
        any = true;
        let trigger = &mut triggers[rate.vector.index()];
        let least = |known: u32, rate: Option<u64>| {
            rate.map_or(known, |rate| {
                known.min(u32::try_from(rate.max(1)).unwrap_or(u32::MAX))
            })
        };
        *trigger = [
            least(trigger[0], rate.octets),
            least(trigger[1], rate.packets),
        ];
    }
    any.then_some(triggers)
}

impl Cells {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            hasher: RandomState::default(),
            index: HashTable::new(),
            cells: Vec::new(),
            levels: Vec::new(),
            free: Vec::new(),
            hot: Vec::new(),
            max,
            hand: 0,
            began: i64::MAX,
        }
    }

    /// The cell of an address, which is made if there is room for it.
    pub(crate) fn of(&mut self, address: Address, zone: u16, direction: Direction) -> Option<u32> {
        let key = (first_of(address), zone, direction);
        let hash = self.hasher.hash_one(key);
        let known = self
            .index
            .find(hash, |cell| self.cells[*cell as usize].key() == key)
            .copied();
        known.or_else(|| self.insert(hash, key, address.is_v4()))
    }

    /// Counts a record that has just arrived, scaled. Returns the slot of the cell's full rings, or [`NONE`].
    #[inline]
    pub(crate) fn add(
        &mut self,
        index: u32,
        second: i64,
        (vector, octets, packets): (Vector, u64, u64),
        triggers: &Triggers,
    ) -> u32 {
        let cell = &mut self.cells[index as usize];
        if cell.second != second {
            self.turn(index, second, triggers);
        }
        let cell = &mut self.cells[index as usize];
        let lane = &mut cell.lanes[vector.index()];
        lane.octets = lane.octets.saturating_add(narrow(octets));
        lane.packets = lane.packets.saturating_add(narrow(packets));
        let over = lane.octets >= lane.octets_trigger || lane.packets >= lane.packets_trigger;
        if over && !cell.is_hot {
            cell.is_hot = true;
            self.hot.push(index);
        }
        cell.full
    }

    /// The cells that were worth telling since the last call, oldest first; at most `most`.
    pub(crate) fn take_hot(&mut self, most: usize) -> Vec<u32> {
        let rest = self.hot.split_off(self.hot.len().min(most));
        let hot = std::mem::replace(&mut self.hot, rest);
        for index in &hot {
            self.cells[*index as usize].is_hot = false;
        }
        hot
    }

    pub(crate) fn get(&self, index: u32) -> &Cell {
        &self.cells[index as usize]
    }

    pub(crate) fn set_full(&mut self, index: u32, full: u32) {
        self.cells[index as usize].full = full;
    }

    /// Learns what arrives, or not while it is an attack.
    pub(crate) fn freeze(&mut self, index: u32, is_frozen: bool) {
        self.cells[index as usize].is_frozen = is_frozen;
    }

    /// Raises the triggers of a cell that was told for nothing: to what arrived, for a while.
    pub(crate) fn calm(&mut self, index: u32) {
        for lane in &mut self.cells[index as usize].lanes {
            let raise = |trigger: &mut u32, count: u32| {
                if *trigger != u32::MAX {
                    *trigger = (*trigger).max(count.saturating_add(count / 2));
                }
            };
            raise(&mut lane.octets_trigger, lane.octets);
            raise(&mut lane.packets_trigger, lane.packets);
        }
    }

    /// What usually arrives, by vector: octets and packets a second.
    pub(crate) fn levels(&self, index: u32) -> Vec<(Vector, [u64; 2])> {
        let levels = &self.levels[index as usize];
        Vector::ALL
            .into_iter()
            .map(|vector| (vector, &levels[vector.index()]))
            .filter(|(_, level)| level.octets >= 1.0 || level.packets >= 1.0)
            .map(|(vector, level)| (vector, [level.octets as u64, level.packets as u64]))
            .collect()
    }

    /// Seconds since the first record.
    pub(crate) fn age(&self, second: i64) -> i64 {
        (second - self.began).max(0)
    }

    /// The target that a cell stands for, inside its zone's prefixes.
    pub(crate) fn prefix(&self, index: u32, zone: &[IpNet]) -> IpNet {
        let cell = self.get(index);
        let (v4, v6) = CELL_BITS;
        let prefix = Address::from_octets(cell.first.to_be_bytes()).prefix(v4, v6);
        // A zone may be smaller than a cell.
        zone.iter()
            .filter(|inner| prefix.contains(*inner))
            .max_by_key(|inner| inner.prefix_len())
            .copied()
            .unwrap_or(prefix)
    }

    /// The cell of a target, where there is one already or room for it.
    pub(crate) fn of_target(&mut self, target: &TargetKey, zone: u16) -> Option<u32> {
        let address = Address::from(target.prefix.addr());
        self.of(address, zone, target.direction)
    }

    /// Gives back cells without hosts among the next `slots` ones.
    pub(crate) fn sweep(&mut self, oldest: i64, slots: usize, has_hosts: impl Fn(u32) -> bool) {
        for _ in 0..slots.min(self.cells.len()) {
            self.hand = (self.hand + 1) % self.cells.len();
            let (index, cell) = (self.hand as u32, &mut self.cells[self.hand]);
            let idle = cell.second < oldest && cell.full == NONE && !cell.is_hot;
            if !cell.live || !idle || has_hosts(index) {
                continue;
            }
            cell.live = false;
            let hash = self.hasher.hash_one(cell.key());
            if let Ok(entry) = self.index.find_entry(hash, |other| *other == index) {
                entry.remove();
            }
            self.free.push(index);
        }
    }

    /// Octets of memory.
    pub(crate) fn octets(&self) -> usize {
        self.cells.len() * (size_of::<Cell>() + size_of::<[Level; Vector::COUNT]>())
    }

    fn insert(
        &mut self,
        hash: u64,
        (first, zone, direction): (u128, u16, Direction),
        is_v4: bool,
    ) -> Option<u32> {
        let cell = Cell {
            first,
            second: NEVER,
            zone,
            direction,
            live: true,
            is_v4,
            is_hot: false,
            is_frozen: false,
            full: NONE,
            lanes: [Lane::default(); Vector::COUNT],
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.cells[index as usize] = cell;
                self.levels[index as usize] = Default::default();
                index
            }
            None if self.cells.len() < self.max => {
                self.cells.push(cell);
                self.levels.push(Default::default());
                (self.cells.len() - 1) as u32
            }
            None => return None,
        };
        let (cells, hasher) = (&self.cells, &self.hasher);
        self.index.insert_unique(hash, index, |index| {
            hasher.hash_one(cells[*index as usize].key())
        });
        Some(index)
    }

    /// A cell's second is over: it is learned, and the next one begins.
    #[cold]
    fn turn(&mut self, index: u32, second: i64, triggers: &Triggers) {
        self.began = self.began.min(second);
        // In the beginning every second counts as much as all before it.
        let age = self.age(second) as f32;
        let (cell, levels) = (
            &mut self.cells[index as usize],
            &mut self.levels[index as usize],
        );
        let gap = if cell.second == NEVER {
            age.max(1.0)
        } else {
            (second - cell.second).max(1) as f32
        };
        let weight = 1.0 / age.clamp(1.0, LEARNED);
        let (last, kept) = (
            weight * (1.0 - weight).powf(gap - 1.0),
            (1.0 - weight).powf(gap),
        );
        let forgotten = 0.5_f32.powf(gap / HALF);
        cell.second = second;
        for ((lane, level), least) in cell.lanes.iter_mut().zip(levels).zip(triggers) {
            // What arrived came in the first of the seconds that have passed. An attack is nothing usual.
            if !cell.is_frozen {
                level.octets = level.octets * kept + lane.octets as f32 * last;
                level.packets = level.packets * kept + lane.packets as f32 * last;
            }
            let trigger = |least: u32, level: f32, known: u32| {
                let usual = (level * RISE).max(least as f32);
                (usual.max(known as f32 * forgotten) as u32).max(least)
            };
            lane.octets_trigger = trigger(least[0], level.octets, lane.octets_trigger);
            lane.packets_trigger = trigger(least[1], level.packets, lane.packets_trigger);
            (lane.octets, lane.packets) = (0, 0);
        }
    }
}

impl Cell {
    fn key(&self) -> (u128, u16, Direction) {
        (self.first, self.zone, self.direction)
    }

    pub(crate) fn zone(&self) -> u16 {
        self.zone
    }

    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    pub(crate) fn full(&self) -> u32 {
        self.full
    }

    /// First address and bits, of the 16 octets that hold both families.
    pub(crate) fn span(&self) -> (u128, u8) {
        let (v4, v6) = CELL_BITS;
        (self.first, if self.is_v4 { 96 + v4 } else { v6 })
    }
}

fn first_of(address: Address) -> u128 {
    let (v4, v6) = CELL_BITS;
    let bits = if address.is_v4() { 96 + v4 } else { v6 };
    u128::from_be_bytes(address.octets()) & (u128::MAX << (128 - u32::from(bits)))
}

#[inline]
fn narrow(count: u64) -> u32 {
    count.min(u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triggers_of(packets: u64) -> Box<Triggers> {
        let rates: Vec<Automatic> = Vector::ALL
            .into_iter()
            .map(|vector| Automatic {
                direction: Direction::In,
                vector,
                octets: None,
                packets: Some(packets),
            })
            .collect();
        triggers(&rates, Direction::In).unwrap()
    }

    #[test]
    fn a_usual_level_is_not_worth_telling_and_twice_of_it_is() {
        let triggers = triggers_of(1_000);
        let mut cells = Cells::new(16);
        let address = Address::from_v4([10, 0, 0, 1]);
        let cell = cells.of(address, 0, Direction::In).unwrap();
        let mut told = Vec::new();
        for second in 0..600 {
            let packets = if second < 500 { 5_000 } else { 11_000 };
            for _ in 0..10 {
                cells.add(cell, second, (Vector::UdpFlood, 0, packets / 10), &triggers);
            }
            if !cells.take_hot(9).is_empty() {
                told.push(second);
            }
        }
        assert!(told.first().is_some_and(|second| *second < 2), "{told:?}");
        assert!(told.contains(&500), "{told:?}");
        assert!(
            !told.iter().any(|second| (5..500).contains(second)),
            "{told:?}"
        );
        let level = cells.levels(cell)[0].1[1];
        assert!((5_000..8_000).contains(&level), "{level}");
    }

    #[test]
    fn a_cell_that_was_told_for_nothing_is_quiet_for_a_while() {
        let triggers = triggers_of(1_000);
        let mut cells = Cells::new(16);
        let address = Address::from_v4([10, 0, 0, 1]);
        let cell = cells.of(address, 0, Direction::In).unwrap();
        let mut told = Vec::new();
        for second in 0..600 {
            if second % 60 == 59 {
                cells.add(cell, second, (Vector::UdpFlood, 0, 50_000), &triggers);
            }
            for hot in cells.take_hot(9) {
                told.push(second);
                cells.calm(hot);
            }
        }
        assert!(told.len() <= 6, "{told:?}");
    }

    #[test]
    fn the_table_is_bounded_and_cells_come_back() {
        let mut cells = Cells::new(4);
        let of = |number: u8| Address::from_v4([10, 0, number, 1]);
        for number in 0..4 {
            assert!(cells.of(of(number), 0, Direction::In).is_some());
        }
        assert_eq!(cells.of(of(9), 0, Direction::In), None);
        cells.sweep(100, 4, |index| index != 2);
        assert_eq!(cells.of(of(9), 0, Direction::In), Some(2));
        assert_eq!(cells.of(of(1), 0, Direction::In), Some(1));
    }
}
