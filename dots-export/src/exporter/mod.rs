//! Policy: who is told what about an attack, and who is asked for help.

mod requests;
mod threshold;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ipnet::IpNet;
use weir_attack_event::{AttackEvent, AttackId, EventKind};
use weir_dots_proto::body::Scope;
use weir_flow_record::Timestamp;

use crate::command::{ClientCommand, ClientNotice};
use crate::config::{ExportSettings, PolicySettings, Share, UpstreamSettings};
use crate::decision::{Action, Decision};
use crate::followed::{Asked, Followed, Lane, Request};
use crate::scope::prefixes;
use crate::standing::{Decline, ExporterCounters, Standing};
use crate::telemetry::telemetry_body;

/// Attacks that are followed at once; further ones are counted and told to nobody.
const MAX_FOLLOWED: usize = 4096;
/// Decisions that wait for somebody to poll them; beyond these the oldest go, counted.
const MAX_DECISIONS: usize = 4096;

/// The policy as a state machine in the data's time. After each `handle_*`, poll [`poll_command`](Self::poll_command) and
/// [`poll_decision`](Self::poll_decision) until they are empty, and ask [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Exporter {
    settings: ExportSettings,
    attacks: BTreeMap<AttackId, Followed>,
    /// Attacks that were open when the process began, until their first event.
    open: BTreeSet<AttackId>,
    /// Mitigations from before the restart whose attacks have not been heard of yet, by upstream.
    held: BTreeMap<AttackId, BTreeMap<Arc<str>, Scope>>,
    /// The stop switch.
    on_hold: bool,
    /// When requests were made, by policy; of the last minute.
    asked_at: BTreeMap<Arc<str>, VecDeque<Timestamp>>,
    now: Timestamp,
    commands: VecDeque<(Arc<str>, ClientCommand)>,
    decisions: VecDeque<Decision>,
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
            on_hold: false,
            asked_at: BTreeMap::new(),
            now: Timestamp::from_nanos(0),
            commands: VecDeque::new(),
            decisions: VecDeque::new(),
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
        self.now = self.now.max(now);
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
            self.look_for_effect(&event.id);
            self.rate(&event.id);
            self.name_vectors(&event.id);
        }
        self.tell(now, &event.id, ended);
        if ended {
            self.end(&event.id);
        }
    }

    /// Takes in what a client reports.
    pub fn handle_notice(&mut self, now: Timestamp, notice: &ClientNotice) {
        self.now = self.now.max(now);
        self.take_notice(notice);
    }

    /// Takes an operator's word that help may be asked for (`request = "confirm"`). False: no such attack waits for it.
    pub fn handle_confirmation(&mut self, now: Timestamp, attack: &AttackId) -> bool {
        self.now = self.now.max(now);
        let Some(followed) = self.attacks.get_mut(attack) else {
            return false;
        };
        let waits = |lane: &Lane| lane.request == Request::AwaitsConfirmation;
        if !followed.lanes.iter().any(waits) {
            return false;
        }
        followed.confirmed = true;
        self.decide(Action::Confirm, Some(attack), None, &[], "an operator");
        self.consider(attack);
        true
    }

    /// Throws or releases the stop switch. While it is thrown nothing new is asked for; `withdraw` ends what policy has asked
    /// for as well (an operator's own mitigations stay). Released, open attacks are considered anew.
    pub fn handle_hold(&mut self, now: Timestamp, hold: bool, withdraw: bool) {
        self.now = self.now.max(now);
        if hold != self.on_hold {
            let action = if hold { Action::Hold } else { Action::Release };
            self.decide(action, None, None, &[], "an operator");
        }
        self.on_hold = hold;
        let ids: Vec<AttackId> = self.attacks.keys().cloned().collect();
        for id in ids {
            if hold && withdraw {
                self.withdraw_all(&id, "the stop switch");
            } else if !hold {
                self.consider(&id);
            }
        }
    }

    /// Whether the stop switch is thrown.
    #[must_use]
    pub fn is_on_hold(&self) -> bool {
        self.on_hold
    }

    /// Lets time pass: tells what was held back by `telemetry_interval`, and tries again where all upstreams had been tried.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        let due: Vec<AttackId> = self
            .attacks
            .iter()
            .filter(|(_, followed)| followed.due().is_some_and(|due| due <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.retry(&id);
            self.tell(now, &id, false);
        }
    }

    /// The next order and whose client it is for; poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_command(&mut self) -> Option<(Arc<str>, ClientCommand)> {
        self.commands.pop_front()
    }

    /// The next line of the audit trail; poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_decision(&mut self) -> Option<Decision> {
        self.decisions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.attacks.values().filter_map(Followed::due).min()
    }

    /// How the request for an attack stands, of several the one that is furthest; `None`: the attack is not followed.
    #[must_use]
    pub fn standing(&self, attack: &AttackId) -> Option<Standing> {
        let lanes = &self.attacks.get(attack)?.lanes;
        let rank = |lane: &&Lane| match &lane.request {
            Request::Asked(asked) if asked.granted => 0,
            Request::Asked(_) => 1,
            Request::Covered(_) => 2,
            Request::AwaitsConfirmation => 3,
            Request::Rehearsed(_) => 4,
            Request::None(_) => 5,
        };
        let Some(lane) = lanes.iter().min_by_key(rank) else {
            return Some(Standing::Declined(Decline::NoUpstream));
        };
        Some(match &lane.request {
            Request::None(reason) => {
                Standing::Declined(reason.clone().unwrap_or(Decline::NoUpstream))
            }
            Request::AwaitsConfirmation => Standing::AwaitsConfirmation,
            Request::Rehearsed(asked) => Standing::WouldAsk {
                upstream: asked.upstream.clone(),
            },
            Request::Asked(asked) => Standing::Asked {
                upstream: asked.upstream.clone(),
                granted: asked.granted,
            },
            Request::Covered(by) => Standing::Covered { by: by.clone() },
        })
    }

    /// All attacks that are followed, and how their requests stand.
    pub fn standings(&self) -> impl Iterator<Item = (&AttackId, Standing)> {
        self.attacks
            .keys()
            .filter_map(|id| Some((id, self.standing(id)?)))
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
        let policy = policy.clone();
        let least = policy.minimum_severity.min(policy.telemetry_severity);
        let is_small = event.severity < least && !policy.is_severe_enough(event);
        if !self.held.contains_key(&event.id) && is_small {
            return false;
        }
        if self.attacks.len() >= MAX_FOLLOWED {
            self.counters.refused_events += 1;
            if !policy.is_severe_enough(event) || !self.forget_a_small_one() {
                return false;
            }
        }
        let mut lanes: Vec<Lane> = policy.lanes().into_iter().map(Lane::new).collect();
        for (upstream, scope) in self.held.remove(&event.id).unwrap_or_default() {
            if !adopt(&mut lanes, &upstream, &scope) {
                self.withdraw(&upstream, &event.id, "the policy does not name it any more");
            }
        }
        self.open.remove(&event.id);
        let followed = Followed {
            event: Box::new(event.clone()),
            policy,
            lanes,
            confirmed: false,
            took_share: false,
            told_at: None,
            untold: true,
            rated_at: None,
        };
        self.attacks.insert(event.id.clone(), followed);
        true
    }

    /// Makes room: an attack below `minimum_severity`, about which nobody is asked, is told of no more.
    fn forget_a_small_one(&mut self) -> bool {
        let small = |followed: &Followed| {
            !followed.policy.is_severe_enough(&followed.event)
                && followed.lanes.iter().all(Lane::is_free)
        };
        let found = self.attacks.iter().find(|(_, followed)| small(followed));
        let Some(id) = found.map(|(id, _)| id.clone()) else {
            return false;
        };
        self.attacks.remove(&id);
        true
    }

    /// An attack that is not followed ends: a mitigation from before the restart, when its zone had a policy, ends too.
    fn forget_unfollowed(&mut self, event: &AttackEvent) {
        if event.kind != EventKind::AttackEnd {
            return;
        }
        self.open.remove(&event.id);
        for upstream in self.held.remove(&event.id).unwrap_or_default().keys() {
            self.withdraw(upstream, &event.id, "the attack is over");
        }
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

    /// Tells all upstreams that may know how an attack stands: at its start and its end at once, else when it is due.
    fn tell(&mut self, now: Timestamp, id: &AttackId, ended: bool) {
        let Some(followed) = self.attacks.get(id) else {
            return;
        };
        if !followed.is_told() || (!ended && followed.telling_due().is_none_or(|due| due > now)) {
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

    /// Tells clients that ask for help what the attack is made of, where that says which filters they switch on.
    fn name_vectors(&mut self, id: &AttackId) {
        let Some(followed) = self.attacks.get_mut(id) else {
            return;
        };
        let vectors = followed.vectors();
        for asked in followed.lanes.iter_mut().filter_map(Lane::asked_mut) {
            let settings = self.settings.upstream(&asked.upstream);
            let switches = settings.is_some_and(|one| !one.prepared_filters.is_empty());
            if switches && asked.vectors != vectors {
                asked.vectors.clone_from(&vectors);
                let command = ClientCommand::Vectors {
                    attack: id.clone(),
                    vectors: vectors.clone(),
                };
                self.commands.push_back((asked.upstream.clone(), command));
            }
        }
    }

    /// An attack is over: its mitigations end, and those that they covered are asked for first.
    fn end(&mut self, id: &AttackId) {
        let Some(followed) = self.attacks.remove(id) else {
            return;
        };
        for lane in followed.lanes {
            match lane.request {
                Request::Asked(asked) => {
                    self.ask_for_covered(id);
                    self.withdraw(&asked.upstream, id, "the attack is over");
                }
                Request::Rehearsed(asked) => {
                    let (upstream, targets) = (&asked.upstream, &asked.scope.target_prefix);
                    let why = "the attack is over";
                    self.decide(
                        Action::WouldWithdraw,
                        Some(id),
                        Some(upstream),
                        targets,
                        why,
                    );
                }
                _ => {}
            }
            for upstream in lane.kept {
                self.withdraw(&upstream, id, "the attack is over");
            }
        }
    }

    /// Ends all that was asked for an attack, which is followed on.
    fn withdraw_all(&mut self, id: &AttackId, why: &str) {
        let Some(followed) = self.attacks.get_mut(id) else {
            return;
        };
        let mut asked = Vec::new();
        for lane in &mut followed.lanes {
            if let Some(request) = lane.asked() {
                asked.push(request.upstream.clone());
            }
            asked.extend(std::mem::take(&mut lane.kept));
            lane.request = Request::None(Some(Decline::Hold));
        }
        for upstream in asked {
            self.withdraw(&upstream, id, why);
        }
    }

    fn withdraw(&mut self, upstream: &Arc<str>, attack: &AttackId, why: &str) {
        self.decide(Action::Withdraw, Some(attack), Some(upstream), &[], why);
        let command = ClientCommand::Withdraw {
            attack: attack.clone(),
        };
        self.commands.push_back((upstream.clone(), command));
    }

    /// Notes a decision for the audit trail.
    fn decide(
        &mut self,
        action: Action,
        attack: Option<&AttackId>,
        upstream: Option<&Arc<str>>,
        targets: &[IpNet],
        why: impl Into<String>,
    ) {
        if self.decisions.len() >= MAX_DECISIONS {
            self.decisions.pop_front();
            self.counters.lost_decisions += 1;
        }
        self.decisions.push_back(Decision {
            time: self.now,
            action,
            attack: attack.cloned(),
            upstream: upstream.cloned(),
            targets: targets.to_vec(),
            why: why.into(),
        });
    }
}

/// A mitigation from before a restart takes its place in the lanes; false where none has its upstream.
fn adopt(lanes: &mut [Lane], upstream: &Arc<str>, scope: &Scope) -> bool {
    let Some(lane) = lanes
        .iter_mut()
        .find(|lane| lane.upstreams.contains(upstream))
    else {
        return false;
    };
    if lane.asked().is_some() {
        lane.kept.insert(upstream.clone());
    } else {
        lane.request = Request::Asked(Asked {
            granted: true,
            ..Asked::new(upstream.clone(), scope.clone())
        });
    }
    true
}
