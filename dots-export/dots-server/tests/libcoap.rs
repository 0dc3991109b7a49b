//! Debian's `coap-client-openssl` and `coap-client-gnutls` against the server, over loopback: UDP and TCP, certificates of the
//! lab CA and a pre-shared key.
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
use weir_dtls::lab::{Issue, LabNames, issue, revoke, write_keys};

const CLIENTS: [&str; 2] = ["coap-client-openssl", "coap-client-gnutls"];
/// Octets of the pre-shared key, as libcoap takes them on its command line.
const KEY: &str = "secretPSK16bytes";

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
            crl: Some(keys.join("crl.pem")),
            clients: vec![
                ClientConfig {
                    name: "weir-lab".to_owned(),
                    prefixes: vec!["203.0.113.0/24".parse().unwrap()],
                    ..ClientConfig::default()
                },
                ClientConfig {
                    name: "cpe".to_owned(),
                    prefixes: vec!["198.51.100.0/24".parse().unwrap()],
                    psk_identity: Some("cpe-17".to_owned()),
                    psk_file: Some(keys.join("cpe.psk")),
                },
            ],
            ..DotsServerConfig::default()
        };
        let revoked = keys.join("revoked.pem").exists().then_some("revoked");
        revoke(keys, revoked.as_slice(), 30).unwrap();
        let hex: String = KEY.bytes().map(|octet| format!("{octet:02x}")).collect();
        fs::write(keys.join("cpe.psk"), hex).unwrap();
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

/// The clients that are installed.
fn clients() -> Vec<&'static str> {
    let is_there = |client: &&str| {
        let found = Command::new(client).arg("--help").output().is_ok();
        if !found {
            eprintln!("skipped: {client} is not installed (Debian: libcoap3-bin)");
        }
        found
    };
    CLIENTS.into_iter().filter(is_there).collect()
}

/// How the client connects and proves itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct By {
    client: &'static str,
    scheme: &'static str,
    /// `client`, or another certificate; empty: the pre-shared key.
    certificate: &'static str,
}

impl By {
    fn datagrams(client: &'static str) -> Self {
        Self {
            client,
            scheme: "coaps",
            certificate: "client",
        }
    }

    fn is_certified(&self) -> bool {
        !self.certificate.is_empty()
    }

    /// Each transport with each proof.
    fn all(client: &'static str) -> [Self; 4] {
        let by = |scheme, certificate| Self {
            client,
            scheme,
            certificate,
        };
        [
            by("coaps", "client"),
            by("coaps+tcp", "client"),
            by("coaps", ""),
            by("coaps+tcp", ""),
        ]
    }
}

/// Runs the client with certificate, chain and key in one file, as it wants them, or with the key.
fn coap(
    server: &Running,
    by: By,
    keys: &Path,
    ca: &Path,
    arguments: &[&str],
    path: &str,
) -> Output {
    let port = server.address.port();
    let mut command = Command::new(by.client);
    command.args(["-B", "5"]);
    if by.certificate.is_empty() {
        command.args(["-u", "cpe-17", "-k", KEY]);
    } else {
        let pair = keys.join(format!("{}.all.pem", by.certificate));
        let joined = ["pem", "key"]
            .map(|ending| keys.join(format!("{}.{ending}", by.certificate)))
            .map(|file| fs::read_to_string(file).unwrap())
            .concat();
        fs::write(&pair, joined).unwrap();
        command.arg("-c").arg(pair).arg("-C").arg(ca);
    }
    let scheme = by.scheme;
    command
        .args(arguments)
        .arg(format!(
            "{scheme}://localhost:{port}/.well-known/dots/{path}"
        ))
        .output()
        .unwrap()
}

/// Asks and returns the body.
fn body(server: &Running, by: By, keys: &Path, arguments: &[&str], path: &str) -> Value {
    let file = keys.join("out.cbor");
    let _ = fs::remove_file(&file);
    let out = file.to_str().unwrap();
    let arguments = [&["-o", out], arguments].concat();
    let output = coap(server, by, keys, &keys.join("ca.pem"), &arguments, path);
    let octets = fs::read(&file).unwrap_or_else(|_| panic!("{by:?} {output:?}"));
    decode(&octets).unwrap_or_else(|error| panic!("{error}: {octets:?} {output:?}"))
}

#[test]
fn libcoap_configures_asks_and_looks() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path();
    write_keys(keys, &LabNames::default()).unwrap();
    let server = Running::start(keys);

    for by in clients().into_iter().flat_map(By::all) {
        configure_ask_and_look(&server, by, keys);
    }
}

fn configure_ask_and_look(server: &Running, by: By, keys: &Path) {
    let (mitigate, target) = match by.certificate {
        "" => (
            "mitigate/cuid=z85PF07F0YiHmas-fJkqRg/mid=1",
            "198.51.100.9/32",
        ),
        _ => (
            "mitigate/cuid=dz6pHjaADkaFTbjr0JGBpw/mid=1",
            "203.0.113.7/32",
        ),
    };
    let config = body(server, by, keys, &["-m", "get"], "config");
    let interval =
        &config["ietf-dots-signal-channel:signal-config"]["idle-config"]["heartbeat-interval"];
    assert_eq!(interval["current-value"], 30);

    let request = json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-prefix": [target], "target-protocol": [17], "lifetime": 3600}
    ]}});
    let file = keys.join("request.cbor");
    fs::write(&file, encode(&request).unwrap()).unwrap();
    let put = ["-m", "put", "-t", "271", "-f", file.to_str().unwrap()];
    let granted = body(server, by, keys, &put, mitigate);
    assert_eq!(
        granted["ietf-dots-signal-channel:mitigation-scope"]["scope"],
        json!([{"mid": 1, "lifetime": 3600}])
    );

    // Another session of the same client, Non-confirmable.
    let stands = body(server, by, keys, &["-N", "-m", "get"], mitigate);
    let scope = &stands["ietf-dots-signal-channel:mitigation-scope"]["scope"][0];
    assert_eq!(scope["target-prefix"], json!([target]));
    assert_eq!(scope["status"], "attack-mitigation-in-progress");
    assert_eq!(scope["pkts-dropped"], "0");

    // A target of another domain, and a resource that is none.
    let foreign = serde_json::to_string(&request)
        .unwrap()
        .replace(target, "192.0.2.7/32");
    let foreign: Value = serde_json::from_str(&foreign).unwrap();
    fs::write(&file, encode(&foreign).unwrap()).unwrap();
    let ca = keys.join("ca.pem");
    let refused = coap(server, by, keys, &ca, &put, mitigate);
    assert!(said(&refused).contains("4.00"), "{refused:?}");
    let refused = coap(server, by, keys, &ca, &["-m", "get"], "nothing");
    assert!(said(&refused).contains("4.04"), "{refused:?}");
}

#[test]
fn certificates_that_prove_nothing_are_refused() {
    let (folder, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = folder.path();
    write_keys(keys, &LabNames::default()).unwrap();
    write_keys(theirs.path(), &LabNames::default()).unwrap();
    for (file, days) in [("expired", 0), ("revoked", 30)] {
        let names = vec!["weir-lab".to_owned()];
        let file = file.to_owned();
        issue(keys, &Issue { file, names, days }).unwrap();
    }
    let server = Running::start(keys);
    // Each trusts our server. One has a certificate of its own CA.
    let ca = keys.join("ca.pem");
    for (folder, certificate) in [
        (theirs.path(), "client"),
        (keys, "expired"),
        (keys, "revoked"),
    ] {
        for by in clients()
            .into_iter()
            .flat_map(By::all)
            .filter(By::is_certified)
        {
            let by = By { certificate, ..by };
            let out = folder.join("out.cbor");
            let arguments = ["-m", "get", "-o", out.to_str().unwrap()];
            let output = coap(&server, by, folder, &ca, &arguments, "config");
            let answer = fs::read(&out).unwrap_or_default();
            assert!(answer.is_empty(), "{by:?} {answer:?} {output:?}");
        }
    }
    // The server has not suffered.
    for by in clients().into_iter().map(By::datagrams) {
        let config = body(&server, by, keys, &["-m", "get"], "config");
        assert!(config.is_object());
    }
}

#[test]
fn libcoap_observes_over_both_transports() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path();
    write_keys(keys, &LabNames::default()).unwrap();
    let server = Running::start(keys);
    let request = json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-prefix": ["203.0.113.7/32"], "lifetime": 3600}
    ]}});
    let file = keys.join("request.cbor");
    fs::write(&file, encode(&request).unwrap()).unwrap();
    let put = ["-m", "put", "-t", "271", "-f", file.to_str().unwrap()];
    let path = "mitigate/cuid=dz6pHjaADkaFTbjr0JGBpw/mid=1";
    let out = keys.join("observed.cbor");
    for by in clients()
        .into_iter()
        .flat_map(By::all)
        .filter(By::is_certified)
    {
        let _ = body(&server, by, keys, &put, path);
        let _ = fs::remove_file(&out);
        let ca = keys.join("ca.pem");
        std::thread::scope(|scope| {
            let observer = scope.spawn(|| {
                let arguments = ["-s", "3", "-o", out.to_str().unwrap()];
                coap(&server, by, keys, &ca, &arguments, path)
            });
            // Its certificate is being written by the other one, so this comes a little later.
            std::thread::sleep(std::time::Duration::from_millis(1500));
            coap(&server, by, keys, &ca, &["-m", "delete"], path);
            observer.join().unwrap();
        });
        // Each notification is written behind the one before: the state, and that it is withdrawn.
        let octets = fs::read(&out).unwrap();
        let one = encode(&body(&server, by, keys, &["-m", "get"], path)).unwrap();
        assert!(octets.len() > one.len() * 3 / 2, "{by:?}: {octets:?}");
    }
}

#[test]
fn answers_larger_than_a_datagram_arrive_whole_over_both_transports() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path();
    write_keys(keys, &LabNames::default()).unwrap();
    let server = Running::start(keys);
    let file = keys.join("request.cbor");
    let put = ["-m", "put", "-t", "271", "-f", file.to_str().unwrap()];
    for client in clients() {
        let mut expected = Vec::new();
        for mid in 0..4 {
            let targets: Vec<String> = (0..30)
                .map(|host| format!("203.0.113.{}/32", mid * 30 + host))
                .collect();
            let request = json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
                {"target-prefix": targets, "lifetime": 3600}
            ]}});
            fs::write(&file, encode(&request).unwrap()).unwrap();
            let path = format!("mitigate/cuid=dz6pHjaADkaFTbjr0JGBpw/mid={mid}");
            let _ = body(&server, By::datagrams(client), keys, &put, &path);
            expected.push(json!(targets));
        }
        for by in By::all(client).into_iter().filter(By::is_certified) {
            let path = "mitigate/cuid=dz6pHjaADkaFTbjr0JGBpw";
            let all = body(&server, by, keys, &["-m", "get"], path);
            assert!(encode(&all).unwrap().len() > 1200);
            let scopes = &all["ietf-dots-signal-channel:mitigation-scope"]["scope"];
            let targets: Vec<Value> = scopes
                .as_array()
                .unwrap()
                .iter()
                .map(|scope| scope["target-prefix"].clone())
                .collect();
            assert_eq!(targets, expected, "{by:?}");
        }
    }
}

fn said(output: &Output) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
