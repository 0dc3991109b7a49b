//! Matches as expressions of nftables: what [`Capabilities::mandatory`](crate::model::Capabilities::mandatory) promises.
//!
//! An entry of a filter can need several rules, of which any may match: alternatives are lists of expressions.

use ipnet::IpNet;
use serde_json::{Value, json};

use super::table::prefix;
use crate::model::{
    AclType, FlagsBitmask, FragmentMatch, FragmentType, IcmpMatch, L3, L4, Matches, Operator,
    PortMatch, PortOperator, TcpMatch, UdpMatch,
};

/// A part of a rule.
pub(super) type Expression = Value;
/// Rules of which any may match.
type Alternatives = Vec<Vec<Expression>>;

/// Matches on a client's own prefixes, one for each family that it has.
pub(super) fn destinations(prefixes: &[IpNet]) -> Vec<Expression> {
    // A set of intervals has none that overlap.
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for network in IpNet::aggregate(&prefixes.to_vec()) {
        match network {
            IpNet::V4(_) => v4.push(prefix(&network)),
            IpNet::V6(_) => v6.push(prefix(&network)),
        }
    }
    let families = [("ip", v4), ("ip6", v6)].into_iter();
    families
        .filter(|(_, networks)| !networks.is_empty())
        .map(|(protocol, networks)| equal(field(protocol, "daddr"), json!({"set": networks})))
        .collect()
}

/// The rules of an entry.
pub(super) fn of_ace(kind: Option<AclType>, matches: &Matches) -> Alternatives {
    let l3 = match &matches.l3 {
        Some(l3) => of_l3(l3),
        None => vec![family(kind)],
    };
    let l4 = match &matches.l4 {
        None => vec![Vec::new()],
        Some(L4::Tcp(tcp)) => vec![of_tcp(tcp)],
        Some(L4::Udp(udp)) => vec![of_udp(udp)],
        Some(L4::Icmp(icmp)) => match kind {
            Some(AclType::Ipv4) => vec![of_icmp("icmp", 1, icmp)],
            Some(AclType::Ipv6) => vec![of_icmp("icmpv6", 58, icmp)],
            None => vec![of_icmp("icmp", 1, icmp), of_icmp("icmpv6", 58, icmp)],
        },
    };
    both(&l3, &l4)
}

/// A filter of a family without a match on its header.
fn family(kind: Option<AclType>) -> Vec<Expression> {
    let name = match kind {
        None => return Vec::new(),
        Some(AclType::Ipv4) => "ipv4",
        Some(AclType::Ipv6) => "ipv6",
    };
    vec![equal(meta("nfproto"), name.into())]
}

fn of_l3(l3: &L3) -> Alternatives {
    let (protocol, length, number, ends, fragment) = match l3 {
        L3::Ipv4(v4) => {
            let ends = [v4.source.map(IpNet::V4), v4.destination.map(IpNet::V4)];
            ("ip", v4.length, v4.protocol, ends, v4.fragment)
        }
        L3::Ipv6(v6) => {
            let ends = [v6.source.map(IpNet::V6), v6.destination.map(IpNet::V6)];
            ("ip6", v6.length, v6.protocol, ends, v6.fragment)
        }
    };
    let kind = if protocol == "ip" {
        AclType::Ipv4
    } else {
        AclType::Ipv6
    };
    let mut all = family(Some(kind));
    for (end, network) in ["saddr", "daddr"].into_iter().zip(ends) {
        // A prefix of all addresses is no prefix to the kernel.
        all.extend(
            network
                .filter(|network| network.prefix_len() > 0)
                .map(|network| equal(field(protocol, end), prefix(&network))),
        );
    }
    all.extend(length.map(|length| equal(field(protocol, "length"), length.into())));
    all.extend(number.map(|number| equal(meta("l4proto"), number.into())));
    match fragment {
        None => vec![all],
        Some(fragment) => both(&[all], &of_fragment(protocol, fragment)),
    }
}

fn of_tcp(tcp: &TcpMatch) -> Vec<Expression> {
    let mut all = vec![equal(meta("l4proto"), 6.into())];
    all.extend(tcp.flags_bitmask.map(of_flags));
    all.extend(tcp.source_port.map(|port| of_port("tcp", "sport", port)));
    all.extend(
        tcp.destination_port
            .map(|port| of_port("tcp", "dport", port)),
    );
    all
}

fn of_udp(udp: &UdpMatch) -> Vec<Expression> {
    let mut all = vec![equal(meta("l4proto"), 17.into())];
    all.extend(
        udp.length
            .map(|length| equal(field("udp", "length"), length.into())),
    );
    all.extend(udp.source_port.map(|port| of_port("udp", "sport", port)));
    all.extend(
        udp.destination_port
            .map(|port| of_port("udp", "dport", port)),
    );
    all
}

fn of_icmp(protocol: &str, number: u8, icmp: &IcmpMatch) -> Vec<Expression> {
    let mut all = vec![equal(meta("l4proto"), number.into())];
    all.extend(
        icmp.kind
            .map(|kind| equal(field(protocol, "type"), kind.into())),
    );
    all.extend(
        icmp.code
            .map(|code| equal(field(protocol, "code"), code.into())),
    );
    all
}

fn of_port(protocol: &str, end: &str, port: PortMatch) -> Expression {
    let (operator, value) = match port {
        PortMatch::Range(lower, upper) => ("==", json!({"range": [lower, upper]})),
        PortMatch::Operator(PortOperator::Lte, port) => ("<=", port.into()),
        PortMatch::Operator(PortOperator::Gte, port) => (">=", port.into()),
        PortMatch::Operator(PortOperator::Eq, port) => ("==", port.into()),
        PortMatch::Operator(PortOperator::Neq, port) => ("!=", port.into()),
    };
    compared(operator, field(protocol, end), value)
}

/// The last four bits of octet 12 and octet 13 of the TCP header (RFC 8783 §4.3).
fn of_flags(flags: FlagsBitmask) -> Expression {
    let mask = flags.bitmask & 0x0fff;
    let word = json!({"payload": {"base": "th", "offset": 96, "len": 16}});
    let (operator, value) = comparison(flags.operator, mask);
    compared(operator, json!({"&": [word, mask]}), value.into())
}

/// How what remains under a mask is compared, and with what.
fn comparison(operator: Operator, mask: u16) -> (&'static str, u16) {
    match (
        operator.contains(Operator::ANY),
        operator.contains(Operator::NOT),
    ) {
        (true, false) => ("!=", 0),
        (true, true) => ("==", 0),
        (false, false) => ("==", mask),
        (false, true) => ("!=", mask),
    }
}

/// Fragments: all of the kinds, or any; or not.
fn of_fragment(protocol: &str, fragment: FragmentMatch) -> Alternatives {
    let kinds = [
        FragmentType::DF,
        FragmentType::ISF,
        FragmentType::FF,
        FragmentType::LF,
    ];
    let kinds = kinds
        .into_iter()
        .filter(|kind| fragment.kind.contains(*kind));
    let is_not = fragment.operator.contains(Operator::NOT);
    let each = kinds.map(|kind| match protocol {
        "ip" => of_v4_fragment(kind, is_not),
        _ => of_v6_fragment(kind, is_not),
    });
    // Not any is all not, and not all is any not.
    if fragment.operator.contains(Operator::ANY) == is_not {
        each.fold(vec![Vec::new()], |all, one| both(&all, &one))
    } else {
        each.flatten().collect()
    }
}

fn of_v4_fragment(kind: FragmentType, is_not: bool) -> Alternatives {
    const DF: u16 = 0x4000;
    const MORE: u16 = 0x2000;
    const OFFSET: u16 = 0x1fff;
    let masked = |mask: u16, operator: &str, value: u16| {
        compared(
            operator,
            json!({"&": [field("ip", "frag-off"), mask]}),
            value.into(),
        )
    };
    match (kind, is_not) {
        (FragmentType::DF, false) => vec![vec![masked(DF, "!=", 0)]],
        (FragmentType::DF, true) => vec![vec![masked(DF, "==", 0)]],
        (FragmentType::FF, false) => vec![vec![masked(MORE | OFFSET, "==", MORE)]],
        (FragmentType::FF, true) => vec![vec![masked(MORE | OFFSET, "!=", MORE)]],
        (FragmentType::LF, false) => vec![vec![masked(MORE, "==", 0), masked(OFFSET, "!=", 0)]],
        (FragmentType::LF, true) => {
            vec![vec![masked(MORE, "!=", 0)], vec![masked(OFFSET, "==", 0)]]
        }
        (_, false) => vec![vec![masked(MORE | OFFSET, "!=", 0)]],
        (_, true) => vec![vec![masked(MORE | OFFSET, "==", 0)]],
    }
}

/// A packet with a Fragment header is a fragment, also where it is the only one (RFC 8783 Figure 35).
fn of_v6_fragment(kind: FragmentType, is_not: bool) -> Alternatives {
    let there = |is: bool| compared("==", json!({"exthdr": {"name": "frag"}}), is.into());
    let part = |field: &str, operator: &str| {
        compared(
            operator,
            json!({"exthdr": {"name": "frag", "field": field}}),
            0.into(),
        )
    };
    match (kind, is_not) {
        (FragmentType::FF, false) => {
            vec![vec![part("frag-off", "=="), part("more-fragments", "!=")]]
        }
        (FragmentType::FF, true) => vec![
            vec![there(false)],
            vec![part("frag-off", "!=")],
            vec![part("more-fragments", "==")],
        ],
        (FragmentType::LF, false) => {
            vec![vec![part("frag-off", "!="), part("more-fragments", "==")]]
        }
        (FragmentType::LF, true) => vec![
            vec![there(false)],
            vec![part("frag-off", "==")],
            vec![part("more-fragments", "!=")],
        ],
        (_, is_not) => vec![vec![there(!is_not)]],
    }
}

/// Each alternative of one with each of the other.
fn both(one: &[Vec<Expression>], other: &[Vec<Expression>]) -> Alternatives {
    let mut all = Vec::new();
    for first in one {
        for second in other {
            all.push(first.iter().chain(second).cloned().collect());
        }
    }
    all
}

fn field(protocol: &str, name: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": name}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn equal(left: Value, right: Value) -> Expression {
    compared("==", left, right)
}

fn compared(operator: &str, left: Value, right: Value) -> Expression {
    json!({"match": {"op": operator, "left": left, "right": right}})
}
