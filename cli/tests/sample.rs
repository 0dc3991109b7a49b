//! `weir sample` as a process: what it prints, what it says, what it leaves behind, and what it exports.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/netns.rs"]
mod netns;

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netns::{Line, inside, run};
use serde_json::Value;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// Sends `count` datagrams of 100 octets from each of some ports; they carry 128 octets of IP.
fn send(line: &Line, ports: std::ops::Range<u16>, count: usize) {
    for port in ports {
        let socket = line.among_attackers(|| UdpSocket::bind(("198.51.100.1", port)).unwrap());
        for number in 0..count {
            // Nobody listens there, which comes back as an error now and then.
            let _ = socket.send_to(&[7; 100], "203.0.113.7:9");
            if number % 100 == 99 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// A sampler as a process, once it samples; and what it said until then.
fn start(line: &Line, arguments: &[&str]) -> (Child, String, BufReader<std::process::ChildStderr>) {
    let mut child = line
        .on_host(WEIR)
        .args(["sample", "in0"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    errors.read_line(&mut said).unwrap();
    // It says how it samples, and then begins.
    std::thread::sleep(Duration::from_millis(300));
    (child, said, errors)
}

fn stop(child: &Child) {
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn records_are_printed_as_they_come() {
    let Some(line) = Line::new() else { return };
    let (mut child, said, mut errors) = start(&line, &["--one-in", "1"]);
    assert_eq!(said, "in0: XDP in the driver, 1 in 1 packets\n");
    assert!(line.has_program());
    send(&line, 5000..5003, 100);
    let mut records = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while records.len() < 300 {
        let record: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        // ARP is no record; what IPv6 says of itself is.
        if record["src_addr"] == "198.51.100.1" {
            records.push(record);
        }
    }
    for (number, record) in records.iter().enumerate() {
        assert_eq!(record["type"], "XDP");
        assert_eq!(record["src_port"], 5000 + number / 100);
        assert_eq!(
            (&record["bytes"], &record["packets"]),
            (&Value::from(128), &Value::from(1))
        );
        assert_eq!(record["sampling_rate"], 1);
        assert_eq!(record["sampler_address"], "203.0.113.7");
        assert_eq!(record["dst_addr"], "203.0.113.7");
        assert_eq!(record["ip_ttl"], 63, "behind a router");
    }
    stop(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    errors.read_to_string(&mut said).unwrap();
    assert!(said.contains(" 0 records lost"), "{said}");
    assert!(!line.has_program());
}

#[test]
fn kill_9_leaves_no_program_attached() {
    let Some(line) = Line::new() else { return };
    for mode in ["native", "generic"] {
        let (mut child, ..) = start(&line, &["--mode", mode]);
        assert!(line.has_program(), "{mode}");
        child.kill().unwrap();
        child.wait().unwrap();
        until("the program goes with its process", || !line.has_program());
    }
}

#[test]
fn another_program_on_the_interface_is_an_error() {
    let Some(line) = Line::new() else { return };
    let (mut child, ..) = start(&line, &[]);
    let output = line.on_host(WEIR).args(["sample", "in0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("weir: in0 has an XDP program already"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn without_privileges_it_says_so_in_a_sentence() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: needs root, to be nobody");
        return;
    }
    // Nobody may not enter the folder where tests are built.
    let folder = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    let copy = folder.path().join("weir");
    std::fs::copy(WEIR, &copy).unwrap();
    run(&format!("chmod 755 {}", folder.path().display())).unwrap();
    let output = Command::new(&copy)
        .args(["sample", "lo"])
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("weir: sampling lo needs root, or the capabilities CAP_BPF"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);
    let output = Command::new(WEIR)
        .args(["sample", "nowhere0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "weir: there is no interface nowhere0\n"
    );
}

#[test]
fn privileges_are_given_up() {
    let Some(line) = Line::new() else { return };
    let (mut child, ..) = start(&line, &[]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let held = status.lines().find(|line| line.starts_with(set)).unwrap();
        assert!(held.ends_with("0000000000000000"), "{held}");
    }
    stop(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!line.has_program());
}

/// Debian's nfcapd receives what we export, and nfdump's sums are the packets that were sent.
#[test]
fn nfcapd_reads_what_is_exported() {
    let Some(line) = Line::new() else { return };
    if Command::new("nfcapd").arg("-V").output().is_err() {
        assert!(std::env::var_os("WEIR_CI").is_none(), "CI has to run this");
        eprintln!("skipped: needs nfcapd and nfdump (Debian: nfdump)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut nfcapd = line
        .on_host("nfcapd")
        .args([
            "-w",
            folder.path().to_str().unwrap(),
            "-b",
            "127.0.0.1",
            "-p",
            "4739",
            "-t",
            "60",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ready = format!(
        "ip netns exec {} ss -Hlun sport = :4739 | grep -q .",
        line.host
    );
    until("nfcapd listens", || run(&ready).unwrap().status.success());
    let to = ["--export", "udp://127.0.0.1", "--exact"];
    let (mut child, _, mut errors) = start(&line, &to);
    send(&line, 6000..6010, 200);
    std::thread::sleep(Duration::from_millis(2_500));
    stop(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    errors.read_to_string(&mut said).unwrap();
    assert!(
        said.contains("to 127.0.0.1:4739, 0 could not be sent"),
        "{said}"
    );
    stop(&nfcapd);
    nfcapd.wait().unwrap();

    let output = Command::new("nfdump")
        .args([
            "-R",
            folder.path().to_str().unwrap(),
            "-q",
            "-N",
            "-o",
            "fmt:%sa,%da,%sp,%dp,%pr,%pkt,%byt",
        ])
        .args([
            "-A",
            "srcip,dstip,srcport,dstport,proto",
            "src ip 198.51.100.1 and proto udp",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut flows: Vec<Vec<String>> = text
        .lines()
        .map(|line| line.split(',').map(|cell| cell.trim().to_owned()).collect())
        .filter(|cells: &Vec<String>| cells.len() == 7)
        .collect();
    flows.sort();
    assert_eq!(flows.len(), 10, "{text}");
    for (flow, port) in flows.iter().zip(6000..) {
        let expected = [
            "198.51.100.1",
            "203.0.113.7",
            &port.to_string(),
            "9",
            "17",
            "200",
            "25600",
        ];
        assert_eq!(flow, &expected.map(str::to_owned), "{text}");
    }
}

/// Another Weir takes the export for what it is, rate included.
#[test]
fn a_collector_hears_of_the_sampling_rate() {
    let Some(line) = Line::new() else { return };
    let collector = inside(&line.host, || UdpSocket::bind("127.0.0.1:4739").unwrap());
    collector
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    let (mut child, ..) = start(
        &line,
        &["--export", "udp://127.0.0.1:4739", "--one-in", "10"],
    );
    send(&line, 7000..7010, 500);
    let mut decoder = weir_collector::Decoders::new(
        &weir_collector::DecoderLimits::default(),
        weir_flow_record::ColumnSet::NONE,
    );
    let mut batch = weir_flow_record::FlowBatch::default();
    let mut buffer = [0; 2048];
    let from = "127.0.0.1:1".parse().unwrap();
    let mut packets = 0;
    let end = Instant::now() + Duration::from_secs(4);
    while packets < 3_000
        && Instant::now() < end
        && let Ok(length) = collector.recv(&mut buffer)
    {
        batch.clear();
        let at = weir_flow_record::ReceivedAt::from_nanos(weir_collector::wall_clock());
        decoder.handle_datagram(at, from, &buffer[..length], &mut batch);
        assert!(batch.sampling_rate.iter().all(|rate| *rate == 10));
        packets += batch.packets.iter().sum::<u64>() * 10;
    }
    stop(&child);
    child.wait().unwrap();
    // 5,000 were sent; the standard deviation is 130.
    assert!((4_000..6_000).contains(&packets), "{packets}");
}
