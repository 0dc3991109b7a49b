use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_flow_record::Period;

use crate::{LinkInterfaces, ZonePrefixes};

/// The table `[aggregation]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct AggregationConfig {
    /// Received time between two evaluations.
    pub tick: Period,
    /// Age at which a second counts as complete.
    pub settle: Period,
    /// Seconds kept of a host or prefix; a power of two from 32 s to 512 s.
    pub history: Period,
    /// Seconds kept of zones; a power of two, at least `history`, at most 4096 s.
    pub zone_history: Period,
    /// Bound of the host table.
    pub max_hosts: u32,
    /// Bound of watched hosts.
    pub max_watched: u32,
}

impl Default for AggregationConfig {
    fn default() -> Self {
        Self {
            tick: Period(Duration::from_millis(100)),
            settle: Period(Duration::from_secs(5)),
            history: Period(Duration::from_secs(64)),
            zone_history: Period(Duration::from_secs(512)),
            max_hosts: 131_072,
            max_watched: 4096,
        }
    }
}

impl AggregationConfig {
    /// Checks the values; one sentence for each mistake.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        let mut demand = |fine: bool, text: &str| {
            if !fine {
                faults.push(text.to_owned());
            }
        };
        let whole = |period: Period| (period.0.subsec_nanos() == 0).then_some(period.0.as_secs());
        let (history, zone_history) = (whole(self.history), whole(self.zone_history));
        demand(
            history.is_some_and(|s| s.is_power_of_two() && (32..=512).contains(&s)),
            "history must be a power of two of seconds from 32s to 512s",
        );
        demand(
            zone_history.is_some_and(|s| s.is_power_of_two() && s <= 4096)
                && zone_history >= history,
            "zone_history must be a power of two of seconds, at least history and at most 4096s",
        );
        demand(
            (Duration::from_millis(10)..=Duration::from_secs(1)).contains(&self.tick.0),
            "tick must lie between 10ms and 1s",
        );
        demand(
            self.settle.0 >= Duration::from_secs(1) && self.settle.0 < self.history.0 / 2,
            "settle must be at least 1s and less than half of history",
        );
        demand(
            (16..=16_777_216).contains(&self.max_hosts),
            "max_hosts must lie between 16 and 16777216",
        );
        demand(
            (1..=65_536).contains(&self.max_watched),
            "max_watched must lie between 1 and 65536",
        );
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }
}

/// What an aggregator is built of.
#[derive(Clone, Debug)]
pub struct AggregateSettings {
    /// The checked table.
    pub config: AggregationConfig,
    /// Zones and what is interesting in them.
    pub zones: Vec<ZonePrefixes>,
    /// Links whose traffic is summed.
    pub links: Vec<LinkInterfaces>,
    /// Number of the shard.
    pub shard: u16,
    /// Longest duration of records, by exporter prefix (the longest match holds): clips the spread.
    pub active_timeouts: Vec<(IpNet, Duration)>,
}
