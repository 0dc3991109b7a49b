use std::fmt;
use std::time::Duration;

/// A point in time: nanoseconds since 1970-01-01 UTC. Arithmetic saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From seconds since the epoch; saturates.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The second that holds this point, rounded down.
    pub const fn second(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// This point and `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos_of(duration)))
    }

    /// This point less `duration`.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos_of(duration)))
    }

    /// Time from `earlier` to this point; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn nanos_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(at) => at.fmt(f),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at: jiff::Timestamp = text.parse()?;
        Ok(Self(i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! clock {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Timestamp);

        impl $name {
            /// From nanoseconds since the epoch.
            pub const fn from_nanos(nanos: i64) -> Self {
                Self(Timestamp::from_nanos(nanos))
            }

            /// Nanoseconds since the epoch.
            pub const fn nanos(self) -> i64 {
                self.0.nanos()
            }
        }
    };
}

clock! {
    /// Our own clock: the kernel's time stamp of a datagram, or the capture's in replay. It drives ticks.
    ReceivedAt
}
clock! {
    /// The exporter's clock as its message header states it; may be wrong.
    ExportTime
}
clock! {
    /// When traffic passed, on our clock (`received_at` less the record's age). It cuts buckets.
    EventTime
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_rfc_3339() {
        let at = Timestamp::from_nanos(1_700_000_000_250_000_000);
        assert_eq!(at.to_string(), "2023-11-14T22:13:20.25Z");
        assert_eq!("2023-11-14T22:13:20.25Z".parse::<Timestamp>().unwrap(), at);
    }

    #[test]
    fn arithmetic_saturates() {
        let far = Timestamp::from_nanos(i64::MAX);
        assert_eq!(far.plus(Duration::MAX), far);
        assert_eq!(Timestamp::from_seconds(1).since(far), Duration::ZERO);
        assert_eq!(Timestamp::from_nanos(-1).second(), -1);
    }
}
