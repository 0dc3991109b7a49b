//! One session's transport, once it stands: DTLS over UDP, or TLS over TCP.

use std::io;
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UdpSocket};
use weir_dots_proto::coap::{Carrier, End};
use weir_dtls::{Connection, DtlsError, DtlsEvent, StreamConnection, Ticket};

use super::paths::{Over, Path};

/// The largest datagram that UDP brings.
pub(super) const MAX_DATAGRAM: usize = 65_535;
/// Octets that a connection has not taken yet; a peer that leaves more is gone.
const MAX_UNWRITTEN: usize = 262_144;

/// A transport that stands.
pub(super) struct Link {
    wire: Wire,
    pub(super) path: Path,
    pub(super) resumed: bool,
    /// The path's round-trip time, as its handshake went.
    pub(super) round_trip: Option<Duration>,
}

enum Wire {
    Datagrams {
        socket: UdpSocket,
        connection: Box<Connection>,
    },
    Stream(Box<Stream>),
}

struct Stream {
    socket: TcpStream,
    connection: StreamConnection,
    carrier: Carrier,
    unwritten: Vec<u8>,
    /// The socket has failed.
    broken: Option<String>,
    /// The end was told.
    told: bool,
}

/// What a link tells.
pub(super) enum LinkEvent {
    /// TLS stands, and over TCP the server's CSM has come.
    Connected { resumed: bool },
    /// A datagram for the session.
    Datagram(Vec<u8>),
    /// The end; a reason where it was not wanted, and how long the server wants to be left alone.
    Closed(Option<String>, Option<Duration>),
}

/// What the network has for a link.
pub(super) enum Ready {
    /// So many octets; of a connection none at its end.
    Read(usize),
    /// The socket takes octets again.
    Writable,
}

impl Link {
    pub(super) fn datagrams(socket: UdpSocket, connection: Connection, path: Path) -> Self {
        Self {
            wire: Wire::Datagrams {
                socket,
                connection: Box::new(connection),
            },
            path,
            resumed: false,
            round_trip: None,
        }
    }

    pub(super) fn stream(
        socket: TcpStream,
        connection: StreamConnection,
        seed: u64,
        path: Path,
    ) -> Self {
        Self {
            wire: Wire::Stream(Box::new(Stream {
                socket,
                connection,
                carrier: Carrier::new(seed),
                unwritten: Vec::new(),
                broken: None,
                told: false,
            })),
            path,
            resumed: false,
            round_trip: None,
        }
    }

    /// Takes what [`receive`] has read. An error of UDP is no end: ICMP is not authenticated.
    pub(super) fn handle_received(&mut self, now: Instant, octets: &[u8]) {
        match &mut self.wire {
            Wire::Datagrams { connection, .. } => connection.handle_datagram(now, octets),
            Wire::Stream(stream) if octets.is_empty() => stream.connection.handle_end(),
            Wire::Stream(stream) => stream.connection.handle_octets(octets),
        }
    }

    /// The socket has failed: the end of a connection, and of an association a sign that nobody listens.
    pub(super) fn handle_failure(&mut self, error: &io::Error) {
        if let Wire::Stream(stream) = &mut self.wire {
            stream.broken = Some(error.to_string());
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match &mut self.wire {
            Wire::Datagrams { connection, .. } => connection.handle_timeout(now),
            Wire::Stream(stream) => stream.connection.handle_timeout(now),
        }
    }

    /// Sends a datagram of the session.
    pub(super) fn handle_send(&mut self, datagram: &[u8]) -> Result<(), DtlsError> {
        match &mut self.wire {
            Wire::Datagrams { connection, .. } => connection.handle_send(datagram),
            Wire::Stream(stream) => {
                stream.carrier.handle_datagram(datagram);
                Ok(())
            }
        }
    }

    /// Says goodbye.
    pub(super) fn handle_close(&mut self) {
        match &mut self.wire {
            Wire::Datagrams { connection, .. } => connection.handle_close(),
            Wire::Stream(stream) => stream.carrier.handle_release(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.wire {
            Wire::Datagrams { connection, .. } => connection.poll_timeout(),
            Wire::Stream(stream) => stream.connection.poll_timeout(),
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<LinkEvent> {
        match &mut self.wire {
            Wire::Datagrams { connection, .. } => {
                connection.poll_event().map(|event| match event {
                    DtlsEvent::Connected { resumed, .. } => LinkEvent::Connected { resumed },
                    DtlsEvent::Data(datagram) => LinkEvent::Datagram(datagram),
                    DtlsEvent::Closed(error) => {
                        LinkEvent::Closed(error.map(|error| error.to_string()), None)
                    }
                })
            }
            Wire::Stream(stream) => stream.poll_event(&mut self.resumed),
        }
    }

    /// What resumes the session.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match &self.wire {
            Wire::Datagrams { connection, .. } => connection.ticket(),
            Wire::Stream(stream) => stream.connection.ticket(),
        }
    }

    /// Sends what there is to send; true where there was something. Datagrams that the network does not take are lost, as
    /// datagrams are; octets wait.
    pub(super) async fn flush(&mut self) -> bool {
        match &mut self.wire {
            Wire::Datagrams { socket, connection } => {
                let mut sent = false;
                while let Some(datagram) = connection.poll_transmit() {
                    sent = true;
                    if let Err(error) = socket.send(&datagram).await {
                        tracing::debug!(path = %self.path, %error, "datagram not sent");
                    }
                }
                sent
            }
            Wire::Stream(stream) => stream.flush(),
        }
    }
}

impl Stream {
    /// TLS has data, the carrier makes datagrams of it.
    fn poll_event(&mut self, resumed_before: &mut bool) -> Option<LinkEvent> {
        loop {
            if let Some(datagram) = self.carrier.poll_datagram() {
                return Some(LinkEvent::Datagram(datagram));
            }
            let introduced = self.carrier.is_introduced();
            match self.connection.poll_event() {
                Some(DtlsEvent::Connected { resumed, .. }) => *resumed_before = resumed,
                Some(DtlsEvent::Data(octets)) => {
                    self.carrier.handle_octets(&octets);
                    if !introduced && self.carrier.is_introduced() {
                        let resumed = *resumed_before;
                        return Some(LinkEvent::Connected { resumed });
                    }
                }
                Some(DtlsEvent::Closed(error)) => {
                    let reason = error.map(|error| error.to_string());
                    return self.tell_end(reason, None);
                }
                None => break,
            }
        }
        if let Some(reason) = self.broken.take() {
            return self.tell_end(Some(reason), None);
        }
        match self.carrier.end()? {
            End::Released { hold_off } => {
                let hold_off = hold_off.map(|seconds| Duration::from_secs(seconds.into()));
                self.tell_end(None, hold_off)
            }
            End::Aborted(reason) | End::Broken(reason) => self.tell_end(Some(reason.clone()), None),
        }
    }

    fn tell_end(
        &mut self,
        reason: Option<String>,
        hold_off: Option<Duration>,
    ) -> Option<LinkEvent> {
        let told = std::mem::replace(&mut self.told, true);
        (!told).then_some(LinkEvent::Closed(reason, hold_off))
    }

    fn flush(&mut self) -> bool {
        if self.connection.is_connected() {
            while let Some(octets) = self.carrier.poll_transmit() {
                if let Err(error) = self.connection.handle_send(&octets) {
                    self.broken = Some(error.to_string());
                }
            }
            if self.carrier.end().is_some() {
                self.connection.handle_close();
            }
        }
        let octets = self.connection.poll_transmit();
        let sent = octets.is_some();
        self.unwritten.extend(octets.into_iter().flatten());
        while !self.unwritten.is_empty() {
            match self.socket.try_write(&self.unwritten) {
                Ok(written) => drop(self.unwritten.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.unwritten.clear();
                    self.broken = Some(error.to_string());
                }
            }
        }
        if self.unwritten.len() > MAX_UNWRITTEN {
            self.broken = Some("the server does not read".to_owned());
        }
        sent
    }
}

/// Waits for the network. Only the socket is shared with the future, since an association need not be `Sync`.
pub(super) fn receive<'d>(
    link: Option<&'d Link>,
    buffer: &'d mut [u8],
) -> impl Future<Output = io::Result<Ready>> + use<'d> {
    enum Socket<'s> {
        Datagrams(&'s UdpSocket),
        Stream(&'s TcpStream, bool),
    }
    let socket = link.map(|link| match &link.wire {
        Wire::Datagrams { socket, .. } => Socket::Datagrams(socket),
        Wire::Stream(stream) => Socket::Stream(&stream.socket, !stream.unwritten.is_empty()),
    });
    async move {
        match socket {
            Some(Socket::Datagrams(socket)) => socket.recv(buffer).await.map(Ready::Read),
            Some(Socket::Stream(socket, waits)) => loop {
                tokio::select! {
                    ready = socket.readable() => {
                        ready?;
                        match socket.try_read(buffer) {
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                            read => return read.map(Ready::Read),
                        }
                    }
                    ready = socket.writable(), if waits => {
                        ready?;
                        return Ok(Ready::Writable);
                    }
                }
            },
            None => std::future::pending().await,
        }
    }
}

impl Path {
    /// Whether datagrams are carried as they are.
    pub(super) fn is_datagrams(self) -> bool {
        self.over == Over::Udp
    }
}
