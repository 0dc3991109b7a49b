//! What is sent next: the gap between what is wanted and what the server is known to have.

use std::time::Instant;

use weir_dots_proto::Mid;

use super::mitigation::{Due, Phase};
use super::{Audit, Client, Purpose};
use crate::command::ClientNotice;
use crate::request::{
    check_mitigation, delete_mitigation, list_mitigations, observe_mitigation, put_mitigation,
};

impl Client {
    /// Sends what closes the gap between what is wanted and what the server is known to have.
    pub(super) fn advance(&mut self, now: Instant) {
        self.advanced_at = Some(now);
        self.notify_silence(now);
        self.end_redirect(now);
        if !self.connected {
            return;
        }
        self.advance_audit(now);
        self.advance_filters(now);
        let audited = matches!(self.audit, Audit::Done(_));
        let mut due: Vec<(Mid, Due)> = self
            .mitigations
            .iter()
            .filter(|(_, held)| held.waits_for <= self.durable)
            .filter_map(|(mid, held)| Some((*mid, held.due(now, audited)?)))
            .collect();
        // What finds no room is sent when an answer, or the end of a wait for one, makes some.
        due.sort_by_key(|(_, due)| matches!(due, Due::Observe | Due::Check));
        for (mid, due) in due.into_iter().take(self.session.room()) {
            self.send_due(now, mid, due);
        }
        self.advance_efficacy(now);
        self.advance_telemetry(now);
        self.advance_negotiation(now);
        self.advance_setup(now);
        self.advance_watch(now);
    }

    /// Reports requests that wait for too long, each once.
    fn notify_silence(&mut self, now: Instant) {
        let mut silent = Vec::new();
        for held in self.mitigations.values_mut() {
            if held.phase == Phase::Asking && held.silent_at.is_some_and(|at| at <= now) {
                held.silent_at = None;
                silent.push(held.attack.clone());
            }
        }
        for attack in silent {
            self.notify(ClientNotice::Unreachable {
                attack,
                upstream: self.upstream.clone(),
            });
        }
    }

    fn advance_audit(&mut self, now: Instant) {
        let due = match self.audit {
            Audit::Due(at) => at.is_none_or(|at| at <= now),
            Audit::Done(at) => at.is_some_and(|at| at <= now),
            Audit::Asked => false,
        };
        if due && self.session.room() > 0 {
            self.audit = Audit::Asked;
            self.send(now, list_mitigations(&self.cuid), Purpose::List);
        }
    }

    fn send_due(&mut self, now: Instant, mid: Mid, due: Due) {
        let Some(held) = self.mitigations.get(&mid) else {
            return;
        };
        let (request, purpose) = match due {
            Due::Put => (
                put_mitigation(&self.cuid, mid, &held.scope, held.lifetime),
                Purpose::Put(mid),
            ),
            Due::Observe => (observe_mitigation(&self.cuid, mid), Purpose::Observe(mid)),
            Due::Check => (check_mitigation(&self.cuid, mid), Purpose::Observe(mid)),
            Due::Delete => (delete_mitigation(&self.cuid, mid), Purpose::Delete(mid)),
        };
        let id = self.send(now, request, purpose);
        let Some(held) = self.mitigations.get_mut(&mid) else {
            return;
        };
        match due {
            Due::Put => {
                held.put = Some(id);
                held.put_sent = true;
            }
            Due::Observe | Due::Check => held.get = Some(id),
            Due::Delete => held.delete = Some(id),
        }
    }
}
