use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;

use crate::config::KafkaSettings;

/// Why Kafka cannot be used at all; that no broker answers is none of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A file that the configuration names.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A password file without a password.
    #[error("{0} holds no password")]
    NoPassword(PathBuf),
    /// A path that is no text.
    #[error("{0} cannot be named to librdkafka: it is no UTF-8")]
    Path(PathBuf),
    /// A thread that cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// What librdkafka says: of certificates and keys, for the most part.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
}

/// What producers and consumers have in common: where the brokers are, who we are, TLS and SASL. The password is read now.
pub fn client_config(settings: &KafkaSettings) -> Result<ClientConfig, StartError> {
    let config = settings.config();
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", config.brokers.join(","))
        .set("client.id", config.client_id.as_str())
        // A broker that comes back is met again soon.
        .set("reconnect.backoff.max.ms", "2000")
        .set("socket.keepalive.enable", "true");
    let has_sasl = !config.sasl_username.is_empty();
    let protocol = match (&config.tls, has_sasl) {
        (None, _) => "plaintext",
        (Some(_), false) => "ssl",
        (Some(_), true) => "sasl_ssl",
    };
    client.set("security.protocol", protocol);
    if let Some(tls) = &config.tls {
        let files = [
            ("ssl.ca.location", &tls.ca),
            ("ssl.certificate.location", &tls.certificate),
            ("ssl.key.location", &tls.key),
        ];
        for (key, path) in files.into_iter().filter(|(_, p)| !p.as_os_str().is_empty()) {
            client.set(key, readable(path)?);
        }
    }
    if has_sasl {
        client
            .set("sasl.mechanism", config.sasl_mechanism.name())
            .set("sasl.username", config.sasl_username.as_str())
            .set("sasl.password", password(&config.sasl_password_file)?);
    }
    Ok(client)
}

/// An idempotent producer: what is acknowledged is there once, on as many brokers as the topic demands. Its queue is bounded as
/// the configuration says.
pub fn producer_config(settings: &KafkaSettings) -> Result<ClientConfig, StartError> {
    let config = settings.config();
    let mut client = client_config(settings)?;
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.codec", "zstd")
        // As Java's: what others write with the same key lies in the same partition.
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "20")
        .set(
            "queue.buffering.max.messages",
            config.queue_messages.to_string(),
        )
        .set(
            "queue.buffering.max.kbytes",
            (config.queue.0 >> 10).to_string(),
        )
        .set(
            "message.timeout.ms",
            config.delivery_timeout.0.as_millis().to_string(),
        );
    Ok(client)
}

/// A member of a consumer group that commits nothing by itself. A killed one is missed after 6 s; with a `group.instance.id`,
/// which the caller sets, one that comes back before that goes on at once.
pub fn consumer_config(settings: &KafkaSettings, group: &str) -> Result<ClientConfig, StartError> {
    let mut client = client_config(settings)?;
    client
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "1500")
        // The default, 1000, stalls a consumer that is faster than its network.
        .set("fetch.queue.backoff.ms", "20");
    Ok(client)
}

impl KafkaSettings {
    /// Reads certificates, keys and the password, as a start would.
    pub fn check_files(&self) -> Result<(), StartError> {
        client_config(self)?.create::<BaseProducer>()?;
        Ok(())
    }
}

/// The path as text, of a file that can be opened: librdkafka's own words for one that cannot are OpenSSL's.
fn readable(path: &Path) -> Result<&str, StartError> {
    std::fs::File::open(path).map_err(|source| StartError::Read {
        path: path.to_owned(),
        source,
    })?;
    path.to_str()
        .ok_or_else(|| StartError::Path(path.to_owned()))
}

fn password(path: &Path) -> Result<String, StartError> {
    let text = std::fs::read_to_string(path).map_err(|source| StartError::Read {
        path: path.to_owned(),
        source,
    })?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(StartError::NoPassword(path.to_owned()));
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KafkaConfig, TlsConfig};

    fn settings(config: KafkaConfig) -> KafkaSettings {
        let config = KafkaConfig {
            brokers: vec!["127.0.0.1:9".to_owned()],
            ..config
        };
        config.check().unwrap().unwrap()
    }

    #[test]
    fn librdkafka_takes_all_settings() {
        let settings = settings(KafkaConfig::default());
        for config in [
            producer_config(&settings).unwrap(),
            consumer_config(&settings, "detectors").unwrap(),
        ] {
            config.create_native_config().unwrap();
        }
        settings.check_files().unwrap();
    }

    #[test]
    fn files_are_named_in_what_is_wrong_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let config = KafkaConfig {
            tls: Some(TlsConfig {
                ca: path.clone(),
                ..TlsConfig::default()
            }),
            ..KafkaConfig::default()
        };
        let settings = settings(config);
        let missing = settings.check_files().unwrap_err().to_string();
        assert!(missing.starts_with(&format!("cannot read {}", path.display())));
        std::fs::write(&path, "no certificate").unwrap();
        let broken = settings.check_files().unwrap_err().to_string();
        assert!(broken.contains("ssl.ca.location"), "{broken}");
    }

    #[test]
    fn a_password_file_holds_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(password(&path), Err(StartError::NoPassword(_))));
        std::fs::write(&path, "open sesame\n").unwrap();
        assert_eq!(password(&path).unwrap(), "open sesame");
    }
}
