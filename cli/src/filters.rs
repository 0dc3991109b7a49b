//! What tells a kind of attack from other traffic, as a filter of the data channel: proposed for an attack (`weir dots filters`),
//! or installed in peace and switched on when one comes (`prepared_filters`).

use ipnet::IpNet;
use weir_data_channel::filters::{Plan, PlanError, Traffic};
use weir_data_channel::model::{Acl, Actions, L4, PortMatch, PortOperator, RateLimit, UdpMatch};
use weir_dots_proto::body::ActivationType;
use weir_flow_record::Vector;

/// What is left of a type of traffic that is mostly attack, in octets per second, where no normal level is known.
const LEAST_RATE: u64 = 1_250_000;

/// What a kind of attack looks like, and what to do about it; `normal` is the target's normal level in octets per second. `None`:
/// nothing in it tells it from other traffic.
pub(crate) fn answer_to(vector: Vector, normal: Option<u64>) -> Option<(Traffic, Actions)> {
    let from = |port| {
        let udp = UdpMatch {
            source_port: Some(PortMatch::Operator(PortOperator::Eq, port)),
            ..UdpMatch::default()
        };
        Some((Traffic::Transport(L4::Udp(udp)), Actions::DROP))
    };
    let rate = normal.unwrap_or(LEAST_RATE).max(LEAST_RATE);
    let limited = Actions {
        rate_limit: Some(RateLimit::bytes_per_second(rate)),
        ..Actions::ACCEPT
    };
    match vector {
        // Answers of resolvers are wanted up to the normal level.
        Vector::DnsAmplification => from(53).map(|(traffic, _)| (traffic, limited)),
        Vector::NtpAmplification => from(123),
        Vector::SsdpAmplification => from(1900),
        Vector::SnmpAmplification => from(161),
        Vector::CldapAmplification => from(389),
        Vector::MemcachedAmplification => from(11211),
        Vector::ChargenAmplification => from(19),
        Vector::IcmpFlood => Some((Traffic::Protocol(1), limited)),
        Vector::UdpFlood => Some((Traffic::Protocol(17), limited)),
        Vector::IpFragments => Some((Traffic::Fragments, Actions::DROP)),
        _ => None,
    }
}

/// The filters against a kind of attack on `own`, switched off; none where nothing tells it from other traffic.
pub(crate) fn prepared(
    name: &str,
    vector: Vector,
    own: &[IpNet],
    most: usize,
) -> Result<Vec<Acl>, PlanError> {
    let Some((traffic, actions)) = answer_to(vector, None) else {
        return Ok(Vec::new());
    };
    let plan = Plan {
        activation: ActivationType::Deactivate,
        ..Plan::traffic(name, traffic, own, actions)
    };
    plan.acls(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_prepared_waits_switched_off() {
        let own = ["203.0.113.0/24", "2001:db8::/48"].map(|text| text.parse().unwrap());
        let acls = prepared("weir-ntp", Vector::NtpAmplification, &own, 9).unwrap();
        let names: Vec<&str> = acls.iter().map(|acl| acl.name.as_str()).collect();
        assert_eq!(names, ["weir-ntp-v4", "weir-ntp-v6"]);
        for acl in &acls {
            assert_eq!(acl.activation, ActivationType::Deactivate);
            assert!(acl.aces[0].matches.l4.is_some(), "a port of UDP");
        }
        // Nothing in a packet tells it from a connection that is wanted.
        let none = prepared("weir-syn", Vector::TcpSynFlood, &own, 9).unwrap();
        assert!(none.is_empty());
    }
}
