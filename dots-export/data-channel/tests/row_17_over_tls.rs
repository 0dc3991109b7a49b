//! Row 17 of the interop cases over real TLS on the loopback interface, by a client that is not ours: raw HTTP/1.1.
#![allow(clippy::unwrap_used, reason = "helper functions of tests")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslContext, SslStream};
use support::certificates::Ca;
use support::{Reply, StepRequest, run, service};
use tokio::sync::watch;
use weir_data_channel::model::Capabilities;
use weir_data_channel::server::{BoundServer, ServerControl, ServerSettings};
use weir_data_channel::store::Limits;
use weir_data_channel::{DataHandle, TlsFiles};

/// A server in a runtime of its own.
struct Running {
    address: SocketAddr,
    control: ServerControl,
    _shutdown: watch::Sender<bool>,
    _runtime: tokio::runtime::Runtime,
}

fn start(tls: TlsFiles, change: impl FnOnce(&mut ServerSettings)) -> Running {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let mut settings = ServerSettings::new(listen, tls);
    change(&mut settings);
    let handle = DataHandle::new(service(Limits::default(), Capabilities::mandatory()), None);
    let server = runtime
        .block_on(BoundServer::bind(settings, handle))
        .unwrap();
    let (shutdown, wait) = watch::channel(false);
    let (address, control) = (server.addresses()[0], server.control());
    runtime.spawn(server.run(wait));
    Running {
        address,
        control,
        _shutdown: shutdown,
        _runtime: runtime,
    }
}

fn connect(address: SocketAddr, context: &SslContext) -> Result<SslStream<TcpStream>, String> {
    let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.set_nodelay(true).unwrap();
    let ssl = Ssl::new(context).unwrap();
    ssl.connect(stream).map_err(|error| error.to_string())
}

/// Sends octets and reads to the end of the connection.
fn exchange(address: SocketAddr, context: &SslContext, octets: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = connect(address, context)?;
    stream
        .write_all(octets)
        .map_err(|error| error.to_string())?;
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        Err(error) if reply.is_empty() => Err(error.to_string()),
        _ if reply.is_empty() => Err("nothing came".to_owned()),
        _ => Ok(reply),
    }
}

fn ask(address: SocketAddr, context: &SslContext, step: &StepRequest) -> Reply {
    let body = step.octets();
    let mut text = format!(
        "{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n",
        step.method, step.path
    );
    for (name, value) in &step.headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        if !step.headers.contains_key("content-type") {
            text += "Content-Type: application/yang-data+json\r\n";
        }
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut octets = (text + "\r\n").into_bytes();
    octets.extend(body);
    parse(&exchange(address, context, &octets).unwrap())
}

fn parse(octets: &[u8]) -> Reply {
    let end = octets
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = std::str::from_utf8(&octets[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    });
    Reply {
        status,
        headers: headers.collect(),
        body: octets[end + 4..].to_vec(),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn row_17() {
    let folder = folder();
    let ca = Ca::new(folder.path(), "ca");
    let server = start(ca.server(), |_| {});
    let contexts: BTreeMap<&str, SslContext> = ["client-a", "client-b", "stranger"]
        .into_iter()
        .map(|name| (name, ca.client(name).client().unwrap()))
        .collect();
    let steps = run("row17.json", |step| {
        ask(server.address, &contexts[step.client.as_str()], step)
    });
    assert_eq!(server.control.counts().requests, steps as u64);
}

/// What a client with these files gets for a request.
fn status_with(server: &Running, files: &TlsFiles) -> Result<u16, String> {
    let context = files.client().unwrap();
    let request = b"GET /restconf HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    exchange(server.address, &context, request).map(|reply| parse(&reply).status)
}

#[test]
fn certificates_that_are_not_right_are_refused() {
    let folder = folder();
    let ca = Ca::new(folder.path(), "ca");
    let other = Ca::new(folder.path(), "other");
    let server = start(ca.server(), |_| {});
    assert_eq!(status_with(&server, &ca.client("client-a")), Ok(200));
    // Of another CA, though with the right name; the client itself trusts the server.
    let foreign = TlsFiles {
        ca: ca.server().ca,
        ..other.client("client-a")
    };
    assert!(status_with(&server, &foreign).is_err());
    let expired = ca.certify("client-a", &["client-a"], (-10, -1));
    assert!(status_with(&server, &expired).is_err());
    let early = ca.certify("client-a", &["client-a"], (1, 10));
    assert!(status_with(&server, &early).is_err());
    // Certified, but of no client that is configured.
    assert_eq!(status_with(&server, &ca.client("nobody")), Ok(403));
    // A client without a certificate.
    let mut bare = openssl::ssl::SslContextBuilder::new(openssl::ssl::SslMethod::tls()).unwrap();
    bare.set_ca_file(ca.server().ca).unwrap();
    let request = b"GET /.well-known/host-meta HTTP/1.1\r\nHost: x\r\n\r\n";
    assert!(exchange(server.address, &bare.build(), request).is_err());
    // TLS 1.1 is none.
    let mut old = openssl::ssl::SslContextBuilder::new(openssl::ssl::SslMethod::tls()).unwrap();
    old.set_max_proto_version(Some(openssl::ssl::SslVersion::TLS1_1))
        .unwrap();
    assert!(connect(server.address, &old.build()).is_err());
    // The server may see the end of the last one after the client.
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.control.counts().handshakes_failed < 5 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.control.counts().handshakes_failed, 5);
    assert_eq!(server.control.counts().requests, 2);
}

/// Runs `openssl`, where it is installed.
fn openssl(folder: &Path, arguments: &str) -> bool {
    let mut command = std::process::Command::new("openssl");
    command.current_dir(folder).args(arguments.split(' '));
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_revoked_certificate_is_refused_after_a_reload() {
    let folder = folder();
    let ca = Ca::new(folder.path(), "ca");
    let client = ca.client("client-a");
    let dir = folder.path().join("ca");
    std::fs::write(dir.join("ca.key"), ca.key_pem()).unwrap();
    std::fs::write(dir.join("index.txt"), "").unwrap();
    std::fs::write(
        dir.join("ca.cnf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=9\n",
    )
    .unwrap();
    let create = "ca -config ca.cnf -keyfile ca.key -cert ca.pem -gencrl -out crl.pem";
    if !openssl(&dir, create) {
        println!("skipped: there is no openssl command that makes a CRL");
        return;
    }
    let tls = TlsFiles {
        crl: Some(dir.join("crl.pem")),
        ..ca.server()
    };
    let server = start(tls, |_| {});
    assert_eq!(status_with(&server, &client), Ok(200));
    assert!(openssl(
        &dir,
        "ca -config ca.cnf -keyfile ca.key -cert ca.pem -revoke client-a.pem"
    ));
    assert!(openssl(&dir, create));
    assert_eq!(
        status_with(&server, &client),
        Ok(200),
        "until it is reloaded"
    );
    server.control.reload().unwrap();
    assert!(status_with(&server, &client).is_err());
    // What cannot be read leaves everything as it is.
    std::fs::write(dir.join("crl.pem"), "").unwrap();
    assert!(server.control.reload().is_err());
    assert!(status_with(&server, &client).is_err());
}

#[test]
fn bounds_hold() {
    let folder = folder();
    let ca = Ca::new(folder.path(), "ca");
    let server = start(ca.server(), |settings| {
        settings.header_timeout = Duration::from_secs(2);
        settings.body_timeout = Duration::from_secs(1);
    });
    let context = ca.client("client-a").client().unwrap();
    // A body that is too large, by what the header says and by what comes.
    let large = b"POST /restconf/data HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n";
    assert_eq!(
        parse(&exchange(server.address, &context, large).unwrap()).status,
        413
    );
    let mut chunked =
        b"POST /restconf/data HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..40 {
        chunked.extend(b"8000\r\n");
        chunked.extend(vec![b'x'; 0x8000]);
        chunked.extend(b"\r\n");
    }
    assert_eq!(
        parse(&exchange(server.address, &context, &chunked).unwrap()).status,
        413
    );
    // A body that does not come.
    let slow = b"POST /restconf/data HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";
    assert_eq!(
        parse(&exchange(server.address, &context, slow).unwrap()).status,
        408
    );
    // A header that does not end is waited for no longer.
    assert!(exchange(server.address, &context, b"GET /restconf HTTP/1.1\r\nHost:").is_err());
}

#[test]
fn connections_without_a_handshake_hold_their_places_for_a_while() {
    let folder = folder();
    let ca = Ca::new(folder.path(), "ca");
    let server = start(ca.server(), |settings| {
        settings.max_connections_per_address = 2;
        settings.handshake_timeout = Duration::from_secs(2);
    });
    let files = ca.client("client-a");
    let mut idle = TcpStream::connect(server.address).unwrap();
    let _second = TcpStream::connect(server.address).unwrap();
    while server.control.counts().open < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(status_with(&server, &files).is_err());
    assert_eq!(server.control.counts().refused, 1);
    idle.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert!(matches!(idle.read(&mut [0; 1]), Ok(0) | Err(_)));
    while server.control.counts().open > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(status_with(&server, &files), Ok(200));
}

/// A client that is neither ours nor of this test: curl, where it is installed.
#[test]
fn curl_registers_and_puts_a_filter() {
    let folder = folder();
    let ca = Ca::new(folder.path(), "ca");
    let server = start(ca.server(), |_| {});
    let files = ca.client("client-a");
    let curl = |arguments: &[&str], path: &str| {
        let url = format!("https://localhost:{}{path}", server.address.port());
        let output = std::process::Command::new("curl")
            .args(["-sS", "--max-time", "20", "-w", "\n%{http_code}", "-4"])
            .args(["-H", "Content-Type: application/yang-data+json"])
            .arg("--cacert")
            .arg(&files.ca)
            .arg("--cert")
            .arg(&files.certificate)
            .arg("--key")
            .arg(&files.key)
            .args(arguments)
            .arg(url)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        Some((status.to_owned(), body.to_owned()))
    };
    let Some((status, body)) = curl(&[], "/.well-known/host-meta") else {
        println!("skipped: there is no curl");
        return;
    };
    assert_eq!(status, "200");
    assert!(body.contains("href='/restconf'"));
    let data = "/restconf/data/ietf-dots-data-channel:dots-data";
    let client = r#"{"ietf-dots-data-channel:dots-client":[{"cuid":"curl"}]}"#;
    assert_eq!(curl(&["-d", client], data).unwrap().0, "201");
    let acl = r#"{"ietf-dots-data-channel:acls":{"acl":[{"name":"f","aces":{"ace":[{"name":"one","matches":{"udp":{"source-port-range-or-operator":{"port":53}}},"actions":{"forwarding":"drop"}}]}}]}}"#;
    let path = format!("{data}/dots-client=curl/acls/acl=f");
    assert_eq!(curl(&["-X", "PUT", "-d", acl], &path).unwrap().0, "201");
    let (status, body) = curl(&[], &format!("{path}?content=nonconfig")).unwrap();
    assert_eq!(status, "200");
    assert!(body.contains(r#""pending-lifetime":10080"#), "{body}");
    assert_eq!(curl(&["-X", "DELETE"], &path).unwrap().0, "204");
    assert_eq!(
        curl(&["-I"], &format!("{data}/dots-client=curl"))
            .unwrap()
            .0,
        "200"
    );
}
