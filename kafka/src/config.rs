use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_flow_record::{ByteSize, Period};

/// The table `[kafka]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaConfig {
    /// Some brokers, `host:port`; they tell of the others. `[]` = no Kafka.
    pub brokers: Vec<String>,
    /// What brokers call this client in their logs and quotas.
    pub client_id: String,
    /// Who logs in; empty = nobody. Only over TLS.
    pub sasl_username: String,
    /// A file that holds the password.
    pub sasl_password_file: PathBuf,
    /// How to log in.
    pub sasl_mechanism: Mechanism,
    /// How flow records are written.
    pub flow_format: FlowFormat,
    /// Whether topics that are missing are made.
    pub create_topics: bool,
    /// Partitions of the topic of flows, where it is made.
    pub partitions: u16,
    /// Copies of each partition of topics that are made; 0 = the brokers' default.
    pub replication: u16,
    /// Octets that wait for a broker, at most.
    pub queue: ByteSize,
    /// Messages that wait for a broker, at most.
    pub queue_messages: u32,
    /// How long a message may wait for a broker.
    pub delivery_timeout: Period,
    /// Topics by what they are for.
    pub topics: TopicsConfig,
    /// TLS; `None` = in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// The table `[kafka.topics]`: names; empty = not published.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicsConfig {
    /// Flow records.
    pub flows: String,
    /// Attack events.
    pub events: String,
    /// What upstreams report of mitigations.
    pub mitigations: String,
    /// What operators say that attacks really were.
    pub labels: String,
}

/// The table `[kafka.tls]`.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsConfig {
    /// PEM file of the authority that signs the brokers' certificates; empty = the system's authorities.
    pub ca: PathBuf,
    /// PEM file of our certificate; empty = none.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

/// How a client logs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Mechanism {
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    #[serde(rename = "PLAIN")]
    Plain,
}

impl Mechanism {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::Plain => "PLAIN",
        }
    }
}

/// How flow records are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowFormat {
    /// One record a message, as goflow2's JSON and `weir decode` have it.
    Json,
    /// One record a message, as goflow2's protobuf: `flowpb.FlowMessage` behind its length.
    Protobuf,
    /// Some 500 records a message, in columns: Weir's own form.
    Blocks,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            client_id: "weir".to_owned(),
            sasl_username: String::new(),
            sasl_password_file: PathBuf::new(),
            sasl_mechanism: Mechanism::ScramSha512,
            flow_format: FlowFormat::Protobuf,
            create_topics: true,
            partitions: 16,
            replication: 0,
            // 10 s of a million records a second in blocks.
            queue: ByteSize(512 << 20),
            // 10 s of 200,000 records a second, one a message.
            queue_messages: 2_000_000,
            delivery_timeout: Period(Duration::from_secs(60)),
            topics: TopicsConfig::default(),
            tls: None,
        }
    }
}

/// A mistake in the configuration: where, as a path such as `kafka.brokers[0]`, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The key.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// A checked `[kafka]` that names brokers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KafkaSettings {
    config: KafkaConfig,
}

/// Longest name of a topic that Kafka takes.
const LONGEST_TOPIC: usize = 249;

impl KafkaConfig {
    /// Paths are relative to `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        let tls = self.tls.as_mut();
        let files = tls.map(|tls| [&mut tls.ca, &mut tls.certificate, &mut tls.key]);
        let password = [&mut self.sasl_password_file];
        for path in files.into_iter().flatten().chain(password) {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&path);
            }
        }
    }

    /// Checks the values; `None` where no broker is named, which needs no Kafka.
    pub fn check(&self) -> Result<Option<KafkaSettings>, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut fault = |path: &str, message: String| {
            faults.push(Fault {
                path: format!("kafka.{path}"),
                message,
            });
        };
        for (index, broker) in self.brokers.iter().enumerate() {
            if !is_broker(broker) {
                let message = format!("`{broker}` is no broker: write host:port");
                fault(&format!("brokers[{index}]"), message);
            }
        }
        for (key, name) in self.topics.named() {
            if !is_topic(name) {
                let message = format!(
                    "`{name}` is no topic: at most {LONGEST_TOPIC} letters, digits, `.`, `_` and `-`"
                );
                fault(&format!("topics.{key}"), message);
            } else if self.brokers.is_empty() {
                let message = "a topic is named, but no broker in `brokers`".to_owned();
                fault(&format!("topics.{key}"), message);
            }
        }
        let mut names: Vec<&str> = self.topics.named().map(|(_, name)| name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            fault("topics", "two kinds of message share a topic".to_owned());
        }
        if self.client_id.is_empty() || self.client_id.contains(char::is_control) {
            fault("client_id", "must be a name".to_owned());
        }
        for (path, message) in self.security_faults() {
            fault(path, message);
        }
        for (path, is_good, bounds) in [
            (
                "partitions",
                (1..=10_000).contains(&self.partitions),
                "1 and 10000",
            ),
            ("replication", self.replication <= 100, "0 and 100"),
            (
                "queue",
                (1 << 20..=1 << 40).contains(&self.queue.0),
                "1MiB and 1024GiB",
            ),
            (
                "queue_messages",
                (1_000..=1_000_000_000).contains(&self.queue_messages),
                "1000 and 1000000000",
            ),
            (
                "delivery_timeout",
                (Duration::from_secs(1)..=Duration::from_secs(3_600))
                    .contains(&self.delivery_timeout.0),
                "1s and 1h",
            ),
        ] {
            if !is_good {
                fault(path, format!("must be between {bounds}"));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok((!self.brokers.is_empty()).then(|| KafkaSettings {
            config: self.clone(),
        }))
    }

    fn security_faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let is_empty = |path: &Path| path.as_os_str().is_empty();
        if let Some(tls) = &self.tls
            && is_empty(&tls.certificate) != is_empty(&tls.key)
        {
            faults.push(("tls", "a certificate and its key go together".to_owned()));
        }
        if self.sasl_username.is_empty() != is_empty(&self.sasl_password_file) {
            let message = "sasl_username and sasl_password_file go together".to_owned();
            faults.push(("sasl_username", message));
        }
        if !self.sasl_username.is_empty() && self.tls.is_none() {
            let message = "a password goes over TLS only: add [kafka.tls]".to_owned();
            faults.push(("sasl_username", message));
        }
        faults
    }
}

impl TopicsConfig {
    /// Those that have names, with their keys.
    fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("flows", self.flows.as_str()),
            ("events", self.events.as_str()),
            ("mitigations", self.mitigations.as_str()),
            ("labels", self.labels.as_str()),
        ]
        .into_iter()
        .filter(|(_, name)| !name.is_empty())
    }
}

impl KafkaSettings {
    /// The configuration that was checked.
    pub fn config(&self) -> &KafkaConfig {
        &self.config
    }

    /// Whether flow records are published.
    pub fn has_flows(&self) -> bool {
        !self.config.topics.flows.is_empty()
    }
}

fn is_broker(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != ',';
        !host.is_empty() && host.chars().all(is_plain) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

fn is_topic(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= LONGEST_TOPIC && name != "." && name != ".." && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaConfig {
        KafkaConfig {
            brokers: vec!["[2001:db8::1]:9092".to_owned(), "kafka-1:9092".to_owned()],
            ..KafkaConfig::default()
        }
    }

    fn paths(config: &KafkaConfig) -> Vec<String> {
        let faults = config.check().unwrap_err();
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn no_broker_is_no_kafka() {
        assert_eq!(KafkaConfig::default().check(), Ok(None));
        assert!(config().check().unwrap().is_some());
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let mut bad = config();
        bad.brokers.push("kafka-1".to_owned());
        bad.brokers.push("a,b:9092".to_owned());
        bad.topics.flows = "flow records".to_owned();
        bad.topics.events = "same".to_owned();
        bad.topics.labels = "same".to_owned();
        bad.sasl_username = "weir".to_owned();
        bad.partitions = 0;
        bad.delivery_timeout = Period(Duration::ZERO);
        assert_eq!(
            paths(&bad),
            [
                "kafka.brokers[2]",
                "kafka.brokers[3]",
                "kafka.topics.flows",
                "kafka.topics",
                "kafka.sasl_username",
                "kafka.sasl_username",
                "kafka.partitions",
                "kafka.delivery_timeout"
            ]
        );
    }

    #[test]
    fn topics_need_brokers_and_certificates_need_keys() {
        let mut bad = KafkaConfig::default();
        bad.topics.flows = "flows".to_owned();
        bad.tls = Some(TlsConfig {
            certificate: "client.pem".into(),
            ..TlsConfig::default()
        });
        assert_eq!(paths(&bad), ["kafka.topics.flows", "kafka.tls"]);
    }
}
