//! Ways to a server, and the order in which they are tried (RFC 9132 §4.3).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::config::Transport;

/// Addresses of a server that are tried.
const MAX_ADDRESSES: usize = 8;
/// What came of a try is remembered for this long (RFC 9132 §4.3: on the order of 10 minutes).
const REMEMBERED: Duration = Duration::from_secs(600);

/// Transport protocols, the preferred one first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Over {
    /// DTLS.
    Udp,
    /// TLS.
    Tcp,
}

/// One way to a server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Path {
    pub(super) over: Over,
    pub(super) address: SocketAddr,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.over {
            Over::Udp => write!(f, "{}/udp", self.address),
            Over::Tcp => write!(f, "{}/tcp", self.address),
        }
    }
}

/// What came of earlier tries.
#[derive(Debug, Default)]
pub(super) struct Outcomes(BTreeMap<Path, (Instant, bool)>);

impl Outcomes {
    pub(super) fn note(&mut self, now: Instant, path: Path, good: bool) {
        self.0
            .retain(|_, (at, _)| now.duration_since(*at) < REMEMBERED);
        if good {
            // One is preferred: the newest.
            self.0.retain(|_, (_, good)| !*good);
        }
        self.0.insert(path, (now, good));
    }

    pub(super) fn of(&self, now: Instant, path: &Path) -> Option<bool> {
        let (at, good) = self.0.get(path)?;
        (now.duration_since(*at) < REMEMBERED).then_some(*good)
    }
}

/// The ways to try, the first one first: UDP over IPv6, UDP over IPv4, TCP over IPv6, TCP over IPv4; but what worked lately
/// before all others, and what failed lately behind them. From a source address only those of its family lead anywhere.
pub(super) fn ordered(
    addresses: &[SocketAddr],
    transport: Transport,
    source: Option<IpAddr>,
    now: Instant,
    outcomes: &Outcomes,
) -> Vec<Path> {
    let mut addresses: Vec<SocketAddr> = addresses
        .iter()
        .filter(|address| source.is_none_or(|source| source.is_ipv4() == address.is_ipv4()))
        .copied()
        .collect();
    addresses.sort_by_key(SocketAddr::is_ipv4);
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    let over = match transport {
        Transport::Auto => &[Over::Udp, Over::Tcp][..],
        Transport::Udp => &[Over::Udp],
        Transport::Tcp => &[Over::Tcp],
    };
    let path = |over, address| Path { over, address };
    let mut paths: Vec<Path> = over
        .iter()
        .flat_map(|over| addresses.iter().map(|address| path(*over, *address)))
        .collect();
    paths.sort_by_key(|path| match outcomes.of(now, path) {
        Some(true) => 0,
        None => 1,
        Some(false) => 2,
    });
    paths
}

/// Each path with the time that it has for itself: one that worked lately gets a head start.
pub(super) fn schedule(
    paths: &[Path],
    now: Instant,
    outcomes: &Outcomes,
    stagger: Duration,
    head_start: Duration,
) -> Vec<(Path, Duration)> {
    let wait = |path: &Path| match outcomes.of(now, path) {
        Some(true) => head_start,
        _ => stagger,
    };
    paths.iter().map(|path| (*path, wait(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGGER: Duration = Duration::from_millis(100);
    const HEAD_START: Duration = Duration::from_secs(1);

    fn addresses() -> Vec<SocketAddr> {
        ["192.0.2.1:4646", "[2001:db8::1]:4646", "192.0.2.2:4646"]
            .map(|text| text.parse().unwrap())
            .to_vec()
    }

    fn texts(paths: &[Path]) -> Vec<String> {
        paths.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ways_are_tried_in_the_order_of_the_rfc() {
        let (now, none) = (Instant::now(), Outcomes::default());
        let paths = ordered(&addresses(), Transport::Auto, None, now, &none);
        assert_eq!(
            texts(&paths),
            [
                "[2001:db8::1]:4646/udp",
                "192.0.2.1:4646/udp",
                "192.0.2.2:4646/udp",
                "[2001:db8::1]:4646/tcp",
                "192.0.2.1:4646/tcp",
                "192.0.2.2:4646/tcp",
            ]
        );
        let times = schedule(&paths, now, &none, STAGGER, HEAD_START);
        assert!(times.iter().all(|(_, wait)| *wait == STAGGER));
        let source = Some("198.51.100.1".parse().unwrap());
        let paths = ordered(&addresses(), Transport::Tcp, source, now, &none);
        assert_eq!(texts(&paths), ["192.0.2.1:4646/tcp", "192.0.2.2:4646/tcp"]);
    }

    #[test]
    fn what_worked_lately_comes_first_and_what_failed_last_for_ten_minutes() {
        let now = Instant::now();
        let mut outcomes = Outcomes::default();
        let paths = ordered(&addresses(), Transport::Auto, None, now, &outcomes);
        outcomes.note(now, paths[0], false);
        outcomes.note(now, paths[2], true);
        outcomes.note(now, paths[4], true);
        let later = now + Duration::from_secs(599);
        let reordered = ordered(&addresses(), Transport::Auto, None, later, &outcomes);
        assert_eq!(reordered[0], paths[4]);
        assert_eq!(reordered[1], paths[1]);
        assert_eq!(reordered[5], paths[0]);
        let times = schedule(&reordered, later, &outcomes, STAGGER, HEAD_START);
        assert_eq!((times[0].1, times[1].1), (HEAD_START, STAGGER));
        let later = now + Duration::from_secs(601);
        let forgotten = ordered(&addresses(), Transport::Auto, None, later, &outcomes);
        assert_eq!(forgotten, paths);
    }
}
