//! The configuration: one TOML file, a table per stage, each defined in its stage's crate.

pub(crate) mod cluster;
mod document;
mod sampler;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_anonymise::{AnonymiseConfig, AnonymiseSettings, Anonymiser};
use weir_baseline::{BaselineConfig, BaselineSettings, BaselineZone};
use weir_collector::{
    CollectorConfig, CollectorSettings, ExporterConfig, MirrorConfig, MirrorSettings, ShardSettings,
};
use weir_data_channel::{DataChannelConfig, DataChannelSettings};
use weir_detector::{
    DetectorConfig, DetectorSettings, LinkConfig, MaintenanceConfig, ModelsConfig, ThresholdConfig,
    ZoneConfig,
};
use weir_dots_export::{ExportSettings, PolicyConfig, UpstreamConfig};
use weir_dots_server::{DotsServerConfig, DotsServerSettings};
use weir_ebpf::SamplerSettings;
use weir_enrichment::{EnrichmentConfig, Snapshot};
use weir_flow_aggregate::{AggregateSettings, AggregationConfig};
use weir_flow_record::ColumnSet;
use weir_flow_store::{EvidenceConfig, EvidenceSettings, StoreConfig, StoreSettings};
use weir_kafka::{KafkaConfig, KafkaSettings};
use weir_standby::{StandbyConfig, StandbySettings};

use crate::{data_channel, filters};
use cluster::{ClusterConfig, ClusterSettings, Role};
use document::{Document, Mistake, Overrides, overrides};
use sampler::PacketSamplerConfig;

/// The file as read, with defaults in place; nothing is checked against anything else.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Config {
    state_dir: PathBuf,
    log: LogConfig,
    http: HttpConfig,
    collector: CollectorConfig,
    aggregation: AggregationConfig,
    store: StoreConfig,
    evidence: EvidenceConfig,
    anonymise: AnonymiseConfig,
    enrichment: EnrichmentConfig,
    detector: DetectorConfig,
    models: ModelsConfig,
    baseline: BaselineConfig,
    events: EventsConfig,
    kafka: KafkaConfig,
    cluster: ClusterConfig,
    #[serde(rename = "exporter", skip_serializing_if = "Vec::is_empty")]
    exporters: Vec<ExporterConfig>,
    #[serde(rename = "mirror", skip_serializing_if = "Vec::is_empty")]
    mirrors: Vec<MirrorConfig>,
    #[serde(rename = "packet_sampler", skip_serializing_if = "Vec::is_empty")]
    samplers: Vec<PacketSamplerConfig>,
    #[serde(rename = "threshold")]
    thresholds: Vec<ThresholdConfig>,
    #[serde(rename = "zone", skip_serializing_if = "Vec::is_empty")]
    zones: Vec<ZoneConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    maintenance: Vec<MaintenanceConfig>,
    #[serde(rename = "link", skip_serializing_if = "Vec::is_empty")]
    links: Vec<LinkConfig>,
    #[serde(rename = "upstream", skip_serializing_if = "Vec::is_empty")]
    upstreams: Vec<UpstreamConfig>,
    #[serde(rename = "policy", skip_serializing_if = "Vec::is_empty")]
    policies: Vec<PolicyConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dots_server: Option<DotsServerTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    standby: Option<StandbyConfig>,
}

/// The table `[dots_server]`, and `[dots_server.data_channel]` in it.
#[derive(Clone, Debug, Serialize)]
struct DotsServerTable {
    #[serde(flatten)]
    signal: DotsServerConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_channel: Option<DataChannelConfig>,
}

/// The table `[log]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`; or a filter such as `info,weir_dtls=debug`.
    pub(crate) level: String,
    /// `auto`, `text` or `json`; `auto` is JSON where standard error is no terminal.
    pub(crate) format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Auto,
    Text,
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Auto,
        }
    }
}

/// The table `[http]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HttpConfig {
    listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        }
    }
}

/// The table `[events]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EventsConfig {
    file: PathBuf,
    webhook: String,
}

/// A checked configuration: what the stages are built of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) state_dir: PathBuf,
    pub(crate) log: LogConfig,
    pub(crate) http: SocketAddr,
    pub(crate) collector: CollectorSettings,
    pub(crate) mirrors: Vec<MirrorSettings>,
    pub(crate) samplers: Vec<SamplerSettings>,
    pub(crate) aggregation: AggregationConfig,
    pub(crate) store: StoreSettings,
    /// `None` = flows of attacks are not kept.
    pub(crate) evidence: Option<EvidenceSettings>,
    /// What becomes of addresses in records that are stored or published; `None` = nothing.
    pub(crate) anonymise: Option<AnonymiseSettings>,
    /// Files, not read yet.
    pub(crate) enrichment: EnrichmentConfig,
    pub(crate) detector: DetectorSettings,
    pub(crate) baseline: BaselineSettings,
    pub(crate) export: ExportSettings,
    pub(crate) dots_server: Option<DotsServerSettings>,
    /// The data channel of the DOTS server.
    pub(crate) data_channel: Option<DataChannelSettings>,
    /// `None` = this daemon is not one of a pair.
    pub(crate) standby: Option<StandbySettings>,
    /// Attack events are appended here; `None` = nowhere.
    pub(crate) events: Option<PathBuf>,
    /// `None` = no Kafka.
    pub(crate) kafka: Option<KafkaSettings>,
    /// What this process does.
    pub(crate) role: Role,
    /// With whom; `None` with the role `all`.
    pub(crate) cluster: Option<ClusterSettings>,
    cluster_table: ClusterConfig,
    /// What is accepted and has no effect yet.
    pub(crate) warnings: Vec<String>,
}

/// A configuration that cannot be used: exit status 78.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{0}")]
    Mistakes(String),
}

impl Settings {
    /// What the shard of a number is built of.
    pub(crate) fn shard(&self, number: u16) -> ShardSettings {
        let shards = self.shards_in_all();
        ShardSettings {
            collector: self.collector.clone(),
            aggregate: AggregateSettings {
                config: self.aggregation.clone(),
                zones: self.detector.zone_prefixes(shards),
                links: self.detector.link_interfaces(),
                shard: number,
                active_timeouts: self
                    .collector
                    .rules
                    .iter()
                    .filter(|rule| !rule.active_timeout.is_zero())
                    .map(|rule| (rule.prefix, rule.active_timeout))
                    .collect(),
            },
        }
    }
}

/// Reads and checks a file, with overrides from the environment.
pub(crate) fn load(path: &Path, columns: ColumnSet) -> Result<Settings, ConfigError> {
    read(path, columns).map(|(_, settings)| settings)
}

/// Reads and checks a file; also gives the effective configuration.
pub(crate) fn read(path: &Path, columns: ColumnSet) -> Result<(Config, Settings), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let overrides = overrides(std::env::vars());
    let folder = path.parent().unwrap_or(Path::new("."));
    parse(&text, &overrides, folder, columns)
        .map_err(|mistakes| ConfigError::Mistakes(listed(path, &mistakes)))
}

/// Reads the files that the configuration names, to say their mistakes.
pub(crate) fn check_files(settings: &Settings) -> Result<(), ConfigError> {
    let mut lines = Vec::new();
    if let Err(faults) = Snapshot::load(&settings.enrichment) {
        lines.extend(faults.iter().map(ToString::to_string));
    }
    if let Err(error) = settings.collector.streams.check_files() {
        lines.push(format!("collector.ipfix_tls: {error}"));
    }
    for upstream in settings.export.upstreams() {
        if let Err(error) = upstream.open_credentials() {
            lines.push(format!("upstream `{}`: {error}", upstream.name));
        }
    }
    if let Some(server) = &settings.dots_server {
        lines.extend(weir_dots_server::probe_mitigators(&server.mitigators));
        if let Err(error) = server.files.open() {
            lines.push(format!("dots_server: {error}"));
        }
    }
    if let Some(Err(error)) = settings.anonymise.as_ref().map(Anonymiser::new) {
        lines.push(format!("anonymise: {error}"));
    }
    if let Some(kafka) = &settings.kafka
        && let Err(error) = kafka.check_files()
    {
        lines.push(format!("kafka: {error}"));
    }
    if let Some(Err(error)) = settings.standby.as_ref().map(StandbySettings::check_files) {
        lines.push(format!("standby: {error}"));
    }
    if lines.is_empty() {
        return Ok(());
    }
    Err(ConfigError::Mistakes(lines.join("\n")))
}

fn listed(path: &Path, mistakes: &[Mistake]) -> String {
    let mut text = String::new();
    for mistake in mistakes {
        let _ = write!(text, "{}", path.display());
        if let Some(line) = mistake.line {
            let _ = write!(text, ":{line}");
        }
        let separator = if mistake.path.is_empty() { "" } else { ": " };
        let _ = writeln!(text, ": {}{separator}{}", mistake.path, mistake.message);
    }
    text.truncate(text.trim_end().len());
    text
}

fn parse(
    text: &str,
    overrides: &Overrides,
    folder: &Path,
    columns: ColumnSet,
) -> Result<(Config, Settings), Vec<Mistake>> {
    let mut document = Document::parse(text, overrides);
    let data_channel = document.take_nested("dots_server", "data_channel");
    let signal: Option<DotsServerConfig> = document.take_optional("dots_server");
    let dots_server = signal.map(|signal| DotsServerTable {
        signal,
        data_channel,
    });
    let mut config = Config {
        state_dir: document
            .take_optional("state_dir")
            .unwrap_or_else(|| "/var/lib/weir".into()),
        log: document.take("log"),
        http: document.take("http"),
        collector: document.take("collector"),
        aggregation: document.take("aggregation"),
        store: document.take("store"),
        evidence: document.take("evidence"),
        anonymise: document.take("anonymise"),
        enrichment: document.take("enrichment"),
        detector: document.take("detector"),
        models: document.take("models"),
        baseline: document.take("baseline"),
        events: document.take("events"),
        kafka: document.take("kafka"),
        cluster: document.take("cluster"),
        exporters: document.take_array("exporter").unwrap_or_default(),
        mirrors: document.take_array("mirror").unwrap_or_default(),
        samplers: document.take_array("packet_sampler").unwrap_or_default(),
        thresholds: document
            .take_array("threshold")
            .unwrap_or_else(ThresholdConfig::all_built_in),
        zones: document.take_array("zone").unwrap_or_default(),
        maintenance: document.take_array("maintenance").unwrap_or_default(),
        links: document.take_array("link").unwrap_or_default(),
        upstreams: document.take_array("upstream").unwrap_or_default(),
        policies: document.take_array("policy").unwrap_or_default(),
        dots_server,
        standby: document.take_optional("standby"),
    };
    config.make_paths_absolute(folder);
    let mut settings = config.check(&mut document, columns);
    if let Some(settings) = &mut settings {
        settings.warnings = config.warnings(&document);
    }
    match (document.finish(), settings) {
        (mistakes, Some(settings)) if mistakes.is_empty() => Ok((config, settings)),
        (mistakes, _) => Err(mistakes),
    }
}

impl Config {
    /// The effective configuration as TOML.
    pub(crate) fn dump(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// The detector's settings where each zone has the thresholds that `of` gives it.
    pub(crate) fn detector_with(
        &self,
        of: impl Fn(&ZoneConfig) -> Vec<ThresholdConfig>,
    ) -> Result<DetectorSettings, String> {
        let mut zones = self.zones.clone();
        for zone in &mut zones {
            zone.thresholds = of(zone);
        }
        let checked = weir_detector::check(&self.detector, &self.thresholds, &zones)
            .and_then(|settings| settings.with_maintenance(&self.maintenance));
        checked.map_err(|faults| {
            let faults = faults.into_iter();
            let lines: Vec<String> = faults
                .map(|f| format!("{}: {}", f.path, f.message))
                .collect();
            lines.join("; ")
        })
    }

    /// Paths are relative to the file.
    fn make_paths_absolute(&mut self, folder: &Path) {
        let absolute = |path: &mut PathBuf| {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&path);
            }
        };
        absolute(&mut self.state_dir);
        absolute(&mut self.events.file);
        self.collector.resolve(folder);
        absolute(&mut self.enrichment.asn_database);
        absolute(&mut self.enrichment.country_database);
        absolute(&mut self.enrichment.networks);
        absolute(&mut self.store.parquet_dir);
        absolute(&mut self.evidence.dir);
        self.anonymise.resolve(folder);
        self.kafka.resolve(folder);
        self.upstreams
            .iter_mut()
            .for_each(|upstream| upstream.resolve(folder));
        if let Some(server) = &mut self.dots_server {
            server.signal.resolve(folder);
        }
        if let Some(standby) = &mut self.standby {
            standby.resolve(folder);
        }
    }

    /// Checks all tables; every mistake goes into the document.
    fn check(&self, document: &mut Document<'_>, columns: ColumnSet) -> Option<Settings> {
        let keeps_all = !self.store.parquet_dir.as_os_str().is_empty();
        let columns = if !keeps_all && self.kafka.topics.flows.is_empty() {
            // What a drill-down tells of beyond addresses and ports.
            columns.with(ColumnSet::TTL).with(ColumnSet::AS)
        } else {
            ColumnSet::ALL
        };
        let collector = self.collector.check(&self.exporters, columns);
        let collector = noted(
            document,
            collector.map_err(|faults| pairs(faults, |f| (f.path, f.message))),
        );
        let listen = collector.as_ref().map(|collector| collector.listen.clone());
        let mirrors = MirrorConfig::check(&self.mirrors, &listen.unwrap_or_default());
        let mirrors = noted(
            document,
            mirrors.map_err(|faults| pairs(faults, |f| (f.path, f.message))),
        );
        let samplers = noted(document, PacketSamplerConfig::check(&self.samplers));
        let aggregation = self.aggregation.check();
        let aggregation = noted(
            document,
            aggregation
                .map_err(|faults| pairs(faults, |message| ("aggregation".to_owned(), message))),
        );
        let store = self.store.check();
        let store = noted(
            document,
            store.map_err(|error| vec![("store".to_owned(), error.to_string())]),
        );
        let evidence = self.evidence.check(&self.state_dir);
        let evidence = noted(
            document,
            evidence.map_err(|error| vec![("evidence".to_owned(), error.to_string())]),
        );
        let anonymise = self.anonymise.check();
        let anonymise = noted(
            document,
            anonymise.map_err(|faults| pairs(faults, |f| (f.path, f.message))),
        );
        let kafka = noted(
            document,
            self.kafka
                .check()
                .map_err(|faults| pairs(faults, |f| (f.path, f.message))),
        );
        let detector = weir_detector::check(&self.detector, &self.thresholds, &self.zones)
            .and_then(|settings| settings.with_maintenance(&self.maintenance))
            .and_then(|settings| settings.with_links(&self.links))
            .and_then(|settings| settings.with_models(&self.models));
        let detector = noted(
            document,
            detector.map_err(|faults| pairs(faults, |f| (f.path, f.message))),
        );
        let baseline = noted(document, self.baseline_settings());
        let zones = self.zones.iter().map(|zone| weir_dots_export::ZoneConfig {
            name: zone.name.clone(),
            policy: zone.policy.clone(),
            pipe_capacity: zone.pipe_capacity.map(|capacity| capacity.0),
        });
        let zones: Vec<weir_dots_export::ZoneConfig> = zones.collect();
        let export = weir_dots_export::check(&self.upstreams, &self.policies, &zones);
        let export = noted(
            document,
            export.map_err(|faults| pairs(faults, |f| (f.path, f.message))),
        );
        let cluster = noted(document, self.cluster.check());
        let prepared = noted(document, self.check_prepared_filters());
        let standby = self.standby.as_ref().map(StandbyConfig::check).transpose();
        let standby = noted(
            document,
            standby.map_err(|faults| pairs(faults, |f| (f.path, f.message))),
        );
        let (dots_server, data_channel) = match &self.dots_server {
            Some(server) => server.check(document)?,
            None => (None, None),
        };
        Some(Settings {
            state_dir: self.state_dir.clone(),
            log: self.log.clone(),
            http: self.http.listen,
            collector: collector?,
            mirrors: mirrors?,
            samplers: samplers?,
            aggregation: {
                aggregation?;
                self.aggregation.clone()
            },
            store: store?,
            evidence: evidence?,
            anonymise: anonymise?,
            enrichment: self.enrichment.clone(),
            detector: detector?,
            export: {
                prepared?;
                export?
            },
            baseline: baseline?,
            dots_server,
            data_channel,
            standby: standby?,
            events: (!self.events.file.as_os_str().is_empty()).then(|| self.events.file.clone()),
            kafka: kafka?,
            role: Role::All,
            cluster: None,
            cluster_table: {
                cluster?;
                self.cluster.clone()
            },
            warnings: Vec::new(),
        })
    }

    /// Filters can be prepared against what they can tell from other traffic alone.
    fn check_prepared_filters(&self) -> Result<(), Vec<(String, String)>> {
        let mut faults = Vec::new();
        for (index, upstream) in self.upstreams.iter().enumerate() {
            for (place, vector) in upstream.prepared_filters.iter().enumerate() {
                if filters::answer_to(*vector, None).is_none() {
                    faults.push((
                        format!("upstream[{index}].prepared_filters[{place}]"),
                        format!("nothing in a packet tells `{vector}` from other traffic"),
                    ));
                }
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    /// Baselines know zones and links by their names.
    fn baseline_settings(&self) -> Result<BaselineSettings, Vec<(String, String)>> {
        let zones = self.zones.iter().map(|zone| BaselineZone {
            name: zone.name.as_str().into(),
            prefixes: zone.prefixes.iter().map(IpNet::trunc).collect(),
        });
        let zones: Vec<BaselineZone> = zones.collect();
        let named = |(path, message)| (format!("baseline.{path}"), message);
        self.baseline
            .check(&zones)
            .map_err(|faults| pairs(faults, named))?;
        let links = self.links.iter().map(|link| link.name.as_str().into());
        Ok(BaselineSettings::new(
            self.baseline.clone(),
            zones,
            links.collect(),
        ))
    }

    fn warnings(&self, document: &Document<'_>) -> Vec<String> {
        let mut warnings: Vec<(String, String)> = Vec::new();
        if !self.events.webhook.is_empty() {
            warnings.push((
                "events.webhook".to_owned(),
                "webhooks are not sent yet".to_owned(),
            ));
        }
        if self.zones.is_empty() {
            warnings.push((String::new(), "no [[zone]]: nothing is watched".to_owned()));
        }
        warnings
            .into_iter()
            .map(|(path, message)| match document.line_of(&path) {
                Some(line) => format!("line {line}: {path}: {message}"),
                None if path.is_empty() => message,
                None => format!("{path}: {message}"),
            })
            .collect()
    }
}

fn pairs<F>(faults: Vec<F>, pair: impl Fn(F) -> (String, String)) -> Vec<(String, String)> {
    faults.into_iter().map(pair).collect()
}

impl DotsServerTable {
    /// Checks both tables; `None` where there is a mistake.
    fn check(
        &self,
        document: &mut Document<'_>,
    ) -> Option<(Option<DotsServerSettings>, Option<DataChannelSettings>)> {
        let checked = self.signal.check();
        let signal = noted(
            document,
            checked.map_err(|faults| pairs(faults, |f| (f.path, f.message))),
        )?;
        let Some(data) = &self.data_channel else {
            return Some((Some(signal), None));
        };
        let Some(tls) = data_channel::tls_files(&signal.files) else {
            let message = "the data channel needs a certificate".to_owned();
            document.fault("dots_server.data_channel", message);
            return None;
        };
        let checked = data.check(tls, &signal.policy.clients);
        let data = noted(
            document,
            checked.map_err(|faults| pairs(faults, |f| (f.path, f.message))),
        )?;
        Some((Some(signal), Some(data)))
    }
}

fn noted<T>(document: &mut Document<'_>, checked: Result<T, Vec<(String, String)>>) -> Option<T> {
    match checked {
        Ok(value) => Some(value),
        Err(faults) => {
            for (path, message) in faults {
                document.fault(&path, message);
            }
            None
        }
    }
}
