//! Every body that the server sends holds against our rules, and against the YANG modules where the shared data is there.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Bench, CUID, OTHER_CUID, request, telemetry};
use weir_dots_proto::body::MitigationStatus;
use weir_dots_proto::{BodyKind, check_response};

/// Bodies of all answers and notifications of a long conversation.
fn bodies() -> Vec<Value> {
    let mut bench = Bench::new();
    let (client, other) = (bench.connect("weir-lab"), bench.connect("other"));
    bench.get(client, &["config"]);
    bench.get(client, &["tm-setup", CUID]);
    bench.put(
        client,
        &["mitigate", CUID, "mid=1"],
        &request("203.0.113.129/32", 600),
    );
    bench.put(
        client,
        &["mitigate", CUID, "mid=1"],
        &request("203.0.113.129/32", 900),
    );
    bench.observe(client, &["mitigate", CUID]);
    let id = bench.active()[0];
    for status in [
        MitigationStatus::AttackSuccessfullyMitigated,
        MitigationStatus::AttackExceededCapability,
        MitigationStatus::AttackStopped,
    ] {
        bench.report(id, status, u64::MAX / 1_000);
        bench.advance(Duration::from_secs(2));
    }
    // Conflicts: cuid, another client's target, a late mid.
    bench.put(
        other,
        &["mitigate", CUID, "mid=1"],
        &request("198.51.100.7/32", 600),
    );
    bench.put(
        other,
        &["mitigate", OTHER_CUID, "mid=1"],
        &request("203.0.113.128/25", 600),
    );
    bench.put(
        client,
        &["mitigate", CUID, "mid=3"],
        &request("203.0.113.128/25", -1),
    );
    bench.put(
        client,
        &["mitigate", CUID, "mid=2"],
        &request("203.0.113.129/32", 600),
    );
    bench.put(
        client,
        &["mitigate", CUID, "mid=4"],
        &request("2001:db8:a::/64", 20),
    );
    let target = json!({"target-prefix": ["203.0.113.129/32"], "mid-list": [3]});
    bench.put(client, &["tm", CUID, "tmid=1"], &telemetry(target));
    bench.get(client, &["tm", CUID]);
    let pipe = json!({"ietf-dots-telemetry:telemetry-setup": {"telemetry": [
        {"total-pipe-capacity": [{"link-id": "link1", "capacity": "500", "unit": "megabit-ps"}]}
    ]}});
    bench.put(client, &["tm-setup", CUID, "tsid=1"], &pipe);
    bench.get(client, &["tm-setup", CUID, "tsid=1"]);
    bench.delete(client, &["mitigate", CUID, "mid=3"]);
    bench.get(client, &["mitigate", CUID]);
    // Past the lifetime of mid 4, and past all that terminates.
    bench.advance(Duration::from_secs(21));
    bench.get(client, &["mitigate", CUID, "mid=4"]);
    bench.advance(Duration::from_secs(200));
    bench.bodies
}

#[test]
fn bodies_keep_our_rules() {
    let bodies = bodies();
    assert!(bodies.len() > 20, "{}", bodies.len());
    for body in &bodies {
        let root = body.as_object().unwrap().keys().next().unwrap();
        let kind = match root.as_str() {
            "ietf-dots-signal-channel:mitigation-scope" => BodyKind::Mitigation,
            "ietf-dots-signal-channel:signal-config" => BodyKind::SignalConfig,
            "ietf-dots-telemetry:telemetry-setup" => BodyKind::TelemetrySetup,
            "ietf-dots-telemetry:telemetry" => BodyKind::Telemetry,
            other => panic!("{other}"),
        };
        assert_eq!(check_response(kind, body), Ok(()), "{body}");
    }
}

#[test]
fn bodies_are_valid_against_the_yang_modules() {
    let Some(validate) = validator() else { return };
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = bodies()
        .iter()
        .enumerate()
        .map(|(index, body)| {
            let path = folder.path().join(format!("{index:03}.json"));
            std::fs::write(&path, serde_json::to_vec_pretty(body).unwrap()).unwrap();
            path
        })
        .collect();
    let output = Command::new("sh")
        .arg(validate)
        .arg("s2c-strict")
        .args(&files)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let invalid: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with("INVALID"))
        .map(|line| {
            let file = files
                .iter()
                .find(|file| line.contains(&*file.file_name().unwrap().to_string_lossy()));
            let body = file.map(|file| std::fs::read_to_string(file).unwrap());
            format!("{line}\n{}", body.unwrap_or_default())
        })
        .collect();
    assert!(output.status.success(), "{}\n{text}", invalid.join("\n"));
    assert_eq!(text.lines().count(), files.len());
}

fn validator() -> Option<PathBuf> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let validate = shared.join("specs/dots/tools/dots-validate.sh");
    if !validate.exists() {
        eprintln!("skipped: no shared data at {}", shared.display());
        return None;
    }
    if Command::new("yanglint").arg("--version").output().is_err() {
        eprintln!("skipped: no yanglint");
        return None;
    }
    Some(validate)
}
