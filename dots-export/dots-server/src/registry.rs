//! The mitigations of all clients: who holds what, for how long, and what became of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use weir_dots_proto::body::{
    Body, ConflictCause, ConflictInformation, ConflictScope, ConflictStatus, Lifetime, Mitigation,
    MitigationStatus, Scope,
};
use weir_dots_proto::cbor::MAX_BODY;
use weir_dots_proto::coap::Code;
use weir_dots_proto::{Cuid, Mid};

use crate::mitigator::{MitigationId, MitigatorReport};
use crate::saved::{Changed, Epoch, RowKey, SavedRow};
use crate::{Mitigator, ServerPolicy};

/// A client that asks again while its mitigation terminates doubles the next such time, up to this (RFC 9132 §4.4.4).
const MAX_TERMINATING: Duration = Duration::from_secs(300);

/// Octets by which counters and times of a mitigation may grow in an answer to a GET.
const GROWTH: usize = 64;

/// A mitigation from before a restart; times in seconds since the epoch.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) scope: Scope,
    pub(crate) began: u64,
    pub(crate) expires: Option<u64>,
    pub(crate) terminates: Option<u64>,
    pub(crate) terminating: u64,
}

/// One mitigation.
#[derive(Debug)]
struct Held {
    id: MitigationId,
    scope: Scope,
    expires: Option<Instant>,
    /// Seconds since the epoch.
    began: u64,
    status: MitigationStatus,
    report: Option<MitigatorReport>,
    terminates: Option<Instant>,
    /// How long it will be active but terminating.
    terminating: Duration,
    /// Told nobody yet, or not told since its newest report.
    news: bool,
    status_news: bool,
    told: Instant,
}

/// Mitigations by client and mid.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    held: BTreeMap<(Cuid, Mid), Held>,
    /// Replaced mitigations, whose observers are not told yet.
    replaced: Vec<((Cuid, Mid), Held)>,
    changed: Changed,
    next: u64,
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
    /// A request that has passed the checks of its body and of the client's prefixes.
    pub(crate) fn put(
        &mut self,
        now: Instant,
        unix: u64,
        (cuid, mid): (&Cuid, Mid),
        scope: Scope,
        policy: &ServerPolicy,
        mitigator: &mut dyn Mitigator,
    ) -> Outcome {
        let key = (cuid.clone(), mid);
        let lifetime = granted(scope.lifetime, policy.max_lifetime);
        let expires = lifetime.duration().map(|duration| now + duration);
        if let Some(held) = self
            .held
            .get_mut(&key)
            .filter(|held| held.terminates.is_none())
        {
            if !same_but_lifetime(&held.scope, &scope) {
                return Outcome::Refused(
                    Code::BAD_REQUEST,
                    "a refresh changes the lifetime alone".to_owned(),
                );
            }
            held.expires = expires;
            held.scope.lifetime = Some(lifetime);
            self.changed.insert(RowKey::Mitigation(key.0, key.1));
            return Outcome::Answer(Code::CHANGED, Box::new(accepted(mid, lifetime)));
        }
        if let Some(conflict) = self.conflict(&key, &scope) {
            return conflict;
        }
        if !self.has_room(now, &key, &scope, policy.max_mitigations) {
            return Outcome::Refused(
                Code::SERVICE_UNAVAILABLE,
                "too many mitigations of this client".to_owned(),
            );
        }
        self.next += 1;
        let id = MitigationId(self.next);
        // The new one filters before the old ones end: no gap for the attack.
        mitigator.apply(id, &scope);
        let terminating = self.end_overlapping(&key, &scope, policy, mitigator);
        let held = Held {
            id,
            scope: Scope {
                lifetime: Some(lifetime),
                ..scope
            },
            expires,
            began: unix,
            status: MitigationStatus::AttackMitigationInProgress,
            report: None,
            terminates: None,
            terminating,
            news: false,
            status_news: false,
            told: now,
        };
        self.changed.insert(RowKey::Mitigation(key.0.clone(), mid));
        self.held.insert(key, held);
        Outcome::Answer(Code::CREATED, Box::new(accepted(mid, lifetime)))
    }

    /// An efficacy update counts as a refresh (RFC 9132 §4.4.3).
    pub(crate) fn efficacy(
        &mut self,
        now: Instant,
        key: (Cuid, Mid),
        scope: &Scope,
        policy: &ServerPolicy,
    ) -> Outcome {
        let Some(held) = self
            .held
            .get_mut(&key)
            .filter(|held| held.terminates.is_none())
        else {
            return Outcome::Ignored;
        };
        if !same_but_lifetime(&held.scope, scope) {
            return Outcome::Refused(
                Code::BAD_REQUEST,
                "an efficacy update repeats its request".to_owned(),
            );
        }
        let lifetime = granted(scope.lifetime.or(held.scope.lifetime), policy.max_lifetime);
        held.scope.lifetime = Some(lifetime);
        held.expires = lifetime.duration().map(|duration| now + duration);
        self.changed.insert(RowKey::Mitigation(key.0, key.1));
        Outcome::Changed
    }

    /// Ends a mitigation: active but terminating for a while (RFC 9132 §4.4.4). What is not there is gone already: 2.02.
    pub(crate) fn delete(&mut self, now: Instant, key: &(Cuid, Mid)) {
        if let Some(held) = self.held.get_mut(key) {
            terminate(held, now);
            self.changed
                .insert(RowKey::Mitigation(key.0.clone(), key.1));
        }
    }

    /// Whether the client holds a mitigation of that mid.
    pub(crate) fn contains(&self, cuid: &Cuid, mid: Mid) -> bool {
        self.held.contains_key(&(cuid.clone(), mid))
    }

    /// Whether the client holds any mitigation, be it a terminating one.
    pub(crate) fn holds_any(&self, cuid: &Cuid) -> bool {
        self.of_client(cuid).next().is_some()
    }

    fn of_client(&self, cuid: &Cuid) -> impl Iterator<Item = (&(Cuid, Mid), &Held)> {
        self.held
            .range((cuid.clone(), Mid(0))..=(cuid.clone(), Mid(u32::MAX)))
    }

    /// What the client holds: one, or all.
    pub(crate) fn get(&self, now: Instant, cuid: &Cuid, mid: Option<Mid>) -> Option<Mitigation> {
        let scope: Vec<Scope> = self
            .of_client(cuid)
            .filter(|((_, other), _)| mid.is_none_or(|mid| mid == *other))
            .map(|((_, mid), held)| told(*mid, held, now))
            .collect();
        (!scope.is_empty()).then_some(Mitigation { scope })
    }

    /// Whether any mitigation of the client is active: its session is under attack.
    pub(crate) fn is_mitigating(&self, cuid: &Cuid) -> bool {
        self.of_client(cuid)
            .any(|(_, held)| held.terminates.is_none())
    }

    /// Takes in what was measured. A mitigation that is ending keeps its status.
    pub(crate) fn handle_report(&mut self, report: &MitigatorReport) {
        let Some(held) = self.held.values_mut().find(|held| held.id == report.id) else {
            return;
        };
        held.news |= held.report != Some(*report);
        if held.terminates.is_none() && held.status != report.status {
            held.status = report.status;
            held.status_news = true;
        }
        held.report = Some(*report);
    }

    /// Ends what has run out, and returns which mitigations their observers must be told of now.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        policy: &ServerPolicy,
        mitigator: &mut dyn Mitigator,
    ) -> Vec<(Cuid, Mid, Mitigation)> {
        let mut news: Vec<(Cuid, Mid, Mitigation)> = std::mem::take(&mut self.replaced)
            .into_iter()
            .map(|((cuid, mid), held)| (cuid, mid, Mitigation::single(told(mid, &held, now))))
            .collect();
        let mut over = Vec::new();
        for (key, held) in &mut self.held {
            if held.terminates.is_none() && held.expires.is_some_and(|expires| expires <= now) {
                terminate(held, now);
                self.changed
                    .insert(RowKey::Mitigation(key.0.clone(), key.1));
            }
            if held.terminates.is_some_and(|terminates| terminates <= now) {
                held.status = MitigationStatus::AttackMitigationTerminated;
                held.status_news = true;
                over.push(key.clone());
            }
            let counters_due = held.news && now.duration_since(held.told) >= policy.notify_interval;
            if held.status_news || counters_due {
                held.news = false;
                held.status_news = false;
                held.told = now;
                news.push((
                    key.0.clone(),
                    key.1,
                    Mitigation {
                        scope: vec![told(key.1, held, now)],
                    },
                ));
            }
        }
        for key in over {
            if let Some(held) = self.held.remove(&key) {
                mitigator.withdraw(held.id);
                self.changed.insert(RowKey::Mitigation(key.0, key.1));
            }
        }
        news
    }

    /// Whether the client may hold one more mitigation: there are not too many, and all of them together are still an answer
    /// to a GET (a client that restarts asks for all). What the new one would replace does not count.
    fn has_room(
        &self,
        now: Instant,
        (cuid, mid): &(Cuid, Mid),
        scope: &Scope,
        most: usize,
    ) -> bool {
        let kept = self.of_client(cuid).filter(|((_, other), held)| {
            other > mid
                || (other != mid && !overlap(&held.scope.target_prefix, &scope.target_prefix))
        });
        let mut all: Vec<Scope> = kept.map(|((_, mid), held)| told(*mid, held, now)).collect();
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
            target_prefix: scope.target_prefix.clone(),
            target_port_range: scope.target_port_range.clone(),
            target_protocol: scope.target_protocol.clone(),
            ..Scope::default()
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
            began: held.began,
            expires: held.expires.map(|at| epoch.seconds_at(at)),
            terminates: held.terminates.map(|at| epoch.seconds_at(at)),
            terminating: held.terminating.as_secs(),
        })
    }

    /// Takes a mitigation back after a restart: it filters again.
    pub(crate) fn restore(
        &mut self,
        key: (Cuid, Mid),
        saved: Restored,
        epoch: &Epoch,
        mitigator: &mut dyn Mitigator,
    ) {
        self.next += 1;
        let id = MitigationId(self.next);
        mitigator.apply(id, &saved.scope);
        let status = match saved.terminates {
            Some(_) => MitigationStatus::DotsClientWithdrawnMitigation,
            None => MitigationStatus::AttackMitigationInProgress,
        };
        let held = Held {
            id,
            scope: saved.scope,
            expires: saved.expires.map(|at| epoch.instant_at(at)),
            began: saved.began,
            status,
            report: None,
            terminates: saved.terminates.map(|at| epoch.instant_at(at)),
            terminating: Duration::from_secs(saved.terminating),
            news: false,
            status_news: false,
            told: epoch.instant,
        };
        self.held.insert(key, held);
    }

    /// When something runs out, or a counter may be told again.
    pub(crate) fn poll_timeout(&self, policy: &ServerPolicy) -> Option<Instant> {
        self.held
            .values()
            .flat_map(|held| {
                let told = held.news.then(|| held.told + policy.notify_interval);
                [
                    held.terminates,
                    held.expires.filter(|_| held.terminates.is_none()),
                    told,
                ]
            })
            .flatten()
            .min()
    }

    /// RFC 9132 §4.4.1.3: a lower mid that comes late does not replace a higher one, and another client's target is its own.
    fn conflict(&self, (cuid, mid): &(Cuid, Mid), scope: &Scope) -> Option<Outcome> {
        let (other, held) = self.held.iter().find(|((other_cuid, other_mid), held)| {
            let active = held.terminates.is_none()
                && overlap(&held.scope.target_prefix, &scope.target_prefix);
            active && (other_cuid != cuid || other_mid > mid)
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
                    scope.target_prefix.clone()
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

    /// A higher mid replaces the lower ones that it overlaps; they are deleted (RFC 9132 §4.4.1.3), terminating ones too, and
    /// what its own mid stood for before. Returns how long the new one will be terminating.
    fn end_overlapping(
        &mut self,
        (cuid, mid): &(Cuid, Mid),
        scope: &Scope,
        policy: &ServerPolicy,
        mitigator: &mut dyn Mitigator,
    ) -> Duration {
        let mut terminating = policy.terminating;
        let ended = self.held.extract_if(
            (cuid.clone(), Mid(0))..=(cuid.clone(), *mid),
            |(_, other), held| {
                other == mid || overlap(&held.scope.target_prefix, &scope.target_prefix)
            },
        );
        for (key, mut held) in ended {
            mitigator.withdraw(held.id);
            self.changed
                .insert(RowKey::Mitigation(key.0.clone(), key.1));
            if held.terminates.is_some() {
                let doubled = (held.terminating * 2).min(MAX_TERMINATING);
                terminating = terminating.max(doubled);
            }
            held.status = MitigationStatus::AttackMitigationTerminated;
            if key.1 != *mid {
                self.replaced.push((key, held));
            }
        }
        terminating
    }
}

fn terminate(held: &mut Held, now: Instant) {
    if held.terminates.is_none() {
        held.terminates = Some(now + held.terminating);
        held.status = MitigationStatus::DotsClientWithdrawnMitigation;
        held.status_news = true;
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

fn same_but_lifetime(a: &Scope, b: &Scope) -> bool {
    let bare = |scope: &Scope| {
        let mut scope = Scope {
            lifetime: None,
            attack_status: None,
            // Telemetry that goes with a request is no part of its scope.
            total_traffic: Vec::new(),
            total_attack_traffic: Vec::new(),
            total_attack_connection: None,
            attack_detail: Vec::new(),
            ..scope.clone()
        };
        scope.target_prefix.sort();
        scope
    };
    bare(a) == bare(b)
}

/// Whether one prefix holds another.
pub(crate) fn overlap(a: &[IpNet], b: &[IpNet]) -> bool {
    a.iter()
        .any(|a| b.iter().any(|b| a.contains(b) || b.contains(a)))
}

/// A mitigation as a GET or a notification shows it (RFC 9132 §4.4.2).
fn told(mid: Mid, held: &Held, now: Instant) -> Scope {
    let left = held
        .expires
        .map(|expires| expires.saturating_duration_since(now).as_secs());
    let report = held.report.as_ref();
    Scope {
        mid: Some(mid),
        target_prefix: held.scope.target_prefix.clone(),
        target_port_range: held.scope.target_port_range.clone(),
        target_protocol: held.scope.target_protocol.clone(),
        mitigation_start: Some(held.began),
        lifetime: left.map(|seconds| Lifetime::Seconds(u32::try_from(seconds).unwrap_or(u32::MAX))),
        status: Some(held.status),
        bytes_dropped: Some(report.map_or(0, |report| report.bytes_dropped)),
        bps_dropped: Some(report.map_or(0, |report| report.bytes_per_second_dropped)),
        pkts_dropped: Some(report.map_or(0, |report| report.packets_dropped)),
        pps_dropped: Some(report.map_or(0, |report| report.packets_per_second_dropped)),
        ..Scope::default()
    }
}
