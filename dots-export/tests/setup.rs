//! Telemetry setup against the real server: told once, kept over sessions and restarts, changed under a higher tsid.

mod pair;
mod support;

use std::time::Duration;

use pair::{Pair, client, server};
use support::attack;
use weir_dots_export::{ClientCommand, SetupPlan};
use weir_dots_proto::Decimal;
use weir_dots_proto::body::{
    Lifetime, PipeCapacity, Scope, TelemetryParameters, TelemetrySettings, Unit,
};

const ALL: &str = "get tm-setup";

fn config() -> TelemetrySettings {
    TelemetrySettings {
        current_config: Some(TelemetryParameters {
            low_percentile: Some(Decimal::from_hundredths(1000)),
            server_originated_telemetry: Some(true),
            telemetry_notify_interval: Some(10),
            ..TelemetryParameters::default()
        }),
        ..TelemetrySettings::default()
    }
}

fn pipe(capacity: u64) -> TelemetrySettings {
    TelemetrySettings {
        total_pipe_capacity: vec![PipeCapacity {
            link_id: "customer-a".to_owned(),
            capacity: Some(capacity),
            unit: Unit::MegabitPs,
        }],
        ..TelemetrySettings::default()
    }
}

fn plan(items: &[(&str, TelemetrySettings)]) -> SetupPlan {
    items
        .iter()
        .map(|(name, settings)| ((*name).to_owned(), settings.clone()))
        .collect()
}

#[test]
fn a_plan_is_told_once_and_changes_under_a_higher_tsid() {
    let mut pair = Pair::new();
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(500))]));
    pair.connect();
    assert_eq!(
        pair.asked("tm-setup"),
        [ALL, "put tm-setup/tsid=1", "put tm-setup/tsid=2"]
    );
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(500))]));
    assert!(pair.asked("tm-setup").is_empty(), "nothing has changed");
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(900))]));
    assert_eq!(pair.asked("tm-setup"), ["put tm-setup/tsid=3"]);
    // A new session: the server still has it.
    pair.client.handle_disconnected(pair.now);
    pair.connect();
    assert_eq!(pair.asked("tm-setup"), [ALL]);
    pair.plan(&plan(&[("pipe", pipe(900))]));
    assert_eq!(pair.asked("tm-setup"), ["delete tm-setup/tsid=1"]);
}

#[test]
fn what_a_server_has_lost_is_told_again() {
    let mut pair = Pair::new();
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(500))]));
    pair.connect();
    let _ = pair.asked("tm-setup");
    pair.server = server(pair.now);
    pair.client.handle_disconnected(pair.now);
    pair.connect();
    assert_eq!(
        pair.asked("tm-setup"),
        [ALL, "put tm-setup/tsid=1", "put tm-setup/tsid=2"]
    );
}

#[test]
fn a_restart_keeps_the_identifiers() {
    let mut pair = Pair::new();
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(500))]));
    pair.connect();
    let _ = pair.asked("tm-setup");
    pair.client = client();
    pair.client.restore(pair.rows.values().cloned());
    pair.plan(&plan(&[("config", config()), ("pipe", pipe(700))]));
    pair.connect();
    assert_eq!(pair.asked("tm-setup"), [ALL, "put tm-setup/tsid=3"]);
}

#[test]
fn an_attack_goes_first() {
    let mut pair = Pair::new();
    let scope = Scope {
        target_prefix: vec!["203.0.113.7/32".parse().unwrap()],
        ..Scope::default()
    };
    let request = ClientCommand::Request {
        attack: attack("a"),
        scope: Box::new(scope),
        lifetime: Lifetime::Seconds(3600),
    };
    pair.client.handle_command(pair.now, request);
    pair.plan(&plan(&[("config", config())]));
    pair.connect();
    assert!(pair.asked("tm-setup").is_empty());
    let withdraw = ClientCommand::Withdraw {
        attack: attack("a"),
    };
    pair.client.handle_command(pair.now, withdraw);
    pair.advance(Duration::from_secs(5));
    assert_eq!(pair.asked("tm-setup"), [ALL, "put tm-setup/tsid=1"]);
}
