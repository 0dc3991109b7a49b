//! Requests and responses without their transport.

use super::YANG_DATA_JSON;
use super::error::Refusal;

/// Methods of RESTCONF (RFC 8040 §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names of HTTP")]
pub enum Method {
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
    /// One that is not of RESTCONF.
    Other,
}

impl Method {
    /// The method of a name, which HTTP compares with case.
    #[must_use]
    pub fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }

    /// Whether it only reads.
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What to do.
    pub method: Method,
    /// The path as it was sent, percent-encoded.
    pub path: &'a str,
    /// What follows the question mark, as it was sent.
    pub query: Option<&'a str>,
    /// The fields that count.
    pub headers: Headers<'a>,
    /// The body; empty where there is none.
    pub body: &'a [u8],
}

/// The fields of a request that count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `Accept`.
    pub accept: Option<&'a str>,
    /// `Via`; several fields joined by commas.
    pub via: Option<&'a str>,
    /// `If-Match`.
    pub if_match: Option<&'a str>,
}

/// A response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Fields, by their names in small letters.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A response without a body.
    pub(super) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: vec![("cache-control", "no-cache".to_owned())],
            body: Vec::new(),
        }
    }

    /// A response with JSON data.
    pub(super) fn json(status: u16, value: &serde_json::Value) -> Self {
        let mut response = Self::empty(status);
        response
            .headers
            .push(("content-type", YANG_DATA_JSON.to_owned()));
        response.body = value.to_string().into_bytes();
        response
    }

    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// 413, for a transport that stops reading a body.
    #[must_use]
    pub fn too_large() -> Self {
        Refusal::too_big().response()
    }

    /// 408, for a transport that waits no longer for a body.
    #[must_use]
    pub fn too_slow() -> Self {
        Refusal::too_slow().response()
    }

    /// 500, where a change cannot be kept.
    #[must_use]
    pub fn not_kept() -> Self {
        Refusal::not_kept().response()
    }

    /// A field by its name in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| *known == name)?;
        Some(&found.1)
    }
}

/// What a resource can be asked for (RFC 8040 §4.1).
pub(super) fn options(writable: bool) -> Response {
    let response = Response::empty(200).with("allow", allowed(writable).to_owned());
    if writable {
        return response.with("accept-patch", YANG_DATA_JSON.to_owned());
    }
    response
}

/// Methods of a resource, for `Allow`.
pub(super) fn allowed(writable: bool) -> &'static str {
    if writable {
        "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"
    } else {
        "GET, HEAD, OPTIONS"
    }
}

/// Refuses a body that is not JSON (RFC 8040 §5.2). One without a type is taken for JSON, the only type there is here.
pub(super) fn check_content_type(content_type: Option<&str>) -> Result<(), Refusal> {
    match content_type.map(bare) {
        None => Ok(()),
        Some(kind) if [YANG_DATA_JSON, "application/json"].contains(&kind.as_str()) => Ok(()),
        Some(_) => Err(Refusal::media_type()),
    }
}

/// Refuses a peer that takes no JSON (RFC 8040 §5.2).
pub(super) fn check_accept(accept: Option<&str>) -> Result<(), Refusal> {
    let Some(accept) = accept else {
        return Ok(());
    };
    const TAKEN: [&str; 4] = [YANG_DATA_JSON, "application/json", "application/*", "*/*"];
    let takes = |range: &str| TAKEN.contains(&bare(range).as_str());
    if accept.trim().is_empty() || accept.split(',').any(takes) {
        return Ok(());
    }
    Err(Refusal::not_acceptable())
}

/// A media type without its parameters.
fn bare(media_type: &str) -> String {
    let kind = media_type.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

/// The entity tag of a revision.
pub(super) fn entity_tag(revision: u64) -> String {
    format!("\"{revision:x}\"")
}
