use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Seconds since the epoch, by the server's wall clock: lifetimes count on over a restart.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The time that many minutes later.
    #[must_use]
    pub fn plus_minutes(self, minutes: u32) -> Self {
        Self(self.0.saturating_add(u64::from(minutes) * 60))
    }

    /// Minutes until `later`, rounded up; 0 where that is past. At most what a YANG `int32` holds.
    #[must_use]
    pub fn minutes_until(self, later: Self) -> i32 {
        let minutes = later.0.saturating_sub(self.0).div_ceil(60);
        i32::try_from(minutes).unwrap_or(i32::MAX)
    }

    /// Time until `later`; none where that is past.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(later.0.saturating_sub(self.0))
    }
}
