//! Who may ask for what.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::json;
use support::{Bench, CUID, OTHER_CUID, request, telemetry};
use weir_dots_proto::coap::Code;

#[test]
fn a_certificate_that_no_client_has_is_unauthorised() {
    let mut bench = Bench::new();
    let stranger = bench.connect("stranger");
    let body = request("203.0.113.7/32", 3600);
    let path = ["mitigate", CUID, "mid=1"];
    let answer = bench.put(stranger, &path, &body);
    assert_eq!(answer.code, Code::UNAUTHORIZED);
    assert!(!answer.text.is_empty());
    for path in [
        &["config"][..],
        &["mitigate", CUID],
        &["tm", CUID],
        &["tm-setup", CUID],
    ] {
        assert_eq!(bench.get(stranger, path).code, Code::UNAUTHORIZED);
    }
    assert!(bench.active().is_empty());

    // Names of certificates are domain names: their case does not matter.
    let known = bench.connect("Weir-Lab");
    assert_eq!(bench.put(known, &path, &body).code, Code::CREATED);
}

#[test]
fn a_target_of_another_domain_is_refused() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    for prefix in ["198.51.100.7/32", "203.0.0.0/16", "2001:db8:b::/48"] {
        let answer = bench.put(client, &["mitigate", CUID, "mid=1"], &request(prefix, 3600));
        assert_eq!(answer.code, Code::BAD_REQUEST);
        assert!(answer.text.contains("not yours"), "{}", answer.text);
        let body = telemetry(json!({"target-prefix": [prefix]}));
        let answer = bench.put(client, &["tm", CUID, "tmid=1"], &body);
        assert_eq!(answer.code, Code::BAD_REQUEST);
    }
    assert!(bench.active().is_empty());
    let answer = bench.put(
        client,
        &["mitigate", CUID, "mid=1"],
        &request("2001:db8:a::1/128", 3600),
    );
    assert_eq!(answer.code, Code::CREATED);
}

#[test]
fn a_cuid_of_another_client_is_a_collision() {
    let mut bench = Bench::new();
    let (client, other) = (bench.connect("weir-lab"), bench.connect("other"));
    bench.put(
        client,
        &["mitigate", CUID, "mid=1"],
        &request("203.0.113.7/32", 3600),
    );
    for path in [
        &["mitigate", CUID, "mid=1"][..],
        &["mitigate", CUID, "mid=9"],
    ] {
        let answer = bench.put(other, path, &request("198.51.100.7/32", 3600));
        assert_eq!(answer.code, Code::CONFLICT);
        // RFC 9132 §4.4.1.3: neither conflict-status nor conflict-scope nor retry-timer.
        let expected = json!({"conflict-information": {"conflict-cause": "cuid-collision"}});
        assert_eq!(answer.scopes(), [expected]);
    }
    assert_eq!(
        bench.get(other, &["mitigate", CUID]).code,
        Code::CONFLICT,
        "and nothing of it is shown"
    );
    let answer = bench.put(
        other,
        &["mitigate", OTHER_CUID, "mid=1"],
        &request("198.51.100.7/32", 3600),
    );
    assert_eq!(answer.code, Code::CREATED);
    assert_eq!(bench.active().len(), 2);
}

#[test]
fn another_clients_target_is_in_conflict() {
    let mut bench = Bench::new();
    let (client, other) = (bench.connect("weir-lab"), bench.connect("other"));
    bench.put(
        client,
        &["mitigate", CUID, "mid=77"],
        &request("203.0.113.129/32", 600),
    );
    let answer = bench.put(
        other,
        &["mitigate", OTHER_CUID, "mid=1"],
        &request("203.0.113.128/25", 3600),
    );
    assert_eq!(answer.code, Code::CONFLICT);
    let information = &answer.scopes()[0]["conflict-information"];
    assert_eq!(
        information["conflict-status"],
        "request-inactive-other-active"
    );
    assert_eq!(information["conflict-cause"], "overlapping-targets");
    assert_eq!(information["retry-timer"], 600);
    assert_eq!(
        information["conflict-scope"],
        json!({"target-prefix": ["203.0.113.128/25"]}),
        "what the other client asked for is its own"
    );
    assert_eq!(bench.active().len(), 1);
}

#[test]
fn what_is_not_served_yet_is_refused_and_not_ignored() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let mut put = |member: &str, value: serde_json::Value| {
        let mut body = request("203.0.113.7/32", 3600);
        body["ietf-dots-signal-channel:mitigation-scope"]["scope"][0][member] = value;
        bench.put(client, &["mitigate", CUID, "mid=1"], &body).code
    };
    assert_eq!(put("alias-name", json!(["web"])), Code::BAD_REQUEST);
    assert_eq!(
        put("target-fqdn", json!(["www.example"])),
        Code::BAD_REQUEST
    );
    let switch = json!([{"acl-name": "web", "activation-type": "immediate"}]);
    let member = "ietf-dots-signal-control:acl-list";
    assert_eq!(put(member, switch), Code::NOT_FOUND);
    assert_eq!(put("trigger-mitigation", json!(true)), Code::CREATED);
}

#[test]
fn a_client_cannot_fill_the_server() {
    let mut bench = Bench::with(|policy| {
        policy.max_mitigations = 3;
        policy.max_telemetry = 3;
    });
    let client = bench.connect("weir-lab");
    for host in 1..=5 {
        let prefix = format!("203.0.113.{host}/32");
        let mid = format!("mid={host}");
        let answer = bench.put(client, &["mitigate", CUID, &mid], &request(&prefix, 3600));
        let expected = if host <= 3 {
            (Code::CREATED, None)
        } else {
            (Code::SERVICE_UNAVAILABLE, Some(60))
        };
        assert_eq!((answer.code, answer.max_age), expected);
        let body = telemetry(json!({"target-prefix": [prefix]}));
        let answer = bench.put(client, &["tm", CUID, &format!("tmid={host}")], &body);
        assert_eq!(answer.code, Code::CHANGED);
    }
    let kept: Vec<u32> = bench
        .server
        .telemetry()
        .map(|(_, tmid, _)| tmid.0)
        .collect();
    assert_eq!(kept, [3, 4, 5], "the newest telemetry is kept");

    // Cuids: those that hold nothing make room for others.
    for number in 0..100 {
        let cuid = format!("cuid=client-{number}");
        assert_eq!(
            bench.get(client, &["mitigate", &cuid]).code,
            Code::NOT_FOUND
        );
    }
    assert_eq!(bench.get(client, &["mitigate", CUID]).scopes().len(), 3);
}
