//! `weir run` with `[kafka]`, at a real broker: what is published, and what a broker that is gone does not disturb.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

#[path = "../../kafka/tests/support/mod.rs"]
mod kafka;
mod support;

use std::process::Command;
use std::time::Duration;

use kafka::{Brokers, read_topic};
use serde_json::Value;
use support::ports::free_address;
use support::{Daemon, Exporter, Lab, eventually, metric};
use weir_flow_record::Address;

const PATIENCE: Duration = Duration::from_secs(90);
const TARGET: Address = Address::from_v4([203, 0, 113, 50]);

/// A lab whose daemon publishes.
fn lab(kafka: &str) -> Lab {
    let lab = Lab::new();
    let mut config = std::fs::read_to_string(&lab.config).unwrap();
    config.push_str(kafka);
    std::fs::write(&lab.config, config).unwrap();
    lab
}

fn topic(brokers: &Brokers, topic: &str, count: usize) -> Vec<(String, Value)> {
    let messages = read_topic(&brokers.bootstrap, topic, PATIENCE, |read| {
        read.len() >= count
    });
    let messages = messages.into_iter().map(|message| {
        let value = serde_json::from_slice(&message.value).unwrap();
        (String::from_utf8(message.key).unwrap(), value)
    });
    messages.collect()
}

/// A total of the topic `flows`.
fn flows(lab: &Lab, name: &str, more: &str) -> f64 {
    metric(
        lab,
        &format!("weir_kafka_{name}_total{{topic=\"flows\"{more}}}"),
    )
}

fn send(exporter: &mut Exporter, numbers: std::ops::Range<u64>) {
    for number in numbers {
        exporter.send_packets(&[TARGET], number);
        if number % 20 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_daemon_publishes_flows_events_reports_and_labels() {
    let Some(brokers) = Brokers::shared() else {
        return;
    };
    let lab = lab(&format!(
        "[kafka]\nbrokers = [\"{}\"]\nflow_format = \"json\"\n[kafka.topics]\nflows = \"flows\"\nevents = \"events\"\n\
         mitigations = \"mitigations\"\nlabels = \"labels\"\n[kafka.tls]\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
        brokers.tls,
        brokers.file("ca.pem").display(),
        brokers.file("client.pem").display(),
        brokers.file("client.key").display(),
    ));
    let mut exporter = Exporter::new(lab.collector);
    let daemon = Daemon::start(&lab.config);
    exporter.send_templates();
    send(&mut exporter, 1..1_001);
    let acknowledged = || flows(&lab, "acknowledged_records", "") >= 1_000.0;
    assert!(eventually(PATIENCE, acknowledged), "flows do not arrive");
    let mut read: Vec<u64> = topic(brokers, "flows", 1_000)
        .into_iter()
        .map(|(key, record)| {
            assert_eq!(key, "127.0.0.1/1");
            record["packets"].as_u64().unwrap()
        })
        .collect();
    read.sort_unstable();
    assert_eq!(read, (1..1_001).collect::<Vec<u64>>());

    assert!(eventually(PATIENCE, || {
        exporter.send_packets(&[TARGET], 30_000);
        std::thread::sleep(Duration::from_millis(80));
        !lab.ledger.lock().unwrap().active.is_empty()
    }));
    let (attack, event) = topic(brokers, "events", 1).remove(0);
    assert_eq!(
        (&event["event"], &event["id"]),
        (&"attack-start".into(), &attack.as_str().into())
    );
    let (key, report) = topic(brokers, "mitigations", 1).remove(0);
    assert_eq!(
        (&key, &report["attack"]),
        (&attack, &attack.as_str().into())
    );
    assert!(
        report["time"].is_string() && report["mid"].is_u64(),
        "{report}"
    );
    let labelled = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args([
            "attacks",
            "label",
            &attack,
            "udp-flood",
            "--by",
            "me",
            "--config",
        ])
        .arg(&lab.config)
        .output()
        .unwrap();
    assert!(labelled.status.success(), "{labelled:?}");
    // The attack ends, and its label learns when.
    let labels = topic(brokers, "labels", 2);
    assert_eq!(
        labels.len(),
        2,
        "a label, and again when the attack ended: {labels:?}"
    );
    assert!(
        labels
            .iter()
            .all(|(key, label)| *key == attack && label["attack"] == "udp-flood")
    );
    assert!(labels[0].1["end"].is_null() && labels[1].1["end"].is_string());
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn what_a_client_reports_over_dots_becomes_a_label() {
    let Some(brokers) = Brokers::shared() else {
        return;
    };
    // A provider, whose client reports what it detects.
    let lab = Lab::new();
    let server = free_address();
    let config = std::fs::read_to_string(&lab.config).unwrap();
    let client = config.replace(&lab.dots.to_string(), &server.to_string());
    std::fs::write(&lab.config, client).unwrap();
    let provider = lab.folder.path().join("provider.toml");
    let settings = format!(
        "state_dir = \"provider\"\n[http]\nlisten = \"127.0.0.1:0\"\n[collector]\nnetflow = []\nsflow = []\n\
         [dots_server]\nlisten = [\"{server}\"]\nca = \"ca.pem\"\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
         [[dots_server.client]]\nname = \"weir-lab\"\nprefixes = [\"203.0.113.0/24\"]\n\
         [kafka]\nbrokers = [\"{}\"]\n[kafka.topics]\nlabels = \"reported\"\n",
        brokers.bootstrap
    );
    std::fs::write(&provider, settings).unwrap();
    let provider = Daemon::start(&provider);
    let mut exporter = Exporter::new(lab.collector);
    let daemon = Daemon::start(&lab.config);
    exporter.send_templates();
    let flood = std::thread::spawn(move || {
        for _ in 0..60 {
            exporter.send_packets(&[TARGET], 30_000);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let (key, label) = topic(brokers, "reported", 1).remove(0);
    flood.join().unwrap();
    assert_eq!(
        (key.as_str(), &label["id"]),
        ("weir-lab/1", &"weir-lab/1".into())
    );
    assert_eq!(label["by"], "dots:weir-lab");
    assert_eq!(label["targets"], serde_json::json!(["203.0.113.50/32"]));
    assert!(label["attack"].as_str().unwrap().contains("udp"), "{label}");
    assert_eq!(daemon.terminate(), Some(0));
    assert_eq!(provider.terminate(), Some(0));
}

#[test]
fn a_broker_that_is_gone_disturbs_nothing_and_is_taken_up_again() {
    let Some(brokers) = Brokers::start(1) else {
        return;
    };
    brokers.stop(1);
    let lab = lab(&format!(
        "[kafka]\nbrokers = [\"{}\"]\nqueue_messages = 1000\ndelivery_timeout = \"3s\"\n[kafka.topics]\nflows = \"flows\"\n",
        brokers.bootstrap
    ));
    let mut exporter = Exporter::new(lab.collector);
    let daemon = Daemon::start(&lab.config);
    exporter.send_templates();
    send(&mut exporter, 1..3_001);
    let all = |count: f64| metric(&lab, "weir_aggregate_records_total") >= count;
    assert!(
        eventually(PATIENCE, || all(3_000.0)),
        "records are not aggregated"
    );
    let dropped = |reason: &str| flows(&lab, "dropped_records", &format!(",reason=\"{reason}\""));
    assert!(eventually(PATIENCE, || dropped("queue-full") >= 1.0));
    assert!(eventually(PATIENCE, || dropped("queue-full")
        + dropped("timed-out")
        == 3_000.0));
    let drops = format!(
        "weir_collector_socket_drops_total{{listener=\"{}\"}}",
        lab.collector
    );
    assert_eq!(metric(&lab, &drops), 0.0);
    let up = || metric(&lab, "weir_kafka_brokers_up{producer=\"flows\"}");
    assert_eq!(up(), 0.0);

    brokers.restart(1);
    assert!(
        eventually(PATIENCE, || up() == 1.0),
        "the broker is not found"
    );
    // Its topic is made now.
    assert!(eventually(PATIENCE, || {
        exporter.send_packets(&[TARGET], 1);
        std::thread::sleep(Duration::from_millis(50));
        flows(&lab, "acknowledged_records", "") >= 1.0
    }));
    let before = flows(&lab, "acknowledged_records", "");
    send(&mut exporter, 1..501);
    assert!(eventually(PATIENCE, || flows(
        &lab,
        "acknowledged_records",
        ""
    ) >= before + 500.0));
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn mistakes_in_the_table_are_told_with_their_lines() {
    let lab = lab(
        "[kafka]\nbrokers = [\"kafka-1\"]\nflow_format = \"avro\"\n[kafka.topics]\nflows = \"a b\"\n",
    );
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = command
            .args(["check", "--config"])
            .arg(&lab.config)
            .output();
        let output = output.unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (status, told) = check();
    assert_eq!(status, Some(78));
    let config = std::fs::read_to_string(&lab.config).unwrap();
    let line = |text: &str| 1 + config.lines().position(|line| line == text).unwrap();
    for (text, words) in [
        (
            "brokers = [\"kafka-1\"]",
            "kafka.brokers[0]: `kafka-1` is no broker",
        ),
        (
            "flow_format = \"avro\"",
            "kafka.flow_format: unknown variant",
        ),
        ("flows = \"a b\"", "kafka.topics.flows: `a b` is no topic"),
    ] {
        let words = format!(":{}: {words}", line(text));
        assert!(told.contains(&words), "{words} is not in\n{told}");
    }
    let config = config.split("[kafka]").next().unwrap().to_owned();
    let tls = "[kafka]\nbrokers = [\"127.0.0.1:9\"]\n[kafka.tls]\nca = \"missing.pem\"\n";
    std::fs::write(&lab.config, config + tls).unwrap();
    let (status, told) = check();
    let words = format!(
        "kafka: cannot read {}",
        lab.folder.path().join("missing.pem").display()
    );
    assert!(status == Some(78) && told.contains(&words), "{told}");
}

#[test]
fn published_and_stored_records_have_the_same_anonymous_addresses() {
    let Some(brokers) = Brokers::shared() else {
        return;
    };
    let lab = lab(&format!(
        "[anonymise]\nmethod = \"crypto-pan\"\nkey_file = \"anonymise.key\"\n[store]\nparquet_dir = \"store\"\n\
         [kafka]\nbrokers = [\"{}\"]\nflow_format = \"json\"\n[kafka.topics]\nflows = \"anonymous\"\n\
         [kafka.tls]\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
        brokers.tls,
        brokers.file("ca.pem").display(),
        brokers.file("client.pem").display(),
        brokers.file("client.key").display(),
    ));
    let key_file = lab.folder.path().join("anonymise.key");
    std::fs::write(&key_file, [9; 32]).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key_file, mode).unwrap();
    let mut exporter = Exporter::new(lab.collector);
    let daemon = Daemon::start(&lab.config);
    exporter.send_templates();
    send(&mut exporter, 1..101);
    let published = topic(brokers, "anonymous", 100);
    assert_eq!(daemon.terminate(), Some(0));

    let settings = weir_anonymise::AnonymiseSettings {
        method: weir_anonymise::Method::CryptoPan { key_file },
        keep: Vec::new(),
    };
    let mut anonymiser = weir_anonymise::Anonymiser::new(&settings).unwrap();
    let target = anonymiser.address(TARGET);
    assert_ne!(target, TARGET);
    let told = published.iter().map(|(_, record)| &record["dst_addr"]);
    assert_eq!(
        told.filter(|told| **told == target.to_string()).count(),
        100
    );
    // Neither forgotten nor done twice on the way to the files.
    let store = lab.folder.path().join("store");
    let mut stored = Vec::new();
    for batch in weir_flow_store::FlowReader::open(&[store]).unwrap() {
        stored.extend(batch.unwrap().destination_address);
    }
    assert_eq!(stored, [target; 100]);
}
