//! Connections of TLS over TCP (RFC 8323), without their sockets: what [`weir_dtls::Listener`] is for datagrams.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use weir_dots_proto::coap::Carrier;
use weir_dtls::{
    DtlsError, DtlsEvent, ListenerEvent, PeerIdentity, ServerContext, SessionId, StreamConnection,
    gives_way,
};

/// TLS and the peer's CSM have to come within this.
const INTRODUCTION: Duration = Duration::from_secs(20);
/// A connection on which nothing comes for this long is given up, as over datagrams.
const IDLE: Duration = Duration::from_secs(900);

/// Bounds of all connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StreamLimits {
    /// Connections at once whose peer has not proved who it is.
    pub(crate) max_half_open: usize,
    /// Connections at once.
    pub(crate) max_sessions: usize,
}

/// What happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct StreamCounters {
    /// Connections that found no room, or had to make some for others.
    pub(crate) refused: u64,
    /// Connections that ended before their peer had proved who it is.
    pub(crate) failed: u64,
    /// Sessions that came about.
    pub(crate) connected: u64,
}

struct Connection {
    address: SocketAddr,
    tls: StreamConnection,
    carrier: Carrier,
    stage: Stage,
    began: Instant,
    heard: Instant,
}

/// How far a peer has come.
enum Stage {
    Handshake,
    /// TLS stands, its CSM is missing.
    Proved(PeerIdentity, bool),
    Session,
}

/// All connections. After each `handle_*`, poll `poll_event`, `poll_transmit` and `poll_closed` until they are empty.
pub(crate) struct Streams {
    context: ServerContext,
    limits: StreamLimits,
    connections: BTreeMap<SessionId, Connection>,
    /// Connections whose peer has not shown what it is.
    half_open: BTreeMap<SessionId, IpAddr>,
    next: u64,
    events: VecDeque<ListenerEvent>,
    /// Octets for each connection since the last poll.
    transmits: BTreeMap<SessionId, Vec<u8>>,
    closed: VecDeque<SessionId>,
    counters: StreamCounters,
}

impl Streams {
    /// No connections.
    pub(crate) fn new(context: ServerContext, limits: StreamLimits) -> Self {
        Self {
            context,
            limits,
            connections: BTreeMap::new(),
            half_open: BTreeMap::new(),
            next: 0,
            events: VecDeque::new(),
            transmits: BTreeMap::new(),
            closed: VecDeque::new(),
            counters: StreamCounters::default(),
        }
    }

    /// Other credentials hold for connections that begin from now on.
    pub(crate) fn handle_context(&mut self, context: ServerContext) {
        self.context = context;
    }

    /// A peer has connected; `None` where there is no room for it.
    pub(crate) fn handle_accepted(
        &mut self,
        now: Instant,
        address: SocketAddr,
    ) -> Option<SessionId> {
        self.make_room();
        let has_room = self.connections.len() < self.limits.max_sessions;
        let tls = if has_room {
            StreamConnection::accept(&self.context, now).ok()
        } else {
            None
        };
        let Some(tls) = tls else {
            self.counters.refused += 1;
            return None;
        };
        self.next += 1;
        let id = SessionId(self.next);
        self.half_open.insert(id, address.ip());
        let connection = Connection {
            address,
            tls,
            carrier: Carrier::new(self.next),
            stage: Stage::Handshake,
            began: now,
            heard: now,
        };
        self.connections.insert(id, connection);
        Some(id)
    }

    /// Octets of a peer, in their order.
    pub(crate) fn handle_octets(&mut self, now: Instant, id: SessionId, octets: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.heard = now;
            connection.tls.handle_octets(octets);
            self.collect(id);
        }
    }

    /// The peer's direction has ended, or its socket has failed.
    pub(crate) fn handle_end(&mut self, id: SessionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.tls.handle_end();
            self.collect(id);
        }
    }

    /// A datagram of the session that runs over a connection.
    pub(crate) fn handle_send(&mut self, id: SessionId, datagram: &[u8]) -> Result<(), DtlsError> {
        let connection = self.connections.get_mut(&id).ok_or(DtlsError::Ended)?;
        connection.carrier.handle_datagram(datagram);
        self.collect(id);
        Ok(())
    }

    /// Ends a session.
    pub(crate) fn handle_close(&mut self, id: SessionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.carrier.handle_release();
            self.collect(id);
        }
    }

    /// Says goodbye to all peers.
    pub(crate) fn handle_shutdown(&mut self) {
        let all: Vec<SessionId> = self.connections.keys().copied().collect();
        all.into_iter().for_each(|id| self.handle_close(id));
    }

    /// Gives up what takes too long or is silent.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let is_due = |connection: &Connection| connection.due() <= now;
        let due: Vec<SessionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| is_due(connection))
            .map(|(id, _)| *id)
            .collect();
        due.into_iter().for_each(|id| self.handle_close(id));
    }

    /// The next event.
    pub(crate) fn poll_event(&mut self) -> Option<ListenerEvent> {
        self.events.pop_front()
    }

    /// All octets for the next peer that has some.
    pub(crate) fn poll_transmit(&mut self) -> Option<(SessionId, Vec<u8>)> {
        self.transmits.pop_first()
    }

    /// The next connection whose socket is to be closed, once what was polled for it is sent.
    pub(crate) fn poll_closed(&mut self) -> Option<SessionId> {
        self.closed.pop_front()
    }

    /// When `handle_timeout` is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.connections.values().map(Connection::due).min()
    }

    /// Counters since the start.
    pub(crate) fn counters(&self) -> StreamCounters {
        self.counters
    }

    /// Connections that stand now.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Where too many are half open, one gives way: most of them will come to nothing.
    fn make_room(&mut self) {
        if self.half_open.len() < self.limits.max_half_open {
            return;
        }
        let begun = self.half_open.iter();
        if let Some(id) = gives_way(begun.map(|(id, address)| (*address, *id))) {
            self.half_open.remove(&id);
            self.connections.remove(&id);
            self.closed.push_back(id);
            self.counters.refused += 1;
        }
    }

    /// Carries what TLS, the carrier and the session have for each other.
    fn collect(&mut self, id: SessionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut over = false;
        while let Some(event) = connection.tls.poll_event() {
            match event {
                DtlsEvent::Connected { peer, resumed } => {
                    connection.stage = Stage::Proved(peer, resumed);
                }
                DtlsEvent::Data(octets) => connection.carrier.handle_octets(&octets),
                DtlsEvent::Closed(error) => {
                    if let Some(error) = error {
                        tracing::debug!(peer = %connection.address, %error, "TLS session ended");
                    }
                    over = true;
                }
            }
        }
        if let Stage::Proved(peer, resumed) = &connection.stage
            && connection.carrier.is_introduced()
        {
            let (peer, resumed) = (peer.clone(), *resumed);
            connection.stage = Stage::Session;
            self.half_open.remove(&id);
            self.counters.connected += 1;
            self.events.push_back(ListenerEvent::Connected {
                session: id,
                address: connection.address,
                peer,
                resumed,
            });
        }
        while let Some(data) = connection.carrier.poll_datagram() {
            let session = id;
            self.events.push_back(ListenerEvent::Data { session, data });
        }
        if connection.tls.is_connected() {
            while let Some(octets) = connection.carrier.poll_transmit() {
                over |= connection.tls.handle_send(&octets).is_err();
            }
        }
        if let Some(end) = connection.carrier.end() {
            tracing::debug!(peer = %connection.address, ?end, "CoAP connection ended");
            connection.tls.handle_close();
            over = true;
        }
        while let Some(octets) = connection.tls.poll_transmit() {
            self.transmits.entry(id).or_default().extend(octets);
        }
        if over {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: SessionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if matches!(connection.stage, Stage::Session) {
            self.events.push_back(ListenerEvent::Closed { session: id });
        } else {
            self.half_open.remove(&id);
            self.counters.failed += 1;
        }
        self.closed.push_back(id);
    }
}

impl Connection {
    fn due(&self) -> Instant {
        match self.stage {
            Stage::Session => self.heard + IDLE,
            Stage::Handshake | Stage::Proved(..) => self.began + INTRODUCTION,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use std::path::Path;

    use weir_dots_proto::coap::{Code, Kind, Message, Token, tcp};
    use weir_dtls::lab::{LabNames, write_keys};
    use weir_dtls::{ClientContext, Credentials};

    use super::*;

    const LIMITS: StreamLimits = StreamLimits {
        max_half_open: 40,
        max_sessions: 50,
    };

    fn credentials(folder: &Path, name: &str) -> Credentials {
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        Credentials::from_pem_files(&folder.join("ca.pem"), &file("pem"), &file("key")).unwrap()
    }

    /// A server's connections, and what its clients need.
    fn begin() -> (Streams, ClientContext) {
        let folder = tempfile::tempdir().unwrap();
        write_keys(folder.path(), &LabNames::default()).unwrap();
        let server = ServerContext::new(&credentials(folder.path(), "server")).unwrap();
        let client = ClientContext::new(&credentials(folder.path(), "client")).unwrap();
        (Streams::new(server, LIMITS), client)
    }

    fn from(address: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, address], 1000))
    }

    /// Carries octets between a client and its connection until both are quiet.
    fn run(streams: &mut Streams, id: SessionId, now: Instant, client: &mut StreamConnection) {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            while let Some(octets) = client.poll_transmit() {
                moved = true;
                streams.handle_octets(now, id, &octets);
            }
            while let Some((to, octets)) = streams.poll_transmit() {
                assert_eq!(to, id);
                moved = true;
                client.handle_octets(&octets);
            }
        }
    }

    #[test]
    fn a_client_is_a_session_once_its_csm_has_come() {
        let (mut streams, context) = begin();
        let now = Instant::now();
        let id = streams.handle_accepted(now, from(1)).unwrap();
        let mut client = StreamConnection::connect(&context, "localhost", None, now).unwrap();
        run(&mut streams, id, now, &mut client);
        assert!(client.is_connected());
        assert!(streams.poll_event().is_none());

        let mut carrier = Carrier::new(1);
        client
            .handle_send(&carrier.poll_transmit().unwrap())
            .unwrap();
        let get = Message::new(Kind::NonConfirmable, Code::GET, 0, Token::from_number(1));
        client.handle_send(&tcp::frame(&get)).unwrap();
        run(&mut streams, id, now, &mut client);
        let Some(ListenerEvent::Connected { session, peer, .. }) = streams.poll_event() else {
            panic!("no session")
        };
        assert_eq!(
            (session, &peer.names[..]),
            (id, &["weir-lab".to_owned()][..])
        );
        assert!(matches!(
            streams.poll_event(),
            Some(ListenerEvent::Data { .. })
        ));
        // However much the server's session has to say, it comes in one piece.
        for token in 0..500 {
            let token = Token::from_number(token);
            let state = Message::new(Kind::NonConfirmable, Code::CONTENT, 0, token);
            streams.handle_send(id, &state.to_octets()).unwrap();
        }
        let (_, octets) = streams.poll_transmit().unwrap();
        assert!(streams.poll_transmit().is_none());
        client.handle_octets(&octets);
        streams.handle_close(id);
        run(&mut streams, id, now, &mut client);
        while let Some(event) = client.poll_event() {
            if let DtlsEvent::Data(octets) = event {
                carrier.handle_octets(&octets);
            }
        }
        let told = std::iter::from_fn(|| carrier.poll_datagram()).count();
        assert_eq!(told, 500);
        assert!(carrier.is_introduced() && carrier.end().is_some());
        assert!(matches!(
            streams.poll_event(),
            Some(ListenerEvent::Closed { .. })
        ));
        assert_eq!(streams.poll_closed(), Some(id));
        assert_eq!(streams.len(), 0);
        assert_eq!(streams.counters().connected, 1);
    }

    #[test]
    fn half_open_connections_are_bounded_and_no_address_keeps_others_out() {
        let (mut streams, context) = begin();
        let now = Instant::now();
        let id = streams.handle_accepted(now, from(1)).unwrap();
        for _ in 0..100 {
            assert!(streams.handle_accepted(now, from(2)).is_some());
        }
        assert_eq!(streams.len(), LIMITS.max_half_open);
        assert_eq!(streams.counters().refused, 101 - 40);
        assert_eq!(streams.poll_closed(), Some(SessionId(2)));
        // The one that was there before them goes on.
        let mut client = StreamConnection::connect(&context, "localhost", None, now).unwrap();
        run(&mut streams, id, now, &mut client);
        assert!(client.is_connected());

        // One that talks, and says nothing that matters, is not spared.
        streams.handle_timeout(streams.poll_timeout().unwrap());
        assert_eq!(streams.len(), 0);
        assert_eq!(streams.counters().failed, 40);
        assert!(streams.handle_accepted(now, from(1)).is_some());
    }

    #[test]
    fn sessions_are_bounded_and_end_when_they_are_silent() {
        let (mut streams, context) = begin();
        let now = Instant::now();
        for address in 1..=60_u8 {
            let Some(id) = streams.handle_accepted(now, from(address)) else {
                continue;
            };
            let mut client = StreamConnection::connect(&context, "localhost", None, now).unwrap();
            run(&mut streams, id, now, &mut client);
            let csm = Carrier::new(1).poll_transmit().unwrap();
            client.handle_send(&csm).unwrap();
            run(&mut streams, id, now, &mut client);
        }
        assert_eq!(streams.counters().connected, 50);
        assert_eq!(streams.counters().refused, 10);
        assert_eq!(streams.poll_timeout(), Some(now + IDLE));
        streams.handle_timeout(now + IDLE);
        assert_eq!(streams.len(), 0);
    }
}
