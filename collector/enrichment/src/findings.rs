use weir_attack_event::{Findings, Origin};
use weir_flow_record::Address;

use crate::snapshot::{NetworkInfo, Snapshot};

/// Says of each top talker where it is: AS, country and network, each where the whole prefix agrees on it (as far as its
/// first and last address tell).
pub fn annotate(findings: &mut Findings, snapshot: &Snapshot) {
    for talker in &mut findings.top_talkers {
        let prefix = talker.source_prefix;
        let first = snapshot.lookup(Address::from(prefix.network()));
        let last = snapshot.lookup(Address::from(prefix.broadcast()));
        talker.origin = origin(&first, &last);
    }
}

fn origin(first: &NetworkInfo<'_>, last: &NetworkInfo<'_>) -> Origin {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let asn = first.asn.filter(|asn| last.asn == Some(*asn));
    Origin {
        asn,
        as_name: asn.and_then(|_| text(first.as_name)),
        country: first
            .country
            .filter(|country| last.country == Some(*country))
            .map(|country| country.to_string()),
        network: text(first.name).filter(|name| last.name == name),
    }
}

/// Where an address is.
pub fn origin_of(address: Address, snapshot: &Snapshot) -> Origin {
    let found = snapshot.lookup(address);
    origin(&found, &found)
}
