//! The whole way with packets: a flood over veth → XDP → detector → DOTS → nftables in the router before the sampler → attack
//! over.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/netns.rs"]
mod netns;
#[path = "support/serving.rs"]
mod serving;

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use netns::{Line, run};
use serde_json::Value;
use serving::serving;
use weir_dtls::lab::{LabNames, write_keys};

/// Sampler, detector, DOTS client, DOTS server and mitigator in one daemon; all ports are the namespace's own.
fn configuration(router: &str, sampler: &str) -> String {
    format!(
        r#"
state_dir = "state"
[log]
format = "text"
[collector]
netflow = []
sflow = []
shards = 2
[[packet_sampler]]
interface = "in0"
{sampler}
[aggregation]
settle = "1s"
[[threshold]]
scope = "host"
direction = "in"
vector = "total"
packets_per_second = 2000
for = "1s"
clear_for = "3s"
[[zone]]
name = "lab"
prefixes = ["203.0.113.0/24"]
policy = "ask"
[[upstream]]
name = "provider"
server = "127.0.0.1:4646"
ca = "ca.pem"
certificate = "client.pem"
key = "client.key"
[[policy]]
name = "ask"
upstreams = ["provider"]
minimum_severity = "low"
[dots_server]
listen = ["127.0.0.1:4646"]
ca = "ca.pem"
certificate = "server.pem"
key = "server.key"
[[dots_server.client]]
name = "weir-lab"
prefixes = ["203.0.113.0/24"]
[[dots_server.mitigator]]
kind = "nftables"
namespace = "{router}"
quiet_after = "2s"
[events]
file = "events.ndjson"
"#
    )
}

struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
    /// What it logs.
    log: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    fn start(line: &Line, sampler: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_keys(folder.path(), &LabNames::default()).unwrap();
        let config = folder.path().join("weir.toml");
        std::fs::write(&config, configuration(&line.router, sampler)).unwrap();
        let mut child = line
            .on_host(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--config"])
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = serving(&mut child, |line| eprintln!("{line}"));
        let log = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                eprintln!("{line}");
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, folder, log }
    }

    /// All events so far.
    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("events.ndjson")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn event(&self, kind: &str) -> Option<Value> {
        self.events()
            .into_iter()
            .find(|event| event["event"] == kind)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// A figure of `/metrics`; 0 where it is not there.
    fn metric(&self, line: &Line, name: &str) -> u64 {
        let output = line
            .on_host("curl")
            .args(["--silent", "http://127.0.0.1:8080/metrics"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found = text.lines().find(|line| line.starts_with(name));
        found.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// About 10,000 datagrams a second until it is told to stop.
fn flood(line: &Line, stop: &AtomicBool) {
    let socket = line.among_attackers(|| UdpSocket::bind("198.51.100.1:53").unwrap());
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..20 {
            let _ = socket.send_to(&[7; 400], "203.0.113.7:4444");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for something, half a minute at most.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_flood_of_packets_is_seen_mitigated_and_over() {
    let Some(line) = Line::new() else { return };
    let daemon = Daemon::start(&line, "sample_one_in = 10");
    assert!(line.has_program());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| flood(&line, &stop));
        // Whatever fails below, the flood ends.
        let _guard = SetOnDrop(&stop);
        let start = until("the flood is an attack", || daemon.event("attack-start"));
        assert_eq!(start["target"], "203.0.113.7/32");
        assert_eq!(start["vectors"][0]["name"], "dns-amplification", "{start}");
        let ruleset = format!("ip netns exec {} nft list ruleset", line.router);
        until("the router filters", || {
            let output = run(&ruleset).unwrap();
            String::from_utf8_lossy(&output.stdout)
                .contains("203.0.113.7")
                .then_some(())
        });
        // The flood goes on, and the sampler sees nothing of it.
        until("the sampler sees no flood", || {
            let before = daemon.metric(&line, "weir_sampler_packets_total");
            std::thread::sleep(Duration::from_millis(2_200));
            let after = daemon.metric(&line, "weir_sampler_packets_total");
            (before > 1_000 && after - before < 200).then_some(())
        });
        assert!(daemon.event("attack-end").is_none(), "it is only held back");
    });
    let end = until("the attack is over", || daemon.event("attack-end"));
    assert_eq!(end["target"], "203.0.113.7/32");
    let peak = end["traffic"]["packets_per_second"]["peak"]
        .as_u64()
        .unwrap();
    assert!((3_000..20_000).contains(&peak), "{peak}");

    check_headers(&daemon, end["id"].as_str().unwrap());
    let bundle = format!(
        "state/evidence/{}/headers.pcap",
        end["id"].as_str().unwrap()
    );
    check_capture(&daemon.path(&bundle));
    let packets = daemon.metric(&line, "weir_sampler_packets_total");
    let samples = daemon.metric(&line, "weir_sampler_samples_total");
    assert_eq!(daemon.metric(&line, "weir_sampler_lost_samples_total"), 0);
    let expected = packets / 10;
    assert!(
        samples.abs_diff(expected) < expected / 5 + 50,
        "{samples} of {packets}"
    );
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    until("a reload keeps the sampler", || {
        (daemon.metric(&line, "weir_sampler_packets_total") >= packets).then_some(())
    });
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    until("the program goes with the daemon", || {
        (!line.has_program()).then_some(())
    });
}

/// An attack's sampled packet headers, as a capture.
fn check_headers(daemon: &Daemon, attack: &str) {
    let file = daemon.path("headers.pcap");
    let url = format!("http://weir/api/v1/attacks/{attack}/headers.pcap");
    let output = std::process::Command::new("curl")
        .args(["--silent", "--fail", "--unix-socket"])
        .arg(daemon.path("state/weir.sock"))
        .arg("--output")
        .arg(&file)
        .arg(url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    check_capture(&file);
}

fn check_capture(file: &Path) {
    let mut capture = weir_collector::Capture::open(file).unwrap();
    let frames: Vec<_> = std::iter::from_fn(|| capture.next_frame()).collect();
    assert!(frames.len() > 100, "{}", frames.len());
    assert!(frames.is_sorted_by_key(|frame| frame.at));
    for frame in frames {
        let ip = weir_packet::Packet::ethernet(&frame.octets).ip.unwrap();
        assert_eq!(ip.destination.to_string(), "203.0.113.7");
        assert!(frame.octets.len() <= 128);
    }
}

/// What the ring has no room for is told as coverage of the exporter that this host is.
#[test]
fn a_ring_that_overflows_lowers_coverage() {
    let Some(line) = Line::new() else { return };
    let daemon = Daemon::start(&line, "sample_one_in = 1\nring = '4KiB'");
    let socket = line.among_attackers(|| UdpSocket::bind("198.51.100.1:53").unwrap());
    for _ in 0..5_000 {
        let _ = socket.send_to(&[7; 100], "203.0.113.9:4444");
        let _ = socket.send_to(&[7; 100], "203.0.113.7:4444");
    }
    let lost = until("losses are counted", || {
        let lost = daemon.metric(&line, "weir_sampler_lost_samples_total");
        (lost > 100).then_some(lost)
    });
    until("the kernel program says so itself", || {
        let log = daemon.log.lock().unwrap();
        let said = log
            .iter()
            .any(|line| line.contains("the ring is full; samples lost:"));
        said.then_some(())
    });
    let output = line
        .on_host("curl")
        .args(["--silent", "http://127.0.0.1:8080/api/v1/exporters"])
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let exporters = answer
        .as_array()
        .or_else(|| answer["exporters"].as_array())
        .unwrap();
    let sampler = exporters
        .iter()
        .find(|exporter| exporter["protocols"][0] == "XDP")
        .unwrap();
    assert_eq!(sampler["address"], "203.0.113.7");
    assert!(
        sampler["coverage_share"].as_f64().unwrap() < 1.0,
        "{sampler}"
    );
    assert!(
        sampler["agent_drops"].as_u64().unwrap() >= lost,
        "{sampler}"
    );
}

/// Sets a flag when it goes.
struct SetOnDrop<'f>(&'f AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
