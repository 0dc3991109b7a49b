use std::time::Duration;

/// Parameters of a session, the same on both sides (RFC 9132 §4.5.2).
#[derive(Clone, PartialEq, Debug)]
pub struct SessionParameters {
    /// Time between heartbeats; zero = none.
    pub heartbeat_interval: Duration,
    /// Heartbeats that may go unanswered one after another before the session counts as lost.
    pub missing_hb_allowed: u32,
    /// First wait for an answer (RFC 7252 §4.8 ACK_TIMEOUT).
    pub ack_timeout: Duration,
    /// The wait is stretched by a random factor between 1 and this.
    pub ack_random_factor: f64,
    /// How often a Confirmable message is repeated.
    pub max_retransmit: u32,
    /// Octets per second sent on average to a peer that does not answer; mitigation requests are not held by it.
    pub probing_rate: u32,
}

impl Default for SessionParameters {
    /// RFC 9132's defaults.
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(30),
            missing_hb_allowed: 15,
            ack_timeout: Duration::from_secs(2),
            ack_random_factor: 1.5,
            max_retransmit: 3,
            probing_rate: 5,
        }
    }
}

/// A small generator for message ids, tokens and jitter (splitmix64): uniqueness matters here, secrecy does not, since every
/// message travels inside (D)TLS.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// `base` stretched by a random factor of 1 to `most`.
    pub(crate) fn stretch(&mut self, base: Duration, most: f64) -> Duration {
        let share = (self.number() >> 11) as f64 / (1_u64 << 53) as f64;
        base.mul_f64(1.0 + share * (most.max(1.0) - 1.0))
    }
}
