//! A server and clients over a virtual clock and a seeded link that loses and delays datagrams in each direction.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses a part of it, and one that cannot go on has failed"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_dots_proto::body::{
    AclActivation, MitigationStatus, PortRange, PreOrOngoingMitigation, Scope, Target,
};
use weir_dots_proto::client::{Notice, Request, RequestId, Session};
use weir_dots_proto::coap::{Code, Message};
use weir_dots_proto::{Cuid, Method, Resource, SessionParameters};
use weir_dots_server::{
    DataChannel, MitigationId, Mitigator, MitigatorReport, Server, ServerPolicy,
};
use weir_dtls::{PeerIdentity, SessionId};

/// One way of a datagram that is not lost: 20 to 70 ms.
const LEAST_DELAY: u64 = 20;
const MORE_DELAY: u64 = 50;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ClientId(pub(crate) u64);

/// What the mitigator does.
#[derive(Default)]
pub(crate) struct Filters {
    pub(crate) active: BTreeMap<MitigationId, Scope>,
    pub(crate) reports: VecDeque<MitigatorReport>,
    /// Filters of the data channel: name, and how they were switched last.
    pub(crate) lists: BTreeMap<String, Option<AclActivation>>,
}

#[derive(Clone, Default)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<Filters>>);

impl Mitigator for Shared {
    fn apply(&mut self, id: MitigationId, scope: &Scope) {
        self.0.lock().unwrap().active.insert(id, scope.clone());
    }

    fn withdraw(&mut self, id: MitigationId) {
        self.0.lock().unwrap().active.remove(&id).unwrap();
    }

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        self.0.lock().unwrap().reports.pop_front()
    }
}

impl DataChannel for Shared {
    fn alias(&self, _client: &str, _cuid: &Cuid, name: &str) -> Option<Target> {
        (name == "web").then(|| Target {
            target_prefix: vec!["203.0.113.80/32".parse().unwrap()],
            target_port_range: vec![PortRange::single(443)],
            target_protocol: vec![6],
            ..Target::default()
        })
    }

    fn has_filter(&self, _client: &str, _cuid: &Cuid, name: &str) -> bool {
        self.0.lock().unwrap().lists.contains_key(name)
    }

    fn switch_filter(&mut self, _client: &str, _cuid: &Cuid, activation: &AclActivation) -> bool {
        let switched = Some(activation.clone());
        self.0
            .lock()
            .unwrap()
            .lists
            .insert(activation.acl_name.clone(), switched);
        activation.acl_name != "broken"
    }

    /// `good` accepts 198.51.100.0/24.
    fn accepting(
        &self,
        _client: &str,
        _cuid: &Cuid,
        sources: &[ipnet::IpNet],
        _targets: &[ipnet::IpNet],
    ) -> Vec<String> {
        let good: ipnet::IpNet = "198.51.100.0/24".parse().unwrap();
        let accepts = sources.iter().any(|source| good.contains(source));
        accepts.then(|| "good".to_owned()).into_iter().collect()
    }
}

struct Link {
    name: String,
    session: Session,
    id: SessionId,
    /// The server's datagrams do not arrive.
    deaf: bool,
    /// The client's datagrams do not arrive.
    mute: bool,
    answers: BTreeMap<RequestId, Answer>,
    notifications: VecDeque<(Resource, Value)>,
    heartbeats: usize,
    unheard: usize,
    lost: bool,
}

/// Whether a datagram is lost: to the server or not, and what it is.
pub(crate) type Drops = Box<dyn FnMut(bool, &Message) -> bool>;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) code: Code,
    pub(crate) body: Option<Value>,
    pub(crate) text: Option<String>,
    pub(crate) max_age: Option<u32>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) server: Server,
    pub(crate) filters: Shared,
    loss: f64,
    random: u64,
    clients: BTreeMap<ClientId, Link>,
    /// Datagrams that the link loses besides, by what they are.
    pub(crate) drops: Option<Drops>,
    /// Every datagram that was sent, to the server or to a client.
    pub(crate) log: Vec<(bool, Message)>,
    /// Under way: when it arrives, an order, whether to the server, whose, what.
    flying: BTreeMap<(Instant, u64), (bool, ClientId, Vec<u8>)>,
    number: u64,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
}

impl World {
    /// Clients are `weir-lab` with 203.0.113.0/24 and 2001:db8:a::/48, and `other` with 198.51.100.0/24 and
    /// 203.0.113.128/25. `loss` is the share of datagrams that each direction loses.
    pub(crate) fn new(seed: u64, loss: f64) -> Self {
        Self::with(seed, loss, |_| {})
    }

    pub(crate) fn with(seed: u64, loss: f64, change: impl FnOnce(&mut ServerPolicy)) -> Self {
        let prefixes = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let mut policy = ServerPolicy {
            clients: vec![
                (
                    "weir-lab".into(),
                    prefixes(&["203.0.113.0/24", "2001:db8:a::/48"]),
                ),
                (
                    "other".into(),
                    prefixes(&["198.51.100.0/24", "203.0.113.128/25"]),
                ),
            ],
            ..ServerPolicy::default()
        };
        change(&mut policy);
        let filters = Shared::default();
        filters
            .0
            .lock()
            .unwrap()
            .lists
            .extend([("good".to_owned(), None), ("broken".to_owned(), None)]);
        let now = Instant::now();
        let mitigator = Box::new(filters.clone());
        let server = Server::new(policy, mitigator, (now, 1_800_000_000), seed)
            .with_data_channel(Box::new(filters.clone()));
        Self {
            now,
            server,
            filters,
            loss,
            random: seed,
            clients: BTreeMap::new(),
            drops: None,
            log: Vec::new(),
            flying: BTreeMap::new(),
            number: 0,
            sent: 0,
            lost: 0,
        }
    }

    pub(crate) fn connect(&mut self, name: &str) -> ClientId {
        self.connect_as(name, false)
    }

    /// A client that wants Q-Block, and has found in peace that the server knows it.
    pub(crate) fn connect_robust(&mut self, name: &str) -> ClientId {
        let loss = std::mem::take(&mut self.loss);
        let client = self.connect_as(name, true);
        self.advance(Duration::from_secs(1));
        self.loss = loss;
        client
    }

    fn connect_as(&mut self, name: &str, robust: bool) -> ClientId {
        self.number += 1;
        let (client, id) = (ClientId(self.number), SessionId(self.number));
        let identity = PeerIdentity {
            names: vec![name.to_owned()],
            spki_sha256: [0; 32],
        };
        self.server.handle_connected(self.now, id, &identity);
        let mut session = Session::new(SessionParameters::default(), self.number);
        session.handle_robust(robust);
        session.handle_connected(self.now);
        let link = Link {
            name: name.to_owned(),
            session,
            id,
            deaf: false,
            mute: false,
            answers: BTreeMap::new(),
            notifications: VecDeque::new(),
            heartbeats: 0,
            unheard: 0,
            lost: false,
        };
        self.clients.insert(client, link);
        self.settle();
        client
    }

    /// The client's transport goes, and another one comes.
    pub(crate) fn reconnect(&mut self, client: ClientId) {
        self.number += 1;
        let id = SessionId(self.number);
        let link = self.clients.get_mut(&client).unwrap();
        let identity = PeerIdentity {
            names: vec![link.name.clone()],
            spki_sha256: [0; 32],
        };
        self.server.handle_closed(self.now, link.id);
        self.server.handle_connected(self.now, id, &identity);
        link.session.handle_disconnected(self.now);
        link.id = id;
        link.session.handle_connected(self.now);
        self.flying.retain(|_, (_, other, _)| *other != client);
        self.settle();
    }

    /// The client's process is gone without a word.
    pub(crate) fn kill(&mut self, client: ClientId) {
        self.clients.remove(&client);
    }

    /// The client closes its session.
    pub(crate) fn close(&mut self, client: ClientId) {
        let link = self.clients.remove(&client).unwrap();
        self.server.handle_closed(self.now, link.id);
    }

    /// From now on the link carries datagrams to the server alone, to the client alone, or both ways.
    pub(crate) fn cut(&mut self, client: ClientId, deaf: bool, mute: bool) {
        let link = self.clients.get_mut(&client).unwrap();
        (link.deaf, link.mute) = (deaf, mute);
    }

    /// The client goes by other parameters from now on.
    pub(crate) fn configure(&mut self, client: ClientId, parameters: SessionParameters) {
        let link = self.clients.get_mut(&client).unwrap();
        link.session.handle_parameters(self.now, parameters);
    }

    /// The client is under attack, or not any more.
    pub(crate) fn under_attack(&mut self, client: ClientId, yes: bool) {
        let link = self.clients.get_mut(&client).unwrap();
        link.session.handle_mitigating(yes);
    }

    /// Asks, and asks again where the session gives up, as a client under attack does. `None`: there is no answer to be had.
    pub(crate) fn ask(&mut self, client: ClientId, request: &Request) -> Option<Answer> {
        for _ in 0..3 {
            let link = self.clients.get_mut(&client).unwrap();
            let id = link.session.handle_request(self.now, request.clone());
            self.settle();
            let until = self.now + Duration::from_secs(100);
            while self.now < until {
                let link = self.clients.get_mut(&client).unwrap();
                if let Some(answer) = link.answers.remove(&id) {
                    return Some(answer);
                }
                self.step(until);
            }
        }
        None
    }

    /// Asks and does not wait.
    pub(crate) fn send(&mut self, client: ClientId, request: &Request) -> RequestId {
        let link = self.clients.get_mut(&client).unwrap();
        let id = link.session.handle_request(self.now, request.clone());
        self.settle();
        id
    }

    /// The answer to what was sent, once it is there.
    pub(crate) fn answer(&mut self, client: ClientId, id: RequestId) -> Option<Answer> {
        let link = self.clients.get_mut(&client).unwrap();
        link.answers.remove(&id)
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while self.now < until {
            self.step(until);
        }
    }

    /// Notifications since the last call.
    pub(crate) fn notifications(&mut self, client: ClientId) -> Vec<(Resource, Value)> {
        let link = self.clients.get_mut(&client).unwrap();
        link.notifications.drain(..).collect()
    }

    /// Heartbeats of the server since the last call; those that say that it does not hear us.
    pub(crate) fn heartbeats(&mut self, client: ClientId) -> (usize, usize) {
        let link = self.clients.get_mut(&client).unwrap();
        let counts = (link.heartbeats, link.unheard);
        (link.heartbeats, link.unheard) = (0, 0);
        counts
    }

    /// Whether the client has given the session up.
    pub(crate) fn is_lost(&self, client: ClientId) -> bool {
        self.clients.get(&client).unwrap().lost
    }

    pub(crate) fn report(&mut self, id: MitigationId, status: MitigationStatus, packets: u64) {
        let report = MitigatorReport {
            id,
            status,
            bytes_dropped: packets * 500,
            packets_dropped: packets,
            bytes_per_second_dropped: packets * 50,
            packets_per_second_dropped: packets / 10,
        };
        self.filters.0.lock().unwrap().reports.push_back(report);
    }

    /// What filters: identifiers in the order in which they began.
    pub(crate) fn active(&self) -> Vec<(MitigationId, Scope)> {
        let filters = self.filters.0.lock().unwrap();
        filters
            .active
            .iter()
            .map(|(id, scope)| (*id, scope.clone()))
            .collect()
    }

    pub(crate) fn observe(&mut self, attack: &str, item: Option<PreOrOngoingMitigation>) {
        self.server.handle_observation(self.now, attack, item);
        self.settle();
    }

    /// To the next thing that happens, at most until `until`.
    fn step(&mut self, until: Instant) {
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let clients = self
            .clients
            .values()
            .filter_map(|link| link.session.poll_timeout())
            .min();
        let next = arrival
            .into_iter()
            .chain(clients)
            .chain(self.server.poll_timeout())
            .min()
            .unwrap_or(until)
            .min(until);
        self.now = self.now.max(next);
        while let Some(((at, order), _)) = self.flying.first_key_value() {
            if *at > self.now {
                break;
            }
            let key = (*at, *order);
            let (to_server, client, datagram) = self.flying.remove(&key).unwrap();
            self.arrive(to_server, client, &datagram);
        }
        let now = self.now;
        for link in self.clients.values_mut() {
            if link.session.poll_timeout().is_some_and(|due| due <= now) {
                link.session.handle_timeout(now);
            }
        }
        if self.server.poll_timeout().is_some_and(|due| due <= now) {
            self.server.handle_timeout(now);
        }
        self.settle();
    }

    fn arrive(&mut self, to_server: bool, client: ClientId, datagram: &[u8]) {
        let Some(link) = self.clients.get_mut(&client) else {
            return;
        };
        if to_server {
            self.server.handle_data(self.now, link.id, datagram);
        } else {
            link.session.handle_datagram(self.now, datagram);
        }
    }

    fn settle(&mut self) {
        while let Some(name) = self.server.poll_lookup() {
            let addresses = match name.as_str() {
                "www.example.com" => vec!["203.0.113.90".parse().unwrap()],
                "elsewhere.example.com" => vec!["198.51.100.1".parse().unwrap()],
                _ => Vec::new(),
            };
            self.server.handle_lookup(self.now, &name, addresses);
        }
        while self.server.poll_persist().is_some() {}
        let mut out = Vec::new();
        while let Some((id, datagram)) = self.server.poll_transmit() {
            let client = self.clients.iter().find(|(_, link)| link.id == id);
            if let Some((client, link)) = client {
                out.push((false, *client, datagram, link.deaf));
            }
        }
        while let Some(id) = self.server.poll_close() {
            self.server.handle_closed(self.now, id);
        }
        for (client, link) in &mut self.clients {
            while let Some(datagram) = link.session.poll_transmit() {
                out.push((true, *client, datagram, link.mute));
            }
            while let Some(notice) = link.session.poll_notice() {
                match notice {
                    Notice::Response {
                        id,
                        code,
                        body,
                        diagnostic,
                        max_age,
                    } => {
                        let answer = Answer {
                            code,
                            body,
                            text: diagnostic,
                            max_age,
                        };
                        link.answers.insert(id, answer);
                    }
                    Notice::Notification { resource, body, .. } => {
                        link.notifications.push_back((resource, body));
                    }
                    Notice::PeerHeartbeat { heard } => {
                        link.heartbeats += 1;
                        link.unheard += usize::from(!heard);
                    }
                    Notice::SessionLost => link.lost = true,
                    Notice::Unanswered { .. } => {}
                }
            }
        }
        for (to_server, client, datagram, cut) in out {
            self.sent += 1;
            let message = Message::decode(&datagram).unwrap();
            let dropped = self
                .drops
                .as_mut()
                .is_some_and(|drops| drops(to_server, &message));
            self.log.push((to_server, message));
            let share = self.next() as f64 / u64::MAX as f64;
            if cut || dropped || share < self.loss {
                self.lost += 1;
                continue;
            }
            let delay = LEAST_DELAY + self.next() % MORE_DELAY;
            self.number += 1;
            let key = (self.now + Duration::from_millis(delay), self.number);
            self.flying.insert(key, (to_server, client, datagram));
        }
    }

    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// A request by its path below `/.well-known/dots`.
pub(crate) fn request(method: Method, path: &str, body: Option<Value>) -> Request {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let segments = [".well-known", "dots"].into_iter().chain(path.split('/'));
    Request {
        body,
        query: query
            .split('&')
            .filter(|one| !one.is_empty())
            .map(str::to_owned)
            .collect(),
        ..Request::new(method, Resource::from_segments(segments).unwrap())
    }
}

pub(crate) fn get(path: &str) -> Request {
    request(Method::Get, path, None)
}

pub(crate) fn observe(path: &str) -> Request {
    Request {
        observe: Some(true),
        ..get(path)
    }
}

pub(crate) fn put(path: &str, body: Value) -> Request {
    request(Method::Put, path, Some(body))
}

pub(crate) fn delete(path: &str) -> Request {
    request(Method::Delete, path, None)
}

/// A mitigation request of one scope.
pub(crate) fn scope(scope: Value) -> Value {
    json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [scope]}})
}

/// The scopes of a mitigation body.
pub(crate) fn scopes(body: Option<&Value>) -> Vec<Value> {
    let body = body.and_then(|body| body.get("ietf-dots-signal-channel:mitigation-scope"));
    let scopes = body.and_then(|body| body["scope"].as_array().cloned());
    scopes.unwrap_or_default()
}

/// The items of a telemetry body.
pub(crate) fn items(body: Option<&Value>) -> Vec<Value> {
    let body = body.and_then(|body| body.get("ietf-dots-telemetry:telemetry"));
    let items = body.and_then(|body| body["pre-or-ongoing-mitigation"].as_array().cloned());
    items.unwrap_or_default()
}
