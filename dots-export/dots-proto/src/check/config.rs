//! Session configuration (RFC 9132 §4.5.2).

use super::{RequestFault, ensure, unprocessable};
use crate::Decimal;
use crate::body::{ConfigParameters, SignalConfig, Tunable, TunableDecimal};

/// Checks a PUT: at least one attribute. Limits were refused by their place.
pub(super) fn check(config: &SignalConfig) -> Result<(), RequestFault> {
    let sets = [config.mitigating_config, config.idle_config];
    let any = sets.iter().flatten().any(|set| {
        integers(set)
            .iter()
            .any(|(_, value)| value.and_then(|value| value.current_value).is_some())
            || decimals(set).iter().any(|(_, value)| {
                value
                    .and_then(|value| value.current_value_decimal)
                    .is_some()
            })
    });
    ensure(any, "no attribute to configure")
}

/// Checks a client's configuration against the limits that the server announces in its answer to a GET.
///
/// A value beyond them is 4.22 (RFC 9132 §4.5.2). A heartbeat interval of 0 turns heartbeats off and needs no limit.
pub fn check_config_range(
    config: &SignalConfig,
    limits: &SignalConfig,
) -> Result<(), RequestFault> {
    let sets = [
        (config.mitigating_config, limits.mitigating_config),
        (config.idle_config, limits.idle_config),
    ];
    for (config, limits) in sets
        .into_iter()
        .filter_map(|(config, limits)| config.zip(limits))
    {
        for ((name, value), (_, limit)) in integers(&config).into_iter().zip(integers(&limits)) {
            let off = name == "heartbeat-interval"
                && value.and_then(|value| value.current_value) == Some(0);
            if !off
                && !value
                    .zip(limit)
                    .is_none_or(|(value, limit)| is_within(value, limit))
            {
                return Err(unprocessable(format_args!("{name} is out of range")));
            }
        }
        for ((name, value), (_, limit)) in decimals(&config).into_iter().zip(decimals(&limits)) {
            if !value
                .zip(limit)
                .is_none_or(|(value, limit)| is_within_decimal(value, limit))
            {
                return Err(unprocessable(format_args!("{name} is out of range")));
            }
        }
    }
    Ok(())
}

fn integers(set: &ConfigParameters) -> [(&'static str, Option<Tunable>); 6] {
    [
        ("heartbeat-interval", set.heartbeat_interval),
        ("missing-hb-allowed", set.missing_hb_allowed),
        ("probing-rate", set.probing_rate),
        ("max-retransmit", set.max_retransmit),
        ("max-payloads", set.max_payloads),
        ("non-max-retransmit", set.non_max_retransmit),
    ]
}

fn decimals(set: &ConfigParameters) -> [(&'static str, Option<TunableDecimal>); 6] {
    [
        ("ack-timeout", set.ack_timeout),
        ("ack-random-factor", set.ack_random_factor),
        ("non-timeout", set.non_timeout),
        ("non-receive-timeout", set.non_receive_timeout),
        ("non-probing-wait", set.non_probing_wait),
        ("non-partial-timeout", set.non_partial_timeout),
    ]
}

fn is_within(value: Tunable, limit: Tunable) -> bool {
    value.current_value.is_none_or(|value| {
        value >= limit.min_value.unwrap_or(u16::MIN) && value <= limit.max_value.unwrap_or(u16::MAX)
    })
}

fn is_within_decimal(value: TunableDecimal, limit: TunableDecimal) -> bool {
    let (least, greatest) = (
        Decimal::from_hundredths(0),
        Decimal::from_hundredths(i64::MAX),
    );
    value.current_value_decimal.is_none_or(|value| {
        value >= limit.min_value_decimal.unwrap_or(least)
            && value <= limit.max_value_decimal.unwrap_or(greatest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(set: ConfigParameters) -> SignalConfig {
        SignalConfig {
            mitigating_config: None,
            idle_config: Some(set),
        }
    }

    fn interval(value: u16) -> SignalConfig {
        idle(ConfigParameters {
            heartbeat_interval: Some(Tunable::current(value)),
            ..ConfigParameters::default()
        })
    }

    fn limits() -> SignalConfig {
        idle(ConfigParameters {
            heartbeat_interval: Some(Tunable {
                max_value: Some(240),
                min_value: Some(15),
                current_value: Some(30),
            }),
            ack_timeout: Some(TunableDecimal {
                max_value_decimal: Some(Decimal::from_hundredths(3000)),
                min_value_decimal: Some(Decimal::from_hundredths(100)),
                current_value_decimal: Some(Decimal::from_hundredths(200)),
            }),
            ..ConfigParameters::default()
        })
    }

    #[test]
    fn something_is_configured() {
        assert_eq!(check(&interval(30)), Ok(()));
        assert!(check(&SignalConfig::default()).is_err());
        assert!(check(&idle(ConfigParameters::default())).is_err());
    }

    #[test]
    fn values_lie_within_the_limits() {
        for value in [0, 15, 240] {
            assert_eq!(check_config_range(&interval(value), &limits()), Ok(()));
        }
        for value in [14, 241] {
            let fault = unprocessable("heartbeat-interval is out of range");
            assert_eq!(check_config_range(&interval(value), &limits()), Err(fault));
        }
        let timeout = TunableDecimal::current(Decimal::from_hundredths(99));
        let config = idle(ConfigParameters {
            ack_timeout: Some(timeout),
            ..ConfigParameters::default()
        });
        assert!(check_config_range(&config, &limits()).is_err());
    }
}
