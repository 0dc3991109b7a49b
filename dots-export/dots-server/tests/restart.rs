//! What a server knows after its own restart.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::{Bench, CUID, EPOCH, OTHER_CUID, request, telemetry};
use weir_dots_proto::coap::Code;

const MID_1: [&str; 3] = ["mitigate", CUID, "mid=1"];
const MID_2: [&str; 3] = ["mitigate", CUID, "mid=2"];

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn mitigations_filter_on_and_keep_their_lifetimes() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    bench.put(client, &MID_1, &request("203.0.113.7/32", 3600));
    bench.advance(seconds(100));
    bench.put(client, &MID_2, &request("203.0.113.8/32", 600));
    bench.restart(seconds(50));
    assert_eq!(bench.active().len(), 2);
    let client = bench.connect("weir-lab");
    let scope = bench.get(client, &MID_1).scopes()[0].clone();
    assert_eq!(scope["lifetime"], 3450);
    assert_eq!(scope["mitigation-start"], EPOCH.to_string());
    assert_eq!(scope["status"], "attack-mitigation-in-progress");
    // A refresh is one, and not a new request.
    let answer = bench.put(client, &MID_1, &request("203.0.113.7/32", 3600));
    assert_eq!(answer.code, Code::CHANGED);
    let answer = bench.put(client, &MID_1, &request("203.0.113.9/32", 3600));
    assert_eq!(answer.code, Code::BAD_REQUEST);
    // The other one runs out when it would have.
    bench.advance(seconds(549));
    assert_eq!(
        bench.get(client, &MID_2).scopes()[0]["status"],
        "attack-mitigation-in-progress"
    );
    bench.advance(seconds(2 + 120));
    assert_eq!(bench.get(client, &MID_2).code, Code::NOT_FOUND);
    assert_eq!(bench.active().len(), 1);
}

#[test]
fn a_withdrawn_mitigation_goes_on_terminating() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    bench.put(client, &MID_1, &request("203.0.113.7/32", 3600));
    bench.delete(client, &MID_1);
    bench.restart(seconds(60));
    let client = bench.connect("weir-lab");
    assert_eq!(
        bench.get(client, &MID_1).scopes()[0]["status"],
        "dots-client-withdrawn-mitigation"
    );
    bench.advance(seconds(61));
    assert_eq!(bench.get(client, &MID_1).code, Code::NOT_FOUND);
    assert!(bench.active().is_empty());
    assert!(!bench.rows.keys().any(|key| key.starts_with("mitigation/")));
}

#[test]
fn a_lifetime_that_ended_meanwhile_ends_the_mitigation() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    bench.put(client, &MID_1, &request("203.0.113.7/32", 60));
    bench.restart(seconds(600));
    bench.advance(seconds(121));
    let client = bench.connect("weir-lab");
    assert_eq!(bench.get(client, &MID_1).code, Code::NOT_FOUND);
    assert!(bench.active().is_empty());
}

#[test]
fn a_cuid_stays_its_owners() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    bench.put(client, &MID_1, &request("203.0.113.7/32", 60));
    bench.restart(seconds(1));
    let thief = bench.connect("other");
    let answer = bench.get(thief, &MID_1);
    assert_eq!(answer.code, Code::CONFLICT);
    assert_eq!(
        answer.scopes()[0]["conflict-information"]["conflict-cause"],
        "cuid-collision"
    );
}

#[test]
fn telemetry_and_its_setup_are_kept() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let tm = ["tm", CUID, "tmid=4"];
    let setup = ["tm-setup", CUID, "tsid=3"];
    let pipe = json!({"ietf-dots-telemetry:telemetry-setup": {"telemetry": [
        {"total-pipe-capacity": [{"link-id": "link1", "capacity": "500", "unit": "megabit-ps"}]}
    ]}});
    bench.put(
        client,
        &tm,
        &telemetry(json!({"target-prefix": ["203.0.113.7/32"]})),
    );
    bench.put(client, &setup, &pipe);
    let before = (bench.get(client, &tm).body, bench.get(client, &setup).body);
    bench.restart(seconds(1));
    let client = bench.connect("weir-lab");
    assert_eq!(
        (bench.get(client, &tm).body, bench.get(client, &setup).body),
        before
    );
    bench.delete(client, &["tm", CUID]);
    bench.delete(client, &["tm-setup", CUID]);
    bench.restart(seconds(1));
    let client = bench.connect("weir-lab");
    assert_eq!(bench.get(client, &tm).code, Code::NOT_FOUND);
    assert_eq!(bench.get(client, &setup).code, Code::NOT_FOUND);
}

#[test]
fn who_lost_the_right_to_a_target_loses_its_mitigation() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    bench.put(client, &MID_1, &request("203.0.113.7/32", 600));
    let other = bench.connect("other");
    let theirs = ["mitigate", OTHER_CUID, "mid=1"];
    bench.put(other, &theirs, &request("198.51.100.7/32", 600));
    bench.policy.clients.retain(|(name, _)| &**name != "other");
    bench.policy.clients[0].1 = vec!["2001:db8:a::/48".parse().unwrap()];
    bench.restart(seconds(1));
    assert!(bench.active().is_empty());
    let keys: Vec<&String> = bench.rows.keys().collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].starts_with("owner/"));
}
