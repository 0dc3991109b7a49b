//! Which resource a path names (RFC 8040 §3.5.3).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use weir_dots_proto::Cuid;

use super::error::{Refusal, Tag};
use crate::model::{DATA_CHANNEL, MAPPING, VENDOR_MAPPING};

/// What is not a letter or digit of a key is encoded, but for the unreserved characters (RFC 3986 §2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Steps below a client that a path may have: deeper than the modules go.
const MAX_STEPS: usize = 16;

/// A resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Resource {
    /// The API resource.
    Api,
    /// `operations`: there are none.
    Operations,
    /// `yang-library-version`.
    LibraryVersion,
    /// `data/ietf-yang-library:modules-state`.
    Modules,
    /// `data/ietf-restconf-monitoring:restconf-state`.
    Monitoring,
    /// `data`.
    Datastore,
    /// `dots-data`.
    DotsData,
    /// `capabilities`, and steps below.
    Capabilities(Vec<Step>),
    /// The server's `vendor-mapping`, and steps below.
    ServerMapping(Vec<Step>),
    /// A client, and steps below.
    Client { cuid: Cuid, steps: Vec<Step> },
}

/// A node on the way down: its name, without its module where that is its parent's, and the key of a list's entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) key: Option<String>,
}

impl Resource {
    /// The resource of a path, as it was sent.
    pub(super) fn parse(path: &str, root: &str) -> Result<Self, Refusal> {
        let below = path.strip_prefix(root).ok_or_else(Refusal::not_found)?;
        let mut parts = below.trim_end_matches('/').split('/');
        // What precedes the first slash: something there continues the last name of the root.
        if parts.next() != Some("") {
            return Err(Refusal::not_found());
        }
        let parts: Vec<&str> = parts.collect();
        match parts.as_slice() {
            [] => Ok(Self::Api),
            ["operations"] => Ok(Self::Operations),
            ["yang-library-version"] => Ok(Self::LibraryVersion),
            ["data", data @ ..] => Self::below_data(data),
            _ => Err(Refusal::not_found()),
        }
    }

    /// The resource of a path from the datastore's root, as `point` gives it, or of one with the API's root.
    pub(super) fn parse_point(point: &str, root: &str) -> Result<Self, Refusal> {
        if point.starts_with(&format!("{root}/")) {
            return Self::parse(point, root);
        }
        let parts: Vec<&str> = point.trim_start_matches('/').split('/').collect();
        Self::below_data(&parts)
    }

    fn below_data(parts: &[&str]) -> Result<Self, Refusal> {
        let Some((first, rest)) = parts.split_first() else {
            return Ok(Self::Datastore);
        };
        match (*first, rest) {
            ("ietf-yang-library:modules-state", []) => return Ok(Self::Modules),
            ("ietf-restconf-monitoring:restconf-state", []) => return Ok(Self::Monitoring),
            ("ietf-dots-data-channel:dots-data", _) => {}
            _ => return Err(Refusal::not_found()),
        }
        if rest.len() > MAX_STEPS {
            return Err(Refusal::not_found());
        }
        let steps: Vec<Step> = rest
            .iter()
            .map(|part| Step::parse(part))
            .collect::<Result<_, _>>()?;
        let Some((first, rest)) = steps.split_first() else {
            return Ok(Self::DotsData);
        };
        match (first.name.as_str(), &first.key) {
            ("capabilities", None) => Ok(Self::Capabilities(rest.to_vec())),
            (VENDOR_MAPPING, None) => Ok(Self::ServerMapping(rest.to_vec())),
            ("dots-client", Some(cuid)) => Ok(Self::Client {
                cuid: Cuid::new(cuid).map_err(|_| Refusal::not_found())?,
                steps: rest.to_vec(),
            }),
            _ => Err(Refusal::not_found()),
        }
    }

    /// Whether there is configuration of clients at or below it.
    pub(super) fn is_writable(&self) -> bool {
        matches!(self, Self::Datastore | Self::DotsData | Self::Client { .. })
    }
}

impl Step {
    fn parse(part: &str) -> Result<Self, Refusal> {
        let (name, key) = match part.split_once('=') {
            None => (part, None),
            // All lists here have one key; a comma would separate a second (RFC 8040 §3.5.3).
            Some((_, keys)) if keys.contains(',') => return Err(bad_path()),
            Some((name, key)) => (name, Some(decoded(key)?)),
        };
        Ok(Self {
            name: member(&decoded(name)?).to_owned(),
            key,
        })
    }

    /// The step as it stands in a path.
    pub(super) fn encoded(&self) -> String {
        match &self.key {
            Some(key) => format!("{}={}", self.name, encoded(key)),
            None => self.name.clone(),
        }
    }
}

/// The name by which a node stands in its parent's object: without the module where that is its parent's, as it is for
/// all but the nodes that the mapping adds to a client and to the capabilities. A name of the wrong module stays as it is,
/// and so is found nowhere.
pub(super) fn member(name: &str) -> &str {
    const OF_MAPPING: [&str; 8] = [
        "vendor",
        "vendor-id",
        "vendor-name",
        "description-lang",
        "last-updated",
        "attack-mapping",
        "attack-id",
        "attack-description",
    ];
    let (module, bare) = name.split_once(':').unwrap_or_default();
    match (module, OF_MAPPING.contains(&bare)) {
        (DATA_CHANNEL, false) | (MAPPING, true) => bare,
        _ => name,
    }
}

/// A key as it stands in a path.
pub(crate) fn encoded(key: &str) -> String {
    utf8_percent_encode(key, ENCODED).to_string()
}

/// A text without its percent-encoding.
pub(super) fn decoded(text: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| bad_path())?.into_owned())
}

fn bad_path() -> Refusal {
    Refusal::bad(Tag::InvalidValue, "the path is not one of RFC 8040")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Option<Resource> {
        Resource::parse(path, "/restconf").ok()
    }

    #[test]
    fn paths_name_resources() {
        assert_eq!(parse("/restconf"), Some(Resource::Api));
        assert_eq!(parse("/restconf/"), Some(Resource::Api));
        assert_eq!(parse("/restconf/data"), Some(Resource::Datastore));
        assert_eq!(parse("/restconfx/data"), None);
        assert_eq!(parse("/restconf/data/x:y"), None);
        let client = "/restconf/data/ietf-dots-data-channel:dots-data/dots-client=abc";
        let Some(Resource::Client { cuid, steps }) = parse(&format!(
            "{client}/ietf-dots-data-channel:acls/acl=a%2Fb%20c"
        )) else {
            panic!("it is a client");
        };
        assert_eq!(cuid.as_str(), "abc");
        assert_eq!(steps[1].key.as_deref(), Some("a/b c"));
        assert_eq!(steps[1].encoded(), "acl=a%2Fb%20c");
        assert_eq!(parse(&format!("{client}/acls/acl=a,b")), None);
        assert_eq!(parse(&format!("{client}/acls/acl=%ff")), None);
        assert_eq!(parse(&format!("{client}{}", "/a".repeat(40))), None);
    }
}
