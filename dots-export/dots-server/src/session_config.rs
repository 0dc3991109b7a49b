//! Session configuration (RFC 9132 §4.5, RFC 9362): what may be negotiated, and what this session's client has chosen.

use serde_json::Value;
use weir_dots_proto::body::{Body, ConfigParameters, SignalConfig, Tunable, TunableDecimal};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::Response;
use weir_dots_proto::{
    BodyKind, Decimal, Method, RequestFault, Resource, RobustParameters, SessionParameters, Sid,
    check_config_range,
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
        let mut config = match SignalConfig::from_json(body) {
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
        if !agree_on_payloads(&mut config) {
            let text = "max-payloads is the same in peace and under attack";
            return Response::error(Code::UNPROCESSABLE_ENTITY, text);
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
        for (set, mitigating) in [
            (&mut config.mitigating_config, true),
            (&mut config.idle_config, false),
        ] {
            if let Some(set) = set {
                show_robust(set, &self.parameters(mitigating).robust_in_force());
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

/// Whether MAX_PAYLOADS is the same at all times, as RFC 9362 §3 wants it; where one set names it, the other takes it over.
fn agree_on_payloads(config: &mut SignalConfig) -> bool {
    let named = |set: Option<ConfigParameters>| {
        let payloads = set.and_then(|set| set.max_payloads);
        payloads.filter(|payloads| payloads.current_value.is_some())
    };
    let (mitigating, idle) = (named(config.mitigating_config), named(config.idle_config));
    if let Some(payloads) = mitigating.or(idle) {
        for set in [&mut config.mitigating_config, &mut config.idle_config] {
            set.get_or_insert_default().max_payloads = Some(payloads);
        }
    }
    mitigating
        .zip(idle)
        .is_none_or(|(one, other)| one.current_value == other.current_value)
}

/// What the server offers: RFC 9132's defaults, and the ranges of its Figure 20; of RFC 9362, what holds is filled in.
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
        max_payloads: tunable(1, 30, 10),
        non_max_retransmit: tunable(2, 15, 3),
        non_timeout: decimal(100, 3000, 200),
        non_receive_timeout: decimal(200, 12_100, 400),
        non_probing_wait: decimal(500, 60_000, 22_300),
        non_partial_timeout: decimal(500, 60_000, 24_700),
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

/// What holds of RFC 9362: some of it follows from other parameters.
fn show_robust(set: &mut ConfigParameters, robust: &RobustParameters) {
    let integers = [
        (&mut set.max_payloads, Some(robust.max_payloads)),
        (&mut set.non_max_retransmit, robust.non_max_retransmit),
    ];
    for (value, current) in integers {
        if let (Some(value), Some(current)) = (value, current) {
            value.current_value = u16::try_from(current).ok();
        }
    }
    let decimals = [
        (&mut set.non_timeout, robust.non_timeout),
        (&mut set.non_receive_timeout, robust.non_receive_timeout),
        (&mut set.non_probing_wait, robust.non_probing_wait),
        (&mut set.non_partial_timeout, robust.non_partial_timeout),
    ];
    for (value, current) in decimals {
        let hundredths = current.and_then(|wait| i64::try_from(wait.as_millis() / 10).ok());
        if let (Some(value), Some(hundredths)) = (value, hundredths) {
            value.current_value_decimal = Some(Decimal::from_hundredths(hundredths));
        }
    }
}
