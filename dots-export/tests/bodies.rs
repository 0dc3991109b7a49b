//! Every body fits one datagram and is valid, in the recorder's files and from the client alike.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::Value;
use support::{World, event, findings, provider, settings, vector};
use weir_attack_event::{AttackEvent, BaselineRef, EventKind};
use weir_dots_export::{
    Exporter, MAX_BODY_OCTETS, PolicyConfig, Record, Recorder, placeholder_cuid, telemetry_body,
};
use weir_dots_proto::body::Body;
use weir_dots_proto::{BodyKind, check_request, encode};
use weir_flow_record::{Direction, Timestamp, Vector};

const T: i64 = 1_700_000_001;

fn events() -> Vec<AttackEvent> {
    let mut all = Vec::new();
    let host = "203.0.113.7/32";
    all.push(event(EventKind::AttackStart, "a", host, T));
    let mut update = event(EventKind::AttackUpdate, "a", host, T + 20);
    update.findings = Some(findings(&update, 10));
    update.vectors.push(vector(Vector::NtpAmplification, 0.2));
    update.baseline = Some(BaselineRef {
        bits_per_second: 600_000_000,
        packets_per_second: 3_000,
        ..BaselineRef::default()
    });
    all.push(update);
    // As much of everything as the detector can say.
    let mut full = event(EventKind::AttackUpdate, "a", host, T + 40);
    full.findings = Some(findings(&full, 100));
    full.vectors = Vector::ALL.iter().map(|name| vector(*name, 0.06)).collect();
    all.push(full);
    let mut v6 = event(EventKind::AttackStart, "b", "2001:db8:a::7/128", T + 50);
    v6.traffic = weir_attack_event::Traffic::default();
    v6.vectors = vec![vector(Vector::IcmpFlood, 1.0)];
    all.push(v6);
    let mut zone = event(EventKind::AttackStart, "c", "198.51.100.0/24", T + 60);
    zone.target.other_prefixes = (0..200)
        .map(|n| format!("2001:db8:{n:x}::/48").parse().unwrap())
        .collect();
    zone.vectors = vec![vector(Vector::Total, 1.0)];
    zone.findings = Some(findings(&zone, 10));
    all.push(zone);
    let mut out = event(EventKind::AttackStart, "d", host, T + 70);
    out.target.direction = Direction::Out;
    all.push(out);
    for (name, target) in [("a", host), ("b", "2001:db8:a::7/128"), ("d", host)] {
        let mut end = event(EventKind::AttackEnd, name, target, T + 4000);
        end.findings = Some(findings(&end, 10));
        all.push(end);
    }
    all
}

fn recorded() -> Vec<Record> {
    let settings = settings(PolicyConfig::default(), &["provider", "second"]);
    let mut exporter = Exporter::new(settings.clone());
    let mut recorder = Recorder::new(&settings);
    let mut records = Vec::new();
    for event in events() {
        exporter.handle_timeout(event.time);
        exporter.handle_event(event.time, &event);
        while let Some((upstream, command)) = exporter.poll_command() {
            records.extend(recorder.handle_command(event.time, &upstream, &command));
        }
    }
    records
}

#[test]
fn every_body_fits_one_datagram_and_keeps_the_rules() {
    let mut bodies = 0;
    for record in recorded() {
        let Some(body) = &record.body else { continue };
        let octets = encode(body).unwrap().len();
        assert!(octets <= MAX_BODY_OCTETS, "{octets} octets: {body}");
        let kind = match record.kind {
            "mitigate" => BodyKind::Mitigation,
            _ => BodyKind::Telemetry,
        };
        assert_eq!(check_request(kind, body), Ok(()), "{body}");
        bodies += 1;
    }
    assert!(bodies >= 15, "{bodies}");
}

#[test]
fn the_recorder_tells_the_story_of_an_attack() {
    let records = recorded();
    let of_a: Vec<String> = records
        .iter()
        .filter(|record| record.event == "a" && record.server == "provider.example.net:4646")
        .map(|record| {
            format!(
                "{} {}",
                record.method,
                record.path.replace("/.well-known/dots", "")
            )
        })
        .collect();
    let mid = |n: u32| format!("/mitigate/cuid=replay-provider/mid={n}");
    assert_eq!(
        of_a,
        [
            format!("PUT {}", mid(1)),
            "PUT /tm/cuid=replay-provider/tmid=1".to_owned(),
            "PUT /tm/cuid=replay-provider/tmid=1".to_owned(),
            // All vectors are in it now, also those without a protocol of their own: the scope grows.
            format!("PUT {}", mid(2)),
            format!("DELETE {}", mid(1)),
            "PUT /tm/cuid=replay-provider/tmid=1".to_owned(),
            // Two thirds of the lifetime of an hour.
            format!("PUT {}", mid(2)),
            "PUT /tm/cuid=replay-provider/tmid=1".to_owned(),
            format!("DELETE {}", mid(2)),
        ]
    );
    let seqs: Vec<u64> = records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, (1..=records.len() as u64).collect::<Vec<_>>());
    assert!(records.is_sorted_by_key(|record| record.time));
    let refresh = records
        .iter()
        .find(|record| record.time > Timestamp::from_seconds(T + 70))
        .unwrap();
    assert_eq!(refresh.time, Timestamp::from_seconds(T + 40 + 2400));
    let told = records
        .iter()
        .find(|record| record.kind == "tm")
        .unwrap()
        .body
        .as_ref()
        .unwrap();
    let target = &told["ietf-dots-telemetry:telemetry"]["pre-or-ongoing-mitigation"][0]["target"];
    assert_eq!(target["mid-list"], serde_json::json!([1]));
    assert_eq!(
        target["target-prefix"],
        serde_json::json!(["203.0.113.7/32"])
    );
}

#[test]
fn two_runs_are_equal() {
    assert_eq!(recorded(), recorded());
}

#[test]
fn the_largest_top_talkers_stay() {
    let full = &events()[2];
    let body = telemetry_body(full);
    let details = &body.pre_or_ongoing_mitigation[0].attack_detail;
    assert!(!details.is_empty());
    assert_eq!(details[0].attack_id, Vector::Total.attack_id());
    let middle = telemetry_body(&events()[1]);
    let details = &middle.pre_or_ongoing_mitigation[0].attack_detail;
    assert_eq!(details.len(), 2);
    let talkers = &details[0].top_talker.as_ref().unwrap().talker;
    assert!(talkers.len() >= 3, "{}", talkers.len());
    assert_eq!(talkers[0].source_prefix.to_string(), "2001:db8::/128");
    assert_eq!(details[0].source_count.unwrap().current_g, Some(2_345));
    assert_eq!(details[0].attack_severity.unwrap().name(), "high");
    assert!(details[1].top_talker.is_none());
}

#[test]
fn attack_traffic_is_what_exceeds_the_baseline() {
    let body = telemetry_body(&events()[1]).to_json();
    let item = &body["ietf-dots-telemetry:telemetry"]["pre-or-ongoing-mitigation"][0];
    assert_eq!(item["total-attack-traffic"][0]["unit"], "megabit-ps");
    assert_eq!(item["total-attack-traffic"][0]["low-percentile-g"], "1500");
    assert_eq!(item["total-attack-traffic"][0]["mid-percentile-g"], "3600");
    assert_eq!(item["total-traffic"][1]["unit"], "kilopacket-ps");
    assert_eq!(item["total-traffic"][1]["mid-percentile-g"], "700");
    assert_eq!(item["total-attack-traffic"][1]["mid-percentile-g"], "697");
    assert_eq!(item["total-attack-traffic-protocol"][0]["protocol"], 17);
}

#[test]
fn the_end_is_told_with_its_time() {
    let end = events()
        .into_iter()
        .rfind(|event| event.kind == EventKind::AttackEnd)
        .unwrap();
    let details = telemetry_body(&end).pre_or_ongoing_mitigation[0]
        .attack_detail
        .clone();
    assert_eq!(details[0].start_time, Some(1_700_000_000));
    assert_eq!(details[0].end_time, Some(1_700_000_001 + 4000 - 60));
}

#[test]
fn placeholders_are_always_a_cuid() {
    assert_eq!(placeholder_cuid("provider").as_str(), "replay-provider");
    assert_eq!(placeholder_cuid("a/b ü").as_str(), "replay-a-b--");
    assert_eq!(placeholder_cuid(&"x".repeat(300)).as_str().len(), 250);
}

/// The client sends what the recorder writes, but for identifiers.
#[test]
fn client_and_recorder_say_the_same() {
    let settings = settings(PolicyConfig::default(), &["provider"]);
    let mut exporter = Exporter::new(settings.clone());
    let mut recorder = Recorder::new(&settings);
    let mut world = World::connected();
    let event = event(EventKind::AttackStart, "a", "203.0.113.7/32", T);
    exporter.handle_event(event.time, &event);
    let mut recorded = Vec::new();
    while let Some((upstream, command)) = exporter.poll_command() {
        assert_eq!(upstream, provider());
        recorded.extend(recorder.handle_command(event.time, &upstream, &command));
        world.command(command);
    }
    let told = world.peer.telemetry.values().next().unwrap().to_json();
    assert_eq!(Some(&told), recorded[1].body.as_ref());
    let asked: Value = weir_dots_proto::body::Mitigation::single(
        world
            .peer
            .mitigations
            .values()
            .next()
            .unwrap()
            .scope
            .clone(),
    )
    .to_json();
    assert_eq!(Some(&asked), recorded[0].body.as_ref());
}

#[test]
fn yanglint_takes_every_body() {
    let bodies = recorded().into_iter().filter_map(|record| {
        let name = format!("{:06}-{}.json", record.seq, record.kind);
        Some((name, record.body?))
    });
    let bodies: Vec<_> = bodies.collect();
    assert!(bodies.len() >= 15, "{}", bodies.len());
    support::yanglint(bodies);
}
