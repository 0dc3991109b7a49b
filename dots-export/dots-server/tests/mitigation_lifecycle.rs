//! A mitigation from its request to its end, over a virtual clock.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Bench, CUID, EPOCH, request, scopes};
use weir_dots_proto::body::MitigationStatus;
use weir_dots_proto::coap::{Code, option};

const MID_1: [&str; 3] = ["mitigate", CUID, "mid=1"];
const MID_2: [&str; 3] = ["mitigate", CUID, "mid=2"];
const MID_3: [&str; 3] = ["mitigate", CUID, "mid=3"];

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn statuses(bodies: &[Value]) -> Vec<&str> {
    bodies
        .iter()
        .map(|body| scopes(body)[0]["status"].as_str().unwrap())
        .collect()
}

#[test]
fn a_request_is_granted_and_handed_to_the_mitigator() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let answer = bench.put(client, &MID_1, &request("203.0.113.7/32", 3600));
    assert_eq!(answer.code, Code::CREATED);
    // RFC 9132 Figure 10.
    assert_eq!(answer.scopes(), [json!({"mid": 1, "lifetime": 3600})]);
    let told = bench.told.lock().unwrap();
    let scope = told.active.values().next().unwrap();
    assert_eq!(scope.target_prefix, ["203.0.113.7/32".parse().unwrap()]);
    assert_eq!(scope.target_protocol, [17]);
    drop(told);

    bench.advance(seconds(100));
    let answer = bench.get(client, &MID_1);
    assert_eq!(answer.code, Code::CONTENT);
    let expected = json!({
        "mid": 1,
        "target-prefix": ["203.0.113.7/32"],
        "target-protocol": [17],
        "mitigation-start": EPOCH.to_string(),
        "lifetime": 3500,
        "status": "attack-mitigation-in-progress",
        "bytes-dropped": "0", "bps-dropped": "0", "pkts-dropped": "0", "pps-dropped": "0",
    });
    assert_eq!(answer.scopes(), [expected]);
    assert_eq!(bench.get(client, &MID_2).code, Code::NOT_FOUND);
}

#[test]
fn a_refresh_changes_the_lifetime_alone() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    bench.put(client, &MID_1, &request("203.0.113.7/32", 60));
    bench.advance(seconds(50));
    let answer = bench.put(client, &MID_1, &request("203.0.113.7/32", 90));
    assert_eq!(answer.code, Code::CHANGED);
    assert_eq!(answer.scopes(), [json!({"mid": 1, "lifetime": 90})]);
    bench.advance(seconds(80));
    assert_eq!(
        bench.get(client, &MID_1).scopes()[0]["status"],
        "attack-mitigation-in-progress"
    );
    let changed = bench.put(client, &MID_1, &request("203.0.113.8/32", 90));
    assert_eq!(changed.code, Code::BAD_REQUEST);
    assert_eq!(bench.told.lock().unwrap().applied.len(), 1);
}

#[test]
fn lifetimes_are_bounded() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    for (mid, asked) in [("mid=1", -1), ("mid=2", 1_000_000)] {
        let prefix = format!("203.0.113.{}/32", mid.len() as i64 + asked % 7);
        let answer = bench.put(client, &["mitigate", CUID, mid], &request(&prefix, asked));
        assert_eq!(answer.code, Code::CREATED);
        assert_eq!(answer.scopes()[0]["lifetime"], 86_400);
    }
    let answer = bench.put(client, &MID_3, &request("203.0.113.99/32", 0));
    assert_eq!(answer.code, Code::BAD_REQUEST);
}

#[test]
fn a_higher_mid_replaces_what_it_overlaps_and_a_lower_one_comes_too_late() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    bench.put(client, &MID_1, &request("203.0.113.7/32", 600));
    let (token, _) = bench.observe(client, &MID_1);
    bench.put(client, &MID_2, &request("203.0.113.99/32", 600));
    let answer = bench.put(client, &MID_3, &request("203.0.113.0/28", 600));
    assert_eq!(answer.code, Code::CREATED);
    assert_eq!(bench.get(client, &MID_1).code, Code::NOT_FOUND);
    assert_eq!(bench.get(client, &MID_2).code, Code::CONTENT);
    assert_eq!(bench.active().len(), 2);
    assert_eq!(
        statuses(&bench.notifications(client, token)),
        ["attack-mitigation-terminated"]
    );

    let late = bench.put(client, &MID_1, &request("203.0.113.7/32", 600));
    assert_eq!(late.code, Code::CONFLICT);
    let information = &late.scopes()[0]["conflict-information"];
    assert_eq!(information["conflict-cause"], "overlapping-targets");
    assert_eq!(information["conflict-scope"], json!({"mid": 3}));
    assert_eq!(bench.active().len(), 2);
}

#[test]
fn a_withdrawn_mitigation_terminates_after_a_while() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    bench.put(client, &MID_1, &request("203.0.113.7/32", 3600));
    let (token, _) = bench.observe(client, &MID_1);
    let answer = bench.delete(client, &MID_1);
    assert_eq!((answer.code, answer.body), (Code::DELETED, None));
    assert_eq!(bench.delete(client, &MID_1).code, Code::DELETED, "again");
    assert_eq!(bench.delete(client, &MID_2).code, Code::DELETED, "unknown");
    assert_eq!(
        bench.delete(client, &["mitigate", CUID]).code,
        Code::BAD_REQUEST
    );

    bench.advance(seconds(119));
    assert_eq!(
        bench.get(client, &MID_1).scopes()[0]["status"],
        "dots-client-withdrawn-mitigation"
    );
    assert_eq!(bench.active().len(), 1, "it still filters");
    bench.advance(seconds(2));
    assert_eq!(bench.get(client, &MID_1).code, Code::NOT_FOUND);
    assert!(bench.active().is_empty());
    let told = bench.notifications(client, token);
    let mut told = statuses(&told);
    assert_eq!(
        told.len(),
        5,
        "every half minute, since notifications get lost"
    );
    told.dedup();
    assert_eq!(
        told,
        [
            "dots-client-withdrawn-mitigation",
            "attack-mitigation-terminated"
        ]
    );
}

#[test]
fn a_mitigation_whose_lifetime_ends_is_withdrawn() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    bench.put(client, &MID_1, &request("203.0.113.7/32", 30));
    bench.advance(seconds(31));
    assert_eq!(
        bench.get(client, &MID_1).scopes()[0]["status"],
        "dots-client-withdrawn-mitigation"
    );
    bench.advance(seconds(120));
    assert_eq!(bench.get(client, &MID_1).code, Code::NOT_FOUND);
    assert!(bench.active().is_empty());
}

#[test]
fn asking_again_while_it_terminates_doubles_the_next_time() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let end = |bench: &mut Bench, mid: u32| {
        let mid = format!("mid={mid}");
        let path = ["mitigate", CUID, &mid];
        let answer = bench.put(client, &path, &request("203.0.113.7/32", 3600));
        assert_eq!(answer.code, Code::CREATED);
        assert_eq!(bench.active().len(), 1, "the terminating one is replaced");
        bench.delete(client, &path);
    };
    // 120 s, 240 s, and not more than 300 s (RFC 9132 §4.4.4).
    for (mid, period) in [(1, 120), (2, 240), (3, 300), (4, 300)] {
        end(&mut bench, mid);
        bench.advance(seconds(period - 5));
        assert_eq!(bench.active().len(), 1, "mid {mid}");
    }
    bench.advance(seconds(10));
    assert!(bench.active().is_empty());
}

#[test]
fn observers_are_told_what_the_mitigator_measured() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    assert_eq!(
        bench.observe(client, &["mitigate", CUID]).1.code,
        Code::NOT_FOUND
    );
    bench.put(client, &MID_1, &request("203.0.113.7/32", 3600));
    let (token, first) = bench.observe(client, &MID_1);
    assert_eq!(first.code, Code::CONTENT);
    let (all, _) = bench.observe(client, &["mitigate", CUID]);
    let id = bench.active()[0];
    bench.advance(seconds(5));
    assert!(bench.notifications(client, token).is_empty(), "no news");

    // A new status is told at the next look at the mitigator.
    bench.report(id, MitigationStatus::AttackSuccessfullyMitigated, 1_000);
    bench.advance(Duration::from_millis(250));
    let told = bench.notifications(client, token);
    assert_eq!(statuses(&told), ["attack-successfully-mitigated"]);
    assert_eq!(scopes(&told[0])[0]["pkts-dropped"], "1000");
    // Over the five seconds since it was triggered (RFC 9132 §4.4.2), whatever it is now.
    assert_eq!(scopes(&told[0])[0]["bps-dropped"], "100000");
    assert!(bench.notifications(client, all).is_empty(), "one in 3 s");
    bench.advance(seconds(3));
    assert_eq!(bench.notifications(client, all).len(), 1);

    // Counters alone: at most once in three seconds, the newest.
    for packets in 0..50 {
        bench.report(
            id,
            MitigationStatus::AttackSuccessfullyMitigated,
            1_001 + packets,
        );
        bench.advance(Duration::from_millis(100));
    }
    bench.advance(seconds(4));
    let told = bench.notifications(client, token);
    assert!((2..=3).contains(&told.len()), "{}", told.len());
    assert_eq!(scopes(told.last().unwrap())[0]["pkts-dropped"], "1050");
    // The same again is no news.
    bench.report(id, MitigationStatus::AttackSuccessfullyMitigated, 1_050);
    bench.advance(seconds(5));
    assert!(bench.notifications(client, token).is_empty());

    bench.report(id, MitigationStatus::AttackStopped, 1_060);
    bench.advance(seconds(1));
    assert_eq!(
        statuses(&bench.notifications(client, token)),
        ["attack-stopped"]
    );

    // Another session of the same client sees the same, and the loss of a session ends nothing.
    let now = bench.now;
    bench.server.handle_closed(now, client.0);
    let again = bench.connect("weir-lab");
    assert_eq!(
        bench.get(again, &MID_1).scopes()[0]["status"],
        "attack-stopped"
    );
}

#[test]
fn of_two_queries_that_overlap_one_is_observed() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    bench.put(client, &MID_1, &request("203.0.113.7/32", 3600));
    let mut observe = |query: &str| {
        let options = [
            (option::OBSERVE, Vec::new()),
            (option::URI_QUERY, query.as_bytes().to_vec()),
        ];
        let all = ["mitigate", CUID];
        let answer = bench.ask(client, Code::GET, &all, None, &options);
        answer.unwrap().code
    };
    // RFC 9244 §9.2.
    assert_eq!(observe("target-protocol=17"), Code::CONTENT);
    assert_eq!(observe("target-prefix=203.0.113.0/24"), Code::CONFLICT);
    assert_eq!(observe("target-protocol=6"), Code::NOT_FOUND);
}

#[test]
fn a_client_sees_its_own_alone() {
    let mut bench = Bench::new();
    let (client, other) = (bench.connect("weir-lab"), bench.connect("other"));
    bench.put(client, &MID_1, &request("203.0.113.7/32", 3600));
    let path = ["mitigate", support::OTHER_CUID];
    assert_eq!(bench.get(other, &path).code, Code::NOT_FOUND);
}

#[test]
fn efficacy_updates_refresh_what_is_there() {
    let mut bench = Bench::new();
    let client = bench.connect("weir-lab");
    let mut body = request("203.0.113.7/32", 60);
    bench.put(client, &MID_1, &body);
    bench.advance(seconds(50));
    body["ietf-dots-signal-channel:mitigation-scope"]["scope"][0]["attack-status"] =
        json!("under-attack");
    let if_match = [(option::IF_MATCH, Vec::new())];
    let answer = bench
        .ask(client, Code::PUT, &MID_1, Some(&body), &if_match)
        .unwrap();
    assert_eq!(answer.code, Code::CHANGED);
    bench.advance(seconds(50));
    assert_eq!(
        bench.get(client, &MID_1).scopes()[0]["status"],
        "attack-mitigation-in-progress"
    );
    let unknown = bench.ask(client, Code::PUT, &MID_2, Some(&body), &if_match);
    assert!(unknown.is_none(), "ignored in silence (RFC 9132 §4.4.3)");
    body["ietf-dots-signal-channel:mitigation-scope"]["scope"][0]["target-prefix"] =
        json!(["203.0.113.8/32"]);
    let answer = bench
        .ask(client, Code::PUT, &MID_1, Some(&body), &if_match)
        .unwrap();
    assert_eq!(answer.code, Code::BAD_REQUEST);
}

#[test]
fn observers_of_ended_mitigations_make_room() {
    let mut bench = Bench::with(|policy| policy.terminating = Duration::ZERO);
    let client = bench.connect("weir-lab");
    for mid in 1..=300 {
        let mid = format!("mid={mid}");
        let path = ["mitigate", CUID, &mid];
        bench.put(client, &path, &request("203.0.113.7/32", 600));
        let (token, _) = bench.observe(client, &path);
        bench.delete(client, &path);
        bench.advance(seconds(4));
        let last = bench.notifications(client, token);
        assert_eq!(
            statuses(&last).last(),
            Some(&"attack-mitigation-terminated"),
            "{mid}"
        );
    }
}

#[test]
fn a_client_can_read_all_that_it_holds() {
    let mut bench = Bench::with(|policy| {
        policy.clients[0].1 = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let client = bench.connect("weir-lab");
    let mut held = 0;
    for mid in 1..=600 {
        let path = format!("mid={mid}");
        let target = format!("10.0.{}.{}/32", mid / 250, mid % 250);
        let answer = bench.put(client, &["mitigate", CUID, &path], &request(&target, 3600));
        if answer.code != Code::CREATED {
            assert_eq!(answer.code, Code::SERVICE_UNAVAILABLE);
            break;
        }
        held = mid;
        if mid % 50 != 0 {
            continue;
        }
        let all = bench.get(client, &["mitigate", CUID]);
        assert_eq!(all.code, Code::CONTENT, "with {mid} mitigations");
    }
    assert!(held >= 200, "{held}");
    let all = bench.get(client, &["mitigate", CUID]);
    assert_eq!(all.code, Code::CONTENT, "with {held} mitigations");
    // At the limit, a wider request still replaces narrower ones.
    let path = format!("mid={}", held + 9);
    let answer = bench.put(
        client,
        &["mitigate", CUID, &path],
        &request("10.0.0.0/24", 3600),
    );
    assert_eq!(answer.code, Code::CREATED);
}
