//! Telemetry setup of one client (RFC 9244 §7): kept as it was sent; it outlives sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;
use weir_dots_proto::body::{
    Baseline, Body, MeasurementInterval, MeasurementSample, PipeCapacity, TelemetryParameters,
    TelemetrySettings, TelemetrySetup, UnitClass, UnitClasses, UnitConfig,
};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::Response;
use weir_dots_proto::{BodyKind, Cuid, Decimal, Method, Tsid};

use crate::held::overlap;
use crate::query::SUPPORTED;
use crate::saved::SavedRow;
use crate::server::{checked, entitled};

/// Settings by tsid.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    items: BTreeMap<Tsid, TelemetrySettings>,
    changed: BTreeSet<Tsid>,
}

impl Setup {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Answers a PUT or a DELETE.
    pub(crate) fn answer(
        &mut self,
        method: Method,
        tsid: Option<Tsid>,
        body: Option<&Value>,
        prefixes: &[IpNet],
        most: usize,
    ) -> Response {
        if method == Method::Delete {
            let all = || self.items.keys().copied().collect();
            let tsids: Vec<Tsid> = tsid.map_or_else(all, |tsid| vec![tsid]);
            tsids.into_iter().for_each(|tsid| self.remove(tsid));
            return Response::new(Code::DELETED);
        }
        self.put(tsid, body, prefixes, most)
    }

    /// What is set up, and for all of it also what may be; `None` where nothing of that tsid is.
    pub(crate) fn shown(&self, tsid: Option<Tsid>) -> Option<Value> {
        if let Some(tsid) = tsid {
            let item = self.items.get(&tsid)?;
            let body = TelemetrySetup {
                telemetry: vec![numbered(tsid, item)],
                ..TelemetrySetup::default()
            };
            return Some(body.to_json());
        }
        let items = self.items.iter();
        let body = TelemetrySetup {
            telemetry: items.map(|(tsid, item)| numbered(*tsid, item)).collect(),
            ..offered()
        };
        Some(body.to_json())
    }

    /// Least time between two telemetry notifications.
    pub(crate) fn notify_interval(&self) -> Duration {
        let seconds = self
            .config()
            .and_then(|config| config.telemetry_notify_interval);
        Duration::from_secs(seconds.unwrap_or(0).into())
    }

    /// Whether the client wants telemetry of the server (RFC 9244 §9.2).
    pub(crate) fn wants_server_telemetry(&self) -> bool {
        self.config()
            .is_some_and(|config| config.server_originated_telemetry == Some(true))
    }

    fn config(&self) -> Option<&TelemetryParameters> {
        self.items
            .values()
            .find_map(|item| item.current_config.as_ref())
    }

    fn put(
        &mut self,
        tsid: Option<Tsid>,
        body: Option<&Value>,
        prefixes: &[IpNet],
        most: usize,
    ) -> Response {
        let Some(tsid) = tsid else {
            return Response::error(Code::BAD_REQUEST, "`tsid` is missing");
        };
        let body = match checked(BodyKind::TelemetrySetup, body) {
            Ok(body) => body,
            Err(refused) => return *refused,
        };
        let setup = match TelemetrySetup::from_json(body) {
            Ok(setup) => setup,
            Err(error) => return Response::error(Code::BAD_REQUEST, error.to_string()),
        };
        let Some(mut settings) = setup.telemetry.into_iter().next() else {
            return Response::error(Code::BAD_REQUEST, "there is nothing to set up");
        };
        for baseline in &settings.baseline {
            if let Err(text) = entitled(&baseline.target_prefix, prefixes) {
                return Response::error(Code::BAD_REQUEST, text);
            }
        }
        let overlapped: Vec<Tsid> = self
            .items
            .iter()
            .filter(|(other, old)| **other != tsid && overlaps(old, &settings))
            .map(|(other, _)| *other)
            .collect();
        if overlapped.iter().any(|other| *other > tsid) {
            return Response::error(Code::BAD_REQUEST, "a higher tsid has overridden this");
        }
        for other in overlapped {
            self.remove(other);
        }
        // RFC 9244 §7.2.1: a link without capacity is no more.
        settings
            .total_pipe_capacity
            .retain(|link| link.capacity != Some(0));
        let known = self.items.contains_key(&tsid);
        if !known && self.items.len() >= most || !self.has_room(tsid, &settings) {
            return Response::error(
                Code::SERVICE_UNAVAILABLE,
                "too many settings of this client",
            );
        }
        self.items.insert(tsid, settings);
        self.changed.insert(tsid);
        Response::new(if known { Code::CHANGED } else { Code::CREATED })
    }

    /// Whether all settings together are still an answer to a GET.
    fn has_room(&self, tsid: Tsid, settings: &TelemetrySettings) -> bool {
        let kept = self.items.iter().filter(|(other, _)| **other != tsid);
        let body = TelemetrySetup {
            telemetry: kept
                .map(|(tsid, item)| numbered(*tsid, item))
                .chain([numbered(tsid, settings)])
                .collect(),
            ..offered()
        };
        body.to_cbor().is_ok()
    }

    fn remove(&mut self, tsid: Tsid) {
        if self.items.remove(&tsid).is_some() {
            self.changed.insert(tsid);
        }
    }

    /// What is set up.
    pub(crate) fn tsids(&self) -> impl Iterator<Item = Tsid> {
        self.items.keys().copied()
    }

    /// The baselines of an item.
    pub(crate) fn baselines(&self, tsid: Tsid) -> &[Baseline] {
        let item = self.items.get(&tsid);
        item.map_or(&[], |item| item.baseline.as_slice())
    }

    /// The next item that has changed.
    pub(crate) fn poll_changed(&mut self) -> Option<Tsid> {
        self.changed.pop_first()
    }

    /// An item as a row; `None` where it is gone.
    pub(crate) fn saved(&self, cuid: &Cuid, tsid: Tsid) -> Option<SavedRow> {
        let settings = self.items.get(&tsid)?;
        Some(SavedRow::Setup {
            cuid: cuid.clone(),
            tsid,
            settings: Box::new(settings.clone()),
        })
    }

    /// Takes an item back after a restart.
    pub(crate) fn restore(&mut self, tsid: Tsid, settings: TelemetrySettings) {
        self.items.insert(tsid, settings);
    }
}

fn numbered(tsid: Tsid, settings: &TelemetrySettings) -> TelemetrySettings {
    TelemetrySettings {
        tsid: Some(tsid),
        ..settings.clone()
    }
}

/// What may be set up: all that RFC 9244 §7.1 has.
fn offered() -> TelemetrySetup {
    let percentile = |hundredths| Some(Decimal::from_hundredths(hundredths));
    let unit = |unit| UnitConfig {
        unit,
        unit_status: true,
    };
    TelemetrySetup {
        max_config_values: Some(TelemetryParameters {
            measurement_interval: Some(MeasurementInterval::Month),
            measurement_sample: Some(MeasurementSample::Hour),
            low_percentile: percentile(10_000),
            mid_percentile: percentile(10_000),
            high_percentile: percentile(10_000),
            server_originated_telemetry: Some(true),
            telemetry_notify_interval: Some(3600),
            ..TelemetryParameters::default()
        }),
        min_config_values: Some(TelemetryParameters {
            measurement_interval: Some(MeasurementInterval::FiveMinutes),
            measurement_sample: Some(MeasurementSample::Second),
            low_percentile: percentile(0),
            mid_percentile: percentile(0),
            high_percentile: percentile(0),
            telemetry_notify_interval: Some(1),
            ..TelemetryParameters::default()
        }),
        supported_unit_classes: Some(UnitClasses {
            unit_config: vec![
                unit(UnitClass::PacketPs),
                unit(UnitClass::BitPs),
                unit(UnitClass::BytePs),
            ],
        }),
        supported_query_type: SUPPORTED.to_vec(),
        telemetry: Vec::new(),
    }
}

/// Whether of two settings the one of the higher tsid overrides the other (RFC 9244): configurations always (§7.1.2), pipes
/// by link and unit (§7.2.1), baselines by target (§7.3.1), where one without a target is of the whole domain.
fn overlaps(a: &TelemetrySettings, b: &TelemetrySettings) -> bool {
    let same_link = |a: &PipeCapacity, b: &PipeCapacity| a.link_id == b.link_id && a.unit == b.unit;
    (a.current_config.is_some() && b.current_config.is_some())
        || any_pair(&a.total_pipe_capacity, &b.total_pipe_capacity, same_link)
        || any_pair(&a.baseline, &b.baseline, have_common_target)
}

fn have_common_target(a: &Baseline, b: &Baseline) -> bool {
    let of_domain = |baseline: &Baseline| {
        baseline.target_prefix.is_empty()
            && baseline.target_fqdn.is_empty()
            && baseline.target_uri.is_empty()
            && baseline.alias_name.is_empty()
    };
    (of_domain(a) && of_domain(b))
        || overlap(&a.target_prefix, &b.target_prefix)
        || any_pair(&a.target_fqdn, &b.target_fqdn, String::eq)
        || any_pair(&a.target_uri, &b.target_uri, String::eq)
        || any_pair(&a.alias_name, &b.alias_name, String::eq)
}

fn any_pair<T>(a: &[T], b: &[T], holds: impl Fn(&T, &T) -> bool) -> bool {
    a.iter().any(|a| b.iter().any(|b| holds(a, b)))
}
