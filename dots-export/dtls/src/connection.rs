//! One DTLS association, client or server, over queues of datagrams.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslStream};

use crate::context::client_ssl;
use crate::tls::{Queue, State, Tls};
use crate::{ClientContext, DtlsError, PeerIdentity, Ticket, ffi};

/// Octets of a datagram, below IPv6's least MTU of 1280 with room for IP and UDP headers (RFC 9132 §7.3).
pub const MTU: u32 = 1200;
/// Octets of application data that surely fit into one datagram: MTU less record header, nonce and tag.
pub const MAX_DATA: usize = 1140;
/// A handshake that takes longer has failed.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Datagrams that wait to be read by OpenSSL.
const MAX_WAITING: usize = 64;

/// What a connection tells.
#[derive(Debug)]
pub enum DtlsEvent {
    /// The handshake is done, and the peer is who it should be.
    Connected {
        /// By its certificate or key.
        peer: PeerIdentity,
        /// Whether a ticket was used.
        resumed: bool,
    },
    /// Application data of one datagram.
    Data(Vec<u8>),
    /// The end; an error where it was not wanted.
    Closed(Option<DtlsError>),
}

/// Datagrams under way between OpenSSL and the caller: one read or write is one datagram.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    pub(crate) incoming: VecDeque<Vec<u8>>,
    pub(crate) outgoing: VecDeque<Vec<u8>>,
}

impl Read for Datagrams {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        // What does not fit is cut, as a datagram socket does; OpenSSL then drops the record.
        let length = datagram.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram[..length]);
        Ok(length)
    }
}

impl Write for Datagrams {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.push_back(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue for Datagrams {
    fn waiting(&self) -> usize {
        self.incoming.len()
    }
}

/// One association. After each `handle_*`, poll `poll_event` and `poll_transmit` until both are empty.
///
/// Retransmission in the handshake is timed by OpenSSL's own clock; `now` only says when to look again.
pub struct Connection {
    tls: Tls<Datagrams>,
    due: Option<Instant>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("state", &self.tls.state())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Begins a handshake with a server that must have a certificate for `server_name`, a DNS name or an address. A ticket of
    /// the same context makes it short.
    pub fn connect(
        context: &ClientContext,
        server_name: &str,
        ticket: Option<&Ticket>,
        now: Instant,
    ) -> Result<Self, DtlsError> {
        let ssl = client_ssl(&context.datagrams, server_name, ticket)?;
        Ok(Self::new(stream(ssl)?, now))
    }

    /// A server's connection, whose ClientHello waits in `stream`.
    pub(crate) fn accepted(stream: SslStream<Datagrams>, now: Instant) -> Self {
        Self::new(stream, now)
    }

    fn new(stream: SslStream<Datagrams>, now: Instant) -> Self {
        let mut connection = Self {
            tls: Tls::new(stream, now),
            due: None,
        };
        connection.drive(now);
        connection
    }

    /// Takes a datagram of the peer. What is no record of this association is dropped (RFC 6347 §4.1.2.7).
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let closed = self.tls.state() == State::Closed;
        let incoming = &mut self.tls.queue_mut().incoming;
        // An empty datagram would read as the end of the stream.
        if closed || datagram.is_empty() || incoming.len() >= MAX_WAITING {
            return;
        }
        incoming.push_back(datagram.to_vec());
        self.drive(now);
    }

    /// Repeats a flight that is due; gives up where the peer has not answered for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some(give_up_at) = self.tls.give_up_at(HANDSHAKE) else {
            return;
        };
        let repeats = self.due.is_none_or(|due| due > now) || ffi::handle_timeout(self.tls.ssl());
        if now >= give_up_at || !repeats {
            self.tls.close(Some(DtlsError::Timeout));
        }
        self.drive(now);
    }

    /// Sends application data as one datagram.
    pub fn handle_send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        let writer = self.tls.writer()?;
        if data.len() > MAX_DATA {
            return Err(DtlsError::TooLong(data.len()));
        }
        match writer.ssl_write(data) {
            Ok(_) => Ok(()),
            Err(error) => Err(DtlsError::Handshake(error.to_string())),
        }
    }

    /// Says goodbye.
    pub fn handle_close(&mut self) {
        self.tls.handle_close();
    }

    /// The next datagram for the peer. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.tls.queue_mut().outgoing.pop_front()
    }

    /// The next event. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.tls.poll_event()
    }

    /// When `handle_timeout` is due; `None` once the handshake is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let give_up = self.tls.give_up_at(HANDSHAKE)?;
        Some(self.due.map_or(give_up, |due| due.min(give_up)))
    }

    /// Whether application data can be sent.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.tls.state() == State::Connected
    }

    /// What resumes this session; `None` before it is connected, or where the server gave none.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        self.tls.ticket()
    }

    /// Whether something was told that has not been polled: only authentic records do that.
    pub(crate) fn has_events(&self) -> bool {
        self.tls.has_events()
    }

    fn drive(&mut self, now: Instant) {
        self.tls.drive();
        self.due = match self.tls.state() {
            State::Handshake => ffi::timeout(self.tls.ssl()).map(|left| now + left),
            State::Connected | State::Closed => None,
        };
    }
}

/// OpenSSL over queues of datagrams.
pub(crate) fn stream(mut ssl: Ssl) -> Result<SslStream<Datagrams>, DtlsError> {
    ssl.set_mtu(MTU)?;
    let stream = SslStream::new(ssl, Datagrams::default())?;
    ffi::set_timer(stream.ssl());
    Ok(stream)
}
