use std::time::Duration;

use crate::body::{ConfigParameters, Tunable, TunableDecimal};
use crate::{Decimal, SessionParameters};

/// RFC 7252 §4.8.2: how long a datagram may be under way, there and back.
const LATENCIES: Duration = Duration::from_secs(200);
/// Longer than anything that can be negotiated usefully.
const A_DAY: Duration = Duration::from_secs(86_400);
/// RFC 9177 §7.2: NON_RECEIVE_TIMEOUT is that much longer than NON_TIMEOUT_RANDOM.
const MARGIN: Duration = Duration::from_secs(1);
/// RFC 9362 §3: the default of `non-partial-timeout`.
const PARTIAL_TIMEOUT: Duration = Duration::from_secs(247);

/// Parameters of robust block transmission (RFC 9362 §3). What is `None` follows from the other parameters of the session
/// (RFC 9177 §7.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RobustParameters {
    /// MAX_PAYLOADS: payloads of a body that are sent at one time; the same in peace and under attack.
    pub max_payloads: u32,
    /// NON_MAX_RETRANSMIT: how often missing payloads are asked for without an answer.
    pub non_max_retransmit: Option<u32>,
    /// NON_TIMEOUT: the least wait between two sets of payloads.
    pub non_timeout: Option<Duration>,
    /// NON_RECEIVE_TIMEOUT: how long a missing payload is waited for before it is asked for.
    pub non_receive_timeout: Option<Duration>,
    /// NON_PROBING_WAIT: the longest wait that the probing rate causes.
    pub non_probing_wait: Option<Duration>,
    /// NON_PARTIAL_TIMEOUT: how long a partial body is kept.
    pub non_partial_timeout: Option<Duration>,
}

impl Default for RobustParameters {
    fn default() -> Self {
        Self {
            max_payloads: 10,
            non_max_retransmit: None,
            non_timeout: None,
            non_receive_timeout: None,
            non_probing_wait: None,
            non_partial_timeout: None,
        }
    }
}

impl RobustParameters {
    /// The parameters with the current values of a configuration, of which each may be missing.
    pub(crate) fn configured(mut self, config: &ConfigParameters) -> Self {
        let value = |tunable: Option<Tunable>| {
            tunable
                .and_then(|tunable| tunable.current_value)
                .map(u32::from)
        };
        if let Some(payloads) = value(config.max_payloads) {
            self.max_payloads = payloads;
        }
        let decimals = [
            (&mut self.non_timeout, config.non_timeout),
            (&mut self.non_receive_timeout, config.non_receive_timeout),
            (&mut self.non_probing_wait, config.non_probing_wait),
            (&mut self.non_partial_timeout, config.non_partial_timeout),
        ];
        for (parameter, configured) in decimals {
            *parameter = configured.and_then(duration).or(*parameter);
        }
        self.non_max_retransmit = value(config.non_max_retransmit).or(self.non_max_retransmit);
        self
    }
}

/// RFC 9177 §7.2, each within what can be computed with.
impl SessionParameters {
    /// The parameters of robust block transmission with what follows from others: none is `None`.
    #[must_use]
    pub fn robust_in_force(&self) -> RobustParameters {
        RobustParameters {
            max_payloads: self.max_payloads(),
            non_max_retransmit: Some(self.non_max_retransmit()),
            non_timeout: Some(self.non_timeout()),
            non_receive_timeout: Some(self.non_receive_timeout()),
            non_probing_wait: Some(self.non_probing_wait()),
            non_partial_timeout: Some(self.non_partial_timeout()),
        }
    }

    pub(crate) fn max_payloads(&self) -> u32 {
        self.robust.max_payloads.max(1)
    }

    pub(crate) fn non_max_retransmit(&self) -> u32 {
        self.robust
            .non_max_retransmit
            .unwrap_or(self.max_retransmit)
            .min(16)
    }

    pub(crate) fn non_timeout(&self) -> Duration {
        self.robust
            .non_timeout
            .unwrap_or(self.ack_timeout)
            .min(A_DAY)
    }

    pub(crate) fn non_receive_timeout(&self) -> Duration {
        let least = self.non_timeout().mul_f64(self.factor()) + MARGIN;
        let twice = self.non_timeout() * 2;
        self.robust
            .non_receive_timeout
            .unwrap_or(twice)
            .clamp(least, A_DAY * 8)
    }

    /// The wait before missing payloads are asked for, or the silence after the last payload, once they were asked for so
    /// often without an answer.
    pub(crate) fn time_to_wait(&self, asked: u32) -> Duration {
        self.non_receive_timeout()
            .saturating_mul(1 << asked.min(16))
            .min(A_DAY * 8)
    }

    /// The base without jitter (RFC 9362 §3, implementation note 1).
    pub(crate) fn non_probing_wait(&self) -> Duration {
        self.robust
            .non_probing_wait
            .unwrap_or_else(|| self.span() + LATENCIES + self.non_timeout())
    }

    pub(crate) fn non_partial_timeout(&self) -> Duration {
        let computed = || (self.span() + LATENCIES + self.non_timeout()).max(PARTIAL_TIMEOUT);
        self.robust.non_partial_timeout.unwrap_or_else(computed)
    }

    fn span(&self) -> Duration {
        let times = (1_u32 << self.non_max_retransmit()) - 1;
        let span = self.non_timeout().saturating_mul(times).min(A_DAY);
        span.mul_f64(self.factor())
    }

    fn factor(&self) -> f64 {
        if self.ack_random_factor.is_nan() {
            1.0
        } else {
            self.ack_random_factor.clamp(1.0, 4.0)
        }
    }
}

fn duration(value: TunableDecimal) -> Option<Duration> {
    let hundredths = value.current_value_decimal.map(Decimal::hundredths)?;
    let hundredths = u64::try_from(hundredths).ok()?;
    Some(Duration::from_millis(hundredths.saturating_mul(10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_rfc_9177_and_of_dots() {
        let dots = SessionParameters::default();
        assert_eq!((dots.max_payloads(), dots.non_max_retransmit()), (10, 3));
        assert_eq!(dots.non_timeout(), Duration::from_secs(2));
        assert_eq!(dots.non_receive_timeout(), Duration::from_secs(4));
        assert_eq!(dots.non_partial_timeout(), Duration::from_secs(247));
        // With CoAP's own MAX_RETRANSMIT of 4 these are the figures of RFC 9177, Table 3.
        let coap = SessionParameters {
            max_retransmit: 4,
            ..dots
        };
        assert_eq!(coap.non_probing_wait(), Duration::from_secs(247));
        assert_eq!(coap.non_partial_timeout(), Duration::from_secs(247));
        assert_eq!(
            [0, 1, 2].map(|asked| coap.time_to_wait(asked).as_secs()),
            [4, 8, 16]
        );
    }

    #[test]
    fn a_configuration_changes_what_it_names() {
        let seconds = |hundredths| {
            Some(TunableDecimal::current(Decimal::from_hundredths(
                hundredths,
            )))
        };
        let config = ConfigParameters {
            max_payloads: Some(Tunable::current(15)),
            non_max_retransmit: Some(Tunable::current(5)),
            non_timeout: seconds(300),
            non_partial_timeout: seconds(5000),
            ..ConfigParameters::default()
        };
        let parameters = SessionParameters::default().configured(&config);
        assert_eq!(
            (parameters.max_payloads(), parameters.non_max_retransmit()),
            (15, 5)
        );
        assert_eq!(parameters.non_timeout(), Duration::from_secs(3));
        assert_eq!(parameters.non_receive_timeout(), Duration::from_secs(6));
        assert_eq!(parameters.non_partial_timeout(), Duration::from_secs(50));
        // RFC 9177 §7.2: at least a second longer than the wait between sets.
        let short = ConfigParameters {
            non_receive_timeout: seconds(100),
            ..ConfigParameters::default()
        };
        let parameters = SessionParameters::default().configured(&short);
        assert_eq!(parameters.non_receive_timeout(), Duration::from_secs(4));
    }

    #[test]
    fn extreme_parameters_do_not_overflow() {
        let extreme = SessionParameters {
            max_retransmit: u32::MAX,
            ack_timeout: Duration::MAX,
            ack_random_factor: f64::NAN,
            robust: RobustParameters {
                max_payloads: 0,
                non_receive_timeout: Some(Duration::MAX),
                ..RobustParameters::default()
            },
            ..SessionParameters::default()
        };
        assert_eq!(extreme.max_payloads(), 1);
        assert!(extreme.time_to_wait(u32::MAX) >= Duration::from_secs(1));
        assert!(extreme.non_partial_timeout() + extreme.non_probing_wait() > Duration::ZERO);
    }
}
