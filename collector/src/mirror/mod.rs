//! Relays received datagrams unchanged to further collectors, so that Weir can be tried beside what is there.
//!
//! Datagrams of one turn are sent by `sendmmsg` in batches and never waited for: what a socket does not take at once is dropped
//! and counted. With `spoof_source` they leave with the exporter's address and port (as samplicator sends them), so that the
//! other collector tells exporters apart; routers on the way must let such packets pass, and they are not fragmented: one that
//! is longer than the path's MTU fails and is counted. Sessions over TCP and TLS are not mirrored.
//!
//! How a shard's thread drives it: each thread has sockets of its own, and mirrors what it admits.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use weir_collector::{Admission, MirrorSettings, Mirrors, ReceiveBuffers, Receiver, Shard, Trust};
//! # fn thread(settings: &[MirrorSettings], mut receiver: Receiver, mut trust: Trust, mut shard: Shard)
//! #     -> Result<(), Box<dyn std::error::Error>> {
//! let listening: Vec<_> = receiver.sockets().map(|socket| socket.address).collect();
//! // Raw sockets need CAP_NET_RAW: open before privileges are dropped.
//! let mut mirrors = Mirrors::open(settings, &listening)?;
//! let mut buffers = ReceiveBuffers::default();
//! loop {
//!     receiver.receive(&mut buffers, Duration::from_millis(10), |at, from, octets| {
//!         if trust.handle_datagram(at, from.ip()) == Admission::Admitted {
//!             mirrors.handle_datagram(from, octets);
//!             shard.handle_datagram(at, from, octets);
//!         }
//!     })?;
//!     mirrors.flush();
//!     // Once a second: publish mirrors.counters().
//! }
//! # }
//! ```

mod packet;
mod settings;
mod target;

use std::net::SocketAddr;
use std::ops::Range;

use weir_flow_record::Address;

use crate::allow::AllowList;
use target::{Target, is_our_own};

pub use settings::{MirrorConfig, MirrorSettings};
pub use target::MirrorError;

/// Datagrams of one system call.
const BATCH: usize = 32;

/// What became of the datagrams for one target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MirrorCounters {
    /// Sent.
    pub sent: u64,
    /// Octets of payload of those.
    pub octets: u64,
    /// Dropped because the socket's buffer was full.
    pub full: u64,
    /// Dropped because the system refused: no route, too long, forbidden.
    pub failed: u64,
    /// Dropped because an exporter's IPv4 address cannot stand in an IPv6 packet, or the other way round.
    pub other_family: u64,
}

/// All `[[mirror]]` tables, for one thread that receives.
pub struct Mirrors {
    mirrors: Vec<Mirror>,
    /// Datagrams that wait for the next flush.
    queue: Vec<(SocketAddr, Range<usize>)>,
    octets: Vec<u8>,
}

struct Mirror {
    from: AllowList,
    targets: Vec<Target>,
}

impl Mirrors {
    /// Opens a socket for each target; `listening` is where we receive.
    ///
    /// # Errors
    ///
    /// Sockets cannot be opened (`spoof_source` without CAP_NET_RAW), or a target is ourselves. A target that cannot be
    /// reached now is none: it is tried again.
    pub fn open(
        settings: &[MirrorSettings],
        listening: &[SocketAddr],
    ) -> Result<Self, MirrorError> {
        let mut mirrors = Vec::new();
        for mirror in settings {
            let mut targets = Vec::new();
            for to in &mirror.to {
                if is_our_own(*to, listening) {
                    return Err(MirrorError::Loop { to: *to });
                }
                targets.push(Target::open(*to, mirror.spoof_source)?);
            }
            mirrors.push(Mirror {
                from: mirror.from.clone(),
                targets,
            });
        }
        Ok(Self {
            mirrors,
            queue: Vec::with_capacity(BATCH),
            octets: Vec::new(),
        })
    }

    /// Takes in a datagram if there is a mirror for it; it leaves with the next [`flush`](Self::flush), or when a batch is full.
    pub fn handle_datagram(&mut self, from: SocketAddr, octets: &[u8]) {
        let exporter = Address::from(from.ip());
        if !self.mirrors.iter().any(|m| m.from.allows(exporter)) {
            return;
        }
        let start = self.octets.len();
        self.octets.extend_from_slice(octets);
        self.queue.push((from, start..self.octets.len()));
        if self.queue.len() >= BATCH {
            self.flush();
        }
    }

    /// Sends what waits. Call after every turn of receiving.
    pub fn flush(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        for mirror in &mut self.mirrors {
            let of_mirror = self.queue.iter().filter_map(|(from, range)| {
                let wanted = mirror.from.allows(Address::from(from.ip()));
                let octets = self.octets.get(range.clone())?;
                wanted.then_some((*from, octets))
            });
            let batch: Vec<(SocketAddr, &[u8])> = of_mirror.collect();
            for target in &mut mirror.targets {
                target.send(&batch);
            }
        }
        self.queue.clear();
        self.octets.clear();
    }

    /// The sums by target, in the order of the configuration.
    pub fn counters(&self) -> impl Iterator<Item = (SocketAddr, MirrorCounters)> + '_ {
        let targets = self.mirrors.iter().flat_map(|mirror| &mirror.targets);
        targets.map(|target| (target.to, target.counters))
    }
}

#[cfg(test)]
mod tests;
