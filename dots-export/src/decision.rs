//! The audit trail: what was decided, and why.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_attack_event::AttackId;
use weir_flow_record::Timestamp;

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Help is asked for.
    Ask,
    /// Help would be asked for, were it not for the dry run.
    WouldAsk,
    /// And would not be needed any more.
    WouldWithdraw,
    /// A request of another attack protects the target already.
    Covered,
    /// Nobody is asked.
    Decline,
    /// An operator has to confirm first.
    Await,
    /// An operator has confirmed.
    Confirm,
    /// The upstream granted it.
    Granted,
    /// The upstream refused.
    Refused,
    /// The upstream does not answer.
    Unreachable,
    /// The upstream tells of a new status.
    Status,
    /// Filters are switched on, or could not be, or are in the way.
    Filter,
    /// The next upstream's turn.
    FallBack,
    /// A mitigation is withdrawn.
    Withdraw,
    /// The stop switch is thrown: nothing new is asked for.
    Hold,
    /// The stop switch is released.
    Release,
}

/// One decision, as a line of the audit log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub time: Timestamp,
    /// What was done.
    pub action: Action,
    /// About which attack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<AttackId>,
    /// At which upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Arc<str>>,
    /// What was to be protected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<IpNet>,
    /// Why.
    pub why: String,
}
