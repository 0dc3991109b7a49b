//! Which hosts cannot have become interesting: a bound of what any second of a few seconds' period holds, so that a host's
//! seconds, which lie far apart in memory, are looked at only when one of them may have crossed.

use crate::addition::Addition;
use crate::budget::Rates;
use crate::ring::{Clock, Sums};

/// Periods that a history touches: eight of them, and two in part.
const PERIODS: usize = 10;
/// What an interesting rate counts as. Additions are rounded up, so a bound is never too low.
const FULL: u16 = 65_000;

/// Bits behind the point of [`units_of`].
const UNIT_BITS: u32 = 48;

/// For each period, the most that its seconds hold together, in parts of the interesting rate that it comes closest to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Bounds([u16; PERIODS]);

/// The length of periods, and where they stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Periods {
    /// Seconds of a period, as a power of two.
    shift: u32,
}

impl Periods {
    /// Periods for a history.
    pub(crate) fn new(clock: &Clock) -> Self {
        let seconds = (clock.length() - 1).div_ceil(8).next_power_of_two();
        Self {
            shift: seconds.trailing_zeros(),
        }
    }

    #[inline]
    fn place(self, second: i64) -> usize {
        ((second >> self.shift) as u64 % PERIODS as u64) as usize
    }
}

/// Units that one octet, packet or flow is of a rate, rounded up; none where there is no rate.
pub(crate) fn units_of(rate: u64) -> u64 {
    let full = u128::from(FULL) << UNIT_BITS;
    if rate == u64::MAX {
        return 0;
    }
    u64::try_from(full.div_ceil(u128::from(rate.max(1)))).unwrap_or(u64::MAX)
}

impl Bounds {
    /// Empties the periods that began after the second `seen`.
    #[inline]
    pub(crate) fn advance(&mut self, periods: Periods, seen: i64, newest: i64) {
        let (from, to) = (seen >> periods.shift, newest >> periods.shift);
        if from == to {
            return;
        }
        let most = PERIODS as i64;
        for period in (from + 1).max(to - most + 1)..=to {
            self.0[(period as u64 % PERIODS as u64) as usize] = 0;
        }
    }

    /// Adds a record, not before the second `oldest`; whether a second may have reached one of the rates.
    #[inline]
    pub(crate) fn add(
        &mut self,
        periods: Periods,
        oldest: i64,
        rates: &Rates,
        addition: &impl Addition,
    ) -> bool {
        let most = addition.most();
        let part = units(rates, most.octets, most.packets, addition.flows());
        let (first, last) = (addition.first().max(oldest), addition.last());
        let (first, last) = (first >> periods.shift, last >> periods.shift);
        let mut full = false;
        for period in first..=last {
            let bound = &mut self.0[(period as u64 % PERIODS as u64) as usize];
            *bound = bound.saturating_add(part);
            full |= *bound >= FULL;
        }
        full
    }

    /// The true peaks of the periods.
    pub(crate) fn measured(
        periods: Periods,
        rates: &Rates,
        seconds: impl Iterator<Item = (i64, Sums)>,
    ) -> Self {
        let mut bounds = Self::default();
        for (second, sums) in seconds {
            let bound = &mut bounds.0[periods.place(second)];
            let part = units(rates, sums.octets, sums.packets(), sums.flows());
            *bound = part.max(*bound);
        }
        bounds
    }
}

/// The largest part of a rate, rounded up.
#[inline]
fn units(rates: &Rates, octets: u64, packets: u64, flows: u64) -> u16 {
    let [of_octets, of_packets, of_flows] = rates.units_each();
    let part = |count: u64, each: u64| (u128::from(count) * u128::from(each)) >> UNIT_BITS;
    let part = part(octets, of_octets)
        .max(part(packets, of_packets))
        .max(part(flows, of_flows));
    (part.min(u128::from(u16::MAX)) as u16).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use weir_flow_record::Direction;

    use super::*;
    use crate::Interesting;
    use crate::addition::{Point, Whole};
    use crate::spread::Counts;

    fn point(second: i64, packets: u64) -> Point {
        let counts = Counts { octets: 0, packets };
        let whole = Whole {
            counts,
            flows: 1,
            rate: 1,
        };
        Point { second, whole }
    }

    #[test]
    fn a_bound_is_reached_no_later_than_the_rate_and_forgotten_with_time() {
        let rates = Rates::lowest(
            &[Interesting {
                direction: Direction::In,
                octets: None,
                packets: Some(1000),
                flows: None,
            }],
            Direction::In,
        );
        let mut clock = Clock::new(64);
        clock.advance(800);
        let periods = Periods::new(&clock);
        let mut bounds = Bounds::default();
        for _ in 0..9 {
            assert!(!bounds.add(periods, clock.oldest(), &rates, &point(800, 100)));
        }
        assert!(bounds.add(periods, clock.oldest(), &rates, &point(801, 100)));
        // Other periods have nothing yet.
        assert!(!bounds.add(periods, clock.oldest(), &rates, &point(790, 900)));
        bounds.advance(periods, 800, 800 + 80);
        assert_eq!(bounds, Bounds::default());
    }
}
