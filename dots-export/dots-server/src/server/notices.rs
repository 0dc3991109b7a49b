//! Notifications (RFC 7641, RFC 9132 §4.4.2.1): who observes what, and no faster than a path without an estimate of its
//! round-trip time bears.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use weir_dots_proto::body::Scope;
use weir_dots_proto::server::RelationId;
use weir_dots_proto::{Cuid, Resource};

use crate::query::Query;

/// RFC 9132 §4.4.2.1: without an estimate of the round-trip time one notification in this time.
const UNMEASURED: Duration = Duration::from_secs(3);

/// What one session observes.
#[derive(Debug)]
pub(super) struct Observed {
    watches: BTreeMap<RelationId, Watch>,
    /// Relations with news, the oldest first.
    waiting: VecDeque<RelationId>,
    /// No notification before this.
    next: Instant,
    /// No telemetry before this (RFC 9244 §7.1.2, `telemetry-notify-interval`).
    next_telemetry: Instant,
}

/// One relation.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) resource: Resource,
    pub(super) query: Query,
    /// Mitigations that have ended, in their last state.
    pub(super) last: Vec<Scope>,
}

impl Observed {
    /// Nothing is observed yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            watches: BTreeMap::new(),
            waiting: VecDeque::new(),
            next: now,
            next_telemetry: now,
        }
    }

    /// A relation stands.
    pub(super) fn add(&mut self, id: RelationId, resource: Resource, query: Query) {
        let last = Vec::new();
        self.watches.insert(
            id,
            Watch {
                resource,
                query,
                last,
            },
        );
    }

    pub(super) fn remove(&mut self, id: RelationId) {
        self.watches.remove(&id);
        self.waiting.retain(|other| *other != id);
    }

    /// The relation by which a resource is observed with another query.
    pub(super) fn others<'a>(
        &'a self,
        resource: &'a Resource,
        query: &'a Query,
    ) -> impl Iterator<Item = &'a Query> {
        self.watches
            .values()
            .filter(move |watch| watch.resource == *resource && watch.query != *query)
            .map(|watch| &watch.query)
    }

    /// Notes news of a resource; `last` is the end of a mitigation.
    pub(super) fn note(
        &mut self,
        concerns: impl Fn(&Resource) -> bool,
        last: Option<&Scope>,
    ) -> bool {
        let mut any = false;
        for (id, watch) in &mut self.watches {
            if !concerns(&watch.resource) {
                continue;
            }
            watch.last.extend(last.cloned());
            if !self.waiting.contains(id) {
                self.waiting.push_back(*id);
            }
            any = true;
        }
        any
    }

    /// When the next notification may go; `None`: there is none.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.iter().map(|id| self.may_go_at(*id)).min()
    }

    fn may_go_at(&self, id: RelationId) -> Instant {
        let watch = self.watches.get(&id);
        if watch.is_some_and(|watch| is_telemetry(&watch.resource)) {
            self.next.max(self.next_telemetry)
        } else {
            self.next
        }
    }

    /// The next relation whose notification may go now.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<RelationId> {
        let mut waiting = self.waiting.iter();
        let index = waiting.position(|id| self.may_go_at(*id) <= now)?;
        self.waiting.remove(index)
    }

    /// A relation, its ended mitigations taken out.
    pub(super) fn take(&mut self, id: RelationId) -> Option<(Resource, Query, Vec<Scope>)> {
        let watch = self.watches.get_mut(&id)?;
        let last = std::mem::take(&mut watch.last);
        Some((watch.resource.clone(), watch.query.clone(), last))
    }

    /// A notification goes now.
    pub(super) fn note_sent(
        &mut self,
        now: Instant,
        resource: &Resource,
        round_trip: Option<Duration>,
        telemetry_interval: Duration,
    ) {
        self.next = now + round_trip.unwrap_or(UNMEASURED).min(UNMEASURED);
        if is_telemetry(resource) {
            self.next_telemetry = now + telemetry_interval;
        }
    }

    /// Clients whose resources are observed.
    pub(super) fn cuids(&self) -> impl Iterator<Item = &Cuid> {
        self.watches
            .values()
            .filter_map(|watch| watch.resource.cuid())
    }
}

fn is_telemetry(resource: &Resource) -> bool {
    matches!(resource, Resource::Telemetry { .. })
}
