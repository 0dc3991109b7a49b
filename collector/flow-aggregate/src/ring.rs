//! Difference rings: a record is added by four writes whatever its duration (and two more for packets that do not divide).
//!
//! Steps are summed from the newest second back: a second's value is the sum of its own step and of all newer ones. A record
//! leaves `+value` in its last second and `−value` in the second before its first. So seconds that fall out of the history
//! are simply forgotten, and reading the newest seconds costs no walk over the others.

use weir_flow_record::Vector;

use crate::Bucket;
use crate::addition::{Addition, FLOW, PACKET_BITS, Point, Whole};
use crate::slabs::BLOCK;
use crate::spread::Counts;

/// Before any time that a timestamp in nanoseconds can hold, in seconds.
pub(crate) const NEVER: i64 = -10_000_000_000;

/// Which second stands where in all rings of one length. Seconds only go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    newest: i64,
    at: usize,
    length: usize,
    /// The place of the newest second's block, and blocks that a history touches.
    block_at: usize,
    blocks: usize,
}

/// Octets of a second, and its packets and flows packed in one word: sums and differences wrap around, so the true value comes
/// out whatever was added and taken, as long as itself fits (2⁴⁰ packets and 2²⁴ flows in a second).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Sums {
    pub(crate) octets: u64,
    packed: u64,
}

/// A step of a host's ring: [`Sums`] as two words, since a table of zeroed words costs nothing until it is used.
pub(crate) type Step = [u64; 2];

impl Clock {
    /// `history` whole seconds before the newest, which is not over yet.
    pub(crate) fn new(history: usize) -> Self {
        Self {
            newest: NEVER,
            at: 0,
            length: history + 1,
            block_at: 0,
            // One more than whole ones, since the newest second may stand anywhere in its block.
            blocks: history.div_ceil(1 << BLOCK) + 1,
        }
    }

    pub(crate) fn newest(&self) -> i64 {
        self.newest
    }

    /// Seconds in a ring.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// First second that is held.
    #[inline]
    pub(crate) fn oldest(&self) -> i64 {
        self.newest - (self.length as i64 - 1)
    }

    /// Moves on; never back.
    pub(crate) fn advance(&mut self, newest: i64) {
        if newest > self.newest {
            let length = self.length as i64;
            self.at = ((self.at as i64 + (newest - self.newest) % length) % length) as usize;
            let (blocks, passed) = (
                self.blocks as i64,
                (newest >> BLOCK) - (self.newest >> BLOCK),
            );
            self.block_at = ((self.block_at as i64 + passed % blocks) % blocks) as usize;
            self.newest = newest;
        }
    }

    /// The place of a second; `None` for one that is not held.
    #[inline]
    pub(crate) fn place(&self, second: i64) -> Option<usize> {
        let age = usize::try_from(self.newest - second).ok()?;
        if age <= self.at {
            Some(self.at - age)
        } else {
            (age < self.length).then(|| self.at + self.length - age)
        }
    }

    /// Blocks that a history touches.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// The place of a second's block; `None` for a second that is not held.
    #[inline]
    pub(crate) fn block(&self, second: i64) -> Option<usize> {
        if (self.newest - second) as u64 >= self.length as u64 {
            return None;
        }
        let age = ((self.newest >> BLOCK) - (second >> BLOCK)) as usize;
        Some(if age <= self.block_at {
            self.block_at - age
        } else {
            self.block_at + self.blocks - age
        })
    }

    /// Brings a ring that was last used when `seen` was newest to the present: places of new seconds are emptied.
    #[inline]
    pub(crate) fn refresh<T: Copy + Default>(&self, ring: &mut [T], seen: i64) {
        if seen >= self.newest {
            return;
        }
        if self.newest - seen >= self.length as i64 {
            ring.fill(T::default());
            return;
        }
        for second in seen + 1..=self.newest {
            if let Some(step) = self.place(second).and_then(|at| ring.get_mut(at)) {
                *step = T::default();
            }
        }
    }
}

impl Sums {
    #[inline]
    pub(crate) fn packets(self) -> u64 {
        self.packed & (FLOW - 1)
    }

    #[inline]
    pub(crate) fn flows(self) -> u64 {
        self.packed >> PACKET_BITS
    }

    /// The sum of both.
    #[inline]
    pub(crate) fn and(self, other: Self) -> Self {
        self.plus(other.octets, other.packed)
    }

    #[inline]
    pub(crate) fn plus(self, octets: u64, packed: u64) -> Self {
        Self {
            octets: self.octets.wrapping_add(octets),
            packed: self.packed.wrapping_add(packed),
        }
    }
}

/// The seconds of a target in full: per vector, with variance. For zones, prefixes and watched hosts.
#[derive(Clone, Debug)]
pub(crate) struct Rings {
    /// The newest second when this was last used.
    seen: i64,
    vectors: [Option<Box<[FullStep]>>; Vector::COUNT],
    /// First second that changed since the last reading.
    changed_from: Option<i64>,
    unknown_rate_at: i64,
    max_sampling_rate: u32,
}

/// What was not classified in time counts for this vector.
const UNCLASSIFIED: Vector = Vector::Total;

/// A step, and beside it what came within its second: most records do, and one write is enough for these.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
#[repr(align(64))]
struct FullStep {
    step: FullSums,
    within: FullSums,
}

#[derive(Clone, Copy, PartialEq, Default, Debug)]
struct FullSums {
    sums: Sums,
    octets_variance: f64,
    packets_variance: f64,
}

/// Seconds read from [`Rings`].
pub(crate) struct Reading {
    pub(crate) first_second: i64,
    pub(crate) total: Vec<Bucket>,
    pub(crate) vectors: Vec<(Vector, Vec<Bucket>)>,
    pub(crate) unknown_rate: bool,
    pub(crate) max_sampling_rate: u32,
}

impl Rings {
    /// Rings without traffic; vectors take memory when they first occur.
    pub(crate) fn new() -> Self {
        Self {
            seen: NEVER,
            vectors: [const { None }; Vector::COUNT],
            changed_from: None,
            unknown_rate_at: NEVER,
            max_sampling_rate: 0,
        }
    }

    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.vectors
            .iter_mut()
            .flatten()
            .for_each(|ring| ring.fill(FullStep::default()));
        self.changed_from = None;
        self.unknown_rate_at = NEVER;
        self.max_sampling_rate = 0;
    }

    /// Adds a record. `sampling_rate` 0 = unknown. Returns whether it is the first since the last reading.
    #[inline]
    pub(crate) fn add(
        &mut self,
        clock: &Clock,
        vector: Vector,
        addition: &impl Addition,
        sampling_rate: u32,
    ) -> bool {
        self.refresh(clock);
        let oldest = clock.oldest();
        let ring = self.vectors[vector.index()]
            .get_or_insert_with(|| vec![FullStep::default(); clock.length].into());
        if let Some((second, counts)) = addition.point() {
            add_within(ring, clock, (second, counts), addition.variance());
        } else {
            add_steps(ring, clock, addition);
        }
        if sampling_rate == 0 {
            self.unknown_rate_at = self.unknown_rate_at.max(addition.last());
        }
        self.max_sampling_rate = self.max_sampling_rate.max(sampling_rate);
        self.change(addition.first().max(oldest))
    }

    /// Makes the next reading begin with the oldest second.
    pub(crate) fn mark_all(&mut self, clock: &Clock) {
        self.changed_from = Some(clock.oldest());
    }

    /// Takes the change back: nobody wants to be told.
    pub(crate) fn unmark(&mut self) {
        self.changed_from = None;
    }

    /// Whether anything changed since the last reading.
    pub(crate) fn is_changed(&self) -> bool {
        self.changed_from.is_some()
    }

    /// Largest sampling rate so far.
    pub(crate) fn max_sampling_rate(&self) -> u32 {
        self.max_sampling_rate
    }

    /// Adds what the totals of each second, as [`sums`](Self::sums) gives them, have more than these rings: rows that came before
    /// the rings were there and are forgotten. They count as [`UNCLASSIFIED`]; their variance is that of packets of their mean
    /// size, sampled at the largest rate seen.
    pub(crate) fn fill_up(&mut self, clock: &Clock, totals: &[(i64, Sums)]) {
        let known: Vec<(i64, Sums)> = self.sums(clock).collect();
        let rate = self.max_sampling_rate().max(1);
        for ((second, all), (_, known)) in totals.iter().zip(&known) {
            let octets = all.octets.saturating_sub(known.octets);
            let packets = all.packets().saturating_sub(known.packets());
            let flows = all.flows().saturating_sub(known.flows());
            if octets == 0 && packets == 0 && flows == 0 {
                continue;
            }
            let whole = Whole {
                counts: Counts { octets, packets },
                flows,
                rate,
            };
            let point = Point {
                second: *second,
                whole,
            };
            self.add(clock, UNCLASSIFIED, &point, rate);
        }
    }

    /// Notes that records of unknown rate are among those of a second.
    pub(crate) fn mark_unknown_rate(&mut self, second: i64) {
        self.unknown_rate_at = self.unknown_rate_at.max(second);
    }

    /// The newest second when a record was last added.
    pub(crate) fn seen(&self) -> i64 {
        self.seen
    }

    /// The sums of each second of all vectors, from the newest back.
    pub(crate) fn sums<'a>(&'a self, clock: &'a Clock) -> impl Iterator<Item = (i64, Sums)> + 'a {
        let mut spread = Sums::default();
        (0..clock.length as i64).map(move |age| {
            let second = clock.newest - age;
            let mut value = Sums::default();
            if let Some(at) = clock.place(second) {
                for entry in self
                    .vectors
                    .iter()
                    .flatten()
                    .filter_map(|ring| ring.get(at))
                {
                    spread = spread.plus(entry.step.sums.octets, entry.step.sums.packed);
                    value = value.plus(entry.within.sums.octets, entry.within.sums.packed);
                }
            }
            (second, value.plus(spread.octets, spread.packed))
        })
    }

    /// The seconds from the first that changed up to the newest; `None` where nothing changed.
    pub(crate) fn read(&mut self, clock: &Clock) -> Option<Reading> {
        let first_second = self.changed_from.take()?.max(clock.oldest());
        self.refresh(clock);
        let length = usize::try_from(clock.newest - first_second + 1).unwrap_or(0);
        let mut total = vec![Bucket::default(); length];
        let mut vectors = Vec::new();
        for vector in Vector::ALL {
            let Some(ring) = &self.vectors[vector.index()] else {
                continue;
            };
            let buckets = read_buckets(ring, clock, length);
            if buckets.iter().any(Bucket::holds_traffic) {
                total
                    .iter_mut()
                    .zip(&buckets)
                    .for_each(|(sum, part)| sum.add(part));
                vectors.push((vector, buckets));
            }
        }
        Some(Reading {
            first_second,
            total,
            vectors,
            unknown_rate: self.unknown_rate_at >= clock.oldest(),
            max_sampling_rate: self.max_sampling_rate,
        })
    }

    /// Octets of memory.
    pub(crate) fn octets(&self) -> usize {
        size_of::<Self>()
            + self
                .vectors
                .iter()
                .flatten()
                .map(|ring| size_of_val::<[FullStep]>(ring))
                .sum::<usize>()
    }

    /// Brings all vectors to the present.
    #[inline]
    pub(crate) fn refresh(&mut self, clock: &Clock) {
        if self.seen < clock.newest {
            self.empty_new_seconds(clock);
        }
    }

    #[cold]
    fn empty_new_seconds(&mut self, clock: &Clock) {
        for ring in self.vectors.iter_mut().flatten() {
            clock.refresh(ring, self.seen);
        }
        self.seen = clock.newest;
    }

    #[inline]
    fn change(&mut self, from: i64) -> bool {
        let unchanged = self.changed_from.is_none();
        self.changed_from = Some(self.changed_from.map_or(from, |second| second.min(from)));
        unchanged
    }
}

/// Adds a record within a second.
#[inline]
fn add_within(
    ring: &mut [FullStep],
    clock: &Clock,
    (second, counts): (i64, Counts),
    (octets, packets): (f64, f64),
) {
    if let Some(step) = clock.place(second).and_then(|at| ring.get_mut(at)) {
        let within = &mut step.within;
        within.sums = within.sums.plus(counts.octets, counts.packets);
        within.octets_variance += octets;
        within.packets_variance += packets;
    }
}

/// Adds the steps of a record. Variance is spread in the same parts as the record.
#[inline]
fn add_steps(ring: &mut [FullStep], clock: &Clock, addition: &impl Addition) {
    let (octets, packets) = addition.variance();
    addition.steps(clock.oldest(), |second, counts, part| {
        if let Some(entry) = clock.place(second).and_then(|at| ring.get_mut(at)) {
            let step = &mut entry.step;
            step.sums = step.sums.plus(counts.octets, counts.packets);
            step.octets_variance += octets * part;
            step.packets_variance += packets * part;
        }
    });
}

impl FullSums {
    #[inline]
    fn plus(&self, other: &Self) -> Self {
        Self {
            sums: self.sums.plus(other.sums.octets, other.sums.packed),
            octets_variance: self.octets_variance + other.octets_variance,
            packets_variance: self.packets_variance + other.packets_variance,
        }
    }
}

/// The newest `length` seconds, oldest first.
fn read_buckets(ring: &[FullStep], clock: &Clock, length: usize) -> Vec<Bucket> {
    let mut buckets = Vec::with_capacity(length);
    let mut spread = FullSums::default();
    for age in 0..length as i64 {
        let place = clock.place(clock.newest - age);
        let entry = place
            .and_then(|at| ring.get(at))
            .copied()
            .unwrap_or_default();
        spread = spread.plus(&entry.step);
        let value = spread.plus(&entry.within);
        buckets.push(Bucket {
            octets: value.sums.octets,
            packets: value.sums.packets(),
            flows: value.sums.flows(),
            octets_variance: value.octets_variance.max(0.0),
            packets_variance: value.packets_variance.max(0.0),
        });
    }
    buckets.reverse();
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addition::{Record, Whole};
    use crate::spread::{SECOND, Span};

    fn add(rings: &mut Rings, clock: &Clock, span: (i64, i64), vector: Vector, rate: u32) -> bool {
        let whole = Whole {
            counts: Counts {
                octets: 4000,
                packets: 40,
            },
            flows: 1,
            rate,
        };
        let span = Span {
            start: span.0 * SECOND,
            end: span.1 * SECOND,
        };
        match Record::new(span, whole) {
            Record::Point(point) => rings.add(clock, vector, &point, rate),
            Record::Long(long) => rings.add(clock, vector, &long, rate),
        }
    }

    #[test]
    fn places_go_round_and_old_seconds_have_none() {
        let mut clock = Clock::new(3);
        clock.advance(10);
        for second in 7..=10 {
            assert_eq!(
                clock.place(second),
                Some((clock.at + 4 - (10 - second) as usize) % 4)
            );
        }
        assert_eq!((clock.place(6), clock.place(11)), (None, None));
        let before = clock.place(9);
        clock.advance(12);
        assert_eq!(clock.place(9), before);
        clock.advance(11);
        assert_eq!(clock.newest(), 12);
    }

    #[test]
    fn rings_read_what_was_added_and_forget_what_is_old() {
        let mut clock = Clock::new(8);
        clock.advance(100);
        let mut rings = Rings::new();
        assert!(add(&mut rings, &clock, (96, 100), Vector::UdpFlood, 10));
        assert!(!add(&mut rings, &clock, (98, 98), Vector::IcmpFlood, 0));
        let reading = rings.read(&clock).unwrap();
        assert_eq!(reading.first_second, 96);
        let octets: Vec<u64> = reading.total.iter().map(|bucket| bucket.octets).collect();
        assert_eq!(octets, [1000, 1000, 5000, 1000, 0]);
        let flows: Vec<u64> = reading.total.iter().map(|bucket| bucket.flows).collect();
        assert_eq!(flows, [1, 0, 1, 0, 0]);
        assert_eq!(reading.vectors.len(), 2);
        // 4000² ÷ 40 × 9, a quarter in each second.
        assert_eq!(reading.total[1].octets_variance, 900_000.0);
        assert!(reading.unknown_rate);
        assert!(rings.read(&clock).is_none());

        clock.advance(106);
        rings.mark_all(&clock);
        let reading = rings.read(&clock).unwrap();
        let octets: Vec<u64> = reading.total.iter().map(|bucket| bucket.octets).collect();
        assert_eq!(octets, [5000, 1000, 0, 0, 0, 0, 0, 0, 0]);
        clock.advance(1_000_000);
        rings.mark_all(&clock);
        assert!(rings.read(&clock).unwrap().vectors.is_empty());
    }
}
