//! The client asks the server to tell of attacks, and hears of them (RFC 9244 §8.3).

mod pair;
mod support;

use std::time::Duration;

use pair::Pair;
use support::{attack, event};
use weir_attack_event::EventKind;
use weir_dots_export::{ClientCommand, ClientNotice, setup_plan, telemetry_body};
use weir_dots_proto::body::{PreOrOngoingMitigation, TelemetrySettings};

/// What the server's side sees of an attack on that target.
fn seen(target: &str) -> PreOrOngoingMitigation {
    let event = event(EventKind::AttackStart, "x", target, 1_700_000_001);
    let items = telemetry_body(&event).pre_or_ongoing_mitigation;
    items.into_iter().next().unwrap_or_default()
}

fn watch(prefixes: &[&str]) -> ClientCommand {
    let targets = prefixes.iter().filter_map(|text| text.parse().ok());
    ClientCommand::Watch {
        targets: targets.collect(),
    }
}

/// Targets that the upstream told of, message by message.
fn heard(pair: &Pair) -> Vec<Vec<String>> {
    let told = pair.notices.iter().filter_map(|notice| match notice {
        ClientNotice::Observed { items, .. } => {
            let targets = items.iter().filter_map(|item| item.target.as_ref());
            let prefixes = targets.flat_map(|target| &target.target_prefix);
            Some(prefixes.map(ToString::to_string).collect())
        }
        _ => None,
    });
    told.collect()
}

/// A pair whose server may send telemetry, as our own plan lets it.
fn willing() -> Pair {
    let settings = support::settings(Default::default(), &["provider"]);
    let plan = setup_plan(&settings.upstreams()[0], &[], Duration::from_secs(3));
    let plan = plan
        .into_iter()
        .filter(|(_, item): &(String, TelemetrySettings)| {
            let config = item.current_config.as_ref();
            config.is_some_and(|config| config.server_originated_telemetry == Some(true))
        });
    let mut pair = Pair::new();
    pair.plan(&plan.collect());
    pair.connect();
    pair
}

#[test]
fn attacks_that_the_server_sees_are_heard_of_until_they_are_over() {
    let mut pair = willing();
    pair.order(watch(&["203.0.113.0/24"]));
    assert_eq!(pair.asked("tm"), ["put tm/tmid=1", "get tm/tmid=1"]);
    assert!(heard(&pair).is_empty(), "the request given back is no news");
    let host = "203.0.113.7/32";
    let now = pair.now;
    pair.server.handle_observation(now, "x", Some(seen(host)));
    pair.server
        .handle_observation(now, "y", Some(seen("198.51.100.1/32")));
    pair.advance(Duration::from_secs(5));
    assert_eq!(heard(&pair), [[host]]);
    let now = pair.now;
    pair.server.handle_observation(now, "x", None);
    pair.advance(Duration::from_secs(5));
    assert_eq!(heard(&pair).pop(), Some(Vec::new()));
}

#[test]
fn what_the_client_tells_itself_does_not_end_it() {
    let mut pair = willing();
    pair.order(watch(&["203.0.113.0/24"]));
    let host = "203.0.113.7/32";
    let own = event(EventKind::AttackStart, "a", host, 1_700_000_001);
    pair.order(ClientCommand::Telemetry {
        attack: attack("a"),
        body: Box::new(telemetry_body(&own)),
        ended: false,
    });
    assert_eq!(pair.server.telemetry().count(), 2);
    let now = pair.now;
    pair.server.handle_observation(now, "x", Some(seen(host)));
    pair.advance(Duration::from_secs(5));
    assert_eq!(heard(&pair), [[host]]);
}

#[test]
fn a_new_session_observes_anew_and_other_targets_go_under_a_higher_tmid() {
    let mut pair = willing();
    pair.order(watch(&["203.0.113.0/24"]));
    let _ = pair.asked("tm");
    pair.client.handle_disconnected(pair.now);
    pair.connect();
    assert_eq!(pair.asked("tm"), ["get tm/tmid=1"]);
    pair.order(watch(&["203.0.113.0/25"]));
    assert_eq!(pair.asked("tm"), ["put tm/tmid=2", "get tm/tmid=2"]);
    assert_eq!(pair.server.telemetry().count(), 1, "the lower is gone");
    pair.order(watch(&["203.0.113.0/25"]));
    assert!(pair.asked("tm").is_empty(), "nothing has changed");
}

#[test]
fn a_server_that_has_forgotten_it_is_asked_again_after_a_while() {
    let mut pair = willing();
    pair.order(watch(&["203.0.113.0/24"]));
    let _ = pair.asked("tm");
    pair.server = pair::server(pair.now);
    pair.client.handle_disconnected(pair.now);
    pair.connect();
    assert_eq!(pair.asked("tm"), ["get tm/tmid=1"]);
    pair.advance(Duration::from_secs(58));
    assert!(pair.asked("tm").is_empty());
    pair.advance(Duration::from_secs(5));
    assert_eq!(pair.asked("tm"), ["put tm/tmid=2", "get tm/tmid=2"]);
}

#[test]
fn a_server_that_does_not_let_us_is_left_alone() {
    let mut pair = willing();
    pair.order(watch(&["192.0.2.0/24"]));
    assert_eq!(pair.asked("tm"), ["put tm/tmid=1"]);
    pair.advance(Duration::from_secs(600));
    assert!(pair.asked("tm").is_empty());
}
