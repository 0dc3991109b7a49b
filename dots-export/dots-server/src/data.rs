//! What clients have set up over the data channel (RFC 8783), as far as the signal channel needs it.

use weir_dots_proto::Cuid;
use weir_dots_proto::body::{AclActivation, Scope, Target};

/// Aliases and filters of clients.
pub trait DataChannel: Send {
    /// What an alias of this client, by its name in the configuration and its cuid, stands for; `None` where it has none of that
    /// name.
    fn alias(&self, client: &str, cuid: &Cuid, name: &str) -> Option<Target>;

    /// Whether this client has a filter of that name.
    fn has_filter(&self, client: &str, cuid: &Cuid, name: &str) -> bool;

    /// Switches a filter, for good and at once (RFC 9133 §3.2.1). False: it could not be done.
    fn switch_filter(&mut self, client: &str, cuid: &Cuid, activation: &AclActivation) -> bool;
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

/// A scope with its aliases resolved: what is to be protected. The error is the alias that is unknown.
pub(crate) fn protected(
    data: &dyn DataChannel,
    (client, cuid): (&str, &Cuid),
    scope: &Scope,
) -> Result<Scope, String> {
    let mut protected = Scope {
        target_prefix: scope.target_prefix.clone(),
        target_port_range: scope.target_port_range.clone(),
        target_protocol: scope.target_protocol.clone(),
        alias_name: scope.alias_name.clone(),
        trigger_mitigation: scope.trigger_mitigation,
        source_prefix: scope.source_prefix.clone(),
        source_port_range: scope.source_port_range.clone(),
        source_icmp_type_range: scope.source_icmp_type_range.clone(),
        ..Scope::default()
    };
    for (index, name) in scope.alias_name.iter().enumerate() {
        let target = data.alias(client, cuid, name).ok_or_else(|| name.clone())?;
        let first = index == 0 && scope.target_prefix.is_empty();
        protected.target_prefix.extend(target.target_prefix);
        // Where any target has all ports, all have.
        widen(
            &mut protected.target_port_range,
            target.target_port_range,
            first,
        );
        widen(
            &mut protected.target_protocol,
            target.target_protocol,
            first,
        );
    }
    Ok(protected)
}

/// Adds what another target names; an empty list stands for all. The first alias narrows what the request left open.
fn widen<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>, first: bool) {
    if all.is_empty() && first {
        *all = more;
    } else if all.is_empty() || more.is_empty() {
        all.clear();
    } else {
        more.into_iter().for_each(|one| {
            if !all.contains(&one) {
                all.push(one);
            }
        });
    }
}
