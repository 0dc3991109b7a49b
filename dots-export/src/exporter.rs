//! Policy: who is told what about an attack, and who is asked for help.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use weir_attack_event::{AttackEvent, AttackId, EventKind, MitigationReport, MitigationStatus};
use weir_dots_proto::body::Scope;
use weir_flow_record::Timestamp;

use crate::command::{ClientCommand, ClientNotice, is_operators};
use crate::config::{ExportSettings, PolicySettings, RequestMode, Share, UpstreamSettings};
use crate::followed::{Asked, Followed, Request};
use crate::request::mitigation_body;
use crate::scope::{covers, mitigation_scope, overlap, prefixes, union};
use crate::standing::{Decline, ExporterCounters, Standing, decline};
use crate::telemetry::{MAX_BODY_OCTETS, fits, telemetry_body};

/// Attacks that are followed at once; further ones are counted and told to nobody.
const MAX_FOLLOWED: usize = 4096;

/// The policy as a state machine in the data's time. After each `handle_*`, poll [`poll_command`](Self::poll_command) until
/// it is empty, and ask [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Exporter {
    settings: ExportSettings,
    attacks: BTreeMap<AttackId, Followed>,
    /// Attacks that were open when the process began, until their first event.
    open: BTreeSet<AttackId>,
    /// Mitigations from before the restart whose attacks have not been heard of yet.
    held: BTreeMap<AttackId, (Arc<str>, Scope)>,
    commands: VecDeque<(Arc<str>, ClientCommand)>,
    counters: ExporterCounters,
}

impl Exporter {
    /// A policy that follows no attack yet.
    #[must_use]
    pub fn new(settings: ExportSettings) -> Self {
        Self {
            settings,
            attacks: BTreeMap::new(),
            open: BTreeSet::new(),
            held: BTreeMap::new(),
            commands: VecDeque::new(),
            counters: ExporterCounters::default(),
        }
    }

    /// Says which attacks are still open after a restart: before the first event and the first notice. Mitigations that
    /// clients hold for other attacks are withdrawn, save for an operator's.
    pub fn restore(&mut self, open: impl IntoIterator<Item = AttackId>) {
        self.open.extend(open);
    }

    /// Takes new settings. Requests that were made stay as they are until their attacks end.
    pub fn handle_settings(&mut self, settings: ExportSettings) {
        self.settings = settings;
    }

    /// Takes in what the detector says.
    pub fn handle_event(&mut self, now: Timestamp, event: &AttackEvent) {
        let known = self.attacks.contains_key(&event.id);
        if !known && !self.follow(event) {
            self.forget_unfollowed(event);
            return;
        }
        let Some(followed) = self.attacks.get_mut(&event.id) else {
            return;
        };
        if known {
            *followed.event = event.clone();
            self.counters.superseded_telemetry += u64::from(followed.untold);
            followed.untold = true;
        }
        let ended = event.kind == EventKind::AttackEnd;
        // An attack that was over when it was detected is told like any other; an end asks for nothing new.
        if !known || !ended {
            self.consider(&event.id);
        }
        self.tell(now, &event.id, ended);
        if ended {
            self.end(&event.id);
        }
    }

    /// Takes in what a client reports.
    pub fn handle_notice(&mut self, _now: Timestamp, notice: &ClientNotice) {
        match notice {
            ClientNotice::Held {
                upstream,
                attack,
                scope,
                ..
            } => self.handle_held(upstream, attack, scope),
            ClientNotice::Granted(report) => self.handle_granted(report),
            ClientNotice::Status(report) => self.handle_status(report),
            ClientNotice::Refused {
                attack,
                upstream,
                diagnostic,
                retry_in,
                ..
            } => self.fall_back(attack, upstream, diagnostic, retry_in.is_some()),
            ClientNotice::Unreachable { attack, upstream } => {
                self.fall_back(attack, upstream, "no answer", true);
            }
            ClientNotice::Session { .. }
            | ClientNotice::Withdrawn { .. }
            | ClientNotice::Orphan { .. }
            | ClientNotice::Told { .. } => {}
        }
    }

    /// Takes an operator's word that help may be asked for (`request = "confirm"`). False: no such attack waits for it.
    pub fn handle_confirmation(&mut self, attack: &AttackId) -> bool {
        let Some(followed) = self.attacks.get_mut(attack) else {
            return false;
        };
        if followed.request != Request::AwaitsConfirmation {
            return false;
        }
        followed.confirmed = true;
        self.consider(attack);
        true
    }

    /// Lets time pass: tells what was held back by `telemetry_interval`.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let due: Vec<AttackId> = self
            .attacks
            .iter()
            .filter(|(_, followed)| followed.due().is_some_and(|due| due <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.tell(now, &id, false);
        }
    }

    /// The next order and whose client it is for; poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_command(&mut self) -> Option<(Arc<str>, ClientCommand)> {
        self.commands.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.attacks.values().filter_map(Followed::due).min()
    }

    /// How the request for an attack stands; `None`: the attack is not followed.
    #[must_use]
    pub fn standing(&self, attack: &AttackId) -> Option<Standing> {
        Some(match &self.attacks.get(attack)?.request {
            Request::None(reason) => {
                Standing::Declined(reason.clone().unwrap_or(Decline::NoUpstream))
            }
            Request::AwaitsConfirmation => Standing::AwaitsConfirmation,
            Request::Asked(asked) => Standing::Asked {
                upstream: asked.upstream.clone(),
                granted: asked.granted,
            },
            Request::Covered(by) => Standing::Covered { by: by.clone() },
        })
    }

    /// What was left out so far.
    #[must_use]
    pub fn counters(&self) -> ExporterCounters {
        self.counters
    }

    /// Begins to follow an attack; false where policy says nothing is to be done about it.
    fn follow(&mut self, event: &AttackEvent) -> bool {
        let Some(policy) = self.settings.policy_of_zone(&event.target.zone) else {
            return false;
        };
        let held = self.held.get(&event.id);
        if held.is_none() && (event.dry_run || event.severity < policy.minimum_severity) {
            return false;
        }
        if self.attacks.len() >= MAX_FOLLOWED {
            self.counters.refused_events += 1;
            return false;
        }
        let request = match self.held.remove(&event.id) {
            Some((upstream, scope)) => Request::Asked(Asked {
                upstream,
                scope: Box::new(scope),
                granted: true,
                supersedes: Vec::new(),
            }),
            None => Request::None(None),
        };
        self.open.remove(&event.id);
        let followed = Followed {
            event: Box::new(event.clone()),
            policy: policy.clone(),
            request,
            tried: BTreeSet::new(),
            confirmed: false,
            told_at: None,
            untold: true,
        };
        self.attacks.insert(event.id.clone(), followed);
        true
    }

    /// An attack that is not followed ends: a mitigation from before the restart, when its zone had a policy, ends too.
    fn forget_unfollowed(&mut self, event: &AttackEvent) {
        if event.kind != EventKind::AttackEnd {
            return;
        }
        self.open.remove(&event.id);
        if let Some((upstream, _)) = self.held.remove(&event.id) {
            self.withdraw(&upstream, &event.id);
        }
    }

    /// Decides whether and whom to ask for an attack.
    fn consider(&mut self, id: &AttackId) {
        let Some(followed) = self.attacks.get(id) else {
            return;
        };
        let wanted = mitigation_scope(&followed.event);
        match &followed.request {
            Request::Asked(asked) if covers(&asked.scope, &wanted) => {}
            Request::Asked(asked) => {
                // Scopes of an attack only grow: what was asked for once keeps being protected.
                let upstream = asked.upstream.clone();
                let scope = union(&asked.scope, &wanted);
                self.ask_again(id, &upstream, scope);
            }
            Request::Covered(by) if self.is_covered(by, &wanted) => {}
            Request::None(Some(Decline::Refused)) => {}
            Request::None(_) | Request::Covered(_) | Request::AwaitsConfirmation => {
                self.ask_first(id, wanted);
            }
        }
    }

    fn is_covered(&self, by: &AttackId, wanted: &Scope) -> bool {
        let other = self.attacks.get(by).map(|followed| &followed.request);
        matches!(other, Some(Request::Asked(asked)) if covers(&asked.scope, wanted))
    }

    fn ask_again(&mut self, id: &AttackId, upstream: &Arc<str>, scope: Scope) {
        let Some(followed) = self.attacks.get(id) else {
            return;
        };
        if let Some(reason) = decline(&followed.policy, &followed.event, &scope) {
            tracing::warn!(attack = %id, %reason, "the wider scope is not asked for");
            return;
        }
        self.ask(id, upstream.clone(), scope);
    }

    fn ask_first(&mut self, id: &AttackId, wanted: Scope) {
        let Some(followed) = self.attacks.get(id) else {
            return;
        };
        if let Some(reason) = decline(&followed.policy, &followed.event, &wanted) {
            self.set_declined(id, reason);
            return;
        }
        if followed.policy.request == RequestMode::Confirm && !followed.confirmed {
            self.set_request(id, Request::AwaitsConfirmation);
            return;
        }
        let Some(upstream) = self.next_upstream(id, &wanted) else {
            let refused = self
                .attacks
                .get(id)
                .is_some_and(|one| !one.tried.is_empty());
            let reason = if refused {
                Decline::Refused
            } else {
                Decline::NoUpstream
            };
            self.set_declined(id, reason);
            return;
        };
        if let Some(by) = self.covering(id, &upstream, &wanted) {
            tracing::info!(attack = %id, %by, "the request for another attack covers the target");
            self.set_request(id, Request::Covered(by));
            return;
        }
        let limit = self
            .attacks
            .get(id)
            .map_or(0, |one| one.policy.max_requests);
        if self.active_requests(id) >= limit {
            self.set_declined(id, Decline::Limit(limit));
            return;
        }
        self.ask(id, upstream, wanted);
    }

    /// Asks an upstream. Where other requests of ours there overlap, which this one's higher `mid` would replace
    /// (RFC 9132 §4.4.1.2), it asks for theirs too.
    fn ask(&mut self, id: &AttackId, upstream: Arc<str>, mut scope: Scope) {
        let mut supersedes = Vec::new();
        for (other, followed) in &self.attacks {
            if let Request::Asked(asked) = &followed.request
                && other != id
                && asked.upstream == upstream
                && overlap(&asked.scope, &scope)
            {
                scope = union(&scope, &asked.scope);
                supersedes.push(other.clone());
            }
        }
        let Some(followed) = self.attacks.get_mut(id) else {
            return;
        };
        if !fits(
            &mitigation_body(&scope, followed.policy.lifetime),
            MAX_BODY_OCTETS,
        ) {
            let reason = Decline::TooLarge(scope.target_prefix.len());
            if matches!(followed.request, Request::Asked(_)) {
                // What was asked for stays ours to refresh and to withdraw.
                tracing::warn!(attack = %id, %reason, "the wider scope is not asked for");
            } else {
                self.set_declined(id, reason);
            }
            return;
        }
        let lifetime = followed.policy.lifetime;
        followed.request = Request::Asked(Asked {
            upstream: upstream.clone(),
            scope: Box::new(scope.clone()),
            granted: false,
            supersedes,
        });
        let command = ClientCommand::Request {
            attack: id.clone(),
            scope: Box::new(scope),
            lifetime,
        };
        self.commands.push_back((upstream, command));
    }

    /// The first upstream of the policy that may be asked, concerns the target, and was not tried.
    fn next_upstream(&self, id: &AttackId, wanted: &Scope) -> Option<Arc<str>> {
        let followed = self.attacks.get(id)?;
        let may = |upstream: &&UpstreamSettings| {
            upstream.share.contains(&Share::Mitigation)
                && upstream.holds(&wanted.target_prefix)
                && !followed.tried.contains(&upstream.name)
        };
        self.upstreams_of(&followed.policy)
            .find(may)
            .map(|upstream| upstream.name.clone())
    }

    fn upstreams_of<'s>(
        &'s self,
        policy: &'s PolicySettings,
    ) -> impl Iterator<Item = &'s UpstreamSettings> {
        policy
            .upstreams
            .iter()
            .filter_map(|name| self.settings.upstream(name))
    }

    fn covering(&self, id: &AttackId, upstream: &Arc<str>, wanted: &Scope) -> Option<AttackId> {
        self.attacks
            .iter()
            .find_map(|(other, followed)| match &followed.request {
                Request::Asked(asked)
                    if other != id
                        && asked.upstream == *upstream
                        && covers(&asked.scope, wanted) =>
                {
                    Some(other.clone())
                }
                _ => None,
            })
    }

    fn active_requests(&self, id: &AttackId) -> usize {
        let Some(policy) = self.attacks.get(id).map(|one| &one.policy.name) else {
            return 0;
        };
        let asked = |one: &&Followed| {
            one.policy.name == *policy && matches!(one.request, Request::Asked(_))
        };
        self.attacks.values().filter(asked).count()
    }

    fn set_request(&mut self, id: &AttackId, request: Request) {
        if let Some(followed) = self.attacks.get_mut(id) {
            followed.request = request;
        }
    }

    fn set_declined(&mut self, id: &AttackId, reason: Decline) {
        let Some(followed) = self.attacks.get_mut(id) else {
            return;
        };
        let request = Request::None(Some(reason.clone()));
        if followed.request != request {
            let target = followed.event.target.prefix;
            tracing::info!(attack = %id, %target, %reason, "no mitigation is asked for");
            followed.request = request;
        }
    }

    /// Tells all upstreams that may know how an attack stands: at its start and its end at once, else when it is due.
    fn tell(&mut self, now: Timestamp, id: &AttackId, ended: bool) {
        let Some(followed) = self.attacks.get(id) else {
            return;
        };
        if !ended && followed.due().is_none_or(|due| due > now) {
            return;
        }
        let targets = prefixes(&followed.event.target);
        let body = Box::new(telemetry_body(&followed.event));
        let told: Vec<Arc<str>> = self
            .upstreams_of(&followed.policy)
            .filter(|one| one.share.contains(&Share::Telemetry) && one.holds(&targets))
            .map(|one| one.name.clone())
            .collect();
        for upstream in told {
            let command = ClientCommand::Telemetry {
                attack: id.clone(),
                body: body.clone(),
                ended,
            };
            self.commands.push_back((upstream, command));
        }
        if let Some(followed) = self.attacks.get_mut(id) {
            followed.told_at = Some(now);
            followed.untold = false;
        }
    }

    /// An attack is over: its mitigation ends, and those that it covered are asked for first.
    fn end(&mut self, id: &AttackId) {
        let Some(followed) = self.attacks.remove(id) else {
            return;
        };
        let Request::Asked(asked) = followed.request else {
            return;
        };
        self.ask_for_covered(id);
        self.withdraw(&asked.upstream, id);
    }

    fn ask_for_covered(&mut self, by: &AttackId) {
        let covered: Vec<AttackId> = self
            .attacks
            .iter()
            .filter(|(_, followed)| followed.request == Request::Covered(by.clone()))
            .map(|(id, _)| id.clone())
            .collect();
        for id in covered {
            self.consider(&id);
        }
    }

    fn withdraw(&mut self, upstream: &Arc<str>, attack: &AttackId) {
        let command = ClientCommand::Withdraw {
            attack: attack.clone(),
        };
        self.commands.push_back((upstream.clone(), command));
    }

    fn handle_held(&mut self, upstream: &Arc<str>, attack: &AttackId, scope: &Scope) {
        if is_operators(attack) {
            return;
        }
        let Some(followed) = self.attacks.get_mut(attack) else {
            if self.open.contains(attack) && !self.held.contains_key(attack) {
                self.held
                    .insert(attack.clone(), (upstream.clone(), scope.clone()));
            } else if self
                .held
                .get(attack)
                .is_none_or(|(holder, _)| holder != upstream)
            {
                // The attack ended while we were down.
                self.withdraw(upstream, attack);
            }
            return;
        };
        match &followed.request {
            Request::Asked(asked) if asked.upstream == *upstream => {}
            Request::None(_) => {
                followed.request = Request::Asked(Asked {
                    upstream: upstream.clone(),
                    scope: Box::new(scope.clone()),
                    granted: true,
                    supersedes: Vec::new(),
                });
            }
            _ => self.withdraw(upstream, attack),
        }
    }

    fn handle_granted(&mut self, report: &MitigationReport) {
        let Some(followed) = self.attacks.get_mut(&report.attack) else {
            return;
        };
        let Request::Asked(asked) = &mut followed.request else {
            return;
        };
        if asked.upstream != report.upstream {
            return;
        }
        asked.granted = true;
        for superseded in std::mem::take(&mut asked.supersedes) {
            let Some(other) = self.attacks.get_mut(&superseded) else {
                continue;
            };
            if matches!(&other.request, Request::Asked(asked) if asked.upstream == report.upstream)
            {
                other.request = Request::Covered(report.attack.clone());
                self.withdraw(&report.upstream, &superseded);
                // What that one covered is covered by this one now, or asked for by itself.
                self.ask_for_covered(&superseded);
            }
        }
    }

    fn handle_status(&mut self, report: &MitigationReport) {
        let ended = matches!(
            report.status,
            MitigationStatus::AttackMitigationTerminated
                | MitigationStatus::AttackMitigationWithdrawn
                | MitigationStatus::DotsClientWithdrawnMitigation
        );
        if ended && !self.is_replaced(report) {
            self.fall_back(
                &report.attack,
                &report.upstream,
                "it ended the mitigation",
                false,
            );
        }
    }

    /// Whether a mitigation ended because the request for another attack, whose target holds this one's, took its place.
    fn is_replaced(&mut self, report: &MitigationReport) -> bool {
        let Some(followed) = self.attacks.get(&report.attack) else {
            return false;
        };
        let wanted = mitigation_scope(&followed.event);
        let Some(by) = self.covering(&report.attack, &report.upstream, &wanted) else {
            return false;
        };
        self.set_request(&report.attack, Request::Covered(by));
        self.ask_for_covered(&report.attack);
        true
    }

    /// An upstream does not help: the next one is asked. Where there is none, a client that tries again goes on trying.
    fn fall_back(&mut self, attack: &AttackId, upstream: &Arc<str>, why: &str, tries_again: bool) {
        let Some(followed) = self.attacks.get_mut(attack) else {
            return;
        };
        let Request::Asked(asked) = &followed.request else {
            return;
        };
        if asked.upstream != *upstream {
            return;
        }
        tracing::warn!(%attack, upstream = &**upstream, why, "no help from this upstream");
        let before = followed.request.clone();
        followed.tried.insert(upstream.clone());
        let wanted = mitigation_scope(&followed.event);
        let next = self.next_upstream(attack, &wanted);
        if next.is_none() && tries_again {
            return;
        }
        if tries_again {
            self.withdraw(upstream, attack);
        }
        self.set_request(attack, Request::None(None));
        if next.is_some() {
            self.counters.fallbacks += 1;
        }
        self.ask_first(attack, wanted);
        if matches!(before, Request::Asked(_)) {
            self.ask_for_covered(attack);
        }
    }
}
