//! GET: data of a client, with or without state.

use serde_json::{Map, Value, json};
use weir_dots_proto::Cuid;

use super::error::Refusal;
use super::message::{Response, entity_tag};
use super::path::{Resource, Step};
use super::query::{Content, Query};
use super::tree;
use super::{Service, library};
use crate::model::{Acl, Alias, DATA_CHANNEL, VENDOR_MAPPING};
use crate::store::{Client, Stored};
use crate::{Peer, UnixTime};

/// The sections of a client.
const SECTIONS: [&str; 3] = ["aliases", "acls", VENDOR_MAPPING];

impl Service {
    pub(super) fn read(
        &self,
        peer: &Peer,
        resource: &Resource,
        query: &Query,
        now: UnixTime,
    ) -> Result<Response, Refusal> {
        let (name, node) = match resource {
            Resource::Api => ("ietf-restconf:restconf", library::api()),
            Resource::Operations => ("ietf-restconf:operations", json!({})),
            Resource::LibraryVersion => {
                let version = (
                    "ietf-restconf:yang-library-version",
                    library::VERSION.into(),
                );
                return Ok(answer(version.0, version.1));
            }
            Resource::Modules => ("ietf-yang-library:modules-state", library::modules()),
            Resource::Monitoring => (
                "ietf-restconf-monitoring:restconf-state",
                library::monitoring(),
            ),
            Resource::Datastore => {
                let name = format!("{DATA_CHANNEL}:dots-data");
                let mut data = Map::new();
                data.insert(name, self.dots_data(peer, query.content(), now));
                let node = cut(Value::Object(data), query);
                return Ok(self.tagged(peer, answer("ietf-restconf:data", node)));
            }
            Resource::DotsData => {
                let node = cut(self.dots_data(peer, query.content(), now), query);
                let name = format!("{DATA_CHANNEL}:dots-data");
                return Ok(self.tagged(peer, answer(&name, node)));
            }
            Resource::Capabilities(steps) => {
                let node = state(self.store.capabilities().json(), query.content());
                return found("ietf-dots-data-channel:capabilities", &node, steps, query);
            }
            Resource::ServerMapping(steps) => {
                let node = state(self.settings.mapping.json(), query.content());
                return found(VENDOR_MAPPING, &node, steps, query);
            }
            Resource::Client { cuid, steps } => {
                return self.read_client(peer, cuid, steps, query, now);
            }
        };
        Ok(answer(name, cut(node, query)))
    }

    fn dots_data(&self, peer: &Peer, content: Content, now: UnixTime) -> Value {
        let clients = self.store.clients_of(&peer.name);
        let clients = clients.map(|(cuid, client)| client_json(cuid, client, content, now));
        let clients: Vec<Value> = clients.collect();
        let mut members = Map::new();
        members.insert("dots-client".to_owned(), Value::Array(clients));
        if content != Content::Config {
            let capabilities = self.store.capabilities().json();
            members.insert("capabilities".to_owned(), capabilities);
            let mapping = self.settings.mapping.json();
            members.insert(VENDOR_MAPPING.to_owned(), mapping);
        }
        Value::Object(members)
    }

    /// An answer about all clients of a peer, with their latest revision (RFC 8040 §3.5.2).
    fn tagged(&self, peer: &Peer, response: Response) -> Response {
        let clients = self.store.clients_of(&peer.name);
        let latest = clients.map(|(_, client)| client.revision).max();
        response.with("etag", entity_tag(latest.unwrap_or(0)))
    }

    fn read_client(
        &self,
        peer: &Peer,
        cuid: &Cuid,
        steps: &[Step],
        query: &Query,
        now: UnixTime,
    ) -> Result<Response, Refusal> {
        // A client of another peer is as unknown as one that is not there.
        let client = self
            .store
            .client(&peer.name, cuid)
            .ok_or_else(Refusal::not_found)?;
        let content = query.content();
        let Some((first, rest)) = steps.split_first() else {
            let node = cut(client_json(cuid, client, content, now), query);
            let name = format!("{DATA_CHANNEL}:dots-client");
            return Ok(tagged(client, answer(&name, Value::Array(vec![node]))));
        };
        if !SECTIONS.contains(&first.name.as_str()) {
            let node = client_json(cuid, client, content, now);
            let name = format!("{DATA_CHANNEL}:dots-client");
            return found(&name, &node, steps, query);
        }
        let node = section_json(client, &first.name, content, now);
        let name = match first.name.as_str() {
            VENDOR_MAPPING => VENDOR_MAPPING.to_owned(),
            name => format!("{DATA_CHANNEL}:{name}"),
        };
        let response = match rest {
            // RFC 8783 Figures 29 and 31: a single filter stands within the container of all.
            [entry] if entry.key.is_some() && first.name != VENDOR_MAPPING => {
                let node = tree::find(&node, rest).ok_or_else(Refusal::not_found)?;
                let mut list = Map::new();
                let node = cut(node.clone(), query);
                list.insert(entry.name.clone(), Value::Array(vec![node]));
                answer(&name, Value::Object(list))
            }
            _ => found(&name, &node, rest, query)?,
        };
        Ok(tagged(client, response))
    }
}

/// A node below another, which has this name.
fn found(name: &str, node: &Value, steps: &[Step], query: &Query) -> Result<Response, Refusal> {
    let node = tree::find(node, steps).ok_or_else(Refusal::not_found)?;
    let node = cut(node.clone(), query);
    let Some(last) = steps.last() else {
        return Ok(answer(name, node));
    };
    let module = name.split(':').next().unwrap_or(DATA_CHANNEL);
    let node = if last.key.is_some() {
        Value::Array(vec![node])
    } else {
        node
    };
    let name = match last.name.contains(':') {
        true => last.name.clone(),
        false => format!("{module}:{}", last.name),
    };
    Ok(answer(&name, node))
}

fn answer(name: &str, node: Value) -> Response {
    let mut body = Map::new();
    body.insert(name.to_owned(), node);
    Response::json(200, &Value::Object(body))
}

fn tagged(client: &Client, response: Response) -> Response {
    response.with("etag", entity_tag(client.revision))
}

fn cut(mut node: Value, query: &Query) -> Value {
    if let Some(depth) = query.depth() {
        tree::limit_depth(&mut node, depth);
    }
    node
}

/// Data that is state as a whole.
fn state(node: Value, content: Content) -> Value {
    match content {
        Content::Config => json!({}),
        Content::Nonconfig | Content::All => node,
    }
}

fn client_json(cuid: &Cuid, client: &Client, content: Content, now: UnixTime) -> Value {
    let mut members = Map::new();
    members.insert("cuid".to_owned(), cuid.as_str().into());
    if let Some(cdid) = client
        .cdid
        .as_deref()
        .filter(|_| content != Content::Nonconfig)
    {
        members.insert("cdid".to_owned(), cdid.into());
    }
    for section in SECTIONS {
        let node = section_json(client, section, content, now);
        if node.as_object().is_some_and(|members| !members.is_empty()) {
            members.insert(section.to_owned(), node);
        }
    }
    Value::Object(members)
}

/// A section of a client.
pub(super) fn section_json(client: &Client, name: &str, content: Content, now: UnixTime) -> Value {
    let (list, entries): (_, Vec<Value>) = match name {
        "aliases" => {
            let entries = client.aliases.iter();
            (
                "alias",
                entries
                    .map(|stored| alias_json(stored, content, now))
                    .collect(),
            )
        }
        "acls" => {
            let entries = client.acls.iter();
            (
                "acl",
                entries
                    .map(|stored| acl_json(client, stored, content, now))
                    .collect(),
            )
        }
        _ if content == Content::Nonconfig => return json!({}),
        _ => return client.mapping.json(),
    };
    let mut members = Map::new();
    if !entries.is_empty() {
        members.insert(list.to_owned(), Value::Array(entries));
    }
    Value::Object(members)
}

fn alias_json(stored: &Stored<Alias>, content: Content, now: UnixTime) -> Value {
    let entry = match content {
        Content::Nonconfig => json!({ "name": stored.value.name }),
        Content::Config => return stored.value.json(),
        Content::All => stored.value.json(),
    };
    with_lifetime(entry, now, stored.expires)
}

fn acl_json(client: &Client, stored: &Stored<Acl>, content: Content, now: UnixTime) -> Value {
    let acl = &stored.value;
    let mut entry = match content {
        Content::Config => return acl.json(),
        Content::All => acl.json(),
        Content::Nonconfig => {
            let names = acl.aces.iter().map(|ace| json!({ "name": ace.name }));
            let names: Vec<Value> = names.collect();
            json!({ "name": acl.name, "aces": { "ace": names } })
        }
    };
    let aces = entry.pointer_mut("/aces/ace").and_then(Value::as_array_mut);
    for (node, ace) in aces.into_iter().flatten().zip(&acl.aces) {
        if let (Some(matched), Some(node)) =
            (client.matched(&acl.name, &ace.name), node.as_object_mut())
        {
            node.insert("statistics".to_owned(), matched.json());
        }
    }
    with_lifetime(entry, now, stored.expires)
}

fn with_lifetime(mut entry: Value, now: UnixTime, expires: UnixTime) -> Value {
    if let Some(members) = entry.as_object_mut() {
        let pending = now.minutes_until(expires);
        members.insert("pending-lifetime".to_owned(), pending.into());
    }
    entry
}
