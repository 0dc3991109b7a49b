//! Filter control (RFC 9133): filters that the data channel has installed in peace are switched on by the signal channel, which
//! still works when an attack fills the link.
//!
//! The first request for an attack goes without switches, so that none of them can delay it (RFC 9133 §3.2.1). Once it is granted,
//! a second one with a new `mid` and the same scope carries them; where that is refused, the first stands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use weir_attack_event::AttackId;
use weir_dots_proto::Mid;
use weir_dots_proto::body::{AclActivation, ActivationType, Scope};
use weir_flow_record::Vector;

use super::answers::Answer;
use super::mitigation::{Held, Phase};
use super::{Client, MAX_HELD};
use crate::command::{ClientNotice, ends_with_lifetime};
use crate::request::mitigation_body;
use crate::telemetry::{MAX_BODY_OCTETS, fits};

/// A filter at the server that does nothing until it is switched on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreparedFilter {
    /// Its name on the data channel.
    pub acl_name: String,
    /// The kind of attack that it is against; `None`: it is switched on with any mitigation, as an accept-list is.
    pub vector: Option<Vector>,
}

/// What is switched, and what is to be.
#[derive(Debug, Default)]
pub(super) struct Filters {
    prepared: Vec<PreparedFilter>,
    /// What attacks are made of.
    vectors: BTreeMap<AttackId, BTreeSet<Vector>>,
    /// What was switched on since there was peace.
    on: BTreeSet<String>,
    /// What the server does not know, or does not switch.
    refused: BTreeSet<String>,
    retry_at: Option<Instant>,
}

impl Filters {
    /// What an attack wants switched on that is not.
    fn missing(&self, attack: &AttackId) -> Vec<AclActivation> {
        let vectors = self.vectors.get(attack);
        let against = |filter: &PreparedFilter| match filter.vector {
            Some(vector) => vectors.is_some_and(|vectors| vectors.contains(&vector)),
            None => true,
        };
        self.prepared
            .iter()
            .filter(|filter| {
                let name = &filter.acl_name;
                against(filter) && !self.on.contains(name) && !self.refused.contains(name)
            })
            .map(|filter| AclActivation {
                acl_name: filter.acl_name.clone(),
                activation_type: Some(ActivationType::ActivateWhenMitigating),
            })
            .collect()
    }

    /// When a failed switch is tried again.
    pub(super) fn timer(&self) -> Option<Instant> {
        self.retry_at
    }
}

impl Client {
    /// Takes in what the data channel has installed; what was refused before may be known now.
    pub(super) fn handle_prepared(&mut self, prepared: Vec<PreparedFilter>) {
        self.filters.prepared = prepared;
        self.filters.refused.clear();
    }

    /// Takes in what an attack is made of.
    pub(super) fn handle_vectors(&mut self, attack: AttackId, vectors: BTreeSet<Vector>) {
        let known = &mut self.filters.vectors;
        if known.len() < MAX_HELD || known.contains_key(&attack) {
            known.insert(attack, vectors);
        } else {
            self.counters.refused_commands += 1;
        }
    }

    /// Asks, for one mitigation at a time, that the filters it wants be switched on.
    pub(super) fn advance_filters(&mut self, now: Instant) {
        if !self.mitigations.values().any(Held::is_open) {
            // In peace the data channel gives filters the activation that they are to have.
            self.filters.on.clear();
            self.filters.vectors.clear();
            self.filters.retry_at = None;
            return;
        }
        let waits = self.filters.retry_at.is_some_and(|at| at > now);
        let asking = |held: &Held| held.is_open() && held.phase == Phase::Asking;
        if waits || self.filters.prepared.is_empty() || self.mitigations.values().any(asking) {
            return;
        }
        self.filters.retry_at = None;
        let mut wanting = self.mitigations.iter().rev().filter_map(|(mid, held)| {
            let missing = if held.phase == Phase::Active && may_switch(held) {
                self.filters.missing(&held.attack)
            } else {
                Vec::new()
            };
            (!missing.is_empty()).then_some((*mid, missing))
        });
        if let Some((mid, missing)) = wanting.next() {
            self.ask_for_filters(mid, missing);
        }
    }

    fn ask_for_filters(&mut self, mid: Mid, mut switches: Vec<AclActivation>) {
        let Some(held) = self.mitigations.get(&mid) else {
            return;
        };
        let (attack, lifetime) = (held.attack.clone(), held.lifetime);
        let scope = loop {
            let scope = Scope {
                acl_list: switches.clone(),
                ..held.scope.clone()
            };
            if fits(&mitigation_body(&scope, lifetime), MAX_BODY_OCTETS) {
                break scope;
            }
            // The rest goes with the next request.
            if switches.pop().is_none() {
                return;
            }
        };
        if switches.is_empty() || self.mitigations.len() >= MAX_HELD {
            return;
        }
        self.hold(attack, scope, lifetime);
    }

    /// The switches of a request that was granted are thrown: its refreshes go without them.
    pub(super) fn note_switched(&mut self, mid: Mid) {
        let Some(held) = self.mitigations.get_mut(&mid) else {
            return;
        };
        let switched = std::mem::take(&mut held.scope.acl_list);
        if switched.is_empty() {
            return;
        }
        let attack = held.attack.clone();
        let saved = held.saved(mid);
        self.persist(saved);
        let names: Vec<String> = switched.into_iter().map(|switch| switch.acl_name).collect();
        self.filters.on.extend(names.iter().cloned());
        self.notify(ClientNotice::Switched {
            attack,
            upstream: self.upstream.clone(),
            filters: names,
            refused: None,
        });
    }

    /// A request with switches was refused: the one before it stands. True where the answer was to such a request.
    pub(super) fn take_refused_switches(
        &mut self,
        now: Instant,
        mid: Mid,
        answer: &Answer,
    ) -> bool {
        let Some(held) = self.mitigations.get(&mid) else {
            return false;
        };
        if held.scope.acl_list.is_empty() || held.phase != Phase::Asking {
            return false;
        }
        let attack = held.attack.clone();
        let asked = held.scope.acl_list.iter();
        let asked: Vec<String> = asked.map(|switch| switch.acl_name.clone()).collect();
        self.forget(mid);
        match answer.retry_in() {
            // RFC 9133 §3.2.1: the same again, under a new mid, after Max-Age.
            Some(wait) => self.filters.retry_at = Some(now + wait),
            None => self.filters.refused.extend(asked.iter().cloned()),
        }
        self.notify(ClientNotice::Switched {
            attack,
            upstream: self.upstream.clone(),
            filters: asked,
            refused: Some(format!("{} {}", answer.code, answer.words())),
        });
        true
    }
}

/// A request for the loss of the signal switches nothing (RFC 9133 §3.2.1), and one that an operator gave an end gets no other
/// one by being made anew.
fn may_switch(held: &Held) -> bool {
    held.scope.trigger_mitigation != Some(false) && !ends_with_lifetime(&held.attack)
}
