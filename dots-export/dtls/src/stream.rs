//! One TLS connection, client or server, over octets that the caller carries.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslStream};

use crate::context::client_ssl;
use crate::tls::{Queue, State, Tls};
use crate::{ClientContext, DtlsError, DtlsEvent, ServerContext, Ticket};

/// A handshake that takes longer has failed.
const HANDSHAKE: Duration = Duration::from_secs(20);

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

impl Queue for Octets {
    fn waiting(&self) -> usize {
        self.incoming.len()
    }
}

/// One TLS connection, of version 1.2 or 1.3. After each `handle_*`, poll `poll_event` and `poll_transmit` until both are empty.
///
/// A server that refuses a client's certificate does so after a client of TLS 1.3 counts as connected: a client is sure of
/// itself once the server's first octets have come.
pub struct StreamConnection {
    tls: Tls<Octets>,
}

impl std::fmt::Debug for StreamConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamConnection")
            .field("state", &self.tls.state())
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
        let mut tls = Tls::new(SslStream::new(ssl, Octets::default())?, now);
        tls.drive();
        Ok(Self { tls })
    }

    /// Takes octets of the peer, in their order.
    pub fn handle_octets(&mut self, octets: &[u8]) {
        if self.tls.state() != State::Closed {
            self.tls.queue_mut().incoming.extend(octets);
            self.tls.drive();
        }
    }

    /// The peer's direction has ended.
    pub fn handle_end(&mut self) {
        if self.tls.state() != State::Closed {
            self.tls.queue_mut().ended = true;
            self.tls.drive();
            // An end without a goodbye may be somebody else's doing.
            self.tls.close(Some(DtlsError::Ended));
        }
    }

    /// Gives up where the handshake takes too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.tls.close(Some(DtlsError::Timeout));
        }
    }

    /// Sends application data.
    pub fn handle_send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        let written = self.tls.writer()?.write_all(data);
        written.map_err(|error| DtlsError::Handshake(error.to_string()))
    }

    /// Says goodbye.
    pub fn handle_close(&mut self) {
        self.tls.handle_close();
    }

    /// All octets for the peer so far. Poll after each `handle_*`.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let octets = std::mem::take(&mut self.tls.queue_mut().outgoing);
        (!octets.is_empty()).then_some(octets)
    }

    /// The next event. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.tls.poll_event()
    }

    /// When `handle_timeout` is due; `None` once the handshake is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.tls.give_up_at(HANDSHAKE)
    }

    /// Whether application data can be sent.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.tls.state() == State::Connected
    }

    /// What resumes this session; `None` before it is connected, or where the server gave none. In TLS 1.3 it comes after the
    /// handshake.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        self.tls.ticket()
    }
}
