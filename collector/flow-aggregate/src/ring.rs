//! Difference rings: a record is added by four writes whatever its duration, seconds are read as prefix sums.

use weir_flow_record::Vector;

use crate::Bucket;
use crate::spread::{Shares, Spread};

/// Octets and packets as differences between a second and the one before.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(crate) struct Step {
    octets: i64,
    packets: i64,
}

/// What a record adds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addition {
    pub(crate) spread: Spread,
    pub(crate) octets: Shares,
    pub(crate) packets: Shares,
    /// Of the whole record.
    pub(crate) octets_variance: f64,
    /// Of the whole record.
    pub(crate) packets_variance: f64,
    /// 1, or 0 for a record that is only re-read.
    pub(crate) flows: u32,
}

/// Adds to a ring of steps. Sums wrap around, so that opposite additions cancel exactly whatever happens between.
#[inline]
pub(crate) fn add_steps(steps: &mut [Step], mask: usize, addition: &Addition) {
    let Addition {
        spread,
        octets,
        packets,
        ..
    } = addition;
    let mut step = |second: i64, octets: i64, packets: i64| {
        if let Some(step) = steps.get_mut(second as usize & mask) {
            step.octets = step.octets.wrapping_add(octets);
            step.packets = step.packets.wrapping_add(packets);
        }
    };
    let (first, last) = (spread.first_second, spread.last_second);
    let (of, pf) = (octets.first as i64, packets.first as i64);
    step(first, of, pf);
    if first == last {
        step(first + 1, of.wrapping_neg(), pf.wrapping_neg());
        return;
    }
    let (oi, pi) = (octets.inner as i64, packets.inner as i64);
    let (ol, pl) = (octets.last as i64, packets.last as i64);
    step(first + 1, oi.wrapping_sub(of), pi.wrapping_sub(pf));
    step(last, ol.wrapping_sub(oi), pl.wrapping_sub(pi));
    step(last + 1, ol.wrapping_neg(), pl.wrapping_neg());
}

/// Moves a ring's oldest second forward; what falls out is kept in `carry`, the value just before the oldest second.
#[inline]
pub(crate) fn advance_steps(steps: &mut [Step], mask: usize, carry: &mut Step, from: i64, to: i64) {
    if to - from > mask as i64 {
        // Every record's steps add up to nothing, so beyond the ring the value is nothing.
        steps.fill(Step::default());
        *carry = Step::default();
        return;
    }
    for second in from..to {
        if let Some(step) = steps.get_mut(second as usize & mask) {
            carry.octets = carry.octets.wrapping_add(step.octets);
            carry.packets = carry.packets.wrapping_add(step.packets);
            *step = Step::default();
        }
    }
}

/// Reads octets and packets of each second from the oldest on.
pub(crate) fn read_steps(
    steps: &[Step],
    mask: usize,
    carry: Step,
    oldest: i64,
) -> impl Iterator<Item = (i64, u64, u64)> {
    let mut value = carry;
    (oldest..=oldest + mask as i64).map(move |second| {
        let step = steps
            .get(second as usize & mask)
            .copied()
            .unwrap_or_default();
        value.octets = value.octets.wrapping_add(step.octets);
        value.packets = value.packets.wrapping_add(step.packets);
        (second, value.octets as u64, value.packets as u64)
    })
}

/// The seconds of a target in full: per vector, with variance and flows. For zones, prefixes and watched hosts.
#[derive(Clone, Debug)]
pub(crate) struct Rings {
    mask: usize,
    oldest: i64,
    vectors: [Option<Box<VectorRing>>; Vector::COUNT],
    /// First second that changed since the last reading.
    changed_from: Option<i64>,
    unknown_rate_at: i64,
    max_sampling_rate: u32,
}

#[derive(Clone, Debug)]
struct VectorRing {
    steps: Vec<Step>,
    carry: Step,
    variances: Vec<(f64, f64)>,
    variance_carry: (f64, f64),
    flows: Vec<u32>,
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
    /// Rings of `history` seconds (a power of two), of which the last is for the end of records in the newest second.
    pub(crate) fn new(history: usize, oldest: i64) -> Self {
        Self {
            mask: history - 1,
            oldest,
            vectors: [const { None }; Vector::COUNT],
            changed_from: None,
            unknown_rate_at: i64::MIN,
            max_sampling_rate: 0,
        }
    }

    /// First second that is held.
    pub(crate) fn oldest(&self) -> i64 {
        self.oldest
    }

    /// Moves on; never back.
    pub(crate) fn advance(&mut self, oldest: i64) {
        if oldest <= self.oldest {
            return;
        }
        let (from, mask) = (self.oldest, self.mask);
        for ring in self.vectors.iter_mut().flatten() {
            ring.advance(mask, from, oldest);
        }
        self.oldest = oldest;
        self.changed_from = self.changed_from.map(|second| second.max(oldest));
    }

    /// Adds a record. `sampling_rate` 0 = unknown.
    #[inline]
    pub(crate) fn add(&mut self, vector: Vector, addition: &Addition, sampling_rate: u32) {
        let mask = self.mask;
        let ring =
            self.vectors[vector.index()].get_or_insert_with(|| Box::new(VectorRing::new(mask + 1)));
        ring.add(mask, addition);
        let first = addition.spread.first_second;
        self.changed_from = Some(self.changed_from.map_or(first, |second| second.min(first)));
        if sampling_rate == 0 {
            self.unknown_rate_at = self.unknown_rate_at.max(addition.spread.last_second);
        }
        self.max_sampling_rate = self.max_sampling_rate.max(sampling_rate);
    }

    /// Whether anything changed since the last reading.
    pub(crate) fn is_changed(&self) -> bool {
        self.changed_from.is_some()
    }

    /// Makes the next reading begin with the oldest second.
    pub(crate) fn mark_all(&mut self) {
        self.changed_from = Some(self.oldest);
    }

    /// The seconds from the first that changed up to `newest`; `None` where nothing changed.
    pub(crate) fn read(&mut self, newest: i64) -> Option<Reading> {
        let first_second = self.changed_from.take()?.max(self.oldest);
        let length = usize::try_from(newest - first_second + 1)
            .unwrap_or(0)
            .min(self.mask + 1);
        let mut total = vec![Bucket::default(); length];
        let mut vectors = Vec::new();
        for vector in Vector::ALL {
            let Some(ring) = &self.vectors[vector.index()] else {
                continue;
            };
            let buckets = ring.read(self.mask, self.oldest, first_second, length);
            if buckets
                .iter()
                .any(|bucket| bucket.packets != 0 || bucket.octets != 0 || bucket.flows != 0)
            {
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
            unknown_rate: self.unknown_rate_at >= self.oldest,
            max_sampling_rate: self.max_sampling_rate,
        })
    }
}

impl VectorRing {
    fn new(length: usize) -> Self {
        Self {
            steps: vec![Step::default(); length],
            carry: Step::default(),
            variances: vec![(0.0, 0.0); length],
            variance_carry: (0.0, 0.0),
            flows: vec![0; length],
        }
    }

    fn advance(&mut self, mask: usize, from: i64, to: i64) {
        advance_steps(&mut self.steps, mask, &mut self.carry, from, to);
        if to - from > mask as i64 {
            self.variances.fill((0.0, 0.0));
            self.variance_carry = (0.0, 0.0);
            self.flows.fill(0);
            return;
        }
        for second in from..to {
            let index = second as usize & mask;
            if let (Some(variance), Some(flows)) =
                (self.variances.get_mut(index), self.flows.get_mut(index))
            {
                self.variance_carry.0 += variance.0;
                self.variance_carry.1 += variance.1;
                *variance = (0.0, 0.0);
                *flows = 0;
            }
        }
    }

    #[inline]
    fn add(&mut self, mask: usize, addition: &Addition) {
        add_steps(&mut self.steps, mask, addition);
        let (first, last) = (addition.spread.first_second, addition.spread.last_second);
        if let Some(flows) = self.flows.get_mut(first as usize & mask) {
            *flows = flows.saturating_add(addition.flows);
        }
        if addition.packets_variance == 0.0 && addition.octets_variance == 0.0 {
            return;
        }
        // Variance is spread evenly: it is an estimate, and a second more or less of it at the edges changes no verdict.
        let seconds = (last - first + 1) as f64;
        let (octets, packets) = (
            addition.octets_variance / seconds,
            addition.packets_variance / seconds,
        );
        if let Some(variance) = self.variances.get_mut(first as usize & mask) {
            variance.0 += octets;
            variance.1 += packets;
        }
        if let Some(variance) = self.variances.get_mut((last + 1) as usize & mask) {
            variance.0 -= octets;
            variance.1 -= packets;
        }
    }

    fn read(&self, mask: usize, oldest: i64, first_second: i64, length: usize) -> Vec<Bucket> {
        let mut variance = self.variance_carry;
        let steps = read_steps(&self.steps, mask, self.carry, oldest);
        let mut buckets = Vec::with_capacity(length);
        for (second, octets, packets) in steps {
            let index = second as usize & mask;
            let step = self.variances.get(index).copied().unwrap_or_default();
            variance = (variance.0 + step.0, variance.1 + step.1);
            if second < first_second {
                continue;
            }
            if buckets.len() == length {
                break;
            }
            buckets.push(Bucket {
                octets,
                packets,
                flows: u64::from(self.flows.get(index).copied().unwrap_or_default()),
                octets_variance: variance.0.max(0.0),
                packets_variance: variance.1.max(0.0),
            });
        }
        buckets
    }
}
