//! Bodies of several blocks (18): read by Block2, written by Block1.

use super::*;

/// Telemetry larger than a datagram.
pub(crate) fn large(sources: u32) -> Value {
    let talkers: Vec<Value> = (0..sources)
        .map(|source| {
            json!({"source-prefix": format!("192.0.{}.{}/32", source / 256, source % 256),
                "total-attack-traffic": [{"unit": "megabit-ps", "current-g": "90"}]})
        })
        .collect();
    json!({"ietf-dots-telemetry:telemetry": {"pre-or-ongoing-mitigation": [{
        "target": {"target-prefix": ["203.0.113.7/32"]},
        "attack-detail": [{"vendor-id": 32473, "attack-id": 77, "top-talker": {"talker": talkers}}]
    }]}})
}

#[test]
fn row_18_bodies_in_blocks() {
    for seed in 0..8 {
        let mut world = World::new(seed, LOSS);
        let client = world.connect("weir-lab");
        for count in 1..=60 {
            let path = mid(CUID, count);
            let body = udp(&format!("203.0.113.{count}/32"), 3600);
            step(&mut world, "18.1", client, &put(&path, body), Code::CREATED);
        }
        let all = get(&format!("mitigate/{CUID}"));
        let answer = step(&mut world, "18.2 Block2", client, &all, Code::CONTENT);
        assert_eq!(scopes(answer.body.as_ref()).len(), 60, "18.2 all of them");

        let path = format!("tm/{CUID}/tmid=1");
        for sources in [30, 100, 300] {
            let body = large(sources);
            let name = format!("18.3 Block1, {sources} sources, seed {seed}");
            step(
                &mut world,
                &name,
                client,
                &put(&path, body.clone()),
                Code::CHANGED,
            );
            let answer = step(
                &mut world,
                "18.4 and back",
                client,
                &get(&path),
                Code::CONTENT,
            );
            let shown = items(answer.body.as_ref());
            let talkers = &shown[0]["attack-detail"][0]["top-talker"]["talker"];
            assert_eq!(
                talkers.as_array().unwrap().len(),
                sources as usize,
                "{name}"
            );
        }
    }
}

#[test]
fn row_18_clients_at_the_same_time_do_not_mix() {
    let mut world = World::new(18, 0.0);
    let (client, other) = (world.connect("weir-lab"), world.connect("other"));
    let first = put(&format!("tm/{CUID}/tmid=1"), large(200));
    step(&mut world, "18.10", client, &first, Code::CHANGED);
    let foreign = put(&format!("tm/{OTHER}/tmid=1"), large(200));
    step(
        &mut world,
        "18.11 not its target",
        other,
        &foreign,
        Code::BAD_REQUEST,
    );
    step(
        &mut world,
        "18.12",
        client,
        &get(&format!("tm/{CUID}/tmid=1")),
        Code::CONTENT,
    );
}
