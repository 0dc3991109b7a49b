//! What of the traffic to a target a scope means: sources, protocols, ports.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde_json::{Value, json};
use weir_dots_proto::body::{PortRange, Scope};

use super::dispatch::address;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Protocols that have ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// Whether there is anything to match: names and aliases have to be resolved before.
pub(super) fn is_filterable(scope: &Scope) -> bool {
    !scope.target_prefix.is_empty()
}

/// Rules, each a list of matches; a packet is meant that any of them matches. The destination is matched before.
///
/// Sources, where the request names some (RFC 9066), are what is filtered: nobody else's packets are dropped. Ports concern
/// protocols that have them; what else the request names is filtered as a whole (RFC 9132 §4.4.1.1).
pub(super) fn of_scope(scope: &Scope) -> Vec<Vec<Value>> {
    let sources: Vec<Vec<Value>> = if scope.source_prefix.is_empty() {
        vec![Vec::new()]
    } else {
        of_sources(&scope.source_prefix)
            .into_iter()
            .map(|source| vec![source])
            .collect()
    };
    let transports = of_transports(scope);
    sources
        .iter()
        .flat_map(|source| {
            transports
                .iter()
                .map(|transport| [source.as_slice(), transport.as_slice()].concat())
        })
        .collect()
}

/// Matches of source addresses, one for each family.
pub(super) fn of_sources(prefixes: &[IpNet]) -> Vec<Value> {
    let (v4, v6): (Vec<IpNet>, Vec<IpNet>) = IpNet::aggregate(&prefixes.to_vec())
        .into_iter()
        .partition(|prefix| matches!(prefix, IpNet::V4(_)));
    [("ip", v4), ("ip6", v6)]
        .into_iter()
        .filter(|(_, prefixes)| !prefixes.is_empty())
        .map(|(protocol, prefixes)| {
            let set = prefixes.into_iter().map(address).collect();
            in_set(&payload(protocol, "saddr"), set)
        })
        .collect()
}

fn of_transports(scope: &Scope) -> Vec<Vec<Value>> {
    let target_ports = ports(&scope.target_port_range);
    let source_ports = ports(&scope.source_port_range);
    let has_ports = !target_ports.is_empty() || !source_ports.is_empty();
    let types = scope.source_icmp_type_range.iter();
    let types =
        merged(types.map(|range| (range.lower_type.into(), range.upper_type.map(u16::from))));
    let (with_ports, without) = protocols(scope, has_ports, !types.is_empty());
    let (icmp, others): (Vec<u8>, Vec<u8>) = without
        .into_iter()
        .partition(|protocol| !types.is_empty() && [ICMP, ICMPV6].contains(protocol));

    let mut rules = Vec::new();
    if !with_ports.is_empty() {
        let mut rule = vec![is_one_of(&with_ports)];
        for (field, ports) in [("dport", target_ports), ("sport", source_ports)] {
            if !ports.is_empty() {
                rule.push(in_set(&payload("th", field), ports));
            }
        }
        rules.push(rule);
    }
    if !others.is_empty() {
        rules.push(vec![is_one_of(&others)]);
    }
    for protocol in icmp {
        let name = if protocol == ICMP { "icmp" } else { "icmpv6" };
        rules.push(vec![
            is_one_of(&[protocol]),
            in_set(&payload(name, "type"), types.clone()),
        ]);
    }
    if rules.is_empty() {
        // Everything is meant.
        rules.push(Vec::new());
    }
    rules
}

/// Protocols whose ports are to be matched, and others. A request without protocols means all that its ports or types are of;
/// without those, all.
fn protocols(scope: &Scope, has_ports: bool, has_types: bool) -> (Vec<u8>, Vec<u8>) {
    let mut named = scope.target_protocol.clone();
    if named.is_empty() && has_ports {
        named.extend(WITH_PORTS);
    }
    if scope.target_protocol.is_empty() && has_types {
        named.extend([ICMP, ICMPV6]);
    }
    named.sort_unstable();
    named.dedup();
    named
        .into_iter()
        .partition(|protocol| has_ports && WITH_PORTS.contains(protocol))
}

fn ports(ranges: &[PortRange]) -> Vec<Value> {
    let bounds = |range: &PortRange| (range.lower_port, range.upper_port);
    merged(ranges.iter().map(bounds))
}

/// Elements of a set, which may not overlap, of first and last numbers. A range without a last, or with one that is too low,
/// is its first number: an empty set would mean everything.
fn merged(bounds: impl Iterator<Item = (u16, Option<u16>)>) -> Vec<Value> {
    let range = |(lower, upper): (u16, Option<u16>)| lower..=upper.unwrap_or(lower).max(lower);
    let mut ranges: Vec<RangeInclusive<u16>> = bounds.map(range).collect();
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut apart: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => apart.push(range),
        }
    }
    let element = |range: RangeInclusive<u16>| {
        if range.start() == range.end() {
            json!(range.start())
        } else {
            json!({"range": [range.start(), range.end()]})
        }
    };
    apart.into_iter().map(element).collect()
}

fn is_one_of(protocols: &[u8]) -> Value {
    let set = protocols.iter().map(|protocol| json!(protocol)).collect();
    in_set(&json!({"meta": {"key": "l4proto"}}), set)
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn in_set(left: &Value, set: Vec<Value>) -> Value {
    json!({"match": {"op": "==", "left": left, "right": {"set": set}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule as nft itself would show it, more or less.
    fn shown(scope: &Value) -> Vec<String> {
        let scope: Scope = serde_json::from_value(scope.clone()).unwrap();
        of_scope(&scope)
            .iter()
            .map(|rule| {
                let part = |part: &Value| {
                    let (left, right) = (&part["match"]["left"], &part["match"]["right"]["set"]);
                    let field = match left["payload"]["field"].as_str() {
                        Some(field) => field,
                        None => left["meta"]["key"].as_str().unwrap(),
                    };
                    format!("{field} {right}")
                };
                rule.iter().map(part).collect::<Vec<_>>().join(", ")
            })
            .collect()
    }

    #[test]
    fn a_prefix_alone_means_everything() {
        assert_eq!(shown(&json!({"target-prefix": ["192.0.2.0/24"]})), [""]);
    }

    #[test]
    fn ports_are_of_protocols_that_have_them() {
        let ports = json!([{"lower-port": 53}, {"lower-port": 80, "upper-port": 90},
            {"lower-port": 85, "upper-port": 100}, {"lower-port": 101}, {"lower-port": 54, "upper-port": 8}]);
        let all = json!({"target-port-range": ports});
        let set = r#"[{"range":[53,54]},{"range":[80,101]}]"#;
        assert_eq!(
            shown(&all),
            [format!("l4proto [6,17,33,132,136], dport {set}")]
        );
        let some = json!({"target-port-range": ports, "target-protocol": [47, 17, 1, 17]});
        assert_eq!(
            shown(&some),
            [
                format!("l4proto [17], dport {set}"),
                "l4proto [1,47]".to_owned()
            ]
        );
        assert_eq!(shown(&json!({"target-protocol": [17]})), ["l4proto [17]"]);
    }

    #[test]
    fn sources_narrow_what_is_filtered() {
        let scope = json!({
            "target-protocol": [17],
            "ietf-dots-call-home:source-prefix":
                ["198.51.100.0/25", "198.51.100.128/25", "198.51.100.7/32", "2001:db8::/32"],
            "ietf-dots-call-home:source-port-range": [{"lower-port": 123}],
        });
        assert_eq!(
            shown(&scope),
            [
                r#"saddr [{"prefix":{"addr":"198.51.100.0","len":24}}], l4proto [17], sport [123]"#,
                r#"saddr [{"prefix":{"addr":"2001:db8::","len":32}}], l4proto [17], sport [123]"#,
            ]
        );
        let pings = json!({"ietf-dots-call-home:source-icmp-type-range": [{"lower-type": 8}]});
        assert_eq!(
            shown(&pings),
            ["l4proto [1], type [8]", "l4proto [58], type [8]"]
        );
    }
}
