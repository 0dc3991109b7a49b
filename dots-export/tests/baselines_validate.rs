//! Learned baselines as telemetry setups, held against the YANG modules of RFC 9244 where their validator is there.

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

use std::path::PathBuf;
use std::process::Command;

use weir_baseline::{
    Aspect, BaselineConfig, BaselineSettings, BaselineTarget, BaselineZone, Baselines,
    CapacityConfig, Subject,
};
use weir_dots_export::{baseline_body, imported_baselines};
use weir_dots_proto::body::Body;
use weir_flow_aggregate::{Bucket, MinuteProfile, MinuteSums, TrafficPart, ZoneMinute};
use weir_flow_record::{Direction, Quantity, TargetKey, Timestamp, ZoneId};

const START: i64 = 1_767_571_200;

fn settings() -> BaselineSettings {
    let zone = BaselineZone {
        name: "customer-a".into(),
        prefixes: vec![
            "203.0.113.0/24".parse().unwrap(),
            "2001:db8:a::/48".parse().unwrap(),
        ],
    };
    let config = BaselineConfig {
        capacities: vec![CapacityConfig {
            zone: "customer-a".to_owned(),
            protocol: 6,
            port: Some(443),
            connections: Some(Quantity(50_000)),
            requests_per_second: Some(Quantity(9000)),
            ..CapacityConfig::default()
        }],
        ..BaselineConfig::default()
    };
    BaselineSettings::new(config, vec![zone], Vec::new())
}

fn zone() -> BaselineTarget {
    BaselineTarget {
        subject: Subject::Zone(ZoneId(0)),
        direction: Direction::In,
    }
}

/// An hour of a zone with its protocols and ports.
fn taught() -> Baselines {
    let mut baselines = Baselines::new(settings());
    for second in START..START + 3600 {
        let octets = 125_000_000 + (second % 50) as u64 * 1_000_000;
        let bucket = Bucket {
            octets,
            packets: octets / 900,
            flows: 3000,
            ..Bucket::default()
        };
        baselines.handle_second(&zone(), second, &bucket, [], true);
        if second % 60 == 59 {
            let sums = |octets: u64| MinuteSums {
                octets,
                packets: octets / 900,
                flows: 1000,
                connections: 900,
            };
            let parts = vec![
                (TrafficPart::Protocol(6), sums(6_000_000_000)),
                (TrafficPart::Protocol(17), sums(1_000_000_000)),
                (
                    TrafficPart::Port {
                        protocol: 6,
                        port: 443,
                    },
                    sums(5_000_000_000),
                ),
                (
                    TrafficPart::Port {
                        protocol: 17,
                        port: 443,
                    },
                    sums(500_000_000),
                ),
                (
                    TrafficPart::Port {
                        protocol: 17,
                        port: 53,
                    },
                    sums(1_000),
                ),
            ];
            let target = TargetKey {
                prefix: "203.0.113.0/24".parse().unwrap(),
                direction: Direction::In,
                zone: ZoneId(0),
            };
            let minute = MinuteProfile {
                first_second: second - 59,
                zones: vec![ZoneMinute { target, parts }],
                ..MinuteProfile::default()
            };
            baselines.handle_minute(&minute, &|_| true);
        }
    }
    baselines
}

#[test]
fn an_exported_setup_is_valid() {
    let body = baseline_body(&taught().reports(16));
    assert_eq!(
        body.telemetry[0].baseline[0]
            .total_traffic_normal_per_port
            .len(),
        4
    );
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let validator = shared.join("specs/dots/tools/dots-validate.sh");
    if !validator.exists() || Command::new("yanglint").arg("--version").output().is_err() {
        println!("skipped: no {} or no yanglint", validator.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tm-setup.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&body.to_json()).unwrap()).unwrap();
    let run = Command::new("sh")
        .arg(validator)
        .arg("c2s-strict")
        .arg(&file)
        .output();
    let output = run.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{told}");
}

#[test]
fn what_is_exported_and_imported_elsewhere_is_exported_the_same() {
    let first = baseline_body(&taught().reports(16));
    let mut other = Baselines::new(settings());
    let (imported, refused) = imported_baselines(&first.telemetry[0].baseline, &[]);
    assert_eq!(refused, 0);
    let at = Timestamp::from_seconds(START + 7200);
    for baseline in &imported {
        assert_eq!(other.import(baseline, at), Ok(zone()));
    }
    let second = baseline_body(&other.reports(16));
    assert_eq!(first, second);
    let normal = other.normal(&zone(), Aspect::Protocol(17), at).unwrap();
    assert!(normal.confidence > 0.4 && normal.imported == 1.0);
}
