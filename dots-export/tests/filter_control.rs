//! Filters that the data channel has installed are switched on by the signal channel while a mitigation stands (RFC 9133).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use support::{World, attack, event, settings, vector};
use weir_attack_event::EventKind;
use weir_dots_export::{
    Action, ClientCommand, ClientNotice, Exporter, PolicyConfig, PreparedFilter, UpstreamConfig,
    ZoneConfig, check, mitigation_scope,
};
use weir_dots_proto::Mid;
use weir_dots_proto::body::{ActivationType, Lifetime};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::Response;
use weir_flow_record::{Timestamp, Vector};

const HOST: &str = "203.0.113.7/32";
const T: i64 = 1_700_000_001;

fn prepared() -> ClientCommand {
    let filter = |name: &str, vector| PreparedFilter {
        acl_name: name.to_owned(),
        vector,
    };
    ClientCommand::Prepared {
        filters: vec![
            filter("weir-accept-v4", None),
            filter("weir-dns-amplification-v4", Some(Vector::DnsAmplification)),
            filter("weir-ntp-amplification-v4", Some(Vector::NtpAmplification)),
        ],
    }
}

fn request(name: &str) -> ClientCommand {
    let scope = mitigation_scope(&event(EventKind::AttackStart, name, HOST, T));
    ClientCommand::Request {
        attack: attack(name),
        scope: Box::new(scope),
        lifetime: Lifetime::Seconds(3600),
    }
}

fn vectors(name: &str, vectors: &[Vector]) -> ClientCommand {
    ClientCommand::Vectors {
        attack: attack(name),
        vectors: vectors.iter().copied().collect(),
    }
}

/// Names that were switched on, and why not, in the order of the notices.
fn switched(world: &World) -> Vec<(String, Option<&str>)> {
    let notices = world.notices.iter().filter_map(|notice| match notice {
        ClientNotice::Switched {
            filters, refused, ..
        } => Some((filters.join(","), refused.as_deref())),
        _ => None,
    });
    notices.collect()
}

#[test]
fn the_request_goes_first_and_the_switches_with_a_second_one() {
    let mut world = World::connected();
    world.command(prepared());
    // What it is made of is known before the request is answered.
    world.stuck = true;
    world.command(request("a"));
    world.command(vectors("a", &[Vector::DnsAmplification]));
    world.stuck = false;
    assert!(world.settle());
    let puts: Vec<&str> = world
        .log()
        .into_iter()
        .filter(|l| l.contains("PUT m"))
        .collect();
    assert_eq!(puts, ["PUT mitigate/…/mid=1", "PUT mitigate/…/mid=2"]);
    assert_eq!(world.peer.active(), [Mid(2)]);
    let asked = &world.peer.mitigations[&Mid(2)].scope;
    let names: Vec<&str> = asked
        .acl_list
        .iter()
        .map(|one| one.acl_name.as_str())
        .collect();
    assert_eq!(names, ["weir-accept-v4", "weir-dns-amplification-v4"]);
    let now = Some(ActivationType::ActivateWhenMitigating);
    assert!(asked.acl_list.iter().all(|one| one.activation_type == now));
    let on = "weir-accept-v4,weir-dns-amplification-v4".to_owned();
    assert_eq!(switched(&world), [(on, None)]);
    // Nothing is switched twice; a new vector is.
    world.command(vectors("a", &[Vector::DnsAmplification]));
    assert_eq!(world.peer.active(), [Mid(2)]);
    world.command(vectors("a", &[Vector::NtpAmplification]));
    assert_eq!(world.peer.active(), [Mid(3)]);
    let asked = &world.peer.mitigations[&Mid(3)].scope;
    assert_eq!(asked.acl_list[0].acl_name, "weir-ntp-amplification-v4");
    assert_eq!(asked.acl_list.len(), 1);
}

#[test]
fn refreshes_and_restarts_know_of_no_switch() {
    let mut world = World::connected();
    world.command(prepared());
    world.command(request("a"));
    let row = world
        .rows
        .values()
        .find(|row| row.key() == "mid/2")
        .unwrap();
    assert!(!serde_json::to_string(row).unwrap().contains("weir-accept"));
    // The peer takes a refresh that differs for an error, as RFC 9132 §4.4.1.2 has it; a switch is thrown once.
    world
        .peer
        .mitigations
        .get_mut(&Mid(2))
        .unwrap()
        .scope
        .acl_list
        .clear();
    assert!(world.run_for(Duration::from_secs(3000)));
    assert_eq!(world.peer.active(), [Mid(2)]);
    let refreshes = world
        .log()
        .iter()
        .filter(|line| line.ends_with("mid=2"))
        .count();
    assert!(refreshes >= 2, "{:?}", world.log());
}

#[test]
fn an_unknown_filter_costs_nothing_but_itself() {
    let mut world = World::connected();
    world.command(prepared());
    world.command(request("warm-up"));
    world.command(ClientCommand::Withdraw {
        attack: attack("warm-up"),
    });
    world.notices.clear();
    world.command(request("a"));
    assert_eq!(
        switched(&world).len(),
        1,
        "in peace it was switched off again"
    );
    let standing = *world.peer.active().last().unwrap();
    world
        .peer
        .refusals
        .push_back(Response::error(Code::NOT_FOUND, "you have no filter"));
    world.command(vectors("a", &[Vector::NtpAmplification]));
    assert_eq!(world.peer.active(), [standing], "the mitigation stands");
    let last = switched(&world).pop().unwrap();
    assert_eq!(last.0, "weir-ntp-amplification-v4");
    assert!(last.1.unwrap().starts_with("4.04"), "{last:?}");
    let refused = |notice: &ClientNotice| matches!(notice, ClientNotice::Refused { .. });
    assert!(
        !world.notices.iter().any(refused),
        "policy asks nobody else"
    );
    // It is asked for no more, until the data channel has it.
    let puts = world.log().len();
    world.command(vectors("a", &[Vector::NtpAmplification]));
    assert_eq!(world.log().len(), puts);
    world.command(prepared());
    assert_eq!(switched(&world).pop().unwrap().1, None);
}

#[test]
fn a_server_that_cannot_switch_now_is_asked_again_after_max_age() {
    let mut world = World::connected();
    world.command(request("a"));
    let mut busy = Response::error(Code::SERVICE_UNAVAILABLE, "not now");
    busy.max_age = Some(20);
    world.peer.refusals.push_back(busy);
    world.command(prepared());
    assert_eq!(world.peer.active(), [Mid(1)]);
    assert!(switched(&world)[0].1.is_some());
    assert!(world.run_for(Duration::from_secs(19)));
    assert_eq!(world.peer.active(), [Mid(1)]);
    assert!(world.run_for(Duration::from_secs(2)));
    assert_eq!(world.peer.active(), [Mid(3)], "under a new mid");
    assert_eq!(switched(&world).len(), 2);
}

#[test]
fn an_operators_mitigation_keeps_its_end() {
    let mut world = World::connected();
    world.command(prepared());
    world.command(request("operator-1"));
    assert_eq!(world.peer.active(), [Mid(1)]);
    assert!(switched(&world).is_empty());
}

#[test]
fn policy_names_the_vectors_where_filters_wait_for_them() {
    let config = UpstreamConfig {
        name: "provider".to_owned(),
        server: "dots.example.net".to_owned(),
        data_channel: "https://dots.example.net".to_owned(),
        prepared_filters: vec![Vector::NtpAmplification],
        ..UpstreamConfig::default()
    };
    let zones = [ZoneConfig {
        name: "customer-a".to_owned(),
        policy: Some("default".to_owned()),
        pipe_capacity: None,
    }];
    let filtered = check(
        std::slice::from_ref(&config),
        &[PolicyConfig::default()],
        &zones,
    )
    .unwrap();
    let named = |settings, at: i64, seen: &mut Option<Exporter>, kind, names: &[Vector]| {
        let exporter = seen.get_or_insert_with(|| Exporter::new(settings));
        let mut event = event(kind, "a", HOST, T + at);
        event.vectors = names.iter().map(|name| vector(*name, 0.4)).collect();
        event.vectors.push(vector(Vector::IcmpFlood, 0.01));
        exporter.handle_event(event.time, &event);
        let mut told = Vec::new();
        while let Some((_, command)) = exporter.poll_command() {
            if let ClientCommand::Vectors { vectors, .. } = command {
                told.push(vectors.into_iter().collect::<Vec<_>>());
            }
        }
        told
    };
    let (start, update) = (EventKind::AttackStart, EventKind::AttackUpdate);
    let mut seen = None;
    let (dns, ntp) = (Vector::DnsAmplification, Vector::NtpAmplification);
    assert_eq!(
        named(filtered.clone(), 0, &mut seen, start, &[dns]),
        [vec![dns]]
    );
    assert!(named(filtered.clone(), 1, &mut seen, update, &[dns]).is_empty());
    assert_eq!(
        named(filtered, 2, &mut seen, update, &[dns, ntp]),
        [vec![dns, ntp]]
    );
    // An upstream without such filters is told nothing of it.
    let plain = settings(PolicyConfig::default(), &["provider"]);
    assert!(named(plain, 0, &mut None, start, &[dns]).is_empty());

    let without = UpstreamConfig {
        data_channel: String::new(),
        ..config
    };
    let faults = check(&[without], &[], &[]).unwrap_err();
    assert_eq!(faults[0].path, "upstream[0].prepared_filters");
}

#[test]
fn an_accept_list_in_the_way_is_in_the_audit_trail() {
    let mut exporter = Exporter::new(settings(PolicyConfig::default(), &["provider"]));
    let notice = ClientNotice::Accepting {
        attack: attack("a"),
        upstream: "provider".into(),
        filters: vec!["weir-accept-v4".to_owned()],
    };
    exporter.handle_notice(Timestamp::from_seconds(T), &notice);
    let decision = exporter.poll_decision().unwrap();
    assert_eq!(decision.action, Action::Filter);
    assert!(decision.why.contains("weir-accept-v4"), "{}", decision.why);
}
