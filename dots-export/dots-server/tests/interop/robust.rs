//! Bodies of several blocks (18) by Q-Block1 and Q-Block2 (RFC 9177), which get through where a block at a time does not: loss at
//! the start, in the middle, around MAX_PAYLOADS and at the end, one direction lost, a restart, clients at the same time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::blocks::large;
use super::*;
use weir_dots_proto::SessionParameters;
use weir_dots_proto::coap::{Block, Message, Token, option};

/// Octets of a message on a path of 1280 octets: less IPv6, UDP, and a record of DTLS.
const MOST: usize = 1280 - 40 - 8 - 37;
const TELEMETRY: &str = "tm/cuid=dz6pHjaADkaFTbjr0JGBpw/tmid=1";

/// The block of a payload in that option.
fn number(message: &Message, number: u16) -> Option<u32> {
    let has_payload = !message.payload.is_empty();
    let value = message.option(number).filter(|_| has_payload)?;
    Block::from_value(value).map(|block| block.number)
}

/// Loses the first copy of each of these payloads.
fn drop_once(world: &mut World, option: u16, numbers: impl IntoIterator<Item = u32>) {
    let mut left: BTreeSet<u32> = numbers.into_iter().collect();
    world.drops = Some(Box::new(move |_, message| {
        number(message, option).is_some_and(|number| left.remove(&number))
    }));
}

/// How often each payload was sent.
fn copies(world: &World, option: u16) -> Vec<usize> {
    let mut copies = Vec::new();
    for (_, message) in &world.log {
        if let Some(number) = number(message, option) {
            let index = number as usize;
            copies.resize(copies.len().max(index + 1), 0);
            copies[index] += 1;
        }
    }
    copies
}

fn no_block(world: &World) -> bool {
    let has = |message: &Message, number| message.option(number).is_some();
    world
        .log
        .iter()
        .all(|(_, message)| !has(message, option::BLOCK1) && !has(message, option::BLOCK2))
}

fn talkers(answer: &Answer) -> usize {
    let shown = items(answer.body.as_ref());
    let talkers = &shown[0]["attack-detail"][0]["top-talker"]["talker"];
    talkers.as_array().map_or(0, Vec::len)
}

#[test]
fn row_18_q_block_over_a_lossy_link() {
    for seed in 0..8 {
        let mut world = World::new(seed, LOSS);
        let client = world.connect_robust("weir-lab");
        for count in 1..=60 {
            let body = udp(&format!("203.0.113.{count}/32"), 3600);
            let put = put(&mid(CUID, count), body);
            step(&mut world, "18.20", client, &put, Code::CREATED);
        }
        let all = get(&format!("mitigate/{CUID}"));
        let answer = step(&mut world, "18.21 Q-Block2", client, &all, Code::CONTENT);
        assert_eq!(scopes(answer.body.as_ref()).len(), 60, "18.21 all of them");
        for sources in [30, 100, 300, 780] {
            let name = format!("18.22 Q-Block1, {sources} sources, seed {seed}");
            let put = put(TELEMETRY, large(sources));
            step(&mut world, &name, client, &put, Code::CHANGED);
            let read = get(TELEMETRY);
            let answer = step(&mut world, "18.23 and back", client, &read, Code::CONTENT);
            assert_eq!(talkers(&answer), sources as usize, "{name}");
        }
        assert!(no_block(&world), "18.24 Q-Block and Block do not mix");
        let largest = world.log.iter().map(|(_, one)| one.to_octets().len()).max();
        assert!(
            largest <= Some(MOST),
            "18.25 a path of 1280 octets: {largest:?}"
        );
    }
}

/// As on a link that an attack fills: a body of 23 blocks gets through in time, and a block at a time does not.
#[test]
fn row_18_q_block_where_half_of_all_is_lost() {
    let delivered = |robust: bool| {
        let arrived = |seed: &u64| {
            let mut world = World::new(*seed, 0.5);
            let client = if robust {
                world.connect_robust("weir-lab")
            } else {
                world.connect("weir-lab")
            };
            world.send(client, &put(TELEMETRY, large(780)));
            world.advance(seconds(90));
            // Whatever becomes of the answer.
            let bodies: BTreeSet<Token> = world
                .log
                .iter()
                .filter(|(to_server, message)| *to_server && !message.payload.is_empty())
                .filter(|(_, message)| message.number(option::CONTENT_FORMAT).is_some())
                .filter(|(_, message)| {
                    message.option(option::Q_BLOCK1).is_some()
                        || message.option(option::BLOCK1).is_some()
                })
                .map(|(_, message)| message.token)
                .collect();
            world.log.iter().any(|(to_server, message)| {
                !to_server && message.code == Code::CHANGED && bodies.contains(&message.token)
            })
        };
        (0..10).filter(arrived).count()
    };
    let (robust, plain) = (delivered(true), delivered(false));
    eprintln!("18.26 delivered: {robust} of 10 by Q-Block, {plain} by Block");
    assert!(robust >= 9 && plain == 0, "18.26 {robust} {plain}");
}

/// Loss at the start, in the middle, around MAX_PAYLOADS, of the last payload, of whole sets.
#[test]
fn row_18_what_is_lost_alone_is_sent_again() {
    let mut count = 0;
    let mut cases: Vec<Vec<u32>> = vec![
        vec![],
        vec![0],
        vec![4],
        vec![8],
        vec![9],
        vec![10],
        vec![9, 10],
        vec![8, 9, 10, 11],
        vec![0, 1, 2, 3, 4, 5, 6, 7, 8],
        (0..10).collect(),
        (10..20).collect(),
        vec![1, 9, 10],
    ];
    for case in 0.. {
        let Some(lost) = cases.get(case).cloned() else {
            break;
        };
        let name = format!("of {count}, lost {lost:?}");
        let mut world = World::new(case as u64, 0.0);
        let client = world.connect_robust("weir-lab");
        drop_once(&mut world, option::Q_BLOCK1, lost.clone());
        let put = put(TELEMETRY, large(780));
        let begun = world.now;
        step(&mut world, "18.30 Q-Block1", client, &put, Code::CHANGED);
        let took = world.now - begun;
        let expected = |count: usize| -> Vec<usize> {
            let copies = |number| 1 + usize::from(lost.contains(&(number as u32)));
            (0..count).map(copies).collect()
        };
        let sent = copies(&world, option::Q_BLOCK1);
        assert_eq!(sent, expected(sent.len()), "18.31 {name}");
        // NON_RECEIVE_TIMEOUT is 4 s, and there are three sets.
        assert!(took <= seconds(13), "18.32 {name}: {took:?}");

        drop_once(&mut world, option::Q_BLOCK2, lost.clone());
        let begun = world.now;
        let answer = step(
            &mut world,
            "18.33 Q-Block2",
            client,
            &get(TELEMETRY),
            Code::CONTENT,
        );
        let took = world.now - begun;
        assert_eq!(talkers(&answer), 780, "18.33 {name}");
        let sent = copies(&world, option::Q_BLOCK2);
        assert_eq!(sent, expected(sent.len()), "18.34 {name}");
        assert!(took <= seconds(13), "18.35 {name}: {took:?}");
        assert!(no_block(&world), "18.36 {name}");
        if case == 0 {
            // Now it is known which the last payload is.
            count = sent.len() as u32;
            assert!(count > 20, "three sets: {count}");
            assert!(took <= seconds(1), "18.37 2.31 saves the pauses: {took:?}");
            cases.push(vec![count - 1]);
            cases.push(vec![count - 2, count - 1]);
            cases.push((20..count).collect());
            cases.push((0..count - 1).collect());
        }
    }
}

#[test]
fn row_18_2_31_and_4_08_are_as_rfc_9177_has_them() {
    let mut world = World::new(1, 0.0);
    let client = world.connect_robust("weir-lab");
    drop_once(&mut world, option::Q_BLOCK1, [1, 9]);
    let put = put(TELEMETRY, large(780));
    step(&mut world, "18.40", client, &put, Code::CHANGED);
    let asked = world.log.iter().filter(|(to_server, message)| {
        !to_server && message.code == Code::REQUEST_ENTITY_INCOMPLETE
    });
    let asked: Vec<&[u8]> = asked
        .map(|(_, message)| {
            assert_eq!(message.number(option::CONTENT_FORMAT), Some(272));
            message.payload.as_slice()
        })
        .collect();
    assert_eq!(asked, [&[1, 9]], "18.41 once, in ascending order");
    let tags: BTreeSet<&[u8]> = world
        .log
        .iter()
        .filter(|(_, message)| message.option(option::Q_BLOCK1).is_some())
        .filter(|(to_server, _)| *to_server)
        .map(|(_, message)| {
            assert!(message.number(option::SIZE1).is_some(), "18.42 Size1");
            message.option(option::REQUEST_TAG).unwrap()
        })
        .collect();
    assert_eq!(tags.len(), 1, "18.42 one Request-Tag for all payloads");
}

#[test]
fn row_18_parameters_are_negotiated() {
    let mut world = World::new(8, 0.0);
    let client = world.connect_robust("weir-lab");
    let named = |name: &str| format!("ietf-dots-robust-trans:{name}");
    let wish = |sets: &[&str], value: u32| {
        let set = json!({named("max-payloads"): {"current-value": value}});
        let sets: serde_json::Map<String, Value> = sets
            .iter()
            .map(|name| ((*name).to_owned(), set.clone()))
            .collect();
        json!({"ietf-dots-signal-channel:signal-config": sets})
    };
    let step = |world: &mut World, name: &str, request: Request, code: Code| {
        super::step(world, name, client, &request, code)
    };
    let shown = |answer: &Answer, set: &str, name: &str| {
        let config = &answer.body.as_ref().unwrap()["ietf-dots-signal-channel:signal-config"];
        config[set][named(name)].clone()
    };
    let answer = step(&mut world, "18.90", get("config"), Code::CONTENT);
    for set in ["idle-config", "mitigating-config"] {
        let current = |name: &str, kind: &str| shown(&answer, set, name)[kind].clone();
        assert_eq!(current("max-payloads", "current-value"), 10);
        assert_eq!(current("non-max-retransmit", "current-value"), 3);
        assert_eq!(current("non-timeout", "current-value-decimal"), "2.00");
        assert_eq!(
            current("non-receive-timeout", "current-value-decimal"),
            "4.00"
        );
        assert_eq!(
            current("non-partial-timeout", "current-value-decimal"),
            "247.00"
        );
    }
    let (_, message) = world.log.last().unwrap();
    assert!(
        message.payload.len() <= 1024,
        "18.90 a datagram: {}",
        message.payload.len()
    );

    let both = ["idle-config", "mitigating-config"];
    let put = |body: Value| super::put("config/sid=1", body);
    let mut differs = wish(&both, 5);
    differs["ietf-dots-signal-channel:signal-config"]["idle-config"] =
        json!({named("max-payloads"): {"current-value": 6}});
    step(
        &mut world,
        "18.91",
        put(differs),
        Code::UNPROCESSABLE_ENTITY,
    );
    for value in [0, 31] {
        let out = put(wish(&both, value));
        step(
            &mut world,
            "18.92 out of range",
            out,
            Code::UNPROCESSABLE_ENTITY,
        );
    }
    let one = put(wish(&["mitigating-config"], 5));
    step(&mut world, "18.93", one, Code::CREATED);
    let answer = step(&mut world, "18.94", get("config"), Code::CONTENT);
    for set in both {
        let payloads = shown(&answer, set, "max-payloads");
        assert_eq!(payloads["current-value"], 5, "18.94 the same in both sets");
    }
    // Now both go by it: a set of five, and a word of the server.
    let mut parameters = SessionParameters::default();
    parameters.robust.max_payloads = 5;
    world.configure(client, parameters);
    world.advance(seconds(1));
    world.log.clear();
    let put = super::put(TELEMETRY, large(500));
    step(&mut world, "18.95", put, Code::CHANGED);
    let said: Vec<u32> = world
        .log
        .iter()
        .filter(|(_, message)| message.code == Code::CONTINUE)
        .map(|(_, message)| {
            let value = message.option(option::Q_BLOCK1).unwrap();
            Block::from_value(value).unwrap().number
        })
        .collect();
    assert_eq!(said, [4, 9], "18.95");
}

#[test]
fn row_18_one_way_total_loss() {
    let mut world = World::new(4, 0.0);
    let client = world.connect_robust("weir-lab");
    // Nothing of the server arrives.
    world.cut(client, true, false);
    let begun = world.log.len();
    world.send(client, &put(TELEMETRY, large(780)));
    world.advance(seconds(10));
    let answered = |world: &World, code: Code| {
        let mut log = world.log[begun..].iter();
        log.any(|(to_server, message)| !to_server && message.code == code)
    };
    assert!(
        answered(&world, Code::CHANGED),
        "18.50 the body has arrived"
    );
    world.cut(client, false, false);
    let answer = step(&mut world, "18.51", client, &get(TELEMETRY), Code::CONTENT);
    assert_eq!(talkers(&answer), 780);

    // Nothing of the client arrives: notifications of three sets do.
    for number in 1..=60_u32 {
        let prefixes: Vec<String> = (0..16)
            .map(|host| format!("2001:db8:a:{number:x}::{host:x}/128"))
            .collect();
        let body = scope(json!({"target-prefix": prefixes, "lifetime": 3600}));
        step(
            &mut world,
            "18.52",
            client,
            &put(&mid(CUID, number), body),
            Code::CREATED,
        );
    }
    let all = observe(&format!("mitigate/{CUID}"));
    step(&mut world, "18.53", client, &all, Code::CONTENT);
    world.advance(seconds(10));
    world.notifications(client);
    world.cut(client, false, true);
    let id = world.active()[0].0;
    world.report(id, MitigationStatus::AttackSuccessfullyMitigated, 1_000);
    world.log.clear();
    world.advance(seconds(15));
    let told = world.notifications(client);
    assert!(!told.is_empty(), "18.54");
    assert_eq!(scopes(Some(&told[0].1)).len(), 60, "18.54 all of it");
    let copies = copies(&world, option::Q_BLOCK2);
    assert!(copies.len() > 10, "18.54 more than a set: {}", copies.len());
    assert!(no_block(&world));
}

#[test]
fn row_18_notifications_recover() {
    for seed in 0..8 {
        let mut world = World::new(seed, LOSS);
        let client = world.connect_robust("weir-lab");
        for number in 1..=40_u32 {
            let prefixes: Vec<String> = (0..16)
                .map(|host| format!("2001:db8:a:{number:x}::{host:x}/128"))
                .collect();
            let body = scope(json!({"target-prefix": prefixes, "lifetime": 3600}));
            step(
                &mut world,
                "18.60",
                client,
                &put(&mid(CUID, number), body),
                Code::CREATED,
            );
        }
        let all = observe(&format!("mitigate/{CUID}"));
        step(&mut world, "18.61", client, &all, Code::CONTENT);
        world.advance(seconds(30));
        world.notifications(client);
        let id = world.active()[0].0;
        world.report(id, MitigationStatus::AttackSuccessfullyMitigated, 1_000);
        world.advance(seconds(60));
        let told = world.notifications(client);
        let (_, last) = told.last().unwrap_or_else(|| panic!("18.62 seed {seed}"));
        let shown = scopes(Some(last));
        assert_eq!(shown.len(), 40, "18.62 seed {seed}");
        assert_eq!(shown[0]["status"], "attack-successfully-mitigated", "18.63");
        assert!(no_block(&world));
    }
}

#[test]
fn row_18_a_client_that_begins_anew_in_the_middle_of_a_body() {
    let mut world = World::new(6, 0.0);
    let client = world.connect_robust("weir-lab");
    world.drops = Some(Box::new(|_, message| {
        number(message, option::Q_BLOCK1).is_some_and(|number| number >= 5)
    }));
    world.send(client, &put(TELEMETRY, large(780)));
    world.advance(seconds(6));
    world.kill(client);
    world.drops = None;
    let client = world.connect_robust("weir-lab");
    let put = put(TELEMETRY, large(650));
    step(&mut world, "18.70", client, &put, Code::CHANGED);
    let answer = step(&mut world, "18.71", client, &get(TELEMETRY), Code::CONTENT);
    assert_eq!(talkers(&answer), 650, "18.71 the new body alone");

    // A newer body replaces one that is on its way; the server is told when it asks for the old one.
    let lost = Rc::new(RefCell::new(BTreeSet::from([3])));
    let left = Rc::clone(&lost);
    world.drops = Some(Box::new(move |_, message| {
        number(message, option::Q_BLOCK1).is_some_and(|number| left.borrow_mut().remove(&number))
    }));
    world.log.clear();
    world.send(client, &super::put(TELEMETRY, large(600)));
    let put = super::put(TELEMETRY, large(500));
    step(&mut world, "18.72", client, &put, Code::CHANGED);
    world.advance(seconds(40));
    let is_reset = |(to_server, message): &&(bool, Message)| {
        *to_server && message.kind == weir_dots_proto::coap::Kind::Reset
    };
    assert_eq!(world.log.iter().filter(is_reset).count(), 1, "18.73");
    let answer = step(&mut world, "18.74", client, &get(TELEMETRY), Code::CONTENT);
    assert_eq!(talkers(&answer), 500);
}

/// The transport goes in the middle of a body, and comes again: to a server that has nothing of it.
#[test]
fn row_18_a_transport_that_goes_in_the_middle_of_a_body() {
    for seed in 0..8 {
        let mut world = World::new(seed, LOSS);
        let client = world.connect_robust("weir-lab");
        let id = world.send(client, &put(TELEMETRY, large(780)));
        world.advance(seconds(1));
        world.reconnect(client);
        world.log.clear();
        world.advance(seconds(90));
        let code = world.answer(client, id).map(|answer| answer.code);
        assert_eq!(code, Some(Code::CHANGED), "18.75 seed {seed}");
        assert!(
            no_block(&world),
            "18.75 the server is asked anew, and first"
        );
    }
}

#[test]
fn row_18_clients_at_the_same_time_by_q_block() {
    for seed in 0..4 {
        let mut world = World::new(seed, LOSS);
        let clients = [("weir-lab", CUID), ("other", OTHER)].map(|(name, cuid)| {
            let prefix = if name == "other" {
                "198.51.100.7/32"
            } else {
                "203.0.113.7/32"
            };
            let text = large(780).to_string().replace("203.0.113.7/32", prefix);
            let body = serde_json::from_str(&text).unwrap();
            (
                world.connect_robust(name),
                format!("tm/{cuid}/tmid=1"),
                body,
            )
        });
        let sent: Vec<_> = clients
            .iter()
            .map(|(client, path, body): &(_, _, Value)| {
                world.send(*client, &put(path, body.clone()))
            })
            .collect();
        world.advance(seconds(90));
        for ((client, path, body), id) in clients.iter().zip(sent) {
            let answer = world.answer(*client, id);
            let code = answer.map(|answer| answer.code);
            assert!(
                matches!(code, Some(Code::CREATED | Code::CHANGED)),
                "18.80 seed {seed} {path}: {code:?}"
            );
            let answer = step(&mut world, "18.81", *client, &get(path), Code::CONTENT);
            let target = &items(answer.body.as_ref())[0]["target"];
            let expected = &items(Some(body))[0]["target"];
            assert_eq!(target["target-prefix"], expected["target-prefix"], "18.82");
            assert_eq!(talkers(&answer), 780, "18.82");
        }
    }
}
