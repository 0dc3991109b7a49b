//! A real Kafka for tests, by the script `kafka/broker`. Test binaries of other crates take it in by
//! `#[path = "../../kafka/tests/support/mod.rs"] mod kafka;`.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "shared by several test binaries, each of which uses a part"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use weir_kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use weir_kafka::rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// Brokers that go when this is dropped, or when the test's process ends in whatever way.
pub struct Brokers {
    /// Where to reach them in the clear, `host:port`, separated by commas.
    pub bootstrap: String,
    /// The same with mutual TLS; empty where not `secure`.
    pub tls: String,
    /// The same with SCRAM or PLAIN over TLS: user `weir`, password `open sesame`.
    pub sasl: String,
    script: Mutex<Script>,
    folder: tempfile::TempDir,
}

struct Script {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Brokers {
    /// Starts `count` brokers (1 or 3). Where there is no Java, or Kafka cannot be fetched, says so and gives `None`; in CI
    /// (`WEIR_CI=1`) that is a failure.
    pub fn start(count: usize) -> Option<Self> {
        Self::start_with(&["--brokers", &count.to_string()])
    }

    /// One broker that also listens with TLS and SASL; see [`file`](Self::file) for its keys.
    pub fn start_secure() -> Option<Self> {
        Self::start_with(&["--secure"])
    }

    /// One secure broker for all tests of a binary. It goes with the process.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Brokers>> = OnceLock::new();
        SHARED.get_or_init(Self::start_secure).as_ref()
    }

    fn start_with(options: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let script = script
            .map(|folder| folder.join("kafka/broker"))
            .find(|path| path.is_file())
            .expect("kafka/broker is in the repository");
        let mut child = Command::new(script)
            .arg("run")
            .arg(folder.path())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut ways = [String::new(), String::new(), String::new()];
        loop {
            let mut line = String::new();
            if answers.read_line(&mut line).unwrap() == 0 {
                let status = child.wait().unwrap();
                assert!(
                    std::env::var_os("WEIR_CI").is_none_or(|ci| ci != "1"),
                    "no Kafka in CI: kafka/broker ends with {status}"
                );
                println!("skipped: no Kafka (kafka/broker ends with {status})");
                return None;
            }
            match line.trim().split_once(' ') {
                Some(("PLAINTEXT", addresses)) => ways[0] = addresses.to_owned(),
                Some(("SSL", addresses)) => ways[1] = addresses.to_owned(),
                Some(("SASL_SSL", addresses)) => ways[2] = addresses.to_owned(),
                _ if line == "ready\n" => break,
                _ => panic!("kafka/broker says {line:?}"),
            }
        }
        let [bootstrap, tls, sasl] = ways;
        Some(Self {
            bootstrap,
            tls,
            sasl,
            script: Mutex::new(Script {
                child,
                orders,
                answers,
            }),
            folder,
        })
    }

    /// A key or certificate: `ca.pem`, `client.pem`, `client.key`; `other.pem`, `stranger.pem` and `stranger.key` are foreign.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("tls").join(name)
    }

    /// The process of broker `n`, from 1.
    pub fn pid(&self, n: usize) -> u32 {
        let path = self.folder.path().join(format!("{n}.pid"));
        std::fs::read_to_string(path)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// SIGKILL for broker `n`, from 1.
    pub fn kill(&self, n: usize) {
        self.order("kill", n);
    }

    /// SIGTERM for broker `n`; returns when it is gone.
    pub fn stop(&self, n: usize) {
        self.order("stop", n);
    }

    /// Starts broker `n` again on its old data; returns when it serves.
    pub fn restart(&self, n: usize) {
        self.order("start", n);
    }

    fn order(&self, order: &str, n: usize) {
        let mut script = self.script.lock().unwrap();
        writeln!(script.orders.as_mut().unwrap(), "{order} {n}").unwrap();
        let mut answer = String::new();
        script.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "{order} {n}");
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        let script = self.script.get_mut().unwrap();
        // The end of its input ends the script.
        script.orders = None;
        let _ = script.child.wait();
    }
}

/// A message as it was read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Received {
    pub partition: i32,
    pub offset: i64,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// Reads a topic in the clear from its beginning until `is_enough`, or for `patience`.
pub fn read_topic(
    bootstrap: &str,
    topic: &str,
    patience: Duration,
    mut is_enough: impl FnMut(&[Received]) -> bool,
) -> Vec<Received> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "20")
        .create()
        .unwrap();
    let end = Instant::now() + patience;
    let mut all = Vec::new();
    let mut assigned = 0;
    while Instant::now() < end && !is_enough(&all) {
        if assigned == 0 {
            // A topic that is being made comes without partitions.
            let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10));
            let metadata = metadata.unwrap();
            let partitions = metadata.topics()[0].partitions();
            let mut list = TopicPartitionList::new();
            for partition in partitions {
                list.add_partition_offset(topic, partition.id(), Offset::Beginning)
                    .unwrap();
            }
            consumer.assign(&list).unwrap();
            assigned = partitions.len();
        }
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            all.push(Received {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().unwrap_or_default().to_vec(),
                value: message.payload().unwrap_or_default().to_vec(),
            });
        }
    }
    all
}

/// The partition of each key; panics where one key is in two.
pub fn partitions_of(messages: &[Received]) -> BTreeMap<String, i32> {
    let mut partitions = BTreeMap::new();
    for message in messages {
        let key = String::from_utf8(message.key.clone()).unwrap();
        let known = *partitions.entry(key.clone()).or_insert(message.partition);
        assert_eq!(known, message.partition, "{key} is in two partitions");
    }
    partitions
}

/// Waits until something holds.
pub fn eventually(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
