//! Full rings of cells that are told: a bounded slab.

use weir_flow_record::Vector;

use super::NONE;
use crate::addition::Addition;
use crate::ring::{Clock, Rings, Sums};
use crate::summary::PrefixShape;

/// Seconds for which a cell is told after it was last worth telling.
const LINGER: i64 = 15;
/// Seconds of these in which it is told with every tick.
const AT_ONCE: i64 = 2;

/// A cell that is told.
#[derive(Debug)]
pub(crate) struct Full {
    /// Or [`NONE`].
    pub(crate) cell: u32,
    rings: Rings,
    /// Wanted by the detector, whatever its traffic.
    pinned: bool,
    /// Newest second in which it was worth telling.
    hot_at: i64,
    /// The same by what arrived here.
    risen_at: i64,
    pub(crate) shape: Option<PrefixShape>,
    /// When its shape was taken.
    pub(crate) shaped_at: i64,
    /// The second in which it was told last.
    told_at: i64,
}

/// The slab. Slots given back keep their memory for the next cell.
#[derive(Debug)]
pub(crate) struct Fulls {
    slots: Vec<Full>,
    free: Vec<u32>,
    changed: Vec<u32>,
    max: usize,
    hand: usize,
}

impl Fulls {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            changed: Vec::new(),
            max,
            hand: 0,
        }
    }

    /// A slot for a cell, told from the oldest second on; `None` where the slab is full.
    pub(crate) fn take(&mut self, cell: u32, clock: &Clock) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.max => {
                self.slots.push(Full {
                    cell,
                    rings: Rings::new(),
                    pinned: false,
                    hot_at: clock.newest(),
                    risen_at: i64::MIN,
                    shape: None,
                    shaped_at: 0,
                    told_at: 0,
                });
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        let slot = self.slots.get_mut(index as usize)?;
        slot.cell = cell;
        slot.pinned = false;
        slot.hot_at = clock.newest();
        slot.risen_at = i64::MIN;
        slot.shape = None;
        slot.shaped_at = i64::MIN;
        slot.told_at = i64::MIN;
        slot.rings.clear();
        slot.rings.refresh(clock);
        slot.rings.mark_all(clock);
        self.changed.push(index);
        Some(index)
    }

    #[inline]
    pub(crate) fn add(
        &mut self,
        index: u32,
        clock: &Clock,
        (vector, addition, rate): (Vector, &impl Addition, u32),
    ) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.rings.add(clock, vector, addition, rate)
        {
            self.changed.push(index);
        }
    }

    /// Adds what the hosts' totals have more than the cell's vectors: see [`Rings::fill_up`].
    pub(crate) fn fill(&mut self, index: u32, clock: &Clock, totals: &[(i64, Sums)]) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.rings.fill_up(clock, totals);
        }
    }

    pub(crate) fn mark_unknown_rate(&mut self, index: u32, second: i64) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.rings.mark_unknown_rate(second);
        }
    }

    pub(crate) fn pin(&mut self, index: u32, pinned: bool) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.pinned = pinned;
        }
    }

    /// Notes that a cell is still worth telling: by what arrives here, or since another shard says so.
    pub(crate) fn keep(&mut self, index: u32, second: i64, risen: bool) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.hot_at = slot.hot_at.max(second);
            if risen {
                slot.risen_at = slot.risen_at.max(second);
            }
        }
    }

    /// The slots that changed since they were taken last: those that have just risen at once, those that are as usual again or
    /// known to be attacked once a second. `second` is the present one.
    pub(crate) fn take_changed(&mut self, second: i64) -> Vec<u32> {
        let slots = &mut self.slots;
        let (mut due, mut later) = (Vec::new(), Vec::new());
        for index in std::mem::take(&mut self.changed) {
            let Some(slot) = slots.get_mut(index as usize) else {
                continue;
            };
            if slot.cell == NONE || !slot.rings.is_changed() {
                continue;
            }
            let is_news = !slot.pinned && slot.hot_at + AT_ONCE >= second;
            if is_news || slot.told_at < second {
                slot.told_at = second;
                due.push(index);
            } else {
                later.push(index);
            }
        }
        self.changed = later;
        due
    }

    /// Whether slots wait for the next second to be told.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.changed.is_empty()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Full> {
        self.slots.get_mut(index as usize)
    }

    /// Slot and cell among the next `slots` ones that are told no more, since they have long been as usual.
    pub(crate) fn next_unwanted(&mut self, second: i64, slots: usize) -> Vec<(u32, u32)> {
        let mut unwanted = Vec::new();
        for _ in 0..slots.min(self.slots.len()) {
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &self.slots[self.hand];
            let usual = slot.hot_at + LINGER < second;
            if slot.cell != NONE && !slot.pinned && usual {
                unwanted.push((self.hand as u32, slot.cell));
            }
        }
        unwanted
    }

    pub(crate) fn give_back(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.cell != NONE
        {
            slot.cell = NONE;
            self.free.push(index);
        }
    }

    /// Octets of memory.
    pub(crate) fn octets(&self) -> usize {
        self.slots.iter().map(|slot| slot.rings.octets()).sum()
    }
}

impl Full {
    /// Whether more than usual arrives here.
    pub(crate) fn has_risen(&self, second: i64) -> bool {
        self.risen_at.saturating_add(LINGER) >= second
    }

    pub(crate) fn rings_mut(&mut self) -> &mut Rings {
        &mut self.rings
    }
}
