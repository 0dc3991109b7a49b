use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_enrichment::{ExporterNames, Interfaces};
use weir_flow_record::{Address, ByteSize, ColumnSet, Period, Quantity};

use crate::allow::AllowList;
use crate::decoders::DecoderLimits;
use crate::silence::SilenceSettings;
use crate::stream::{IpfixTlsConfig, StreamSettings};
use crate::trust::{RateCaps, TrustSettings};

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
    /// Flow records that an exporter may send in a second; 0 = as many as it likes.
    pub max_records_per_second: Quantity,
    /// Datagrams that an exporter may send in a second; 0 = as many as it likes.
    pub max_datagrams_per_second: Quantity,
    /// Time after which an exporter that sends nothing is silent; 0s = never.
    pub silent_after: Period,
    /// Addresses for IPFIX over TCP.
    pub ipfix_tcp: Vec<SocketAddr>,
    /// Bound of connections over TCP and TLS; 64 KiB each.
    pub max_streams: u32,
    /// Bound of those from one address.
    pub max_streams_per_address: u32,
    /// Time without any octet after which such a session ends; 0s = never.
    pub stream_idle: Period,
    /// IPFIX over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipfix_tls: Option<IpfixTlsConfig>,
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
            held_back_for: Period(Duration::from_secs(300)),
            allow: Vec::new(),
            max_records_per_second: Quantity(0),
            max_datagrams_per_second: Quantity(0),
            silent_after: Period(Duration::from_secs(300)),
            ipfix_tcp: Vec::new(),
            max_streams: 256,
            max_streams_per_address: 16,
            stream_idle: Period(Duration::from_secs(600)),
            ipfix_tls: None,
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
    /// Exporters whose caps and silence are kept, per shard.
    pub max_exporters: usize,
    /// What exporters may send that no rule names.
    pub caps: RateCaps,
    /// When those are silent; zero = never.
    pub silent_after: Duration,
    /// IPFIX over TCP and TLS.
    pub streams: StreamSettings,
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

impl CollectorConfig {
    /// Makes paths of files relative to `folder`, that of the configuration file.
    pub fn resolve(&mut self, folder: &Path) {
        if let Some(tls) = &mut self.ipfix_tls {
            tls.resolve(folder);
        }
    }

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
            let path = |key: &str| format!("exporter[{index}].{key}");
            check_silence(
                path("silent_after"),
                exporter.silent_after.unwrap_or_default().0,
                &mut faults,
            );
            match exporter.check(self) {
                Ok(rule) => rules.push(rule),
                Err(message) => faults.push(ConfigFault::new(path("address"), message)),
            }
            let names = exporter.interfaces.check(&path("interfaces"));
            faults.extend(
                names
                    .into_iter()
                    .map(|fault| ConfigFault::new(fault.path, fault.message)),
            );
        }
        let silent_after = self.silent_after.0;
        check_silence("collector.silent_after", silent_after, &mut faults);
        let streams = StreamSettings::check(self, &mut faults);
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
                max_exporters: self.max_exporters as usize,
                caps: self.caps(),
                silent_after,
                streams,
            }),
            _ => Err(faults),
        }
    }

    fn caps(&self) -> RateCaps {
        RateCaps {
            records_per_second: self.max_records_per_second.0,
            datagrams_per_second: self.max_datagrams_per_second.0,
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
    fn check(&self, defaults: &CollectorConfig) -> Result<ExporterRule, String> {
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

/// Whoever is asked once a second cannot be told of less.
fn check_silence(path: impl Into<String>, after: Duration, faults: &mut Vec<ConfigFault>) {
    if !after.is_zero() && after < Duration::from_secs(1) {
        faults.push(ConfigFault::new(path, "must be 0s (never) or at least 1s"));
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

    /// What [`Trust`](crate::Trust) is built of.
    pub fn trust(&self) -> TrustSettings {
        let rules = self.rules.iter().map(|rule| (rule.prefix, rule.caps));
        TrustSettings {
            allow: AllowList::new(&self.allow),
            default: self.caps,
            rules: rules.collect(),
            max_exporters: self.max_exporters,
        }
    }

    /// What [`Silence`](crate::Silence) is built of.
    pub fn silence(&self) -> SilenceSettings {
        let rules = self
            .rules
            .iter()
            .map(|rule| (rule.prefix, rule.silent_after));
        SilenceSettings {
            default: self.silent_after,
            rules: rules.collect(),
            max_exporters: self.max_exporters,
        }
    }

    /// Whether datagrams of an exporter are heard.
    pub fn allows(&self, exporter: Address) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|prefix| exporter.is_in(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(collector: &str, exporters: &[&str]) -> Result<CollectorSettings, Vec<String>> {
        let collector: CollectorConfig = toml::from_str(collector).expect("TOML");
        let exporters: Vec<ExporterConfig> = exporters
            .iter()
            .map(|text| toml::from_str(text).expect("TOML"))
            .collect();
        collector
            .check(&exporters, ColumnSet::NONE)
            .map_err(|faults| faults.into_iter().map(|fault| fault.path).collect())
    }

    #[test]
    fn exporters_inherit_caps_and_silence_and_override_them() {
        let settings = check(
            "max_records_per_second = \"100k\"\nmax_datagrams_per_second = 5000",
            &[
                "address = \"192.0.2.1\"\nmax_records_per_second = 0\nsilent_after = \"30s\"",
                "address = \"192.0.2.0/24\"\nmax_datagrams_per_second = \"1k\"",
            ],
        )
        .unwrap();
        let of = |rule: &ExporterRule| {
            let RateCaps {
                records_per_second,
                datagrams_per_second,
            } = rule.caps;
            (records_per_second, datagrams_per_second, rule.silent_after)
        };
        assert_eq!(of(&settings.rules[0]), (0, 5_000, Duration::from_secs(30)));
        assert_eq!(
            of(&settings.rules[1]),
            (100_000, 1_000, Duration::from_secs(300))
        );
        assert_eq!(settings.trust().default.records_per_second, 100_000);
        assert_eq!(settings.silence().default, Duration::from_secs(300));
    }

    #[test]
    fn every_mistake_is_told_with_its_path() {
        let faults = check(
            "max_streams = 0\nmax_streams_per_address = 0\nstream_idle = \"1s\"\nsilent_after = \"1ms\"\n\
             ipfix_tcp = [\"[::]:4739\", \"[::]:4739\"]\n[ipfix_tls]\nlisten = [\"[::]:4739\"]\nca = \"ca.pem\"",
            &["address = \"192.0.2.1\"\nsilent_after = \"1ms\"", "address = \"here\""],
        )
        .unwrap_err();
        assert_eq!(
            faults,
            [
                "exporter[0].silent_after",
                "exporter[1].address",
                "collector.silent_after",
                "collector.max_streams",
                "collector.max_streams_per_address",
                "collector.stream_idle",
                "collector.ipfix_tcp",
                "collector.ipfix_tls",
                "collector.ipfix_tls",
                "collector.ipfix_tls.listen",
            ]
        );
    }

    #[test]
    fn the_table_for_tls_is_read_and_its_files_are_found_beside_the_configuration() {
        let text = "[ipfix_tls]\nlisten = [\"[::]:4740\"]\nca = \"ca.pem\"\n\
                    certificate = \"/etc/weir/server.pem\"\nkey = \"server.key\"";
        let mut config: CollectorConfig = toml::from_str(text).unwrap();
        config.resolve(Path::new("/etc/weir"));
        let settings = config.check(&[], ColumnSet::NONE).unwrap();
        let tls = settings.streams.tls.unwrap();
        assert_eq!(tls.ca, Path::new("/etc/weir/ca.pem"));
        assert_eq!(tls.certificate, Path::new("/etc/weir/server.pem"));
        // What is printed is read again.
        let dumped = toml::to_string(&config).unwrap();
        let again: CollectorConfig = toml::from_str(&dumped).unwrap();
        assert_eq!(again.ipfix_tls, config.ipfix_tls);
    }
}
