//! Who is told what, and who is asked.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{attack, event, settings, vector};
use weir_attack_event::{
    AttackEvent, AttackName, EventKind, MitigationReport, MitigationStatus, ModelWord, Severity,
    VectorShare,
};
use weir_dots_export::{
    ClientCommand, ClientNotice, Decline, Exporter, PolicyConfig, RequestMode, Standing,
};
use weir_flow_record::{Direction, Period, Timestamp, Vector};

const START: EventKind = EventKind::AttackStart;
const UPDATE: EventKind = EventKind::AttackUpdate;
const END: EventKind = EventKind::AttackEnd;
const T: i64 = 1_700_000_001;

fn policy(change: impl FnOnce(&mut PolicyConfig)) -> Exporter {
    let mut policy = PolicyConfig::default();
    change(&mut policy);
    Exporter::new(settings(policy, &["first", "second"]))
}

fn handle(exporter: &mut Exporter, event: &AttackEvent) -> Vec<String> {
    exporter.handle_event(event.time, event);
    drain(exporter)
}

fn drain(exporter: &mut Exporter) -> Vec<String> {
    let mut told = Vec::new();
    while let Some((upstream, command)) = exporter.poll_command() {
        told.push(match command {
            ClientCommand::Request { attack, scope, .. } => {
                let prefixes: Vec<String> = scope
                    .target_prefix
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                let protocols = &scope.target_protocol;
                format!(
                    "{upstream}: request {attack} {} {protocols:?}",
                    prefixes.join(",")
                )
            }
            ClientCommand::Withdraw { attack } => format!("{upstream}: withdraw {attack}"),
            ClientCommand::Setup { .. }
            | ClientCommand::MappingShared
            | ClientCommand::Watch { .. }
            | ClientCommand::Prepared { .. } => format!("{upstream}: set up"),
            ClientCommand::Vectors { attack, vectors } => {
                format!("{upstream}: {attack} is {vectors:?}")
            }
            ClientCommand::Efficacy { attack, .. } => format!("{upstream}: rate {attack}"),
            ClientCommand::Telemetry { attack, ended, .. } => {
                format!(
                    "{upstream}: {} {attack}",
                    if ended { "last" } else { "tell" }
                )
            }
        });
    }
    told
}

fn only_requests(told: &[String]) -> Vec<&str> {
    let requests = |line: &&str| line.contains("request") || line.contains("withdraw");
    told.iter().map(String::as_str).filter(requests).collect()
}

fn granted(upstream: &str, name: &str) -> MitigationReport {
    MitigationReport {
        attack: attack(name),
        upstream: upstream.into(),
        mid: 1,
        status: MitigationStatus::AttackMitigationInProgress,
        bytes_dropped_per_second: None,
        packets_dropped_per_second: None,
        bytes_dropped: None,
        packets_dropped: None,
        attack_bits_per_second: None,
        lifetime: Some(3600),
    }
}

fn refused(upstream: &str, name: &str, retry_in: Option<u64>) -> ClientNotice {
    ClientNotice::Refused {
        attack: attack(name),
        upstream: upstream.into(),
        mid: 1,
        code: "4.09".to_owned(),
        diagnostic: "conflict".to_owned(),
        retry_in: retry_in.map(Duration::from_secs),
    }
}

#[test]
fn an_attack_is_asked_about_told_and_withdrawn() {
    let mut exporter = policy(|_| {});
    let host = "203.0.113.7/32";
    assert_eq!(
        handle(&mut exporter, &event(START, "a", host, T)),
        [
            "first: request a 203.0.113.7/32 [17]",
            "first: tell a",
            "second: tell a"
        ]
    );
    assert_eq!(
        handle(&mut exporter, &event(END, "a", host, T + 5)),
        ["first: last a", "second: last a", "first: withdraw a"]
    );
    assert_eq!(exporter.poll_timeout(), None);
}

#[test]
fn an_attack_over_when_it_is_detected_is_told() {
    let mut exporter = policy(|p| p.upstreams = vec!["first".to_owned()]);
    assert_eq!(
        handle(&mut exporter, &event(END, "a", "203.0.113.7/32", T)),
        [
            "first: request a 203.0.113.7/32 [17]",
            "first: last a",
            "first: withdraw a"
        ]
    );
}

#[test]
fn telemetry_keeps_its_interval_save_for_start_and_end() {
    let mut exporter = policy(|p| {
        p.upstreams = vec!["first".to_owned()];
        p.telemetry_interval = Period(Duration::from_secs(30));
        p.request = RequestMode::Never;
    });
    let host = "203.0.113.7/32";
    assert_eq!(
        handle(&mut exporter, &event(START, "a", host, T)),
        ["first: tell a"]
    );
    for later in [1, 10, 20] {
        assert!(handle(&mut exporter, &event(UPDATE, "a", host, T + later)).is_empty());
    }
    let due = Timestamp::from_seconds(T + 30);
    assert_eq!(exporter.poll_timeout(), Some(due));
    exporter.handle_timeout(due);
    assert_eq!(drain(&mut exporter), ["first: tell a"]);
    assert_eq!(exporter.poll_timeout(), None);
    assert_eq!(
        handle(&mut exporter, &event(END, "a", host, T + 31)),
        ["first: last a"]
    );
    assert_eq!(exporter.counters().superseded_telemetry, 2);
}

#[test]
fn what_policy_has_no_word_on_is_reported_only() {
    let mut exporter = policy(|p| p.telemetry_severity = Severity::Medium);
    let mut low = event(START, "a", "203.0.113.7/32", T);
    low.severity = Severity::Low;
    assert!(handle(&mut exporter, &low).is_empty());
    let mut other = event(START, "c", "198.51.100.1/32", T);
    other.target.zone = "customer-b".into();
    assert!(handle(&mut exporter, &other).is_empty());
    // It grows: now it is told.
    let mut medium = event(UPDATE, "a", "203.0.113.7/32", T + 3);
    medium.severity = Severity::Medium;
    assert_eq!(handle(&mut exporter, &medium).len(), 3);
}

#[test]
fn policy_bounds_what_is_asked_for() {
    let wide = "203.0.112.0/20";
    let host = "203.0.113.7/32";
    let never = "203.0.113.0/28".parse().unwrap();
    for (target, reason) in [
        (wide, Decline::TooWide(wide.parse().unwrap())),
        (host, Decline::Never(never)),
        (host, Decline::TelemetryOnly),
    ] {
        let mut exporter = policy(|policy| match reason {
            Decline::Never(prefix) => policy.never = vec![prefix],
            Decline::TelemetryOnly => policy.request = RequestMode::Never,
            _ => {}
        });
        let told = handle(&mut exporter, &event(START, "a", target, T));
        assert_eq!(told, ["first: tell a", "second: tell a"], "{reason}");
        assert_eq!(
            exporter.standing(&attack("a")),
            Some(Standing::Declined(reason))
        );
    }
}

#[test]
fn outgoing_attacks_are_told_only() {
    let mut exporter = policy(|_| {});
    let mut out = event(START, "a", "203.0.113.7/32", T);
    out.target.direction = Direction::Out;
    assert_eq!(
        handle(&mut exporter, &out),
        ["first: tell a", "second: tell a"]
    );
    let standing = exporter.standing(&attack("a"));
    assert_eq!(standing, Some(Standing::Declined(Decline::Outgoing)));
}

#[test]
fn an_operator_confirms() {
    let mut exporter = policy(|p| p.request = RequestMode::Confirm);
    let told = handle(&mut exporter, &event(START, "a", "203.0.113.7/32", T));
    assert!(only_requests(&told).is_empty());
    assert_eq!(
        exporter.standing(&attack("a")),
        Some(Standing::AwaitsConfirmation)
    );
    assert!(exporter.handle_confirmation(Timestamp::from_seconds(T + 1), &attack("a")));
    assert_eq!(
        drain(&mut exporter),
        ["first: request a 203.0.113.7/32 [17]"]
    );
    assert!(!exporter.handle_confirmation(Timestamp::from_seconds(T + 1), &attack("a")));
}

/// An attack that only a model speaks of, or that a limit has taken over since.
fn of_model(kind: EventKind, alone: bool, second: i64) -> AttackEvent {
    let name = AttackName::of("slow-http");
    let mut event = event(kind, "a", "203.0.113.7/32", second);
    if alone {
        event.severity = Severity::Low;
        event.vectors = vec![VectorShare {
            vendor_id: 32473,
            attack_id: name.attack_id(),
            name: name.clone(),
            share: 1.0,
            confidence: 0.97,
        }];
    }
    event.model = Some(ModelWord {
        id: "0123456789abcdef".into(),
        name,
        confidence: 0.97,
        alone,
    });
    event
}

#[test]
fn what_only_a_model_says_waits_for_an_operator_until_a_limit_says_so_too() {
    let mut exporter = policy(|_| {});
    let told = handle(&mut exporter, &of_model(START, true, T));
    assert_eq!(told, ["first: tell a", "second: tell a"]);
    assert_eq!(
        exporter.standing(&attack("a")),
        Some(Standing::AwaitsConfirmation)
    );
    let told = handle(&mut exporter, &of_model(UPDATE, false, T + 20));
    assert_eq!(
        only_requests(&told),
        ["first: request a 203.0.113.7/32 [17]"]
    );

    // Confirmed, it is asked for whatever its severity; nothing is known of its protocols.
    let mut exporter = policy(|_| {});
    let _ = handle(&mut exporter, &of_model(START, true, T));
    assert!(exporter.handle_confirmation(Timestamp::from_seconds(T + 1), &attack("a")));
    assert_eq!(drain(&mut exporter), ["first: request a 203.0.113.7/32 []"]);

    for (models, request, expected) in [
        (RequestMode::Automatic, RequestMode::Automatic, 1),
        (RequestMode::Automatic, RequestMode::Confirm, 0),
        (RequestMode::Automatic, RequestMode::Never, 0),
        (RequestMode::Never, RequestMode::Automatic, 0),
    ] {
        let mut exporter = policy(|p| (p.models, p.request) = (models, request));
        let told = handle(&mut exporter, &of_model(START, true, T));
        let asked = only_requests(&told).len();
        assert_eq!(asked, expected, "{models:?} {request:?}");
    }
}

#[test]
fn the_next_upstream_is_asked_when_one_refuses() {
    let mut exporter = policy(|_| {});
    let _ = handle(&mut exporter, &event(START, "a", "203.0.113.7/32", T));
    let now = Timestamp::from_seconds(T);
    exporter.handle_notice(now, &refused("first", "a", None));
    assert_eq!(
        drain(&mut exporter),
        ["second: request a 203.0.113.7/32 [17]"]
    );
    exporter.handle_notice(now, &refused("second", "a", None));
    assert!(drain(&mut exporter).is_empty());
    assert_eq!(
        exporter.standing(&attack("a")),
        Some(Standing::Declined(Decline::Refused))
    );
    // Updates do not ask again.
    let told = handle(&mut exporter, &event(UPDATE, "a", "203.0.113.7/32", T + 20));
    assert!(only_requests(&told).is_empty());
}

#[test]
fn a_silent_upstream_is_withdrawn_from_when_another_is_asked() {
    let mut exporter = policy(|_| {});
    let _ = handle(&mut exporter, &event(START, "a", "203.0.113.7/32", T));
    let silent = |upstream: &str| ClientNotice::Unreachable {
        attack: attack("a"),
        upstream: upstream.into(),
    };
    exporter.handle_notice(Timestamp::from_seconds(T), &silent("first"));
    assert_eq!(
        drain(&mut exporter),
        ["first: withdraw a", "second: request a 203.0.113.7/32 [17]"]
    );
    // There is no third: the client goes on trying.
    exporter.handle_notice(Timestamp::from_seconds(T), &silent("second"));
    assert!(drain(&mut exporter).is_empty());
}

#[test]
fn requests_are_limited() {
    let mut exporter = policy(|p| p.max_requests = 1);
    let _ = handle(&mut exporter, &event(START, "a", "203.0.113.7/32", T));
    let told = handle(&mut exporter, &event(START, "b", "203.0.113.8/32", T));
    assert!(only_requests(&told).is_empty());
    assert_eq!(
        exporter.standing(&attack("b")),
        Some(Standing::Declined(Decline::Limit(1)))
    );
    let _ = handle(&mut exporter, &event(END, "a", "203.0.113.7/32", T + 1));
    let told = handle(&mut exporter, &event(UPDATE, "b", "203.0.113.8/32", T + 2));
    assert_eq!(
        only_requests(&told),
        ["first: request b 203.0.113.8/32 [17]"]
    );
}

#[test]
fn a_new_vector_widens_the_scope_and_nothing_narrows_it() {
    let mut exporter = policy(|_| {});
    let host = "203.0.113.7/32";
    let _ = handle(&mut exporter, &event(START, "a", host, T));
    let mut more = event(UPDATE, "a", host, T + 1);
    more.vectors = vec![vector(Vector::TcpSynFlood, 0.9)];
    let told = handle(&mut exporter, &more);
    assert_eq!(
        only_requests(&told),
        ["first: request a 203.0.113.7/32 [6, 17]"]
    );
    let told = handle(&mut exporter, &event(UPDATE, "a", host, T + 2));
    assert!(only_requests(&told).is_empty());
}

#[test]
fn a_request_covers_narrower_targets_until_it_ends() {
    let mut exporter = policy(|_| {});
    let net = "203.0.113.0/24";
    let _ = handle(&mut exporter, &event(START, "wide", net, T));
    let told = handle(
        &mut exporter,
        &event(START, "narrow", "203.0.113.7/32", T + 1),
    );
    assert!(only_requests(&told).is_empty());
    let standing = exporter.standing(&attack("narrow"));
    assert_eq!(standing, Some(Standing::Covered { by: attack("wide") }));
    let told = handle(&mut exporter, &event(END, "wide", net, T + 2));
    assert_eq!(
        only_requests(&told),
        [
            "first: request narrow 203.0.113.7/32 [17]",
            "first: withdraw wide"
        ]
    );
}

#[test]
fn a_wider_request_takes_over_narrower_ones_once_granted() {
    // RFC 9132 §4.4.1.2: the server drops the lower mid of overlapping requests.
    let mut exporter = policy(|_| {});
    let mut narrow = event(START, "narrow", "203.0.113.7/32", T);
    narrow.vectors = vec![vector(Vector::TcpSynFlood, 1.0)];
    let _ = handle(&mut exporter, &narrow);
    let told = handle(
        &mut exporter,
        &event(START, "wide", "203.0.113.0/24", T + 1),
    );
    assert_eq!(
        only_requests(&told),
        ["first: request wide 203.0.113.0/24 [6, 17]"]
    );
    let report = granted("first", "wide");
    exporter.handle_notice(Timestamp::from_seconds(T), &ClientNotice::Granted(report));
    assert_eq!(drain(&mut exporter), ["first: withdraw narrow"]);
    let standing = exporter.standing(&attack("narrow"));
    assert_eq!(standing, Some(Standing::Covered { by: attack("wide") }));
}

#[test]
fn what_was_covered_by_a_request_that_is_taken_over_is_covered_by_the_new_one() {
    let mut exporter = policy(|_| {});
    let _ = handle(&mut exporter, &event(START, "a", "203.0.113.0/25", T));
    let _ = handle(&mut exporter, &event(START, "b", "203.0.113.7/32", T + 1));
    let _ = handle(&mut exporter, &event(START, "c", "203.0.113.0/24", T + 2));
    let report = granted("first", "c");
    exporter.handle_notice(Timestamp::from_seconds(T), &ClientNotice::Granted(report));
    assert_eq!(drain(&mut exporter), ["first: withdraw a"]);
    let standing = exporter.standing(&attack("b"));
    assert_eq!(standing, Some(Standing::Covered { by: attack("c") }));
    let told = handle(&mut exporter, &event(END, "a", "203.0.113.0/25", T + 3));
    assert!(only_requests(&told).is_empty());
    let told = handle(&mut exporter, &event(END, "c", "203.0.113.0/24", T + 4));
    assert_eq!(
        only_requests(&told),
        ["first: request b 203.0.113.7/32 [17]", "first: withdraw c"]
    );
}

#[test]
fn a_scope_that_has_grown_too_large_leaves_the_request_that_stands() {
    let mut exporter = policy(|_| {});
    let _ = handle(&mut exporter, &event(START, "a", "203.0.113.7/32", T));
    let mut wide = event(UPDATE, "a", "203.0.113.7/32", T + 1);
    wide.target.other_prefixes = (0..=255)
        .map(|n| format!("198.51.100.{n}/32").parse().unwrap())
        .collect();
    assert!(only_requests(&handle(&mut exporter, &wide)).is_empty());
    let told = handle(&mut exporter, &event(END, "a", "203.0.113.7/32", T + 2));
    assert_eq!(only_requests(&told), ["first: withdraw a"]);
}

#[test]
fn mitigations_of_attacks_that_ended_meanwhile_are_withdrawn() {
    let mut exporter = policy(|_| {});
    exporter.restore([attack("open")]);
    let scope = weir_dots_export::mitigation_scope(&event(START, "open", "203.0.113.7/32", T));
    for name in ["open", "over", "operator-1"] {
        let held = ClientNotice::Held {
            upstream: "second".into(),
            attack: attack(name),
            mid: 4,
            scope: Box::new(scope.clone()),
        };
        exporter.handle_notice(Timestamp::from_seconds(T), &held);
    }
    assert_eq!(drain(&mut exporter), ["second: withdraw over"]);
    // The open one goes on where it was asked for, not with the first upstream.
    let told = handle(
        &mut exporter,
        &event(UPDATE, "open", "203.0.113.7/32", T + 1),
    );
    assert!(only_requests(&told).is_empty());
    let upstream: Arc<str> = "second".into();
    let standing = exporter.standing(&attack("open"));
    assert_eq!(
        standing,
        Some(Standing::Asked {
            upstream,
            granted: true
        })
    );
    let told = handle(&mut exporter, &event(END, "open", "203.0.113.7/32", T + 2));
    assert_eq!(only_requests(&told), ["second: withdraw open"]);
}
