//! The server's side: datagrams of many peers, no state before a cookie has come back.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use openssl::ex_data::Index;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::ssl::{Ssl, SslRef, SslStream};

use crate::connection::{Connection, Datagrams, DtlsEvent, stream};
use crate::ffi::{Listened, listen};
use crate::{DtlsError, PeerIdentity, ServerContext, gives_way};

/// Octets of a cookie: half of an HMAC-SHA-256, so that answers are short.
const COOKIE: usize = 16;
/// Of what unverified peers send, hundredths that may be sent back to them, since their addresses may be somebody else's.
const ECHO: usize = 30;
/// Octets that may be sent back before anything has come, and be saved for later: a few hundred answers.
const MOST_ECHO: usize = 16_384;
/// A session without any datagram for this long is given up.
const IDLE: Duration = Duration::from_secs(900);

/// The peer that an `Ssl` is answering: part of its cookie.
type PeerCell = Arc<Mutex<Option<SocketAddr>>>;

/// A cookie proves that its bearer receives at the address that it sends from (RFC 6347 §4.2.1).
pub(crate) fn cookie_of(
    ssl: &SslRef,
    secret: &[u8],
) -> Result<Vec<u8>, openssl::error::ErrorStack> {
    let peer = ssl
        .ex_data(peer_index()?)
        .and_then(|cell| *cell.lock().unwrap_or_else(PoisonError::into_inner));
    let text = peer.map(|peer| peer.to_string()).unwrap_or_default();
    let key = PKey::hmac(secret)?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    let mac = signer.sign_oneshot_to_vec(text.as_bytes())?;
    Ok(mac.into_iter().take(COOKIE).collect())
}

fn peer_index() -> Result<Index<Ssl, PeerCell>, openssl::error::ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, PeerCell>> = OnceLock::new();
    match INDEX.get() {
        Some(index) => Ok(*index),
        None => {
            let index = Ssl::new_ex_index()?;
            Ok(*INDEX.get_or_init(|| index))
        }
    }
}

/// A session of a listener.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// Bounds of a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerLimits {
    /// Handshakes at once; each takes about 50 KiB.
    pub max_half_open: usize,
    /// Sessions at once, half-open ones included.
    pub max_sessions: usize,
}

/// What a listener tells.
#[derive(Debug)]
pub enum ListenerEvent {
    /// A peer has proved who it is.
    Connected {
        /// Names the session.
        session: SessionId,
        /// Where it is.
        address: SocketAddr,
        /// Who it is.
        peer: PeerIdentity,
        /// Whether by a ticket.
        resumed: bool,
    },
    /// Application data.
    Data {
        /// Of this session.
        session: SessionId,
        /// One datagram's.
        data: Vec<u8>,
    },
    /// The session is gone.
    Closed {
        /// It was connected before.
        session: SessionId,
    },
}

/// What a listener counts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ListenerCounters {
    /// ClientHellos without a valid cookie: they got one at most.
    pub unverified: u64,
    /// Those of them that were too short for an answer, in a flood of such.
    pub withheld: u64,
    /// Other datagrams of unknown peers, dropped.
    pub unknown: u64,
    /// Handshakes begun.
    pub begun: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// Sessions connected.
    pub connected: u64,
    /// Handshakes that found no room, or had to make some for others.
    pub refused: u64,
}

struct Session {
    id: SessionId,
    connection: Connection,
    /// When it connected, or its newest authentic data came.
    heard: Instant,
    /// Of the ClientHello that began it.
    random: Random,
}

/// The random of a ClientHello: the same in both hellos of a handshake and in their repetitions.
type Random = [u8; 32];

/// Peers by address, each with its session; at most one more while a new handshake of a known address is under way, which
/// replaces the old session only when it is done (RFC 6347 §4.2.8).
pub struct Listener {
    context: ServerContext,
    limits: ListenerLimits,
    /// Answers hellos that have no cookie yet.
    spare: Option<(SslStream<Datagrams>, PeerCell)>,
    sessions: HashMap<SocketAddr, Session>,
    handshakes: HashMap<SocketAddr, Session>,
    addresses: HashMap<SessionId, SocketAddr>,
    /// Octets that may be sent back to unverified peers.
    echo: usize,
    next: u64,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<ListenerEvent>,
    counters: ListenerCounters,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// A listener without sessions.
    #[must_use]
    pub fn new(context: ServerContext, limits: ListenerLimits) -> Self {
        Self {
            context,
            limits,
            spare: None,
            sessions: HashMap::new(),
            handshakes: HashMap::new(),
            addresses: HashMap::new(),
            echo: MOST_ECHO,
            next: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: ListenerCounters::default(),
        }
    }

    /// Other credentials hold for handshakes that begin from now on; sessions that stand go on.
    pub fn handle_context(&mut self, context: ServerContext) {
        self.context = context;
        self.spare = None;
    }

    /// Takes a datagram.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let handshake = self.handshakes.get_mut(&from);
        let session = self.sessions.get_mut(&from);
        if let Some(random) = client_hello_random(datagram) {
            let repeats = |known: &Option<&mut Session>| {
                known.as_ref().is_some_and(|known| known.random == random)
            };
            if !repeats(&handshake) && !repeats(&session) {
                return self.handle_hello(now, from, random, datagram);
            }
        }
        // While a new handshake of a known address runs, the old session still gets its records: each drops what is not its own.
        let mut known = false;
        for session in handshake.into_iter().chain(session) {
            known = true;
            session.connection.handle_datagram(now, datagram);
            if session.connection.has_events() {
                session.heard = now;
            }
        }
        if known {
            self.collect(from);
        } else {
            self.counters.unknown += 1;
        }
    }

    /// Repeats flights, forgets what is silent.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<SocketAddr> = self
            .handshakes
            .iter()
            .filter(|(_, session)| {
                session
                    .connection
                    .poll_timeout()
                    .is_some_and(|due| due <= now)
            })
            .map(|(from, _)| *from)
            .collect();
        for from in due {
            if let Some(session) = self.handshakes.get_mut(&from) {
                session.connection.handle_timeout(now);
            }
            self.collect(from);
        }
        let idle: Vec<SessionId> = self
            .sessions
            .values()
            .filter(|session| now.duration_since(session.heard) > IDLE)
            .map(|session| session.id)
            .collect();
        idle.into_iter()
            .for_each(|session| self.handle_close(session));
    }

    /// Sends application data.
    pub fn handle_send(&mut self, session: SessionId, data: &[u8]) -> Result<(), DtlsError> {
        let from = *self.addresses.get(&session).ok_or(DtlsError::Ended)?;
        let sent = match self.sessions.get_mut(&from) {
            Some(known) if known.id == session => known.connection.handle_send(data),
            _ => Err(DtlsError::Ended),
        };
        self.collect(from);
        sent
    }

    /// Says goodbye to all peers: nothing is left.
    pub fn handle_shutdown(&mut self) {
        self.handshakes.clear();
        let sessions: Vec<SessionId> = self.addresses.keys().copied().collect();
        sessions
            .into_iter()
            .for_each(|session| self.handle_close(session));
    }

    /// Ends a session.
    pub fn handle_close(&mut self, session: SessionId) {
        let Some(from) = self.addresses.get(&session).copied() else {
            return;
        };
        if let Some(known) = self
            .sessions
            .get_mut(&from)
            .filter(|known| known.id == session)
        {
            known.connection.handle_close();
        }
        self.collect(from);
    }

    /// The next datagram and where it goes. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// The next event. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ListenerEvent> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let flights = self
            .handshakes
            .values()
            .filter_map(|session| session.connection.poll_timeout())
            .min();
        let idle = self
            .sessions
            .values()
            .map(|session| session.heard + IDLE)
            .min();
        flights.into_iter().chain(idle).min()
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> ListenerCounters {
        self.counters
    }

    /// Sessions and handshakes that stand now.
    #[must_use]
    pub fn associations(&self) -> usize {
        self.sessions.len() + self.handshakes.len()
    }

    /// A ClientHello that begins a handshake: without a valid cookie it leaves nothing behind. With one it replaces a handshake
    /// that the peer has left unfinished, as after a restart.
    fn handle_hello(&mut self, now: Instant, from: SocketAddr, random: Random, datagram: &[u8]) {
        let Some((mut spare, peer)) = self.spare.take().or_else(|| self.new_spare()) else {
            return;
        };
        *peer.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
        spare.get_mut().incoming.clear();
        spare.get_mut().incoming.push_back(datagram.to_vec());
        let listened = listen(spare.ssl());
        let answers: Vec<Vec<u8>> = spare.get_mut().outgoing.drain(..).collect();
        if listened == Listened::NotYet {
            self.counters.unverified += 1;
            self.answer_unverified(from, datagram.len(), answers);
            self.spare = Some((spare, peer));
            return;
        }
        if self.handshakes.remove(&from).is_some() {
            self.counters.failed += 1;
        }
        self.make_room();
        if self.associations() >= self.limits.max_sessions {
            self.counters.refused += 1;
            return;
        }
        self.counters.begun += 1;
        // OpenSSL would have peeked; our queue has given the hello away, so it is put back.
        spare.get_mut().incoming.push_front(datagram.to_vec());
        self.next += 1;
        let connection = Connection::accepted(spare, now);
        let session = Session {
            id: SessionId(self.next),
            connection,
            heard: now,
            random,
        };
        self.handshakes.insert(from, session);
        self.collect(from);
    }

    /// Where too many handshakes are under way, one gives way: most of them will come to nothing, or to the same.
    fn make_room(&mut self) {
        if self.handshakes.len() < self.limits.max_half_open {
            return;
        }
        let begun = self.handshakes.iter();
        let begun = begun.map(|(from, session)| (from.ip(), (session.id, *from)));
        if let Some((_, from)) = gives_way(begun) {
            self.handshakes.remove(&from);
            self.counters.refused += 1;
        }
    }

    /// An attacker who sends hellos in others' names must not make us send more than a part of it to them. A hello that is long
    /// enough has its answer in any case; those that are shorter than they need be share what is left over.
    fn answer_unverified(&mut self, from: SocketAddr, asked: usize, answers: Vec<Vec<u8>>) {
        let granted = asked * ECHO / 100;
        let answered: usize = answers.iter().map(Vec::len).sum();
        let saved = if answered <= granted {
            Some(self.echo + (granted - answered))
        } else {
            (self.echo + granted).checked_sub(answered)
        };
        match saved {
            Some(saved) => {
                self.echo = saved.min(MOST_ECHO);
                let answers = answers.into_iter().map(|answer| (from, answer));
                self.transmits.extend(answers);
            }
            None => {
                self.echo += granted;
                self.counters.withheld += 1;
            }
        }
    }

    fn new_spare(&self) -> Option<(SslStream<Datagrams>, PeerCell)> {
        let peer = PeerCell::default();
        let mut ssl = Ssl::new(&self.context.datagrams).ok()?;
        ssl.set_ex_data(peer_index().ok()?, Arc::clone(&peer));
        ssl.set_accept_state();
        Some((stream(ssl).ok()?, peer))
    }

    /// Gathers what the connections of an address have to say.
    fn collect(&mut self, from: SocketAddr) {
        if let Some(mut session) = self.handshakes.remove(&from) {
            if self.collect_session(from, &mut session) {
                if session.connection.is_connected() {
                    self.replace(from, session);
                } else {
                    self.handshakes.insert(from, session);
                }
            } else {
                self.counters.failed += 1;
            }
        }
        if let Some(mut session) = self.sessions.remove(&from) {
            if self.collect_session(from, &mut session) {
                self.sessions.insert(from, session);
            } else {
                self.forget(session.id);
            }
        }
    }

    fn replace(&mut self, from: SocketAddr, session: Session) {
        self.addresses.insert(session.id, from);
        if let Some(old) = self.sessions.insert(from, session) {
            self.forget(old.id);
        }
    }

    fn forget(&mut self, session: SessionId) {
        if self.addresses.remove(&session).is_some() {
            self.events.push_back(ListenerEvent::Closed { session });
        }
    }

    /// `false` where the connection has ended.
    fn collect_session(&mut self, from: SocketAddr, session: &mut Session) -> bool {
        let mut stands = true;
        while let Some(event) = session.connection.poll_event() {
            match event {
                DtlsEvent::Connected { peer, resumed } => {
                    self.counters.connected += 1;
                    let (id, address) = (session.id, from);
                    self.events.push_back(ListenerEvent::Connected {
                        session: id,
                        address,
                        peer,
                        resumed,
                    });
                }
                DtlsEvent::Data(data) => self.events.push_back(ListenerEvent::Data {
                    session: session.id,
                    data,
                }),
                DtlsEvent::Closed(error) => {
                    if let Some(error) = error {
                        tracing::debug!(peer = %from, %error, "DTLS session ended");
                    }
                    stands = false;
                }
            }
        }
        while let Some(datagram) = session.connection.poll_transmit() {
            self.transmits.push_back((from, datagram));
        }
        stands
    }
}

/// The random of a ClientHello (1) at the start of a handshake record (22) of epoch 0 (RFC 6347 §4.2.1); `None` for other
/// datagrams, and for later fragments of a hello.
fn client_hello_random(datagram: &[u8]) -> Option<Random> {
    let is_hello = datagram.first() == Some(&22)
        && datagram.get(3..5) == Some(&[0, 0])
        && datagram.get(13) == Some(&1)
        && datagram.get(19..22) == Some(&[0, 0, 0]);
    // Record header (13), handshake header (12), version (2).
    let random = datagram.get(27..59).filter(|_| is_hello)?;
    random.try_into().ok()
}
