//! How one record's sums are spread over the seconds in which it passed.

/// Nanoseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000_000;

/// When a record passed, on our clock: nanoseconds, `start <= end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

/// The seconds that a record touches within the history, and the weights of each. Shares are exact: what rounding takes from
/// the inner seconds is given to the last one, so that `first + inner × (last_second − first_second − 1) + last + late` is
/// the whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spread {
    /// First second within the history.
    pub(crate) first_second: i64,
    /// Last second; equal to the first for a short record.
    pub(crate) last_second: i64,
    span_nanos: i64,
    late_nanos: i64,
    first_nanos: i64,
}

/// A count cut by a [`Spread`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Shares {
    pub(crate) late: u64,
    pub(crate) first: u64,
    pub(crate) inner: u64,
    pub(crate) last: u64,
}

impl Spread {
    /// The spread of `span` over a history that begins with `oldest` (a second); `None` where all of it is older.
    #[inline]
    pub(crate) fn new(span: Span, oldest: i64) -> Option<Self> {
        let last_second = span.end.div_euclid(SECOND);
        if last_second < oldest {
            return None;
        }
        let begin = oldest * SECOND;
        let late_nanos = (begin - span.start).max(0);
        let start = span.start.max(begin);
        let first_second = start.div_euclid(SECOND);
        // A record that ends exactly with a second has nothing in the next one.
        let last_second = if span.end > start && span.end.rem_euclid(SECOND) == 0 {
            last_second - 1
        } else {
            last_second
        };
        let first_nanos = if last_second > first_second {
            (first_second + 1) * SECOND - start
        } else {
            span.end - start
        };
        Some(Self {
            first_second,
            last_second,
            span_nanos: span.end - span.start,
            late_nanos,
            first_nanos,
        })
    }

    /// Whether everything falls into one second.
    #[inline]
    pub(crate) fn is_point(&self) -> bool {
        self.first_second == self.last_second && self.late_nanos == 0
    }

    /// Cuts `whole`.
    #[inline]
    pub(crate) fn cut(&self, whole: u64) -> Shares {
        if self.is_point() || self.span_nanos <= 0 {
            return Shares {
                first: whole,
                ..Shares::default()
            };
        }
        let late = self.part(whole, self.late_nanos);
        let rest = whole - late;
        if self.first_second == self.last_second {
            return Shares {
                late,
                first: rest,
                ..Shares::default()
            };
        }
        let first = self.part(whole, self.first_nanos);
        let inner = self.part(whole, SECOND);
        let between = (self.last_second - self.first_second - 1).unsigned_abs();
        let last = rest - first - inner * between;
        Shares {
            late,
            first,
            inner,
            last,
        }
    }

    /// `whole × nanos ÷ span`, rounded down; never more than `whole`.
    #[inline]
    fn part(&self, whole: u64, nanos: i64) -> u64 {
        let (nanos, span) = (nanos.unsigned_abs(), self.span_nanos.unsigned_abs());
        match whole.checked_mul(nanos) {
            Some(product) => product / span,
            None => (u128::from(whole) * u128::from(nanos) / u128::from(span)) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(start: f64, end: f64) -> Span {
        Span {
            start: (start * 1e9) as i64,
            end: (end * 1e9) as i64,
        }
    }

    #[test]
    fn shares_are_proportional() {
        let spread = Spread::new(seconds(10.5, 13.25), 0).unwrap();
        assert_eq!((spread.first_second, spread.last_second), (10, 13));
        assert_eq!(
            spread.cut(2750),
            Shares {
                late: 0,
                first: 500,
                inner: 1000,
                last: 250
            }
        );
    }

    #[test]
    fn a_record_that_ends_with_a_second_stays_out_of_the_next() {
        let spread = Spread::new(seconds(10.0, 12.0), 0).unwrap();
        assert_eq!((spread.first_second, spread.last_second), (10, 11));
        assert_eq!(
            spread.cut(10),
            Shares {
                late: 0,
                first: 5,
                inner: 5,
                last: 5
            }
        );
        let point = Spread::new(seconds(12.0, 12.0), 0).unwrap();
        assert_eq!((point.first_second, point.last_second), (12, 12));
    }

    #[test]
    fn what_is_older_than_the_history_is_late() {
        let spread = Spread::new(seconds(0.0, 10.0), 6).unwrap();
        assert_eq!(
            spread.cut(100),
            Shares {
                late: 60,
                first: 10,
                inner: 10,
                last: 10
            }
        );
        assert_eq!(Spread::new(seconds(0.0, 5.5), 6), None);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(start in -10_000_000_000_000_i64..10_000_000_000_000, length in 0..400_000_000_000_i64,
                           oldest in -100..400_i64, whole in any::<u64>()) {
            let span = Span { start, end: start + length };
            if let Some(spread) = Spread::new(span, oldest) {
                let shares = spread.cut(whole);
                let between = (spread.last_second - spread.first_second - 1).max(0) as u128;
                let sum = u128::from(shares.late) + u128::from(shares.first) + u128::from(shares.last)
                    + u128::from(shares.inner) * between;
                prop_assert_eq!(sum, u128::from(whole));
                prop_assert!(spread.first_second >= oldest);
            } else {
                prop_assert!(span.end < oldest * SECOND);
            }
        }
    }
}
