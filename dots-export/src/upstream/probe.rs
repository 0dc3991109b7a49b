//! When a session over TCP looks whether UDP works by now (RFC 9132 §4.3).

use std::time::{Duration, Instant};

/// The first look, and the one after each session that had to take TCP anew: the RFC forbids more than one in this time.
const FIRST: Duration = Duration::from_secs(300);
/// The RFC recommends not to look more often than once a day, which is where waits that double end.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The next look, if there is to be one.
#[derive(Debug)]
pub(super) struct Probe {
    at: Option<Instant>,
    wait: Duration,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            at: None,
            wait: FIRST,
        }
    }
}

impl Probe {
    /// A session stands; `wanted` where it is over TCP and need not be.
    pub(super) fn handle_connected(&mut self, now: Instant, wanted: bool) {
        if !wanted {
            self.wait = FIRST;
        }
        // A session that was broken in between brings no look forward.
        let at = self.at.unwrap_or(now).max(now + self.wait);
        self.at = wanted.then_some(at);
    }

    /// UDP does not work yet.
    pub(super) fn handle_failed(&mut self, now: Instant) {
        self.wait = self.wait.saturating_mul(2).min(LONGEST);
        self.at = Some(now + self.wait);
    }

    /// When to look.
    pub(super) fn due(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_five_minutes_apart_at_least_and_become_rare() {
        let mut now = Instant::now();
        let mut probe = Probe::default();
        probe.handle_connected(now, false);
        assert_eq!(probe.due(), None);
        probe.handle_connected(now, true);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let due = probe.due().unwrap();
            waits.push((due - now).as_secs());
            now = due;
            probe.handle_failed(now);
        }
        assert_eq!(waits[..3], [300, 600, 1200]);
        assert_eq!(waits[9], 86_400);
        // UDP has worked once: hope begins anew.
        probe.handle_connected(now, false);
        probe.handle_connected(now, true);
        assert_eq!(probe.due(), Some(now + FIRST));
        // Sessions that break and come back bring nothing forward.
        now += Duration::from_secs(299);
        probe.handle_connected(now, true);
        assert_eq!(probe.due(), Some(now + FIRST));
    }
}
