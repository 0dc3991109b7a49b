//! What a client reports as normal is handed on, for its own prefixes only.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use support::{Bench, CUID};
use weir_dots_proto::coap::Code;

fn baseline(prefix: Option<&str>, mid: &str) -> Value {
    let mut baseline = json!({
        "id": 1,
        "total-traffic-normal": [{"unit": "megabit-ps", "mid-percentile-g": mid}],
    });
    if let Some(prefix) = prefix {
        baseline["target-prefix"] = json!([prefix]);
    }
    json!({"ietf-dots-telemetry:telemetry-setup": {"telemetry": [{"baseline": [baseline]}]}})
}

#[test]
fn baselines_are_handed_on_with_whose_they_are() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let path = ["tm-setup", CUID, "tsid=1"];
    let body = baseline(Some("203.0.113.0/24"), "900");
    assert_eq!(bench.put(client, &path, &body).code, Code::CREATED);
    let told = bench.server.poll_baselines().unwrap();
    assert_eq!(&*told.client, "weir-lab");
    let traffic = told.baselines[0].total_traffic_normal[0];
    assert_eq!(traffic.mid_percentile_g, Some(900));
    assert_eq!(bench.server.poll_baselines(), None);
    // Without a target: of all its prefixes.
    let path = ["tm-setup", CUID, "tsid=2"];
    assert_eq!(
        bench.put(client, &path, &baseline(None, "5")).code,
        Code::CREATED
    );
    let told = bench.server.poll_baselines().unwrap();
    assert_eq!(
        (told.prefixes.len(), told.baselines[0].target_prefix.len()),
        (2, 0)
    );
}

#[test]
fn baselines_of_others_networks_are_refused_and_not_handed_on() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let path = ["tm-setup", CUID, "tsid=1"];
    let body = baseline(Some("198.51.100.0/24"), "900");
    assert_eq!(bench.put(client, &path, &body).code, Code::BAD_REQUEST);
    assert_eq!(bench.server.poll_baselines(), None);
}
