//! Session configuration and efficacy updates against the real server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod pair;
mod support;

use std::time::Duration;

use pair::Pair;
use support::attack;
use weir_dots_export::{Client, ClientCommand, ClientParameters, Efficacy};
use weir_dots_proto::Cuid;
use weir_dots_proto::body::{
    AttackDetail, AttackStatus, ConfigParameters, Gauges, Lifetime, PreOrOngoingMitigation, Scope,
    SignalConfig, Talker, Target, Telemetry, TopTalkers, Traffic, Tunable,
};

fn request(name: &str) -> ClientCommand {
    let scope = Scope {
        target_prefix: vec!["203.0.113.7/32".parse().unwrap()],
        ..Scope::default()
    };
    ClientCommand::Request {
        attack: attack(name),
        scope: Box::new(scope),
        lifetime: Lifetime::Seconds(3600),
    }
}

fn set(interval: u16) -> Option<ConfigParameters> {
    Some(ConfigParameters {
        heartbeat_interval: Some(Tunable::current(interval)),
        missing_hb_allowed: Some(Tunable::current(15)),
        ..ConfigParameters::default()
    })
}

fn wishing(idle: u16, mitigating: u16) -> Pair {
    let mut pair = Pair::new();
    let cuid = Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap();
    let mut parameters = ClientParameters::new("provider".into(), cuid, 7);
    parameters.wish = Some(SignalConfig {
        idle_config: set(idle),
        mitigating_config: set(mitigating),
    });
    pair.client = Client::new(parameters);
    pair.connect();
    pair
}

#[test]
fn a_session_is_configured_and_each_set_holds_in_its_time() {
    let mut pair = wishing(120, 20);
    assert_eq!(pair.asked("config"), ["get config", "put config/sid=1"]);
    pair.heartbeats();
    pair.advance(Duration::from_secs(1_200));
    assert!((9..=11).contains(&pair.heartbeats()));
    pair.order(request("a"));
    pair.heartbeats();
    pair.advance(Duration::from_secs(1_200));
    let beats = pair.heartbeats();
    assert!((57..=63).contains(&beats), "{beats}");
}

#[test]
fn a_wish_beyond_the_servers_bounds_is_cut() {
    let mut pair = wishing(10_000, 1);
    assert_eq!(pair.asked("config"), ["get config", "put config/sid=1"]);
    pair.heartbeats();
    pair.advance(Duration::from_secs(2_400));
    // 240 s is the most that the server takes.
    assert!((9..=11).contains(&pair.heartbeats()));
}

#[test]
fn a_configuration_is_refreshed_before_it_expires_but_not_during_an_attack() {
    let mut pair = wishing(120, 20);
    pair.asked("config");
    pair.advance(Duration::from_secs(3_200));
    assert!(pair.asked("config").is_empty());
    pair.advance(Duration::from_secs(100));
    assert_eq!(pair.asked("config"), ["get config/sid=1"]);
    pair.order(request("a"));
    pair.advance(Duration::from_secs(5_000));
    assert!(pair.asked("config").is_empty(), "RFC 9132 §4.5.3");
    pair.order(ClientCommand::Withdraw {
        attack: attack("a"),
    });
    assert_eq!(pair.asked("config"), ["get config/sid=1"]);
    // A new session is configured anew, under a higher sid.
    pair.client.handle_disconnected(pair.now);
    pair.connect();
    assert_eq!(pair.asked("config"), ["get config", "put config/sid=2"]);
}

#[test]
fn what_still_arrives_is_told_while_it_is_mitigated() {
    let mut pair = Pair::new();
    pair.connect();
    let efficacy = |status| ClientCommand::Efficacy {
        attack: attack("a"),
        efficacy: Efficacy {
            status,
            total_attack_traffic: vec![Traffic::in_bits(&Gauges {
                current_g: Some(900_000_000),
                ..Gauges::default()
            })],
        },
    };
    pair.order(efficacy(AttackStatus::UnderAttack));
    pair.order(request("a"));
    pair.asked("mitigate");
    let refused = pair.client.counters().refused;
    pair.order(efficacy(AttackStatus::UnderAttack));
    assert_eq!(pair.asked("mitigate"), ["put if mitigate/mid=1"]);
    assert_eq!(pair.client.counters().refused, refused);
    // The server keeps silent where it does not know the mitigation; it is asked for anew.
    pair.server = pair::server(pair.now);
    pair.client.handle_disconnected(pair.now);
    pair.connect();
    pair.order(efficacy(AttackStatus::AttackSuccessfullyMitigated));
    pair.advance(Duration::from_secs(120));
    let held: Vec<bool> = pair.client.mitigations().map(|one| one.granted).collect();
    assert_eq!(held, [true]);
}

#[test]
fn a_cuid_that_another_client_has_is_changed_and_the_request_goes_on() {
    let mut pair = Pair::new();
    pair.connect();
    pair.take_cuid_away();
    pair.asked("mitigate");
    pair.order(request("a"));
    assert_eq!(
        pair.asked("mitigate"),
        [
            "put mitigate/mid=1",
            "put mitigate/mid=1",
            "get mitigate/mid=1"
        ]
    );
    assert_eq!(pair.client.cuid().as_str(), "dz6pHjaADkaFTbjr0JGBpw~1");
    let held: Vec<bool> = pair.client.mitigations().map(|one| one.granted).collect();
    assert_eq!(held, [true]);
}

#[test]
fn over_datagrams_the_server_is_asked_whether_it_knows_q_block() {
    for (reliable, expected) in [(false, &["get config"][..]), (true, &[])] {
        let mut pair = Pair::new();
        pair.client.handle_transport(reliable, None);
        pair.connect();
        assert_eq!(pair.asked("config"), expected, "reliable: {reliable}");
        // It is asked once a session.
        pair.advance(Duration::from_secs(300));
        assert!(pair.asked("config").is_empty());
        pair.client.handle_disconnected(pair.now);
        pair.connect();
        assert_eq!(pair.asked("config"), expected, "reliable: {reliable}");
    }
}

#[test]
fn telemetry_larger_than_a_datagram_goes_in_blocks_once_the_server_has_answered() {
    let mut pair = Pair::new();
    pair.connect();
    let talkers = (0..80).map(|host| {
        let prefix = format!("192.0.2.{host}/32");
        Talker::new(prefix.parse().unwrap())
    });
    let detail = AttackDetail {
        vendor_id: 32473,
        attack_id: 2,
        top_talker: Some(TopTalkers {
            talker: talkers.collect(),
        }),
        ..AttackDetail::default()
    };
    let body = Telemetry {
        pre_or_ongoing_mitigation: vec![PreOrOngoingMitigation {
            target: Some(Target {
                target_prefix: vec!["203.0.113.7/32".parse().unwrap()],
                ..Target::default()
            }),
            attack_detail: vec![detail],
            ..PreOrOngoingMitigation::default()
        }],
    };
    let tell = || ClientCommand::Telemetry {
        attack: attack("a"),
        body: Box::new(body.clone()),
        ended: false,
    };
    let held = |pair: &Pair| {
        let (_, _, telemetry) = pair.server.telemetry().next().unwrap();
        let talkers = &telemetry.pre_or_ongoing_mitigation[0].attack_detail[0].top_talker;
        talkers.as_ref().map_or(0, |top| top.talker.len())
    };
    pair.order(tell());
    pair.advance(Duration::from_secs(30));
    let lean = held(&pair);
    assert!((20..80).contains(&lean), "{lean}");
    pair.order(tell());
    pair.advance(Duration::from_secs(30));
    assert_eq!(held(&pair), 80);
}
