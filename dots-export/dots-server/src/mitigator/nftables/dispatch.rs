//! From a destination to its mitigation in one look-up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::MitigationId;

/// Prefixes that are apart from each other: from the first address of each to its last.
#[derive(Default)]
struct Layer {
    ends: BTreeMap<IpAddr, IpAddr>,
    elements: Vec<Value>,
}

impl Layer {
    fn has_room_for(&self, prefix: IpNet) -> bool {
        let below = self.ends.range(..=prefix.broadcast()).next_back();
        below.is_none_or(|(_, last)| *last < prefix.network())
    }

    fn add(&mut self, prefix: IpNet, verdict: Value) {
        self.ends.insert(prefix.network(), prefix.broadcast());
        self.elements.push(json!([address(prefix), verdict]));
    }
}

/// Verdict maps by destination, as rules that are tried one after the other. An interval map cannot hold overlapping
/// prefixes: those are in maps further down, which a packet reaches that the mitigations before have let through. There is
/// one map for each family most of the time, since the registry lets no two active requests overlap.
pub(super) fn maps(
    targets: Vec<(IpNet, MitigationId)>,
    verdict: impl Fn(MitigationId) -> Value,
) -> Vec<Value> {
    let mut v4: Vec<Layer> = Vec::new();
    let mut v6: Vec<Layer> = Vec::new();
    for (prefix, id) in targets {
        let prefix = prefix.trunc();
        let layers = match prefix {
            IpNet::V4(_) => &mut v4,
            IpNet::V6(_) => &mut v6,
        };
        let index = layers.iter().position(|layer| layer.has_room_for(prefix));
        let index = index.unwrap_or_else(|| {
            layers.push(Layer::default());
            layers.len() - 1
        });
        if let Some(layer) = layers.get_mut(index) {
            layer.add(prefix, verdict(id));
        }
    }
    let map = |protocol: &str, layer: Layer| {
        json!({"vmap": {
            "key": {"payload": {"protocol": protocol, "field": "daddr"}},
            "data": {"set": layer.elements},
        }})
    };
    let v4 = v4.into_iter().map(|layer| map("ip", layer));
    let v6 = v6.into_iter().map(|layer| map("ip6", layer));
    v4.chain(v6).collect()
}

/// A prefix as nft takes it.
pub(super) fn address(prefix: IpNet) -> Value {
    let prefix = prefix.trunc();
    json!({"prefix": {"addr": prefix.addr(), "len": prefix.prefix_len()}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(targets: &[(&str, u64)]) -> Vec<String> {
        let targets = targets
            .iter()
            .map(|(prefix, id)| (prefix.parse().unwrap(), MitigationId(*id)))
            .collect();
        maps(targets, |id| json!(id.0))
            .iter()
            .map(|map| {
                let elements = map["vmap"]["data"]["set"].as_array().unwrap();
                let of = |element: &Value| {
                    let prefix = &element[0]["prefix"];
                    let address = prefix["addr"].as_str().unwrap();
                    format!("{address}/{}:{}", prefix["len"], element[1])
                };
                elements.iter().map(of).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    #[test]
    fn prefixes_that_are_apart_share_a_map() {
        let targets = [
            ("192.0.2.0/24", 1),
            ("198.51.100.7/32", 2),
            ("2001:db8::1/32", 1),
            ("192.0.1.0/24", 3),
        ];
        let expected = [
            "192.0.2.0/24:1 198.51.100.7/32:2 192.0.1.0/24:3",
            "2001:db8::/32:1",
        ];
        assert_eq!(shown(&targets), expected);
        assert!(shown(&[]).is_empty());
    }

    #[test]
    fn prefixes_that_overlap_do_not() {
        let targets = [
            ("192.0.2.7/32", 1),
            ("192.0.2.0/24", 2),
            ("192.0.2.128/25", 3),
            ("0.0.0.0/0", 4),
            ("192.0.2.7/32", 5),
            ("255.255.255.255/32", 6),
        ];
        let expected = [
            "192.0.2.7/32:1 192.0.2.128/25:3 255.255.255.255/32:6",
            "192.0.2.0/24:2",
            "0.0.0.0/0:4",
            "192.0.2.7/32:5",
        ];
        assert_eq!(shown(&targets), expected);
    }
}
