//! The client against Debian's `coap-server-openssl`: over UDP and TCP, by certificate and by pre-shared key. It is no DOTS
//! server, but it keeps what is put into it and gives it back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::net::{RealClient, is_up, upstream_config, upstream_of};
use weir_dots_export::{ClientNotice, Transport, UpstreamConfig};
use weir_dtls::lab::{LabNames, write_keys};

const SERVER: &str = "coap-server-openssl";
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
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port() & !1;
        drop(free);
        let child = Command::new(SERVER)
            .args(["-A", "127.0.0.1", "-p", &port.to_string(), "-d", "20"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let secure = SocketAddr::from(([127, 0, 0, 1], port + 1));
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
    write_keys(keys, &LabNames::default()).unwrap();
    let pair = keys.join("server.all.pem");
    let joined = ["server.pem", "server.key"]
        .map(|file| fs::read_to_string(keys.join(file)).unwrap())
        .concat();
    fs::write(&pair, joined).unwrap();
    let hex: String = KEY.bytes().map(|octet| format!("{octet:02x}")).collect();
    fs::write(keys.join("psk"), hex).unwrap();

    let ca = keys.join("ca.pem");
    let certified = Running::start(&["-c", pair.to_str().unwrap(), "-C", ca.to_str().unwrap()]);
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
