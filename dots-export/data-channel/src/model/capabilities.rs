//! Which filters a server can enforce (RFC 8783 §7.1).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::element::{Element, put, put_all, unsigned};
use super::matches::{DESTINATION_PORT, SOURCE_PORT};
use super::{Acl, BodyFault, Forwarding, L3, L4, PortMatch, PortOperator, Source};

/// Families of addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AddressFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Supported match fields of one header, by the names of RFC 8783 Figure 10.
pub type Supported = BTreeSet<&'static str>;

/// What a server supports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// Families of addresses.
    pub address_families: Vec<AddressFamily>,
    /// Forwarding actions.
    pub forwarding_actions: Vec<Forwarding>,
    /// Whether accepted traffic can be limited.
    pub rate_limit: bool,
    /// Protocol numbers of the transport layer.
    pub transport_protocols: Vec<u8>,
    /// Fields of the IPv4 header.
    pub ipv4: Supported,
    /// Fields of the IPv6 header.
    pub ipv6: Supported,
    /// Fields of the TCP header.
    pub tcp: Supported,
    /// Fields of the UDP header.
    pub udp: Supported,
    /// Fields of the ICMP and ICMPv6 headers.
    pub icmp: Supported,
    /// Whether vendor mappings can be exchanged (RFC 9244 §8.1.6).
    pub vendor_mapping: bool,
}

const IPV4: &[&str] = &[
    "dscp",
    "ecn",
    "length",
    "ttl",
    "protocol",
    "ihl",
    "flags",
    "offset",
    "identification",
    "source-prefix",
    "destination-prefix",
    "fragment",
];
const IPV6: &[&str] = &[
    "dscp",
    "ecn",
    "length",
    "hoplimit",
    "protocol",
    "destination-prefix",
    "source-prefix",
    "flow-label",
    "fragment",
];
const TCP: &[&str] = &[
    "sequence-number",
    "acknowledgement-number",
    "data-offset",
    "reserved",
    "flags",
    "window-size",
    "urgent-pointer",
    "options",
    "flags-bitmask",
    "source-port",
    "destination-port",
    "port-range",
];
const UDP: &[&str] = &["length", "source-port", "destination-port", "port-range"];
const ICMP: &[&str] = &["type", "code", "rest-of-header"];

impl Capabilities {
    /// What every implementation supports (RFC 8783 Table 1, Figure 23), with rate limits and vendor mappings.
    #[must_use]
    pub fn mandatory() -> Self {
        let ip = [
            "length",
            "protocol",
            "destination-prefix",
            "source-prefix",
            "fragment",
        ];
        Self {
            address_families: vec![AddressFamily::Ipv4, AddressFamily::Ipv6],
            forwarding_actions: vec![Forwarding::Drop, Forwarding::Accept],
            rate_limit: true,
            transport_protocols: vec![1, 6, 17, 58],
            ipv4: ip.into(),
            ipv6: ip.into(),
            tcp: [
                "flags-bitmask",
                "source-port",
                "destination-port",
                "port-range",
            ]
            .into(),
            udp: UDP.iter().copied().collect(),
            icmp: ["type", "code"].into(),
            vendor_mapping: true,
        }
    }

    /// Everything that the module has.
    #[must_use]
    pub fn all() -> Self {
        let all = |names: &[&'static str]| names.iter().copied().collect();
        Self {
            ipv4: all(IPV4),
            ipv6: all(IPV6),
            tcp: all(TCP),
            udp: all(UDP),
            icmp: all(ICMP),
            ..Self::mandatory()
        }
    }

    /// Reads the value of `ietf-dots-data-channel:capabilities`.
    pub fn read(value: &Value, source: Source) -> Result<Self, BodyFault> {
        let mut element = Element::open(value, "capabilities", source)?;
        let found = Self {
            address_families: element.leaf_list("address-family", AddressFamily::read)?,
            forwarding_actions: element
                .leaf_list("forwarding-actions", action)?
                .into_iter()
                .flatten()
                .collect(),
            rate_limit: flag(&mut element, "rate-limit")?,
            transport_protocols: element.leaf_list("transport-protocols", unsigned)?,
            ipv4: supported(&mut element, "ipv4", IPV4)?,
            ipv6: supported(&mut element, "ipv6", IPV6)?,
            tcp: supported(&mut element, "tcp", TCP)?,
            udp: supported(&mut element, "udp", UDP)?,
            icmp: supported(&mut element, "icmp", ICMP)?,
            vendor_mapping: flag(&mut element, VENDOR_MAPPING_ENABLED)?,
        };
        element.finish()?;
        Ok(found)
    }

    /// The value of `ietf-dots-data-channel:capabilities`.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut members = Map::new();
        put_all(
            &mut members,
            "address-family",
            &self.address_families,
            |family| family.name().into(),
        );
        put_all(
            &mut members,
            "forwarding-actions",
            &self.forwarding_actions,
            |action| action.identity().into(),
        );
        put(&mut members, "rate-limit", Some(self.rate_limit));
        put_all(
            &mut members,
            "transport-protocols",
            &self.transport_protocols,
            |number| (*number).into(),
        );
        for (header, names) in self.headers() {
            let flags = names
                .iter()
                .map(|name| ((*name).to_owned(), Value::Bool(true)));
            let flags: Map<String, Value> = flags.collect();
            put(&mut members, header, Some(Value::Object(flags)));
        }
        put(
            &mut members,
            VENDOR_MAPPING_ENABLED,
            Some(self.vendor_mapping),
        );
        Value::Object(members)
    }

    /// Refuses a filter with something that is not supported.
    pub fn check(&self, acl: &Acl) -> Result<(), BodyFault> {
        for ace in &acl.aces {
            let place = format!("acl[name='{}']/ace[name='{}']", acl.name, ace.name);
            let unsupported =
                |what: &str| BodyFault::unknown(place.clone(), format!("{what} is not supported"));
            if !self.forwarding_actions.contains(&ace.actions.forwarding) {
                return Err(unsupported(&ace.actions.forwarding.identity()));
            }
            if ace.actions.rate_limit.is_some() && !self.rate_limit {
                return Err(unsupported("rate-limit"));
            }
            for (header, field) in needs(&ace.matches) {
                let known = self.headers().into_iter().find(|(name, _)| *name == header);
                if !known.is_some_and(|(_, names)| names.contains(field.as_str())) {
                    return Err(unsupported(&format!("{header}/{field}")));
                }
            }
            let family = match &ace.matches.l3 {
                Some(L3::Ipv4(_)) => Some(AddressFamily::Ipv4),
                Some(L3::Ipv6(_)) => Some(AddressFamily::Ipv6),
                None => None,
            };
            if family.is_some_and(|family| !self.address_families.contains(&family)) {
                return Err(unsupported("the address family"));
            }
        }
        Ok(())
    }

    fn headers(&self) -> [(&'static str, &Supported); 5] {
        [
            ("ipv4", &self.ipv4),
            ("ipv6", &self.ipv6),
            ("tcp", &self.tcp),
            ("udp", &self.udp),
            ("icmp", &self.icmp),
        ]
    }
}

const VENDOR_MAPPING_ENABLED: &str = "ietf-dots-mapping:vendor-mapping-enabled";

impl AddressFamily {
    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "ipv4" => Some(Self::Ipv4),
            "ipv6" => Some(Self::Ipv6),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// An action of a peer: one that we do not know is none that we could ask for.
fn action(value: &Value) -> Option<Option<Forwarding>> {
    value.as_str().map(|_| Forwarding::read(value))
}

fn flag(element: &mut Element<'_>, name: &str) -> Result<bool, BodyFault> {
    Ok(element.leaf(name, Value::as_bool)?.unwrap_or(false))
}

fn supported(
    element: &mut Element<'_>,
    header: &str,
    names: &[&'static str],
) -> Result<Supported, BodyFault> {
    let mut found = Supported::new();
    if let Some(mut header) = element.container(header)? {
        for name in names {
            if flag(&mut header, name)? {
                found.insert(name);
            }
        }
        header.finish()?;
    }
    Ok(found)
}

/// The fields that matches need, as header and capability.
fn needs(matches: &super::Matches) -> Vec<(&'static str, String)> {
    let mut needed = Vec::new();
    let json = matches.json();
    for header in ["ipv4", "ipv6", "tcp", "udp", "icmp"] {
        let fields = json.get(header).and_then(Value::as_object);
        for field in fields.into_iter().flatten().map(|(name, _)| name.as_str()) {
            needed.push((header, capability(header, field).to_owned()));
        }
    }
    let ports = match &matches.l4 {
        Some(L4::Tcp(tcp)) => [("tcp", tcp.source_port), ("tcp", tcp.destination_port)],
        Some(L4::Udp(udp)) => [("udp", udp.source_port), ("udp", udp.destination_port)],
        _ => return needed,
    };
    for (header, port) in ports {
        if port.is_some_and(|port| !matches!(port, PortMatch::Operator(PortOperator::Eq, _))) {
            needed.push((header, "port-range".to_owned()));
        }
    }
    needed
}

fn capability<'a>(header: &str, field: &'a str) -> &'a str {
    match field {
        "destination-ipv4-network" | "destination-ipv6-network" => "destination-prefix",
        "source-ipv4-network" | "source-ipv6-network" => "source-prefix",
        "ttl" if header == "ipv6" => "hoplimit",
        SOURCE_PORT => "source-port",
        DESTINATION_PORT => "destination-port",
        field => field,
    }
}
