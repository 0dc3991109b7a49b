//! Session configuration (2), heartbeats (3), Observe (8), redirection (19), gateways (20).

use super::*;

#[test]
fn row_2_session_configuration() {
    let mut world = World::new(2, LOSS);
    let client = world.connect("weir-lab");
    let wish = |interval: u32| {
        json!({"ietf-dots-signal-channel:signal-config": {"idle-config":
            {"heartbeat-interval": {"current-value": interval}}}})
    };
    let shown = step(&mut world, "2.1 GET", client, &get("config"), Code::CONTENT);
    assert!(shown.max_age.is_some_and(|age| age > 0), "2.1 Max-Age");
    let current = |answer: &Answer| {
        answer.body.as_ref().unwrap()["ietf-dots-signal-channel:signal-config"]["idle-config"]
            ["heartbeat-interval"]["current-value"]
            .clone()
    };
    assert_eq!(current(&shown), 30);
    step(
        &mut world,
        "2.2 PUT",
        client,
        &put("config/sid=5", wish(60)),
        Code::CREATED,
    );
    step(
        &mut world,
        "2.3 PUT again",
        client,
        &put("config/sid=5", wish(61)),
        Code::CHANGED,
    );
    step(
        &mut world,
        "2.4 higher sid",
        client,
        &put("config/sid=6", wish(62)),
        Code::CREATED,
    );
    step(
        &mut world,
        "2.5 lower sid",
        client,
        &put("config/sid=4", wish(63)),
        Code::BAD_REQUEST,
    );
    step(
        &mut world,
        "2.6 it is gone",
        client,
        &get("config/sid=5"),
        Code::NOT_FOUND,
    );
    let shown = step(
        &mut world,
        "2.7 refresh",
        client,
        &get("config/sid=6"),
        Code::CONTENT,
    );
    assert_eq!(current(&shown), 62);
    let bad = put("config/sid=7", wish(10_000));
    step(
        &mut world,
        "2.8 out of range",
        client,
        &bad,
        Code::UNPROCESSABLE_ENTITY,
    );
    let empty = json!({"ietf-dots-signal-channel:signal-config": {"idle-config": {}}});
    step(
        &mut world,
        "2.9 nothing",
        client,
        &put("config/sid=7", empty),
        Code::BAD_REQUEST,
    );
    step(
        &mut world,
        "2.10 observe",
        client,
        &observe("config"),
        Code::CONTENT,
    );
    step(
        &mut world,
        "2.11 DELETE",
        client,
        &delete("config"),
        Code::DELETED,
    );
    world.advance(seconds(5));
    step(
        &mut world,
        "2.12 defaults",
        client,
        &get("config/sid=6"),
        Code::NOT_FOUND,
    );
    let shown = step(
        &mut world,
        "2.13 defaults",
        client,
        &get("config"),
        Code::CONTENT,
    );
    assert_eq!(current(&shown), 30);
    // Over a link without loss a change is told to whoever observes.
    let mut world = World::new(2, 0.0);
    let client = world.connect("weir-lab");
    step(
        &mut world,
        "2.14 observe",
        client,
        &observe("config"),
        Code::CONTENT,
    );
    step(
        &mut world,
        "2.15 PUT",
        client,
        &put("config/sid=1", wish(60)),
        Code::CREATED,
    );
    world.advance(seconds(5));
    assert_eq!(world.notifications(client).len(), 1, "2.15 notification");
}

#[test]
fn row_3_heartbeats() {
    let mut world = World::new(3, LOSS);
    let client = world.connect("weir-lab");
    world.advance(seconds(30 * 20));
    let (heard, unheard) = world.heartbeats(client);
    assert!((10..=20).contains(&heard), "3.1 both directions: {heard}");
    assert!(unheard < 4, "3.1 {unheard}");
    assert!(
        !world.is_lost(client),
        "3.1 some loss is no loss of the session"
    );

    // The server does not hear us: it says so.
    world.cut(client, false, true);
    world.advance(seconds(200));
    let (_, unheard) = world.heartbeats(client);
    assert!(unheard >= 2, "3.2 peer-hb-status false: {unheard}");
    assert!(!world.is_lost(client), "3.2 its heartbeats still come");
    world.cut(client, false, false);
    world.advance(seconds(200));

    // In peace a session without any sign of life is given up after 15 heartbeats; under attack it is not.
    world.under_attack(client, true);
    world.cut(client, true, false);
    world.advance(seconds(30 * 20));
    assert!(!world.is_lost(client), "3.3 under attack");
    let request = put(&mid(CUID, 1), udp("203.0.113.7/32", 3600));
    assert_eq!(world.ask(client, &request), None, "3.4 nothing comes back");
    assert_eq!(
        world.active().len(),
        1,
        "3.4 and yet the request was served"
    );
    world.under_attack(client, false);
    world.advance(seconds(30 * 20));
    assert!(world.is_lost(client), "3.5 in peace");

    let mut world = World::new(3, LOSS);
    let client = world.connect("weir-lab");
    let off = json!({"ietf-dots-signal-channel:signal-config": {"idle-config":
        {"heartbeat-interval": {"current-value": 0}}}});
    step(
        &mut world,
        "3.6 off",
        client,
        &put("config/sid=1", off),
        Code::CREATED,
    );
    world.advance(seconds(60));
    world.heartbeats(client);
    world.advance(seconds(600));
    assert_eq!(
        world.heartbeats(client),
        (0, 0),
        "3.6 no heartbeats in idle time"
    );
    let request = put(&mid(CUID, 1), udp("203.0.113.7/32", 3600));
    step(&mut world, "3.7 mitigate", client, &request, Code::CREATED);
    world.advance(seconds(300));
    let (heard, _) = world.heartbeats(client);
    assert!(
        heard > 3,
        "3.7 while mitigating the other set holds: {heard}"
    );
}

#[test]
fn row_8_observe() {
    let mut world = World::new(8, 0.0);
    let client = world.connect("weir-lab");
    let path = mid(CUID, 1);
    step(
        &mut world,
        "8.1",
        client,
        &put(&path, udp("203.0.113.7/32", 3600)),
        Code::CREATED,
    );
    step(
        &mut world,
        "8.2 observe",
        client,
        &observe(&path),
        Code::CONTENT,
    );
    let id = world.active()[0].0;
    for (packets, status) in (1..).zip([
        MitigationStatus::AttackSuccessfullyMitigated,
        MitigationStatus::AttackExceededCapability,
        MitigationStatus::AttackStopped,
    ]) {
        world.report(id, status, packets);
        world.advance(seconds(10));
    }
    assert_eq!(
        statuses(&world.notifications(client)),
        [
            "attack-successfully-mitigated",
            "attack-exceeded-capability",
            "attack-stopped"
        ],
        "8.3 each status"
    );
    world.advance(seconds(100));
    let repeated = world.notifications(client).len();
    assert!(
        (2..=4).contains(&repeated),
        "8.5 told again and again: {repeated}"
    );
    let end = Request {
        observe: Some(false),
        ..get(&path)
    };
    step(&mut world, "8.6 deregister", client, &end, Code::CONTENT);
    world.report(id, MitigationStatus::AttackSuccessfullyMitigated, 50);
    world.advance(seconds(100));
    assert!(world.notifications(client).is_empty(), "8.6 silence");

    // All at once: the list as it stands, and the end of each.
    step(
        &mut world,
        "8.7",
        client,
        &put(&mid(CUID, 2), udp("203.0.113.9/32", 3600)),
        Code::CREATED,
    );
    step(
        &mut world,
        "8.8 observe all",
        client,
        &observe(&format!("mitigate/{CUID}")),
        Code::CONTENT,
    );
    step(&mut world, "8.9 end", client, &delete(&path), Code::DELETED);
    world.advance(seconds(130));
    let told = world.notifications(client);
    let last = scopes(told.last().map(|(_, body)| body));
    assert_eq!(
        last.len(),
        2,
        "8.9 the ended one a last time, and what stands"
    );
    assert_eq!(last[0]["status"], "attack-mitigation-terminated");
    world.advance(seconds(60));
    let last = world.notifications(client).pop().unwrap();
    assert_eq!(scopes(Some(&last.1)).len(), 1, "8.10 then it is gone");
}

#[test]
fn row_19_redirection() {
    let mut world = World::with(19, LOSS, |policy| {
        let redirect = Redirect {
            alt_server: Some("alt-server.example".to_owned()),
            alt_server_record: vec!["2001:db8:6401::1".parse().unwrap()],
            ..Redirect::default()
        };
        policy.redirect = Some((redirect, 3600));
    });
    let client = world.connect("weir-lab");
    let request = put(&mid(CUID, 1), udp("203.0.113.7/32", 600));
    let answer = step(
        &mut world,
        "19.1",
        client,
        &request,
        Code::SERVICE_UNAVAILABLE,
    );
    assert_eq!(answer.max_age, Some(3600));
    let body = &answer.body.unwrap()["ietf-dots-signal-channel:redirected-signal"];
    assert_eq!(body["alt-server"], "alt-server.example");
    assert!(world.active().is_empty());
    step(
        &mut world,
        "19.2 hop by hop",
        client,
        &get("config"),
        Code::CONTENT,
    );
}

#[test]
fn row_20_a_gateways_cdid_is_not_taken_from_a_client() {
    let mut world = World::new(20, 0.0);
    let (client, other) = (world.connect("weir-lab"), world.connect("other"));
    step(
        &mut world,
        "20.1",
        client,
        &put(&mid(CUID, 1), udp("203.0.113.7/32", 600)),
        Code::CREATED,
    );
    let segments = [
        ".well-known",
        "dots",
        "mitigate",
        "cdid=7eeaf349529eb55ed50113",
        CUID,
        "mid=1",
    ];
    let resource = weir_dots_proto::Resource::from_segments(segments.into_iter()).unwrap();
    let request = Request::new(weir_dots_proto::Method::Get, resource);
    let answer = step(&mut world, "20.2", other, &request, Code::CONFLICT);
    assert_eq!(scopes(answer.body.as_ref())[0]["mid"], Value::Null);
}
