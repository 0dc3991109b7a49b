//! What the server says of mitigations: notifications, answers to GET, and the list of all it knows of us.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_attack_event::{AttackId, MitigationReport, MitigationStatus};
use weir_dots_proto::Mid;
use weir_dots_proto::body::{
    Body, ConflictCause, ConflictInformation, Lifetime, Mitigation, Scope, UnitClass,
};
use weir_dots_proto::coap::Code;

use super::answers::{AFTER_REDIRECT, Answer};
use super::mitigation::Phase;
use super::{AFTER_SILENCE, Audit, Client, Purpose};
use crate::command::{ClientNotice, ends_with_lifetime};
use crate::request::delete_mitigation;

/// A rate over less time would be one of two words that came together.
const LEAST_SPAN: Duration = Duration::from_secs(1);

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
        let accepting = accepting(scope);
        let news = held.accepting != accepting;
        held.accepting.clone_from(&accepting);
        let rates = Dropped::note(&mut held.dropped, now, scope);
        let attack = held.attack.clone();
        if news && !accepting.is_empty() {
            self.notify(ClientNotice::Accepting {
                attack: attack.clone(),
                upstream: self.upstream.clone(),
                filters: accepting,
            });
        }
        let mut report = self.report(mid, &attack, scope, scope.lifetime);
        if let Some((bytes, packets)) = rates {
            report.bytes_dropped_per_second = Some(bytes);
            report.packets_dropped_per_second = Some(packets);
        }
        let over = is_over(report.status);
        if !self.is_superseded(mid, &attack) {
            self.notify(ClientNotice::Status(report));
        } else if over {
            // The request that takes its place is under way: nobody else would hear that it is gone.
            self.notify(ClientNotice::Withdrawn {
                attack,
                upstream: self.upstream.clone(),
                mid: mid.0,
            });
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
                self.note_switched(mid);
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
            attack_bits_per_second: seen_attack(scope),
            lifetime: lifetime
                .and_then(Lifetime::duration)
                .map(|left| u32::try_from(left.as_secs()).unwrap_or(u32::MAX)),
        }
    }
}

/// The attack's bits per second as its server sees them, where a status says so (RFC 9244 §9.2).
fn seen_attack(scope: &Scope) -> Option<u64> {
    scope.total_attack_traffic.iter().find_map(|traffic| {
        let bits = match traffic.unit.class() {
            UnitClass::BitPs => 1,
            UnitClass::BytePs => 8,
            UnitClass::PacketPs => return None,
        };
        let value = traffic.current_g.or(traffic.mid_percentile_g)?;
        let rate = u128::from(value).saturating_mul(traffic.unit.factor());
        Some(u64::try_from(rate.saturating_mul(bits)).unwrap_or(u64::MAX))
    })
}

/// What a mitigation had dropped when its server last said so, and how much that was a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropped {
    at: Instant,
    bytes: u64,
    packets: u64,
    rates: Option<(u64, u64)>,
}

impl Dropped {
    /// Octets and packets per second since the words before; `None` where there were none, and the server's own figures have to do.
    /// Those are averages over all the time since the mitigation was triggered (RFC 9132 §4.4.2), which say of a long attack only
    /// late that it is over.
    fn note(last: &mut Option<Self>, now: Instant, scope: &Scope) -> Option<(u64, u64)> {
        let (bytes, packets) = (scope.bytes_dropped?, scope.pkts_dropped?);
        let Some(before) = last.filter(|last| last.bytes <= bytes && last.packets <= packets)
        else {
            *last = Some(Self {
                at: now,
                bytes,
                packets,
                rates: None,
            });
            return None;
        };
        let elapsed = now.saturating_duration_since(before.at);
        if elapsed < LEAST_SPAN {
            return before.rates;
        }
        let rate = |new: u64, old: u64| {
            let rate = u128::from(new - old) * 1_000_000 / elapsed.as_micros().max(1);
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        let rates = Some((rate(bytes, before.bytes), rate(packets, before.packets)));
        *last = Some(Self {
            at: now,
            bytes,
            packets,
            rates,
        });
        rates
    }
}

/// Filters of ours that let attack traffic through, as the server says (RFC 9132 §4.4.1.3, conflict-cause 2).
fn accepting(scope: &Scope) -> Vec<String> {
    let conflict = scope.conflict_information.as_ref();
    let by_list = |conflict: &&ConflictInformation| {
        conflict.conflict_cause == Some(ConflictCause::ConflictWithAcceptlist)
    };
    let lists = conflict.filter(by_list).and_then(|conflict| {
        let scope = conflict.conflict_scope.as_ref()?;
        Some(scope.acl_list.iter().map(|acl| acl.acl_name.clone()))
    });
    lists.into_iter().flatten().collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between_two_words() {
        let began = Instant::now();
        let mut last = None;
        let mut note = |millis: u64, bytes: u64, packets: u64| {
            let scope = Scope {
                bytes_dropped: Some(bytes),
                pkts_dropped: Some(packets),
                ..Scope::default()
            };
            Dropped::note(&mut last, began + Duration::from_millis(millis), &scope)
        };
        assert_eq!(note(0, 1_000, 10), None);
        assert_eq!(note(500, 9_000, 90), None, "too soon to tell");
        assert_eq!(note(2_000, 9_000, 90), Some((4_000, 40)));
        assert_eq!(note(2_500, 9_000, 90), Some((4_000, 40)));
        assert_eq!(note(12_000, 9_000, 90), Some((0, 0)));
        assert_eq!(note(13_000, 5, 1), None, "the server counts anew");
    }

    #[test]
    fn the_servers_view_of_the_attack_is_read_from_its_status() {
        use weir_dots_proto::body::{Gauges, Traffic};
        let gauges = Gauges {
            current_g: Some(4_000_000_000),
            ..Gauges::default()
        };
        let mut scope = Scope::default();
        assert_eq!(seen_attack(&scope), None);
        scope.total_attack_traffic = vec![Traffic::in_packets(&gauges), Traffic::in_bits(&gauges)];
        assert_eq!(seen_attack(&scope), Some(4_000_000_000));
    }
}
