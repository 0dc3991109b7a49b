//! What any two DOTS agents have to be able to do with each other, as numbered steps: a client session and the server over a
//! link that loses a fifth of all datagrams in each direction. Steps are numbered by case: configuration (2), heartbeats
//! (3), mitigation (4 to 11), filter control (12), hints (13), telemetry (14 to 16), blocks (18), redirection (19), gateways (20).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod blocks;
mod mitigation;
mod robust;
mod session;
mod telemetry;
mod withdrawal;
mod world;

use std::time::Duration;

use serde_json::{Value, json};
use weir_dots_proto::body::{
    Gauges, MitigationStatus, PreOrOngoingMitigation, Redirect, Target, Traffic,
};
use weir_dots_proto::client::Request;
use weir_dots_proto::coap::Code;
use world::{Answer, ClientId, World, delete, get, items, observe, put, scope, scopes};

const CUID: &str = "cuid=dz6pHjaADkaFTbjr0JGBpw";
const OTHER: &str = "cuid=z85PF07F0YiHmas-fJkqRg";
/// Share of datagrams that each direction loses.
const LOSS: f64 = 0.2;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// One step: a request, and the code that answers it.
fn step(world: &mut World, name: &str, client: ClientId, request: &Request, code: Code) -> Answer {
    let answer = world
        .ask(client, request)
        .unwrap_or_else(|| panic!("step {name}: no answer"));
    assert_eq!(answer.code, code, "step {name}: {answer:?}");
    let is_text = !code.is_success() && answer.body.is_none();
    assert!(
        !is_text || answer.text.as_deref().is_some_and(|text| !text.is_empty()),
        "step {name}: an error says why (RFC 9132 §9)"
    );
    answer
}

fn mid(cuid: &str, mid: u32) -> String {
    format!("mitigate/{cuid}/mid={mid}")
}

fn udp(prefix: &str, lifetime: i64) -> Value {
    scope(json!({"target-prefix": [prefix], "target-protocol": [17], "lifetime": lifetime}))
}

fn statuses(notifications: &[(weir_dots_proto::Resource, Value)]) -> Vec<String> {
    let mut statuses: Vec<String> = notifications
        .iter()
        .flat_map(|(_, body)| scopes(Some(body)))
        .map(|scope| scope["status"].as_str().unwrap().to_owned())
        .collect();
    statuses.dedup();
    statuses
}
