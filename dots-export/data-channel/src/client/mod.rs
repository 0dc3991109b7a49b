//! A client of the data channel: registers, keeps aliases and filters at a server, and exchanges vendor mappings.
//!
//! One connection is kept and opened anew when it has ended. A request that the server refuses because the client is not
//! registered is repeated once after registering (RFC 8783 §6.1).

mod answer;
mod error;
mod host_meta;
mod link;
mod sync;
mod upkeep;

use std::time::Duration;

use serde_json::{Value, json};
use weir_dots_proto::Cuid;

use crate::model::{
    Acl, AclEntry, AclState, Acls, Alias, AliasEntry, Aliases, Capabilities, DATA_CHANNEL,
    Registration, Source, VENDOR_MAPPING, VendorMapping,
};
use crate::service::HOST_META;
use crate::store::Written;
use crate::tls::TlsFiles;

pub(crate) use host_meta::restconf_root;

use answer::Answer;
use link::Link;

pub use error::ClientError;
pub use sync::{Desired, Synchronised};
pub use upkeep::{Intervals, UpkeepState, keep_up};

/// Where a server is, and who asks.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Host and port, such as `dots.example.net:443` or `[2001:db8::1]:443`.
    pub server: String,
    /// Path of the API, where it is known; else it is discovered.
    pub root: Option<String>,
    /// The name or address that the server's certificate must have; the host where absent.
    pub server_name: Option<String>,
    /// Address from which to connect: the out-of-band path.
    pub bind: Option<std::net::IpAddr>,
    /// Interface through which to connect.
    pub interface: Option<String>,
    /// Certificates.
    pub tls: TlsFiles,
    /// Our identifier, the same as on the signal channel.
    pub cuid: Cuid,
    /// Longest wait to be connected, and for each answer.
    pub timeout: Duration,
    /// Largest answer in octets.
    pub max_answer: usize,
}

impl ClientSettings {
    /// The defaults.
    #[must_use]
    pub fn new(server: &str, tls: TlsFiles, cuid: Cuid) -> Self {
        Self {
            server: server.to_owned(),
            root: None,
            server_name: None,
            bind: None,
            interface: None,
            tls,
            cuid,
            timeout: Duration::from_secs(10),
            max_answer: 16 << 20,
        }
    }
}

impl ClientSettings {
    /// The defaults for a server at a URL: `https`, a host, a port unless it is 443, and the path of the API unless it
    /// is to be discovered.
    pub fn at(url: &str, tls: TlsFiles, cuid: Cuid) -> Result<Self, ClientError> {
        let wrong = || ClientError::Server(url.to_owned());
        let rest = url.strip_prefix("https://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |text: &str| text.bytes().all(|octet| octet.is_ascii_graphic());
        if !is_plain(rest) || rest.contains(['?', '#', '@']) {
            return Err(wrong());
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.bytes().all(|octet| octet.is_ascii_digit()));
        let server = match has_port {
            true => authority.to_owned(),
            false => format!("{authority}:443"),
        };
        split(&server).ok_or_else(wrong)?;
        let path = path.trim_end_matches('/');
        let mut settings = Self::new(&server, tls, cuid);
        settings.root = (!path.is_empty()).then(|| format!("/{path}"));
        Ok(settings)
    }
}

/// Host, without brackets, and port.
fn split(server: &str) -> Option<(&str, u16)> {
    let (host, port) = server.rsplit_once(':')?;
    let bare = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!bare.is_empty()).then_some((bare, port.parse().ok()?))
}

/// Whether a registration was needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registered {
    /// It was.
    Now,
    /// The server knew the client.
    Before,
}

/// Where a filter goes among those that the server has; at the end where nothing is said, or where it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Position {
    /// Before all others.
    First,
    /// Behind all others.
    Last,
    /// Before the filter of this name.
    Before(String),
    /// Behind the filter of this name.
    After(String),
}

/// A client.
#[derive(Debug)]
pub struct DataClient {
    cuid: Cuid,
    link: Link,
    /// Path of the API, once it was discovered.
    root: Option<String>,
}

impl DataClient {
    /// Reads the certificates. The first request connects.
    pub fn new(settings: ClientSettings) -> Result<Self, ClientError> {
        Ok(Self {
            cuid: settings.cuid.clone(),
            root: settings.root.clone(),
            link: Link::new(settings)?,
        })
    }

    /// Our identifier.
    #[must_use]
    pub fn cuid(&self) -> &Cuid {
        &self.cuid
    }

    /// Where the API is (RFC 8040 §3.1).
    pub async fn discover(&mut self) -> Result<&str, ClientError> {
        if self.root.is_none() {
            let answer = self.link.ask("GET", HOST_META, None).await?;
            answer.refuse_errors()?;
            let root = restconf_root(&answer.body).ok_or(ClientError::NoRoot)?;
            self.root = Some(root);
        }
        Ok(self.root.as_deref().unwrap_or_default())
    }

    /// Registers (RFC 8783 §5.1). A client that is known as ours stays as it is.
    pub async fn register(&mut self) -> Result<Registered, ClientError> {
        let client = Registration::new(self.cuid.clone()).json();
        let mut body = serde_json::Map::new();
        body.insert(format!("{DATA_CHANNEL}:dots-client"), json!([client]));
        let path = self.data("").await?;
        let answer = self
            .link
            .ask("POST", &path, Some(&Value::Object(body)))
            .await?;
        if answer.status != 409 {
            answer.refuse_errors()?;
            return Ok(Registered::Now);
        }
        // 409 says that it exists, not whose it is: only its owner can read it.
        let own = self.own("?depth=1").await?;
        match self.link.ask("GET", &own, None).await?.status {
            200 => Ok(Registered::Before),
            _ => Err(ClientError::CuidTaken(self.cuid.clone())),
        }
    }

    /// Removes the registration and all that belongs to it (RFC 8783 §5.2); whether there was one.
    pub async fn deregister(&mut self) -> Result<bool, ClientError> {
        let path = self.own("").await?;
        self.link.ask("DELETE", &path, None).await?.was_there()
    }

    /// What the server can enforce (RFC 8783 §7.1).
    pub async fn capabilities(&mut self) -> Result<Capabilities, ClientError> {
        let path = self.data("/capabilities").await?;
        let answer = self.link.ask("GET", &path, None).await?;
        let node = answer.member("ietf-dots-data-channel:capabilities")?;
        Ok(Capabilities::read(&node, Source::Answer)?)
    }

    /// Our aliases at the server, with their lifetimes.
    pub async fn aliases(&mut self) -> Result<Vec<AliasEntry>, ClientError> {
        let answer = self.get("/aliases?content=all").await?;
        match answer.status {
            404 => Ok(Vec::new()),
            _ => Ok(AliasEntry::read_all(
                &answer.member("ietf-dots-data-channel:aliases")?,
            )?),
        }
    }

    /// Creates, replaces or refreshes an alias.
    pub async fn put_alias(&mut self, alias: &Alias) -> Result<Written, ClientError> {
        let path = format!("/aliases/alias={}", key(&alias.name));
        let body = wrapped("aliases", Aliases(vec![alias.clone()]).json());
        self.put(&path, &body).await
    }

    /// Replaces all aliases.
    pub async fn put_aliases(&mut self, aliases: &Aliases) -> Result<Written, ClientError> {
        self.put("/aliases", &wrapped("aliases", aliases.json()))
            .await
    }

    /// Removes an alias; whether it was there.
    pub async fn delete_alias(&mut self, name: &str) -> Result<bool, ClientError> {
        let path = self.own(&format!("/aliases/alias={}", key(name))).await?;
        self.link.ask("DELETE", &path, None).await?.was_there()
    }

    /// Our filters at the server in their order, with lifetimes and what they have matched.
    pub async fn acls(&mut self) -> Result<Vec<AclEntry>, ClientError> {
        let answer = self.get("/acls?content=all").await?;
        match answer.status {
            404 => Ok(Vec::new()),
            _ => Ok(AclEntry::read_all(
                &answer.member("ietf-dots-data-channel:acls")?,
            )?),
        }
    }

    /// Lifetimes of our filters and what they have matched, without the filters themselves.
    pub async fn acl_states(&mut self) -> Result<Vec<AclState>, ClientError> {
        let answer = self.get("/acls?content=nonconfig").await?;
        match answer.status {
            404 => Ok(Vec::new()),
            _ => Ok(AclState::read_all(
                &answer.member("ietf-dots-data-channel:acls")?,
            )?),
        }
    }

    /// Creates, replaces or refreshes a filter, and moves it where a position is given.
    pub async fn put_acl(
        &mut self,
        acl: &Acl,
        position: Option<&Position>,
    ) -> Result<Written, ClientError> {
        let path = format!("/acls/acl={}", key(&acl.name));
        let query = position.map_or_else(String::new, |position| self.insertion(position));
        let body = wrapped("acls", Acls(vec![acl.clone()]).json());
        self.put(&(path + &query), &body).await
    }

    /// Replaces all filters.
    pub async fn put_acls(&mut self, acls: &Acls) -> Result<Written, ClientError> {
        self.put("/acls", &wrapped("acls", acls.json())).await
    }

    /// Removes a filter; whether it was there.
    pub async fn delete_acl(&mut self, name: &str) -> Result<bool, ClientError> {
        let path = self.own(&format!("/acls/acl={}", key(name))).await?;
        self.link.ask("DELETE", &path, None).await?.was_there()
    }

    /// The server's vendor mapping (RFC 9244 §8.1.6): all of it, or its vendors alone. None where the server exchanges none.
    pub async fn peer_mapping(
        &mut self,
        vendors_alone: bool,
    ) -> Result<Option<VendorMapping>, ClientError> {
        if !self.capabilities().await?.vendor_mapping {
            return Ok(None);
        }
        let depth = if vendors_alone { "?depth=3" } else { "" };
        let path = self.data(&format!("/{VENDOR_MAPPING}{depth}")).await?;
        let answer = self.link.ask("GET", &path, None).await?;
        if answer.status == 404 {
            return Ok(Some(VendorMapping::default()));
        }
        let node = answer.member(VENDOR_MAPPING)?;
        Ok(Some(VendorMapping::read(&node, Source::Answer)?))
    }

    /// Our vendor mapping as the server has it.
    pub async fn own_mapping(&mut self) -> Result<VendorMapping, ClientError> {
        let answer = self.get(&format!("/{VENDOR_MAPPING}?content=all")).await?;
        match answer.status {
            404 => Ok(VendorMapping::default()),
            _ => Ok(VendorMapping::read(
                &answer.member(VENDOR_MAPPING)?,
                Source::Answer,
            )?),
        }
    }

    /// Shares our vendor mapping where the server does not have it already; whether it takes mappings. From then on
    /// attack details go without descriptions (RFC 9244 §8.1.6).
    pub async fn share_mapping(&mut self, mapping: &VendorMapping) -> Result<bool, ClientError> {
        if !self.capabilities().await?.vendor_mapping {
            return Ok(false);
        }
        let known = self.own_mapping().await?;
        if known == *mapping {
            return Ok(true);
        }
        let body = json!({ VENDOR_MAPPING: mapping.json() });
        // POST installs, PUT modifies (RFC 9244 §8.1.6).
        if known.vendors.is_empty() {
            self.send("POST", "", &body).await?.refuse_errors()?;
        } else {
            self.put(&format!("/{VENDOR_MAPPING}"), &body).await?;
        }
        Ok(true)
    }

    fn insertion(&self, position: &Position) -> String {
        let point = |name: &str| {
            let cuid = key(self.cuid.as_str());
            let path = format!(
                "/{DATA_CHANNEL}:dots-data/dots-client={cuid}/acls/acl={}",
                key(name)
            );
            key(&path)
        };
        match position {
            Position::First => "?insert=first".to_owned(),
            Position::Last => "?insert=last".to_owned(),
            Position::Before(name) => format!("?insert=before&point={}", point(name)),
            Position::After(name) => format!("?insert=after&point={}", point(name)),
        }
    }

    async fn get(&mut self, below: &str) -> Result<Answer, ClientError> {
        let path = self.own(below).await?;
        let answer = self.link.ask("GET", &path, None).await?;
        if answer.status != 404 {
            answer.refuse_errors()?;
        }
        Ok(answer)
    }

    async fn put(&mut self, below: &str, body: &Value) -> Result<Written, ClientError> {
        let answer = self.send("PUT", below, body).await?;
        answer.refuse_errors()?;
        match answer.status {
            201 => Ok(Written::Created),
            _ => Ok(Written::Replaced),
        }
    }

    /// Sends a change, and once more after registering where the server does not know us.
    async fn send(
        &mut self,
        method: &'static str,
        below: &str,
        body: &Value,
    ) -> Result<Answer, ClientError> {
        let path = self.own(below).await?;
        let answer = self.link.ask(method, &path, Some(body)).await?;
        if !answer.wants_registration() {
            return Ok(answer);
        }
        self.register().await?;
        self.link.ask(method, &path, Some(body)).await
    }

    /// A path below our client.
    async fn own(&mut self, below: &str) -> Result<String, ClientError> {
        let cuid = key(self.cuid.as_str());
        self.data(&format!("/dots-client={cuid}{below}")).await
    }

    /// A path below `dots-data`.
    async fn data(&mut self, below: &str) -> Result<String, ClientError> {
        let root = self.discover().await?;
        Ok(format!("{root}/data/{DATA_CHANNEL}:dots-data{below}"))
    }
}

fn wrapped(section: &str, node: Value) -> Value {
    json!({ format!("{DATA_CHANNEL}:{section}"): node })
}

fn key(text: &str) -> String {
    crate::service::encoded(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_url() {
        let tls = TlsFiles {
            ca: "ca".into(),
            certificate: "c".into(),
            key: "k".into(),
            crl: None,
        };
        let cuid = Cuid::new("c").unwrap();
        let at = |url: &str| {
            let settings = ClientSettings::at(url, tls.clone(), cuid.clone()).ok()?;
            Some((settings.server, settings.root))
        };
        let found =
            |server: &str, root: Option<&str>| Some((server.to_owned(), root.map(str::to_owned)));
        assert_eq!(at("https://dots.example"), found("dots.example:443", None));
        assert_eq!(
            at("https://dots.example:8443/"),
            found("dots.example:8443", None)
        );
        assert_eq!(
            at("https://[2001:db8::1]/restconf/"),
            found("[2001:db8::1]:443", Some("/restconf"))
        );
        for wrong in [
            "",
            "dots.example:443",
            "http://dots.example",
            "https://",
            "https://a:70000",
            "https://2001:db8::1",
            "https://u@a",
            "https://a/?b",
            "https://a b",
        ] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
