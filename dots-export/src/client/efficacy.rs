//! Efficacy updates (RFC 9132 §4.4.3, RFC 9244 §9.1): what of an attack still arrives while it is mitigated.

use std::time::Instant;

use weir_attack_event::AttackId;
use weir_dots_proto::Mid;
use weir_dots_proto::body::{AttackStatus, Traffic};

use super::answers::Answer;
use super::mitigation::Phase;
use super::{Client, Purpose};
use crate::request::put_efficacy;

/// What arrives.
#[derive(Clone, PartialEq, Debug)]
pub struct Efficacy {
    /// Whether it is still an attack.
    pub status: AttackStatus,
    /// The attack traffic that is left.
    pub total_attack_traffic: Vec<Traffic>,
}

impl Client {
    /// Tells how well the mitigations of an attack work; of those that are not granted there is nothing to tell.
    pub(super) fn handle_efficacy(&mut self, attack: &AttackId, efficacy: &Efficacy) {
        let mids: Vec<Mid> = self.mids_of(attack).collect();
        for mid in mids {
            if let Some(held) = self.mitigations.get_mut(&mid) {
                held.efficacy = Some(efficacy.clone());
            }
        }
    }

    /// Sends what is to be told. It goes like a refresh, and not while one is under way.
    pub(super) fn advance_efficacy(&mut self, now: Instant) {
        let ready: Vec<Mid> = self
            .mitigations
            .iter()
            .filter(|(_, held)| {
                held.phase == Phase::Active && held.put.is_none() && held.efficacy.is_some()
            })
            .map(|(mid, _)| *mid)
            .take(self.session.room())
            .collect();
        for mid in ready {
            let Some(held) = self.mitigations.get_mut(&mid) else {
                continue;
            };
            let Some(efficacy) = held.efficacy.take() else {
                continue;
            };
            let (scope, lifetime) = (held.scope.clone(), held.lifetime);
            let request = put_efficacy(&self.cuid, mid, &scope, lifetime, &efficacy);
            let id = self.send(now, request, Purpose::Efficacy(mid));
            if let Some(held) = self.mitigations.get_mut(&mid) {
                held.put = Some(id);
            }
        }
    }

    pub(super) fn handle_efficacy_answer(&mut self, now: Instant, mid: Mid, answer: &Answer) {
        let Some(held) = self.mitigations.get_mut(&mid) else {
            return;
        };
        held.put = None;
        if answer.code.is_success() {
            // It counts as a refresh.
            if held.phase == Phase::Active {
                let lifetime = held.lifetime;
                held.granted(now, lifetime);
            }
        } else {
            let (code, words) = (answer.code, answer.words());
            tracing::warn!(upstream = &*self.upstream, %mid, %code, words, "efficacy update refused");
        }
    }

    /// RFC 9132 §4.4.3: silence means that there is no such mitigation; the server is asked.
    pub(super) fn handle_efficacy_silence(&mut self, now: Instant, mid: Mid) {
        if let Some(held) = self.mitigations.get_mut(&mid) {
            held.put = None;
            held.check_at = Some(now);
        }
    }
}
