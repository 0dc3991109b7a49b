//! An open-addressed index from hashes to slots, laid out so that many look-ups wait for memory at the same time: what
//! [`Index::expect`] asks for is what [`Index::find`] will need. Bounded; at most half full.

use crate::memory;

/// No slot.
const EMPTY: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The upper half of the hash.
    tag: u32,
    /// Or [`EMPTY`].
    slot: u32,
}

/// Slots by hash. Equal hashes are told apart by the caller.
#[derive(Debug)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    mask: usize,
    len: usize,
}

impl Index {
    /// An index for at most `max` slots.
    pub(crate) fn new(max: usize) -> Self {
        let length = (max * 2).next_power_of_two();
        let empty = Entry {
            tag: 0,
            slot: EMPTY,
        };
        Self {
            entries: vec![empty; length],
            mask: length - 1,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Asks for the memory where a hash stands.
    #[inline]
    pub(crate) fn expect(&self, hash: u64) {
        memory::expect(&self.entries, hash as usize & self.mask);
    }

    /// The first slot of that hash for which `is_it` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & self.mask;
        // Half of the entries are empty, so this ends.
        loop {
            let entry = self.entries[at];
            if entry.slot == EMPTY {
                return None;
            }
            if entry.tag == tag && is_it(entry.slot) {
                return Some(entry.slot);
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
        while self.entries[at].slot != EMPTY {
            at = (at + 1) & self.mask;
        }
        let tag = (hash >> 32) as u32;
        self.entries[at] = Entry { tag, slot };
        self.len += 1;
    }

    /// Removes a slot. `hash_of` gives the hash of any slot that is there.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let mut gap = hash as usize & self.mask;
        while self.entries[gap].slot != slot {
            if self.entries[gap].slot == EMPTY {
                return;
            }
            gap = (gap + 1) & self.mask;
        }
        self.len -= 1;
        // Entries behind the gap move up if they stand behind their place.
        let mut at = gap;
        loop {
            self.entries[gap].slot = EMPTY;
            loop {
                at = (at + 1) & self.mask;
                let entry = self.entries[at];
                if entry.slot == EMPTY {
                    return;
                }
                let home = hash_of(entry.slot) as usize & self.mask;
                let from_home = at.wrapping_sub(home) & self.mask;
                if from_home >= at.wrapping_sub(gap) & self.mask {
                    self.entries[gap] = entry;
                    gap = at;
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn hash(slot: u32) -> u64 {
        // Few homes and tags, so that entries collide and wrap around.
        u64::from(slot % 5) << 32 | u64::from(slot / 2 % 7 + 28)
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), 0..40_u32), 0..200)) {
            let mut index = Index::new(16);
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
