//! What clients have set up over the data channel (RFC 8783), as far as the signal channel needs it.

use ipnet::IpNet;
use weir_dots_proto::Cuid;
use weir_dots_proto::body::{AclActivation, Scope, Target};

use crate::names::target_of;

/// Aliases and filters of clients.
pub trait DataChannel: Send {
    /// What an alias of this client, by its name in the configuration and its cuid, stands for; `None` where it has none of that
    /// name.
    fn alias(&self, client: &str, cuid: &Cuid, name: &str) -> Option<Target>;

    /// Whether this client has a filter of that name.
    fn has_filter(&self, client: &str, cuid: &Cuid, name: &str) -> bool;

    /// Switches a filter, for good and at once (RFC 9133 §3.2.1). False: it could not be done.
    fn switch_filter(&mut self, client: &str, cuid: &Cuid, activation: &AclActivation) -> bool;

    /// Names of this client's filters that accept, while it is mitigated, what any of `sources` sends to any of `targets`.
    fn accepting(
        &self,
        _client: &str,
        _cuid: &Cuid,
        _sources: &[IpNet],
        _targets: &[IpNet],
    ) -> Vec<String> {
        Vec::new()
    }

    /// What a vendor's number of an attack means, by the mapping that this client has shared (RFC 9244 §8.1.6).
    fn attack_name(
        &self,
        _client: &str,
        _cuid: &Cuid,
        (_vendor_id, _attack_id): (u32, u32),
    ) -> Option<String> {
        None
    }
}

/// No client has any.
#[derive(Debug)]
pub(crate) struct NoDataChannel;

impl DataChannel for NoDataChannel {
    fn alias(&self, _client: &str, _cuid: &Cuid, _name: &str) -> Option<Target> {
        None
    }

    fn has_filter(&self, _client: &str, _cuid: &Cuid, _name: &str) -> bool {
        false
    }

    fn switch_filter(&mut self, _client: &str, _cuid: &Cuid, _activation: &AclActivation) -> bool {
        false
    }
}

/// All targets of a scope: its own, and those of its aliases. The error is the alias that is unknown.
pub(crate) fn targets(
    data: &dyn DataChannel,
    (client, cuid): (&str, &Cuid),
    scope: &Scope,
) -> Result<Vec<Target>, String> {
    let aliases = scope
        .alias_name
        .iter()
        .map(|name| data.alias(client, cuid, name).ok_or_else(|| name.clone()));
    let own = target_of(scope);
    let names_something =
        !(own.target_prefix.is_empty() && own.target_fqdn.is_empty() && own.target_uri.is_empty());
    let own = names_something.then_some(Ok(own));
    own.into_iter().chain(aliases).collect()
}

/// A scope with its aliases and names resolved: what is to be protected.
pub(crate) fn protected(scope: &Scope, targets: &[Target]) -> Scope {
    let mut protected = Scope {
        target_port_range: scope.target_port_range.clone(),
        target_protocol: scope.target_protocol.clone(),
        target_fqdn: scope.target_fqdn.clone(),
        target_uri: scope.target_uri.clone(),
        alias_name: scope.alias_name.clone(),
        trigger_mitigation: scope.trigger_mitigation,
        source_prefix: scope.source_prefix.clone(),
        source_port_range: scope.source_port_range.clone(),
        source_icmp_type_range: scope.source_icmp_type_range.clone(),
        ..Scope::default()
    };
    for (index, target) in targets.iter().enumerate() {
        protected.target_prefix.extend(target.target_prefix.iter());
        // Where any target has all ports, all have.
        let (ports, protocols) = (&target.target_port_range, &target.target_protocol);
        widen(&mut protected.target_port_range, ports, index == 0);
        widen(&mut protected.target_protocol, protocols, index == 0);
    }
    protected
}

/// Adds what another target names; an empty list stands for all. The first narrows what the request left open.
fn widen<T: PartialEq + Copy>(all: &mut Vec<T>, more: &[T], first: bool) {
    if all.is_empty() && first {
        *all = more.to_vec();
    } else if all.is_empty() || more.is_empty() {
        all.clear();
    } else {
        for one in more {
            if !all.contains(one) {
                all.push(*one);
            }
        }
    }
}
