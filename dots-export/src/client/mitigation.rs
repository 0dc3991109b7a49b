//! One mitigation as the client holds it.

use std::time::{Duration, Instant};

use weir_attack_event::AttackId;
use weir_dots_proto::Mid;
use weir_dots_proto::body::{Lifetime, Scope};
use weir_dots_proto::client::RequestId;

use super::efficacy::Efficacy;
use super::journal::{ChangeId, SavedState};
use super::reports::Dropped;
use crate::command::ends_with_lifetime;

/// Refreshes are never closer together, whatever lifetime a server grants.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// How far a mitigation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// A PUT is to make it, or to find out whether it was made.
    Asking,
    /// The server has granted it.
    Active,
    /// A DELETE is to end it.
    Withdrawing,
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) attack: AttackId,
    pub(super) scope: Scope,
    pub(super) lifetime: Lifetime,
    pub(super) phase: Phase,
    /// Nothing is sent until this change is durable.
    pub(super) waits_for: ChangeId,
    /// The server may know it although we have no answer: it is asked (GET) before the PUT is made again.
    pub(super) uncertain: bool,
    /// The server has granted it at least once.
    pub(super) was_granted: bool,
    /// A PUT has left.
    pub(super) put_sent: bool,
    /// Requests that wait for their answers.
    pub(super) put: Option<RequestId>,
    pub(super) get: Option<RequestId>,
    pub(super) delete: Option<RequestId>,
    /// Nothing is asked again before this.
    pub(super) retry_at: Option<Instant>,
    /// When it is refreshed; `None`: it has no end, or is not granted.
    pub(super) refresh_at: Option<Instant>,
    /// Notifications come: the answer to a GET with Observe has arrived over this transport.
    pub(super) observed: bool,
    /// When the server is asked how it stands, unless it says so before.
    pub(super) check_at: Option<Instant>,
    /// When it is reported that the server does not answer.
    pub(super) silent_at: Option<Instant>,
    /// Refusals that were followed by another try.
    pub(super) refusals: u32,
    /// What it had dropped when the server last said so.
    pub(super) dropped: Option<Dropped>,
    /// Filters of ours that let attack traffic through, as the server said last.
    pub(super) accepting: Vec<String>,
    /// How well it works, to be told.
    pub(super) efficacy: Option<Efficacy>,
}

impl Held {
    pub(super) fn new(
        attack: AttackId,
        scope: Scope,
        lifetime: Lifetime,
        waits_for: ChangeId,
    ) -> Self {
        Self {
            attack,
            scope,
            lifetime,
            phase: Phase::Asking,
            waits_for,
            uncertain: false,
            was_granted: false,
            put_sent: false,
            put: None,
            get: None,
            delete: None,
            retry_at: None,
            refresh_at: None,
            observed: false,
            check_at: None,
            silent_at: None,
            refusals: 0,
            dropped: None,
            accepting: Vec::new(),
            efficacy: None,
        }
    }

    pub(super) fn saved(&self, mid: Mid) -> SavedState {
        SavedState::Mitigation {
            mid,
            attack: self.attack.clone(),
            scope: Box::new(self.scope.clone()),
            lifetime: self.lifetime,
            granted: self.was_granted,
            withdrawing: self.phase == Phase::Withdrawing,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase != Phase::Withdrawing
    }

    /// Notes the lifetime that the server grants: it is refreshed when two thirds of it have passed.
    pub(super) fn granted(&mut self, now: Instant, lifetime: Lifetime) {
        self.phase = Phase::Active;
        self.uncertain = false;
        self.retry_at = None;
        self.silent_at = None;
        let refreshed = lifetime
            .duration()
            .filter(|_| !ends_with_lifetime(&self.attack));
        self.refresh_at = refreshed.map(|length| now + (length * 2 / 3).max(LEAST_WAIT));
    }

    /// Notes how much the server says is left.
    pub(super) fn left(&mut self, now: Instant, lifetime: Lifetime) {
        if ends_with_lifetime(&self.attack) {
            return;
        }
        let Some(left) = lifetime.duration() else {
            return;
        };
        if self.refresh_at.is_none_or(|at| at >= now + left) {
            self.refresh_at = Some(now + (left / 2).max(LEAST_WAIT));
        }
    }

    /// Holds back until `wait` has passed.
    pub(super) fn hold_back(&mut self, now: Instant, wait: Duration) {
        self.retry_at = Some(now + wait);
    }

    /// What is due next, once connected and durable.
    pub(super) fn due(&self, now: Instant, audited: bool) -> Option<Due> {
        if self.retry_at.is_some_and(|at| at > now) || self.put.is_some() {
            return None;
        }
        match self.phase {
            Phase::Asking if self.uncertain && !audited => None,
            Phase::Asking => Some(Due::Put),
            Phase::Active if self.refresh_at.is_some_and(|at| at <= now) => Some(Due::Put),
            Phase::Active if self.get.is_none() && self.check_at.is_some_and(|at| at <= now) => {
                Some(if self.observed {
                    Due::Check
                } else {
                    Due::Observe
                })
            }
            Phase::Active => None,
            // The PUT has to be answered or given up first: a repetition that came after the DELETE would ask anew.
            Phase::Withdrawing if self.delete.is_none() => Some(Due::Delete),
            Phase::Withdrawing => None,
        }
    }

    /// When [`due`](Self::due) may say something new.
    pub(super) fn timers(&self) -> impl Iterator<Item = Instant> {
        [self.retry_at, self.refresh_at, self.check_at]
            .into_iter()
            .flatten()
    }
}

/// What a mitigation wants to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Put,
    /// GET with Observe.
    Observe,
    /// GET.
    Check,
    Delete,
}
