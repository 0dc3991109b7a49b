//! Telemetry setup (RFC 9244 §7): what the server is told once, in peace, and again when it changes.
//!
//! A plan is a list of named items of one kind each. An item that has changed goes under a new, higher tsid, which overrides
//! the old one; an item that is no longer in the plan is deleted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use weir_dots_proto::body::{Body, TelemetryParameters, TelemetrySettings, TelemetrySetup};
use weir_dots_proto::client::Request;
use weir_dots_proto::coap::Code;
use weir_dots_proto::{Method, Resource, Tsid};

use super::answers::Answer;
use super::journal::{ChangeId, SavedState};
use super::{AFTER_SILENCE, Client, MAX_RETRIES, Purpose};
use crate::request::next_id;

/// Items of a plan.
const MAX_ITEMS: usize = 64;

/// What is to be set up at a server: items by name, each of one kind (RFC 9244 §7.1: a PUT is a configuration, pipes, or
/// baselines).
pub type SetupPlan = BTreeMap<String, TelemetrySettings>;

/// An item as it was made, which survives a restart.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SetupItem {
    /// Its identifier.
    pub tsid: Tsid,
    /// What it says.
    pub settings: TelemetrySettings,
}

/// The setup of one server.
#[derive(Debug, Default)]
pub(super) struct Setup {
    items: BTreeMap<String, Item>,
    /// What the server offers, asked for once a session (RFC 9244 §7.1.1).
    offer: Offer,
}

#[derive(Debug, Default)]
enum Offer {
    #[default]
    Unknown,
    Asked,
    Known,
    /// The server does not speak of telemetry.
    None,
}

#[derive(Debug)]
struct Item {
    made: SetupItem,
    waits_for: ChangeId,
    phase: Phase,
    retry_at: Option<Instant>,
    refusals: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// To be sent.
    Wanted,
    /// A request is under way.
    Sent,
    /// The server has it, or does not want it.
    Settled,
    /// To be deleted.
    Unwanted,
}

impl Setup {
    /// Something is to be sent then.
    pub(super) fn timers(&self) -> impl Iterator<Item = Instant> {
        self.items.values().filter_map(|item| item.retry_at)
    }

    /// The highest tsid in use.
    pub(super) fn highest(&self) -> Option<u32> {
        self.items.values().map(|item| item.made.tsid.0).max()
    }

    /// A new session: what the server has is looked at again.
    pub(super) fn handle_connected(&mut self) {
        self.offer = Offer::Unknown;
    }

    pub(super) fn restore(&mut self, name: String, made: SetupItem) {
        self.items.insert(name, Item::new(made, ChangeId(0)));
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.items.remove(name);
    }
}

impl Item {
    fn new(made: SetupItem, waits_for: ChangeId) -> Self {
        Self {
            made,
            waits_for,
            phase: Phase::Wanted,
            retry_at: None,
            refusals: 0,
        }
    }
}

impl Client {
    /// Takes a plan in place of the one before.
    pub(super) fn handle_setup(&mut self, plan: SetupPlan) {
        let dropped: Vec<String> = self
            .setup
            .items
            .keys()
            .filter(|name| !plan.contains_key(*name))
            .cloned()
            .collect();
        for name in dropped {
            if let Some(item) = self.setup.items.get_mut(&name) {
                item.phase = Phase::Unwanted;
                item.retry_at = None;
            }
        }
        for (name, settings) in plan.into_iter().take(MAX_ITEMS) {
            let known = self.setup.items.get(&name);
            let same = known.is_some_and(|item| {
                item.made.settings == settings && item.phase != Phase::Unwanted
            });
            if same {
                continue;
            }
            let last = self.last_tsid.max(self.setup.highest());
            let tsid = next_id(last, !self.is_under_attack());
            self.last_tsid = Some(tsid);
            self.persist_identifiers();
            let made = SetupItem {
                tsid: Tsid(tsid),
                settings,
            };
            let waits_for = self.persist(SavedState::Setup {
                name: name.clone(),
                item: Box::new(made.clone()),
            });
            self.setup.items.insert(name, Item::new(made, waits_for));
        }
    }

    /// Sends one item at a time, in peace: during an attack the channel is for the attack.
    pub(super) fn advance_setup(&mut self, now: Instant) {
        if self.setup.items.is_empty() || self.is_under_attack() || self.session.room() == 0 {
            return;
        }
        match self.setup.offer {
            Offer::Unknown => {
                self.setup.offer = Offer::Asked;
                let request = Request::new(Method::Get, self.setup_resource(None));
                self.send(now, request, Purpose::SetupOffer);
                return;
            }
            Offer::Asked | Offer::None => return,
            Offer::Known => {}
        }
        let busy = |item: &Item| item.phase == Phase::Sent;
        if self.setup.items.values().any(busy) {
            return;
        }
        let durable = self.durable;
        let due = self.setup.items.iter().find(|(_, item)| {
            matches!(item.phase, Phase::Wanted | Phase::Unwanted)
                && item.waits_for <= durable
                && item.retry_at.is_none_or(|at| at <= now)
        });
        let Some((name, item)) = due else { return };
        let (name, tsid) = (name.clone(), item.made.tsid);
        let resource = self.setup_resource(Some(tsid));
        let (request, purpose) = if item.phase == Phase::Unwanted {
            let request = Request::new(Method::Delete, resource);
            (request, Purpose::DeleteSetup(name.clone()))
        } else {
            let body = TelemetrySetup {
                telemetry: vec![item.made.settings.clone()],
                ..TelemetrySetup::default()
            };
            let request = Request {
                body: Some(body.to_json()),
                ..Request::new(Method::Put, resource)
            };
            (request, Purpose::Setup(name.clone(), tsid))
        };
        if let Some(item) = self.setup.items.get_mut(&name) {
            item.phase = Phase::Sent;
            item.retry_at = None;
        }
        self.send(now, request, purpose);
    }

    fn setup_resource(&self, tsid: Option<Tsid>) -> Resource {
        Resource::TelemetrySetup {
            cuid: self.cuid.clone(),
            tsid,
        }
    }

    /// What the server offers and has: items that it lost are told again, wishes beyond its bounds are cut.
    pub(super) fn handle_setup_offer(&mut self, answer: &Answer) {
        if answer.code.class() == 4 {
            tracing::info!(upstream = &*self.upstream, code = %answer.code, "no telemetry setup there");
            self.setup.offer = Offer::None;
            return;
        }
        let body = answer.body.as_ref().map(TelemetrySetup::from_json);
        let Some(Ok(offered)) = body else {
            self.setup.offer = Offer::Unknown;
            return;
        };
        self.setup.offer = Offer::Known;
        let limits = (offered.min_config_values, offered.max_config_values);
        for item in self.setup.items.values_mut() {
            let there = offered
                .telemetry
                .iter()
                .any(|other| other.tsid == Some(item.made.tsid));
            if item.phase != Phase::Unwanted {
                item.phase = if there { Phase::Settled } else { Phase::Wanted };
            }
            if let Some(config) = &mut item.made.settings.current_config {
                keep_within(config, limits.0.as_ref(), limits.1.as_ref());
            }
        }
    }

    pub(super) fn handle_setup_answer(
        &mut self,
        now: Instant,
        name: &str,
        tsid: Tsid,
        answer: &Answer,
    ) {
        let Some(item) = self
            .setup
            .items
            .get_mut(name)
            .filter(|item| item.made.tsid == tsid)
        else {
            return;
        };
        let wait = answer.retry_in().filter(|_| item.refusals < MAX_RETRIES);
        if let Some(wait) = wait {
            item.refusals += 1;
            item.phase = Phase::Wanted;
            item.retry_at = Some(now + wait);
            return;
        }
        item.phase = Phase::Settled;
        if !answer.code.is_success() {
            let (code, words) = (answer.code, answer.words());
            tracing::warn!(upstream = &*self.upstream, name, %code, words, "telemetry setup refused");
        }
    }

    pub(super) fn handle_setup_deleted(&mut self, now: Instant, name: &str, answer: &Answer) {
        if let Some(wait) = answer.retry_in() {
            self.retry_setup(now, name, Phase::Unwanted, wait);
            return;
        }
        if answer.code.is_success() || answer.code == Code::NOT_FOUND {
            self.setup.items.remove(name);
            self.persist(SavedState::NoSetup {
                name: name.to_owned(),
            });
        }
    }

    /// The server did not answer.
    pub(super) fn handle_setup_silence(&mut self, now: Instant, purpose: &Purpose) {
        match purpose {
            Purpose::SetupOffer => self.setup.offer = Offer::Unknown,
            Purpose::Setup(name, _) => self.retry_setup(now, name, Phase::Wanted, AFTER_SILENCE),
            Purpose::DeleteSetup(name) => {
                self.retry_setup(now, name, Phase::Unwanted, AFTER_SILENCE);
            }
            _ => {}
        }
    }

    fn retry_setup(&mut self, now: Instant, name: &str, phase: Phase, wait: Duration) {
        if let Some(item) = self.setup.items.get_mut(name) {
            item.phase = phase;
            item.retry_at = Some(now + wait);
        }
    }
}

/// RFC 9244 §7.1.2: values are within the bounds that the server states.
fn keep_within(
    config: &mut TelemetryParameters,
    min: Option<&TelemetryParameters>,
    max: Option<&TelemetryParameters>,
) {
    if let Some(interval) = config.telemetry_notify_interval {
        let least = min
            .and_then(|min| min.telemetry_notify_interval)
            .unwrap_or(1);
        let most = max
            .and_then(|max| max.telemetry_notify_interval)
            .unwrap_or(3600);
        config.telemetry_notify_interval = Some(interval.clamp(least, most.max(least)));
    }
    if max.is_none_or(|max| max.server_originated_telemetry != Some(true)) {
        config.server_originated_telemetry = None;
    }
    if let (Some(interval), Some(least)) = (
        config.measurement_interval,
        min.and_then(|min| min.measurement_interval),
    ) {
        config.measurement_interval = Some(interval.max(least));
    }
    if let (Some(interval), Some(most)) = (
        config.measurement_interval,
        max.and_then(|max| max.measurement_interval),
    ) {
        config.measurement_interval = Some(interval.min(most));
    }
}
