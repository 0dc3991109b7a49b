//! Whether and whom to ask for help about an attack.

use std::sync::Arc;
use std::time::Duration;

use weir_attack_event::{AttackId, EventKind};
use weir_dots_proto::body::Scope;

use super::Exporter;
use crate::command::ClientCommand;
use crate::config::{RequestMode, Share, UpstreamSettings};
use crate::decision::Action;
use crate::followed::{Asked, Lane, Request};
use crate::request::mitigation_body;
use crate::scope::{covers, mitigation_scope, overlap, union};
use crate::standing::{Decline, decline};
use crate::telemetry::{MAX_BODY_OCTETS, efficacy, fits};

/// The span of `max_requests_per_minute`.
const MINUTE: Duration = Duration::from_secs(60);

impl Exporter {
    /// Decides whether and whom to ask for an attack.
    pub(super) fn consider(&mut self, id: &AttackId) {
        let lanes = self.attacks.get(id).map_or(0, |one| one.lanes.len());
        for lane in 0..lanes {
            self.consider_lane(id, lane);
        }
    }

    pub(super) fn consider_lane(&mut self, id: &AttackId, lane: usize) {
        let Some(followed) = self.attacks.get(id) else {
            return;
        };
        let wanted = mitigation_scope(&followed.event);
        let Some(request) = followed.lanes.get(lane).map(|lane| &lane.request) else {
            return;
        };
        match request {
            Request::Asked(asked) if covers(&asked.scope, &wanted) => {}
            Request::Rehearsed(asked)
                if followed.is_rehearsal() && covers(&asked.scope, &wanted) => {}
            Request::Asked(asked) => {
                // Scopes of an attack only grow: what was asked for once keeps being protected.
                let upstream = asked.upstream.clone();
                let scope = union(&asked.scope, &wanted);
                self.ask_again(id, lane, &upstream, scope);
            }
            Request::Covered(by) if self.is_covered(by, &wanted) => {}
            Request::None(Some(Decline::Refused)) => {}
            Request::None(_)
            | Request::Covered(_)
            | Request::AwaitsConfirmation
            | Request::Rehearsed(_) => {
                self.ask_first(id, lane, wanted);
            }
        }
    }

    fn is_covered(&self, by: &AttackId, wanted: &Scope) -> bool {
        let mut lanes = self.attacks.get(by).into_iter().flat_map(|one| &one.lanes);
        lanes.any(|lane| {
            lane.asked()
                .is_some_and(|asked| covers(&asked.scope, wanted))
        })
    }

    fn ask_again(&mut self, id: &AttackId, lane: usize, upstream: &Arc<str>, scope: Scope) {
        let Some(followed) = self.attacks.get(id) else {
            return;
        };
        let reason = decline(&followed.policy, &followed.event, &scope)
            .or_else(|| self.on_hold.then_some(Decline::Hold))
            .or_else(|| self.too_often(id));
        if let Some(reason) = reason {
            tracing::warn!(attack = %id, %reason, "the wider scope is not asked for");
            return;
        }
        self.ask(id, lane, upstream.clone(), scope, "the attack has grown");
    }

    /// Asks the first upstream of a lane that may be asked.
    pub(super) fn ask_first(&mut self, id: &AttackId, lane: usize, wanted: Scope) {
        let Some(followed) = self.attacks.get(id) else {
            return;
        };
        if let Some(reason) = decline(&followed.policy, &followed.event, &wanted) {
            return self.set_declined(id, lane, reason);
        }
        let asks = followed.policy.request_for(&followed.event);
        let rehearsal = followed.is_rehearsal();
        let confirmed = followed.confirmed || rehearsal;
        if let Some(reason) = self.below_link_share(id) {
            return self.set_declined(id, lane, reason);
        }
        if self.on_hold {
            return self.set_declined(id, lane, Decline::Hold);
        }
        if asks == RequestMode::Confirm && !confirmed {
            return self.await_confirmation(id, lane);
        }
        let Some(upstream) = self.next_upstream(id, lane, &wanted) else {
            let reason = if self.was_tried(id, lane) {
                self.retry_later(id, lane);
                Decline::Refused
            } else {
                Decline::NoUpstream
            };
            return self.set_declined(id, lane, reason);
        };
        if let Some(by) = self.covering(id, &upstream, &wanted) {
            tracing::info!(attack = %id, %by, "the request for another attack covers the target");
            let why = format!("the request for {by} covers it");
            self.decide(Action::Covered, Some(id), Some(&upstream), &[], why);
            return self.set_request(id, lane, Request::Covered(by));
        }
        if rehearsal {
            return self.rehearse(id, lane, upstream, wanted);
        }
        let limit = self
            .attacks
            .get(id)
            .map_or(0, |one| one.policy.max_requests);
        if self.active_requests(id) >= limit {
            return self.set_declined(id, lane, Decline::Limit(limit));
        }
        if let Some(reason) = self.too_often(id) {
            self.retry_later(id, lane);
            return self.set_declined(id, lane, reason);
        }
        let why = self.reason_of(id);
        self.ask(id, lane, upstream, wanted, &why);
    }

    /// Asks an upstream. Where other requests of ours there overlap, which this one's higher `mid` would replace
    /// (RFC 9132 §4.4.1.2), it asks for theirs too.
    fn ask(&mut self, id: &AttackId, lane: usize, upstream: Arc<str>, mut scope: Scope, why: &str) {
        let mut supersedes = Vec::new();
        for (other, followed) in &self.attacks {
            for asked in followed.lanes.iter().filter_map(|lane| lane.asked()) {
                if other != id && asked.upstream == upstream && overlap(&asked.scope, &scope) {
                    scope = union(&scope, &asked.scope);
                    supersedes.push(other.clone());
                }
            }
        }
        let Some(followed) = self.attacks.get_mut(id) else {
            return;
        };
        let (lifetime, policy) = (followed.policy.lifetime, followed.policy.name.clone());
        if !fits(&mitigation_body(&scope, lifetime), MAX_BODY_OCTETS) {
            let reason = Decline::TooLarge(scope.target_prefix.len());
            let asked = followed
                .lanes
                .get(lane)
                .is_some_and(|lane| lane.asked().is_some());
            if asked {
                // What was asked for stays ours to refresh and to withdraw.
                tracing::warn!(attack = %id, %reason, "the wider scope is not asked for");
            } else {
                self.set_declined(id, lane, reason);
            }
            return;
        }
        if let Some(lane) = followed.lanes.get_mut(lane) {
            lane.retry_at = None;
            lane.request = Request::Asked(Asked {
                supersedes,
                ..Asked::new(upstream.clone(), scope.clone())
            });
        }
        self.asked_at.entry(policy).or_default().push_back(self.now);
        self.decide(
            Action::Ask,
            Some(id),
            Some(&upstream),
            &scope.target_prefix,
            why,
        );
        let command = ClientCommand::Request {
            attack: id.clone(),
            scope: Box::new(scope),
            lifetime,
        };
        self.commands.push_back((upstream, command));
        self.name_vectors(id);
    }

    /// The first upstream of a lane that may be asked, concerns the target (RFC 9284 §5), and was not tried.
    pub(super) fn next_upstream(
        &self,
        id: &AttackId,
        lane: usize,
        wanted: &Scope,
    ) -> Option<Arc<str>> {
        let lane = self.attacks.get(id)?.lanes.get(lane)?;
        let may = |upstream: &&UpstreamSettings| {
            upstream.share.contains(&Share::Mitigation)
                && upstream.holds(&wanted.target_prefix)
                && !lane.tried.contains(&upstream.name)
        };
        lane.upstreams
            .iter()
            .filter_map(|name| self.settings.upstream(name))
            .find(may)
            .map(|upstream| upstream.name.clone())
    }

    /// An attack whose request at this upstream covers the target.
    pub(super) fn covering(
        &self,
        id: &AttackId,
        upstream: &Arc<str>,
        wanted: &Scope,
    ) -> Option<AttackId> {
        let covers = |asked: &Asked| asked.upstream == *upstream && covers(&asked.scope, wanted);
        self.attacks
            .iter()
            .filter(|(other, _)| *other != id)
            .find(|(_, followed)| {
                let mut asked = followed.lanes.iter().filter_map(|lane| lane.asked());
                asked.any(covers)
            })
            .map(|(other, _)| other.clone())
    }

    /// Attacks that the request for `by` covered are asked for by themselves, or covered by another.
    pub(super) fn ask_for_covered(&mut self, by: &AttackId) {
        let covered: Vec<(AttackId, usize)> = self
            .attacks
            .iter()
            .flat_map(|(id, followed)| {
                let lanes = followed.lanes.iter().enumerate();
                lanes.map(move |(index, lane)| (id, index, lane))
            })
            .filter(|(_, _, lane)| lane.request == Request::Covered(by.clone()))
            .map(|(id, index, _)| (id.clone(), index))
            .collect();
        for (id, lane) in covered {
            self.consider_lane(&id, lane);
        }
    }

    /// What was granted a while ago and drops nothing, while the attack goes on, has no effect: the next is asked as well.
    pub(super) fn look_for_effect(&mut self, id: &AttackId) {
        let Some(followed) = self.attacks.get(id) else {
            return;
        };
        if followed.event.kind == EventKind::AttackEnd {
            return;
        }
        let without = |asked: &Asked| {
            let since = asked
                .granted_at
                .map(|at| at.plus(followed.policy.effect_after));
            asked.dropped == 0 && since.is_some_and(|since| since <= self.now)
        };
        let idle: Vec<usize> = (0..)
            .zip(&followed.lanes)
            .filter(|(_, lane)| lane.asked().is_some_and(without))
            .map(|(index, _)| index)
            .collect();
        for lane in idle {
            self.move_on(id, lane, "it was granted and drops nothing");
        }
    }

    /// Tells upstreams that mitigate how much still arrives (RFC 9132 §4.4.3).
    pub(super) fn rate(&mut self, id: &AttackId) {
        let now = self.now;
        let Some(followed) = self.attacks.get_mut(id) else {
            return;
        };
        let interval = followed.policy.efficacy_interval;
        let granted = |lane: &Lane| {
            let asked = lane.asked().filter(|asked| asked.granted_at.is_some());
            asked.map(|asked| asked.upstream.clone())
        };
        let upstreams: Vec<Arc<str>> = followed
            .lanes
            .iter()
            .flat_map(|lane| granted(lane).into_iter().chain(lane.kept.iter().cloned()))
            .collect();
        if upstreams.is_empty() {
            return;
        }
        // The first after it was granted waits as well: there is nothing to tell before it works.
        let since = *followed.rated_at.get_or_insert(now);
        if interval.is_zero() || now < since.plus(interval) {
            return;
        }
        followed.rated_at = Some(now);
        let efficacy = efficacy(&followed.event);
        for upstream in upstreams {
            let command = ClientCommand::Efficacy {
                attack: id.clone(),
                efficacy: efficacy.clone(),
            };
            self.commands.push_back((upstream, command));
        }
    }

    /// The next upstream is asked beside the one that does what it can, which keeps its request.
    pub(super) fn move_on(&mut self, id: &AttackId, lane: usize, why: &str) {
        let Some(followed) = self.attacks.get_mut(id) else {
            return;
        };
        let wanted = mitigation_scope(&followed.event);
        let Some(one) = followed.lanes.get_mut(lane) else {
            return;
        };
        let Some(upstream) = one.asked().map(|asked| asked.upstream.clone()) else {
            return;
        };
        one.tried.insert(upstream.clone());
        if self.on_hold || self.next_upstream(id, lane, &wanted).is_none() {
            return;
        }
        self.decide(Action::FallBack, Some(id), Some(&upstream), &[], why);
        self.counters.fallbacks += 1;
        if let Some(one) = self.lane_mut(id, lane) {
            one.kept.insert(upstream);
            one.request = Request::None(None);
        }
        self.ask_first(id, lane, wanted);
    }

    /// Begins a lane anew whose time has come.
    pub(super) fn retry(&mut self, id: &AttackId) {
        let now = self.now;
        let Some(followed) = self.attacks.get_mut(id) else {
            return;
        };
        let mut due = Vec::new();
        for (index, lane) in followed.lanes.iter_mut().enumerate() {
            if lane.retry_at.is_some_and(|at| at <= now) {
                lane.retry_at = None;
                lane.tried.clear();
                if lane.asked().is_none() {
                    lane.request = Request::None(None);
                    due.push(index);
                }
            }
        }
        due.into_iter()
            .for_each(|lane| self.consider_lane(id, lane));
    }

    fn retry_later(&mut self, id: &AttackId, lane: usize) {
        let now = self.now;
        if let Some(followed) = self.attacks.get_mut(id) {
            let at = now.plus(followed.policy.retry_after);
            if let Some(lane) = followed.lanes.get_mut(lane) {
                lane.retry_at = Some(at);
            }
        }
    }

    fn was_tried(&self, id: &AttackId, lane: usize) -> bool {
        let lanes = self.attacks.get(id).map(|one| &one.lanes);
        lanes
            .and_then(|lanes| lanes.get(lane))
            .is_some_and(|lane| !lane.tried.is_empty())
    }

    fn active_requests(&self, id: &AttackId) -> usize {
        let Some(policy) = self.attacks.get(id).map(|one| &one.policy.name) else {
            return 0;
        };
        self.attacks
            .values()
            .filter(|one| one.policy.name == *policy)
            .flat_map(|one| &one.lanes)
            .filter(|lane| lane.asked().is_some())
            .count()
    }

    /// Whether the policy has asked as often as it may within a minute.
    fn too_often(&mut self, id: &AttackId) -> Option<Decline> {
        let policy = &self.attacks.get(id)?.policy;
        let most = policy.max_requests_per_minute;
        let recent = self.asked_at.get_mut(&policy.name)?;
        while recent
            .front()
            .is_some_and(|at| self.now.since(*at) >= MINUTE)
        {
            recent.pop_front();
        }
        (recent.len() >= most).then_some(Decline::Rate(most))
    }

    fn await_confirmation(&mut self, id: &AttackId, lane: usize) {
        let awaited = self
            .lane_mut(id, lane)
            .is_some_and(|lane| lane.request == Request::AwaitsConfirmation);
        if !awaited {
            let why = self.reason_of(id);
            self.decide(Action::Await, Some(id), None, &[], why);
            self.set_request(id, lane, Request::AwaitsConfirmation);
        }
    }

    /// Why the detector calls it an attack.
    pub(super) fn reason_of(&self, id: &AttackId) -> String {
        let event = self.attacks.get(id).map(|one| &one.event);
        let reason = event.and_then(|event| event.why.first());
        reason.map_or_else(|| "an attack".to_owned(), |reason| reason.0.clone())
    }

    pub(super) fn set_request(&mut self, id: &AttackId, lane: usize, request: Request) {
        if let Some(lane) = self.lane_mut(id, lane) {
            lane.request = request;
        }
    }

    pub(super) fn lane_mut(&mut self, id: &AttackId, lane: usize) -> Option<&mut Lane> {
        self.attacks.get_mut(id)?.lanes.get_mut(lane)
    }

    fn set_declined(&mut self, id: &AttackId, lane: usize, reason: Decline) {
        let Some(followed) = self.attacks.get_mut(id) else {
            return;
        };
        let target = followed.event.target.prefix;
        let Some(lane) = followed.lanes.get_mut(lane) else {
            return;
        };
        let request = Request::None(Some(reason.clone()));
        if lane.request == request {
            return;
        }
        lane.request = request;
        tracing::info!(attack = %id, %target, %reason, "no mitigation is asked for");
        self.decide(
            Action::Decline,
            Some(id),
            None,
            &[target],
            reason.to_string(),
        );
    }
}
