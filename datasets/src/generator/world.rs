use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use weir_flow_record::{Row, TCP_ACK, TCP_FIN, TCP_PSH, TCP_SYN, Timestamp};

use super::draw::{cumulate, dice, poisson, positive_poisson, unit};
use super::exporter::{Datagram, Exporter};
use super::flow::{Course, Timeouts, octets};
use super::hosts::Hosts;
use super::normal::{Conversation, Feed, Normal, Ports};
use super::random::campaign;
use super::scenario::{ScenarioFault, ScenarioFile};
use super::shape::nanos;
use super::surge::{FIRST_LINK, Stream, Surge, interfaces};
use crate::score::Truth;

/// Makes a scenario's datagrams, one after the other; see the [module](super).
pub struct Generator {
    file: ScenarioFile,
    end: i64,
    rng: ChaCha8Rng,
    hosts: Hosts,
    feeds: Vec<Feed>,
    ways: Vec<f64>,
    exporters: Vec<Exporter>,
    normal: Normal,
    surges: Vec<Surge>,
    queue: BinaryHeap<Reverse<(i64, u64, Due)>>,
    serial: u64,
    flows: Vec<Live>,
    free: Vec<u32>,
    out: VecDeque<Datagram>,
    made: Made,
}

/// What was made so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Made {
    /// Datagrams that arrived.
    pub datagrams: u64,
    /// Their octets.
    pub octets: u64,
    /// Records that were exported, lost ones included.
    pub records: u64,
    /// Datagrams that were lost on the way.
    pub lost: u64,
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    Reboot(u32),
    Templates(u32),
    Flush(u32),
    Begin(u32),
    Visit(u32),
    Scatter { surge: u32, stream: u32, feed: u32 },
    Export(u32),
}

/// A flow in a cache.
#[derive(Clone, Copy)]
struct Live {
    row: Row,
    feed: u32,
    /// How it goes on after this record.
    course: Option<Course>,
    /// Surge and stream that it is of.
    of: Option<(u32, u32)>,
    octets: (f64, f64),
}

const SECOND: i64 = 1_000_000_000;

impl Generator {
    /// A generator at its scenario's start.
    pub fn new(file: ScenarioFile) -> Result<Self, ScenarioFault> {
        file.check()?;
        let start = file.start.nanos();
        let hosts = Hosts::new(&file);
        if hosts.all.is_empty() {
            return Err(ScenarioFault::value(
                "zone",
                "the prefixes have no room for a host",
            ));
        }
        let feeds = feeds(&file);
        let mut rng = dice(file.seed, 1);
        let mut surges = Vec::new();
        let (attacks, benign) = campaign(&file);
        for (list, name) in [
            (&file.attacks, "attack"),
            (&attacks, "random attack"),
            (&file.benign, "benign"),
            (&benign, "random benign"),
        ] {
            for (index, table) in list.iter().enumerate() {
                let place = format!("{name}[{index}]");
                surges.push(Surge::new(
                    table,
                    surges.len() as u64,
                    &place,
                    &file,
                    &hosts,
                )?);
            }
        }
        let mut generator = Self {
            end: start + nanos(file.duration.0),
            normal: Normal::new(&file, &feeds, &hosts, &mut dice(file.seed, 2)),
            exporters: file
                .exporters
                .iter()
                .enumerate()
                .map(|(number, table)| Exporter::new(table, number, start, file.seed))
                .collect(),
            ways: cumulate(feeds.iter().map(|feed| feed.share)),
            feeds,
            hosts,
            surges,
            queue: BinaryHeap::new(),
            serial: 0,
            flows: Vec::new(),
            free: Vec::new(),
            out: VecDeque::new(),
            made: Made::default(),
            rng: dice(file.seed, 3),
            file,
        };
        generator.normal.advance(&mut rng, start);
        for number in 0..generator.exporters.len() as u32 {
            generator.push(start + i64::from(number), Due::Templates(number));
            let reboots = generator.file.exporters[number as usize].reboots.clone();
            for reboot in reboots {
                generator.push(start + nanos(reboot.0), Due::Reboot(number));
            }
        }
        for number in 0..generator.surges.len() {
            generator.push(generator.surges[number].start, Due::Begin(number as u32));
        }
        Ok(generator)
    }

    /// The scenario.
    pub fn scenario(&self) -> &ScenarioFile {
        &self.file
    }

    /// What was made so far.
    pub fn made(&self) -> Made {
        Made {
            records: self.exporters.iter().map(|exporter| exporter.records).sum(),
            lost: self.exporters.iter().map(|exporter| exporter.lost).sum(),
            ..self.made
        }
    }

    /// The next datagram; `None` once all that was in caches at the end has been exported.
    #[must_use]
    pub fn poll_datagram(&mut self) -> Option<Datagram> {
        while self.out.is_empty() {
            self.step()?;
        }
        let datagram = self.out.pop_front()?;
        self.made.datagrams += 1;
        self.made.octets += datagram.payload.len() as u64;
        Some(datagram)
    }

    /// What really happened: attacks by their start; then benign extremes and the whole time of each prefix, as peace.
    /// When an attack was first exported is known once it has been.
    pub fn labels(&self) -> Vec<Truth> {
        let label = |surge: &Surge| Truth {
            start: Timestamp::from_nanos(surge.start),
            end: Timestamp::from_nanos(surge.end),
            target: surge.target,
            attack: surge.attack.clone(),
            exported: surge.exported.map(Timestamp::from_nanos),
        };
        let mut labels: Vec<Truth> = self.surges.iter().map(label).collect();
        labels.sort_by(|a, b| {
            let key = |truth: &Truth| (truth.attack.is_empty(), truth.start, truth.target);
            key(a).cmp(&key(b))
        });
        labels.extend(self.hosts.prefixes.iter().map(|prefix| Truth {
            start: self.file.start,
            end: Timestamp::from_nanos(self.end),
            target: prefix.trunc(),
            attack: String::new(),
            exported: None,
        }));
        labels
    }

    fn push(&mut self, at: i64, due: Due) {
        self.serial += 1;
        self.queue.push(Reverse((at, self.serial, due)));
    }

    fn step(&mut self) -> Option<()> {
        let next = self.queue.peek().map(|Reverse((at, ..))| *at);
        let arrival = self.normal.next;
        if arrival < self.end && next.is_none_or(|at| arrival <= at) {
            if let Some(conversation) =
                self.normal
                    .conversation(&mut self.rng, &self.hosts, arrival)
            {
                self.converse(arrival, &conversation);
            }
            self.normal.advance(&mut self.rng, arrival);
            return Some(());
        }
        let Reverse((now, _, due)) = self.queue.pop()?;
        match due {
            Due::Export(flow) => self.export(now, flow),
            Due::Scatter {
                surge,
                stream,
                feed,
            } => self.scatter(now, (surge, stream), feed),
            Due::Flush(number) => {
                if let Some(exporter) = self.exporters.get_mut(number as usize) {
                    let mut sent = Vec::new();
                    exporter.handle_flush(now, &mut sent);
                    self.deliver(now, sent);
                }
            }
            Due::Templates(number) => self.templates(now, number),
            Due::Reboot(number) => self.reboot(now, number),
            Due::Begin(number) => self.begin(now, number),
            Due::Visit(number) => self.visit(now, number),
        }
        Some(())
    }

    fn deliver(&mut self, now: i64, sent: Vec<(Datagram, Vec<u32>)>) {
        for (datagram, surges) in sent {
            for surge in surges {
                if let Some(surge) = self.surges.get_mut(surge as usize) {
                    surge.exported.get_or_insert(now);
                }
            }
            self.out.push_back(datagram);
        }
    }

    fn templates(&mut self, now: i64, number: u32) {
        let Some(exporter) = self.exporters.get_mut(number as usize) else {
            return;
        };
        let mut sent = Vec::new();
        exporter.handle_templates(now, &mut sent);
        let next = now + nanos(exporter.table.template_interval.0);
        self.deliver(now, sent);
        if next < self.end {
            self.push(next, Due::Templates(number));
        }
    }

    fn reboot(&mut self, now: i64, number: u32) {
        let Some(exporter) = self.exporters.get_mut(number as usize) else {
            return;
        };
        let up = exporter.handle_reboot(now);
        // The timer of before the restart goes on beside this one: templates come twice an interval, which harms nobody.
        self.push(up, Due::Templates(number));
    }

    fn begin(&mut self, now: i64, number: u32) {
        let Some(surge) = self.surges.get(number as usize) else {
            return;
        };
        if surge.crowd.is_some() {
            self.push(now, Due::Visit(number));
            return;
        }
        for place in 0..surge.streams.len() as u32 {
            self.begin_stream((number, place));
        }
    }

    fn begin_stream(&mut self, of: (u32, u32)) {
        let Some(stream) = stream(&self.surges, of) else {
            return;
        };
        let shape = stream.shape;
        let rate = stream.packets_per_second / 1e9;
        if stream.is_scattered() {
            let total: f64 = self.feeds.iter().map(|feed| feed.share).sum();
            for (number, feed) in self.feeds.clone().iter().enumerate() {
                let course = Course {
                    per_nanosecond: rate * feed.share / total / f64::from(feed.rate),
                    until: shape.end,
                };
                if course.per_nanosecond > 0.0
                    && let Some(first) = course.arrival(&mut self.rng, shape.start, Some(&shape))
                {
                    self.push(
                        first,
                        Due::Scatter {
                            surge: of.0,
                            stream: of.1,
                            feed: number as u32,
                        },
                    );
                }
            }
            return;
        }
        let (octets, outbound) = (stream.octets, stream.victim.is_some());
        for sender in stream.senders(&self.hosts) {
            let ticket = unit(sender.way) * self.ways.last().copied().unwrap_or(0.0);
            let feed = self
                .ways
                .partition_point(|sum| *sum <= ticket)
                .min(self.feeds.len() - 1);
            let mut row = sender.row;
            interfaces(&mut row, FIRST_LINK + feed as u32, outbound);
            let per_nanosecond = rate * sender.share / f64::from(self.feeds[feed].rate);
            let live = Live {
                row,
                feed: feed as u32,
                course: Some(Course {
                    per_nanosecond,
                    until: shape.end,
                }),
                of: Some(of),
                octets,
            };
            self.go_on(live, shape.start, None);
        }
    }

    /// A sampled packet that is a flow of its own.
    fn scatter(&mut self, now: i64, of: (u32, u32), number: u32) {
        let Some(stream) = stream(&self.surges, of) else {
            return;
        };
        let Some(feed) = self.feeds.get(number as usize) else {
            return;
        };
        let mut row = stream.packet(&mut self.rng, &self.hosts);
        let (shape, mean) = (stream.shape, stream.octets);
        interfaces(&mut row, FIRST_LINK + number, stream.victim.is_some());
        let total: f64 = self.ways.last().copied().unwrap_or(1.0);
        let course = Course {
            per_nanosecond: stream.packets_per_second / 1e9 * feed.share
                / total
                / f64::from(feed.rate),
            until: shape.end,
        };
        row.packets = 1;
        row.octets = octets(&mut self.rng, 1, mean.0, mean.1);
        (row.flow_start, row.flow_end) = (now, now);
        let live = Live {
            row,
            feed: number,
            course: None,
            of: Some(of),
            octets: mean,
        };
        let due = now + self.timeouts(number).inactive;
        self.store(live, now, due);
        if let Some(next) = course.arrival(&mut self.rng, now, Some(&shape)) {
            self.push(
                next,
                Due::Scatter {
                    surge: of.0,
                    stream: of.1,
                    feed: number,
                },
            );
        }
    }

    fn visit(&mut self, now: i64, number: u32) {
        let Some((host, times, shape)) = self
            .surges
            .get(number as usize)
            .and_then(|surge| surge.crowd)
        else {
            return;
        };
        // The visit at the start only sets off the others.
        if now > shape.start
            && let Some(conversation) = self.normal.visit(&mut self.rng, &self.hosts, host)
        {
            self.converse(now, &conversation);
        }
        let course = Course {
            per_nanosecond: self.normal.rate_of(host) * times,
            until: shape.end,
        };
        if course.per_nanosecond > 0.0
            && let Some(next) = course.arrival(&mut self.rng, now, Some(&shape))
        {
            self.push(next, Due::Visit(number));
        }
    }

    /// Both directions of a conversation.
    fn converse(&mut self, at: i64, conversation: &Conversation) {
        let Some(feed) = self.feeds.get(conversation.feed).copied() else {
            return;
        };
        let service = conversation.service;
        let rng = &mut self.rng;
        let (client_port, server_port) = match service.port {
            Ports::Is(port) => (rng.random_range(1024..=65_535), port),
            Ports::Range(low, high) => (rng.random_range(low..=high), rng.random_range(low..=high)),
            Ports::Radiation => (
                rng.random_range(1024..=65_535),
                [22, 23, 80, 443, 445, 3389, 8080, 5060][rng.random_range(0..8)],
            ),
            Ports::None => (0, 2048),
        };
        let counts = sampled(rng, conversation.packets, feed.rate);
        let radiation = service.port == Ports::Radiation;
        for (direction, count) in counts.into_iter().enumerate() {
            let from_server = direction == 1;
            if count == 0 || radiation && from_server {
                continue;
            }
            let outbound = from_server == service.inside_serves;
            let (source, destination) = if outbound {
                (conversation.inside, conversation.client)
            } else {
                (conversation.client, conversation.inside)
            };
            let ports = if from_server {
                (server_port, client_port)
            } else {
                (client_port, server_port)
            };
            let ports = if service.port == Ports::None && from_server {
                (0, 0)
            } else {
                ports
            };
            let whole = conversation.packets[direction];
            let size = if from_server {
                service.octets.1
            } else {
                service.octets.0
            };
            let mut row = Row {
                source_address: source,
                destination_address: destination,
                source_port: ports.0,
                destination_port: ports.1,
                protocol: if service.protocol == 1 && !source.is_v4() {
                    58
                } else {
                    service.protocol
                },
                tcp_flags: match service.protocol {
                    6 if radiation => TCP_SYN,
                    6 => flags(&mut self.rng, count as f64, whole, from_server),
                    _ => 0,
                },
                forwarding_status: 64,
                ..Row::default()
            };
            interfaces(&mut row, FIRST_LINK + conversation.feed as u32, outbound);
            self.direction(at, conversation, row, count, (size, 0.25));
        }
    }

    /// One direction of a conversation of which `count` packets are sampled.
    fn direction(
        &mut self,
        at: i64,
        conversation: &Conversation,
        row: Row,
        count: u64,
        size: (f64, f64),
    ) {
        let feed = conversation.feed as u32;
        let timeouts = self.timeouts(feed);
        let lasts = conversation.lasts.max(1);
        let mut live = Live {
            row,
            feed,
            course: None,
            of: None,
            octets: size,
        };
        let earliest = 1.0 - self.rng.random::<f64>().powf(1.0 / count as f64);
        let first = at + (earliest * lasts as f64) as i64;
        let quick = timeouts.active > 0
            && lasts < timeouts.active
            && (count == 1 || lasts / count.max(1) as i64 * 8 < timeouts.inactive);
        if count == 1 || quick {
            let latest = self
                .rng
                .random::<f64>()
                .powf(1.0 / (count - 1).max(1) as f64);
            let left = (at + lasts - first).max(0) as f64;
            let last = if count == 1 {
                first
            } else {
                first + (left * latest) as i64
            };
            live.row.packets = count;
            live.row.octets = octets(&mut self.rng, count, size.0, size.1);
            (live.row.flow_start, live.row.flow_end) = (first, last);
            // A cache that sees the FIN need not wait for more.
            let closed = live.row.tcp_flags & TCP_FIN != 0;
            let wait = if closed {
                self.rng.random_range(0..=timeouts.inactive.min(2 * SECOND))
            } else {
                timeouts.inactive
            };
            self.store(live, first, last + wait);
            return;
        }
        live.course = Some(Course {
            per_nanosecond: count as f64 / lasts as f64,
            until: (at + lasts).min(self.end),
        });
        self.go_on(live, first, Some(first));
    }

    /// Lets a flow go on after `at`: its next entry in the cache, if there is one.
    fn go_on(&mut self, mut live: Live, at: i64, first: Option<i64>) {
        let Some(course) = live.course else { return };
        let shape = live.of.and_then(|(surge, stream)| {
            let surge = self.surges.get(surge as usize)?;
            surge
                .streams
                .get(stream as usize)
                .map(|stream| stream.shape)
        });
        let rng = &mut self.rng;
        let Some(first) = first.or_else(|| course.arrival(rng, at, shape.as_ref())) else {
            return;
        };
        if first >= course.until {
            return;
        }
        let timeouts = self.timeouts(live.feed);
        let entry = course.entry(&mut self.rng, first, shape.as_ref(), timeouts);
        live.row.packets = entry.packets;
        live.row.octets = octets(&mut self.rng, entry.packets, live.octets.0, live.octets.1);
        (live.row.flow_start, live.row.flow_end) = (entry.first, entry.last);
        self.store(live, first, entry.exported_at);
    }

    /// Keeps a flow until it is due. A cache that is full exports it at once: at its last packet.
    fn store(&mut self, live: Live, first: i64, due: i64) {
        let feed = self.feeds.get(live.feed as usize).copied();
        let Some(exporter) = feed.and_then(|feed| self.exporters.get_mut(feed.exporter)) else {
            return;
        };
        let due = if exporter.is_full() {
            live.row.flow_end.max(first)
        } else {
            due
        };
        exporter.cached += 1;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.flows.push(live);
                self.flows.len() as u32 - 1
            }
        };
        if let Some(place) = self.flows.get_mut(slot as usize) {
            *place = live;
        }
        self.push(due, Due::Export(slot));
    }

    fn export(&mut self, now: i64, slot: u32) {
        let Some(mut live) = self.flows.get(slot as usize).copied() else {
            return;
        };
        self.free.push(slot);
        let Some(feed) = self.feeds.get(live.feed as usize).copied() else {
            return;
        };
        let Some(exporter) = self.exporters.get_mut(feed.exporter) else {
            return;
        };
        exporter.cached = exporter.cached.saturating_sub(1);
        let attack = live.of.map(|(surge, _)| surge).filter(|surge| {
            self.surges
                .get(*surge as usize)
                .is_some_and(Surge::is_attack)
        });
        let mut sent = Vec::new();
        exporter.handle_record(now, &live.row, feed.sampler, attack, &mut sent);
        if let Some(flush) = exporter.poll_flush(now) {
            self.push(flush, Due::Flush(feed.exporter as u32));
        }
        self.deliver(now, sent);
        if live.course.is_some() {
            // The SYN has passed, the FIN comes with the last packet: between them is data.
            if live.row.protocol == 6 && live.of.is_none() {
                live.row.tcp_flags = TCP_ACK | TCP_PSH;
            }
            self.go_on(live, now, None);
        }
    }

    fn timeouts(&self, feed: u32) -> Timeouts {
        let exporter = self
            .feeds
            .get(feed as usize)
            .and_then(|feed| self.exporters.get(feed.exporter));
        exporter.map_or(
            Timeouts {
                active: 0,
                inactive: 0,
            },
            |exporter| Timeouts {
                active: exporter.active,
                inactive: exporter.inactive,
            },
        )
    }
}

/// The ways that traffic takes, with their shares.
/// A stream by its surge's place and its own.
fn stream(surges: &[Surge], (surge, place): (u32, u32)) -> Option<&Stream> {
    surges.get(surge as usize)?.streams.get(place as usize)
}

fn feeds(file: &ScenarioFile) -> Vec<Feed> {
    let mut feeds = Vec::new();
    for (number, exporter) in file.exporters.iter().enumerate() {
        for (sampler, rate) in (0..).zip(&exporter.sampling) {
            feeds.push(Feed {
                exporter: number,
                sampler,
                rate: *rate,
                share: exporter.share / exporter.sampling.len() as f64,
            });
        }
    }
    feeds
}

/// How many packets of each direction are sampled, given that one is.
fn sampled(rng: &mut impl Rng, packets: [f64; 2], rate: u32) -> [u64; 2] {
    if rate <= 1 {
        return packets.map(|packets| packets as u64);
    }
    let means = packets.map(|packets| packets / f64::from(rate));
    let seen = |mean: f64| 1.0 - (-mean).exp();
    let server = rng.random::<f64>() * seen(means[0] + means[1]) < seen(means[1]);
    let counts = if server {
        [poisson(rng, means[0]), positive_poisson(rng, means[1])]
    } else {
        [positive_poisson(rng, means[0]), 0]
    };
    [
        counts[0].min(packets[0] as u64),
        counts[1].min(packets[1] as u64),
    ]
}

/// Flags of the packets that were sampled of a connection: its SYN and FIN are on one packet each.
fn flags(rng: &mut impl Rng, sampled: f64, whole: f64, server: bool) -> u16 {
    let share = (sampled / whole.max(1.0)).min(1.0);
    let (syn, fin) = (rng.random::<f64>() < share, rng.random::<f64>() < share);
    let first = if server { TCP_SYN | TCP_ACK } else { TCP_SYN };
    match (syn, fin, sampled as u64) {
        (true, _, 1) => first,
        (false, true, 1) => TCP_FIN | TCP_ACK,
        (syn, fin, _) => {
            let ends = if syn { first } else { 0 } | if fin { TCP_FIN } else { 0 };
            ends | TCP_ACK | TCP_PSH
        }
    }
}
