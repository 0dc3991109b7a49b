//! Full rings of interesting hosts: a bounded slab.

use weir_flow_record::Vector;

use crate::addition::Addition;
use crate::hosts::NONE;
use crate::ring::{Clock, Reading, Rings, Sums};

/// The slab. Slots given back keep their memory for the next host.
#[derive(Debug)]
pub(crate) struct Watched {
    slots: Vec<Slot>,
    free: Vec<u32>,
    changed: Vec<u32>,
    max: usize,
    hand: usize,
}

#[derive(Debug)]
struct Slot {
    /// Or [`NONE`].
    host: u32,
    rings: Rings,
    /// Wanted by the detector, whatever its traffic.
    pinned: bool,
    /// The second in which it was told last.
    told_at: i64,
}

impl Watched {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            changed: Vec::new(),
            max,
            hand: 0,
        }
    }

    /// A slot for a host, which will be told from the oldest second on; `None` where the slab is full.
    pub(crate) fn take(&mut self, host: u32, clock: &Clock) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.max => {
                self.slots.push(Slot {
                    host,
                    rings: Rings::new(),
                    pinned: false,
                    told_at: i64::MIN,
                });
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        let slot = self.slots.get_mut(index as usize)?;
        slot.host = host;
        slot.pinned = false;
        slot.told_at = i64::MIN;
        slot.rings.clear();
        slot.rings.mark_all(clock);
        self.changed.push(index);
        Some(index)
    }

    /// Whether there is no room for another host.
    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.max
    }

    pub(crate) fn give_back(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.host != NONE
        {
            slot.host = NONE;
            self.free.push(index);
        }
    }

    pub(crate) fn pin(&mut self, index: u32, pinned: bool) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.pinned = pinned;
        }
    }

    #[inline]
    pub(crate) fn add(
        &mut self,
        index: u32,
        clock: &Clock,
        vector: Vector,
        addition: &impl Addition,
        rate: u32,
    ) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.rings.add(clock, vector, addition, rate)
        {
            self.changed.push(index);
        }
    }

    /// Adds what a host's totals have more than its vectors: see [`Rings::fill_up`].
    pub(crate) fn fill_total(&mut self, index: u32, clock: &Clock, totals: &[(i64, Sums)]) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.rings.fill_up(clock, totals);
        }
    }

    /// Notes that some record of a host had no known sampling rate.
    pub(crate) fn mark_unknown_rate(&mut self, index: u32, second: i64) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.rings.mark_unknown_rate(second);
        }
    }

    /// Slots and hosts that changed since they were [read](Self::read) last; each is to be read or [deferred](Self::defer).
    pub(crate) fn take_changed(&mut self) -> Vec<(u32, u32)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let hosts = changed.filter_map(|index| {
            let slot = self.slots.get(index as usize)?;
            (slot.host != NONE).then_some((index, slot.host))
        });
        hosts.collect()
    }

    /// Whether a slot is to be told now: the detector wants it, or it was not told yet in this second.
    pub(crate) fn is_due(&self, index: u32, second: i64) -> bool {
        let slot = self.slots.get(index as usize);
        slot.is_some_and(|slot| slot.pinned || slot.told_at < second)
    }

    /// Leaves a slot for the next second.
    pub(crate) fn defer(&mut self, index: u32) {
        self.changed.push(index);
    }

    /// What changed of a slot; `None` where nothing did. `second` is the present one.
    pub(crate) fn read(&mut self, index: u32, second: i64, clock: &Clock) -> Option<Reading> {
        let slot = self.slots.get_mut(index as usize)?;
        slot.told_at = second;
        slot.rings.read(clock)
    }

    /// Whether hosts wait for the next second to be told.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Slot and host among the next `slots` ones that the detector does not want.
    pub(crate) fn next_unwanted(&mut self, slots: usize) -> impl Iterator<Item = (u32, u32)> {
        let length = self.slots.len();
        let start = self.hand;
        let count = slots.min(length);
        self.hand = (start + count).checked_rem(length).unwrap_or(0);
        let slots = &self.slots;
        (start..start + count).filter_map(move |index| {
            let index = index % length;
            let slot = slots.get(index)?;
            let unwanted = slot.host != NONE && !slot.pinned;
            unwanted.then_some((index as u32, slot.host))
        })
    }

    /// Octets of memory.
    pub(crate) fn octets(&self) -> usize {
        self.slots.iter().map(|slot| slot.rings.octets()).sum()
    }
}
