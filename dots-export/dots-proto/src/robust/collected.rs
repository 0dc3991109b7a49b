use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::count_of;
use crate::SessionParameters;
use crate::cbor::MAX_BODY;
use crate::coap::Block;

/// Blocks that are asked for at once, whatever MAX_PAYLOADS is: a request has an option for each.
const MOST_ASKED: u32 = 32;

/// A body of which payloads arrive in any order, and what its receiver asks for when (RFC 9177 §7.2). It keeps no more than has
/// arrived, and no more than [`MAX_BODY`].
#[derive(Clone, Debug)]
pub(crate) struct Collected {
    octets: usize,
    block: Block,
    payloads: BTreeMap<u32, Vec<u8>>,
    max_payloads: u32,
    /// How often missing payloads were asked for since one has come.
    asked: u32,
    /// The first block of the highest set at whose arrival the holes of those before were asked for.
    asked_at: u32,
    /// All before it has come, and its sender was told.
    confirmed: u32,
    due: Instant,
    last: Instant,
}

/// What a payload comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Arrival {
    /// More is to come.
    More,
    /// Every set up to the one before this block is whole: its sender may go on.
    SetWhole(u32),
    /// A set has begun, and these blocks of those before are missing.
    Missing(Vec<u32>),
    /// The body.
    Whole(Vec<u8>),
}

/// What is due when no payload has come for a while.
#[derive(Debug, PartialEq)]
pub(crate) enum Overdue {
    /// Nothing yet.
    Wait,
    /// These blocks are to be asked for.
    Ask(Vec<u32>),
    /// They were asked for as often as they may be: the body is given up.
    GiveUp,
}

impl Collected {
    /// A body of so many octets in blocks of that size; `None` where there is no such body, or it is too large.
    pub(crate) fn new(
        now: Instant,
        octets: usize,
        block: Block,
        parameters: &SessionParameters,
    ) -> Option<Self> {
        (1..=MAX_BODY).contains(&octets).then(|| Self {
            octets,
            block,
            payloads: BTreeMap::new(),
            max_payloads: parameters.max_payloads(),
            asked: 0,
            asked_at: 0,
            confirmed: 0,
            due: now + parameters.time_to_wait(0),
            last: now,
        })
    }

    /// Takes a payload.
    pub(crate) fn handle_payload(
        &mut self,
        now: Instant,
        block: Block,
        payload: &[u8],
        parameters: &SessionParameters,
    ) -> Result<Arrival, &'static str> {
        if block.size() != self.block.size() {
            return Err("the blocks are of several sizes");
        }
        let left = self.octets.saturating_sub(block.offset());
        if payload.is_empty() || payload.len() != left.min(block.size()) {
            return Err("a block does not fit the size of the body");
        }
        if block.more != (left > block.size()) {
            return Err("the last block is another one");
        }
        self.last = now;
        if self.payloads.contains_key(&block.number) {
            return Ok(self.repeated(now, block.number, parameters));
        }
        self.payloads.insert(block.number, payload.to_vec());
        self.asked = 0;
        self.due = now + parameters.time_to_wait(0);
        Ok(self.judge(now, block.number, parameters))
    }

    fn judge(&mut self, now: Instant, number: u32, parameters: &SessionParameters) -> Arrival {
        let first_missing = self.first_missing();
        if first_missing == self.count() {
            return Arrival::Whole(self.payloads.values().flatten().copied().collect());
        }
        if self.is_boundary(first_missing) && first_missing > self.confirmed {
            self.confirmed = first_missing;
            // Its sender is in a later set already: what is missing before that may as well be asked for.
            let highest = self.payloads.keys().next_back().copied();
            let set = self.set_of(highest.unwrap_or_default());
            if first_missing >= set {
                return Arrival::SetWhole(first_missing);
            }
            return self.ask_before(now, set, parameters);
        }
        let set = self.set_of(number);
        if first_missing < set && set > self.asked_at {
            return self.ask_before(now, set, parameters);
        }
        Arrival::More
    }

    fn ask_before(&mut self, now: Instant, set: u32, parameters: &SessionParameters) -> Arrival {
        self.asked_at = set;
        self.asked = 1;
        self.due = now + parameters.time_to_wait(1);
        Arrival::Missing(self.missing_before(set))
    }

    /// The first block of the set of a block.
    fn set_of(&self, number: u32) -> u32 {
        number / self.max_payloads * self.max_payloads
    }

    /// RFC 9177 §4.3: a duplicate is answered as if it were none. With the last payload its sender says that it has sent all, and
    /// has not heard what is missing.
    fn repeated(&mut self, now: Instant, number: u32, parameters: &SessionParameters) -> Arrival {
        let next = number + 1;
        if next == self.count() {
            self.ask_before(now, next, parameters)
        } else if self.is_boundary(next) && next == self.first_missing() {
            Arrival::SetWhole(next)
        } else {
            Arrival::More
        }
    }

    /// What is due now.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        parameters: &SessionParameters,
    ) -> Overdue {
        if self.due > now {
            return Overdue::Wait;
        }
        if self.asked >= parameters.non_max_retransmit() {
            return Overdue::GiveUp;
        }
        self.asked += 1;
        self.due = now + parameters.time_to_wait(self.asked);
        Overdue::Ask(self.missing())
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Whether nothing has come for that long.
    pub(crate) fn is_stale(&self, now: Instant, after: Duration) -> bool {
        now.saturating_duration_since(self.last) > after
    }

    /// A block of the size of this body's.
    pub(crate) fn block(&self, number: u32) -> Block {
        self.block.numbered(number)
    }

    /// What its sender ought to have sent by now: the set of the highest block that has come, or the next where nothing is
    /// missing before it.
    fn missing(&self) -> Vec<u32> {
        let first_missing = self.first_missing();
        let highest = self.payloads.keys().next_back().copied();
        let highest = highest.unwrap_or_default().max(first_missing);
        let set = highest / self.max_payloads + 1;
        self.missing_before(set.saturating_mul(self.max_payloads).min(self.count()))
    }

    /// The first of them, at most as many as go at one time.
    fn missing_before(&self, end: u32) -> Vec<u32> {
        (self.first_missing()..end)
            .filter(|number| !self.payloads.contains_key(number))
            .take(self.max_payloads.min(MOST_ASKED) as usize)
            .collect()
    }

    fn first_missing(&self) -> u32 {
        let present = self.payloads.keys().zip(0..);
        let in_order = present.take_while(|(number, expected)| **number == *expected);
        in_order.count() as u32
    }

    fn is_boundary(&self, number: u32) -> bool {
        number > 0 && number.is_multiple_of(self.max_payloads)
    }

    fn count(&self) -> u32 {
        count_of(self.octets, self.block)
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "any instant does: only differences count"
)]
mod tests {
    use super::*;

    struct Bench {
        now: Instant,
        parameters: SessionParameters,
        collected: Collected,
        count: u32,
    }

    impl Bench {
        /// Blocks of 16 octets, the last of 5.
        fn new(count: u32) -> Self {
            let (now, parameters) = (Instant::now(), SessionParameters::default());
            let octets = (count as usize - 1) * 16 + 5;
            let block = Block::from_value(&[]).unwrap();
            Self {
                now,
                collected: Collected::new(now, octets, block, &parameters).unwrap(),
                parameters,
                count,
            }
        }

        fn take(&mut self, number: u32) -> Arrival {
            let more = number + 1 < self.count;
            let block = self.collected.block(number).followed(more);
            let payload = vec![number as u8; if more { 16 } else { 5 }];
            let parameters = &self.parameters;
            self.collected
                .handle_payload(self.now, block, &payload, parameters)
                .unwrap()
        }

        fn after(&mut self, seconds: u64) -> Overdue {
            self.now += Duration::from_secs(seconds);
            self.collected.handle_timeout(self.now, &self.parameters)
        }
    }

    #[test]
    fn sets_are_confirmed_once_each_and_for_duplicates() {
        let mut bench = Bench::new(21);
        for number in (0..9).rev() {
            assert_eq!(bench.take(number), Arrival::More);
        }
        assert_eq!(bench.take(9), Arrival::SetWhole(10));
        assert_eq!(bench.take(9), Arrival::SetWhole(10), "a duplicate");
        assert_eq!(bench.take(3), Arrival::More);
        for number in 10..19 {
            assert_eq!(bench.take(number), Arrival::More);
        }
        assert_eq!(bench.take(19), Arrival::SetWhole(20));
        let Arrival::Whole(octets) = bench.take(20) else {
            panic!("the last block completes the body");
        };
        assert_eq!((octets.len(), octets[16], octets[320]), (325, 1, 20));
    }

    #[test]
    fn the_next_set_shows_what_is_missing() {
        let mut bench = Bench::new(13);
        for number in [0, 2, 3, 4, 5, 6, 7, 8] {
            assert_eq!(bench.take(number), Arrival::More);
        }
        // RFC 9177 Figures 4 and 5.
        assert_eq!(bench.take(11), Arrival::Missing(vec![1, 9]));
        assert_eq!(bench.take(1), Arrival::More);
        assert_eq!(bench.take(9), Arrival::SetWhole(10));
        assert_eq!(bench.take(12), Arrival::More);
        assert_eq!(bench.after(3), Overdue::Wait);
        assert_eq!(bench.after(1), Overdue::Ask(vec![10]));
        assert!(matches!(bench.take(10), Arrival::Whole(_)));
    }

    #[test]
    fn waits_double_and_end() {
        // RFC 9177 Figure 6, with DOTS's three repeats.
        let mut bench = Bench::new(3);
        bench.take(0);
        bench.take(2);
        for seconds in [4, 8, 16] {
            assert_eq!(bench.after(seconds - 1), Overdue::Wait);
            assert_eq!(bench.after(1), Overdue::Ask(vec![1]));
        }
        assert_eq!(bench.after(31), Overdue::Wait);
        assert_eq!(bench.after(1), Overdue::GiveUp);
    }

    #[test]
    fn the_last_payload_again_asks_what_is_missing() {
        let mut bench = Bench::new(3);
        bench.take(2);
        for seconds in [4, 8, 16] {
            assert_eq!(bench.after(seconds), Overdue::Ask(vec![0, 1]));
        }
        assert_eq!(bench.take(2), Arrival::Missing(vec![0, 1]));
        assert_eq!(bench.after(8), Overdue::Ask(vec![0, 1]), "its sender lives");
    }

    #[test]
    fn a_lost_set_is_asked_for_as_a_set() {
        let mut bench = Bench::new(40);
        for number in 0..10 {
            bench.take(number);
        }
        assert_eq!(bench.after(4), Overdue::Ask((10..20).collect()));
        // Only the last block of all: one set after the other, without a wait.
        let mut bench = Bench::new(40);
        assert_eq!(bench.take(39), Arrival::Missing((0..10).collect()));
        for number in 0..9 {
            assert_eq!(bench.take(number), Arrival::More);
        }
        assert_eq!(bench.take(9), Arrival::Missing((10..20).collect()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut bench = Bench::new(3);
        let block = |number| bench.collected.block(number);
        for (block, length) in [
            (block(0).followed(true), 15),
            (block(0), 16),
            (block(2), 6),
            (block(2).followed(true), 5),
            (block(3), 1),
            (block(3), 0),
            (Block::FIRST.followed(true), 16),
        ] {
            let payload = vec![0; length];
            let taken =
                bench
                    .collected
                    .handle_payload(bench.now, block, &payload, &bench.parameters);
            assert!(taken.is_err(), "{block:?} {length}");
        }
        let parameters = &bench.parameters;
        for octets in [0, MAX_BODY + 1] {
            assert!(Collected::new(bench.now, octets, Block::FIRST, parameters).is_none());
        }
    }
}
