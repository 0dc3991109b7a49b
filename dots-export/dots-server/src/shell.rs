//! Sockets and clock around listener and server.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use weir_dots_proto::body::PreOrOngoingMitigation;
use weir_dtls::{Credentials, DtlsError, Listener, ListenerEvent, ListenerLimits, ServerContext};

use weir_state::{Batch, Stage, State, StateError};

use crate::{DotsServerSettings, Mitigator, SavedRow, Server, ServerChange};

/// Rows that could not be written are tried again after this.
const STATE_WAIT: Duration = Duration::from_secs(1);
/// Datagrams that are taken in before the rows that they change are written, all at once.
const MAX_BURST: usize = 64;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its certificate or key.
    #[error(transparent)]
    Credentials(#[from] DtlsError),
    /// Its address.
    #[error("cannot listen on {address} for DOTS: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A server that has its sockets and waits to be [`run`](Self::run).
pub struct BoundServer {
    sockets: Vec<Arc<UdpSocket>>,
    listeners: Vec<Listener>,
    server: Server,
    kept: Option<Kept>,
    observations: Option<mpsc::Receiver<Observation>>,
}

/// How an attack stands that this side observes.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The attack's name, of no meaning to clients.
    pub attack: String,
    /// One item, without `tmid`; `None`: the attack is over.
    pub item: Option<Box<PreOrOngoingMitigation>>,
}

/// Where rows are kept, and those that are not yet.
struct Kept {
    state: Arc<State>,
    unwritten: BTreeMap<String, ServerChange>,
    write_at: Option<Instant>,
}

impl std::fmt::Debug for BoundServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundServer")
            .field("sockets", &self.sockets)
            .finish_non_exhaustive()
    }
}

impl BoundServer {
    /// Reads the credentials and opens the sockets. Call within a tokio runtime.
    pub fn bind(
        settings: &DotsServerSettings,
        mitigator: Box<dyn Mitigator>,
    ) -> Result<Self, StartError> {
        let credentials =
            Credentials::from_pem_files(&settings.ca, &settings.certificate, &settings.key)?;
        let limits = ListenerLimits {
            max_half_open: settings.max_half_open,
            max_sessions: settings.max_sessions,
        };
        let mut sockets = Vec::new();
        let mut listeners = Vec::new();
        for address in &settings.listen {
            let failed = |source| StartError::Listen {
                address: *address,
                source,
            };
            let socket = std::net::UdpSocket::bind(address).map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            sockets.push(Arc::new(UdpSocket::from_std(socket).map_err(failed)?));
            listeners.push(Listener::new(ServerContext::new(&credentials)?, limits));
        }
        let unix = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let now = Instant::now();
        let server = Server::new(settings.policy.clone(), mitigator, (now, unix), unix);
        Ok(Self {
            sockets,
            listeners,
            server,
            kept: None,
            observations: None,
        })
    }

    /// Takes back what an earlier run left in the state file, and keeps there what changes from now on: an answer leaves
    /// after its row is on disk. Without this a restart forgets all mitigations.
    pub fn with_state(mut self, state: Arc<State>) -> Result<Self, StateError> {
        let rows: Vec<(Vec<u8>, SavedRow)> = state.entries_json(Stage::DotsServer)?;
        self.server.restore(rows.into_iter().map(|(_, row)| row));
        self.kept = Some(Kept {
            state,
            unwritten: BTreeMap::new(),
            write_at: None,
        });
        Ok(self)
    }

    /// Clients that ask for it are told of these attacks.
    #[must_use]
    pub fn with_observations(mut self, observations: mpsc::Receiver<Observation>) -> Self {
        self.observations = Some(observations);
        self
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .filter_map(|socket| socket.local_addr().ok())
            .collect()
    }

    /// Serves until `shutdown` is true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let (datagrams, mut received) = mpsc::channel(1024);
        let mut readers = Vec::new();
        for (index, socket) in self.sockets.iter().enumerate() {
            let (socket, datagrams) = (Arc::clone(socket), datagrams.clone());
            readers.push(tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                loop {
                    match socket.recv_from(&mut buffer).await {
                        Ok((length, from)) => {
                            let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                            if datagrams.send((index, from, datagram)).await.is_err() {
                                return;
                            }
                        }
                        // An ICMP error of an earlier send: the socket goes on.
                        Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                    }
                }
            }));
        }
        loop {
            let due = self.next_timer();
            tokio::select! {
                stop = shutdown.wait_for(|stop| *stop) => {
                    let _ = stop;
                    break;
                }
                datagram = received.recv() => {
                    let Some(datagram) = datagram else { break };
                    self.receive(&datagram);
                    // One wait for the disk serves all that is there.
                    for _ in 0..MAX_BURST {
                        let Ok(datagram) = received.try_recv() else { break };
                        self.receive(&datagram);
                    }
                }
                observation = observed(&mut self.observations) => {
                    let item = observation.item.map(|item| *item);
                    self.server
                        .handle_observation(Instant::now(), &observation.attack, item);
                }
                () = tokio::time::sleep_until(due.into()) => {
                    let now = Instant::now();
                    self.listeners.iter_mut().for_each(|listener| listener.handle_timeout(now));
                    self.server.handle_timeout(now);
                }
            }
            self.pump().await;
        }
        readers.into_iter().for_each(|reader| reader.abort());
        // Clients that are told need not wait for missed heartbeats.
        self.listeners
            .iter_mut()
            .for_each(Listener::handle_shutdown);
        self.pump().await;
    }

    fn receive(&mut self, (index, from, datagram): &(usize, SocketAddr, Vec<u8>)) {
        if let Some(listener) = self.listeners.get_mut(*index) {
            listener.handle_datagram(Instant::now(), *from, datagram);
        }
    }

    /// Writes the rows that have changed. Where the disk fails, clients are served on: help now matters more than after a
    /// restart.
    async fn write_rows(&mut self) {
        while let Some(change) = self.server.poll_persist() {
            if let Some(kept) = &mut self.kept {
                kept.unwritten.insert(change.key.text(), change);
            }
        }
        let Some(kept) = &mut self.kept else { return };
        let held_back = kept.write_at.is_some_and(|at| at > Instant::now());
        if kept.unwritten.is_empty() || held_back {
            return;
        }
        let written = match batch_of(&kept.unwritten) {
            Ok(batch) => {
                let state = Arc::clone(&kept.state);
                let task = tokio::task::spawn_blocking(move || state.write(&batch));
                match task.await {
                    Ok(written) => written.map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            }
            Err(error) => Err(error.to_string()),
        };
        kept.write_at = None;
        match written {
            Ok(()) => kept.unwritten.clear(),
            Err(error) => {
                let rows = kept.unwritten.len();
                tracing::error!(error, rows, "the DOTS server's state is not written");
                kept.write_at = Some(Instant::now() + STATE_WAIT);
            }
        }
    }

    fn next_timer(&self) -> Instant {
        let listeners = self.listeners.iter().filter_map(Listener::poll_timeout);
        let fallback = Instant::now() + Duration::from_secs(1);
        listeners
            .chain(self.server.poll_timeout())
            .chain(self.kept.as_ref().and_then(|kept| kept.write_at))
            .chain([fallback])
            .min()
            .unwrap_or(fallback)
    }

    /// Carries what the listeners and the server have for each other and for the sockets.
    async fn pump(&mut self) {
        let now = Instant::now();
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            while let Some(event) = listener.poll_event() {
                match event {
                    ListenerEvent::Connected {
                        session,
                        address,
                        peer,
                        resumed,
                    } => {
                        tracing::info!(%address, names = ?peer.names, resumed, "DOTS session");
                        self.server
                            .handle_connected(now, numbered(index, session), &peer);
                    }
                    ListenerEvent::Data { session, data } => {
                        self.server
                            .handle_data(now, numbered(index, session), &data)
                    }
                    ListenerEvent::Closed { session } => {
                        self.server.handle_closed(now, numbered(index, session))
                    }
                }
            }
        }
        self.write_rows().await;
        while let Some((session, datagram)) = self.server.poll_transmit() {
            let (index, session) = listener_of(session);
            if let Some(listener) = self.listeners.get_mut(index)
                && let Err(error) = listener.handle_send(session, &datagram)
            {
                tracing::debug!(%error, "a DOTS message is not sent");
            }
        }
        while let Some(session) = self.server.poll_close() {
            let (index, session) = listener_of(session);
            if let Some(listener) = self.listeners.get_mut(index) {
                listener.handle_close(session);
            }
        }
        for (listener, socket) in self.listeners.iter_mut().zip(&self.sockets) {
            while let Some((to, datagram)) = listener.poll_transmit() {
                // A full socket buffer loses a datagram, as the network may.
                let _ = socket.send_to(&datagram, to).await;
            }
        }
    }
}

/// The next observation, if anybody makes any.
async fn observed(observations: &mut Option<mpsc::Receiver<Observation>>) -> Observation {
    if let Some(receiver) = observations {
        if let Some(observation) = receiver.recv().await {
            return observation;
        }
        *observations = None;
    }
    std::future::pending().await
}

/// Rows as one transaction.
fn batch_of(changes: &BTreeMap<String, ServerChange>) -> Result<Batch, StateError> {
    let mut batch = Batch::new();
    for (key, change) in changes {
        match &change.row {
            Some(row) => batch.put_json(Stage::DotsServer, key.as_bytes(), row)?,
            None => batch.delete(Stage::DotsServer, key.as_bytes()),
        }
    }
    Ok(batch)
}

/// Sessions of several listeners in one number space: the listener in the upper bits.
fn numbered(listener: usize, session: weir_dtls::SessionId) -> weir_dtls::SessionId {
    weir_dtls::SessionId((listener as u64) << 48 | session.0)
}

fn listener_of(session: weir_dtls::SessionId) -> (usize, weir_dtls::SessionId) {
    (
        (session.0 >> 48) as usize,
        weir_dtls::SessionId(session.0 & ((1 << 48) - 1)),
    )
}
