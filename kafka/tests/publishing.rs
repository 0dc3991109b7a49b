//! What is published arrives at a real broker once, in each form, and only where both sides trust each other.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

mod flows;
mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flows::{batch, source};
use prost::Message;
use support::{Brokers, Received, eventually, partitions_of, read_topic};
use weir_flow_format::protobuf::FlowMessage;
use weir_flow_record::FlowBatch;
use weir_kafka::{
    DropReason, FlowFormat, KafkaConfig, Kind, Mechanism, Publisher, TlsConfig, TopicsConfig, block,
};

const PATIENCE: Duration = Duration::from_secs(90);
const SOURCES: u32 = 5;
const ROWS: u32 = 1_700;

/// Publishes `ROWS` records of each source, which their octets number, and reads them back.
fn published(brokers: &Brokers, topic: &str, format: FlowFormat) -> Vec<Received> {
    let config = KafkaConfig {
        brokers: vec![brokers.bootstrap.clone()],
        flow_format: format,
        partitions: 8,
        topics: TopicsConfig {
            flows: topic.to_owned(),
            ..TopicsConfig::default()
        },
        ..KafkaConfig::default()
    };
    let publisher = Publisher::start(&config.check().unwrap().unwrap()).unwrap();
    let mut flows = publisher.flows().unwrap();
    let mut number = 0;
    for _ in 0..ROWS / 100 {
        flows.handle_batch(Instant::now(), &batch(SOURCES, 100, &mut number));
    }
    flows.flush();
    drop(flows);
    let figures = publisher.figures();
    publisher.finish(PATIENCE);
    let (name, counters) = figures.topics().remove(0);
    let all = u64::from(SOURCES * ROWS);
    assert_eq!((name.as_str(), counters.records), (topic, all));
    assert_eq!((counters.acknowledged, counters.all_dropped()), (all, 0));
    let messages = counters.acknowledged_messages;
    read_topic(&brokers.bootstrap, topic, PATIENCE, |read| {
        read.len() as u64 >= messages
    })
}

/// Each number comes once, from its source.
fn assert_complete(mut numbers: Vec<(u64, String)>) {
    numbers.sort();
    let expected: Vec<(u64, String)> = (0..u64::from(SOURCES * ROWS))
        .map(|number| (number, source((number / 100 % u64::from(SOURCES)) as u32).0))
        .collect();
    assert!(
        numbers == expected,
        "{} of {}",
        numbers.len(),
        expected.len()
    );
}

#[test]
fn every_record_arrives_once_as_json() {
    let Some(brokers) = Brokers::shared() else {
        return;
    };
    let messages = published(brokers, "flows-json", FlowFormat::Json);
    assert!(partitions_of(&messages).len() == SOURCES as usize);
    let numbers = messages.iter().map(|message| {
        let record: serde_json::Value = serde_json::from_slice(&message.value).unwrap();
        assert_eq!(
            (&record["type"], &record["proto"]),
            (&"IPFIX".into(), &"UDP".into())
        );
        let exporter = record["sampler_address"].as_str().unwrap().to_owned();
        let key = format!("{exporter}/{}", record["observation_domain_id"]);
        assert_eq!(message.key, key.into_bytes());
        (record["bytes"].as_u64().unwrap(), exporter)
    });
    assert_complete(numbers.collect());
}

#[test]
fn every_record_arrives_once_as_protobuf() {
    let Some(brokers) = Brokers::shared() else {
        return;
    };
    let messages = published(brokers, "flows-protobuf", FlowFormat::Protobuf);
    assert!(partitions_of(&messages).len() == SOURCES as usize);
    let numbers = messages.iter().map(|message| {
        let mut rest = message.value.as_slice();
        let record = FlowMessage::decode_length_delimited(&mut rest).unwrap();
        assert!(rest.is_empty());
        let [a, b, c, d] = record.sampler_address[..] else {
            panic!("an IPv4 exporter has four octets")
        };
        (record.bytes, format!("{a}.{b}.{c}.{d}"))
    });
    assert_complete(numbers.collect());
    read_by_protoc(&messages[0].value);
}

/// A message of the topic, read with the schema that users get, by protobuf's own compiler.
fn read_by_protoc(message: &[u8]) {
    let started = Command::new("protoc")
        .args(["--decode=flowpb.FlowMessage", "flow.proto"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut protoc = match started {
        Ok(protoc) => protoc,
        Err(error) => {
            println!("skipped: protoc does not run here: {error}");
            return;
        }
    };
    let record = FlowMessage::decode_length_delimited(message).unwrap();
    let length = prost::length_delimiter_len(record.encoded_len());
    protoc
        .stdin
        .take()
        .unwrap()
        .write_all(&message[length..])
        .unwrap();
    let answer = protoc.wait_with_output().unwrap();
    assert!(answer.status.success());
    let text = String::from_utf8(answer.stdout).unwrap();
    // No number stands bare: the schema names all fields.
    let names: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once(": ")).collect();
    for (name, value) in [
        ("type", "IPFIX".to_owned()),
        ("bytes", record.bytes.to_string()),
        ("packets", record.packets.to_string()),
        ("sampling_rate", record.sampling_rate.to_string()),
        (
            "observation_domain_id",
            record.observation_domain_id.to_string(),
        ),
        ("time_flow_end_ns", record.time_flow_end_ns.to_string()),
        ("forwarding_status", record.forwarding_status.to_string()),
        ("dst_mac", record.dst_mac.to_string()),
    ] {
        // What is zero is not there.
        let shown = names.get(name).copied().unwrap_or("0");
        assert_eq!(shown, value, "{name}");
    }
    assert!(
        names.keys().all(|name| name.parse::<u32>().is_err()),
        "{text}"
    );
}

#[test]
fn every_record_arrives_once_in_blocks() {
    let Some(brokers) = Brokers::shared() else {
        return;
    };
    let messages = published(brokers, "flows-blocks", FlowFormat::Blocks);
    assert!(partitions_of(&messages).len() == SOURCES as usize);
    // 500 records and what is left, of each source.
    assert_eq!(messages.len(), (SOURCES * ROWS.div_ceil(500)) as usize);
    let mut read = FlowBatch::default();
    let mut numbers = Vec::new();
    for message in &messages {
        block::decode(&message.value, &mut read).unwrap();
        let exporter = read.datagrams[0].exporter_address.to_string();
        let key = format!("{exporter}/{}", read.datagrams[0].domain.0);
        assert_eq!(message.key, key.into_bytes());
        numbers.extend(read.octets.iter().map(|number| (*number, exporter.clone())));
    }
    assert_complete(numbers);
}

/// A configuration with mutual TLS.
fn tls(brokers: &Brokers, ca: &str, client: &str) -> KafkaConfig {
    let file = |name: &str, ending: &str| brokers.file(&format!("{name}.{ending}"));
    KafkaConfig {
        brokers: vec![brokers.tls.clone()],
        delivery_timeout: weir_flow_record::Period(Duration::from_secs(3)),
        topics: TopicsConfig {
            events: "events-tls".to_owned(),
            ..TopicsConfig::default()
        },
        tls: Some(TlsConfig {
            ca: file(ca, "pem"),
            certificate: file(client, "pem"),
            key: file(client, "key"),
        }),
        ..KafkaConfig::default()
    }
}

fn scram(brokers: &Brokers, mechanism: Mechanism, password: &str) -> KafkaConfig {
    let path = brokers.file(&format!("password-{}-{}", mechanism.name(), password.len()));
    std::fs::write(&path, password).unwrap();
    let mut config = tls(brokers, "ca", "client");
    config.brokers = vec![brokers.sasl.clone()];
    config.sasl_username = "weir".to_owned();
    config.sasl_password_file = path;
    config.sasl_mechanism = mechanism;
    if let Some(tls) = &mut config.tls {
        (tls.certificate, tls.key) = Default::default();
    }
    config
}

/// Publishes one event; nothing where it was acknowledged, else what was wrong.
fn trouble(config: &KafkaConfig) -> Option<String> {
    let settings = config.check().unwrap().unwrap();
    settings.check_files().unwrap();
    let publisher = Publisher::start(&settings).unwrap();
    let notes = publisher.notes().unwrap();
    notes.publish(Kind::Events, "attack-1", b"{}");
    notes.publish(Kind::Labels, "attack-1", b"no topic is named for labels");
    let figures = publisher.figures();
    let events = || figures.topics()[0].1;
    let is_done = || events().acknowledged + events().all_dropped() == 1;
    assert!(eventually(PATIENCE, is_done), "{:?}", figures.producers());
    drop(notes);
    publisher.finish(Duration::from_secs(1));
    let dropped = events().dropped(DropReason::TimedOut);
    (dropped == 1).then(|| figures.producers()[0].1.trouble.clone())
}

#[test]
fn only_peers_that_trust_each_other_talk() {
    let Some(brokers) = Brokers::shared() else {
        return;
    };
    assert_eq!(trouble(&tls(brokers, "ca", "client")), None);
    for mechanism in [
        Mechanism::ScramSha256,
        Mechanism::ScramSha512,
        Mechanism::Plain,
    ] {
        assert_eq!(trouble(&scram(brokers, mechanism, "open sesame")), None);
    }
    for (config, words) in [
        (tls(brokers, "other", "client"), "certificate verify failed"),
        (tls(brokers, "ca", "stranger"), "alert bad certificate"),
        (
            scram(brokers, Mechanism::ScramSha512, "open barley"),
            "SASL authentication error",
        ),
    ] {
        let trouble = trouble(&config).unwrap();
        println!("{trouble}");
        assert!(trouble.contains(words), "{trouble}");
    }
}
