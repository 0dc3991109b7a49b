use std::time::Duration;

use ipnet::IpNet;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, LogNormal};
use weir_flow_record::{Address, FragmentKind, TCP_ACK, TCP_RST, TCP_SYN, Timestamp, Vector};

use crate::crowd::{outside, poisson};
use crate::{Attack, AttackVector, FlowKey, Sources, Traffic};

/// An attack as it runs: its senders are drawn once.
pub(crate) struct Assault {
    pub(crate) attack: Attack,
    streams: Vec<Stream>,
}

struct Stream {
    vector: AttackVector,
    flow: Traffic,
    /// Senders with their ports and their share of the packets; empty where forged.
    senders: Vec<Sender>,
}

struct Sender {
    address: Address,
    source_port: u16,
    destination_port: u16,
    share: f64,
}

/// How much senders differ: σ of a log-normal factor.
const SENDER_SPREAD: f64 = 0.5;

impl Assault {
    pub(crate) fn new(attack: Attack, zone: &[IpNet], rng: &mut impl Rng) -> Self {
        let streams = attack
            .vectors
            .iter()
            .map(|vector| Stream::new(vector, attack.target, zone, rng))
            .collect();
        Self { attack, streams }
    }

    /// Whether it sends between `from` and `to`.
    pub(crate) fn is_active(&self, from: Timestamp, to: Timestamp) -> bool {
        from < self.attack.end() && self.attack.start < to
    }

    /// Appends what it sends within a step of this length.
    pub(crate) fn generate(&self, rng: &mut impl Rng, step: Duration, out: &mut Vec<Traffic>) {
        for stream in &self.streams {
            stream.generate(rng, step, out);
        }
    }
}

impl Stream {
    fn new(vector: &AttackVector, target: Address, zone: &[IpNet], rng: &mut impl Rng) -> Self {
        let v6 = !target.is_v4();
        let flow = flow(vector.vector, target);
        let mut senders = Vec::new();
        if let Sources::Hosts(hosts) = vector.sources {
            let spread = LogNormal::new(0.0, SENDER_SPREAD);
            senders.extend((0..hosts).map(|_| Sender {
                address: outside(rng, v6, zone),
                source_port: any_port_unless(rng, &flow, flow.key.source_port),
                destination_port: any_port_unless(rng, &flow, flow.key.destination_port),
                share: spread.as_ref().map_or(1.0, |spread| spread.sample(rng)),
            }));
            let total: f64 = senders.iter().map(|sender| sender.share).sum();
            senders.iter_mut().for_each(|sender| sender.share /= total);
        }
        Self {
            vector: vector.clone(),
            flow,
            senders,
        }
    }

    fn generate(&self, rng: &mut impl Rng, step: Duration, out: &mut Vec<Traffic>) {
        let mean = self.vector.packets_per_second as f64 * step.as_secs_f64();
        if self.senders.is_empty() {
            let packets = poisson(rng, mean);
            let forged = Traffic {
                forged: true,
                ..self.flow
            };
            self.emit(forged, packets, out);
        } else if mean < self.senders.len() as f64 / 2.0 {
            // Few packets of many senders: it is cheaper to draw the sender of each.
            for _ in 0..poisson(rng, mean) {
                let sender = &self.senders[rng.random_range(0..self.senders.len())];
                self.emit(self.of(sender), 1, out);
            }
        } else {
            for sender in &self.senders {
                let packets = poisson(rng, mean * sender.share);
                self.emit(self.of(sender), packets, out);
            }
        }
    }

    fn of(&self, sender: &Sender) -> Traffic {
        let key = FlowKey {
            source: sender.address,
            source_port: sender.source_port,
            destination_port: sender.destination_port,
            ..self.flow.key
        };
        Traffic { key, ..self.flow }
    }

    fn emit(&self, traffic: Traffic, packets: u64, out: &mut Vec<Traffic>) {
        if packets > 0 {
            let octets = packets * u64::from(self.vector.packet_octets);
            out.push(Traffic {
                packets,
                octets,
                ..traffic
            });
        }
    }
}

/// What the packets of a vector look like; port 0 where each sender has its own.
fn flow(vector: Vector, target: Address) -> Traffic {
    let icmp = if target.is_v4() { 1 } else { 58 };
    let (protocol, source_port, destination_port, tcp_flags) = match vector {
        Vector::Total => (47, 0, 0, 0),
        Vector::UdpFlood => (17, 0, 0, 0),
        Vector::TcpSynFlood => (6, 0, 443, TCP_SYN),
        Vector::TcpAckFlood => (6, 0, 443, TCP_ACK),
        Vector::TcpRstFlood => (6, 0, 443, TCP_RST),
        Vector::IcmpFlood => (icmp, 0, 0, 0),
        Vector::IpFragments => (17, 0, 0, 0),
        Vector::TcpSynackReflection => (6, 443, 0, TCP_SYN | TCP_ACK),
        Vector::DnsAmplification => (17, 53, 0, 0),
        Vector::NtpAmplification => (17, 123, 0, 0),
        Vector::SsdpAmplification => (17, 1900, 0, 0),
        Vector::SnmpAmplification => (17, 161, 0, 0),
        Vector::CldapAmplification => (17, 389, 0, 0),
        Vector::MemcachedAmplification => (17, 11_211, 0, 0),
        Vector::ChargenAmplification => (17, 19, 0, 0),
        Vector::DnsQueryFlood => (17, 0, 53, 0),
    };
    let fragments = vector == Vector::IpFragments;
    Traffic {
        key: FlowKey {
            source: Address::UNSPECIFIED,
            destination: target,
            source_port,
            destination_port,
            protocol,
        },
        forged: false,
        outbound: false,
        tcp_flags,
        fragment: if fragments {
            FragmentKind::NotFirst
        } else {
            FragmentKind::None
        },
        packets: 0,
        octets: 0,
    }
}

fn any_port_unless(rng: &mut impl Rng, flow: &Traffic, fixed: u16) -> u16 {
    if fixed == 0 && has_ports(flow) {
        any_port(rng)
    } else {
        fixed
    }
}

/// Whether packets of this traffic carry ports.
pub(crate) fn has_ports(traffic: &Traffic) -> bool {
    matches!(traffic.key.protocol, 6 | 17) && traffic.fragment != FragmentKind::NotFirst
}

/// A port that no known service has.
pub(crate) fn any_port(rng: &mut impl Rng) -> u16 {
    rng.random_range(20_000..=65_535)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn every_vector_sends_what_it_is_called() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let v6 = Address::from_octets([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        for target in [Address::from_v4([192, 0, 2, 1]), v6] {
            for vector in Vector::ALL {
                let vectors = vec![AttackVector {
                    vector,
                    packets_per_second: 1000,
                    packet_octets: 100,
                    sources: Sources::Hosts(10),
                }];
                let start = Timestamp::from_seconds(0);
                let attack = Attack {
                    target,
                    vectors,
                    start,
                    duration: Duration::from_secs(1),
                };
                let mut out = Vec::new();
                Assault::new(attack, &[], &mut rng).generate(
                    &mut rng,
                    Duration::from_secs(1),
                    &mut out,
                );
                let packets: u64 = out.iter().map(|traffic| traffic.packets).sum();
                assert!((800..1200).contains(&packets), "{packets}");
                for Traffic {
                    key,
                    tcp_flags,
                    fragment,
                    ..
                } in out
                {
                    let seen = Vector::classify(
                        key.protocol,
                        key.source_port,
                        key.destination_port,
                        tcp_flags,
                        fragment,
                    );
                    assert_eq!((seen, key.source.is_v4()), (vector, target.is_v4()));
                }
            }
        }
    }
}
