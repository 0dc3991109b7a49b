//! Exporters that fell silent: an edge when one does and another when it is back, for logs, and the list for a metric.
//!
//! How the daemon drives it, once a second with the exporters of all shards:
//!
//! ```
//! # use weir_collector::{CollectorSettings, Silence, SilenceEdge};
//! # use weir_flow_record::{ExporterView, ReceivedAt};
//! # fn daemon(settings: &CollectorSettings, now: ReceivedAt, views: Vec<ExporterView>) {
//! let mut silence = Silence::new(settings.silence());
//! // Each second:
//! silence.handle_exporters(now, views.iter().map(|view| (view.address, view.last_seen)));
//! while let Some(event) = silence.poll_event() {
//!     match event.edge {
//!         SilenceEdge::Silent => tracing::warn!(exporter = %event.exporter, since = %event.since.0, "exporter is silent"),
//!         SilenceEdge::Back => tracing::info!(exporter = %event.exporter, since = %event.since.0, "exporter is back"),
//!     }
//! }
//! let metric = silence.silent().count(); // weir_collector_silent_exporters
//! # let _ = metric;
//! # }
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ipnet::IpNet;
use weir_flow_record::{Address, ReceivedAt};

/// What [`Silence`] is built of: a checked part of `[collector]` and `[[exporter]]`.
#[derive(Clone, Debug, Default)]
pub struct SilenceSettings {
    /// Time after which an exporter that no rule names is silent; zero = never.
    pub default: Duration,
    /// The same by prefix, the longest first. A rule for one host makes its exporter known: it is missed also if it never
    /// sent anything.
    pub rules: Vec<(IpNet, Duration)>,
    /// Exporters that are followed at once, besides those of rules for one host. Beyond it, the longest silent is forgotten.
    pub max_exporters: usize,
}

/// An exporter fell silent, or is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SilenceEvent {
    /// The exporter.
    pub exporter: Address,
    /// What happened.
    pub edge: SilenceEdge,
    /// When it was last heard before; for one that was never heard, when we began to listen.
    pub since: ReceivedAt,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SilenceEdge {
    /// Nothing came for its time.
    Silent,
    /// Something came again.
    Back,
}

/// Who is silent. No clock: time is what it is told.
pub struct Silence {
    settings: SilenceSettings,
    exporters: BTreeMap<Address, Exporter>,
    events: VecDeque<SilenceEvent>,
    /// When listening began: who was heard last in an earlier run has its whole time from then on.
    began: Option<ReceivedAt>,
    /// Whoever was heard last before this was forgotten, and is not taken up again for being named.
    forgotten_until: Option<ReceivedAt>,
    forgotten: u64,
}

struct Exporter {
    last: ReceivedAt,
    after: Duration,
    silent: bool,
    /// Named by a rule.
    expected: bool,
}

impl Silence {
    /// Listens from the first [`handle_exporters`](Self::handle_exporters) on.
    pub fn new(settings: SilenceSettings) -> Self {
        Self {
            settings,
            exporters: BTreeMap::new(),
            events: VecDeque::new(),
            began: None,
            forgotten_until: None,
            forgotten: 0,
        }
    }

    /// Takes in when exporters were last heard; one may be there several times (by protocol or shard). Call about once a
    /// second and poll for events.
    pub fn handle_exporters(
        &mut self,
        now: ReceivedAt,
        heard: impl IntoIterator<Item = (Address, ReceivedAt)>,
    ) {
        if self.began.is_none() {
            self.expect(now);
        }
        let began = *self.began.get_or_insert(now);
        for (address, last) in heard {
            self.hear(address, last.max(began));
        }
        for (address, exporter) in &mut self.exporters {
            let silent_for = now.0.since(exporter.last.0);
            if !exporter.silent && !exporter.after.is_zero() && silent_for >= exporter.after {
                exporter.silent = true;
                self.events.push_back(SilenceEvent {
                    exporter: *address,
                    edge: SilenceEdge::Silent,
                    since: exporter.last,
                });
            }
        }
        self.forget();
    }

    /// An edge. Poll after [`handle_exporters`](Self::handle_exporters) until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<SilenceEvent> {
        self.events.pop_front()
    }

    /// Who is silent now and since when, by address.
    pub fn silent(&self) -> impl Iterator<Item = (Address, ReceivedAt)> + '_ {
        let silent = self
            .exporters
            .iter()
            .filter(|(_, exporter)| exporter.silent);
        silent.map(|(address, exporter)| (*address, exporter.last))
    }

    /// Exporters that were forgotten because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn expect(&mut self, now: ReceivedAt) {
        let hosts = self.settings.rules.iter().filter(|(prefix, after)| {
            prefix.prefix_len() == prefix.max_prefix_len() && !after.is_zero()
        });
        for (prefix, after) in hosts {
            let exporter = Exporter {
                last: now,
                after: *after,
                silent: false,
                expected: true,
            };
            self.exporters
                .entry(Address::from(prefix.addr()))
                .or_insert(exporter);
        }
    }

    fn hear(&mut self, address: Address, last: ReceivedAt) {
        let old = self.forgotten_until.is_some_and(|until| last <= until);
        if old && !self.exporters.contains_key(&address) {
            return;
        }
        let settings = &self.settings;
        let exporter = self.exporters.entry(address).or_insert_with(|| Exporter {
            last,
            after: settings.after(address),
            silent: false,
            expected: false,
        });
        if last <= exporter.last {
            return;
        }
        let since = std::mem::replace(&mut exporter.last, last);
        if std::mem::take(&mut exporter.silent) {
            self.events.push_back(SilenceEvent {
                exporter: address,
                edge: SilenceEdge::Back,
                since,
            });
        }
    }

    fn forget(&mut self) {
        let known = self.exporters.iter().filter(|(_, e)| !e.expected);
        let mut known: Vec<_> = known.map(|(address, e)| (e.last, *address)).collect();
        let surplus = known.len().saturating_sub(self.settings.max_exporters);
        if surplus == 0 {
            return;
        }
        known.sort_unstable();
        for (last, address) in known.iter().take(surplus) {
            self.exporters.remove(address);
            self.forgotten_until = Some(*last);
            self.forgotten += 1;
        }
    }
}

impl SilenceSettings {
    fn after(&self, exporter: Address) -> Duration {
        let mut rules = self.rules.iter();
        let rule = rules.find(|(prefix, _)| exporter.is_in(prefix));
        rule.map_or(self.default, |(_, after)| *after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: Address = Address::from_v4([192, 0, 2, 1]);
    const CORE: Address = Address::from_v4([192, 0, 2, 2]);

    fn at(seconds: i64) -> ReceivedAt {
        ReceivedAt::from_nanos((1_700_000_000 + seconds) * 1_000_000_000)
    }

    fn silence(rules: &[(&str, u64)]) -> Silence {
        let rule =
            |(prefix, after): &(&str, u64)| (prefix.parse().unwrap(), Duration::from_secs(*after));
        Silence::new(SilenceSettings {
            default: Duration::from_secs(300),
            rules: rules.iter().map(rule).collect(),
            max_exporters: 3,
        })
    }

    fn events(silence: &mut Silence) -> Vec<(Address, SilenceEdge, ReceivedAt)> {
        std::iter::from_fn(|| silence.poll_event())
            .map(|event| (event.exporter, event.edge, event.since))
            .collect()
    }

    #[test]
    fn an_exporter_is_silent_once_and_back_once() {
        let mut silence = silence(&[]);
        let mut seen = Vec::new();
        for second in 0..2_000 {
            // Quiet from 100 to 999; its other protocol's view stays behind.
            let last = if (100..1_000).contains(&second) {
                99
            } else {
                second
            };
            silence.handle_exporters(
                at(second),
                [(EDGE, at(last)), (EDGE, at(7)), (CORE, at(second))],
            );
            seen.extend(
                events(&mut silence)
                    .into_iter()
                    .map(|event| (second, event)),
            );
            let quiet = (399..1_000).contains(&second);
            assert_eq!(silence.silent().count(), usize::from(quiet), "{second}");
        }
        assert_eq!(
            seen,
            [
                (399, (EDGE, SilenceEdge::Silent, at(99))),
                (1_000, (EDGE, SilenceEdge::Back, at(99)))
            ]
        );
    }

    #[test]
    fn a_named_host_is_missed_even_if_it_never_came() {
        let mut silence = silence(&[
            ("192.0.2.1/32", 60),
            ("192.0.2.2/32", 0),
            ("10.0.0.0/8", 60),
        ]);
        silence.handle_exporters(at(0), []);
        silence.handle_exporters(at(59), []);
        assert_eq!(events(&mut silence), []);
        silence.handle_exporters(at(60), []);
        assert_eq!(events(&mut silence), [(EDGE, SilenceEdge::Silent, at(0))]);
    }

    #[test]
    fn zero_switches_it_off_and_an_earlier_run_does_not_count() {
        let mut silence = silence(&[("192.0.2.2/32", 0)]);
        let old = [(EDGE, at(-9_999)), (CORE, at(-9_999))];
        silence.handle_exporters(at(0), old);
        silence.handle_exporters(at(299), old);
        assert_eq!(events(&mut silence), []);
        silence.handle_exporters(at(300), old);
        assert_eq!(events(&mut silence), [(EDGE, SilenceEdge::Silent, at(0))]);
    }

    #[test]
    fn the_longest_silent_are_forgotten_and_not_told_again() {
        let mut silence = silence(&[]);
        let crowd: Vec<_> = (0..10_u8)
            .map(|host| (Address::from_v4([10, 0, 0, host]), at(i64::from(host))))
            .collect();
        silence.handle_exporters(at(0), []);
        let mut told = 0;
        for second in [10, 400, 401, 402] {
            silence.handle_exporters(at(second), crowd.iter().copied());
            told += events(&mut silence).len();
        }
        assert_eq!(
            (told, silence.silent().count(), silence.forgotten()),
            (3, 3, 7)
        );
    }
}
