use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_dots_proto::body::Redirect;
use weir_dtls::{ClientKeyFile, CredentialFiles};

use crate::mitigator::{MitigatorConfig, MitigatorSettings, check_all};

/// The table `[dots_server]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DotsServerConfig {
    /// Addresses for DTLS over UDP and TLS over TCP.
    pub listen: Vec<SocketAddr>,
    /// CA that clients must be certified by.
    pub ca: PathBuf,
    /// Our certificate and its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// File of lists of revoked certificates, one of each CA; then a client whose certificate is in one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl: Option<PathBuf>,
    /// Sessions at once, per address and transport.
    pub max_sessions: usize,
    /// Handshakes at once, per address and transport.
    pub max_half_open: usize,
    /// Sessions of one client at once; the oldest gives way to a new one.
    pub max_sessions_per_client: usize,
    /// Who may ask, and for what.
    #[serde(rename = "client")]
    pub clients: Vec<ClientConfig>,
    /// What filters; all of them get every mitigation.
    #[serde(rename = "mitigator", skip_serializing_if = "Vec::is_empty")]
    pub mitigators: Vec<MitigatorConfig>,
}

impl Default for DotsServerConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::new(
                std::net::Ipv6Addr::UNSPECIFIED.into(),
                4646,
            )],
            ca: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            crl: None,
            max_sessions: 10_000,
            max_half_open: 1024,
            max_sessions_per_client: 16,
            clients: Vec::new(),
            mitigators: Vec::new(),
        }
    }
}

/// One `[[dots_server.client]]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientConfig {
    /// A name of its certificate: a DNS name, or the common name. With a pre-shared key any name.
    pub name: String,
    /// What it may ask for.
    pub prefixes: Vec<IpNet>,
    /// What it calls its pre-shared key, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psk_identity: Option<String>,
    /// File of that key: 16 to 64 octets in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psk_file: Option<PathBuf>,
}

/// A mistake: where, as a path, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The key, such as `dots_server.client[1].name`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// A checked `[dots_server]`. The files of certificates are not opened by the check.
#[derive(Clone, Debug)]
pub struct DotsServerSettings {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// What we prove ourselves with, and go by for clients.
    pub files: CredentialFiles,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Handshakes at once.
    pub max_half_open: usize,
    /// What the registry goes by.
    pub policy: ServerPolicy,
    /// What filters, for [`start_mitigators`](crate::start_mitigators).
    pub mitigators: Vec<MitigatorSettings>,
}

/// What requests are judged by.
#[derive(Clone, Debug)]
pub struct ServerPolicy {
    /// Who may ask, and for what.
    pub clients: Vec<(Arc<str>, Vec<IpNet>)>,
    /// Longest lifetime that is granted.
    pub max_lifetime: Duration,
    /// How long a withdrawn mitigation stays active (RFC 9132 §4.4.4).
    pub terminating: Duration,
    /// Least time between two notifications of one mitigation's counters; a new status is told as soon as the path's
    /// round-trip time allows.
    pub notify_interval: Duration,
    /// A mitigation without news is told again after this, since notifications get lost under attack.
    pub repeat_interval: Duration,
    /// Sessions of one client at once; the oldest gives way to a new one.
    pub max_sessions_per_client: usize,
    /// Another server that clients are sent to, and for how many seconds (RFC 9132 §4.6).
    pub redirect: Option<(Redirect, u32)>,
    /// Mitigations of one client.
    pub max_mitigations: usize,
    /// Telemetry items of one client, and of its telemetry setup.
    pub max_telemetry: usize,
}

impl Default for ServerPolicy {
    fn default() -> Self {
        Self {
            clients: Vec::new(),
            max_lifetime: Duration::from_secs(86_400),
            terminating: Duration::from_secs(120),
            notify_interval: Duration::from_secs(3),
            repeat_interval: Duration::from_secs(30),
            max_sessions_per_client: 16,
            redirect: None,
            max_mitigations: 1_000,
            max_telemetry: 1_000,
        }
    }
}

impl DotsServerConfig {
    /// Makes paths of files relative to `folder`, that of the configuration file.
    pub fn resolve(&mut self, folder: &Path) {
        let keys = self
            .clients
            .iter_mut()
            .filter_map(|client| client.psk_file.as_mut());
        [&mut self.ca, &mut self.certificate, &mut self.key]
            .into_iter()
            .chain(&mut self.crl)
            .chain(keys)
            .filter(|path| !path.as_os_str().is_empty())
            .for_each(|path| *path = folder.join(&*path));
        self.mitigators
            .iter_mut()
            .for_each(|mitigator| mitigator.resolve(folder));
    }

    /// Checks the table; all mistakes at once.
    pub fn check(&self) -> Result<DotsServerSettings, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut fault = |path: String, message: &str| {
            faults.push(Fault {
                path,
                message: message.to_owned(),
            })
        };
        for (name, path) in [
            ("ca", &self.ca),
            ("certificate", &self.certificate),
            ("key", &self.key),
        ] {
            if path.as_os_str().is_empty() {
                fault(
                    "dots_server".to_owned(),
                    &format!("`{name}` is missing: the server proves who it is"),
                );
            }
        }
        if self.listen.is_empty() {
            fault("dots_server.listen".to_owned(), "there must be an address");
        }
        let least = self
            .max_sessions
            .min(self.max_half_open)
            .min(self.max_sessions_per_client);
        if least == 0 {
            fault(
                "dots_server".to_owned(),
                "max_sessions, max_half_open and max_sessions_per_client must be at least 1",
            );
        }
        let mut names = BTreeSet::new();
        let mut identities = BTreeSet::new();
        let mut keys = Vec::new();
        for (index, client) in self.clients.iter().enumerate() {
            let path = format!("dots_server.client[{index}]");
            if client.name.is_empty() {
                fault(path.clone(), "a client needs the name of its certificate");
            } else if !names.insert(&client.name) {
                fault(
                    format!("{path}.name"),
                    "there is another client of this name",
                );
            }
            if client.prefixes.is_empty() {
                fault(
                    path.clone(),
                    "a client without prefixes may ask for nothing",
                );
            }
            match (&client.psk_identity, &client.psk_file) {
                (None, None) => {}
                (Some(identity), Some(file)) if identities.insert(identity) => {
                    keys.push(ClientKeyFile {
                        name: client.name.clone(),
                        identity: identity.clone(),
                        file: file.clone(),
                    });
                }
                (Some(_), Some(_)) => {
                    fault(
                        format!("{path}.psk_identity"),
                        "another client has this identity",
                    );
                }
                (Some(_), None) => fault(path, "psk_identity needs psk_file"),
                (None, Some(_)) => fault(path, "psk_file needs psk_identity"),
            }
        }
        let mitigators = check_all(&self.mitigators, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let clients = self.clients.iter();
        let mut files = CredentialFiles::certificate(&self.ca, &self.certificate, &self.key);
        files.revocations = self.crl.clone();
        files.clients = keys;
        Ok(DotsServerSettings {
            listen: self.listen.clone(),
            files,
            max_sessions: self.max_sessions,
            max_half_open: self.max_half_open,
            policy: ServerPolicy {
                clients: clients
                    .map(|client| (client.name.as_str().into(), client.prefixes.clone()))
                    .collect(),
                max_sessions_per_client: self.max_sessions_per_client,
                ..ServerPolicy::default()
            },
            mitigators,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, prefixes: Vec<IpNet>) -> ClientConfig {
        ClientConfig {
            name: name.to_owned(),
            prefixes,
            ..ClientConfig::default()
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let config = DotsServerConfig {
            listen: Vec::new(),
            max_sessions: 0,
            clients: vec![
                client("a", vec![IpNet::default()]),
                client("a", Vec::new()),
                client("", vec![IpNet::default()]),
            ],
            ..DotsServerConfig::default()
        };
        let paths: Vec<String> = config
            .check()
            .expect_err("it is full of mistakes")
            .into_iter()
            .map(|fault| fault.path)
            .collect();
        let expected = [
            "dots_server",
            "dots_server",
            "dots_server",
            "dots_server.listen",
            "dots_server",
            "dots_server.client[1].name",
            "dots_server.client[1]",
            "dots_server.client[2]",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn a_key_has_an_identity_of_its_own_and_a_file() {
        let with = |name: &str, identity: Option<&str>, file: Option<&str>| ClientConfig {
            psk_identity: identity.map(str::to_owned),
            psk_file: file.map(PathBuf::from),
            ..client(name, vec![IpNet::default()])
        };
        let mut config = DotsServerConfig {
            ca: "ca.pem".into(),
            certificate: "server.pem".into(),
            key: "server.key".into(),
            clients: vec![with("a", Some("x"), Some("x.psk")), with("b", None, None)],
            ..DotsServerConfig::default()
        };
        config.resolve(Path::new("/etc/weir"));
        let settings = config.check().expect("there is no mistake");
        assert_eq!(settings.files.clients[0].name, "a");
        assert_eq!(settings.files.clients[0].file, Path::new("/etc/weir/x.psk"));
        config.clients.extend([
            with("c", Some("x"), Some("y.psk")),
            with("d", Some("z"), None),
            with("e", None, Some("z.psk")),
        ]);
        let faults = config.check().expect_err("three mistakes");
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "dots_server.client[2].psk_identity",
                "dots_server.client[3]",
                "dots_server.client[4]"
            ]
        );
    }

    #[test]
    fn the_documented_table_is_accepted() {
        let config = DotsServerConfig {
            ca: "ca.pem".into(),
            certificate: "server.pem".into(),
            key: "server.key".into(),
            clients: vec![client("weir-lab", vec![IpNet::default()])],
            ..DotsServerConfig::default()
        };
        let settings = config.check().expect("there is no mistake");
        assert_eq!(settings.policy.clients.len(), 1);
        assert_eq!(settings.policy.terminating, Duration::from_secs(120));
    }
}
