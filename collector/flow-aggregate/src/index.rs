//! An open-addressed index from hashes to slots, laid out so that many look-ups wait for memory at the same time: what
//! [`Index::expect`] asks for is what [`Index::find`] will need. Bounded; at most half full.

use crate::memory;

/// No slot.
const EMPTY: u32 = u32::MAX;

/// Slots by hash. Equal hashes are told apart by the caller.
#[derive(Debug)]
pub(crate) struct Index {
    /// A slot below a few bits of the hash, or [`EMPTY`]: as small as can be, since nearly every look-up waits for memory.
    entries: Vec<u32>,
    mask: usize,
    slot_bits: u32,
    len: usize,
}

impl Index {
    /// An index for at most `max` slots, below 2³¹.
    pub(crate) fn new(max: usize) -> Self {
        let length = (max * 2).next_power_of_two();
        Self {
            entries: vec![EMPTY; length],
            mask: length - 1,
            // One more value than slots: so none looks like an empty entry.
            slot_bits: usize::BITS - max.leading_zeros(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Octets of memory for each slot at most.
    pub(crate) fn octets_per_slot() -> usize {
        4 * size_of::<u32>()
    }

    /// Asks for the memory where a hash stands.
    #[inline]
    pub(crate) fn expect(&self, hash: u64) {
        memory::expect(&self.entries, hash as usize & self.mask);
    }

    /// The first slot of that hash for which `is_it` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = self.entry(hash, 0);
        let slots = (1 << self.slot_bits) - 1;
        let mut at = hash as usize & self.mask;
        // Half of the entries are empty, so this ends.
        loop {
            let entry = self.entries[at];
            if entry == EMPTY {
                return None;
            }
            if entry & !slots == tag && is_it(entry & slots) {
                return Some(entry & slots);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Adds a slot that is not there. The caller keeps to the bound.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32) {
        if self.len * 2 >= self.entries.len() {
            return;
        }
        let mut at = hash as usize & self.mask;
        while self.entries[at] != EMPTY {
            at = (at + 1) & self.mask;
        }
        self.entries[at] = self.entry(hash, slot);
        self.len += 1;
    }

    /// Removes a slot. `hash_of` gives the hash of any slot that is there.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let mut gap = hash as usize & self.mask;
        let slots = (1 << self.slot_bits) - 1;
        while self.entries[gap] == EMPTY || self.entries[gap] & slots != slot {
            if self.entries[gap] == EMPTY {
                return;
            }
            gap = (gap + 1) & self.mask;
        }
        self.len -= 1;
        // Entries behind the gap move up if they stand behind their place.
        let mut at = gap;
        loop {
            self.entries[gap] = EMPTY;
            loop {
                at = (at + 1) & self.mask;
                let entry = self.entries[at];
                if entry == EMPTY {
                    return;
                }
                let home = hash_of(entry & slots) as usize & self.mask;
                let from_home = at.wrapping_sub(home) & self.mask;
                if from_home >= at.wrapping_sub(gap) & self.mask {
                    self.entries[gap] = entry;
                    gap = at;
                    break;
                }
            }
        }
    }

    /// The entry of a slot.
    #[inline]
    fn entry(&self, hash: u64, slot: u32) -> u32 {
        ((hash >> 32) as u32) << self.slot_bits | slot
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn hash(slot: u32) -> u64 {
        // Few homes and tags, so that entries collide and wrap around.
        u64::from(slot % 5) << 32 | u64::from(slot / 2 % 7 + 124)
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), 0..40_u32), 0..200)) {
            let mut index = Index::new(40);
            let mut map = BTreeMap::new();
            for (insert, slot) in steps {
                if insert && map.len() < 16 && !map.contains_key(&slot) {
                    index.insert(hash(slot), slot);
                    map.insert(slot, ());
                } else if !insert && map.remove(&slot).is_some() {
                    index.remove(hash(slot), slot, hash);
                }
                for slot in 0..40 {
                    let found = index.find(hash(slot), |other| other == slot);
                    prop_assert_eq!(found.is_some(), map.contains_key(&slot));
                }
                prop_assert_eq!(index.len(), map.len());
            }
        }
    }
}
