//! The server without its sockets: sessions in, mitigations and notifications out.

mod answers;
mod keeping;
mod notices;
mod presence;
mod silence;
mod telling;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::Value;
use weir_dots_proto::body::{PreOrOngoingMitigation, Telemetry};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::{Event, ExchangeId, ObserveAction, Session};
use weir_dots_proto::{Cuid, Method, Resource, SessionParameters, Tmid};
use weir_dtls::{PeerIdentity, SessionId};

use crate::data::NoDataChannel;
use crate::names::Names;
use crate::query::Query;
use crate::registry::{News, Registry};
use crate::reported::{Reported, ReportedBaselines};
use crate::reports::{Report, Reports};
use crate::saved::{Changed, Epoch};
use crate::session_config::SessionConfig;
use crate::setup::Setup;
use crate::telemetry::TelemetryStore;
use crate::{DataChannel, Mitigator, MitigatorFigures, ServerPolicy};
use notices::Observed;
use presence::Presence;
use silence::is_heard;

pub(crate) use answers::{checked, entitled};

/// How often the mitigator is asked what it measured.
const REPORTS: Duration = Duration::from_millis(200);
/// Requests that may wait for addresses at once; further ones are answered as if their names had none.
const MAX_WAITING: usize = 256;
/// Seconds after which a client may try again what was refused for want of room.
const RETRY_AFTER: u32 = 60;

/// The server. After each `handle_*`, poll `poll_persist` until it is empty and write what it gives; then poll `poll_transmit`
/// until it is empty: an answer that is sent may be relied on after a restart. Sessions that `poll_close` names are closed
/// after what is for them was sent.
pub struct Server {
    policy: ServerPolicy,
    mitigator: Box<dyn Mitigator>,
    pub(crate) data: Box<dyn DataChannel>,
    sessions: HashMap<SessionId, Peer>,
    /// When sessions want to be woken: the same instants twice, by session and in their order.
    due_of: HashMap<SessionId, Instant>,
    due: BTreeSet<(Instant, SessionId)>,
    presence: Presence,
    /// Who observes anything of a client's.
    observers: BTreeMap<Cuid, BTreeSet<SessionId>>,
    pub(crate) registry: Registry,
    names: Names,
    /// Requests whose names are being looked up.
    waiting: Vec<Waiting>,
    /// Whose a cuid is: by the client's name.
    owners: BTreeMap<Cuid, Arc<str>>,
    telemetry: TelemetryStore,
    setups: BTreeMap<Cuid, Setup>,
    reported: Reported,
    reports: Reports,
    /// Rows of owners and setups that have changed.
    changed: Changed,
    epoch: Epoch,
    next_report: Instant,
    seed: u64,
    transmits: VecDeque<(SessionId, Vec<u8>)>,
    closes: VecDeque<SessionId>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

struct Peer {
    session: Session,
    client: Option<(Arc<str>, Vec<IpNet>)>,
    observed: Observed,
    config: SessionConfig,
    parameters: SessionParameters,
    /// When its client said something last.
    heard_at: Option<Instant>,
}

/// A request that waits for addresses.
struct Waiting {
    session: SessionId,
    exchange: ExchangeId,
    asked: Asked,
}

/// A request that is being answered.
struct Asked {
    method: Method,
    resource: Resource,
    query: Vec<String>,
    observe: Option<ObserveAction>,
    if_match: bool,
    body: Option<Value>,
}

impl Server {
    /// A server without sessions. `epoch` is an instant and its wall-clock time in seconds; `seed` makes message ids.
    #[must_use]
    pub fn new(
        policy: ServerPolicy,
        mitigator: Box<dyn Mitigator>,
        epoch: (Instant, u64),
        seed: u64,
    ) -> Self {
        Self {
            policy,
            mitigator,
            data: Box::new(NoDataChannel),
            sessions: HashMap::new(),
            due_of: HashMap::new(),
            due: BTreeSet::new(),
            presence: Presence::default(),
            observers: BTreeMap::new(),
            registry: Registry::default(),
            names: Names::default(),
            waiting: Vec::new(),
            owners: BTreeMap::new(),
            telemetry: TelemetryStore::default(),
            setups: BTreeMap::new(),
            reported: Reported::default(),
            reports: Reports::default(),
            changed: Changed::new(),
            epoch: Epoch {
                instant: epoch.0,
                seconds: epoch.1,
            },
            next_report: epoch.0,
            seed,
            transmits: VecDeque::new(),
            closes: VecDeque::new(),
        }
    }

    /// Aliases and filters are those of this data channel; without one clients have none.
    #[must_use]
    pub fn with_data_channel(mut self, data: Box<dyn DataChannel>) -> Self {
        self.data = data;
        self
    }

    /// Baselines that a client has reported. Poll until `None` after each `handle_data`; those that nobody fetches are dropped.
    #[must_use]
    pub fn poll_baselines(&mut self) -> Option<ReportedBaselines> {
        self.reported.pop()
    }

    /// A peer has proved who it is.
    pub fn handle_connected(&mut self, now: Instant, id: SessionId, peer: &PeerIdentity) {
        let client = self.policy.clients.iter().find(|(name, _)| {
            peer.names
                .iter()
                .any(|other| other.eq_ignore_ascii_case(name))
        });
        if client.is_none() {
            tracing::warn!(names = ?peer.names, "a client that no [[dots_server.client]] names: its requests are refused");
        }
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let parameters = SessionParameters::default();
        let mut session = Session::new(parameters.clone(), self.seed);
        session.handle_connected(now);
        let name = client.map(|(name, _)| name);
        let most = self.policy.max_sessions_per_client;
        let sessions = &self.sessions;
        let heard_at = |other: SessionId| sessions.get(&other).and_then(|peer| peer.heard_at);
        let idle = self.presence.add(now, name, id, most, heard_at);
        if let Some(idle) = idle {
            tracing::warn!(names = ?peer.names, most, "too many sessions of a client: the most idle is closed");
            self.closes.push_back(idle);
        }
        let peer = Peer {
            session,
            client: client.cloned(),
            observed: Observed::new(now),
            config: SessionConfig::default(),
            parameters,
            heard_at: None,
        };
        self.sessions.insert(id, peer);
        self.reschedule(id);
    }

    /// Application data of a session.
    pub fn handle_data(&mut self, now: Instant, id: SessionId, data: &[u8]) {
        if let Some(peer) = self.sessions.get_mut(&id) {
            peer.heard_at = Some(now);
            peer.session.handle_datagram(now, data);
            if let Some((client, _)) = &peer.client {
                let seconds = self.epoch.seconds_at(now);
                self.reports.handle_heard(seconds, client);
            }
        }
        self.handle_events(now, id);
        self.handle_due(now);
    }

    /// A session is gone; mitigations stay (RFC 9132 §4.7: the loss of a session ends none). A client without any session for
    /// as long as it may be silent has lost its signal: what it has preconfigured begins.
    pub fn handle_closed(&mut self, now: Instant, id: SessionId) {
        let Some(peer) = self.sessions.remove(&id) else {
            return;
        };
        let name = peer.client.as_ref().map(|(name, _)| name);
        let sessions = &self.sessions;
        let heard = |other| is_heard(sessions, other);
        self.presence.remove(now, name, id, &peer.parameters, heard);
        for cuid in peer.observed.cuids() {
            if let Some(sessions) = self.observers.get_mut(cuid) {
                sessions.remove(&id);
                if sessions.is_empty() {
                    self.observers.remove(cuid);
                }
            }
        }
        self.reschedule(id);
    }

    /// Takes in how an attack stands that this side observes, without `tmid`; `None`: it is over. Clients that have asked about
    /// its target are told (RFC 9244 §8.3), each of its own prefixes.
    pub fn handle_observation(
        &mut self,
        now: Instant,
        attack: &str,
        item: Option<PreOrOngoingMitigation>,
    ) {
        if !self.telemetry.observe(attack, item) {
            return;
        }
        for cuid in self.telemetry.cuids() {
            if !self.wants_server_telemetry(&cuid) {
                continue;
            }
            let concerns = |resource: &Resource| matches!(resource, Resource::Telemetry { .. });
            for id in self.note_observers(&cuid, concerns, None) {
                self.send_notices(now, id);
            }
        }
    }

    /// The next name whose addresses are wanted (RFC 9132 §4.4.1). Poll until `None` after each `handle_*`; each is answered by
    /// [`handle_lookup`](Self::handle_lookup) within some seconds, be it with nothing.
    #[must_use]
    pub fn poll_lookup(&mut self) -> Option<String> {
        self.names.poll_lookup()
    }

    /// Takes the addresses of a name; none where it has none. Requests that waited for it are answered.
    pub fn handle_lookup(&mut self, now: Instant, name: &str, addresses: Vec<IpAddr>) {
        self.names.handle_lookup(now, name, addresses);
        for Waiting {
            session,
            exchange,
            asked,
        } in std::mem::take(&mut self.waiting)
        {
            self.handle_request(now, session, exchange, asked);
            self.gather(session);
        }
        self.handle_due(now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = self.due.range(..=(now, SessionId(u64::MAX)));
        let ids: Vec<SessionId> = due.map(|(_, id)| *id).collect();
        for id in ids {
            if let Some(peer) = self.sessions.get_mut(&id) {
                peer.session.handle_timeout(now);
            }
            self.handle_events(now, id);
        }
        self.handle_due(now);
    }

    /// The next datagram, and the session that it goes to. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<(SessionId, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// The next session to close: there are too many of its client.
    #[must_use]
    pub fn poll_close(&mut self) -> Option<SessionId> {
        self.closes.pop_front()
    }

    /// When `handle_timeout` is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.due.first().map(|(at, _)| *at),
            self.registry.poll_timeout(),
            self.presence.poll_timeout(),
            Some(self.next_report),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Sessions that stand.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// What the mitigator's back ends have done so far.
    #[must_use]
    pub fn mitigator_figures(&self) -> Vec<MitigatorFigures> {
        self.mitigator.figures()
    }

    /// Telemetry that gave way to newer because a client had too much of it.
    #[must_use]
    pub fn forgotten_telemetry(&self) -> u64 {
        self.telemetry.forgotten()
    }

    /// What clients have said of attacks and of peace, by number: labels for flows (RFC 9387 §3.3).
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        self.reports.iter()
    }

    /// Reports that gave way to newer ones because there were too many.
    #[must_use]
    pub fn forgotten_reports(&self) -> u64 {
        self.reports.forgotten()
    }

    /// Telemetry that a client has sent, by its cuid and tmid.
    pub fn telemetry(&self) -> impl Iterator<Item = (&Cuid, Tmid, &Telemetry)> {
        self.telemetry.iter()
    }

    /// Whether a client holds an active mitigation.
    #[must_use]
    pub fn is_mitigating(&self, cuid: &Cuid) -> bool {
        self.registry.is_mitigating(cuid)
    }

    /// Clients of whom a mitigation filters, where that may have changed since the last call: their filters apply that wait for
    /// one (RFC 8783 §7.2, `activate-when-mitigating`).
    #[must_use]
    pub fn poll_mitigating(&mut self) -> Option<BTreeSet<Cuid>> {
        self.registry.poll_mitigating()
    }

    fn handle_events(&mut self, now: Instant, id: SessionId) {
        while let Some(event) = self
            .sessions
            .get_mut(&id)
            .and_then(|peer| peer.session.poll_event())
        {
            match event {
                Event::Request {
                    exchange,
                    method,
                    resource,
                    query,
                    observe,
                    if_match,
                    body,
                } => {
                    let asked = Asked {
                        method,
                        resource,
                        query,
                        observe,
                        if_match,
                        body,
                    };
                    self.handle_request(now, id, exchange, asked);
                }
                Event::RelationEnded(relation) => {
                    if let Some(peer) = self.sessions.get_mut(&id) {
                        peer.observed.remove(relation);
                    }
                }
                Event::PeerLost => self.handle_lost(now, id),
                Event::PeerBack => tracing::info!(session = id.0, "a client is heard again"),
            }
        }
        self.send_notices(now, id);
    }

    fn handle_request(&mut self, now: Instant, id: SessionId, exchange: ExchangeId, asked: Asked) {
        let names = self.names_of(id, &asked);
        if self.names.is_missing_any(now, &names) && self.waiting.len() < MAX_WAITING {
            self.waiting.push(Waiting {
                session: id,
                exchange,
                asked,
            });
            return;
        }
        let (observe, resource) = (asked.observe, asked.resource.clone());
        let query = asked.query.clone();
        let changes = asked.method != Method::Get;
        let Some(mut response) = self.answer(now, id, asked) else {
            return;
        };
        if response.code == Code::SERVICE_UNAVAILABLE {
            response.max_age.get_or_insert(RETRY_AFTER);
        }
        let success = response.code.is_success();
        let Some(peer) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(ObserveAction::Register(relation)) = observe
            && success
        {
            let query = Query::parse(&query).unwrap_or_default();
            if let Some(cuid) = resource.cuid() {
                self.observers.entry(cuid.clone()).or_default().insert(id);
            }
            peer.observed.add(relation, resource.clone(), query);
        }
        peer.session.handle_response(now, exchange, response);
        if changes && success {
            self.note_changed(id, &resource);
        }
    }

    /// Reports, lifetimes, notifications.
    fn handle_due(&mut self, now: Instant) {
        if self.next_report <= now {
            self.next_report = now + REPORTS;
            while let Some(report) = self.mitigator.poll_report() {
                self.registry.handle_report(now, &report);
            }
            self.configure(now);
        }
        while let Some(id) = self.presence.poll_unheard(now) {
            self.close_if_left_behind(id);
        }
        while let Some(name) = self.presence.poll_lost(now) {
            tracing::info!(client = &*name, "a client has no session any more");
            self.handle_signal_lost(now, &name);
        }
        let mitigator = self.mitigator.as_mut();
        for news in self.registry.handle_timeout(now, &self.policy, mitigator) {
            let News { cuid, mid, last } = news;
            let concerns = |resource: &Resource| {
                matches!(resource, Resource::Mitigate { cuid: other, mid: of }
                    if *other == cuid && of.is_none_or(|of| of == mid))
            };
            let told = self.note_observers(&cuid, concerns, last.as_ref());
            for id in told {
                self.send_notices(now, id);
            }
        }
    }

    /// Gives each session the parameters that its client has chosen for these times.
    fn configure(&mut self, now: Instant) {
        let mut configured = Vec::new();
        for (id, peer) in &mut self.sessions {
            let Some((name, _)) = &peer.client else {
                continue;
            };
            if !peer.config.is_chosen() && peer.parameters == SessionParameters::default() {
                continue;
            }
            let mitigating = self
                .owners
                .iter()
                .any(|(cuid, owner)| owner == name && self.registry.is_mitigating(cuid));
            let parameters = peer.config.parameters(mitigating);
            if parameters != peer.parameters {
                peer.session.handle_parameters(now, &parameters);
                peer.parameters = parameters;
                configured.push(*id);
            }
        }
        configured.into_iter().for_each(|id| self.reschedule(id));
    }

    /// Takes what a session has to send, and notes when it wants to be woken.
    fn gather(&mut self, id: SessionId) {
        if let Some(peer) = self.sessions.get_mut(&id) {
            while let Some(datagram) = peer.session.poll_transmit() {
                self.transmits.push_back((id, datagram));
            }
        }
        self.reschedule(id);
    }

    fn reschedule(&mut self, id: SessionId) {
        let due = self.sessions.get(&id).and_then(|peer| {
            let own = peer.session.poll_timeout();
            own.into_iter().chain(peer.observed.poll_timeout()).min()
        });
        let before = match due {
            Some(due) => self.due_of.insert(id, due),
            None => self.due_of.remove(&id),
        };
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, id));
        }
        if let Some(due) = due {
            self.due.insert((due, id));
        }
    }
}
