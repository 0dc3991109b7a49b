use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_flow_record::{Period, Quantity};

/// Hours of a week.
pub(crate) const WEEK_HOURS: u64 = 168;

/// The table `[baseline]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct BaselineConfig {
    /// Low, mid and high percentile. Upstreams are told what is normal only with the default ones, in which attacks are told too.
    pub percentiles: [f64; 3],
    /// Targets that are learned, each direction for itself; what comes beyond is refused and counted.
    pub max_targets: usize,
    /// Hosts, in each direction, that get full histograms and a level for each hour of the week.
    pub busiest_hosts: usize,
    /// Time over which levels are averaged: what is older counts no more.
    pub memory: Period,
    /// A target without traffic for that long is forgotten.
    pub forget_after: Period,
    /// The factor by which a level may rise in a week once it is known, so that nobody teaches an attack slowly.
    pub max_rise_per_week: f64,
    /// Time in peace that must have been learned before anything is called normal.
    pub minimum: Period,
    /// Service ports that are learned of each zone and direction.
    pub max_ports: usize,
    /// Time for which samples wait before they are learned: an attack found meanwhile takes back what it touches.
    pub quarantine: Period,
    /// Time within which what was learned is on disk.
    pub save_interval: Period,
    /// As much learning of our own as an imported baseline counts for.
    pub import_weight: Period,
    /// The change, of 1, from which on an upstream is told anew what is normal.
    pub tell_change: f64,
    /// Least time between two such messages.
    pub tell_interval: Period,
    /// Targets told to each upstream, zones first, then prefixes and hosts by their traffic.
    pub tell_targets: usize,
    /// Connections that targets bear (RFC 9244 §7.3.1): what is seen is no capacity, so the operator states it.
    #[serde(rename = "capacity", skip_serializing_if = "Vec::is_empty")]
    pub capacities: Vec<CapacityConfig>,
}

/// One `[[baseline.capacity]]`: what a zone bears of a protocol, or of one of its ports.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CapacityConfig {
    /// Name of the zone.
    pub zone: String,
    /// IP protocol.
    pub protocol: u8,
    /// Port; absent = all together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Connections at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<Quantity>,
    /// The same of one client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_client: Option<Quantity>,
    /// Connections that are being set up, at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embryonic: Option<Quantity>,
    /// New connections per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_second: Option<Quantity>,
    /// The same of one client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_second_per_client: Option<Quantity>,
    /// Requests per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<Quantity>,
}

impl Default for BaselineConfig {
    fn default() -> Self {
        let days = |days: u64| Period(Duration::from_secs(days * 86_400));
        let minutes = |minutes: u64| Period(Duration::from_secs(minutes * 60));
        Self {
            percentiles: [10.0, 50.0, 90.0],
            max_targets: 100_000,
            busiest_hosts: 5000,
            memory: days(42),
            forget_after: days(56),
            max_rise_per_week: 1.2,
            minimum: minutes(30),
            max_ports: 64,
            quarantine: minutes(2),
            save_interval: minutes(5),
            import_weight: days(1),
            tell_change: 0.2,
            tell_interval: minutes(60),
            tell_targets: 16,
            capacities: Vec::new(),
        }
    }
}

/// A zone as baselines know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BaselineZone {
    /// Its name, by which it is known over restarts.
    pub name: Arc<str>,
    /// Its prefixes.
    pub prefixes: Vec<IpNet>,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct BaselineSettings {
    /// The table, checked.
    pub config: BaselineConfig,
    /// Zones by [`ZoneId`](weir_flow_record::ZoneId).
    pub zones: Vec<BaselineZone>,
    /// Names of the links, by number.
    pub links: Vec<Arc<str>>,
}

impl Default for BaselineSettings {
    fn default() -> Self {
        Self::new(BaselineConfig::default(), Vec::new(), Vec::new())
    }
}

impl BaselineConfig {
    /// Checks the values; path below the table, and one sentence, for each mistake.
    pub fn check(&self, zones: &[BaselineZone]) -> Result<(), Vec<(String, String)>> {
        let mut faults = Vec::new();
        let mut demand = |fine: bool, key: &str, text: &str| {
            if !fine {
                faults.push((key.to_owned(), text.to_owned()));
            }
        };
        let within = |period: Period, from: u64, to: u64| {
            (Duration::from_secs(from)..=Duration::from_secs(to)).contains(&period.0)
        };
        let [low, mid, high] = self.percentiles;
        demand(
            0.0 <= low && low < mid && mid < high && high <= 100.0,
            "percentiles",
            "must be three ascending numbers from 0 to 100",
        );
        demand(
            (1..=10_000_000).contains(&self.max_targets),
            "max_targets",
            "must lie between 1 and 10000000",
        );
        demand(
            self.busiest_hosts <= 100_000,
            "busiest_hosts",
            "must be at most 100000",
        );
        demand(
            within(self.memory, 7 * 86_400, 364 * 86_400),
            "memory",
            "must lie between 7d and 364d",
        );
        demand(
            within(self.forget_after, 86_400, 364 * 86_400),
            "forget_after",
            "must lie between 1d and 364d",
        );
        demand(
            (1.01..=10.0).contains(&self.max_rise_per_week),
            "max_rise_per_week",
            "must lie between 1.01 and 10",
        );
        demand(
            within(self.minimum, 60, 14 * 86_400),
            "minimum",
            "must lie between 1m and 14d",
        );
        demand(self.max_ports <= 4096, "max_ports", "must be at most 4096");
        demand(
            within(self.quarantine, 10, 600),
            "quarantine",
            "must lie between 10s and 10m",
        );
        demand(
            within(self.save_interval, 10, 3600),
            "save_interval",
            "must lie between 10s and 1h",
        );
        demand(
            within(self.import_weight, 0, 364 * 86_400),
            "import_weight",
            "must be at most 364d",
        );
        demand(
            (0.01..=10.0).contains(&self.tell_change),
            "tell_change",
            "must lie between 0.01 and 10",
        );
        demand(
            within(self.tell_interval, 60, 7 * 86_400),
            "tell_interval",
            "must lie between 1m and 7d",
        );
        demand(
            self.tell_targets <= 256,
            "tell_targets",
            "must be at most 256",
        );
        for (index, capacity) in self.capacities.iter().enumerate() {
            let path = format!("capacity[{index}]");
            demand(
                zones.iter().any(|zone| *zone.name == *capacity.zone),
                &format!("{path}.zone"),
                &format!("there is no zone `{}`", capacity.zone),
            );
            let none = CapacityConfig {
                zone: capacity.zone.clone(),
                protocol: capacity.protocol,
                port: capacity.port,
                ..CapacityConfig::default()
            };
            demand(
                *capacity != none,
                &path,
                "a capacity states at least one number",
            );
            let same = |other: &CapacityConfig| {
                (&other.zone, other.protocol, other.port)
                    == (&capacity.zone, capacity.protocol, capacity.port)
            };
            demand(
                !self.capacities.iter().take(index).any(same),
                &path,
                "this zone, protocol and port has a capacity already",
            );
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }
}

impl BaselineSettings {
    /// Settings of a checked table, for these zones and links.
    #[must_use]
    pub fn new(config: BaselineConfig, zones: Vec<BaselineZone>, links: Vec<Arc<str>>) -> Self {
        Self {
            config,
            zones,
            links,
        }
    }

    /// Percentiles as shares of 1.
    pub(crate) fn shares(&self) -> [f64; 3] {
        self.config.percentiles.map(|percent| percent / 100.0)
    }

    /// Hours of memory.
    pub(crate) fn memory_hours(&self) -> f64 {
        (self.config.memory.0.as_secs_f64() / 3600.0).max(WEEK_HOURS as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fine_and_every_mistake_is_told() {
        assert_eq!(BaselineConfig::default().check(&[]), Ok(()));
        let bad = BaselineConfig {
            percentiles: [50.0, 10.0, 90.0],
            max_rise_per_week: 1.0,
            capacities: vec![CapacityConfig {
                zone: "nowhere".to_owned(),
                protocol: 6,
                ..CapacityConfig::default()
            }],
            ..BaselineConfig::default()
        };
        let faults = bad.check(&[]).unwrap_err();
        let paths: Vec<&str> = faults.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "percentiles",
                "max_rise_per_week",
                "capacity[0].zone",
                "capacity[0]"
            ]
        );
    }
}
