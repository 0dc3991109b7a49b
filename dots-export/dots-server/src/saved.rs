//! What a server keeps over a restart, as rows of a table: mitigations, whose cuids are, telemetry and its setup, and what
//! was reported of attacks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use weir_dots_proto::body::{Scope, Telemetry, TelemetrySettings};
use weir_dots_proto::{Cuid, Mid, Tmid, Tsid};

use crate::reports::Report;

/// Name of a row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RowKey {
    /// Whose a cuid is.
    Owner(Cuid),
    /// A mitigation.
    Mitigation(Cuid, Mid),
    /// Telemetry of an attack.
    Telemetry(Cuid, Tmid),
    /// Telemetry setup.
    Setup(Cuid, Tsid),
    /// What a client said of an attack, or of peace.
    Report(u64),
}

impl RowKey {
    /// The name as text; different for each row, since a cuid holds no `/`.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Owner(cuid) => format!("owner/{cuid}"),
            Self::Mitigation(cuid, mid) => format!("mitigation/{cuid}/{mid}"),
            Self::Telemetry(cuid, tmid) => format!("telemetry/{cuid}/{tmid}"),
            Self::Setup(cuid, tsid) => format!("setup/{cuid}/{tsid}"),
            Self::Report(number) => format!("report/{number}"),
        }
    }
}

/// A row that is written under its key, where it replaces what was there, or deleted.
#[derive(Clone, PartialEq, Debug)]
pub struct ServerChange {
    /// Which row.
    pub key: RowKey,
    /// Its content; `None`: there is no such row any more.
    pub row: Option<SavedRow>,
}

/// A row. Times are in seconds since the epoch.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SavedRow {
    /// Whose a cuid is.
    Owner {
        /// The cuid.
        cuid: Cuid,
        /// The client's name.
        client: Arc<str>,
    },
    /// A mitigation that is active, or active but terminating.
    Mitigation {
        /// The client's cuid.
        cuid: Cuid,
        /// Its identifier.
        mid: Mid,
        /// What is protected, with the lifetime that was granted.
        scope: Box<Scope>,
        /// The same with its aliases resolved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        protected: Option<Box<Scope>>,
        /// When it began to filter; `None` while it waits for the loss of the signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        began: Option<u64>,
        /// When its lifetime ends.
        expires: Option<u64>,
        /// When it has terminated, once it was withdrawn.
        terminates: Option<u64>,
        /// Seconds for which it is, or will be, active but terminating.
        terminating: u64,
    },
    /// Telemetry of an attack.
    Telemetry {
        /// The client's cuid.
        cuid: Cuid,
        /// Its identifier.
        tmid: Tmid,
        /// What was told.
        telemetry: Box<Telemetry>,
    },
    /// Telemetry setup.
    Setup {
        /// The client's cuid.
        cuid: Cuid,
        /// Its identifier.
        tsid: Tsid,
        /// What was set up.
        settings: Box<TelemetrySettings>,
    },
    /// What a client said of an attack, or of peace.
    Report {
        /// It.
        report: Box<Report>,
    },
}

impl SavedRow {
    /// The row's name.
    #[must_use]
    pub fn key(&self) -> RowKey {
        match self {
            Self::Owner { cuid, .. } => RowKey::Owner(cuid.clone()),
            Self::Mitigation { cuid, mid, .. } => RowKey::Mitigation(cuid.clone(), *mid),
            Self::Telemetry { cuid, tmid, .. } => RowKey::Telemetry(cuid.clone(), *tmid),
            Self::Setup { cuid, tsid, .. } => RowKey::Setup(cuid.clone(), *tsid),
            Self::Report { report } => RowKey::Report(report.number),
        }
    }
}

/// Rows that have changed since they were polled.
pub(crate) type Changed = BTreeSet<RowKey>;

/// An instant and its time in seconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    pub(crate) instant: Instant,
    pub(crate) seconds: u64,
}

impl Epoch {
    /// The time of an instant.
    pub(crate) fn seconds_at(&self, at: Instant) -> u64 {
        let after = at.saturating_duration_since(self.instant).as_secs();
        let before = self.instant.saturating_duration_since(at).as_secs();
        self.seconds.saturating_add(after).saturating_sub(before)
    }

    /// The instant of a time; the beginning for one before it.
    pub(crate) fn instant_at(&self, seconds: u64) -> Instant {
        let after = Duration::from_secs(seconds.saturating_sub(self.seconds));
        self.instant.checked_add(after).unwrap_or(self.instant)
    }
}
