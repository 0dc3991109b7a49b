//! An attack that the policy follows, and how the requests for it stand.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_attack_event::{AttackEvent, MitigationStatus};
use weir_dots_proto::body::Scope;
use weir_flow_record::{Timestamp, Vector};

use crate::config::PolicySettings;
use crate::standing::Decline;

/// Vectors with a smaller share are worth no filter.
const LARGE_SHARE: f64 = 0.1;

/// An attack that somebody is told of.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) event: Box<AttackEvent>,
    pub(crate) policy: Arc<PolicySettings>,
    /// One for each upstream that is asked at the same time; a single one where they are asked one after another.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) confirmed: bool,
    /// The attacks on the zone took more than `link_share` of the pipe once: what is mitigated takes less.
    pub(crate) took_share: bool,
    /// When telemetry was told last.
    pub(crate) told_at: Option<Timestamp>,
    /// `event` is newer than what was told.
    pub(crate) untold: bool,
    /// When it was told how well mitigations work.
    pub(crate) rated_at: Option<Timestamp>,
}

/// Upstreams of which one at a time is asked, in their order.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) upstreams: Vec<Arc<str>>,
    pub(crate) request: Request,
    /// Upstreams that refused, did not answer, ended the mitigation, or could not do enough.
    pub(crate) tried: BTreeSet<Arc<str>>,
    /// Upstreams that do what they can beside the one that is asked now.
    pub(crate) kept: BTreeSet<Arc<str>>,
    /// When it is tried anew after all have been tried, or after what held it back.
    pub(crate) retry_at: Option<Timestamp>,
}

/// How a request stands.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Request {
    None(Option<Decline>),
    AwaitsConfirmation,
    /// In a dry run: what would have been asked.
    Rehearsed(Asked),
    Asked(Asked),
    /// Another attack's request at this upstream covers it.
    Covered(weir_attack_event::AttackId),
}

/// A request that was made.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Asked {
    pub(crate) upstream: Arc<str>,
    pub(crate) scope: Box<Scope>,
    pub(crate) granted: bool,
    /// When it was granted, if by this process.
    pub(crate) granted_at: Option<Timestamp>,
    /// What the upstream said last.
    pub(crate) status: Option<MitigationStatus>,
    /// Octets that it says it has dropped.
    pub(crate) dropped: u64,
    /// Attacks whose mitigations this one replaces once it is granted.
    pub(crate) supersedes: Vec<weir_attack_event::AttackId>,
    /// What the upstream's client knows the attack to be made of.
    pub(crate) vectors: BTreeSet<Vector>,
}

impl Asked {
    pub(crate) fn new(upstream: Arc<str>, scope: Scope) -> Self {
        Self {
            upstream,
            scope: Box::new(scope),
            granted: false,
            granted_at: None,
            status: None,
            dropped: 0,
            supersedes: Vec::new(),
            vectors: BTreeSet::new(),
        }
    }
}

impl Followed {
    /// Whether the detector, the zone or the policy runs dry: nothing is asked and nothing is told.
    pub(crate) fn is_rehearsal(&self) -> bool {
        self.event.dry_run || self.policy.dry_run
    }

    /// Whether anybody is told of it, if only that it is over.
    pub(crate) fn is_told(&self) -> bool {
        self.told_at.is_some()
            || (!self.is_rehearsal() && self.event.severity >= self.policy.telemetry_severity)
    }

    /// The vectors that make up a tenth of the attack or more.
    pub(crate) fn vectors(&self) -> BTreeSet<Vector> {
        let vectors = self.event.vectors.iter();
        let large = vectors.filter(|vector| vector.share >= LARGE_SHARE);
        large.filter_map(|vector| vector.name.vector()).collect()
    }

    /// bit/s that the attack is known to take: the lower bound of its newest second, or that of its median if it is more.
    pub(crate) fn load(&self) -> u64 {
        let bits = &self.event.traffic.bits_per_second;
        let known = (bits.interval.0 as f64 / bits.current.max(1) as f64).min(1.0);
        bits.interval.0.max((bits.mid as f64 * known) as u64)
    }

    /// When something is due: telemetry, or another try.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let retries = self.lanes.iter().filter_map(|lane| lane.retry_at);
        retries.chain(self.telling_due()).min()
    }

    /// When telemetry may be told again, if there is any.
    pub(crate) fn telling_due(&self) -> Option<Timestamp> {
        let at = match self.told_at {
            Some(told) => told.plus(self.policy.telemetry_interval),
            None => self.event.time,
        };
        (self.untold && self.is_told()).then_some(at)
    }

    /// The lane that has asked an upstream, and its request.
    pub(crate) fn asked_of(&mut self, upstream: &str) -> Option<(usize, &mut Asked)> {
        let lane = self.lane_asking(upstream)?;
        let asked = self.lanes.get_mut(lane)?.asked_mut()?;
        Some((lane, asked))
    }

    /// The lane that has asked an upstream.
    pub(crate) fn lane_asking(&mut self, upstream: &str) -> Option<usize> {
        self.lanes.iter().position(|lane| {
            lane.asked()
                .is_some_and(|asked| *asked.upstream == *upstream)
        })
    }
}

impl Lane {
    pub(crate) fn new(upstreams: Vec<Arc<str>>) -> Self {
        Self {
            upstreams,
            request: Request::None(None),
            tried: BTreeSet::new(),
            kept: BTreeSet::new(),
            retry_at: None,
        }
    }

    /// Whether nothing was asked that would have to be withdrawn.
    pub(crate) fn is_free(&self) -> bool {
        self.asked().is_none() && self.kept.is_empty()
    }

    /// The request that was made, if one was.
    pub(crate) fn asked(&self) -> Option<&Asked> {
        match &self.request {
            Request::Asked(asked) => Some(asked),
            _ => None,
        }
    }

    pub(crate) fn asked_mut(&mut self) -> Option<&mut Asked> {
        match &mut self.request {
            Request::Asked(asked) => Some(asked),
            _ => None,
        }
    }
}
