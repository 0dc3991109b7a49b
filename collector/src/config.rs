use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_enrichment::{ExporterNames, Interfaces};
use weir_flow_record::{Address, ByteSize, ColumnSet, Period};

use crate::decoders::DecoderLimits;

/// The table `[collector]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectorConfig {
    /// Addresses for NetFlow v5/v7/v9 and IPFIX; versions are told apart by the version word.
    pub netflow: Vec<SocketAddr>,
    /// Addresses for sFlow v5.
    pub sflow: Vec<SocketAddr>,
    /// Number of shards; 0 = CPUs − 1, at least 1.
    pub shards: u16,
    /// Receive buffer asked of the kernel for each socket.
    pub receive_buffer: ByteSize,
    /// Bound of each protocol's exporter table.
    pub max_exporters: u32,
    /// Bound of templates per exporter.
    pub max_templates_per_exporter: u32,
    /// Bound of data waiting for its template.
    pub held_back: ByteSize,
    /// How long such data wait.
    pub held_back_for: Period,
    /// Prefixes of exporters that are heard; empty = any.
    pub allow: Vec<IpNet>,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        let any = |port| SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port);
        Self {
            netflow: vec![any(2055), any(4739)],
            sflow: vec![any(6343)],
            shards: 0,
            receive_buffer: ByteSize(32 << 20),
            max_exporters: 4096,
            max_templates_per_exporter: 4096,
            held_back: ByteSize(16 << 20),
            held_back_for: Period(std::time::Duration::from_secs(300)),
            allow: Vec::new(),
        }
    }
}

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
}

impl Default for ExporterConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            name: String::new(),
            default_sampling_rate: 0,
            override_sampling_rate: 0,
            active_timeout: Period(std::time::Duration::ZERO),
            count: Count::All,
            boundary_interfaces: Vec::new(),
            interfaces: Interfaces::default(),
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

/// A mistake in the configuration: where, as a path such as `collector.shards` or `exporter[1].address`, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigFault {
    /// The key.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl ConfigFault {
    /// A fault at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

/// A checked `[collector]` with its `[[exporter]]` tables.
#[derive(Clone, Debug)]
pub struct CollectorSettings {
    /// Sockets. Any protocol is understood on each.
    pub listen: Vec<SocketAddr>,
    /// Octets asked of the kernel for each.
    pub receive_buffer: u64,
    /// Shards; at least 1.
    pub shards: u16,
    /// Bounds of the decoders.
    pub limits: DecoderLimits,
    /// Optional columns that consumers read.
    pub columns: ColumnSet,
    /// Prefixes of exporters that are heard; empty = any.
    pub allow: Vec<IpNet>,
    /// Rules, longest prefix first.
    pub rules: Vec<ExporterRule>,
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
    pub active_timeout: std::time::Duration,
    /// Which records count.
    pub count: Count,
    /// Sorted; empty = all.
    pub boundary_interfaces: Vec<u32>,
    /// Names of interfaces.
    pub interfaces: Interfaces,
}

impl CollectorConfig {
    /// Checks the tables; all mistakes at once.
    pub fn check(
        &self,
        exporters: &[ExporterConfig],
        columns: ColumnSet,
    ) -> Result<CollectorSettings, Vec<ConfigFault>> {
        let mut faults = Vec::new();
        let netflow = weir_netflow::Limits {
            max_exporters: self.max_exporters as usize,
            max_templates_per_exporter: self.max_templates_per_exporter as usize,
            held_back_octets: usize::try_from(self.held_back.0).unwrap_or(usize::MAX),
            held_back_for: self.held_back_for.0,
            ..weir_netflow::Limits::default()
        };
        let sflow = weir_sflow::Limits {
            max_exporters: self.max_exporters as usize,
            ..weir_sflow::Limits::default()
        };
        let netflow = netflow
            .check()
            .map_err(|error| faults.push(ConfigFault::new("collector", error.to_string())));
        // Where both find the same fault, it is told once.
        let sflow = sflow.check().map_err(|error| {
            let fault = ConfigFault::new("collector", error.to_string());
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        });
        let mut rules = Vec::new();
        for (index, exporter) in exporters.iter().enumerate() {
            match exporter.check() {
                Ok(rule) => rules.push(rule),
                Err(message) => faults.push(ConfigFault::new(
                    format!("exporter[{index}].address"),
                    message,
                )),
            }
            let names = exporter
                .interfaces
                .check(&format!("exporter[{index}].interfaces"));
            faults.extend(
                names
                    .into_iter()
                    .map(|fault| ConfigFault::new(fault.path, fault.message)),
            );
        }
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.prefix_len()));
        match (netflow, sflow) {
            (Ok(netflow), Ok(sflow)) if faults.is_empty() => Ok(CollectorSettings {
                listen: [self.netflow.as_slice(), &self.sflow].concat(),
                receive_buffer: self.receive_buffer.0,
                shards: self.shards(),
                limits: DecoderLimits { netflow, sflow },
                columns,
                allow: self.allow.clone(),
                rules,
            }),
            _ => Err(faults),
        }
    }

    /// 0 leaves one CPU to everything else.
    fn shards(&self) -> u16 {
        if self.shards > 0 {
            return self.shards;
        }
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        u16::try_from(cpus.saturating_sub(1))
            .unwrap_or(u16::MAX)
            .max(1)
    }
}

impl ExporterConfig {
    fn check(&self) -> Result<ExporterRule, String> {
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
        })
    }
}

impl CollectorSettings {
    /// The rule for an exporter: the longest match.
    pub fn rule(&self, exporter: Address) -> Option<&ExporterRule> {
        self.rules.iter().find(|rule| exporter.is_in(&rule.prefix))
    }

    /// What is configured of exporters' names.
    pub fn names(&self) -> Vec<ExporterNames> {
        let names = self.rules.iter().map(|rule| ExporterNames {
            prefix: rule.prefix,
            name: rule.name.clone(),
            interfaces: rule.interfaces.clone(),
        });
        names.collect()
    }

    /// Whether datagrams of an exporter are heard.
    pub fn allows(&self, exporter: Address) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|prefix| exporter.is_in(prefix))
    }
}
