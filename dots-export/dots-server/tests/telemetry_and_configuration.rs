//! `/tm`, `/tm-setup` and `/config`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Bench, CUID, request, telemetry};
use weir_dots_proto::coap::{Code, option};

#[test]
fn telemetry_is_kept_by_tmid() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let path = ["tm", CUID, "tmid=5"];
    assert_eq!(bench.get(client, &path).code, Code::NOT_FOUND);
    let unknown = telemetry(json!({"mid-list": [9]}));
    let answer = bench.put(client, &path, &unknown);
    assert_eq!(answer.code, Code::BAD_REQUEST, "no such mitigation");

    bench.put(
        client,
        &["mitigate", CUID, "mid=9"],
        &request("203.0.113.7/32", 600),
    );
    let body = telemetry(json!({"mid-list": [9], "target-prefix": ["203.0.113.7/32"]}));
    assert_eq!(bench.put(client, &path, &body).code, Code::CHANGED);
    let answer = bench.get(client, &path);
    assert_eq!(answer.code, Code::CONTENT);
    let item =
        &answer.body.unwrap()["ietf-dots-telemetry:telemetry"]["pre-or-ongoing-mitigation"][0];
    assert_eq!(item["tmid"], 5);
    assert_eq!(item["target"]["mid-list"], json!([9]));
    assert_eq!(item["attack-detail"][0]["attack-id"], 16);

    // A wish that the server did not offer (RFC 9244 §8.3).
    let query = [(option::URI_QUERY, b"target-colour=blue".to_vec())];
    let answer = bench.ask(client, Code::GET, &path, None, &query).unwrap();
    assert_eq!(answer.code, Code::BAD_REQUEST);

    assert_eq!(bench.delete(client, &path).code, Code::DELETED);
    assert_eq!(bench.get(client, &["tm", CUID]).code, Code::NOT_FOUND);
    assert_eq!(bench.delete(client, &["tm", CUID]).code, Code::DELETED);
}

#[test]
fn of_overlapping_telemetry_the_higher_tmid_stands() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let mut put = |tmid: u32, prefix: &str| {
        let path = ["tm", CUID, &format!("tmid={tmid}")];
        let body = telemetry(json!({"target-prefix": [prefix]}));
        assert_eq!(bench.put(client, &path, &body).code, Code::CHANGED);
    };
    put(1, "203.0.113.7/32");
    put(2, "203.0.113.99/32");
    put(3, "203.0.113.0/28");
    put(1, "203.0.113.7/32");
    let kept: Vec<u32> = bench
        .server
        .telemetry()
        .map(|(_, tmid, _)| tmid.0)
        .collect();
    assert_eq!(kept, [2, 3]);
}

#[test]
fn telemetry_setup_is_kept() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    assert_eq!(bench.get(client, &["tm-setup", CUID]).code, Code::CONTENT);
    let body = json!({"ietf-dots-telemetry:telemetry-setup": {"telemetry": [
        {"total-pipe-capacity": [{"link-id": "link1", "capacity": "500", "unit": "megabit-ps"}]}
    ]}});
    let path = ["tm-setup", CUID, "tsid=4"];
    assert_eq!(bench.put(client, &path, &body).code, Code::CREATED);
    assert_eq!(bench.put(client, &path, &body).code, Code::CHANGED);
    let answer = bench.get(client, &path);
    let kept = &answer.body.unwrap()["ietf-dots-telemetry:telemetry-setup"]["telemetry"][0];
    assert_eq!(kept["tsid"], 4);
    assert_eq!(kept["total-pipe-capacity"][0]["capacity"], "500");
    assert_eq!(bench.delete(client, &path).code, Code::DELETED);
    assert_eq!(bench.get(client, &path).code, Code::NOT_FOUND);
    let empty = json!({"ietf-dots-telemetry:telemetry-setup": {"telemetry": [{}]}});
    assert_eq!(bench.put(client, &path, &empty).code, Code::BAD_REQUEST);
}

#[test]
fn a_session_is_configured_within_its_bounds() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let answer = bench.get(client, &["config"]);
    assert_eq!(answer.code, Code::CONTENT);
    assert!(answer.max_age.is_some_and(|seconds| seconds > 0));
    let config = &answer.body.unwrap()["ietf-dots-signal-channel:signal-config"];
    let interval = &config["idle-config"]["heartbeat-interval"];
    assert_eq!(
        interval,
        &json!({"min-value": 15, "max-value": 240, "current-value": 30})
    );

    let wish = |seconds: u32| {
        json!({"ietf-dots-signal-channel:signal-config": {
            "idle-config": {"heartbeat-interval": {"current-value": seconds}}
        }})
    };
    let path = ["config", "sid=7"];
    assert_eq!(bench.get(client, &path).code, Code::NOT_FOUND);
    assert_eq!(bench.put(client, &path, &wish(91)).code, Code::CREATED);
    assert_eq!(bench.put(client, &path, &wish(92)).code, Code::CHANGED);
    let answer = bench.put(client, &path, &wish(5));
    assert_eq!(answer.code, Code::UNPROCESSABLE_ENTITY);
    let answer = bench.get(client, &path);
    let config = &answer.body.unwrap()["ietf-dots-signal-channel:signal-config"];
    assert_eq!(
        config["idle-config"]["heartbeat-interval"]["current-value"],
        92
    );
    assert_eq!(
        config["mitigating-config"]["heartbeat-interval"]["current-value"],
        30
    );
    assert_eq!(bench.delete(client, &path).code, Code::DELETED);
    assert_eq!(bench.get(client, &path).code, Code::NOT_FOUND);
}

#[test]
fn the_configuration_holds_for_its_times() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let hour = Duration::from_secs(3_600);
    bench.advance(hour);
    assert_eq!(bench.heartbeats(client), 120, "each 30 s");
    let config = json!({"ietf-dots-signal-channel:signal-config": {
        "idle-config": {"heartbeat-interval": {"current-value": 240}},
        "mitigating-config": {"heartbeat-interval": {"current-value": 15}}
    }});
    bench.put(client, &["config", "sid=1"], &config);
    bench.advance(hour);
    assert!((14..=15).contains(&bench.heartbeats(client)));
    let path = ["mitigate", CUID, "mid=1"];
    bench.put(client, &path, &request("203.0.113.7/32", 86_400));
    bench.advance(hour);
    assert!((238..=240).contains(&bench.heartbeats(client)));
    bench.delete(client, &path);
    bench.delete(client, &["config", "sid=1"]);
    bench.advance(hour);
    assert!((119..=120).contains(&bench.heartbeats(client)));
}

#[test]
fn of_overlapping_setups_the_higher_tsid_stands() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let body =
        |settings: Value| json!({"ietf-dots-telemetry:telemetry-setup": {"telemetry": [settings]}});
    let config =
        |interval: u16| body(json!({"current-config": {"telemetry-notify-interval": interval}}));
    let pipe = |link: &str| {
        body(
            json!({"total-pipe-capacity": [{"link-id": link, "capacity": "500", "unit": "megabit-ps"}]}),
        )
    };
    let baseline = |prefix: &str| {
        body(json!({"baseline": [{"id": 1, "target-prefix": [prefix],
            "total-traffic-normal": [{"unit": "megabit-ps", "peak-g": "60"}]}]}))
    };
    for (tsid, body) in [
        ("tsid=1", config(10)),
        ("tsid=2", pipe("link1")),
        ("tsid=3", pipe("link2")),
        ("tsid=4", baseline("203.0.113.0/28")),
        ("tsid=5", config(20)),
        ("tsid=6", pipe("link1")),
        ("tsid=7", baseline("203.0.113.0/24")),
    ] {
        let answer = bench.put(client, &["tm-setup", CUID, tsid], &body);
        assert_eq!(answer.code, Code::CREATED, "{tsid}: {}", answer.text);
    }
    for (tsid, code) in [
        ("tsid=1", Code::NOT_FOUND),
        ("tsid=2", Code::NOT_FOUND),
        ("tsid=3", Code::CONTENT),
        ("tsid=4", Code::NOT_FOUND),
        ("tsid=5", Code::CONTENT),
        ("tsid=6", Code::CONTENT),
        ("tsid=7", Code::CONTENT),
    ] {
        assert_eq!(
            bench.get(client, &["tm-setup", CUID, tsid]).code,
            code,
            "{tsid}"
        );
    }
    let late = bench.put(client, &["tm-setup", CUID, "tsid=1"], &config(10));
    assert_eq!(late.code, Code::BAD_REQUEST);
    let foreign = bench.put(
        client,
        &["tm-setup", CUID, "tsid=8"],
        &baseline("192.0.2.0/24"),
    );
    assert_eq!(foreign.code, Code::BAD_REQUEST);
}
