//! What the server says of itself (RFC 8040 §3.1, §3.3, §9, RFC 7895).

use serde_json::{Value, json};

use super::message::Response;

/// Revision of `ietf-yang-library` (RFC 8040 §3.3.3).
pub(super) const VERSION: &str = "2016-06-21";

/// Modules whose data the server has: name, revision, features.
const IMPLEMENTED: [(&str, &str, &[&str]); 4] = [
    ("ietf-dots-data-channel", "2020-05-28", &[]),
    ("ietf-dots-mapping", "2022-06-20", &["dots-telemetry"]),
    ("ietf-restconf-monitoring", "2017-01-26", &[]),
    ("ietf-yang-library", VERSION, &[]),
];

/// Modules whose types those use.
const IMPORTED: [(&str, &str); 4] = [
    ("ietf-access-control-list", "2019-03-04"),
    ("ietf-inet-types", "2013-07-15"),
    ("ietf-packet-fields", "2019-03-04"),
    ("ietf-yang-types", "2013-07-15"),
];

/// The host's metadata: where the API is (RFC 8040 §3.1, RFC 6415).
pub(super) fn host_meta(root: &str) -> Response {
    let document = format!(
        "<?xml version='1.0' encoding='UTF-8'?>\n\
         <XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n\
         \x20 <Link rel='restconf' href='{}'/>\n\
         </XRD>\n",
        escaped(root)
    );
    let mut response = Response::empty(200).with("content-type", "application/xrd+xml".to_owned());
    response.body = document.into_bytes();
    response
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('\'', "&apos;")
}

/// The API resource (RFC 8040 §3.3).
pub(super) fn api() -> Value {
    json!({ "data": {}, "operations": {}, "yang-library-version": VERSION })
}

/// `ietf-yang-library:modules-state` (RFC 7895 §2.2).
pub(super) fn modules() -> Value {
    let namespace = |name: &str| format!("urn:ietf:params:xml:ns:yang:{name}");
    let mut modules = Vec::new();
    for (name, revision, features) in IMPLEMENTED {
        let mut module = json!({
            "name": name,
            "revision": revision,
            "namespace": namespace(name),
            "conformance-type": "implement",
        });
        if let (false, Some(members)) = (features.is_empty(), module.as_object_mut()) {
            members.insert("feature".to_owned(), features.into());
        }
        modules.push(module);
    }
    for (name, revision) in IMPORTED {
        modules.push(json!({
            "name": name,
            "revision": revision,
            "namespace": namespace(name),
            "conformance-type": "import",
        }));
    }
    json!({ "module-set-id": "weir-data-channel-1", "module": modules })
}

/// `ietf-restconf-monitoring:restconf-state` (RFC 8040 §9.1).
pub(super) fn monitoring() -> Value {
    json!({ "capabilities": { "capability": [
        "urn:ietf:params:restconf:capability:defaults:1.0?basic-mode=explicit",
        "urn:ietf:params:restconf:capability:depth:1.0",
    ] } })
}
