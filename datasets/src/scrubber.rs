//! What the lab mitigator drops, and why. It sees both directions and every packet, and works like a stateful scrubber:
//!
//! 1. Outside a mitigation's scope nothing is dropped.
//! 2. Who was sent something by the attacked host within the last minute is a known peer, and passes: clients that are
//!    served, resolvers that were asked. So does a connection whose handshake was completed.
//! 3. A lone SYN is challenged; forged senders do not answer, so it is dropped. Other TCP of strangers is dropped.
//! 4. Later fragments, and UDP from ports of services that amplify, are dropped when strangers send them.
//! 5. The strangers' rest shares an allowance per attacked host.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use weir_flow_record::{
    Address, FragmentKind, TCP_ACK, TCP_FIN, TCP_PSH, TCP_SYN, Timestamp, Vector,
};

use crate::assault::has_ports;
use crate::{LabReport, LabScope, Traffic};

/// How long an answer is expected.
const PEER_LIFETIME: Duration = Duration::from_secs(60);
const MOST_PEERS: usize = 262_144;
/// Packets per second of strangers that an attacked host gets all the same.
const ALLOWANCE: f64 = 1000.0;
const MOST_ALLOWANCES: usize = 4096;
/// Over this time current rates are measured.
const RATE_WINDOW: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Scrubber {
    now: Timestamp,
    peers: HashMap<Peer, Timestamp>,
    refused_peers: u64,
    mitigations: BTreeMap<u64, Mitigation>,
}

#[derive(PartialEq, Eq, Hash)]
struct Peer {
    host: Address,
    peer: Address,
    protocol: u8,
}

struct Mitigation {
    scope: LabScope,
    since: Timestamp,
    allowances: BTreeMap<Address, Allowance>,
    bytes_dropped: u64,
    packets_dropped: u64,
    /// End of the step, octets and packets dropped in it.
    recent: VecDeque<(Timestamp, u64, u64)>,
    last_drop: Option<Timestamp>,
}

struct Allowance {
    packets: f64,
    at: Timestamp,
}

impl Scrubber {
    pub(crate) fn apply(&mut self, id: u64, scope: LabScope) {
        let now = self.now;
        let mitigation = self.mitigations.entry(id).or_insert_with(|| Mitigation {
            scope: LabScope::default(),
            since: now,
            allowances: BTreeMap::new(),
            bytes_dropped: 0,
            packets_dropped: 0,
            recent: VecDeque::new(),
            last_drop: None,
        });
        mitigation.scope = scope;
    }

    pub(crate) fn withdraw(&mut self, id: u64) -> Option<LabReport> {
        let report = self.report(id);
        self.mitigations.remove(&id);
        report
    }

    pub(crate) fn report(&self, id: u64) -> Option<LabReport> {
        self.mitigations
            .get(&id)
            .map(|mitigation| mitigation.report(self.now))
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.mitigations.keys().copied().collect()
    }

    pub(crate) fn refused_peers(&self) -> u64 {
        self.refused_peers
    }

    pub(crate) fn filter(&mut self, at: Timestamp, traffic: &mut [Traffic]) {
        if self.now == Timestamp::default() {
            // Applied before the first traffic: time begins now.
            self.mitigations
                .values_mut()
                .for_each(|mitigation| mitigation.since = at);
        }
        self.now = at;
        self.forget_peers();
        for one in traffic {
            if one.outbound {
                self.learn(one);
            } else if let Some(mitigation) =
                self.mitigations.values_mut().find(|m| m.scope.holds(one))
            {
                let known = !one.forged && self.peers.contains_key(&Peer::inbound(one));
                let passing = if known {
                    one.packets
                } else {
                    mitigation.passing(at, one)
                };
                let packets = one.packets - passing.min(one.packets);
                let octets = one.drop_packets(packets);
                mitigation.count(at, octets, packets);
            }
        }
        self.mitigations
            .values_mut()
            .for_each(|mitigation| mitigation.forget(at));
    }

    fn learn(&mut self, one: &Traffic) {
        let peer = Peer {
            host: one.key.source,
            peer: one.key.destination,
            protocol: one.key.protocol,
        };
        if self.peers.len() < MOST_PEERS || self.peers.contains_key(&peer) {
            self.peers.insert(peer, self.now);
        } else {
            self.refused_peers += 1;
        }
    }

    /// Looks through the table once a second.
    fn forget_peers(&mut self) {
        let oldest = self.now.minus(PEER_LIFETIME);
        if self.now.nanos().rem_euclid(1_000_000_000) < 100_000_000 {
            self.peers.retain(|_, seen| *seen >= oldest);
        }
    }
}

impl Peer {
    fn inbound(one: &Traffic) -> Self {
        Self {
            host: one.key.destination,
            peer: one.key.source,
            protocol: one.key.protocol,
        }
    }
}

impl LabScope {
    /// Whether `one` is traffic that the mitigation was asked for.
    fn holds(&self, one: &Traffic) -> bool {
        let key = &one.key;
        let port = key.destination_port;
        let unknown_port = one.fragment == FragmentKind::NotFirst;
        self.prefixes
            .iter()
            .any(|prefix| key.destination.is_in(prefix))
            && (self.protocols.is_empty() || self.protocols.contains(&key.protocol))
            && (self.port_ranges.is_empty()
                || unknown_port
                || self
                    .port_ranges
                    .iter()
                    .any(|range| match (has_ports(one), one.forged, port) {
                        // Forged packets without a port of their own go to all ports above 20,000.
                        (true, true, 0) => *range.end() >= 20_000,
                        (ports, _, _) => ports && range.contains(&port),
                    }))
    }
}

impl Mitigation {
    /// How many of a stranger's packets pass.
    fn passing(&mut self, at: Timestamp, one: &Traffic) -> u64 {
        let key = &one.key;
        match Vector::classify(
            key.protocol,
            key.source_port,
            key.destination_port,
            one.tcp_flags,
            one.fragment,
        ) {
            _ if has_completed_handshake(one) => one.packets,
            Vector::UdpFlood | Vector::IcmpFlood | Vector::DnsQueryFlood | Vector::Total => {
                self.allowed(at, key.destination, one.packets)
            }
            _ => 0,
        }
    }

    /// Takes `packets` or less from the host's allowance.
    fn allowed(&mut self, at: Timestamp, host: Address, packets: u64) -> u64 {
        if self.allowances.len() >= MOST_ALLOWANCES && !self.allowances.contains_key(&host) {
            return 0;
        }
        let allowance = self.allowances.entry(host).or_insert(Allowance {
            packets: ALLOWANCE,
            at,
        });
        let earned = at.since(allowance.at).as_secs_f64() * ALLOWANCE;
        allowance.packets = (allowance.packets + earned).min(ALLOWANCE);
        allowance.at = at;
        let passing = packets.min(allowance.packets as u64);
        allowance.packets -= passing as f64;
        passing
    }

    fn count(&mut self, at: Timestamp, octets: u64, packets: u64) {
        if packets == 0 {
            return;
        }
        self.bytes_dropped += octets;
        self.packets_dropped += packets;
        self.last_drop = Some(at);
        match self.recent.back_mut() {
            Some((step, bytes, count)) if *step == at => {
                *bytes += octets;
                *count += packets;
            }
            _ => self.recent.push_back((at, octets, packets)),
        }
    }

    fn forget(&mut self, now: Timestamp) {
        let oldest = now.minus(RATE_WINDOW);
        while self.recent.front().is_some_and(|(at, ..)| *at <= oldest) {
            self.recent.pop_front();
        }
    }

    fn report(&self, now: Timestamp) -> LabReport {
        let sum = |value: fn(&(Timestamp, u64, u64)) -> u64| self.recent.iter().map(value).sum();
        LabReport {
            bytes_dropped: self.bytes_dropped,
            packets_dropped: self.packets_dropped,
            bytes_per_second: sum(|step| step.1),
            packets_per_second: sum(|step| step.2),
            quiet_for: now.since(self.last_drop.unwrap_or(self.since).max(self.since)),
        }
    }
}

/// The client's SYN is followed by what only follows the server's answer.
fn has_completed_handshake(one: &Traffic) -> bool {
    let handshake = TCP_SYN | TCP_ACK;
    one.key.protocol == 6
        && !one.forged
        && one.tcp_flags & handshake == handshake
        && one.tcp_flags & (TCP_PSH | TCP_FIN) != 0
}
