//! Difference rings of very many hosts, second by second: what a tick's records write lies close together, since most of them
//! ended within the last seconds. (Host by host, the same rings cost five times as much: nearly every record waits for memory.)

use crate::addition::Addition;
use crate::ring::{Clock, NEVER, Step, Sums};

/// Added to a slab's length, so that a host's steps of neighbouring seconds do not compete for the same cache lines.
const STAGGER: usize = 68;

/// A slab of steps for each second of the history, one step for each host.
#[derive(Debug)]
pub(crate) struct Slabs {
    steps: Vec<Step>,
    stride: usize,
    /// The second that each slab holds; a slab of another second is empty.
    seconds: Vec<i64>,
}

impl Slabs {
    /// Slabs for `hosts` hosts. Their memory is asked for at once and used as hosts come.
    pub(crate) fn new(hosts: usize, clock: &Clock) -> Self {
        let stride = hosts + STAGGER;
        Self {
            steps: vec![[0; 2]; stride * clock.length()],
            stride,
            seconds: vec![NEVER; clock.length()],
        }
    }

    /// Appends where [`add`](Self::add) will write; nothing sensible where there is no such slot.
    #[inline]
    pub(crate) fn places(
        &self,
        slot: u32,
        clock: &Clock,
        addition: &impl Addition,
        out: &mut Vec<usize>,
    ) {
        addition.steps(clock.oldest(), |second, _| {
            if let Some(at) = clock.place(second) {
                out.push(at * self.stride + slot as usize);
            }
        });
    }

    /// Reads some places, so that their memory is there when it is written: such waits overlap.
    #[inline]
    pub(crate) fn touch(&self, places: &[usize]) {
        let read = |place: &usize| self.steps.get(*place).map_or(0, |step| step[0]);
        let touched = places.iter().fold(0, |sum, place| sum ^ read(place));
        std::hint::black_box(touched);
    }

    /// Adds a record of a host; `hosts` is how many slots were ever used.
    #[inline]
    pub(crate) fn add(&mut self, slot: u32, hosts: usize, clock: &Clock, addition: &impl Addition) {
        addition.steps(clock.oldest(), |second, counts| {
            let Some(at) = clock.place(second) else {
                return;
            };
            if self.seconds[at] != second {
                self.begin(at, second, hosts);
            }
            let step = &mut self.steps[at * self.stride + slot as usize];
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
            if let Some(at) = clock.place(second).filter(|at| self.seconds[*at] == second) {
                let [octets, packed] = self.steps[at * self.stride + slot as usize];
                value = value.plus(octets, packed);
            }
            (second, value)
        })
    }

    #[cold]
    fn begin(&mut self, at: usize, second: i64, hosts: usize) {
        let start = at * self.stride;
        self.seconds[at] = second;
        self.steps[start..start + hosts].fill([0; 2]);
    }

    /// Octets of memory for each host.
    pub(crate) fn octets_per_host(&self) -> usize {
        self.seconds.len() * size_of::<Step>()
    }
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
