//! Brokers that are killed and stopped: what was acknowledged is there once, what was not is counted, and nobody waits.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

mod flows;
mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use flows::batch;
use prost::Message;
use support::{Brokers, eventually, read_topic};
use weir_flow_format::protobuf::FlowMessage;
use weir_flow_record::{ByteSize, Period};
use weir_kafka::{DropReason, KafkaConfig, KafkaSettings, Publisher, TopicsConfig};

const PATIENCE: Duration = Duration::from_secs(90);

fn settings(brokers: &Brokers, config: KafkaConfig) -> KafkaSettings {
    let config = KafkaConfig {
        brokers: brokers.bootstrap.split(',').map(str::to_owned).collect(),
        topics: TopicsConfig {
            flows: "flows".to_owned(),
            ..TopicsConfig::default()
        },
        ..config
    };
    config.check().unwrap().unwrap()
}

/// The numbers of all records in the topic; panics where one is there twice.
fn numbers(brokers: &Brokers, at_least: usize) -> BTreeSet<u64> {
    let messages = read_topic(&brokers.bootstrap, "flows", PATIENCE, |read| {
        read.len() >= at_least
    });
    let mut numbers = BTreeSet::new();
    for message in messages {
        let record = FlowMessage::decode_length_delimited(message.value.as_slice()).unwrap();
        assert!(numbers.insert(record.bytes), "{} twice", record.bytes);
    }
    numbers
}

#[test]
fn a_killed_broker_of_three_loses_and_doubles_nothing() {
    let Some(brokers) = Brokers::start(3) else {
        return;
    };
    let config = KafkaConfig {
        partitions: 6,
        replication: 3,
        ..KafkaConfig::default()
    };
    let publisher = Publisher::start(&settings(&brokers, config)).unwrap();
    let (mut flows, figures) = (publisher.flows().unwrap(), publisher.figures());
    let totals = || figures.topics()[0].1;
    let mut number = 0;
    let mut send = |batches: u32| {
        for _ in 0..batches {
            flows.handle_batch(Instant::now(), &batch(8, 25, &mut number));
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    send(200);
    assert!(eventually(PATIENCE, || totals().acknowledged > 20_000));
    let killed = Instant::now();
    brokers.kill(2);
    send(200);
    let before = totals().acknowledged;
    assert!(eventually(PATIENCE, || totals().acknowledged > before));
    println!(
        "acknowledged again {:.1} s after the kill",
        killed.elapsed().as_secs_f64()
    );
    brokers.restart(2);
    send(100);
    drop(flows);
    publisher.finish(PATIENCE);
    let totals = totals();
    assert_eq!((totals.acknowledged, totals.all_dropped()), (number, 0));
    let read = numbers(&brokers, number as usize);
    assert_eq!(read, (0..number).collect());
}

#[test]
fn a_stopped_broker_is_waited_for_by_nobody() {
    let Some(brokers) = Brokers::start(1) else {
        return;
    };
    let config = KafkaConfig {
        queue: ByteSize(1 << 20),
        queue_messages: 1_000,
        delivery_timeout: Period(Duration::from_secs(2)),
        ..KafkaConfig::default()
    };
    let publisher = Publisher::start(&settings(&brokers, config)).unwrap();
    let (mut flows, figures) = (publisher.flows().unwrap(), publisher.figures());
    let totals = || figures.topics()[0].1;
    let mut number = 0;
    flows.handle_batch(Instant::now(), &batch(1, 100, &mut number));
    assert!(eventually(PATIENCE, || totals().acknowledged == 100));

    brokers.stop(1);
    let began = Instant::now();
    flows.handle_batch(Instant::now(), &batch(1, 5_000, &mut number));
    assert!(began.elapsed() < Duration::from_secs(1), "a caller waits");
    let is_counted = || totals().acknowledged + totals().all_dropped() == number;
    assert!(eventually(PATIENCE, is_counted));
    assert_eq!(totals().dropped(DropReason::QueueFull), 4_000);
    assert_eq!(totals().dropped(DropReason::TimedOut), 1_000);
    let state = || figures.producers()[0].1.clone();
    assert!(eventually(PATIENCE, || state().brokers_up == 0));
    assert!(
        state().trouble.contains("Connection refused"),
        "{:?}",
        state()
    );

    brokers.restart(1);
    let last = number;
    flows.handle_batch(Instant::now(), &batch(1, 100, &mut number));
    assert!(eventually(PATIENCE, || totals().acknowledged == 200));
    assert!(eventually(PATIENCE, || state().brokers_up == 1));
    drop(flows);
    publisher.finish(PATIENCE);
    let read = numbers(&brokers, 200);
    assert_eq!(read, (0..100).chain(last..number).collect());
}
