//! Telemetry about attacks (RFC 9244 §8): the newest of each tmid that clients send, and what this side observes for those
//! who have asked to be told (a PUT of a target alone, §8.3).

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde_json::Value;
use weir_dots_proto::body::{Body, PreOrOngoingMitigation, Target, Telemetry};
use weir_dots_proto::cbor::MAX_BODY;
use weir_dots_proto::coap::Code;
use weir_dots_proto::server::Response;
use weir_dots_proto::{BodyKind, Cuid, Method, Tmid};

use crate::held::overlap;
use crate::query::Query;
use crate::registry::Registry;
use crate::saved::{Changed, RowKey, SavedRow};
use crate::server::{checked, entitled};

/// Attacks that this side observes at once; of further ones nobody is told.
const MAX_OBSERVED: usize = 4096;
/// Octets by which an item grows when its tmid is told with it.
const NUMBERED: usize = 8;

/// Telemetry by client and tmid.
#[derive(Debug, Default)]
pub(crate) struct TelemetryStore {
    items: BTreeMap<(Cuid, Tmid), Kept>,
    /// What this side observes, by the name of the attack.
    observed: BTreeMap<String, PreOrOngoingMitigation>,
    changed: Changed,
    forgotten: u64,
}

#[derive(Debug)]
struct Kept {
    telemetry: Telemetry,
    /// Its size as `application/dots+cbor`.
    octets: usize,
}

impl Kept {
    fn new(telemetry: Telemetry) -> Self {
        let octets = telemetry.to_cbor().map_or(MAX_BODY, |octets| octets.len());
        Self {
            telemetry,
            octets: octets + NUMBERED,
        }
    }
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
            .map(|((cuid, tmid), kept)| (cuid, *tmid, &kept.telemetry))
    }

    /// Takes in how an attack stands that this side observes; `None`: it is over. Says whether that is news.
    pub(crate) fn observe(&mut self, attack: &str, item: Option<PreOrOngoingMitigation>) -> bool {
        match item {
            None => self.observed.remove(attack).is_some(),
            Some(item) if self.observed.get(attack) == Some(&item) => false,
            Some(item) => {
                let room = self.observed.len() < MAX_OBSERVED || self.observed.contains_key(attack);
                if room {
                    self.observed.insert(attack.to_owned(), item);
                }
                room
            }
        }
    }

    /// Whose telemetry there is.
    pub(crate) fn cuids(&self) -> BTreeSet<Cuid> {
        self.items.keys().map(|(cuid, _)| cuid.clone()).collect()
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
        if asked.method == Method::Delete {
            let tmids: Vec<Tmid> = self
                .of_client(asked.cuid)
                .map(|((_, tmid), _)| *tmid)
                .filter(|tmid| asked.tmid.is_none_or(|asked| asked == *tmid))
                .collect();
            for tmid in tmids {
                self.remove(&(asked.cuid.clone(), tmid));
            }
            return Response::new(Code::DELETED);
        }
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

    /// What the client has told or asked to be told of, as far as it wants to see it; `None` where there is none. `observed`:
    /// with what this side observes of the targets that it has asked about.
    pub(crate) fn shown(
        &self,
        cuid: &Cuid,
        tmid: Option<Tmid>,
        query: &Query,
        observed: bool,
    ) -> Option<Value> {
        let mut items = Vec::new();
        for ((_, other), kept) in self.of_client(cuid) {
            if tmid.is_some_and(|tmid| tmid != *other) {
                continue;
            }
            for item in &kept.telemetry.pre_or_ongoing_mitigation {
                let mut found = if observed && is_subscription(item) {
                    self.observed_of(item)
                } else {
                    Vec::new()
                };
                if found.is_empty() {
                    found.push(item.clone());
                }
                items.extend(found.into_iter().map(|item| PreOrOngoingMitigation {
                    tmid: Some(*other),
                    ..item
                }));
            }
        }
        let mut octets = 0;
        let items: Vec<PreOrOngoingMitigation> = items
            .into_iter()
            .filter(|item| query.takes_telemetry(item))
            .map(|item| query.cut_telemetry(item))
            .take_while(|item| {
                // What is observed may be more than an answer holds; the rest is told when some of it is over.
                octets += Kept::new(single(item.clone())).octets;
                octets <= MAX_BODY
            })
            .collect();
        let body = Telemetry {
            pre_or_ongoing_mitigation: items,
        };
        (!body.pre_or_ongoing_mitigation.is_empty()).then(|| body.to_json())
    }

    /// What is observed of the targets of a subscription, of which the rest of each attack is none of the client's business.
    fn observed_of(&self, subscription: &PreOrOngoingMitigation) -> Vec<PreOrOngoingMitigation> {
        let Some(wanted) = &subscription.target else {
            return Vec::new();
        };
        let concerns = |item: &PreOrOngoingMitigation| {
            let target = item.target.as_ref()?;
            let common = common_prefixes(&target.target_prefix, &wanted.target_prefix);
            let item = PreOrOngoingMitigation {
                target: Some(Target {
                    target_prefix: common,
                    mid_list: Vec::new(),
                    ..target.clone()
                }),
                ..item.clone()
            };
            let any = item
                .target
                .as_ref()
                .is_some_and(|target| !target.target_prefix.is_empty());
            any.then_some(item)
        };
        self.observed.values().filter_map(concerns).collect()
    }

    /// Of two items with a common target the one of the higher tmid stands (RFC 9244 §8.2): it deletes the lower, and a lower
    /// one that comes late is not kept. What asks to be told (§8.3) and what tells are two kinds: a client that tells of an attack
    /// goes on listening.
    fn keep(&mut self, key: (Cuid, Tmid), telemetry: Telemetry, most: usize) {
        let common: Vec<Tmid> = self
            .of_client(&key.0)
            .filter(|((_, tmid), other)| {
                *tmid != key.1
                    && is_asking(&other.telemetry) == is_asking(&telemetry)
                    && have_common_target(&other.telemetry, &telemetry)
            })
            .map(|((_, tmid), _)| *tmid)
            .collect();
        if common.iter().any(|tmid| *tmid > key.1) {
            self.remove(&key);
            return;
        }
        for tmid in common {
            self.remove(&(key.0.clone(), tmid));
        }
        let kept = Kept::new(telemetry);
        self.remove(&key);
        while let Some(oldest) = self.oldest_in_the_way(&key.0, kept.octets, most) {
            self.forgotten += 1;
            self.remove(&oldest);
        }
        self.changed.insert(RowKey::Telemetry(key.0.clone(), key.1));
        self.items.insert(key, kept);
    }

    /// The oldest item where there are too many, or more octets than an answer to a GET of all holds.
    fn oldest_in_the_way(&self, cuid: &Cuid, more: usize, most: usize) -> Option<(Cuid, Tmid)> {
        let (count, octets) = self
            .of_client(cuid)
            .fold((0, more), |(count, octets), (_, kept)| {
                (count + 1, octets + kept.octets)
            });
        let full = count >= most || octets > MAX_BODY;
        let mut oldest = self.of_client(cuid).map(|(key, _)| key.clone());
        oldest.next().filter(|_| full)
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
        let kept = self.items.get(key)?;
        Some(SavedRow::Telemetry {
            cuid: key.0.clone(),
            tmid: key.1,
            telemetry: Box::new(kept.telemetry.clone()),
        })
    }

    /// Takes an item back after a restart.
    pub(crate) fn restore(&mut self, key: (Cuid, Tmid), telemetry: Telemetry) {
        self.items.insert(key, Kept::new(telemetry));
    }

    fn of_client(&self, cuid: &Cuid) -> impl Iterator<Item = (&(Cuid, Tmid), &Kept)> {
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

fn single(item: PreOrOngoingMitigation) -> Telemetry {
    Telemetry {
        pre_or_ongoing_mitigation: vec![item],
    }
}

/// A target alone asks to be told (RFC 9244 §8.3).
fn is_subscription(item: &PreOrOngoingMitigation) -> bool {
    *item
        == PreOrOngoingMitigation {
            target: item.target.clone(),
            tmid: item.tmid,
            ..PreOrOngoingMitigation::default()
        }
}

/// Whether all of it asks to be told.
fn is_asking(telemetry: &Telemetry) -> bool {
    telemetry
        .pre_or_ongoing_mitigation
        .iter()
        .all(is_subscription)
}

/// Of each pair that overlaps the narrower.
fn common_prefixes(a: &[IpNet], b: &[IpNet]) -> Vec<IpNet> {
    let narrower = |a: &IpNet, b: &IpNet| match (a.contains(b), b.contains(a)) {
        (true, _) => Some(*b),
        (_, true) => Some(*a),
        _ => None,
    };
    let common: BTreeSet<IpNet> = a
        .iter()
        .flat_map(|a| b.iter().filter_map(move |b| narrower(a, b)))
        .collect();
    common.into_iter().collect()
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
