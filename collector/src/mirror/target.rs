use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};

use super::packet::Headers;
use super::{BATCH, MirrorCounters};

/// Pause before a target that could not be reached is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Send buffer asked for: some thousands of datagrams.
const SEND_BUFFER: usize = 4 << 20;
/// `IPPROTO_RAW`: what is sent begins with the IP header, nothing is received.
const RAW: i32 = 255;

/// Mirrors that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// Raw sockets are forbidden.
    #[error("spoof_source for {to} needs the capability CAP_NET_RAW")]
    NotPermitted {
        /// The target.
        to: SocketAddr,
    },
    /// The target is this process.
    #[error("mirror to {to} is ourselves: datagrams would go round for ever")]
    Loop {
        /// The target.
        to: SocketAddr,
    },
    /// A socket cannot be opened.
    #[error("no socket to mirror to {to}: {source}")]
    Socket {
        /// The target.
        to: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// One further collector and the socket to it.
pub(super) struct Target {
    pub(super) to: SocketAddr,
    pub(super) counters: MirrorCounters,
    socket: Socket,
    spoof: bool,
    connected: bool,
    /// When connecting was tried last.
    tried: Option<Instant>,
}

impl Target {
    pub(super) fn open(to: SocketAddr, spoof: bool) -> Result<Self, MirrorError> {
        // A link-local address keeps its scope.
        let to = match to.ip().to_canonical() {
            IpAddr::V4(v4) => SocketAddr::from((v4, to.port())),
            IpAddr::V6(_) => to,
        };
        let socket = open(to, spoof).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => MirrorError::NotPermitted { to },
            _ => MirrorError::Socket { to, source },
        })?;
        let mut target = Self {
            to,
            counters: MirrorCounters::default(),
            socket,
            spoof,
            connected: false,
            tried: None,
        };
        target.connect(Instant::now());
        Ok(target)
    }

    /// Sends a batch; what cannot be sent now is counted and gone.
    pub(super) fn send(&mut self, batch: &[(SocketAddr, &[u8])]) {
        if !self.connected {
            self.connect(Instant::now());
        }
        if !self.connected {
            self.counters.failed += batch.len() as u64;
            return;
        }
        for batch in batch.chunks(BATCH) {
            let headers = self.headers(batch);
            let mut messages: Vec<[IoSlice<'_>; 2]> = Vec::with_capacity(BATCH);
            for (header, (_, payload)) in headers.iter().zip(batch) {
                match (self.spoof, header) {
                    (false, _) => messages.push([IoSlice::new(&[]), IoSlice::new(payload)]),
                    (true, Some(header)) => {
                        messages.push([IoSlice::new(header.as_ref()), IoSlice::new(payload)]);
                    }
                    (true, None) => {}
                }
            }
            self.send_messages(&messages);
        }
    }

    /// The headers of a batch, in its order, where they are ours to write.
    fn headers(&mut self, batch: &[(SocketAddr, &[u8])]) -> Vec<Option<Headers>> {
        let made = batch.iter().map(|(from, payload)| {
            if !self.spoof {
                return None;
            }
            let headers = Headers::new(*from, self.to, payload);
            if from.ip().to_canonical().is_ipv4() != self.to.is_ipv4() {
                self.counters.other_family += 1;
            } else if headers.is_none() {
                self.counters.failed += 1;
            }
            headers
        });
        made.collect()
    }

    fn send_messages(&mut self, messages: &[[IoSlice<'_>; 2]]) {
        let mut rest = messages;
        // A refusal that a router or host sent for an earlier datagram is reported once, in place of sending.
        let mut refusals = 0;
        while !rest.is_empty() {
            match send(&self.socket, rest) {
                Ok(0) => {
                    self.counters.full += rest.len() as u64;
                    return;
                }
                Ok(count) => {
                    let (sent, left) = rest.split_at(count.min(rest.len()));
                    self.counters.sent += count as u64;
                    self.counters.octets += octets(sent);
                    rest = left;
                }
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    self.counters.full += rest.len() as u64;
                    return;
                }
                Err(Errno::ECONNREFUSED) if refusals < BATCH => refusals += 1,
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    self.counters.failed += 1;
                    rest = rest.get(1..).unwrap_or_default();
                    if is_about_the_way(errno) {
                        // The address that we send from may be gone, or the route: begin anew.
                        self.connected = false;
                        self.counters.failed += rest.len() as u64;
                        return;
                    }
                }
            }
        }
    }

    fn connect(&mut self, now: Instant) {
        if self.tried.is_some_and(|tried| now < tried + PAUSE) {
            return;
        }
        self.tried = Some(now);
        let mut to = self.to;
        if self.spoof {
            // raw(7): a raw socket's port is a protocol.
            to.set_port(0);
        }
        self.connected = self.socket.connect(&to.into()).is_ok();
    }
}

/// Whether `to` is one of our own addresses and a port at which we listen.
pub(super) fn is_our_own(to: SocketAddr, listening: &[SocketAddr]) -> bool {
    let ip = to.ip().to_canonical();
    let port = listening.iter().any(|ours| {
        let bound = ours.ip().to_canonical();
        ours.port() == to.port() && (bound.is_unspecified() || bound == ip)
    });
    // Only what is ours can be bound.
    port && std::net::UdpSocket::bind((ip, 0)).is_ok()
}

fn open(to: SocketAddr, spoof: bool) -> io::Result<Socket> {
    let domain = Domain::for_address(to);
    let socket = if spoof {
        Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)))?
    } else {
        Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?
    };
    socket.set_nonblocking(true)?;
    // The kernel grants what it may.
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    Ok(socket)
}

fn send(socket: &Socket, messages: &[[IoSlice<'_>; 2]]) -> nix::Result<usize> {
    // The socket is connected: messages need no address, and none is read back.
    let mut headers = MultiHeaders::<()>::preallocate(messages.len(), None);
    let addresses = vec![None::<()>; messages.len()];
    let sent = sendmmsg(
        socket.as_raw_fd(),
        &mut headers,
        messages,
        addresses,
        [],
        MsgFlags::MSG_DONTWAIT,
    )?;
    Ok(sent.count())
}

/// Octets of payload: the second part.
fn octets(messages: &[[IoSlice<'_>; 2]]) -> u64 {
    messages
        .iter()
        .map(|[_, payload]| payload.len() as u64)
        .sum()
}

fn is_about_the_way(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::ENETDOWN
            | Errno::EADDRNOTAVAIL
            | Errno::EINVAL
            | Errno::EDESTADDRREQ
            | Errno::ENOTCONN
    )
}
