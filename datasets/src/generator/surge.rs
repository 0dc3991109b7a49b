//! Attacks and benign extremes, worked out from the scenario's tables.

use std::net::IpAddr;

use ipnet::IpNet;
use rand::{Rng, RngExt};
use weir_flow_record::{Address, FragmentKind, Row};

use super::draw::{dice, hash, log_normal};
use super::hosts::{Hosts, any_in};
use super::kinds::{Kind, Port, kind};
use super::scenario::{Limits, ScenarioFault, ScenarioFile, SurgeTable};
use super::shape::{Shape, nanos};

/// An attack, or something that looks like one.
pub(super) struct Surge {
    pub(super) start: i64,
    pub(super) end: i64,
    /// What a label says: the target, and the attack (empty = benign).
    pub(super) target: IpNet,
    pub(super) attack: String,
    pub(super) streams: Vec<Stream>,
    /// A flash crowd: the host, and how many times its normal traffic comes on top.
    pub(super) crowd: Option<(usize, f64, Shape)>,
    /// When the first datagram with a record of it left.
    pub(super) exported: Option<i64>,
}

/// Packets of one kind.
pub(super) struct Stream {
    pub(super) kind: &'static Kind,
    pub(super) shape: Shape,
    pub(super) packets_per_second: f64,
    /// Mean and spread.
    pub(super) octets: (f64, f64),
    /// 0 = forged.
    pub(super) sources: u32,
    pub(super) target: IpNet,
    pub(super) fragments: f64,
    /// Who is attacked from inside.
    pub(super) victim: Option<Address>,
    port: u16,
    seed: u64,
}

/// Most flows of a stream.
const MOST_FLOWS: u32 = 20_000;
const MOST_PACKETS: f64 = 1e9;
/// Inside.
const INSIDE: u32 = 2;
/// Where the links to the outside begin.
pub(super) const FIRST_LINK: u32 = 10;

impl Surge {
    /// Works out a table; `number` tells surges apart, `place` names it in a mistake.
    pub(super) fn new(
        table: &SurgeTable,
        number: u64,
        place: &str,
        file: &ScenarioFile,
        hosts: &Hosts,
    ) -> Result<Self, ScenarioFault> {
        let fault = |message: String| ScenarioFault::value(place, message);
        let seed = hash(&[file.seed, 31, number]);
        let start = file.start.nanos() + nanos(table.at.0);
        let end = start
            .saturating_add(nanos(table.lasts.0))
            .min(file.start.nanos() + nanos(file.duration.0));
        if end <= start {
            return Err(fault(
                "at, lasts: begins after the end of the scenario, or lasts no time".to_owned(),
            ));
        }
        let shape = Shape {
            start,
            end,
            rise: nanos(table.rise.0),
            fall: nanos(table.fall.0),
            pulse: (!table.off.0.is_zero()).then(|| (nanos(table.on.0), nanos(table.off.0))),
            waver: table.waver.clamp(0.0, 1.0),
            seed,
        };
        if shape.pulse.is_some_and(|(on, _)| on <= 0) {
            return Err(fault("on, off: pulses need a time to be on".to_owned()));
        }
        let (target, host) = target(&table.target, seed, hosts).map_err(fault)?;
        let kinds = table
            .kind
            .split('+')
            .map(|name| {
                kind(name.trim()).ok_or_else(|| fault(format!("there is no kind `{name}`")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut surge = Self {
            start,
            end,
            target,
            attack: attack_name(&kinds),
            streams: Vec::new(),
            crowd: None,
            exported: None,
        };
        if kinds.iter().any(|kind| kind.name == "flash-crowd") {
            let host = host.ok_or_else(|| fault("target: a crowd visits a host".to_owned()))?;
            let times = table.times_normal.unwrap_or(4.0);
            surge.crowd = Some((host, (times - 1.0).clamp(0.0, 1000.0), shape));
            return Ok(surge);
        }
        let share = 1.0 / kinds.len() as f64;
        for (order, kind) in kinds.into_iter().enumerate() {
            let octets = (
                table
                    .packet_octets
                    .map_or(kind.octets.0, |octets| f64::from(octets.clamp(28, 65_535))),
                kind.octets.1,
            );
            let sources = table.sources.unwrap_or(kind.sources).min(1_000_000);
            let rate = rate(table, octets.0, &file.limits).ok_or_else(|| {
                fault("needs one of over, packets_per_second, bits_per_second".to_owned())
            })?;
            if !(rate > 0.0 && rate <= MOST_PACKETS) {
                return Err(fault(
                    "the rate must be above zero and at most 1G packets per second".to_owned(),
                ));
            }
            let delay = nanos(table.stagger.0).saturating_mul(order as i64);
            let mut rng = dice(seed, order as u64);
            surge.streams.push(Stream {
                kind,
                shape: Shape {
                    start: start.saturating_add(delay).min(end - 1),
                    ..shape
                },
                packets_per_second: rate * share,
                octets,
                sources,
                target,
                fragments: table.fragments.clamp(0.0, 1.0),
                victim: table
                    .outbound
                    .then(|| hosts.forged(&mut rng, !is_v4(&target))),
                port: rng.random_range(1024..=65_535),
                seed: hash(&[seed, order as u64]),
            });
        }
        Ok(surge)
    }

    pub(super) fn is_attack(&self) -> bool {
        !self.attack.is_empty()
    }
}

/// A flow of a stream: what it looks like, its share of the packets, and a number that decides which way it takes.
pub(super) struct Sender {
    pub(super) row: Row,
    pub(super) share: f64,
    pub(super) way: u64,
}

impl Stream {
    /// Whether each packet is a flow of its own.
    pub(super) fn is_scattered(&self) -> bool {
        self.sources == 0 || self.kind.scattered
    }

    /// All flows of a stream that is not scattered.
    pub(super) fn senders(&self, hosts: &Hosts) -> Vec<Sender> {
        let mut rng = dice(self.seed, 1);
        let carpet = self.target.prefix_len() < self.target.max_prefix_len();
        let flows = if carpet {
            self.sources.max(256)
        } else {
            self.sources
        }
        .min(MOST_FLOWS);
        let mut senders: Vec<Sender> = (0..flows)
            .map(|number| {
                let row = self.row(&mut rng, hosts, u64::from(number % self.sources.max(1)));
                Sender {
                    row,
                    share: log_normal(&mut rng, 1.0),
                    way: hash(&[self.seed, u64::from(number)]),
                }
            })
            .collect();
        let total: f64 = senders.iter().map(|sender| sender.share).sum();
        let mut fragments = Vec::new();
        for sender in &mut senders {
            sender.share /= total;
            if self.fragments > 0.0 {
                let row = later_fragment(sender.row);
                fragments.push(Sender {
                    row,
                    share: sender.share * self.fragments,
                    way: sender.way,
                });
                sender.share *= 1.0 - self.fragments;
            }
        }
        senders.extend(fragments);
        senders.retain(|sender| sender.share > 0.0);
        senders
    }

    /// A packet of a scattered stream.
    pub(super) fn packet(&self, rng: &mut impl Rng, hosts: &Hosts) -> Row {
        let number = rng.random_range(0..u64::from(self.sources.max(1)));
        let row = self.row(rng, hosts, number);
        if self.fragments > 0.0 && rng.random::<f64>() < self.fragments {
            later_fragment(row)
        } else {
            row
        }
    }

    fn row(&self, rng: &mut impl Rng, hosts: &Hosts, number: u64) -> Row {
        let inside = any_in(rng, &self.target);
        let v6 = !inside.is_v4();
        let outside = match (self.victim, self.sources) {
            (Some(victim), _) => victim,
            (None, 0) => hosts.forged(rng, v6),
            (None, _) => hosts.outside([32, self.seed, u64::from(v6)], number, v6),
        };
        let port = |rng: &mut dyn Rng, port: Port| match port {
            Port::Is(port) => port,
            Port::Any => rng.random_range(1024..=65_535),
            Port::Some => self.port,
            Port::No => 0,
        };
        let out = self.victim.is_some();
        let fragment = match self.kind.vector {
            Some(weir_flow_record::Vector::IpFragments) => FragmentKind::NotFirst,
            _ => FragmentKind::None,
        };
        Row {
            source_address: if out { inside } else { outside },
            destination_address: if out { outside } else { inside },
            source_port: port(rng, self.kind.source_port),
            destination_port: port(rng, self.kind.destination_port),
            protocol: if v6 && self.kind.protocol == 1 {
                58
            } else {
                self.kind.protocol
            },
            tcp_flags: self.kind.flags,
            fragment,
            input_interface: if out { INSIDE } else { FIRST_LINK },
            output_interface: if out { FIRST_LINK } else { INSIDE },
            forwarding_status: 64,
            ..Row::default()
        }
    }
}

fn later_fragment(row: Row) -> Row {
    Row {
        source_port: 0,
        destination_port: 0,
        tcp_flags: 0,
        fragment: FragmentKind::NotFirst,
        ..row
    }
}

/// Interfaces of a flow inwards or outwards over a link.
pub(super) fn interfaces(row: &mut Row, link: u32, outbound: bool) {
    let (input, output) = if outbound {
        (INSIDE, link)
    } else {
        (link, INSIDE)
    };
    row.input_interface = input;
    row.output_interface = output;
}

/// Packets per second of a kind, if it were alone.
fn rate(table: &SurgeTable, octets: f64, limits: &Limits) -> Option<f64> {
    if let Some(over) = table.over {
        // Not the flows: how many there are is not for sampled packets to say.
        let bits = limits.bits_per_second.0 as f64 / 8.0 / octets;
        return Some(over * bits.min(limits.packets_per_second.0 as f64));
    }
    let packets = table.packets_per_second.map(|rate| rate.0 as f64);
    packets.or_else(|| {
        table
            .bits_per_second
            .map(|rate| rate.0 as f64 / 8.0 / octets)
    })
}

/// The names of the vectors, each once; empty where one is benign.
fn attack_name(kinds: &[&Kind]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for kind in kinds {
        match kind.vector {
            None => return String::new(),
            Some(vector) if !names.contains(&vector.name()) => names.push(vector.name()),
            Some(_) => {}
        }
    }
    names.join("+")
}

/// The prefix that a target means, and the host where it is one of ours.
fn target(text: &str, seed: u64, hosts: &Hosts) -> Result<(IpNet, Option<usize>), String> {
    let mut rng = dice(seed, 77);
    let (name, number) = text
        .split_once(':')
        .filter(|(name, _)| *name == "host")
        .unwrap_or((text, ""));
    if name == "host" || name.is_empty() {
        let place = match number {
            "" => rng.random_range(0..hosts.all.len().max(1)),
            number => number.parse().map_err(|_| format!("`{text}` is no host"))?,
        };
        let host = hosts
            .all
            .get(place)
            .ok_or_else(|| format!("there is no host number {place}"))?;
        let v6 = number.is_empty() && hosts.is_v6(&mut rng);
        return Ok((host.address(v6).host(), Some(place)));
    }
    let prefix = text
        .parse::<IpNet>()
        .map(|prefix| prefix.trunc())
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("target: `{text}` is neither host, address nor prefix"))?;
    if !hosts.prefixes.iter().any(|zone| zone.contains(&prefix)) {
        return Err(format!("target: {prefix} lies in no zone"));
    }
    let address = Address::from(prefix.addr());
    let host = hosts
        .all
        .iter()
        .position(|host| [host.v4, host.v6].contains(&Some(address)));
    Ok((
        prefix,
        host.filter(|_| prefix.prefix_len() == prefix.max_prefix_len()),
    ))
}

fn is_v4(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V4(_))
}
