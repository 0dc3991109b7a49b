//! Which clients are there: their sessions, and whether their signal is lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_dots_proto::SessionParameters;
use weir_dtls::SessionId;

/// The sessions of all clients.
#[derive(Debug, Default)]
pub(super) struct Presence {
    clients: BTreeMap<Arc<str>, Sessions>,
    strangers: VecDeque<SessionId>,
}

#[derive(Debug, Default)]
struct Sessions {
    /// The oldest first.
    all: VecDeque<SessionId>,
    /// The client has no session any more: its signal is lost then, unless it comes back.
    lost_at: Option<Instant>,
}

impl Presence {
    /// A session of a client, or of a stranger. Gives the session that has to make room for it.
    pub(super) fn add(
        &mut self,
        client: Option<&Arc<str>>,
        session: SessionId,
        most: usize,
    ) -> Option<SessionId> {
        let all = match client {
            Some(name) => {
                let sessions = self.clients.entry(Arc::clone(name)).or_default();
                sessions.lost_at = None;
                &mut sessions.all
            }
            None => &mut self.strangers,
        };
        all.push_back(session);
        (all.len() > most).then(|| all.pop_front()).flatten()
    }

    /// A session is gone; with the last one that is `heard` a client's signal is about to be lost.
    pub(super) fn remove(
        &mut self,
        now: Instant,
        client: Option<&Arc<str>>,
        session: SessionId,
        parameters: &SessionParameters,
        heard: impl Fn(SessionId) -> bool,
    ) {
        let Some(name) = client else {
            self.strangers.retain(|other| *other != session);
            return;
        };
        let Some(sessions) = self.clients.get_mut(name) else {
            return;
        };
        sessions.all.retain(|other| *other != session);
        if !sessions.all.iter().any(|other| heard(*other)) {
            sessions.lost_at = Some(now + silence(parameters));
        }
    }

    /// A client from before a restart, which has as long to come back as one whose session was closed.
    pub(super) fn expect(&mut self, now: Instant, client: &Arc<str>) {
        let sessions = self.clients.entry(Arc::clone(client)).or_default();
        if sessions.all.is_empty() {
            sessions.lost_at = Some(now + silence(&SessionParameters::default()));
        }
    }

    /// All sessions of a client.
    pub(super) fn of(&self, client: &Arc<str>) -> impl Iterator<Item = SessionId> {
        let sessions = self.clients.get(client);
        sessions.into_iter().flat_map(|one| one.all.iter().copied())
    }

    /// When the next client is lost.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.clients.values().filter_map(|one| one.lost_at).min()
    }

    /// The next client that has not come back in time.
    pub(super) fn poll_lost(&mut self, now: Instant) -> Option<Arc<str>> {
        let mut clients = self.clients.iter_mut();
        let (name, sessions) = clients.find(|(_, one)| one.lost_at.is_some_and(|at| at <= now))?;
        sessions.lost_at = None;
        Some(Arc::clone(name))
    }
}

/// How long a peer may be silent before its session counts as lost (RFC 9132 §4.7).
fn silence(parameters: &SessionParameters) -> Duration {
    let counted = |parameters: &SessionParameters| {
        parameters
            .heartbeat_interval
            .saturating_mul(parameters.missing_hb_allowed.max(1))
    };
    let span = counted(parameters);
    if span.is_zero() {
        // Without heartbeats their defaults say it.
        counted(&SessionParameters::default())
    } else {
        span
    }
}
