//! The table as transactions in the JSON of `libnftables-json(5)`.
//!
//! ```text
//! table inet weir_dots {
//!     counter m7 { … }
//!     chain prerouting {                     # hook prerouting, before connection tracking
//!         meta mark & 0x40000000 != 0 accept  # what a filter of the data channel has accepted
//!         ip saddr { … } accept              # spared sources
//!         jump mitigations
//!     }
//!     chain mitigations {                    # a look-up for each family, however many mitigations there are
//!         ip daddr vmap { 192.0.2.0/24 : jump m7, … }
//!     }
//!     chain m7 { meta l4proto udp th dport 53 jump drop7 }
//!     chain drop7 { limit rate over … counter name "m7" drop }
//! }
//! ```

use serde_json::{Value, json};
use weir_dots_proto::body::Scope;

use super::super::MitigationId;
use super::super::settings::{NftablesSettings, RateLimit};
use super::{State, dispatch, matches};

/// Before connection tracking (-200), which is what an attack exhausts first, and after the reassembly of fragments (-400).
const PRIORITY: i32 = -300;

/// The bit of a packet's mark that a filter of the data channel sets on what it accepts: no mitigation drops it
/// (RFC 8783 §7.1: such packets are not scrubbed).
const ACCEPTED_MARK: u32 = 0x4000_0000;

/// A mitigation for the table.
pub(super) type Wanted<'a> = (MitigationId, &'a Scope, State);

/// The table's name and what is the same for all mitigations.
#[derive(Debug)]
pub(super) struct Table {
    name: String,
    limit: Option<Value>,
    spared: Vec<Value>,
}

/// Commands of one transaction.
struct Transaction<'a> {
    table: &'a str,
    commands: Vec<Value>,
}

fn accepted() -> Value {
    json!({"match": {
        "op": "==",
        "left": {"&": [{"meta": {"key": "mark"}}, ACCEPTED_MARK]},
        "right": ACCEPTED_MARK,
    }})
}

/// The name of a mitigation's chain and counter.
pub(super) fn name(id: MitigationId) -> String {
    format!("m{}", id.0)
}

fn drop_name(id: MitigationId) -> String {
    format!("drop{}", id.0)
}

impl Table {
    pub(super) fn new(settings: &NftablesSettings) -> Self {
        Self {
            name: settings.table.clone(),
            limit: settings.pass.map(over),
            spared: matches::of_sources(&settings.spare),
        }
    }

    /// The table as a whole; what was there of that name is gone.
    pub(super) fn anew<'a>(&self, wanted: impl Iterator<Item = Wanted<'a>>) -> Vec<u8> {
        let mut all = self.begin();
        all.table_command("add");
        all.table_command("delete");
        all.table_command("add");
        all.chain(
            "prerouting",
            &json!({"type": "filter", "hook": "prerouting", "prio": PRIORITY, "policy": "accept"}),
        );
        all.chain("mitigations", &json!({}));
        all.rule("prerouting", vec![accepted(), json!({"accept": null})]);
        for spared in &self.spared {
            all.rule("prerouting", vec![spared.clone(), json!({"accept": null})]);
        }
        all.rule("prerouting", vec![jump("mitigations")]);
        self.fill(&mut all, wanted);
        all.finish()
    }

    /// What has changed; of what stands, no counter is touched.
    pub(super) fn changed<'a>(
        &self,
        wanted: impl Iterator<Item = Wanted<'a>>,
        gone: &[MitigationId],
    ) -> Vec<u8> {
        let mut all = self.begin();
        all.command("flush", "chain", "mitigations");
        self.fill(&mut all, wanted);
        for id in gone {
            all.command("delete", "chain", &name(*id));
            all.command("delete", "chain", &drop_name(*id));
            all.command("delete", "counter", &name(*id));
        }
        all.finish()
    }

    /// No table of that name.
    pub(super) fn removed(&self) -> Vec<u8> {
        let mut all = self.begin();
        all.table_command("add");
        all.table_command("delete");
        all.finish()
    }

    fn begin(&self) -> Transaction<'_> {
        Transaction {
            table: &self.name,
            commands: Vec::new(),
        }
    }

    /// Chains of what is not current, and the way to all of them.
    fn fill<'a>(&self, all: &mut Transaction<'_>, wanted: impl Iterator<Item = Wanted<'a>>) {
        let mut targets = Vec::new();
        for (id, scope, state) in wanted {
            let (chain, drop_chain) = (name(id), drop_name(id));
            match state {
                State::Current => {}
                State::Outdated => all.command("flush", "chain", &chain),
                State::Absent => {
                    all.command("add", "counter", &chain);
                    all.chain(&chain, &json!({}));
                    all.chain(&drop_chain, &json!({}));
                    let limit = self.limit.iter().cloned();
                    let dropped = [json!({"counter": chain}), json!({"drop": null})];
                    all.rule(&drop_chain, limit.chain(dropped).collect());
                }
            }
            if state != State::Current {
                for mut expressions in matches::of_scope(scope) {
                    expressions.push(jump(&drop_chain));
                    all.rule(&chain, expressions);
                }
            }
            targets.extend(scope.target_prefix.iter().map(|prefix| (*prefix, id)));
        }
        for map in dispatch::maps(targets, |id| jump(&name(id))) {
            all.rule("mitigations", vec![map]);
        }
    }
}

impl Transaction<'_> {
    fn table_command(&mut self, verb: &str) {
        self.push(verb, "table", json!({"family": "inet", "name": self.table}));
    }

    fn command(&mut self, verb: &str, kind: &str, name: &str) {
        let object = json!({"family": "inet", "table": self.table, "name": name});
        self.push(verb, kind, object);
    }

    fn chain(&mut self, name: &str, more: &Value) {
        let mut object = json!({"family": "inet", "table": self.table, "name": name});
        if let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) {
            object.extend(more.clone());
        }
        self.push("add", "chain", object);
    }

    fn rule(&mut self, chain: &str, expressions: Vec<Value>) {
        let object =
            json!({"family": "inet", "table": self.table, "chain": chain, "expr": expressions});
        self.push("add", "rule", object);
    }

    fn push(&mut self, verb: &str, kind: &str, object: Value) {
        self.commands.push(json!({verb: {kind: object}}));
    }

    fn finish(self) -> Vec<u8> {
        json!({"nftables": self.commands}).to_string().into_bytes()
    }
}

fn jump(chain: &str) -> Value {
    json!({"jump": {"target": chain}})
}

/// Matches what is over the limit; a quarter of a second of it may come at once.
fn over(limit: RateLimit) -> Value {
    match limit {
        RateLimit::Packets(rate) => json!({"limit": {
            "rate": rate.get(), "per": "second", "burst": (rate.get() / 4).max(1), "inv": true,
        }}),
        // No burst smaller than the largest packet, or that would never pass.
        RateLimit::Octets(rate) => json!({"limit": {
            "rate": rate.get(), "rate_unit": "bytes", "per": "second",
            "burst": (rate.get() / 4).max(65_536), "burst_unit": "bytes", "inv": true,
        }}),
    }
}
