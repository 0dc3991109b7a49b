use std::time::Duration;

use ipnet::IpNet;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1, LogNormal, Poisson};
use weir_flow_record::{Address, FragmentKind, TCP_ACK, TCP_FIN, TCP_PSH, TCP_SYN};

use crate::{FlowKey, Scenario, Traffic};

/// Normal traffic: clients that connect to services of the zone's hosts, and hosts that ask resolvers.
pub(crate) struct Crowd {
    hosts: Vec<Vec<Address>>,
    clients_v4: Vec<Address>,
    clients_v6: Vec<Address>,
    connections_per_second: f64,
    size: LogNormal<f64>,
    open: Vec<Connection>,
}

/// What a connection of this kind looks like on average.
struct Service {
    protocol: u8,
    port: u16,
    weight: u32,
    packets_in: f64,
    packets_out: f64,
    octets_in: u64,
    octets_out: u64,
    duration: Duration,
    /// The zone's host is the client.
    asked_by_host: bool,
}

struct Connection {
    inward: FlowKey,
    octets_in: u64,
    octets_out: u64,
    packets_in: u64,
    packets_out: u64,
    steps_left: u64,
    begun: bool,
}

const fn service(
    protocol: u8,
    port: u16,
    weight: u32,
    packets: (f64, f64),
    octets: (u64, u64),
    millis: u64,
) -> Service {
    Service {
        protocol,
        port,
        weight,
        packets_in: packets.0,
        packets_out: packets.1,
        octets_in: octets.0,
        octets_out: octets.1,
        duration: Duration::from_millis(millis),
        asked_by_host: false,
    }
}

/// Web over TCP and QUIC, mail, DNS both ways.
static SERVICES: [Service; 6] = [
    service(6, 443, 48, (12.0, 18.0), (150, 1100), 1500),
    service(6, 80, 12, (6.0, 8.0), (150, 900), 600),
    service(17, 443, 18, (15.0, 20.0), (120, 1150), 1500),
    service(17, 53, 12, (1.0, 1.0), (80, 180), 0),
    service(6, 25, 4, (14.0, 10.0), (900, 80), 2000),
    Service {
        asked_by_host: true,
        ..service(17, 53, 6, (1.0, 1.0), (220, 80), 0)
    },
];

/// How much connections differ in size: σ of a log-normal factor whose mean is 1.
const SIZE_SPREAD: f64 = 0.8;
/// Most steps that a connection lasts: its packets are spread over them.
const MOST_STEPS: u64 = 100;
const STEP_SECONDS: f64 = 0.1;
const MOST_OPEN: usize = 1_000_000;

impl Crowd {
    pub(crate) fn new(scenario: &Scenario, rng: &mut impl Rng) -> Self {
        let hosts = |prefix| {
            (0..scenario.hosts_per_prefix)
                .filter_map(|host| scenario.host(prefix, host))
                .collect()
        };
        let mut clients = |v6| {
            (0..scenario.clients)
                .map(|_| outside(rng, v6, &scenario.prefixes))
                .collect()
        };
        let mean = SERVICES
            .iter()
            .map(|s| f64::from(s.weight) * (s.packets_in + s.packets_out))
            .sum::<f64>()
            / f64::from(total_weight());
        let size = LogNormal::new(-SIZE_SPREAD * SIZE_SPREAD / 2.0, SIZE_SPREAD);
        #[expect(clippy::unwrap_used, reason = "the spread is a positive constant")]
        let size = size.unwrap();
        Self {
            hosts: (0..scenario.prefixes.len()).map(hosts).collect(),
            clients_v4: clients(false),
            clients_v6: clients(true),
            connections_per_second: scenario.packets_per_second as f64 / mean,
            size,
            open: Vec::new(),
        }
    }

    /// Appends what normal users send and get within a step of this length.
    pub(crate) fn generate(&mut self, rng: &mut impl Rng, step: Duration, out: &mut Vec<Traffic>) {
        for _ in 0..poisson(rng, self.connections_per_second * step.as_secs_f64()) {
            if self.open.len() < MOST_OPEN {
                let connection = self.connect(rng);
                self.open.push(connection);
            }
        }
        for connection in &mut self.open {
            connection.step(out);
        }
        self.open.retain(|connection| connection.steps_left > 0);
    }

    fn connect(&self, rng: &mut impl Rng) -> Connection {
        let service = pick_service(rng);
        let hosts = &self.hosts[rng.random_range(0..self.hosts.len())];
        // The lower the number, the busier: the mean of u² is a third.
        let host = hosts[skewed(rng, hosts.len())];
        let clients = if host.is_v4() {
            &self.clients_v4
        } else {
            &self.clients_v6
        };
        let client = clients[skewed(rng, clients.len())];
        let ephemeral = rng.random_range(32_768..=60_999);
        let (source_port, destination_port) = if service.asked_by_host {
            (service.port, ephemeral)
        } else {
            (ephemeral, service.port)
        };
        let size = self.size.sample(rng);
        let lasting = service.duration.as_secs_f64() * rng.sample::<f64, _>(Exp1) / STEP_SECONDS;
        Connection {
            inward: FlowKey {
                source: client,
                destination: host,
                source_port,
                destination_port,
                protocol: service.protocol,
            },
            octets_in: service.octets_in,
            octets_out: service.octets_out,
            packets_in: packets(rng, service.packets_in, size),
            packets_out: packets(rng, service.packets_out, size),
            steps_left: (lasting as u64).min(MOST_STEPS - 1) + 1,
            begun: false,
        }
    }
}

impl Connection {
    fn step(&mut self, out: &mut Vec<Traffic>) {
        let (packets_in, packets_out) = (
            self.packets_in.div_ceil(self.steps_left),
            self.packets_out.div_ceil(self.steps_left),
        );
        let flags = self.flags();
        self.steps_left -= 1;
        self.begun = true;
        self.packets_in -= packets_in;
        self.packets_out -= packets_out;
        let inward = Traffic {
            key: self.inward,
            forged: false,
            outbound: false,
            tcp_flags: flags,
            fragment: FragmentKind::None,
            packets: packets_in,
            octets: packets_in * self.octets_in,
        };
        let outward = Traffic {
            key: FlowKey {
                source: self.inward.destination,
                destination: self.inward.source,
                source_port: self.inward.destination_port,
                destination_port: self.inward.source_port,
                protocol: self.inward.protocol,
            },
            outbound: true,
            packets: packets_out,
            octets: packets_out * self.octets_out,
            ..inward
        };
        // A filter that knows who was asked must see the question first.
        if self.inward.source_port == 53 {
            out.extend(
                [outward, inward]
                    .into_iter()
                    .filter(|traffic| traffic.packets > 0),
            );
        } else {
            out.extend(
                [inward, outward]
                    .into_iter()
                    .filter(|traffic| traffic.packets > 0),
            );
        }
    }

    fn flags(&self) -> u16 {
        if self.inward.protocol != 6 {
            return 0;
        }
        let first = if self.begun { 0 } else { TCP_SYN };
        let last = if self.steps_left == 1 { TCP_FIN } else { 0 };
        TCP_ACK | TCP_PSH | first | last
    }
}

/// A random unicast address outside the zone: a client, a reflector, a forged source.
pub(crate) fn outside(rng: &mut impl Rng, v6: bool, zone: &[IpNet]) -> Address {
    loop {
        let address = if v6 {
            let mut octets: [u8; 16] = rng.random();
            octets[0] = 0x20 | octets[0] & 0x1f;
            Address::from_octets(octets)
        } else {
            let octets: [u8; 4] = rng.random();
            if matches!(
                octets,
                [0 | 10 | 127 | 224.., ..] | [192, 168, ..] | [172, 16..=31, ..] | [169, 254, ..]
            ) {
                continue;
            }
            Address::from_v4(octets)
        };
        if !zone.iter().any(|prefix| address.is_in(prefix)) {
            return address;
        }
    }
}

/// A Poisson number; 0 where the mean is none.
pub(crate) fn poisson(rng: &mut impl Rng, mean: f64) -> u64 {
    Poisson::new(mean).map_or(0, |distribution| distribution.sample(rng) as u64)
}

fn total_weight() -> u32 {
    SERVICES.iter().map(|service| service.weight).sum()
}

fn pick_service(rng: &mut impl Rng) -> &'static Service {
    let mut ticket = rng.random_range(0..total_weight());
    for service in &SERVICES {
        if ticket < service.weight {
            return service;
        }
        ticket -= service.weight;
    }
    &SERVICES[0]
}

fn skewed(rng: &mut impl Rng, length: usize) -> usize {
    let chance: f64 = rng.random();
    ((chance * chance * length as f64) as usize).min(length - 1)
}

fn packets(rng: &mut impl Rng, mean: f64, size: f64) -> u64 {
    // One packet at least, and the mean as it should be.
    if mean <= 1.0 {
        1
    } else {
        1 + poisson(rng, (mean - 1.0) * size)
    }
}
