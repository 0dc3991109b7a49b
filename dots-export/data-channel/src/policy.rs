//! Who may use the data channel, and for which targets (RFC 8783 §6.1, §7.2, §10).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weir_dots_proto::body::{ActivationType, Target};
use weir_dots_proto::{is_domain_name, is_unicast};

use crate::model::{Acl, Alias, BodyFault, uri_host};

/// The prefixes that are a client domain's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Prefixes(pub Vec<IpNet>);

impl Prefixes {
    /// Whether all addresses of a prefix are the domain's.
    #[must_use]
    pub fn cover(&self, prefix: &IpNet) -> bool {
        self.0.iter().any(|own| own.contains(prefix))
    }
}

/// A peer that may use the channel, by a name of its certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The name of the certificate: a DNS name, or the common name.
    pub name: Arc<str>,
    /// The domain that it belongs to. Clients of one domain are held against each other for conflicting filters.
    pub domain: Arc<str>,
    /// What aliases and filters may be about.
    pub prefixes: Prefixes,
    /// Domain names, with all below them, that aliases may name. The server resolves no names here, so the operator says
    /// which ones stand for addresses of the client's domain.
    pub names: Vec<String>,
    /// A server-domain gateway: it relays many clients, and is believed about their `cdid`.
    pub gateway: bool,
}

impl Peer {
    /// A client in a domain of its own.
    #[must_use]
    pub fn client(name: &str, prefixes: Vec<IpNet>) -> Self {
        Self {
            name: name.into(),
            domain: name.into(),
            prefixes: Prefixes(prefixes),
            names: Vec::new(),
            gateway: false,
        }
    }

    /// Refuses an alias that stands for something outside the peer's domain.
    pub fn check_alias(&self, alias: &Alias) -> Result<(), BodyFault> {
        let place = format!("alias[name='{}']", alias.name);
        self.check_target(&alias.target, &place)
    }

    fn check_target(&self, target: &Target, place: &str) -> Result<(), BodyFault> {
        for prefix in &target.target_prefix {
            self.check_prefix(prefix, &format!("{place}/target-prefix"))?;
        }
        for name in &target.target_fqdn {
            self.check_name(name, &format!("{place}/target-fqdn"))?;
        }
        for uri in &target.target_uri {
            let place = format!("{place}/target-uri");
            let host = uri_host(uri)
                .ok_or_else(|| BodyFault::invalid(place.clone(), format!("{uri} has no host")))?;
            match host.parse::<IpAddr>() {
                Ok(address) => self.check_prefix(&IpNet::from(address), &place)?,
                Err(_) => self.check_name(host, &place)?,
            }
        }
        Ok(())
    }

    /// Refuses a filter on packets to somewhere outside the peer's domain. A filter that applies at once says where to
    /// (RFC 8783 §7.2), unless `any_destination` lets it stand for all of the domain.
    pub fn check_acl(&self, acl: &Acl, any_destination: bool) -> Result<(), BodyFault> {
        for ace in &acl.aces {
            let place = format!("acl[name='{}']/ace[name='{}']/matches", acl.name, ace.name);
            match ace.matches.destination() {
                Some(prefix) => self.check_prefix(&prefix, &place)?,
                None if acl.activation == ActivationType::Immediate && !any_destination => {
                    let problem = "needs a destination network, since the filter is immediate";
                    return Err(BodyFault::missing(place, problem));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn check_prefix(&self, prefix: &IpNet, place: &str) -> Result<(), BodyFault> {
        let problem = if !is_unicast(*prefix) {
            "is broadcast, loopback or multicast"
        } else if !self.prefixes.cover(prefix) {
            "is not of the client's domain"
        } else {
            return Ok(());
        };
        Err(BodyFault::invalid(place, format!("{prefix} {problem}")))
    }

    fn check_name(&self, name: &str, place: &str) -> Result<(), BodyFault> {
        let bare = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_within = |own: &String| {
            let own = own.trim_end_matches('.').to_ascii_lowercase();
            bare == own
                || bare
                    .strip_suffix(&own)
                    .is_some_and(|rest| rest.ends_with('.'))
        };
        if is_domain_name(&bare) && self.names.iter().any(is_within) {
            return Ok(());
        }
        let problem = format!("{name} is not a name of the client's domain");
        Err(BodyFault::invalid(place, problem))
    }
}

/// All peers that may use the channel.
#[derive(Clone, Debug, Default)]
pub struct Authority {
    peers: BTreeMap<Arc<str>, Arc<Peer>>,
}

impl Authority {
    /// Peers by their names; of two with one name the later counts.
    #[must_use]
    pub fn new(peers: impl IntoIterator<Item = Peer>) -> Self {
        let peers = peers
            .into_iter()
            .map(|peer| (peer.name.clone(), Arc::new(peer)));
        Self {
            peers: peers.collect(),
        }
    }

    /// The peer of a certificate's names: the first that is known.
    #[must_use]
    pub fn peer(&self, names: &[String]) -> Option<&Arc<Peer>> {
        names.iter().find_map(|name| self.peers.get(name.as_str()))
    }

    /// The peer of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Peer>> {
        self.peers.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer {
            names: vec!["Example.com".to_owned()],
            ..Peer::client("client", vec!["192.0.2.0/24".parse().unwrap()])
        }
    }

    fn alias(target: Target) -> Alias {
        Alias {
            name: "a".to_owned(),
            target,
        }
    }

    #[test]
    fn targets_of_others_are_refused() {
        let prefix = |text: &str| {
            let target = Target {
                target_prefix: vec![text.parse().unwrap()],
                ..Target::default()
            };
            peer().check_alias(&alias(target)).is_ok()
        };
        assert!(prefix("192.0.2.0/24"));
        assert!(prefix("192.0.2.7/32"));
        assert!(!prefix("192.0.0.0/16"));
        assert!(!prefix("198.51.100.1/32"));
        assert!(!prefix("224.0.0.1/32"));
    }

    #[test]
    fn names_are_those_of_the_domain() {
        let named = |name: &str| {
            let target = Target {
                target_fqdn: vec![name.to_owned()],
                ..Target::default()
            };
            peer().check_alias(&alias(target)).is_ok()
        };
        assert!(named("example.com"));
        assert!(named("www.EXAMPLE.com."));
        assert!(!named("badexample.com"));
        assert!(!named("example.com.evil.example"));
        let located = |uri: &str| {
            let target = Target {
                target_uri: vec![uri.to_owned()],
                ..Target::default()
            };
            peer().check_alias(&alias(target)).is_ok()
        };
        assert!(located("https://192.0.2.1/x"));
        assert!(located("https://a.example.com/x"));
        assert!(!located("https://198.51.100.1/"));
        assert!(!located("https://a.example.com@evil.example/"));
        assert!(!located("mailto:a@example.com"));
    }
}
