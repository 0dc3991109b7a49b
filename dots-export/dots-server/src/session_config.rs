//! Session configuration (RFC 9132 §4.5): what may be negotiated, and what this session's client has chosen.

use serde_json::Value;
use weir_dots_proto::body::{Body, ConfigParameters, SignalConfig, Tunable, TunableDecimal};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::Response;
use weir_dots_proto::{
    BodyKind, Decimal, Method, RequestFault, Resource, SessionParameters, Sid, check_config_range,
};

use crate::server::checked;

/// Seconds for which a client may rely on its configuration.
const MAX_AGE: u32 = 3600;

/// The configuration of one session.
#[derive(Debug, Default)]
pub(crate) struct SessionConfig {
    chosen: Option<(Sid, SignalConfig)>,
}

impl SessionConfig {
    /// Answers a PUT or a DELETE.
    pub(crate) fn answer(
        &mut self,
        method: Method,
        sid: Option<Sid>,
        body: Option<&Value>,
    ) -> Response {
        if method == Method::Delete {
            self.chosen = None;
            return Response::new(Code::DELETED);
        }
        self.put(sid, body)
    }

    pub(crate) fn is_chosen(&self) -> bool {
        self.chosen.is_some()
    }

    /// What holds now: of two sets, one is for times of mitigation (RFC 9132 §4.5).
    pub(crate) fn parameters(&self, mitigating: bool) -> SessionParameters {
        let chosen = self.chosen.as_ref().and_then(|(_, config)| {
            if mitigating {
                config.mitigating_config
            } else {
                config.idle_config
            }
        });
        let defaults = SessionParameters::default();
        match chosen {
            Some(chosen) => defaults.configured(&chosen),
            None => defaults,
        }
    }

    fn put(&mut self, sid: Option<Sid>, body: Option<&Value>) -> Response {
        let Some(sid) = sid else {
            return Response::error(Code::BAD_REQUEST, "`sid` is missing");
        };
        let body = match checked(BodyKind::SignalConfig, body) {
            Ok(body) => body,
            Err(refused) => return *refused,
        };
        let config = match SignalConfig::from_json(body) {
            Ok(config) => config,
            Err(error) => return Response::error(Code::BAD_REQUEST, error.to_string()),
        };
        match check_config_range(&config, &limits()) {
            Err(RequestFault::Unprocessable(text)) => {
                return Response::error(Code::UNPROCESSABLE_ENTITY, text);
            }
            Err(RequestFault::BadRequest(text)) => return Response::error(Code::BAD_REQUEST, text),
            Ok(()) => {}
        }
        let known = matches!(&self.chosen, Some((known, _)) if *known == sid);
        if matches!(&self.chosen, Some((known, _)) if *known > sid) {
            return Response::error(
                Code::BAD_REQUEST,
                "a newer session configuration is in force",
            );
        }
        self.chosen = Some((sid, config));
        Response::new(if known { Code::CHANGED } else { Code::CREATED })
    }

    /// What may be chosen, and what is; `None` where nothing of that sid was.
    pub(crate) fn shown(&self, sid: Option<Sid>) -> Option<Value> {
        if sid.is_some() && self.chosen.as_ref().map(|(known, _)| *known) != sid {
            return None;
        }
        let mut config = limits();
        if let Some((_, chosen)) = &self.chosen {
            let sets = [
                (&mut config.mitigating_config, chosen.mitigating_config),
                (&mut config.idle_config, chosen.idle_config),
            ];
            for (set, chosen) in sets {
                if let (Some(set), Some(chosen)) = (set, chosen) {
                    choose(set, &chosen);
                }
            }
        }
        Some(config.to_json())
    }
}

/// For how long an answer to a GET holds (RFC 9132 §4.5.3, RFC 9244 §5.4); of what changes by itself nothing is said.
pub(crate) fn max_age(resource: &Resource) -> Option<u32> {
    matches!(
        resource,
        Resource::Config { .. } | Resource::TelemetrySetup { .. }
    )
    .then_some(MAX_AGE)
}

/// What the server offers: RFC 9132's defaults, and the ranges of its Figure 20.
fn limits() -> SignalConfig {
    let tunable = |min, max, current| {
        Some(Tunable {
            min_value: Some(min),
            max_value: Some(max),
            current_value: Some(current),
        })
    };
    let decimal = |min: u32, max: u32, current: u32| {
        let of = |hundredths: u32| Some(Decimal::from_hundredths(hundredths.into()));
        Some(TunableDecimal {
            min_value_decimal: of(min),
            max_value_decimal: of(max),
            current_value_decimal: of(current),
        })
    };
    let set = ConfigParameters {
        heartbeat_interval: tunable(15, 240, 30),
        missing_hb_allowed: tunable(3, 20, 15),
        probing_rate: tunable(5, 20, 5),
        max_retransmit: tunable(2, 15, 3),
        ack_timeout: decimal(100, 3000, 200),
        ack_random_factor: decimal(110, 400, 150),
        ..ConfigParameters::default()
    };
    SignalConfig {
        mitigating_config: Some(set),
        idle_config: Some(set),
    }
}

fn choose(set: &mut ConfigParameters, chosen: &ConfigParameters) {
    let integers = [
        (&mut set.heartbeat_interval, chosen.heartbeat_interval),
        (&mut set.missing_hb_allowed, chosen.missing_hb_allowed),
        (&mut set.probing_rate, chosen.probing_rate),
        (&mut set.max_retransmit, chosen.max_retransmit),
    ];
    for (value, chosen) in integers {
        if let (Some(value), Some(current)) =
            (value, chosen.and_then(|chosen| chosen.current_value))
        {
            value.current_value = Some(current);
        }
    }
    let decimals = [
        (&mut set.ack_timeout, chosen.ack_timeout),
        (&mut set.ack_random_factor, chosen.ack_random_factor),
    ];
    for (value, chosen) in decimals {
        if let (Some(value), Some(current)) = (
            value,
            chosen.and_then(|chosen| chosen.current_value_decimal),
        ) {
            value.current_value_decimal = Some(current);
        }
    }
}
