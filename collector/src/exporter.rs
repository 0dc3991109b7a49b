use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_enrichment::Interfaces;
use weir_flow_record::{Period, Quantity};

use crate::config::CollectorConfig;
use crate::trust::RateCaps;

/// One `[[exporter]]` table: what is known of the exporters in a prefix. The longest match holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ExporterConfig {
    /// An address or prefix.
    pub address: String,
    /// Name in metrics and listings.
    pub name: String,
    /// Sampling rate where the exporter states none; 0 = none.
    pub default_sampling_rate: u32,
    /// Sampling rate that wins over all; 0 = off.
    pub override_sampling_rate: u32,
    /// Clips the spread of records; 0 = trust the start.
    pub active_timeout: Period,
    /// `ingress`, `egress` or `all`.
    pub count: Count,
    /// Interfaces (ifIndex) whose flows count; empty = all.
    pub boundary_interfaces: Vec<u32>,
    /// Names of interfaces, by ifIndex; they win over those that the exporter states.
    pub interfaces: Interfaces,
    /// In place of `collector.max_records_per_second`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_records_per_second: Option<Quantity>,
    /// In place of `collector.max_datagrams_per_second`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_datagrams_per_second: Option<Quantity>,
    /// In place of `collector.silent_after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_after: Option<Period>,
}

impl Default for ExporterConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            name: String::new(),
            default_sampling_rate: 0,
            override_sampling_rate: 0,
            active_timeout: Period(Duration::ZERO),
            count: Count::All,
            boundary_interfaces: Vec::new(),
            interfaces: Interfaces::default(),
            max_records_per_second: None,
            max_datagrams_per_second: None,
            silent_after: None,
        }
    }
}

/// Which records of an exporter count, by IE 61 flowDirection: against double counting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Count {
    /// Records that do not say `egress`.
    Ingress,
    /// Records that do not say `ingress`.
    Egress,
    /// All.
    All,
}

/// A checked `[[exporter]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExporterRule {
    /// Exporters that it holds for.
    pub prefix: IpNet,
    /// Name; empty = the address.
    pub name: String,
    /// 0 = none.
    pub default_sampling_rate: u32,
    /// 0 = off.
    pub override_sampling_rate: u32,
    /// Zero = trust the start.
    pub active_timeout: Duration,
    /// Which records count.
    pub count: Count,
    /// Sorted; empty = all.
    pub boundary_interfaces: Vec<u32>,
    /// Names of interfaces.
    pub interfaces: Interfaces,
    /// What it may send.
    pub caps: RateCaps,
    /// When it is silent; zero = never.
    pub silent_after: Duration,
}

impl ExporterConfig {
    pub(crate) fn check(&self, defaults: &CollectorConfig) -> Result<ExporterRule, String> {
        let prefix = self
            .address
            .parse::<IpNet>()
            .or_else(|_| self.address.parse::<std::net::IpAddr>().map(IpNet::from))
            .map_err(|_| format!("`{}` is neither an address nor a prefix", self.address))?;
        let mut boundary_interfaces = self.boundary_interfaces.clone();
        boundary_interfaces.sort_unstable();
        Ok(ExporterRule {
            prefix: prefix.trunc(),
            name: self.name.clone(),
            default_sampling_rate: self.default_sampling_rate,
            override_sampling_rate: self.override_sampling_rate,
            active_timeout: self.active_timeout.0,
            count: self.count,
            boundary_interfaces,
            interfaces: self.interfaces.clone(),
            caps: self.caps(defaults.caps()),
            silent_after: self.silent_after.unwrap_or(defaults.silent_after).0,
        })
    }

    fn caps(&self, defaults: RateCaps) -> RateCaps {
        let or = |own: Option<Quantity>, default| own.map_or(default, |own| own.0);
        RateCaps {
            records_per_second: or(self.max_records_per_second, defaults.records_per_second),
            datagrams_per_second: or(self.max_datagrams_per_second, defaults.datagrams_per_second),
        }
    }
}
