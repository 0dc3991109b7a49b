//! The mitigations of all clients: who holds what, for how long, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use weir_dots_proto::body::{
    Body, ConflictAcl, ConflictCause, ConflictInformation, ConflictScope, ConflictStatus, Lifetime,
    Mitigation, MitigationStatus, Scope,
};
use weir_dots_proto::cbor::MAX_BODY;
use weir_dots_proto::coap::Code;
use weir_dots_proto::{Cuid, Mid};

use crate::average::Average;
use crate::held::{Held, is_preconfigured, is_same_but_lifetime};
use crate::mitigator::{MitigationId, MitigatorReport};
use crate::saved::{Changed, Epoch, RowKey, SavedRow};
use crate::{Mitigator, ServerPolicy};

/// A client that asks again while its mitigation terminates doubles the next such time, up to this (RFC 9132 §4.4.4).
const MAX_TERMINATING: Duration = Duration::from_secs(300);

/// Octets by which counters, times and telemetry of a mitigation may grow in an answer to a GET.
const GROWTH: usize = 160;

/// A mitigation from before a restart; times in seconds since the epoch.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) scope: Scope,
    /// The scope with its aliases resolved.
    pub(crate) protected: Scope,
    pub(crate) began: Option<u64>,
    pub(crate) expires: Option<u64>,
    pub(crate) terminates: Option<u64>,
    pub(crate) terminating: u64,
}

/// A request that has passed the checks of its body and of the client's prefixes.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) cuid: &'a Cuid,
    pub(crate) mid: Mid,
    pub(crate) scope: Scope,
    /// The scope with its aliases resolved.
    pub(crate) protected: Scope,
    /// Now, in seconds since the epoch.
    pub(crate) unix: u64,
}

/// Mitigations by client and mid. Those that are asked for in case the signal is lost (`trigger-mitigation` false) stand
/// beside the others: they overlap with each other only.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    held: BTreeMap<(Cuid, Mid), Held>,
    keys: BTreeMap<MitigationId, (Cuid, Mid)>,
    /// Ended mitigations, whose observers are not told yet.
    ended: Vec<((Cuid, Mid), Held)>,
    changed: Changed,
    next: u64,
    /// Nothing is due before; `None`: nothing at all.
    due: Option<Instant>,
    /// Whether another client may be mitigated now than at the last look.
    moved: bool,
}

/// A mitigation of which its observers are to be told.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) cuid: Cuid,
    pub(crate) mid: Mid,
    /// The last that is told of it; `None` where the registry still holds it.
    pub(crate) last: Option<Scope>,
}

/// What a request came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// 2.01 or 4.09 with their bodies.
    Answer(Code, Box<Mitigation>),
    /// 2.04 of an efficacy update.
    Changed,
    /// An error with its text.
    Refused(Code, String),
    /// RFC 9132 §4.4.3: an efficacy update without its mitigation is ignored.
    Ignored,
}

impl Registry {
    /// Makes a mitigation, or refreshes it.
    pub(crate) fn put(
        &mut self,
        now: Instant,
        wanted: Wanted<'_>,
        policy: &ServerPolicy,
        mitigator: &mut dyn Mitigator,
    ) -> Outcome {
        let key = (wanted.cuid.clone(), wanted.mid);
        let lifetime = granted(wanted.scope.lifetime, policy.max_lifetime);
        if let Some(refreshed) = self.refresh(now, &key, &wanted.scope, lifetime) {
            return refreshed;
        }
        if let Some(refused) = self.refusal(now, &wanted, policy) {
            return refused;
        }
        let id = self.next_id();
        let preconfigured = is_preconfigured(&wanted.scope);
        // The new one filters before the old ones end: no gap for the attack.
        if !preconfigured {
            mitigator.apply(id, &wanted.protected);
        }
        let terminating = self.end_overlapping(now, &key, &wanted.protected, policy, mitigator);
        if !preconfigured {
            self.silence_preconfigured(&key, &wanted.protected, mitigator);
        }
        let held = Held {
            id,
            scope: Scope {
                lifetime: Some(lifetime),
                acl_list: Vec::new(),
                ..wanted.scope
            },
            protected: wanted.protected,
            expires: lifetime.duration().map(|duration| now + duration),
            began: (!preconfigured).then_some(wanted.unix),
            status: if preconfigured {
                MitigationStatus::AttackMitigationSignalLoss
            } else {
                MitigationStatus::AttackMitigationInProgress
            },
            report: None,
            read: now,
            average: Average::new(now),
            accepting: Vec::new(),
            terminates: None,
            terminating,
            applied: !preconfigured,
            farewells: None,
            news: false,
            status_news: false,
            told: now,
        };
        self.keys.insert(id, key.clone());
        self.touch(now, &key);
        self.held.insert(key, held);
        Outcome::Answer(Code::CREATED, Box::new(accepted(wanted.mid, lifetime)))
    }

    /// Why a request that is no refresh would not be granted.
    pub(crate) fn refusal(
        &self,
        now: Instant,
        wanted: &Wanted<'_>,
        policy: &ServerPolicy,
    ) -> Option<Outcome> {
        let key = (wanted.cuid.clone(), wanted.mid);
        let held = self.held.get(&key);
        if held.is_some_and(|held| held.terminates.is_none()) {
            return None;
        }
        if let Some(conflict) = self.conflict(&key, &wanted.protected) {
            return Some(conflict);
        }
        (!self.has_room(now, &key, wanted, policy.max_mitigations)).then(|| {
            Outcome::Refused(
                Code::SERVICE_UNAVAILABLE,
                "too many mitigations of this client".to_owned(),
            )
        })
    }

    /// The same request again (RFC 9132 §4.4.1.2); `None` where there is none to refresh.
    fn refresh(
        &mut self,
        now: Instant,
        key: &(Cuid, Mid),
        scope: &Scope,
        lifetime: Lifetime,
    ) -> Option<Outcome> {
        let held = self
            .held
            .get_mut(key)
            .filter(|held| held.terminates.is_none())?;
        if !is_same_but_lifetime(&held.scope, scope) {
            return Some(Outcome::Refused(
                Code::BAD_REQUEST,
                "a refresh changes the lifetime alone".to_owned(),
            ));
        }
        held.expires = lifetime.duration().map(|duration| now + duration);
        held.scope.lifetime = Some(lifetime);
        self.touch(now, key);
        let answer = Box::new(accepted(key.1, lifetime));
        Some(Outcome::Answer(Code::CHANGED, answer))
    }

    /// An efficacy update counts as a refresh (RFC 9132 §4.4.3).
    pub(crate) fn efficacy(
        &mut self,
        now: Instant,
        key: &(Cuid, Mid),
        scope: &Scope,
        policy: &ServerPolicy,
    ) -> Outcome {
        let Some(held) = self.held.get(key).filter(|held| held.terminates.is_none()) else {
            return Outcome::Ignored;
        };
        let lifetime = granted(scope.lifetime.or(held.scope.lifetime), policy.max_lifetime);
        match self.refresh(now, key, scope, lifetime) {
            Some(Outcome::Answer(..)) => Outcome::Changed,
            _ => Outcome::Refused(
                Code::BAD_REQUEST,
                "an efficacy update repeats its request".to_owned(),
            ),
        }
    }

    /// Ends a mitigation: active but terminating for a while (RFC 9132 §4.4.4). What is not there is gone already: 2.02.
    pub(crate) fn delete(&mut self, now: Instant, key: &(Cuid, Mid)) {
        if let Some(held) = self.held.get_mut(key) {
            held.terminate(now);
            self.touch(now, key);
        }
    }

    /// A client's signal is lost: what it has preconfigured takes precedence over what it has asked for (RFC 9132 §4.4.1.2).
    pub(crate) fn handle_signal_lost(
        &mut self,
        now: Instant,
        unix: u64,
        cuid: &Cuid,
        mitigator: &mut dyn Mitigator,
    ) {
        let waiting: Vec<Mid> = self
            .of_client(cuid)
            .filter(|(_, held)| {
                held.is_preconfigured() && !held.is_active() && held.terminates.is_none()
            })
            .map(|((_, mid), _)| *mid)
            .collect();
        for mid in waiting {
            let key = (cuid.clone(), mid);
            let Some(held) = self.held.get_mut(&key) else {
                continue;
            };
            mitigator.apply(held.id, &held.protected);
            held.applied = true;
            held.began = Some(unix);
            held.farewells = None;
            held.note_triggered(now);
            held.set_status(MitigationStatus::AttackMitigationInProgress);
            let protected = held.protected.clone();
            self.touch(now, &key);
            self.withdraw_immediate(now, cuid, &protected, mitigator);
        }
    }

    /// Ends, at once, the immediate requests that a preconfigured one takes the place of.
    fn withdraw_immediate(
        &mut self,
        now: Instant,
        cuid: &Cuid,
        protected: &Scope,
        mitigator: &mut dyn Mitigator,
    ) {
        let overlapped: Vec<(Cuid, Mid)> = self
            .of_client(cuid)
            .filter(|(_, held)| !held.is_preconfigured() && held.overlaps(protected))
            .map(|(key, _)| key.clone())
            .collect();
        for key in overlapped {
            self.end(
                now,
                key,
                MitigationStatus::AttackMitigationWithdrawn,
                mitigator,
            );
        }
    }

    /// An immediate request overlaps with preconfigured ones that filter: those give way (RFC 9132 §4.4.1.2).
    fn silence_preconfigured(
        &mut self,
        (cuid, mid): &(Cuid, Mid),
        protected: &Scope,
        mitigator: &mut dyn Mitigator,
    ) {
        let range = (cuid.clone(), Mid(0))..=(cuid.clone(), Mid(u32::MAX));
        for ((_, other), held) in self.held.range_mut(range) {
            let gives_way = other != mid
                && held.is_preconfigured()
                && held.is_active()
                && held.overlaps(protected);
            if gives_way {
                self.moved = true;
                mitigator.withdraw(held.id);
                held.applied = false;
                held.begin_farewell(MitigationStatus::AttackMitigationWithdrawn);
                self.changed
                    .insert(RowKey::Mitigation(cuid.clone(), *other));
            }
        }
    }

    /// Whether the client holds a mitigation of that mid.
    pub(crate) fn contains(&self, cuid: &Cuid, mid: Mid) -> bool {
        self.held.contains_key(&(cuid.clone(), mid))
    }

    /// What a mitigation protects that stands.
    pub(crate) fn protected(&self, cuid: &Cuid, mid: Mid) -> Option<&Scope> {
        let held = self.held.get(&(cuid.clone(), mid));
        held.filter(|held| held.terminates.is_none())
            .map(|held| &held.protected)
    }

    /// Whether the client holds any mitigation, be it a terminating one.
    pub(crate) fn holds_any(&self, cuid: &Cuid) -> bool {
        self.of_client(cuid).next().is_some()
    }

    fn of_client(&self, cuid: &Cuid) -> impl Iterator<Item = (&(Cuid, Mid), &Held)> {
        self.held
            .range((cuid.clone(), Mid(0))..=(cuid.clone(), Mid(u32::MAX)))
    }

    /// What the client holds, as it is shown: one, or all.
    pub(crate) fn shown(&self, now: Instant, cuid: &Cuid, mid: Option<Mid>) -> Vec<Scope> {
        self.of_client(cuid)
            .filter(|((_, other), _)| mid.is_none_or(|mid| mid == *other))
            .map(|((_, mid), held)| held.shown(*mid, now))
            .collect()
    }

    /// Whether any mitigation of the client is active: its session is under attack.
    pub(crate) fn is_mitigating(&self, cuid: &Cuid) -> bool {
        self.of_client(cuid).any(|(_, held)| held.is_active())
    }

    /// Clients of whom a mitigation filters, where that may have changed since the last call.
    pub(crate) fn poll_mitigating(&mut self) -> Option<BTreeSet<Cuid>> {
        std::mem::take(&mut self.moved).then(|| {
            let active = self.held.iter().filter(|(_, held)| held.is_active());
            active.map(|((cuid, _), _)| cuid.clone()).collect()
        })
    }

    /// What the mitigator drops for a mitigation now, octets and packets per second.
    pub(crate) fn drops(&self, cuid: &Cuid, mid: Mid) -> Option<(u64, u64)> {
        let held = self.held.get(&(cuid.clone(), mid))?;
        let report = held.report.as_ref()?;
        Some((
            report.bytes_per_second_dropped,
            report.packets_per_second_dropped,
        ))
    }

    /// Mitigations of a client that filter, and what they protect.
    pub(crate) fn filtering(&self, cuid: &Cuid) -> impl Iterator<Item = (Mid, &Scope)> {
        let filtering = self.of_client(cuid).filter(|(_, held)| held.is_active());
        filtering.map(|((_, mid), held)| (*mid, &held.protected))
    }

    /// Notes which accept-lists let attack traffic through to what a mitigation protects; its observers hear of a change.
    pub(crate) fn handle_accepting(
        &mut self,
        now: Instant,
        key: &(Cuid, Mid),
        accepting: Vec<ConflictAcl>,
    ) {
        let Some(held) = self.held.get_mut(key) else {
            return;
        };
        if held.accepting != accepting {
            held.accepting = accepting;
            held.news = true;
            self.due_at(now);
        }
    }

    /// Takes in what was measured. A mitigation that is ending keeps its status.
    pub(crate) fn handle_report(&mut self, now: Instant, report: &MitigatorReport) {
        let key = self.keys.get(&report.id);
        let Some(held) = key
            .and_then(|key| self.held.get_mut(key))
            .filter(|held| held.applied)
        else {
            return;
        };
        held.note_report(now, *report);
        if held.terminates.is_none() && held.farewells.is_none() {
            let over = report.status == MitigationStatus::AttackStopped;
            if over && held.is_preconfigured() {
                held.begin_farewell(report.status);
            } else {
                held.set_status(report.status);
            }
        }
        if held.news || held.status_news {
            self.due_at(now);
        }
    }

    /// Ends what has run out, and returns which mitigations their observers must be told of now.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        policy: &ServerPolicy,
        mitigator: &mut dyn Mitigator,
    ) -> Vec<News> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut news = Vec::new();
        let mut over = Vec::new();
        for (key, held) in &mut self.held {
            if held.terminates.is_none() && held.expires.is_some_and(|expires| expires <= now) {
                held.terminate(now);
                self.changed
                    .insert(RowKey::Mitigation(key.0.clone(), key.1));
            }
            if held.terminates.is_some_and(|terminates| terminates <= now) {
                over.push(key.clone());
                continue;
            }
            if !held.is_due(now, policy) {
                continue;
            }
            if held.note_told(now) {
                // Told often enough: it waits for the loss of the signal again.
                if std::mem::take(&mut held.applied) {
                    self.moved = true;
                    mitigator.withdraw(held.id);
                }
                held.farewells = None;
                held.began = None;
                held.status = MitigationStatus::AttackMitigationSignalLoss;
                held.news = true;
                self.changed
                    .insert(RowKey::Mitigation(key.0.clone(), key.1));
            }
            news.push(News {
                cuid: key.0.clone(),
                mid: key.1,
                last: None,
            });
        }
        for key in over {
            let terminated = MitigationStatus::AttackMitigationTerminated;
            self.end(now, key, terminated, mitigator);
        }
        let ended = std::mem::take(&mut self.ended);
        news.extend(ended.into_iter().map(|((cuid, mid), held)| News {
            last: Some(held.shown(mid, now)),
            cuid,
            mid,
        }));
        self.due = self.next_due(policy);
        news
    }

    /// Ends a mitigation for good.
    fn end(
        &mut self,
        now: Instant,
        key: (Cuid, Mid),
        status: MitigationStatus,
        mitigator: &mut dyn Mitigator,
    ) {
        if let Some(mut held) = self.remove(now, &key, mitigator) {
            held.status = status;
            self.ended.push((key, held));
        }
    }

    /// Takes a mitigation out; it filters no more.
    fn remove(
        &mut self,
        now: Instant,
        key: &(Cuid, Mid),
        mitigator: &mut dyn Mitigator,
    ) -> Option<Held> {
        let held = self.held.remove(key)?;
        self.keys.remove(&held.id);
        if held.applied {
            mitigator.withdraw(held.id);
        }
        self.touch(now, key);
        Some(held)
    }

    fn next_due(&self, policy: &ServerPolicy) -> Option<Instant> {
        self.held
            .values()
            .flat_map(|held| {
                [
                    held.terminates,
                    held.expires.filter(|_| held.terminates.is_none()),
                    held.next_telling(policy),
                    held.status_news.then_some(held.told),
                ]
            })
            .flatten()
            .min()
    }

    /// Whether the client may hold one more mitigation: there are not too many, and all of them together are still an answer
    /// to a GET (a client that restarts asks for all). What the new one would replace does not count.
    fn has_room(
        &self,
        now: Instant,
        (cuid, mid): &(Cuid, Mid),
        wanted: &Wanted<'_>,
        most: usize,
    ) -> bool {
        let preconfigured = is_preconfigured(&wanted.scope);
        let kept = self.of_client(cuid).filter(|((_, other), held)| {
            other > mid
                || (other != mid
                    && (held.is_preconfigured() != preconfigured
                        || !held.overlaps(&wanted.protected)))
        });
        let mut all: Vec<Scope> = kept.map(|((_, mid), held)| held.shown(*mid, now)).collect();
        if all.len() >= most {
            return false;
        }
        all.push(Scope {
            mid: Some(*mid),
            mitigation_start: Some(0),
            lifetime: Some(Lifetime::Seconds(0)),
            status: Some(MitigationStatus::AttackMitigationInProgress),
            bytes_dropped: Some(0),
            bps_dropped: Some(0),
            pkts_dropped: Some(0),
            pps_dropped: Some(0),
            total_attack_traffic: Vec::new(),
            attack_detail: Vec::new(),
            acl_list: Vec::new(),
            ..wanted.scope.clone()
        });
        let counters = all.len() * GROWTH;
        let body = Mitigation { scope: all };
        body.to_cbor()
            .is_ok_and(|octets| octets.len() + counters <= MAX_BODY)
    }

    /// Who holds what.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &(Cuid, Mid)> {
        self.held.keys()
    }

    /// The next row that has changed.
    pub(crate) fn poll_changed(&mut self) -> Option<RowKey> {
        self.changed.pop_first()
    }

    /// A mitigation as a row; `None` where it is gone.
    pub(crate) fn saved(&self, key: &(Cuid, Mid), epoch: &Epoch) -> Option<SavedRow> {
        let held = self.held.get(key)?;
        Some(SavedRow::Mitigation {
            cuid: key.0.clone(),
            mid: key.1,
            scope: Box::new(held.scope.clone()),
            protected: Some(Box::new(held.protected.clone())),
            began: held.began.filter(|_| held.applied),
            expires: held.expires.map(|at| epoch.seconds_at(at)),
            terminates: held.terminates.map(|at| epoch.seconds_at(at)),
            terminating: held.terminating.as_secs(),
        })
    }

    /// Takes a mitigation back after a restart: it filters again, if it did.
    pub(crate) fn restore(
        &mut self,
        key: (Cuid, Mid),
        saved: Restored,
        epoch: &Epoch,
        mitigator: &mut dyn Mitigator,
    ) {
        let id = self.next_id();
        let applied = saved.began.is_some();
        if applied {
            mitigator.apply(id, &saved.protected);
        }
        let status = match (saved.terminates, applied) {
            (Some(_), _) => MitigationStatus::DotsClientWithdrawnMitigation,
            (None, true) => MitigationStatus::AttackMitigationInProgress,
            (None, false) => MitigationStatus::AttackMitigationSignalLoss,
        };
        let held = Held {
            id,
            scope: saved.scope,
            protected: saved.protected,
            expires: saved.expires.map(|at| epoch.instant_at(at)),
            began: saved.began,
            status,
            report: None,
            read: epoch.instant,
            average: Average::new(epoch.instant),
            accepting: Vec::new(),
            terminates: saved.terminates.map(|at| epoch.instant_at(at)),
            terminating: Duration::from_secs(saved.terminating),
            applied,
            farewells: None,
            news: false,
            status_news: false,
            told: epoch.instant,
        };
        self.moved = true;
        self.keys.insert(held.id, key.clone());
        self.due_at(epoch.instant);
        self.held.insert(key, held);
    }

    /// When something runs out, or is to be told.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// RFC 9132 §4.4.1.2: a lower mid that comes late does not replace a higher one of its kind, and another client's target
    /// is its own while it is protected.
    fn conflict(&self, (cuid, mid): &(Cuid, Mid), protected: &Scope) -> Option<Outcome> {
        let preconfigured = is_preconfigured(protected);
        let (other, held) = self.held.iter().find(|((other_cuid, other_mid), held)| {
            if held.terminates.is_some() || !held.overlaps(protected) {
                return false;
            }
            if other_cuid == cuid {
                held.is_preconfigured() == preconfigured && other_mid > mid
            } else {
                held.applied && !preconfigured
            }
        })?;
        let same_client = other.0 == *cuid;
        let information = ConflictInformation {
            conflict_status: Some(ConflictStatus::RequestInactiveOtherActive),
            conflict_cause: Some(ConflictCause::OverlappingTargets),
            conflict_scope: Some(ConflictScope {
                // Another client's mid is none of this one's business.
                mid: same_client.then_some(other.1),
                target_prefix: if same_client {
                    Vec::new()
                } else {
                    protected.target_prefix.clone()
                },
                ..ConflictScope::default()
            }),
            retry_timer: held
                .expires
                .and(held.scope.lifetime)
                .and_then(|lifetime| u32::try_from(lifetime.number()).ok()),
        };
        let body = Mitigation::single(Scope {
            mid: Some(*mid),
            conflict_information: Some(information),
            ..Scope::default()
        });
        Some(Outcome::Answer(Code::CONFLICT, Box::new(body)))
    }

    /// A higher mid replaces the lower ones of its kind that it overlaps; they are deleted (RFC 9132 §4.4.1.2), terminating
    /// ones too, and what its own mid stood for before. Returns how long the new one will be terminating.
    fn end_overlapping(
        &mut self,
        now: Instant,
        (cuid, mid): &(Cuid, Mid),
        protected: &Scope,
        policy: &ServerPolicy,
        mitigator: &mut dyn Mitigator,
    ) -> Duration {
        let preconfigured = is_preconfigured(protected);
        let overlapped: Vec<(Cuid, Mid)> = self
            .held
            .range((cuid.clone(), Mid(0))..=(cuid.clone(), *mid))
            .filter(|((_, other), held)| {
                other == mid
                    || (held.is_preconfigured() == preconfigured && held.overlaps(protected))
            })
            .map(|(key, _)| key.clone())
            .collect();
        let mut terminating = policy.terminating;
        for key in overlapped {
            let Some(mut held) = self.remove(now, &key, mitigator) else {
                continue;
            };
            if held.terminates.is_some() {
                let doubled = (held.terminating * 2).min(MAX_TERMINATING);
                terminating = terminating.max(doubled);
            }
            held.status = MitigationStatus::AttackMitigationTerminated;
            if key.1 != *mid {
                self.ended.push((key, held));
            }
        }
        terminating
    }

    fn next_id(&mut self) -> MitigationId {
        self.next += 1;
        MitigationId(self.next)
    }

    /// A row has changed: it is to be written, and looked at.
    fn touch(&mut self, now: Instant, key: &(Cuid, Mid)) {
        self.moved = true;
        self.changed
            .insert(RowKey::Mitigation(key.0.clone(), key.1));
        self.due_at(now);
    }

    fn due_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

/// An indefinite lifetime is cut to the longest that is granted; the response says so.
fn granted(asked: Option<Lifetime>, most: Duration) -> Lifetime {
    let most = u32::try_from(most.as_secs()).unwrap_or(u32::MAX);
    match asked {
        Some(Lifetime::Seconds(seconds)) => Lifetime::Seconds(seconds.min(most)),
        Some(Lifetime::Indefinite) | None => Lifetime::Seconds(most),
    }
}

fn accepted(mid: Mid, lifetime: Lifetime) -> Mitigation {
    Mitigation::single(Scope {
        mid: Some(mid),
        lifetime: Some(lifetime),
        ..Scope::default()
    })
}
