//! Telemetry of the server (RFC 9244 §8.3): a request that names targets and nothing else, and an observed GET of it.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::Value;
use weir_dots_proto::body::{Body, PreOrOngoingMitigation, Target, Telemetry};
use weir_dots_proto::coap::Code;
use weir_dots_proto::{Resource, Tmid};

use super::answers::Answer;
use super::journal::ChangeId;
use super::{AFTER_SILENCE, Client, MAX_RETRIES, Purpose};
use crate::command::ClientNotice;
use crate::request::{next_id, observe_telemetry, put_telemetry};
use crate::telemetry::{MAX_BODY_OCTETS, fits};

/// A server that has dropped the request, as one may that holds it against what it is told itself, is asked again after this.
const AFTER_LOSS: Duration = Duration::from_secs(60);

/// What is to be told by the server.
#[derive(Debug, Default)]
pub(super) struct Watch {
    targets: Vec<IpNet>,
    tmid: Option<Tmid>,
    phase: Phase,
    retry_at: Option<Instant>,
    refusals: u32,
    /// What the server told last.
    told: Vec<PreOrOngoingMitigation>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Phase {
    /// Nothing is wanted, or the server does not tell.
    #[default]
    Off,
    /// The request is to be made, once its identifier is durable.
    Wanted(ChangeId),
    /// A request, or the GET, waits for its answer.
    Asked,
    /// The server knows what is wanted, and nobody observes it yet.
    Known,
    /// Notifications come.
    Observed,
}

impl Watch {
    /// When something is due.
    pub(super) fn timer(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.phase != Phase::Off)
    }

    /// The server observes nothing across transports.
    pub(super) fn handle_connected(&mut self) {
        if matches!(self.phase, Phase::Asked | Phase::Observed) {
            self.phase = Phase::Known;
            self.retry_at = None;
        }
    }
}

impl Client {
    /// Takes the targets of which the server is to tell; as many as one datagram holds (RFC 9244 §8.3 wants them in one request).
    pub(super) fn handle_watch(&mut self, mut targets: Vec<IpNet>) {
        let wanted = targets.len();
        while !fits(&subscription(&targets), MAX_BODY_OCTETS) && targets.pop().is_some() {}
        if targets.len() < wanted {
            let upstream = &*self.upstream;
            tracing::warn!(
                upstream,
                wanted,
                taken = targets.len(),
                "the server is asked about some targets only"
            );
        }
        if targets == self.watch.targets {
            return;
        }
        self.watch.targets = targets;
        self.watch.refusals = 0;
        self.renew_watch();
    }

    /// A new request takes the place of the one before, whose targets overlap.
    fn renew_watch(&mut self) {
        self.watch.retry_at = None;
        if self.watch.targets.is_empty() {
            self.watch.phase = Phase::Off;
            return;
        }
        let tmid = next_id(self.last_tmid, self.telemetry.is_empty());
        self.last_tmid = Some(tmid);
        self.persist_identifiers();
        self.watch.tmid = Some(Tmid(tmid));
        self.watch.phase = Phase::Wanted(self.last_change);
    }

    /// Sends what is due.
    pub(super) fn advance_watch(&mut self, now: Instant) {
        let waits = self.watch.retry_at.is_some_and(|at| at > now);
        let Some(tmid) = self
            .watch
            .tmid
            .filter(|_| !waits && self.session.room() > 0)
        else {
            return;
        };
        let (request, purpose) = match self.watch.phase {
            Phase::Wanted(change) if change <= self.durable => {
                let body = subscription(&self.watch.targets);
                let request = put_telemetry(&self.cuid, tmid, &body, &[]);
                (request, Purpose::Subscribe(tmid))
            }
            Phase::Known => (observe_telemetry(&self.cuid, tmid), Purpose::Watch(tmid)),
            Phase::Off | Phase::Wanted(_) | Phase::Asked | Phase::Observed => return,
        };
        self.watch.retry_at = None;
        self.watch.phase = Phase::Asked;
        self.send(now, request, purpose);
    }

    pub(super) fn handle_subscribed(&mut self, now: Instant, tmid: Tmid, answer: &Answer) {
        if self.watch.tmid != Some(tmid) || self.watch.phase != Phase::Asked {
            return;
        }
        if answer.code.is_success() {
            self.watch.refusals = 0;
            self.watch.phase = Phase::Known;
        } else {
            self.handle_watch_refused(now, answer, Phase::Wanted(self.durable));
        }
    }

    pub(super) fn handle_watched(&mut self, now: Instant, tmid: Tmid, answer: &Answer) {
        if self.watch.tmid != Some(tmid) || self.watch.phase != Phase::Asked {
            return;
        }
        if answer.code.is_success() {
            self.watch.phase = Phase::Observed;
            self.watch.refusals = 0;
            if let Some(body) = &answer.body {
                self.handle_watch_notification(body);
            }
        } else if answer.code == Code::NOT_FOUND {
            self.renew_watch();
            self.watch.retry_at = Some(now + AFTER_LOSS);
        } else {
            self.handle_watch_refused(now, answer, Phase::Known);
        }
    }

    fn handle_watch_refused(&mut self, now: Instant, answer: &Answer, again: Phase) {
        let retry_in = answer
            .retry_in()
            .filter(|_| self.watch.refusals < MAX_RETRIES);
        self.watch.refusals += 1;
        if let Some(wait) = retry_in {
            self.watch.phase = again;
            self.watch.retry_at = Some(now + wait);
            return;
        }
        let (code, words) = (answer.code, answer.words());
        tracing::warn!(upstream = &*self.upstream, %code, words, "the server tells of no attacks");
        self.watch.phase = Phase::Off;
    }

    /// A request or a GET was given up: the transport is looked after elsewhere.
    pub(super) fn handle_watch_silence(&mut self, now: Instant, again: &Purpose) {
        if self.watch.phase == Phase::Asked {
            self.watch.phase = match again {
                Purpose::Subscribe(_) => Phase::Wanted(self.durable),
                _ => Phase::Known,
            };
            self.watch.retry_at = Some(now + AFTER_SILENCE);
        }
    }

    /// Takes in what the server tells of our targets. The request itself, which it gives back while there is no attack, is none.
    pub(super) fn handle_watch_notification(&mut self, body: &Value) {
        let Ok(telemetry) = Telemetry::from_json(body) else {
            self.counters.unreadable += 1;
            return;
        };
        let items = telemetry.pre_or_ongoing_mitigation.into_iter();
        let told: Vec<PreOrOngoingMitigation> = items
            .filter(|item| item.tmid.is_none_or(|tmid| Some(tmid) == self.watch.tmid))
            .filter(|item| !is_request(item))
            .collect();
        if told == self.watch.told {
            return;
        }
        self.watch.told.clone_from(&told);
        self.notify(ClientNotice::Observed {
            upstream: self.upstream.clone(),
            items: told,
        });
    }

    /// Whether a notification is of the telemetry that is watched.
    pub(super) fn is_watched(&self, resource: &Resource) -> bool {
        matches!(resource, Resource::Telemetry { tmid, .. } if *tmid == self.watch.tmid)
    }
}

fn subscription(targets: &[IpNet]) -> Telemetry {
    let target = Target {
        target_prefix: targets.to_vec(),
        ..Target::default()
    };
    Telemetry {
        pre_or_ongoing_mitigation: vec![PreOrOngoingMitigation {
            target: Some(target),
            ..PreOrOngoingMitigation::default()
        }],
    }
}

fn is_request(item: &PreOrOngoingMitigation) -> bool {
    let bare = PreOrOngoingMitigation {
        target: item.target.clone(),
        tmid: item.tmid,
        ..PreOrOngoingMitigation::default()
    };
    *item == bare
}
