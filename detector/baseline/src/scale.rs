//! A logarithmic scale for rates: 16 bits hold any rate to less than a tenth of a per cent.

/// Steps of the fine scale in a doubling.
const FINE: f64 = 1000.0;
/// Buckets of a sketch in a doubling: a bucket is 2.2 % wide.
const BUCKETS: f64 = 32.0;

/// A rate in 16 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct Rate(pub(crate) u16);

impl Rate {
    pub(crate) fn of(value: f64) -> Self {
        Self((value.max(0.0).ln_1p() / std::f64::consts::LN_2 * FINE).round() as u16)
    }

    pub(crate) fn value(self) -> f64 {
        (f64::from(self.0) / FINE * std::f64::consts::LN_2).exp_m1()
    }
}

/// The bucket of a value.
pub(crate) fn bucket(value: f64) -> u16 {
    (value.max(0.0).ln_1p() / std::f64::consts::LN_2 * BUCKETS) as u16
}

/// The value at a place inside a bucket, 0 to 1.
pub(crate) fn value_in(bucket: u16, place: f64) -> f64 {
    let place = if bucket == 0 { 0.0 } else { place };
    ((f64::from(bucket) + place) / BUCKETS * std::f64::consts::LN_2).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_back_within_a_thousandth() {
        for value in [0.0, 0.25, 1.0, 999.0, 1e6, 4.2e9, 1e13] {
            let back = Rate::of(value).value();
            assert!(
                (back - value).abs() <= 0.001 * (1.0 + value),
                "{value}: {back}"
            );
            let (low, high) = (value_in(bucket(value), 0.0), value_in(bucket(value), 1.0));
            assert!(
                low <= value * 1.000_001 && (value <= high * 1.000_001),
                "{low} {value} {high}"
            );
        }
        assert_eq!(Rate::of(-3.0), Rate(0));
        assert_eq!(Rate::of(f64::MAX), Rate(u16::MAX));
        assert_eq!(Rate::of(f64::NAN), Rate(0));
    }
}
