//! What clients say of attacks is kept with who said it, outlives telemetry and restarts, and is bounded to their own targets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};
use support::{Bench, CUID, EPOCH};
use weir_dots_proto::coap::Code;
use weir_dots_server::Report;

fn telemetry(target: &str, detail: &Value) -> Value {
    json!({"ietf-dots-telemetry:telemetry": {"pre-or-ongoing-mitigation": [
        {"target": {"target-prefix": [target]},
         "total-attack-traffic": [{"unit": "megabit-ps", "mid-percentile-g": "900"}],
         "attack-detail": [detail]}
    ]}})
}

fn detail(start: u64, end: Option<u64>, talker: &str) -> Value {
    let mut detail = json!({
        "vendor-id": 32473, "attack-id": 16, "attack-severity": "high", "attack-description": "DNS\namplification",
        "start-time": start.to_string(),
        "top-talker": {"talker": [{"source-prefix": talker}]},
    });
    if let Some(end) = end {
        detail["end-time"] = json!(end.to_string());
    }
    detail
}

fn reports(bench: &Bench) -> Vec<Report> {
    bench.server.reports().cloned().collect()
}

#[test]
fn an_attack_is_one_report_from_its_start_to_its_end() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let path = ["tm", CUID, "tmid=1"];
    let start = EPOCH - 20;
    let body = telemetry("203.0.113.7/32", &detail(start, None, "198.51.100.0/24"));
    assert_eq!(bench.put(client, &path, &body).code, Code::CHANGED);
    bench.advance(Duration::from_secs(30));
    let body = telemetry(
        "203.0.113.7/32",
        &detail(start, Some(EPOCH + 25), "192.0.2.0/24"),
    );
    let path = ["tm", CUID, "tmid=2"];
    assert_eq!(bench.put(client, &path, &body).code, Code::CHANGED);
    // What is told of the attack may go; what was said stays, also over a restart.
    assert_eq!(bench.delete(client, &["tm", CUID]).code, Code::DELETED);
    let before = reports(&bench);
    bench.restart(Duration::from_secs(5));
    let kept = reports(&bench);
    assert_eq!(before, kept);
    let [report] = kept.as_slice() else {
        panic!("{kept:?}");
    };
    assert_eq!(&*report.client, "weir-lab");
    assert_eq!((report.start, report.end), (start, Some(EPOCH + 25)));
    assert_eq!((report.said_at, report.heard_at), (EPOCH, EPOCH + 30));
    let attack = report.attack.as_ref().unwrap();
    assert_eq!((attack.vendor_id, attack.attack_id), (32473, 16));
    assert_eq!(attack.description.as_deref(), Some("DNS amplification"));
    let sources: Vec<String> = attack.sources.iter().map(IpNet::to_string).collect();
    assert_eq!(sources, ["192.0.2.0/24", "198.51.100.0/24"]);
    assert_eq!(attack.traffic[0].mid_percentile_g, Some(900));
    // The same attack again, at another time, is another.
    let client = bench.connect("weir-lab");
    let body = telemetry(
        "203.0.113.7/32",
        &detail(EPOCH + 33, None, "198.51.100.0/24"),
    );
    bench.put(client, &["tm", CUID, "tmid=3"], &body);
    assert_eq!(reports(&bench).len(), 2);
}

#[test]
fn nobody_reports_attacks_on_others() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let body = telemetry("198.51.100.7/32", &detail(EPOCH, None, "192.0.2.0/24"));
    let path = ["tm", CUID, "tmid=1"];
    assert_eq!(bench.put(client, &path, &body).code, Code::BAD_REQUEST);
    assert!(reports(&bench).is_empty());
    // A question is no report.
    let question = json!({"ietf-dots-telemetry:telemetry": {"pre-or-ongoing-mitigation": [
        {"target": {"target-prefix": ["203.0.113.7/32"]}}
    ]}});
    assert_eq!(bench.put(client, &path, &question).code, Code::CHANGED);
    assert!(reports(&bench).is_empty());
}

#[test]
fn a_baseline_declares_peace_for_as_long_as_its_client_is_heard() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let body = json!({"ietf-dots-telemetry:telemetry-setup": {"telemetry": [{"baseline": [
        {"id": 1, "target-prefix": ["203.0.113.0/24"],
         "total-traffic-normal": [{"unit": "megabit-ps", "mid-percentile-g": "900"}]}
    ]}]}});
    let path = ["tm-setup", CUID, "tsid=1"];
    assert_eq!(bench.put(client, &path, &body).code, Code::CREATED);
    for _ in 0..4 {
        bench.advance(Duration::from_secs(100));
        bench.get(client, &["config"]);
    }
    let spans = |bench: &Bench| -> Vec<(u64, u64)> {
        let peace = reports(bench)
            .into_iter()
            .filter(|report| report.attack.is_none());
        peace
            .map(|report| (report.start - EPOCH, report.until() - EPOCH))
            .collect()
    };
    assert_eq!(spans(&bench), [(0, 400)]);
    // An hour without a word: nobody has declared anything for it.
    bench.advance(Duration::from_secs(3600));
    let client = bench.connect("weir-lab");
    bench.get(client, &["config"]);
    bench.advance(Duration::from_secs(100));
    bench.get(client, &["config"]);
    assert_eq!(spans(&bench), [(0, 400), (4000, 4100)]);
    bench.delete(client, &path);
    bench.advance(Duration::from_secs(100));
    bench.get(client, &["config"]);
    assert_eq!(spans(&bench), [(0, 400), (4000, 4100)]);
}
