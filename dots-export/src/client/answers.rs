//! What the server's answers change.

use std::time::{Duration, Instant};

use serde_json::Value;
use weir_attack_event::AttackId;
use weir_dots_proto::body::{Body, ConflictCause, Lifetime, Mitigation, Scope};
use weir_dots_proto::client::RequestId;
use weir_dots_proto::coap::Code;
use weir_dots_proto::{Mid, Tmid};

use super::journal::SavedState;
use super::mitigation::Phase;
use super::{AFTER_SILENCE, AUDIT_AFTER, Audit, Client, MAX_RETRIES, Purpose};
use crate::command::{ClientNotice, ends_with_lifetime};

/// How often another cuid is tried.
const MAX_COLLISIONS: u32 = 8;
/// Where 5.03 states no Max-Age, its default counts (RFC 7252 §5.10.5).
const DEFAULT_MAX_AGE: u32 = 60;

/// A server whose redirection is ignored is asked again after this.
pub(super) const AFTER_REDIRECT: Duration = Duration::from_secs(60);

/// An answer to a request.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) code: Code,
    pub(super) body: Option<Value>,
    pub(super) diagnostic: Option<String>,
    pub(super) max_age: Option<u32>,
}

impl Answer {
    fn scope(&self) -> Option<Scope> {
        let body = self.body.as_ref()?;
        Mitigation::from_json(body).ok()?.scope.into_iter().next()
    }

    /// When the request may be made again; `None`: never.
    pub(super) fn retry_in(&self) -> Option<Duration> {
        match self.code {
            Code::CONFLICT => {
                let conflict = self.scope()?.conflict_information?;
                let timer = conflict.retry_timer.filter(|timer| *timer > 0)?;
                // Another client with our cuid will not go away by waiting.
                (conflict.conflict_cause != Some(ConflictCause::CuidCollision))
                    .then(|| Duration::from_secs(timer.into()))
            }
            // Its Max-Age is about the other server.
            Code::SERVICE_UNAVAILABLE if self.alternate().is_some() => Some(AFTER_REDIRECT),
            code if code.class() == 5 => {
                let seconds = self.max_age.unwrap_or(DEFAULT_MAX_AGE);
                Some(Duration::from_secs(seconds.clamp(1, 3600).into()))
            }
            _ => None,
        }
    }

    /// Whether another client has our cuid.
    fn is_cuid_collision(&self) -> bool {
        let conflict = self.scope().and_then(|scope| scope.conflict_information);
        self.code == Code::CONFLICT
            && conflict.and_then(|one| one.conflict_cause) == Some(ConflictCause::CuidCollision)
    }

    /// The server's words, or what the body of a conflict says.
    pub(super) fn words(&self) -> String {
        if let Some(text) = &self.diagnostic {
            return text.clone();
        }
        let conflict = self.scope().and_then(|scope| scope.conflict_information);
        match conflict.and_then(|conflict| conflict.conflict_cause) {
            Some(cause) => cause.name().to_owned(),
            None => String::new(),
        }
    }
}

impl Client {
    pub(super) fn handle_answer(&mut self, now: Instant, purpose: Purpose, answer: &Answer) {
        if !answer.code.is_success() {
            self.counters.refused += 1;
        }
        if self.take_redirect(now, answer) {
            return self.ask_again(now, purpose);
        }
        match purpose {
            Purpose::Put(mid) => self.handle_put(now, mid, answer),
            Purpose::Observe(mid) => self.handle_observed(now, mid, answer),
            Purpose::Delete(mid) => self.handle_deleted(now, mid, answer),
            Purpose::DeleteOrphan(_) => {}
            Purpose::List => self.handle_list(now, answer),
            Purpose::Tell(attack, tmid) => self.handle_told(now, attack, tmid, answer),
            Purpose::Forget(attack, tmid) => self.handle_forgotten(now, &attack, tmid, answer),
            Purpose::SetupOffer => self.handle_setup_offer(answer),
            Purpose::ConfigOffer => self.handle_config_offer(now, answer),
            Purpose::Config(sid) => self.handle_config_answer(now, sid, answer),
            Purpose::Efficacy(mid) => self.handle_efficacy_answer(now, mid, answer),
            Purpose::Setup(name, tsid) => self.handle_setup_answer(now, &name, tsid, answer),
            Purpose::Subscribe(tmid) => self.handle_subscribed(now, tmid, answer),
            Purpose::Watch(tmid) => self.handle_watched(now, tmid, answer),
            Purpose::DeleteSetup(name) => self.handle_setup_deleted(now, &name, answer),
        }
    }

    /// The session gave a request up; the server may have got it.
    pub(super) fn handle_silence(&mut self, now: Instant, id: RequestId, purpose: Purpose) {
        if let Purpose::Tell(attack, _) = &purpose
            && self
                .telemetry
                .get(attack)
                .is_none_or(|told| told.put != Some(id))
        {
            // A newer message took its place.
            return;
        }
        self.counters.unanswered += 1;
        self.wants_session |= self.connected;
        self.ask_again(now, purpose);
    }

    /// A request is to be made once more, over this session or the next.
    fn ask_again(&mut self, now: Instant, purpose: Purpose) {
        match purpose {
            Purpose::Put(mid) => {
                let Some(held) = self.mitigations.get_mut(&mid) else {
                    return;
                };
                held.put = None;
                held.hold_back(now, AFTER_SILENCE);
                held.uncertain |= held.phase == Phase::Asking;
            }
            Purpose::Observe(mid) => {
                if let Some(held) = self.mitigations.get_mut(&mid) {
                    held.get = None;
                    held.check_at = Some(now + AFTER_SILENCE);
                }
            }
            Purpose::Delete(mid) => {
                if let Some(held) = self.mitigations.get_mut(&mid) {
                    held.delete = None;
                    held.hold_back(now, AFTER_SILENCE);
                }
            }
            Purpose::DeleteOrphan(_) => self.audit_at(now + AFTER_SILENCE),
            Purpose::List => {
                // Nothing that the server may know already is asked for before it has answered.
                self.audit = Audit::Due(Some(now + AFTER_SILENCE));
            }
            Purpose::Tell(attack, tmid) => {
                let told = self.telemetry.get_mut(&attack);
                if let Some(told) = told.filter(|told| told.tmid == tmid) {
                    told.put = None;
                    told.answered = false;
                    told.pending = told.pending.take().or_else(|| told.sent.take());
                    told.retry_at = Some(now + AFTER_SILENCE);
                }
            }
            Purpose::Forget(attack, _) => {
                if let Some(told) = self.telemetry.get_mut(&attack) {
                    told.forget_at = Some(now + AFTER_SILENCE);
                }
            }
            Purpose::ConfigOffer | Purpose::Config(_) => self.handle_config_silence(now),
            Purpose::Efficacy(mid) => self.handle_efficacy_silence(now, mid),
            Purpose::Subscribe(_) | Purpose::Watch(_) => self.handle_watch_silence(now, &purpose),
            Purpose::SetupOffer | Purpose::Setup(..) | Purpose::DeleteSetup(_) => {
                self.handle_setup_silence(now, &purpose);
            }
        }
    }

    fn handle_put(&mut self, now: Instant, mid: Mid, answer: &Answer) {
        let Some(held) = self.mitigations.get_mut(&mid) else {
            return;
        };
        held.put = None;
        if answer.code.is_success() {
            self.handle_granted(now, mid, answer);
            return;
        }
        if answer.is_cuid_collision() && self.take_new_cuid() {
            // The same request, under another name (RFC 9132 §4.4.1.2).
            return;
        }
        if self.take_refused_switches(now, mid, answer) {
            return;
        }
        let Some(held) = self.mitigations.get_mut(&mid) else {
            return;
        };
        let refreshed = held.phase == Phase::Active;
        let retry_in = answer.retry_in().filter(|_| held.refusals < MAX_RETRIES);
        held.refusals += 1;
        if let Some(wait) = retry_in {
            held.hold_back(now, wait);
            // A 5.xx of a server in trouble says nothing about what it has done.
            held.uncertain |= answer.code.class() == 5;
        }
        if !held.is_open() {
            return;
        }
        held.silent_at = None;
        let attack = held.attack.clone();
        if self.is_superseded(mid, &attack) {
            self.withdraw(mid);
            return;
        }
        self.notify(ClientNotice::Refused {
            attack,
            upstream: self.upstream.clone(),
            mid: mid.0,
            code: answer.code.to_string(),
            diagnostic: answer.words(),
            retry_in,
        });
        if retry_in.is_some() {
            return;
        }
        if refreshed {
            // What the server granted before may still stand.
            self.withdraw(mid);
        } else {
            self.forget(mid);
        }
    }

    /// Takes another cuid where the server knows ours as another client's. It does not change while mitigations stand under it
    /// (RFC 9132 §4.4.1.1), and not for ever.
    fn take_new_cuid(&mut self) -> bool {
        let stands = self.mitigations.values().any(|held| held.was_granted);
        let Some(cuid) = self
            .cuid
            .following()
            .filter(|_| !stands && self.collisions < MAX_COLLISIONS)
        else {
            return false;
        };
        self.collisions += 1;
        tracing::warn!(upstream = &*self.upstream, old = %self.cuid, new = %cuid, "another client has our cuid");
        self.cuid = cuid;
        self.persist_identifiers();
        true
    }

    fn handle_granted(&mut self, now: Instant, mid: Mid, answer: &Answer) {
        let granted = answer.scope();
        let Some(held) = self.mitigations.get_mut(&mid) else {
            return;
        };
        held.refusals = 0;
        held.retry_at = None;
        if !held.is_open() {
            return;
        }
        let first = held.phase == Phase::Asking;
        let saved =
            (first && !std::mem::replace(&mut held.was_granted, true)).then(|| held.saved(mid));
        let lifetime = granted
            .as_ref()
            .and_then(|scope| scope.lifetime)
            .unwrap_or(held.lifetime);
        held.granted(now, lifetime);
        if !first {
            return;
        }
        held.check_at = Some(now);
        held.observed = false;
        let attack = held.attack.clone();
        if let Some(saved) = saved {
            self.persist(saved);
        }
        let report = self.report(mid, &attack, &granted.unwrap_or_default(), Some(lifetime));
        self.notify(ClientNotice::Granted(report));
        self.note_switched(mid);
        self.withdraw_replaced(mid, &attack);
    }

    /// Of two mitigations for one attack the higher replaces the lower (RFC 9132 §4.4.1.2).
    pub(super) fn withdraw_replaced(&mut self, mid: Mid, attack: &AttackId) {
        let lower: Vec<Mid> = self.mids_of(attack).filter(|other| *other < mid).collect();
        for other in lower {
            self.withdraw(other);
        }
    }

    fn handle_observed(&mut self, now: Instant, mid: Mid, answer: &Answer) {
        let interval = self.check_interval;
        let Some(held) = self.mitigations.get_mut(&mid) else {
            return;
        };
        held.get = None;
        held.check_at = Some(now + interval);
        if answer.code == Code::NOT_FOUND && held.phase == Phase::Active {
            if ends_with_lifetime(&held.attack) {
                self.forget_ended(mid);
                return;
            }
            // The server lost it: the same request under the same mid makes no second mitigation.
            held.phase = Phase::Asking;
            held.refusals += 1;
            held.hold_back(now, AFTER_SILENCE * held.refusals.min(15));
            return;
        }
        if answer.code.is_success() {
            held.observed = true;
            match &answer.body {
                Some(body) => self.handle_reports(now, body),
                None => self.counters.unreadable += 1,
            }
        }
    }

    fn handle_deleted(&mut self, now: Instant, mid: Mid, answer: &Answer) {
        let Some(held) = self.mitigations.get_mut(&mid) else {
            return;
        };
        held.delete = None;
        if let Some(wait) = answer.retry_in().filter(|_| held.refusals < MAX_RETRIES) {
            held.refusals += 1;
            held.hold_back(now, wait);
            return;
        }
        let attack = held.attack.clone();
        self.forget(mid);
        if !answer.code.is_success() && answer.code != Code::NOT_FOUND {
            let (code, words) = (answer.code, answer.words());
            tracing::error!(upstream = &*self.upstream, %mid, %code, words, "withdrawal refused");
        }
        self.audit_at(now + AUDIT_AFTER);
        self.notify(ClientNotice::Withdrawn {
            attack,
            upstream: self.upstream.clone(),
            mid: mid.0,
        });
    }

    fn handle_told(&mut self, now: Instant, attack: AttackId, tmid: Tmid, answer: &Answer) {
        let told = self.telemetry.get_mut(&attack);
        let Some(told) = told.filter(|told| told.tmid == tmid) else {
            return;
        };
        told.put = None;
        let sent = told.sent.take();
        if answer.code.is_success() {
            told.refusals = 0;
            told.answered = true;
            self.notify(ClientNotice::Told {
                attack: attack.clone(),
                upstream: self.upstream.clone(),
                tmid: tmid.0,
            });
        } else if let Some(wait) = answer.retry_in().filter(|_| told.refusals < MAX_RETRIES) {
            told.refusals += 1;
            told.pending = told.pending.take().or(sent);
            told.retry_at = Some(now + wait);
            return;
        } else {
            let (code, words) = (answer.code, answer.words());
            tracing::warn!(upstream = &*self.upstream, %tmid, %code, words, "telemetry refused");
        }
        let Some(told) = self.telemetry.get(&attack) else {
            return;
        };
        if told.ended && told.pending.is_none() {
            // The server keeps it, with its end, as long as it keeps history.
            self.telemetry.remove(&attack);
            self.persist(SavedState::NoTelemetry { attack });
        }
    }

    /// Asks once more what the server knows, then or when that is due anyway.
    pub(super) fn audit_at(&mut self, at: Instant) {
        if let Audit::Done(next) = &mut self.audit {
            *next = Some(next.map_or(at, |next| next.min(at)));
        }
    }

    /// Notes what is left of a lifetime.
    pub(super) fn note_lifetime(&mut self, now: Instant, mid: Mid, lifetime: Option<Lifetime>) {
        if let (Some(held), Some(lifetime)) = (self.mitigations.get_mut(&mid), lifetime) {
            held.left(now, lifetime);
        }
    }
}
