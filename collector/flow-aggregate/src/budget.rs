//! When to look: a cheap bound that tells which targets cannot have crossed an interesting rate.

use crate::addition::Addition;
use crate::ring::Sums;
use crate::{Interesting, bound, summary};
use weir_flow_record::Direction;

/// Octets, packets and flows of one second from which on a target is interesting; `u64::MAX` where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rates {
    least: [u64; 3],
    units_each: [u64; 3],
}

/// What a target may still get before one of its seconds can have reached the rates: less than that, and nobody needs to
/// look at its seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Budget([i64; 3]);

/// Largest sums of any one second.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Peak([u64; 3]);

impl Rates {
    /// The lowest rates of a direction.
    pub(crate) fn lowest(interesting: &[Interesting], direction: Direction) -> Self {
        let mut lowest = [u64::MAX; 3];
        for rates in interesting.iter().filter(|i| i.direction == direction) {
            for (lowest, rate) in lowest.iter_mut().zip(summary::rates(rates)) {
                *lowest = rate.map_or(*lowest, |rate| rate.min(*lowest));
            }
        }
        Self {
            least: lowest,
            units_each: lowest.map(bound::units_of),
        }
    }

    /// Units of [`Bounds`](bound::Bounds) that one octet, packet or flow is.
    #[inline]
    pub(crate) fn units_each(&self) -> [u64; 3] {
        self.units_each
    }

    /// Whether a peak has reached one of them.
    pub(crate) fn reached_by(&self, peak: Peak) -> bool {
        self.least
            .iter()
            .zip(peak.0)
            .any(|(rate, sum)| sum >= *rate)
    }

    /// Whether a peak is at least twice one of them.
    pub(crate) fn are_far_below(&self, peak: Peak) -> bool {
        let mut both = self.least.iter().zip(peak.0);
        both.any(|(rate, sum)| sum >= rate.saturating_mul(2) && *rate != u64::MAX)
    }

    /// Whether a peak lies below a quarter of all of them.
    pub(crate) fn are_far_above(&self, peak: Peak) -> bool {
        self.least
            .iter()
            .zip(peak.0)
            .all(|(rate, sum)| sum < rate / 4)
    }

    /// What may come after `peak`.
    pub(crate) fn budget(&self, peak: Peak) -> Budget {
        let mut left = [0; 3];
        for (left, (rate, sum)) in left.iter_mut().zip(self.least.iter().zip(peak.0)) {
            *left = i64::try_from(rate.saturating_sub(sum)).unwrap_or(i64::MAX);
        }
        Budget(left)
    }
}

impl Budget {
    /// Takes a record off; whether somebody should look.
    #[inline]
    pub(crate) fn take(&mut self, addition: &impl Addition) -> bool {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let most = addition.most();
        self.0[0] = self.0[0].saturating_sub(signed(most.octets));
        self.0[1] = self.0[1].saturating_sub(signed(most.packets));
        self.0[2] = self.0[2].saturating_sub(signed(addition.flows()));
        self.is_exhausted()
    }

    /// Whether somebody should look.
    #[inline]
    pub(crate) fn is_exhausted(&self) -> bool {
        self.0[0] <= 0 || self.0[1] <= 0 || self.0[2] <= 0
    }
}

impl Peak {
    /// The peak of some seconds.
    pub(crate) fn of(seconds: impl Iterator<Item = (i64, Sums)>) -> Self {
        let mut peak = Self::default();
        seconds.for_each(|(_, sums)| peak.add(sums));
        peak
    }

    /// Takes in a second.
    pub(crate) fn add(&mut self, sums: Sums) {
        let sums = [sums.octets, sums.packets(), sums.flows()];
        for (peak, sum) in self.0.iter_mut().zip(sums) {
            *peak = sum.max(*peak);
        }
    }
}
