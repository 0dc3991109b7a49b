use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::ssl::SslContext;
use serde::{Deserialize, Serialize};
use weir_dtls::{Credentials, DtlsError};

use crate::allow::AllowList;
use crate::config::{CollectorConfig, ConfigFault};

/// Shortest idle time: below it, an exporter that speaks once a minute would lose its templates between two messages.
const SHORTEST_IDLE: Duration = Duration::from_secs(60);

/// The table `[collector.ipfix_tls]`: IPFIX over TLS (RFC 7011 §11.1), both sides proven by X.509 certificates (§11.3).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IpfixTlsConfig {
    /// Addresses to listen on; the registered port is 4740.
    pub listen: Vec<SocketAddr>,
    /// PEM file of the CA, or CAs, that certify exporters.
    pub ca: PathBuf,
    /// PEM file of our certificate, followed by its chain.
    pub certificate: PathBuf,
    /// PEM file of our private key.
    pub key: PathBuf,
}

impl IpfixTlsConfig {
    /// Makes paths of files relative to `folder`, that of the configuration file.
    pub fn resolve(&mut self, folder: &Path) {
        for path in [&mut self.ca, &mut self.certificate, &mut self.key] {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&*path);
            }
        }
    }

    /// A server's context that demands a certificate of the CA (RFC 7011 §11.3).
    pub(super) fn context(&self) -> Result<SslContext, DtlsError> {
        let credentials = Credentials::from_pem_files(&self.ca, &self.certificate, &self.key)?;
        Ok(credentials.tls_server()?.build())
    }
}

/// What [`Streams`](crate::Streams) is built of: a checked part of `[collector]`.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// Addresses for IPFIX over TCP.
    pub tcp: Vec<SocketAddr>,
    /// IPFIX over TLS, if wanted.
    pub tls: Option<IpfixTlsConfig>,
    /// Exporters that may connect.
    pub allow: AllowList,
    /// Bound of connections, unfinished TLS handshakes among them. Each holds 64 KiB once it is a session.
    pub max_streams: usize,
    /// Bound of connections from one address.
    pub max_per_address: usize,
    /// Bound of unfinished TLS handshakes; beyond it the oldest gives way, so that slow ones cannot lock others out.
    pub max_half_open: usize,
    /// Time for a TLS handshake.
    pub handshake_time: Duration,
    /// Time for a message, from its first octet to its last.
    pub message_time: Duration,
    /// Time without any octet after which a session ends; zero = never.
    pub idle: Duration,
}

impl StreamSettings {
    /// Reads the files of the TLS configuration, if there is one, to say what is wrong with them.
    ///
    /// # Errors
    ///
    /// One is missing or does not hold what it should.
    pub fn check_files(&self) -> Result<(), DtlsError> {
        self.tls
            .as_ref()
            .map_or(Ok(()), |tls| tls.context().map(drop))
    }
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            tcp: Vec::new(),
            tls: None,
            allow: AllowList::default(),
            max_streams: 256,
            max_per_address: 16,
            max_half_open: 32,
            handshake_time: Duration::from_secs(10),
            message_time: Duration::from_secs(30),
            idle: Duration::from_secs(600),
        }
    }
}

impl StreamSettings {
    /// Whether there is nothing to listen on.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.tls.is_none()
    }

    /// Checks what `[collector]` says of streams.
    pub(crate) fn check(config: &CollectorConfig, faults: &mut Vec<ConfigFault>) -> Self {
        let mut fault = |key: &str, message: &str| {
            faults.push(ConfigFault::new(format!("collector.{key}"), message));
        };
        if config.max_streams == 0 {
            fault("max_streams", "there must be room for one");
        }
        if config.max_streams_per_address == 0 {
            fault("max_streams_per_address", "there must be room for one");
        }
        let idle = config.stream_idle.0;
        if !idle.is_zero() && idle < SHORTEST_IDLE {
            fault("stream_idle", "must be 0s (never) or at least 60s");
        }
        if let Some(twice) = repeated(&config.ipfix_tcp) {
            fault("ipfix_tcp", &format!("{twice} is there twice"));
        }
        if let Some(tls) = &config.ipfix_tls {
            if tls.listen.is_empty() {
                fault("ipfix_tls", "`listen` is missing: there must be an address");
            }
            for (name, path) in [
                ("ca", &tls.ca),
                ("certificate", &tls.certificate),
                ("key", &tls.key),
            ] {
                if path.as_os_str().is_empty() {
                    let message = format!("`{name}` is missing: both sides prove who they are");
                    fault("ipfix_tls", &message);
                }
            }
            if let Some(twice) = repeated(&tls.listen) {
                fault("ipfix_tls.listen", &format!("{twice} is there twice"));
            }
            let both = tls.listen.iter().find(|at| config.ipfix_tcp.contains(at));
            if let Some(both) = both.filter(|at| at.port() != 0) {
                let message = format!("{both} is taken by collector.ipfix_tcp");
                fault("ipfix_tls.listen", &message);
            }
        }
        Self {
            tcp: config.ipfix_tcp.clone(),
            tls: config.ipfix_tls.clone(),
            allow: AllowList::new(&config.allow),
            max_streams: config.max_streams as usize,
            max_per_address: config.max_streams_per_address as usize,
            max_half_open: (config.max_streams as usize / 8).max(1),
            idle,
            ..Self::default()
        }
    }
}

fn repeated(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let mut before = addresses.iter().enumerate();
    let twice = before.find(|(index, address)| {
        address.port() != 0 && addresses.iter().take(*index).any(|other| other == *address)
    });
    twice.map(|(_, address)| *address)
}
