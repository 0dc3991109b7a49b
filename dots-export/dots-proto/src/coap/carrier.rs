use std::collections::VecDeque;

use crate::coap::tcp::{self, Decoder};
use crate::coap::{Code, Kind, Message, Signal, SignalError, Token, option};

/// Requests without an answer that are remembered, so that they are not sent twice.
const MAX_OPEN: usize = 512;

/// Why a connection has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The peer has asked for it.
    Released {
        /// Seconds that it wants to be left alone.
        hold_off: Option<u32>,
    },
    /// The peer has given up: its reason.
    Aborted(String),
    /// We have given up, and told the peer: our reason.
    Broken(String),
}

/// One side of a connection over a stream (RFC 8323): carries a session that speaks in datagrams.
///
/// A session repeats what is not answered, acknowledges and resets, since datagrams get lost; a stream loses nothing, so of
/// all this the carrier sends each request once and nothing else. The session gets what comes as Non-confirmable
/// datagrams, each with an id of its own.
///
/// After each `handle_*` poll `poll_datagram` and `poll_transmit` until both are empty, and then [`end`](Self::end).
#[derive(Debug)]
pub struct Carrier {
    decoder: Decoder,
    message_id: u16,
    /// Of notifications: over a stream they come in order, and their own number says nothing (RFC 8323 §7.1).
    sequence: u32,
    introduced: bool,
    peer_takes: usize,
    open: VecDeque<Token>,
    datagrams: VecDeque<Vec<u8>>,
    transmits: VecDeque<Vec<u8>>,
    end: Option<End>,
    unsent: u64,
}

impl Carrier {
    /// A connection that has just come about; our CSM waits to be sent. The seed makes message ids.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut carrier = Self {
            decoder: Decoder::new(tcp::MAX_MESSAGE),
            message_id: seed as u16,
            sequence: 0,
            introduced: false,
            peer_takes: tcp::BASE_MAX_MESSAGE,
            open: VecDeque::new(),
            datagrams: VecDeque::new(),
            transmits: VecDeque::new(),
            end: None,
            unsent: 0,
        };
        let csm = Signal::Csm {
            max_message_size: u32::try_from(tcp::MAX_MESSAGE).ok(),
            block_wise: true,
        };
        carrier.signal(&csm, Token::default());
        carrier
    }

    /// Takes octets of the stream.
    pub fn handle_octets(&mut self, octets: &[u8]) {
        self.decoder.handle_octets(octets);
        while self.end.is_none() {
            match self.decoder.poll_message() {
                Ok(Some(message)) => self.handle_message(message),
                Ok(None) => return,
                Err(error) => self.abort(None, error.to_string()),
            }
        }
    }

    /// Takes a datagram of the session.
    pub fn handle_datagram(&mut self, datagram: &[u8]) {
        let Ok(message) = Message::decode(datagram) else {
            return;
        };
        if self.end.is_some() || message.code == Code::EMPTY {
            return;
        }
        if message.code.is_request() && !self.is_new(message.token) {
            return;
        }
        let frame = tcp::frame(&message);
        if frame.len() > self.peer_takes {
            self.unsent += 1;
        } else {
            self.transmits.push_back(frame);
        }
    }

    /// Says that the connection is to end; the stream is closed once this is sent.
    pub fn handle_release(&mut self) {
        let release = Signal::Release {
            alternatives: Vec::new(),
            hold_off: None,
        };
        self.signal(&release, Token::default());
        self.end.get_or_insert(End::Released { hold_off: None });
    }

    /// The next datagram for the session.
    #[must_use]
    pub fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        self.datagrams.pop_front()
    }

    /// The next octets for the stream, in their order.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// Whether the peer's CSM has come, without which no peer is one (RFC 8323 §5.3).
    #[must_use]
    pub fn is_introduced(&self) -> bool {
        self.introduced
    }

    /// Why the connection is over: send what is left, and close the stream.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Messages that were larger than the peer takes, and not sent.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.unsent
    }

    fn handle_message(&mut self, message: Message) {
        if message.code.is_signal() {
            return self.handle_signal(&message);
        }
        if !self.introduced {
            return self.abort(None, "a CSM comes first".to_owned());
        }
        if message.code.is_request() || message.code.is_response() {
            self.handle_exchange(message);
        }
        // RFC 8323 §3.4: an empty message keeps bindings alive; other codes are reserved.
    }

    fn handle_exchange(&mut self, mut message: Message) {
        message.message_id = self.message_id;
        self.message_id = self.message_id.wrapping_add(1);
        if message.code.is_response() {
            self.open.retain(|open| *open != message.token);
            let observed = |(number, _): &&mut (u16, Vec<u8>)| *number == option::OBSERVE;
            if let Some((_, value)) = message.options.iter_mut().find(observed) {
                self.sequence = (self.sequence + 1) & 0x00ff_ffff;
                *value = option::octets(self.sequence);
            }
        }
        message.kind = Kind::NonConfirmable;
        self.datagrams.push_back(message.to_octets());
    }

    fn handle_signal(&mut self, message: &Message) {
        if !self.introduced && message.code != Code::CSM && message.code != Code::ABORT {
            return self.abort(None, "a CSM comes first".to_owned());
        }
        match Signal::read(message) {
            Ok(Signal::Csm {
                max_message_size, ..
            }) => {
                self.introduced = true;
                if let Some(size) = max_message_size {
                    self.peer_takes = usize::try_from(size).unwrap_or(usize::MAX);
                }
            }
            // All that came before is with the session already, so custody is had.
            Ok(Signal::Ping { custody }) => self.signal(&Signal::Pong { custody }, message.token),
            Ok(Signal::Pong { .. }) | Err(SignalError::Unknown(_)) => {}
            Ok(Signal::Release { hold_off, .. }) => self.end = Some(End::Released { hold_off }),
            Ok(Signal::Abort { diagnostic, .. }) => self.end = Some(End::Aborted(diagnostic)),
            Err(error @ SignalError::Option { code, number }) => {
                let bad = Some(number).filter(|_| code == Code::CSM);
                self.abort(bad, error.to_string());
            }
        }
    }

    fn abort(&mut self, bad_csm_option: Option<u16>, diagnostic: String) {
        let abort = Signal::Abort {
            bad_csm_option,
            diagnostic: diagnostic.clone(),
        };
        self.signal(&abort, Token::default());
        self.end = Some(End::Broken(diagnostic));
    }

    fn signal(&mut self, signal: &Signal, token: Token) {
        self.transmits.push_back(tcp::frame(&signal.message(token)));
    }

    /// Whether no request of that token is under way; it is from now on.
    fn is_new(&mut self, token: Token) -> bool {
        if self.open.contains(&token) {
            return false;
        }
        if self.open.len() >= MAX_OPEN {
            self.open.pop_front();
        }
        self.open.push_back(token);
        true
    }
}
