//! What survives a restart.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_attack_event::{AttackEvent, AttackId, EventKind};
use weir_flow_aggregate::TargetScope;
use weir_flow_record::{Period, TargetKey};

use crate::overrides::{ByHand, Mute};
use crate::track::{Limit, Metric};

/// A row of what the detector knows, to be kept over a restart and given back to [`Detector::restore`](crate::Detector::restore).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Saved {
    /// An attack.
    Attack(Box<SavedAttack>),
    /// A muted prefix.
    Mute(SavedMute),
    /// A target whose attack an operator has ended.
    Ended(SavedEnd),
    /// A target that was attacked before.
    Repeat(SavedRepeat),
}

impl Saved {
    /// Names the row: a later one of the same name replaces it.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Attack(attack) => attack.id().to_string(),
            Self::Mute(row) => format!("mute/{}", row.muted),
            Self::Ended(row) => format!("ended/{}", named(row.ended_scope, &row.ended)),
            Self::Repeat(row) => format!("repeat/{}", named(row.repeat_scope, &row.repeated)),
        }
    }

    /// Whether nothing is left to keep: the row of that name goes.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        match self {
            Self::Attack(attack) => attack.is_closed(),
            Self::Mute(row) => row.mute.is_none(),
            Self::Ended(row) => row.last_busy.is_none(),
            Self::Repeat(row) => row.starts == 0,
        }
    }
}

fn named(scope: u8, key: &TargetKey) -> String {
    format!("{scope}/{}/{:?}/{}", key.zone.0, key.direction, key.prefix)
}

/// An attack as it survives a restart.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SavedAttack {
    pub(crate) event: AttackEvent,
    pub(crate) key: TargetKey,
    pub(crate) metric: Metric,
    pub(crate) scope: u8,
    #[serde(default)]
    pub(crate) limits: Vec<Limit>,
    #[serde(default)]
    pub(crate) by_hand: Option<ByHand>,
    #[serde(default)]
    pub(crate) members: Vec<IpNet>,
    #[serde(default)]
    pub(crate) last_busy: Option<i64>,
    /// A model raised it, and this is how long it must then have seen nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) raised_for: Option<Period>,
}

impl SavedAttack {
    /// The attack.
    #[must_use]
    pub fn id(&self) -> &AttackId {
        &self.event.id
    }

    /// Whether it has ended: then there is nothing left to keep.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.event.kind == EventKind::AttackEnd
    }

    /// The newest event.
    #[must_use]
    pub fn event(&self) -> &AttackEvent {
        &self.event
    }
}

/// A muted prefix; `None` = muted no more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedMute {
    pub(crate) muted: IpNet,
    pub(crate) mute: Option<Mute>,
}

/// A target whose attack an operator has ended; without `last_busy` it has been quiet since.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedEnd {
    pub(crate) ended: TargetKey,
    pub(crate) ended_scope: u8,
    pub(crate) last_busy: Option<i64>,
    pub(crate) clear_for: Duration,
}

/// How often a target was attacked lately.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedRepeat {
    pub(crate) repeated: TargetKey,
    pub(crate) repeat_scope: u8,
    pub(crate) starts: u32,
    pub(crate) last_end: i64,
    pub(crate) longest_gap: i64,
}

/// The scope of a number; a zone, where an older program knew others.
pub(crate) fn scope_of(number: u8) -> TargetScope {
    TargetScope::of_number(number).unwrap_or(TargetScope::Zone)
}
