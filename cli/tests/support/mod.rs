//! A daemon as a process, an exporter, and a DOTS server whose mitigator keeps a ledger.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "shared by several test binaries, each of which uses a part"
)]

pub mod ports;
mod serving;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use serving::serving;
use weir_dots_proto::body::{MitigationStatus, Scope};
use weir_dots_server::{
    BoundServer, ClientConfig, DotsServerConfig, MitigationId, Mitigator, MitigatorReport,
};
use weir_dtls::lab::{LabNames, write_keys};
use weir_flow_record::{Address, ExportTime, ObservationDomainId, Row};
use weir_netflow::encode::{Encoder, Format};

/// What a mitigator was told: who is filtered now, since when, and whether ever two at once for one target.
#[derive(Default)]
pub struct Ledger {
    pub active: BTreeMap<MitigationId, Vec<IpNet>>,
    pub began: Vec<(Instant, Vec<IpNet>)>,
    pub doubles: Vec<String>,
}

#[derive(Clone, Default)]
pub struct LedgerMitigator {
    pub ledger: Arc<Mutex<Ledger>>,
    fresh: Vec<MitigationId>,
}

impl Mitigator for LedgerMitigator {
    fn apply(&mut self, id: MitigationId, scope: &Scope) {
        let mut ledger = self.ledger.lock().unwrap();
        let target = scope.target_prefix.clone();
        for (other, prefixes) in &ledger.active {
            if prefixes
                .iter()
                .any(|a| target.iter().any(|b| a.contains(b) || b.contains(a)))
            {
                let text = format!("{id:?} beside {other:?} for {target:?}");
                eprintln!("double: {text}");
                ledger.doubles.push(text);
                break;
            }
        }
        ledger.began.push((Instant::now(), target.clone()));
        ledger.active.insert(id, target);
        self.fresh.push(id);
    }

    fn withdraw(&mut self, id: MitigationId) {
        self.ledger.lock().unwrap().active.remove(&id);
    }

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        Some(MitigatorReport {
            id: self.fresh.pop()?,
            status: MitigationStatus::AttackMitigationInProgress,
            bytes_dropped: 0,
            packets_dropped: 0,
            bytes_per_second_dropped: 0,
            packets_per_second_dropped: 0,
        })
    }
}

/// Server, ledger, and a configuration for daemons.
pub struct Lab {
    pub folder: tempfile::TempDir,
    pub config: PathBuf,
    pub collector: SocketAddr,
    pub dots: SocketAddr,
    pub ledger: Arc<Mutex<Ledger>>,
    _runtime: tokio::runtime::Runtime,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl Lab {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_keys(folder.path(), &LabNames::default()).unwrap();
        let ledger = LedgerMitigator::default();
        let kept = Arc::clone(&ledger.ledger);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut settings = DotsServerConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ca: folder.path().join("ca.pem"),
            certificate: folder.path().join("server.pem"),
            key: folder.path().join("server.key"),
            clients: vec![ClientConfig {
                name: "weir-lab".to_owned(),
                prefixes: vec![
                    "203.0.113.0/24".parse().unwrap(),
                    "2001:db8:a::/48".parse().unwrap(),
                ],
                ..ClientConfig::default()
            }],
            ..DotsServerConfig::default()
        }
        .check()
        .unwrap();
        // What is withdrawn is gone at once: the ledger shows what is held.
        settings.policy.terminating = Duration::ZERO;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let dots = {
            let _guard = runtime.enter();
            let server = BoundServer::bind(&settings, Box::new(ledger)).unwrap();
            let address = server.addresses()[0];
            runtime.spawn(server.run(stopped));
            address
        };
        let collector = ports::free_address();
        let config = folder.path().join("weir.toml");
        std::fs::write(&config, configuration(collector, dots)).unwrap();
        Self {
            folder,
            config,
            collector,
            dots,
            ledger: kept,
            _runtime: runtime,
            _stop: stop,
        }
    }
}

fn configuration(collector: SocketAddr, dots: SocketAddr) -> String {
    format!(
        r#"state_dir = "state"
[log]
format = "text"
[http]
listen = "127.0.0.1:0"
[collector]
netflow = ["{collector}"]
sflow = []
receive_buffer = "1MiB"
[aggregation]
settle = "1s"
[[threshold]]
scope = "host"
direction = "in"
vector = "total"
packets_per_second = "100k"
for = "1s"
clear_for = "3s"
[[zone]]
name = "lab"
prefixes = ["203.0.113.0/24", "2001:db8:a::/48"]
policy = "ask"
{}"#,
        asking(dots)
    )
}

/// The tables of an upstream, and of the policy `ask`, by which it is asked for help.
pub fn asking(server: SocketAddr) -> String {
    format!(
        r#"[[upstream]]
name = "provider"
server = "{server}"
ca = "ca.pem"
certificate = "client.pem"
key = "client.key"
[[policy]]
name = "ask"
upstreams = ["provider"]
minimum_severity = "low"
"#
    )
}

/// A daemon that is killed when it is dropped.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts a daemon and waits until it serves.
    pub fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = serving(&mut child, |_| {});
        // The pipe must be read on, or the daemon would wait for it.
        std::thread::spawn(move || for _ in lines.by_ref() {});
        Self { child }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// SIGHUP.
    pub fn reload(&self) {
        self.signal(nix::sys::signal::Signal::SIGHUP);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; the exit status.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An exporter that tells of all packets (sampling rate 1), at most 100 ms old.
pub struct Exporter {
    socket: UdpSocket,
    encoder: Encoder,
}

impl Exporter {
    pub fn new(collector: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(collector).unwrap();
        Self {
            socket,
            encoder: Encoder::new(Format::Ipfix, ObservationDomainId(1)).with_sampling_rate(1),
        }
    }

    /// Sends the templates, once: later daemons must remember them.
    pub fn send_templates(&mut self) {
        let mut out = Vec::new();
        self.encoder.encode_templates(export_time(), &mut out);
        self.send(out);
    }

    /// Tells of `packets` to each target within the last 100 ms.
    pub fn send_packets(&mut self, targets: &[Address], packets: u64) {
        let now = export_time().nanos();
        let rows: Vec<Row> = targets
            .iter()
            .map(|target| Row {
                source_address: Address::from_v4([198, 51, 100, 7]),
                destination_address: *target,
                source_port: 4444,
                destination_port: 80,
                protocol: 17,
                packets,
                octets: packets * 100,
                flow_start: now - 100_000_000,
                flow_end: now,
                sampling_rate: 1,
                ..Row::default()
            })
            .collect();
        let mut out = Vec::new();
        self.encoder
            .encode_flows(ExportTime::from_nanos(now), &rows, &mut out);
        self.send(out);
    }

    fn send(&self, datagrams: Vec<Vec<u8>>) {
        for datagram in datagrams {
            // While no daemon listens, the kernel answers "refused": such a datagram is lost.
            let _ = self.socket.send(&datagram);
        }
    }
}

fn export_time() -> ExportTime {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    ExportTime::from_nanos(i64::try_from(since.as_nanos()).unwrap())
}

/// A figure of `/metrics`, by the admin socket.
pub fn metric(lab: &Lab, name: &str) -> f64 {
    let socket = lab.folder.path().join("state/weir.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    let value = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.parse().unwrap()
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

/// A small seeded generator.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}
