//! An exporter: fills datagrams with records, repeats templates, restarts, loses datagrams on the way.

use std::net::SocketAddr;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use weir_flow_record::{Address, Row, Timestamp};
use weir_sflow::encode::{Encoder, Sample};

use super::draw::{dice, hash};
use super::scenario::{ExporterTable, Protocol};
use super::shape::nanos;
use super::wire::{Manner, Wire};

/// A datagram on its way to the collector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// When it arrives, ns since the epoch.
    pub at: Timestamp,
    /// Who sent it.
    pub from: SocketAddr,
    /// The number of its exporter in the scenario.
    pub exporter: usize,
    /// UDP payload.
    pub payload: Vec<u8>,
}

/// Datagrams, and which attacks have records in each.
pub(super) type Sent = Vec<(Datagram, Vec<u32>)>;

/// Octets that sFlow knows and flow records do not: Ethernet header and FCS.
const FRAME: u64 = 18;
/// sFlow samples that a datagram of 1,400 octets holds.
const MOST_SAMPLES: usize = 8;

pub(super) struct Exporter {
    pub(super) table: ExporterTable,
    /// Timeouts, ns; sFlow has none.
    pub(super) active: i64,
    pub(super) inactive: i64,
    /// Live entries of the cache.
    pub(super) cached: u32,
    number: usize,
    from: SocketAddr,
    wire: Wire,
    sflow: Encoder,
    boot: i64,
    down_until: i64,
    waiting: [Vec<(Row, u8)>; 2],
    /// Attacks among them.
    tags: [Vec<u32>; 2],
    flush_due: Option<i64>,
    losing: bool,
    rng: ChaCha8Rng,
    pub(super) records: u64,
    pub(super) lost: u64,
}

impl Exporter {
    pub(super) fn new(table: &ExporterTable, number: usize, start: i64, seed: u64) -> Self {
        let last = u8::try_from(number + 1).unwrap_or(254);
        let address = table.address.unwrap_or_else(|| [192, 0, 2, last].into());
        let port = if table.protocol == Protocol::Sflow {
            6343
        } else {
            50_000
        };
        let boot = start - (table.uptime * 1e9) as i64;
        let sflow = table.protocol == Protocol::Sflow;
        let timeout = |period: weir_flow_record::Period| if sflow { 0 } else { nanos(period.0) };
        Self {
            active: timeout(table.active_timeout),
            inactive: timeout(table.inactive_timeout),
            cached: 0,
            number,
            from: SocketAddr::new(address, port),
            wire: Wire::new(&Manner {
                protocol: table.protocol,
                style: table.style,
                statement: table.statement,
                rates: &table.sampling,
                domain: table.domain,
                shuffle: table.shuffled.then(|| hash(&[seed, number as u64])),
                skew: (table.clock_skew * 1e9) as i64,
                boot,
            }),
            sflow: Encoder::new(Address::from(address), table.domain),
            boot,
            down_until: i64::MIN,
            waiting: [Vec::new(), Vec::new()],
            tags: [Vec::new(), Vec::new()],
            flush_due: None,
            losing: false,
            rng: dice(seed, 1000 + number as u64),
            records: 0,
            lost: 0,
            table: table.clone(),
        }
    }

    pub(super) fn is_sflow(&self) -> bool {
        self.table.protocol == Protocol::Sflow
    }

    /// Whether a new flow finds room.
    pub(super) fn is_full(&self) -> bool {
        self.cached >= self.table.cache
    }

    /// It restarts: what was cached and what comes meanwhile is gone.
    /// Returns when it is up again.
    pub(super) fn handle_reboot(&mut self, now: i64) -> i64 {
        self.down_until = now + nanos(self.table.reboot_time.0);
        self.waiting.iter_mut().for_each(Vec::clear);
        self.wire.handle_reboot(now);
        self.boot = now;
        self.sflow = Encoder::new(Address::from(self.from.ip()), self.table.domain);
        self.tags.iter_mut().for_each(Vec::clear);
        self.down_until
    }

    /// Takes in a record that is due, perhaps of an attack. A datagram that is full leaves at once.
    pub(super) fn handle_record(
        &mut self,
        now: i64,
        row: &Row,
        sampler: u8,
        attack: Option<u32>,
        out: &mut Sent,
    ) {
        let v6 = !row.destination_address.is_v4();
        let most = if self.is_sflow() {
            MOST_SAMPLES
        } else {
            self.wire.most_records(v6)
        };
        // What began before a restart is forgotten too.
        if now < self.down_until || row.flow_start < self.down_until || most == 0 {
            return;
        }
        self.records += 1;
        // sFlow writes both families into one datagram, in order.
        let family = usize::from(v6 && !self.is_sflow());
        self.waiting[family].push((*row, sampler));
        if let Some(attack) = attack.filter(|attack| !self.tags[family].contains(attack)) {
            self.tags[family].push(attack);
        }
        if self.waiting[family].len() >= most {
            self.send(now, family, out);
        }
    }

    /// When [`handle_flush`](Self::handle_flush) is due, once for each time that it becomes so.
    pub(super) fn poll_flush(&mut self, now: i64) -> Option<i64> {
        if self.flush_due.is_some() || self.waiting.iter().all(Vec::is_empty) {
            return None;
        }
        self.flush_due = Some(now + nanos(self.table.flush.0));
        self.flush_due
    }

    /// Sends what has waited.
    pub(super) fn handle_flush(&mut self, now: i64, out: &mut Sent) {
        self.flush_due = None;
        for family in 0..2 {
            if !self.waiting[family].is_empty() {
                self.send(now, family, out);
            }
        }
    }

    /// Sends templates and options.
    pub(super) fn handle_templates(&mut self, now: i64, out: &mut Sent) {
        if now < self.down_until || self.is_sflow() {
            return;
        }
        if let Some(payload) = self.wire.templates(now).map(<[u8]>::to_vec) {
            self.deliver(now, payload, Vec::new(), out);
        }
    }

    fn send(&mut self, now: i64, family: usize, out: &mut Sent) {
        let mut rows = std::mem::take(&mut self.waiting[family]);
        let tags = std::mem::take(&mut self.tags[family]);
        if self.is_sflow() {
            let samples: Vec<Sample> = rows.iter().map(|(row, _)| self.sample(row)).collect();
            let uptime = (now - self.boot).div_euclid(1_000_000) as u32;
            let mut datagrams = Vec::new();
            self.sflow.encode(uptime, &samples, &mut datagrams);
            for payload in datagrams {
                self.deliver(now, payload, tags.clone(), out);
            }
        } else {
            let payload = self.wire.flows(now, family == 1, &rows).to_vec();
            self.deliver(now, payload, tags, out);
        }
        rows.clear();
        self.waiting[family] = rows;
    }

    fn sample(&self, row: &Row) -> Sample {
        Sample::flow(Row {
            octets: row.octets + FRAME,
            sampling_rate: self.table.sampling.first().copied().unwrap_or(1),
            ..*row
        })
    }

    /// Loss comes in bursts of four datagrams on average: Gilbert's channel.
    fn deliver(&mut self, now: i64, payload: Vec<u8>, attacks: Vec<u32>, out: &mut Sent) {
        let loss = self.table.loss;
        if loss > 0.0 {
            let stay = 0.75;
            let enter = (loss * (1.0 - stay) / (1.0 - loss).max(1e-9)).min(1.0);
            let chance = if self.losing { stay } else { enter };
            self.losing = self.rng.random_bool(chance);
            if self.losing {
                self.lost += 1;
                return;
            }
        }
        let datagram = Datagram {
            at: Timestamp::from_nanos(now),
            from: self.from,
            exporter: self.number,
            payload,
        };
        out.push((datagram, attacks));
    }
}
