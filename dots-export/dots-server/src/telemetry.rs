//! Telemetry that clients send about attacks (RFC 9244 §8): the newest of each tmid.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::Value;
use weir_dots_proto::body::{Body, Target, Telemetry};
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::Response;
use weir_dots_proto::{BodyKind, Cuid, Method, Tmid};

use crate::held::overlap;
use crate::query::Query;
use crate::registry::Registry;
use crate::saved::{Changed, RowKey, SavedRow};
use crate::server::{checked, entitled};

/// Telemetry by client and tmid.
#[derive(Debug, Default)]
pub(crate) struct TelemetryStore {
    items: BTreeMap<(Cuid, Tmid), Telemetry>,
    changed: Changed,
    forgotten: u64,
}

/// A request for telemetry.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: Method,
    pub(crate) cuid: &'a Cuid,
    pub(crate) tmid: Option<Tmid>,
    pub(crate) body: Option<&'a Value>,
}

impl TelemetryStore {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Cuid, Tmid, &Telemetry)> {
        self.items
            .iter()
            .map(|((cuid, tmid), telemetry)| (cuid, *tmid, telemetry))
    }

    pub(crate) fn holds_any(&self, cuid: &Cuid) -> bool {
        self.of_client(cuid).next().is_some()
    }

    /// Answers a PUT or a DELETE of a client that may speak for `prefixes`.
    pub(crate) fn answer(
        &mut self,
        asked: &Asked<'_>,
        prefixes: &[IpNet],
        registry: &Registry,
        most: usize,
    ) -> Response {
        match asked.method {
            Method::Get | Method::Delete => {
                let tmids: Vec<Tmid> = self
                    .of_client(asked.cuid)
                    .map(|((_, tmid), _)| *tmid)
                    .filter(|tmid| asked.tmid.is_none_or(|asked| asked == *tmid))
                    .collect();
                for tmid in tmids {
                    self.remove(&(asked.cuid.clone(), tmid));
                }
                Response::new(Code::DELETED)
            }
            Method::Put => {
                let Some(tmid) = asked.tmid else {
                    return Response::error(Code::BAD_REQUEST, "`tmid` is missing");
                };
                match read(asked, prefixes, registry) {
                    Err(refused) => *refused,
                    Ok(telemetry) => {
                        self.keep((asked.cuid.clone(), tmid), telemetry, most);
                        // RFC 9244 §8.2: also for a new tmid.
                        Response::new(Code::CHANGED)
                    }
                }
            }
        }
    }

    /// What the client has told or asked to be told of, as far as it wants to see it; `None` where there is none.
    pub(crate) fn shown(&self, cuid: &Cuid, tmid: Option<Tmid>, query: &Query) -> Option<Value> {
        let items: Vec<_> = self
            .of_client(cuid)
            .filter(|((_, other), _)| tmid.is_none_or(|tmid| tmid == *other))
            .flat_map(|((_, tmid), telemetry)| {
                telemetry.pre_or_ongoing_mitigation.iter().map(|item| {
                    let mut item = item.clone();
                    item.tmid = Some(*tmid);
                    item
                })
            })
            .filter(|item| query.takes_telemetry(item))
            .map(|item| query.cut_telemetry(item))
            .collect();
        let body = Telemetry {
            pre_or_ongoing_mitigation: items,
        };
        (!body.pre_or_ongoing_mitigation.is_empty()).then(|| body.to_json())
    }

    /// Of two items with a common target the one of the higher tmid stands (RFC 9244 §8.2): it deletes the lower, and a lower
    /// one that comes late is not kept.
    fn keep(&mut self, key: (Cuid, Tmid), telemetry: Telemetry, most: usize) {
        let common: Vec<Tmid> = self
            .of_client(&key.0)
            .filter(|((_, tmid), other)| *tmid != key.1 && have_common_target(other, &telemetry))
            .map(|((_, tmid), _)| *tmid)
            .collect();
        if common.iter().any(|tmid| *tmid > key.1) {
            self.remove(&key);
            return;
        }
        for tmid in common {
            self.remove(&(key.0.clone(), tmid));
        }
        if !self.items.contains_key(&key) && self.of_client(&key.0).count() >= most {
            let oldest = self.of_client(&key.0).next().map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.forgotten += 1;
                self.remove(&oldest);
            }
        }
        self.changed.insert(RowKey::Telemetry(key.0.clone(), key.1));
        self.items.insert(key, telemetry);
    }

    fn remove(&mut self, key: &(Cuid, Tmid)) {
        if self.items.remove(key).is_some() {
            self.changed.insert(RowKey::Telemetry(key.0.clone(), key.1));
        }
    }

    /// Items that gave way to newer ones because a client had too many.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The next row that has changed.
    pub(crate) fn poll_changed(&mut self) -> Option<RowKey> {
        self.changed.pop_first()
    }

    /// An item as a row; `None` where it is gone.
    pub(crate) fn saved(&self, key: &(Cuid, Tmid)) -> Option<SavedRow> {
        let telemetry = self.items.get(key)?;
        Some(SavedRow::Telemetry {
            cuid: key.0.clone(),
            tmid: key.1,
            telemetry: Box::new(telemetry.clone()),
        })
    }

    /// Takes an item back after a restart.
    pub(crate) fn restore(&mut self, key: (Cuid, Tmid), telemetry: Telemetry) {
        self.items.insert(key, telemetry);
    }

    fn of_client(&self, cuid: &Cuid) -> impl Iterator<Item = (&(Cuid, Tmid), &Telemetry)> {
        self.items
            .range((cuid.clone(), Tmid(0))..=(cuid.clone(), Tmid(u32::MAX)))
    }
}

fn read(
    asked: &Asked<'_>,
    prefixes: &[IpNet],
    registry: &Registry,
) -> Result<Telemetry, Box<Response>> {
    let body = checked(BodyKind::Telemetry, asked.body)?;
    let bad = |text: String| Box::new(Response::error(Code::BAD_REQUEST, text));
    let telemetry = Telemetry::from_json(body).map_err(|error| bad(error.to_string()))?;
    for target in targets(&telemetry) {
        entitled(&target.target_prefix, prefixes).map_err(bad)?;
        if let Some(mid) = target
            .mid_list
            .iter()
            .find(|mid| !registry.contains(asked.cuid, **mid))
        {
            return Err(bad(format!("no mitigation has mid {mid}")));
        }
    }
    Ok(telemetry)
}

fn targets(telemetry: &Telemetry) -> impl Iterator<Item = &Target> {
    telemetry
        .pre_or_ongoing_mitigation
        .iter()
        .filter_map(|item| item.target.as_ref())
}

/// RFC 9244 §7.3.1: a common address, prefix, name, URI or alias; here also a common mitigation.
fn have_common_target(a: &Telemetry, b: &Telemetry) -> bool {
    let common = |a: &Target, b: &Target| {
        let any = |a: &[String], b: &[String]| a.iter().any(|name| b.contains(name));
        overlap(&a.target_prefix, &b.target_prefix)
            || any(&a.target_fqdn, &b.target_fqdn)
            || any(&a.target_uri, &b.target_uri)
            || any(&a.alias_name, &b.alias_name)
            || a.mid_list.iter().any(|mid| b.mid_list.contains(mid))
    };
    targets(a).any(|a| targets(b).any(|b| common(a, b)))
}
