use std::time::Duration;

use crate::body::{ConfigParameters, Tunable, TunableDecimal};
use crate::{Decimal, RobustParameters};

/// RFC 7252 §4.8.2: how long a datagram may be under way.
const MAX_LATENCY: Duration = Duration::from_secs(100);

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
    /// Of robust block transmission (RFC 9362).
    pub robust: RobustParameters,
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
            robust: RobustParameters::default(),
        }
    }
}

impl SessionParameters {
    /// The parameters with the current values of a configuration, of which each may be missing (RFC 9132 §4.5).
    #[must_use]
    pub fn configured(mut self, config: &ConfigParameters) -> Self {
        let value = |tunable: Option<Tunable>| tunable.and_then(|tunable| tunable.current_value);
        let decimal = |tunable: Option<TunableDecimal>| {
            tunable
                .and_then(|tunable| tunable.current_value_decimal)
                .map(Decimal::hundredths)
        };
        if let Some(seconds) = value(config.heartbeat_interval) {
            self.heartbeat_interval = Duration::from_secs(seconds.into());
        }
        if let Some(heartbeats) = value(config.missing_hb_allowed) {
            self.missing_hb_allowed = heartbeats.into();
        }
        if let Some(rate) = value(config.probing_rate) {
            self.probing_rate = rate.into();
        }
        if let Some(times) = value(config.max_retransmit) {
            self.max_retransmit = times.into();
        }
        if let Some(hundredths) =
            decimal(config.ack_timeout).and_then(|value| u64::try_from(value).ok())
        {
            self.ack_timeout = Duration::from_millis(hundredths.saturating_mul(10));
        }
        if let Some(hundredths) = decimal(config.ack_random_factor) {
            self.ack_random_factor = hundredths as f64 / 100.0;
        }
        self.robust = self.robust.configured(config);
        self
    }

    /// RFC 7252 §4.8.2 MAX_TRANSMIT_WAIT: from the first transmission of a Confirmable message to giving up.
    pub(crate) fn max_transmit_wait(&self) -> Duration {
        self.stretched(self.doublings().saturating_mul(2).saturating_sub(1))
    }

    /// RFC 7252 §4.8.2 EXCHANGE_LIFETIME: how long the id of a Confirmable message stands for it.
    pub(crate) fn exchange_lifetime(&self) -> Duration {
        self.max_transmit_span()
            .saturating_add(MAX_LATENCY * 2)
            .saturating_add(self.ack_timeout)
    }

    /// RFC 7252 §4.8.2 NON_LIFETIME: how long the id of a Non-confirmable message stands for it.
    pub(crate) fn non_lifetime(&self) -> Duration {
        self.max_transmit_span().saturating_add(MAX_LATENCY)
    }

    fn max_transmit_span(&self) -> Duration {
        self.stretched(self.doublings().saturating_sub(1))
    }

    fn doublings(&self) -> u32 {
        1_u32.checked_shl(self.max_retransmit).unwrap_or(u32::MAX)
    }

    fn stretched(&self, times: u32) -> Duration {
        let wait = self.ack_timeout.min(A_DAY).as_secs_f64();
        let seconds = wait * f64::from(times) * bounded_factor(self.ack_random_factor);
        Duration::from_secs_f64(seconds.clamp(0.0, A_DAY.as_secs_f64()))
    }
}

/// Longer than anything that can be negotiated usefully.
const A_DAY: Duration = Duration::from_secs(86_400);

/// A random factor within the range that servers offer (RFC 9132 §4.5.1, Figure 20).
fn bounded_factor(factor: f64) -> f64 {
    if factor.is_nan() {
        1.0
    } else {
        factor.clamp(1.0, 4.0)
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
        let factor = 1.0 + share * (bounded_factor(most) - 1.0);
        base.min(A_DAY).mul_f64(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_those_of_rfc_7252() {
        // With CoAP's own MAX_RETRANSMIT of 4 these are the figures of RFC 7252 §4.8.2.
        let coap = SessionParameters {
            max_retransmit: 4,
            ..SessionParameters::default()
        };
        assert_eq!(coap.max_transmit_wait(), Duration::from_secs(93));
        assert_eq!(coap.exchange_lifetime(), Duration::from_secs(247));
        assert_eq!(coap.non_lifetime(), Duration::from_secs(145));
    }

    #[test]
    fn a_configuration_changes_what_it_names() {
        let config = ConfigParameters {
            heartbeat_interval: Some(Tunable::current(91)),
            ack_random_factor: Some(TunableDecimal::current(Decimal::from_hundredths(250))),
            ack_timeout: Some(TunableDecimal::current(Decimal::from_hundredths(150))),
            ..ConfigParameters::default()
        };
        let parameters = SessionParameters::default().configured(&config);
        assert_eq!(
            parameters,
            SessionParameters {
                heartbeat_interval: Duration::from_secs(91),
                ack_random_factor: 2.5,
                ack_timeout: Duration::from_millis(1500),
                ..SessionParameters::default()
            }
        );
    }

    #[test]
    fn extreme_parameters_do_not_overflow() {
        let extreme = SessionParameters {
            max_retransmit: u32::MAX,
            ack_timeout: Duration::MAX,
            ack_random_factor: f64::NAN,
            ..SessionParameters::default()
        };
        assert!(extreme.exchange_lifetime() > Duration::ZERO);
        let wait = Numbers::new(1).stretch(extreme.ack_timeout, extreme.ack_random_factor);
        assert!(wait >= Duration::from_secs(1));
    }
}
