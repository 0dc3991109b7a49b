//! Aliases of targets (RFC 8783 §6).

use serde_json::{Map, Value};
use weir_dots_proto::body::{PortRange, Target};

use super::element::{Element, parsed, put, put_all, text, unique_keys, unsigned};
use weir_dots_proto::{is_domain_name, is_uri};

use super::{BodyFault, MAX_ALIAS_NAME, Source};

/// A name for resources, to be used in mitigation requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alias {
    /// Its name, unique within the client.
    pub name: String,
    /// What it stands for: at least one prefix, name or URI. `alias_name` and `mid_list` are empty.
    pub target: Target,
}

/// The aliases of a client.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Aliases(pub Vec<Alias>);

impl Aliases {
    /// Reads the value of `ietf-dots-data-channel:aliases`.
    pub fn read(value: &Value, source: Source) -> Result<Self, BodyFault> {
        let mut element = Element::open(value, "aliases", source)?;
        let aliases = element.list("alias", Alias::from_element)?;
        unique_keys(
            aliases.iter().map(|alias| &alias.name),
            &element.child("alias"),
        )?;
        element.finish()?;
        Ok(Self(aliases))
    }

    /// The value of `ietf-dots-data-channel:aliases`.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut members = Map::new();
        put_all(&mut members, "alias", &self.0, Alias::json);
        Value::Object(members)
    }
}

impl Alias {
    pub(super) fn from_element(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let name = element.mandatory("name", |value| text(value, MAX_ALIAS_NAME))?;
        let prefixes = element.leaf_list("target-prefix", parsed::<ipnet::IpNet>)?;
        let ports = element.list("target-port-range", port_range)?;
        unique_keys(
            ports.iter().map(|range| range.lower_port),
            &element.child("target-port-range"),
        )?;
        let target = Target {
            target_prefix: prefixes.iter().map(ipnet::IpNet::trunc).collect(),
            target_port_range: ports,
            target_protocol: element.leaf_list("target-protocol", unsigned)?,
            target_fqdn: element.leaf_list("target-fqdn", |value| string(value, is_domain_name))?,
            target_uri: element.leaf_list("target-uri", |value| string(value, is_uri))?,
            alias_name: Vec::new(),
            mid_list: Vec::new(),
        };
        if target.target_prefix.is_empty()
            && target.target_fqdn.is_empty()
            && target.target_uri.is_empty()
        {
            let problem = "needs a target-prefix, target-fqdn or target-uri";
            return Err(BodyFault::missing(element.place(), problem));
        }
        element.skip_vendor_specific();
        element.finish()?;
        Ok(Self { name, target })
    }

    /// An entry of the list `alias`.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut members = Map::new();
        let target = &self.target;
        put(&mut members, "name", Some(self.name.as_str()));
        put_all(
            &mut members,
            "target-prefix",
            &target.target_prefix,
            |prefix| prefix.to_string().into(),
        );
        put_all(
            &mut members,
            "target-port-range",
            &target.target_port_range,
            |range| {
                let mut members = Map::new();
                put(&mut members, "lower-port", Some(range.lower_port));
                put(&mut members, "upper-port", range.upper_port);
                Value::Object(members)
            },
        );
        put_all(
            &mut members,
            "target-protocol",
            &target.target_protocol,
            |number| (*number).into(),
        );
        put_all(&mut members, "target-fqdn", &target.target_fqdn, |name| {
            name.as_str().into()
        });
        put_all(&mut members, "target-uri", &target.target_uri, |uri| {
            uri.as_str().into()
        });
        Value::Object(members)
    }
}

fn port_range(mut element: Element<'_>) -> Result<PortRange, BodyFault> {
    let lower_port = element.mandatory("lower-port", unsigned)?;
    let upper_port = element.number("upper-port")?;
    if upper_port.is_some_and(|upper: u16| upper < lower_port) {
        return Err(element.invalid("upper-port", "is below lower-port"));
    }
    element.finish()?;
    Ok(PortRange {
        lower_port,
        upper_port,
    })
}

fn string(value: &Value, is_valid: impl Fn(&str) -> bool) -> Option<String> {
    let text = value.as_str()?;
    is_valid(text).then(|| text.to_owned())
}
