//! Telemetry setup of one client (RFC 9244 §7): kept as it was sent; it outlives sessions.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde_json::Value;
use weir_dots_proto::body::{Baseline, Body, PipeCapacity, TelemetrySettings, TelemetrySetup};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::Response;
use weir_dots_proto::{BodyKind, Cuid, Method, Tsid};

use crate::registry::overlap;
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

    pub(crate) fn answer(
        &mut self,
        method: Method,
        tsid: Option<Tsid>,
        body: Option<&Value>,
        prefixes: &[IpNet],
        most: usize,
    ) -> Response {
        match method {
            Method::Get => self.get(tsid),
            Method::Delete => {
                let all = || self.items.keys().copied().collect();
                let tsids: Vec<Tsid> = tsid.map_or_else(all, |tsid| vec![tsid]);
                tsids.into_iter().for_each(|tsid| self.remove(tsid));
                Response::new(Code::DELETED)
            }
            Method::Put => self.put(tsid, body, prefixes, most),
        }
    }

    fn get(&self, tsid: Option<Tsid>) -> Response {
        if let Some(tsid) = tsid
            && !self.items.contains_key(&tsid)
        {
            return Response::error(Code::NOT_FOUND, format!("no setup has tsid {tsid}"));
        }
        let wanted = self
            .items
            .iter()
            .filter(|(other, _)| tsid.is_none_or(|tsid| tsid == **other));
        let telemetry: Vec<TelemetrySettings> = wanted
            .map(|(tsid, item)| TelemetrySettings {
                tsid: Some(*tsid),
                ..item.clone()
            })
            .collect();
        let body = TelemetrySetup {
            telemetry,
            ..TelemetrySetup::default()
        };
        Response::with_body(Code::CONTENT, body.to_json())
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
        let Some(settings) = setup.telemetry.into_iter().next() else {
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
        let known = self.items.contains_key(&tsid);
        if !known && self.items.len() >= most {
            return Response::error(
                Code::SERVICE_UNAVAILABLE,
                "too many settings of this client",
            );
        }
        self.items.insert(tsid, settings);
        self.changed.insert(tsid);
        Response::new(if known { Code::CHANGED } else { Code::CREATED })
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
