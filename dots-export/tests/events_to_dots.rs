//! From events to DOTS, line by line of a `[[policy]]`: who is asked, when, for how long, and who is told what meanwhile. Every
//! body is one that the YANG modules take, where the shared validator is at hand.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{PIPE, attack, event, settings, vector};
use weir_attack_event::{AttackEvent, EventKind, MitigationReport, MitigationStatus, Severity};
use weir_dots_export::{
    Action, ClientNotice, Decision, Decline, ExportSettings, Exporter, PolicyConfig, Record,
    Recorder, RequestMode, Standing, When,
};
use weir_flow_record::{Period, Timestamp, Vector};

const START: EventKind = EventKind::AttackStart;
const UPDATE: EventKind = EventKind::AttackUpdate;
const END: EventKind = EventKind::AttackEnd;
const T: i64 = 1_700_000_001;
const HOST: &str = "203.0.113.7/32";

/// Policy and recorder, as `weir replay` joins them: each request is granted at once.
struct Story {
    exporter: Exporter,
    recorder: Recorder,
    records: Vec<Record>,
}

impl Story {
    fn new(change: impl FnOnce(&mut PolicyConfig)) -> Self {
        let mut policy = PolicyConfig {
            upstreams: vec!["provider".to_owned()],
            ..PolicyConfig::default()
        };
        change(&mut policy);
        Self::with(settings(policy, &["provider", "second"]))
    }

    fn with(settings: ExportSettings) -> Self {
        Self {
            recorder: Recorder::new(&settings),
            exporter: Exporter::new(settings),
            records: Vec::new(),
        }
    }

    /// What is sent because of an event, as `PUT mitigate/1`.
    fn handle(&mut self, event: &AttackEvent) -> Vec<String> {
        self.exporter.handle_timeout(event.time);
        self.exporter.handle_event(event.time, event);
        self.carry_out(event.time)
    }

    fn carry_out(&mut self, now: Timestamp) -> Vec<String> {
        let before = self.records.len();
        while let Some((upstream, command)) = self.exporter.poll_command() {
            let records = self.recorder.handle_command(now, &upstream, &command);
            self.records.extend(records);
        }
        let shown = |record: &Record| {
            let number = record.path.rsplit('=').next().unwrap_or_default();
            format!("{} {}/{number}", record.method, record.kind)
        };
        self.records[before..].iter().map(shown).collect()
    }

    fn trail(&mut self) -> Vec<Decision> {
        std::iter::from_fn(|| self.exporter.poll_decision()).collect()
    }

    fn standing(&self, name: &str) -> Standing {
        self.exporter.standing(&attack(name)).unwrap()
    }

    fn grant(&mut self, name: &str, second: i64) {
        let now = Timestamp::from_seconds(second);
        self.exporter
            .handle_notice(now, &ClientNotice::Granted(report(name)));
    }

    /// The newest body of that kind.
    fn body(&self, kind: &str) -> &Value {
        let record = self.records.iter().rfind(|one| one.kind == kind).unwrap();
        record.body.as_ref().unwrap()
    }

    /// Every body is valid.
    fn validate(&self) {
        support::yanglint(self.records.iter().filter_map(|record| {
            let name = format!("{:06}-{}.json", record.seq, record.kind);
            Some((name, record.body.clone()?))
        }));
    }
}

/// The first upstream's word that it mitigates, and has dropped something.
fn report(name: &str) -> MitigationReport {
    MitigationReport {
        attack: attack(name),
        upstream: "provider".into(),
        mid: 1,
        status: MitigationStatus::AttackMitigationInProgress,
        bytes_dropped_per_second: None,
        packets_dropped_per_second: None,
        bytes_dropped: Some(1),
        packets_dropped: None,
        attack_bits_per_second: None,
        lifetime: Some(3600),
    }
}

/// An attack of so many bit/s, known to one part in ten.
fn of(bits: u64, kind: EventKind, id: &str, target: &str, second: i64) -> AttackEvent {
    let mut event = event(kind, id, target, second);
    let gauge = &mut event.traffic.bits_per_second;
    (gauge.mid, gauge.current, gauge.peak) = (bits, bits, bits * 2);
    gauge.interval = (bits / 10 * 9, Some(bits / 10 * 11));
    event
}

#[test]
fn help_is_asked_for_from_a_severity_on_and_telemetry_told_below_it() {
    let mut story = Story::new(|_| {});
    let mut small = event(START, "a", HOST, T);
    small.severity = Severity::Low;
    assert_eq!(story.handle(&small), ["PUT tm/1"]);
    assert_eq!(story.standing("a"), Standing::Declined(Decline::Severity));
    let detail = &story.body("tm")["ietf-dots-telemetry:telemetry"]["pre-or-ongoing-mitigation"][0];
    assert_eq!(detail["attack-detail"][0]["attack-severity"], "low");
    assert!(detail["target"].get("mid-list").is_none(), "pre-mitigation");
    // It grows; then what is told belongs to a mitigation.
    let mut grown = event(UPDATE, "a", HOST, T + 10);
    grown.severity = Severity::Medium;
    assert_eq!(story.handle(&grown), ["PUT mitigate/1", "PUT tm/1"]);
    let item = &story.body("tm")["ietf-dots-telemetry:telemetry"]["pre-or-ongoing-mitigation"][0];
    assert_eq!(item["target"]["mid-list"], json!([1]));
    let end = event(END, "a", HOST, T + 90);
    assert_eq!(story.handle(&end), ["PUT tm/1", "DELETE mitigate/1"]);
    let item = &story.body("tm")["ietf-dots-telemetry:telemetry"]["pre-or-ongoing-mitigation"][0];
    assert_eq!(item["attack-detail"][0]["end-time"], (T + 30).to_string());
    story.validate();
}

#[test]
fn an_attack_that_stays_small_is_told_from_its_start_to_its_end() {
    let mut story = Story::new(|_| {});
    for (kind, seconds) in [(START, 0), (UPDATE, 30), (END, 90)] {
        let mut small = event(kind, "a", HOST, T + seconds);
        small.severity = Severity::Low;
        assert_eq!(story.handle(&small), ["PUT tm/1"], "{kind:?}");
    }
    story.validate();
}

#[test]
fn an_upstream_that_may_not_know_of_telemetry_is_asked_and_told_nothing() {
    let config = weir_dots_export::UpstreamConfig {
        name: "provider".to_owned(),
        server: "dots.example.net".to_owned(),
        share: vec![weir_dots_export::Share::Mitigation],
        ..weir_dots_export::UpstreamConfig::default()
    };
    let zones = [weir_dots_export::ZoneConfig {
        name: "customer-a".to_owned(),
        policy: Some("default".to_owned()),
        pipe_capacity: None,
    }];
    let settings = weir_dots_export::check(&[config], &[PolicyConfig::default()], &zones).unwrap();
    let mut story = Story::with(settings);
    let mut small = event(START, "a", HOST, T);
    small.severity = Severity::Low;
    assert!(story.handle(&small).is_empty());
    let grown = event(UPDATE, "a", HOST, T + 1);
    assert_eq!(story.handle(&grown), ["PUT mitigate/1"]);
    story.validate();
}

#[test]
fn help_is_asked_for_once_the_attack_takes_its_share_of_the_pipe() {
    let mut story = Story::new(|p| p.when = When::LinkShare);
    let below = of(PIPE / 10 * 4, START, "a", HOST, T);
    assert_eq!(story.handle(&below), ["PUT tm/1"]);
    let waits = Decline::LinkShare {
        limit: PIPE / 2,
        pipe: PIPE,
    };
    assert_eq!(story.standing("a"), Standing::Declined(waits));
    // Its estimate is above the share, what is sure of it is not.
    let unsure = of(PIPE / 100 * 52, UPDATE, "a", HOST, T + 10);
    assert_eq!(story.handle(&unsure), ["PUT tm/1"]);
    let above = of(PIPE / 10 * 6, UPDATE, "a", HOST, T + 20);
    assert_eq!(story.handle(&above), ["PUT mitigate/1", "PUT tm/1"]);
    // The mitigation keeps most of it away, which is no reason to ask for less than the attack has become.
    let mut wider = of(PIPE / 100, UPDATE, "a", HOST, T + 30);
    wider.vectors = vec![vector(Vector::TcpSynFlood, 0.95)];
    assert_eq!(
        story.handle(&wider),
        ["PUT mitigate/2", "DELETE mitigate/1", "PUT tm/1"]
    );
    let actions: Vec<Action> = story.trail().iter().map(|one| one.action).collect();
    assert_eq!(actions, [Action::Decline, Action::Ask, Action::Ask]);
    story.validate();
}

#[test]
fn attacks_that_fill_the_pipe_together_are_worth_asking_for() {
    let mut story = Story::new(|p| p.when = When::LinkShare);
    let first = of(PIPE / 10 * 4, START, "a", HOST, T);
    assert_eq!(story.handle(&first), ["PUT tm/1"]);
    // A part of the first adds nothing.
    let part = of(PIPE / 10 * 4, START, "b", "203.0.113.0/24", T + 1);
    assert_eq!(story.handle(&part), ["PUT tm/2"]);
    let second = of(PIPE / 10 * 3, START, "c", "203.0.112.9/32", T + 2);
    assert_eq!(story.handle(&second), ["PUT mitigate/1", "PUT tm/3"]);
    // One that is over leaves what it took.
    let mut story = Story::new(|p| p.when = When::LinkShare);
    story.handle(&first);
    story.handle(&of(PIPE, END, "a", HOST, T + 1));
    assert_eq!(story.handle(&second), ["PUT tm/2"]);
    story.validate();
}

#[test]
fn a_fallback_is_asked_although_the_first_upstream_has_eased_the_pipe() {
    let mut story = Story::new(|p| {
        p.when = When::LinkShare;
        p.upstreams = vec!["provider".to_owned(), "second".to_owned()];
        p.telemetry_severity = Severity::High;
    });
    story.handle(&of(PIPE, START, "a", HOST, T));
    story.grant("a", T + 1);
    story.handle(&of(PIPE / 10, UPDATE, "a", HOST, T + 10));
    let now = Timestamp::from_seconds(T + 20);
    let ended = MitigationReport {
        status: MitigationStatus::AttackMitigationWithdrawn,
        ..report("a")
    };
    story
        .exporter
        .handle_notice(now, &ClientNotice::Status(ended));
    assert_eq!(story.carry_out(now), ["PUT mitigate/1"]);
    assert_eq!(
        story.records.last().unwrap().server,
        "second.example.net:4646"
    );
}

#[test]
fn a_dry_run_sends_nothing_and_says_what_it_would_have_asked() {
    for of_policy in [true, false] {
        let mut story = Story::new(|p| p.dry_run = of_policy);
        let dry = |kind, seconds| {
            let mut event = event(kind, "a", HOST, T + seconds);
            event.dry_run = !of_policy;
            event
        };
        assert!(story.handle(&dry(START, 0)).is_empty());
        assert!(story.handle(&dry(UPDATE, 30)).is_empty());
        let upstream = "provider".into();
        assert_eq!(story.standing("a"), Standing::WouldAsk { upstream });
        assert_eq!(story.exporter.poll_timeout(), None);
        let mut grown = dry(UPDATE, 40);
        grown.vectors = vec![vector(Vector::TcpSynFlood, 0.95)];
        assert!(story.handle(&grown).is_empty());
        assert!(story.handle(&dry(END, 90)).is_empty());
        let trail = story.trail();
        let actions: Vec<Action> = trail.iter().map(|one| one.action).collect();
        let would = [Action::WouldAsk, Action::WouldAsk, Action::WouldWithdraw];
        assert_eq!(actions, would);
        for decision in &trail {
            assert_eq!(decision.targets, [HOST.parse().unwrap()]);
            assert_eq!(decision.upstream.as_deref(), Some("provider"));
        }
        assert!(trail[0].why.contains("4.2 Gbit/s"), "{}", trail[0].why);
    }
}

#[test]
fn a_dry_run_keeps_to_the_guard_rails() {
    let never = "203.0.113.0/28".parse().unwrap();
    let mut story = Story::new(|p| {
        p.dry_run = true;
        p.never = vec![never];
    });
    assert!(story.handle(&event(START, "a", HOST, T)).is_empty());
    let trail = story.trail();
    assert_eq!(trail.len(), 1);
    assert_eq!(trail[0].action, Action::Decline);
}

#[test]
fn help_is_asked_for_when_the_dry_run_ends_during_the_attack() {
    let mut story = Story::new(|p| p.request = RequestMode::Confirm);
    let mut dry = event(START, "a", HOST, T);
    dry.dry_run = true;
    assert!(story.handle(&dry).is_empty());
    let trail = story.trail();
    assert!(trail[0].why.contains("confirm"), "{}", trail[0].why);
    let now_in_earnest = event(UPDATE, "a", HOST, T + 5);
    assert_eq!(story.handle(&now_in_earnest), ["PUT tm/1"]);
    assert_eq!(story.standing("a"), Standing::AwaitsConfirmation);
    story.validate();
}

#[test]
fn telemetry_goes_before_the_operators_word_and_with_the_mitigation_after_it() {
    let mut story = Story::new(|p| p.request = RequestMode::Confirm);
    assert_eq!(story.handle(&event(START, "a", HOST, T)), ["PUT tm/1"]);
    let now = Timestamp::from_seconds(T + 5);
    assert!(story.exporter.handle_confirmation(now, &attack("a")));
    assert_eq!(story.carry_out(now), ["PUT mitigate/1"]);
    let update = event(UPDATE, "a", HOST, T + 15);
    assert_eq!(story.handle(&update), ["PUT tm/1"]);
    let item = &story.body("tm")["ietf-dots-telemetry:telemetry"]["pre-or-ongoing-mitigation"][0];
    assert_eq!(item["target"]["mid-list"], json!([1]));
    story.validate();
}

#[test]
fn the_lifetime_of_the_policy_is_asked_for_and_refreshed() {
    let mut story = Story::new(|p| p.lifetime = Period(Duration::from_secs(600)));
    story.handle(&event(START, "a", HOST, T));
    let asked = &story.body("mitigate")["ietf-dots-signal-channel:mitigation-scope"]["scope"][0];
    assert_eq!(asked["lifetime"], 600);
    let sent = story.handle(&event(UPDATE, "a", HOST, T + 420));
    assert_eq!(sent, ["PUT mitigate/1", "PUT tm/1"]);
    let times = |record: &Record| record.time.second() - T;
    let refresh = story.records.iter().rfind(|one| one.kind == "mitigate");
    assert_eq!(refresh.map(times), Some(400));
    // Withdrawn, it is refreshed no more.
    let sent = story.handle(&event(END, "a", HOST, T + 500));
    assert_eq!(sent, ["PUT tm/1", "DELETE mitigate/1"]);
    let other = event(START, "b", "203.0.113.9/32", T + 5000);
    assert_eq!(story.handle(&other), ["PUT mitigate/2", "PUT tm/2"]);
    story.validate();
}

#[test]
fn the_upstream_hears_how_much_still_arrives() {
    let mut story = Story::new(|p| {
        p.efficacy_interval = Period(Duration::from_secs(60));
        p.telemetry_severity = Severity::High;
    });
    story.handle(&event(START, "a", HOST, T));
    story.grant("a", T + 1);
    story.handle(&event(UPDATE, "a", HOST, T + 10));
    let arrives = |packets: u64, bits: u64, second: i64| {
        let mut update = event(UPDATE, "a", HOST, second);
        let traffic = &mut update.traffic;
        (
            traffic.packets_per_second.current,
            traffic.bits_per_second.current,
        ) = (packets, bits);
        update
    };
    let scope = |story: &Story| {
        story.body("mitigate")["ietf-dots-signal-channel:mitigation-scope"]["scope"][0].clone()
    };
    let sent = story.handle(&arrives(500_000, 3_000_000_000, T + 71));
    assert_eq!(sent, ["PUT mitigate/1", "PUT tm/1"]);
    let rated = scope(&story);
    assert_eq!(rated["attack-status"], "under-attack");
    let told = &rated["ietf-dots-telemetry:total-attack-traffic"];
    assert_eq!(told[0]["current-g"], "3000", "{told}");
    let _ = story.handle(&arrives(2_000, 9_000_000, T + 132));
    let rated = scope(&story);
    assert_eq!(rated["attack-status"], "attack-successfully-mitigated");
    assert_eq!(rated["target-prefix"], json!([HOST]), "the request again");
    story.validate();
}

#[test]
fn the_validator_would_notice() {
    // What stands between these tests and a validator that takes everything.
    let wrong =
        json!({"ietf-dots-telemetry:telemetry": {"pre-or-ongoing-mitigation": [{"target": {}}]}});
    let Some(verdict) = support::verdict([("000001-tm.json".to_owned(), wrong)]) else {
        return;
    };
    assert!(!verdict.0, "{}", verdict.1);
}
