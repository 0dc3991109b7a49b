use std::collections::BTreeMap;
use std::sync::Arc;

use crate::UnixTime;

/// How often peers have asked. The table is bounded by the peers that the configuration names.
#[derive(Debug, Default)]
pub(super) struct Paces {
    peers: BTreeMap<Arc<str>, Pace>,
}

/// Requests that a peer has left, in sixtieths.
#[derive(Clone, Copy, Debug)]
struct Pace {
    left: u64,
    at: UnixTime,
}

impl Paces {
    /// Whether a peer may ask for so much work (RFC 8783 §10: requests are rate-limited): 1 for a small request. One that
    /// is worth more than a minute needs a whole minute's.
    pub(super) fn admit(
        &mut self,
        peer: &Arc<str>,
        work: u64,
        per_minute: u32,
        now: UnixTime,
    ) -> bool {
        const ONE: u64 = 60;
        let full = u64::from(per_minute) * ONE;
        let fresh = Pace {
            left: full,
            at: now,
        };
        let pace = self.peers.entry(peer.clone()).or_insert(fresh);
        let passed = now.0.saturating_sub(pace.at.0);
        let gained = passed.saturating_mul(u64::from(per_minute));
        pace.left = pace.left.saturating_add(gained).min(full);
        pace.at = now;
        let asked = work.saturating_mul(ONE).min(full);
        let Some(left) = pace.left.checked_sub(asked) else {
            return false;
        };
        pace.left = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept() {
        let mut paces = Paces::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let at = UnixTime(1_000);
        for _ in 0..60 {
            assert!(paces.admit(&a, 1, 60, at));
        }
        assert!(!paces.admit(&a, 1, 60, at));
        assert!(paces.admit(&b, 1, 60, at));
        assert!(paces.admit(&a, 1, 60, UnixTime(1_001)));
        assert!(!paces.admit(&a, 1, 60, UnixTime(1_001)));
        assert!(paces.admit(&b, 59, 60, at));
        assert!(!paces.admit(&b, 1, 60, at));
        let minute = UnixTime(1_060);
        assert!(paces.admit(&b, u64::MAX, 60, minute));
        assert!(!paces.admit(&b, 1, 60, minute));
        // A clock that went back gives nothing.
        assert!(!paces.admit(&a, 1, 60, UnixTime(900)));
    }
}
