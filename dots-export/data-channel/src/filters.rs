//! Filters that a client asks for: accept-lists of known-good sources, and proposals from what an attack looks like.
//!
//! An accept-list is put at the server in peace, `activate-when-mitigating`: it applies as soon as a mitigation begins, or
//! when the signal channel switches it (RFC 9133). Proposals drop or limit the top talkers or a type of traffic.

use std::collections::BTreeSet;

use ipnet::IpNet;
use thiserror::Error;
use weir_dots_proto::body::ActivationType;

use crate::model::{
    Ace, Acl, AclType, Actions, FragmentMatch, FragmentType, Ipv4Match, Ipv6Match, L3, L4,
    MAX_ACL_NAME, Matches, Operator,
};

/// What a filter is to do, for both families at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Name of the filter; one of each family gets `-v4` or `-v6` behind it. Up to 61 characters.
    pub name: String,
    /// Where the traffic comes from; empty for anywhere.
    pub sources: Vec<IpNet>,
    /// Where it goes; empty for all of the client's domain. A filter that is to be immediate needs it.
    pub destinations: Vec<IpNet>,
    /// What it is.
    pub traffic: Traffic,
    /// What becomes of it.
    pub actions: Actions,
    /// When.
    pub activation: ActivationType,
}

/// A type of traffic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// All.
    All,
    /// A protocol, by its number.
    Protocol(u8),
    /// Fragments.
    Fragments,
    /// By the transport layer's header, such as a port of UDP.
    Transport(L4),
}

/// Why there are no filters for a plan.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The name is too long or empty.
    #[error("a filter's name has 1 to 61 characters, not {0}")]
    Name(usize),
    /// Sources of one family and destinations of the other.
    #[error("no source of the family of any destination")]
    Families,
    /// More entries than are wanted.
    #[error("{entries} entries where {most} are the most: name wider prefixes")]
    TooMany {
        /// That there would be.
        entries: usize,
        /// That there may be.
        most: usize,
    },
}

/// A line of a list of prefixes that is none.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("line {line}: {text} is no prefix")]
pub struct ListError {
    /// Its number, from 1.
    pub line: usize,
    /// What stands there.
    pub text: String,
}

/// Reads a list of addresses and prefixes, one in a line, with comments behind `#`.
pub fn read_prefixes(text: &str) -> Result<Vec<IpNet>, ListError> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let address = || {
            entry
                .parse()
                .ok()
                .map(|address: std::net::IpAddr| IpNet::from(address))
        };
        let prefix = entry.parse::<IpNet>().ok().or_else(address);
        found.push(prefix.ok_or_else(|| ListError {
            line: index + 1,
            text: entry.chars().take(64).collect(),
        })?);
    }
    Ok(found)
}

impl Plan {
    /// An accept-list of sources, for the time of a mitigation.
    #[must_use]
    pub fn accept(name: &str, sources: &[IpNet], destinations: &[IpNet]) -> Self {
        Self {
            name: name.to_owned(),
            sources: sources.to_vec(),
            destinations: destinations.to_vec(),
            traffic: Traffic::All,
            actions: Actions::ACCEPT,
            activation: ActivationType::ActivateWhenMitigating,
        }
    }

    /// Drops what top talkers send.
    #[must_use]
    pub fn drop_sources(name: &str, sources: &[IpNet], destinations: &[IpNet]) -> Self {
        Self {
            actions: Actions::DROP,
            ..Self::accept(name, sources, destinations)
        }
    }

    /// Does something to a type of traffic, wherever it comes from.
    #[must_use]
    pub fn traffic(name: &str, traffic: Traffic, destinations: &[IpNet], actions: Actions) -> Self {
        Self {
            traffic,
            actions,
            ..Self::accept(name, &[], destinations)
        }
    }

    /// The filters: one for each family that is concerned, with up to `most` entries in all. Prefixes that others cover
    /// are left out.
    pub fn acls(&self, most: usize) -> Result<Vec<Acl>, PlanError> {
        // Room for what tells the families apart.
        let length = self.name.chars().count();
        if length == 0 || length > MAX_ACL_NAME - 3 {
            return Err(PlanError::Name(length));
        }
        let mut acls = Vec::new();
        for kind in [AclType::Ipv4, AclType::Ipv6] {
            let Some((sources, destinations)) = self.ends(kind) else {
                continue;
            };
            let entries = sources.len().saturating_mul(destinations.len());
            let before: usize = acls.iter().map(|acl: &Acl| acl.aces.len()).sum();
            let entries = entries.saturating_add(before);
            if entries > most {
                return Err(PlanError::TooMany { entries, most });
            }
            acls.push(self.acl(kind, &sources, &destinations));
        }
        if acls.is_empty() {
            return Err(PlanError::Families);
        }
        Ok(acls)
    }

    /// The ends of a family; none where there is nothing of the family to filter.
    fn ends(&self, kind: AclType) -> Option<(Ends, Ends)> {
        let of = |networks: &[IpNet]| {
            let networks: Vec<IpNet> = networks
                .iter()
                .copied()
                .filter(|net| is_of(net, kind))
                .collect();
            let wide: BTreeSet<IpNet> = IpNet::aggregate(&networks).into_iter().collect();
            wide.into_iter().map(Some).collect::<Vec<_>>()
        };
        let any_or = |all: &[IpNet], own: Vec<Option<IpNet>>| match (all.is_empty(), own.is_empty())
        {
            (true, _) => Some(vec![None]),
            (false, true) => None,
            (false, false) => Some(own),
        };
        let sources = any_or(&self.sources, of(&self.sources))?;
        let destinations = any_or(&self.destinations, of(&self.destinations))?;
        Some((sources, destinations))
    }

    fn acl(&self, kind: AclType, sources: &[Option<IpNet>], destinations: &[Option<IpNet>]) -> Acl {
        let family = match kind {
            AclType::Ipv4 => "v4",
            AclType::Ipv6 => "v6",
        };
        let mut aces = Vec::new();
        for destination in destinations {
            for source in sources {
                aces.push(Ace {
                    name: (aces.len() + 1).to_string(),
                    matches: self.matches(kind, *source, *destination),
                    actions: self.actions,
                });
            }
        }
        Acl {
            name: format!("{}-{family}", self.name),
            kind: Some(kind),
            activation: self.activation,
            aces,
        }
    }

    fn matches(&self, kind: AclType, source: Option<IpNet>, destination: Option<IpNet>) -> Matches {
        let protocol = match self.traffic {
            Traffic::Protocol(number) => Some(number),
            _ => None,
        };
        let fragment = (self.traffic == Traffic::Fragments).then_some(FragmentMatch {
            operator: Operator::MATCH,
            kind: FragmentType::ISF,
        });
        let l3 = match kind {
            AclType::Ipv4 => L3::Ipv4(Ipv4Match {
                protocol,
                fragment,
                source: source.and_then(v4),
                destination: destination.and_then(v4),
                ..Ipv4Match::default()
            }),
            AclType::Ipv6 => L3::Ipv6(Ipv6Match {
                protocol,
                fragment,
                source: source.and_then(v6),
                destination: destination.and_then(v6),
                ..Ipv6Match::default()
            }),
        };
        let l4 = match &self.traffic {
            Traffic::Transport(l4) => Some(l4.clone()),
            _ => None,
        };
        let is_any =
            source.is_none() && destination.is_none() && protocol.is_none() && fragment.is_none();
        Matches {
            l3: (!is_any).then_some(l3),
            l4,
        }
    }
}

/// Prefixes at one end; none alone for anywhere.
type Ends = Vec<Option<IpNet>>;

fn is_of(network: &IpNet, kind: AclType) -> bool {
    matches!(
        (network, kind),
        (IpNet::V4(_), AclType::Ipv4) | (IpNet::V6(_), AclType::Ipv6)
    )
}

fn v4(network: IpNet) -> Option<ipnet::Ipv4Net> {
    match network {
        IpNet::V4(network) => Some(network),
        IpNet::V6(_) => None,
    }
}

fn v6(network: IpNet) -> Option<ipnet::Ipv6Net> {
    match network {
        IpNet::V6(network) => Some(network),
        IpNet::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Acls, IcmpMatch, PortMatch, PortOperator, RateLimit, Source, UdpMatch};

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_accept_list_has_an_entry_for_each_pair() {
        let text =
            "192.0.2.0/25 # a partner\n192.0.2.128/25\n\n# one host\n2001:db8::1\n203.0.113.7\n";
        let sources = read_prefixes(text).unwrap();
        let plan = Plan::accept(
            "good",
            &sources,
            &networks(&["198.51.100.0/24", "2001:db8:6401::/48"]),
        );
        let acls = plan.acls(10).unwrap();
        let told: Vec<_> = acls
            .iter()
            .map(|acl| (acl.name.as_str(), acl.aces.len()))
            .collect();
        assert_eq!(told, [("good-v4", 2), ("good-v6", 1)]);
        let sources: Vec<_> = acls[0]
            .aces
            .iter()
            .map(|ace| ace.matches.source().unwrap().to_string())
            .collect();
        assert_eq!(sources, ["192.0.2.0/24", "203.0.113.7/32"]);
        assert_eq!(
            plan.acls(2),
            Err(PlanError::TooMany {
                entries: 3,
                most: 2
            })
        );
        // What is planned is what a server reads.
        let acls = Acls(acls);
        assert_eq!(Acls::read(&acls.json(), Source::Request), Ok(acls));
    }

    #[test]
    fn types_of_traffic() {
        let to = networks(&["198.51.100.7/32"]);
        let limit = Actions::limit(RateLimit::bytes_per_second(1_000_000));
        let dns = Traffic::Transport(L4::Udp(UdpMatch {
            source_port: Some(PortMatch::Operator(PortOperator::Eq, 53)),
            ..UdpMatch::default()
        }));
        for traffic in [dns, Traffic::Protocol(17), Traffic::Fragments, Traffic::All] {
            let acls = Plan::traffic("limit", traffic, &to, limit).acls(1).unwrap();
            assert_eq!(acls.len(), 1);
            assert_eq!(acls[0].aces[0].matches.destination(), Some(to[0]));
            let acls = Acls(acls);
            assert_eq!(Acls::read(&acls.json(), Source::Request), Ok(acls));
        }
        // To anywhere in the domain it is of both families.
        let ping = Traffic::Transport(L4::Icmp(IcmpMatch {
            kind: Some(8),
            ..IcmpMatch::default()
        }));
        assert_eq!(
            Plan::traffic("ping", ping, &[], Actions::DROP)
                .acls(9)
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn what_fits_nothing_is_refused() {
        let plan = Plan::accept(
            "x",
            &networks(&["192.0.2.0/24"]),
            &networks(&["2001:db8::/32"]),
        );
        assert_eq!(plan.acls(9), Err(PlanError::Families));
        let long = Plan::accept(&"x".repeat(62), &[], &[]);
        assert_eq!(long.acls(9), Err(PlanError::Name(62)));
        let wrong = read_prefixes("192.0.2.1\n\nexample.com # a name").unwrap_err();
        assert_eq!(wrong.to_string(), "line 3: example.com is no prefix");
    }
}
