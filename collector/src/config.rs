use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_enrichment::ExporterNames;
use weir_flow_record::{Address, ByteSize, ColumnSet, Period, Quantity};

use crate::allow::AllowList;
use crate::decoders::DecoderLimits;
use crate::exporter::{ExporterConfig, ExporterRule};
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

    pub(crate) fn caps(&self) -> RateCaps {
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
}

/// Whoever is asked once a second cannot be told of less.
fn check_silence(path: impl Into<String>, after: Duration, faults: &mut Vec<ConfigFault>) {
    if !after.is_zero() && after < Duration::from_secs(1) {
        faults.push(ConfigFault::new(path, "must be 0s (never) or at least 1s"));
    }
}

#[cfg(test)]
mod tests;
