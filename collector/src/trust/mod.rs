//! Which datagrams are decoded at all (RFC 7011 §11: UDP proves nothing of a sender; §11.4 counts what is refused).
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
mod tests {
    use super::*;

    const EDGE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn at(millis: i64) -> ReceivedAt {
        ReceivedAt::from_nanos(1_700_000_000_000_000_000 + millis * 1_000_000)
    }

    fn caps(records_per_second: u64, datagrams_per_second: u64) -> RateCaps {
        RateCaps {
            records_per_second,
            datagrams_per_second,
        }
    }

    fn trust(default: RateCaps) -> Trust {
        Trust::new(TrustSettings {
            default,
            max_exporters: 4,
            ..TrustSettings::default()
        })
    }

    /// Datagrams admitted of `count`, one a millisecond from `from`, each with `records`.
    fn admitted(trust: &mut Trust, from: i64, count: i64, records: u64) -> i64 {
        let admitted = (from..from + count).filter(|milli| {
            let good = trust.handle_datagram(at(*milli), EDGE) == Admission::Admitted;
            if good {
                trust.handle_records(at(*milli), EDGE, records);
            }
            good
        });
        admitted.count() as i64
    }

    #[test]
    fn strangers_are_counted_and_leave_nothing_behind() {
        let mut trust = Trust::new(TrustSettings {
            allow: AllowList::new(&["192.0.2.0/24".parse().unwrap()]),
            default: caps(1, 1),
            max_exporters: 4,
            ..TrustSettings::default()
        });
        for host in 0..100_u8 {
            let stranger = IpAddr::from([198, 51, 100, host]);
            assert_eq!(trust.handle_datagram(at(0), stranger), Admission::Stranger);
        }
        assert_eq!(trust.counters().strangers, 100);
        assert_eq!(trust.exporters.iter().count(), 0);
        assert_eq!(trust.handle_datagram(at(0), EDGE), Admission::Admitted);
    }

    #[test]
    fn without_caps_nobody_is_remembered() {
        let mut trust = trust(RateCaps::default());
        assert_eq!(admitted(&mut trust, 0, 5_000, 1_000_000), 5_000);
        assert_eq!(trust.exporters.iter().count(), 0);
    }

    #[test]
    fn datagrams_above_the_cap_are_refused_by_exporter() {
        let mut trust = trust(caps(0, 100));
        // A second at once, then the rate, for ten seconds.
        assert_eq!(admitted(&mut trust, 0, 10_000, 24), 100 + 1_000);
        assert_eq!(trust.counters().too_many_datagrams, 8_900);
        let view = trust.exporters().next().unwrap();
        assert_eq!(
            (view.exporter, view.too_many_datagrams),
            (EDGE.into(), 8_900)
        );
        let other = IpAddr::from([192, 0, 2, 2]);
        assert_eq!(
            trust.handle_datagram(at(10_000), other),
            Admission::Admitted
        );
        assert_eq!(trust.exporters().count(), 1);
    }

    #[test]
    fn records_above_the_cap_are_refused_before_they_are_decoded() {
        let mut trust = trust(caps(2_400, 0));
        // 24,000 records a second come, 2,400 are let in.
        let admitted = admitted(&mut trust, 0, 10_000, 24);
        assert!((1_100..=1_102).contains(&admitted), "{admitted}");
        assert_eq!(trust.counters().too_many_records as i64, 10_000 - admitted);
    }

    #[test]
    fn the_longest_prefix_decides_and_zero_lifts_the_cap() {
        let mut trust = Trust::new(TrustSettings {
            default: caps(0, 10),
            rules: vec![
                ("192.0.2.1/32".parse().unwrap(), caps(0, 0)),
                ("192.0.2.0/24".parse().unwrap(), caps(0, 1)),
            ],
            max_exporters: 8,
            ..TrustSettings::default()
        });
        for (from, expected) in [
            ([192, 0, 2, 1], 50),
            ([192, 0, 2, 2], 1),
            ([198, 51, 100, 1], 10),
        ] {
            let admitted = (0..50)
                .filter(|_| trust.handle_datagram(at(0), from.into()) == Admission::Admitted);
            assert_eq!(admitted.count(), expected, "{from:?}");
        }
    }

    #[test]
    fn borrowed_addresses_fill_no_memory() {
        let mut trust = trust(caps(0, 10));
        for number in 0..10_000_u32 {
            let from = IpAddr::from(number.to_be_bytes());
            let _ = trust.handle_datagram(at(0), from);
        }
        assert_eq!(trust.exporters.iter().count(), 4);
        assert_eq!(trust.counters().evicted_exporters, 9_996);
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nobody_and_frees_nobody() {
        let mut trust = trust(caps(0, 100));
        let day = 86_400_000;
        assert_eq!(admitted(&mut trust, day, 1_000, 0), 200);
        // The bucket is as empty as before.
        let after = admitted(&mut trust, 0, 1_000, 0);
        assert!((99..=101).contains(&after), "{after}");
        // Two sockets whose time stamps lie apart give nothing away.
        let alternating = (0..1_000).filter(|step| {
            let milli = 1_000 + step - (step % 2) * 50;
            trust.handle_datagram(at(milli), EDGE) == Admission::Admitted
        });
        let admitted = alternating.count();
        assert!((99..=101).contains(&admitted), "{admitted}");
    }
}
