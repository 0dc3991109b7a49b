//! What requests are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use serde_json::Value;
use weir_dots_proto::body::{
    AclActivation, Body, ConflictCause, ConflictInformation, Gauges, Mitigation, Scope, Target,
    Telemetry, Traffic,
};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::Response;
use weir_dots_proto::{BodyKind, Cuid, Method, Mid, RequestFault, Resource, check_request};
use weir_dtls::SessionId;

use super::{Asked, Server};
use crate::data::{protected, targets};
use crate::held::is_preconfigured;
use crate::names::names_of;
use crate::query::Query;
use crate::registry::{Outcome, Wanted};
use crate::reported::ReportedBaselines;
use crate::reports::Told;
use crate::saved::RowKey;
use crate::telemetry;

/// Cuids that one client may use.
const MAX_CUIDS: usize = 16;

impl Server {
    /// The answer; `None` for what is ignored in silence.
    pub(super) fn answer(&mut self, now: Instant, id: SessionId, asked: Asked) -> Option<Response> {
        let client = self.sessions.get(&id).and_then(|peer| peer.client.clone());
        let Some((name, prefixes)) = client else {
            return Some(Response::error(
                Code::UNAUTHORIZED,
                "this server does not serve your certificate",
            ));
        };
        if let Some(cuid) = asked.resource.cuid().cloned() {
            if let Some(elsewhere) = self.redirected() {
                return Some(elsewhere);
            }
            if let Err(refused) = self.own(&cuid, &name) {
                return Some(*refused);
            }
        }
        if asked.method == Method::Get {
            return Some(self.answer_get(now, id, &asked));
        }
        match asked.resource.clone() {
            Resource::Mitigate { cuid, mid } => {
                self.answer_mitigate(now, (&name, &prefixes), &cuid, mid, asked)
            }
            Resource::Telemetry { cuid, tmid } => {
                let body = asked.body;
                let asked = telemetry::Asked {
                    method: asked.method,
                    cuid: &cuid,
                    tmid,
                    body: body.as_ref(),
                };
                let (most, is_put) = (self.policy.max_telemetry, asked.method == Method::Put);
                let response = self
                    .telemetry
                    .answer(&asked, &prefixes, &self.registry, most);
                if is_put && response.code.is_success() {
                    self.look_into_telemetry(now, (&name, &cuid), body.as_ref());
                    self.note_reports(now, (&name, &cuid), &prefixes, body.as_ref());
                }
                Some(response)
            }
            Resource::TelemetrySetup { cuid, tsid } => {
                let most = self.policy.max_telemetry;
                let setup = self.setups.entry(cuid.clone()).or_default();
                let body = asked.body.as_ref();
                let response = setup.answer(asked.method, tsid, body, &prefixes, most);
                let baselines = tsid.map_or(&[][..], |tsid| setup.baselines(tsid));
                if asked.method == Method::Put
                    && response.code.is_success()
                    && !baselines.is_empty()
                {
                    self.reported.push(ReportedBaselines {
                        client: Arc::clone(&name),
                        prefixes: prefixes.clone(),
                        baselines: baselines.to_vec(),
                    });
                    let mut targets: Vec<IpNet> = Vec::new();
                    for baseline in baselines {
                        let named = &baseline.target_prefix;
                        targets.extend(if named.is_empty() { &prefixes } else { named });
                    }
                    let seconds = self.epoch.seconds_at(now);
                    self.reports.handle_normal(seconds, &name, targets);
                }
                if asked.method == Method::Delete {
                    let seconds = self.epoch.seconds_at(now);
                    self.reports.handle_taken_back(seconds, &name);
                }
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

    /// Keeps what telemetry says of attacks: a mitigation system's word on what they are (RFC 9387 §3.3.1).
    fn note_reports(
        &mut self,
        now: Instant,
        (client, cuid): (&Arc<str>, &Cuid),
        prefixes: &[IpNet],
        body: Option<&Value>,
    ) {
        let Some(told) = body.and_then(|body| Telemetry::from_json(body).ok()) else {
            return;
        };
        let seconds = self.epoch.seconds_at(now);
        for item in &told.pre_or_ongoing_mitigation {
            let targets: Vec<IpNet> = item
                .target
                .iter()
                .flat_map(|target| self.prefixes_of((client, cuid), target))
                .filter(|target| prefixes.iter().any(|prefix| prefix.contains(target)))
                .collect();
            for detail in &item.attack_detail {
                let numbers = (detail.vendor_id, detail.attack_id);
                let told = Told {
                    targets: &targets,
                    detail,
                    traffic: &item.total_attack_traffic,
                    name: self.data.attack_name(client, cuid, numbers),
                };
                self.reports.handle_attack(seconds, client, told);
            }
        }
    }

    /// Prefixes of a target, those of its aliases and of the mitigations that it names.
    fn prefixes_of(&self, (client, cuid): (&str, &Cuid), target: &Target) -> Vec<IpNet> {
        let aliases = target.alias_name.iter();
        let aliases = aliases.filter_map(|name| self.data.alias(client, cuid, name));
        let mids = target.mid_list.iter();
        let protected = mids.filter_map(|mid| self.registry.protected(cuid, *mid));
        let own = target.target_prefix.iter().copied();
        let mut all: Vec<IpNet> = own
            .chain(aliases.flat_map(|alias| alias.target_prefix))
            .collect();
        // A mitigation is often wider than the attack: it stands in only where nothing else is named.
        if all.is_empty() {
            all.extend(protected.flat_map(|scope| scope.target_prefix.clone()));
        }
        all
    }

    /// Names that a mitigation request waits for. A refresh goes by what was resolved for its request.
    pub(super) fn names_of(&self, id: SessionId, asked: &Asked) -> BTreeSet<String> {
        let (
            Method::Put,
            Resource::Mitigate {
                cuid,
                mid: Some(mid),
            },
        ) = (asked.method, &asked.resource)
        else {
            return BTreeSet::new();
        };
        if self.registry.contains(cuid, *mid) {
            return BTreeSet::new();
        }
        let client = self.sessions.get(&id).and_then(|peer| peer.client.as_ref());
        let scope = asked
            .body
            .as_ref()
            .and_then(|body| Mitigation::from_json(body).ok())
            .and_then(|mitigation| mitigation.scope.into_iter().next());
        let (Some((name, _)), Some(scope)) = (client, scope) else {
            return BTreeSet::new();
        };
        let targets = targets(self.data.as_ref(), (name, cuid), &scope).unwrap_or_default();
        targets.iter().flat_map(names_of).collect()
    }

    /// Where clients are to go instead (RFC 9132 §4.6).
    fn redirected(&self) -> Option<Response> {
        let (redirect, seconds) = self.policy.redirect.as_ref()?;
        let mut response = Response::with_body(Code::SERVICE_UNAVAILABLE, redirect.to_json());
        response.max_age = Some(*seconds);
        Some(response)
    }

    fn answer_get(&self, now: Instant, id: SessionId, asked: &Asked) -> Response {
        let query = match Query::parse(&asked.query) {
            Ok(query) => query,
            Err(text) => return Response::error(Code::BAD_REQUEST, text),
        };
        if asked.observe.is_some() && self.is_observed_otherwise(now, id, &asked.resource, &query) {
            return Response::error(
                Code::CONFLICT,
                "another query of this session observes a part of this",
            );
        }
        match self.shown(now, id, &asked.resource, &query, Vec::new()) {
            Some(body) => {
                let mut response = Response::with_body(Code::CONTENT, body);
                response.max_age = crate::session_config::max_age(&asked.resource);
                response
            }
            None => Response::error(Code::NOT_FOUND, "there is no such thing of yours"),
        }
    }

    /// RFC 9244 §9.2: of two queries that overlap only the first is observed.
    fn is_observed_otherwise(
        &self,
        now: Instant,
        id: SessionId,
        resource: &Resource,
        query: &Query,
    ) -> bool {
        let (Some(peer), Resource::Mitigate { cuid, mid }) = (self.sessions.get(&id), resource)
        else {
            return false;
        };
        let held = self.registry.shown(now, cuid, *mid);
        peer.observed.others(resource, query).any(|other| {
            !(other.is_unfiltered() && query.is_unfiltered())
                && held
                    .iter()
                    .any(|scope| other.takes_scope(scope) && query.takes_scope(scope))
        })
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
        (client, prefixes): (&str, &[IpNet]),
        cuid: &Cuid,
        mid: Option<Mid>,
        asked: Asked,
    ) -> Option<Response> {
        let Some(mid) = mid else {
            return Some(Response::error(Code::BAD_REQUEST, "`mid` is missing"));
        };
        if asked.method == Method::Delete {
            self.registry.delete(now, &(cuid.clone(), mid));
            return Some(Response::new(Code::DELETED));
        }
        let kind = if asked.if_match {
            BodyKind::Efficacy
        } else {
            BodyKind::Mitigation
        };
        let wanted = match self.read_scope(
            now,
            kind,
            (cuid, mid),
            asked.body.as_ref(),
            (client, prefixes),
        ) {
            Ok(wanted) => wanted,
            Err(refused) => return Some(*refused),
        };
        let outcome = if asked.if_match {
            let key = (cuid.clone(), mid);
            self.registry
                .efficacy(now, &key, &wanted.scope, &self.policy)
        } else if let Some(refused) = self.registry.refusal(now, &wanted, &self.policy) {
            refused
        } else if let Some(failed) = self.switch_filters((client, cuid), mid, &wanted.scope) {
            return Some(failed);
        } else {
            self.registry
                .put(now, wanted, &self.policy, self.mitigator.as_mut())
        };
        if matches!(outcome, Outcome::Answer(Code::CREATED, _)) {
            self.look_into_hints(now, (client, cuid), mid);
        }
        match outcome {
            Outcome::Answer(code, body) => Some(Response::with_body(code, body.to_json())),
            Outcome::Changed => Some(Response::new(Code::CHANGED)),
            Outcome::Refused(code, text) => Some(Response::error(code, text)),
            Outcome::Ignored => None,
        }
    }

    /// Throws the switches of a new request that would be granted (RFC 9133 §3.2.1). The answer where one fails: what stood before
    /// the request stands on, and the client asks again without them.
    fn switch_filters(
        &mut self,
        (client, cuid): (&str, &Cuid),
        mid: Mid,
        scope: &Scope,
    ) -> Option<Response> {
        let failed: Vec<AclActivation> = scope
            .acl_list
            .iter()
            .filter(|switch| !self.data.switch_filter(client, cuid, switch))
            .cloned()
            .collect();
        if failed.is_empty() {
            return None;
        }
        let scope = Scope {
            mid: Some(mid),
            acl_list: failed,
            ..Scope::default()
        };
        let body = Mitigation::single(scope).to_json();
        Some(Response::with_body(Code::SERVICE_UNAVAILABLE, body))
    }

    fn read_scope<'a>(
        &self,
        now: Instant,
        kind: BodyKind,
        (cuid, mid): (&'a Cuid, Mid),
        body: Option<&Value>,
        (client, prefixes): (&str, &[IpNet]),
    ) -> Result<Wanted<'a>, Box<Response>> {
        let body = checked(kind, body)?;
        let bad = |text: String| Box::new(Response::error(Code::BAD_REQUEST, text));
        let mitigation = Mitigation::from_json(body).map_err(|error| bad(error.to_string()))?;
        let Some(scope) = mitigation.scope.into_iter().next() else {
            return Err(bad("there is no scope".to_owned()));
        };
        self.check_switches((client, cuid), mid, &scope)?;
        let targets = targets(self.data.as_ref(), (client, cuid), &scope)
            .map_err(|alias| bad(format!("you have no alias `{alias}`")))?;
        let protected = if let Some(known) = self.registry.protected(cuid, mid) {
            // A refresh, or no request at all: held against the one that was made.
            known.clone()
        } else {
            let resolved: Result<Vec<Target>, String> = targets
                .iter()
                .map(|target| self.names.resolve(now, target))
                .collect();
            protected(&scope, &resolved.map_err(bad)?)
        };
        if protected.target_prefix.is_empty() {
            return Err(bad("there is nothing to protect".to_owned()));
        }
        entitled(&protected.target_prefix, prefixes).map_err(bad)?;
        Ok(Wanted {
            cuid,
            mid,
            scope,
            protected,
            unix: self.epoch.seconds_at(now),
        })
    }

    /// RFC 9133 §3.2.1: filters are switched by a new request and during an attack, and they exist.
    fn check_switches(
        &self,
        (client, cuid): (&str, &Cuid),
        mid: Mid,
        scope: &Scope,
    ) -> Result<(), Box<Response>> {
        if scope.acl_list.is_empty() {
            return Ok(());
        }
        if is_preconfigured(scope) || self.registry.contains(cuid, mid) {
            return Err(Box::new(Response::error(
                Code::BAD_REQUEST,
                "filters are switched by a request of a new mid, during an attack",
            )));
        }
        let unknown = scope
            .acl_list
            .iter()
            .find(|switch| !self.data.has_filter(client, cuid, &switch.acl_name));
        match unknown {
            Some(switch) => Err(Box::new(Response::error(
                Code::NOT_FOUND,
                format!("you have no filter `{}`", switch.acl_name),
            ))),
            None => Ok(()),
        }
    }
}

/// What the mitigator drops now, octets and packets per second, is the attack traffic that it sees (RFC 9244 §9.2).
pub(super) fn add_telemetry(scope: &mut Scope, (octets, packets): (u64, u64)) {
    let gauges = |value: u64| Gauges {
        current_g: Some(value),
        ..Gauges::default()
    };
    if octets > 0 {
        scope.total_attack_traffic = vec![
            Traffic::in_bits(&gauges(octets.saturating_mul(8))),
            Traffic::in_packets(&gauges(packets)),
        ];
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
