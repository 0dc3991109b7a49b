//! Uri-Queries: which part of a resource a client wants to see (RFC 9132 §4.4.2, RFC 9244 §8.3 and §9.2).

use std::str::FromStr;

use ipnet::IpNet;
use weir_dots_proto::Mid;
use weir_dots_proto::body::{
    IcmpTypeRange, PortRange, PreOrOngoingMitigation, QueryType, Scope, Talker, Target,
};

use crate::held::overlap;

/// What this server can be asked by.
pub(crate) const SUPPORTED: [QueryType; 11] = [
    QueryType::TargetPrefix,
    QueryType::TargetPort,
    QueryType::TargetProtocol,
    QueryType::TargetFqdn,
    QueryType::TargetUri,
    QueryType::TargetAlias,
    QueryType::Mid,
    QueryType::SourcePrefix,
    QueryType::SourcePort,
    QueryType::SourceIcmpType,
    QueryType::Content,
];

/// Values of one parameter.
const MAX_VALUES: usize = 64;

/// Which data nodes are wanted: the `c` parameter (RFC 9132 Table 2).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Content {
    /// All.
    #[default]
    All,
    /// Configuration.
    Config,
    /// The state that changes.
    NonConfig,
}

/// All Uri-Query options of a request.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Query {
    pub(crate) content: Content,
    prefixes: Vec<IpNet>,
    ports: Vec<Range<u16>>,
    protocols: Vec<Range<u8>>,
    names: Vec<Name>,
    uris: Vec<Name>,
    aliases: Vec<String>,
    mids: Vec<Range<u32>>,
    source_prefixes: Vec<IpNet>,
    source_ports: Vec<Range<u16>>,
    source_icmp_types: Vec<Range<u8>>,
}

/// Both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range<T> {
    first: T,
    last: T,
}

/// A name, or with a leading `*` label all below it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Name {
    Exact(String),
    Below(String),
}

/// What a query is held against.
#[derive(Clone, Copy, Debug)]
struct Shown<'a> {
    prefixes: &'a [IpNet],
    ports: &'a [PortRange],
    protocols: &'a [u8],
    names: &'a [String],
    uris: &'a [String],
    aliases: &'a [String],
    mids: &'a [Mid],
}

impl Query {
    /// Reads Uri-Query options; the error is text for the client.
    pub(crate) fn parse(options: &[String]) -> Result<Self, String> {
        let mut query = Self::default();
        for option in options {
            let (name, values) = option
                .split_once('=')
                .ok_or_else(|| format!("query `{option}` has no value"))?;
            query
                .add(name, values)
                .ok_or_else(|| format!("query `{option}` is not supported, or malformed"))?;
        }
        Ok(query)
    }

    fn add(&mut self, name: &str, values: &str) -> Option<()> {
        match name {
            "c" => {
                self.content = match values {
                    "a" => Content::All,
                    "c" => Content::Config,
                    "n" => Content::NonConfig,
                    _ => return None,
                };
            }
            "target-prefix" => self.prefixes = prefixes(values)?,
            "target-port" => self.ports = each(values, Range::parse)?,
            "target-protocol" => self.protocols = each(values, Range::parse)?,
            "target-fqdn" => self.names = each(values, Name::parse)?,
            "target-uri" => self.uris = each(values, Name::parse)?,
            // RFC 9244's text has the first name, its module and Figure 48 the second.
            "alias-name" | "target-alias" => {
                self.aliases = each(values, |value| Some(value.to_owned()))?;
            }
            "mid" => self.mids = each(values, Range::parse)?,
            "source-prefix" => self.source_prefixes = prefixes(values)?,
            "source-port" => self.source_ports = each(values, Range::parse)?,
            "source-icmp-type" => self.source_icmp_types = each(values, Range::parse)?,
            _ => return None,
        }
        Some(())
    }

    /// Whether it leaves out nothing of what there is.
    pub(crate) fn is_unfiltered(&self) -> bool {
        *self
            == Self {
                content: self.content,
                ..Self::default()
            }
    }

    /// Whether a mitigation is asked for.
    pub(crate) fn takes_scope(&self, scope: &Scope) -> bool {
        self.takes(Shown {
            prefixes: &scope.target_prefix,
            ports: &scope.target_port_range,
            protocols: &scope.target_protocol,
            names: &scope.target_fqdn,
            uris: &scope.target_uri,
            aliases: &scope.alias_name,
            mids: scope.mid.as_slice(),
        })
    }

    /// Whether telemetry is asked for: by its target, and by its sources.
    pub(crate) fn takes_telemetry(&self, item: &PreOrOngoingMitigation) -> bool {
        let none = Target::default();
        let target = item.target.as_ref().unwrap_or(&none);
        let shown = Shown {
            prefixes: &target.target_prefix,
            ports: &target.target_port_range,
            protocols: &target.target_protocol,
            names: &target.target_fqdn,
            uris: &target.target_uri,
            aliases: &target.alias_name,
            mids: &target.mid_list,
        };
        self.takes(shown) && self.takes_sources(item)
    }

    /// Targets add up, as they do in a request; ports and protocols narrow them (RFC 9244 §8.3, RFC 9132 §4.4.1).
    fn takes(&self, shown: Shown<'_>) -> bool {
        let unnamed = self.prefixes.is_empty()
            && self.names.is_empty()
            && self.uris.is_empty()
            && self.aliases.is_empty();
        let named = || {
            overlap(&self.prefixes, shown.prefixes)
                || any(&self.names, shown.names, |name, shown| name.takes(shown))
                || any(&self.uris, shown.uris, |name, shown| name.takes(shown))
                || any(&self.aliases, shown.aliases, String::eq)
        };
        (unnamed || named())
            && (self.mids.is_empty() || any(&self.mids, shown.mids, |range, mid| range.has(mid.0)))
            && (self.ports.is_empty()
                || shown.ports.is_empty()
                || any(&self.ports, shown.ports, |range, ports| range.meets(ports)))
            && (self.protocols.is_empty()
                || shown.protocols.is_empty()
                || any(&self.protocols, shown.protocols, |range, protocol| {
                    range.has(*protocol)
                }))
    }

    /// Sources are those of the top talkers; what names none is hidden (RFC 9244 §8.3 warns of it).
    fn takes_sources(&self, item: &PreOrOngoingMitigation) -> bool {
        if self.source_prefixes.is_empty()
            && self.source_ports.is_empty()
            && self.source_icmp_types.is_empty()
        {
            return true;
        }
        item.attack_detail
            .iter()
            .filter_map(|detail| detail.top_talker.as_ref())
            .flat_map(|top| &top.talker)
            .any(|talker| self.takes_talker(talker))
    }

    fn takes_talker(&self, talker: &Talker) -> bool {
        (self.source_prefixes.is_empty() || overlap(&self.source_prefixes, &[talker.source_prefix]))
            && (self.source_ports.is_empty()
                || any(
                    &self.source_ports,
                    &talker.source_port_range,
                    |range, ports| range.meets(ports),
                ))
            && (self.source_icmp_types.is_empty()
                || any(
                    &self.source_icmp_types,
                    &talker.source_icmp_type_range,
                    |range, types| range.meets_types(types),
                ))
    }

    /// A mitigation with the data nodes that are wanted.
    pub(crate) fn cut(&self, scope: Scope) -> Scope {
        match self.content {
            Content::All => scope,
            Content::Config => Scope {
                mid: scope.mid,
                target_prefix: scope.target_prefix,
                target_port_range: scope.target_port_range,
                target_protocol: scope.target_protocol,
                target_fqdn: scope.target_fqdn,
                target_uri: scope.target_uri,
                alias_name: scope.alias_name,
                lifetime: scope.lifetime,
                trigger_mitigation: scope.trigger_mitigation,
                ..Scope::default()
            },
            Content::NonConfig => Scope {
                target_prefix: Vec::new(),
                target_port_range: Vec::new(),
                target_protocol: Vec::new(),
                target_fqdn: Vec::new(),
                target_uri: Vec::new(),
                alias_name: Vec::new(),
                lifetime: None,
                trigger_mitigation: None,
                ..scope
            },
        }
    }

    /// Telemetry with the data nodes that are wanted: its configuration is what it is about.
    pub(crate) fn cut_telemetry(&self, item: PreOrOngoingMitigation) -> PreOrOngoingMitigation {
        match self.content {
            Content::All | Content::NonConfig => item,
            Content::Config => PreOrOngoingMitigation {
                tmid: item.tmid,
                target: item.target,
                ..PreOrOngoingMitigation::default()
            },
        }
    }
}

fn any<A, B>(wanted: &[A], shown: &[B], takes: impl Fn(&A, &B) -> bool) -> bool {
    wanted
        .iter()
        .any(|wanted| shown.iter().any(|shown| takes(wanted, shown)))
}

/// RFC 9244 §8.3: values are separated by commas, without spaces.
fn each<T>(values: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let values: Option<Vec<T>> = values
        .split(',')
        .take(MAX_VALUES + 1)
        .map(|value| read(value).filter(|_| !value.is_empty()))
        .collect();
    values.filter(|values| values.len() <= MAX_VALUES)
}

fn prefixes(values: &str) -> Option<Vec<IpNet>> {
    each(values, |value| {
        let address = || value.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        value.parse().ok().or_else(address)
    })
}

impl<T: FromStr + Copy + PartialOrd> Range<T> {
    fn parse(value: &str) -> Option<Self> {
        let (first, last) = value.split_once('-').unwrap_or((value, value));
        let range = Self {
            first: first.parse().ok()?,
            last: last.parse().ok()?,
        };
        (range.first <= range.last).then_some(range)
    }

    fn has(self, value: T) -> bool {
        self.first <= value && value <= self.last
    }
}

impl Range<u16> {
    fn meets(self, ports: &PortRange) -> bool {
        let last = ports.upper_port.unwrap_or(ports.lower_port);
        self.first <= last && ports.lower_port <= self.last
    }
}

impl Range<u8> {
    fn meets_types(self, types: &IcmpTypeRange) -> bool {
        let last = types.upper_type.unwrap_or(types.lower_type);
        self.first <= last && types.lower_type <= self.last
    }
}

impl Name {
    /// RFC 9244 §8.3: `*` may be the leftmost label and no other.
    fn parse(value: &str) -> Option<Self> {
        let name = match value.strip_prefix("*.") {
            Some(rest) => Self::Below(format!(".{}", rest.to_ascii_lowercase())),
            None => Self::Exact(value.to_ascii_lowercase()),
        };
        let (Self::Exact(text) | Self::Below(text)) = &name;
        (text.len() > 1 && !text.contains('*')).then_some(name)
    }

    fn takes(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        match self {
            Self::Exact(exact) => name == *exact,
            Self::Below(suffix) => host(&name).ends_with(suffix),
        }
    }
}

/// The host of a URI; of a name the name itself.
fn host(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split(['/', ':', '?']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(options: &[&str]) -> Result<Query, String> {
        let options: Vec<String> = options.iter().map(|&text| text.to_owned()).collect();
        Query::parse(&options)
    }

    fn scope() -> Scope {
        Scope {
            mid: Some(Mid(12)),
            target_prefix: vec!["203.0.113.0/28".parse().unwrap()],
            target_port_range: vec![PortRange {
                lower_port: 80,
                upper_port: Some(90),
            }],
            target_protocol: vec![6],
            target_fqdn: vec!["www.example.com".to_owned()],
            target_uri: vec!["https://shop.example.com:8443/x".to_owned()],
            alias_name: vec!["https1".to_owned()],
            ..Scope::default()
        }
    }

    #[test]
    fn targets_add_up_and_ports_narrow() {
        for (options, taken) in [
            (&[][..], true),
            (&["target-prefix=203.0.113.7"], true),
            (&["target-prefix=198.51.100.0/24"], false),
            (
                &["target-prefix=198.51.100.0/24", "alias-name=x,https1"],
                true,
            ),
            (&["target-alias=https1", "target-protocol=17"], false),
            (&["target-alias=https1", "target-protocol=1-6,17"], true),
            (&["target-port=85-443"], true),
            (&["target-port=443"], false),
            (&["target-fqdn=*.example.com"], true),
            (&["target-fqdn=WWW.example.com"], true),
            (&["target-fqdn=example.com"], false),
            (&["target-uri=*.example.com"], true),
            (&["mid=10-13"], true),
            (&["mid=13"], false),
        ] {
            let query = query(options).unwrap();
            assert_eq!(query.takes_scope(&scope()), taken, "{options:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for option in [
            "target-port=9-8",
            "target-port=70000",
            "target-port=",
            "target-prefix=a",
            "target-fqdn=www.*.com",
            "target-fqdn=*",
            "c=x",
            "colour=blue",
            "c",
            "mid=1,,2",
        ] {
            assert!(query(&[option]).is_err(), "{option}");
        }
        let many = format!("mid={}", vec!["1"; 65].join(","));
        assert!(query(&[&many]).is_err());
    }

    #[test]
    fn content_is_cut() {
        let mut whole = scope();
        whole.bytes_dropped = Some(7);
        let cut = |text: &str| query(&[text]).unwrap().cut(whole.clone());
        assert_eq!(cut("c=a"), whole);
        assert_eq!(cut("c=c").bytes_dropped, None);
        assert_eq!(cut("c=c").target_protocol, [6]);
        assert_eq!(cut("c=n").bytes_dropped, Some(7));
        assert!(cut("c=n").target_protocol.is_empty());
        assert_eq!(cut("c=n").mid, Some(Mid(12)));
    }
}
