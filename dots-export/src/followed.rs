//! An attack that the policy follows, and how the request for it stands.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_attack_event::{AttackEvent, AttackId};
use weir_dots_proto::body::Scope;
use weir_flow_record::Timestamp;

use crate::config::PolicySettings;
use crate::standing::Decline;

/// An attack that somebody is told of.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) event: Box<AttackEvent>,
    pub(crate) policy: Arc<PolicySettings>,
    pub(crate) request: Request,
    /// Upstreams that refused, did not answer, or ended the mitigation.
    pub(crate) tried: BTreeSet<Arc<str>>,
    pub(crate) confirmed: bool,
    /// When telemetry was told last.
    pub(crate) told_at: Option<Timestamp>,
    /// `event` is newer than what was told.
    pub(crate) untold: bool,
}

/// How the request for it stands.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Request {
    None(Option<Decline>),
    AwaitsConfirmation,
    Asked(Asked),
    Covered(AttackId),
}

/// A request that was made.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Asked {
    pub(crate) upstream: Arc<str>,
    pub(crate) scope: Box<Scope>,
    pub(crate) granted: bool,
    /// Attacks whose mitigations this one replaces once it is granted.
    pub(crate) supersedes: Vec<AttackId>,
}

impl Followed {
    /// When telemetry may be told again, if there is any.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let at = match self.told_at {
            Some(told) => told.plus(self.policy.telemetry_interval),
            None => self.event.time,
        };
        self.untold.then_some(at)
    }
}
