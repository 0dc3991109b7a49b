//! Who observes something is told when it has another state (RFC 7641): what, to whom, and when.

use std::time::{Duration, Instant};

use serde_json::Value;
use weir_dots_proto::body::{Body, Mitigation, Scope};
use weir_dots_proto::server::RelationId;
use weir_dots_proto::{Cuid, Resource};
use weir_dtls::SessionId;

use super::{Server, answers};
use crate::query::Query;
use crate::setup::Setup;

impl Server {
    /// What was set up or told has another state now; mitigations tell of themselves.
    pub(super) fn note_changed(&mut self, id: SessionId, resource: &Resource) {
        let same_kind =
            |other: &Resource| std::mem::discriminant(other) == std::mem::discriminant(resource);
        match resource {
            Resource::Telemetry { cuid, .. } | Resource::TelemetrySetup { cuid, .. } => {
                self.note_observers(cuid, same_kind, None);
            }
            // It is the session's own.
            Resource::Config { .. } => {
                if let Some(peer) = self.sessions.get_mut(&id) {
                    peer.observed.note(same_kind, None);
                }
            }
            Resource::Mitigate { .. } | Resource::Heartbeat => {}
        }
    }

    /// Notes news for all that observe a client's resource. Gives the sessions.
    pub(super) fn note_observers(
        &mut self,
        cuid: &Cuid,
        concerns: impl Fn(&Resource) -> bool,
        last: Option<&Scope>,
    ) -> Vec<SessionId> {
        let sessions: Vec<SessionId> = self
            .observers
            .get(cuid)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let of_client = |resource: &Resource| resource.cuid() == Some(cuid) && concerns(resource);
        let told: Vec<SessionId> = sessions
            .into_iter()
            .filter(|id| {
                let peer = self.sessions.get_mut(id);
                peer.is_some_and(|peer| peer.observed.note(of_client, last))
            })
            .collect();
        told.iter().for_each(|id| self.reschedule(*id));
        told
    }

    /// Sends what a session is to be told and may be told now.
    pub(super) fn send_notices(&mut self, now: Instant, id: SessionId) {
        while let Some(relation) = self
            .sessions
            .get_mut(&id)
            .and_then(|peer| peer.observed.poll_due(now))
        {
            self.send_notice(now, id, relation);
        }
        self.gather(id);
    }

    fn send_notice(&mut self, now: Instant, id: SessionId, relation: RelationId) {
        let Some((resource, query, last)) = self
            .sessions
            .get_mut(&id)
            .and_then(|peer| peer.observed.take(relation))
        else {
            return;
        };
        let over = matches!(&resource, Resource::Mitigate { cuid, mid: Some(mid) }
            if !self.registry.contains(cuid, *mid));
        let body = self.shown(now, id, &resource, &query, last);
        let interval = resource
            .cuid()
            .and_then(|cuid| self.setups.get(cuid))
            .map_or(Duration::ZERO, Setup::notify_interval);
        let Some(peer) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(body) = body {
            peer.session.handle_notification(now, relation, &body);
            let round_trip = peer.session.round_trip_time();
            peer.observed
                .note_sent(now, &resource, round_trip, interval);
        }
        if over {
            peer.session.handle_gone(relation);
            peer.observed.remove(relation);
        }
    }

    /// A resource as it stands, with mitigations that have ended since; `None` where there is none.
    pub(super) fn shown(
        &self,
        now: Instant,
        id: SessionId,
        resource: &Resource,
        query: &Query,
        last: Vec<Scope>,
    ) -> Option<Value> {
        match resource {
            Resource::Mitigate { cuid, mid } => {
                let telemetry = self.wants_server_telemetry(cuid);
                let mut held = self.registry.shown(now, cuid, *mid);
                if telemetry {
                    for scope in &mut held {
                        let drops = scope.mid.and_then(|mid| self.registry.drops(cuid, mid));
                        answers::add_telemetry(scope, drops.unwrap_or_default());
                    }
                }
                let scope: Vec<Scope> = last
                    .into_iter()
                    .chain(held)
                    .filter(|scope| query.takes_scope(scope))
                    .map(|scope| query.cut(scope))
                    .collect();
                (!scope.is_empty()).then(|| Mitigation { scope }.to_json())
            }
            Resource::Telemetry { cuid, tmid } => {
                let observed = self.wants_server_telemetry(cuid);
                self.telemetry.shown(cuid, *tmid, query, observed)
            }
            Resource::TelemetrySetup { cuid, tsid } => {
                let none = Setup::default();
                self.setups.get(cuid).unwrap_or(&none).shown(*tsid)
            }
            Resource::Config { sid } => self.sessions.get(&id)?.config.shown(*sid),
            Resource::Heartbeat => None,
        }
    }

    /// RFC 9244 §9.2: telemetry goes to clients that have asked for it in their setup.
    pub(super) fn wants_server_telemetry(&self, cuid: &Cuid) -> bool {
        self.setups
            .get(cuid)
            .is_some_and(Setup::wants_server_telemetry)
    }
}
