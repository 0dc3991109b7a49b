use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::AttackId;

/// What a mitigation provider says of a mitigation (RFC 9132 §4.4.2, `status`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum MitigationStatus {
    /// 1: being set up.
    AttackMitigationInProgress = 1,
    /// 2: works.
    AttackSuccessfullyMitigated = 2,
    /// 3: the attack has stopped; the client may end the mitigation.
    AttackStopped = 3,
    /// 4: more than the provider can take.
    AttackExceededCapability = 4,
    /// 5: withdrawn by the client, active but terminating.
    DotsClientWithdrawnMitigation = 5,
    /// 6: terminated.
    AttackMitigationTerminated = 6,
    /// 7: withdrawn by the server.
    AttackMitigationWithdrawn = 7,
    /// 8: waits for loss of the signal.
    AttackMitigationSignalLoss = 8,
}

impl MitigationStatus {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::AttackMitigationInProgress,
        Self::AttackSuccessfullyMitigated,
        Self::AttackStopped,
        Self::AttackExceededCapability,
        Self::DotsClientWithdrawnMitigation,
        Self::AttackMitigationTerminated,
        Self::AttackMitigationWithdrawn,
        Self::AttackMitigationSignalLoss,
    ];

    /// The status of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| *status as u8 == number)
    }

    /// Its name in RFC 9132's module.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttackMitigationInProgress => "attack-mitigation-in-progress",
            Self::AttackSuccessfullyMitigated => "attack-successfully-mitigated",
            Self::AttackStopped => "attack-stopped",
            Self::AttackExceededCapability => "attack-exceeded-capability",
            Self::DotsClientWithdrawnMitigation => "dots-client-withdrawn-mitigation",
            Self::AttackMitigationTerminated => "attack-mitigation-terminated",
            Self::AttackMitigationWithdrawn => "attack-mitigation-withdrawn",
            Self::AttackMitigationSignalLoss => "attack-mitigation-signal-loss",
        }
    }

    /// Whether traffic is (still) being filtered under it.
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::AttackMitigationInProgress
                | Self::AttackSuccessfullyMitigated
                | Self::AttackStopped
                | Self::AttackExceededCapability
        )
    }
}

/// The upstream's word on one attack: goes back to the detector (design, decision 6).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MitigationReport {
    /// The attack.
    #[serde(skip_serializing, default = "no_attack")]
    pub attack: AttackId,
    /// The upstream's name in the configuration.
    pub upstream: Arc<str>,
    /// RFC 9132 §4.4.1 mitigation request identifier.
    pub mid: u32,
    /// What it says.
    pub status: MitigationStatus,
    /// Octets dropped per second, where it says so.
    pub bytes_dropped_per_second: Option<u64>,
    /// Packets dropped per second.
    pub packets_dropped_per_second: Option<u64>,
    /// Octets dropped since the mitigation began.
    pub bytes_dropped: Option<u64>,
    /// Packets dropped since the mitigation began.
    pub packets_dropped: Option<u64>,
    /// Attack traffic that the provider itself sees, in bits per second, where it says so (RFC 9244 §9.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack_bits_per_second: Option<u64>,
    /// Seconds left; `None` = indefinite.
    pub lifetime: Option<u32>,
}

fn no_attack() -> AttackId {
    AttackId("".into())
}
