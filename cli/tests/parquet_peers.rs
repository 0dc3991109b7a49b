//! DuckDB and ClickHouse read what Weir stores, and find what `weir query` finds.
//!
//! Both are Python packages in a folder of their own, which `.ci/packages --test` fills; `WEIR_PEERS` names another one.

#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "support/command.rs"]
mod command;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use command::done;
use serde_json::{Value, json};
use support::{Daemon, Lab, eventually};

/// Python with the packages; `None` where it is missing, which a CI run must not be.
fn python() -> Option<PathBuf> {
    let folder = std::env::var_os("WEIR_PEERS").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/weir-peers"));
    let python = folder.or_else(home)?.join("bin/python");
    if python.exists() {
        return Some(python);
    }
    assert!(
        std::env::var_os("WEIR_CI").is_none(),
        "no {}",
        python.display()
    );
    println!("skipped: no DuckDB and chdb (.ci/packages --test installs them)");
    None
}

fn asked(python: &Path, script: &str, arguments: &[&Path]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/peers")
        .join(script);
    let out = Command::new(python)
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{errors}");
    serde_json::from_slice(&out.stdout).unwrap()
}

/// What `weir query` says of a store: records, octets, packets, scaled octets.
fn totals(store: &Path) -> [u64; 4] {
    let folder = store.parent().unwrap();
    std::fs::write(folder.join("query.toml"), "state_dir = \"nowhere\"\n").unwrap();
    let store = store.to_str().unwrap();
    let statement = "SELECT COUNT(*) AS records, SUM(bytes) AS octets, SUM(packets) AS packets, \
                     SUM(bytes * sampling_rate) AS scaled FROM flows";
    let arguments = [
        "query",
        "--config",
        "query.toml",
        "--format",
        "json",
        "--store",
        store,
    ];
    let answer = done(folder, &[arguments.as_slice(), &[statement]].concat());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    ["records", "octets", "packets", "scaled"].map(|name| answer[name].as_u64().unwrap())
}

/// A capture of two exporters with IPv4 and IPv6, and its records as one file of a store.
fn decoded(folder: &Path) -> PathBuf {
    done(folder, &["generate", "clock-skew", "-o", "x.pcap"]);
    let hour = folder.join("store/flows/date=2026-03-02/hour=00");
    std::fs::create_dir_all(&hour).unwrap();
    let file = hour.join("x.parquet");
    let arguments = ["decode", "x.pcap", "--format", "parquet", "-o"];
    done(
        folder,
        &[arguments.as_slice(), &[file.to_str().unwrap()]].concat(),
    );
    folder.join("store")
}

#[test]
fn duckdb_reads_what_decode_writes() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = decoded(folder.path());
    let [records, octets, packets, scaled] = totals(&store);
    assert!(records > 10_000);
    let found = asked(&python, "duckdb_reads.py", &[&store]);
    let named = |name: &str| found[name].as_u64().unwrap();
    assert_eq!(
        [
            named("records"),
            named("octets"),
            named("packets"),
            named("scaled")
        ],
        [records, octets, packets, scaled]
    );
    // By address too, in both families.
    let statement = "SELECT dst_addr, COUNT(*) AS records, SUM(bytes) AS octets FROM flows GROUP BY dst_addr \
                     ORDER BY octets DESC, dst_addr LIMIT 5";
    let store = store.to_str().unwrap();
    let arguments = [
        "query",
        "--config",
        "query.toml",
        "--format",
        "json",
        "--store",
        store,
    ];
    let answer = done(
        folder.path(),
        &[arguments.as_slice(), &[statement]].concat(),
    );
    let rows = answer
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let rows: Vec<Value> = rows
        .map(|row| json!([row["dst_addr"], row["records"], row["octets"]]))
        .collect();
    assert_eq!(found["top"], Value::Array(rows));
    assert!(found["top"].to_string().contains("2001:db8:"));
}

#[test]
fn duckdb_reads_what_the_daemon_writes() {
    let Some(python) = python() else { return };
    let lab = Lab::new();
    let mut config = std::fs::read_to_string(&lab.config).unwrap();
    config.push_str("[store]\nparquet_dir = \"store\"\nparquet_interval = \"1s\"\n");
    std::fs::write(&lab.config, config).unwrap();
    let daemon = Daemon::start(&lab.config);
    let folder = lab.folder.path();
    let to = lab.collector.to_string();
    done(
        folder,
        &["generate", "clock-skew", "--to", &to, "--rate", "2000"],
    );
    let store = folder.join("store");
    assert!(eventually(Duration::from_secs(10), || store
        .join("flows")
        .is_dir()));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(daemon.terminate(), Some(0));
    let found = asked(&python, "duckdb_reads.py", &[&store]);
    let found =
        ["records", "octets", "packets", "scaled"].map(|name| found[name].as_u64().unwrap());
    assert_eq!(found, totals(&store));
    assert!(found[0] > 10_000, "{found:?}");
}

#[test]
fn clickhouse_takes_files_and_messages_as_its_page_says() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = decoded(folder.path());
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("x.ndjson"), done(folder.path(), &["decode", "x.pcap"])).unwrap();
    let arguments = ["decode", "x.pcap", "--format", "protobuf", "-o", "x.pb"];
    done(folder.path(), &arguments);
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (page, schema) = (
        project.join("docs/clickhouse.sql"),
        project.join("kafka/flow.proto"),
    );
    let files = [&page, &store, &schema, &path("x.ndjson"), &path("x.pb")];
    let found = asked(&python, "clickhouse_reads.py", &files.map(PathBuf::as_path));
    let expected = totals(&store);
    for table in ["parquet", "flows_json", "flows_protobuf"] {
        assert_eq!(found[table], json!(expected), "{table}");
    }
    // Not the sums alone: each record, column by column.
    assert_eq!(
        (&found["flows_json_equal"], &found["flows_protobuf_equal"]),
        (&true.into(), &true.into())
    );
    assert_eq!(
        (&found["statements"], &found["kafka"]),
        (&8.into(), &2.into())
    );
    assert_eq!(found["files"][0][0], "2026-03-02");
}
