//! How one record's sums are spread over the seconds in which it passed.

/// Nanoseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000_000;

/// When a record passed, on our clock: nanoseconds, `start <= end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

/// The seconds that a record touches, and which part of it falls into each.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    /// First second.
    pub(crate) first: i64,
    /// Last second; equal to the first for a short record.
    pub(crate) last: i64,
    /// Part of the record in the first second, of 1.
    pub(crate) first_part: f64,
    /// Part in each second between.
    pub(crate) inner_part: f64,
    /// Part in the last second; 0 where it is the first.
    pub(crate) last_part: f64,
}

/// Octets and packets cut by a [`Spread`]: `first`, `inner` for each second between, `last`, and `more` for the seconds of
/// `run`. Together they are the whole counts, exactly.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Shares {
    pub(crate) first: Counts,
    pub(crate) inner: Counts,
    pub(crate) last: Counts,
    /// First and last second of the run; it is empty where `more` is nothing.
    pub(crate) run: (i64, i64),
    /// Modulo 2⁶⁴: may be less than nothing.
    pub(crate) more: Counts,
}

/// Octets and packets. Sums and differences wrap around.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) octets: u64,
    pub(crate) packets: u64,
}

impl Spread {
    /// The only second of `span`; `None` where it touches several. A record that ends exactly with a second has nothing in
    /// the next one.
    #[inline]
    pub(crate) fn only_second(span: Span) -> Option<i64> {
        if span.end <= span.start {
            return Some(span.end.div_euclid(SECOND));
        }
        let last = (span.end - 1).div_euclid(SECOND);
        (span.start >= last * SECOND).then_some(last)
    }

    /// The spread of `span`.
    #[inline]
    pub(crate) fn new(span: Span) -> Self {
        if let Some(second) = Self::only_second(span) {
            return Self::within(second);
        }
        let first = span.start.div_euclid(SECOND);
        let last = (span.end - 1).div_euclid(SECOND);
        let whole = 1.0 / span.end.saturating_sub(span.start) as f64;
        Self {
            first,
            last,
            first_part: (SECOND - span.start.rem_euclid(SECOND)) as f64 * whole,
            inner_part: SECOND as f64 * whole,
            last_part: ((span.end - 1).rem_euclid(SECOND) + 1) as f64 * whole,
        }
    }

    /// Everything in one second.
    #[inline]
    pub(crate) fn within(second: i64) -> Self {
        Self {
            first: second,
            last: second,
            first_part: 1.0,
            inner_part: 0.0,
            last_part: 0.0,
        }
    }

    /// Cuts `whole`. Packets that rounding leaves over go to the seconds between, one each, from a place that `salt` chooses,
    /// and their octets with them: so few packets of long records do not pile up in the second in which many records end.
    #[inline]
    pub(crate) fn cut(&self, whole: Counts, salt: u32) -> Shares {
        if self.first == self.last {
            return Shares {
                first: whole,
                ..Shares::default()
            };
        }
        let part = |part: f64, whole: u64, most: u64| ((whole as f64 * part) as u64).min(most);
        let first = Counts {
            octets: part(self.first_part, whole.octets, whole.octets),
            packets: part(self.first_part, whole.packets, whole.packets),
        };
        let rest = whole.less(first);
        let between = (self.last - self.first - 1).unsigned_abs();
        if between == 0 {
            return Shares {
                first,
                last: rest,
                ..Shares::default()
            };
        }
        let last = Counts {
            octets: part(self.last_part, whole.octets, rest.octets),
            packets: part(self.last_part, whole.packets, rest.packets),
        };
        self.distribute(first, rest.less(last), last, between, salt)
    }

    /// Divides `rest` among the seconds between. The packets left over make a run of seconds, around the end to the beginning
    /// if need be (then the complement gets less); octets left over that do not divide among these are the last second's.
    #[inline]
    fn distribute(
        &self,
        first: Counts,
        rest: Counts,
        last: Counts,
        between: u64,
        salt: u32,
    ) -> Shares {
        let (inner, over) = (
            Counts {
                octets: rest.octets / between,
                packets: rest.packets / between,
            },
            Counts {
                octets: rest.octets % between,
                packets: rest.packets % between,
            },
        );
        let run = over.packets;
        let each = over.octets.checked_div(run).unwrap_or(0);
        let shares = Shares {
            first,
            inner,
            last: last.plus(Counts {
                octets: over.octets - each * run,
                packets: 0,
            }),
            ..Shares::default()
        };
        if run == 0 {
            return shares;
        }
        let more = Counts {
            octets: each,
            packets: 1,
        };
        // Seconds of a time in nanoseconds are fewer than 2³⁵.
        let from = ((u128::from(salt) * u128::from(between)) >> 32) as u64;
        let begin = self.first + 1;
        if from + run <= between {
            Shares {
                run: (begin + from as i64, begin + (from + run - 1) as i64),
                more,
                ..shares
            }
        } else {
            let without = from + run - between;
            Shares {
                inner: inner.plus(more),
                run: (begin + without as i64, begin + from as i64 - 1),
                more: Counts::default().less(more),
                ..shares
            }
        }
    }
}

impl Counts {
    #[inline]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            octets: self.octets.wrapping_add(other.octets),
            packets: self.packets.wrapping_add(other.packets),
        }
    }

    #[inline]
    pub(crate) fn less(self, other: Self) -> Self {
        Self {
            octets: self.octets.wrapping_sub(other.octets),
            packets: self.packets.wrapping_sub(other.packets),
        }
    }

    fn times(self, count: u64) -> Self {
        Self {
            octets: self.octets.wrapping_mul(count),
            packets: self.packets.wrapping_mul(count),
        }
    }
}

impl Shares {
    /// The most that any second gets, or a little more.
    #[inline]
    pub(crate) fn most(&self) -> Counts {
        let of = |first: u64, inner: u64, last: u64, more: u64| {
            let more = if more as i64 > 0 { more } else { 0 };
            first.max(inner.wrapping_add(more)).max(last)
        };
        Counts {
            octets: of(
                self.first.octets,
                self.inner.octets,
                self.last.octets,
                self.more.octets,
            ),
            packets: of(
                self.first.packets,
                self.inner.packets,
                self.last.packets,
                self.more.packets,
            ),
        }
    }

    /// The part that lies before the second `oldest`.
    pub(crate) fn before(&self, spread: &Spread, oldest: i64) -> Counts {
        if spread.first >= oldest {
            return Counts::default();
        }
        let inner = (oldest.min(spread.last) - spread.first - 1).max(0);
        let run = self.run.1.min(oldest - 1) - self.run.0 + 1;
        let mut late = self.first.plus(self.inner.times(inner as u64));
        late = late.plus(self.more.times(run.max(0) as u64));
        if spread.last < oldest && spread.last != spread.first {
            late = late.plus(self.last);
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(start: f64, end: f64) -> Spread {
        Spread::new(Span {
            start: (start * 1e9) as i64,
            end: (end * 1e9) as i64,
        })
    }

    fn counts(octets: u64, packets: u64) -> Counts {
        Counts { octets, packets }
    }

    fn value(spread: &Spread, shares: &Shares, second: i64) -> Counts {
        let base = match second {
            _ if second == spread.first => shares.first,
            _ if second == spread.last => shares.last,
            _ => shares.inner,
        };
        let (from, to) = shares.run;
        if shares.more != Counts::default() && (from..=to).contains(&second) {
            base.plus(shares.more)
        } else {
            base
        }
    }

    #[test]
    fn shares_are_proportional() {
        let spread = seconds(10.5, 13.25);
        assert_eq!((spread.first, spread.last), (10, 13));
        let shares = spread.cut(counts(2750, 0), 0);
        let values: Vec<u64> = (10..=13)
            .map(|s| value(&spread, &shares, s).octets)
            .collect();
        assert_eq!(values, [500, 1000, 1000, 250]);
        assert_eq!(shares.before(&spread, 12).octets, 1500);
        assert_eq!(shares.before(&spread, 99).octets, 2750);
    }

    #[test]
    fn a_record_that_ends_with_a_second_stays_out_of_the_next() {
        let spread = seconds(10.0, 12.0);
        assert_eq!((spread.first, spread.last), (10, 11));
        let shares = spread.cut(counts(10, 0), 0);
        assert_eq!((shares.first.octets, shares.last.octets), (5, 5));
        let point = seconds(12.0, 12.0);
        assert_eq!((point.first, point.last), (12, 12));
    }

    #[test]
    fn few_packets_do_not_pile_up_at_the_end() {
        let spread = seconds(0.0, 60.0);
        for salt in [0, 1 << 31, u32::MAX] {
            let shares = spread.cut(counts(600, 10), salt);
            let values: Vec<Counts> = (0..60).map(|s| value(&spread, &shares, s)).collect();
            assert_eq!(values.iter().map(|v| v.packets).max(), Some(1));
            assert_eq!(values.iter().map(|v| v.packets).sum::<u64>(), 10);
            assert_eq!(values.iter().map(|v| v.octets).sum::<u64>(), 600);
            assert!(values.iter().all(|v| v.octets <= 20), "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn shares_are_the_whole_and_even(
            start in -10_000_000_000_000_i64..10_000_000_000_000, length in 0..400_000_000_000_i64,
            octets in 0..1_u64 << 48, packets in 0..1_u64 << 36, few in any::<bool>(), salt in any::<u32>(), cut in 0..500_i64,
        ) {
            let packets = if few { packets % 500 } else { packets };
            let whole = counts(octets.max(packets * 20), packets);
            let span = Span { start, end: start + length };
            let spread = Spread::new(span);
            let shares = spread.cut(whole, salt);
            let mut sum = Counts::default();
            for second in spread.first..=spread.last {
                prop_assert_eq!(shares.before(&spread, second), sum, "before {}", second);
                let overlap = ((second + 1) * SECOND).min(span.end) - (second * SECOND).max(span.start);
                let part = if length == 0 { 1.0 } else { overlap as f64 / length as f64 };
                let value = value(&spread, &shares, second);
                let off = |value: u64, whole: u64| (value as f64 - whole as f64 * part).abs() - whole as f64 * 1e-9;
                // An edge is rounded by less than one; a second between two edges takes both their rests.
                prop_assert!(off(value.packets, whole.packets) <= 2.0, "{:?} of {:?} in {}", value, whole, second);
                // Octets follow their packets: at most two packets' more or less, and what does not divide.
                let one = 2.0 * (whole.octets / whole.packets.max(1)) as f64 + 512.0;
                prop_assert!(off(value.octets, whole.octets) <= one, "{:?} of {:?} in {}", value, whole, second);
                let most = shares.most();
                prop_assert!(value.octets <= most.octets && value.packets <= most.packets);
                sum = sum.plus(value);
            }
            prop_assert_eq!(sum, whole);
            prop_assert_eq!(shares.before(&spread, spread.last + 1 + cut), whole);
        }

        #[test]
        fn no_time_makes_it_panic(start in any::<i64>(), end in any::<i64>(), octets in any::<u64>(), packets in any::<u64>(),
                                  salt in any::<u32>(), oldest in -10_000_000_000_i64..10_000_000_000) {
            let spread = Spread::new(Span { start: start.min(end), end });
            let shares = spread.cut(counts(octets, packets), salt);
            shares.before(&spread, oldest);
            shares.most();
        }
    }
}
