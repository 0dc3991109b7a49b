use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ipnet::IpNet;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution};
use weir_flow_record::{
    ExportTime, FragmentKind, ObservationDomainId, Row, TCP_ACK, TCP_FIN, TCP_SYN, Timestamp,
};
use weir_netflow::encode::{Encoder, Format};

use crate::assault::{any_port, has_ports};
use crate::crowd::outside;
use crate::traffic::share;
use crate::{FlowKey, Scenario, Traffic};

/// The router at the zone's border: samples packets, keeps them in a flow cache, and exports IPFIX.
pub(crate) struct Router {
    encoder: Encoder,
    rng: ChaCha8Rng,
    sampling_rate: u32,
    active_timeout: Duration,
    inactive_timeout: Duration,
    template_interval: Duration,
    templates_due: Timestamp,
    zone: Vec<IpNet>,
    cache: BTreeMap<FlowKey, CachedFlow>,
    rows: Vec<Row>,
    encoded: Vec<Vec<u8>>,
    datagrams: VecDeque<(Timestamp, Vec<u8>)>,
    pub(crate) sampled_packets: u64,
    pub(crate) sampled_octets: u64,
    pub(crate) records: u64,
}

struct CachedFlow {
    first: i64,
    last: i64,
    octets: u64,
    packets: u64,
    tcp_flags: u16,
    fragment: FragmentKind,
    outbound: bool,
}

/// A cache that is full is exported at once, as routers do.
const MOST_CACHED: usize = 65_536;
/// ifIndex of the side of the Internet, and of the zone's side.
const OUTSIDE: u32 = 1;
const INSIDE: u32 = 2;
/// IE 61: all flows are seen where they enter.
const INGRESS: u8 = 0;
/// IE 89: forwarded.
const FORWARDED: u8 = 64;

impl Router {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
        // What the router draws must not change what is sent.
        rng.set_stream(1);
        Self {
            encoder: Encoder::new(Format::Ipfix, ObservationDomainId(scenario.domain))
                .with_sampling_rate(scenario.sampling_rate),
            rng,
            sampling_rate: scenario.sampling_rate,
            active_timeout: scenario.active_timeout,
            inactive_timeout: scenario.inactive_timeout,
            template_interval: scenario.template_interval,
            templates_due: scenario.start,
            zone: scenario.prefixes.clone(),
            cache: BTreeMap::new(),
            rows: Vec::new(),
            encoded: Vec::new(),
            datagrams: VecDeque::new(),
            sampled_packets: 0,
            sampled_octets: 0,
            records: 0,
        }
    }

    /// Takes in what passes between `from` and `to`, and exports what is due at `to`.
    pub(crate) fn handle_step(&mut self, from: Timestamp, to: Timestamp, traffic: &[Traffic]) {
        for traffic in traffic.iter().filter(|traffic| traffic.packets > 0) {
            let sampled = self.sample(traffic.packets);
            if sampled == 0 {
                continue;
            }
            if traffic.forged {
                for _ in 0..sampled {
                    let key = self.forge(traffic);
                    self.account(key, traffic, 1, from, to);
                }
            } else {
                self.account(traffic.key, traffic, sampled, from, to);
            }
            if self.cache.len() >= MOST_CACHED {
                self.export(to, true);
            }
        }
        self.export(to, false);
    }

    /// Exports all that is cached.
    pub(crate) fn handle_stop(&mut self, now: Timestamp) {
        self.export(now, true);
    }

    pub(crate) fn poll_datagram(&mut self) -> Option<(Timestamp, Vec<u8>)> {
        self.datagrams.pop_front()
    }

    fn sample(&mut self, packets: u64) -> u64 {
        match self.sampling_rate {
            1 => packets,
            rate => Binomial::new(packets, 1.0 / f64::from(rate))
                .map_or(0, |distribution| distribution.sample(&mut self.rng)),
        }
    }

    fn forge(&mut self, traffic: &Traffic) -> FlowKey {
        let v6 = !traffic.key.destination.is_v4();
        let mut key = FlowKey {
            source: outside(&mut self.rng, v6, &self.zone),
            ..traffic.key
        };
        if has_ports(traffic) {
            for port in [&mut key.source_port, &mut key.destination_port] {
                if *port == 0 {
                    *port = any_port(&mut self.rng);
                }
            }
        }
        key
    }

    fn account(
        &mut self,
        key: FlowKey,
        traffic: &Traffic,
        packets: u64,
        from: Timestamp,
        to: Timestamp,
    ) {
        let octets = share(traffic.octets, packets, traffic.packets);
        let tcp_flags = sampled_flags(&mut self.rng, traffic, packets);
        let (first, last) = self.times(from, to, packets);
        self.sampled_packets += packets;
        self.sampled_octets += octets;
        let flow = self.cache.entry(key).or_insert(CachedFlow {
            first,
            last,
            octets: 0,
            packets: 0,
            tcp_flags: 0,
            fragment: traffic.fragment,
            outbound: traffic.outbound,
        });
        flow.first = flow.first.min(first);
        flow.last = flow.last.max(last);
        flow.octets += octets;
        flow.packets += packets;
        flow.tcp_flags |= tcp_flags;
    }

    /// When the first and the last of the sampled packets passed.
    fn times(&mut self, from: Timestamp, to: Timestamp, packets: u64) -> (i64, i64) {
        let any = from.nanos()..to.nanos().max(from.nanos() + 1);
        let one = self.rng.random_range(any.clone());
        if packets == 1 {
            return (one, one);
        }
        let other = self.rng.random_range(any);
        (one.min(other), one.max(other))
    }

    fn export(&mut self, now: Timestamp, all: bool) {
        if now >= self.templates_due {
            let next = self.templates_due.plus(self.template_interval);
            self.templates_due = next.max(now);
            self.encoder
                .encode_templates(ExportTime(now), &mut self.encoded);
        }
        let at = now.nanos();
        let (active, inactive) = (nanos(self.active_timeout), nanos(self.inactive_timeout));
        let rows = &mut self.rows;
        self.cache.retain(|key, flow| {
            let due = all || at - flow.first >= active || at - flow.last >= inactive;
            if due {
                rows.push(row(key, flow));
            }
            !due
        });
        self.records += self.rows.len() as u64;
        self.encoder
            .encode_flows(ExportTime(now), &self.rows, &mut self.encoded);
        self.rows.clear();
        self.datagrams
            .extend(self.encoded.drain(..).map(|datagram| (now, datagram)));
    }
}

/// Flags that `packets` packets out of an aggregate show: its SYN and FIN are on one packet each.
fn sampled_flags(rng: &mut impl Rng, traffic: &Traffic, packets: u64) -> u16 {
    let whole = traffic.tcp_flags;
    let one_of_many = TCP_SYN | TCP_FIN;
    if whole & one_of_many == 0 || whole & TCP_ACK == 0 || whole == TCP_SYN | TCP_ACK {
        return whole;
    }
    let mut flags = 0;
    let mut others = packets;
    for flag in [TCP_SYN, TCP_FIN] {
        let chance = packets as f64 / traffic.packets as f64;
        if whole & flag != 0 && others > 0 && rng.random_bool(chance.min(1.0)) {
            // A client's SYN is alone, everything else in a connection has ACK.
            let alone = flag == TCP_SYN && !traffic.outbound;
            flags |= if alone { flag } else { flag | TCP_ACK };
            others -= 1;
        }
    }
    if others > 0 {
        flags |= whole & !one_of_many;
    }
    flags
}

fn row(key: &FlowKey, flow: &CachedFlow) -> Row {
    let (input_interface, output_interface) = if flow.outbound {
        (INSIDE, OUTSIDE)
    } else {
        (OUTSIDE, INSIDE)
    };
    Row {
        source_address: key.source,
        destination_address: key.destination,
        source_port: key.source_port,
        destination_port: key.destination_port,
        protocol: key.protocol,
        tcp_flags: flow.tcp_flags,
        fragment: flow.fragment,
        octets: flow.octets,
        packets: flow.packets,
        flow_start: flow.first,
        flow_end: flow.last,
        sampling_rate: 0,
        input_interface,
        output_interface,
        direction: INGRESS,
        forwarding_status: FORWARDED,
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use weir_flow_record::{Address, TCP_PSH};

    use super::*;

    #[test]
    fn few_samples_of_a_connection_show_its_syn() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let traffic = Traffic {
            key: FlowKey {
                source: Address::UNSPECIFIED,
                destination: Address::UNSPECIFIED,
                source_port: 1,
                destination_port: 2,
                protocol: 6,
            },
            forged: false,
            outbound: false,
            tcp_flags: TCP_SYN | TCP_ACK | TCP_PSH,
            fragment: FragmentKind::None,
            packets: 10,
            octets: 1000,
        };
        let draws = 10_000;
        let lone = (0..draws)
            .filter(|_| sampled_flags(&mut rng, &traffic, 1) == TCP_SYN)
            .count();
        assert!((900..1100).contains(&lone), "{lone}");
        assert_eq!(sampled_flags(&mut rng, &traffic, 10), traffic.tcp_flags);
    }
}
