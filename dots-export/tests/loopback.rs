//! `run_upstream` over real sockets and DTLS, against a server on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../cli/tests/support/ports.rs"]
mod ports;
mod support;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ports::free_address;
use support::net::{RealClient, failure, is_up, upstream_of};
use support::{Peer, attack, client, event};
use weir_attack_event::EventKind;
use weir_dots_export::{
    ClientCommand, ClientNotice, Journal, StateChange, UpstreamConfig, UpstreamSettings,
    telemetry_body,
};
use weir_dtls::{
    Credentials, Listener, ListenerEvent, ListenerLimits, ServerContext, SessionId, lab,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A DOTS server on a thread of its own.
struct Server {
    address: SocketAddr,
    peer: Arc<Mutex<Peer>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Server {
    fn start(keys: &Path, port: u16, peer: Arc<Mutex<Peer>>) -> Self {
        let [ca, certificate, key] =
            ["ca.pem", "server.pem", "server.key"].map(|name| keys.join(name));
        let credentials = Credentials::from_pem_files(&ca, &certificate, &key).unwrap();
        let limits = ListenerLimits {
            max_half_open: 16,
            max_sessions: 16,
        };
        let listener = Listener::new(ServerContext::new(&credentials).unwrap(), limits);
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (peer, stop) = (peer.clone(), stop.clone());
            std::thread::spawn(move || serve(&socket, listener, &peer, &stop))
        };
        Self {
            address,
            peer,
            stop,
            thread,
        }
    }

    fn stop(self) -> Arc<Mutex<Peer>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.peer
    }
}

fn serve(socket: &UdpSocket, mut listener: Listener, peer: &Mutex<Peer>, stop: &AtomicBool) {
    let mut session: Option<SessionId> = None;
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            listener.handle_datagram(now, from, &buffer[..length]);
        }
        listener.handle_timeout(now);
        let mut peer = peer.lock().unwrap();
        while let Some(event) = listener.poll_event() {
            match event {
                ListenerEvent::Connected { session: new, .. } => {
                    peer.reconnect();
                    session = Some(new);
                }
                ListenerEvent::Data { data, .. } => peer.handle_datagram(now, &data),
                ListenerEvent::Closed { .. } => {}
            }
        }
        while let Some(datagram) = peer.session.poll_transmit() {
            if let Some(session) = session {
                let _ = listener.handle_send(session, &datagram);
            }
        }
        while let Some((to, datagram)) = listener.poll_transmit() {
            let _ = socket.send_to(&datagram, to);
        }
    }
}

#[derive(Default)]
struct Rows(Mutex<BTreeMap<String, StateChange>>);

impl Journal for Rows {
    fn write(&self, change: &StateChange) -> io::Result<()> {
        let mut rows = self.0.lock().unwrap();
        if change.is_removal() {
            rows.remove(&change.key());
        } else {
            rows.insert(change.key(), change.clone());
        }
        Ok(())
    }
}

/// The next notice that is wanted.
async fn until(client: &mut RealClient, wanted: impl Fn(&ClientNotice) -> bool) -> ClientNotice {
    let notice = client.until(PATIENCE, wanted).await;
    notice.expect("no such notice in time")
}

/// Asks for help, and tells of the attack.
async fn ask(client: &RealClient) {
    client.ask(7).await;
    let event = event(EventKind::AttackStart, "a", "203.0.113.7/32", 1_700_000_001);
    let telemetry = ClientCommand::Telemetry {
        attack: attack("a"),
        body: Box::new(telemetry_body(&event)),
        ended: false,
    };
    client.commands.send(telemetry).await.unwrap();
}

fn keys() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    lab::write_keys(folder.path(), &lab::LabNames::default()).unwrap();
    folder
}

fn upstream(keys: &Path, host: &str, port: u16) -> UpstreamSettings {
    let config = UpstreamConfig {
        name: support::PROVIDER.to_owned(),
        server: format!("{host}:{port}"),
        ..UpstreamConfig::default()
    };
    upstream_of(config, keys)
}

fn puts(peer: &Mutex<Peer>) -> usize {
    let peer = peer.lock().unwrap();
    peer.log
        .iter()
        .filter(|line| line.starts_with("PUT mitigate"))
        .count()
}

#[tokio::test]
async fn the_whole_way_and_a_restart_in_between() {
    let keys = keys();
    let server = Server::start(keys.path(), 0, Arc::default());
    let settings = upstream(keys.path(), "localhost", server.address.port());
    let journal = Arc::new(Rows::default());
    let mut first = RealClient::start_with(&settings, client(), journal.clone());
    ask(&first).await;
    until(&mut first, |notice| {
        matches!(notice, ClientNotice::Granted(_))
    })
    .await;
    until(&mut first, |notice| {
        matches!(notice, ClientNotice::Told { tmid: 1, .. })
    })
    .await;
    // A stop withdraws nothing.
    first.stop().await;
    assert_eq!(server.peer.lock().unwrap().active().len(), 1);

    let mut again = client();
    again.restore(journal.0.lock().unwrap().values().cloned());
    let mut second = RealClient::start_with(&settings, again, journal.clone());
    until(&mut second, |notice| {
        matches!(notice, ClientNotice::Held { mid: 1, .. })
    })
    .await;
    until(&mut second, |notice| {
        matches!(notice, ClientNotice::Granted(_))
    })
    .await;
    assert_eq!(puts(&server.peer), 1);
    let withdraw = ClientCommand::Withdraw {
        attack: attack("a"),
    };
    second.commands.send(withdraw).await.unwrap();
    until(&mut second, |notice| {
        matches!(notice, ClientNotice::Withdrawn { mid: 1, .. })
    })
    .await;
    second.stop().await;
    assert!(server.stop().lock().unwrap().active().is_empty());
    assert!(
        !journal
            .0
            .lock()
            .unwrap()
            .keys()
            .any(|key| key.starts_with("mid/"))
    );
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let keys = keys();
    // No other's while nobody listens.
    let port = free_address().port();
    let server = Server::start(keys.path(), port, Arc::default());
    let settings = upstream(keys.path(), "127.0.0.1", port);
    let mut running = RealClient::start_with(&settings, client(), Arc::<Rows>::default());
    ask(&running).await;
    until(&mut running, |notice| {
        matches!(notice, ClientNotice::Told { .. })
    })
    .await;
    // It forgets all sessions, and for a moment nobody listens: a request makes that known.
    let peer = server.stop();
    let update = telemetry_body(&event(
        EventKind::AttackUpdate,
        "a",
        "203.0.113.7/32",
        1_700_000_020,
    ));
    let update = ClientCommand::Telemetry {
        attack: attack("a"),
        body: Box::new(update),
        ended: false,
    };
    running.commands.send(update).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let server = Server::start(keys.path(), port, peer);
    until(&mut running, is_up).await;
    until(&mut running, |notice| {
        matches!(notice, ClientNotice::Told { .. })
    })
    .await;
    assert_eq!(puts(&server.peer), 1);
    running.stop().await;
    server.stop();
}

#[tokio::test]
async fn a_server_with_another_ca_gets_no_request() {
    let (ours, theirs) = (keys(), keys());
    let server = Server::start(theirs.path(), 0, Arc::default());
    let settings = upstream(ours.path(), "127.0.0.1", server.address.port());
    let mut running = RealClient::start_with(&settings, client(), Arc::<Rows>::default());
    ask(&running).await;
    let failed = |notice: &ClientNotice| failure(notice.clone()).is_some();
    // Under attack it is tried again, and again, to no avail.
    for _ in 0..3 {
        until(&mut running, failed).await;
    }
    running.stop().await;
    assert!(server.stop().lock().unwrap().log.is_empty());
}
