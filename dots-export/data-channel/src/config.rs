use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::enforce::EnforceSettings;
use weir_dots_proto::is_domain_name;

use crate::model::Capabilities;
use crate::server::ServerSettings;
use crate::service::{Service, ServiceSettings};
use crate::store::{ConflictRule, DataStore, Limits};
use crate::{Authority, Peer, Prefixes, TlsFiles};

/// The table `[dots_server.data_channel]`. Certificates, and clients with their prefixes, are those of `[dots_server]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DataChannelConfig {
    /// Addresses for HTTPS.
    pub listen: Vec<SocketAddr>,
    /// Path of the API.
    pub root: String,
    /// Names and addresses of this server, by which it knows a loop of gateways.
    pub names: Vec<String>,
    /// Days for which an alias or a filter is kept without a refresh, at least 7.
    pub lifetime_days: u32,
    /// Clients of all peers.
    pub max_clients: usize,
    /// Aliases of one client.
    pub max_aliases: usize,
    /// Filters of one client.
    pub max_filters: usize,
    /// Requests of one peer per minute.
    pub requests_per_minute: u32,
    /// Connections at once.
    pub max_connections: usize,
    /// Whether an immediate filter may leave its destination open.
    pub any_destination: bool,
    /// Whether a filter may contradict one of another client of the domain.
    pub keep_conflicts: bool,
    /// Whether filters are enforced in the kernel of this machine, by nftables.
    pub enforce: bool,
    /// nftables: a network namespace by its name in `/run/netns`; the server's own by default.
    pub namespace: String,
    /// nftables: the table, of family `inet`. It is Weir's alone: what else is in it goes.
    pub table: String,
    /// What some clients are beyond their prefixes.
    #[serde(rename = "client", skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<DataClientConfig>,
}

/// One `[[dots_server.data_channel.client]]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DataClientConfig {
    /// The name of a `[[dots_server.client]]`.
    pub name: String,
    /// Its domain, where several clients are of one; else it is one of its own.
    pub domain: String,
    /// Domain names, with all below them, that its aliases may name.
    pub domain_names: Vec<String>,
    /// Whether it is a server-domain gateway, which relays many clients.
    pub gateway: bool,
}

impl Default for DataChannelConfig {
    fn default() -> Self {
        let (limits, service) = (Limits::default(), ServiceSettings::default());
        Self {
            listen: vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 443)],
            root: service.root,
            names: Vec::new(),
            lifetime_days: 7,
            max_clients: limits.max_clients,
            max_aliases: limits.max_aliases,
            max_filters: limits.max_acls,
            requests_per_minute: service.requests_per_minute,
            max_connections: 1_024,
            any_destination: false,
            keep_conflicts: false,
            enforce: false,
            namespace: String::new(),
            table: EnforceSettings::default().table,
            clients: Vec::new(),
        }
    }
}

/// A mistake: where, as a path, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigFault {
    /// The key, such as `dots_server.data_channel.client[1].name`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// A checked `[dots_server.data_channel]`. The files of certificates are not opened by the check.
#[derive(Clone, Debug)]
pub struct DataChannelSettings {
    /// How it listens.
    pub server: ServerSettings,
    /// What it says of itself; the vendor mapping is empty until it is set.
    pub service: ServiceSettings,
    /// Bounds.
    pub limits: Limits,
    /// Who may ask.
    pub authority: Authority,
    /// How filters are enforced, if they are here.
    pub enforce: Option<EnforceSettings>,
}

impl DataChannelSettings {
    /// A service that enforces what `capabilities` say.
    #[must_use]
    pub fn service(&self, capabilities: Capabilities) -> Service {
        let store = DataStore::new(self.limits, capabilities);
        Service::new(self.service.clone(), self.authority.clone(), store)
    }
}

impl DataChannelConfig {
    /// Checks the table against the clients of `[dots_server]`, by name and prefixes; all mistakes at once.
    pub fn check(
        &self,
        tls: TlsFiles,
        clients: &[(Arc<str>, Vec<IpNet>)],
    ) -> Result<DataChannelSettings, Vec<ConfigFault>> {
        const TABLE: &str = "dots_server.data_channel";
        let mut faults = Vec::new();
        let mut fault = |path: String, message: &str| {
            faults.push(ConfigFault {
                path,
                message: message.to_owned(),
            });
        };
        if self.listen.is_empty() {
            fault(format!("{TABLE}.listen"), "there must be an address");
        }
        let is_path = self.root.starts_with('/') && !self.root.ends_with('/');
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"/-._~".contains(&octet);
        if !is_path || !self.root.bytes().all(is_plain) || self.root.starts_with("/.well-known") {
            fault(format!("{TABLE}.root"), "it is a path such as /restconf");
        }
        if self.lifetime_days < 7 || self.lifetime_days > 3_650 {
            fault(
                format!("{TABLE}.lifetime_days"),
                "it is 7 to 3650: RFC 8783 keeps entries for at least a week",
            );
        }
        for (name, number) in [
            ("max_clients", self.max_clients),
            ("max_aliases", self.max_aliases),
            ("max_filters", self.max_filters),
            ("max_connections", self.max_connections),
            ("requests_per_minute", self.requests_per_minute as usize),
        ] {
            if number == 0 {
                fault(format!("{TABLE}.{name}"), "it must be at least 1");
            }
        }
        let is_word = |text: &str| {
            text.bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || b"_-.".contains(&octet))
        };
        if !self
            .table
            .starts_with(|first: char| first.is_ascii_alphabetic())
            || !is_word(&self.table)
        {
            fault(
                format!("{TABLE}.table"),
                "it is a word such as weir_filters",
            );
        }
        if self.namespace.starts_with(['-', '.']) || !is_word(&self.namespace) {
            fault(format!("{TABLE}.namespace"), "it is a name in /run/netns");
        }
        let mut names = BTreeSet::new();
        for (index, client) in self.clients.iter().enumerate() {
            let path = format!("{TABLE}.client[{index}]");
            if !clients.iter().any(|(name, _)| **name == *client.name) {
                fault(
                    format!("{path}.name"),
                    "there is no [[dots_server.client]] of this name",
                );
            }
            if !names.insert(&client.name) {
                fault(
                    format!("{path}.name"),
                    "there is another entry of this name",
                );
            }
            if !client.domain_names.iter().all(|name| is_domain_name(name)) {
                fault(
                    format!("{path}.domain_names"),
                    "one of them is no domain name",
                );
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(DataChannelSettings {
            server: ServerSettings {
                max_connections: self.max_connections,
                ..ServerSettings::new(self.listen.clone(), tls)
            },
            service: ServiceSettings {
                root: self.root.clone(),
                own_names: self.names.clone(),
                requests_per_minute: self.requests_per_minute,
                ..ServiceSettings::default()
            },
            limits: self.limits(),
            enforce: self.enforce.then(|| EnforceSettings {
                namespace: (!self.namespace.is_empty()).then(|| self.namespace.clone()),
                table: self.table.clone(),
                ..EnforceSettings::default()
            }),
            authority: Authority::new(clients.iter().map(|client| self.peer(client))),
        })
    }

    fn limits(&self) -> Limits {
        let conflicts = match self.keep_conflicts {
            true => ConflictRule::Keep,
            false => ConflictRule::RefuseNew,
        };
        Limits {
            max_clients: self.max_clients,
            max_aliases: self.max_aliases,
            max_acls: self.max_filters,
            lifetime: self.lifetime_days.saturating_mul(24 * 60),
            any_destination: self.any_destination,
            conflicts,
            ..Limits::default()
        }
    }

    fn peer(&self, (name, prefixes): &(Arc<str>, Vec<IpNet>)) -> Peer {
        let more = self.clients.iter().find(|client| client.name == **name);
        let domain = more.map_or("", |client| client.domain.as_str());
        Peer {
            name: name.clone(),
            domain: if domain.is_empty() {
                name.clone()
            } else {
                domain.into()
            },
            prefixes: Prefixes(prefixes.clone()),
            names: more
                .map(|client| client.domain_names.clone())
                .unwrap_or_default(),
            gateway: more.is_some_and(|client| client.gateway),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> TlsFiles {
        TlsFiles {
            ca: "ca.pem".into(),
            certificate: "server.pem".into(),
            key: "server.key".into(),
            crl: None,
        }
    }

    fn clients() -> Vec<(Arc<str>, Vec<IpNet>)> {
        vec![("weir-lab".into(), vec!["203.0.113.0/24".parse().unwrap()])]
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let named = |name: &str| DataClientConfig {
            name: name.to_owned(),
            domain_names: vec!["a b".to_owned()],
            ..DataClientConfig::default()
        };
        let config = DataChannelConfig {
            listen: Vec::new(),
            root: "restconf/".to_owned(),
            lifetime_days: 1,
            max_aliases: 0,
            table: "a b".to_owned(),
            namespace: "../x".to_owned(),
            clients: vec![named("weir-lab"), named("weir-lab"), named("who")],
            ..DataChannelConfig::default()
        };
        let faults = config.check(tls(), &clients()).unwrap_err();
        let ends: Vec<&str> = faults
            .iter()
            .map(|fault| {
                fault
                    .path
                    .strip_prefix("dots_server.data_channel.")
                    .unwrap()
            })
            .collect();
        let expected = [
            "listen",
            "root",
            "lifetime_days",
            "max_aliases",
            "table",
            "namespace",
            "client[0].domain_names",
            "client[1].name",
            "client[1].domain_names",
            "client[2].name",
            "client[2].domain_names",
        ];
        assert_eq!(ends, expected);
    }

    #[test]
    fn clients_are_those_of_the_server() {
        let config = DataChannelConfig {
            clients: vec![DataClientConfig {
                name: "weir-lab".to_owned(),
                domain: "lab".to_owned(),
                domain_names: vec!["lab.example".to_owned()],
                gateway: false,
            }],
            ..DataChannelConfig::default()
        };
        let settings = config.check(tls(), &clients()).unwrap();
        let peer = settings.authority.named("weir-lab").unwrap();
        assert_eq!((&*peer.domain, peer.names.len()), ("lab", 1));
        assert!(peer.prefixes.cover(&"203.0.113.9/32".parse().unwrap()));
        assert_eq!(settings.limits, Limits::default());
        let service = settings.service(Capabilities::mandatory());
        assert_eq!(service.store().clients().count(), 0);
    }
}
