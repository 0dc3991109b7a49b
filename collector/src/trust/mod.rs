//! Which datagrams are decoded at all (RFC 7011 §11: over UDP nothing proves who sent it, and §11.4 is about those who send too much).
//!
//! A stranger's datagram costs a look into the allow list and a counter, and leaves nothing behind. An exporter that sends
//! more than its caps allow is refused before decoding, so that neither a broken exporter nor one whose address somebody
//! borrowed can raise an attack or push others out. Caps count in the time of the datagrams, so that replay gives the same.
//! Records are known only after decoding: a datagram is let in while any allowance is left, and its records are charged
//! afterwards.
//!
//! How a shard's thread drives it, before mirrors and decoder:
//!
//! ```
//! # use std::net::SocketAddr;
//! # use weir_collector::{Admission, CollectorSettings, Shard, Trust};
//! # use weir_flow_record::ReceivedAt;
//! # fn thread(settings: &CollectorSettings, mut shard: Shard) {
//! let mut trust = Trust::new(settings.trust());
//! let mut handle = |at: ReceivedAt, from: SocketAddr, octets: &[u8]| {
//!     if trust.handle_datagram(at, from.ip()) == Admission::Admitted {
//!         if let Some(outcome) = shard.handle_datagram(at, from, octets) {
//!             trust.handle_records(at, from.ip(), u64::from(outcome.records()));
//!         }
//!     }
//! };
//! // Once a second: publish trust.counters() and, by exporter, trust.exporters().
//! # handle(ReceivedAt::from_nanos(0), "192.0.2.1:2055".parse().unwrap(), &[]);
//! # }
//! ```

mod bucket;
mod recency;

use std::net::IpAddr;

use ipnet::IpNet;
use weir_flow_record::{Address, ReceivedAt};

use crate::allow::AllowList;
use bucket::Bucket;
use recency::Recency;

/// A time stamp that is earlier than the last by more than this tells of a clock that was set back; less, of datagrams that
/// came by two sockets.
const CLOCK_STEP: i64 = 1_000_000_000;

/// What an exporter may send in a second; 0 = as much as it likes. A second's worth may come at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RateCaps {
    /// Flow records.
    pub records_per_second: u64,
    /// Datagrams.
    pub datagrams_per_second: u64,
}

impl RateCaps {
    fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

/// What [`Trust`] is built of: a checked part of `[collector]` and `[[exporter]]`.
#[derive(Clone, Debug, Default)]
pub struct TrustSettings {
    /// Who is heard.
    pub allow: AllowList,
    /// Caps of exporters that no rule names.
    pub default: RateCaps,
    /// Caps by prefix, the longest first.
    pub rules: Vec<(IpNet, RateCaps)>,
    /// Exporters whose caps are kept at once, by address.
    pub max_exporters: usize,
}

/// Whether a datagram is decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Admission {
    /// It is.
    Admitted,
    /// Its sender is outside the allow list.
    Stranger,
    /// Its sender sent more datagrams than it may.
    TooManyDatagrams,
    /// Its sender sent more records than it may.
    TooManyRecords,
}

/// Datagrams by what was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TrustCounters {
    /// Refused: from outside the allow list.
    pub strangers: u64,
    /// Refused: more datagrams than the exporter may send.
    pub too_many_datagrams: u64,
    /// Refused: more records than the exporter may send.
    pub too_many_records: u64,
    /// Exporters whose caps were forgotten, the longest silent ones first, because there were too many.
    pub evicted_exporters: u64,
}

/// What an exporter was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrustView {
    /// The exporter.
    pub exporter: Address,
    /// What it may send.
    pub caps: RateCaps,
    /// Datagrams refused because there were too many.
    pub too_many_datagrams: u64,
    /// Datagrams refused because it had sent too many records.
    pub too_many_records: u64,
}

/// Allow list and rate caps of one shard, which hears all of an exporter's datagrams.
pub struct Trust {
    settings: TrustSettings,
    exporters: Recency<Exporter>,
    counters: TrustCounters,
    /// Whether there is any cap: without, nobody is remembered.
    capped: bool,
}

struct Exporter {
    caps: RateCaps,
    datagrams: Bucket,
    records: Bucket,
    last: ReceivedAt,
    too_many_datagrams: u64,
    too_many_records: u64,
}

impl Trust {
    /// Nobody has sent anything yet.
    pub fn new(settings: TrustSettings) -> Self {
        let mut caps = settings.rules.iter().map(|(_, caps)| caps);
        Self {
            capped: !settings.default.is_off() || caps.any(|caps| !caps.is_off()),
            exporters: Recency::new(settings.max_exporters),
            counters: TrustCounters::default(),
            settings,
        }
    }

    /// Decides on a datagram that came at `at`. Constant time but for an exporter's first datagram, which looks through the
    /// rules.
    pub fn handle_datagram(&mut self, at: ReceivedAt, from: IpAddr) -> Admission {
        let from = Address::from(from);
        if !self.settings.allow.allows(from) {
            self.counters.strangers += 1;
            return Admission::Stranger;
        }
        if !self.capped {
            return Admission::Admitted;
        }
        let settings = &self.settings;
        let (exporter, evicted) = self
            .exporters
            .touch(from, || Exporter::new(settings.caps(from), at));
        self.counters.evicted_exporters += u64::from(evicted);
        let admission = exporter.map_or(Admission::Admitted, |exporter| exporter.admit(at));
        match admission {
            Admission::TooManyDatagrams => self.counters.too_many_datagrams += 1,
            Admission::TooManyRecords => self.counters.too_many_records += 1,
            Admission::Admitted | Admission::Stranger => {}
        }
        admission
    }

    /// Charges the flow records of an admitted datagram, once they are known.
    pub fn handle_records(&mut self, at: ReceivedAt, from: IpAddr, records: u64) {
        if !self.capped || records == 0 {
            return;
        }
        if let Some(exporter) = self.exporters.get_mut(Address::from(from))
            && exporter.caps.records_per_second > 0
        {
            let rate = exporter.caps.records_per_second;
            exporter.records.charge(at, records, rate);
        }
    }

    /// The sums.
    pub fn counters(&self) -> &TrustCounters {
        &self.counters
    }

    /// Exporters that were refused something, in no order.
    pub fn exporters(&self) -> impl Iterator<Item = TrustView> + '_ {
        let views = self.exporters.iter().map(|(exporter, state)| TrustView {
            exporter,
            caps: state.caps,
            too_many_datagrams: state.too_many_datagrams,
            too_many_records: state.too_many_records,
        });
        views.filter(|view| view.too_many_datagrams + view.too_many_records > 0)
    }
}

impl TrustSettings {
    fn caps(&self, exporter: Address) -> RateCaps {
        let mut rules = self.rules.iter();
        let rule = rules.find(|(prefix, _)| exporter.is_in(prefix));
        rule.map_or(self.default, |(_, caps)| *caps)
    }
}

impl Exporter {
    fn new(caps: RateCaps, at: ReceivedAt) -> Self {
        Self {
            caps,
            datagrams: Bucket::default(),
            records: Bucket::default(),
            last: at,
            too_many_datagrams: 0,
            too_many_records: 0,
        }
    }

    fn admit(&mut self, at: ReceivedAt) -> Admission {
        let back = self.last.nanos().saturating_sub(at.nanos());
        if back > CLOCK_STEP {
            self.datagrams.shift_back(back);
            self.records.shift_back(back);
        }
        if !(0..=CLOCK_STEP).contains(&back) {
            self.last = at;
        }
        let rate = self.caps.datagrams_per_second;
        if rate > 0 && !self.datagrams.has_some(at) {
            self.too_many_datagrams += 1;
            return Admission::TooManyDatagrams;
        }
        if self.caps.records_per_second > 0 && !self.records.has_some(at) {
            self.too_many_records += 1;
            return Admission::TooManyRecords;
        }
        if rate > 0 {
            self.datagrams.charge(at, 1, rate);
        }
        Admission::Admitted
    }
}

#[cfg(test)]
mod tests;
