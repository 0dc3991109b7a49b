//! When an attack is worth asking for help, and what a dry run would have asked.

use std::sync::Arc;

use weir_attack_event::{AttackId, EventKind};
use weir_dots_proto::body::Scope;
use weir_flow_record::Direction;

use super::Exporter;
use crate::config::RequestMode;
use crate::decision::Action;
use crate::followed::{Asked, Followed, Request};
use crate::standing::Decline;

impl Exporter {
    /// Whether the policy waits until the attacks on the zone take a share of its pipe, and they do not yet
    /// (draft-ietf-dots-use-cases-06 §3.1.1). Several attacks that are harmless each can fill a pipe together.
    pub(super) fn below_link_share(&mut self, id: &AttackId) -> Option<Decline> {
        let followed = self.attacks.get(id)?;
        let share = followed.policy.link_share?;
        if followed.took_share {
            return None;
        }
        let zone = followed.event.target.zone.clone();
        // A policy of that kind is not accepted for a zone without; it may have lost it in a reload.
        let pipe = self.settings.pipe_capacity(&zone)?;
        let limit = (pipe as f64 * share) as u64;
        if self.load_of_zone(&zone) <= limit {
            return Some(Decline::LinkShare { limit, pipe });
        }
        if let Some(followed) = self.attacks.get_mut(id) {
            followed.took_share = true;
        }
        None
    }

    /// bit/s of all attacks on a zone; one within the target of another counts with that one.
    fn load_of_zone(&self, zone: &str) -> u64 {
        let inbound: Vec<&Followed> = self
            .attacks
            .values()
            .filter(|one| {
                let target = &one.event.target;
                *target.zone == *zone
                    && target.direction == Direction::In
                    && one.event.kind != EventKind::AttackEnd
            })
            .collect();
        let is_part = |one: &Followed| {
            let prefix = &one.event.target.prefix;
            inbound.iter().any(|other| {
                let wider = &other.event.target.prefix;
                wider != prefix && wider.contains(prefix)
            })
        };
        let whole = inbound.iter().filter(|one| !is_part(one));
        whole.fold(0, |sum, one| sum.saturating_add(one.load()))
    }

    /// Notes what would have been asked. The guard rails that count requests do not count this one.
    pub(super) fn rehearse(
        &mut self,
        id: &AttackId,
        lane: usize,
        upstream: Arc<str>,
        wanted: Scope,
    ) {
        let confirms = |one: &Followed| one.policy.request == RequestMode::Confirm;
        let why = match self.attacks.get(id) {
            Some(one) if confirms(one) => {
                format!(
                    "dry run, and an operator would have to confirm: {}",
                    self.reason_of(id)
                )
            }
            _ => format!("dry run: {}", self.reason_of(id)),
        };
        let targets = &wanted.target_prefix;
        self.decide(Action::WouldAsk, Some(id), Some(&upstream), targets, why);
        self.set_request(id, lane, Request::Rehearsed(Asked::new(upstream, wanted)));
    }
}
