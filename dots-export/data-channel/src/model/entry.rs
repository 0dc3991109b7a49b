//! Entries with the state that a server adds to them (`config false`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::element::{Element, parsed, put, text};
use super::{Acl, Alias, BodyFault, MAX_ACL_NAME, Source};

/// Packets and octets that an entry of a filter has matched (RFC 8519 `acl-counters`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Matched {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub octets: u64,
}

/// An alias as a server tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AliasEntry {
    /// The alias.
    pub alias: Alias,
    /// Minutes until it expires.
    pub pending_lifetime: Option<i64>,
}

/// A filter as a server tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AclEntry {
    /// The filter.
    pub acl: Acl,
    /// Its state.
    pub state: AclState,
}

/// State of a filter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AclState {
    /// Its name.
    pub name: String,
    /// Minutes until it expires.
    pub pending_lifetime: Option<i64>,
    /// What its entries have matched, by their names.
    pub matched: BTreeMap<String, Matched>,
}

impl Matched {
    pub(super) fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let packets = element.leaf("matched-packets", parsed)?;
        let octets = element.leaf("matched-octets", parsed)?;
        element.finish()?;
        Ok(Self {
            packets: packets.unwrap_or(0),
            octets: octets.unwrap_or(0),
        })
    }

    /// The value of `statistics`: 64-bit counters are texts (RFC 7951 §6.1).
    #[must_use]
    pub fn json(self) -> Value {
        let mut members = Map::new();
        put(
            &mut members,
            "matched-packets",
            Some(self.packets.to_string()),
        );
        put(
            &mut members,
            "matched-octets",
            Some(self.octets.to_string()),
        );
        Value::Object(members)
    }
}

impl AliasEntry {
    /// Reads a server's `ietf-dots-data-channel:aliases`.
    pub fn read_all(value: &Value) -> Result<Vec<Self>, BodyFault> {
        let mut element = Element::open(value, "aliases", Source::Answer)?;
        element.list("alias", |mut element| {
            let pending_lifetime = element.leaf("pending-lifetime", Value::as_i64)?;
            Ok(Self {
                alias: Alias::from_element(element)?,
                pending_lifetime,
            })
        })
    }
}

impl AclEntry {
    /// Reads a server's `ietf-dots-data-channel:acls`, with configuration.
    pub fn read_all(value: &Value) -> Result<Vec<Self>, BodyFault> {
        let mut element = Element::open(value, "acls", Source::Answer)?;
        element.list("acl", |element| {
            let mut state = AclState::default();
            let acl = Acl::from_element(element, Some(&mut state))?;
            Ok(Self { acl, state })
        })
    }
}

impl AclState {
    /// Reads a server's `ietf-dots-data-channel:acls` without configuration (RFC 8783 Figure 31).
    pub fn read_all(value: &Value) -> Result<Vec<Self>, BodyFault> {
        let mut element = Element::open(value, "acls", Source::Answer)?;
        element.list("acl", |mut element| {
            let mut state = Self {
                name: element.mandatory("name", |value| text(value, MAX_ACL_NAME))?,
                pending_lifetime: element.leaf("pending-lifetime", Value::as_i64)?,
                matched: BTreeMap::new(),
            };
            if let Some(mut aces) = element.container("aces")? {
                aces.list("ace", |mut ace| {
                    let name = ace.mandatory("name", |value| text(value, MAX_ACL_NAME))?;
                    if let Some(statistics) = ace.container("statistics")? {
                        state.matched.insert(name, Matched::read(statistics)?);
                    }
                    Ok(())
                })?;
            }
            Ok(state)
        })
    }
}
