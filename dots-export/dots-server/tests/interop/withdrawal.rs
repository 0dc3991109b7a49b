//! Efficacy updates (9), withdrawal (10), preconfigured requests (11).

use super::*;

#[test]
fn row_9_efficacy() {
    let mut world = World::new(9, LOSS);
    let client = world.connect("weir-lab");
    step(
        &mut world,
        "9.1",
        client,
        &put(&mid(CUID, 1), udp("203.0.113.7/32", 600)),
        Code::CREATED,
    );
    let update = |id: u32, extra: Value| {
        let mut body = json!({"target-prefix": ["203.0.113.7/32"], "target-protocol": [17],
            "lifetime": 600, "attack-status": "under-attack"});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        Request {
            if_match: true,
            ..put(&mid(CUID, id), scope(body))
        }
    };
    step(
        &mut world,
        "9.2 update",
        client,
        &update(1, json!({})),
        Code::CHANGED,
    );
    assert_eq!(
        world.ask(client, &update(9, json!({}))),
        None,
        "9.3 no such mid: silence"
    );
    let telemetry = json!({"ietf-dots-telemetry:total-attack-traffic":
        [{"unit": "megabit-ps", "mid-percentile-g": "900"}]});
    step(
        &mut world,
        "9.4 telemetry",
        client,
        &update(1, telemetry),
        Code::CHANGED,
    );
    let switch = json!({"ietf-dots-signal-control:acl-list": [{"acl-name": "good"}]});
    step(
        &mut world,
        "9.5 no switches",
        client,
        &update(1, switch),
        Code::BAD_REQUEST,
    );
    let other = json!({"target-prefix": ["203.0.113.8/32"]});
    step(
        &mut world,
        "9.6 another scope",
        client,
        &update(1, other),
        Code::BAD_REQUEST,
    );
}

#[test]
fn row_10_withdrawal() {
    let mut world = World::new(10, LOSS);
    let client = world.connect("weir-lab");
    let path = mid(CUID, 1);
    step(
        &mut world,
        "10.1 unknown",
        client,
        &delete(&path),
        Code::DELETED,
    );
    step(
        &mut world,
        "10.2",
        client,
        &put(&path, udp("203.0.113.7/32", 600)),
        Code::CREATED,
    );
    step(
        &mut world,
        "10.3 known",
        client,
        &delete(&path),
        Code::DELETED,
    );
    let answer = step(&mut world, "10.4", client, &get(&path), Code::CONTENT);
    assert_eq!(
        scopes(answer.body.as_ref())[0]["status"],
        "dots-client-withdrawn-mitigation"
    );
    assert_eq!(world.active().len(), 1, "10.4 active but terminating");
    step(
        &mut world,
        "10.5 repeated",
        client,
        &delete(&path),
        Code::DELETED,
    );
    world.advance(seconds(125));
    step(
        &mut world,
        "10.6 terminated",
        client,
        &get(&path),
        Code::NOT_FOUND,
    );
    assert!(world.active().is_empty());
    let no_mid = delete(&format!("mitigate/{CUID}"));
    step(
        &mut world,
        "10.7 no mid",
        client,
        &no_mid,
        Code::BAD_REQUEST,
    );
    // After the rollover a small mid is new, since nothing is held.
    let high = mid(CUID, 3_221_225_472);
    step(
        &mut world,
        "10.8 high",
        client,
        &put(&high, udp("203.0.113.7/32", 30)),
        Code::CREATED,
    );
    step(&mut world, "10.9", client, &delete(&high), Code::DELETED);
    world.advance(seconds(125));
    step(
        &mut world,
        "10.10 rollover",
        client,
        &put(&mid(CUID, 0), udp("203.0.113.7/32", 30)),
        Code::CREATED,
    );
}

#[test]
fn row_11_preconfigured() {
    let mut world = World::new(11, LOSS);
    let client = world.connect("weir-lab");
    let path = mid(CUID, 1);
    let broad = scope(
        json!({"target-prefix": ["203.0.113.0/24"], "lifetime": 80_000,
        "trigger-mitigation": false}),
    );
    step(
        &mut world,
        "11.1",
        client,
        &put(&path, broad.clone()),
        Code::CREATED,
    );
    assert!(world.active().is_empty(), "11.1 it waits");
    let answer = step(&mut world, "11.2", client, &get(&path), Code::CONTENT);
    let shown = &scopes(answer.body.as_ref())[0];
    assert_eq!(shown["status"], "attack-mitigation-signal-loss");
    assert_eq!(
        shown["mitigation-start"],
        Value::Null,
        "11.2 it has not begun"
    );
    let status = |world: &mut World, name: &str, client| {
        let answer = step(world, name, client, &get(&path), Code::CONTENT);
        scopes(answer.body.as_ref())[0]["status"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let now = put(&mid(CUID, 2), udp("203.0.113.7/32", 80_000));
    step(&mut world, "11.3 both kinds", client, &now, Code::CREATED);
    assert_eq!(world.active().len(), 1, "11.3 the immediate one filters");

    world.kill(client);
    world.advance(seconds(30 * 17));
    let active = world.active();
    assert_eq!(active.len(), 1, "11.4 the preconfigured one took its place");
    assert_eq!(
        active[0].1.target_prefix,
        ["203.0.113.0/24".parse().unwrap()]
    );

    let client = world.connect("weir-lab");
    world.advance(seconds(60));
    assert_eq!(
        status(&mut world, "11.5", client),
        "attack-mitigation-in-progress",
        "it stays"
    );
    step(
        &mut world,
        "11.5 withdrawn",
        client,
        &get(&mid(CUID, 2)),
        Code::NOT_FOUND,
    );

    // An immediate request that overlaps silences it: 7 four times, then 8.
    step(
        &mut world,
        "11.6 observe",
        client,
        &observe(&path),
        Code::CONTENT,
    );
    world.notifications(client);
    let again = put(&mid(CUID, 3), udp("203.0.113.7/32", 80_000));
    step(&mut world, "11.6", client, &again, Code::CREATED);
    assert_eq!(world.active().len(), 1);
    world.advance(seconds(60));
    assert_eq!(
        status(&mut world, "11.7", client),
        "attack-mitigation-signal-loss"
    );

    // The loss of one session of two is no loss of the signal; the close of the last, without a return, is.
    let second = world.connect("weir-lab");
    world.kill(client);
    world.advance(seconds(30 * 20));
    assert_eq!(
        status(&mut world, "11.8", second),
        "attack-mitigation-signal-loss"
    );
    world.close(second);
    world.advance(seconds(30 * 16));
    let active = world.active();
    assert_eq!(
        active[0].1.target_prefix,
        ["203.0.113.0/24".parse().unwrap()],
        "11.9"
    );

    // The attack stops: 3 four times, then it waits again.
    let client = world.connect("weir-lab");
    step(&mut world, "11.10", client, &observe(&path), Code::CONTENT);
    world.report(active[0].0, MitigationStatus::AttackStopped, 9);
    world.advance(seconds(60));
    assert!(world.active().is_empty(), "11.10");
    assert_eq!(
        status(&mut world, "11.10", client),
        "attack-mitigation-signal-loss"
    );
    step(&mut world, "11.11", client, &delete(&path), Code::DELETED);
    world.advance(seconds(1));
    step(
        &mut world,
        "11.11 nothing to wind down",
        client,
        &get(&path),
        Code::NOT_FOUND,
    );
}
