//! An operator's word: attacks that are started and ended by hand, and targets that nobody wants to be told of.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_attack_event::AttackId;
use weir_flow_aggregate::TargetScope;
use weir_flow_record::{Direction, TargetKey, Timestamp, Vector};

/// Prefixes that may be muted at once.
const MAX_MUTES: usize = 4096;
/// Targets whose attacks were ended by hand, or are not told, at once.
const MAX_SILENCES: usize = 10_000;

/// What an operator says to the detector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Override {
    /// There is an attack, whatever the figures say: it is told with severity high, and lasts for `lifetime` at least. An attack
    /// that is open on the target already is held open instead.
    Start {
        /// A prefix inside a zone; a zone's first prefix stands for the whole zone.
        target: IpNet,
        /// To the target or from it.
        direction: Direction,
        /// What it is called until traffic says more.
        vector: Vector,
        /// `None` = until it is ended by hand.
        lifetime: Option<Duration>,
        /// Why; told with the attack.
        note: String,
    },
    /// An attack is over, or never was one. It is not told again before its target has been quiet.
    End {
        /// The attack.
        attack: AttackId,
        /// Why; told with its end.
        note: String,
    },
    /// Attacks on targets inside a prefix are not told; open ones end. Says it anew where the prefix is muted already.
    Mute {
        /// The prefix.
        prefix: IpNet,
        /// `None` = until it is unmuted.
        until: Option<Timestamp>,
        /// Why.
        note: String,
    },
    /// Attacks inside a muted prefix are told again.
    Unmute {
        /// The prefix, as it was muted.
        prefix: IpNet,
    },
}

/// What came of an [`Override`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Overridden {
    /// A new attack was opened.
    Started(AttackId),
    /// The target's open attack is held open.
    Held(AttackId),
    /// The attack has ended.
    Ended(AttackId),
    /// The prefix is muted, and these attacks have ended by it.
    Muted(Vec<AttackId>),
    /// The prefix is muted no more.
    Unmuted,
}

/// Why an [`Override`] cannot be carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverrideError {
    /// No zone holds the target.
    #[error("{0} is in no zone")]
    NoZone(IpNet),
    /// No such attack is open.
    #[error("no attack {0} is open")]
    NotOpen(AttackId),
    /// The prefix is not muted.
    #[error("{0} is not muted")]
    NotMuted(IpNet),
    /// The time is over already.
    #[error("the mute would end before it begins")]
    Past,
    /// The bound of open attacks is reached.
    #[error("too many attacks are open")]
    TooManyAttacks,
    /// The bound of muted prefixes is reached.
    #[error("too many prefixes are muted")]
    TooManyMutes,
}

/// A prefix whose attacks are not told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mute {
    /// The prefix.
    pub prefix: IpNet,
    /// Since when.
    pub since: Timestamp,
    /// `None` = until it is unmuted.
    pub until: Option<Timestamp>,
    /// The operator's words.
    pub note: String,
}

/// That an attack was begun, or is held open, by an operator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ByHand {
    pub(crate) until: Option<Timestamp>,
    pub(crate) vector: Vector,
}

/// The muted prefixes: a bounded table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mutes(BTreeMap<IpNet, Mute>);

impl Mutes {
    pub(crate) fn insert(&mut self, mute: Mute) -> Result<(), OverrideError> {
        if self.0.len() >= MAX_MUTES && !self.0.contains_key(&mute.prefix) {
            return Err(OverrideError::TooManyMutes);
        }
        self.0.insert(mute.prefix, mute);
        Ok(())
    }

    pub(crate) fn remove(&mut self, prefix: &IpNet) -> Option<Mute> {
        self.0.remove(prefix)
    }

    pub(crate) fn hold(&self, target: &IpNet, now: Timestamp) -> bool {
        self.0
            .values()
            .any(|mute| mute.prefix.contains(target) && mute.until.is_none_or(|until| until > now))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mute> {
        self.0.values()
    }

    /// Those that are over.
    pub(crate) fn take_over(&mut self, now: Timestamp) -> Vec<Mute> {
        let is_over = |mute: &Mute| mute.until.is_some_and(|until| until <= now);
        let (over, stays) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(_, mute)| is_over(mute));
        self.0 = stays;
        BTreeMap::into_values(over).collect()
    }
}

/// Targets above their limits of which nothing is told: muted ones, and those whose attack an operator has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silences(BTreeMap<(TargetScope, TargetKey), Silence>);

/// Why nothing is told of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Silence {
    /// Newest second above a limit.
    pub(crate) last_busy: i64,
    /// How long it must be quiet.
    pub(crate) clear_for: Duration,
    /// Until it has been quiet; else only while it is muted.
    pub(crate) until_quiet: bool,
}

impl Silences {
    /// Notes that a target is above a limit and not told; whether there was room for it.
    pub(crate) fn note(&mut self, key: (TargetScope, TargetKey), silence: Silence) -> bool {
        if self.0.len() >= MAX_SILENCES && !self.0.contains_key(&key) {
            return false;
        }
        let entry = self.0.entry(key).or_insert(silence);
        entry.last_busy = entry.last_busy.max(silence.last_busy);
        entry.clear_for = entry.clear_for.max(silence.clear_for);
        entry.until_quiet |= silence.until_quiet;
        true
    }

    /// Whether an operator has ended an attack on the target, and it has not been quiet since.
    pub(crate) fn until_quiet(&self, key: &(TargetScope, TargetKey)) -> Option<Silence> {
        self.0
            .get(key)
            .copied()
            .filter(|silence| silence.until_quiet)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &(TargetScope, TargetKey)> {
        self.0.keys()
    }

    pub(crate) fn remove(&mut self, key: &(TargetScope, TargetKey)) {
        self.0.remove(key);
    }

    /// Those that have been quiet for long enough.
    pub(crate) fn take_quiet(&mut self, settled: i64) -> Vec<(TargetScope, TargetKey)> {
        let is_quiet = |silence: &Silence| {
            let clear = i64::try_from(silence.clear_for.as_secs()).unwrap_or(i64::MAX);
            silence.last_busy.saturating_add(clear) < settled
        };
        let quiet: Vec<_> = self
            .0
            .iter()
            .filter(|(_, silence)| is_quiet(silence))
            .map(|(key, _)| *key)
            .collect();
        for key in &quiet {
            self.0.remove(key);
        }
        quiet
    }
}
