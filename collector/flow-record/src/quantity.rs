use std::num::NonZeroU32;
use std::time::Duration;

macro_rules! count {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The sum; saturates.
            #[must_use]
            pub const fn plus(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }
    };
}

count! {
    /// A number of octets of IP packets.
    Octets
}
count! {
    /// A number of packets.
    Packets
}
count! {
    /// A rate in bits per second.
    BitsPerSecond
}
count! {
    /// A rate in packets per second.
    PacketsPerSecond
}
count! {
    /// A rate of new flows per second.
    FlowsPerSecond
}

impl Octets {
    /// The mean rate over `window`; `None` for an empty window.
    pub fn rate_over(self, window: Duration) -> Option<BitsPerSecond> {
        per_second(u128::from(self.0) * 8, window).map(BitsPerSecond)
    }
}

impl Packets {
    /// The mean rate over `window`; `None` for an empty window.
    pub fn rate_over(self, window: Duration) -> Option<PacketsPerSecond> {
        per_second(u128::from(self.0), window).map(PacketsPerSecond)
    }
}

fn per_second(count: u128, window: Duration) -> Option<u64> {
    let nanos = window.as_nanos();
    (nanos > 0)
        .then(|| u64::try_from(count.saturating_mul(1_000_000_000) / nanos).unwrap_or(u64::MAX))
}

/// One in how many packets an exporter looked at; 1 = all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SamplingRate(NonZeroU32);

impl SamplingRate {
    /// Every packet.
    pub const ALL: Self = Self(NonZeroU32::MIN);

    /// `None` where `rate` is 0, which stands for "unknown" in columns and on the wire.
    pub const fn known(rate: u32) -> Option<Self> {
        match NonZeroU32::new(rate) {
            Some(rate) => Some(Self(rate)),
            None => None,
        }
    }

    /// The rate as a number, at least 1.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// A count as an exporter sampled it: not comparable with anything before it is scaled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sampled<T>(pub T);

impl Sampled<Octets> {
    /// The estimate of the whole; saturates.
    pub const fn scale(self, rate: SamplingRate) -> Octets {
        Octets(self.0.0.saturating_mul(rate.get() as u64))
    }
}

impl Sampled<Packets> {
    /// The estimate of the whole; saturates.
    pub const fn scale(self, rate: SamplingRate) -> Packets {
        Packets(self.0.0.saturating_mul(rate.get() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_scaling() {
        let seen = Sampled(Octets(125)).scale(SamplingRate::known(100).unwrap());
        assert_eq!(seen, Octets(12_500));
        assert_eq!(
            seen.rate_over(Duration::from_secs(1)),
            Some(BitsPerSecond(100_000))
        );
        assert_eq!(seen.rate_over(Duration::ZERO), None);
        assert_eq!(SamplingRate::known(0), None);
        assert_eq!(
            Sampled(Octets(u64::MAX)).scale(SamplingRate::known(2).unwrap()),
            Octets(u64::MAX)
        );
    }
}
