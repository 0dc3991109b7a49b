//! The loop of learning by the command itself: train, evaluate, promote only what is better, roll back.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/command.rs"]
mod command;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use command::{done, weir};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// Flows to a server, with a minute of attack in every five; of each record's label so many are wrong.
fn flows(seed: u64, wrong: f64) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut text = String::from(
        "first_epoch,last_epoch,src_ip,dst_ip,src_port,dst_port,proto,tcp_flags,packets,bytes,label,class,capture\n",
    );
    for second in 0..1500_u64 {
        let mut line = |ends: String, numbers: String, attack: &str, random: &mut ChaCha8Rng| {
            let attack = match (random.random_bool(wrong), attack) {
                (false, attack) => attack,
                (true, "") => "dns_amplification",
                (true, _) => "",
            };
            let (label, class) = if attack.is_empty() {
                ("normal", "web")
            } else {
                ("attack", attack)
            };
            writeln!(
                text,
                "{second},{second}.5,{ends},{numbers},{label},{class},lab"
            )
            .unwrap();
        };
        for _ in 0..random.random_range(1..5) {
            let (client, port) = (
                random.random_range(1..250),
                random.random_range(20_000..60_000),
            );
            let packets: u32 = random.random_range(4..40);
            let octets = packets * random.random_range(60..400);
            line(
                format!("192.0.2.{client},203.0.113.1,{port},443"),
                format!("6,...AP.SF,{packets},{octets}"),
                "",
                &mut random,
            );
        }
        if second / 60 % 5 == 4 {
            let kind = second / 300 % 2;
            for _ in 0..20 {
                let [a, b, port] = [
                    random.random_range(1..220),
                    random.random_range(0..255),
                    random.random_range(1024..65_000),
                ];
                let (ends, numbers, attack) = match kind {
                    0 => (
                        format!("{a}.{b}.7.9,203.0.113.1,{port},443"),
                        "6,......S.,1,60".to_owned(),
                        "syn_flood",
                    ),
                    _ => (
                        format!("{a}.{b}.7.9,203.0.113.1,53,{port}"),
                        "17,,3,4200".to_owned(),
                        "dns_amplification",
                    ),
                };
                line(ends, numbers, attack, &mut random);
            }
        }
    }
    text
}

struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("weir.toml"), "state_dir = \"state\"\n").unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn train(&self, data: &str, model: &str) {
        done(
            self.path(),
            &["train", data, "-o", model, "--trees", "15", "--thin", "1,2"],
        );
    }

    fn promote(&self, model: &str, more: &[&str]) -> Output {
        let mut arguments = vec!["models", "promote", "--config", "weir.toml", model];
        arguments.extend(more);
        weir(self.path(), &arguments)
    }

    fn models(&self) -> Vec<(String, String)> {
        let text = done(
            self.path(),
            &["models", "list", "--config", "weir.toml", "--json"],
        );
        let listed: Vec<Value> = serde_json::from_str(&text).unwrap();
        let word = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
        listed
            .iter()
            .map(|one| (word(one, "state"), word(one, "id")))
            .collect()
    }
}

#[test]
fn only_a_better_model_is_promoted_and_it_can_be_taken_back() {
    let lab = Lab::new();
    lab.write("clean.csv", &flows(1, 0.0));
    lab.write("poisoned.csv", &flows(1, 0.3));
    lab.write("later.csv", &flows(2, 0.0));
    lab.train("clean.csv", "clean.model");
    lab.train("clean.csv", "again.model");
    let octets = |name: &str| fs::read(lab.path().join(name)).unwrap();
    assert!(
        octets("clean.model") == octets("again.model"),
        "the same data and seed give another file"
    );
    lab.train("poisoned.csv", "poisoned.model");

    let report: Value =
        serde_json::from_str(&done(lab.path(), &["evaluate", "clean.model", "later.csv"])).unwrap();
    for class in ["normal", "tcp-syn-flood", "dns-amplification"] {
        assert!(
            report["classes"][class]["f1"].as_f64().unwrap() > 0.95,
            "{report:#}"
        );
    }
    assert!(
        report["macro_f1"].as_f64().unwrap() > 0.95
            && report["calibration_error"].as_f64().unwrap() < 0.05
    );

    assert!(
        lab.promote("clean.model", &["--on", "later.csv"])
            .status
            .success()
    );
    let clean = lab.models()[0].1.clone();
    let refused = lab.promote("poisoned.model", &["--on", "later.csv"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no better"));
    assert_eq!(lab.models(), [("active".to_owned(), clean.clone())]);

    assert!(lab.promote("poisoned.model", &["--force"]).status.success());
    let poisoned = lab
        .models()
        .into_iter()
        .find(|(state, _)| state == "active")
        .unwrap()
        .1;
    assert_ne!(poisoned, clean);
    let audit = fs::read_to_string(lab.path().join("state/models/models-audit.ndjson")).unwrap();
    let lines: Vec<Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let deeds: Vec<(&str, bool)> = lines
        .iter()
        .map(|line| {
            (
                line["action"].as_str().unwrap(),
                line["forced"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        deeds,
        [("promote", false), ("refuse", false), ("promote", true)]
    );

    done(lab.path(), &["models", "rollback", "--config", "weir.toml"]);
    assert!(lab.models().contains(&("active".to_owned(), clean)));
}

#[test]
fn splits_learn_anew_and_flows_without_labels_are_refused() {
    let lab = Lab::new();
    lab.write("clean.csv", &flows(1, 0.0));
    lab.train("clean.csv", "clean.model");
    let report: Value = serde_json::from_str(&done(
        lab.path(),
        &["evaluate", "clean.model", "clean.csv", "--split", "family"],
    ))
    .unwrap();
    let folds = report["folds"].as_object().unwrap();
    assert_eq!(
        folds.keys().collect::<Vec<_>>(),
        ["dns-amplification", "tcp-syn-flood"]
    );
    assert_eq!(
        folds["dns-amplification"]["classes"]["dns-amplification"]["recall"], 0.0,
        "what was never learned has no name"
    );

    lab.write(
        "plain.csv",
        "ts,te,td,sa,da,sp,dp,pr,flg,fwd,stos,ipkt,ibyt\n\
         2024-05-01 10:00:00.5,2024-05-01 10:00:02.5,2.000,192.0.2.1,198.51.100.2,443,5000,TCP,...AP.S.,0,0,10,5000\n",
    );
    let output = weir(lab.path(), &["train", "plain.csv", "-o", "x.model"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--labels"));
    let output = weir(lab.path(), &["models", "show", "clean.csv"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no model"));
}

#[test]
fn a_join_says_the_same_as_csv_and_as_parquet() {
    let lab = Lab::new();
    let mut records = String::from(
        "src_addr,dst_addr,src_port,dst_port,proto,time_flow_start_ns,time_flow_end_ns,packets,bytes,tcp_flags,sampling_rate\n",
    );
    for second in 1_u64..1200 {
        let (start, end) = (second * 1_000_000_000, second * 1_000_000_000 + 500_000_000);
        let client = second % 200;
        let mut record = |ends: &str, numbers: &str| {
            writeln!(records, "192.0.2.{client},{ends},{start},{end},{numbers},1").unwrap();
        };
        record("203.0.113.1,40000,443,6", "12,3000,24");
        if second % 300 > 240 {
            record("203.0.113.1,53,40001,17", "9,12000,0");
        }
    }
    lab.write("flows.csv", &records);
    let label = |from: u64| {
        let time = |second| jiff::Timestamp::from_second(second as i64).unwrap();
        let end = time(from + 60);
        format!("{},{end},203.0.113.1/32,dns-amplification\n", time(from))
    };
    let labels: String = [240, 540, 840, 1140, 9000].into_iter().map(label).collect();
    lab.write("labels.csv", &format!("start,end,target,attack\n{labels}"));
    let join = |name: &str| {
        let counts = done(
            lab.path(),
            &["join", "flows.csv", "--labels", "labels.csv", "-o", name],
        );
        serde_json::from_str::<Value>(&counts).unwrap()
    };
    let counts = join("said.csv");
    assert_eq!(counts, join("said.parquet"));
    assert_eq!(counts["unmatched_labels"], 1);
    assert!(counts["attack"].as_u64().unwrap() >= 59 * 4, "{counts}");
    assert_eq!(
        fs::read(lab.path().join("said.parquet")).unwrap()[..4],
        *b"PAR1"
    );
    let learned = |data: &str, model: &str| {
        done(lab.path(), &["train", data, "-o", model, "--trees", "5"]);
        let card = done(lab.path(), &["models", "show", model, "--json"]);
        let card: Value = serde_json::from_str(&card).unwrap();
        card["data"]["windows"].clone()
    };
    let windows = learned("said.csv", "csv.model");
    assert_eq!(windows, learned("said.parquet", "parquet.model"));
    assert!(
        windows.to_string().contains("dns-amplification"),
        "{windows}"
    );
}
