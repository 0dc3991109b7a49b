//! Debian's `coap-client-openssl` against the server, over loopback, with certificates of the lab CA.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tokio::sync::watch;
use weir_dots_proto::{decode, encode};
use weir_dots_server::{BoundServer, ClientConfig, DotsServerConfig, NoMitigator};
use weir_dtls::lab::{LabNames, write_keys};

const CLIENT: &str = "coap-client-openssl";
const MITIGATE: &str = "mitigate/cuid=dz6pHjaADkaFTbjr0JGBpw/mid=1";

/// A server on a thread of its own; dropped, it stops.
struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(keys: &Path) -> Self {
        let config = DotsServerConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ca: keys.join("ca.pem"),
            certificate: keys.join("server.pem"),
            key: keys.join("server.key"),
            clients: vec![ClientConfig {
                name: "weir-lab".to_owned(),
                prefixes: vec!["203.0.113.0/24".parse().unwrap()],
            }],
            ..DotsServerConfig::default()
        };
        let settings = config.check().unwrap();
        let (stop, stopped) = watch::channel(false);
        let (sender, addresses) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server =
                    BoundServer::bind(&settings, Box::new(NoMitigator::default())).unwrap();
                sender.send(server.addresses()).unwrap();
                server.run(stopped).await;
            });
        });
        Self {
            address: addresses.recv().unwrap()[0],
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn installed() -> bool {
    let found = Command::new(CLIENT).arg("--help").output().is_ok();
    if !found {
        eprintln!("skipped: {CLIENT} is not installed (Debian: libcoap3-bin)");
    }
    found
}

/// Runs the client with certificate, chain and key in one file, as it wants them.
fn coap(server: &Running, keys: &Path, ca: &Path, arguments: &[&str], path: &str) -> Output {
    let pair = keys.join("client.all.pem");
    let joined = [keys.join("client.pem"), keys.join("client.key")]
        .map(|file| fs::read_to_string(file).unwrap())
        .concat();
    fs::write(&pair, joined).unwrap();
    let port = server.address.port();
    Command::new(CLIENT)
        .args(["-B", "5", "-c"])
        .arg(&pair)
        .arg("-C")
        .arg(ca)
        .args(arguments)
        .arg(format!("coaps://localhost:{port}/.well-known/dots/{path}"))
        .output()
        .unwrap()
}

/// Asks and returns the body.
fn body(server: &Running, keys: &Path, arguments: &[&str], path: &str) -> Value {
    let file = keys.join("out.cbor");
    let _ = fs::remove_file(&file);
    let out = file.to_str().unwrap();
    let arguments = [&["-o", out], arguments].concat();
    let output = coap(server, keys, &keys.join("ca.pem"), &arguments, path);
    let octets = fs::read(&file).unwrap_or_else(|_| panic!("{output:?}"));
    decode(&octets).unwrap_or_else(|error| panic!("{error}: {octets:?} {output:?}"))
}

#[test]
fn libcoap_configures_asks_and_looks() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path();
    write_keys(keys, &LabNames::default()).unwrap();
    let server = Running::start(keys);

    let config = body(&server, keys, &["-m", "get"], "config");
    let interval =
        &config["ietf-dots-signal-channel:signal-config"]["idle-config"]["heartbeat-interval"];
    assert_eq!(interval["current-value"], 30);

    let request = json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-prefix": ["203.0.113.7/32"], "target-protocol": [17], "lifetime": 3600}
    ]}});
    let file = keys.join("request.cbor");
    fs::write(&file, encode(&request).unwrap()).unwrap();
    let put = ["-m", "put", "-t", "271", "-f", file.to_str().unwrap()];
    let granted = body(&server, keys, &put, MITIGATE);
    assert_eq!(
        granted["ietf-dots-signal-channel:mitigation-scope"]["scope"],
        json!([{"mid": 1, "lifetime": 3600}])
    );

    // Another session of the same client, Non-confirmable.
    let stands = body(&server, keys, &["-N", "-m", "get"], MITIGATE);
    let scope = &stands["ietf-dots-signal-channel:mitigation-scope"]["scope"][0];
    assert_eq!(scope["target-prefix"], json!(["203.0.113.7/32"]));
    assert_eq!(scope["status"], "attack-mitigation-in-progress");
    assert_eq!(scope["pkts-dropped"], "0");

    // A target of another domain, and a resource that is none.
    let foreign = serde_json::to_string(&request)
        .unwrap()
        .replace("203.0.113.7", "198.51.100.7");
    let foreign: Value = serde_json::from_str(&foreign).unwrap();
    fs::write(&file, encode(&foreign).unwrap()).unwrap();
    let ca = keys.join("ca.pem");
    let refused = coap(&server, keys, &ca, &put, MITIGATE);
    assert!(said(&refused).contains("4.00"), "{refused:?}");
    let refused = coap(&server, keys, &ca, &["-m", "get"], "nothing");
    assert!(said(&refused).contains("4.04"), "{refused:?}");
}

#[test]
fn a_certificate_of_another_ca_is_refused() {
    if !installed() {
        return;
    }
    let (folder, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_keys(folder.path(), &LabNames::default()).unwrap();
    write_keys(theirs.path(), &LabNames::default()).unwrap();
    let server = Running::start(folder.path());
    // It trusts our server; its own certificate is of its own CA.
    let ca = folder.path().join("ca.pem");
    let out = theirs.path().join("out.cbor");
    let arguments = ["-m", "get", "-o", out.to_str().unwrap()];
    let output = coap(&server, theirs.path(), &ca, &arguments, "config");
    let answer = fs::read(&out).unwrap_or_default();
    assert!(answer.is_empty(), "{answer:?} {output:?}");

    // The server has not suffered.
    let config = body(&server, folder.path(), &["-m", "get"], "config");
    assert!(config.is_object());
}

fn said(output: &Output) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
