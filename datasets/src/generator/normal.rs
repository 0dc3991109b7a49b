//! Normal traffic: conversations of heavy-tailed size with hosts that are not equally busy, that have days, nights and
//! weekends of their own, and good and bad hours.
//!
//! Most conversations are never seen, since routers look at one packet in a thousand. So conversations are drawn by size
//! class with the rate at which they are *seen*, which costs nothing for the others and is exact.

use rand::{Rng, RngExt};
use weir_flow_record::Address;

use super::draw::{BoundedPareto, cumulate, gaussian, hash, log_normal, pick, unit};
use super::hosts::Hosts;
use super::scenario::ScenarioFile;

/// What conversations of a service look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    pub(super) protocol: u8,
    pub(super) port: Ports,
    /// How often, in relation to others.
    weight: f64,
    /// The host inside is the server.
    pub(super) inside_serves: bool,
    /// Share of hosts that take part.
    hosts: f64,
    /// Packets of the server.
    size: BoundedPareto,
    /// Packets of the client for each of the server.
    ratio: f64,
    /// Octets of the client's and the server's packets.
    pub(super) octets: (f64, f64),
    /// Packets per second of the server, median.
    pace: f64,
    /// How much of its traffic follows day and night.
    human: f64,
}

/// The server's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ports {
    Is(u16),
    /// Between these.
    Range(u16, u16),
    /// A lone SYN to any address and a port that is often scanned: the Internet's background noise.
    Radiation,
    None,
}

#[expect(clippy::too_many_arguments, reason = "a row of the table below")]
const fn service(
    protocol: u8,
    port: u16,
    weight: f64,
    inside_serves: bool,
    hosts: f64,
    size: (f64, f64, f64),
    ratio: f64,
    octets: (f64, f64),
    pace: f64,
    human: f64,
) -> Service {
    Service {
        protocol,
        port: Ports::Is(port),
        weight,
        inside_serves,
        hosts,
        size: BoundedPareto {
            alpha: size.0,
            least: size.1,
            most: size.2,
        },
        ratio,
        octets,
        pace,
        human,
    }
}

/// Web, video, DNS, time, mail, tunnels, telephony, games, administration, noise.
static SERVICES: [Service; 18] = [
    service(
        6,
        443,
        30.0,
        true,
        0.3,
        (1.2, 3.0, 3e5),
        0.6,
        (140.0, 1250.0),
        300.0,
        0.9,
    ),
    service(
        6,
        80,
        6.0,
        true,
        0.3,
        (1.3, 3.0, 5e4),
        0.7,
        (130.0, 1100.0),
        200.0,
        0.7,
    ),
    service(
        17,
        443,
        10.0,
        true,
        0.1,
        (1.15, 4.0, 3e5),
        0.5,
        (110.0, 1200.0),
        400.0,
        0.9,
    ),
    service(
        6,
        443,
        26.0,
        false,
        1.0,
        (1.15, 4.0, 5e5),
        0.5,
        (120.0, 1320.0),
        500.0,
        1.0,
    ),
    service(
        17,
        443,
        10.0,
        false,
        0.8,
        (1.1, 6.0, 1e6),
        0.3,
        (90.0, 1280.0),
        400.0,
        1.0,
    ),
    service(
        17,
        53,
        12.0,
        true,
        0.02,
        (3.0, 1.0, 3.0),
        1.0,
        (76.0, 190.0),
        100.0,
        0.5,
    ),
    service(
        17,
        53,
        10.0,
        false,
        0.1,
        (3.0, 1.0, 3.0),
        1.0,
        (76.0, 240.0),
        100.0,
        0.6,
    ),
    // Signed answers and text records: large, from the port that amplifiers answer from.
    service(
        17,
        53,
        1.5,
        false,
        0.05,
        (2.5, 1.0, 6.0),
        1.0,
        (80.0, 1330.0),
        200.0,
        0.4,
    ),
    service(
        17,
        123,
        2.0,
        false,
        0.9,
        (3.0, 1.0, 4.0),
        1.0,
        (76.0, 76.0),
        1.0,
        0.1,
    ),
    service(
        17,
        123,
        2.0,
        true,
        0.01,
        (3.0, 1.0, 4.0),
        1.0,
        (76.0, 76.0),
        1.0,
        0.2,
    ),
    service(
        6,
        25,
        3.0,
        true,
        0.03,
        (1.3, 6.0, 5e3),
        1.4,
        (850.0, 80.0),
        100.0,
        0.6,
    ),
    service(
        6,
        993,
        2.0,
        true,
        0.03,
        (1.4, 6.0, 2e4),
        0.8,
        (120.0, 700.0),
        60.0,
        0.7,
    ),
    service(
        17,
        4500,
        0.4,
        true,
        0.02,
        (0.9, 300.0, 2e6),
        0.8,
        (480.0, 900.0),
        150.0,
        0.8,
    ),
    Service {
        port: Ports::Range(16_384, 32_767),
        ..service(
            17,
            0,
            1.2,
            true,
            0.2,
            (1.1, 400.0, 6e4),
            1.0,
            (200.0, 200.0),
            50.0,
            1.0,
        )
    },
    service(
        17,
        27_015,
        1.0,
        true,
        0.02,
        (1.0, 200.0, 3e5),
        0.8,
        (90.0, 260.0),
        60.0,
        1.0,
    ),
    service(
        6,
        22,
        1.0,
        true,
        0.3,
        (1.2, 8.0, 1e5),
        0.9,
        (140.0, 260.0),
        30.0,
        0.8,
    ),
    Service {
        port: Ports::None,
        ..service(
            1,
            0,
            1.0,
            true,
            1.0,
            (1.5, 1.0, 500.0),
            1.0,
            (84.0, 84.0),
            1.0,
            0.2,
        )
    },
    Service {
        port: Ports::Radiation,
        ..service(
            6,
            0,
            5.0,
            true,
            1.0,
            (3.0, 1.0, 3.0),
            1.0,
            (44.0, 40.0),
            1.0,
            0.0,
        )
    },
];

/// A way that traffic takes: through one sampler of one exporter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feed {
    pub(super) exporter: usize,
    pub(super) sampler: u8,
    pub(super) rate: u32,
    pub(super) share: f64,
}

/// A conversation of which at least one packet was sampled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversation {
    pub(super) feed: usize,
    pub(super) service: &'static Service,
    pub(super) client: Address,
    pub(super) inside: Address,
    /// Packets of client and server.
    pub(super) packets: [f64; 2],
    /// From the first packet to the last, ns.
    pub(super) lasts: i64,
}

struct Class {
    feed: usize,
    service: usize,
    least: f64,
    most: f64,
}

pub(super) struct Normal {
    classes: Vec<Class>,
    cumulated: Vec<f64>,
    /// Sampling rates, by feed.
    rates: Vec<u32>,
    /// Conversations that are seen, per nanosecond, on average.
    per_nanosecond: f64,
    rhythm: f64,
    noise: f64,
    seed: u64,
    /// By host: until when, and how busy it is.
    moods: Vec<(i64, f64)>,
    /// By host: its share of conversations.
    pub(super) shares: Vec<f64>,
    pub(super) next: i64,
}

/// A host is at most so many times as busy as on average; arrivals are drawn at this rate and thinned.
const BUSIEST: f64 = 6.0;
const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;

impl Normal {
    pub(super) fn new(
        file: &ScenarioFile,
        feeds: &[Feed],
        hosts: &Hosts,
        rng: &mut impl Rng,
    ) -> Self {
        let (mut classes, mut weights, mut records) = (Vec::new(), Vec::new(), 0.0);
        for (number, feed) in feeds.iter().enumerate() {
            let exporter = file
                .exporters
                .get(feed.exporter)
                .cloned()
                .unwrap_or_default();
            let sflow = exporter.protocol == super::scenario::Protocol::Sflow;
            let (active, inactive) = (
                exporter.active_timeout.0.as_secs_f64(),
                exporter.inactive_timeout.0.as_secs_f64(),
            );
            for (place, service) in SERVICES.iter().enumerate() {
                let mut least = service.size.least;
                while least < service.size.most {
                    let most = (least * 2.0).min(service.size.most);
                    let share = service.size.below(most) - service.size.below(least);
                    let seen = seen(most, service.ratio, feed.rate);
                    let weight = feed.share * service.weight * share * seen;
                    let sampled = most / f64::from(feed.rate);
                    let gap = f64::from(feed.rate) / service.pace;
                    let entries = if sflow || gap > inactive {
                        sampled
                    } else {
                        (most / service.pace / active).min(sampled)
                    };
                    records += weight * (1.0 + entries * (1.0 + service.ratio));
                    weights.push(weight);
                    classes.push(Class {
                        feed: number,
                        service: place,
                        least,
                        most,
                    });
                    least = most;
                }
            }
        }
        let cumulated = cumulate(weights.into_iter());
        let total = cumulated.last().copied().unwrap_or(1.0);
        let per_second = file.normal.records_per_second * total / records.max(1e-12);
        let mut normal = Self {
            classes,
            cumulated,
            rates: feeds.iter().map(|feed| feed.rate).collect(),
            per_nanosecond: per_second / 1e9,
            rhythm: file.normal.rhythm,
            noise: file.normal.noise,
            seed: file.seed,
            moods: vec![(i64::MIN, 0.0); hosts.all.len()],
            shares: Vec::new(),
            next: i64::MIN,
        };
        const DRAWS: u32 = 20_000;
        let mut seen = vec![0_u32; hosts.all.len()];
        for _ in 0..DRAWS {
            let class = pick(rng, &normal.cumulated);
            let service = normal.classes[class].service;
            seen[hosts.pick(rng, 100 + service as u64, SERVICES[service].hosts)] += 1;
        }
        normal.shares = seen
            .into_iter()
            .map(|seen| f64::from(seen) / f64::from(DRAWS))
            .collect();
        normal
    }

    /// When the next conversation may begin; [`conversation`](Self::conversation) says whether it does.
    pub(super) fn advance(&mut self, rng: &mut impl Rng, after: i64) {
        let wait = super::draw::exponential(rng) / (self.per_nanosecond * BUSIEST);
        self.next = after.saturating_add(wait as i64 + 1);
    }

    /// Conversations of a host that are seen per nanosecond on average, for a flash crowd.
    pub(super) fn rate_of(&self, host: usize) -> f64 {
        let share = self.shares.get(host).copied().unwrap_or(0.0);
        // A host that nobody knows has a crowd only of the hosts' mean.
        self.per_nanosecond * share.max(1.0 / self.shares.len().max(1) as f64)
    }

    /// The conversation that begins at `at`, if one does: hosts that are idle then have none.
    pub(super) fn conversation(
        &mut self,
        rng: &mut impl Rng,
        hosts: &Hosts,
        at: i64,
    ) -> Option<Conversation> {
        let class = pick(rng, &self.cumulated);
        let place = self.classes.get(class)?.service;
        let host = hosts.pick(rng, 100 + place as u64, SERVICES[place].hosts);
        let activity = self.activity(host, at, SERVICES[place].human);
        if rng.random::<f64>() * BUSIEST > activity {
            return None;
        }
        self.draw(rng, hosts, class, host)
    }

    /// A conversation of a visitor with this host.
    pub(super) fn visit(
        &mut self,
        rng: &mut impl Rng,
        hosts: &Hosts,
        host: usize,
    ) -> Option<Conversation> {
        for _ in 0..1000 {
            let class = pick(rng, &self.cumulated);
            // Web over TCP and QUIC.
            if matches!(self.classes.get(class)?.service, 0 | 2) {
                return self.draw(rng, hosts, class, host);
            }
        }
        None
    }

    fn draw(
        &mut self,
        rng: &mut impl Rng,
        hosts: &Hosts,
        class: usize,
        host: usize,
    ) -> Option<Conversation> {
        let class = self.classes.get(class)?;
        let service = &SERVICES[class.service];
        // Within a class sizes are even on a logarithmic scale; the smaller ones are seen less often.
        let rate = self.rates.get(class.feed).copied().unwrap_or(1);
        let size = loop {
            let size = class.least * (class.most / class.least).powf(rng.random::<f64>());
            let chance = seen(size, service.ratio, rate) / seen(class.most, service.ratio, rate);
            if rng.random::<f64>() < chance {
                break size.round().max(1.0);
            }
        };
        let v6 = hosts.is_v6(rng);
        let mut inside = hosts.all.get(host)?.address(v6);
        let client = hosts.client(rng, class.feed, !inside.is_v4());
        if service.port == Ports::Radiation
            && let Some(prefix) = hosts.prefixes.iter().find(|prefix| inside.is_in(prefix))
        {
            inside = super::hosts::any_in(rng, prefix);
        }
        let pace = service.pace * log_normal(rng, 1.0);
        Some(Conversation {
            feed: class.feed,
            service,
            client,
            inside,
            packets: [(size * service.ratio).round().max(1.0), size],
            lasts: ((size - 1.0).max(0.05) / pace * 1e9) as i64,
        })
    }

    /// How busy a host is, 1 on average.
    fn activity(&mut self, host: usize, at: i64, human: f64) -> f64 {
        let mood = match self.moods.get(host) {
            Some((until, mood)) if at < *until => *mood,
            _ => {
                let mood = self.mood(host as u64, at);
                if let Some(place) = self.moods.get_mut(host) {
                    *place = (at - at.rem_euclid(MINUTE) + MINUTE, mood);
                }
                mood
            }
        };
        let rhythm = human * self.rhythm;
        let day = rhythm * self.day(host as u64, at) + (1.0 - rhythm);
        (mood * day).min(BUSIEST)
    }

    /// Good and bad minutes, quarters of an hour, hours and days, and now and then a burst: noise on many time scales.
    fn mood(&self, host: u64, at: i64) -> f64 {
        let mut sum = 0.0;
        let mut variance = 0.0;
        for (scale, sigma) in [
            (MINUTE, 0.25),
            (15 * MINUTE, 0.3),
            (3 * HOUR, 0.3),
            (24 * HOUR, 0.25),
        ] {
            let sigma = sigma * self.noise;
            let window = at.div_euclid(scale);
            let part = at.rem_euclid(scale) as f64 / scale as f64;
            let level = |window: i64| {
                gaussian(hash(&[
                    self.seed,
                    21,
                    host,
                    scale.cast_unsigned(),
                    window.cast_unsigned(),
                ]))
            };
            sum += sigma * (level(window) * (1.0 - part) + level(window + 1) * part);
            variance += sigma * sigma * 0.67;
        }
        let burst = hash(&[
            self.seed,
            22,
            host,
            at.div_euclid(7 * MINUTE).cast_unsigned(),
        ]);
        let burst = if unit(burst) < 0.01 * self.noise {
            2.5
        } else {
            1.0
        };
        (sum - variance / 2.0).exp() * burst
    }

    /// The hour of the day and the day of the week, as this host sees them; 1 on the average of a week.
    fn day(&self, host: u64, at: i64) -> f64 {
        let own = hash(&[self.seed, 23, host]);
        let home = unit(hash(&[own, 1])) < 0.4;
        let peak = if home { 20.5 } else { 14.0 } + 1.5 * gaussian(hash(&[own, 2]));
        let hour = at.rem_euclid(24 * HOUR) as f64 / HOUR as f64;
        let angle = (hour - peak) / 24.0 * std::f64::consts::TAU;
        let shape = (1.0 + 0.75 * angle.cos() + 0.2 * (2.0 * angle).cos()).max(0.08);
        // 1 January 1970 was a Thursday.
        let weekday = (at.div_euclid(24 * HOUR) + 3).rem_euclid(7);
        let week = match (home, weekday >= 5) {
            (true, true) => 1.25,
            (true, false) => 0.9,
            (false, true) => 0.35,
            (false, false) => 1.26,
        };
        shape * week
    }
}

/// How likely a conversation of this size has a packet that is sampled.
fn seen(size: f64, ratio: f64, rate: u32) -> f64 {
    if rate <= 1 {
        return 1.0;
    }
    1.0 - (-(size + (size * ratio).max(1.0)) / f64::from(rate)).exp()
}
