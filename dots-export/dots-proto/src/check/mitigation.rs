//! Mitigation requests, efficacy updates, and what servers say of them (RFC 9132 §4.4, RFC 9133).

use super::target::{Attributes, check_icmp_type_ranges, check_port_ranges};
use super::telemetry::{check_attack_details, check_traffic};
use super::{RequestFault, ResponseFault, bad_request, ensure, ensure_unique};
use crate::body::{Lifetime, Mitigation, MitigationStatus, Scope};

/// Checks a new request or a refresh.
pub(super) fn check_new(mitigation: &Mitigation) -> Result<(), RequestFault> {
    let scope = only_scope(mitigation)?;
    ensure(scope.lifetime.is_some(), "lifetime is missing")?;
    check_scope(scope)
}

/// Checks an efficacy update, which repeats the scope and adds the attack's status (RFC 9132 §4.4.3).
pub(super) fn check_efficacy(mitigation: &Mitigation) -> Result<(), RequestFault> {
    let scope = only_scope(mitigation)?;
    ensure(scope.attack_status.is_some(), "attack-status is missing")?;
    // RFC 9133 §3.2.1: filters are never switched by an efficacy update.
    ensure(
        scope.acl_list.is_empty(),
        "acl-list has no place in an efficacy update",
    )?;
    check_scope(scope)
}

fn only_scope(mitigation: &Mitigation) -> Result<&Scope, RequestFault> {
    match mitigation.scope.as_slice() {
        [scope] => Ok(scope),
        scopes => Err(bad_request(format_args!(
            "{} scopes instead of one",
            scopes.len()
        ))),
    }
}

fn check_scope(scope: &Scope) -> Result<(), RequestFault> {
    ensure(
        scope.lifetime != Some(Lifetime::Seconds(0)),
        "lifetime is 0",
    )?;
    let target = Attributes::from(scope);
    ensure(
        target.name_a_target(),
        "no target-prefix, target-fqdn, target-uri or alias-name",
    )?;
    target.check()?;
    ensure(
        scope.acl_list.iter().all(|acl| !acl.acl_name.is_empty()),
        "acl-name is empty",
    )?;
    ensure_unique("acl-list", scope.acl_list.iter().map(|acl| &acl.acl_name))?;
    check_hints(scope)
}

fn check_hints(scope: &Scope) -> Result<(), RequestFault> {
    check_port_ranges("source-port-range", &scope.source_port_range)?;
    check_icmp_type_ranges("source-icmp-type-range", &scope.source_icmp_type_range)?;
    check_traffic("total-traffic", &scope.total_traffic)?;
    check_traffic("total-attack-traffic", &scope.total_attack_traffic)?;
    check_attack_details(&scope.attack_detail)
}

/// Checks states of mitigations, the answer to a PUT, or a conflict.
pub(super) fn check_response(mitigation: &Mitigation) -> Result<(), ResponseFault> {
    if mitigation.scope.is_empty() {
        return Err(ResponseFault::new("no scope"));
    }
    for scope in &mitigation.scope {
        if scope.mid.is_none() && scope.conflict_information.is_none() {
            return Err(ResponseFault::new("mid is missing"));
        }
        if scope.attack_status.is_some() {
            return Err(ResponseFault::new("attack-status comes from clients only"));
        }
        let waits = scope.status == Some(MitigationStatus::AttackMitigationSignalLoss);
        if waits && scope.mitigation_start.is_some() {
            return Err(ResponseFault::new(
                "mitigation-start of a mitigation that waits for signal loss",
            ));
        }
        check_port_ranges("target-port-range", &scope.target_port_range)?;
        check_hints(scope)?;
    }
    ensure_unique(
        "scope",
        mitigation.scope.iter().filter_map(|scope| scope.mid),
    )
    .map_err(ResponseFault::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mid;
    use crate::body::{AclActivation, AttackStatus, ConflictCause, ConflictInformation};

    fn scope() -> Scope {
        Scope {
            target_prefix: vec!["192.0.2.1/32".parse().unwrap()],
            lifetime: Some(Lifetime::Seconds(3600)),
            ..Scope::default()
        }
    }

    fn new(change: impl FnOnce(&mut Scope)) -> Result<(), RequestFault> {
        let mut scope = scope();
        change(&mut scope);
        check_new(&Mitigation::single(scope))
    }

    #[test]
    fn requests() {
        assert_eq!(new(|_| ()), Ok(()));
        assert_eq!(
            new(|scope| scope.lifetime = Some(Lifetime::Indefinite)),
            Ok(())
        );
        assert_eq!(
            new(|scope| scope.lifetime = None),
            Err(bad_request("lifetime is missing"))
        );
        assert_eq!(
            new(|scope| scope.lifetime = Some(Lifetime::Seconds(0))),
            Err(bad_request("lifetime is 0"))
        );
        assert!(new(|scope| scope.target_prefix.clear()).is_err());
        assert!(new(|scope| scope.target_prefix.push("127.0.0.0/8".parse().unwrap())).is_err());
        assert!(
            check_new(&Mitigation {
                scope: vec![scope(), scope()]
            })
            .is_err()
        );
        assert!(check_new(&Mitigation::default()).is_err());
    }

    #[test]
    fn efficacy_updates() {
        let mut scope = scope();
        assert!(check_efficacy(&Mitigation::single(scope.clone())).is_err());
        scope.attack_status = Some(AttackStatus::UnderAttack);
        scope.lifetime = None;
        assert_eq!(check_efficacy(&Mitigation::single(scope.clone())), Ok(()));
        scope.acl_list.push(AclActivation {
            acl_name: "accept".to_owned(),
            activation_type: None,
        });
        assert!(check_efficacy(&Mitigation::single(scope)).is_err());
    }

    #[test]
    fn responses() {
        let state = Scope {
            mid: Some(Mid(1)),
            ..scope()
        };
        assert_eq!(check_response(&Mitigation::single(state.clone())), Ok(()));
        assert!(
            check_response(&Mitigation {
                scope: vec![state.clone(), state.clone()]
            })
            .is_err()
        );
        assert!(check_response(&Mitigation::default()).is_err());
        assert!(check_response(&Mitigation::single(scope())).is_err());
        let waits = Scope {
            status: Some(MitigationStatus::AttackMitigationSignalLoss),
            mitigation_start: Some(1),
            ..state
        };
        assert!(check_response(&Mitigation::single(waits)).is_err());
        let collision = Scope {
            conflict_information: Some(ConflictInformation {
                conflict_cause: Some(ConflictCause::CuidCollision),
                ..ConflictInformation::default()
            }),
            ..Scope::default()
        };
        assert_eq!(check_response(&Mitigation::single(collision)), Ok(()));
    }
}
