//! A DOTS server with its sockets, and a network before it that loses what it is told to.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use weir_attack_event::EventKind;
use weir_dots_export::{
    Client, ClientCommand, ClientNotice, ClientParameters, Journal, PolicyConfig, SessionState,
    StateChange, UpstreamConfig, UpstreamSettings, check, mitigation_scope, run_upstream,
};
use weir_dots_proto::Cuid;
use weir_dots_proto::body::{Lifetime, Scope};
use weir_dots_server::{
    BoundServer, ClientConfig, DotsServerConfig, DotsServerSettings, MitigationId, Mitigator,
    MitigatorReport, TransportView,
};

/// A server on a thread of its own; dropped, it stops.
pub(crate) struct RealServer {
    pub(crate) address: SocketAddr,
    pub(crate) view: Arc<TransportView>,
    applied: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Its table, with keys of the lab and one client that may ask for 203.0.113.0/24.
pub(crate) fn server_config(keys: &Path) -> DotsServerConfig {
    DotsServerConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ca: keys.join("ca.pem"),
        certificate: keys.join("server.pem"),
        key: keys.join("server.key"),
        max_sessions_per_client: 1000,
        clients: vec![ClientConfig {
            name: "weir-lab".to_owned(),
            prefixes: vec!["203.0.113.0/24".parse().unwrap()],
            ..ClientConfig::default()
        }],
        ..DotsServerConfig::default()
    }
}

impl RealServer {
    pub(crate) fn start(config: &DotsServerConfig) -> Self {
        Self::start_with(config.check().unwrap())
    }

    pub(crate) fn start_with(settings: DotsServerSettings) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (sender, bound) = std::sync::mpsc::channel();
        let applied = Arc::new(AtomicU64::new(0));
        let mitigator = Counting(Arc::clone(&applied));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = BoundServer::bind(&settings, Box::new(mitigator)).unwrap();
                let address = server.addresses()[0];
                sender.send((address, server.transport_view())).unwrap();
                server.run(stopped).await;
            });
        });
        let (address, view) = bound.recv().unwrap();
        Self {
            address,
            view,
            applied,
            stop,
            thread: Some(thread),
        }
    }

    /// Mitigations that were begun.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }
}

/// A mitigator that counts.
struct Counting(Arc<AtomicU64>);

impl Mitigator for Counting {
    fn apply(&mut self, _id: MitigationId, _scope: &Scope) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn withdraw(&mut self, _id: MitigationId) {}

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        None
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A network before a server: each peer gets an address of its own towards the server, and of each direction some datagrams
/// are lost. Of TCP nothing is.
pub(crate) struct Lossy {
    pub(crate) address: SocketAddr,
    /// Lost of a hundred, towards the server and back.
    loss: Arc<[AtomicU64; 2]>,
}

impl Lossy {
    pub(crate) async fn start(server: SocketAddr, loss: [u64; 2], seed: u64) -> Self {
        let (front, address) = before(server).await;
        let front = Arc::new(front);
        let loss = Arc::new(loss.map(AtomicU64::new));
        tokio::spawn(carry(front, server, Arc::clone(&loss), seed));
        Self { address, loss }
    }

    pub(crate) fn set_loss(&self, loss: [u64; 2]) {
        for (at, percent) in self.loss.iter().zip(loss) {
            at.store(percent, Ordering::Relaxed);
        }
    }
}

/// A port before a server, whose connections are carried on to it.
pub(crate) async fn before(server: SocketAddr) -> (UdpSocket, SocketAddr) {
    loop {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        // Somebody else may have the port of TCP.
        if let Ok(listener) = TcpListener::bind(address).await {
            carry_streams(listener, server);
            return (front, address);
        }
    }
}

fn carry_streams(listener: TcpListener, server: SocketAddr) {
    tokio::spawn(async move {
        while let Ok((mut front, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut back) = TcpStream::connect(server).await {
                    let _ = tokio::io::copy_bidirectional(&mut front, &mut back).await;
                }
            });
        }
    });
}

async fn carry(front: Arc<UdpSocket>, server: SocketAddr, loss: Arc<[AtomicU64; 2]>, seed: u64) {
    let random = Arc::new(Mutex::new(seed));
    let mut peers: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut buffer = [0; 2048];
    loop {
        let Ok((length, from)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        let back = match peers.get(&from) {
            Some(back) => Arc::clone(back),
            None => {
                let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                back.connect(server).await.unwrap();
                peers.insert(from, Arc::clone(&back));
                let (back, front) = (Arc::clone(&back), Arc::clone(&front));
                let (loss, random) = (Arc::clone(&loss), Arc::clone(&random));
                let answers = Arc::clone(&back);
                tokio::spawn(async move {
                    let mut buffer = [0; 2048];
                    loop {
                        let Ok(length) = answers.recv(&mut buffer).await else {
                            continue;
                        };
                        if arrives(&random, loss[1].load(Ordering::Relaxed)) {
                            let _ = front.send_to(&buffer[..length], from).await;
                        }
                    }
                });
                back
            }
        };
        if arrives(&random, loss[0].load(Ordering::Relaxed)) {
            let _ = back.send(&buffer[..length]).await;
        }
    }
}

fn arrives(random: &Mutex<u64>, loss: u64) -> bool {
    let mut state = random.lock().unwrap();
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % 100 >= loss
}

struct NoJournal;

impl Journal for NoJournal {
    fn write(&self, _change: &StateChange) -> io::Result<()> {
        Ok(())
    }
}

/// A client with its sockets.
pub(crate) struct RealClient {
    pub(crate) commands: mpsc::Sender<ClientCommand>,
    pub(crate) notices: mpsc::Receiver<ClientNotice>,
    shutdown: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// An upstream at an address, under the name `localhost`.
pub(crate) fn upstream_config(address: SocketAddr) -> UpstreamConfig {
    UpstreamConfig {
        name: super::PROVIDER.to_owned(),
        server: "localhost".to_owned(),
        addresses: vec![address.to_string()],
        ..UpstreamConfig::default()
    }
}

pub(crate) fn upstream_of(mut config: UpstreamConfig, keys: &Path) -> UpstreamSettings {
    config.resolve(keys);
    let settings = check(&[config], &[PolicyConfig::default()], &[]).unwrap();
    settings.upstreams()[0].clone()
}

impl RealClient {
    /// The client of that number, which has a cuid of its own.
    pub(crate) fn start(settings: &UpstreamSettings, number: u64) -> Self {
        let cuid = Cuid::new(&format!("client-{number}")).unwrap();
        let client = Client::new(ClientParameters::new(super::PROVIDER.into(), cuid, number));
        Self::start_with(settings, client, Arc::new(NoJournal))
    }

    pub(crate) fn start_with(
        settings: &UpstreamSettings,
        client: Client,
        journal: Arc<dyn Journal>,
    ) -> Self {
        let credentials = settings.open_credentials().unwrap();
        let (commands, orders) = mpsc::channel(64);
        let (said, notices) = mpsc::channel(64);
        let (shutdown, stopped) = watch::channel(false);
        let task = tokio::spawn(run_upstream(
            settings.clone(),
            credentials,
            client,
            orders,
            said,
            journal,
            stopped,
        ));
        Self {
            commands,
            notices,
            shutdown,
            task,
        }
    }

    /// Asks for help for 203.0.113.0/24's address of that number.
    pub(crate) async fn ask(&self, number: u64) {
        let target = format!("203.0.113.{number}/32");
        let event = super::event(EventKind::AttackStart, "a", &target, 1_700_000_001);
        let request = ClientCommand::Request {
            attack: super::attack("a"),
            scope: Box::new(mitigation_scope(&event)),
            lifetime: Lifetime::Seconds(3600),
        };
        self.commands.send(request).await.unwrap();
    }

    pub(crate) async fn until(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&ClientNotice) -> bool,
    ) -> Option<ClientNotice> {
        let found = tokio::time::timeout(patience, async {
            while let Some(notice) = self.notices.recv().await {
                if wanted(&notice) {
                    return Some(notice);
                }
            }
            None
        });
        found.await.ok().flatten()
    }

    pub(crate) async fn stop(self) {
        let _ = self.shutdown.send(true);
        let _ = self.task.await;
    }
}

pub(crate) fn is_granted(notice: &ClientNotice) -> bool {
    matches!(notice, ClientNotice::Granted(_))
}

pub(crate) fn is_up(notice: &ClientNotice) -> bool {
    matches!(
        notice,
        ClientNotice::Session {
            state: SessionState::Up,
            ..
        }
    )
}

pub(crate) fn failure(notice: ClientNotice) -> Option<String> {
    match notice {
        ClientNotice::Session {
            state: SessionState::Failed(reason),
            ..
        } => Some(reason),
        _ => None,
    }
}
