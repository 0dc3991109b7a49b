//! A web server as the back end, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backend;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend::{report, scope, start};
use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use weir_dots_proto::body::MitigationStatus;
use weir_dots_server::MitigationId;
use weir_dtls::lab::{LabNames, write_keys};

/// Headers in lower case, and the body.
type Heard = (String, Value);

/// How the web server answers a body: with a status line and a body, or not at all.
type Answers = Arc<Mutex<dyn FnMut(&Value) -> Option<(String, String)> + Send>>;

/// A web server that lasts as long as the test.
fn serve(
    tls: Option<Arc<ServerConfig>>,
    answers: impl FnMut(&Value) -> Option<(String, String)> + Send + 'static,
) -> (SocketAddr, Receiver<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (hear, heard) = channel();
    let answers: Answers = Arc::new(Mutex::new(answers));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, hear, answers) = (stream.unwrap(), hear.clone(), Arc::clone(&answers));
            let tls = tls.clone();
            std::thread::spawn(move || {
                let exchanged = match tls {
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        exchange(StreamOwned::new(connection, stream), &answers)
                    }
                    None => exchange(stream, &answers),
                };
                if let Some(exchanged) = exchanged {
                    let _ = hear.send(exchanged);
                }
            });
        }
    });
    (address, heard)
}

fn exchange(stream: impl Read + Write, answers: &Answers) -> Option<Heard> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.trim().parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let answer = answers.lock().unwrap()(&body);
    match answer {
        Some((status, text)) => {
            let length = text.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{text}");
            stream.get_mut().write_all(answer.as_bytes()).ok()?;
            stream.get_mut().flush().ok()?;
        }
        None => std::thread::sleep(Duration::from_secs(60)),
    }
    Some((head, body))
}

fn ok(text: &str) -> Option<(String, String)> {
    Some(("200 OK".to_owned(), text.to_owned()))
}

fn next(heard: &Receiver<Heard>) -> Heard {
    heard.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn target() -> weir_dots_proto::body::Scope {
    scope(&json!({"target-prefix": ["192.0.2.1/32"], "target-protocol": [17]}))
}

#[test]
fn messages_are_posted_and_answers_are_reports() {
    let mut asked = 0;
    let (address, heard) = serve(None, move |body| {
        if body["action"] != "report" {
            return ok("ok");
        }
        asked += 1;
        let report = json!({"id": 1, "status": 2, "bytes-dropped": asked * 1000,
            "pkts-dropped": asked * 10, "bps-dropped": 777, "pps-dropped": 7});
        ok(&json!({"reports": [report]}).to_string())
    });
    let mut mitigator = start(&format!(
        "[[mitigator]]\nkind = 'webhook'\nurl = 'http://{address}/dots?x=1'\nreport_interval = '100ms'"
    ));
    mitigator.apply(MitigationId(1), &target());
    let (head, body) = next(&heard);
    assert!(head.starts_with("post /dots?x=1 http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
    assert!(
        head.contains("content-type: application/json\r\n"),
        "{head}"
    );
    assert_eq!(body["action"], "reset");
    let (_, body) = next(&heard);
    assert_eq!(body["action"], "start");
    let scope = json!({"target-prefix": ["192.0.2.1/32"], "target-protocol": [17]});
    assert_eq!(body["mitigations"], json!([{"id": 1, "scope": scope}]));
    let measured = report(mitigator.as_mut(), "counters", |report| {
        report.packets_dropped >= 20
    });
    assert_eq!(measured.bytes_per_second_dropped, 777);
    assert_eq!(
        measured.status,
        MitigationStatus::AttackSuccessfullyMitigated
    );
    mitigator.withdraw(MitigationId(1));
    let stop = std::iter::repeat_with(|| next(&heard).1).find(|body| body["action"] != "report");
    assert_eq!(stop.unwrap()["action"], "stop");
}

#[test]
fn what_fails_for_now_is_repeated_and_what_is_refused_is_said() {
    let mut starts = 0;
    let (address, heard) = serve(None, move |body| {
        let target = &body["mitigations"][0]["scope"]["target-prefix"][0];
        if target == "192.0.2.66/32" {
            return Some(("422 No".to_owned(), "not mine".to_owned()));
        }
        starts += usize::from(body["action"] == "start");
        if starts == 1 {
            return Some(("503 Busy".to_owned(), String::new()));
        }
        ok("")
    });
    let mut mitigator = start(&format!(
        "[[mitigator]]\nkind = 'webhook'\nurl = 'http://{address}'\nreport_interval = '0s'"
    ));
    mitigator.apply(MitigationId(1), &target());
    let begun = report(mitigator.as_mut(), "the second try", |_| true);
    assert_eq!(begun.status, MitigationStatus::AttackMitigationInProgress);
    let messages = [next(&heard).1, next(&heard).1, next(&heard).1];
    assert_eq!(messages[0]["action"], "reset");
    // The same message, and recognisable as such.
    assert_eq!(messages[1], messages[2]);
    let other = scope(&json!({"target-prefix": ["192.0.2.66/32"]}));
    mitigator.apply(MitigationId(2), &other);
    let refused = report(mitigator.as_mut(), "a refusal", |_| true);
    assert_eq!(refused.id, MitigationId(2));
    assert_eq!(refused.status, MitigationStatus::AttackExceededCapability);
}

#[test]
fn a_server_that_never_answers_is_given_up_for_now() {
    let (address, _heard) = serve(None, |_| None);
    let mut mitigator = start(&format!(
        "[[mitigator]]\nkind = 'webhook'\nurl = 'http://{address}'\ntime_limit = '100ms'"
    ));
    mitigator.apply(MitigationId(1), &target());
    let unable = report(mitigator.as_mut(), "three tries", |_| true);
    assert_eq!(unable.status, MitigationStatus::AttackExceededCapability);
}

/// The server's side of TLS, for clients of the lab CA.
fn tls(keys: &Path) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(keys.join("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let chain = CertificateDer::pem_file_iter(keys.join("server.pem"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_file(keys.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

#[test]
fn https_proves_both_sides_and_carries_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let (keys, others) = (folder.path().join("keys"), folder.path().join("others"));
    write_keys(&keys, &LabNames::default()).unwrap();
    write_keys(&others, &LabNames::default()).unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    let (address, heard) = serve(Some(tls(&keys)), |_| ok(""));
    let config = |ca: &Path| {
        format!(
            "[[mitigator]]\nkind = 'webhook'\nurl = 'https://localhost:{}/'\nreport_interval = '0s'\n\
             token_file = '{}'\nca = '{}'\ncertificate = '{}'\nkey = '{}'",
            address.port(),
            token.display(),
            ca.join("ca.pem").display(),
            keys.join("client.pem").display(),
            keys.join("client.key").display(),
        )
    };
    let mut mitigator = start(&config(&keys));
    mitigator.apply(MitigationId(1), &target());
    let begun = report(mitigator.as_mut(), "an answer", |_| true);
    assert_eq!(begun.status, MitigationStatus::AttackMitigationInProgress);
    let (head, _) = next(&heard);
    assert!(head.contains("authorization: bearer s3cret\r\n"), "{head}");
    drop(mitigator);
    while heard.recv_timeout(Duration::from_millis(300)).is_ok() {}

    // A server that another authority vouches for is told nothing.
    let mut mitigator = start(&config(&others));
    mitigator.apply(MitigationId(1), &target());
    let unable = report(mitigator.as_mut(), "a wrong certificate", |_| true);
    assert_eq!(unable.status, MitigationStatus::AttackExceededCapability);
    assert!(heard.try_recv().is_err());
}
