//! One TLS connection, client or server, over octets that the caller carries.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use openssl::ssl::{ErrorCode, ShutdownState, Ssl, SslStream};

use crate::context::client_ssl;
use crate::identity::reason;
use crate::{ClientContext, DtlsError, DtlsEvent, PeerIdentity, ServerContext, Ticket};

/// A handshake that takes longer has failed.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Octets that one record can carry (RFC 8446 §5.1).
const MAX_RECORD: usize = 16_384;

/// Octets under way between OpenSSL and the caller.
#[derive(Debug, Default)]
struct Octets {
    incoming: VecDeque<u8>,
    /// Nothing more comes.
    ended: bool,
    outgoing: Vec<u8>,
}

impl Read for Octets {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.incoming.read(buffer)
    }
}

impl Write for Octets {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Handshake,
    Connected,
    Closed,
}

/// One TLS connection, of version 1.2 or 1.3. After each `handle_*`, poll `poll_event` and `poll_transmit` until both are empty.
///
/// A server that refuses a client's certificate does so after a client of TLS 1.3 counts as connected: a client is sure of
/// itself once the server's first octets have come.
pub struct StreamConnection {
    stream: SslStream<Octets>,
    state: State,
    began: Instant,
    events: VecDeque<DtlsEvent>,
}

impl std::fmt::Debug for StreamConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamConnection")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl StreamConnection {
    /// Begins a handshake with a server that must have a certificate for `server_name`, a DNS name or an address. A ticket of
    /// the same context makes it short.
    pub fn connect(
        context: &ClientContext,
        server_name: &str,
        ticket: Option<&Ticket>,
        now: Instant,
    ) -> Result<Self, DtlsError> {
        Self::new(client_ssl(&context.streams, server_name, ticket)?, now)
    }

    /// A server's side of a connection that was accepted.
    pub fn accept(context: &ServerContext, now: Instant) -> Result<Self, DtlsError> {
        let mut ssl = Ssl::new(&context.streams)?;
        ssl.set_accept_state();
        Self::new(ssl, now)
    }

    fn new(ssl: Ssl, now: Instant) -> Result<Self, DtlsError> {
        let mut connection = Self {
            stream: SslStream::new(ssl, Octets::default())?,
            state: State::Handshake,
            began: now,
            events: VecDeque::new(),
        };
        connection.drive();
        Ok(connection)
    }

    /// Takes octets of the peer, in their order.
    pub fn handle_octets(&mut self, octets: &[u8]) {
        if self.state != State::Closed {
            self.stream.get_mut().incoming.extend(octets);
            self.drive();
        }
    }

    /// The peer's direction has ended.
    pub fn handle_end(&mut self) {
        if self.state != State::Closed {
            self.stream.get_mut().ended = true;
            self.drive();
            // An end without a goodbye may be somebody else's doing.
            self.close(Some(DtlsError::Ended));
        }
    }

    /// Gives up where the handshake takes too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.close(Some(DtlsError::Timeout));
        }
    }

    /// Sends application data.
    pub fn handle_send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        if self.state != State::Connected {
            return Err(DtlsError::Ended);
        }
        self.stream
            .write_all(data)
            .map_err(|error| DtlsError::Handshake(error.to_string()))
    }

    /// Says goodbye.
    pub fn handle_close(&mut self) {
        if self.state == State::Connected {
            // The alert is queued; whether the peer answers does not matter.
            let _ = self.stream.shutdown();
        }
        self.close(None);
    }

    /// All octets for the peer so far. Poll after each `handle_*`.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let octets = std::mem::take(&mut self.stream.get_mut().outgoing);
        (!octets.is_empty()).then_some(octets)
    }

    /// The next event. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is due; `None` once the handshake is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.state == State::Handshake).then(|| self.began + HANDSHAKE)
    }

    /// Whether application data can be sent.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// What resumes this session; `None` before it is connected, or where the server gave none. In TLS 1.3 it comes after the
    /// handshake.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        Ticket::of(self.stream.ssl()).filter(|_| self.state == State::Connected)
    }

    fn drive(&mut self) {
        if self.state == State::Handshake {
            self.handshake();
        }
        if self.state == State::Connected {
            self.read();
        }
    }

    fn handshake(&mut self) {
        match self.stream.do_handshake() {
            Ok(()) => match PeerIdentity::of_session(self.stream.ssl()) {
                Ok(peer) => {
                    self.state = State::Connected;
                    let resumed = self.stream.ssl().session_reused();
                    self.events
                        .push_back(DtlsEvent::Connected { peer, resumed });
                }
                Err(error) => self.close(Some(error)),
            },
            Err(error) if matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE) => {}
            Err(error) => {
                let reason = reason(self.stream.ssl(), &error);
                self.close(Some(DtlsError::Handshake(reason)));
            }
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; MAX_RECORD];
        loop {
            match self.stream.ssl_read(&mut buffer) {
                Ok(length) => {
                    let data = buffer.get(..length).unwrap_or_default().to_vec();
                    self.events.push_back(DtlsEvent::Data(data));
                }
                Err(error)
                    if matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE) =>
                {
                    return;
                }
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => {
                    let _ = self.stream.shutdown();
                    return self.close(None);
                }
                Err(error) => return self.close(Some(DtlsError::Handshake(error.to_string()))),
            }
        }
    }

    fn close(&mut self, error: Option<DtlsError>) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.events.push_back(DtlsEvent::Closed(error));
        }
    }
}

impl Drop for StreamConnection {
    /// OpenSSL takes a session that was not shut down for one that must not be resumed. Here it is one whose peer is silent, or
    /// whose path broke: that is when resumption is wanted. A fatal alert has spoilt the session already.
    fn drop(&mut self) {
        self.stream
            .set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
    }
}
