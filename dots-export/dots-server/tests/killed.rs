//! The server is killed and started again over the same state file: what it has answered still holds.
//!
//! The test runs itself as the server's process, so that SIGKILL is a real one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::env;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use weir_dots_proto::client::{Notice, Request, Session};
use weir_dots_proto::coap::Code;
use weir_dots_proto::{Cuid, Method, Mid, Resource, SessionParameters};
use weir_dots_server::{BoundServer, ClientConfig, DotsServerConfig, NoMitigator};
use weir_dtls::lab::{LabNames, write_keys};
use weir_dtls::{ClientContext, Connection, Credentials, DtlsEvent};
use weir_state::State;

/// Folder of the server's keys and state, in the environment of its process.
const FOLDER: &str = "WEIR_TEST_KILLED_SERVER";

/// Not a test of its own: the process that is killed.
#[test]
fn the_server_of_the_other_test() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let config = DotsServerConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ca: folder.join("ca.pem"),
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
        clients: vec![ClientConfig {
            name: "weir-lab".to_owned(),
            prefixes: vec!["203.0.113.0/24".parse().unwrap()],
            ..ClientConfig::default()
        }],
        ..DotsServerConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let state = Arc::new(State::open(&folder.join("state")).unwrap());
        let server = BoundServer::bind(&config.check().unwrap(), Box::new(NoMitigator::default()))
            .unwrap()
            .with_state(state)
            .unwrap();
        println!("\nlistens on {}", server.addresses()[0]);
        let (_stop, stopped) = watch::channel(false);
        server.run(stopped).await;
    });
}

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "the_server_of_the_other_test"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let address = output
            .lines()
            .find_map(|line| line.unwrap().strip_prefix("listens on ")?.parse().ok())
            .unwrap();
        Self { process, address }
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Asks one thing over a session of its own.
fn ask(
    server: &Server,
    folder: &Path,
    method: Method,
    body: Option<Value>,
) -> (Code, Option<Value>) {
    let credentials = Credentials::from_pem_files(
        &folder.join("ca.pem"),
        &folder.join("client.pem"),
        &folder.join("client.key"),
    )
    .unwrap();
    let context = ClientContext::new(&credentials).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut connection = Connection::connect(&context, "127.0.0.1", None, Instant::now()).unwrap();
    let mut session = Session::new(SessionParameters::default(), u64::from(std::process::id()));
    let resource = Resource::Mitigate {
        cuid: Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap(),
        mid: Some(Mid(7)),
    };
    session.handle_request(
        Instant::now(),
        Request {
            method,
            resource,
            body,
            observe: None,
            if_match: false,
            query: Vec::new(),
        },
    );
    let end = Instant::now() + Duration::from_secs(20);
    let mut buffer = [0; 2048];
    while Instant::now() < end {
        while let Some(event) = connection.poll_event() {
            match event {
                DtlsEvent::Connected { .. } => session.handle_connected(Instant::now()),
                DtlsEvent::Data(data) => session.handle_datagram(Instant::now(), &data),
                DtlsEvent::Closed(reason) => panic!("closed: {reason:?}"),
            }
        }
        while let Some(datagram) = session.poll_transmit() {
            connection.handle_send(&datagram).unwrap();
        }
        while let Some(datagram) = connection.poll_transmit() {
            socket.send(&datagram).unwrap();
        }
        while let Some(notice) = session.poll_notice() {
            if let Notice::Response { code, body, .. } = notice {
                return (code, body);
            }
        }
        if let Ok(length) = socket.recv(&mut buffer) {
            connection.handle_datagram(Instant::now(), &buffer[..length]);
        }
        connection.handle_timeout(Instant::now());
        session.handle_timeout(Instant::now());
    }
    panic!("no answer");
}

#[test]
fn what_was_answered_outlives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_keys(folder, &LabNames::default()).unwrap();
    let request = json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-prefix": ["203.0.113.7/32"], "lifetime": 3600}
    ]}});

    let server = Server::start(folder);
    let (code, _) = ask(&server, folder, Method::Put, Some(request));
    assert_eq!(code, Code::CREATED);
    server.kill();

    let server = Server::start(folder);
    let (code, body) = ask(&server, folder, Method::Get, None);
    assert_eq!(code, Code::CONTENT);
    let scope = &body.unwrap()["ietf-dots-signal-channel:mitigation-scope"]["scope"][0];
    assert_eq!(scope["status"], "attack-mitigation-in-progress");
    assert!(
        (3500..=3600).contains(&scope["lifetime"].as_i64().unwrap()),
        "{scope}"
    );
    let (code, _) = ask(&server, folder, Method::Delete, None);
    assert_eq!(code, Code::DELETED);
    server.kill();

    let server = Server::start(folder);
    let (_, body) = ask(&server, folder, Method::Get, None);
    let scope = &body.unwrap()["ietf-dots-signal-channel:mitigation-scope"]["scope"][0];
    assert_eq!(scope["status"], "dots-client-withdrawn-mitigation");
    server.kill();
}
