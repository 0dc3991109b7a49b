//! What a client keeps over a restart, as rows of a table.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_attack_event::AttackId;
use weir_dots_proto::body::{Lifetime, Scope};
use weir_dots_proto::{Cuid, Mid, Tmid};

use super::setup::SetupItem;
use crate::discovery::Discovery;

/// Number of a [`StateChange`]; grows from one to the next.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ChangeId(pub u64);

/// One row of a client's state: written under its [`key`](Self::key), where it replaces what was there, or deleted. Rows are
/// written in the order in which they are polled.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StateChange {
    /// Its number; means nothing after a restart.
    #[serde(skip)]
    pub id: ChangeId,
    /// The upstream.
    pub upstream: Arc<str>,
    /// The row.
    pub state: SavedState,
}

/// A row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SavedState {
    /// The last identifiers, so that none is ever used for two things.
    Identifiers {
        /// Under which name the server knows us.
        cuid: Cuid,
        /// Last `mid` chosen.
        last_mid: Option<u32>,
        /// Last `tmid` chosen.
        last_tmid: Option<u32>,
        /// Last `tsid` chosen.
        #[serde(default)]
        last_tsid: Option<u32>,
        /// Last `sid` chosen.
        #[serde(default)]
        last_sid: Option<u32>,
    },
    /// Where the DNS said that the servers are, for when it does not answer.
    Discovered {
        /// All ways.
        discovery: Discovery,
    },
    /// A mitigation that is asked for, stands, or is being withdrawn.
    Mitigation {
        /// Its identifier.
        mid: Mid,
        /// The attack.
        attack: AttackId,
        /// What was asked for, the same in each refresh.
        scope: Box<Scope>,
        /// Lifetime that is asked for.
        lifetime: Lifetime,
        /// Whether the server has granted it.
        granted: bool,
        /// Whether it is to end.
        withdrawing: bool,
    },
    /// There is no such mitigation any more.
    NoMitigation {
        /// Its identifier.
        mid: Mid,
    },
    /// Telemetry of an attack goes under this identifier.
    Telemetry {
        /// The attack.
        attack: AttackId,
        /// The identifier.
        tmid: Tmid,
        /// The target; another one gets another identifier.
        target: Vec<IpNet>,
    },
    /// Telemetry setup.
    Setup {
        /// Its name in the plan.
        name: String,
        /// The item.
        item: Box<SetupItem>,
    },
    /// There is no such item any more.
    NoSetup {
        /// Its name in the plan.
        name: String,
    },
    /// The attack is not told of any more.
    NoTelemetry {
        /// The attack.
        attack: AttackId,
    },
}

impl StateChange {
    /// Name of the row, unique within the upstream.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.state {
            SavedState::Identifiers { .. } => "identifiers".to_owned(),
            SavedState::Discovered { .. } => "discovered".to_owned(),
            SavedState::Mitigation { mid, .. } | SavedState::NoMitigation { mid } => {
                format!("mid/{mid}")
            }
            SavedState::Telemetry { attack, .. } | SavedState::NoTelemetry { attack } => {
                format!("attack/{attack}")
            }
            SavedState::Setup { name, .. } | SavedState::NoSetup { name } => {
                format!("setup/{name}")
            }
        }
    }

    /// Whether the row is to be deleted.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        matches!(
            self.state,
            SavedState::NoMitigation { .. }
                | SavedState::NoTelemetry { .. }
                | SavedState::NoSetup { .. }
        )
    }
}
