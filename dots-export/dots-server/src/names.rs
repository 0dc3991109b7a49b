//! Targets by name (RFC 9132 §4.4.1): the addresses that names and URIs stand for, as the server resolves them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use url::{Host, Url};
use weir_dots_proto::body::{PortRange, Scope, Target};

/// How long an answer is relied on: resolvers keep it by its own lifetime.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// How long a name without an address is not asked for again.
const FAILED_FOR: Duration = Duration::from_secs(5);
/// Names that are known at once.
const MAX_KNOWN: usize = 4096;
/// Addresses of one name.
const MAX_ADDRESSES: usize = 64;

/// TCP, over which all schemes with a default port run but those of CoAP over UDP.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What is known of names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: BTreeMap<String, (Instant, Vec<IpAddr>)>,
    asked: BTreeSet<String>,
    wanted: VecDeque<String>,
}

/// What a URI stands for.
#[derive(Clone, PartialEq, Debug)]
struct Place {
    host: Host,
    port: Option<u16>,
    protocol: u8,
}

impl Names {
    /// Whether any of the names is to be looked up first, which is asked for.
    pub(crate) fn is_missing_any(&mut self, now: Instant, names: &BTreeSet<String>) -> bool {
        let mut missing = false;
        for name in names {
            if self.addresses(now, name).is_none() {
                missing = true;
                if self.asked.insert(name.clone()) {
                    self.wanted.push_back(name.clone());
                }
            }
        }
        missing
    }

    /// The next name to look up.
    pub(crate) fn poll_lookup(&mut self) -> Option<String> {
        self.wanted.pop_front()
    }

    /// Takes the addresses of a name; none where it has none, or nobody answers.
    pub(crate) fn handle_lookup(&mut self, now: Instant, name: &str, mut addresses: Vec<IpAddr>) {
        self.asked.remove(name);
        self.known
            .retain(|_, (at, addresses)| is_fresh(now, *at, addresses));
        if self.known.len() >= MAX_KNOWN {
            self.known.pop_first();
        }
        addresses.truncate(MAX_ADDRESSES);
        self.known.insert(name.to_owned(), (now, addresses));
    }

    fn addresses(&self, now: Instant, name: &str) -> Option<&[IpAddr]> {
        let (at, addresses) = self.known.get(name)?;
        is_fresh(now, *at, addresses).then_some(addresses)
    }

    /// Adds the addresses of a target's names and URIs to its prefixes, and the ports and protocols of its URIs. The error is
    /// text for the client.
    pub(crate) fn resolve(&self, now: Instant, target: &Target) -> Result<Target, String> {
        let mut resolved = Target {
            target_fqdn: Vec::new(),
            target_uri: Vec::new(),
            ..target.clone()
        };
        for name in &target.target_fqdn {
            let addresses = self.of_name(now, &normal(name))?;
            resolved.target_prefix.extend(addresses);
        }
        let mut places = Vec::new();
        for uri in &target.target_uri {
            let place = Place::of(uri).ok_or_else(|| format!("`{uri}` names no host"))?;
            match &place.host {
                Host::Domain(name) => {
                    let addresses = self.of_name(now, &normal(name))?;
                    resolved.target_prefix.extend(addresses);
                }
                Host::Ipv4(address) => resolved
                    .target_prefix
                    .push(IpNet::from(IpAddr::V4(*address))),
                Host::Ipv6(address) => resolved
                    .target_prefix
                    .push(IpNet::from(IpAddr::V6(*address))),
            }
            places.push(place);
        }
        // Where the target names anything else, that is meant with all its ports.
        if target.target_prefix.is_empty() && target.target_fqdn.is_empty() {
            narrow(&mut resolved, &places);
        }
        resolved.target_prefix.sort();
        resolved.target_prefix.dedup();
        Ok(resolved)
    }

    fn of_name(&self, now: Instant, name: &str) -> Result<Vec<IpNet>, String> {
        let addresses = self.addresses(now, name).unwrap_or_default();
        if addresses.is_empty() {
            return Err(format!("`{name}` has no address"));
        }
        Ok(addresses.iter().copied().map(IpNet::from).collect())
    }
}

/// Names that have to be looked up for a target.
pub(crate) fn names_of(target: &Target) -> BTreeSet<String> {
    let hosts = target
        .target_uri
        .iter()
        .filter_map(|uri| match Place::of(uri)?.host {
            Host::Domain(name) => Some(normal(&name)),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        });
    let names = target.target_fqdn.iter().map(|name| normal(name));
    names.chain(hosts).collect()
}

/// The part of a scope that names what is to be protected.
pub(crate) fn target_of(scope: &Scope) -> Target {
    Target {
        target_prefix: scope.target_prefix.clone(),
        target_port_range: scope.target_port_range.clone(),
        target_protocol: scope.target_protocol.clone(),
        target_fqdn: scope.target_fqdn.clone(),
        target_uri: scope.target_uri.clone(),
        ..Target::default()
    }
}

/// Ports and protocols of URIs, where the request has none of its own and each URI has one.
fn narrow(target: &mut Target, places: &[Place]) {
    let ports: Option<Vec<u16>> = places.iter().map(|place| place.port).collect();
    if let Some(ports) = ports.filter(|_| target.target_port_range.is_empty()) {
        let ports: BTreeSet<u16> = ports.into_iter().collect();
        target.target_port_range = ports.into_iter().map(PortRange::single).collect();
    }
    if target.target_protocol.is_empty() {
        let protocols: BTreeSet<u8> = places.iter().map(|place| place.protocol).collect();
        target.target_protocol = protocols.into_iter().collect();
    }
}

impl Place {
    fn of(uri: &str) -> Option<Self> {
        let url = Url::parse(uri).ok()?;
        let over_udp = matches!(url.scheme(), "coap" | "coaps" | "sip" | "turn" | "stun");
        let port = url.port_or_known_default().or(match url.scheme() {
            "coap" | "coap+tcp" => Some(5683),
            "coaps" | "coaps+tcp" => Some(5684),
            _ => None,
        });
        // What the parser leaves alone of schemes that it does not know may be an address.
        let host = match url.host()? {
            Host::Domain(name) => match name.parse() {
                Ok(address) => Host::Ipv4(address),
                Err(_) => Host::Domain(name.to_owned()),
            },
            Host::Ipv4(address) => Host::Ipv4(address),
            Host::Ipv6(address) => Host::Ipv6(address),
        };
        Some(Self {
            host,
            port,
            protocol: if over_udp { UDP } else { TCP },
        })
    }
}

fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn is_fresh(now: Instant, at: Instant, addresses: &[IpAddr]) -> bool {
    let kept = if addresses.is_empty() {
        FAILED_FOR
    } else {
        KEPT_FOR
    };
    now.saturating_duration_since(at) <= kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_hosts_with_ports_and_protocols() {
        for (uri, expected) in [
            (
                "https://www.example.com/x",
                Some(("www.example.com", Some(443), TCP)),
            ),
            (
                "http://WWW.example.com:8080",
                Some(("www.example.com", Some(8080), TCP)),
            ),
            (
                "coaps://dev.example.com",
                Some(("dev.example.com", Some(5684), UDP)),
            ),
            (
                "https://[2001:db8::1]/",
                Some(("[2001:db8::1]", Some(443), TCP)),
            ),
            ("https://192.0.2.1/", Some(("192.0.2.1", Some(443), TCP))),
            ("coaps://192.0.2.1/", Some(("192.0.2.1", Some(5684), UDP))),
            (
                "foo://shop.example.com/",
                Some(("shop.example.com", None, TCP)),
            ),
            ("mailto:a@example.com", None),
            ("nonsense", None),
        ] {
            let place = Place::of(uri);
            let shown = place.map(|place| (place.host.to_string(), place.port, place.protocol));
            let expected = expected.map(|(host, port, protocol)| (host.to_owned(), port, protocol));
            assert_eq!(shown, expected, "{uri}");
        }
    }

    #[test]
    fn names_are_looked_up_once_and_again_when_they_are_old() {
        let now = Instant::now();
        let mut names = Names::default();
        let target = Target {
            target_fqdn: vec!["WWW.example.com.".to_owned()],
            target_uri: vec!["https://www.example.com/".to_owned()],
            ..Target::default()
        };
        let wanted = names_of(&target);
        assert_eq!(wanted.len(), 1);
        assert!(names.is_missing_any(now, &wanted));
        assert!(names.is_missing_any(now, &wanted));
        assert_eq!(names.poll_lookup().as_deref(), Some("www.example.com"));
        assert_eq!(names.poll_lookup(), None);
        names.handle_lookup(now, "www.example.com", vec!["203.0.113.7".parse().unwrap()]);
        assert!(!names.is_missing_any(now, &wanted));
        let resolved = names.resolve(now, &target).unwrap();
        assert_eq!(resolved.target_prefix, ["203.0.113.7/32".parse().unwrap()]);
        assert!(names.is_missing_any(now + KEPT_FOR * 2, &wanted));
        names.handle_lookup(now, "www.example.com", Vec::new());
        assert!(names.resolve(now, &target).is_err());
    }
}
