//! Client and server sessions joined by a virtual clock and a seeded link that loses, doubles and re-orders.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![expect(
    clippy::disallowed_methods,
    reason = "any instant does: sessions only look at differences"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_dots_proto::client::{self, Notice, Request};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::{self, Event, ObserveAction, RelationId, Response};
use weir_dots_proto::{Cuid, Method, Mid, Resource, SessionParameters, Tmid};

/// The two peers and what is between them.
struct Pair {
    now: Instant,
    client: client::Session,
    server: server::Session,
    /// Datagrams under way: when they arrive, in what order, to the server?, octets.
    link: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    sent: u64,
    random: u64,
    loss_percent: u64,
    /// Whether datagrams to the client, to the server get through at all.
    open: (bool, bool),
    requests: Vec<(Method, Resource)>,
    relations: Vec<RelationId>,
    notices: Vec<Notice>,
    lost: bool,
    /// What a GET reads.
    state: Value,
}

impl Pair {
    fn new(seed: u64, loss_percent: u64) -> Self {
        let now = Instant::now();
        let parameters = SessionParameters {
            heartbeat_interval: Duration::from_secs(15),
            missing_hb_allowed: 3,
            ..SessionParameters::default()
        };
        let mut pair = Self {
            now,
            client: client::Session::new(parameters.clone(), seed),
            server: server::Session::new(parameters, seed + 1),
            link: BTreeMap::new(),
            sent: 0,
            random: seed,
            loss_percent,
            open: (true, true),
            requests: Vec::new(),
            relations: Vec::new(),
            notices: Vec::new(),
            lost: false,
            state: status(1),
        };
        pair.client.handle_connected(now);
        pair.server.handle_connected(now);
        pair.pump();
        pair
    }

    fn random(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    fn carry(&mut self, to_server: bool, datagram: Vec<u8>) {
        let open = if to_server { self.open.1 } else { self.open.0 };
        let copies = if self.random() % 100 < 10 { 2 } else { 1 };
        for _ in 0..copies {
            if !open || self.random() % 100 < self.loss_percent {
                continue;
            }
            let delay = Duration::from_millis(20 + self.random() % 200);
            self.sent += 1;
            self.link
                .insert((self.now + delay, self.sent), (to_server, datagram.clone()));
        }
    }

    fn pump(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                Event::Request {
                    exchange,
                    method,
                    resource,
                    observe,
                    body,
                    ..
                } => {
                    self.requests.push((method, resource));
                    if let Some(ObserveAction::Register(id)) = observe {
                        self.relations.push(id);
                    }
                    let code = match method {
                        Method::Get => Code::CONTENT,
                        Method::Put => Code::CREATED,
                        Method::Delete => Code::DELETED,
                    };
                    let body = body.or_else(|| (method == Method::Get).then(|| self.state.clone()));
                    self.server.handle_response(
                        self.now,
                        exchange,
                        Response {
                            body,
                            ..Response::new(code)
                        },
                    );
                }
                Event::RelationEnded(id) => self.relations.retain(|other| *other != id),
                Event::PeerLost => self.lost = true,
                Event::PeerBack => self.lost = false,
            }
        }
        while let Some(datagram) = self.client.poll_transmit() {
            self.carry(true, datagram);
        }
        while let Some(datagram) = self.server.poll_transmit() {
            self.carry(false, datagram);
        }
        while let Some(notice) = self.client.poll_notice() {
            self.notices.push(notice);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.link.keys().next().map(|(at, _)| *at);
            let next = [
                arrival,
                self.client.poll_timeout(),
                self.server.poll_timeout(),
            ]
            .into_iter()
            .flatten()
            .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            while let Some(((at, _), _)) = self.link.first_key_value()
                && *at <= self.now
            {
                let (_, (to_server, datagram)) = self.link.pop_first().unwrap();
                if to_server {
                    self.server.handle_datagram(self.now, &datagram);
                } else {
                    self.client.handle_datagram(self.now, &datagram);
                }
            }
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.pump();
        }
        self.now = end;
    }

    fn ask(
        &mut self,
        method: Method,
        resource: Resource,
        body: Option<Value>,
        observe: Option<bool>,
    ) {
        let request = Request {
            method,
            resource,
            body,
            observe,
            if_match: false,
            query: Vec::new(),
        };
        self.client.handle_request(self.now, request);
        self.pump();
    }

    fn responses(&self) -> usize {
        self.notices
            .iter()
            .filter(|notice| matches!(notice, Notice::Response { .. }))
            .count()
    }
}

fn cuid() -> Cuid {
    Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap()
}

fn mitigation(mid: u32) -> Resource {
    Resource::Mitigate {
        cuid: cuid(),
        mid: Some(Mid(mid)),
    }
}

fn scope() -> Value {
    json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [{"target-prefix": ["192.0.2.1/32"], "lifetime": 3600}]}})
}

/// A state of so many mitigations that it needs several blocks.
fn large(first: u32) -> Value {
    let scopes: Vec<Value> = (first..first + 80)
        .map(|mid| json!({"mid": mid, "target-prefix": ["192.0.2.1/32"], "lifetime": 3600}))
        .collect();
    json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": scopes}})
}

fn status(mid: u32) -> Value {
    json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [{"mid": mid, "target-prefix": ["192.0.2.1/32"],
        "lifetime": 3600, "status": "attack-mitigation-in-progress"}]}})
}

#[test]
fn requests_are_handled_exactly_once_in_spite_of_30_percent_loss() {
    for seed in 1..20 {
        let mut pair = Pair::new(seed, 30);
        for mid in 0..20 {
            pair.ask(Method::Put, mitigation(mid), Some(scope()), None);
        }
        pair.run(Duration::from_secs(60));
        assert_eq!(pair.responses(), 20, "seed {seed}: {:?}", pair.notices);
        assert_eq!(pair.client.open_requests(), 0);
        let mut handled = pair.requests.clone();
        handled.sort();
        let asked: Vec<_> = (0..20).map(|mid| (Method::Put, mitigation(mid))).collect();
        assert_eq!(handled, asked, "seed {seed}");
    }
}

#[test]
fn without_loss_duplicates_reach_the_application_once() {
    let mut pair = Pair::new(5, 0);
    for mid in 0..50 {
        pair.ask(Method::Put, mitigation(mid), Some(scope()), None);
    }
    pair.run(Duration::from_secs(10));
    assert_eq!(pair.requests.len(), 50);
    assert_eq!(pair.responses(), 50);
}

#[test]
fn notifications_never_go_back_in_time() {
    let mut pair = Pair::new(3, 10);
    pair.ask(Method::Get, mitigation(1), None, Some(true));
    pair.run(Duration::from_secs(20));
    let relation = *pair.relations.last().expect("the relation stands");
    for mid in 100..200 {
        pair.server
            .handle_notification(pair.now, relation, &status(mid));
        pair.pump();
        pair.run(Duration::from_millis(50));
    }
    pair.run(Duration::from_secs(2));
    let mids: Vec<u64> = pair
        .notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::Notification { body, .. } => {
                body["ietf-dots-signal-channel:mitigation-scope"]["scope"][0]["mid"].as_u64()
            }
            _ => None,
        })
        .collect();
    assert!(mids.len() > 30, "{} notifications came", mids.len());
    assert!(mids.is_sorted(), "{mids:?}");
}

#[test]
fn deregistration_ends_notifications() {
    let mut pair = Pair::new(4, 0);
    pair.ask(Method::Get, mitigation(1), None, Some(true));
    pair.run(Duration::from_secs(1));
    let relation = pair.relations[0];
    pair.ask(Method::Get, mitigation(1), None, Some(false));
    pair.run(Duration::from_secs(1));
    assert!(pair.relations.is_empty());
    pair.notices.clear();
    pair.server
        .handle_notification(pair.now, relation, &status(9));
    pair.pump();
    pair.run(Duration::from_secs(1));
    assert!(pair.notices.is_empty(), "{:?}", pair.notices);
}

#[test]
fn a_forgotten_relation_is_reset_by_the_client() {
    let mut pair = Pair::new(4, 0);
    pair.ask(Method::Get, mitigation(1), None, Some(true));
    pair.run(Duration::from_secs(1));
    pair.client.handle_disconnected(pair.now);
    pair.client.handle_connected(pair.now);
    let relation = pair.relations[0];
    pair.server
        .handle_notification(pair.now, relation, &status(9));
    pair.pump();
    pair.run(Duration::from_secs(1));
    assert!(
        pair.relations.is_empty(),
        "the Reset ends the relation at the server"
    );
}

#[test]
fn heartbeats_go_both_ways_and_silence_is_noticed_in_peace() {
    let mut pair = Pair::new(7, 10);
    pair.run(Duration::from_secs(200));
    let heard = pair
        .notices
        .iter()
        .filter(|n| matches!(n, Notice::PeerHeartbeat { heard: true }))
        .count();
    assert!(heard >= 8, "{heard} heartbeats of the server came");
    assert!(!pair.notices.contains(&Notice::SessionLost));
    pair.open = (false, false);
    pair.run(Duration::from_secs(15 * 6));
    assert!(pair.notices.contains(&Notice::SessionLost));
    assert!(pair.lost, "the server has noticed as well");
    pair.open = (true, true);
    pair.run(Duration::from_secs(40));
    assert!(!pair.lost, "any sign of life brings the client back");
}

#[test]
fn under_attack_silence_gives_up_nothing() {
    let mut pair = Pair::new(8, 0);
    pair.client.handle_mitigating(true);
    // Only the way back is dead: what the client sends still arrives.
    pair.open = (false, true);
    pair.run(Duration::from_secs(600));
    assert!(!pair.notices.contains(&Notice::SessionLost));
    assert!(!pair.lost);
    pair.ask(Method::Put, mitigation(3), Some(scope()), None);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.requests.last(), Some(&(Method::Put, mitigation(3))));
}

#[test]
fn newer_telemetry_replaces_older_and_mitigation_never_waits() {
    let mut pair = Pair::new(9, 0);
    pair.open = (false, false);
    let tm = |tmid| Resource::Telemetry {
        cuid: cuid(),
        tmid: Some(Tmid(tmid)),
    };
    let body = json!({"ietf-dots-telemetry:telemetry": {"pre-or-ongoing-mitigation": [{"target": {"target-prefix": ["192.0.2.1/32"]},
        "total-attack-traffic": [{"unit": "megabit-ps", "mid-percentile-g": "900"}]}]}});
    for _ in 0..5 {
        pair.ask(Method::Put, tm(1), Some(body.clone()), None);
    }
    assert_eq!(pair.client.open_requests(), 1);
    pair.ask(Method::Put, tm(2), Some(body), None);
    pair.open = (true, true);
    pair.ask(Method::Put, mitigation(1), Some(scope()), None);
    pair.run(Duration::from_millis(500));
    assert_eq!(pair.requests, [(Method::Put, mitigation(1))]);
    pair.run(Duration::from_secs(30));
    assert_eq!(pair.client.open_requests(), 0);
    assert_eq!(pair.requests.len(), 3);
}

#[test]
fn large_answers_and_notifications_arrive_whole() {
    for seed in 1..20 {
        let mut pair = Pair::new(seed, 20);
        pair.state = large(0);
        let all = Resource::Mitigate {
            cuid: cuid(),
            mid: None,
        };
        pair.ask(Method::Get, all.clone(), None, Some(true));
        pair.run(Duration::from_secs(120));
        let whole = pair.notices.iter().any(|notice| {
            matches!(notice, Notice::Response { body: Some(body), .. } if *body == large(0))
        });
        assert!(whole, "seed {seed}: {:?}", pair.notices);
        // A notification may be lost, as any; the next one is not held up by it.
        pair.notices.clear();
        let relation = *pair.relations.last().unwrap();
        for first in 1..10 {
            pair.state = large(first);
            pair.server
                .handle_notification(pair.now, relation, &large(first));
            pair.pump();
            pair.run(Duration::from_secs(15));
        }
        pair.run(Duration::from_secs(60));
        let told: Vec<Value> = pair
            .notices
            .iter()
            .filter_map(|notice| match notice {
                Notice::Notification { resource, body, .. } if *resource == all => {
                    Some(body.clone())
                }
                _ => None,
            })
            .collect();
        assert!(told.len() >= 4, "seed {seed}: {}", told.len());
        let firsts: Vec<u32> = told
            .iter()
            .map(|body| (1..10).find(|first| large(*first) == *body).unwrap())
            .collect();
        assert!(firsts.is_sorted(), "{firsts:?}");
    }
}
