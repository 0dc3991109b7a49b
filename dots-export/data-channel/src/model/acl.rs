//! Filters: ordered lists of entries that match packets and accept, limit or drop them (RFC 8783 §7.2).

use serde_json::{Map, Value};
use weir_dots_proto::body::ActivationType;

use super::element::{Element, put, text, unique_keys};
use super::entry::{AclState, Matched};
use super::{
    ACCESS_CONTROL, BodyFault, L3, MAX_ACL_NAME, Matches, RateLimit, Source, without_module,
};

/// The filters of a client, in the order in which they are tried.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Acls(pub Vec<Acl>);

/// A filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acl {
    /// Its name, unique within the client.
    pub name: String,
    /// The family of its matches; where a request has none, that of its first match on the network layer.
    pub kind: Option<AclType>,
    /// When it applies; `activate-when-mitigating` where a request has none.
    pub activation: ActivationType,
    /// Its entries, in the order in which they are tried.
    pub aces: Vec<Ace>,
}

/// The family that a filter's matches are of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AclType {
    /// `ipv4-acl-type`.
    Ipv4,
    /// `ipv6-acl-type`.
    Ipv6,
}

/// An entry of a filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ace {
    /// Its name, unique within the filter.
    pub name: String,
    /// What it matches.
    pub matches: Matches,
    /// What becomes of a packet that matches.
    pub actions: Actions,
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Actions {
    /// Whether it passes.
    pub forwarding: Forwarding,
    /// Up to which rate accepted packets pass.
    pub rate_limit: Option<RateLimit>,
}

/// Whether packets pass.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Forwarding {
    /// They pass and are not scrubbed.
    Accept,
    /// They are dropped, without an ICMP message.
    Drop,
}

impl Acls {
    /// Reads the value of `ietf-dots-data-channel:acls`.
    pub fn read(value: &Value, source: Source) -> Result<Self, BodyFault> {
        let mut element = Element::open(value, "acls", source)?;
        let acls = element.list("acl", |element| Acl::from_element(element, None))?;
        unique_keys(acls.iter().map(|acl| &acl.name), &element.child("acl"))?;
        element.finish()?;
        Ok(Self(acls))
    }

    /// The value of `ietf-dots-data-channel:acls`.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut members = Map::new();
        super::element::put_all(&mut members, "acl", &self.0, Acl::json);
        Value::Object(members)
    }
}

impl Acl {
    /// Reads an entry of the list `acl`; state goes to `state` where it is wanted, and is unknown where not.
    pub(super) fn from_element(
        mut element: Element<'_>,
        mut state: Option<&mut AclState>,
    ) -> Result<Self, BodyFault> {
        let place = element.place().to_owned();
        let name = element.mandatory("name", |value| text(value, MAX_ACL_NAME))?;
        let kind = element.leaf("type", AclType::read)?;
        let activation = element.leaf("activation-type", read_activation)?;
        if let Some(state) = &mut state {
            state.name.clone_from(&name);
            state.pending_lifetime = element.leaf("pending-lifetime", Value::as_i64)?;
        }
        let aces = match element.container("aces")? {
            None => Vec::new(),
            Some(mut aces) => {
                let found = aces.list("ace", |element| {
                    Ace::from_element(element, state.as_deref_mut())
                })?;
                unique_keys(found.iter().map(|ace| &ace.name), &aces.child("ace"))?;
                aces.finish()?;
                found
            }
        };
        element.finish()?;
        // The type is optional in RFC 8783 §7.2, but the module's `when` needs it.
        let kind = kind.or_else(|| family(&aces));
        let misfit = aces.iter().find(|ace| !ace.fits(kind));
        if let Some(ace) = misfit {
            let problem = format!("entry {} is not of the filter's type", ace.name);
            return Err(BodyFault::invalid(place, problem));
        }
        Ok(Self {
            name,
            kind,
            activation: activation.unwrap_or(ActivationType::ActivateWhenMitigating),
            aces,
        })
    }

    /// An entry of the list `acl`, without state.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut members = Map::new();
        put(&mut members, "name", Some(self.name.as_str()));
        put(&mut members, "type", self.kind.map(AclType::identity));
        put(
            &mut members,
            "activation-type",
            Some(self.activation.name()),
        );
        let mut aces = Map::new();
        super::element::put_all(&mut aces, "ace", &self.aces, Ace::json);
        put(&mut members, "aces", Some(Value::Object(aces)));
        Value::Object(members)
    }
}

impl AclType {
    fn read(value: &Value) -> Option<Self> {
        match without_module(value.as_str()?, ACCESS_CONTROL) {
            "ipv4-acl-type" => Some(Self::Ipv4),
            "ipv6-acl-type" => Some(Self::Ipv6),
            _ => None,
        }
    }

    fn identity(self) -> String {
        let name = match self {
            Self::Ipv4 => "ipv4-acl-type",
            Self::Ipv6 => "ipv6-acl-type",
        };
        format!("{ACCESS_CONTROL}:{name}")
    }
}

impl Ace {
    fn from_element(
        mut element: Element<'_>,
        state: Option<&mut AclState>,
    ) -> Result<Self, BodyFault> {
        let name = element.mandatory("name", |value| text(value, MAX_ACL_NAME))?;
        let matches = element
            .container("matches")?
            .map(Matches::read)
            .transpose()?;
        let matches = matches.unwrap_or_default();
        let actions = element.container("actions")?;
        let actions = actions.ok_or_else(|| element.missing("actions/forwarding"))?;
        let actions = Actions::read(actions)?;
        if let Some(state) = state
            && let Some(statistics) = element.container("statistics")?
        {
            let matched = Matched::read(statistics)?;
            state.matched.insert(name.clone(), matched);
        }
        element.finish()?;
        Ok(Self {
            name,
            matches,
            actions,
        })
    }

    fn family(&self) -> Option<AclType> {
        match self.matches.l3.as_ref()? {
            L3::Ipv4(_) => Some(AclType::Ipv4),
            L3::Ipv6(_) => Some(AclType::Ipv6),
        }
    }

    /// The `when` of `ipv4` and `ipv6`: the filter's type is of the same family (RFC 8783 §4.3).
    fn fits(&self, kind: Option<AclType>) -> bool {
        self.family().is_none_or(|family| Some(family) == kind)
    }

    /// An entry of the list `ace`, without state.
    fn json(&self) -> Value {
        let mut members = Map::new();
        put(&mut members, "name", Some(self.name.as_str()));
        if self.matches != Matches::default() {
            put(&mut members, "matches", Some(self.matches.json()));
        }
        put(&mut members, "actions", Some(self.actions.json()));
        Value::Object(members)
    }
}

/// The family of the first match on the network layer.
fn family(aces: &[Ace]) -> Option<AclType> {
    aces.iter().find_map(Ace::family)
}

impl Actions {
    /// Lets packets pass.
    pub const ACCEPT: Self = Self {
        forwarding: Forwarding::Accept,
        rate_limit: None,
    };
    /// Drops packets.
    pub const DROP: Self = Self {
        forwarding: Forwarding::Drop,
        rate_limit: None,
    };

    /// Lets packets pass up to a rate.
    #[must_use]
    pub fn limit(rate: RateLimit) -> Self {
        Self {
            forwarding: Forwarding::Accept,
            rate_limit: Some(rate),
        }
    }

    fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let forwarding = element.mandatory("forwarding", Forwarding::read)?;
        let rate_limit = element.leaf("rate-limit", RateLimit::read)?;
        if rate_limit.is_some() && forwarding != Forwarding::Accept {
            return Err(element.invalid("rate-limit", "is for accepted packets"));
        }
        element.finish()?;
        Ok(Self {
            forwarding,
            rate_limit,
        })
    }

    fn json(self) -> Value {
        let mut members = Map::new();
        put(&mut members, "forwarding", Some(self.forwarding.identity()));
        put(
            &mut members,
            "rate-limit",
            self.rate_limit.map(|rate| rate.to_string()),
        );
        Value::Object(members)
    }
}

impl Forwarding {
    pub(super) fn read(value: &Value) -> Option<Self> {
        match without_module(value.as_str()?, ACCESS_CONTROL) {
            "accept" => Some(Self::Accept),
            "drop" => Some(Self::Drop),
            // `reject` would answer an attack with ICMP messages (RFC 8783 §4.1).
            _ => None,
        }
    }

    pub(super) fn identity(self) -> String {
        let name = match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        };
        format!("{ACCESS_CONTROL}:{name}")
    }
}

fn read_activation(value: &Value) -> Option<ActivationType> {
    let name = value.as_str()?;
    let mut all = ActivationType::ALL.iter().copied();
    all.find(|activation| activation.name() == name)
}
