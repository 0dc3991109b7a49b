//! Maintenance windows: times at which attacks on some prefixes are not told.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_flow_record::Timestamp;

use crate::config::Fault;

const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;
/// The epoch was a Thursday.
const DAYS: [&str; 7] = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];

/// One `[[maintenance]]`: either `from` and `to`, or `weekly`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MaintenanceConfig {
    /// Attacks on targets inside these are not told.
    pub prefixes: Vec<IpNet>,
    /// When it begins, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// Each week, in UTC: `"sun 02:00-04:00"`; an end before the beginning is on the next day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<String>,
    /// For whoever reads the file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A checked window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Maintenance {
    prefixes: Vec<IpNet>,
    times: Times,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Times {
    Once(Timestamp, Timestamp),
    /// Seconds since Thursday 00:00 UTC, and how many.
    Weekly(i64, i64),
}

impl Maintenance {
    /// Whether attacks on a target are not told now.
    pub(crate) fn holds(&self, target: &IpNet, now: Timestamp) -> bool {
        let is_on = match self.times {
            Times::Once(from, to) => from <= now && now < to,
            Times::Weekly(start, length) => (now.second() - start).rem_euclid(WEEK) < length,
        };
        is_on && self.prefixes.iter().any(|prefix| prefix.contains(target))
    }
}

/// Checks the tables; all mistakes at once.
pub(crate) fn check(tables: &[MaintenanceConfig]) -> Result<Vec<Maintenance>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut windows = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let mut fault = |key: &str, message: &str| {
            faults.push(Fault {
                path: format!("maintenance[{index}]{key}"),
                message: message.to_owned(),
            });
        };
        if table.prefixes.is_empty() {
            fault("", "a maintenance window needs prefixes");
        }
        let times = match (&table.weekly, table.from, table.to) {
            (Some(weekly), None, None) => {
                let times = weekly_times(weekly);
                if times.is_none() {
                    fault(
                        ".weekly",
                        "write a day and times such as \"sun 02:00-04:00\"",
                    );
                }
                times
            }
            (None, Some(from), Some(to)) if from < to => Some(Times::Once(from, to)),
            (None, Some(_), Some(_)) => {
                fault(".to", "must be later than `from`");
                None
            }
            _ => {
                fault(
                    "",
                    "a maintenance window has either `from` and `to`, or `weekly`",
                );
                None
            }
        };
        windows.extend(times.map(|times| Maintenance {
            prefixes: table.prefixes.iter().map(IpNet::trunc).collect(),
            times,
        }));
    }
    if faults.is_empty() {
        Ok(windows)
    } else {
        Err(faults)
    }
}

fn weekly_times(text: &str) -> Option<Times> {
    let (day, times) = text.trim().split_once(' ')?;
    let day = day.to_ascii_lowercase();
    let day = DAYS.iter().position(|name| *name == day)? as i64;
    let (from, to) = times.trim().split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    let length = (to - from).rem_euclid(DAY);
    let length = if length == 0 { DAY } else { length };
    Some(Times::Weekly(day * DAY + from, length))
}

/// Seconds since midnight of `"02:00"`; 24:00 is midnight.
fn minute(text: &str) -> Option<i64> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str, most: i64| {
        let number = text.parse::<i64>().ok()?;
        (text.len() == 2 && (0..=most).contains(&number)).then_some(number)
    };
    let seconds = number(hour, 24)? * 3600 + number(minute, 59)? * 60;
    (seconds <= DAY).then_some(seconds % DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(table: MaintenanceConfig) -> Result<Maintenance, Vec<Fault>> {
        let prefixes = vec!["10.0.0.0/8".parse().unwrap()];
        check(&[MaintenanceConfig { prefixes, ..table }]).map(|mut windows| windows.remove(0))
    }

    #[test]
    fn a_weekly_window_holds_at_its_time_and_no_other() {
        let window = window(MaintenanceConfig {
            weekly: Some("Sun 23:00-01:00".to_owned()),
            ..MaintenanceConfig::default()
        })
        .unwrap();
        let (inside, outside) = (
            "10.1.0.0/16".parse().unwrap(),
            "11.0.0.0/8".parse().unwrap(),
        );
        for (time, holds) in [
            ("2026-03-01T22:59:59Z", false),
            ("2026-03-01T23:00:00Z", true),
            ("2026-03-02T00:59:59Z", true),
            ("2026-03-02T01:00:00Z", false),
            ("2026-03-03T00:00:00Z", false),
        ] {
            let now = time.parse().unwrap();
            assert_eq!(window.holds(&inside, now), holds, "{time}");
            assert!(!window.holds(&outside, now));
        }
    }

    #[test]
    fn times_that_make_no_sense_are_mistakes() {
        for weekly in ["sun", "day 02:00-04:00", "sun 25:00-26:00", "sun 2-4"] {
            let table = MaintenanceConfig {
                weekly: Some(weekly.to_owned()),
                ..MaintenanceConfig::default()
            };
            assert_eq!(window(table).unwrap_err()[0].path, "maintenance[0].weekly");
        }
        let both = MaintenanceConfig {
            weekly: Some("sun 02:00-04:00".to_owned()),
            from: Some(Timestamp::from_seconds(1)),
            ..MaintenanceConfig::default()
        };
        assert!(window(both).is_err());
        assert!(window(MaintenanceConfig::default()).is_err());
        let once = MaintenanceConfig {
            from: Some(Timestamp::from_seconds(10)),
            to: Some(Timestamp::from_seconds(20)),
            ..MaintenanceConfig::default()
        };
        let target = "10.0.0.1/32".parse().unwrap();
        let once = window(once).unwrap();
        assert!(once.holds(&target, Timestamp::from_seconds(19)));
        assert!(!once.holds(&target, Timestamp::from_seconds(20)));
    }
}
