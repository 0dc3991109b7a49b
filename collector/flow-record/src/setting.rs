use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Why a value of the configuration cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// Neither a number nor a number with an SI suffix.
    #[error("`{0}` is no quantity: write an integer, or a number with k, M, G or T")]
    Quantity(String),
    /// Not a number with a unit of time.
    #[error("`{0}` is no duration: write a number with ms, s, m, h or d")]
    Period(String),
    /// Not a number with a unit of size.
    #[error("`{0}` is no size: write a number with B, KiB, MiB, GiB or kB, MB, GB")]
    ByteSize(String),
}

/// A count or rate of the configuration: an integer, or an SI string such as `"20k"`, `"1.5G"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Quantity(pub u64);

/// A duration of the configuration: `"100ms"`, `"60s"`, `"5m"`, `"1h"`, `"7d"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Period(pub Duration);

/// A size of the configuration in octets: `"256MiB"`, `"64kB"`, or an integer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ByteSize(pub u64);

const SI: &[(&str, u64)] = &[
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];
const TIMES: &[(&str, u64)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
const SIZES: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Reads a decimal number followed by one of `units`; `None` where it is neither exact enough nor in range.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut value = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let mut place = factor;
    for digit in fraction.bytes() {
        place /= 10;
        value = value.checked_add(
            u64::from(digit.checked_sub(b'0').filter(|d| *d < 10)?).checked_mul(place)?,
        )?;
    }
    Some(value)
}

macro_rules! setting {
    ($name:ident, $units:expr, $make:expr, $error:ident, $expecting:literal, $integers:literal) => {
        impl FromStr for $name {
            type Err = SettingError;

            fn from_str(text: &str) -> Result<Self, SettingError> {
                scaled(text, $units)
                    .map($make)
                    .ok_or_else(|| SettingError::$error(text.to_owned()))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl Visitor<'_> for Reader {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_i64<E: Error>(self, value: i64) -> Result<$name, E> {
                        let value =
                            u64::try_from(value).map_err(|_| E::custom("must not be negative"))?;
                        self.visit_u64(value)
                    }

                    fn visit_u64<E: Error>(self, value: u64) -> Result<$name, E> {
                        if $integers {
                            Ok($make(value))
                        } else {
                            Err(E::custom(format!("`{value}` has no unit")))
                        }
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Reader)
            }
        }
    };
}

setting!(
    Quantity,
    SI,
    Quantity,
    Quantity,
    "an integer or an SI string such as \"20k\"",
    true
);
setting!(
    Period,
    TIMES,
    |nanos| Period(Duration::from_nanos(nanos)),
    Period,
    "a duration such as \"60s\"",
    false
);
setting!(
    ByteSize,
    SIZES,
    ByteSize,
    ByteSize,
    "a size such as \"256MiB\"",
    true
);

impl serde::Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl serde::Serialize for Period {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        let (unit, factor) = if nanos.is_multiple_of(1_000_000_000) {
            ("s", 1_000_000_000)
        } else {
            ("ms", 1_000_000)
        };
        serializer.collect_str(&format_args!("{}{unit}", nanos / factor))
    }
}

impl serde::Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_exactly() {
        assert_eq!("20k".parse(), Ok(Quantity(20_000)));
        assert_eq!("1.5G".parse(), Ok(Quantity(1_500_000_000)));
        assert_eq!("250".parse(), Ok(Quantity(250)));
        assert_eq!("100ms".parse(), Ok(Period(Duration::from_millis(100))));
        assert_eq!("5m".parse(), Ok(Period(Duration::from_secs(300))));
        assert_eq!("256MiB".parse(), Ok(ByteSize(256 << 20)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "k",
            "1x",
            "-1",
            "1..5k",
            "99999999999999999999",
            "1 000",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
        assert!("60".parse::<Period>().is_err());
    }
}
