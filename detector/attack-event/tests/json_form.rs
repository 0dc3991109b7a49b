//! The JSON form of an event: its keys are the published schema's, and it reads back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use serde_json::Value;
use weir_attack_event::{
    AttackEvent, AttackId, BaselineRef, CountryShare, Coverage, EventKind, Evidence, Findings,
    FlagsShare, Gauge, HostRate, MitigationReport, MitigationStatus, Origin, PacketSizes,
    PortShare, PortSide, PrefixRate, ProtocolShare, Reason, Severity, SizeShare, SystemShare,
    Target, TopTalker, Traffic, TtlShare, VectorShare,
};
use weir_flow_record::{Direction, Timestamp, Vector};

fn event() -> AttackEvent {
    let prefix = "203.0.113.7/32".parse().unwrap();
    let id = AttackId::derive("zone", prefix, Direction::In, 1_700_000_000);
    let gauge = Gauge {
        low: 1,
        mid: 2,
        high: 3,
        peak: 4,
        current: 3,
        interval: (2, None),
    };
    AttackEvent {
        kind: EventKind::AttackUpdate,
        id: id.clone(),
        time: Timestamp::from_seconds(1_700_000_010),
        detected_at: Timestamp::from_seconds(1_700_000_001),
        start_time: Timestamp::from_seconds(1_700_000_000),
        end_time: None,
        target: Target {
            prefix,
            other_prefixes: Vec::new(),
            zone: "zone".into(),
            direction: Direction::In,
        },
        vectors: vec![VectorShare {
            vendor_id: 32473,
            attack_id: 16,
            name: Vector::DnsAmplification.into(),
            share: 0.9,
            confidence: 0.8,
        }],
        severity: Severity::Medium,
        traffic: Traffic {
            bits_per_second: gauge,
            packets_per_second: gauge,
            flows_per_second: gauge,
        },
        baseline: Some(BaselineRef {
            bits_per_second: 7,
            packets_per_second: 8,
            high_bits_per_second: Some(9),
            high_packets_per_second: Some(10),
            seconds_learned: Some(86_400),
            updated: Some(Timestamp::from_seconds(1_700_000_000)),
            confidence: Some(0.5),
        }),
        why: vec![Reason("because".to_owned())],
        findings: Some(Findings {
            attack: id.clone(),
            top_talkers: vec![TopTalker {
                source_prefix: "198.51.100.0/24".parse().unwrap(),
                bits_per_second: 5,
                packets_per_second: 6,
                share: 0.5,
                spoofed: None,
                origin: Origin {
                    asn: Some(64_496),
                    as_name: Some("EXAMPLE".to_owned()),
                    country: Some("DE".to_owned()),
                    network: None,
                },
            }],
            ports: vec![PortShare {
                port: 53,
                side: PortSide::Source,
                protocol: 17,
                share: 0.9,
            }],
            protocols: vec![ProtocolShare {
                protocol: 17,
                share: 0.9,
            }],
            source_count: 12,
            rows: 0,
            complete: true,
            evidence: evidence(),
        }),
        coverage: Coverage(1.0),
        degraded: true,
        mitigation: Some(MitigationReport {
            attack: AttackId("".into()),
            upstream: "provider".into(),
            mid: 7,
            status: MitigationStatus::AttackSuccessfullyMitigated,
            bytes_dropped_per_second: Some(9),
            packets_dropped_per_second: None,
            bytes_dropped: Some(99),
            packets_dropped: None,
            attack_bits_per_second: None,
            lifetime: Some(60),
        }),
        dry_run: false,
        model: Some(weir_attack_event::ModelWord {
            id: "0123456789abcdef".into(),
            name: weir_attack_event::AttackName::of("slow-http"),
            confidence: 0.97,
            alone: false,
        }),
    }
}

fn evidence() -> Evidence {
    Evidence {
        ttl: vec![TtlShare {
            ttl: 55,
            share: 1.0,
        }],
        ttl_count: Some(1),
        packet_size: Some(PacketSizes {
            mean: 512,
            low: 60,
            mid: 512,
            high: 1500,
            classes: vec![SizeShare {
                from: 1519,
                to: None,
                share: 1.0,
            }],
        }),
        tcp_flags: vec![FlagsShare {
            flags: "SYN".to_owned(),
            share: 1.0,
        }],
        source_as: vec![SystemShare {
            asn: 64_496,
            name: Some("EXAMPLE".to_owned()),
            share: 0.5,
        }],
        source_countries: vec![CountryShare {
            country: "DE".to_owned(),
            share: 0.5,
        }],
        impossible_sources: Some(0.25),
        inside_sources: vec![HostRate {
            address: "203.0.113.7".parse().unwrap(),
            bits_per_second: 8,
            packets_per_second: 1,
            share: 1.0,
        }],
        destinations: vec![PrefixRate {
            prefix: "192.0.2.1/32".parse().unwrap(),
            bits_per_second: 8,
            packets_per_second: 1,
            share: 1.0,
        }],
        destination_count: Some(1),
    }
}

/// The keys of `value` are known to the schema, and all that it demands are there.
fn holds(schema: &Value, root: &Value, value: &Value, path: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return holds(
            root.pointer(reference.trim_start_matches('#')).unwrap(),
            root,
            value,
            path,
        );
    }
    if let (Some(members), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        for (key, inner) in members {
            let schema = properties
                .get(key)
                .unwrap_or_else(|| panic!("{path}/{key} is not in the schema"));
            holds(schema, root, inner, &format!("{path}/{key}"));
        }
        for key in schema["required"].as_array().into_iter().flatten() {
            assert!(
                members.contains_key(key.as_str().unwrap()),
                "{path}/{key} is missing"
            );
        }
    }
    for inner in value
        .as_array()
        .into_iter()
        .flatten()
        .filter(|_| schema["items"].is_object())
    {
        holds(&schema["items"], root, inner, path);
    }
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{path}: {value}");
    }
}

#[test]
fn an_event_keeps_to_the_published_schema() {
    let schema: Value = serde_json::from_str(include_str!("../attack-event.schema.json")).unwrap();
    let line = serde_json::to_value(event()).unwrap();
    holds(&schema, &schema, &line, "");
    assert_eq!(line["event"], "attack-update");
    assert_eq!(line["start_time"], "2023-11-14T22:13:20Z");
    assert_eq!(
        line["traffic"]["bits_per_second"]["interval"],
        serde_json::json!([2, null])
    );
    assert_eq!(line["end_time"], Value::Null);
    let talker = &line["top_talkers"][0];
    assert_eq!(
        (&talker["asn"], &talker["country"]),
        (&64_496.into(), &"DE".into())
    );
    assert!(talker.get("network").is_none(), "unknown is left out");
}

#[test]
fn an_event_reads_back() {
    let text = serde_json::to_string(&event()).unwrap();
    assert_eq!(serde_json::from_str::<AttackEvent>(&text).unwrap(), event());
}

#[test]
fn an_attacks_name_follows_from_what_it_is() {
    let of = |zone: &str, second| {
        AttackId::derive(
            zone,
            "203.0.113.7/32".parse().unwrap(),
            Direction::In,
            second,
        )
    };
    assert_eq!(of("a", 1), of("a", 1));
    assert_ne!(of("a", 1), of("b", 1));
    assert_ne!(of("a", 1), of("a", 2));
}

#[test]
fn an_event_of_an_older_version_is_read_and_nothing_unknown_is_written() {
    let mut plain = event();
    if let Some(findings) = &mut plain.findings {
        findings.evidence = Evidence::default();
    }
    let line = serde_json::to_value(&plain).unwrap();
    for key in [
        "ttl",
        "packet_size",
        "tcp_flags",
        "source_as",
        "inside_sources",
    ] {
        assert!(line.get(key).is_none(), "{key}");
    }
    assert_eq!(serde_json::from_value::<AttackEvent>(line).unwrap(), plain);
}
