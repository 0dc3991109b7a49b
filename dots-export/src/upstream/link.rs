//! One DTLS association over one UDP socket, and how it comes about.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{UdpSocket, lookup_host};
use tokio::task::JoinSet;
use weir_dtls::{ClientContext, Connection, DtlsEvent, Ticket};

/// A handshake that takes longer has failed.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried at once.
const MAX_ADDRESSES: usize = 8;
/// The largest datagram that UDP brings.
pub(super) const MAX_DATAGRAM: usize = 65_535;

/// Whom to connect to.
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) context: ClientContext,
}

/// An association that stands.
pub(super) struct Link {
    pub(super) socket: UdpSocket,
    pub(super) connection: Connection,
    pub(super) address: SocketAddr,
    pub(super) resumed: bool,
}

impl Link {
    /// Sends what DTLS has to say. Datagrams that the network does not take are lost, as datagrams are.
    pub(super) async fn flush(&mut self) {
        while let Some(datagram) = self.connection.poll_transmit() {
            if let Err(error) = self.socket.send(&datagram).await {
                tracing::debug!(address = %self.address, %error, "datagram not sent");
            }
        }
    }
}

/// Tries all addresses of the server, IPv6 first and each `stagger` after the one before (RFC 9132 §4.3, Happy Eyeballs);
/// the first association that stands is taken.
pub(super) async fn connect(
    destination: Arc<Destination>,
    ticket: Option<Ticket>,
    stagger: Duration,
) -> Result<Link, String> {
    let addresses = resolve(&destination).await?;
    let mut tries = JoinSet::new();
    for (index, address) in (0_u32..).zip(addresses) {
        let (destination, ticket) = (destination.clone(), ticket.clone());
        tries.spawn(async move {
            tokio::time::sleep(stagger * index).await;
            let shaken =
                tokio::time::timeout(HANDSHAKE, shake(&destination, address, ticket)).await;
            let result = shaken.unwrap_or_else(|_| Err("no answer".to_owned()));
            result.map_err(|reason| format!("{address}: {reason}"))
        });
    }
    let mut reasons = Vec::new();
    while let Some(done) = tries.join_next().await {
        match done {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(reason)) => reasons.push(reason),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(reasons.join("; "))
}

async fn resolve(destination: &Destination) -> Result<Vec<SocketAddr>, String> {
    let host = destination.host.as_str();
    let found = lookup_host((host, destination.port)).await;
    let mut addresses: Vec<SocketAddr> = match found {
        Ok(found) => found.collect(),
        Err(error) => return Err(format!("{host}: {error}")),
    };
    addresses.sort_by_key(SocketAddr::is_ipv4);
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    if addresses.is_empty() {
        return Err(format!("{host} has no address"));
    }
    Ok(addresses)
}

async fn shake(
    destination: &Destination,
    address: SocketAddr,
    ticket: Option<Ticket>,
) -> Result<Link, String> {
    let socket = open(address).await.map_err(|error| error.to_string())?;
    let (context, name) = (&destination.context, destination.host.as_str());
    let connection = Connection::connect(context, name, ticket.as_ref(), Instant::now())
        .map_err(|error| error.to_string())?;
    let mut link = Link {
        socket,
        connection,
        address,
        resumed: false,
    };
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        link.flush().await;
        while let Some(event) = link.connection.poll_event() {
            match event {
                DtlsEvent::Connected { resumed, .. } => {
                    link.resumed = resumed;
                    link.flush().await;
                    return Ok(link);
                }
                DtlsEvent::Data(_) => {}
                DtlsEvent::Closed(reason) => {
                    // The alert that tells the server why.
                    link.flush().await;
                    return Err(reason.map_or_else(|| "closed".to_owned(), |why| why.to_string()));
                }
            }
        }
        let due = link
            .connection
            .poll_timeout()
            .unwrap_or_else(|| Instant::now() + HANDSHAKE);
        tokio::select! {
            received = link.socket.recv(&mut buffer) => {
                let length = received.map_err(|error| error.to_string())?;
                let datagram = buffer.get(..length).unwrap_or_default();
                link.connection.handle_datagram(Instant::now(), datagram);
            }
            () = tokio::time::sleep_until(due.into()) => {
                link.connection.handle_timeout(Instant::now());
            }
        }
    }
}

async fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}
