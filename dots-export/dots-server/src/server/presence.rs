//! Which clients are there: their sessions, and whether their signal is lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_dots_proto::SessionParameters;
use weir_dtls::SessionId;

/// A session on which its client says nothing for this long after the handshake, while it speaks on another one, was left behind by
/// a client that tried several ways at once (RFC 9132 §4.3).
const UNHEARD: Duration = Duration::from_secs(60);

/// The sessions of all clients.
#[derive(Debug, Default)]
pub(super) struct Presence {
    clients: BTreeMap<Arc<str>, Sessions>,
    strangers: VecDeque<SessionId>,
    /// Sessions that have said nothing since their handshake, and until when they have time to.
    unheard: VecDeque<(Instant, SessionId)>,
}

#[derive(Debug, Default)]
struct Sessions {
    /// The oldest first.
    all: VecDeque<SessionId>,
    /// The client has no session any more: its signal is lost then, unless it comes back.
    lost_at: Option<Instant>,
}

impl Presence {
    /// A session of a client, or of a stranger. Gives the session that has to make room for it: the one that was heard least
    /// recently, by `heard_at`, and of those that were never heard the oldest. So a client that comes back over and over from new
    /// addresses, or tries several handshakes at once, does not push out the session on which it speaks.
    pub(super) fn add(
        &mut self,
        now: Instant,
        client: Option<&Arc<str>>,
        session: SessionId,
        most: usize,
        heard_at: impl Fn(SessionId) -> Option<Instant>,
    ) -> Option<SessionId> {
        self.unheard.push_back((now + UNHEARD, session));
        let all = match client {
            Some(name) => {
                let sessions = self.clients.entry(Arc::clone(name)).or_default();
                sessions.lost_at = None;
                &mut sessions.all
            }
            None => &mut self.strangers,
        };
        let room = all.len() < most;
        let idle = (0..all.len()).min_by_key(|index| all.get(*index).copied().and_then(&heard_at));
        let gives_way = idle.filter(|_| !room).and_then(|index| all.remove(index));
        all.push_back(session);
        gives_way
    }

    /// The next session whose time to say something is over.
    pub(super) fn poll_unheard(&mut self, now: Instant) -> Option<SessionId> {
        let due = self.unheard.front().is_some_and(|(at, _)| *at <= now);
        due.then(|| self.unheard.pop_front().map(|(_, session)| session))
            .flatten()
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
        let lost = self.clients.values().filter_map(|one| one.lost_at);
        let unheard = self.unheard.front().map(|(at, _)| *at);
        lost.chain(unheard).min()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_that_was_heard_least_recently_makes_room() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut presence = Presence::default();
        let client: Arc<str> = "a".into();
        // The oldest is the one on which the client speaks; 2 has never been heard.
        let heard = |session: SessionId| match session.0 {
            1 => Some(at(50)),
            3 => Some(at(20)),
            _ => None,
        };
        let mut add = |id: u64| presence.add(at(60), Some(&client), SessionId(id), 3, heard);
        for id in 1..=3 {
            assert_eq!(add(id), None);
        }
        assert_eq!(add(4), Some(SessionId(2)));
        assert_eq!(add(5), Some(SessionId(4)), "never heard, and older");
        let left: Vec<u64> = presence.of(&client).map(|session| session.0).collect();
        assert_eq!(left, [1, 3, 5]);
    }

    #[test]
    fn sessions_have_some_time_to_say_something() {
        let began = Instant::now();
        let mut presence = Presence::default();
        presence.add(began, None, SessionId(7), 3, |_| None);
        assert_eq!(presence.poll_timeout(), Some(began + UNHEARD));
        assert_eq!(presence.poll_unheard(began), None);
        assert_eq!(presence.poll_unheard(began + UNHEARD), Some(SessionId(7)));
        assert_eq!(presence.poll_timeout(), None);
    }
}
