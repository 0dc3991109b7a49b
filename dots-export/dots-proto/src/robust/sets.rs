use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::SessionParameters;
use crate::parameters::Numbers;

/// Which payloads of a body its sender sends when: MAX_PAYLOADS at a time, then a pause unless the peer says that it has them
/// (RFC 9177 §7.2).
#[derive(Clone, Debug)]
pub(crate) struct Sets {
    count: u32,
    max_payloads: u32,
    /// The first payload that was never sent.
    next: u32,
    missing: BTreeSet<u32>,
    resume: Option<Instant>,
    /// NON_TIMEOUT_RANDOM, the same between all sets of the body.
    pause: Duration,
    /// Payloads that may be sent again; a peer that asks without end gets nothing then.
    repeats: u32,
}

impl Sets {
    /// A body of so many payloads, none of which was sent.
    pub(crate) fn new(count: u32, parameters: &SessionParameters, numbers: &mut Numbers) -> Self {
        let pause = numbers.stretch(parameters.non_timeout(), parameters.ack_random_factor);
        Self {
            count,
            max_payloads: parameters.max_payloads(),
            next: 0,
            missing: BTreeSet::new(),
            resume: None,
            pause,
            repeats: count.saturating_mul(parameters.non_max_retransmit() + 1),
        }
    }

    /// A body of which the peer wants one payload alone.
    pub(crate) fn only(mut self, number: u32) -> Self {
        self.next = self.count;
        self.handle_missing(&[number]);
        self
    }

    /// NON_TIMEOUT_RANDOM.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// The payloads to send now, in their order. What is missing goes before what is new.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<u32> {
        if self.is_all_sent() || self.resume.is_some_and(|resume| resume > now) {
            return Vec::new();
        }
        self.resume = Some(now + self.pause);
        if self.missing.is_empty() {
            let first = self.next;
            // Sets begin at multiples of MAX_PAYLOADS, whatever the peer has asked for.
            let set = first / self.max_payloads + 1;
            self.next = set.saturating_mul(self.max_payloads).min(self.count);
            return (first..self.next).collect();
        }
        let mut due = Vec::new();
        while due.len() < self.max_payloads as usize
            && let Some(number) = self.missing.pop_first()
        {
            due.push(number);
        }
        due
    }

    /// When there is more to send; `None` where all was sent.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.resume.filter(|_| !self.is_all_sent())
    }

    pub(crate) fn is_all_sent(&self) -> bool {
        self.next >= self.count && self.missing.is_empty()
    }

    /// The payloads before the number have arrived; without a number, those that were sent.
    pub(crate) fn handle_continue(&mut self, next: Option<u32>) {
        let next = next.unwrap_or(self.next).min(self.next);
        self.missing = self.missing.split_off(&next);
        if next == self.next {
            self.resume = None;
        }
    }

    /// The peer misses these payloads: they go at once. Of those that were never sent it only says that it has all others. Says
    /// whether there are any to send again.
    pub(crate) fn handle_missing(&mut self, numbers: &[u32]) -> bool {
        let granted = self.grant(numbers, usize::MAX);
        let any = !granted.is_empty();
        self.missing.extend(granted);
        self.resume = None;
        any
    }

    /// The payloads that a peer misses, to be sent at once by the caller; the pause begins anew. At most a set of them: it
    /// asks for the others again.
    pub(crate) fn take_missing(&mut self, now: Instant, numbers: &[u32]) -> Vec<u32> {
        let granted = self.grant(numbers, self.max_payloads as usize);
        // One that was never sent says that the peer waits for it.
        self.resume = (!granted.is_empty()).then(|| now + self.pause);
        granted
    }

    fn grant(&mut self, numbers: &[u32], most: usize) -> Vec<u32> {
        let next = self.next;
        let sent = numbers.iter().copied().filter(|number| *number < next);
        let granted: Vec<u32> = sent.take(most.min(self.repeats as usize)).collect();
        self.repeats -= granted.len() as u32;
        granted
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "any instant does: only differences count"
)]
mod tests {
    use super::*;

    fn sets(count: u32) -> (Sets, Instant) {
        let sets = Sets::new(count, &SessionParameters::default(), &mut Numbers::new(1));
        (sets, Instant::now())
    }

    fn numbers(range: std::ops::Range<u32>) -> Vec<u32> {
        range.collect()
    }

    #[test]
    fn sets_are_two_to_three_seconds_apart() {
        let (mut sets, mut now) = sets(25);
        assert_eq!(sets.poll(now), numbers(0..10));
        assert!(sets.poll(now).is_empty());
        let pause = sets.due().unwrap() - now;
        assert!((2.0..3.0).contains(&pause.as_secs_f64()), "{pause:?}");
        for expected in [10..20, 20..25] {
            now += pause - Duration::from_millis(1);
            assert!(sets.poll(now).is_empty());
            now += Duration::from_millis(1);
            assert_eq!(sets.poll(now), numbers(expected));
        }
        assert_eq!((sets.is_all_sent(), sets.due()), (true, None));
    }

    #[test]
    fn a_peer_that_has_the_set_gets_the_next() {
        let (mut sets, now) = sets(25);
        sets.poll(now);
        sets.handle_continue(Some(10));
        assert_eq!(sets.poll(now), numbers(10..20));
        // Late word of the first set.
        sets.handle_continue(Some(10));
        assert!(sets.poll(now).is_empty());
        sets.handle_continue(None);
        assert_eq!(sets.poll(now), numbers(20..25));
    }

    #[test]
    fn what_is_missing_goes_before_what_is_new() {
        let (mut sets, now) = sets(25);
        sets.poll(now);
        sets.handle_missing(&[1, 9, 12]);
        assert_eq!(sets.poll(now), [1, 9]);
        assert!(sets.poll(now).is_empty(), "a set is followed by a pause");
        assert_eq!(sets.poll(now + sets.pause()), numbers(10..20));
        // It has everything else.
        sets.handle_missing(&[20]);
        assert_eq!(sets.poll(now + sets.pause()), numbers(20..25));
    }

    #[test]
    fn a_peer_that_asks_without_end_gets_an_end() {
        let (mut sets, now) = sets(3);
        sets.poll(now);
        let mut sent = 0;
        for _ in 0..1000 {
            sets.handle_missing(&[0, 1, 2]);
            sent += sets.poll(now).len();
            sent += sets.take_missing(now, &[0, 1, 2]).len();
        }
        assert_eq!(sent, 3 * 4);
    }
}
