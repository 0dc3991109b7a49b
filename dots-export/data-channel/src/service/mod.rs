//! RESTCONF (RFC 8040) as far as the data channel goes: a function from a request of an authenticated peer to a response.
//!
//! The service owns no socket and no clock. It knows `/.well-known/host-meta`, the API root, and below `data` the
//! resources of [`model`](crate::model) down to their leaves, with GET, HEAD, OPTIONS, POST, PUT, PATCH (plain) and DELETE,
//! and the query parameters `content`, `depth`, `insert` and `point`.

mod edit;
mod error;
mod json;
mod library;
mod message;
mod pace;
mod path;
mod query;
mod read;
mod tree;
mod via;
mod write;

use std::sync::Arc;

use serde_json::Value;
use weir_dots_proto::Cuid;

use crate::model::VendorMapping;
use crate::store::{Client, DataStore};
use crate::{Authority, Peer, Prefixes, UnixTime};

pub use message::{Headers, Method, Request, Response};

use error::{Refusal, Tag};
use pace::Paces;
use path::Resource;
pub(crate) use path::encoded;
use query::Query;

/// Media type of RESTCONF data in JSON (RFC 8040 §11.3.2).
pub const YANG_DATA_JSON: &str = "application/yang-data+json";
/// Where the server's root is found (RFC 8040 §3.1).
pub const HOST_META: &str = "/.well-known/host-meta";

/// What a service says of itself, and how much it lets be asked.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// Path of the API, such as `/restconf`; without a slash at its end.
    pub root: String,
    /// Names and addresses of this server, by which it knows a loop in a `Via` field (RFC 8783 §3.4).
    pub own_names: Vec<String>,
    /// The server's vendor mapping, for its clients to read (RFC 9244 §8.1.6).
    pub mapping: VendorMapping,
    /// Requests of one peer per minute; as many may come at once. One that goes through more than 64 KiB of data counts
    /// for several.
    pub requests_per_minute: u32,
    /// Largest body in octets.
    pub max_body: usize,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            root: "/restconf".to_owned(),
            own_names: Vec::new(),
            mapping: VendorMapping::default(),
            requests_per_minute: 600,
            max_body: 1 << 20,
        }
    }
}

/// The data channel of a server.
#[derive(Debug)]
pub struct Service {
    settings: ServiceSettings,
    authority: Authority,
    store: DataStore,
    paces: Paces,
}

impl Service {
    /// A service over a store.
    #[must_use]
    pub fn new(settings: ServiceSettings, authority: Authority, store: DataStore) -> Self {
        Self {
            settings,
            authority,
            store,
            paces: Paces::default(),
        }
    }

    /// What clients have told.
    #[must_use]
    pub fn store(&self) -> &DataStore {
        &self.store
    }

    /// What clients have told, to switch filters, to count what they matched, or to expire entries.
    pub fn store_mut(&mut self) -> &mut DataStore {
        &mut self.store
    }

    /// The prefixes of the domain that a client belongs to, while its peer may ask.
    #[must_use]
    pub fn prefixes(&self, cuid: &Cuid) -> Option<Prefixes> {
        let peer = self.authority.named(self.store.owner(cuid)?)?;
        Some(peer.prefixes.clone())
    }

    /// Largest body in octets.
    #[must_use]
    pub fn max_body(&self) -> usize {
        self.settings.max_body
    }

    /// Replaces the server's vendor mapping.
    pub fn set_mapping(&mut self, mapping: VendorMapping) {
        self.settings.mapping = mapping;
    }

    /// Replaces who may ask; what is stored stays.
    pub fn set_authority(&mut self, authority: Authority) {
        self.authority = authority;
        self.store.handle_new_prefixes();
    }

    /// Answers a request of a peer whose certificate has these names, and whom TLS has authenticated.
    pub fn handle_request(
        &mut self,
        request: &Request<'_>,
        names: &[String],
        now: UnixTime,
    ) -> Response {
        self.store.handle_time(now);
        let mut response = match self.answer(request, names, now) {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        };
        if response.status == 405 {
            let resource = Resource::parse(request.path, &self.settings.root);
            let writable = resource.is_ok_and(|resource| resource.is_writable());
            response = response.with("allow", message::allowed(writable).to_owned());
        }
        if request.method == Method::Head {
            response.body.clear();
        }
        if !request.method.is_safe() {
            let client = names.first().map_or("", String::as_str);
            let (method, path) = (request.method, request.path);
            tracing::info!(
                client,
                ?method,
                path,
                status = response.status,
                "data channel"
            );
        }
        response
    }

    fn answer(
        &mut self,
        request: &Request<'_>,
        names: &[String],
        now: UnixTime,
    ) -> Result<Response, Refusal> {
        via::check(request.headers.via, &self.settings.own_names)?;
        if request.path == HOST_META && request.method.is_safe() {
            return Ok(library::host_meta(&self.settings.root));
        }
        let peer = self.authority.peer(names).cloned();
        let peer = peer.ok_or_else(|| Refusal::denied("the certificate is of no known client"))?;
        let resource = Resource::parse(request.path, &self.settings.root);
        let work = self.work(request, &peer, resource.as_ref().ok());
        let pace = self.settings.requests_per_minute;
        if !self.paces.admit(&peer.name, work, pace, now) {
            return Err(Refusal::too_many());
        }
        let resource = resource?;
        let query = Query::parse(request.query)?;
        self.answer_peer(request, &peer, &resource, &query, now)
    }

    /// What a request costs, against a small one: reading and writing go through all that the client has told, and the
    /// signal channel's lookups wait meanwhile.
    fn work(&self, request: &Request<'_>, peer: &Peer, resource: Option<&Resource>) -> u64 {
        /// Octets that cost as much as a request itself, about.
        const OCTETS: u64 = 64 << 10;
        let told = match resource {
            Some(Resource::Client { cuid, .. }) => self
                .store
                .client(&peer.name, cuid)
                .map_or(0, Client::octets),
            Some(Resource::Datastore | Resource::DotsData) if request.method.is_safe() => {
                let clients = self.store.clients_of(&peer.name);
                clients.map(|(_, client)| client.octets()).sum()
            }
            _ => 0,
        };
        1 + (told + request.body.len()) as u64 / OCTETS
    }

    fn answer_peer(
        &mut self,
        request: &Request<'_>,
        peer: &Arc<Peer>,
        resource: &Resource,
        query: &Query,
        now: UnixTime,
    ) -> Result<Response, Refusal> {
        match request.method {
            Method::Options => Ok(message::options(resource.is_writable())),
            Method::Get | Method::Head => {
                query.refuse_insertion()?;
                message::check_accept(request.headers.accept)?;
                self.read(peer, resource, query, now)
            }
            Method::Other => Err(Refusal::not_supported()),
            _ if !resource.is_writable() => Err(Refusal::not_supported()),
            method => {
                query.refuse_selection()?;
                self.check_collision(request, peer, resource)?;
                let body = match method {
                    Method::Delete => Value::Null,
                    _ => self.body(request)?,
                };
                self.write(method, peer, resource, query, &body, now)
            }
        }
    }

    fn body(&self, request: &Request<'_>) -> Result<Value, Refusal> {
        message::check_content_type(request.headers.content_type)?;
        if request.body.len() > self.settings.max_body {
            return Err(Refusal::too_big());
        }
        if request.body.is_empty() {
            return Err(Refusal::bad(Tag::InvalidValue, "there is no body"));
        }
        json::parse(request.body)
            .map_err(|error| Refusal::bad(Tag::MalformedMessage, &error.to_string()))
    }

    /// Refuses to overwrite what has changed since the writer read it (RFC 8040 §3.4.1).
    fn check_collision(
        &self,
        request: &Request<'_>,
        peer: &Peer,
        resource: &Resource,
    ) -> Result<(), Refusal> {
        let (Some(wanted), Resource::Client { cuid, .. }) = (request.headers.if_match, resource)
        else {
            return Ok(());
        };
        let client = self.store.client(&peer.name, cuid);
        let current = client.map(|client| message::entity_tag(client.revision));
        let matches = match &current {
            Some(current) => wanted
                .split(',')
                .any(|tag| ["*", current].contains(&tag.trim())),
            None => false,
        };
        if matches {
            Ok(())
        } else {
            Err(Refusal::changed())
        }
    }
}
