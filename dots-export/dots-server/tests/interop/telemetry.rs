//! Telemetry setup (14), telemetry of the client (15) and of the server (15, 16).

use super::*;

#[test]
fn row_14_telemetry_setup() {
    let mut world = World::new(14, LOSS);
    let client = world.connect("weir-lab");
    let all = format!("tm-setup/{CUID}");
    let one = |tsid: u32| format!("tm-setup/{CUID}/tsid={tsid}");
    let setup =
        |settings: Value| json!({"ietf-dots-telemetry:telemetry-setup": {"telemetry": [settings]}});
    let link = |name: &str, capacity: &str| json!({"link-id": name, "capacity": capacity, "unit": "megabit-ps"});
    let answer = step(&mut world, "14.1 GET", client, &get(&all), Code::CONTENT);
    let offered = &answer.body.as_ref().unwrap()["ietf-dots-telemetry:telemetry-setup"];
    assert_eq!(
        offered["max-config-values"]["server-originated-telemetry"],
        true
    );
    assert_eq!(offered["min-config-values"]["telemetry-notify-interval"], 1);
    let config = setup(json!({"current-config": {"measurement-interval": "hour",
        "measurement-sample": "second", "telemetry-notify-interval": 10}}));
    step(
        &mut world,
        "14.2 config",
        client,
        &put(&one(1), config.clone()),
        Code::CREATED,
    );
    step(
        &mut world,
        "14.3 again",
        client,
        &put(&one(1), config.clone()),
        Code::CHANGED,
    );
    step(
        &mut world,
        "14.4 higher",
        client,
        &put(&one(2), config.clone()),
        Code::CREATED,
    );
    step(
        &mut world,
        "14.4 replaced",
        client,
        &get(&one(1)),
        Code::NOT_FOUND,
    );
    step(
        &mut world,
        "14.5 lower",
        client,
        &put(&one(1), config),
        Code::BAD_REQUEST,
    );
    let pipes = setup(json!({"total-pipe-capacity": [link("link1", "500"), link("link2", "500")]}));
    step(
        &mut world,
        "14.6 pipes",
        client,
        &put(&one(3), pipes),
        Code::CREATED,
    );
    let fewer = setup(json!({"total-pipe-capacity": [link("link1", "0"), link("link2", "500")]}));
    step(
        &mut world,
        "14.7 a link less",
        client,
        &put(&one(4), fewer),
        Code::CREATED,
    );
    step(
        &mut world,
        "14.7 replaced",
        client,
        &get(&one(3)),
        Code::NOT_FOUND,
    );
    let answer = step(&mut world, "14.7", client, &get(&one(4)), Code::CONTENT);
    let kept =
        &answer.body.as_ref().unwrap()["ietf-dots-telemetry:telemetry-setup"]["telemetry"][0];
    assert_eq!(kept["total-pipe-capacity"], json!([link("link2", "500")]));
    let none = setup(json!({"total-pipe-capacity": [link("link2", "0")]}));
    step(
        &mut world,
        "14.8 all zero",
        client,
        &put(&one(5), none),
        Code::BAD_REQUEST,
    );
    let normal = json!([{"unit": "megabit-ps", "peak-g": "60"}]);
    let baseline = setup(json!({"baseline": [
        {"id": 1, "target-prefix": ["203.0.113.0/25"], "total-traffic-normal": normal},
        {"id": 2, "target-prefix": ["203.0.113.128/25"], "total-traffic-normal": normal}]}));
    step(
        &mut world,
        "14.9 baseline",
        client,
        &put(&one(6), baseline),
        Code::CREATED,
    );
    let domain = setup(json!({"baseline": [{"id": 3, "total-traffic-normal": normal}]}));
    step(
        &mut world,
        "14.10 of the domain",
        client,
        &put(&one(7), domain),
        Code::CREATED,
    );
    let foreign = setup(json!({"baseline": [
        {"id": 4, "target-prefix": ["192.0.2.0/24"], "total-traffic-normal": normal}]}));
    step(
        &mut world,
        "14.11 foreign",
        client,
        &put(&one(8), foreign),
        Code::BAD_REQUEST,
    );
    let mixed = setup(json!({"current-config": {"measurement-interval": "hour"},
        "total-pipe-capacity": [link("link9", "1")]}));
    step(
        &mut world,
        "14.12 mixed",
        client,
        &put(&one(9), mixed),
        Code::BAD_REQUEST,
    );
    step(
        &mut world,
        "14.13 DELETE one",
        client,
        &delete(&one(6)),
        Code::DELETED,
    );
    step(&mut world, "14.13", client, &get(&one(6)), Code::NOT_FOUND);
    step(
        &mut world,
        "14.14 DELETE all",
        client,
        &delete(&all),
        Code::DELETED,
    );
    let answer = step(&mut world, "14.14", client, &get(&all), Code::CONTENT);
    let left = &answer.body.as_ref().unwrap()["ietf-dots-telemetry:telemetry-setup"]["telemetry"];
    assert_eq!(*left, Value::Null);
}

fn attack(target: Value) -> Value {
    json!({"ietf-dots-telemetry:telemetry": {"pre-or-ongoing-mitigation": [{
        "target": target,
        "total-attack-traffic": [{"unit": "megabit-ps", "mid-percentile-g": "900"}],
        "attack-detail": [{"vendor-id": 32473, "attack-id": 77, "attack-severity": "high",
            "top-talker": {"talker": [{"source-prefix": "192.0.2.0/24",
                "source-port-range": [{"lower-port": 53}]}]}}]
    }]}})
}

#[test]
fn row_15_telemetry() {
    let mut world = World::new(15, LOSS);
    let client = world.connect("weir-lab");
    let all = format!("tm/{CUID}");
    let one = |tmid: u32| format!("tm/{CUID}/tmid={tmid}");
    let of = |prefix: &str| attack(json!({"target-prefix": [prefix], "target-protocol": [17]}));
    step(
        &mut world,
        "15.1",
        client,
        &put(&one(1), of("203.0.113.7/32")),
        Code::CHANGED,
    );
    step(
        &mut world,
        "15.2 overlap",
        client,
        &put(&one(2), of("203.0.113.0/28")),
        Code::CHANGED,
    );
    step(
        &mut world,
        "15.2 replaced",
        client,
        &get(&one(1)),
        Code::NOT_FOUND,
    );
    step(
        &mut world,
        "15.3",
        client,
        &put(&one(3), of("203.0.113.99/32")),
        Code::CHANGED,
    );
    let foreign = put(&one(4), of("198.51.100.7/32"));
    step(
        &mut world,
        "15.4 foreign",
        client,
        &foreign,
        Code::BAD_REQUEST,
    );
    let mut tmids = |name: &str, query: &str| -> Vec<u64> {
        let path = format!("{all}?{query}");
        match world.ask(client, &get(&path)).unwrap() {
            answer if answer.code == Code::CONTENT => items(answer.body.as_ref())
                .iter()
                .map(|item| item["tmid"].as_u64().unwrap())
                .collect(),
            answer => {
                assert_eq!(answer.code, Code::NOT_FOUND, "{name}");
                Vec::new()
            }
        }
    };
    assert_eq!(tmids("15.5 protocol", "target-protocol=17"), [2, 3]);
    assert!(tmids("15.6 range", "target-protocol=6-16").is_empty());
    assert_eq!(
        tmids(
            "15.7 prefix",
            "target-prefix=203.0.113.96/28,198.51.100.0/24"
        ),
        [3]
    );
    assert_eq!(
        tmids("15.8 source", "source-prefix=192.0.2.7&source-port=50-60"),
        [2, 3]
    );
    assert!(tmids("15.9 source", "source-port=80").is_empty());
    for wrong in [
        "target-port=9-3",
        "target-fqdn=www.*.example",
        "source-colour=1",
    ] {
        let path = format!("{all}?{wrong}");
        step(
            &mut world,
            "15.10 malformed",
            client,
            &get(&path),
            Code::BAD_REQUEST,
        );
    }
    step(
        &mut world,
        "15.11 DELETE one",
        client,
        &delete(&one(2)),
        Code::DELETED,
    );
    step(&mut world, "15.11", client, &get(&one(2)), Code::NOT_FOUND);
    step(
        &mut world,
        "15.12 DELETE all",
        client,
        &delete(&all),
        Code::DELETED,
    );
    step(&mut world, "15.12", client, &get(&all), Code::NOT_FOUND);
}

/// What the server's own detector sees.
fn observed(prefix: &str, megabits: u64) -> PreOrOngoingMitigation {
    PreOrOngoingMitigation {
        target: Some(Target {
            target_prefix: vec![prefix.parse().unwrap()],
            ..Target::default()
        }),
        total_attack_traffic: vec![Traffic::in_bits(&Gauges {
            current_g: Some(megabits * 1_000_000),
            ..Gauges::default()
        })],
        ..PreOrOngoingMitigation::default()
    }
}

#[test]
fn rows_15_and_16_telemetry_of_the_server() {
    let mut world = World::new(16, 0.0);
    let client = world.connect("weir-lab");
    let path = format!("tm/{CUID}/tmid=567");
    let wish = json!({"ietf-dots-telemetry:telemetry": {"pre-or-ongoing-mitigation": [
        {"target": {"target-prefix": ["203.0.113.0/25"]}}]}});
    step(
        &mut world,
        "15.20 filter",
        client,
        &put(&path, wish),
        Code::CHANGED,
    );
    step(
        &mut world,
        "15.21 observe",
        client,
        &observe(&path),
        Code::CONTENT,
    );
    world.observe("a", Some(observed("203.0.113.7/32", 900)));
    world.advance(seconds(20));
    let silent = world.notifications(client);
    let traffic = |body: &Value| items(Some(body))[0]["total-attack-traffic"].clone();
    assert!(
        silent.iter().all(|(_, body)| traffic(body).is_null()),
        "15.22 not asked for"
    );
    let setup = |on: bool| {
        json!({"ietf-dots-telemetry:telemetry-setup": {"telemetry": [
        {"current-config": {"server-originated-telemetry": on, "telemetry-notify-interval": 10}}]}})
    };
    let tsid = format!("tm-setup/{CUID}/tsid=1");
    step(
        &mut world,
        "15.23 on",
        client,
        &put(&tsid, setup(true)),
        Code::CREATED,
    );
    for megabits in 0..60 {
        world.observe("a", Some(observed("203.0.113.7/32", 900 + megabits)));
        world.observe("foreign", Some(observed("198.51.100.7/32", megabits)));
        world.advance(seconds(1));
    }
    let told = world.notifications(client);
    assert!(
        (5..=7).contains(&told.len()),
        "15.24 one in ten seconds: {}",
        told.len()
    );
    let last = items(Some(&told.last().unwrap().1));
    assert_eq!(last.len(), 1, "15.24 of its own target");
    assert_eq!(last[0]["tmid"], 567);
    assert_eq!(
        last[0]["target"]["target-prefix"],
        json!(["203.0.113.7/32"])
    );
    assert_eq!(last[0]["total-attack-traffic"][0]["unit"], "megabit-ps");
    world.observe("a", None);
    world.advance(seconds(20));
    let (_, last) = world.notifications(client).pop().unwrap();
    assert!(traffic(&last).is_null(), "15.25 it is over");

    // Telemetry in the status of mitigations goes with the same setting.
    let path = mid(CUID, 1);
    step(
        &mut world,
        "16.1",
        client,
        &put(&path, udp("203.0.113.7/32", 3600)),
        Code::CREATED,
    );
    let id = world.active()[0].0;
    world.report(id, MitigationStatus::AttackSuccessfullyMitigated, 1_000_000);
    world.advance(seconds(1));
    let answer = step(&mut world, "16.2 true", client, &get(&path), Code::CONTENT);
    let traffic = &scopes(answer.body.as_ref())[0]["ietf-dots-telemetry:total-attack-traffic"];
    assert_eq!(
        traffic[0],
        json!({"unit": "megabit-ps", "current-g": "400"})
    );
    step(
        &mut world,
        "16.3 off",
        client,
        &put(&tsid, setup(false)),
        Code::CHANGED,
    );
    let answer = step(&mut world, "16.4 false", client, &get(&path), Code::CONTENT);
    let traffic = &scopes(answer.body.as_ref())[0]["ietf-dots-telemetry:total-attack-traffic"];
    assert_eq!(*traffic, Value::Null);
}
