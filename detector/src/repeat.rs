//! Targets that are attacked again and again: a wave of pulses is one attack, held open through its gaps.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_flow_aggregate::TargetScope;
use weir_flow_record::TargetKey;

/// Targets that are remembered at once.
const MAX_REPEATS: usize = 10_000;

/// What is remembered of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Repeat {
    /// Attacks that began within the memory.
    pub(crate) starts: u32,
    /// Second in which the newest ended.
    pub(crate) last_end: i64,
    /// Longest quiet between two of them, in seconds.
    pub(crate) longest_gap: i64,
}

/// Memory of attacks that are over: a bounded table.
#[derive(Clone, Debug)]
pub(crate) struct Repeats {
    targets: BTreeMap<(TargetScope, TargetKey), Repeat>,
    /// Seconds after which a target is as good as new.
    within: i64,
    /// Attacks of a target within the memory before it is held for the longest time.
    budget: u32,
    longest: Duration,
}

impl Repeats {
    pub(crate) fn new(within: Duration, budget: u32, longest: Duration) -> Self {
        Self {
            targets: BTreeMap::new(),
            within: seconds(within),
            budget,
            longest,
        }
    }

    /// Second in which the newest attack on a target ended that is over.
    pub(crate) fn last_end(&self, key: &(TargetScope, TargetKey)) -> Option<i64> {
        self.targets.get(key).map(|repeat| repeat.last_end)
    }

    /// Notes that an attack ended; what is to be kept of it.
    pub(crate) fn handle_end(
        &mut self,
        key: (TargetScope, TargetKey),
        last_busy: i64,
        longest_gap: i64,
    ) -> Option<Repeat> {
        if self.within == 0
            || (self.targets.len() >= MAX_REPEATS && !self.targets.contains_key(&key))
        {
            return None;
        }
        let repeat = self.targets.entry(key).or_insert(Repeat {
            starts: 0,
            last_end: last_busy,
            longest_gap: 0,
        });
        repeat.starts = repeat.starts.saturating_add(1);
        repeat.last_end = last_busy;
        repeat.longest_gap = repeat.longest_gap.max(longest_gap);
        Some(*repeat)
    }

    /// Notes that an attack begins; how long it is held through quiet, where the target was attacked before.
    pub(crate) fn handle_start(
        &mut self,
        key: &(TargetScope, TargetKey),
        second: i64,
        clear_for: Duration,
    ) -> Option<(Repeat, Duration)> {
        let repeat = self.targets.get_mut(key)?;
        let gap = second - repeat.last_end;
        if gap > self.within {
            self.targets.remove(key);
            return None;
        }
        repeat.longest_gap = repeat.longest_gap.max(gap);
        let repeat = *repeat;
        Some((repeat, self.hold(&repeat, clear_for)))
    }

    /// Twice the longest gap, doubled with each attack after the first one that is told again; the longest time once the budget
    /// of attacks is spent.
    fn hold(&self, repeat: &Repeat, clear_for: Duration) -> Duration {
        if repeat.starts >= self.budget {
            return self.longest.max(clear_for);
        }
        let gap = Duration::from_secs(repeat.longest_gap.max(0).unsigned_abs());
        let doublings = repeat.starts.saturating_sub(1).min(16);
        let grown = clear_for.max(gap).saturating_mul(2_u32 << doublings);
        grown.min(self.longest).max(clear_for)
    }

    /// How long an attack is held that has had such a gap.
    pub(crate) fn hold_through(&self, gap: i64, clear_for: Duration) -> Duration {
        let gap = Duration::from_secs(gap.max(0).unsigned_abs());
        gap.saturating_mul(2).min(self.longest).max(clear_for)
    }

    pub(crate) fn restore(&mut self, key: (TargetScope, TargetKey), repeat: Repeat) {
        if self.targets.len() < MAX_REPEATS {
            self.targets.insert(key, repeat);
        }
    }

    /// Forgets targets that were not attacked for long.
    pub(crate) fn take_old(&mut self, second: i64) -> Vec<(TargetScope, TargetKey)> {
        let within = self.within;
        let old: Vec<_> = self
            .targets
            .iter()
            .filter(|(_, repeat)| second - repeat.last_end > within)
            .map(|(key, _)| *key)
            .collect();
        for key in &old {
            self.targets.remove(key);
        }
        old
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
