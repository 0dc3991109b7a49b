//! The table `[cluster]`: collectors and detectors that share the work over Kafka.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_flow_aggregate::cluster::{MAX_COLLECTORS, Partitions};
use weir_kafka::KafkaSettings;

use super::Settings;

/// The table `[cluster]`. It counts only with `--role collect` or `--role detect`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClusterConfig {
    /// Name of this member, unlike that of any other; the host's name where it is empty.
    pub(crate) name: String,
    /// Name of the cluster: topics and the consumer group begin with it.
    pub(crate) group: String,
    /// Over how many partitions zones are spread. State lies by partition, so it stays as it was at the first start.
    pub(crate) partitions: u16,
    /// Collectors that share the exporters, about: the more there are, the smaller the part of a limit from which on each of
    /// them tells of a host.
    pub(crate) collectors: u16,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            group: "weir".to_owned(),
            partitions: 16,
            collectors: 2,
        }
    }
}

/// What a process does of the work.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub(crate) enum Role {
    /// Everything, without Kafka in between.
    #[default]
    All,
    /// Receives, decodes, aggregates, and publishes summaries.
    Collect,
    /// Judges the summaries of all collectors, and asks for mitigation: one of several, which share the zones.
    Detect,
}

/// A member of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSettings {
    pub(crate) name: Arc<str>,
    pub(crate) group: Arc<str>,
    pub(crate) partitions: Partitions,
    pub(crate) kafka: KafkaSettings,
}

impl ClusterConfig {
    /// Checks the values; paths of mistakes are whole.
    pub(super) fn check(&self) -> Result<(), Vec<(String, String)>> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, message: String| {
            faults.push((format!("cluster.{key}"), message));
        };
        // Both are parts of names of topics, groups and clients.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        for (key, text) in [("name", &self.name), ("group", &self.group)] {
            if text.len() > 100 || !text.chars().all(is_plain) {
                let message = "must be at most 100 letters, digits, `.`, `_` and `-`";
                fault(key, message.to_owned());
            }
        }
        if self.group.is_empty() {
            fault("group", "must not be empty".to_owned());
        }
        if !(1..=1024).contains(&self.partitions) {
            fault("partitions", "must be between 1 and 1024".to_owned());
        }
        if !(1..=MAX_COLLECTORS).contains(&usize::from(self.collectors)) {
            let message = format!("must be between 1 and {MAX_COLLECTORS}");
            fault("collectors", message);
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    fn member(&self) -> Arc<str> {
        if !self.name.is_empty() {
            return self.name.as_str().into();
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        match host.trim() {
            "" => "weir".into(),
            host => host.into(),
        }
    }
}

impl Settings {
    /// Settings of one role: a collector asks nobody for help, and what an attack looked like is told to who judges it.
    pub(crate) fn for_role(mut self, role: Role) -> Result<Self, String> {
        self.role = role;
        if role == Role::All {
            return Ok(self);
        }
        let Some(kafka) = self.kafka.clone() else {
            let role = if role == Role::Collect {
                "collect"
            } else {
                "detect"
            };
            return Err(format!("--role {role} needs `brokers` in [kafka]"));
        };
        if self.standby.is_some() {
            let message = "[standby] is for one daemon that does everything: detectors take each other's zones over";
            return Err(message.to_owned());
        }
        let zones = self.detector.zones.iter();
        let links = self.detector.links.iter().map(|link| &link.zone);
        let names = zones
            .chain(links)
            .map(|zone| (zone.id, Arc::clone(&zone.name)));
        let table = &self.cluster_table;
        self.cluster = Some(ClusterSettings {
            name: table.member(),
            group: table.group.as_str().into(),
            partitions: Partitions::new(table.partitions.into(), names),
            kafka,
        });
        self.evidence = None;
        if role == Role::Collect {
            self.export = weir_dots_export::ExportSettings::default();
            self.dots_server = None;
            self.data_channel = None;
            self.events = None;
        }
        Ok(self)
    }

    /// Shards of all collectors, about.
    pub(super) fn shards_in_all(&self) -> u16 {
        let collectors = match self.cluster {
            Some(_) => self.cluster_table.collectors,
            None => 1,
        };
        self.collector.shards.saturating_mul(collectors)
    }
}

impl ClusterSettings {
    /// Summaries, by the partition of their zones.
    pub(crate) fn summaries(&self) -> String {
        format!("{}.summaries", self.group)
    }

    /// State of detectors, by the same partitions, compacted.
    pub(crate) fn state(&self) -> String {
        format!("{}.state", self.group)
    }

    /// What detectors want of collectors.
    pub(crate) fn control(&self) -> String {
        format!("{}.control", self.group)
    }

    /// Answers of collectors, by the partition that asked.
    pub(crate) fn findings(&self) -> String {
        format!("{}.findings", self.group)
    }
}
