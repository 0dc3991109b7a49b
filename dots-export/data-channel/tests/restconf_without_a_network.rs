//! Row 17 of the interop cases against the service alone, and rules that need a clock.
#![allow(clippy::unwrap_used, reason = "helper functions of tests")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::{Reply, StepRequest, run, service};
use weir_data_channel::model::{Capabilities, Matched};
use weir_data_channel::service::{Headers, Method, Request, Response, Service, ServiceSettings};
use weir_data_channel::store::{Change, ConflictRule, DataStore, Limits};
use weir_data_channel::{Authority, DataHandle, Keep, Peer, UnixTime};
use weir_dots_proto::Cuid;
use weir_dots_proto::body::ActivationType;

const CLIENT: &str = "/restconf/data/ietf-dots-data-channel:dots-data/dots-client=c";
const T0: UnixTime = UnixTime(1_800_000_000);

fn ask(service: &mut Service, as_: &str, now: UnixTime, asked: &str, body: &Value) -> Response {
    let (method, target) = asked.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let octets = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let request = Request {
        method: Method::of(method),
        path,
        query,
        headers: Headers::default(),
        body: &octets,
    };
    service.handle_request(&request, &[as_.to_owned()], now)
}

fn registered(limits: Limits) -> Service {
    let mut service = service(limits, Capabilities::all());
    let body = json!({"ietf-dots-data-channel:dots-client": [{"cuid": "c"}]});
    let path = "POST /restconf/data/ietf-dots-data-channel:dots-data";
    assert_eq!(ask(&mut service, "client-a", T0, path, &body).status, 201);
    service
}

fn alias(name: &str) -> Value {
    json!({"ietf-dots-data-channel:aliases": {"alias": [
        {"name": name, "target-prefix": ["198.51.100.1/32"]}
    ]}})
}

fn acl(name: &str, forwarding: &str) -> Value {
    json!({"ietf-dots-data-channel:acls": {"acl": [{
        "name": name, "type": "ipv4-acl-type", "aces": {"ace": [{
            "name": "one",
            "matches": {"ipv4": {"destination-ipv4-network": "198.51.100.0/24", "source-ipv4-network": "192.0.2.0/24"}},
            "actions": {"forwarding": forwarding}
        }]}
    }]}})
}

#[test]
fn row_17() {
    let mut service = service(Limits::default(), Capabilities::mandatory());
    let steps = run("row17.json", |step: &StepRequest| {
        let (path, query) = match step.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (step.path.as_str(), None),
        };
        let field = |name: &str| step.headers.get(name).map(String::as_str);
        let octets = step.octets();
        let request = Request {
            method: Method::of(&step.method),
            path,
            query,
            headers: Headers {
                content_type: field("content-type"),
                accept: field("accept"),
                via: field("via"),
                if_match: field("if-match"),
            },
            body: &octets,
        };
        let response = service.handle_request(&request, std::slice::from_ref(&step.client), T0);
        Reply {
            status: response.status,
            headers: response
                .headers
                .into_iter()
                .map(|(n, v)| (n.to_owned(), v))
                .collect(),
            body: response.body,
        }
    });
    assert!(steps > 100);
}

#[test]
fn entries_expire_unless_they_are_refreshed() {
    let mut service = registered(Limits::default());
    let mut put = |now: UnixTime, path: &str, body: &Value| {
        ask(
            &mut service,
            "client-a",
            now,
            &format!("PUT {CLIENT}{path}"),
            body,
        )
        .status
    };
    assert_eq!(put(T0, "/aliases/alias=kept", &alias("kept")), 201);
    assert_eq!(put(T0, "/aliases/alias=left", &alias("left")), 201);
    assert_eq!(put(T0, "/acls/acl=left", &acl("left", "drop")), 201);
    let later = T0.plus_minutes(5_000);
    assert_eq!(put(later, "/aliases/alias=kept", &alias("kept")), 204);
    let names = |service: &mut Service, now: UnixTime| {
        let response = ask(
            service,
            "client-a",
            now,
            &format!("GET {CLIENT}/aliases"),
            &Value::Null,
        );
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        let list = body
            .pointer("/ietf-dots-data-channel:aliases/alias")
            .cloned();
        let list: Vec<Value> = serde_json::from_value(list.unwrap_or(json!([]))).unwrap();
        let told = |entry: &Value| {
            (
                entry["name"].as_str().unwrap().to_owned(),
                entry["pending-lifetime"].as_i64().unwrap(),
            )
        };
        list.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&mut service, later),
        [("kept".to_owned(), 10_080), ("left".to_owned(), 5_080)]
    );
    assert_eq!(
        service.store().poll_timeout(),
        Some(T0.plus_minutes(10_080))
    );
    let week = T0.plus_minutes(10_080);
    assert_eq!(names(&mut service, week), [("kept".to_owned(), 5_000)]);
    assert!(
        !service
            .store()
            .acl_exists("client-a", &Cuid::new("c").unwrap(), "left")
    );
    // A client that holds nothing is forgotten after four weeks without a change.
    let store = service.store_mut();
    store.handle_time(T0.plus_minutes(15_100));
    assert_eq!(store.clients().count(), 1);
    store.handle_time(later.plus_minutes(40_320));
    assert_eq!(store.clients().count(), 0);
    while store.poll_change().is_some() {}
}

#[test]
fn filters_are_switched_by_the_signal_channel() {
    let mut service = registered(Limits::default());
    let cuid = Cuid::new("c").unwrap();
    for name in ["one", "two"] {
        let path = format!("PUT {CLIENT}/acls/acl={name}");
        assert_eq!(
            ask(&mut service, "client-a", T0, &path, &acl(name, "drop")).status,
            201
        );
    }
    let store = service.store_mut();
    let active = |store: &DataStore, mitigating: bool| {
        let acls = store.active_acls(&cuid, mitigating);
        acls.map(|acl| acl.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(active(store, false), Vec::<String>::new());
    assert_eq!(active(store, true), ["one", "two"]);
    let later = T0.plus_minutes(100);
    store
        .set_activation("client-a", &cuid, "two", ActivationType::Immediate, later)
        .unwrap();
    store
        .set_activation("client-a", &cuid, "one", ActivationType::Deactivate, later)
        .unwrap();
    assert_eq!(active(store, false), ["two"]);
    assert_eq!(active(store, true), ["two"]);
    assert!(
        store
            .set_activation("client-b", &cuid, "two", ActivationType::Immediate, later)
            .is_err()
    );
    assert!(
        store
            .set_activation("client-a", &cuid, "three", ActivationType::Immediate, later)
            .is_err()
    );
    // The lifetime begins anew (RFC 9133 §3.2.1).
    let path = format!("GET {CLIENT}/acls/acl=two?content=nonconfig");
    let response = ask(&mut service, "client-a", later, &path, &Value::Null);
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(
        body["ietf-dots-data-channel:acls"]["acl"][0]["pending-lifetime"],
        10_080
    );
}

#[test]
fn what_filters_match_is_told_until_they_are_gone() {
    let mut service = registered(Limits::default());
    let cuid = Cuid::new("c").unwrap();
    let path = format!("PUT {CLIENT}/acls/acl=one");
    assert_eq!(
        ask(&mut service, "client-a", T0, &path, &acl("one", "drop")).status,
        201
    );
    let matched = Matched {
        packets: 3,
        octets: u64::MAX,
    };
    service
        .store_mut()
        .handle_matched(&cuid, "one", "one", matched);
    service
        .store_mut()
        .handle_matched(&cuid, "one", "none", matched);
    let statistics = |service: &mut Service| {
        let path = format!("GET {CLIENT}/acls/acl=one/aces/ace=one/statistics");
        let response = ask(service, "client-a", T0, &path, &Value::Null);
        (
            response.status,
            serde_json::from_slice::<Value>(&response.body).unwrap(),
        )
    };
    let told = json!({"ietf-dots-data-channel:statistics": {
        "matched-packets": "3", "matched-octets": "18446744073709551615"
    }});
    assert_eq!(statistics(&mut service), (200, told));
    let path = format!("DELETE {CLIENT}/acls/acl=one");
    assert_eq!(
        ask(&mut service, "client-a", T0, &path, &Value::Null).status,
        204
    );
    assert_eq!(statistics(&mut service).0, 404);
}

#[test]
fn aliases_are_found_by_their_owner_alone() {
    let mut service = registered(Limits::default());
    let cuid = Cuid::new("c").unwrap();
    let path = format!("POST {CLIENT}");
    assert_eq!(
        ask(&mut service, "client-a", T0, &path, &alias("www")).status,
        201
    );
    let store = service.store();
    let target = store.alias("client-a", &cuid, "www").unwrap();
    assert_eq!(target.target_prefix, ["198.51.100.1/32".parse().unwrap()]);
    assert_eq!(store.alias("client-b", &cuid, "www"), None);
    assert_eq!(store.alias("client-a", &cuid, "ftp"), None);
}

#[test]
fn every_table_is_bounded() {
    let limits = Limits {
        max_clients_per_peer: 2,
        max_aliases: 1,
        max_acls: 1,
        max_aces: 1,
        max_attacks: 1,
        max_octets: 2_000,
        ..Limits::default()
    };
    let mut service = registered(limits);
    let mut status =
        |asked: &str, body: &Value| ask(&mut service, "client-a", T0, asked, body).status;
    assert_eq!(
        status(&format!("PUT {CLIENT}/aliases/alias=a"), &alias("a")),
        201
    );
    assert_eq!(
        status(&format!("PUT {CLIENT}/aliases/alias=b"), &alias("b")),
        409
    );
    assert_eq!(
        status(&format!("PUT {CLIENT}/acls/acl=a"), &acl("a", "drop")),
        201
    );
    assert_eq!(
        status(&format!("PUT {CLIENT}/acls/acl=b"), &acl("b", "drop")),
        409
    );
    let ace =
        json!({"ietf-dots-data-channel:ace": [{"name": "two", "actions": {"forwarding": "drop"}}]});
    assert_eq!(status(&format!("POST {CLIENT}/acls/acl=a/aces"), &ace), 409);
    let mapping = |text: &str| {
        json!({"ietf-dots-mapping:vendor-mapping": {"vendor": [
            {"vendor-id": 1, "last-updated": "1", "vendor-name": text}
        ]}})
    };
    assert_eq!(status(&format!("POST {CLIENT}"), &mapping("x")), 201);
    let mapped = format!("PUT {CLIENT}/ietf-dots-mapping:vendor-mapping");
    assert_eq!(status(&mapped, &mapping(&"x".repeat(3_000))), 409);
    let data = "POST /restconf/data/ietf-dots-data-channel:dots-data";
    let client = |cuid: &str| json!({"ietf-dots-data-channel:dots-client": [{"cuid": cuid}]});
    assert_eq!(status(data, &client("d")), 201);
    assert_eq!(status(data, &client("e")), 409);
    assert_eq!(service.store().refused().quotas, 5);
}

#[test]
fn a_client_that_asks_too_often_waits() {
    let settings = ServiceSettings {
        requests_per_minute: 2,
        ..ServiceSettings::default()
    };
    let store = DataStore::new(Limits::default(), Capabilities::mandatory());
    let mut service = Service::new(settings, support::authority(), store);
    let mut status = |as_: &str, now: UnixTime| {
        ask(&mut service, as_, now, "GET /restconf", &Value::Null).status
    };
    assert_eq!(status("client-a", T0), 200);
    assert_eq!(status("client-a", T0), 200);
    assert_eq!(status("client-a", T0), 429);
    assert_eq!(status("client-b", T0), 200);
    assert_eq!(status("client-a", UnixTime(T0.0 + 30)), 200);
}

#[test]
fn a_gateway_tells_the_domains_of_its_clients() {
    let mut service = service(Limits::default(), Capabilities::mandatory());
    let data = "POST /restconf/data/ietf-dots-data-channel:dots-data";
    let client = |members: Value| json!({"ietf-dots-data-channel:dots-client": [members]});
    let mut status = |asked: &str, body: &Value| {
        let response = ask(&mut service, "gateway", T0, asked, body);
        (response.status, String::from_utf8(response.body).unwrap())
    };
    let (code, told) = status(data, &client(json!({"cuid": "c"})));
    assert_eq!(code, 403);
    assert!(told.contains("access-denied"));
    assert_eq!(
        status(data, &client(json!({"cuid": "c", "cdid": "x"}))).0,
        201
    );
    assert_eq!(
        status(data, &client(json!({"cuid": "d", "cdid": "x"}))).0,
        201
    );
    let (_, told) = status(&format!("GET {CLIENT}"), &Value::Null);
    assert!(told.contains(r#""cdid":"x""#));
    // Another client of the same domain wants the opposite (RFC 8783 §7.2).
    let filter = |forwarding: &str| {
        json!({"ietf-dots-data-channel:acls": {"acl": [{
            "name": "f", "type": "ipv4-acl-type", "aces": {"ace": [{
                "name": "one", "matches": {"ipv4": {"source-ipv4-network": "10.0.0.0/8"}},
                "actions": {"forwarding": forwarding}
            }]}
        }]}})
    };
    assert_eq!(status(&format!("POST {CLIENT}"), &filter("accept")).0, 201);
    let other = CLIENT.replace("=c", "=d");
    let (code, told) = status(&format!("POST {other}"), &filter("drop"));
    assert_eq!(code, 409);
    assert!(told.contains("resource-denied"));
    assert_eq!(status(&format!("POST {other}"), &filter("accept")).0, 201);
}

#[test]
fn rows_survive_a_restart() {
    let mut service = registered(Limits::default());
    for (path, body) in [
        ("aliases/alias=a", alias("a")),
        ("acls/acl=x", acl("x", "drop")),
        ("acls/acl=b", acl("b", "drop")),
    ] {
        let asked = format!("PUT {CLIENT}/{path}");
        assert_eq!(ask(&mut service, "client-a", T0, &asked, &body).status, 201);
    }
    let change = service.store_mut().poll_change().unwrap();
    assert_eq!(service.store_mut().poll_change(), None);
    let text = serde_json::to_string(&change.row.unwrap()).unwrap();
    let mut again = support::service(Limits::default(), Capabilities::all());
    again
        .store_mut()
        .restore(serde_json::from_str(&text).unwrap())
        .unwrap();
    let later = T0.plus_minutes(80);
    let path = format!("GET {CLIENT}");
    let before = ask(&mut service, "client-a", later, &path, &Value::Null);
    let after = ask(&mut again, "client-a", later, &path, &Value::Null);
    assert_eq!(after.status, 200);
    assert_eq!(
        String::from_utf8(before.body),
        String::from_utf8(after.body)
    );
    assert!(again.store_mut().poll_change().is_none());
    // A removed client's row is gone.
    let asked = format!("DELETE {CLIENT}");
    assert_eq!(
        ask(&mut again, "client-a", later, &asked, &Value::Null).status,
        204
    );
    assert_eq!(again.store_mut().poll_change().unwrap().row, None);
}

#[test]
fn a_filter_takes_the_family_of_its_matches() {
    let mut service = registered(Limits::default());
    let filter = |matches: Value| {
        json!({"ietf-dots-data-channel:acls": {"acl": [{"name": "x", "aces": {"ace": [
            {"name": "one", "matches": matches, "actions": {"forwarding": "drop"}},
            {"name": "two", "matches": {"ipv6": {"protocol": 17}}, "actions": {"forwarding": "drop"}}
        ]}}]}})
    };
    let path = format!("PUT {CLIENT}/acls/acl=x");
    let mixed = filter(json!({"ipv4": {"protocol": 6}}));
    let mut put = |body: &Value| ask(&mut service, "client-a", T0, &path, body).status;
    assert_eq!(put(&mixed), 400);
    assert_eq!(put(&filter(json!({"tcp": {}}))), 201);
    let path = format!("GET {CLIENT}/acls/acl=x/type");
    let response = ask(&mut service, "client-a", T0, &path, &Value::Null);
    let told = String::from_utf8(response.body).unwrap();
    assert!(
        told.contains("ietf-access-control-list:ipv6-acl-type"),
        "{told}"
    );
}

#[test]
fn two_clients_of_a_domain_that_contradict_each_other() {
    let networks: Vec<ipnet::IpNet> = vec!["198.51.100.0/24".parse().unwrap()];
    let peers = ["one", "two", "elsewhere"].map(|name| Peer {
        domain: if name == "elsewhere" {
            name.into()
        } else {
            "common".into()
        },
        ..Peer::client(name, networks.clone())
    });
    let store = |conflicts| {
        let limits = Limits {
            conflicts,
            ..Limits::default()
        };
        DataStore::new(limits, Capabilities::mandatory())
    };
    for (rule, expected) in [(ConflictRule::RefuseNew, 409), (ConflictRule::Keep, 201)] {
        let authority = Authority::new(peers.clone());
        let mut service = Service::new(ServiceSettings::default(), authority, store(rule));
        let mut put = |peer: &str, forwarding: &str| {
            let path = CLIENT.replace("=c", &format!("={peer}"));
            let client = json!({"ietf-dots-data-channel:dots-client": [{"cuid": peer}]});
            let data = "POST /restconf/data/ietf-dots-data-channel:dots-data";
            ask(&mut service, peer, T0, data, &client);
            let asked = format!("PUT {path}/acls/acl=x");
            ask(&mut service, peer, T0, &asked, &acl("x", forwarding)).status
        };
        assert_eq!(put("one", "drop"), 201);
        assert_eq!(put("elsewhere", "accept"), 201);
        assert_eq!(put("two", "accept"), expected);
        // Its own filter a client may turn.
        assert_eq!(put("one", "drop"), 204);
    }
}

#[test]
fn a_member_that_stands_twice_is_malformed() {
    let mut service = registered(Limits::default());
    let body = br#"{"ietf-dots-data-channel:aliases":{"alias":[{"name":"a","target-prefix":["198.51.100.1/32"],"target-prefix":["203.0.113.1/32"]}]}}"#;
    let request = Request {
        method: Method::Post,
        path: CLIENT,
        query: None,
        headers: Headers::default(),
        body,
    };
    let response = service.handle_request(&request, &["client-a".to_owned()], T0);
    assert_eq!(response.status, 400);
    assert!(
        String::from_utf8(response.body)
            .unwrap()
            .contains("malformed-message")
    );
}

/// A disk that is full at first.
struct Full(Arc<AtomicBool>, Arc<Mutex<Vec<String>>>);

impl Keep for Full {
    fn write(&mut self, changes: &[Change]) -> std::io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let rows = changes.iter().map(|change| change.cuid.to_string());
        self.1.lock().unwrap().extend(rows);
        Ok(())
    }
}

#[test]
fn what_cannot_be_kept_is_told_and_tried_again() {
    let full = Arc::new(AtomicBool::new(true));
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Box::new(Full(full.clone(), kept.clone()));
    let service = service(Limits::default(), Capabilities::mandatory());
    let handle = DataHandle::new(service, Some(keep));
    let register = |cuid: &str| {
        let body = json!({"ietf-dots-data-channel:dots-client": [{"cuid": cuid}]}).to_string();
        let request = Request {
            method: Method::Post,
            path: "/restconf/data/ietf-dots-data-channel:dots-data",
            query: None,
            headers: Headers::default(),
            body: body.as_bytes(),
        };
        handle
            .handle_request(&request, &["client-a".to_owned()])
            .status
    };
    assert_eq!(register("one"), 500);
    full.store(false, Ordering::Relaxed);
    assert_eq!(register("two"), 201);
    assert_eq!(*kept.lock().unwrap(), ["one", "two"]);
    let networks = handle.prefixes(&Cuid::new("one").unwrap()).unwrap();
    assert!(networks.cover(&"198.51.100.7/32".parse().unwrap()));
}

#[test]
fn a_client_that_holds_much_asks_less_often() {
    let mut service = registered(Limits::default());
    let entries: Vec<Value> = (0..1_000)
        .map(|index| json!({"name": format!("{index}-{}", "x".repeat(240)), "target-prefix": ["198.51.100.1/32"]}))
        .collect();
    let body = json!({"ietf-dots-data-channel:aliases": {"alias": entries}});
    let started = std::time::Instant::now();
    let path = format!("PUT {CLIENT}/aliases");
    assert_eq!(ask(&mut service, "client-a", T0, &path, &body).status, 201);
    let get = format!("GET {CLIENT}/aliases/alias=none");
    let mut answered = 0;
    while ask(&mut service, "client-a", T0, &get, &Value::Null).status != 429 {
        answered += 1;
    }
    // About 300 kB: five units each, of 600 in a minute.
    assert!((50..200).contains(&answered), "{answered}");
    assert!(started.elapsed().as_secs() < 60);
}
