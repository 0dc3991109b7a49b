use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslContext, SslStream};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use weir_dtls::DtlsError;
use weir_flow_record::Address;

use super::connection::Connection;
use super::counters::Refusal;
use super::settings::{IpfixTlsConfig, StreamSettings};
use super::{StreamTransport, Streams};

/// Connections accepted from one socket before sessions have their turn.
const ACCEPTS: usize = 16;
/// Pause of a socket after the system refused to accept.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 128;
/// A peer that vanished is noticed after this and nine more probes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Streams that cannot be listened for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A socket cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("collector.ipfix_tls: {0}")]
    Tls(#[from] DtlsError),
}

pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    tls: Option<SslContext>,
    paused_until: Option<Instant>,
}

impl Listener {
    pub(super) fn transport(&self) -> StreamTransport {
        match self.tls {
            Some(_) => StreamTransport::Tls,
            None => StreamTransport::Tcp,
        }
    }
}

pub(super) fn open_all(settings: &StreamSettings) -> Result<Vec<Listener>, StreamError> {
    let tls = settings.tls.as_ref();
    let context = tls.map(IpfixTlsConfig::context).transpose()?;
    let plain = settings.tcp.iter().map(|address| (*address, None));
    let secured = tls.into_iter().flat_map(|tls| &tls.listen);
    let secured = secured.map(|address| (*address, context.clone()));
    let opened = plain.chain(secured).map(|(address, tls)| {
        open(address, tls).map_err(|source| StreamError::Bind { address, source })
    });
    opened.collect()
}

fn open(address: SocketAddr, tls: Option<SslContext>) -> io::Result<Listener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restart need not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let socket = TcpListener::from(socket);
    Ok(Listener {
        address: socket.local_addr()?,
        socket,
        tls,
        paused_until: None,
    })
}

impl Streams {
    /// Takes new connections, as many as there may be; the others are closed at once.
    pub(super) fn accept(&mut self, now: Instant) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS {
                let Some(listener) = self.listeners.get_mut(index) else {
                    break;
                };
                if listener.paused_until.is_some_and(|until| now < until) {
                    break;
                }
                let (stream, peer) = match listener.socket.accept() {
                    Ok(accepted) => accepted,
                    // The peer gave up while it waited.
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {
                        listener.paused_until = Some(now + PAUSE);
                        self.counters.count_refused(Refusal::System);
                        break;
                    }
                };
                let context = listener.tls.clone();
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                if let Err(refusal) = self.admit(stream, peer, context, now) {
                    self.counters.count_refused(refusal);
                }
            }
        }
    }

    fn admit(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        context: Option<SslContext>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let settings = &self.settings;
        if !settings.allow.allows(Address::from(peer.ip())) {
            return Err(Refusal::Stranger);
        }
        if self.connections.len() >= settings.max_streams {
            return Err(Refusal::Full);
        }
        let address = self.connections.iter().filter(|c| c.peer.ip() == peer.ip());
        if address.count() >= settings.max_per_address {
            return Err(Refusal::Address);
        }
        // Sessions are told apart by their peer's address and port: a second one at another socket of ours has to wait.
        if self.connections.iter().any(|c| c.peer == peer) {
            return Err(Refusal::Port);
        }
        prepare(&stream).map_err(|_| Refusal::System)?;
        let connection = match context {
            None => Connection::tcp(stream, peer, now),
            Some(context) => {
                self.make_room_for_handshake();
                let ssl = Ssl::new(&context).map_err(|_| Refusal::System)?;
                let stream = SslStream::new(ssl, stream).map_err(|_| Refusal::System)?;
                Connection::tls(stream, peer, now)
            }
        };
        self.connections.push(connection);
        Ok(())
    }

    /// An honest client finishes its handshake in milliseconds: so the oldest unfinished one is the one to go.
    fn make_room_for_handshake(&mut self) {
        let half_open = self.connections.iter().enumerate();
        let half_open: Vec<(Instant, usize)> = half_open
            .filter(|(_, connection)| connection.is_half_open())
            .map(|(index, connection)| (connection.since, index))
            .collect();
        if half_open.len() >= self.settings.max_half_open
            && let Some((_, oldest)) = half_open.iter().min()
        {
            self.connections.swap_remove(*oldest);
            self.counters.count_refused(Refusal::HandshakeEvicted);
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
