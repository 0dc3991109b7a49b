//! What is asked to be protected, and how two such scopes relate.

use std::collections::BTreeSet;

use ipnet::IpNet;
use weir_attack_event::{AttackEvent, Target, VectorShare};
use weir_dots_proto::body::Scope;
use weir_flow_record::Vector;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Share of the attack that vectors of known protocols must make up before a scope is narrowed to these protocols.
const NARROWING_SHARE: f64 = 0.8;

/// The scope that fits an attack: its prefixes, and its protocols where the vectors name them and make up most of it. Ports
/// are never named: what the upstream sees of an attack may use others.
#[must_use]
pub fn mitigation_scope(event: &AttackEvent) -> Scope {
    let target_prefix = prefixes(&event.target);
    let target_protocol = protocols(&event.vectors, &target_prefix);
    Scope {
        target_prefix,
        target_protocol,
        ..Scope::default()
    }
}

/// All prefixes of a target, sorted, each once.
pub(crate) fn prefixes(target: &Target) -> Vec<IpNet> {
    let mut prefixes: Vec<IpNet> = std::iter::once(target.prefix)
        .chain(target.other_prefixes.iter().copied())
        .map(|prefix| prefix.trunc())
        .collect();
    prefixes.sort();
    prefixes.dedup();
    prefixes
}

fn protocols(vectors: &[VectorShare], prefixes: &[IpNet]) -> Vec<u8> {
    let mut protocols = BTreeSet::new();
    let mut named = 0.0;
    for vector in vectors {
        let Some(name) = vector.name.vector() else {
            // A model's name says nothing of protocols, and its traffic is counted with the others.
            continue;
        };
        match name {
            Vector::Total | Vector::IpFragments => return Vec::new(),
            Vector::TcpSynFlood
            | Vector::TcpAckFlood
            | Vector::TcpRstFlood
            | Vector::TcpSynackReflection => {
                protocols.insert(TCP);
            }
            Vector::IcmpFlood => protocols.extend(prefixes.iter().map(|prefix| match prefix {
                IpNet::V4(_) => ICMP,
                IpNet::V6(_) => ICMPV6,
            })),
            Vector::UdpFlood
            | Vector::DnsAmplification
            | Vector::NtpAmplification
            | Vector::SsdpAmplification
            | Vector::SnmpAmplification
            | Vector::CldapAmplification
            | Vector::MemcachedAmplification
            | Vector::ChargenAmplification
            | Vector::DnsQueryFlood => {
                protocols.insert(UDP);
            }
        }
        named += vector.share;
    }
    if named < NARROWING_SHARE {
        return Vec::new();
    }
    protocols.into_iter().collect()
}

/// Whether everything that `inner` asks for is asked for by `outer`.
pub(crate) fn covers(outer: &Scope, inner: &Scope) -> bool {
    let within = |prefix: &IpNet| outer.target_prefix.iter().any(|held| held.contains(prefix));
    let protocols_covered = outer.target_protocol.is_empty()
        || (!inner.target_protocol.is_empty()
            && inner
                .target_protocol
                .iter()
                .all(|protocol| outer.target_protocol.contains(protocol)));
    inner.target_prefix.iter().all(within)
        && protocols_covered
        && outer.target_port_range == inner.target_port_range
        && outer.target_fqdn == inner.target_fqdn
        && outer.target_uri == inner.target_uri
        && outer.alias_name == inner.alias_name
}

/// Whether a server takes two requests of one client for overlapping: a common address is enough, whatever protocols and
/// ports say (RFC 9132 §4.4.1.2). The higher `mid` then replaces the lower.
pub(crate) fn overlap(one: &Scope, other: &Scope) -> bool {
    let common = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    one.target_prefix
        .iter()
        .any(|a| other.target_prefix.iter().any(|b| common(a, b)))
}

/// The narrowest scope that covers both.
pub(crate) fn union(one: &Scope, other: &Scope) -> Scope {
    let mut prefixes: Vec<IpNet> = Vec::new();
    let mut all: Vec<IpNet> = one
        .target_prefix
        .iter()
        .chain(&other.target_prefix)
        .copied()
        .collect();
    all.sort_by_key(IpNet::prefix_len);
    for prefix in all {
        if !prefixes.iter().any(|wider| wider.contains(&prefix)) {
            prefixes.push(prefix);
        }
    }
    prefixes.sort();
    let target_protocol = if one.target_protocol.is_empty() || other.target_protocol.is_empty() {
        Vec::new()
    } else {
        let both: BTreeSet<u8> = one
            .target_protocol
            .iter()
            .chain(&other.target_protocol)
            .copied()
            .collect();
        both.into_iter().collect()
    };
    Scope {
        target_prefix: prefixes,
        target_protocol,
        ..one.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(prefixes: &[&str], protocols: &[u8]) -> Scope {
        Scope {
            target_prefix: prefixes.iter().map(|text| text.parse().unwrap()).collect(),
            target_protocol: protocols.to_vec(),
            ..Scope::default()
        }
    }

    fn shares(vectors: &[(Vector, f64)]) -> Vec<VectorShare> {
        vectors
            .iter()
            .map(|(name, share)| VectorShare {
                vendor_id: 32473,
                attack_id: name.attack_id(),
                name: (*name).into(),
                share: *share,
                confidence: 1.0,
            })
            .collect()
    }

    #[test]
    fn protocols_are_named_where_the_vectors_tell_them() {
        let v4 = scope(&["192.0.2.1/32"], &[]).target_prefix;
        let v6 = scope(&["2001:db8::1/128"], &[]).target_prefix;
        for (vectors, prefixes, protocols) in [
            (vec![(Vector::DnsAmplification, 0.9)], &v4, vec![17]),
            (vec![(Vector::TcpSynFlood, 1.0)], &v4, vec![6]),
            (
                vec![(Vector::TcpSynFlood, 0.5), (Vector::UdpFlood, 0.4)],
                &v4,
                vec![6, 17],
            ),
            (vec![(Vector::IcmpFlood, 0.9)], &v6, vec![58]),
            (vec![(Vector::IcmpFlood, 0.9)], &v4, vec![1]),
            // Half of the attack is something else: all protocols.
            (vec![(Vector::UdpFlood, 0.5)], &v4, vec![]),
            (
                vec![(Vector::UdpFlood, 0.8), (Vector::IpFragments, 0.2)],
                &v4,
                vec![],
            ),
            (vec![(Vector::Total, 1.0)], &v4, vec![]),
            (vec![], &v4, vec![]),
        ] {
            assert_eq!(protocols_of(&vectors, prefixes), protocols, "{vectors:?}");
        }
    }

    fn protocols_of(vectors: &[(Vector, f64)], prefixes: &[IpNet]) -> Vec<u8> {
        protocols(&shares(vectors), prefixes)
    }

    #[test]
    fn wider_scopes_cover_narrower_ones() {
        let host = scope(&["192.0.2.1/32"], &[17]);
        let net = scope(&["192.0.2.0/24"], &[]);
        assert!(covers(&net, &host));
        assert!(!covers(&host, &net));
        assert!(!covers(&host, &scope(&["192.0.2.1/32"], &[])));
        assert!(!covers(&scope(&["192.0.2.0/24"], &[6]), &host));
        assert!(overlap(&scope(&["192.0.2.0/24"], &[6]), &host));
        assert!(!overlap(&scope(&["198.51.100.0/24"], &[]), &host));
    }

    #[test]
    fn a_union_covers_both() {
        let one = scope(&["192.0.2.1/32", "198.51.100.0/24"], &[17]);
        let other = scope(&["192.0.2.0/24"], &[6]);
        let both = union(&one, &other);
        assert_eq!(both, scope(&["192.0.2.0/24", "198.51.100.0/24"], &[6, 17]));
        assert!(covers(&both, &one) && covers(&both, &other));
        assert!(union(&one, &scope(&[], &[])).target_protocol.is_empty());
    }
}
