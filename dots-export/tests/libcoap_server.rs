//! The client against Debian's `coap-server-openssl`: over UDP and TCP, by certificate and by pre-shared key. It is no DOTS
//! server, but it keeps what is put into it and gives it back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../cli/tests/support/ports.rs"]
mod ports;
mod support;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ports::free_address;
use support::net::{RealClient, is_granted, is_up, upstream_config, upstream_of};
use support::{attack, event, findings};
use weir_attack_event::{EventKind, MitigationStatus};
use weir_dots_export::{ClientCommand, ClientNotice, Transport, UpstreamConfig, telemetry_body};
use weir_dots_proto::body::{self, Body, Lifetime, Mitigation, Scope};
use weir_dots_proto::{Mid, encode};
use weir_dtls::lab::{LabNames, write_keys};

const SERVER: &str = "coap-server-openssl";
const CLIENT: &str = "coap-client-openssl";
const KEY: &str = "secretPSK16bytes";
const PATIENCE: Duration = Duration::from_secs(20);

/// The server; dropped, it stops.
struct Running {
    child: Child,
    secure: SocketAddr,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        // It takes a port and, for what is secured, the next one.
        let mut plain = free_address();
        let mut secure = free_address();
        while secure.port() != plain.port() + 1 {
            (plain, secure) = (secure, free_address());
        }
        let port = plain.port().to_string();
        let child = Command::new(SERVER)
            .args(["-A", "127.0.0.1", "-p", &port, "-d", "20"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = Self { child, secure };
        let began = Instant::now();
        while TcpStream::connect(secure).is_err() {
            assert!(began.elapsed() < PATIENCE, "{SERVER} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with keys of the lab, which are put into the folder.
fn certified(keys: &Path) -> Running {
    write_keys(keys, &LabNames::default()).unwrap();
    let pair = keys.join("server.all.pem");
    let joined = ["server.pem", "server.key"]
        .map(|file| fs::read_to_string(keys.join(file)).unwrap())
        .concat();
    fs::write(&pair, joined).unwrap();
    let ca = keys.join("ca.pem");
    Running::start(&["-c", pair.to_str().unwrap(), "-C", ca.to_str().unwrap()])
}

/// Puts into the server, or gets from it, with libcoap's own client.
fn foreign(keys: &Path, server: &Running, over: &str, path: &str, body: Option<&[u8]>) -> Vec<u8> {
    let [pair, ca, file] = ["client.all.pem", "ca.pem", "body.cbor"].map(|name| keys.join(name));
    let joined = ["client.pem", "client.key"]
        .map(|file| fs::read_to_string(keys.join(file)).unwrap())
        .concat();
    fs::write(&pair, joined).unwrap();
    let mut command = Command::new(CLIENT);
    command.args(["-B", "10", "-c", pair.to_str().unwrap()]);
    command.args(["-C", ca.to_str().unwrap(), "-o", file.to_str().unwrap()]);
    let given = keys.join("given.cbor");
    if let Some(body) = body {
        fs::write(&given, body).unwrap();
        command.args(["-m", "put", "-t", "271", "-b", "1024"]);
        command.args(["-f", given.to_str().unwrap()]);
    }
    let _ = fs::remove_file(&file);
    let uri = format!("{over}://localhost:{}{path}", server.secure.port());
    let output = command.arg(uri).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::read(&file).unwrap_or_default()
}

/// What a server says of this mitigation, with others that make it larger than any datagram.
fn large_status(status: body::MitigationStatus) -> Vec<u8> {
    let of = |mid: u32| Scope {
        mid: Some(Mid(mid)),
        target_prefix: vec![format!("203.0.113.{}/32", mid % 250).parse().unwrap()],
        lifetime: Some(Lifetime::Seconds(3000)),
        status: Some(status),
        bytes_dropped: Some(4_000_000_000 + u64::from(mid)),
        bps_dropped: Some(70_000),
        pkts_dropped: Some(3_000_000),
        pps_dropped: Some(50),
        ..Scope::default()
    };
    let others = (500..560).map(of);
    let scope = std::iter::once(of(1)).chain(others).collect();
    encode(&Mitigation { scope }.to_json()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_foreign_server_holds_is_observed_and_goes_both_ways_in_blocks() {
    let installed = |program: &str| Command::new(program).arg("-h").output().is_ok();
    if !installed(SERVER) || !installed(CLIENT) {
        eprintln!("skipped: {SERVER} or {CLIENT} is not installed (Debian: libcoap3-bin)");
        return;
    }
    for (transport, over) in [(Transport::Udp, "coaps"), (Transport::Tcp, "coaps+tcp")] {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path();
        let server = certified(keys);
        let mut config = upstream_config(server.secure);
        config.transport = transport;
        let mut client = RealClient::start(&upstream_of(config, keys), 1);
        client.ask(7).await;
        let granted = client.until(PATIENCE, is_granted).await;
        assert!(granted.is_some(), "{over}: not granted");

        // Observe, and a state that comes by Block2.
        let path = "/.well-known/dots/mitigate/cuid=client-1/mid=1";
        tokio::time::sleep(Duration::from_millis(500)).await;
        let changed = large_status(body::MitigationStatus::AttackSuccessfullyMitigated);
        assert!(changed.len() > 2_000);
        foreign(keys, &server, over, path, Some(&changed));
        let told = |notice: &ClientNotice| match notice {
            ClientNotice::Status(report) => {
                report.mid == 1 && report.status == MitigationStatus::AttackSuccessfullyMitigated
            }
            _ => false,
        };
        let status = client.until(PATIENCE, told).await;
        assert!(status.is_some(), "{over}: no notification");

        // Telemetry that is larger than a datagram, by Block1, once the server has answered.
        let mut large = event(
            EventKind::AttackUpdate,
            "a",
            "203.0.113.7/32",
            1_700_000_020,
        );
        large.findings = Some(findings(&large, 60));
        let wanted = encode(&telemetry_body(&large).to_json()).unwrap();
        assert!(wanted.len() > 2_000, "{}", wanted.len());
        let is_told = |notice: &ClientNotice| matches!(notice, ClientNotice::Told { .. });
        for _ in 0..2 {
            let telemetry = ClientCommand::Telemetry {
                attack: attack("a"),
                body: Box::new(telemetry_body(&large)),
                ended: false,
            };
            client.commands.send(telemetry).await.unwrap();
            let answered = client.until(PATIENCE, is_told).await;
            assert!(answered.is_some(), "{over}: telemetry is not answered");
        }
        client.stop().await;
        let path = "/.well-known/dots/tm/cuid=client-1/tmid=1";
        let kept = foreign(keys, &server, over, path, None);
        // The mid-list comes to what was told.
        assert!(kept.len() >= wanted.len(), "{over}: {} octets", kept.len());
    }
}

/// Connects, asks for help, and waits for any answer to that.
async fn is_answered(config: UpstreamConfig, keys: &Path) {
    let settings = upstream_of(config, keys);
    let mut client = RealClient::start(&settings, 1);
    assert!(
        client.until(PATIENCE, is_up).await.is_some(),
        "{:?}: no session",
        settings.transport
    );
    client.ask(1).await;
    let answered = |notice: &ClientNotice| {
        matches!(
            notice,
            ClientNotice::Granted(_) | ClientNotice::Refused { .. }
        )
    };
    let answer = client.until(PATIENCE, answered).await;
    client.stop().await;
    assert!(answer.is_some(), "{:?}: no answer", settings.transport);
    eprintln!("{:?}: {answer:?}", settings.transport);
}

#[tokio::test]
async fn a_foreign_server_answers_over_both_transports() {
    if Command::new(SERVER).arg("-h").output().is_err() {
        eprintln!("skipped: {SERVER} is not installed (Debian: libcoap3-bin)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path();
    let certified = certified(keys);
    let hex: String = KEY.bytes().map(|octet| format!("{octet:02x}")).collect();
    fs::write(keys.join("psk"), hex).unwrap();

    let keyed = Running::start(&["-k", KEY, "-h", "weir"]);
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut config = upstream_config(certified.secure);
        config.transport = transport;
        is_answered(config, keys).await;

        let mut config = upstream_config(keyed.secure);
        config.transport = transport;
        config.psk_identity = Some("cpe-17".to_owned());
        config.psk_file = Some("psk".into());
        is_answered(config, keys).await;
    }
}
