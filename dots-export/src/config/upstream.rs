//! `[[upstream]]`: a DOTS server, how it is reached, and what it may be told.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_dots_proto::body::{ConfigParameters, SignalConfig, Tunable};
use weir_dtls::{CredentialFiles, Credentials, DtlsError, OwnFiles};
use weir_flow_record::{Period, Vector};

use super::Faults;
use crate::discovery::{DiscoverySettings, ResolverSettings, read_domain, read_resolver};

/// Port of the signal channel where a server states none (RFC 9132 §3).
const SIGNAL_PORT: u16 = 4646;

/// How a server is reached.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Whatever works.
    #[default]
    Auto,
    /// DTLS over UDP.
    Udp,
    /// TLS over TCP.
    Tcp,
}

/// What an upstream may be told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Requests for mitigation.
    Mitigation,
    /// Telemetry of attacks.
    Telemetry,
    /// Pipes and baselines.
    Setup,
}

/// When an accept list is in force.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcceptListWhen {
    /// It is installed so that it applies while a mitigation stands (RFC 8783 `activate-when-mitigating`).
    #[default]
    Mitigating,
    /// It is installed switched off; the signal channel switches it on once a mitigation stands (RFC 9133), for servers that
    /// hold a filter ready only when they are told to.
    Switched,
}

/// `[[upstream]]`: a DOTS server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamConfig {
    /// Name in policies, events and metrics.
    pub name: String,
    /// Host and port; without a port 4646.
    pub server: String,
    /// Domain whose servers are looked for in the DNS (RFC 8973), such as `example.net`, where `server` is empty: the server's
    /// certificate has to name this domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub discover: String,
    /// Who is asked for `discover`: `192.0.2.1:53`, or over TLS `tls://192.0.2.1:853#dns.example.net`. Empty: the system's. It is
    /// asked from `source_address` and `interface`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resolver: String,
    /// File of the certificates that the resolver's certificate must lead to, instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver_ca: Option<PathBuf>,
    /// How the server is reached.
    pub transport: Transport,
    /// File of the certificates that the server's certificate must lead to.
    pub ca: PathBuf,
    /// File of our certificate, and of those between it and the server's trust.
    pub certificate: PathBuf,
    /// File of our key.
    pub key: PathBuf,
    /// File of lists of revoked certificates, one of each CA; then a server whose certificate is in one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl: Option<PathBuf>,
    /// What the server calls our pre-shared key, where that stands for certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psk_identity: Option<String>,
    /// File of the pre-shared key: 16 to 64 octets in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psk_file: Option<PathBuf>,
    /// Addresses of the server, with a port or without, instead of those that its name has.
    pub addresses: Vec<String>,
    /// Address to send from: a path beside the one that may be under attack.
    #[serde(alias = "source", skip_serializing_if = "Option::is_none")]
    pub source_address: Option<IpAddr>,
    /// Interface to send from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Data channel (RFC 8783), such as `https://dots.example.net:443`. Empty: none.
    pub data_channel: String,
    /// File of sources that are known to be good, one prefix a line: where a mitigation begins they are accepted. Needs the data
    /// channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_list: Option<PathBuf>,
    /// What becomes of the accept list in peace.
    pub accept_list_when: AcceptListWhen,
    /// Kinds of attack, by the names of the catalogue, against which a filter is installed in peace, switched off: the signal
    /// channel switches it on once a mitigation of such an attack stands (RFC 9133). Needs the data channel.
    pub prepared_filters: Vec<Vector>,
    /// Prefixes that this provider assigned: only targets within them concern it (RFC 9284). Empty: any.
    pub prefixes: Vec<IpNet>,
    /// What it may be told.
    pub share: Vec<Share>,
    /// Whether it is asked to tell of attacks that it sees on our zones (RFC 9244 §8.3).
    pub subscribe: bool,
    /// Heartbeats to negotiate; absent: those of RFC 9132.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionConfig>,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            server: String::new(),
            discover: String::new(),
            resolver: String::new(),
            resolver_ca: None,
            transport: Transport::Auto,
            ca: "ca.pem".into(),
            certificate: "client.pem".into(),
            key: "client.key".into(),
            crl: None,
            psk_identity: None,
            psk_file: None,
            addresses: Vec::new(),
            source_address: None,
            interface: None,
            data_channel: String::new(),
            accept_list: None,
            accept_list_when: AcceptListWhen::default(),
            prepared_filters: Vec::new(),
            prefixes: Vec::new(),
            share: vec![Share::Mitigation, Share::Telemetry, Share::Setup],
            subscribe: false,
            session: None,
        }
    }
}

impl UpstreamConfig {
    /// Makes paths of files relative to `folder`, that of the configuration file.
    pub fn resolve(&mut self, folder: &Path) {
        [&mut self.ca, &mut self.certificate, &mut self.key]
            .into_iter()
            .chain(&mut self.crl)
            .chain(&mut self.psk_file)
            .chain(&mut self.accept_list)
            .chain(&mut self.resolver_ca)
            .for_each(|path| *path = folder.join(&*path));
    }
}

/// `[upstream.session]`: heartbeats, as they are to be negotiated (RFC 9132 §4.5).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionConfig {
    /// Time between heartbeats in peace; `0s` turns them off.
    pub heartbeat_interval: Period,
    /// Heartbeats in peace that may go unanswered.
    pub missing_heartbeats: u16,
    /// Time between heartbeats while a mitigation is active.
    pub mitigating_heartbeat_interval: Period,
    /// Heartbeats that may go unanswered then.
    pub mitigating_missing_heartbeats: u16,
}

impl Default for SessionConfig {
    fn default() -> Self {
        let interval = Period(Duration::from_secs(30));
        Self {
            heartbeat_interval: interval,
            missing_heartbeats: 15,
            mitigating_heartbeat_interval: interval,
            mitigating_missing_heartbeats: 15,
        }
    }
}

impl SessionConfig {
    /// The body of the request.
    fn signal_config(&self) -> SignalConfig {
        let set = |interval: Period, missing: u16| {
            let seconds = u16::try_from(interval.0.as_secs()).unwrap_or(u16::MAX);
            Some(ConfigParameters {
                heartbeat_interval: Some(Tunable::current(seconds)),
                missing_hb_allowed: Some(Tunable::current(missing)),
                ..ConfigParameters::default()
            })
        };
        SignalConfig {
            idle_config: set(self.heartbeat_interval, self.missing_heartbeats),
            mitigating_config: set(
                self.mitigating_heartbeat_interval,
                self.mitigating_missing_heartbeats,
            ),
        }
    }
}

/// A checked upstream.
#[derive(Clone, PartialEq, Debug)]
pub struct UpstreamSettings {
    /// Name in policies, events and metrics.
    pub name: Arc<str>,
    /// The server's name or address; its certificate has to name it.
    pub host: String,
    /// Port, of UDP and TCP.
    pub port: u16,
    /// How it is reached.
    pub transport: Transport,
    /// Its addresses, instead of those that its name has.
    pub addresses: Vec<SocketAddr>,
    /// Address to send from.
    pub source_address: Option<IpAddr>,
    /// Interface to send from.
    pub interface: Option<String>,
    /// Prefixes that this provider assigned; empty: any.
    pub prefixes: Vec<IpNet>,
    /// What it may be told.
    pub share: BTreeSet<Share>,
    /// Host and port of its data channel.
    pub data_channel: Option<String>,
    /// File of sources that are known to be good.
    pub accept_list: Option<PathBuf>,
    /// What becomes of them in peace.
    pub accept_list_when: AcceptListWhen,
    /// Kinds of attack against which a filter is installed, switched off.
    pub prepared_filters: BTreeSet<Vector>,
    /// Where its addresses, ports and data channel come from, if from the DNS.
    pub discovery: Option<DiscoverySettings>,
    /// Whether it is asked to tell of attacks that it sees.
    pub subscribe: bool,
    /// Session configuration to negotiate.
    pub session: Option<SignalConfig>,
    files: CredentialFiles,
}

impl UpstreamSettings {
    /// Opens the files of certificates and key.
    pub fn open_credentials(&self) -> Result<Credentials, DtlsError> {
        self.files.open()
    }

    /// The files of certificates and key.
    #[must_use]
    pub fn files(&self) -> &CredentialFiles {
        &self.files
    }

    /// Host and port as they would stand in the configuration.
    #[must_use]
    pub fn server(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether all of `prefixes` concern this provider.
    #[must_use]
    pub fn holds(&self, prefixes: &[IpNet]) -> bool {
        self.prefixes.is_empty()
            || prefixes
                .iter()
                .all(|prefix| self.prefixes.iter().any(|held| held.contains(prefix)))
    }
}

pub(super) fn check_upstream(
    config: &UpstreamConfig,
    table: &str,
    faults: &mut Faults,
) -> Option<UpstreamSettings> {
    let before = faults.0.len();
    if config.name.is_empty() {
        faults.add(table, "name", "an upstream needs a name");
    }
    let discovery = check_discovery(config, table, faults);
    let server = match &discovery {
        Some(discovery) => Ok((discovery.name(), SIGNAL_PORT)),
        None => split_server(&config.server),
    };
    if let Err(message) = &server
        && config.discover.is_empty()
    {
        faults.add(table, "server", *message);
    }
    let files = check_files(config, table, faults);
    let addresses = check_addresses(config, server.as_ref().ok(), table, faults);
    if config.interface.as_ref().is_some_and(String::is_empty) {
        faults.add(table, "interface", "names no interface");
    }
    let data_channel = check_data_channel(config, table, faults);
    if let Some(session) = &config.session
        && (session.missing_heartbeats == 0 || session.mitigating_missing_heartbeats == 0)
    {
        faults.add(table, "session", "at least one heartbeat may be missed");
    }
    if config.share.is_empty() {
        let message = "an upstream that may be told nothing has no use: leave it out";
        faults.add(table, "share", message);
    }
    let (host, port) = server.ok().filter(|_| faults.0.len() == before)?;
    Some(UpstreamSettings {
        name: config.name.as_str().into(),
        host,
        port,
        transport: config.transport,
        addresses,
        source_address: config.source_address,
        interface: config.interface.clone(),
        prefixes: config.prefixes.iter().map(IpNet::trunc).collect(),
        share: config.share.iter().copied().collect(),
        data_channel,
        accept_list: config.accept_list.clone(),
        accept_list_when: config.accept_list_when,
        prepared_filters: config.prepared_filters.iter().copied().collect(),
        discovery,
        subscribe: config.subscribe,
        session: config.session.as_ref().map(SessionConfig::signal_config),
        files,
    })
}

/// What is looked for in the DNS; configuration goes before it (RFC 8973 §4).
fn check_discovery(
    config: &UpstreamConfig,
    table: &str,
    faults: &mut Faults,
) -> Option<DiscoverySettings> {
    if config.discover.is_empty() {
        for (key, is_set) in [
            ("resolver", !config.resolver.is_empty()),
            ("resolver_ca", config.resolver_ca.is_some()),
        ] {
            if is_set {
                faults.add(table, key, "is for discover, which is missing");
            }
        }
        return None;
    }
    for (key, is_set) in [
        ("server", !config.server.is_empty()),
        ("addresses", !config.addresses.is_empty()),
    ] {
        if is_set {
            faults.add(table, key, "is what discover looks for: leave one out");
        }
    }
    let resolver = match config.resolver.as_str() {
        "" => Ok(ResolverSettings::System),
        text => read_resolver(text, config.resolver_ca.as_deref()),
    };
    let is_tls = matches!(resolver, Ok(ResolverSettings::Tls { .. }));
    if config.resolver_ca.is_some() && !is_tls {
        faults.add(table, "resolver_ca", "is for a resolver over tls://");
    }
    if let Err(message) = &resolver {
        faults.add(table, "resolver", *message);
    }
    let domain = read_domain(&config.discover);
    if let Err(message) = &domain {
        faults.add(table, "discover", *message);
    }
    Some(DiscoverySettings {
        domain: domain.ok()?,
        resolver: resolver.ok()?,
        source: config.source_address,
        interface: config.interface.clone(),
    })
}

/// What proves us: a pre-shared key where there is one, a certificate otherwise.
fn check_files(config: &UpstreamConfig, table: &str, faults: &mut Faults) -> CredentialFiles {
    let mut files = CredentialFiles::certificate(&config.ca, &config.certificate, &config.key);
    files.revocations = config.crl.clone();
    match (&config.psk_identity, &config.psk_file) {
        (Some(identity), Some(file)) => {
            files.own = OwnFiles::PresharedKey {
                identity: identity.clone(),
                file: file.clone(),
            };
            files.revocations = None;
        }
        (Some(_), None) => faults.add(table, "psk_identity", "needs psk_file"),
        (None, Some(_)) => faults.add(table, "psk_file", "needs psk_identity"),
        (None, None) => {
            for (key, path) in [
                ("ca", &config.ca),
                ("certificate", &config.certificate),
                ("key", &config.key),
            ] {
                if path.as_os_str().is_empty() {
                    faults.add(table, key, "names no file");
                }
            }
        }
    }
    files
}

fn check_addresses(
    config: &UpstreamConfig,
    server: Option<&(String, u16)>,
    table: &str,
    faults: &mut Faults,
) -> Vec<SocketAddr> {
    let port = server.map_or(SIGNAL_PORT, |(_, port)| *port);
    let mut addresses = Vec::new();
    for (index, text) in config.addresses.iter().enumerate() {
        let read = split_server(text)
            .ok()
            .and_then(|(host, own)| Some((host.parse::<IpAddr>().ok()?, own)));
        match read {
            Some((address, own)) => {
                let has_port = text.parse::<SocketAddr>().is_ok();
                addresses.push(SocketAddr::new(address, if has_port { own } else { port }));
            }
            None => {
                let message = "write an address, or an address with a port";
                faults.add(table, &format!("addresses[{index}]"), message);
            }
        }
    }
    if let Some(source) = config.source_address
        && !addresses.is_empty()
        && addresses.iter().all(|to| to.is_ipv4() != source.is_ipv4())
    {
        let message = "no address of the server is of this family";
        faults.add(table, "source_address", message);
    }
    addresses
}

/// Host and port of the data channel; RFC 8783 is for HTTPS and certificates.
fn check_data_channel(config: &UpstreamConfig, table: &str, faults: &mut Faults) -> Option<String> {
    if config.data_channel.is_empty() {
        let over_it = [
            ("accept_list", config.accept_list.is_some()),
            ("prepared_filters", !config.prepared_filters.is_empty()),
        ];
        for (key, is_set) in over_it {
            if is_set && config.discover.is_empty() {
                faults.add(table, key, "goes over the data channel, which is missing");
            }
        }
        return None;
    }
    if config.psk_identity.is_some() {
        let message = "the data channel needs a certificate, not a pre-shared key";
        faults.add(table, "data_channel", message);
    }
    let authority = config
        .data_channel
        .strip_prefix("https://")
        .map(|rest| rest.trim_end_matches('/'))
        .filter(|rest| !rest.is_empty() && !rest.contains('/'));
    let Some(authority) = authority else {
        let message = "must be https:// and a host, with a port if it is not 443";
        faults.add(table, "data_channel", message);
        return None;
    };
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:443")
    })
}

/// `host`, `host:port`, `[v6]:port`, `[v6]` or a bare IPv6 address.
fn split_server(server: &str) -> Result<(String, u16), &'static str> {
    const EMPTY: &str = "write host:port";
    if server.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok((server.to_owned(), SIGNAL_PORT));
    }
    let (host, rest) = if let Some(inner) = server.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or(EMPTY)?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("there is no IPv6 address between the brackets");
        }
        (host, rest)
    } else {
        server.split_at(server.find(':').unwrap_or(server.len()))
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(EMPTY);
    }
    let port = match rest.strip_prefix(':') {
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("the port is a number from 1 to 65535")?,
        None if rest.is_empty() => SIGNAL_PORT,
        None => return Err(EMPTY),
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::super::tests::upstream;
    use super::super::{Fault, check};
    use super::*;

    fn paths(faults: &[Fault]) -> Vec<&str> {
        faults.iter().map(|fault| fault.path.as_str()).collect()
    }

    #[test]
    fn servers_are_hosts_with_ports() {
        for (text, host, port) in [
            ("dots.example.net", "dots.example.net", 4646),
            ("192.0.2.1:5000", "192.0.2.1", 5000),
            ("[2001:db8::1]:5000", "2001:db8::1", 5000),
            ("[2001:db8::1]", "2001:db8::1", 4646),
            ("2001:db8::1", "2001:db8::1", 4646),
        ] {
            assert_eq!(split_server(text), Ok((host.to_owned(), port)), "{text}");
        }
        for text in [
            "", ":4646", "a:0", "a:70000", "[::1", "[x]:1", "a b", "[::1]x",
        ] {
            assert!(split_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_have_the_servers_port_or_their_own() {
        let mut config = upstream();
        config.server = "dots.example.net:5000".to_owned();
        config.addresses = [
            "192.0.2.1",
            "192.0.2.1:6000",
            "2001:db8::1",
            "[2001:db8::1]:7",
        ]
        .map(str::to_owned)
        .to_vec();
        let settings = check(&[config.clone()], &[], &[]).unwrap();
        let expected = [
            "192.0.2.1:5000",
            "192.0.2.1:6000",
            "[2001:db8::1]:5000",
            "[2001:db8::1]:7",
        ];
        let expected = expected.map(|text| text.parse().unwrap());
        assert_eq!(settings.upstreams()[0].addresses, expected);

        config.addresses.truncate(2);
        config.source_address = Some("2001:db8::7".parse().unwrap());
        let faults = check(&[config], &[], &[]).unwrap_err();
        assert_eq!(paths(&faults), ["upstream[0].source_address"]);
    }

    #[test]
    fn a_server_is_configured_or_discovered() {
        let discovered = UpstreamConfig {
            server: String::new(),
            discover: "Example.net".to_owned(),
            resolver: "tls://192.0.2.53#dns.example.net".to_owned(),
            ..upstream()
        };
        let settings = check(std::slice::from_ref(&discovered), &[], &[]).unwrap();
        let found = &settings.upstreams()[0];
        assert_eq!(found.server(), "example.net:4646");
        assert!(found.discovery.is_some());

        let both = UpstreamConfig {
            server: "dots.example.net".to_owned(),
            resolver: "dns.example.net".to_owned(),
            resolver_ca: Some("ca.pem".into()),
            ..discovered
        };
        let stray = UpstreamConfig {
            name: "other".to_owned(),
            resolver: "192.0.2.53".to_owned(),
            ..upstream()
        };
        let faults = check(&[both, stray], &[], &[]).unwrap_err();
        assert_eq!(
            paths(&faults),
            [
                "upstream[0].server",
                "upstream[0].resolver_ca",
                "upstream[0].resolver",
                "upstream[1].resolver",
            ]
        );
    }

    #[test]
    fn provider_assigned_prefixes_bound_what_concerns_it() {
        let mut config = upstream();
        config.prefixes = vec!["203.0.113.0/24".parse().unwrap()];
        let settings = check(&[config], &[], &[]).unwrap();
        let upstream = &settings.upstreams()[0];
        assert!(upstream.holds(&["203.0.113.7/32".parse().unwrap()]));
        assert!(!upstream.holds(&["203.0.112.0/23".parse().unwrap()]));
        assert!(!upstream.holds(&[
            "203.0.113.7/32".parse().unwrap(),
            "192.0.2.1/32".parse().unwrap()
        ]));
    }
}
