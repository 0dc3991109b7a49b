//! POST, PUT, PATCH and DELETE.
//!
//! A section of a client (aliases, filters, vendor mapping) is edited as a tree of JSON, read as a whole under the rules
//! of a request, and then replaces the stored one; so whatever resource is edited, down to a leaf, what results is valid.

use serde_json::Value;
use weir_dots_proto::Cuid;

use super::Service;
use super::edit::{self, Edited};
use super::error::{Refusal, Tag};
use super::message::{Method, Response};
use super::path::{Resource, Step, encoded, member};
use super::query::{Content, Query};
use super::read::section_json;
use super::tree;
use crate::model::{
    Acls, Aliases, BodyFault, DATA_CHANNEL, MAPPING, Registration, Source, VENDOR_MAPPING,
    VendorMapping,
};
use crate::store::Written;
use crate::{Peer, UnixTime};

impl Service {
    pub(super) fn write(
        &mut self,
        method: Method,
        peer: &Peer,
        resource: &Resource,
        query: &Query,
        body: &Value,
        now: UnixTime,
    ) -> Result<Response, Refusal> {
        match resource {
            Resource::Datastore if method == Method::Post => {
                let (name, data) = only_member(body)?;
                if name != "dots-data" {
                    return Err(unknown(name));
                }
                let clients = data.get("dots-client").ok_or_else(no_cuid)?;
                self.register(peer, clients, query, now)
            }
            Resource::DotsData if method == Method::Post => {
                let (name, clients) = only_member(body)?;
                if name != "dots-client" {
                    return Err(unknown(name));
                }
                self.register(peer, clients, query, now)
            }
            Resource::Client { cuid, steps } if steps.is_empty() && method != Method::Post => {
                query_without_list(query)?;
                self.write_client(method, peer, cuid, body, now)
            }
            Resource::Client { cuid, steps } => {
                self.write_below(method, peer, cuid, steps, query, body, now)
            }
            _ => Err(Refusal::not_supported()),
        }
    }

    fn register(
        &mut self,
        peer: &Peer,
        clients: &Value,
        query: &Query,
        now: UnixTime,
    ) -> Result<Response, Refusal> {
        query_without_list(query)?;
        let registration = Registration::read(clients, Source::Request)?;
        let location = self.location(&registration.cuid, &[]);
        self.store.register(peer, registration, now)?;
        Ok(Response::empty(201).with("location", location))
    }

    /// A client as a whole.
    fn write_client(
        &mut self,
        method: Method,
        peer: &Peer,
        cuid: &Cuid,
        body: &Value,
        now: UnixTime,
    ) -> Result<Response, Refusal> {
        if method == Method::Delete {
            return match self.store.deregister(peer, cuid) {
                true => Ok(Response::empty(204)),
                false => Err(Refusal::not_found()),
            };
        }
        let (name, clients) = only_member(body)?;
        if name != "dots-client" {
            return Err(unknown(name));
        }
        let mut clients = clients.clone();
        if method == Method::Patch {
            let client = self
                .store
                .client(&peer.name, cuid)
                .ok_or_else(Refusal::not_found)?;
            let mut merged = Value::Array(vec![client.registration(cuid).json()]);
            tree::merge("dots-client", &mut merged, &clients);
            clients = merged;
        }
        let registration = Registration::read(&clients, Source::Request)?;
        if registration.cuid != *cuid {
            return Err(Refusal::bad(
                Tag::InvalidValue,
                "the cuid is not that of the path",
            ));
        }
        match self.store.replace(peer, registration, now)? {
            Written::Created => Ok(Response::empty(201).with("location", self.location(cuid, &[]))),
            Written::Replaced => Ok(Response::empty(204)),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a request, taken apart")]
    fn write_below(
        &mut self,
        method: Method,
        peer: &Peer,
        cuid: &Cuid,
        steps: &[Step],
        query: &Query,
        body: &Value,
        now: UnixTime,
    ) -> Result<Response, Refusal> {
        // POST to the client itself: the section that the body names gets new entries (RFC 8783 §6.1).
        let section = match steps.first() {
            Some(step) if step.key.is_none() => step.name.clone(),
            Some(_) => return Err(Refusal::not_found()),
            None => only_member(body)?.0.to_owned(),
        };
        if !["aliases", "acls", VENDOR_MAPPING].contains(&section.as_str()) {
            return Err(match steps.first() {
                Some(step) if ["cuid", "cdid"].contains(&step.name.as_str()) => {
                    Refusal::not_supported()
                }
                Some(_) => Refusal::not_found(),
                None => unknown(&section),
            });
        }
        let client = self.store.client(&peer.name, cuid);
        let client = client.ok_or_else(|| match method {
            Method::Delete => Refusal::not_found(),
            _ => Refusal::denied("the client is not registered: register first"),
        })?;
        let mut tree = section_json(client, &section, Content::Config, now);
        let place = edit::Place::of(query, &self.settings.root, cuid)?;
        let edited = edit::apply(method, &mut tree, &section, steps, body, &place)?;
        self.store_section(peer, cuid, &section, &tree, &edited, now)?;
        Ok(match edited.created {
            Some(below) => Response::empty(201).with("location", self.location(cuid, &below)),
            None => Response::empty(204),
        })
    }

    fn store_section(
        &mut self,
        peer: &Peer,
        cuid: &Cuid,
        section: &str,
        tree: &Value,
        edited: &Edited,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let refresh = &edited.refresh;
        match section {
            "aliases" => {
                let aliases = Aliases::read(tree, Source::Request)?;
                self.store.set_aliases(peer, cuid, aliases, refresh, now)?;
            }
            "acls" => {
                let acls = Acls::read(tree, Source::Request)?;
                self.store.set_acls(peer, cuid, acls, refresh, now)?;
            }
            _ if !self.store.capabilities().vendor_mapping => {
                let fault = BodyFault::unknown("vendor-mapping", "is not supported");
                return Err(fault.into());
            }
            _ => {
                let mapping = VendorMapping::read(tree, Source::Request)?;
                self.store.set_mapping(peer, cuid, mapping, now)?;
            }
        }
        Ok(())
    }

    /// The path of a resource of a client.
    fn location(&self, cuid: &Cuid, below: &[Step]) -> String {
        let mut path = format!(
            "{}/data/{DATA_CHANNEL}:dots-data/dots-client={}",
            self.settings.root,
            encoded(cuid.as_str())
        );
        for step in below {
            path.push('/');
            path.push_str(&step.encoded());
        }
        path
    }
}

/// The single member of a body, by its name without the module.
pub(super) fn only_member(body: &Value) -> Result<(&str, &Value), Refusal> {
    let Some(members) = body.as_object() else {
        return Err(Refusal::bad(Tag::InvalidValue, "the body is not an object"));
    };
    let mut members = members.iter();
    match (members.next(), members.next()) {
        (Some((name, value)), None) => {
            // RFC 7951 §4: the names of a top-level object have their module.
            let is_qualified = [DATA_CHANNEL, MAPPING].iter().any(|module| {
                name.strip_prefix(module)
                    .is_some_and(|r| r.starts_with(':'))
            });
            if is_qualified {
                Ok((member(name), value))
            } else {
                Err(unknown(name))
            }
        }
        (None, _) => Err(Refusal::bad(Tag::MissingAttribute, "the body is empty")),
        _ => Err(Refusal::bad(
            Tag::InvalidValue,
            "the body has more than one resource",
        )),
    }
}

pub(super) fn unknown(name: &str) -> Refusal {
    let name: String = name.chars().take(64).collect();
    Refusal::bad(
        Tag::UnknownElement,
        &format!("{name} is not a resource that can stand here"),
    )
}

fn no_cuid() -> Refusal {
    BodyFault::missing("dots-client/cuid", "is missing").into()
}

/// Clients are in no order of the user's (RFC 8040 §4.8.5).
fn query_without_list(query: &Query) -> Result<(), Refusal> {
    if query.insert.is_some() {
        return Err(Refusal::bad(Tag::InvalidValue, "insert is for acl and ace"));
    }
    Ok(())
}
