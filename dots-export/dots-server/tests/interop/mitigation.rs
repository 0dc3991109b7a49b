//! Mitigation requests (4), overlaps (5), cuid collisions (6), reading (7), filter control (12), hints (13).

use super::*;

#[test]
fn row_4_mitigation_requests() {
    let mut world = World::new(4, LOSS);
    let client = world.connect("weir-lab");
    let path = mid(CUID, 10);
    let good = udp("203.0.113.7/32", 3600);
    let answer = step(
        &mut world,
        "4.1 new",
        client,
        &put(&path, good.clone()),
        Code::CREATED,
    );
    assert_eq!(
        scopes(answer.body.as_ref()),
        [json!({"mid": 10, "lifetime": 3600})]
    );
    let longer = udp("203.0.113.7/32", 7200);
    step(
        &mut world,
        "4.2 refresh",
        client,
        &put(&path, longer),
        Code::CHANGED,
    );
    let other = udp("203.0.113.8/32", 3600);
    step(
        &mut world,
        "4.3 changed",
        client,
        &put(&path, other),
        Code::BAD_REQUEST,
    );
    let zero = udp("203.0.113.9/32", 0);
    step(
        &mut world,
        "4.4 lifetime 0",
        client,
        &put(&mid(CUID, 11), zero),
        Code::BAD_REQUEST,
    );
    let forever = put(&mid(CUID, 11), udp("203.0.113.9/32", -1));
    let answer = step(
        &mut world,
        "4.5 lifetime -1",
        client,
        &forever,
        Code::CREATED,
    );
    assert_eq!(
        scopes(answer.body.as_ref())[0]["lifetime"],
        86_400,
        "4.5 what is granted"
    );
    let no_mid = put(&format!("mitigate/{CUID}"), good.clone());
    step(&mut world, "4.6 no mid", client, &no_mid, Code::BAD_REQUEST);
    let two = json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-prefix": ["203.0.113.20/32"], "lifetime": 60},
        {"target-prefix": ["203.0.113.21/32"], "lifetime": 60}]}});
    step(
        &mut world,
        "4.7 two scopes",
        client,
        &put(&mid(CUID, 12), two),
        Code::BAD_REQUEST,
    );
    let foreign = put(&mid(CUID, 13), udp("198.51.100.7/32", 60));
    step(
        &mut world,
        "4.8 foreign prefix",
        client,
        &foreign,
        Code::BAD_REQUEST,
    );
    let nothing = scope(json!({"target-protocol": [17], "lifetime": 60}));
    step(
        &mut world,
        "4.9 no target",
        client,
        &put(&mid(CUID, 14), nothing),
        Code::BAD_REQUEST,
    );
    let alias = scope(json!({"alias-name": ["web"], "lifetime": 600}));
    step(
        &mut world,
        "4.10 alias",
        client,
        &put(&mid(CUID, 15), alias),
        Code::CREATED,
    );
    let (_, protected) = world.active().pop().unwrap();
    assert_eq!(
        protected.target_prefix,
        ["203.0.113.80/32".parse().unwrap()]
    );
    assert_eq!(
        (protected.target_port_range.len(), protected.target_protocol),
        (1, vec![6])
    );
    let unknown = scope(json!({"alias-name": ["shop"], "lifetime": 600}));
    step(
        &mut world,
        "4.11 no alias",
        client,
        &put(&mid(CUID, 16), unknown),
        Code::BAD_REQUEST,
    );
    let multicast = put(&mid(CUID, 17), udp("239.1.2.3/32", 60));
    step(
        &mut world,
        "4.12 multicast",
        client,
        &multicast,
        Code::BAD_REQUEST,
    );
    assert_eq!(
        world.active().len(),
        3,
        "4.13 what was refused does not filter"
    );
}

#[test]
fn row_4_targets_by_name() {
    let mut world = World::new(44, LOSS);
    let client = world.connect("weir-lab");
    let named = |id: u32, member: &str, name: &str| {
        put(
            &mid(CUID, id),
            scope(json!({member: [name], "lifetime": 600})),
        )
    };
    let fqdn = named(20, "target-fqdn", "WWW.example.com");
    step(&mut world, "4.20 FQDN", client, &fqdn, Code::CREATED);
    let (_, protected) = world.active().pop().unwrap();
    assert_eq!(
        protected.target_prefix,
        ["203.0.113.90/32".parse().unwrap()]
    );
    assert!(protected.target_port_range.is_empty());
    step(&mut world, "4.21 refresh", client, &fqdn, Code::CHANGED);
    let uri = named(21, "target-uri", "https://www.example.com:8443/x");
    step(&mut world, "4.22 URI", client, &uri, Code::CREATED);
    let (_, protected) = world.active().pop().unwrap();
    assert_eq!(
        protected.target_prefix,
        ["203.0.113.90/32".parse().unwrap()]
    );
    assert_eq!(protected.target_port_range[0].lower_port, 8443);
    assert_eq!(protected.target_protocol, [6]);
    let answer = step(
        &mut world,
        "4.23",
        client,
        &get(&mid(CUID, 21)),
        Code::CONTENT,
    );
    let shown = &scopes(answer.body.as_ref())[0];
    assert_eq!(
        shown["target-uri"],
        json!(["https://www.example.com:8443/x"])
    );
    assert_eq!(shown["target-prefix"], Value::Null, "as it was asked for");
    let foreign = named(22, "target-fqdn", "elsewhere.example.com");
    step(
        &mut world,
        "4.24 foreign",
        client,
        &foreign,
        Code::BAD_REQUEST,
    );
    let none = named(23, "target-fqdn", "nowhere.example.com");
    step(
        &mut world,
        "4.25 no address",
        client,
        &none,
        Code::BAD_REQUEST,
    );
    step(
        &mut world,
        "4.26 the same address",
        client,
        &put(&mid(CUID, 24), udp("203.0.113.90/32", 60)),
        Code::CREATED,
    );
    step(
        &mut world,
        "4.26 replaced",
        client,
        &get(&mid(CUID, 21)),
        Code::NOT_FOUND,
    );
}

#[test]
fn row_5_overlaps() {
    let mut world = World::new(5, LOSS);
    let (client, other) = (world.connect("weir-lab"), world.connect("other"));
    step(
        &mut world,
        "5.1",
        client,
        &put(&mid(CUID, 5), udp("203.0.113.0/28", 600)),
        Code::CREATED,
    );
    step(
        &mut world,
        "5.2 higher",
        client,
        &put(&mid(CUID, 6), udp("203.0.113.7/32", 600)),
        Code::CREATED,
    );
    step(
        &mut world,
        "5.2 replaced",
        client,
        &get(&mid(CUID, 5)),
        Code::NOT_FOUND,
    );
    assert_eq!(world.active().len(), 1);
    let late = put(&mid(CUID, 4), udp("203.0.113.7/32", 600));
    let answer = step(&mut world, "5.3 lower", client, &late, Code::CONFLICT);
    let conflict = &scopes(answer.body.as_ref())[0]["conflict-information"];
    assert_eq!(conflict["conflict-cause"], "overlapping-targets");
    assert_eq!(conflict["conflict-scope"]["mid"], 6);
    step(
        &mut world,
        "5.4",
        client,
        &put(&mid(CUID, 7), udp("203.0.113.129/32", 600)),
        Code::CREATED,
    );
    let theirs = put(&mid(OTHER, 1), udp("203.0.113.128/25", 600));
    let answer = step(
        &mut world,
        "5.5 another client",
        other,
        &theirs,
        Code::CONFLICT,
    );
    let conflict = &scopes(answer.body.as_ref())[0]["conflict-information"];
    assert!(
        conflict["retry-timer"]
            .as_u64()
            .is_some_and(|timer| timer <= 600)
    );
    assert_eq!(
        conflict["conflict-scope"]["mid"],
        Value::Null,
        "5.5 mids are private"
    );
    let web = scope(json!({"alias-name": ["web"], "lifetime": 600}));
    step(
        &mut world,
        "5.6 alias",
        client,
        &put(&mid(CUID, 8), web),
        Code::CREATED,
    );
    step(
        &mut world,
        "5.7 its address",
        client,
        &put(&mid(CUID, 9), udp("203.0.113.80/32", 60)),
        Code::CREATED,
    );
    step(
        &mut world,
        "5.7 replaced",
        client,
        &get(&mid(CUID, 8)),
        Code::NOT_FOUND,
    );
}

#[test]
fn row_6_cuid_collision() {
    let mut world = World::new(6, LOSS);
    let (client, other) = (world.connect("weir-lab"), world.connect("other"));
    step(
        &mut world,
        "6.1",
        client,
        &put(&mid(CUID, 1), udp("203.0.113.7/32", 600)),
        Code::CREATED,
    );
    let collision = put(&mid(CUID, 1), udp("198.51.100.7/32", 600));
    let answer = step(
        &mut world,
        "6.2 collision",
        other,
        &collision,
        Code::CONFLICT,
    );
    let conflict = &scopes(answer.body.as_ref())[0]["conflict-information"];
    assert_eq!(
        *conflict,
        json!({"conflict-cause": "cuid-collision"}),
        "6.2 and nothing else"
    );
    let anew = put(&mid(OTHER, 1), udp("198.51.100.7/32", 600));
    step(&mut world, "6.3 a new cuid", other, &anew, Code::CREATED);
}

#[test]
fn row_7_reading() {
    let mut world = World::new(7, LOSS);
    let client = world.connect("weir-lab");
    let all = format!("mitigate/{CUID}");
    step(&mut world, "7.1 none", client, &get(&all), Code::NOT_FOUND);
    step(
        &mut world,
        "7.2",
        client,
        &put(&mid(CUID, 1), udp("203.0.113.7/32", 600)),
        Code::CREATED,
    );
    let tcp = scope(
        json!({"target-prefix": ["203.0.113.9/32"], "target-protocol": [6], "lifetime": 600}),
    );
    step(
        &mut world,
        "7.3",
        client,
        &put(&mid(CUID, 2), tcp),
        Code::CREATED,
    );
    let mut mids = |name: &str, path: &str| -> Vec<u64> {
        let answer = step(&mut world, name, client, &get(path), Code::CONTENT);
        let scopes = scopes(answer.body.as_ref());
        scopes
            .iter()
            .map(|scope| scope["mid"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(mids("7.4 all", &all), [1, 2]);
    assert_eq!(mids("7.5 one", &mid(CUID, 2)), [2]);
    assert_eq!(
        mids("7.6 protocol", &format!("{all}?target-protocol=17")),
        [1]
    );
    assert_eq!(
        mids("7.7 prefix", &format!("{all}?target-prefix=203.0.113.8/31")),
        [2]
    );
    let answer = step(
        &mut world,
        "7.8 c=c",
        client,
        &get(&format!("{}?c=c", mid(CUID, 1))),
        Code::CONTENT,
    );
    let shown = &scopes(answer.body.as_ref())[0];
    assert_eq!(
        (&shown["status"], &shown["target-protocol"]),
        (&Value::Null, &json!([17]))
    );
    let answer = step(
        &mut world,
        "7.9 c=n",
        client,
        &get(&format!("{}?c=n", mid(CUID, 1))),
        Code::CONTENT,
    );
    let shown = &scopes(answer.body.as_ref())[0];
    assert_eq!(shown["status"], "attack-mitigation-in-progress");
    assert_eq!(shown["target-protocol"], Value::Null);
    let none = format!("{}?target-prefix=203.0.113.200", mid(CUID, 1));
    step(
        &mut world,
        "7.10 not its target",
        client,
        &get(&none),
        Code::NOT_FOUND,
    );
    step(
        &mut world,
        "7.11 malformed",
        client,
        &get(&format!("{all}?target-port=x")),
        Code::BAD_REQUEST,
    );
}

#[test]
fn row_12_filter_control() {
    let mut world = World::new(12, LOSS);
    let client = world.connect("weir-lab");
    let request = |id: u32, host: u8, names: &[&str], extra: Value| {
        let lists: Vec<Value> = names
            .iter()
            .map(|name| json!({"acl-name": name, "activation-type": "immediate"}))
            .collect();
        let mut body = json!({"target-prefix": [format!("203.0.113.{host}/32")], "lifetime": 600});
        if !lists.is_empty() {
            body["ietf-dots-signal-control:acl-list"] = json!(lists);
        }
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        put(&mid(CUID, id), scope(body))
    };
    let none = json!({});
    step(
        &mut world,
        "12.1",
        client,
        &request(1, 7, &["good"], none.clone()),
        Code::CREATED,
    );
    let switched = world.filters.0.lock().unwrap().lists["good"].clone();
    assert_eq!(
        switched.unwrap().activation_type,
        Some(weir_dots_proto::body::ActivationType::Immediate)
    );
    step(
        &mut world,
        "12.2 unknown",
        client,
        &request(2, 8, &["bad"], none.clone()),
        Code::NOT_FOUND,
    );
    let idle = json!({"trigger-mitigation": false});
    step(
        &mut world,
        "12.3 idle",
        client,
        &request(3, 9, &["good"], idle),
        Code::BAD_REQUEST,
    );
    step(
        &mut world,
        "12.4 old mid",
        client,
        &request(1, 7, &["good"], none.clone()),
        Code::BAD_REQUEST,
    );
    let failed = step(
        &mut world,
        "12.5 fails",
        client,
        &request(5, 10, &["good", "broken"], none.clone()),
        Code::SERVICE_UNAVAILABLE,
    );
    let lists = &scopes(failed.body.as_ref())[0]["ietf-dots-signal-control:acl-list"];
    assert_eq!(lists[0]["acl-name"], "broken", "12.5 says which");
    assert_eq!(lists.as_array().unwrap().len(), 1);
    step(
        &mut world,
        "12.6 without",
        client,
        &request(6, 10, &[], none.clone()),
        Code::CREATED,
    );
    step(
        &mut world,
        "12.7 the same with a switch that fails",
        client,
        &request(7, 10, &["broken"], none),
        Code::SERVICE_UNAVAILABLE,
    );
    let stands = step(
        &mut world,
        "12.8 what stood stands",
        client,
        &get(&mid(CUID, 6)),
        Code::CONTENT,
    );
    let status = &scopes(stands.body.as_ref())[0]["status"];
    assert_eq!(status, "attack-mitigation-in-progress", "12.8");
}

#[test]
fn row_12_an_accept_list_lets_the_attack_through() {
    let mut world = World::new(121, LOSS);
    let client = world.connect("weir-lab");
    let asked = scope(json!({"target-prefix": ["203.0.113.7/32"], "lifetime": 600}));
    step(
        &mut world,
        "12.9",
        client,
        &put(&mid(CUID, 1), asked),
        Code::CREATED,
    );
    let told = |spoofed: bool| {
        let talker = json!({"source-prefix": "198.51.100.9/32", "spoofed-status": spoofed,
            "total-attack-traffic": [{"unit": "megabit-ps", "mid-percentile-g": "900"}]});
        let item = json!({"target": {"mid-list": [1], "target-prefix": ["203.0.113.7/32"]},
            "attack-detail": [{"vendor-id": 32473, "attack-id": 16,
                "top-talker": {"talker": [talker]}}]});
        let body = json!({"ietf-dots-telemetry:telemetry": {"pre-or-ongoing-mitigation": [item]}});
        put(&format!("tm/{CUID}/tmid=1"), body)
    };
    let conflict = |world: &mut World, name: &str| {
        let shown = step(world, name, client, &get(&mid(CUID, 1)), Code::CONTENT);
        scopes(shown.body.as_ref())[0]["conflict-information"].clone()
    };
    step(
        &mut world,
        "12.10 forged",
        client,
        &told(true),
        Code::CHANGED,
    );
    assert!(conflict(&mut world, "12.11").is_null());
    step(
        &mut world,
        "12.12 real",
        client,
        &told(false),
        Code::CHANGED,
    );
    let found = conflict(&mut world, "12.13");
    assert_eq!(
        found["conflict-cause"], "conflict-with-acceptlist",
        "{found}"
    );
    assert_eq!(found["conflict-scope"]["acl-list"][0]["acl-name"], "good");
}

#[test]
fn row_13_hints() {
    let mut world = World::new(13, LOSS);
    let client = world.connect("weir-lab");
    let hinted = scope(json!({"target-prefix": ["203.0.113.7/32"], "lifetime": 600,
        "ietf-dots-call-home:source-prefix": ["198.51.100.0/24"],
        "ietf-dots-call-home:source-port-range": [{"lower-port": 53}],
        "ietf-dots-call-home:source-icmp-type-range": [{"lower-type": 8}]}));
    step(
        &mut world,
        "13.1",
        client,
        &put(&mid(CUID, 1), hinted),
        Code::CREATED,
    );
    let (_, protected) = world.active().pop().unwrap();
    assert_eq!(
        protected.source_prefix,
        ["198.51.100.0/24".parse().unwrap()],
        "13.1 the mitigator may use it"
    );
}
