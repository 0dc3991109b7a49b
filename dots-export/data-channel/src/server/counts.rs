use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections, and what became of them since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServerCounts {
    /// Open now.
    pub open: u64,
    /// Refused because there were too many.
    pub refused: u64,
    /// Ended in the handshake: no certificate, a wrong one, no TLS.
    pub handshakes_failed: u64,
    /// Requests answered.
    pub requests: u64,
}

/// Places for connections, in all and by address.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    most_per_address: usize,
    taken: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    refused: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) requests: AtomicU64,
}

/// A place that is taken until it is dropped.
pub(super) struct Place {
    of: IpAddr,
    taken: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

impl Places {
    pub(super) fn new(most: usize, most_per_address: usize) -> Self {
        Self {
            most,
            most_per_address,
            taken: Arc::default(),
            refused: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        }
    }

    pub(super) fn take(&self, from: IpAddr) -> Option<Place> {
        let of = network(from);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let open: usize = taken.values().sum();
        let own = taken.get(&of).copied().unwrap_or(0);
        if open >= self.most || own >= self.most_per_address {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        taken.insert(of, own + 1);
        Some(Place {
            of,
            taken: self.taken.clone(),
        })
    }

    pub(super) fn counts(&self) -> ServerCounts {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let open: usize = taken.values().sum();
        ServerCounts {
            open: open as u64,
            refused: self.refused.load(Ordering::Relaxed),
            handshakes_failed: self.handshakes_failed.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

/// An IPv6 host has all addresses of a /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_and_given_back() {
        let places = Places::new(3, 2);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = places.take(address("2001:db8::1"));
        let second = places.take(address("2001:db8::2"));
        assert!(first.is_some() && second.is_some());
        assert!(places.take(address("2001:db8::3")).is_none());
        let third = places.take(address("192.0.2.1"));
        assert!(third.is_some());
        assert!(places.take(address("192.0.2.2")).is_none());
        drop(first);
        assert!(places.take(address("192.0.2.2")).is_some());
        assert_eq!(places.counts().refused, 2);
        assert_eq!(places.counts().open, 2);
    }
}
