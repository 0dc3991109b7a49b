//! Which addresses may be among the targets: a bit for each hash, which leaves no target out.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use weir_flow_record::Address;

/// Bits for each target that there may be: with fewer than one in sixteen set, as few of the others are looked up in vain.
const BITS: usize = 16;

/// The filter; 2 octets a target.
#[derive(Debug)]
pub(super) struct Members {
    hasher: RandomState,
    words: Box<[u64]>,
}

impl Members {
    /// A filter for so many targets, without any.
    pub(super) fn new(targets: usize) -> Self {
        let bits = targets.clamp(64, 1 << 20) * BITS;
        Self {
            hasher: RandomState::default(),
            words: vec![0; (bits / 64).next_power_of_two()].into(),
        }
    }

    /// Adds a target.
    pub(super) fn add(&mut self, target: Address) {
        let (word, bit) = self.place(target);
        if let Some(word) = self.words.get_mut(word) {
            *word |= bit;
        }
    }

    /// Makes these the targets, and no others.
    pub(super) fn set<'a>(&mut self, targets: impl Iterator<Item = &'a Address>) {
        self.words.fill(0);
        targets.for_each(|target| self.add(*target));
    }

    /// Whether an address may be a target; false for none that is.
    #[inline]
    pub(super) fn may_hold(&self, address: Address) -> bool {
        let (word, bit) = self.place(address);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    #[inline]
    fn place(&self, address: Address) -> (usize, u64) {
        let hash = self.hasher.hash_one(address.words());
        let word = (hash >> 6) as usize & (self.words.len() - 1);
        (word, 1 << (hash & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_may_be_one_and_few_others() {
        let address = |number: u32| Address::from_v4(number.to_be_bytes());
        let mut members = Members::new(4096);
        assert!((0..10_000).all(|number| !members.may_hold(address(number))));
        (0..4096).for_each(|number| members.add(address(number)));
        assert!((0..4096).all(|number| members.may_hold(address(number))));
        let mistaken = |members: &Members| {
            let others = (10_000..110_000).filter(|number| members.may_hold(address(*number)));
            others.count()
        };
        assert!(mistaken(&members) < 8_000, "{}", mistaken(&members));
        let few: Vec<Address> = (0..10).map(address).collect();
        members.set(few.iter());
        assert!(few.iter().all(|one| members.may_hold(*one)));
        assert!(mistaken(&members) < 100, "{}", mistaken(&members));
    }
}
