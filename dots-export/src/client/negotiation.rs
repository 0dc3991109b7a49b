//! Session configuration (RFC 9132 §4.5): heartbeats and timers for peace and for times of mitigation, within what the server
//! offers, and asked for again before they expire.

use std::time::{Duration, Instant};

use weir_dots_proto::body::{Body, ConfigParameters, SignalConfig, Tunable, TunableDecimal};
use weir_dots_proto::client::Request;
use weir_dots_proto::coap::Code;
use weir_dots_proto::{Method, Resource, SessionParameters, Sid};

use super::answers::Answer;
use super::{AFTER_SILENCE, Client, Purpose};
use crate::request::next_id;

/// Where an answer states no Max-Age, its default counts (RFC 7252 §5.10.5).
const DEFAULT_MAX_AGE: u32 = 60;
/// A Max-Age that never ends (RFC 9132 §4.5.3).
const FOR_EVER: u32 = u32::MAX;

/// What a client wants of its sessions, and what it has got.
#[derive(Debug)]
pub(super) struct Negotiation {
    wish: Option<SignalConfig>,
    stage: Stage,
    /// The configuration that was made.
    sid: Option<Sid>,
    /// Asked for again then, but not during an attack.
    refresh_at: Option<Instant>,
    idle: SessionParameters,
    mitigating: SessionParameters,
    /// Which of the two holds.
    applied: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The offer is to be asked for.
    Wanted,
    /// A request is under way.
    Asked,
    /// To be put.
    Offered,
    /// In force, as far as the server let it be.
    Settled,
}

impl Negotiation {
    pub(super) fn new(wish: Option<SignalConfig>, parameters: &SessionParameters) -> Self {
        Self {
            wish,
            stage: Stage::Wanted,
            sid: None,
            refresh_at: None,
            idle: parameters.clone(),
            mitigating: parameters.clone(),
            applied: None,
        }
    }

    /// A new session begins with the defaults.
    pub(super) fn handle_connected(&mut self) {
        self.stage = Stage::Wanted;
        self.sid = None;
        self.refresh_at = None;
    }

    pub(super) fn timer(&self) -> Option<Instant> {
        self.refresh_at
    }
}

impl Client {
    /// Switches between the sets of parameters, and asks for what is due, in peace.
    pub(super) fn advance_negotiation(&mut self, now: Instant) {
        let under_attack = self.is_under_attack();
        self.apply_parameters(now, under_attack);
        let negotiation = &mut self.negotiation;
        let Some(wish) = negotiation.wish else { return };
        // RFC 9132 §4.5.3: no refresh during an attack.
        if under_attack || self.session.room() == 0 {
            return;
        }
        let is_due = negotiation.refresh_at.is_some_and(|at| at <= now);
        if negotiation.stage == Stage::Settled && is_due {
            negotiation.stage = Stage::Wanted;
        }
        match negotiation.stage {
            Stage::Wanted => {
                negotiation.stage = Stage::Asked;
                negotiation.refresh_at = None;
                let sid = negotiation.sid;
                let request = Request::new(Method::Get, Resource::Config { sid });
                self.send(now, request, Purpose::ConfigOffer);
            }
            Stage::Offered => {
                negotiation.stage = Stage::Asked;
                let sid = Sid(next_id(self.last_sid, true));
                self.last_sid = Some(sid.0);
                self.persist_identifiers();
                let request = Request {
                    body: Some(wish.to_json()),
                    ..Request::new(Method::Put, Resource::Config { sid: Some(sid) })
                };
                self.send(now, request, Purpose::Config(sid));
            }
            Stage::Asked | Stage::Settled => {}
        }
    }

    fn apply_parameters(&mut self, now: Instant, mitigating: bool) {
        if self.negotiation.applied == Some(mitigating) {
            return;
        }
        self.negotiation.applied = Some(mitigating);
        let parameters = if mitigating {
            self.negotiation.mitigating.clone()
        } else {
            self.negotiation.idle.clone()
        };
        self.session.handle_parameters(now, parameters);
    }

    /// What the server offers, or what is in force at a refresh.
    pub(super) fn handle_config_offer(&mut self, now: Instant, answer: &Answer) {
        let offered = answer.body.as_ref().map(SignalConfig::from_json);
        let negotiation = &mut self.negotiation;
        let (Some(Ok(offered)), Some(wish)) = (offered, &mut negotiation.wish) else {
            if answer.code == Code::NOT_FOUND && negotiation.sid.is_some() {
                // The server has forgotten it.
                negotiation.sid = None;
                negotiation.stage = Stage::Wanted;
            } else {
                tracing::info!(upstream = &*self.upstream, code = %answer.code, "no session configuration");
                negotiation.stage = Stage::Settled;
            }
            return;
        };
        let age = answer.max_age.unwrap_or(DEFAULT_MAX_AGE);
        // Well before the end; RFC 9132 §4.5.3 advises against 0.
        negotiation.refresh_at =
            (age != FOR_EVER).then(|| now + Duration::from_secs(u64::from(age.max(10)) * 9 / 10));
        let known = negotiation.sid.is_some();
        for (mine, theirs) in [
            (&mut wish.idle_config, &offered.idle_config),
            (&mut wish.mitigating_config, &offered.mitigating_config),
        ] {
            if let (Some(mine), Some(theirs)) = (mine, theirs) {
                keep_within(mine, theirs);
                adopt_payloads(mine, theirs);
            }
        }
        negotiation.stage = if known {
            Stage::Settled
        } else {
            Stage::Offered
        };
    }

    pub(super) fn handle_config_answer(&mut self, now: Instant, sid: Sid, answer: &Answer) {
        let negotiation = &mut self.negotiation;
        negotiation.stage = Stage::Settled;
        let Some(wish) = negotiation.wish.filter(|_| answer.code.is_success()) else {
            let (code, words) = (answer.code, answer.words());
            tracing::warn!(upstream = &*self.upstream, %code, words, "session configuration refused");
            return;
        };
        negotiation.sid = Some(sid);
        let configured = |set: Option<ConfigParameters>| {
            let defaults = SessionParameters::default();
            set.map_or_else(|| defaults.clone(), |set| defaults.clone().configured(&set))
        };
        negotiation.idle = configured(wish.idle_config);
        negotiation.mitigating = configured(wish.mitigating_config);
        negotiation.applied = None;
        let under_attack = self.is_under_attack();
        self.apply_parameters(now, under_attack);
    }

    pub(super) fn handle_config_silence(&mut self, now: Instant) {
        self.negotiation.stage = Stage::Settled;
        self.negotiation.refresh_at = Some(now + AFTER_SILENCE * 15);
    }
}

/// RFC 9177 §7.2: MAX_PAYLOADS is the same at both ends. Of one that has no wish of its own it becomes the server's.
fn adopt_payloads(mine: &mut ConfigParameters, theirs: &ConfigParameters) {
    let ours = SessionParameters::default().robust.max_payloads;
    let current = theirs.max_payloads.and_then(|theirs| theirs.current_value);
    if mine.max_payloads.is_none()
        && let Some(value) = current.filter(|value| u32::from(*value) != ours)
    {
        mine.max_payloads = Some(Tunable::current(value));
    }
}

/// RFC 9132 §4.5.2: values are within the bounds that the server states. 0 turns heartbeats off whatever the bounds.
fn keep_within(mine: &mut ConfigParameters, theirs: &ConfigParameters) {
    for (mine, theirs) in [
        (&mut mine.heartbeat_interval, theirs.heartbeat_interval),
        (&mut mine.missing_hb_allowed, theirs.missing_hb_allowed),
        (&mut mine.probing_rate, theirs.probing_rate),
        (&mut mine.max_retransmit, theirs.max_retransmit),
        (&mut mine.max_payloads, theirs.max_payloads),
        (&mut mine.non_max_retransmit, theirs.non_max_retransmit),
    ] {
        let (
            Some(Tunable {
                current_value: Some(value),
                ..
            }),
            Some(bounds),
        ) = (mine, theirs)
        else {
            continue;
        };
        if *value > 0 {
            let least = bounds.min_value.unwrap_or(0);
            let most = bounds.max_value.unwrap_or(u16::MAX).max(least);
            *value = (*value).clamp(least, most);
        }
    }
    for (mine, theirs) in [
        (&mut mine.ack_timeout, theirs.ack_timeout),
        (&mut mine.ack_random_factor, theirs.ack_random_factor),
        (&mut mine.non_timeout, theirs.non_timeout),
        (&mut mine.non_receive_timeout, theirs.non_receive_timeout),
        (&mut mine.non_probing_wait, theirs.non_probing_wait),
        (&mut mine.non_partial_timeout, theirs.non_partial_timeout),
    ] {
        let (
            Some(TunableDecimal {
                current_value_decimal: Some(value),
                ..
            }),
            Some(bounds),
        ) = (mine, theirs)
        else {
            continue;
        };
        if let Some(least) = bounds.min_value_decimal.filter(|least| *value < *least) {
            *value = least;
        }
        if let Some(most) = bounds.max_value_decimal.filter(|most| *value > *most) {
            *value = most;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_payloads_is_the_servers_or_within_its_bounds() {
        let theirs = ConfigParameters {
            max_payloads: Some(Tunable {
                min_value: Some(2),
                max_value: Some(20),
                current_value: Some(15),
            }),
            ..ConfigParameters::default()
        };
        let settled = |wish: Option<u16>, theirs: &ConfigParameters| {
            let mut mine = ConfigParameters {
                max_payloads: wish.map(Tunable::current),
                ..ConfigParameters::default()
            };
            keep_within(&mut mine, theirs);
            adopt_payloads(&mut mine, theirs);
            mine.max_payloads.and_then(|mine| mine.current_value)
        };
        assert_eq!(settled(None, &theirs), Some(15));
        assert_eq!(settled(Some(30), &theirs), Some(20));
        assert_eq!(settled(None, &ConfigParameters::default()), None);
    }
}
