use std::fmt;

use serde_json::Value;

/// A rate limit in hundredths of a byte per second: `decimal64` with two fraction digits (RFC 8783 §4.3), not negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RateLimit(u64);

impl RateLimit {
    /// The largest rate that `decimal64` holds, in hundredths.
    const MAX: u64 = i64::MAX as u64;

    /// A rate of whole bytes per second; the largest possible where it is more.
    #[must_use]
    pub fn bytes_per_second(bytes: u64) -> Self {
        Self(bytes.saturating_mul(100).min(Self::MAX))
    }

    /// Whole bytes per second, rounded down.
    #[must_use]
    pub fn whole_bytes_per_second(self) -> u64 {
        self.0 / 100
    }

    pub(crate) fn read(value: &Value) -> Option<Self> {
        let text = value.as_str()?;
        let text = text.strip_prefix('+').unwrap_or(text);
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|o| o.is_ascii_digit());
        // More digits may stand there as long as they say nothing (RFC 7950 §9.3.1).
        let fraction = match fraction.trim_end_matches('0') {
            "" if digits(fraction) => 0,
            one if one.len() == 1 && digits(one) => one.parse::<u64>().ok()? * 10,
            two if two.len() == 2 && digits(two) => two.parse().ok()?,
            _ => return None,
        };
        if !digits(whole) {
            return None;
        }
        let hundredths = whole.parse::<u64>().ok()?.checked_mul(100)?;
        let hundredths = hundredths.checked_add(fraction)?;
        (hundredths <= Self::MAX).then_some(Self(hundredths))
    }
}

impl fmt::Display for RateLimit {
    /// The canonical form: at least one fraction digit, no zeros behind it (RFC 7950 §9.3.2).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 100, self.0 % 100);
        if fraction % 10 == 0 {
            write!(f, "{whole}.{}", fraction / 10)
        } else {
            write!(f, "{whole}.{fraction:02}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_two_digits() {
        let read = |text: &str| RateLimit::read(&Value::from(text)).map(|rate| rate.to_string());
        assert_eq!(read("20.00").as_deref(), Some("20.0"));
        assert_eq!(read("0.05").as_deref(), Some("0.05"));
        assert_eq!(read("7").as_deref(), Some("7.0"));
        assert_eq!(read("1.250").as_deref(), Some("1.25"));
        for wrong in [
            "",
            ".",
            "-1",
            "1.234",
            "1e3",
            "1.",
            "92233720368547758.08",
            "1.+1",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(
            read("92233720368547758.07").as_deref(),
            Some("92233720368547758.07")
        );
        assert_eq!(RateLimit::read(&Value::from(20)), None);
    }
}
