//! The data channel over HTTPS: sockets, TLS and bounds around a [`DataHandle`].

mod connection;
mod counts;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use openssl::ssl::SslContext;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use weir_dtls::DtlsError;

use crate::handle::DataHandle;
use crate::tls::TlsFiles;

use connection::serve;
use counts::Places;
pub use counts::ServerCounts;

/// How a server listens.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where; 443 is the port of the data channel (RFC 8973).
    pub listen: Vec<SocketAddr>,
    /// Certificates.
    pub tls: TlsFiles,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_address: usize,
    /// Longest TLS handshake.
    pub handshake_timeout: Duration,
    /// Longest wait for the header of a request, and so for the next request of a connection.
    pub header_timeout: Duration,
    /// Longest wait for the body of a request.
    pub body_timeout: Duration,
    /// Longest time for which a connection is kept.
    pub max_age: Duration,
}

impl ServerSettings {
    /// The defaults.
    #[must_use]
    pub fn new(listen: Vec<SocketAddr>, tls: TlsFiles) -> Self {
        Self {
            listen,
            tls,
            max_connections: 1_024,
            max_connections_per_address: 64,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            max_age: Duration::from_secs(86_400),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] DtlsError),
    /// An address.
    #[error("cannot listen on {address} for the DOTS data channel: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A server that has its sockets and waits to be [`run`](Self::run).
#[derive(Debug)]
pub struct BoundServer {
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
}

/// What all connections have in common.
#[derive(Debug)]
struct Shared {
    settings: ServerSettings,
    context: RwLock<SslContext>,
    handle: DataHandle,
    places: Places,
}

/// A running server's certificates and counts.
#[derive(Clone, Debug)]
pub struct ServerControl {
    shared: Arc<Shared>,
}

impl BoundServer {
    /// Reads the certificates and opens the sockets. Call within a tokio runtime.
    pub async fn bind(settings: ServerSettings, handle: DataHandle) -> Result<Self, StartError> {
        let context = settings.tls.server()?;
        let mut listeners = Vec::new();
        for address in &settings.listen {
            let listener = TcpListener::bind(address).await;
            listeners.push(listener.map_err(|source| StartError::Listen {
                address: *address,
                source,
            })?);
        }
        let places = Places::new(
            settings.max_connections,
            settings.max_connections_per_address,
        );
        Ok(Self {
            listeners,
            shared: Arc::new(Shared {
                settings,
                context: RwLock::new(context),
                handle,
                places,
            }),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.listeners.iter();
        listeners
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    /// What can be done while it runs.
    #[must_use]
    pub fn control(&self) -> ServerControl {
        ServerControl {
            shared: self.shared.clone(),
        }
    }

    /// Serves until `shutdown` is true. Requests that are being answered then are dropped.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            tasks.spawn(accept(listener, self.shared.clone()));
        }
        tasks.spawn(keep_time(self.shared.handle.clone()));
        // An error means that the sender is gone, which is a stop as well.
        let _ = shutdown.wait_for(|stop| *stop).await;
        tasks.shutdown().await;
        self.shared.handle.handle_time();
    }
}

impl ServerControl {
    /// Reads the certificates and the CRL anew, for connections from now on. On an error the old ones stay.
    pub fn reload(&self) -> Result<(), DtlsError> {
        let context = self.shared.settings.tls.server()?;
        let current = self.shared.context.write();
        *current.unwrap_or_else(PoisonError::into_inner) = context;
        Ok(())
    }

    /// Connections, and what became of them.
    #[must_use]
    pub fn counts(&self) -> ServerCounts {
        self.shared.places.counts()
    }
}

impl Shared {
    fn context(&self) -> SslContext {
        let current = self.context.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn keep_time(handle: DataHandle) {
    loop {
        let work = handle.clone();
        let due = tokio::task::spawn_blocking(move || work.handle_time()).await;
        let due = due.unwrap_or(Duration::from_secs(60));
        tokio::select! {
            () = tokio::time::sleep(due) => {}
            () = handle.changed() => {}
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    /// After an error such as a lack of file descriptors.
    const PAUSE: Duration = Duration::from_millis(100);
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => admit(stream, from, &shared, &mut connections),
            Err(error) => {
                tracing::debug!(%error, "data channel: no connection accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

fn admit(stream: TcpStream, from: SocketAddr, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let Some(place) = shared.places.take(from.ip()) else {
        tracing::debug!(%from, "data channel: too many connections");
        return;
    };
    let shared = shared.clone();
    connections.spawn(async move {
        let longest = shared.settings.max_age;
        let served = tokio::time::timeout(longest, serve(stream, from, &shared)).await;
        if served.is_err() {
            tracing::debug!(%from, "data channel: the connection is too old");
        }
        drop(place);
    });
}
