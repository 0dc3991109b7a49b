//! What follows where a client is silent, or has no session any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use weir_dots_proto::Cuid;
use weir_dtls::SessionId;

use super::{Peer, Server};

impl Server {
    /// A session's client is silent. Where no other session of it is heard, its signal is lost.
    pub(super) fn handle_lost(&mut self, now: Instant, id: SessionId) {
        tracing::info!(session = id.0, "a client is silent");
        let Some((name, _)) = self.sessions.get(&id).and_then(|peer| peer.client.clone()) else {
            return;
        };
        let mut sessions = self.presence.of(&name);
        let heard = sessions.any(|other| is_heard(&self.sessions, other));
        drop(sessions);
        if !heard {
            self.handle_signal_lost(now, &name);
        }
    }

    /// Closes a session on which its client has never said anything while it speaks on another one.
    pub(super) fn close_if_left_behind(&mut self, id: SessionId) {
        let unheard = |id: &SessionId| {
            let peer = self.sessions.get(id);
            peer.is_some_and(|peer| peer.heard_at.is_none())
        };
        let client = self.sessions.get(&id).and_then(|peer| peer.client.as_ref());
        let Some((name, _)) = client.filter(|_| unheard(&id)) else {
            return;
        };
        if self.presence.of(name).any(|other| !unheard(&other)) {
            tracing::debug!(client = &**name, "a session that was left behind is closed");
            self.closes.push_back(id);
        }
    }

    /// RFC 9132 §4.7: the server triggers what the client has preconfigured.
    pub(super) fn handle_signal_lost(&mut self, now: Instant, name: &Arc<str>) {
        let cuids: Vec<Cuid> = self
            .owners
            .iter()
            .filter(|(_, owner)| *owner == name)
            .map(|(cuid, _)| cuid.clone())
            .collect();
        let unix = self.epoch.seconds_at(now);
        for cuid in cuids {
            let mitigator = self.mitigator.as_mut();
            self.registry
                .handle_signal_lost(now, unix, &cuid, mitigator);
        }
    }
}

/// Whether a session's client is not silent.
pub(super) fn is_heard(sessions: &HashMap<SessionId, Peer>, id: SessionId) -> bool {
    sessions
        .get(&id)
        .is_some_and(|peer| !peer.session.is_silent())
}
