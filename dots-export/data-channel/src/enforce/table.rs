//! The table as a transaction in the JSON of `libnftables-json(5)`.
//!
//! ```text
//! table inet weir_filters {
//!     counter c1 { … }
//!     chain prerouting {                        # before the reassembly of fragments
//!         ip daddr { 192.0.2.0/24 } jump k1     # each client's behind its prefixes
//!     }
//!     chain k1 { ip saddr 198.51.100.0/24 udp sport 53 goto a1; … }
//!     chain a1 { counter name "c1" limit rate over … drop; meta mark set … accept }
//! }
//! ```

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::{Value, json};
use weir_dots_proto::Cuid;

use super::EnforceSettings;
use super::rules::{self, Expression};
use crate::handle::InForce;
use crate::model::{Acl, Actions, Capabilities, Forwarding};

/// Before the reassembly of fragments (-400).
const PRIORITY: i32 = -450;

/// An entry of a filter, whose matches are counted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Counted {
    pub(super) cuid: Cuid,
    pub(super) acl: String,
    pub(super) ace: String,
}

/// A table to be put.
pub(super) struct Table {
    pub(super) transaction: Vec<u8>,
    /// Which entry each counter is of.
    pub(super) counters: BTreeMap<String, Counted>,
}

struct Commands<'a> {
    table: &'a str,
    commands: Vec<Value>,
}

/// The table as a whole; what was there of that name is gone.
pub(super) fn anew(settings: &EnforceSettings, in_force: &[InForce]) -> Table {
    let mut all = begun(&settings.table);
    all.table("add");
    let base =
        json!({"type": "filter", "hook": "prerouting", "prio": PRIORITY, "policy": "accept"});
    all.chain("prerouting", &base);
    let mut counters = BTreeMap::new();
    for (index, client) in in_force.iter().enumerate() {
        let chain = format!("k{}", index + 1);
        all.chain(&chain, &json!({}));
        for prefixes in rules::destinations(&client.prefixes.0) {
            all.rule(
                "prerouting",
                vec![prefixes, json!({"jump": {"target": chain}})],
            );
        }
        for acl in client.acls.iter().filter(|acl| is_enforceable(acl)) {
            for ace in &acl.aces {
                let number = counters.len() + 1;
                let (counter, action) = (format!("c{number}"), format!("a{number}"));
                all.push("add", "counter", all.named(&counter));
                all.chain(&action, &json!({}));
                for rule in action_rules(&counter, ace.actions, settings.accepted_mark) {
                    all.rule(&action, rule);
                }
                for mut matches in rules::of_ace(acl.kind, &ace.matches) {
                    matches.push(json!({"goto": {"target": action}}));
                    all.rule(&chain, matches);
                }
                let counted = Counted {
                    cuid: client.cuid.clone(),
                    acl: acl.name.clone(),
                    ace: ace.name.clone(),
                };
                counters.insert(counter, counted);
            }
        }
    }
    Table {
        transaction: all.finish(),
        counters,
    }
}

/// Whether all that a filter matches is matched here. One that would match more than it says is left out; a server that
/// tells no more than [`Capabilities::mandatory`] takes none such.
fn is_enforceable(acl: &Acl) -> bool {
    let checked = Capabilities::mandatory().check(acl);
    if let Err(fault) = &checked {
        tracing::warn!(%fault, "a filter is not enforced");
    }
    checked.is_ok()
}

/// No table of that name.
pub(super) fn removed(table: &str) -> Vec<u8> {
    begun(table).finish()
}

/// A transaction after which there is no table; it is made before, so that it can be deleted.
fn begun(table: &str) -> Commands<'_> {
    let mut all = Commands {
        table,
        commands: Vec::new(),
    };
    all.table("add");
    all.table("delete");
    all
}

/// What becomes of a packet that an entry matches.
fn action_rules(counter: &str, actions: Actions, mark: u32) -> Vec<Vec<Expression>> {
    let counted = json!({"counter": counter});
    if actions.forwarding == Forwarding::Drop {
        return vec![vec![counted, json!({"drop": null})]];
    }
    let mut rules = vec![vec![counted]];
    if let Some(limit) = actions.rate_limit {
        rules.push(match limit.whole_bytes_per_second() {
            // Less than a byte in a second is nothing.
            0 => vec![json!({"drop": null})],
            rate => vec![over(rate), json!({"drop": null})],
        });
    }
    let meta = json!({"meta": {"key": "mark"}});
    let marked = json!({"mangle": {"key": meta, "value": {"|": [meta, mark]}}});
    rules.push(vec![marked, json!({"accept": null})]);
    rules
}

/// Matches what is over a rate; a quarter of a second of it may come at once, and at least the largest packet, or that
/// would never pass.
fn over(rate: u64) -> Expression {
    // What the kernel's arithmetic holds: a limit of 4 Gbyte in a second and more is none in practice.
    let rate = rate.min(u64::from(u32::MAX));
    json!({"limit": {
        "rate": rate, "rate_unit": "bytes", "per": "second",
        "burst": (rate / 4).max(65_536), "burst_unit": "bytes", "inv": true,
    }})
}

impl Commands<'_> {
    fn named(&self, name: &str) -> Value {
        json!({"family": "inet", "table": self.table, "name": name})
    }

    fn table(&mut self, verb: &str) {
        let object = json!({"family": "inet", "name": self.table});
        self.push(verb, "table", object);
    }

    fn chain(&mut self, name: &str, more: &Value) {
        let mut object = self.named(name);
        if let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) {
            object.extend(more.clone());
        }
        self.push("add", "chain", object);
    }

    fn rule(&mut self, chain: &str, expressions: Vec<Expression>) {
        let rule =
            json!({"family": "inet", "table": self.table, "chain": chain, "expr": expressions});
        self.push("add", "rule", rule);
    }

    fn push(&mut self, verb: &str, kind: &str, object: Value) {
        self.commands.push(json!({verb: {kind: object}}));
    }

    fn finish(self) -> Vec<u8> {
        json!({"nftables": self.commands}).to_string().into_bytes()
    }
}

/// A prefix of the JSON of nftables.
pub(super) fn prefix(network: &IpNet) -> Value {
    json!({"prefix": {"addr": network.network().to_string(), "len": network.prefix_len()}})
}
