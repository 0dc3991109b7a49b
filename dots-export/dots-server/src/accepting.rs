//! Accept-lists that let an attack through (RFC 9132 §4.4.1.3, conflict-cause 2).
//!
//! Where the attack comes from a client says in its telemetry (top talkers) and in the hints of its requests (`source-prefix`,
//! RFC 9066); forged sources prove nothing. The mitigation stands, and its status names the filters in its way.

use std::time::Instant;

use ipnet::IpNet;
use weir_dots_proto::body::{Body, ConflictAcl, Scope, Telemetry};
use weir_dots_proto::{Cuid, Mid};

use crate::server::Server;

/// Sources that are looked at in one request; what attacks most stands first.
const MAX_SOURCES: usize = 64;

impl Server {
    /// Holds what telemetry says of an attack's sources against the client's accept-lists.
    pub(crate) fn look_into_telemetry(
        &mut self,
        now: Instant,
        (client, cuid): (&str, &Cuid),
        body: Option<&serde_json::Value>,
    ) {
        let Some(told) = body.and_then(|body| Telemetry::from_json(body).ok()) else {
            return;
        };
        let sources = sources_of(&told);
        if sources.is_empty() {
            return;
        }
        let filtering: Vec<(Mid, Scope)> = self
            .registry
            .filtering(cuid)
            .filter(|(mid, protected)| is_about(&told, *mid, protected))
            .map(|(mid, protected)| (mid, protected.clone()))
            .collect();
        for (mid, protected) in filtering {
            self.look_into(now, (client, cuid), mid, (&sources, &protected));
        }
    }

    /// The same for the hints of a request that was granted.
    pub(crate) fn look_into_hints(
        &mut self,
        now: Instant,
        (client, cuid): (&str, &Cuid),
        mid: Mid,
    ) {
        let mut filtering = self.registry.filtering(cuid);
        let found = filtering.find(|(other, _)| *other == mid);
        let Some(protected) = found.map(|(_, protected)| protected.clone()) else {
            return;
        };
        drop(filtering);
        let sources: Vec<IpNet> = protected.source_prefix.clone();
        if !sources.is_empty() {
            self.look_into(now, (client, cuid), mid, (&sources, &protected));
        }
    }

    fn look_into(
        &mut self,
        now: Instant,
        (client, cuid): (&str, &Cuid),
        mid: Mid,
        (sources, protected): (&[IpNet], &Scope),
    ) {
        let targets = &protected.target_prefix;
        let sources = sources.get(..MAX_SOURCES).unwrap_or(sources);
        let names = self.data.accepting(client, cuid, sources, targets);
        let accepting = names.into_iter().map(|acl_name| ConflictAcl {
            acl_name,
            acl_type: None,
        });
        let key = (cuid.clone(), mid);
        self.registry
            .handle_accepting(now, &key, accepting.collect());
    }
}

/// Sources that are not forged.
fn sources_of(told: &Telemetry) -> Vec<IpNet> {
    let items = told.pre_or_ongoing_mitigation.iter();
    let details = items.flat_map(|item| &item.attack_detail);
    let talkers = details
        .filter_map(|detail| detail.top_talker.as_ref())
        .flat_map(|talkers| &talkers.talker);
    talkers
        .filter(|talker| talker.spoofed_status != Some(true))
        .map(|talker| talker.source_prefix)
        .take(MAX_SOURCES)
        .collect()
}

/// Whether telemetry is about what a mitigation protects: it names its `mid`, or a target within it.
fn is_about(told: &Telemetry, mid: Mid, protected: &Scope) -> bool {
    let items = told.pre_or_ongoing_mitigation.iter();
    items.filter_map(|item| item.target.as_ref()).any(|target| {
        target.mid_list.contains(&mid)
            || target
                .target_prefix
                .iter()
                .any(|one| protected.target_prefix.iter().any(|own| own.contains(one)))
    })
}
