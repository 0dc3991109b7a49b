//! Targets (RFC 9132 §4.4.1.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{RequestFault, bad_request, ensure, ensure_unique};
use crate::body::{Baseline, IcmpTypeRange, PortRange, Scope, Target};

/// The attributes that scopes, telemetry targets and baselines have in common.
pub(super) struct Attributes<'a> {
    prefixes: &'a [IpNet],
    port_ranges: &'a [PortRange],
    fqdns: &'a [String],
    uris: &'a [String],
    aliases: &'a [String],
}

impl<'a> From<&'a Scope> for Attributes<'a> {
    fn from(scope: &'a Scope) -> Self {
        Self {
            prefixes: &scope.target_prefix,
            port_ranges: &scope.target_port_range,
            fqdns: &scope.target_fqdn,
            uris: &scope.target_uri,
            aliases: &scope.alias_name,
        }
    }
}

impl<'a> From<&'a Target> for Attributes<'a> {
    fn from(target: &'a Target) -> Self {
        Self {
            prefixes: &target.target_prefix,
            port_ranges: &target.target_port_range,
            fqdns: &target.target_fqdn,
            uris: &target.target_uri,
            aliases: &target.alias_name,
        }
    }
}

impl<'a> From<&'a Baseline> for Attributes<'a> {
    fn from(baseline: &'a Baseline) -> Self {
        Self {
            prefixes: &baseline.target_prefix,
            port_ranges: &baseline.target_port_range,
            fqdns: &baseline.target_fqdn,
            uris: &baseline.target_uri,
            aliases: &baseline.alias_name,
        }
    }
}

impl Attributes<'_> {
    /// Returns whether there is anything that names a target; ports and protocols only narrow one.
    pub(super) fn name_a_target(&self) -> bool {
        !(self.prefixes.is_empty()
            && self.fqdns.is_empty()
            && self.uris.is_empty()
            && self.aliases.is_empty())
    }

    /// Checks the values.
    pub(super) fn check(&self) -> Result<(), RequestFault> {
        for prefix in self.prefixes {
            if !is_unicast(*prefix) {
                return Err(bad_request(format_args!(
                    "{prefix} is broadcast, loopback or multicast"
                )));
            }
        }
        check_port_ranges("target-port-range", self.port_ranges)?;
        ensure(
            self.fqdns.iter().all(|name| is_domain_name(name)),
            "target-fqdn is not a domain name",
        )?;
        ensure(
            self.uris.iter().all(|uri| is_uri(uri)),
            "target-uri is not a uri",
        )?;
        ensure(
            self.aliases.iter().all(|alias| !alias.is_empty()),
            "alias-name is empty",
        )
    }
}

/// Checks ranges of ports: lower is the list's key, upper not below it.
pub(super) fn check_port_ranges(list: &str, ranges: &[PortRange]) -> Result<(), RequestFault> {
    if ranges.iter().any(|range| {
        range
            .upper_port
            .is_some_and(|upper| upper < range.lower_port)
    }) {
        return Err(bad_request(format_args!(
            "upper-port below lower-port in {list}"
        )));
    }
    ensure_unique(list, ranges.iter().map(|range| range.lower_port))
}

/// Checks ranges of ICMP types likewise.
pub(super) fn check_icmp_type_ranges(
    list: &str,
    ranges: &[IcmpTypeRange],
) -> Result<(), RequestFault> {
    if ranges.iter().any(|range| {
        range
            .upper_type
            .is_some_and(|upper| upper < range.lower_type)
    }) {
        return Err(bad_request(format_args!(
            "upper-type below lower-type in {list}"
        )));
    }
    ensure_unique(list, ranges.iter().map(|range| range.lower_type))
}

/// Returns whether the prefix is more than broadcast, loopback or multicast addresses (RFC 9132 §4.4.1.1).
#[must_use]
pub fn is_unicast(prefix: IpNet) -> bool {
    let least_length = |address: IpAddr| match address {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some(32),
        IpAddr::V4(address) if address.is_loopback() => Some(8),
        IpAddr::V4(address) if address.is_multicast() => Some(4),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some(128),
        IpAddr::V6(address) if address.is_multicast() => Some(8),
        _ => None,
    };
    least_length(prefix.network()).is_none_or(|length| prefix.prefix_len() < length)
}

/// Returns whether a text is a domain name (RFC 6991 `domain-name`, without the root).
#[must_use]
pub fn is_domain_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let octets = label.as_bytes();
    let inner = octets
        .iter()
        .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
    let first = octets.first().is_some_and(|octet| *octet != b'-');
    let last = octets.last().is_some_and(u8::is_ascii_alphanumeric);
    inner && first && last && octets.len() <= 63
}

/// Returns whether a text is a URI (RFC 3986): a scheme, a colon, and visible ASCII.
#[must_use]
pub fn is_uri(uri: &str) -> bool {
    let Some((scheme, _)) = uri.split_once(':') else {
        return false;
    };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'))
        && uri.bytes().all(|octet| octet.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unicast_prefixes() {
        for prefix in [
            "192.0.2.0/24",
            "2001:db8::/32",
            "0.0.0.0/0",
            "::/0",
            "255.255.0.0/16",
        ] {
            assert!(is_unicast(prefix.parse().unwrap()), "{prefix}");
        }
        for prefix in [
            "127.0.0.1/32",
            "127.0.0.0/8",
            "224.0.0.0/4",
            "239.1.0.0/16",
            "255.255.255.255/32",
            "::1/128",
            "ff02::/16",
        ] {
            assert!(!is_unicast(prefix.parse().unwrap()), "{prefix}");
        }
    }

    #[test]
    fn names_and_uris() {
        for name in ["example.com", "a", "_dots.example.com", "example.com."] {
            assert!(is_domain_name(name), "{name}");
        }
        for name in ["", ".", "a..b", "-a.com", "a-.com", "a b.com", "é.com"] {
            assert!(!is_domain_name(name), "{name}");
        }
        assert!(is_uri("https://www.example.com/"));
        assert!(!is_uri("www.example.com"));
        assert!(!is_uri("1http:x"));
        assert!(!is_uri("http://a b"));
    }
}
