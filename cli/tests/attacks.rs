//! What is kept of an attack, and an operator's word on it: `weir attacks …` against a running daemon.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use support::{Daemon, Exporter, Lab, eventually, metric};
use weir_flow_format::records;
use weir_flow_record::Address;
use weir_flow_store::FlowReader;

/// Standard output and standard error of a command, and whether it did well.
fn weir(lab: &Lab, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = command
        .args(arguments)
        .arg("--config")
        .arg(&lab.config)
        .output()
        .unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn attacks(lab: &Lab) -> Vec<Value> {
    let (done, text, error) = weir(lab, &["attacks", "list", "--json"]);
    assert!(done, "{error}");
    serde_json::from_str(&text).unwrap()
}

fn only(lab: &Lab, target: &str, kind: impl Fn(&str) -> bool) -> Option<Value> {
    attacks(lab)
        .into_iter()
        .find(|event| event["target"] == target && kind(event["event"].as_str().unwrap()))
}

fn is_open(kind: &str) -> bool {
    kind != "attack-end"
}

/// Traffic to some targets until it is dropped.
struct Flood {
    targets: Arc<Mutex<Vec<Address>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn start(mut exporter: Exporter) -> Self {
        let targets = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (targets, stop) = (Arc::clone(&targets), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let targets: Vec<Address> = targets.lock().unwrap().clone();
                    exporter.send_packets(&targets, 30_000);
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        });
        Self {
            targets,
            stop,
            thread: Some(thread),
        }
    }

    fn aim(&self, hosts: &[u8]) {
        let hosts = hosts.iter();
        *self.targets.lock().unwrap() = hosts
            .map(|host| Address::from_v4([203, 0, 113, *host]))
            .collect();
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn lab() -> Lab {
    let lab = Lab::new();
    let mut config = std::fs::read_to_string(&lab.config).unwrap();
    config.push_str("[evidence]\ninterval = \"1s\"\nbefore = \"5s\"\n");
    std::fs::write(&lab.config, config).unwrap();
    lab
}

fn parquet_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "parquet"));
    files.sort();
    files
}

/// Destinations of the rows of a bundle.
fn destinations(folder: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    for batch in FlowReader::open(&[folder.to_owned()]).unwrap() {
        seen.extend(records(&batch.unwrap()).map(|record| record.dst_addr.to_string()));
    }
    seen
}

#[test]
fn an_attack_leaves_a_bundle_that_can_be_shown_replayed_and_labelled() {
    let lab = lab();
    let evidence = lab.folder.path().join("state/evidence");
    let mut exporter = Exporter::new(lab.collector);
    let daemon = Daemon::start(&lab.config);
    exporter.send_templates();
    let flood = Flood::start(exporter);
    flood.aim(&[50]);
    let limit = Duration::from_secs(20);
    let found = || only(&lab, "203.0.113.50/32", is_open);
    assert!(
        eventually(limit, || found()
            .is_some_and(|event| event["source_count"] == 1)),
        "no attack with findings"
    );
    // An attack-start waits for no findings; how long they take is printed, not judged, since machines differ.
    let answers = metric(&lab, "weir_store_drill_downs_total");
    let seconds = metric(&lab, "weir_store_drill_down_seconds_total");
    assert!(answers >= 1.0);
    assert_eq!(metric(&lab, "weir_store_lost_drill_downs_total"), 0.0);
    eprintln!(
        "{answers} drill-downs in {:.1} ms each",
        seconds / answers * 1e3
    );
    let id = found().unwrap()["id"].as_str().unwrap().to_owned();
    let folder = evidence.join(&id);
    assert!(
        eventually(limit, || parquet_in(&folder).len() >= 2),
        "no file while the attack goes on"
    );
    // What was closed is readable after kill -9, and the attack goes on under its name.
    daemon.kill();
    let before = destinations(&folder).len();
    assert!(before > 0);
    let daemon = Daemon::start(&lab.config);
    assert!(
        eventually(limit, || parquet_in(&folder).len() >= 4),
        "the bundle does not go on"
    );
    let (done, _, error) = weir(
        &lab,
        &["attacks", "label", &id[..8], "false-alarm", "--by", "me"],
    );
    assert!(done, "{error}");
    flood.aim(&[]);
    let ended = || only(&lab, "203.0.113.50/32", |kind| kind == "attack-end");
    assert!(
        eventually(limit, || ended().is_some()),
        "the attack does not end"
    );
    let left = || {
        std::fs::read_dir(&folder).unwrap().any(|entry| {
            entry
                .unwrap()
                .path()
                .extension()
                .is_some_and(|ending| ending == "part")
        })
    };
    assert!(eventually(limit, || !left()), "a file is not finished");
    assert!(destinations(&folder).len() > before);
    assert!(
        destinations(&folder)
            .iter()
            .all(|address| address == "203.0.113.50")
    );
    for path in parquet_in(&folder)
        .iter()
        .chain([&folder.join("events.ndjson")])
    {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }

    let (done, text, error) = weir(&lab, &["attacks", "show", &id]);
    assert!(done, "{error}");
    for words in [
        "203.0.113.50/32",
        "why: ",
        "198.51.100.7/32",
        "to UDP/80 100 %",
        "packet size: mean 100",
        "labelled false-alarm by me",
        "flows-000001.parquet",
    ] {
        assert!(text.contains(words), "`{words}` is not in\n{text}");
    }
    let (done, text, _) = weir(&lab, &["attacks", "labels"]);
    let line = text.lines().nth(1).unwrap();
    assert!(
        done && line.ends_with(",203.0.113.50/32,,,operator:me"),
        "{text}"
    );
    // The end of the attack came after the label.
    let end = ended().unwrap()["end_time"].as_str().unwrap().to_owned();
    assert!(line.contains(&end), "{line} without {end}");
    assert_eq!(daemon.terminate(), Some(0));

    // Without a daemon too.
    let (done, again, _) = weir(&lab, &["attacks", "labels"]);
    assert!(done && again == text);
    let events = lab.folder.path().join("replayed.ndjson");
    let arguments = [
        "replay",
        "--events",
        events.to_str().unwrap(),
        folder.to_str().unwrap(),
    ];
    let (done, _, error) = weir(&lab, &arguments);
    assert!(done, "{error}");
    let replayed = std::fs::read_to_string(&events).unwrap();
    let first: Value = serde_json::from_str(replayed.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["event"], &first["target"]),
        (&"attack-start".into(), &"203.0.113.50/32".into())
    );

    // The next daemon still shows it.
    let daemon = Daemon::start(&lab.config);
    let (done, text, error) = weir(&lab, &["attacks", "show", &id]);
    assert!(done && text.contains("ended"), "{text}{error}");
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn an_operator_starts_ends_and_mutes() {
    let lab = lab();
    let mut exporter = Exporter::new(lab.collector);
    let daemon = Daemon::start(&lab.config);
    exporter.send_templates();
    let limit = Duration::from_secs(20);
    // Nothing is seen, and an operator knows better.
    let arguments = [
        "attacks",
        "start",
        "203.0.113.9",
        "--vector",
        "udp-flood",
        "--note",
        "seen elsewhere",
    ];
    let (done, text, error) = weir(&lab, &arguments);
    assert!(done, "{error}");
    let id = text.trim().strip_prefix("started ").unwrap().to_owned();
    let open = |target: &str| only(&lab, target, is_open);
    assert!(eventually(limit, || open("203.0.113.9/32").is_some()));
    let asked = || lab.ledger.lock().unwrap().began.len();
    assert!(eventually(limit, || asked() == 1), "no help is asked for");
    let (done, text, error) = weir(&lab, &["attacks", "end", &id, "--note", "over"]);
    assert!(done && text == format!("ended {id}\n"), "{text}{error}");
    assert!(eventually(limit, || open("203.0.113.9/32").is_none()));
    let (done, _, error) = weir(&lab, &["attacks", "end", &id]);
    assert!(!done && error.contains("no attack"), "{error}");
    let (done, _, error) = weir(&lab, &["attacks", "start", "192.0.2.1"]);
    assert!(!done && error.contains("no zone"), "{error}");

    // What is muted is not told; another is.
    let (done, _, error) = weir(
        &lab,
        &[
            "attacks",
            "mute",
            "203.0.113.60/30",
            "--for",
            "1h",
            "--note",
            "a test",
        ],
    );
    assert!(done, "{error}");
    let flood = Flood::start(exporter);
    flood.aim(&[61, 70]);
    assert!(eventually(limit, || open("203.0.113.70/32").is_some()));
    assert!(open("203.0.113.61/32").is_none());
    // Over a restart as well.
    daemon.kill();
    let daemon = Daemon::start(&lab.config);
    let (done, text, error) = weir(&lab, &["attacks", "list"]);
    assert!(
        done && text.contains("muted: 203.0.113.60/30 until "),
        "{text}{error}"
    );
    std::thread::sleep(Duration::from_secs(2));
    assert!(open("203.0.113.61/32").is_none());
    let (done, _, error) = weir(&lab, &["attacks", "unmute", "203.0.113.60/30"]);
    assert!(done, "{error}");
    assert!(
        eventually(limit, || open("203.0.113.61/32").is_some()),
        "unmuted and not told"
    );
    drop(flood);
    assert_eq!(daemon.terminate(), Some(0));
}
