//! A promoted model that acts: what no threshold shows is found, by a model that learned from other seeds, with no new false alarm; the
//! gate lets nothing else through; a daemon takes up a promotion by itself.
#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "support/command.rs"]
mod command;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use command::{done, weir};
use serde_json::Value;

/// An hour and a half of all kinds of attacks, most of them below the limits.
const LESSONS: &str = r#"
seed = 4101
start = "2026-02-02T08:00:00Z"
duration = "100m"
[normal]
records_per_second = 12
[random]
attacks = 45
over = [0.02, 0.8]
lasts = ["60s", "3m"]
quiet = "1m"
flash_crowds = 10
backups = 2
speed_tests = 8
scans = 3
cdn_pushes = 2
"#;

fn generate(folder: &Path, scenario: &str, name: &str) {
    let [capture, labels, config] = ["pcap", "csv", "toml"].map(|end| format!("{name}.{end}"));
    done(
        folder,
        &[
            "generate",
            scenario,
            "-o",
            &capture,
            "--labels",
            &labels,
            "--weir-config",
            &config,
        ],
    );
}

fn score(folder: &Path, name: &str, events: &str) -> Value {
    let [labels, config] = ["csv", "toml"].map(|end| format!("{name}.{end}"));
    let printed = done(
        folder,
        &[
            "score",
            "--events",
            events,
            "--labels",
            &labels,
            "--config",
            &config,
            "--details",
        ],
    );
    serde_json::from_str(&printed).unwrap()
}

fn promote(folder: &Path, model: &str, more: &[&str]) -> Output {
    let begin = ["models", "promote", model, "--config", "lab.toml"];
    weir(folder, &[begin.as_slice(), more].concat())
}

fn lab(folder: &Path) {
    fs::create_dir(folder.join("state")).unwrap();
    let text = r#"state_dir = "state"
[http]
listen = "127.0.0.1:0"
[collector]
netflow = ["127.0.0.1:0"]
sflow = []
[[zone]]
name = "campus"
prefixes = ["203.0.112.0/22"]
"#;
    fs::write(folder.join("lab.toml"), text).unwrap();
}

#[test]
fn a_promoted_model_finds_what_no_threshold_shows_and_raises_no_false_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    lab(folder);
    fs::write(folder.join("lessons-scenario.toml"), LESSONS).unwrap();
    generate(folder, "lessons-scenario.toml", "lessons");
    let train = |labels: &str, model: &str| {
        let data = ["train", "lessons.pcap", "--labels", labels];
        let rest = ["-o", model, "--trees", "25", "--thin", "1,4"];
        done(folder, &[data.as_slice(), rest.as_slice()].concat());
    };
    train("lessons.csv", "good.model");
    // One that has learned that peace is an attack: labels on the wrong hosts.
    let wrong: String = fs::read_to_string(folder.join("lessons.csv"))
        .unwrap()
        .lines()
        .map(|line| {
            let mut fields: Vec<&str> = line.split(',').collect();
            if fields.get(3).is_some_and(|attack| attack.contains('-')) {
                fields[2] = "203.0.112.0/23";
            }
            fields.join(",") + "\n"
        })
        .collect();
    fs::write(folder.join("wrong.csv"), wrong).unwrap();
    train("wrong.csv", "wrong.model");

    // The gate: the good one passes, by events that no threshold shows; the wrong one does not.
    let scenarios = ["--scenario", "below-thresholds", "flash-crowd"];
    let passed = promote(folder, "good.model", &scenarios);
    let words = String::from_utf8_lossy(&passed.stderr).into_owned();
    assert!(passed.status.success(), "{words}");
    let refused = promote(folder, "wrong.model", &scenarios);
    assert_eq!(
        refused.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&refused.stderr)
    );
    let audit = fs::read_to_string(folder.join("state/models/models-audit.ndjson")).unwrap();
    let lines: Vec<Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events = &lines[0]["comparison"]["events"];
    assert_eq!(events["without"]["detected"], 0, "{events:#}");
    assert!(
        events["candidate"]["detected"].as_u64().unwrap() >= 8,
        "{events:#}"
    );
    assert_eq!(events["candidate"]["false_alarms"], 0, "{events:#}");
    assert_eq!(lines[1]["action"], "refuse");

    // By hand: the active model, over the same scenario by its own configuration and this state directory.
    generate(folder, "below-thresholds", "below");
    let state = format!(
        "state_dir = \"state\"\n{}",
        fs::read_to_string(folder.join("below.toml")).unwrap()
    );
    fs::write(folder.join("below.toml"), state).unwrap();
    let replay = |events: &str, more: &[&str]| {
        let begin = [
            "replay",
            "below.pcap",
            "--config",
            "below.toml",
            "--events",
            events,
        ];
        done(folder, &[begin.as_slice(), more].concat());
        score(folder, "below", events)
    };
    let with = replay("with.ndjson", &["--model", "active"]);
    let without = replay("without.ndjson", &[]);
    let shadow = replay(
        "shadow.ndjson",
        &["--model", "active", "--shadow", "said.ndjson"],
    );
    assert_eq!(
        (&without["detected"], &without["false_alarms"]),
        (&0.into(), &0.into())
    );
    assert_eq!(shadow["detected"], 0, "in shadow it only tells");
    assert!(with["detected"].as_u64().unwrap() >= 8, "{with:#}");
    assert_eq!(
        (&with["false_alarms"], &with["duplicates"]),
        (&0.into(), &0.into()),
        "{with:#}"
    );
    let named = |one: &&Value| {
        let vectors = one["vectors"].as_array().unwrap();
        vectors.contains(&one["attack"])
    };
    let detections = with["details"]["detections"].as_array().unwrap();
    assert!(
        detections.iter().filter(named).count() >= 7,
        "{detections:#?}"
    );
    let told = fs::read_to_string(folder.join("with.ndjson")).unwrap();
    let first: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["severity"], &first["model"]["alone"]),
        (&"low".into(), &true.into())
    );

    // The score of events by `weir evaluate`.
    let report: Value = serde_json::from_str(&done(
        folder,
        &[
            "evaluate",
            "good.model",
            "below.pcap",
            "--labels",
            "below.csv",
            "--replay",
            "--config",
            "below.toml",
        ],
    ))
    .unwrap();
    assert_eq!(report["events"]["with_model"]["detected"], with["detected"]);
    assert_eq!(report["events"]["without"]["detected"], 0);
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The daemon's gauge of active models.
fn active(folder: &Path) -> Option<bool> {
    let text = fs::read_to_string(folder.join("log")).ok()?;
    let line = text.lines().find(|line| line.contains("HTTP interface"))?;
    let at = line.split("address=").nth(1)?;
    let address = at.split_whitespace().next()?.trim_matches('"');
    let text = http_get(address)?;
    let line = text
        .lines()
        .find(|line| line.starts_with("weir_models_active "))?;
    Some(line.ends_with(" 1"))
}

fn http_get(address: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn wait_for(folder: &Path, wanted: bool) {
    let give_up = Instant::now() + Duration::from_secs(50);
    while active(folder) != Some(wanted) {
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(Instant::now() < give_up, "never {wanted}: {}", log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_daemon_takes_up_a_promotion_and_a_rollback_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    lab(folder);
    let scenario = LESSONS
        .replace("100m", "12m")
        .replace("attacks = 45", "attacks = 4");
    fs::write(folder.join("short.toml"), scenario).unwrap();
    generate(folder, "short.toml", "lessons");
    done(
        folder,
        &[
            "train",
            "lessons.pcap",
            "--labels",
            "lessons.csv",
            "-o",
            "some.model",
            "--trees",
            "5",
            "--thin",
            "1",
        ],
    );
    let log = fs::File::create(folder.join("log")).unwrap();
    let daemon = Command::new(env!("CARGO_BIN_EXE_weir"))
        .current_dir(folder)
        .args(["run", "--config", "lab.toml"])
        .stdout(Stdio::null())
        .stderr(log)
        .env("WEIR__LOG__FORMAT", "text")
        .env("NO_COLOR", "1")
        .spawn()
        .unwrap();
    let _daemon = Daemon(daemon);
    wait_for(folder, false);
    assert!(promote(folder, "some.model", &["--force"]).status.success());
    wait_for(folder, true);
    done(folder, &["models", "rollback", "--config", "lab.toml"]);
    wait_for(folder, false);
}
