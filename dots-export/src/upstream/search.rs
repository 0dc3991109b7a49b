//! When the DNS is asked where the servers are (RFC 8973), and the ways that follow from its answer.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::paths::{Outcomes, Over, Path};
use crate::config::Transport;
use crate::discovery::{Channel, Discovery, DiscoveryError, DiscoverySettings, discover};

/// Ways that are tried.
const MAX_PATHS: usize = 16;
/// An answer holds for its TTL, within these bounds.
const LEAST_HOLD: Duration = Duration::from_secs(60);
const LONGEST_HOLD: Duration = Duration::from_secs(86_400);
/// A domain without servers is asked for again after this: its answer may be cached on the way for as long.
const NO_SERVER: Duration = Duration::from_secs(300);
/// Where the DNS does not answer it is asked again after waits that double.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const FIRST_WAIT_UNDER_ATTACK: Duration = Duration::from_secs(5);
const LONGEST_WAIT_UNDER_ATTACK: Duration = Duration::from_secs(60);
/// Servers of which none can be reached are looked for anew, but not sooner than this after the last answer.
const UNREACHABLE: Duration = Duration::from_secs(60);
const UNREACHABLE_UNDER_ATTACK: Duration = Duration::from_secs(10);

/// What comes of a question.
pub(super) type Found = Result<Discovery, DiscoveryError>;

/// The search for one upstream's servers.
pub(super) struct Search {
    settings: DiscoverySettings,
    at: Instant,
    answered: Option<Instant>,
    failures: u32,
    task: Option<JoinHandle<Found>>,
}

impl Search {
    pub(super) fn new(settings: DiscoverySettings, now: Instant) -> Self {
        Self {
            settings,
            at: now,
            answered: None,
            failures: 0,
            task: None,
        }
    }

    /// When the DNS is to be asked; `None`: it has been, and has not answered yet.
    pub(super) fn due(&self) -> Option<Instant> {
        self.task.is_none().then_some(self.at)
    }

    /// Asks.
    pub(super) fn begin(&mut self) {
        let settings = self.settings.clone();
        self.task = Some(tokio::spawn(async move { discover(&settings).await }));
    }

    /// Waits for the answer, if there is to be one. Nothing is lost where the future is dropped.
    pub(super) async fn join(search: Option<&mut Self>) -> Found {
        let task = search.and_then(|search| search.task.as_mut());
        match task {
            Some(task) => match task.await {
                Ok(found) => found,
                Err(error) => Err(DiscoveryError::Resolver(error.to_string())),
            },
            None => std::future::pending().await,
        }
    }

    /// Takes in how it went.
    pub(super) fn handle_found(&mut self, now: Instant, found: &Found, under_attack: bool) {
        self.task = None;
        match found {
            Ok(discovery) => {
                self.failures = 0;
                self.answered = Some(now);
                self.at = now + discovery.valid_for.clamp(LEAST_HOLD, LONGEST_HOLD);
            }
            Err(DiscoveryError::NoServer(_)) => self.at = now + NO_SERVER,
            Err(_) => {
                let (first, longest) = if under_attack {
                    (FIRST_WAIT_UNDER_ATTACK, LONGEST_WAIT_UNDER_ATTACK)
                } else {
                    (FIRST_WAIT, LONGEST_WAIT)
                };
                let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
                self.at = now + first.saturating_mul(doubled).min(longest);
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    /// An attack has begun: a DNS that has not answered yet is asked at once.
    pub(super) fn handle_attack(&mut self, now: Instant) {
        if self.answered.is_none() {
            self.at = self.at.min(now);
        }
    }

    /// No server could be reached: what the DNS says may have changed.
    pub(super) fn handle_unreachable(&mut self, now: Instant, under_attack: bool) {
        let wait = if under_attack {
            UNREACHABLE_UNDER_ATTACK
        } else {
            UNREACHABLE
        };
        if let Some(answered) = self.answered {
            self.at = self.at.min((answered + wait).max(now));
        }
    }

    pub(super) fn abort(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// When each way of a discovery is tried, after the beginning of a round: what worked lately first, with a head start, and what
/// failed lately last; else in the order of the DNS. Those of a lower rank get a head start too: only what cannot be reached
/// gives way to the next (RFC 2782).
pub(super) fn discovered_schedule(
    discovery: &Discovery,
    (transport, source): (Transport, Option<IpAddr>),
    now: Instant,
    outcomes: &Outcomes,
    (stagger, head_start): (Duration, Duration),
) -> Vec<(Path, Duration)> {
    let path = |channel, address| {
        let over = match channel {
            Channel::SignalUdp => Over::Udp,
            Channel::SignalTcp | Channel::DataTcp => Over::Tcp,
        };
        Path { over, address }
    };
    let mut ways: Vec<(u8, u16, Path)> = discovery
        .signal()
        .map(|endpoint| (endpoint.rank, path(endpoint.channel, endpoint.address)))
        .filter(|(_, path)| match transport {
            Transport::Auto => true,
            Transport::Udp => path.over == Over::Udp,
            Transport::Tcp => path.over == Over::Tcp,
        })
        .filter(|(_, path)| source.is_none_or(|own| own.is_ipv4() == path.address.is_ipv4()))
        .map(|(rank, path)| match outcomes.of(now, &path) {
            Some(true) => (0, rank, path),
            None => (1, rank, path),
            Some(false) => (2, rank, path),
        })
        .collect();
    ways.sort_by_key(|(outcome, rank, _)| (*outcome, *rank));
    let mut at = Duration::ZERO;
    let mut before = None;
    let mut times = Vec::new();
    for (outcome, rank, path) in ways.into_iter().take(MAX_PATHS) {
        at += match before {
            None => Duration::ZERO,
            Some(before) if before == (outcome, rank) && outcome != 0 => stagger,
            Some((2, _)) => stagger,
            Some(_) => head_start,
        };
        before = Some((outcome, rank));
        times.push((path, at));
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{Endpoint, Mechanism, ResolverSettings, read_domain};

    const TIMES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

    fn discovery() -> Discovery {
        let endpoint = |channel, address: &str, rank| Endpoint {
            channel,
            host: "a.example.net".to_owned(),
            address: address.parse().unwrap(),
            rank,
        };
        Discovery {
            domain: "example.net".to_owned(),
            mechanism: Mechanism::SNaptr,
            endpoints: vec![
                endpoint(Channel::SignalUdp, "[2001:db8::1]:5000", 0),
                endpoint(Channel::SignalUdp, "192.0.2.1:5000", 0),
                endpoint(Channel::SignalUdp, "192.0.2.2:5000", 1),
                endpoint(Channel::SignalTcp, "192.0.2.1:5001", 0),
                endpoint(Channel::DataTcp, "192.0.2.1:5002", 0),
            ],
            valid_for: Duration::from_secs(3600),
        }
    }

    fn texts(times: &[(Path, Duration)]) -> Vec<String> {
        let text = |(path, at): &(Path, Duration)| format!("{path} {}", at.as_millis());
        times.iter().map(text).collect()
    }

    #[test]
    fn ways_are_tried_in_the_order_of_the_dns() {
        let (now, mut outcomes) = (Instant::now(), Outcomes::default());
        let any = (Transport::Auto, None);
        let times = discovered_schedule(&discovery(), any, now, &outcomes, TIMES);
        assert_eq!(
            texts(&times),
            [
                "[2001:db8::1]:5000/udp 0",
                "192.0.2.1:5000/udp 100",
                "192.0.2.1:5001/tcp 200",
                "192.0.2.2:5000/udp 1200",
            ]
        );
        let own = (Transport::Udp, Some("192.0.2.7".parse().unwrap()));
        outcomes.note(now, times[1].0, false);
        let times = discovered_schedule(&discovery(), own, now, &outcomes, TIMES);
        assert_eq!(
            texts(&times),
            ["192.0.2.2:5000/udp 0", "192.0.2.1:5000/udp 1000"]
        );
        outcomes.note(now, times[0].0, true);
        let times = discovered_schedule(&discovery(), any, now, &outcomes, TIMES);
        assert_eq!(texts(&times)[0], "192.0.2.2:5000/udp 0");
        assert_eq!(texts(&times)[1], "[2001:db8::1]:5000/udp 1000");
    }

    #[test]
    fn the_dns_is_asked_again_when_its_answer_ends_or_leads_nowhere() {
        let now = Instant::now();
        let settings = DiscoverySettings {
            domain: read_domain("example.net").unwrap(),
            resolver: ResolverSettings::System,
            source: None,
            interface: None,
        };
        let mut search = Search::new(settings, now);
        assert_eq!(search.due(), Some(now));
        let waits = |search: &Search, now: Instant| (search.due().unwrap() - now).as_secs();
        for expected in [30, 60, 120] {
            search.handle_found(now, &Err(DiscoveryError::TimedOut), false);
            assert_eq!(waits(&search, now), expected);
        }
        search.handle_found(now, &Err(DiscoveryError::TimedOut), true);
        assert_eq!(waits(&search, now), 40);
        search.handle_unreachable(now, true);
        assert_eq!(waits(&search, now), 40, "it has not answered");
        search.handle_attack(now);
        assert_eq!(waits(&search, now), 0);
        search.handle_found(now, &Ok(discovery()), false);
        assert_eq!(waits(&search, now), 3600);
        search.handle_unreachable(now, false);
        assert_eq!(waits(&search, now), 60);
        let later = now + Duration::from_secs(45);
        search.handle_unreachable(later, true);
        assert_eq!(search.due(), Some(later));
        let empty = Err(DiscoveryError::NoServer("example.net".to_owned()));
        search.handle_found(later, &empty, true);
        assert_eq!(waits(&search, later), 300);
    }
}
