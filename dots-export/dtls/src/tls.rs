//! What a TLS connection and a DTLS association have in common: OpenSSL over a queue, a handshake, data, and an end.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use openssl::ssl::{Error, ErrorCode, ShutdownState, SslRef, SslStream};

use crate::identity::reason;
use crate::{DtlsError, DtlsEvent, PeerIdentity, Ticket};

/// Octets that one record can carry (RFC 5246 §6.2.1, RFC 8446 §5.1).
const MAX_RECORD: usize = 16_384;

/// What is under way between OpenSSL and the caller.
pub(crate) trait Queue: Read + Write {
    /// What OpenSSL has not looked at: datagrams, or octets.
    fn waiting(&self) -> usize;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Handshake,
    Connected,
    Closed,
}

/// One end of a connection or association.
pub(crate) struct Tls<Q: Queue> {
    stream: SslStream<Q>,
    state: State,
    began: Instant,
    events: VecDeque<DtlsEvent>,
}

impl<Q: Queue> Tls<Q> {
    /// A handshake that begins.
    pub(crate) fn new(stream: SslStream<Q>, now: Instant) -> Self {
        Self {
            stream,
            state: State::Handshake,
            began: now,
            events: VecDeque::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn ssl(&self) -> &SslRef {
        self.stream.ssl()
    }

    pub(crate) fn queue(&self) -> &Q {
        self.stream.get_ref()
    }

    pub(crate) fn queue_mut(&mut self) -> &mut Q {
        self.stream.get_mut()
    }

    /// When a handshake is given up that may take so long; `None` once it is over.
    pub(crate) fn give_up_at(&self, limit: Duration) -> Option<Instant> {
        (self.state == State::Handshake).then(|| self.began + limit)
    }

    /// Goes on with the handshake, and reads what has come.
    pub(crate) fn drive(&mut self) {
        if self.state == State::Handshake {
            self.handshake();
        }
        if self.state == State::Connected {
            self.read();
        }
    }

    /// The stream to write data to; an error where there is no connection.
    pub(crate) fn writer(&mut self) -> Result<&mut SslStream<Q>, DtlsError> {
        match self.state {
            State::Connected => Ok(&mut self.stream),
            State::Handshake | State::Closed => Err(DtlsError::Ended),
        }
    }

    /// Says goodbye.
    pub(crate) fn handle_close(&mut self) {
        if self.state == State::Connected {
            // The alert is queued; whether the peer answers does not matter.
            let _ = self.stream.shutdown();
        }
        self.close(None);
    }

    /// Ends, and tells so; an error where that was not wanted.
    pub(crate) fn close(&mut self, error: Option<DtlsError>) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.events.push_back(DtlsEvent::Closed(error));
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.events.pop_front()
    }

    /// Whether something was told that has not been polled.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What resumes this session; `None` before it is connected, or where the server gave none.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        Ticket::of(self.stream.ssl()).filter(|_| self.state == State::Connected)
    }

    fn handshake(&mut self) {
        loop {
            let waiting = self.queue().waiting();
            match self.stream.do_handshake() {
                Ok(()) => return self.connected(),
                Err(error) if wants_more(&error) => {
                    if !self.has_more(waiting) {
                        return;
                    }
                }
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
            let waiting = self.queue().waiting();
            match self.stream.ssl_read(&mut buffer) {
                Ok(length) => {
                    let data = buffer.get(..length).unwrap_or_default().to_vec();
                    self.events.push_back(DtlsEvent::Data(data));
                }
                Err(error) if wants_more(&error) => {
                    if !self.has_more(waiting) {
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

    /// A datagram that is no record is dropped inside OpenSSL, which then wants more although there is some.
    fn has_more(&self, before: usize) -> bool {
        let waiting = self.queue().waiting();
        waiting != 0 && waiting != before
    }
}

impl<Q: Queue> Drop for Tls<Q> {
    /// OpenSSL takes a session that was not shut down for one that must not be resumed. Here it is one whose peer is silent, or
    /// whose path broke: that is when resumption is wanted. A fatal alert has spoilt the session already.
    fn drop(&mut self) {
        self.stream
            .set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
    }
}

fn wants_more(error: &Error) -> bool {
    matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE)
}
