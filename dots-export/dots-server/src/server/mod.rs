//! The server without its sockets: sessions in, mitigations and notifications out.

mod keeping;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::Value;
use weir_dots_proto::body::{
    Body, ConflictCause, ConflictInformation, Mitigation, MitigationStatus, Scope, Telemetry,
};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::{Event, ExchangeId, ObserveAction, RelationId, Response, Session};
use weir_dots_proto::{
    BodyKind, Cuid, Method, Mid, RequestFault, Resource, SessionParameters, Tmid, check_request,
};
use weir_dtls::{PeerIdentity, SessionId};

use crate::registry::{Outcome, Registry};
use crate::saved::{Changed, Epoch, RowKey};
use crate::session_config::SessionConfig;
use crate::setup::Setup;
use crate::telemetry::{self, TelemetryStore};
use crate::{Mitigator, ServerPolicy};

/// How often the mitigator is asked what it measured.
const REPORTS: Duration = Duration::from_millis(200);
/// Seconds after which a client may try again what was refused for want of room.
const RETRY_AFTER: u32 = 60;
/// Cuids that one client may use.
const MAX_CUIDS: usize = 16;

/// The server. After each `handle_*`, poll `poll_persist` until it is empty and write what it gives; then poll `poll_transmit`
/// until it is empty: an answer that is sent may be relied on after a restart.
pub struct Server {
    policy: ServerPolicy,
    mitigator: Box<dyn Mitigator>,
    sessions: HashMap<SessionId, Peer>,
    registry: Registry,
    /// Whose a cuid is: by the client's name.
    owners: BTreeMap<Cuid, Arc<str>>,
    telemetry: TelemetryStore,
    setups: BTreeMap<Cuid, Setup>,
    /// Rows of owners and setups that have changed.
    changed: Changed,
    epoch: Epoch,
    next_report: Instant,
    seed: u64,
    transmits: VecDeque<(SessionId, Vec<u8>)>,
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
    relations: BTreeMap<RelationId, Resource>,
    config: SessionConfig,
    parameters: SessionParameters,
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
            sessions: HashMap::new(),
            registry: Registry::default(),
            owners: BTreeMap::new(),
            telemetry: TelemetryStore::default(),
            setups: BTreeMap::new(),
            changed: Changed::new(),
            epoch: Epoch {
                instant: epoch.0,
                seconds: epoch.1,
            },
            next_report: epoch.0,
            seed,
            transmits: VecDeque::new(),
        }
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
        let peer = Peer {
            session,
            client: client.cloned(),
            relations: BTreeMap::new(),
            config: SessionConfig::default(),
            parameters,
        };
        self.sessions.insert(id, peer);
    }

    /// Application data of a session.
    pub fn handle_data(&mut self, now: Instant, id: SessionId, data: &[u8]) {
        if let Some(peer) = self.sessions.get_mut(&id) {
            peer.session.handle_datagram(now, data);
        }
        self.handle_events(now, id);
        self.handle_due(now);
    }

    /// A session is gone; mitigations stay (RFC 9132 §4.7: the loss of a session ends none).
    pub fn handle_closed(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        let ids: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, peer)| peer.session.poll_timeout().is_some_and(|due| due <= now))
            .map(|(id, _)| *id)
            .collect();
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

    /// When `handle_timeout` is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self
            .sessions
            .values()
            .filter_map(|peer| peer.session.poll_timeout())
            .min();
        [
            sessions,
            self.registry.poll_timeout(&self.policy),
            Some(self.next_report),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Telemetry that gave way to newer because a client had too much of it.
    #[must_use]
    pub fn forgotten_telemetry(&self) -> u64 {
        self.telemetry.forgotten()
    }

    /// Telemetry that a client has sent, by its cuid and tmid.
    pub fn telemetry(&self) -> impl Iterator<Item = (&Cuid, Tmid, &Telemetry)> {
        self.telemetry.iter()
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
                        peer.relations.remove(&relation);
                    }
                }
                Event::PeerLost => tracing::info!(session = id.0, "a client is silent"),
                Event::PeerBack => tracing::info!(session = id.0, "a client is heard again"),
            }
        }
        self.gather(id);
    }

    fn handle_request(&mut self, now: Instant, id: SessionId, exchange: ExchangeId, asked: Asked) {
        let (observe, resource) = (asked.observe, asked.resource.clone());
        let Some(mut response) = self.answer(now, id, asked) else {
            return;
        };
        if response.code == Code::SERVICE_UNAVAILABLE {
            response.max_age = Some(RETRY_AFTER);
        }
        let Some(peer) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(ObserveAction::Register(relation)) = observe
            && response.code.is_success()
        {
            peer.relations.insert(relation, resource);
        }
        peer.session.handle_response(now, exchange, response);
    }

    /// The answer; `None` for what is ignored in silence.
    fn answer(&mut self, now: Instant, id: SessionId, asked: Asked) -> Option<Response> {
        let client = self.sessions.get(&id).and_then(|peer| peer.client.clone());
        let Some((name, prefixes)) = client else {
            return Some(Response::error(
                Code::UNAUTHORIZED,
                "this server does not serve your certificate",
            ));
        };
        if let Some(cuid) = asked.resource.cuid().cloned()
            && let Err(refused) = self.own(&cuid, &name)
        {
            return Some(*refused);
        }
        match asked.resource.clone() {
            Resource::Mitigate { cuid, mid } => {
                self.answer_mitigate(now, &prefixes, &cuid, mid, asked)
            }
            Resource::Telemetry { cuid, tmid } => {
                let asked = telemetry::Asked {
                    method: asked.method,
                    cuid: &cuid,
                    tmid,
                    query: &asked.query,
                    body: asked.body.as_ref(),
                };
                let most = self.policy.max_telemetry;
                Some(
                    self.telemetry
                        .answer(&asked, &prefixes, &self.registry, most),
                )
            }
            Resource::TelemetrySetup { cuid, tsid } => {
                let most = self.policy.max_telemetry;
                let setup = self.setups.entry(cuid.clone()).or_default();
                let body = asked.body.as_ref();
                let response = setup.answer(asked.method, tsid, body, &prefixes, most);
                while let Some(tsid) = setup.poll_changed() {
                    self.changed.insert(RowKey::Setup(cuid.clone(), tsid));
                }
                Some(response)
            }
            Resource::Config { sid } => {
                let peer = self.sessions.get_mut(&id)?;
                Some(peer.config.answer(asked.method, sid, asked.body.as_ref()))
            }
            // Heartbeats are answered by the session.
            Resource::Heartbeat => None,
        }
    }

    /// A cuid belongs to the client that used it first; for another one it is a collision (RFC 9132 §4.4.1.1).
    fn own(&mut self, cuid: &Cuid, name: &Arc<str>) -> Result<(), Box<Response>> {
        match self.owners.get(cuid).map(|owner| owner == name) {
            Some(true) => Ok(()),
            Some(false) => {
                let information = ConflictInformation {
                    conflict_cause: Some(ConflictCause::CuidCollision),
                    ..Default::default()
                };
                let scope = Scope {
                    conflict_information: Some(information),
                    ..Scope::default()
                };
                Err(Box::new(Response::with_body(
                    Code::CONFLICT,
                    Mitigation::single(scope).to_json(),
                )))
            }
            None if !self.has_room(name) => Err(Box::new(Response::error(
                Code::SERVICE_UNAVAILABLE,
                "too many cuids of this client",
            ))),
            None => {
                self.owners.insert(cuid.clone(), Arc::clone(name));
                self.changed.insert(RowKey::Owner(cuid.clone()));
                Ok(())
            }
        }
    }

    /// Whether a client may use one more cuid. Those that hold nothing are forgotten first.
    fn has_room(&mut self, name: &Arc<str>) -> bool {
        let count = |owners: &BTreeMap<Cuid, Arc<str>>| {
            owners.values().filter(|owner| *owner == name).count()
        };
        if count(&self.owners) < MAX_CUIDS {
            return true;
        }
        let (registry, telemetry, setups) = (&self.registry, &self.telemetry, &self.setups);
        let changed = &mut self.changed;
        self.owners.retain(|cuid, owner| {
            let kept = owner != name
                || registry.holds_any(cuid)
                || telemetry.holds_any(cuid)
                || setups.get(cuid).is_some_and(|setup| !setup.is_empty());
            if !kept {
                changed.insert(RowKey::Owner(cuid.clone()));
            }
            kept
        });
        let owners = &self.owners;
        self.setups.retain(|cuid, _| owners.contains_key(cuid));
        count(&self.owners) < MAX_CUIDS
    }

    fn answer_mitigate(
        &mut self,
        now: Instant,
        prefixes: &[IpNet],
        cuid: &Cuid,
        mid: Option<Mid>,
        asked: Asked,
    ) -> Option<Response> {
        let missing = || Some(Response::error(Code::BAD_REQUEST, "`mid` is missing"));
        match asked.method {
            Method::Get => {
                if let Some(query) = asked.query.iter().find(|query| !query.starts_with("c=")) {
                    return Some(Response::error(
                        Code::BAD_REQUEST,
                        format!("query `{query}` is not supported"),
                    ));
                }
                let found = self.registry.get(now, cuid, mid);
                Some(match found {
                    Some(found) => Response::with_body(Code::CONTENT, found.to_json()),
                    None => Response::error(Code::NOT_FOUND, "no such mitigation"),
                })
            }
            Method::Delete => {
                let Some(mid) = mid else { return missing() };
                self.registry.delete(now, &(cuid.clone(), mid));
                Some(Response::new(Code::DELETED))
            }
            Method::Put => {
                let Some(mid) = mid else { return missing() };
                let kind = if asked.if_match {
                    BodyKind::Efficacy
                } else {
                    BodyKind::Mitigation
                };
                let scope = match read_scope(kind, asked.body.as_ref(), prefixes) {
                    Ok(scope) => scope,
                    Err(refused) => return Some(*refused),
                };
                let outcome = if asked.if_match {
                    self.registry
                        .efficacy(now, (cuid.clone(), mid), &scope, &self.policy)
                } else {
                    let unix = self.epoch.seconds_at(now);
                    self.registry.put(
                        now,
                        unix,
                        (cuid, mid),
                        scope,
                        &self.policy,
                        self.mitigator.as_mut(),
                    )
                };
                match outcome {
                    Outcome::Answer(code, body) => Some(Response::with_body(code, body.to_json())),
                    Outcome::Changed => Some(Response::new(Code::CHANGED)),
                    Outcome::Refused(code, text) => Some(Response::error(code, text)),
                    Outcome::Ignored => None,
                }
            }
        }
    }

    /// Reports, lifetimes, notifications.
    fn handle_due(&mut self, now: Instant) {
        if self.next_report <= now {
            self.next_report = now + REPORTS;
            while let Some(report) = self.mitigator.poll_report() {
                self.registry.handle_report(&report);
            }
            self.configure(now);
        }
        for (cuid, mid, body) in
            self.registry
                .handle_timeout(now, &self.policy, self.mitigator.as_mut())
        {
            let terminated = Some(MitigationStatus::AttackMitigationTerminated);
            let over = body.scope.iter().all(|scope| scope.status == terminated);
            self.notify(now, &cuid, mid, &body.to_json(), over);
        }
    }

    /// Gives each session the parameters that its client has chosen for these times.
    fn configure(&mut self, now: Instant) {
        for peer in self.sessions.values_mut() {
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
            }
        }
    }

    /// Tells observers of a mitigation; `over`: for the last time.
    fn notify(&mut self, now: Instant, cuid: &Cuid, mid: Mid, body: &Value, over: bool) {
        let one = Resource::Mitigate {
            cuid: cuid.clone(),
            mid: Some(mid),
        };
        let all = Resource::Mitigate {
            cuid: cuid.clone(),
            mid: None,
        };
        let mut told = Vec::new();
        for (id, peer) in &mut self.sessions {
            peer.relations.retain(|relation, resource| {
                let is_one = *resource == one;
                if is_one || *resource == all {
                    peer.session.handle_notification(now, *relation, body);
                    told.push(*id);
                }
                if is_one && over {
                    peer.session.handle_gone(*relation);
                }
                !(is_one && over)
            });
        }
        told.into_iter().for_each(|id| self.gather(id));
    }

    fn gather(&mut self, id: SessionId) {
        if let Some(peer) = self.sessions.get_mut(&id) {
            while let Some(datagram) = peer.session.poll_transmit() {
                self.transmits.push_back((id, datagram));
            }
        }
    }

    /// Whether a client holds an active mitigation.
    #[must_use]
    pub fn is_mitigating(&self, cuid: &Cuid) -> bool {
        self.registry.is_mitigating(cuid)
    }
}

/// A body that keeps the rules of its resource; else the answer.
pub(crate) fn checked(kind: BodyKind, body: Option<&Value>) -> Result<&Value, Box<Response>> {
    let body =
        body.ok_or_else(|| Box::new(Response::error(Code::BAD_REQUEST, "a PUT needs a body")))?;
    match check_request(kind, body) {
        Ok(()) => Ok(body),
        Err(RequestFault::BadRequest(text)) => {
            Err(Box::new(Response::error(Code::BAD_REQUEST, text)))
        }
        Err(RequestFault::Unprocessable(text)) => {
            Err(Box::new(Response::error(Code::UNPROCESSABLE_ENTITY, text)))
        }
    }
}

fn read_scope(
    kind: BodyKind,
    body: Option<&Value>,
    prefixes: &[IpNet],
) -> Result<Scope, Box<Response>> {
    let body = checked(kind, body)?;
    let bad = |text: String| Box::new(Response::error(Code::BAD_REQUEST, text));
    let mitigation = Mitigation::from_json(body).map_err(|error| bad(error.to_string()))?;
    let Some(scope) = mitigation.scope.into_iter().next() else {
        return Err(bad("there is no scope".to_owned()));
    };
    if !(scope.target_fqdn.is_empty() && scope.target_uri.is_empty() && scope.alias_name.is_empty())
    {
        return Err(bad(
            "this server knows targets by prefix only, no names, URIs or aliases".to_owned(),
        ));
    }
    if scope.trigger_mitigation == Some(false) {
        return Err(bad(
            "this server does not keep requests for the loss of the signal".to_owned(),
        ));
    }
    if !scope.acl_list.is_empty() {
        return Err(bad("this server has no filters to control".to_owned()));
    }
    entitled(&scope.target_prefix, prefixes).map_err(bad)?;
    Ok(scope)
}

/// RFC 9132 §4.4.1.1: target prefixes lie within the client's domain; others are invalid values.
pub(crate) fn entitled(targets: &[IpNet], prefixes: &[IpNet]) -> Result<(), String> {
    match targets
        .iter()
        .find(|target| !prefixes.iter().any(|prefix| prefix.contains(*target)))
    {
        Some(foreign) => Err(format!("{foreign} is not yours to protect")),
        None => Ok(()),
    }
}
