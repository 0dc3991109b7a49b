//! The small scenarios of the repository: generated, replayed and scored by the binary, each with the score it is to keep.
#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "support/command.rs"]
mod command;

use std::path::Path;
use std::process::Command;

use command::{done, weir};
use weir_datasets::generator::{ScenarioFile, built_in};

/// Scenarios that take a second or two each; the others are run by `benches` (`scenarios`).
const SMALL: [&str; 10] = [
    "backup",
    "carpet",
    "clock-skew",
    "export-loss",
    "flash-crowd",
    "outbound",
    "two-samplers",
    "unknown-rate",
    "unknown-rate-configured",
    "uptime-wrap",
];

fn generate(folder: &Path, name: &str) {
    let files = [
        "-o",
        "exports.pcap",
        "--labels",
        "labels.csv",
        "--weir-config",
        "weir.toml",
    ];
    done(folder, &[&["generate", name], files.as_slice()].concat());
}

#[test]
fn small_scenarios_keep_their_scores() {
    for name in SMALL {
        let folder = tempfile::tempdir().unwrap();
        let scenario = built_in()
            .iter()
            .find(|scenario| scenario.name == name)
            .unwrap();
        let file = ScenarioFile::parse(scenario.text).unwrap();
        generate(folder.path(), name);
        done(
            folder.path(),
            &[
                "replay",
                "exports.pcap",
                "--config",
                "weir.toml",
                "--events",
                "events.ndjson",
            ],
        );
        let mut score = vec![
            "score",
            "--events",
            "events.ndjson",
            "--labels",
            "labels.csv",
            "--config",
            "weir.toml",
            "--details",
        ];
        for bound in &file.expect {
            score.extend(["--require", bound]);
        }
        let printed = done(folder.path(), &score);
        assert!(printed.contains("\"recall\""), "{name}");
    }
}

#[test]
fn a_score_can_fail_and_can_be_compared() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), "uptime-wrap");
    std::fs::write(folder.path().join("none.ndjson"), "").unwrap();
    let score = |rest: &[&str]| {
        let common = ["score", "--labels", "labels.csv", "--config", "weir.toml"];
        weir(folder.path(), &[common.as_slice(), rest].concat())
    };
    let out = score(&["--events", "none.ndjson", "--require", "recall>=0.5"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("recall is 0, required is recall>=0.5"));
    let figures: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&figures["recall"], &figures["precision"]),
        (&0.0.into(), &1.0.into())
    );
    // By a limit that nothing reaches nothing is detected.
    let text = std::fs::read_to_string(folder.path().join("weir.toml")).unwrap();
    let blind: String = text
        .lines()
        .map(|line| match line.split_once("_per_second = ") {
            Some((metric, _)) => format!("{metric}_per_second = \"100T\"\n"),
            None => format!("{line}\n"),
        })
        .collect();
    std::fs::write(folder.path().join("blind.toml"), blind).unwrap();
    let out = score(&["--replay", "exports.pcap", "--compare-config", "blind.toml"]);
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        report["detected"],
        1,
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(
        (
            &report["other"]["detected"],
            &report["difference"]["detected"]
        ),
        (&0.into(), &(-1).into())
    );
    assert_eq!(
        score(&["--events", "none.ndjson", "--require", "speed>=1"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_capture_goes_through_a_pipe_and_a_mistake_is_told() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), "clock-skew");
    let binary = env!("CARGO_BIN_EXE_weir");
    let line = format!(
        "{binary} generate clock-skew -o - | {binary} replay - --config weir.toml --events piped.ndjson && {binary} replay exports.pcap --config weir.toml --events file.ndjson"
    );
    let out = Command::new("sh")
        .current_dir(folder.path())
        .args(["-c", &line])
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(!read("file.ndjson").is_empty() && read("piped.ndjson") == read("file.ndjson"));

    let listed = done(folder.path(), &["generate", "--list"]);
    assert!(
        ["large", "dns-query-flood", "flash-crowd"]
            .iter()
            .all(|name| listed.contains(name))
    );
    std::fs::write(
        folder.path().join("bad.toml"),
        "duration = \"1m\"\nsed = 2\n",
    )
    .unwrap();
    let out = weir(folder.path(), &["generate", "bad.toml", "-o", "x.pcap"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("line 2"));
    let out = weir(
        folder.path(),
        &["generate", "clock-skew", "--to", "198.51.100.1:4739"],
    );
    assert!(String::from_utf8_lossy(&out.stderr).contains("--remote"));
}
