//! What Weir emits is valid under the YANG modules, in yanglint's judgement.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::*;
use weir_dots_proto::{Body, BodyKind, check_request, check_response, decode};

/// Bodies by profile: name, kind, JSON as decoded from the emitted CBOR.
fn bodies() -> Vec<(&'static str, &'static str, BodyKind, serde_json::Value)> {
    fn wire(body: &impl Body) -> serde_json::Value {
        let json = decode(&body.to_cbor().unwrap()).unwrap();
        assert_eq!(json, body.to_json());
        json
    }
    let (c2s, s2c) = ("c2s-strict", "s2c-strict");
    vec![
        (
            c2s,
            "mitigation-request",
            BodyKind::Mitigation,
            wire(&mitigation_request()),
        ),
        (
            c2s,
            "mitigation-hints",
            BodyKind::Mitigation,
            wire(&mitigation_request_with_telemetry()),
        ),
        (
            c2s,
            "efficacy-update",
            BodyKind::Efficacy,
            wire(&efficacy_update()),
        ),
        (c2s, "telemetry", BodyKind::Telemetry, wire(&telemetry())),
        (
            c2s,
            "telemetry-filter",
            BodyKind::Telemetry,
            wire(&telemetry_filter()),
        ),
        (
            c2s,
            "setup-config",
            BodyKind::TelemetrySetup,
            wire(&telemetry_config()),
        ),
        (c2s, "setup-pipe", BodyKind::TelemetrySetup, wire(&pipe())),
        (
            c2s,
            "setup-baseline",
            BodyKind::TelemetrySetup,
            wire(&baseline()),
        ),
        (
            c2s,
            "config",
            BodyKind::SignalConfig,
            wire(&requested_config()),
        ),
        (c2s, "heartbeat", BodyKind::Heartbeat, wire(&heartbeat())),
        (s2c, "accepted", BodyKind::Mitigation, wire(&accepted())),
        (
            s2c,
            "mitigation-status",
            BodyKind::Mitigation,
            wire(&mitigation_status()),
        ),
        (s2c, "conflict", BodyKind::Mitigation, wire(&conflict())),
        (
            s2c,
            "telemetry-notification",
            BodyKind::Telemetry,
            wire(&telemetry_notification()),
        ),
        (
            s2c,
            "setup-announced",
            BodyKind::TelemetrySetup,
            wire(&announced_setup()),
        ),
        (
            s2c,
            "config-announced",
            BodyKind::SignalConfig,
            wire(&announced_config()),
        ),
        (s2c, "heartbeat", BodyKind::Heartbeat, wire(&heartbeat())),
        (s2c, "redirect", BodyKind::Redirect, wire(&redirect())),
    ]
}

#[test]
fn emitted_bodies_pass_our_own_checks() {
    for (profile, name, kind, json) in bodies() {
        if profile == "c2s-strict" {
            assert_eq!(check_request(kind, &json), Ok(()), "{name}");
        } else {
            assert_eq!(check_response(kind, &json), Ok(()), "{name}");
        }
    }
}

#[test]
fn what_only_servers_say_is_refused_from_clients() {
    for (profile, name, kind, json) in bodies() {
        let same_both_ways = name == "heartbeat";
        if profile == "s2c-strict" && !same_both_ways {
            assert!(check_request(kind, &json).is_err(), "{name}");
        }
    }
}

#[test]
fn emitted_bodies_are_valid_yang_data() {
    let Some(specs) = dots_specs() else { return };
    if Command::new("yanglint").arg("--version").output().is_err() {
        println!("skipped: no yanglint");
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emitted-bodies");
    for profile in ["c2s-strict", "s2c-strict"] {
        fs::create_dir_all(folder.join(profile)).unwrap();
        let files: Vec<_> = bodies()
            .into_iter()
            .filter(|body| body.0 == profile)
            .map(|(_, name, _, json)| {
                let file = folder.join(profile).join(format!("{name}.json"));
                fs::write(&file, json.to_string()).unwrap();
                file
            })
            .collect();
        let script = specs.join("tools/dots-validate.sh");
        let output = Command::new("sh")
            .arg(script)
            .arg(profile)
            .args(&files)
            .output()
            .unwrap();
        let verdict = String::from_utf8_lossy(&output.stdout);
        println!("{verdict}");
        assert!(output.status.success(), "{verdict}");
        assert_eq!(
            verdict
                .lines()
                .filter(|line| line.starts_with("VALID"))
                .count(),
            files.len()
        );
    }
}
