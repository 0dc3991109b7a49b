use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use weir_flow_record::Timestamp;

use crate::scrubber::Scrubber;
use crate::{Traffic, TrafficFilter};

/// A mitigation provider's filter in the simulated network: drops attack traffic within the scopes that were applied, and
/// measures what it drops. Clones share one filter, so that the network and a DOTS server can each hold one.
///
/// Within a scope (RFC 9132 §4.4.1: target prefixes, port ranges and protocols) it drops what comes from hosts that the
/// target has no business with, by signature: lone SYN and other TCP without a connection, later fragments, UDP from ports
/// of amplifiers; and other strangers' traffic beyond 1,000 packets per second per attacked host. It is given no hint of
/// what the simulation's attack is.
///
/// Its clock is that of the traffic: between two steps of the network nothing changes.
#[derive(Clone, Default)]
pub struct LabMitigator(Arc<Mutex<Scrubber>>);

/// What is to be mitigated.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LabScope {
    /// Targets.
    pub prefixes: Vec<IpNet>,
    /// The targets' ports; empty = all. Otherwise, traffic without ports is left alone, later fragments are not.
    pub port_ranges: Vec<RangeInclusive<u16>>,
    /// IP protocols; empty = all.
    pub protocols: Vec<u8>,
}

/// What a mitigation has dropped.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LabReport {
    /// Octets since it was applied.
    pub bytes_dropped: u64,
    /// Packets since it was applied.
    pub packets_dropped: u64,
    /// Octets within the last second.
    pub bytes_per_second: u64,
    /// Packets within the last second.
    pub packets_per_second: u64,
    /// Time since the last drop, or since it was applied where nothing was dropped.
    pub quiet_for: Duration,
}

impl LabMitigator {
    /// A filter without mitigations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the mitigation `id`, or gives it another scope; what it counted stays.
    pub fn apply(&self, id: u64, scope: LabScope) {
        self.scrubber().apply(id, scope);
    }

    /// Ends the mitigation `id`; returns what it had dropped, or `None` where there is no such mitigation.
    pub fn withdraw(&self, id: u64) -> Option<LabReport> {
        self.scrubber().withdraw(id)
    }

    /// What the mitigation `id` has dropped so far.
    pub fn report(&self, id: u64) -> Option<LabReport> {
        self.scrubber().report(id)
    }

    /// Mitigations that are applied, in order.
    pub fn ids(&self) -> Vec<u64> {
        self.scrubber().ids()
    }

    /// Flows whose peer could not be remembered, because the bounded table was full.
    pub fn refused_peers(&self) -> u64 {
        self.scrubber().refused_peers()
    }

    fn scrubber(&self) -> MutexGuard<'_, Scrubber> {
        // Counters are whole after every change: what a panicking thread left can be used.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TrafficFilter for LabMitigator {
    fn filter(&mut self, at: Timestamp, traffic: &mut [Traffic]) {
        self.scrubber().filter(at, traffic);
    }
}
