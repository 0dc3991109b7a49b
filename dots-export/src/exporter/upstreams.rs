//! What upstreams say, and what follows from it.

use std::sync::Arc;

use weir_attack_event::{AttackId, MitigationReport, MitigationStatus};
use weir_dots_proto::body::Scope;

use super::{Exporter, adopt};
use crate::command::{ClientNotice, is_operators};
use crate::decision::Action;
use crate::followed::Request;
use crate::scope::mitigation_scope;

impl Exporter {
    pub(super) fn take_notice(&mut self, notice: &ClientNotice) {
        match notice {
            ClientNotice::Held {
                upstream,
                attack,
                scope,
                ..
            } => self.handle_held(upstream, attack, scope),
            ClientNotice::Granted(report) => self.handle_granted(report),
            ClientNotice::Status(report) => self.handle_status(report),
            ClientNotice::Refused {
                attack,
                upstream,
                code,
                diagnostic,
                retry_in,
                ..
            } => {
                let why = format!("{code} {diagnostic}");
                self.decide(
                    Action::Refused,
                    Some(attack),
                    Some(upstream),
                    &[],
                    why.as_str(),
                );
                self.fall_back(attack, upstream, &why, retry_in.is_some());
            }
            ClientNotice::Unreachable { attack, upstream } => {
                let why = "no answer";
                self.decide(Action::Unreachable, Some(attack), Some(upstream), &[], why);
                self.fall_back(attack, upstream, why, true);
            }
            ClientNotice::Switched {
                attack,
                upstream,
                filters,
                refused,
            } => {
                let filters = filters.join(", ");
                let why = match refused {
                    Some(words) => format!("{filters} not switched on: {words}"),
                    None => format!("{filters} switched on"),
                };
                self.decide(Action::Filter, Some(attack), Some(upstream), &[], why);
            }
            ClientNotice::Accepting {
                attack,
                upstream,
                filters,
            } => {
                let why = format!("attack traffic is accepted by {}", filters.join(", "));
                self.decide(Action::Filter, Some(attack), Some(upstream), &[], why);
            }
            ClientNotice::Session { .. }
            | ClientNotice::Credentials { .. }
            | ClientNotice::Discovered { .. }
            | ClientNotice::Redirected { .. }
            | ClientNotice::Withdrawn { .. }
            | ClientNotice::Orphan { .. }
            | ClientNotice::Observed { .. }
            | ClientNotice::Told { .. } => {}
        }
    }

    fn handle_held(&mut self, upstream: &Arc<str>, attack: &AttackId, scope: &Scope) {
        if is_operators(attack) {
            return;
        }
        let Some(followed) = self.attacks.get_mut(attack) else {
            if self.open.contains(attack) {
                let held = self.held.entry(attack.clone()).or_default();
                held.insert(upstream.clone(), scope.clone());
            } else {
                self.withdraw(upstream, attack, "the attack ended while nobody watched");
            }
            return;
        };
        let known = followed.lane_asking(upstream).is_some();
        if !known && !adopt(&mut followed.lanes, upstream, scope) {
            self.withdraw(upstream, attack, "the policy does not name it any more");
        }
    }

    fn handle_granted(&mut self, report: &MitigationReport) {
        let now = self.now;
        let Some(followed) = self.attacks.get_mut(&report.attack) else {
            return;
        };
        let Some((_, asked)) = followed.asked_of(&report.upstream) else {
            return;
        };
        asked.granted = true;
        asked.granted_at = Some(now);
        let supersedes = std::mem::take(&mut asked.supersedes);
        let why = format!("mid {}", report.mid);
        let (attack, upstream) = (&report.attack, &report.upstream);
        self.decide(Action::Granted, Some(attack), Some(upstream), &[], why);
        for superseded in supersedes {
            self.supersede(&superseded, report);
        }
    }

    /// The mitigation of another attack is covered by the one that was granted now.
    fn supersede(&mut self, superseded: &AttackId, by: &MitigationReport) {
        let Some(other) = self.attacks.get_mut(superseded) else {
            return;
        };
        let Some(lane) = other.lane_asking(&by.upstream) else {
            return;
        };
        self.set_request(superseded, lane, Request::Covered(by.attack.clone()));
        let why = format!("the request for {} covers it", by.attack);
        self.withdraw(&by.upstream, superseded, &why);
        // What that one covered is covered by this one now, or asked for by itself.
        self.ask_for_covered(superseded);
    }

    fn handle_status(&mut self, report: &MitigationReport) {
        let (attack, upstream) = (&report.attack, &report.upstream);
        let Some(followed) = self.attacks.get_mut(attack) else {
            return;
        };
        let Some((lane, asked)) = followed.asked_of(upstream) else {
            for lane in &mut followed.lanes {
                if is_over(report.status) {
                    lane.kept.remove(upstream);
                }
            }
            return;
        };
        asked.dropped = asked.dropped.max(report.bytes_dropped.unwrap_or(0));
        let before = asked.status.replace(report.status);
        if before != Some(report.status) {
            let why = report.status.name();
            self.decide(Action::Status, Some(attack), Some(upstream), &[], why);
        }
        if report.status == MitigationStatus::AttackExceededCapability {
            if before != Some(report.status) {
                self.move_on(attack, lane, "the attack exceeds its capability");
            }
        } else if is_over(report.status) && !self.is_replaced(report, lane) {
            self.fall_back(attack, upstream, "it ended the mitigation", false);
        }
    }

    /// Whether a mitigation ended because the request for another attack, whose target holds this one's, took its place.
    fn is_replaced(&mut self, report: &MitigationReport, lane: usize) -> bool {
        let Some(followed) = self.attacks.get(&report.attack) else {
            return false;
        };
        let wanted = mitigation_scope(&followed.event);
        let Some(by) = self.covering(&report.attack, &report.upstream, &wanted) else {
            return false;
        };
        self.set_request(&report.attack, lane, Request::Covered(by));
        self.ask_for_covered(&report.attack);
        true
    }

    /// An upstream does not help: the next one is asked. Where there is none, a client that tries again goes on trying.
    fn fall_back(&mut self, attack: &AttackId, upstream: &Arc<str>, why: &str, tries_again: bool) {
        let Some(followed) = self.attacks.get_mut(attack) else {
            return;
        };
        let wanted = mitigation_scope(&followed.event);
        let Some(lane) = followed.lane_asking(upstream) else {
            return;
        };
        tracing::warn!(%attack, upstream = &**upstream, why, "no help from this upstream");
        if let Some(lane) = followed.lanes.get_mut(lane) {
            lane.tried.insert(upstream.clone());
        }
        let next = self.next_upstream(attack, lane, &wanted);
        if next.is_none() && tries_again {
            return;
        }
        if next.is_some() {
            self.decide(Action::FallBack, Some(attack), Some(upstream), &[], why);
            self.counters.fallbacks += 1;
        }
        if tries_again {
            self.withdraw(upstream, attack, "another upstream is asked");
        }
        self.set_request(attack, lane, Request::None(None));
        self.ask_first(attack, lane, wanted);
        self.ask_for_covered(attack);
    }
}

fn is_over(status: MitigationStatus) -> bool {
    matches!(
        status,
        MitigationStatus::AttackMitigationTerminated
            | MitigationStatus::AttackMitigationWithdrawn
            | MitigationStatus::DotsClientWithdrawnMitigation
    )
}
