//! Two collectors and two detectors over a real Kafka of three brokers tell what one process tells; and under load a broker, a
//! detector and a collector are killed in turn: no attack is opened twice, none is lost, and mitigations go on with their mids.
#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

#[path = "../../kafka/tests/support/mod.rs"]
mod kafka;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use kafka::Brokers;
use serde_json::Value;
use support::ports::free_address;
use support::{Exporter, Lab, asking, eventually};
use weir_flow_record::Address;

const PARTITIONS: u64 = 4;
/// A takeover's limit, from the kill to the first judgement of the new owner.
const TAKEOVER: Duration = Duration::from_secs(10);

/// A process, gone when it is dropped.
struct Member {
    child: Child,
    http: SocketAddr,
}

impl Member {
    fn start(folder: &Path, name: &str, role: &str, config: &str) -> Self {
        let http = free_address();
        let path = folder.join(format!("{name}.toml"));
        let events = folder.join(format!("{name}.ndjson"));
        let text = config
            .replace("NAME", name)
            .replace("HTTP", &http.to_string())
            .replace("EVENTS", events.to_str().unwrap());
        std::fs::write(&path, text).unwrap();
        let log = folder.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--role", role, "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut member = Self { child, http };
        let serves = eventually(Duration::from_secs(30), || {
            assert!(member.child.try_wait().unwrap().is_none(), "{name} ended");
            member.get("/healthz").is_some()
        });
        assert!(serves, "{name} does not serve");
        member
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }

    /// The sum of a metric over its labels.
    fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").unwrap_or_default();
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.sum::<f64>() as u64
    }

    /// Partitions that it owns and judges.
    fn judged(&self) -> u64 {
        self.metric("weir_cluster_judged_partitions")
    }

    /// SIGSTOP or SIGCONT: a process that is stopped for a while knows nothing of it.
    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    fn kill(mut self) -> Instant {
        self.child.kill().unwrap();
        let killed = Instant::now();
        self.child.wait().unwrap();
        killed
    }

    /// The mids of open attacks, by attack.
    fn mids(&self) -> BTreeMap<String, u64> {
        let text = self.get("/api/v1/attacks").unwrap_or_default();
        let attacks: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        let open = attacks
            .iter()
            .filter(|attack| attack["event"] != "attack-end");
        let of = |attack: &Value| {
            let id = attack["id"].as_str().unwrap().to_owned();
            Some((id, attack["mitigation"]["mid"].as_u64()?))
        };
        open.filter_map(of).collect()
    }

    /// The mids that the upstream reports on, whatever the partition.
    fn reported(&self) -> Vec<u64> {
        let text = self.get("/api/v1/mitigations").unwrap_or_default();
        let reports: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        let mids = reports.iter().filter_map(|report| report["mid"].as_u64());
        mids.collect()
    }
}

/// What two detectors have together: mids by attack, and those that the upstream reports on.
fn mitigations(detectors: &[&Member]) -> (BTreeMap<String, u64>, Vec<u64>) {
    let mids = detectors.iter().flat_map(|one| one.mids()).collect();
    let mut reported: Vec<u64> = detectors.iter().flat_map(|one| one.reported()).collect();
    reported.sort_unstable();
    (mids, reported)
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Eight zones of 32 addresses. One machine does the work of all: windows of time are as short as can be.
fn configuration(brokers: &str, dots: Option<SocketAddr>, collector: Option<SocketAddr>) -> String {
    let collector = collector.unwrap_or_else(free_address);
    let mut text = format!(
        r#"state_dir = "state-NAME"
[log]
format = "text"
[http]
listen = "HTTP"
[collector]
netflow = ["{collector}"]
sflow = []
shards = 1
receive_buffer = "1MiB"
[aggregation]
settle = "1s"
[events]
file = "EVENTS"
[kafka]
brokers = [{brokers}]
replication = 3
[cluster]
name = "NAME"
partitions = {PARTITIONS}
[[threshold]]
scope = "host"
direction = "in"
vector = "total"
packets_per_second = "100k"
for = "1s"
clear_for = "3s"
"#
    );
    for zone in 0..8 {
        text += &format!(
            "[[zone]]\nname = \"zone-{zone}\"\nprefixes = [\"203.0.113.{}/27\"]\n",
            zone * 32
        );
        if dots.is_some() {
            text += "policy = \"ask\"\n";
        }
    }
    if let Some(dots) = dots {
        text += &asking(dots);
    }
    text
}

/// Traffic of two exporters, each of which tells its collectors of half of it, ten times a second.
struct Traffic {
    /// Packets a second to each attacked host.
    attacked: Arc<Mutex<BTreeMap<Address, u64>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    sent: Arc<AtomicU64>,
}

impl Traffic {
    fn start(first: &[SocketAddr], second: &[SocketAddr]) -> Self {
        let exporters = |to: &[SocketAddr]| -> Vec<Exporter> {
            let mut exporters: Vec<Exporter> = to.iter().copied().map(Exporter::new).collect();
            exporters.iter_mut().for_each(Exporter::send_templates);
            exporters
        };
        let mut exporters: Vec<Exporter> = [exporters(first), exporters(second)]
            .into_iter()
            .flatten()
            .collect();
        let attacked: Arc<Mutex<BTreeMap<Address, u64>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let (attacked, stop, sent) =
                (Arc::clone(&attacked), Arc::clone(&stop), Arc::clone(&sent));
            move || {
                let quiet: Vec<Address> = (0..8).map(|zone| host(zone, 9)).collect();
                let mut round = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    // In the middle of a tenth: what is told of it is all in one second, for all.
                    wait_for_tenth();
                    let attacked = attacked.lock().unwrap().clone();
                    for exporter in &mut exporters {
                        if round.is_multiple_of(50) {
                            exporter.send_templates();
                        }
                        exporter.send_packets(&quiet, 10);
                        for (target, packets) in &attacked {
                            exporter.send_packets(&[*target], packets / 20);
                        }
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    round += 1;
                }
            }
        });
        Self {
            attacked,
            stop,
            thread: Some(thread),
            sent,
        }
    }

    /// From the beginning of the next second on.
    fn attack(&self, hosts: &[Address], packets: u64) {
        let now = since_epoch();
        let rest = 1_000_000_000 - now.subsec_nanos() % 1_000_000_000;
        std::thread::sleep(Duration::from_nanos(rest.into()) + Duration::from_millis(110));
        let mut attacked = self.attacked.lock().unwrap();
        for host in hosts {
            if packets == 0 {
                attacked.remove(host);
            } else {
                attacked.insert(*host, packets);
            }
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
}

fn wait_for_tenth() {
    let tenth = 100_000_000;
    let place = since_epoch().subsec_nanos() % tenth;
    let rest = (tenth + 105_000_000 - place) % tenth;
    std::thread::sleep(Duration::from_nanos(rest.max(1_000_000).into()));
}

fn host(zone: u8, number: u8) -> Address {
    Address::from_v4([203, 0, 113, zone * 32 + number])
}

/// All events of some members, in the order of their times.
fn events(folder: &Path, members: &[&str]) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    for member in members {
        let path: PathBuf = folder.join(format!("{member}.ndjson"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        events.extend(text.lines().map(|line| serde_json::from_str(line).unwrap()));
    }
    events.sort_by_key(|event| event["time"].as_str().unwrap().to_owned());
    events
}

/// Of each attack, how often it was told to begin and to end.
fn told(events: &[Value]) -> BTreeMap<String, (u32, u32)> {
    let mut told: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for event in events {
        let (starts, ends) = told
            .entry(event["id"].as_str().unwrap().to_owned())
            .or_default();
        match event["event"].as_str().unwrap() {
            "attack-start" => *starts += 1,
            "attack-end" => *ends += 1,
            _ => {}
        }
    }
    told
}

fn targets(events: &[Value], kind: &str) -> BTreeSet<String> {
    let events = events.iter().filter(|event| event["event"] == kind);
    events
        .map(|event| event["target"].as_str().unwrap().to_owned())
        .collect()
}

/// Seconds between two times of the same day's events.
fn apart(a: &Value, b: &Value) -> f64 {
    let at =
        |value: &Value| -> weir_flow_record::Timestamp { value.as_str().unwrap().parse().unwrap() };
    (at(a).nanos() - at(b).nanos()) as f64 / 1e9
}

/// The same attacks from one process and from the cluster.
fn compare(alone: &[Value], cluster: &[Value]) {
    for kind in ["attack-start", "attack-end"] {
        let of = |events: &[Value]| -> BTreeMap<String, Value> {
            let events = events.iter().filter(|event| event["event"] == kind);
            events
                .map(|event| (event["id"].as_str().unwrap().to_owned(), event.clone()))
                .collect()
        };
        let (alone, cluster) = (of(alone), of(cluster));
        let names: Vec<&String> = alone.keys().collect();
        assert_eq!(names, cluster.keys().collect::<Vec<_>>(), "{kind}");
        assert_eq!(names.len(), 3, "{kind}");
        for (id, one) in &alone {
            let other = &cluster[id];
            for key in [
                "target",
                "zone",
                "direction",
                "start_time",
                "end_time",
                "severity",
            ] {
                assert_eq!(one[key], other[key], "{key} of {id}");
            }
            assert_eq!(
                one["vectors"][0]["name"], other["vectors"][0]["name"],
                "{id}"
            );
            if kind == "attack-end" {
                // What each collector has found of its half is told as one; how much that is depends on when it was asked.
                let [here, there] = [one, other].map(|event| &event["top_talkers"][0]);
                assert_eq!(here["source_prefix"], there["source_prefix"], "{other}");
                let rate = there["packets_per_second"].as_u64().unwrap();
                let share = there["share"].as_f64().unwrap();
                assert!((20_000..440_000).contains(&rate), "{rate} packets/s");
                assert!((share - 1.0).abs() < 0.01, "{share} of all packets");
            }
            let later = apart(&other["detected_at"], &one["detected_at"]);
            println!(
                "{kind} of {}: {later:+.3} s later over Kafka",
                one["target"]
            );
            assert!(later.abs() <= 0.5, "{later} s apart");
        }
    }
}

struct Cluster {
    lab: Lab,
    brokers: Brokers,
    bootstrap: String,
}

/// What members said last, where the test failed.
impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in std::fs::read_dir(self.lab.folder.path()).unwrap().flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "log") {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                println!("--- {}", entry.path().display());
                for line in &lines[lines.len().saturating_sub(60)..] {
                    println!("{line}");
                }
            }
        }
    }
}

impl Cluster {
    fn detector(&self, name: &str) -> Member {
        let config = configuration(&self.bootstrap, Some(self.lab.dots), None);
        Member::start(self.lab.folder.path(), name, "detect", &config)
    }

    fn collector(&self, name: &str, listen: SocketAddr) -> Member {
        let config = configuration(&self.bootstrap, None, Some(listen));
        Member::start(self.lab.folder.path(), name, "collect", &config)
    }
}

fn cluster() -> Option<Cluster> {
    let brokers = Brokers::start(3)?;
    let lab = Lab::new();
    let addresses = brokers.bootstrap.split(',');
    let addresses: Vec<String> = addresses.map(|address| format!("\"{address}\"")).collect();
    Some(Cluster {
        lab,
        bootstrap: addresses.join(", "),
        brokers,
    })
}

/// What a process that does not start says, and with which status it ends.
fn refused(folder: &Path, role: &str, config: &str) -> (Option<i32>, String) {
    let path = folder.join("refused.toml");
    let text = config.replace("NAME", "refused");
    let text = text.replace("HTTP", "127.0.0.1:0");
    std::fs::write(&path, text.replace("EVENTS", "refused.ndjson")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "--role", role, "--config"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn a_role_without_kafka_is_a_mistake_in_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for role in ["collect", "detect"] {
        let (status, said) = refused(folder.path(), role, &configuration("", None, None));
        assert_eq!(status, Some(78), "{said}");
        assert!(
            said.contains(&format!("--role {role} needs `brokers`")),
            "{said}"
        );
    }
}

#[test]
fn a_cluster_tells_what_one_process_tells_and_survives_whoever_is_killed() {
    let Some(cluster) = cluster() else { return };
    let folder = cluster.lab.folder.path().to_owned();
    let begun = Instant::now();
    let step = |what: &str| println!("[{:6.1} s] {what}", begun.elapsed().as_secs_f64());
    let listen = [free_address(), free_address(), free_address()];
    let alone = configuration(&cluster.bootstrap, None, Some(listen[0]));
    let alone = Member::start(&folder, "alone", "all", &alone);
    let first = cluster.detector("detector-1");
    let second = cluster.detector("detector-2");
    let [one, two] = [listen[1], listen[2]];
    let collectors = [
        cluster.collector("collector-1", one),
        cluster.collector("collector-2", two),
    ];
    let traffic = Traffic::start(&[listen[0], one], &[listen[0], two]);
    let all = eventually(Duration::from_secs(40), || {
        let (a, b) = (first.judged(), second.judged());
        a + b == PARTITIONS && a.abs_diff(b) == 0
    });
    assert!(
        all,
        "partitions: {} and {}",
        first.judged(),
        second.judged()
    );
    step("two detectors share the partitions evenly");

    // Parity: three attacks come and go.
    let hosts = [host(0, 1), host(3, 1), host(5, 1)];
    traffic.attack(&hosts, 400_000);
    std::thread::sleep(Duration::from_secs(5));
    traffic.attack(&hosts, 0);
    let members = ["detector-1", "detector-2"];
    let over = |members: &[&str], ends: usize| {
        targets(&events(&folder, members), "attack-end").len() == ends
    };
    assert!(
        eventually(Duration::from_secs(15), || over(&["alone"], 3)),
        "alone"
    );
    assert!(
        eventually(Duration::from_secs(15), || over(&members, 3)),
        "cluster"
    );
    compare(&events(&folder, &["alone"]), &events(&folder, &members));
    step("one process and the cluster told the same attacks");
    drop(alone);
    let before = told(&events(&folder, &members));

    // Attacks that go on, with mitigations that stand.
    let hosts = [
        host(0, 2),
        host(1, 2),
        host(2, 2),
        host(3, 2),
        host(6, 2),
        host(7, 2),
    ];
    traffic.attack(&hosts, 800_000);
    let asked = eventually(Duration::from_secs(20), || {
        let (mids, reported) = mitigations(&[&first, &second]);
        let active = cluster.lab.ledger.lock().unwrap().active.len();
        [mids.len(), reported.len(), active] == [hosts.len(); 3]
    });
    assert!(asked, "{:?}", mitigations(&[&first, &second]));
    let stood = mitigations(&[&first, &second]);
    let shares = (first.mids().len(), second.mids().len());
    step(&format!(
        "six mitigations stand, {} and {} by detector",
        shares.0, shares.1
    ));

    cluster.brokers.kill(1);
    let killed = Instant::now();
    let late =
        || second.metric("weir_cluster_lag_seconds") + first.metric("weir_cluster_lag_seconds");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(
        eventually(Duration::from_secs(30), || late() == 0),
        "lag after a broker's death"
    );
    step(&format!(
        "a broker was killed: no lag after {:.1} s",
        killed.elapsed().as_secs_f64()
    ));

    let before_kill = second.judged();
    let killed = first.kill();
    let taken = eventually(Duration::from_secs(30), || second.judged() == PARTITIONS);
    let took = killed.elapsed();
    assert!(taken, "{} of {PARTITIONS} partitions", second.judged());
    step(&format!(
        "a detector was killed: all its partitions ({}) judged by the other after {:.1} s",
        PARTITIONS - before_kill,
        took.as_secs_f64()
    ));
    assert!(took <= TAKEOVER, "{took:?}");
    let same = eventually(Duration::from_secs(15), || mitigations(&[&second]) == stood);
    assert!(same, "{:?} instead of {stood:?}", mitigations(&[&second]));
    step("the other detector carries all mitigations on with their mids");

    let [left, right] = collectors;
    right.kill();
    std::thread::sleep(Duration::from_secs(5));
    let open = told(&events(&folder, &members));
    let ended = open
        .iter()
        .filter(|(id, told)| !before.contains_key(*id) && told.1 > 0);
    assert_eq!(ended.count(), 0, "half of the traffic is attack enough");
    let right = cluster.collector("collector-2", two);
    cluster.brokers.restart(1);
    let first = cluster.detector("detector-1");
    let shared = eventually(Duration::from_secs(30), || {
        first.judged() > 0 && first.judged() + second.judged() == PARTITIONS
    });
    assert!(shared, "{} and {}", first.judged(), second.judged());
    step("a collector was killed and all are back");
    let carried = eventually(Duration::from_secs(15), || {
        mitigations(&[&first, &second]) == stood
    });
    assert!(
        carried,
        "{:?} instead of {stood:?}",
        mitigations(&[&first, &second])
    );
    {
        let ledger = cluster.lab.ledger.lock().unwrap();
        assert_eq!(ledger.doubles, Vec::<String>::new());
        assert_eq!(ledger.active.len(), hosts.len());
    }

    // Who is stopped for longer than its session lasts owns nothing when it wakes up, and says nothing.
    first.signal(nix::sys::signal::Signal::SIGSTOP);
    let stopped = Instant::now();
    let taken = eventually(Duration::from_secs(30), || second.judged() == PARTITIONS);
    assert!(taken, "{} of {PARTITIONS} partitions", second.judged());
    step(&format!(
        "a detector was stopped: its partitions judged by the other after {:.1} s",
        stopped.elapsed().as_secs_f64()
    ));
    first.signal(nix::sys::signal::Signal::SIGCONT);
    let back = eventually(Duration::from_secs(30), || {
        let (a, b) = (first.judged(), second.judged());
        a > 0 && a + b == PARTITIONS
    });
    assert!(back, "{} and {}", first.judged(), second.judged());
    step("it woke up, and takes its part again");

    // A reload takes nothing from anybody.
    second.signal(nix::sys::signal::Signal::SIGHUP);
    let log = || std::fs::read_to_string(folder.join("detector-2.log")).unwrap();
    let reloaded = eventually(Duration::from_secs(10), || {
        log().contains("configuration reloaded")
    });
    assert!(reloaded, "the detector does not reload");
    let again = eventually(Duration::from_secs(20), || {
        let (a, b) = (first.judged(), second.judged());
        a + b == PARTITIONS && a.abs_diff(b) == 0
    });
    assert!(again, "{} and {}", first.judged(), second.judged());
    step("a detector took in its configuration anew");

    // That there is no traffic at all is told, too.
    let sent = traffic.sent.load(Ordering::Relaxed);
    drop(traffic);
    let over = eventually(Duration::from_secs(20), || {
        let told = told(&events(&folder, &members));
        let new = told.iter().filter(|(id, _)| !before.contains_key(*id));
        new.filter(|(_, told)| told.1 > 0).count() == hosts.len()
    });
    assert!(over, "{:?}", told(&events(&folder, &members)));
    assert!(eventually(Duration::from_secs(15), || {
        cluster.lab.ledger.lock().unwrap().active.is_empty()
    }));
    let told = told(&events(&folder, &members));
    assert!(told.values().all(|told| *told == (1, 1)), "{told:?}");
    assert_eq!(told.len(), before.len() + hosts.len());
    let ledger = cluster.lab.ledger.lock().unwrap();
    assert_eq!(ledger.doubles, Vec::<String>::new());
    step(&format!(
        "each of {} attacks began and ended once",
        told.len()
    ));
    let drops = left.metric("weir_collector_socket_drops_total")
        + right.metric("weir_collector_socket_drops_total");
    assert_eq!(drops, 0);
    println!("{sent} rounds of export datagrams");

    // State lies by partition: another number of them is refused.
    let wrong = configuration(&cluster.bootstrap, None, None);
    let wrong = wrong.replace(&format!("partitions = {PARTITIONS}"), "partitions = 5");
    let (status, said) = refused(&folder, "detect", &wrong);
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("4 partitions where 5 are configured"),
        "{said}"
    );
}
