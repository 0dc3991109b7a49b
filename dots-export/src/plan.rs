//! What an upstream is told of normal times (RFC 9244 §7): how telemetry is measured, and how wide the pipes are.

use std::time::Duration;

use ipnet::IpNet;
use weir_dots_proto::Decimal;
use weir_dots_proto::body::{
    MeasurementInterval, MeasurementSample, PipeCapacity, TelemetryParameters, TelemetrySettings,
    Unit, UnitClass, UnitConfig,
};

use crate::client::SetupPlan;
use crate::config::{Share, UpstreamSettings};

/// A link into a zone.
#[derive(Clone, PartialEq, Debug)]
pub struct Link {
    /// The zone's name.
    pub name: String,
    /// The zone's prefixes.
    pub prefixes: Vec<IpNet>,
    /// bit/s.
    pub capacity: u64,
}

/// What to set up at an upstream; nothing where it may not know. `notify` is the least time between two of its
/// notifications, 1 s to 1 h.
#[must_use]
pub fn setup_plan(upstream: &UpstreamSettings, links: &[Link], notify: Duration) -> SetupPlan {
    let mut plan = SetupPlan::new();
    if !upstream.share.contains(&Share::Setup) {
        return plan;
    }
    plan.insert("config".to_owned(), config(notify));
    let total_pipe_capacity: Vec<PipeCapacity> = links
        .iter()
        .filter(|link| link.capacity > 0 && upstream.holds(&link.prefixes))
        .map(pipe)
        .collect();
    if !total_pipe_capacity.is_empty() {
        // One item for all links, as RFC 9244 §7.2.1 recommends.
        let settings = TelemetrySettings {
            total_pipe_capacity,
            ..TelemetrySettings::default()
        };
        plan.insert("pipe".to_owned(), settings);
    }
    plan
}

/// How the telemetry of this client is measured: over 1-s samples of at most five minutes.
fn config(notify: Duration) -> TelemetrySettings {
    let percentile = |percent: i64| Some(Decimal::from_hundredths(percent * 100));
    let unit = |unit| UnitConfig {
        unit,
        unit_status: true,
    };
    let seconds = notify.as_secs().clamp(1, 3600);
    TelemetrySettings {
        current_config: Some(TelemetryParameters {
            measurement_interval: Some(MeasurementInterval::FiveMinutes),
            measurement_sample: Some(MeasurementSample::Second),
            low_percentile: percentile(10),
            mid_percentile: percentile(50),
            high_percentile: percentile(90),
            unit_config: vec![unit(UnitClass::BitPs), unit(UnitClass::PacketPs)],
            server_originated_telemetry: Some(true),
            telemetry_notify_interval: u16::try_from(seconds).ok(),
        }),
        ..TelemetrySettings::default()
    }
}

/// A capacity in the largest unit that tells it exactly.
fn pipe(link: &Link) -> PipeCapacity {
    let exact = |unit: &Unit| {
        unit.class() == UnitClass::BitPs && u128::from(link.capacity) % unit.factor() == 0
    };
    let unit = Unit::ALL
        .iter()
        .copied()
        .rfind(exact)
        .unwrap_or(Unit::BitPs);
    let capacity = u128::from(link.capacity) / unit.factor();
    PipeCapacity {
        link_id: link.name.clone(),
        capacity: u64::try_from(capacity).ok(),
        unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_told_exactly() {
        let told = |capacity| {
            let link = Link {
                name: "a".to_owned(),
                prefixes: Vec::new(),
                capacity,
            };
            let pipe = pipe(&link);
            (pipe.capacity, pipe.unit)
        };
        assert_eq!(told(10_000_000_000), (Some(10), Unit::GigabitPs));
        assert_eq!(told(1_500_000_000), (Some(1_500), Unit::MegabitPs));
        assert_eq!(told(7), (Some(7), Unit::BitPs));
    }
}
