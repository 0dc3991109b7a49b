//! Sockets and clock around listener and server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use weir_dtls::{Credentials, DtlsError, Listener, ListenerEvent, ListenerLimits, ServerContext};

use crate::{DotsServerSettings, Mitigator, Server};

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
        })
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
        let (datagrams, mut received) = tokio::sync::mpsc::channel(1024);
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
                    let Some((index, from, datagram)) = datagram else { break };
                    if let Some(listener) = self.listeners.get_mut(index) {
                        listener.handle_datagram(Instant::now(), from, &datagram);
                    }
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

    fn next_timer(&self) -> Instant {
        let listeners = self.listeners.iter().filter_map(Listener::poll_timeout);
        let fallback = Instant::now() + Duration::from_secs(1);
        listeners
            .chain(self.server.poll_timeout())
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
                        self.server.handle_closed(numbered(index, session))
                    }
                }
            }
        }
        while let Some((session, datagram)) = self.server.poll_transmit() {
            let (index, session) = listener_of(session);
            if let Some(listener) = self.listeners.get_mut(index)
                && let Err(error) = listener.handle_send(session, &datagram)
            {
                tracing::debug!(%error, "a DOTS message is not sent");
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
