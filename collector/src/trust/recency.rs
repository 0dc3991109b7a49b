use hashbrown::HashMap;
use weir_flow_record::Address;

const NONE: u32 = u32::MAX;

/// A table of at most `most` addresses that knows which one was silent longest: every step takes constant time, and nothing
/// is allocated once it is full.
pub(super) struct Recency<T> {
    slots: Vec<Slot<T>>,
    index: HashMap<Address, u32>,
    newest: u32,
    oldest: u32,
    most: usize,
}

struct Slot<T> {
    address: Address,
    newer: u32,
    older: u32,
    value: T,
}

impl<T> Recency<T> {
    /// A table of at most `most` addresses, at least one.
    pub(super) fn new(most: usize) -> Self {
        Self {
            slots: Vec::new(),
            index: HashMap::new(),
            newest: NONE,
            oldest: NONE,
            most: most.clamp(1, NONE as usize),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Address, &T)> + '_ {
        self.slots.iter().map(|slot| (slot.address, &slot.value))
    }

    pub(super) fn get_mut(&mut self, address: Address) -> Option<&mut T> {
        let slot = *self.index.get(&address)?;
        self.slots
            .get_mut(slot as usize)
            .map(|slot| &mut slot.value)
    }

    /// The value of `address`, which becomes the newest; and whether another gave way to it.
    pub(super) fn touch(
        &mut self,
        address: Address,
        value: impl FnOnce() -> T,
    ) -> (Option<&mut T>, bool) {
        let (number, evicted) = match self.index.get(&address) {
            Some(number) => {
                let number = *number;
                if number != self.newest {
                    self.unlink(number);
                    self.link(number);
                }
                (number, false)
            }
            None => self.add(address, value()),
        };
        let slot = self.slots.get_mut(number as usize);
        (slot.map(|slot| &mut slot.value), evicted)
    }

    fn add(&mut self, address: Address, value: T) -> (u32, bool) {
        let slot = Slot {
            address,
            newer: NONE,
            older: NONE,
            value,
        };
        let full = self.slots.len() >= self.most;
        let number = if full {
            let number = self.oldest;
            self.unlink(number);
            if let Some(old) = self.slots.get_mut(number as usize) {
                self.index.remove(&old.address);
                *old = slot;
            }
            number
        } else {
            self.slots.push(slot);
            // Less than `most`, which is at most 2³² − 1.
            (self.slots.len() - 1) as u32
        };
        self.index.insert(address, number);
        self.link(number);
        (number, full)
    }

    fn unlink(&mut self, number: u32) {
        let Some((newer, older)) = self.slots.get(number as usize).map(|s| (s.newer, s.older))
        else {
            return;
        };
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link(&mut self, number: u32) {
        let before = self.newest;
        if let Some(slot) = self.slots.get_mut(number as usize) {
            (slot.newer, slot.older) = (NONE, before);
        }
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.newer = number,
            None => self.oldest = number,
        }
        self.newest = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_one_gives_way() {
        let mut table = Recency::new(3);
        let mut order: Vec<u8> = Vec::new();
        let mut evictions = 0;
        // A walk that comes back to some addresses, against a plain list.
        for step in 0..2_000_u32 {
            let host = (step.wrapping_mul(2_654_435_761) >> 29) as u8;
            let known = order.iter().position(|other| *other == host);
            match known {
                Some(place) => drop(order.remove(place)),
                None if order.len() == 3 => {
                    order.remove(0);
                    evictions += 1;
                }
                None => {}
            }
            order.push(host);
            let (value, evicted) = table.touch(Address::from_v4([192, 0, 2, host]), || host);
            assert_eq!(value, Some(&mut { host }));
            evictions -= u32::from(evicted);
            assert_eq!(evictions, 0, "step {step}");
            let mut there: Vec<u8> = table.iter().map(|(_, host)| *host).collect();
            let mut expected = order.clone();
            there.sort_unstable();
            expected.sort_unstable();
            assert_eq!(there, expected, "step {step}");
        }
        assert_eq!(order.len(), 3);
        assert!(table.get_mut(Address::from_v4([192, 0, 2, 99])).is_none());
    }
}
