//! Traffic rates and their units (RFC 9244 §7.2, §8.1.2).

use serde::{Deserialize, Serialize};

use super::counter;
use super::enums::{Unit, UnitClass};

/// Percentiles, peak and current value of a quantity, without a unit (RFC 9244, `percentile-peak-and-current`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gauges {
    /// Low percentile, the 10th if nothing else was negotiated.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub low_percentile_g: Option<u64>,
    /// Mid percentile, the 50th if nothing else was negotiated.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub mid_percentile_g: Option<u64>,
    /// High percentile, the 90th if nothing else was negotiated.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub high_percentile_g: Option<u64>,
    /// Highest value.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub peak_g: Option<u64>,
    /// Last value.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub current_g: Option<u64>,
}

/// The least integer of three digits.
const THREE_DIGITS: u128 = 100;

impl Gauges {
    fn values(self) -> impl Iterator<Item = u64> {
        [
            self.low_percentile_g,
            self.mid_percentile_g,
            self.high_percentile_g,
            self.peak_g,
            self.current_g,
        ]
        .into_iter()
        .flatten()
    }
}

/// Rates in one unit. A list of them has at most one entry per unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Traffic {
    /// Unit of all rates.
    pub unit: Unit,
    /// Low percentile.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub low_percentile_g: Option<u64>,
    /// Mid percentile.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub mid_percentile_g: Option<u64>,
    /// High percentile.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub high_percentile_g: Option<u64>,
    /// Highest rate.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub peak_g: Option<u64>,
    /// Last rate. Not part of baselines.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "counter")]
    pub current_g: Option<u64>,
}

impl Traffic {
    /// Scales rates in bit/s.
    #[must_use]
    pub fn in_bits(bits_per_second: &Gauges) -> Self {
        Self::scaled(UnitClass::BitPs, bits_per_second)
    }

    /// Scales rates in packets per second.
    #[must_use]
    pub fn in_packets(packets_per_second: &Gauges) -> Self {
        Self::scaled(UnitClass::PacketPs, packets_per_second)
    }

    /// Scales rates given in the class's base unit to the largest unit in which each of them still has three digits
    /// (RFC 9244 §8.1: agents auto-scale to the appropriate unit). Zeros do not count; rates are rounded to the nearest,
    /// so none is off by more than half a percent.
    ///
    /// The largest unit with a value greater than one, as §7.2 has it for the capacities of pipes, which are round numbers,
    /// would make 4 `gigabit-ps` of 4.4 Gbit/s. Here that is 4400 `megabit-ps`, as in RFC 9387's figures.
    #[must_use]
    pub fn scaled(class: UnitClass, base: &Gauges) -> Self {
        let smallest = base.values().filter(|value| *value > 0).min().unwrap_or(0);
        let unit = Unit::ALL
            .iter()
            .copied()
            .filter(|unit| unit.class() == class)
            .rfind(|unit| {
                unit.factor() == 1 || u128::from(smallest) >= THREE_DIGITS * unit.factor()
            })
            .unwrap_or(Unit::BitPs);
        let scale = |value: Option<u64>| value.map(|value| divide_to_nearest(value, unit.factor()));
        Self {
            unit,
            low_percentile_g: scale(base.low_percentile_g),
            mid_percentile_g: scale(base.mid_percentile_g),
            high_percentile_g: scale(base.high_percentile_g),
            peak_g: scale(base.peak_g),
            current_g: scale(base.current_g),
        }
    }

    /// Returns the rates without their unit.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            low_percentile_g: self.low_percentile_g,
            mid_percentile_g: self.mid_percentile_g,
            high_percentile_g: self.high_percentile_g,
            peak_g: self.peak_g,
            current_g: self.current_g,
        }
    }
}

/// Rates of one transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrafficProtocol {
    /// IANA protocol number.
    pub protocol: u8,
    /// Its rates.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Rates of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrafficPort {
    /// Port.
    pub port: u16,
    /// Its rates.
    #[serde(flatten)]
    pub traffic: Traffic,
}

fn divide_to_nearest(value: u64, factor: u128) -> u64 {
    // A quotient of a u64 fits a u64.
    u64::try_from((u128::from(value) + factor / 2) / factor).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mid(value: u64) -> Gauges {
        Gauges {
            mid_percentile_g: Some(value),
            ..Gauges::default()
        }
    }

    #[test]
    fn the_largest_unit_of_three_digits() {
        for (rate, unit, value) in [
            (0, Unit::BitPs, 0),
            (1, Unit::BitPs, 1),
            (99_999, Unit::BitPs, 99_999),
            (100_000, Unit::KilobitPs, 100),
            (900_000_000, Unit::MegabitPs, 900),
            (1_500_000_000, Unit::MegabitPs, 1500),
            (4_200_000_000, Unit::MegabitPs, 4200),
            (99_999_600_000, Unit::MegabitPs, 100_000),
            (123_400_000_000, Unit::GigabitPs, 123),
            (u64::MAX, Unit::PetabitPs, 18_447),
        ] {
            let traffic = Traffic::in_bits(&mid(rate));
            assert_eq!(
                (traffic.unit, traffic.mid_percentile_g),
                (unit, Some(value)),
                "{rate}"
            );
        }
    }

    #[test]
    fn one_unit_for_all_rates() {
        let base = Gauges {
            low_percentile_g: Some(0),
            mid_percentile_g: Some(600_000_000),
            peak_g: Some(4_200_000_000),
            ..Gauges::default()
        };
        let traffic = Traffic::in_bits(&base);
        assert_eq!(traffic.unit, Unit::MegabitPs);
        assert_eq!(traffic.low_percentile_g, Some(0));
        assert_eq!(traffic.mid_percentile_g, Some(600));
        assert_eq!(traffic.peak_g, Some(4200));
        assert_eq!(Traffic::in_packets(&base).unit, Unit::MegapacketPs);
    }

    #[test]
    fn rates_of_a_protocol_are_flat() {
        let entry = TrafficProtocol {
            protocol: 17,
            traffic: Traffic::in_bits(&mid(900_000_000)),
        };
        let json =
            serde_json::json!({"protocol": 17, "unit": "megabit-ps", "mid-percentile-g": "900"});
        assert_eq!(serde_json::to_value(entry).unwrap(), json);
        assert_eq!(
            serde_json::from_value::<TrafficProtocol>(json).unwrap(),
            entry
        );
    }
}
