//! What would have been sent: the client's part in `weir replay`, which opens no socket and no credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;
use weir_attack_event::AttackId;
use weir_dots_proto::body::{Lifetime, Scope, Telemetry};
use weir_dots_proto::client::Request;
use weir_dots_proto::{Cuid, MAX_CUID_LENGTH, Method, Mid, Tmid};
use weir_flow_record::Timestamp;

use crate::client::Efficacy;
use crate::command::ClientCommand;
use crate::config::ExportSettings;
use crate::request::{delete_mitigation, next_id, put_efficacy, put_mitigation, put_telemetry};
use crate::scope::covers;
use crate::telemetry::lean;

/// One request that would have been sent.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Number, from 1.
    pub seq: u64,
    /// When, in the data's time.
    pub time: Timestamp,
    /// Host and port of the server.
    pub server: String,
    /// `PUT` or `DELETE`.
    pub method: &'static str,
    /// The resource, with the placeholder for the `cuid`.
    pub path: String,
    /// The attack's name.
    pub event: String,
    /// `mitigate` or `tm`.
    pub kind: &'static str,
    /// The body's JSON form; a DELETE has none.
    pub body: Option<Value>,
}

/// Takes the orders of an [`Exporter`](crate::Exporter) and says what clients would send. Every request counts as accepted
/// with status 1 and nothing dropped; identifiers begin at 1.
#[derive(Debug)]
pub struct Recorder {
    peers: BTreeMap<Arc<str>, Peer>,
    seq: u64,
}

#[derive(Debug)]
struct Peer {
    server: String,
    cuid: Cuid,
    last_mid: Option<u32>,
    last_tmid: Option<u32>,
    mitigations: BTreeMap<AttackId, Mitigated>,
    telemetry: BTreeMap<AttackId, (Tmid, Vec<IpNet>)>,
}

#[derive(Debug)]
struct Mitigated {
    mid: Mid,
    scope: Scope,
    lifetime: Lifetime,
    refresh_at: Option<Timestamp>,
}

/// The `cuid` in the paths of recorded requests: `replay-` and the upstream's name, with `-` for what a `cuid` cannot
/// hold. The real one is a hash of the client's key (RFC 9132 §4.4.1.1), which replay does not open.
#[must_use]
pub fn placeholder_cuid(upstream: &str) -> Cuid {
    let fit = |c: char| {
        if c.is_ascii_graphic() && c != '/' {
            c
        } else {
            '-'
        }
    };
    let mut text: String = format!("replay-{upstream}").chars().map(fit).collect();
    text.truncate(MAX_CUID_LENGTH);
    // Not empty, not too long, nothing but graphic ASCII: never refused.
    Cuid::new(&text).unwrap_or_else(|_| Cuid::from_hash_input([0; 32]))
}

impl Recorder {
    /// A recorder that has seen nothing.
    #[must_use]
    pub fn new(settings: &ExportSettings) -> Self {
        let peer = |upstream: &crate::UpstreamSettings| {
            let peer = Peer {
                server: upstream.server(),
                cuid: placeholder_cuid(&upstream.name),
                last_mid: None,
                last_tmid: None,
                mitigations: BTreeMap::new(),
                telemetry: BTreeMap::new(),
            };
            (upstream.name.clone(), peer)
        };
        Self {
            peers: settings.upstreams().iter().map(peer).collect(),
            seq: 0,
        }
    }

    /// Takes an order and returns what would be sent, in order: refreshes that fell due before it, then what it asks for.
    pub fn handle_command(
        &mut self,
        now: Timestamp,
        upstream: &Arc<str>,
        command: &ClientCommand,
    ) -> Vec<Record> {
        let mut records = self.refreshes(now);
        let seq = &mut self.seq;
        let Some(peer) = self.peers.get_mut(upstream) else {
            return records;
        };
        let requests = match command {
            ClientCommand::Request {
                attack,
                scope,
                lifetime,
            } => peer.request(now, attack, scope, *lifetime),
            ClientCommand::Withdraw { attack } => peer.withdraw(attack).into_iter().collect(),
            ClientCommand::Telemetry {
                attack,
                body,
                ended,
            } => {
                vec![peer.telemetry(attack, body, *ended)]
            }
            ClientCommand::Efficacy { attack, efficacy } => {
                peer.efficacy(attack, efficacy).into_iter().collect()
            }
            // It tells of normal times, not of attacks.
            ClientCommand::Setup { .. }
            | ClientCommand::Watch { .. }
            | ClientCommand::MappingShared => Vec::new(),
            // A replay has no data channel, and so no filters to switch.
            ClientCommand::Prepared { .. } | ClientCommand::Vectors { .. } => Vec::new(),
        };
        let Some(attack) = command.attack() else {
            return records;
        };
        records.extend(
            requests
                .into_iter()
                .map(|request| peer.record(seq, now, attack, request)),
        );
        records
    }

    /// Refreshes that were due until `now`, by the time at which each was due.
    fn refreshes(&mut self, now: Timestamp) -> Vec<Record> {
        let mut records = Vec::new();
        loop {
            let due = self.peers.iter().flat_map(|(name, peer)| {
                let of_peer = move |(attack, one): (&AttackId, &Mitigated)| {
                    Some((one.refresh_at?, name.clone(), attack.clone()))
                };
                peer.mitigations.iter().filter_map(of_peer)
            });
            let Some((at, name, attack)) = due.min().filter(|(at, ..)| *at <= now) else {
                break;
            };
            let Some(peer) = self.peers.get_mut(&name) else {
                break;
            };
            let Some(one) = peer.mitigations.get_mut(&attack) else {
                break;
            };
            one.refresh_at = refresh_at(at, one.lifetime);
            let request = put_mitigation(&peer.cuid, one.mid, &one.scope, one.lifetime);
            records.push(peer.record(&mut self.seq, at, &attack, request));
        }
        records
    }
}

impl Peer {
    fn request(
        &mut self,
        now: Timestamp,
        attack: &AttackId,
        scope: &Scope,
        lifetime: Lifetime,
    ) -> Vec<Request> {
        let held = self.mitigations.get(attack);
        if held.is_some_and(|held| covers(&held.scope, scope)) {
            return Vec::new();
        }
        let replaced = held.map(|held| held.mid);
        let mid = next_id(self.last_mid, self.mitigations.is_empty());
        self.last_mid = Some(mid);
        let mid = Mid(mid);
        let mut requests = vec![put_mitigation(&self.cuid, mid, scope, lifetime)];
        requests.extend(replaced.map(|old| delete_mitigation(&self.cuid, old)));
        let mitigated = Mitigated {
            mid,
            scope: scope.clone(),
            lifetime,
            refresh_at: refresh_at(now, lifetime),
        };
        self.mitigations.insert(attack.clone(), mitigated);
        requests
    }

    fn efficacy(&self, attack: &AttackId, efficacy: &Efficacy) -> Option<Request> {
        let held = self.mitigations.get(attack)?;
        let (scope, lifetime) = (&held.scope, held.lifetime);
        Some(put_efficacy(
            &self.cuid, held.mid, scope, lifetime, efficacy,
        ))
    }

    fn withdraw(&mut self, attack: &AttackId) -> Option<Request> {
        let held = self.mitigations.remove(attack)?;
        Some(delete_mitigation(&self.cuid, held.mid))
    }

    fn telemetry(&mut self, attack: &AttackId, body: &Telemetry, ended: bool) -> Request {
        let target = telemetry_target(body);
        let tmid = match self.telemetry.get(attack) {
            Some((tmid, told)) if *told == target => *tmid,
            _ => {
                let tmid = next_id(self.last_tmid, self.telemetry.is_empty());
                self.last_tmid = Some(tmid);
                Tmid(tmid)
            }
        };
        if ended {
            self.telemetry.remove(attack);
        } else {
            self.telemetry.insert(attack.clone(), (tmid, target));
        }
        let mids: Vec<Mid> = self
            .mitigations
            .get(attack)
            .map(|held| held.mid)
            .into_iter()
            .collect();
        put_telemetry(&self.cuid, tmid, &lean(body.clone()), &mids)
    }

    fn record(
        &self,
        seq: &mut u64,
        time: Timestamp,
        attack: &AttackId,
        request: Request,
    ) -> Record {
        *seq += 1;
        let path = request.resource.path();
        let telemetry = matches!(
            request.resource,
            weir_dots_proto::Resource::Telemetry { .. }
        );
        Record {
            seq: *seq,
            time,
            server: self.server.clone(),
            method: match request.method {
                Method::Get => "GET",
                Method::Put => "PUT",
                Method::Delete => "DELETE",
            },
            path,
            event: attack.to_string(),
            kind: if telemetry { "tm" } else { "mitigate" },
            body: request.body,
        }
    }
}

/// Two thirds of the lifetime on.
fn refresh_at(now: Timestamp, lifetime: Lifetime) -> Option<Timestamp> {
    lifetime.duration().map(|length| now.plus(length * 2 / 3))
}

/// The prefixes that telemetry is about.
pub(crate) fn telemetry_target(body: &Telemetry) -> Vec<IpNet> {
    body.pre_or_ongoing_mitigation
        .iter()
        .filter_map(|item| item.target.as_ref())
        .flat_map(|target| target.target_prefix.iter().copied())
        .collect()
}
