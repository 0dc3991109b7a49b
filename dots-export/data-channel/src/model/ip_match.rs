//! Matches on the network layer's header (RFC 8519, RFC 8783 §4.2).

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::{Map, Value};

use super::element::{Element, parsed, put};
use super::{BodyFault, FragmentType, Ipv4Flags, Operator};

/// Fields of the IPv4 header.
pub type Ipv4Match = IpMatch<Ipv4Only>;
/// Fields of the IPv6 header.
pub type Ipv6Match = IpMatch<Ipv6Only>;

/// Fields of an IP header; absent ones match anything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IpMatch<F: Family> {
    /// Differentiated services code point, 0 to 63.
    pub dscp: Option<u8>,
    /// Explicit congestion notification, 0 to 3.
    pub ecn: Option<u8>,
    /// Octets: of the packet (IPv4), of its payload (IPv6).
    pub length: Option<u16>,
    /// Time to live, or hop limit.
    pub ttl: Option<u8>,
    /// Number of the upper-layer protocol.
    pub protocol: Option<u8>,
    /// Where the packet goes.
    pub destination: Option<F::Net>,
    /// Where it comes from.
    pub source: Option<F::Net>,
    /// Kind of fragment.
    pub fragment: Option<FragmentMatch>,
    /// What only this family has.
    pub own: F,
}

/// A family of addresses, by the fields that only its header has.
pub trait Family: Clone + Eq + Hash + Debug + Default + fields::Fields<Self::Net> {
    /// Its prefixes.
    type Net: Copy + Eq + Hash + Debug + Display + FromStr;
}

impl Family for Ipv4Only {
    type Net = Ipv4Net;
}

impl Family for Ipv6Only {
    type Net = Ipv6Net;
}

/// How the families differ: for this module alone.
mod fields {
    use serde_json::{Map, Value};

    use super::{BodyFault, Element, FragmentMatch};

    pub trait Fields<N>: Sized {
        /// Names of the members for destination and source.
        const ENDS: [&'static str; 2];

        /// The prefix without the bits behind it.
        fn canonical(network: &N) -> N;

        /// Reads its own fields; an error where they, or the kinds of fragments, do not go together.
        fn read(
            element: &mut Element<'_>,
            fragment: Option<&FragmentMatch>,
        ) -> Result<Self, BodyFault>;

        /// Writes its own fields.
        fn write(&self, members: &mut Map<String, Value>);
    }
}

/// Fields that only IPv4 has.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Ipv4Only {
    /// Header length in 32-bit words, 5 to 60 (the module's bounds).
    pub ihl: Option<u8>,
    /// Flags, not together with [`IpMatch::fragment`].
    pub flags: Option<Ipv4Flags>,
    /// Fragment offset, 20 to 65535 (the module's bounds).
    pub offset: Option<u16>,
    /// Identification.
    pub identification: Option<u16>,
}

/// Fields that only IPv6 has.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Ipv6Only {
    /// Flow label, 20 bits.
    pub flow_label: Option<u32>,
}

/// A match on fragments.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FragmentMatch {
    /// How the kinds are applied; `match` where a request has none.
    pub operator: Operator,
    /// The kinds.
    pub kind: FragmentType,
}

impl FragmentMatch {
    fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let operator = read_operator(&mut element)?;
        let kind = element.mandatory("type", FragmentType::read)?;
        element.finish()?;
        Ok(Self { operator, kind })
    }

    fn json(self) -> Value {
        let mut members = Map::new();
        put(&mut members, "operator", Some(self.operator));
        put(&mut members, "type", Some(self.kind));
        Value::Object(members)
    }
}

/// The operator of a mask: `any` and `match` exclude each other (RFC 8783 §4.3).
pub(super) fn read_operator(element: &mut Element<'_>) -> Result<Operator, BodyFault> {
    let operator = element.leaf("operator", Operator::read)?;
    let operator = operator.unwrap_or(Operator::MATCH);
    if operator.contains(Operator::ANY.with(Operator::MATCH)) {
        return Err(element.invalid("operator", "is both any and match"));
    }
    Ok(operator)
}

impl<F: Family> Default for IpMatch<F> {
    fn default() -> Self {
        Self {
            dscp: None,
            ecn: None,
            length: None,
            ttl: None,
            protocol: None,
            destination: None,
            source: None,
            fragment: None,
            own: F::default(),
        }
    }
}

impl<F: Family> IpMatch<F> {
    /// Whether nothing but addresses is looked at.
    pub(super) fn is_of_all_traffic(&self) -> bool {
        *self
            == Self {
                source: self.source,
                destination: self.destination,
                ..Self::default()
            }
    }

    pub(super) fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let [destination, source] = F::ENDS;
        let fragment = fragment(&mut element)?;
        let found = Self {
            dscp: element.ranged("dscp", 0..=63)?,
            ecn: element.ranged("ecn", 0..=3)?,
            length: element.number("length")?,
            ttl: element.number("ttl")?,
            protocol: element.number("protocol")?,
            destination: network::<F>(&mut element, destination)?,
            source: network::<F>(&mut element, source)?,
            fragment,
            own: F::read(&mut element, fragment.as_ref())?,
        };
        element.finish()?;
        Ok(found)
    }

    pub(super) fn json(&self) -> Value {
        let mut members = Map::new();
        put(&mut members, "dscp", self.dscp);
        put(&mut members, "ecn", self.ecn);
        put(&mut members, "length", self.length);
        put(&mut members, "ttl", self.ttl);
        put(&mut members, "protocol", self.protocol);
        for (name, network) in F::ENDS.into_iter().zip([self.destination, self.source]) {
            put(
                &mut members,
                name,
                network.map(|network| network.to_string()),
            );
        }
        self.own.write(&mut members);
        let fragment = self.fragment.map(FragmentMatch::json);
        put(&mut members, "fragment", fragment);
        Value::Object(members)
    }
}

impl fields::Fields<Ipv4Net> for Ipv4Only {
    const ENDS: [&'static str; 2] = ["destination-ipv4-network", "source-ipv4-network"];

    fn canonical(network: &Ipv4Net) -> Ipv4Net {
        network.trunc()
    }

    fn read(
        element: &mut Element<'_>,
        fragment: Option<&FragmentMatch>,
    ) -> Result<Self, BodyFault> {
        let found = Self {
            ihl: element.ranged("ihl", 5..=60)?,
            flags: element.leaf("flags", Ipv4Flags::read)?,
            offset: element.ranged("offset", 20..=65_535)?,
            identification: element.number("identification")?,
        };
        if found.flags.is_some() && fragment.is_some() {
            return Err(element.invalid("flags", "stands beside fragment"));
        }
        Ok(found)
    }

    fn write(&self, members: &mut Map<String, Value>) {
        put(members, "ihl", self.ihl);
        put(members, "flags", self.flags);
        put(members, "offset", self.offset);
        put(members, "identification", self.identification);
    }
}

impl fields::Fields<Ipv6Net> for Ipv6Only {
    const ENDS: [&'static str; 2] = ["destination-ipv6-network", "source-ipv6-network"];

    fn canonical(network: &Ipv6Net) -> Ipv6Net {
        network.trunc()
    }

    fn read(
        element: &mut Element<'_>,
        fragment: Option<&FragmentMatch>,
    ) -> Result<Self, BodyFault> {
        if fragment.is_some_and(|fragment| fragment.kind.contains(FragmentType::DF)) {
            return Err(element.invalid("fragment", "df does not exist in IPv6"));
        }
        Ok(Self {
            flow_label: element.ranged("flow-label", 0..=0xf_ffff)?,
        })
    }

    fn write(&self, members: &mut Map<String, Value>) {
        put(members, "flow-label", self.flow_label);
    }
}

/// A prefix in its canonical form.
fn network<F: Family>(element: &mut Element<'_>, name: &str) -> Result<Option<F::Net>, BodyFault> {
    let found = element.leaf(name, parsed::<F::Net>)?;
    Ok(found.as_ref().map(F::canonical))
}

fn fragment(element: &mut Element<'_>) -> Result<Option<FragmentMatch>, BodyFault> {
    element
        .container("fragment")?
        .map(FragmentMatch::read)
        .transpose()
}
