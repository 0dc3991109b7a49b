//! Telemetry setup (RFC 9244 §7).

use super::target::Attributes;
use super::telemetry::{check_traffic, check_traffic_by};
use super::{RequestFault, bad_request, ensure, ensure_acceptable, ensure_unique};
use crate::Decimal;
use crate::body::{Baseline, PipeCapacity, TelemetryParameters, TelemetrySettings, TelemetrySetup};

/// Checks a PUT: one kind of settings, and nothing that only servers say.
pub(super) fn check(setup: &TelemetrySetup) -> Result<(), RequestFault> {
    let limits = setup.max_config_values.is_some() || setup.min_config_values.is_some();
    let support = setup.supported_unit_classes.is_some() || !setup.supported_query_type.is_empty();
    ensure(
        !limits && !support,
        "limits and supported values come from servers only",
    )?;
    check_kinds(&setup.telemetry)?;
    for settings in &setup.telemetry {
        if let Some(config) = &settings.current_config {
            check_config(config)?;
        }
    }
    check_pipes(&setup.telemetry)?;
    check_baselines(&setup.telemetry)
}

/// RFC 9244 §7: a PUT has a configuration, pipes or baselines.
fn check_kinds(telemetry: &[TelemetrySettings]) -> Result<(), RequestFault> {
    let has = |kind: fn(&TelemetrySettings) -> bool| usize::from(telemetry.iter().any(kind));
    let kinds = has(|settings| settings.current_config.is_some())
        + has(|settings| !settings.total_pipe_capacity.is_empty())
        + has(|settings| !settings.baseline.is_empty());
    let configs = telemetry
        .iter()
        .filter(|settings| settings.current_config.is_some())
        .count();
    ensure(
        kinds == 1 && configs <= 1,
        "not exactly one of current-config, total-pipe-capacity and baseline",
    )
}

fn check_config(config: &TelemetryParameters) -> Result<(), RequestFault> {
    ensure(
        *config != TelemetryParameters::default(),
        "current-config is empty",
    )?;
    ensure_unique(
        "unit-config",
        config.unit_config.iter().map(|entry| entry.unit),
    )?;
    check_percentiles(config)?;
    if let (Some(sample), Some(interval)) = (config.measurement_sample, config.measurement_interval)
    {
        ensure_acceptable(
            sample.seconds() < interval.seconds(),
            "measurement-sample is not less than measurement-interval",
        )?;
    }
    let interval = config.telemetry_notify_interval;
    ensure_acceptable(
        interval.is_none_or(|seconds| (1..=3600).contains(&seconds)),
        "telemetry-notify-interval is not within 1 to 3600",
    )
}

/// Low ≤ mid ≤ high within 0 to 100; absent ones have the YANG module's defaults.
fn check_percentiles(config: &TelemetryParameters) -> Result<(), RequestFault> {
    let or = |value: Option<Decimal>, default| value.unwrap_or(Decimal::from_hundredths(default));
    let low = or(config.low_percentile, 1000);
    let mid = or(config.mid_percentile, 5000);
    let high = or(config.high_percentile, 9000);
    let within = low >= Decimal::from_hundredths(0) && high <= Decimal::from_hundredths(10_000);
    ensure_acceptable(
        low <= mid && mid <= high && within,
        "percentiles do not ascend within 0 to 100",
    )
}

fn check_pipes(telemetry: &[TelemetrySettings]) -> Result<(), RequestFault> {
    let pipes: Vec<&PipeCapacity> = telemetry
        .iter()
        .flat_map(|settings| &settings.total_pipe_capacity)
        .collect();
    // RFC 9244 §7.2: only one unit per unit class.
    ensure_unique(
        "total-pipe-capacity",
        pipes.iter().map(|pipe| (&pipe.link_id, pipe.unit.class())),
    )?;
    ensure(
        pipes.iter().all(|pipe| !pipe.link_id.is_empty()),
        "link-id is empty",
    )?;
    ensure(
        pipes.iter().all(|pipe| pipe.capacity.is_some()),
        "capacity is missing",
    )?;
    let all_zero = !pipes.is_empty() && pipes.iter().all(|pipe| pipe.capacity == Some(0));
    ensure(!all_zero, "capacity is 0 for all links")
}

fn check_baselines(telemetry: &[TelemetrySettings]) -> Result<(), RequestFault> {
    let baselines = || telemetry.iter().flat_map(|settings| &settings.baseline);
    ensure_unique("baseline", baselines().map(|baseline| baseline.id))?;
    baselines().try_for_each(check_baseline)
}

fn check_baseline(baseline: &Baseline) -> Result<(), RequestFault> {
    ensure(baseline.id >= 1, "id is 0")?;
    Attributes::from(baseline).check()?;
    check_traffic("total-traffic-normal", &baseline.total_traffic_normal)?;
    let protocols = &baseline.total_traffic_normal_per_protocol;
    check_traffic_by(
        "total-traffic-normal-per-protocol",
        protocols
            .iter()
            .map(|entry| (entry.protocol.into(), entry.traffic)),
    )?;
    let ports = &baseline.total_traffic_normal_per_port;
    check_traffic_by(
        "total-traffic-normal-per-port",
        ports.iter().map(|entry| (entry.port, entry.traffic)),
    )?;
    let capacities = &baseline.total_connection_capacity;
    ensure_unique(
        "total-connection-capacity",
        capacities.iter().map(|entry| entry.protocol),
    )?;
    let by_port = &baseline.total_connection_capacity_per_port;
    if by_port.iter().any(|entry| entry.port.is_none()) {
        return Err(bad_request(
            "port is missing in total-connection-capacity-per-port",
        ));
    }
    ensure_unique(
        "total-connection-capacity-per-port",
        by_port.iter().map(|entry| (entry.protocol, entry.port)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{MeasurementInterval, MeasurementSample, Unit};

    fn config(change: impl FnOnce(&mut TelemetryParameters)) -> Result<(), RequestFault> {
        let mut config = TelemetryParameters {
            server_originated_telemetry: Some(true),
            ..TelemetryParameters::default()
        };
        change(&mut config);
        check(&TelemetrySetup {
            telemetry: vec![TelemetrySettings {
                current_config: Some(config),
                ..TelemetrySettings::default()
            }],
            ..TelemetrySetup::default()
        })
    }

    fn pipes(pipes: &[(&str, u64, Unit)]) -> Result<(), RequestFault> {
        let pipes = pipes.iter().map(|(link, capacity, unit)| PipeCapacity {
            link_id: (*link).to_owned(),
            capacity: Some(*capacity),
            unit: *unit,
        });
        check(&TelemetrySetup {
            telemetry: vec![TelemetrySettings {
                total_pipe_capacity: pipes.collect(),
                ..TelemetrySettings::default()
            }],
            ..TelemetrySetup::default()
        })
    }

    #[test]
    fn values_of_a_configuration_are_unprocessable() {
        let is_unprocessable = |result| matches!(result, Err(RequestFault::Unprocessable(_)));
        let percent = |value: i64| Some(Decimal::from_hundredths(value * 100));
        assert_eq!(config(|_| ()), Ok(()));
        assert_eq!(config(|config| config.low_percentile = percent(50)), Ok(()));
        assert!(is_unprocessable(config(
            |config| config.low_percentile = percent(60)
        )));
        assert!(is_unprocessable(config(
            |config| config.high_percentile = percent(101)
        )));
        assert!(is_unprocessable(config(|config| config
            .telemetry_notify_interval =
            Some(0))));
        assert!(is_unprocessable(config(|config| {
            config.measurement_interval = Some(MeasurementInterval::FiveMinutes);
            config.measurement_sample = Some(MeasurementSample::FiveMinutes);
        })));
    }

    #[test]
    fn an_empty_configuration_is_bad() {
        let result = config(|config| *config = TelemetryParameters::default());
        assert_eq!(result, Err(bad_request("current-config is empty")));
        assert!(check(&TelemetrySetup::default()).is_err());
    }

    #[test]
    fn pipes_have_capacity() {
        assert_eq!(
            pipes(&[("a", 0, Unit::MegabitPs), ("b", 500, Unit::MegabitPs)]),
            Ok(())
        );
        assert!(pipes(&[("a", 0, Unit::MegabitPs)]).is_err());
        assert!(pipes(&[("a", 1, Unit::MegabitPs), ("a", 1000, Unit::KilobitPs)]).is_err());
        assert_eq!(
            pipes(&[("a", 1, Unit::MegabitPs), ("a", 1000, Unit::KilopacketPs)]),
            Ok(())
        );
    }

    #[test]
    fn baselines_start_at_one() {
        let with = |ids: &[u32]| {
            let baseline = ids
                .iter()
                .map(|id| Baseline {
                    id: *id,
                    ..Baseline::default()
                })
                .collect();
            check(&TelemetrySetup {
                telemetry: vec![TelemetrySettings {
                    baseline,
                    ..TelemetrySettings::default()
                }],
                ..TelemetrySetup::default()
            })
        };
        assert_eq!(with(&[1, 2]), Ok(()));
        assert!(with(&[0]).is_err());
        assert!(with(&[1, 1]).is_err());
    }
}
