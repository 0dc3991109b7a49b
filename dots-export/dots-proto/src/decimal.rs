//! `decimal64` with two fraction digits, as DOTS uses it: tag 4 `[-2, n]` in CBOR, a string in JSON.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A decimal number in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(i64);

/// A text that is no decimal number of at most two fraction digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number with at most two fraction digits")]
pub struct DecimalError;

impl Decimal {
    /// Returns the number of so many hundredths.
    #[must_use]
    pub fn from_hundredths(hundredths: i64) -> Self {
        Self(hundredths)
    }

    /// Returns the number in hundredths.
    #[must_use]
    pub fn hundredths(self) -> i64 {
        self.0
    }

    /// Returns the number as a float, for factors and seconds.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 100.0
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let hundredths = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        if fraction.is_empty() || fraction.len() > 2 || !all_digits(whole) || !all_digits(fraction)
        {
            return Err(DecimalError);
        }
        let whole: i128 = whole.parse().map_err(|_| DecimalError)?;
        let hundredths: i128 = format!("{fraction:0<2}")
            .parse()
            .map_err(|_| DecimalError)?;
        let value = whole
            .checked_mul(100)
            .and_then(|value| value.checked_add(hundredths))
            .ok_or(DecimalError)?;
        i64::try_from(sign * value)
            .map(Self)
            .map_err(|_| DecimalError)
    }
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit())
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_hundredths() {
        for (text, hundredths) in [("2.00", 200), ("1.10", 110), ("-0.50", -50), ("0.00", 0)] {
            assert_eq!(text.parse(), Ok(Decimal(hundredths)));
            assert_eq!(Decimal(hundredths).to_string(), text);
        }
        assert_eq!("2".parse(), Ok(Decimal(200)));
        assert_eq!("2.5".parse(), Ok(Decimal(250)));
        assert_eq!(Decimal(i64::MIN).to_string().parse(), Ok(Decimal(i64::MIN)));
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1.234",
            "+1",
            "1e2",
            "92233720368547758.08",
            "1.-5",
        ] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError), "{text}");
        }
    }
}
