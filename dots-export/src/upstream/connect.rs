//! How a link comes about: all ways to the server, each a little after the one before, and handshakes begun anew.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket, lookup_host};
use tokio::task::JoinSet;
use weir_dtls::{ClientContext, Connection, StreamConnection, Ticket};

use super::link::{Link, LinkEvent, MAX_DATAGRAM, Ready, receive};
use super::paths::{Over, Path};

/// Tries of one call, all rounds together, end with this.
const PATIENCE: Duration = Duration::from_secs(30);
/// A name that is not resolved within this is not going to be: what it meant before is taken.
const LOOKUP: Duration = Duration::from_secs(3);

/// Whom to connect to, and from where.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) port: u16,
    /// Instead of those that the name has.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) interface: Option<String>,
}

/// One try to connect.
pub(super) struct Attempt {
    pub(super) destination: Arc<Destination>,
    pub(super) context: ClientContext,
    pub(super) tickets: Tickets,
    /// Each way with the time that it has for itself, before the next one is tried too.
    pub(super) schedule: Vec<(Path, Duration)>,
    /// Handshakes of one way that are beside one another in the end, and the time between them.
    pub(super) rounds: u32,
    pub(super) round: Duration,
    pub(super) seed: u64,
}

/// What resumes a session, by transport.
#[derive(Clone, Debug, Default)]
pub(super) struct Tickets {
    datagrams: Option<Ticket>,
    streams: Option<Ticket>,
}

impl Tickets {
    pub(super) fn note(&mut self, link: &Link) {
        let ticket = link.ticket();
        if ticket.is_some() {
            *self.of(link.path.over) = ticket;
        }
    }

    fn of(&mut self, over: Over) -> &mut Option<Ticket> {
        match over {
            Over::Udp => &mut self.datagrams,
            Over::Tcp => &mut self.streams,
        }
    }
}

/// What came of an attempt.
pub(super) struct Attempted {
    /// The link, or why there is none.
    pub(super) result: Result<Box<Link>, String>,
    /// Ways that led nowhere.
    pub(super) failed: Vec<Path>,
}

impl Attempted {
    /// Nothing could be tried.
    pub(super) fn failed(reason: String) -> Self {
        Self {
            result: Err(reason),
            failed: Vec::new(),
        }
    }
}

/// The addresses of a server, as configured or by its name. Where the name cannot be resolved, those that it had.
pub(super) async fn resolve(
    destination: &Destination,
    known: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, String> {
    if !destination.addresses.is_empty() {
        return Ok(destination.addresses.clone());
    }
    let host = destination.host.as_str();
    let found = tokio::time::timeout(LOOKUP, lookup_host((host, destination.port))).await;
    let reason = match found {
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.collect();
            if !found.is_empty() {
                return Ok(found);
            }
            "it has no address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its name is not resolved in time".to_owned(),
    };
    if known.is_empty() {
        return Err(format!("{host}: {reason}"));
    }
    tracing::warn!(host, reason, "the addresses of before are taken");
    Ok(known)
}

/// Tries all ways, each in its turn or as soon as one before it has failed (RFC 8305 §5); the first link that stands is taken,
/// and the others end.
pub(super) async fn connect(attempt: Attempt) -> Attempted {
    let attempt = Arc::new(attempt);
    let end = Instant::now() + PATIENCE;
    let mut waiting = VecDeque::from(attempt.schedule.clone());
    let mut next_at = Instant::now();
    let mut tries = JoinSet::new();
    let mut failed: Vec<(Path, String)> = Vec::new();
    while !(tries.is_empty() && waiting.is_empty()) {
        tokio::select! {
            () = tokio::time::sleep_until(next_at.into()), if !waiting.is_empty() => {
                let Some((path, wait)) = waiting.pop_front() else { continue };
                next_at = Instant::now() + wait;
                tries.spawn(try_path(Arc::clone(&attempt), path, end));
            }
            Some(done) = tries.join_next() => match done {
                Ok((_, Ok(link))) => {
                    return Attempted {
                        result: Ok(Box::new(link)),
                        failed: failed.into_iter().map(|(path, _)| path).collect(),
                    };
                }
                Ok((path, Err(reason))) => {
                    failed.push((path, reason));
                    next_at = Instant::now();
                }
                Err(error) => tracing::error!(%error, "a try to connect has broken down"),
            }
        }
    }
    let reasons = failed.iter().map(|(path, why)| format!("{path}: {why}"));
    Attempted {
        result: Err(reasons.collect::<Vec<_>>().join("; ")),
        failed: failed.into_iter().map(|(path, _)| path).collect(),
    }
}

async fn try_path(attempt: Arc<Attempt>, path: Path, end: Instant) -> (Path, Result<Link, String>) {
    let shaken = tokio::time::timeout_at(end.into(), shake_in_rounds(attempt, path)).await;
    (path, shaken.unwrap_or_else(|_| Err("no answer".to_owned())))
}

/// One way: while there is no verdict, another handshake is begun beside those that wait, since one that has lost much waits
/// longer and longer.
async fn shake_in_rounds(attempt: Arc<Attempt>, path: Path) -> Result<Link, String> {
    let mut shakes = JoinSet::new();
    let mut begun = 0;
    loop {
        if begun < attempt.rounds.max(1) {
            let (attempt, round) = (Arc::clone(&attempt), begun);
            shakes.spawn(async move { shake(&attempt, path, round).await });
            begun += 1;
        }
        tokio::select! {
            done = shakes.join_next() => {
                return match done {
                    Some(Ok(result)) => result,
                    Some(Err(error)) => Err(error.to_string()),
                    None => Err("no answer".to_owned()),
                };
            }
            () = tokio::time::sleep(attempt.round) => {}
        }
    }
}

async fn shake(attempt: &Attempt, path: Path, round: u32) -> Result<Link, String> {
    let mut link = begin(attempt, path, round).await?;
    let mut trips = RoundTrips::default();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        if link.flush().await {
            trips.note_asked();
        }
        while let Some(event) = link.poll_event() {
            match event {
                LinkEvent::Connected { resumed } => {
                    link.resumed = resumed;
                    link.round_trip = trips.least;
                    link.flush().await;
                    return Ok(link);
                }
                LinkEvent::Datagram(_) => {}
                LinkEvent::Closed(reason, _) => {
                    // The alert that tells the server why.
                    link.flush().await;
                    return Err(reason.unwrap_or_else(|| "closed".to_owned()));
                }
            }
        }
        let due = link
            .poll_timeout()
            .unwrap_or_else(|| Instant::now() + PATIENCE);
        tokio::select! {
            received = receive(Some(&link), &mut buffer) => match received {
                Ok(Ready::Read(length)) => {
                    let octets = buffer.get(..length).unwrap_or_default();
                    trips.note_answered();
                    link.handle_received(Instant::now(), octets);
                }
                Ok(Ready::Writable) => {}
                Err(error) => return Err(error.to_string()),
            },
            () = tokio::time::sleep_until(due.into()) => link.handle_timeout(Instant::now()),
        }
    }
}

/// The path's round-trip time, by a handshake's flights: from the first transmission of each to the first answer, which is too
/// long where one was lost.
#[derive(Default)]
struct RoundTrips {
    asked: Option<Instant>,
    least: Option<Duration>,
}

impl RoundTrips {
    fn note_asked(&mut self) {
        self.asked.get_or_insert_with(Instant::now);
    }

    fn note_answered(&mut self) {
        let measured = self.asked.take().map(|asked| asked.elapsed());
        self.least = self.least.into_iter().chain(measured).min();
    }
}

/// Opens the socket, and says the first word of the handshake.
async fn begin(attempt: &Attempt, path: Path, round: u32) -> Result<Link, String> {
    let (context, name) = (&attempt.context, attempt.destination.host.as_str());
    // A ticket that the server does not like may cost the handshake, so the later ones are full.
    let mut tickets = attempt.tickets.clone();
    let ticket = tickets.of(path.over).take().filter(|_| round == 0);
    match path.over {
        Over::Udp => {
            let socket = open_datagrams(&attempt.destination, path.address).await;
            let socket = socket.map_err(|error| error.to_string())?;
            let connection = Connection::connect(context, name, ticket.as_ref(), Instant::now())
                .map_err(|error| error.to_string())?;
            Ok(Link::datagrams(socket, connection, path))
        }
        Over::Tcp => {
            let socket = open_stream(&attempt.destination, path.address).await;
            let socket = socket.map_err(|error| error.to_string())?;
            let connection =
                StreamConnection::connect(context, name, ticket.as_ref(), Instant::now())
                    .map_err(|error| error.to_string())?;
            Ok(Link::stream(socket, connection, attempt.seed, path))
        }
    }
}

async fn open_datagrams(destination: &Destination, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::from_std(bound(destination, to, Type::DGRAM)?.into())?;
    socket.connect(to).await?;
    Ok(socket)
}

async fn open_stream(destination: &Destination, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = bound(destination, to, Type::STREAM)?;
    // Requests are small, and none waits for the next.
    socket.set_tcp_nodelay(true)?;
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}

/// A socket that sends from where it is told to: the path beside the one that is under attack.
fn bound(destination: &Destination, to: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), kind, None)?;
    socket.set_nonblocking(true)?;
    if let Some(interface) = &destination.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    let any = || match to {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let source = destination.source.unwrap_or_else(any);
    socket.bind(&SocketAddr::new(source, 0).into())?;
    Ok(socket)
}
