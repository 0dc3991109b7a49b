//! The resource that a client registers (RFC 8783 §5.1).

use serde_json::{Map, Value};
use weir_dots_proto::Cuid;

use super::element::{Element, put, text};
use super::{Acls, Aliases, BodyFault, Source, VENDOR_MAPPING, VendorMapping};

/// Longest `cdid` that is taken, in octets, as on the signal channel.
const MAX_CDID: usize = 250;

/// An entry of the list `dots-client`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The client's identifier, the same as on the signal channel.
    pub cuid: Cuid,
    /// The client's domain, as a server-domain gateway tells it.
    pub cdid: Option<String>,
    /// Aliases that come with the registration.
    pub aliases: Aliases,
    /// Filters that come with it.
    pub acls: Acls,
    /// Vendor mappings that come with it.
    pub mapping: VendorMapping,
}

impl Registration {
    /// A registration of nothing but a client.
    #[must_use]
    pub fn new(cuid: Cuid) -> Self {
        Self {
            cuid,
            cdid: None,
            aliases: Aliases::default(),
            acls: Acls::default(),
            mapping: VendorMapping::default(),
        }
    }

    /// Reads the value of `ietf-dots-data-channel:dots-client`: a list of exactly one entry (RFC 8783 §5.1).
    pub fn read(value: &Value, source: Source) -> Result<Self, BodyFault> {
        let entry = match value.as_array().map(Vec::as_slice) {
            Some([entry]) => entry,
            Some([]) => return Err(BodyFault::missing("dots-client/cuid", "is missing")),
            _ => return Err(BodyFault::invalid("dots-client", "must be one client")),
        };
        let mut element = Element::open(entry, "dots-client", source)?;
        let part = |value: Option<&Value>| value.cloned().unwrap_or(Value::Object(Map::new()));
        let found = Self {
            cuid: element.mandatory("cuid", |value| Cuid::new(value.as_str()?).ok())?,
            cdid: element.leaf("cdid", |value| text(value, MAX_CDID))?,
            aliases: Aliases::read(&part(element.optional("aliases")), source)?,
            acls: Acls::read(&part(element.optional("acls")), source)?,
            mapping: VendorMapping::read(&part(element.optional(VENDOR_MAPPING)), source)?,
        };
        element.finish()?;
        Ok(found)
    }

    /// An entry of the list `dots-client`, without empty parts.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut members = Map::new();
        put(&mut members, "cuid", Some(self.cuid.as_str()));
        put(&mut members, "cdid", self.cdid.as_deref());
        let filled = |value: Value| {
            value
                .as_object()
                .is_some_and(|o| !o.is_empty())
                .then_some(value)
        };
        put(&mut members, "aliases", filled(self.aliases.json()));
        put(&mut members, "acls", filled(self.acls.json()));
        put(&mut members, VENDOR_MAPPING, filled(self.mapping.json()));
        Value::Object(members)
    }
}
