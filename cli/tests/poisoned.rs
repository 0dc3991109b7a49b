//! Labels that are wrong, by chance or by malice: they are named, can be left out, and never promote a model that tells clean data worse.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/command.rs"]
mod command;

use std::fmt::Write as _;
use std::fs;

use command::weir;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

const SECONDS: u64 = 1600;
const HEADER: &str = "src_addr,dst_addr,src_port,dst_port,proto,time_flow_start_ns,time_flow_end_ns,packets,bytes,tcp_flags,sampling_rate\n";

/// The attack of a second: on which server, of which kind, and who reports it. Half a minute in every hundred seconds.
fn attack(second: u64) -> Option<(u64, &'static str, &'static str)> {
    let number = second / 100;
    let kinds = ["tcp-syn-flood", "dns-amplification"];
    let kind = kinds[(number / 4 % 2) as usize];
    let by = ["dots:a", "dots:b", "dots:c", "dots:d"][(number % 4) as usize];
    (second % 100 >= 70).then_some((number % 3 + 1, kind, by))
}

/// Flows to five servers.
fn flows(seed: u64) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut text = String::from(HEADER);
    for second in 0..SECONDS {
        let mut line = |ends: String, numbers: String| {
            let start = second * 1_000_000_000;
            let ports_and_protocol = ends;
            writeln!(
                text,
                "{ports_and_protocol},{start},{},{numbers},1",
                start + 400_000_000
            )
            .unwrap();
        };
        for server in 1..=5 {
            for _ in 0..random.random_range(1..4) {
                let (client, port) = (
                    random.random_range(1..250),
                    random.random_range(20_000..60_000),
                );
                let packets: u32 = random.random_range(4..40);
                let octets = packets * random.random_range(60..400);
                line(
                    format!("192.0.2.{client},203.0.113.{server},{port},443,6"),
                    format!("{packets},{octets},27"),
                );
            }
        }
        let Some((server, kind, _)) = attack(second) else {
            continue;
        };
        for _ in 0..25 {
            let [a, b, port] = [
                random.random_range(1..220),
                random.random_range(0..255),
                random.random_range(1024..65_000),
            ];
            let (ends, numbers) = match kind {
                "tcp-syn-flood" => (
                    format!("{a}.{b}.7.9,203.0.113.{server},{port},443,6"),
                    "1,60,2".to_owned(),
                ),
                _ => (
                    format!("{a}.{b}.7.9,203.0.113.{server},53,{port},17"),
                    "3,4200,0".to_owned(),
                ),
            };
            line(ends, numbers);
        }
    }
    text
}

fn time(second: u64) -> String {
    format!("1970-01-01T00:{:02}:{:02}Z", second / 60, second % 60)
}

/// What four mitigation systems report; of each so many reports are wrong, and `liar` calls the peace of server 5 floods.
fn labels(wrong: f64, liar: bool) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut text = String::from("start,end,target,attack,sources,by\n");
    writeln!(
        text,
        "{},{},203.0.113.0/24,,,dots:a",
        time(0),
        time(SECONDS)
    )
    .unwrap();
    for second in (70..SECONDS).step_by(100) {
        let (mut server, mut kind, by) = attack(second).unwrap();
        if random.random_bool(wrong) {
            (server, kind) = (4, "icmp-flood");
        }
        writeln!(
            text,
            "{},{},203.0.113.{server}/32,{kind},,{by}",
            time(second),
            time(second + 29)
        )
        .unwrap();
    }
    for second in (0..SECONDS).step_by(200).filter(|_| liar) {
        writeln!(
            text,
            "{},{},203.0.113.5/32,tcp-syn-flood,,dots:liar",
            time(second),
            time(second + 60)
        )
        .unwrap();
    }
    text
}

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Self(folder);
        lab.write(
            "weir.toml",
            "state_dir = \"state\"\n[[zone]]\nname = \"web\"\nprefixes = [\"203.0.113.0/24\"]\n",
        );
        lab.write("flows.csv", &flows(1));
        lab.write("later.csv", &flows(2));
        lab.write("clean.csv", &labels(0.0, false));
        lab
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    /// What the command says of its training.
    fn train(&self, labels: &str, model: &str, more: &[&str]) -> String {
        let mut arguments = vec![
            "train",
            "flows.csv",
            "--labels",
            labels,
            "-o",
            model,
            "--trees",
            "8",
            "--thin",
            "1",
        ];
        arguments.extend(more);
        let output = weir(self.0.path(), &arguments);
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    /// How well a model tells clean data: F1 of attacks.
    fn score(&self, model: &str) -> f64 {
        let output = weir(
            self.0.path(),
            &["evaluate", model, "later.csv", "--labels", "clean.csv"],
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["attack"]["f1"].as_f64().unwrap()
    }

    fn promote(&self, model: &str) -> bool {
        let arguments = [
            "models",
            "promote",
            "--config",
            "weir.toml",
            model,
            "--on",
            "later.csv",
            "--labels",
            "clean.csv",
        ];
        let output = weir(self.0.path(), &arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() || error.contains("no better"),
            "{error}"
        );
        output.status.success()
    }
}

#[test]
fn one_malicious_client_is_named_and_never_promotes_a_worse_model() {
    let lab = Lab::new();
    let said = lab.train("clean.csv", "clean.model", &[]);
    assert!(!said.contains("CONTRADICTED"), "{said}");
    let clean = lab.score("clean.model");
    assert!(clean > 0.95, "{clean}");
    assert!(lab.promote("clean.model"));

    lab.write("lies.csv", &labels(0.0, true));
    let said = lab.train("lies.csv", "lies.model", &[]);
    let named: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("CONTRADICTED"))
        .collect();
    assert!(
        matches!(named[..], [line] if line.contains("dots:liar")),
        "{said}"
    );
    assert!(lab.score("lies.model") < clean);
    assert!(!lab.promote("lies.model"), "a poisoned model is promoted");

    // Without the liar it is as good as before, whoever finds it out.
    for more in [
        &["--distrust", "dots:liar"][..],
        &["--distrust-contradicted"],
    ] {
        lab.train("lies.csv", "honest.model", more);
        assert!(lab.score("honest.model") > clean - 0.02, "{more:?}");
    }
}

#[test]
fn one_wrong_report_in_ten_never_promotes_a_worse_model() {
    let lab = Lab::new();
    lab.train("clean.csv", "clean.model", &[]);
    assert!(lab.promote("clean.model"));
    lab.write("wrong.csv", &labels(0.1, false));
    assert_ne!(labels(0.1, false), labels(0.0, false), "nothing is wrong");
    lab.train("wrong.csv", "wrong.model", &[]);
    let better = lab.score("wrong.model") > lab.score("clean.model");
    assert!(
        !lab.promote("wrong.model") || better,
        "a worse model is promoted"
    );
}
