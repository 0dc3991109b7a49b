//! Telemetry setup of one client (RFC 9244 §7): kept as it was sent; it outlives sessions.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_dots_proto::body::{Body, TelemetrySettings, TelemetrySetup};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::Response;
use weir_dots_proto::{BodyKind, Method, Tsid};

use crate::server::checked;

/// Settings by tsid.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    items: BTreeMap<Tsid, TelemetrySettings>,
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
        most: usize,
    ) -> Response {
        match method {
            Method::Get => self.get(tsid),
            Method::Delete => {
                match tsid {
                    Some(tsid) => drop(self.items.remove(&tsid)),
                    None => self.items.clear(),
                }
                Response::new(Code::DELETED)
            }
            Method::Put => self.put(tsid, body, most),
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

    fn put(&mut self, tsid: Option<Tsid>, body: Option<&Value>, most: usize) -> Response {
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
        let known = self.items.contains_key(&tsid);
        if !known && self.items.len() >= most {
            return Response::error(
                Code::SERVICE_UNAVAILABLE,
                "too many settings of this client",
            );
        }
        self.items.insert(tsid, settings);
        Response::new(if known { Code::CHANGED } else { Code::CREATED })
    }
}
