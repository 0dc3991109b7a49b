//! Difference rings of very many hosts, block by block of a few seconds: what a tick's records write lies close together, since
//! most of them ended within the last seconds, and a record's two steps mostly share a cache line. (Host by host, the same rings
//! cost five times as much: nearly every record waits for memory.)

use crate::addition::Addition;
use crate::memory::{self, Table};
use crate::ring::{Clock, NEVER, Step, Sums};

/// Seconds of a block, as a power of two: a host's steps of a block are a cache line.
pub(crate) const BLOCK: u32 = 2;
/// Steps of a host in a block.
const STEPS: usize = 1 << BLOCK;
/// Added to a slab's length in hosts, so that a host's steps of neighbouring blocks do not compete for the same cache lines.
const STAGGER: usize = 17;

/// A slab for each block of the history: a block of steps for each host.
#[derive(Debug)]
pub(crate) struct Slabs {
    steps: Table<Step>,
    /// Steps of a slab.
    stride: usize,
    /// The block that each slab holds; a slab of another block is empty.
    blocks: Vec<i64>,
}

impl Slabs {
    /// Slabs for `hosts` hosts. Their memory is asked for at once and used as hosts come.
    pub(crate) fn new(hosts: usize, clock: &Clock) -> Self {
        let stride = (hosts + STAGGER) * STEPS;
        Self {
            steps: Table::zeroed(stride * clock.blocks()),
            stride,
            blocks: vec![NEVER; clock.blocks()],
        }
    }

    /// Asks for the memory that [`add`](Self::add) will need; for nothing sensible where there is no such slot.
    #[inline]
    pub(crate) fn expect(&self, slot: u32, clock: &Clock, addition: &impl Addition) {
        let mut before = usize::MAX;
        addition.steps(clock.oldest(), |second, _, _| {
            if let Some(block) = clock.block(second)
                && block != before
            {
                before = block;
                memory::expect(&self.steps, block * self.stride + slot as usize * STEPS);
            }
        });
    }

    /// Adds a record of a host; `hosts` is how many slots were ever used.
    #[inline]
    pub(crate) fn add(&mut self, slot: u32, hosts: usize, clock: &Clock, addition: &impl Addition) {
        addition.steps(clock.oldest(), |second, counts, _| {
            let Some(block) = clock.block(second) else {
                return;
            };
            if self.blocks[block] != second >> BLOCK {
                self.begin(block, second >> BLOCK, hosts);
            }
            let at = block * self.stride + slot as usize * STEPS + step_of(second);
            let step = &mut self.steps[at];
            *step = [
                step[0].wrapping_add(counts.octets),
                step[1].wrapping_add(counts.packets),
            ];
        });
    }

    /// The sums of a host's seconds, from the newest back.
    pub(crate) fn read<'a>(
        &'a self,
        slot: u32,
        clock: &'a Clock,
    ) -> impl Iterator<Item = (i64, Sums)> + 'a {
        let mut value = Sums::default();
        (0..clock.length() as i64).map(move |age| {
            let second = clock.newest() - age;
            let held = |block: &usize| self.blocks[*block] == second >> BLOCK;
            if let Some(block) = clock.block(second).filter(held) {
                let at = block * self.stride + slot as usize * STEPS + step_of(second);
                let [octets, packed] = self.steps[at];
                value = value.plus(octets, packed);
            }
            (second, value)
        })
    }

    #[cold]
    fn begin(&mut self, block: usize, number: i64, hosts: usize) {
        let start = block * self.stride;
        self.blocks[block] = number;
        self.steps[start..start + hosts * STEPS].fill([0; 2]);
    }

    /// Octets of memory for each host.
    pub(crate) fn octets_per_host(&self) -> usize {
        self.blocks.len() * STEPS * size_of::<Step>()
    }
}

#[inline]
fn step_of(second: i64) -> usize {
    second as usize % STEPS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addition::{Record, Whole};
    use crate::spread::{Counts, SECOND, Span};

    #[test]
    fn hosts_keep_their_history_and_no_more() {
        let mut clock = Clock::new(32);
        let mut slabs = Slabs::new(3, &clock);
        // Every second 100 octets, over the last 10 s: in the long run 1,000 octets a second.
        let mut before = Vec::new();
        for second in 1000..1200 {
            clock.advance(second);
            for slot in 0..3 {
                let whole = Whole {
                    counts: Counts {
                        octets: 1000 * (1 + u64::from(slot)),
                        packets: 10,
                    },
                    flows: 1,
                    rate: 1,
                };
                let end = second * SECOND;
                let span = Span {
                    start: end - 10 * SECOND,
                    end,
                };
                match Record::new(span, whole) {
                    Record::Point(point) => slabs.add(slot, 3, &clock, &point),
                    Record::Long(long) => slabs.add(slot, 3, &clock, &long),
                }
            }
            let read: Vec<(i64, Sums)> = slabs.read(1, &clock).collect();
            assert_eq!(read.len(), 33);
            let same = read.iter().filter(|(second, sums)| {
                // Ten seconds back nothing is added any more.
                before.contains(&(*second, *sums)) && sums.octets == 2000
            });
            if second > 1100 {
                assert_eq!(same.count(), 33 - 11, "{read:?}");
                assert_eq!((read[20].1.packets(), read[20].1.flows()), (10, 1));
            }
            before = read;
        }
    }
}
