//! One DTLS association, client or server, over queues of datagrams.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use openssl::ssl::{ErrorCode, ShutdownState, Ssl, SslStream};

use crate::context::client_ssl;
use crate::identity::reason;
use crate::{ClientContext, DtlsError, PeerIdentity, Ticket, ffi};

/// Octets of a datagram, below IPv6's least MTU of 1280 with room for IP and UDP headers (RFC 9132 §7.3).
pub const MTU: u32 = 1200;
/// Octets of application data that surely fit into one datagram: MTU less record header, nonce and tag.
pub const MAX_DATA: usize = 1140;
/// A handshake that takes longer has failed.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Octets that one record can carry (RFC 5246 §6.2.1); a datagram's data is told as a whole.
const MAX_RECORD: usize = 16_384;
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Handshake,
    Connected,
    Closed,
}

/// One association. After each `handle_*`, poll `poll_event` and `poll_transmit` until both are empty.
///
/// Retransmission in the handshake is timed by OpenSSL's own clock; `now` only says when to look again.
pub struct Connection {
    stream: SslStream<Datagrams>,
    state: State,
    began: Instant,
    due: Option<Instant>,
    events: VecDeque<DtlsEvent>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("state", &self.state)
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
        let mut connection = Self::new(ssl, now)?;
        connection.drive(now);
        Ok(connection)
    }

    /// A server's connection, whose ClientHello waits in `stream`.
    pub(crate) fn accepted(stream: SslStream<Datagrams>, now: Instant) -> Self {
        let mut connection = Self {
            stream,
            state: State::Handshake,
            began: now,
            due: None,
            events: VecDeque::new(),
        };
        connection.drive(now);
        connection
    }

    fn new(ssl: Ssl, now: Instant) -> Result<Self, DtlsError> {
        let stream = stream(ssl)?;
        Ok(Self {
            stream,
            state: State::Handshake,
            began: now,
            due: None,
            events: VecDeque::new(),
        })
    }

    /// Takes a datagram of the peer. What is no record of this association is dropped (RFC 6347 §4.1.2.7).
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let incoming = &mut self.stream.get_mut().incoming;
        // An empty datagram would read as the end of the stream.
        if self.state == State::Closed || datagram.is_empty() || incoming.len() >= MAX_WAITING {
            return;
        }
        incoming.push_back(datagram.to_vec());
        self.drive(now);
    }

    /// Repeats a flight that is due; gives up where the peer has not answered for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state != State::Handshake {
            return;
        }
        if now.duration_since(self.began) >= HANDSHAKE {
            return self.close(Some(DtlsError::Timeout));
        }
        if self.due.is_some_and(|due| due <= now) && !ffi::handle_timeout(self.stream.ssl()) {
            return self.close(Some(DtlsError::Timeout));
        }
        self.drive(now);
    }

    /// Sends application data as one datagram.
    pub fn handle_send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        if self.state != State::Connected {
            return Err(DtlsError::Ended);
        }
        if data.len() > MAX_DATA {
            return Err(DtlsError::TooLong(data.len()));
        }
        match self.stream.ssl_write(data) {
            Ok(_) => Ok(()),
            Err(error) => Err(DtlsError::Handshake(error.to_string())),
        }
    }

    /// Says goodbye.
    pub fn handle_close(&mut self) {
        if self.state == State::Connected {
            // The alert is queued; whether the peer answers does not matter.
            let _ = self.stream.shutdown();
        }
        self.close(None);
    }

    /// The next datagram for the peer. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.stream.get_mut().outgoing.pop_front()
    }

    /// The next event. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is due; `None` once the handshake is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let give_up = (self.state == State::Handshake).then(|| self.began + HANDSHAKE);
        self.due
            .into_iter()
            .chain(give_up)
            .min()
            .filter(|_| self.state == State::Handshake)
    }

    /// Whether application data can be sent.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// What resumes this session; `None` before it is connected, or where the server gave none.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        Ticket::of(self.stream.ssl()).filter(|_| self.state == State::Connected)
    }

    /// Whether something was told that has not been polled: only authentic records do that.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    fn drive(&mut self, now: Instant) {
        if self.state == State::Handshake {
            self.handshake();
        }
        if self.state == State::Connected {
            self.read();
        }
        self.due = match self.state {
            State::Handshake => ffi::timeout(self.stream.ssl()).map(|left| now + left),
            State::Connected | State::Closed => None,
        };
    }

    fn handshake(&mut self) {
        loop {
            let waiting = self.waiting();
            match self.stream.do_handshake() {
                Ok(()) => return self.connected(),
                Err(error) if error.code() == ErrorCode::WANT_READ => {
                    // A datagram that is no record is dropped inside, and the next one is looked at.
                    if self.waiting() == 0 || self.waiting() == waiting {
                        return;
                    }
                }
                Err(error) if error.code() == ErrorCode::WANT_WRITE => return,
                Err(error) => {
                    let reason = reason(self.stream.ssl(), &error);
                    return self.close(Some(DtlsError::Handshake(reason)));
                }
            }
        }
    }

    fn connected(&mut self) {
        match PeerIdentity::of_session(self.stream.ssl()) {
            Ok(peer) => {
                self.state = State::Connected;
                let resumed = self.stream.ssl().session_reused();
                self.events
                    .push_back(DtlsEvent::Connected { peer, resumed });
            }
            Err(error) => self.close(Some(error)),
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; MAX_RECORD];
        loop {
            let waiting = self.waiting();
            match self.stream.ssl_read(&mut buffer) {
                Ok(length) => {
                    let data = buffer.get(..length).unwrap_or_default().to_vec();
                    self.events.push_back(DtlsEvent::Data(data));
                }
                Err(error)
                    if matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE) =>
                {
                    if self.waiting() == 0 || self.waiting() == waiting {
                        return;
                    }
                }
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => {
                    let _ = self.stream.shutdown();
                    return self.close(None);
                }
                Err(error) => return self.close(Some(DtlsError::Handshake(error.to_string()))),
            }
        }
    }

    /// Datagrams that OpenSSL has not looked at.
    fn waiting(&self) -> usize {
        self.stream.get_ref().incoming.len()
    }

    fn close(&mut self, error: Option<DtlsError>) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.due = None;
            self.events.push_back(DtlsEvent::Closed(error));
        }
    }
}

impl Drop for Connection {
    /// OpenSSL takes a session that was not shut down for one that must not be resumed. Here it is one whose peer is silent, or
    /// whose path broke: that is when resumption is wanted. A fatal alert has spoilt the session already.
    fn drop(&mut self) {
        self.stream
            .set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
    }
}

/// OpenSSL over queues of datagrams.
pub(crate) fn stream(mut ssl: Ssl) -> Result<SslStream<Datagrams>, DtlsError> {
    ssl.set_mtu(MTU)?;
    let stream = SslStream::new(ssl, Datagrams::default())?;
    ffi::set_timer(stream.ssl());
    Ok(stream)
}
