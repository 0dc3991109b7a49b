//! Telemetry of attacks: one identifier for each, and the newest message of it.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use weir_attack_event::AttackId;
use weir_dots_proto::body::Telemetry;
use weir_dots_proto::client::{MAX_OPEN_REQUESTS, RequestId};
use weir_dots_proto::{Mid, Tmid};

use super::answers::Answer;
use super::journal::{ChangeId, SavedState};
use super::mitigation::Phase;
use super::{Client, MAX_HELD, Purpose};
use crate::recorder::telemetry_target;
use crate::request::{delete_telemetry, next_id, put_telemetry};
use crate::telemetry::{lean, without_descriptions};

/// Identifiers of a `mid-list`, for which bodies leave room; the newest count.
const MAX_MIDS: usize = 6;

/// An attack that the server is told of.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) tmid: Tmid,
    pub(super) target: Vec<IpNet>,
    pub(super) waits_for: ChangeId,
    /// The newest message, until it is sent.
    pub(super) pending: Option<Box<Telemetry>>,
    /// The message that was sent, until it is answered.
    pub(super) sent: Option<Box<Telemetry>>,
    pub(super) put: Option<RequestId>,
    pub(super) retry_at: Option<Instant>,
    pub(super) refusals: u32,
    /// The last word is said, or waits in `pending`.
    pub(super) ended: bool,
    /// The server has answered the last message: a larger one may go in blocks.
    pub(super) answered: bool,
    /// It is from before a restart, and the attack has not been heard of since.
    pub(super) restored: bool,
    /// Then the attack has ended while nobody watched, and the server is to forget it.
    pub(super) forget_at: Option<Instant>,
}

/// An attack from before a restart that is not heard of for this long is over.
const EXPECTED_FOR: Duration = Duration::from_secs(600);

impl Told {
    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.retry_at.into_iter().chain(self.forget_at).min()
    }

    pub(super) fn new(tmid: Tmid, target: Vec<IpNet>, waits_for: ChangeId) -> Self {
        Self {
            tmid,
            target,
            waits_for,
            pending: None,
            sent: None,
            put: None,
            retry_at: None,
            refusals: 0,
            ended: false,
            answered: false,
            restored: false,
            forget_at: None,
        }
    }
}

impl Client {
    pub(super) fn handle_telemetry(&mut self, attack: AttackId, body: Box<Telemetry>, ended: bool) {
        let target = telemetry_target(&body);
        let known = self.telemetry.get_mut(&attack);
        if let Some(told) = known.filter(|told| told.target == target) {
            told.pending = Some(body);
            told.ended = ended;
            told.restored = false;
            told.forget_at = None;
            return;
        }
        if self.telemetry.len() >= MAX_HELD && !self.forget_told() {
            self.counters.refused_commands += 1;
            return;
        }
        let tmid = next_id(self.last_tmid, self.telemetry.is_empty());
        self.last_tmid = Some(tmid);
        self.persist_identifiers();
        let waits_for = self.persist(SavedState::Telemetry {
            attack: attack.clone(),
            tmid: Tmid(tmid),
            target: target.clone(),
        });
        let mut told = Told::new(Tmid(tmid), target, waits_for);
        told.pending = Some(body);
        told.ended = ended;
        self.telemetry.insert(attack, told);
    }

    /// Makes room: attacks from before a restart that were not heard of again.
    fn forget_told(&mut self) -> bool {
        let idle = |told: &Told| told.ended && told.pending.is_none() && told.put.is_none();
        let found = self.telemetry.iter().find(|(_, told)| idle(told));
        let Some(attack) = found.map(|(attack, _)| attack.clone()) else {
            return false;
        };
        self.telemetry.remove(&attack);
        self.persist(SavedState::NoTelemetry { attack });
        true
    }

    /// Telemetry follows the mitigation that it belongs to: it waits until the PUT is answered.
    pub(super) fn advance_telemetry(&mut self, now: Instant) {
        self.forget_unheard(now);
        let ready: Vec<AttackId> = self
            .telemetry
            .iter()
            .filter(|(attack, told)| {
                // A newer message takes the place of one that is not answered.
                told.pending.is_some()
                    && told.waits_for <= self.durable
                    && told.retry_at.is_none_or(|at| at <= now)
                    && !self.is_asked(attack)
            })
            .map(|(attack, _)| attack.clone())
            .collect();
        // Half of what may be open is kept for mitigations.
        let room = self.session.room().saturating_sub(MAX_OPEN_REQUESTS / 2);
        for attack in ready.into_iter().take(room) {
            let mids: Vec<Mid> = self
                .mitigations
                .iter()
                .filter(|(_, held)| held.attack == attack && held.phase != Phase::Asking)
                .map(|(mid, _)| *mid)
                .rev()
                .take(MAX_MIDS)
                .collect();
            let Some(told) = self.telemetry.get_mut(&attack) else {
                continue;
            };
            let Some(body) = told.pending.take() else {
                continue;
            };
            let (tmid, answered) = (told.tmid, told.answered);
            let mut told_body = Telemetry::clone(&body);
            if self.mapping_shared {
                told_body = without_descriptions(told_body);
            }
            if !answered {
                told_body = lean(told_body);
            }
            let request = put_telemetry(&self.cuid, tmid, &told_body, &mids);
            let id = self.send(now, request, Purpose::Tell(attack.clone(), tmid));
            if let Some(told) = self.telemetry.get_mut(&attack) {
                told.put = Some(id);
                told.retry_at = None;
                told.sent = Some(body);
            }
        }
    }

    /// Whether the first answer to a request for this attack is awaited.
    fn is_asked(&self, attack: &AttackId) -> bool {
        self.mitigations
            .values()
            .any(|held| held.attack == *attack && held.phase == Phase::Asking && held.refusals == 0)
    }
}

impl Client {
    /// Attacks from before a restart have some time to be heard of.
    pub(super) fn expect_telemetry(&mut self, now: Instant) {
        for told in self.telemetry.values_mut() {
            if told.restored && told.forget_at.is_none() {
                told.forget_at = Some(now + EXPECTED_FOR);
            }
        }
    }

    /// Has the server forget telemetry of attacks that ended while nobody watched (RFC 9244 §8.2).
    fn forget_unheard(&mut self, now: Instant) {
        let due = |told: &Told| told.forget_at.is_some_and(|at| at <= now) && told.put.is_none();
        let unheard: Vec<(AttackId, Tmid)> = self
            .telemetry
            .iter()
            .filter(|(_, told)| due(told))
            .map(|(attack, told)| (attack.clone(), told.tmid))
            .take(self.session.room())
            .collect();
        for (attack, tmid) in unheard {
            if let Some(told) = self.telemetry.get_mut(&attack) {
                told.forget_at = None;
            }
            let request = delete_telemetry(&self.cuid, tmid);
            self.send(now, request, Purpose::Forget(attack, tmid));
        }
    }

    pub(super) fn handle_forgotten(
        &mut self,
        now: Instant,
        attack: &AttackId,
        tmid: Tmid,
        answer: &Answer,
    ) {
        let Some(told) = self.telemetry.get_mut(attack) else {
            return;
        };
        if told.tmid != tmid || !told.restored {
            return;
        }
        if let Some(wait) = answer.retry_in() {
            told.forget_at = Some(now + wait);
            return;
        }
        self.telemetry.remove(attack);
        self.persist(SavedState::NoTelemetry {
            attack: attack.clone(),
        });
    }
}
