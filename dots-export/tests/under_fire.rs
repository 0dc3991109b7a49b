//! What happens while upstreams fail: several at once, one after another, and the guard rails.

mod support;

use std::time::Duration;

use support::{attack, event, settings};
use weir_attack_event::{AttackEvent, EventKind, MitigationReport, MitigationStatus};
use weir_dots_export::{
    Action, ClientCommand, ClientNotice, Decline, Exporter, Order, PolicyConfig, Standing,
};
use weir_flow_record::{Period, Timestamp};

const START: EventKind = EventKind::AttackStart;
const UPDATE: EventKind = EventKind::AttackUpdate;
const END: EventKind = EventKind::AttackEnd;
const T: i64 = 1_700_000_001;
const HOST: &str = "203.0.113.7/32";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(T + seconds)
}

fn policy(change: impl FnOnce(&mut PolicyConfig)) -> Exporter {
    let mut policy = PolicyConfig::default();
    change(&mut policy);
    Exporter::new(settings(policy, &["first", "second"]))
}

/// Requests and withdrawals since the last call.
fn orders(exporter: &mut Exporter) -> Vec<String> {
    let mut orders = Vec::new();
    while let Some((upstream, command)) = exporter.poll_command() {
        match command {
            ClientCommand::Request { attack, .. } => {
                orders.push(format!("{upstream}: request {attack}"));
            }
            ClientCommand::Withdraw { attack } => {
                orders.push(format!("{upstream}: withdraw {attack}"));
            }
            ClientCommand::Telemetry { .. }
            | ClientCommand::Setup { .. }
            | ClientCommand::MappingShared
            | ClientCommand::Prepared { .. }
            | ClientCommand::Watch { .. }
            | ClientCommand::Vectors { .. }
            | ClientCommand::Efficacy { .. } => {}
        }
    }
    orders
}

fn handle(exporter: &mut Exporter, event: &AttackEvent) -> Vec<String> {
    exporter.handle_event(event.time, event);
    orders(exporter)
}

fn report(upstream: &str, status: MitigationStatus, dropped: u64) -> MitigationReport {
    MitigationReport {
        attack: attack("a"),
        upstream: upstream.into(),
        mid: 1,
        status,
        bytes_dropped_per_second: None,
        packets_dropped_per_second: None,
        bytes_dropped: Some(dropped),
        packets_dropped: None,
        attack_bits_per_second: None,
        lifetime: Some(3600),
    }
}

fn grant(exporter: &mut Exporter, upstream: &str, seconds: i64) {
    let status = MitigationStatus::AttackMitigationInProgress;
    let notice = ClientNotice::Granted(report(upstream, status, 0));
    exporter.handle_notice(at(seconds), &notice);
}

fn refuse(exporter: &mut Exporter, upstream: &str, seconds: i64) -> Vec<String> {
    let notice = ClientNotice::Refused {
        attack: attack("a"),
        upstream: upstream.into(),
        mid: 1,
        code: "4.09".to_owned(),
        diagnostic: "conflict".to_owned(),
        retry_in: None,
    };
    exporter.handle_notice(at(seconds), &notice);
    orders(exporter)
}

fn tell(
    exporter: &mut Exporter,
    upstream: &str,
    status: MitigationStatus,
    seconds: i64,
) -> Vec<String> {
    let notice = ClientNotice::Status(report(upstream, status, 5));
    exporter.handle_notice(at(seconds), &notice);
    orders(exporter)
}

#[test]
fn all_upstreams_are_asked_at_once_where_the_policy_says_so() {
    let mut exporter = policy(|p| p.order = Order::Parallel);
    let told = handle(&mut exporter, &event(START, "a", HOST, T));
    assert_eq!(told, ["first: request a", "second: request a"]);
    // One of them is no help: the other has been asked already.
    assert!(refuse(&mut exporter, "first", 1).is_empty());
    grant(&mut exporter, "second", 2);
    let standing = Standing::Asked {
        upstream: "second".into(),
        granted: true,
    };
    assert_eq!(exporter.standing(&attack("a")), Some(standing));
    let told = handle(&mut exporter, &event(END, "a", HOST, T + 9));
    assert_eq!(told, ["second: withdraw a"]);
}

#[test]
fn an_upstream_that_cannot_do_enough_keeps_its_part() {
    let mut exporter = policy(|_| {});
    let _ = handle(&mut exporter, &event(START, "a", HOST, T));
    grant(&mut exporter, "first", 1);
    let exceeded = MitigationStatus::AttackExceededCapability;
    assert_eq!(
        tell(&mut exporter, "first", exceeded, 2),
        ["second: request a"]
    );
    assert!(tell(&mut exporter, "first", exceeded, 3).is_empty(), "once");
    let told = handle(&mut exporter, &event(END, "a", HOST, T + 9));
    assert_eq!(told, ["second: withdraw a", "first: withdraw a"]);
}

#[test]
fn a_mitigation_without_effect_is_not_relied_on() {
    let mut exporter = policy(|p| p.effect_after = Period(Duration::from_secs(60)));
    let _ = handle(&mut exporter, &event(START, "a", HOST, T));
    grant(&mut exporter, "first", 1);
    assert!(handle(&mut exporter, &event(UPDATE, "a", HOST, T + 50)).is_empty());
    let told = handle(&mut exporter, &event(UPDATE, "a", HOST, T + 61));
    assert_eq!(told, ["second: request a"]);
    // The second drops something.
    grant(&mut exporter, "second", 62);
    let works = MitigationStatus::AttackSuccessfullyMitigated;
    assert!(tell(&mut exporter, "second", works, 70).is_empty());
    assert!(handle(&mut exporter, &event(UPDATE, "a", HOST, T + 200)).is_empty());
    let told = handle(&mut exporter, &event(END, "a", HOST, T + 201));
    assert_eq!(told, ["second: withdraw a", "first: withdraw a"]);
}

#[test]
fn upstreams_that_have_all_refused_are_asked_again_after_a_while() {
    let mut exporter = policy(|p| p.retry_after = Period(Duration::from_secs(30)));
    let _ = handle(&mut exporter, &event(START, "a", HOST, T));
    assert_eq!(refuse(&mut exporter, "first", 1), ["second: request a"]);
    assert!(refuse(&mut exporter, "second", 2).is_empty());
    assert_eq!(exporter.poll_timeout(), Some(at(32)));
    exporter.handle_timeout(at(32));
    assert_eq!(orders(&mut exporter), ["first: request a"]);
    let _ = refuse(&mut exporter, "first", 33);
    let _ = refuse(&mut exporter, "second", 34);
    assert!(handle(&mut exporter, &event(END, "a", HOST, T + 40)).is_empty());
    assert_eq!(exporter.poll_timeout(), None, "the attack is over");
}

#[test]
fn the_stop_switch_stops() {
    let mut exporter = policy(|_| {});
    let _ = handle(&mut exporter, &event(START, "a", HOST, T));
    exporter.handle_hold(at(1), true, false);
    assert!(orders(&mut exporter).is_empty(), "what is asked for stays");
    let told = handle(&mut exporter, &event(START, "b", "203.0.113.9/32", T + 2));
    assert!(told.is_empty());
    let held = Some(Standing::Declined(Decline::Hold));
    assert_eq!(exporter.standing(&attack("b")), held);
    assert!(refuse(&mut exporter, "first", 3).is_empty(), "no next one");
    exporter.handle_hold(at(4), false, false);
    let told = orders(&mut exporter);
    assert_eq!(told, ["second: request a", "first: request b"]);
    exporter.handle_hold(at(5), true, true);
    let told = orders(&mut exporter);
    assert_eq!(told, ["second: withdraw a", "first: withdraw b"]);
    assert_eq!(exporter.standing(&attack("a")), held);
}

#[test]
fn requests_are_limited_in_time() {
    let mut exporter = policy(|p| p.max_requests_per_minute = 2);
    for (number, seconds) in [(1, 0), (2, 1), (3, 2)] {
        let target = format!("203.0.113.{number}/32");
        let told = handle(&mut exporter, &event(START, &target, &target, T + seconds));
        assert_eq!(told.len(), usize::from(number < 3), "{number}");
    }
    let third = attack("203.0.113.3/32");
    let limited = Some(Standing::Declined(Decline::Rate(2)));
    assert_eq!(exporter.standing(&third), limited);
    exporter.handle_timeout(at(62));
    assert_eq!(orders(&mut exporter), ["first: request 203.0.113.3/32"]);
}

#[test]
fn a_restart_takes_over_what_several_upstreams_do() {
    let mut exporter = policy(|_| {});
    exporter.restore([attack("a")]);
    for upstream in ["first", "second"] {
        let held = ClientNotice::Held {
            upstream: upstream.into(),
            attack: attack("a"),
            mid: 1,
            scope: Box::new(weir_dots_export::mitigation_scope(&event(
                START, "a", HOST, T,
            ))),
        };
        exporter.handle_notice(at(0), &held);
    }
    assert!(handle(&mut exporter, &event(UPDATE, "a", HOST, T + 1)).is_empty());
    let told = handle(&mut exporter, &event(END, "a", HOST, T + 2));
    assert_eq!(told, ["first: withdraw a", "second: withdraw a"]);
}

#[test]
fn every_decision_is_told_with_its_reason() {
    let mut exporter = policy(|_| {});
    let _ = handle(&mut exporter, &event(START, "a", HOST, T));
    let _ = refuse(&mut exporter, "first", 1);
    grant(&mut exporter, "second", 2);
    let _ = tell(
        &mut exporter,
        "second",
        MitigationStatus::AttackSuccessfullyMitigated,
        3,
    );
    exporter.handle_hold(at(4), true, false);
    let _ = handle(&mut exporter, &event(START, "b", "203.0.113.9/32", T + 5));
    let _ = handle(&mut exporter, &event(END, "a", HOST, T + 6));
    let mut trail = Vec::new();
    while let Some(decision) = exporter.poll_decision() {
        assert!(!decision.why.is_empty());
        trail.push((decision.action, decision.upstream.unwrap_or_default()));
    }
    let expected = [
        (Action::Ask, "first"),
        (Action::Refused, "first"),
        (Action::FallBack, "first"),
        (Action::Ask, "second"),
        (Action::Granted, "second"),
        (Action::Status, "second"),
        (Action::Hold, ""),
        (Action::Decline, ""),
        (Action::Withdraw, "second"),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(action, upstream)| (action, upstream.into()))
        .collect();
    assert_eq!(trail, expected);
}
