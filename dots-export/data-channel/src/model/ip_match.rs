//! Matches on the network layer's header (RFC 8519, RFC 8783 §4.2).

use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::{Map, Value};

use super::element::{Element, parsed, put};
use super::{BodyFault, FragmentType, Ipv4Flags, Operator};

/// Fields of the IPv4 header; absent ones match anything.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Ipv4Match {
    /// Differentiated services code point, 0 to 63.
    pub dscp: Option<u8>,
    /// Explicit congestion notification, 0 to 3.
    pub ecn: Option<u8>,
    /// Total length in octets.
    pub length: Option<u16>,
    /// Time to live.
    pub ttl: Option<u8>,
    /// Protocol number.
    pub protocol: Option<u8>,
    /// Header length in 32-bit words, 5 to 60 (the module's bounds).
    pub ihl: Option<u8>,
    /// Flags, not together with [`Self::fragment`].
    pub flags: Option<Ipv4Flags>,
    /// Fragment offset, 20 to 65535 (the module's bounds).
    pub offset: Option<u16>,
    /// Identification.
    pub identification: Option<u16>,
    /// Where the packet goes.
    pub destination: Option<Ipv4Net>,
    /// Where it comes from.
    pub source: Option<Ipv4Net>,
    /// Kind of fragment.
    pub fragment: Option<FragmentMatch>,
}

/// Fields of the IPv6 header; absent ones match anything.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Ipv6Match {
    /// Differentiated services code point, 0 to 63.
    pub dscp: Option<u8>,
    /// Explicit congestion notification, 0 to 3.
    pub ecn: Option<u8>,
    /// Payload length in octets.
    pub length: Option<u16>,
    /// Hop limit.
    pub ttl: Option<u8>,
    /// Number of the upper-layer protocol.
    pub protocol: Option<u8>,
    /// Where the packet goes.
    pub destination: Option<Ipv6Net>,
    /// Where it comes from.
    pub source: Option<Ipv6Net>,
    /// Flow label, 20 bits.
    pub flow_label: Option<u32>,
    /// Kind of fragment.
    pub fragment: Option<FragmentMatch>,
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

impl Ipv4Match {
    pub(super) fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let found = Self {
            dscp: element.ranged("dscp", 0..=63)?,
            ecn: element.ranged("ecn", 0..=3)?,
            length: element.number("length")?,
            ttl: element.number("ttl")?,
            protocol: element.number("protocol")?,
            ihl: element.ranged("ihl", 5..=60)?,
            flags: element.leaf("flags", Ipv4Flags::read)?,
            offset: element.ranged("offset", 20..=65_535)?,
            identification: element.number("identification")?,
            destination: network(&mut element, "destination-ipv4-network", Ipv4Net::trunc)?,
            source: network(&mut element, "source-ipv4-network", Ipv4Net::trunc)?,
            fragment: fragment(&mut element)?,
        };
        if found.flags.is_some() && found.fragment.is_some() {
            return Err(element.invalid("flags", "stands beside fragment"));
        }
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
        put(&mut members, "ihl", self.ihl);
        put(&mut members, "flags", self.flags);
        put(&mut members, "offset", self.offset);
        put(&mut members, "identification", self.identification);
        let text = |network: Option<Ipv4Net>| network.map(|network| network.to_string());
        put(
            &mut members,
            "destination-ipv4-network",
            text(self.destination),
        );
        put(&mut members, "source-ipv4-network", text(self.source));
        put(
            &mut members,
            "fragment",
            self.fragment.map(FragmentMatch::json),
        );
        Value::Object(members)
    }
}

impl Ipv6Match {
    pub(super) fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let found = Self {
            dscp: element.ranged("dscp", 0..=63)?,
            ecn: element.ranged("ecn", 0..=3)?,
            length: element.number("length")?,
            ttl: element.number("ttl")?,
            protocol: element.number("protocol")?,
            destination: network(&mut element, "destination-ipv6-network", Ipv6Net::trunc)?,
            source: network(&mut element, "source-ipv6-network", Ipv6Net::trunc)?,
            flow_label: element.ranged("flow-label", 0..=0xf_ffff)?,
            fragment: fragment(&mut element)?,
        };
        if found
            .fragment
            .is_some_and(|fragment| fragment.kind.contains(FragmentType::DF))
        {
            return Err(element.invalid("fragment", "df does not exist in IPv6"));
        }
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
        let text = |network: Option<Ipv6Net>| network.map(|network| network.to_string());
        put(
            &mut members,
            "destination-ipv6-network",
            text(self.destination),
        );
        put(&mut members, "source-ipv6-network", text(self.source));
        put(&mut members, "flow-label", self.flow_label);
        put(
            &mut members,
            "fragment",
            self.fragment.map(FragmentMatch::json),
        );
        Value::Object(members)
    }
}

/// A prefix in its canonical form, without the bits behind it.
fn network<T: std::str::FromStr>(
    element: &mut Element<'_>,
    name: &str,
    canonical: impl Fn(&T) -> T,
) -> Result<Option<T>, BodyFault> {
    let found = element.leaf(name, parsed::<T>)?;
    Ok(found.as_ref().map(canonical))
}

fn fragment(element: &mut Element<'_>) -> Result<Option<FragmentMatch>, BodyFault> {
    element
        .container("fragment")?
        .map(FragmentMatch::read)
        .transpose()
}
