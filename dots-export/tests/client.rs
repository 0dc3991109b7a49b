//! The client against a server: what it asks, when, and what it makes of the answers.

mod support;

use std::time::Duration;

use support::{World, attack, event};
use weir_attack_event::{EventKind, MitigationStatus as Reported};
use weir_dots_export::{
    ClientCommand, ClientNotice, OPERATOR_KEPT_PREFIX, SavedState, SessionState, mitigation_scope,
    telemetry_body,
};
use weir_dots_proto::Mid;
use weir_dots_proto::body::{
    Body, ConflictCause, ConflictInformation, Lifetime, Mitigation, MitigationStatus, Scope,
};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::Response;

fn request(name: &str, target: &str) -> ClientCommand {
    let event = event(EventKind::AttackStart, name, target, 1_700_000_001);
    ClientCommand::Request {
        attack: attack(name),
        scope: Box::new(mitigation_scope(&event)),
        lifetime: Lifetime::Seconds(3600),
    }
}

fn telemetry(name: &str, target: &str, ended: bool) -> ClientCommand {
    let kind = if ended {
        EventKind::AttackEnd
    } else {
        EventKind::AttackUpdate
    };
    ClientCommand::Telemetry {
        attack: attack(name),
        body: Box::new(telemetry_body(&event(kind, name, target, 1_700_000_001))),
        ended,
    }
}

fn withdraw(name: &str) -> ClientCommand {
    ClientCommand::Withdraw {
        attack: attack(name),
    }
}

#[test]
fn a_mid_is_durable_before_its_put_leaves() {
    let mut world = World::connected();
    world.stuck = true;
    world.command(request("a", "203.0.113.7/32"));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.log(), ["GET mitigate/…"]);
    world.stuck = false;
    world.settle();
    assert!(
        world
            .rows
            .values()
            .any(|row| matches!(row.state, SavedState::Mitigation { .. }))
    );
    assert_eq!(world.peer.active(), [Mid(1)]);
}

#[test]
fn a_mitigation_is_asked_observed_and_withdrawn_with_its_telemetry() {
    let mut world = World::connected();
    world.command(request("a", "203.0.113.7/32"));
    world.command(telemetry("a", "203.0.113.7/32", false));
    world.peer.report(
        world.now,
        Mid(1),
        MitigationStatus::AttackSuccessfullyMitigated,
        5_000,
    );
    world.settle();
    world.command(telemetry("a", "203.0.113.7/32", true));
    world.command(withdraw("a"));
    assert_eq!(
        world.log(),
        [
            "GET mitigate/…",
            "PUT mitigate/…/mid=1",
            "GET mitigate/…/mid=1",
            "PUT tm/…/tmid=1",
            "PUT tm/…/tmid=1",
            "DELETE mitigate/…/mid=1",
        ]
    );
    assert!(world.peer.active().is_empty());
    let told = world.peer.telemetry.values().next().unwrap();
    let target = told.pre_or_ongoing_mitigation[0].target.as_ref().unwrap();
    assert_eq!(target.mid_list, [Mid(1)]);
    let status = world.notices.iter().find_map(|notice| match notice {
        ClientNotice::Status(report) if report.bytes_dropped == Some(5_000) => Some(report),
        _ => None,
    });
    assert_eq!(
        status.unwrap().status,
        Reported::AttackSuccessfullyMitigated
    );
    assert_eq!(status.unwrap().bytes_dropped_per_second, Some(500));
    assert!(matches!(
        world.notices.last(),
        Some(ClientNotice::Withdrawn { mid: 1, .. })
    ));
    assert!(!world.client.is_under_attack());
    // Only the identifiers stay in the journal.
    assert_eq!(world.rows.keys().collect::<Vec<_>>(), ["identifiers"]);
}

#[test]
fn telemetry_goes_after_the_mitigation_that_it_names() {
    let mut world = World::connected();
    world.deaf = true;
    world.command(request("a", "203.0.113.7/32"));
    world.command(telemetry("a", "203.0.113.7/32", false));
    world.deaf = false;
    world.run_for(Duration::from_secs(5));
    let log = world.log();
    let put = log
        .iter()
        .position(|line| line.starts_with("PUT mitigate"))
        .unwrap();
    let tm = log
        .iter()
        .position(|line| line.starts_with("PUT tm"))
        .unwrap();
    assert!(put < tm, "{log:?}");
    assert_eq!(
        world
            .peer
            .telemetry
            .values()
            .next()
            .unwrap()
            .pre_or_ongoing_mitigation[0]
            .target
            .as_ref()
            .unwrap()
            .mid_list,
        [Mid(1)]
    );
}

#[test]
fn one_tmid_serves_until_the_target_changes() {
    let mut world = World::connected();
    for target in ["203.0.113.7/32", "203.0.113.7/32", "203.0.113.0/24"] {
        world.command(telemetry("a", target, false));
    }
    assert_eq!(
        world.log()[1..],
        ["PUT tm/…/tmid=1", "PUT tm/…/tmid=1", "PUT tm/…/tmid=2"]
    );
}

#[test]
fn it_is_refreshed_before_its_lifetime_ends_and_checked_when_nothing_comes() {
    let mut world = World::connected();
    world.peer.granted = 90;
    world.command(request("a", "203.0.113.7/32"));
    world.run_for(Duration::from_secs(65));
    let puts = |world: &World| {
        world
            .log()
            .iter()
            .filter(|line| line.starts_with("PUT mitigate"))
            .count()
    };
    let gets = world
        .log()
        .iter()
        .filter(|line| **line == "GET mitigate/…/mid=1")
        .count();
    assert_eq!(puts(&world), 2);
    assert!((2..=4).contains(&gets), "{:?}", world.log());
    world.run_for(Duration::from_secs(600));
    assert!((10..=13).contains(&puts(&world)), "{}", puts(&world));
    assert_eq!(world.peer.active(), [Mid(1)]);
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let mut world = World::connected();
    world.peer.refusals.push_back(Response {
        max_age: Some(20),
        ..Response::error(Code::SERVICE_UNAVAILABLE, "later")
    });
    world.command(request("a", "203.0.113.7/32"));
    assert!(world.notices.iter().any(|notice| matches!(
        notice,
        ClientNotice::Refused { code, retry_in: Some(wait), .. }
            if code == "5.03" && *wait == Duration::from_secs(20)
    )));
    world.run_for(Duration::from_secs(19));
    assert!(world.peer.active().is_empty());
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.peer.active(), [Mid(1)]);
}

#[test]
fn a_refusal_ends_the_request() {
    let mut world = World::connected();
    world
        .peer
        .refusals
        .push_back(Response::error(Code::UNAUTHORIZED, "not your prefix"));
    world.command(request("a", "203.0.113.7/32"));
    world.run_for(Duration::from_secs(600));
    let puts = world
        .log()
        .iter()
        .filter(|line| line.starts_with("PUT mitigate"))
        .count();
    assert_eq!(puts, 1);
    assert!(world.notices.iter().any(|notice| matches!(
        notice,
        ClientNotice::Refused { code, diagnostic, retry_in: None, .. }
            if code == "4.01" && diagnostic == "not your prefix"
    )));
    assert!(world.client.mitigations().next().is_none());
}

#[test]
fn a_conflict_is_not_repeated_before_its_retry_timer() {
    let mut world = World::connected();
    let conflict = Scope {
        conflict_information: Some(ConflictInformation {
            conflict_cause: Some(ConflictCause::OverlappingTargets),
            retry_timer: Some(120),
            ..ConflictInformation::default()
        }),
        ..Scope::default()
    };
    let body = Mitigation::single(conflict).to_json();
    world
        .peer
        .refusals
        .push_back(Response::with_body(Code::CONFLICT, body));
    world.command(request("a", "203.0.113.7/32"));
    world.run_for(Duration::from_secs(119));
    assert!(world.peer.active().is_empty());
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.peer.active(), [Mid(1)]);
}

#[test]
fn a_wider_scope_replaces_the_mitigation() {
    let mut world = World::connected();
    world.command(request("a", "203.0.113.7/32"));
    world.command(request("a", "203.0.113.7/32"));
    assert_eq!(world.peer.active(), [Mid(1)]);
    world.command(request("a", "203.0.113.0/24"));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.peer.active(), [Mid(2)]);
    assert_eq!(world.client.mitigations().count(), 1);
    assert!(
        !world
            .notices
            .iter()
            .any(|notice| matches!(notice, ClientNotice::Refused { .. }))
    );
    world.command(withdraw("a"));
    assert!(world.peer.active().is_empty());
}

#[test]
fn silence_is_reported_once_and_the_request_goes_on() {
    let mut world = World::connected();
    world.deaf = true;
    world.command(request("a", "203.0.113.7/32"));
    world.run_for(Duration::from_secs(180));
    let silent = |notice: &&ClientNotice| matches!(notice, ClientNotice::Unreachable { .. });
    assert_eq!(world.notices.iter().filter(silent).count(), 1);
    assert!(world.client.wants_session());
    world.deaf = false;
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.peer.active(), [Mid(1)]);
}

#[test]
fn a_withdrawal_is_repeated_until_it_is_confirmed() {
    let mut world = World::connected();
    world.command(request("a", "203.0.113.7/32"));
    world.deaf = true;
    world.command(withdraw("a"));
    world.run_for(Duration::from_secs(200));
    assert_eq!(world.peer.active(), [Mid(1)]);
    world.deaf = false;
    world.run_for(Duration::from_secs(30));
    assert!(world.peer.active().is_empty());
}

#[test]
fn what_never_left_is_not_withdrawn_over_the_wire() {
    let mut world = World::new();
    world.command(request("a", "203.0.113.7/32"));
    world.command(withdraw("a"));
    world.client.handle_connected(world.now);
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.log(), ["GET mitigate/…"]);
    assert_eq!(world.rows.keys().collect::<Vec<_>>(), ["identifiers"]);
}

#[test]
fn an_orphan_at_the_server_is_deleted() {
    let mut world = World::connected();
    world.command(request("a", "203.0.113.7/32"));
    // The journal is lost.
    world.rows.clear();
    world.restart();
    world.client.handle_connected(world.now);
    world.run_for(Duration::from_secs(5));
    assert!(world.peer.active().is_empty());
    assert!(
        world
            .notices
            .iter()
            .any(|notice| matches!(notice, ClientNotice::Orphan { mid: 1, .. }))
    );
    // Its number is not used again.
    world.command(request("b", "203.0.113.8/32"));
    assert_eq!(world.peer.active(), [Mid(2)]);
}

#[test]
fn a_server_that_lost_its_state_is_asked_again_under_the_same_mid() {
    let mut world = World::connected();
    world.command(request("a", "203.0.113.7/32"));
    world.peer.mitigations.clear();
    world.client.handle_disconnected(world.now);
    world.peer.reconnect();
    world.client.handle_connected(world.now);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.peer.active(), [Mid(1)]);
    let states: Vec<&SessionState> = world
        .notices
        .iter()
        .filter_map(|notice| match notice {
            ClientNotice::Session { state, .. } => Some(state),
            _ => None,
        })
        .collect();
    assert_eq!(
        states,
        [&SessionState::Up, &SessionState::Lost, &SessionState::Up]
    );
}

#[test]
fn the_server_can_end_a_mitigation() {
    let mut world = World::connected();
    world.command(request("a", "203.0.113.7/32"));
    world.peer.report(
        world.now,
        Mid(1),
        MitigationStatus::AttackMitigationWithdrawn,
        0,
    );
    world.run_for(Duration::from_secs(120));
    assert!(world.client.mitigations().next().is_none());
    let puts = world
        .log()
        .iter()
        .filter(|line| line.starts_with("PUT mitigate"))
        .count();
    assert_eq!(puts, 1);
    assert!(world.notices.iter().any(|notice| matches!(
        notice,
        ClientNotice::Status(report) if report.status == Reported::AttackMitigationWithdrawn
    )));
}

#[test]
fn a_put_that_comes_after_its_delete_is_found() {
    let mut world = World::connected();
    world.command(request("a", "203.0.113.7/32"));
    world.command(withdraw("a"));
    assert!(world.peer.active().is_empty());
    // A repetition that the network held back: to the server it is a new request.
    let late = MitigationStatus::AttackMitigationInProgress;
    world.peer.report(world.now, Mid(1), late, 0);
    assert_eq!(world.peer.active(), [Mid(1)]);
    world.run_for(Duration::from_secs(90));
    assert!(world.peer.active().is_empty());
}

#[test]
fn a_server_cannot_make_the_client_hurry() {
    let mut world = World::connected();
    world.peer.granted = 0;
    world.command(request("a", "203.0.113.7/32"));
    world.run_for(Duration::from_secs(60));
    let puts = world
        .log()
        .iter()
        .filter(|line| line.starts_with("PUT mitigate"))
        .count();
    assert!(puts <= 62, "{puts}");
}

#[test]
fn garbage_from_the_server_changes_nothing() {
    let mut world = World::connected();
    world.command(request("a", "203.0.113.7/32"));
    let mut seed = 99_u64;
    for length in 0..2_000_usize {
        let mut datagram = vec![0; length % 90];
        for octet in &mut datagram {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *octet = (seed >> 40) as u8;
        }
        if let Some(first) = datagram.first_mut() {
            *first = 0x40 | (*first & 0x3f);
        }
        world.client.handle_datagram(world.now, &datagram);
    }
    world.settle();
    assert_eq!(world.client.mitigations().count(), 1);
    assert_eq!(world.peer.active(), [Mid(1)]);
}

#[test]
fn the_end_of_a_replaced_mitigation_is_no_bad_news() {
    let mut world = World::connected();
    world.command(request("a", "203.0.113.7/32"));
    world.stuck = true;
    world.command(request("a", "203.0.113.0/24"));
    world.peer.report(
        world.now,
        Mid(1),
        MitigationStatus::AttackMitigationTerminated,
        0,
    );
    world.settle();
    world.stuck = false;
    world.settle();
    assert_eq!(world.peer.active(), [Mid(2)]);
    assert!(!world.notices.iter().any(|notice| matches!(
        notice,
        ClientNotice::Status(report) if report.status == Reported::AttackMitigationTerminated
    )));
}

#[test]
fn a_request_that_fits_no_datagram_is_refused_here() {
    let mut world = World::connected();
    let scope = Scope {
        target_prefix: (0..=255)
            .map(|n| format!("203.0.113.{n}/32").parse().unwrap())
            .collect(),
        ..Scope::default()
    };
    world.command(ClientCommand::Request {
        attack: attack("operator-1"),
        scope: Box::new(scope),
        lifetime: Lifetime::Seconds(600),
    });
    world.run_for(Duration::from_secs(30));
    assert!(matches!(
        world.notices.last(),
        Some(ClientNotice::Refused { code, retry_in: None, .. }) if code == "4.13"
    ));
    assert_eq!(world.log(), ["GET mitigate/…"]);
    assert!(world.client.mitigations().next().is_none());
    // The next one is none the worse for it.
    world.command(request("b", "203.0.113.8/32"));
    assert_eq!(world.peer.active(), [Mid(1)]);
}

#[test]
fn more_attacks_than_open_requests_are_told_in_turn() {
    let mut world = World::connected();
    world.deaf = true;
    for n in 0..600 {
        let target = format!("203.0.{}.{}/32", n / 250, n % 250);
        world.command(telemetry(&format!("a{n}"), &target, false));
    }
    assert!(!world.client.wants_session(), "nobody was silent");
    // A request for help finds room.
    world.deaf = false;
    world.command(request("b", "198.51.100.7/32"));
    assert_eq!(world.peer.active(), [Mid(1)]);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.peer.telemetry.len(), 600);
    assert_eq!(world.client.counters().unanswered, 0);
}

#[test]
fn more_mitigations_than_open_requests_are_asked_about_in_turn() {
    let mut world = World::connected();
    for n in 0..400 {
        let target = format!("203.0.{}.{}/32", n / 250, n % 250);
        world.command(request(&format!("a{n}"), &target));
    }
    assert_eq!(world.peer.active().len(), 400);
    world.peer.log.clear();
    world.client.handle_disconnected(world.now);
    world.peer.reconnect();
    world.client.handle_connected(world.now);
    world.run_for(Duration::from_secs(1));
    assert!(!world.client.wants_session(), "nobody was silent");
    assert_eq!(world.client.counters().unanswered, 0);
    let log = world.log();
    let asked = |line: &&&str| line.starts_with("GET mitigate/…/mid=");
    assert_eq!(log.iter().filter(asked).count(), 400);
}

#[test]
fn an_operators_mitigation_that_is_to_be_kept_is_refreshed_until_it_is_withdrawn() {
    let mut world = World::connected();
    world.peer.granted = 90;
    let name = format!("{OPERATOR_KEPT_PREFIX}1");
    world.command(request(&name, "203.0.113.7/32"));
    let puts = |world: &World| {
        let log = world.log();
        log.iter()
            .filter(|line| line.starts_with("PUT mitigate"))
            .count()
    };
    world.run_for(Duration::from_secs(80));
    assert_eq!(puts(&world), 2);
    // A restart keeps it, and a server that has lost it is asked again.
    world.peer.mitigations.clear();
    world.restart();
    world.client.handle_connected(world.now);
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.peer.active(), [Mid(1)]);
    assert!(puts(&world) >= 6, "{}", puts(&world));
    world.command(withdraw(&name));
    assert!(world.peer.active().is_empty());
}

#[test]
fn an_operators_mitigation_ends_with_its_lifetime() {
    let mut world = World::connected();
    world.peer.granted = 90;
    world.command(request("operator-1", "203.0.113.7/32"));
    world.run_for(Duration::from_secs(80));
    let puts = |world: &World| {
        world
            .log()
            .iter()
            .filter(|line| line.starts_with("PUT mitigate"))
            .count()
    };
    // A restart keeps it, and does not ask anew for what has ended.
    world.restart();
    world.client.handle_connected(world.now);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.peer.active(), [Mid(1)]);
    world.peer.mitigations.clear();
    world.run_for(Duration::from_secs(100));
    assert_eq!(puts(&world), 1);
    assert!(world.client.mitigations().next().is_none());
}

#[test]
fn newer_telemetry_takes_the_place_of_older_that_is_not_answered() {
    let mut world = World::connected();
    world.deaf = true;
    world.command(telemetry("a", "203.0.113.7/32", false));
    world.run_for(Duration::from_secs(10));
    world.command(telemetry("a", "203.0.113.7/32", true));
    world.deaf = false;
    world.run_for(Duration::from_secs(20));
    let told = world.peer.telemetry.values().next().unwrap();
    assert!(
        told.pre_or_ongoing_mitigation[0].attack_detail[0]
            .end_time
            .is_some()
    );
    let tolds = |notice: &&ClientNotice| matches!(notice, ClientNotice::Told { .. });
    assert_eq!(world.notices.iter().filter(tolds).count(), 1);
    assert_eq!(world.rows.keys().collect::<Vec<_>>(), ["identifiers"]);
}
