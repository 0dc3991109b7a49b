//! IPFIX over TCP (RFC 7011 §10.4) and over TLS with certificates on both sides (§11).
//!
//! [`Streams`] holds the listening sockets and all connections, on a thread of its own that nothing else waits for. It frames
//! messages by the Length of their headers and hands them over whole. When whoever takes them takes none, the session's
//! socket is not read, and TCP holds the exporter back: nothing is dropped. What a peer can take up is bounded: connections
//! (in all and by address), unfinished handshakes (in number and time), octets (64 KiB a session) and time (for a message,
//! and between messages).
//!
//! A message that cannot be one ends its session: where the next one begins is unknown. The decoder finds other faults; it
//! says so through the [`StreamInlet`], and the session ends likewise.
//!
//! How the daemon drives it, with one shard per [`StreamInlet`]:
//!
//! ```no_run
//! # use std::sync::atomic::{AtomicBool, Ordering};
//! # use std::time::Duration;
//! # use weir_collector::{Shard, StreamEvent, StreamSettings, Streams, Verdict, stream_feed};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (settings, stop) = (StreamSettings::default(), AtomicBool::new(true));
//! # fn shards() -> Vec<Shard> { Vec::new() }
//! // Bind before privileges are dropped.
//! let mut streams = Streams::bind(settings)?;
//! let (mut feed, inlets) = stream_feed(2);
//! std::thread::scope(|scope| {
//!     // The thread of the streams.
//!     scope.spawn(|| {
//!         while !stop.load(Ordering::Relaxed) {
//!             if let Err(error) = streams.turn(Duration::from_millis(100), |event| feed.handle_event(event)) {
//!                 tracing::error!(%error, "cannot wait for streams");
//!                 std::thread::sleep(Duration::from_millis(100));
//!             }
//!             while let Some(peer) = feed.poll_fault() {
//!                 streams.end(peer);
//!             }
//!             // Once a second: publish streams.counters() and streams.len().
//!         }
//!     });
//!     // Each shard's thread, at every turn after its datagrams.
//!     for (mut inlet, mut shard) in inlets.into_iter().zip(shards()) {
//!         scope.spawn(move || {
//!             inlet.take(1_024, |event| match event {
//!                 StreamEvent::Opened { peer, name, .. } => {
//!                     tracing::info!(%peer, name, "IPFIX session opened");
//!                     Verdict::Good
//!                 }
//!                 StreamEvent::Message { at, peer, octets, .. } => {
//!                     match shard.handle_message(at, peer, octets) {
//!                         Some(outcome) if outcome.is_malformed() => Verdict::Malformed,
//!                         _ => Verdict::Good,
//!                     }
//!                 }
//!                 StreamEvent::Closed { peer, reason, .. } => {
//!                     shard.handle_session_closed(peer);
//!                     tracing::info!(%peer, reason = reason.name(), "IPFIX session closed");
//!                     Verdict::Good
//!                 }
//!             });
//!         });
//!     }
//! });
//! # Ok(())
//! # }
//! ```

mod channel;
mod connection;
mod counters;
mod feed;
pub(crate) mod framing;
mod listener;
mod settings;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use weir_flow_record::ReceivedAt;

use connection::Connection;
use listener::Listener;

pub use counters::{CloseReason, Refusal, StreamCounters};
pub use feed::{StreamFeed, StreamInlet, Verdict, stream_feed};
pub use listener::StreamError;
pub use settings::{IpfixTlsConfig, StreamSettings};

/// Time after which a session that nobody took from is tried again.
const STALL: Duration = Duration::from_millis(2);

/// What a session is carried by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamTransport {
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// What happens to a session. The peer's address and port name it; events of one session come in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamEvent<'a> {
    /// It began: with TLS, after the handshake.
    Opened {
        /// The exporter.
        peer: SocketAddr,
        /// What carries it.
        transport: StreamTransport,
        /// Common name of the exporter's certificate.
        name: Option<&'a str>,
    },
    /// A whole IPFIX message came: its version is 10, its Length the number of octets.
    Message {
        /// When its last octets were read.
        at: ReceivedAt,
        /// The exporter.
        peer: SocketAddr,
        /// What carries it.
        transport: StreamTransport,
        /// The message.
        octets: &'a [u8],
    },
    /// It ended. Its templates end with it (RFC 7011 §8.1).
    Closed {
        /// The exporter.
        peer: SocketAddr,
        /// What carried it.
        transport: StreamTransport,
        /// Why.
        reason: CloseReason,
    },
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Taken {
    /// It was taken.
    Yes,
    /// There is no room: it comes again, and until then its session is not read.
    Full,
}

/// The listening sockets and connections of IPFIX over TCP and TLS.
pub struct Streams {
    settings: StreamSettings,
    listeners: Vec<Listener>,
    connections: Vec<Connection>,
    counters: StreamCounters,
}

impl Streams {
    /// Opens the sockets and reads the certificates.
    ///
    /// # Errors
    ///
    /// An address is taken, or a file of the TLS configuration is no good.
    pub fn bind(settings: StreamSettings) -> Result<Self, StreamError> {
        Ok(Self {
            listeners: listener::open_all(&settings)?,
            settings,
            connections: Vec::new(),
            counters: StreamCounters::default(),
        })
    }

    /// Where the sockets listen, those for TCP first.
    pub fn addresses(&self) -> impl Iterator<Item = (StreamTransport, SocketAddr)> + '_ {
        self.listeners
            .iter()
            .map(|listener| (listener.transport(), listener.address))
    }

    /// Connections there are now, unfinished handshakes among them.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// The sums.
    pub fn counters(&self) -> &StreamCounters {
        &self.counters
    }

    /// Ends the session of `peer`, in which the decoder found a malformed message; [`StreamEvent::Closed`] follows.
    pub fn end(&mut self, peer: SocketAddr) {
        let mut sessions = self.connections.iter_mut();
        if let Some(session) = sessions.find(|connection| connection.peer == peer) {
            session.close(CloseReason::Malformed);
        }
    }

    /// Waits at most `patience` for something to do, does it, and hands over what came.
    ///
    /// # Errors
    ///
    /// poll(2) fails for want of memory; the next turn may succeed.
    pub fn turn(
        &mut self,
        patience: Duration,
        mut handle: impl FnMut(StreamEvent<'_>) -> Taken,
    ) -> io::Result<()> {
        let ready = self.wait(patience)?;
        let now = Instant::now();
        let Self {
            connections,
            counters,
            settings,
            ..
        } = self;
        let mut ready = ready.into_iter();
        connections.retain_mut(|connection| {
            let due = ready.next().unwrap_or(false);
            (!due || connection.serve(now, counters, &mut handle))
                && connection.handle_timeout(now, settings, counters)
        });
        self.accept(now);
        Ok(())
    }

    /// Which connections have something to do.
    fn wait(&self, patience: Duration) -> io::Result<Vec<bool>> {
        let patience = if self.connections.iter().any(|c| c.more) {
            Duration::ZERO
        } else if self.connections.iter().any(|c| c.stalled) {
            patience.min(STALL)
        } else {
            patience
        };
        // A stalled session is left out: poll(2) would report the end of its connection again and again.
        let mut waiting: Vec<PollFd<'_>> = self
            .connections
            .iter()
            .filter(|connection| !connection.stalled)
            .map(|connection| PollFd::new(connection.fd(), connection.wants))
            .collect();
        let sessions = waiting.len();
        let listeners = self.listeners.iter();
        waiting.extend(
            listeners.map(|listener| PollFd::new(listener.socket.as_fd(), PollFlags::POLLIN)),
        );
        match poll(
            &mut waiting,
            PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut polled = waiting
            .iter()
            .take(sessions)
            .map(|fd| fd.any().unwrap_or(false));
        let due = self.connections.iter().map(|connection| {
            connection.stalled || polled.next().unwrap_or(false) || connection.more
        });
        Ok(due.collect())
    }
}

#[cfg(test)]
mod tests;
