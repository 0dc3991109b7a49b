//! A DOTS server in a few lines, on the session of `weir-dots-proto`, and a clock that runs when told.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub(crate) mod dns;
pub(crate) mod net;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_attack_event::{
    AttackEvent, AttackId, Coverage, EventKind, Findings, Gauge, Reason, Severity, Target,
    TopTalker, Traffic, VectorShare,
};
use weir_dots_export::{
    Client, ClientNotice, ClientParameters, ExportSettings, PolicyConfig, StateChange,
    UpstreamConfig, ZoneConfig, check,
};
use weir_dots_proto::body::{Body, Lifetime, Mitigation, MitigationStatus, Scope, Telemetry};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::{Event, ObserveAction, RelationId, Response, Session};
use weir_dots_proto::{Cuid, Method, Mid, Resource, SessionParameters, Tmid};
use weir_flow_record::{Direction, Timestamp, Vector};

/// bit/s into the zone.
pub(crate) const PIPE: u64 = 10_000_000_000;
pub(crate) const PROVIDER: &str = "provider";

pub(crate) fn cuid() -> Cuid {
    Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap()
}

pub(crate) fn client() -> Client {
    Client::new(ClientParameters::new(PROVIDER.into(), cuid(), 7))
}

pub(crate) fn settings(policy: PolicyConfig, upstreams: &[&str]) -> ExportSettings {
    let configs: Vec<UpstreamConfig> = upstreams
        .iter()
        .map(|name| UpstreamConfig {
            name: (*name).to_owned(),
            server: format!("{name}.example.net"),
            ..UpstreamConfig::default()
        })
        .collect();
    let zones = [ZoneConfig {
        name: "customer-a".to_owned(),
        policy: Some("default".to_owned()),
        pipe_capacity: Some(PIPE),
    }];
    check(&configs, &[policy], &zones).unwrap()
}

pub(crate) fn event(kind: EventKind, id: &str, target: &str, second: i64) -> AttackEvent {
    let gauge = |mid: u64| Gauge {
        low: mid / 2,
        mid,
        high: mid * 2,
        peak: mid * 3,
        current: mid,
        interval: (mid / 2, Some(mid * 2)),
    };
    AttackEvent {
        kind,
        id: AttackId(id.into()),
        time: Timestamp::from_seconds(second),
        detected_at: Timestamp::from_seconds(1_700_000_000),
        start_time: Timestamp::from_seconds(1_700_000_000),
        end_time: (kind == EventKind::AttackEnd).then(|| Timestamp::from_seconds(second - 60)),
        target: Target {
            prefix: target.parse().unwrap(),
            other_prefixes: Vec::new(),
            zone: "customer-a".into(),
            direction: Direction::In,
        },
        vectors: vec![vector(Vector::DnsAmplification, 0.95)],
        severity: Severity::High,
        traffic: Traffic {
            bits_per_second: gauge(4_200_000_000),
            packets_per_second: gauge(700_000),
            flows_per_second: gauge(90_000),
        },
        baseline: None,
        why: vec![Reason("4.2 Gbit/s, limit 1 Gbit/s".to_owned())],
        findings: None,
        coverage: Coverage(1.0),
        degraded: false,
        mitigation: None,
        dry_run: false,
        model: None,
    }
}

pub(crate) fn vector(name: Vector, share: f64) -> VectorShare {
    VectorShare {
        vendor_id: 32473,
        attack_id: name.attack_id(),
        name: name.into(),
        share,
        confidence: 1.0,
    }
}

pub(crate) fn findings(event: &AttackEvent, talkers: u8) -> Findings {
    let talker = |n: u8| TopTalker {
        source_prefix: format!("2001:db8:{n:x}::{n:x}/128").parse().unwrap(),
        bits_per_second: 40_000_000 - u64::from(n),
        packets_per_second: 7_000,
        share: 0.1,
        spoofed: Some(false),
        origin: weir_attack_event::Origin::default(),
    };
    Findings {
        attack: event.id.clone(),
        top_talkers: (0..talkers).map(talker).collect(),
        ports: Vec::new(),
        protocols: vec![weir_attack_event::ProtocolShare {
            protocol: 17,
            share: 0.97,
        }],
        source_count: 2_345,
        rows: 10_000,
        complete: true,
        evidence: Default::default(),
    }
}

/// A mitigation as the peer knows it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) scope: Scope,
    pub(crate) status: MitigationStatus,
    pub(crate) dropped: u64,
}

impl Known {
    pub(crate) fn is_active(&self) -> bool {
        !matches!(
            self.status,
            MitigationStatus::DotsClientWithdrawnMitigation
                | MitigationStatus::AttackMitigationTerminated
                | MitigationStatus::AttackMitigationWithdrawn
        )
    }
}

/// The server.
pub(crate) struct Peer {
    pub(crate) session: Session,
    pub(crate) mitigations: BTreeMap<Mid, Known>,
    pub(crate) telemetry: BTreeMap<Tmid, Telemetry>,
    pub(crate) log: Vec<String>,
    /// Answers that are given instead of the right ones, to PUTs of mitigations.
    pub(crate) refusals: VecDeque<Response>,
    pub(crate) granted: u32,
    relations: BTreeMap<Mid, RelationId>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            session: Session::new(SessionParameters::default(), 11),
            mitigations: BTreeMap::new(),
            telemetry: BTreeMap::new(),
            log: Vec::new(),
            refusals: VecDeque::new(),
            granted: 3600,
            relations: BTreeMap::new(),
        }
    }
}

impl Peer {
    pub(crate) fn active(&self) -> Vec<Mid> {
        let active = self
            .mitigations
            .iter()
            .filter(|(_, known)| known.is_active());
        active.map(|(mid, _)| *mid).collect()
    }

    /// The client comes by a new transport.
    pub(crate) fn reconnect(&mut self) {
        self.session = Session::new(SessionParameters::default(), 12);
        self.relations.clear();
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        self.session.handle_datagram(now, datagram);
        while let Some(event) = self.session.poll_event() {
            let Event::Request {
                exchange,
                method,
                resource,
                observe,
                body,
                ..
            } = event
            else {
                continue;
            };
            let shown = resource.path().replace("/.well-known/dots/", "");
            let shown = shown.replace(&format!("cuid={}", cuid().as_str()), "…");
            self.log.push(format!("{} {shown}", method.name()));
            let response = self.answer(method, &resource, body, observe);
            self.session.handle_response(now, exchange, response);
        }
    }

    pub(crate) fn report(
        &mut self,
        now: Instant,
        mid: Mid,
        status: MitigationStatus,
        dropped: u64,
    ) {
        let Some(known) = self.mitigations.get_mut(&mid) else {
            return;
        };
        known.status = status;
        known.dropped = dropped;
        let body = Mitigation::single(self.state(mid)).to_json();
        if let Some(relation) = self.relations.get(&mid) {
            self.session.handle_notification(now, *relation, &body);
        }
    }

    fn state(&self, mid: Mid) -> Scope {
        let known = &self.mitigations[&mid];
        Scope {
            mid: Some(mid),
            status: Some(known.status),
            mitigation_start: Some(1_700_000_000),
            bytes_dropped: Some(known.dropped),
            bps_dropped: Some(known.dropped / 10),
            lifetime: Some(Lifetime::Seconds(self.granted)),
            ..known.scope.clone()
        }
    }

    fn answer(
        &mut self,
        method: Method,
        resource: &Resource,
        body: Option<serde_json::Value>,
        observe: Option<ObserveAction>,
    ) -> Response {
        match (method, resource) {
            (Method::Put, Resource::Mitigate { mid: Some(mid), .. }) => {
                if let Some(refusal) = self.refusals.pop_front() {
                    return refusal;
                }
                let body = Mitigation::from_json(&body.unwrap()).unwrap();
                self.put(*mid, body.scope[0].clone())
            }
            (Method::Get, Resource::Mitigate { mid: Some(mid), .. }) => {
                if !self.mitigations.contains_key(mid) {
                    return Response::error(Code::NOT_FOUND, "no such mitigation");
                }
                if let Some(ObserveAction::Register(relation)) = observe {
                    self.relations.insert(*mid, relation);
                }
                let body = Mitigation::single(self.state(*mid)).to_json();
                Response::with_body(Code::CONTENT, body)
            }
            (Method::Get, Resource::Mitigate { mid: None, .. }) => {
                let scope: Vec<Scope> = self
                    .mitigations
                    .keys()
                    .map(|mid| self.state(*mid))
                    .collect();
                if scope.is_empty() {
                    return Response::error(Code::NOT_FOUND, "no mitigations");
                }
                Response::with_body(Code::CONTENT, Mitigation { scope }.to_json())
            }
            (Method::Delete, Resource::Mitigate { mid: Some(mid), .. }) => {
                if let Some(known) = self.mitigations.get_mut(mid) {
                    known.status = MitigationStatus::DotsClientWithdrawnMitigation;
                }
                Response::new(Code::DELETED)
            }
            (
                Method::Put,
                Resource::Telemetry {
                    tmid: Some(tmid), ..
                },
            ) => {
                let body = Telemetry::from_json(&body.unwrap()).unwrap();
                self.telemetry.insert(*tmid, body);
                Response::new(Code::CHANGED)
            }
            _ => Response::error(Code::METHOD_NOT_ALLOWED, "not here"),
        }
    }

    fn put(&mut self, mid: Mid, scope: Scope) -> Response {
        let overlaps = |known: &Known| {
            let common = |a: &ipnet::IpNet, b: &ipnet::IpNet| a.contains(b) || b.contains(a);
            let mut pairs = known.scope.target_prefix.iter();
            known.is_active() && pairs.any(|a| scope.target_prefix.iter().any(|b| common(a, b)))
        };
        if self
            .mitigations
            .iter()
            .any(|(other, known)| *other > mid && overlaps(known))
        {
            return Response::error(Code::CONFLICT, "a higher mid overlaps");
        }
        let code = match self.mitigations.get(&mid) {
            Some(known) if known.scope != scope => {
                return Response::error(
                    Code::BAD_REQUEST,
                    "a refresh may change its lifetime alone",
                );
            }
            Some(known) if known.is_active() => Code::CHANGED,
            _ => Code::CREATED,
        };
        self.mitigations
            .retain(|other, known| *other >= mid || !overlaps(known));
        if code == Code::CREATED {
            let known = Known {
                scope,
                status: MitigationStatus::AttackMitigationInProgress,
                dropped: 0,
            };
            self.mitigations.insert(mid, known);
        }
        let granted = Scope {
            mid: Some(mid),
            lifetime: Some(Lifetime::Seconds(self.granted)),
            ..Scope::default()
        };
        Response::with_body(code, Mitigation::single(granted).to_json())
    }
}

/// Client, journal and peer on one clock.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) client: Client,
    pub(crate) peer: Peer,
    pub(crate) rows: BTreeMap<String, StateChange>,
    pub(crate) notices: Vec<ClientNotice>,
    /// Steps that may still be taken: a row written, a datagram sent either way. At 0 the client is dead.
    pub(crate) steps: usize,
    /// Datagrams to the peer are lost while this holds.
    pub(crate) deaf: bool,
    /// One datagram in so many is lost, either way; 0 = none.
    pub(crate) loss: u64,
    pub(crate) seed: u64,
    /// Rows are not written while this holds.
    pub(crate) stuck: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: Instant::now(),
            client: client(),
            peer: Peer::default(),
            rows: BTreeMap::new(),
            notices: Vec::new(),
            steps: usize::MAX,
            deaf: false,
            loss: 0,
            seed: 1,
            stuck: false,
        }
    }

    pub(crate) fn connected() -> Self {
        let mut world = Self::new();
        world.client.handle_connected(world.now);
        world.settle();
        world
    }

    /// Whether the network loses the next datagram: by the low bits of a small generator.
    fn is_lost(&mut self) -> bool {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.deaf || (self.loss > 0 && (self.seed >> 33).is_multiple_of(self.loss))
    }

    fn step(&mut self) -> bool {
        self.steps = self.steps.saturating_sub(1);
        self.steps > 0
    }

    /// Exchanges rows and datagrams until nobody has anything to say. False: the client died on the way.
    pub(crate) fn settle(&mut self) -> bool {
        loop {
            let mut quiet = true;
            while !self.stuck
                && let Some(change) = self.client.poll_persist()
            {
                quiet = false;
                if !self.step() {
                    return false;
                }
                self.write(&change);
                if !self.step() {
                    return false;
                }
                self.client.handle_persisted(self.now, change.id);
            }
            while let Some(datagram) = self.client.poll_transmit() {
                quiet = false;
                if !self.step() {
                    return false;
                }
                assert!(datagram.len() <= 1163, "{} octets", datagram.len());
                if !self.is_lost() {
                    self.peer.handle_datagram(self.now, &datagram);
                }
                if !self.step() {
                    return false;
                }
            }
            while let Some(datagram) = self.peer.session.poll_transmit() {
                quiet = false;
                if !self.is_lost() {
                    self.client.handle_datagram(self.now, &datagram);
                }
                if !self.step() {
                    return false;
                }
            }
            while let Some(notice) = self.client.poll_notice() {
                self.notices.push(notice);
            }
            if quiet {
                return true;
            }
        }
    }

    fn write(&mut self, change: &StateChange) {
        // As a journal does: through its text form.
        let text = serde_json::to_string(change).unwrap();
        if change.is_removal() {
            self.rows.remove(&change.key());
        } else {
            self.rows
                .insert(change.key(), serde_json::from_str(&text).unwrap());
        }
    }

    /// The process dies and begins anew with what the journal holds.
    pub(crate) fn restart(&mut self) {
        self.client = client();
        self.client.restore(self.rows.values().cloned());
        self.peer.reconnect();
        self.notices.clear();
    }

    pub(crate) fn run_for(&mut self, length: Duration) -> bool {
        let end = self.now + length;
        if !self.settle() {
            return false;
        }
        let mut turns = 0;
        while let Some(due) = self.client.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            if !self.settle() {
                return false;
            }
            turns += 1;
            assert!(turns < 10_000, "timers spin");
        }
        self.now = end;
        self.client.handle_timeout(self.now);
        self.settle()
    }

    pub(crate) fn command(&mut self, command: weir_dots_export::ClientCommand) -> bool {
        self.client.handle_command(self.now, command);
        self.settle()
    }

    /// Requests that the peer got, without heartbeats.
    pub(crate) fn log(&self) -> Vec<&str> {
        self.peer.log.iter().map(String::as_str).collect()
    }
}

pub(crate) fn attack(name: &str) -> AttackId {
    AttackId(name.into())
}

pub(crate) fn provider() -> Arc<str> {
    PROVIDER.into()
}

/// Whether the shared validator takes all of these bodies, by file name, and its words; `None` where it is missing.
pub(crate) fn verdict(
    bodies: impl IntoIterator<Item = (String, serde_json::Value)>,
) -> Option<(bool, String)> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        std::path::PathBuf::from,
    );
    let script = shared.join("specs/dots/tools/dots-validate.sh");
    let yanglint = std::process::Command::new("yanglint")
        .arg("--version")
        .output();
    if !script.is_file() || yanglint.is_err() {
        eprintln!("skipped: no shared data or no yanglint");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("sh");
    command.arg(script).arg("c2s-strict");
    for (name, body) in bodies {
        let path = folder.path().join(name);
        std::fs::write(&path, serde_json::to_vec_pretty(&body).unwrap()).unwrap();
        command.arg(path);
    }
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    Some((output.status.success(), words))
}

/// All of these bodies, of which there is at least one, are valid under their YANG modules.
pub(crate) fn yanglint(bodies: impl IntoIterator<Item = (String, serde_json::Value)>) {
    if let Some((valid, words)) = verdict(bodies) {
        assert!(valid && words.contains("VALID"), "{words}");
    }
}
