//! What the server says of mitigations: notifications, answers to GET, and the list of all it knows of us.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;
use weir_attack_event::{AttackId, MitigationReport, MitigationStatus};
use weir_dots_proto::Mid;
use weir_dots_proto::body::{Body, Lifetime, Mitigation, Scope};
use weir_dots_proto::coap::Code;

use super::answers::{AFTER_REDIRECT, Answer};
use super::mitigation::Phase;
use super::{AFTER_SILENCE, Audit, Client, Purpose};
use crate::command::{ClientNotice, ends_with_lifetime};
use crate::request::delete_mitigation;

impl Client {
    /// Takes in the state of one or more mitigations.
    pub(super) fn handle_reports(&mut self, now: Instant, body: &Value) {
        match Mitigation::from_json(body) {
            Ok(mitigation) => {
                for scope in &mitigation.scope {
                    self.handle_scope(now, scope);
                }
            }
            Err(_) => self.counters.unreadable += 1,
        }
    }

    fn handle_scope(&mut self, now: Instant, scope: &Scope) {
        let interval = self.check_interval;
        let Some(mid) = scope.mid else { return };
        let Some(held) = self.mitigations.get_mut(&mid).filter(|held| held.is_open()) else {
            return;
        };
        if held.observed {
            held.check_at = Some(now + interval);
        }
        let attack = held.attack.clone();
        let report = self.report(mid, &attack, scope, scope.lifetime);
        let over = is_over(report.status);
        if !self.is_superseded(mid, &attack) {
            self.notify(ClientNotice::Status(report));
        }
        if over {
            self.forget(mid);
        } else {
            self.note_lifetime(now, mid, scope.lifetime);
        }
    }

    /// Takes in all that the server knows of us: after a restart or a new transport, and after withdrawals.
    pub(super) fn handle_list(&mut self, now: Instant, answer: &Answer) {
        let known = match (answer.code, &answer.body) {
            (Code::NOT_FOUND, _) => Vec::new(),
            (code, Some(body)) if code.is_success() => match Mitigation::from_json(body) {
                Ok(mitigation) => mitigation.scope,
                Err(_) => {
                    self.counters.unreadable += 1;
                    self.audit = Audit::Due(Some(now + AFTER_SILENCE));
                    return;
                }
            },
            (_, Some(_)) if answer.alternate().is_some() => {
                self.audit = Audit::Due(Some(now + AFTER_REDIRECT));
                self.refuse_waiting(answer);
                return;
            }
            (code, _) if code.class() == 5 => {
                let wait = answer.max_age.unwrap_or(5).clamp(1, 60);
                self.audit = Audit::Due(Some(now + std::time::Duration::from_secs(wait.into())));
                return;
            }
            // A server that lists nothing to us: the PUT of a mid that it knows is a refresh.
            (code, _) => {
                tracing::warn!(upstream = &*self.upstream, %code, "no list of mitigations");
                self.audit = Audit::Done(None);
                return;
            }
        };
        self.audit = Audit::Done(None);
        let known: BTreeMap<Mid, Scope> = known
            .into_iter()
            .filter_map(|scope| Some((scope.mid?, scope)))
            .collect();
        self.compare(now, &known);
    }

    fn compare(&mut self, now: Instant, known: &BTreeMap<Mid, Scope>) {
        for (mid, scope) in known {
            if self.mitigations.contains_key(mid) {
                self.compare_known(now, *mid, scope);
            } else if !scope.status.is_some_and(|status| is_over(local(status))) {
                self.handle_orphan(now, *mid);
            }
        }
        let unknown: Vec<Mid> = self
            .mitigations
            .keys()
            .filter(|mid| !known.contains_key(mid))
            .copied()
            .collect();
        for mid in unknown {
            let Some(held) = self
                .mitigations
                .get_mut(&mid)
                .filter(|held| held.put.is_none())
            else {
                continue;
            };
            if held.is_open() && held.was_granted && ends_with_lifetime(&held.attack) {
                self.forget_ended(mid);
            } else if held.phase == Phase::Active {
                held.phase = Phase::Asking;
            }
        }
        // Of two mitigations for one attack the server has seen, the higher stands.
        let standing: Vec<(Mid, AttackId)> = self
            .mitigations
            .iter()
            .filter(|(_, held)| held.phase == Phase::Active)
            .map(|(mid, held)| (*mid, held.attack.clone()))
            .collect();
        for (mid, attack) in standing {
            self.withdraw_replaced(mid, &attack);
        }
    }

    fn compare_known(&mut self, now: Instant, mid: Mid, scope: &Scope) {
        let Some(held) = self.mitigations.get_mut(&mid).filter(|held| held.is_open()) else {
            return;
        };
        let over = scope.status.is_some_and(|status| is_over(local(status)));
        match held.phase {
            Phase::Asking if held.put.is_some() => {}
            Phase::Asking if !over => {
                held.granted(now, scope.lifetime.unwrap_or(held.lifetime));
                held.check_at = Some(now);
                held.observed = false;
                let attack = held.attack.clone();
                let report = self.report(mid, &attack, scope, scope.lifetime);
                self.notify(ClientNotice::Granted(report));
            }
            _ => self.handle_scope(now, scope),
        }
    }

    /// The lifetime that an operator gave is over.
    pub(super) fn forget_ended(&mut self, mid: Mid) {
        let Some(attack) = self.mitigations.get(&mid).map(|held| held.attack.clone()) else {
            return;
        };
        self.forget(mid);
        self.notify(ClientNotice::Withdrawn {
            attack,
            upstream: self.upstream.clone(),
            mid: mid.0,
        });
    }

    /// A mitigation of ours that nobody here knows: it protects nothing that anyone watches.
    fn handle_orphan(&mut self, now: Instant, mid: Mid) {
        self.counters.orphans += 1;
        if self.last_mid < Some(mid.0) {
            self.last_mid = Some(mid.0);
            self.persist_identifiers();
        }
        let upstream = self.upstream.clone();
        self.notify(ClientNotice::Orphan {
            upstream,
            mid: mid.0,
        });
        if self.session.room() == 0 {
            // The next list names it again.
            self.audit_at(now + AFTER_SILENCE);
            return;
        }
        let request = delete_mitigation(&self.cuid, mid);
        self.send(now, request, Purpose::DeleteOrphan(mid));
    }

    pub(super) fn report(
        &self,
        mid: Mid,
        attack: &AttackId,
        scope: &Scope,
        lifetime: Option<Lifetime>,
    ) -> MitigationReport {
        let status = scope
            .status
            .map_or(MitigationStatus::AttackMitigationInProgress, local);
        MitigationReport {
            attack: attack.clone(),
            upstream: self.upstream.clone(),
            mid: mid.0,
            status,
            bytes_dropped_per_second: scope.bps_dropped,
            packets_dropped_per_second: scope.pps_dropped,
            bytes_dropped: scope.bytes_dropped,
            packets_dropped: scope.pkts_dropped,
            lifetime: lifetime
                .and_then(Lifetime::duration)
                .map(|left| u32::try_from(left.as_secs()).unwrap_or(u32::MAX)),
        }
    }
}

fn local(status: weir_dots_proto::body::MitigationStatus) -> MitigationStatus {
    // Both enumerations are RFC 9132's Table 3.
    MitigationStatus::from_number(status.number())
        .unwrap_or(MitigationStatus::AttackMitigationInProgress)
}

/// Whether nothing is filtered any more, or soon: withdrawn or terminated.
fn is_over(status: MitigationStatus) -> bool {
    matches!(
        status,
        MitigationStatus::DotsClientWithdrawnMitigation
            | MitigationStatus::AttackMitigationTerminated
            | MitigationStatus::AttackMitigationWithdrawn
    )
}
