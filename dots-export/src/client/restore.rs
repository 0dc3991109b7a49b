//! After a restart: what the journal held.

use weir_dots_proto::Cuid;

use super::Client;
use super::journal::{ChangeId, SavedState, StateChange};
use super::mitigation::{Held, Phase};
use super::told::Told;
use crate::command::ClientNotice;

impl Client {
    /// Takes back the rows of the journal, before anything else. What it held is reported as
    /// [`ClientNotice::Held`], and the server is asked about it as soon as it is connected.
    pub fn restore(&mut self, rows: impl IntoIterator<Item = StateChange>) {
        let mut saved_cuid = None;
        for row in rows {
            if let SavedState::Identifiers { cuid, .. } = &row.state {
                saved_cuid = Some(cuid.clone());
            }
            self.restore_row(row.state);
        }
        self.keep_cuid(saved_cuid);
        let highest = self.mitigations.keys().next_back().map(|mid| mid.0);
        self.last_mid = self.last_mid.max(highest);
        let highest = self.telemetry.values().map(|told| told.tmid.0).max();
        self.last_tmid = self.last_tmid.max(highest);
        for (mid, held) in &self.mitigations {
            if held.is_open() {
                self.notices.push_back(ClientNotice::Held {
                    upstream: self.upstream.clone(),
                    attack: held.attack.clone(),
                    mid: mid.0,
                    scope: Box::new(held.scope.clone()),
                });
            }
        }
        self.note_mitigating();
    }

    fn restore_row(&mut self, state: SavedState) {
        match state {
            SavedState::Identifiers {
                last_mid,
                last_tmid,
                last_tsid,
                last_sid,
                ..
            } => {
                self.last_mid = last_mid;
                self.last_tmid = last_tmid;
                self.last_tsid = last_tsid;
                self.last_sid = last_sid;
            }
            SavedState::Mitigation {
                mid,
                attack,
                scope,
                lifetime,
                granted,
                withdrawing,
            } => {
                let mut held = Held::new(attack, *scope, lifetime, ChangeId(0));
                held.uncertain = true;
                held.was_granted = granted;
                held.put_sent = true;
                if withdrawing {
                    held.phase = Phase::Withdrawing;
                }
                self.mitigations.insert(mid, held);
            }
            SavedState::NoMitigation { mid } => {
                self.mitigations.remove(&mid);
            }
            SavedState::Telemetry {
                attack,
                tmid,
                target,
            } => {
                let mut told = Told::new(tmid, target, ChangeId(0));
                // Until the attack is heard of again it counts for nothing.
                told.ended = true;
                told.restored = true;
                self.telemetry.insert(attack, told);
            }
            SavedState::Discovered { discovery } => self.discovered = Some(discovery),
            SavedState::Setup { name, item } => self.setup.restore(name, *item),
            SavedState::NoSetup { name } => self.setup.forget(&name),
            SavedState::NoTelemetry { attack } => {
                self.telemetry.remove(&attack);
            }
        }
    }

    /// A new certificate means a new `cuid`; but while mitigations stand it must not change (RFC 9132 §4.4.1.1): the
    /// server would know none of them under the new one.
    fn keep_cuid(&mut self, saved: Option<Cuid>) {
        let Some(saved) = saved.filter(|saved| *saved != self.cuid) else {
            return;
        };
        if !self.mitigations.is_empty() {
            tracing::warn!(
                upstream = &*self.upstream,
                kept = %saved,
                new = %self.cuid,
                "the credentials have changed; the old cuid is kept until the next start without mitigations"
            );
            self.cuid = saved;
        }
    }
}
