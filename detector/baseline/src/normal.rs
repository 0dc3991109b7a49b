use serde::{Deserialize, Serialize};
use weir_flow_record::Timestamp;

/// What one metric normally is, per second.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Level {
    /// The low percentile (10th by default).
    pub low: f64,
    /// The mid percentile (50th by default).
    pub mid: f64,
    /// The high percentile (90th by default).
    pub high: f64,
    /// The largest second that is normal.
    pub peak: f64,
    /// The average.
    pub average: f64,
}

/// What is normal for a part of a target's traffic, in an hour of the week or over all hours.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Normal {
    /// Bits per second.
    pub bits: Level,
    /// Packets per second.
    pub packets: Level,
    /// New flows per second.
    pub flows: Level,
    /// New TCP and SCTP connections per second, where they are told apart: see the crate's page.
    pub connections: Option<Level>,
    /// Seconds in peace that were learned from, of all hours.
    pub seconds_learned: u64,
    /// When learning began.
    pub since: Timestamp,
    /// The newest second that was learned from.
    pub updated: Timestamp,
    /// How much it rests on, 0 to 1: about 0.1 after a day, 0.6 after a week, 0.9 after a month; what comes from elsewhere
    /// (imported) has half of it at most, and what is old loses.
    pub confidence: f64,
    /// The part that was imported, 0 to 1.
    pub imported: f64,
}

impl Level {
    /// Both together: `part` of `other`, the rest of this one.
    pub(crate) fn blend(&self, other: &Self, part: f64) -> Self {
        let mix = |a: f64, b: f64| a + (b - a) * part;
        Self {
            low: mix(self.low, other.low),
            mid: mix(self.mid, other.mid),
            high: mix(self.high, other.high),
            peak: mix(self.peak, other.peak),
            average: mix(self.average, other.average),
        }
    }

    pub(crate) fn from_array([low, mid, high, peak, average]: [f64; 5]) -> Self {
        Self {
            low,
            mid,
            high,
            peak,
            average,
        }
    }

    pub(crate) fn to_array(self) -> [f64; 5] {
        [self.low, self.mid, self.high, self.peak, self.average]
    }
}
