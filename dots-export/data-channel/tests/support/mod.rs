//! A server's policy, and steps of a fixture.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(dead_code, reason = "each test uses some")]

pub(crate) mod certificates;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use weir_data_channel::model::{AttackMapping, Capabilities, Vendor, VendorMapping};
use weir_data_channel::service::{Service, ServiceSettings};
use weir_data_channel::store::{DataStore, Limits};
use weir_data_channel::{Authority, Peer};

/// Peers of the trials.
pub(crate) fn authority() -> Authority {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let a = Peer {
        names: vec!["a.example".to_owned()],
        ..Peer::client(
            "client-a",
            networks(&["198.51.100.0/24", "2001:db8:6401::/48"]),
        )
    };
    let b = Peer::client("client-b", networks(&["203.0.113.0/24"]));
    let gateway = Peer {
        gateway: true,
        ..Peer::client("gateway", networks(&["192.0.2.0/24"]))
    };
    Authority::new([a, b, gateway])
}

pub(crate) fn server_mapping() -> VendorMapping {
    VendorMapping {
        vendors: vec![Vendor {
            id: 32473,
            name: Some("mitigator-s".to_owned()),
            language: None,
            last_updated: 1_629_898_758,
            attacks: vec![AttackMapping {
                id: 7,
                description: "UDP flood".to_owned(),
            }],
        }],
    }
}

pub(crate) fn service(limits: Limits, capabilities: Capabilities) -> Service {
    let settings = ServiceSettings {
        own_names: vec!["dots.example".to_owned()],
        mapping: server_mapping(),
        ..ServiceSettings::default()
    };
    Service::new(settings, authority(), DataStore::new(limits, capabilities))
}

/// The folder of specifications, where it is there.
pub(crate) fn shared(part: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("WEIR_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = folder.unwrap_or(beside).join(part);
    path.exists().then_some(path)
}

/// A step of a fixture.
#[derive(Deserialize)]
pub(crate) struct Step {
    pub(crate) step: u32,
    pub(crate) about: String,
    pub(crate) request: StepRequest,
    pub(crate) response: StepResponse,
}

#[derive(Deserialize)]
pub(crate) struct StepRequest {
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(rename = "as", default = "client_a")]
    pub(crate) client: String,
    #[serde(default)]
    pub(crate) headers: std::collections::BTreeMap<String, String>,
    pub(crate) body: Option<Value>,
    pub(crate) raw: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct StepResponse {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
    pub(crate) contains: Option<String>,
    pub(crate) error_tag: Option<String>,
    #[serde(default)]
    pub(crate) headers: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) at: std::collections::BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) absent: Vec<String>,
}

fn client_a() -> String {
    "client-a".to_owned()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl StepRequest {
    pub(crate) fn octets(&self) -> Vec<u8> {
        match (&self.body, &self.raw) {
            (Some(body), _) => body.to_string().into_bytes(),
            (None, Some(raw)) => raw.clone().into_bytes(),
            (None, None) => Vec::new(),
        }
    }
}

/// Runs the steps; `ask` sends one request.
pub(crate) fn run(file: &str, mut ask: impl FnMut(&StepRequest) -> Reply) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/interop")
        .join(file);
    let steps: Vec<Step> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (index, step) in steps.iter().enumerate() {
        assert_eq!(step.step as usize, index + 1, "steps are numbered");
        let reply = ask(&step.request);
        check(step, &reply);
    }
    steps.len()
}

fn check(step: &Step, reply: &Reply) {
    let told = String::from_utf8_lossy(&reply.body);
    let what = format!("step {}: {}\n{}", step.step, step.about, told);
    let wanted = &step.response;
    assert_eq!(reply.status, wanted.status, "{what}");
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if let Some(tag) = &wanted.error_tag {
        let found = body.pointer("/ietf-restconf:errors/error/0/error-tag");
        assert_eq!(found.and_then(Value::as_str), Some(tag.as_str()), "{what}");
    }
    if let Some(text) = &wanted.contains {
        assert!(told.contains(text), "{what}");
    }
    if let Some(wanted) = &wanted.body {
        assert_eq!(&body, wanted, "{what}");
    }
    for (pointer, wanted) in &wanted.at {
        assert_eq!(body.pointer(pointer), Some(wanted), "{pointer} of {what}");
    }
    for pointer in &wanted.absent {
        assert_eq!(body.pointer(pointer), None, "{pointer} of {what}");
    }
    for (name, wanted) in &wanted.headers {
        let found = reply.headers.iter().find(|(known, _)| known == name);
        let found = found.map(|(_, value)| value);
        assert_eq!(found, Some(wanted), "{name} of {what}");
    }
}

/// Runs the steps without a look at the replies.
pub(crate) fn run_unchecked(file: &str, mut ask: impl FnMut(&StepRequest)) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/interop")
        .join(file);
    let steps: Vec<Step> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for step in &steps {
        ask(&step.request);
    }
}
