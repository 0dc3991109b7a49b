//! The requests that client and recorder make: one place, so that both say the same.

use serde_json::Value;
use weir_dots_proto::body::{Body, Lifetime, Mitigation, Scope, Telemetry};
use weir_dots_proto::client::Request;
use weir_dots_proto::{Cuid, Method, Mid, Resource, Tmid};

use crate::client::Efficacy;
use crate::telemetry::{MAX_BODY_OCTETS, fits, with_mids};

/// Identifiers restart past this number, three quarters of the space (RFC 9132 §4.4.1.1, RFC 9244 §8.1).
const LAST_BEFORE_RESTART: u32 = 3_221_225_471;

/// The identifier after `last`. It restarts only while no attack is on.
pub(crate) fn next_id(last: Option<u32>, peace: bool) -> u32 {
    match last {
        None => 1,
        Some(last) if last >= LAST_BEFORE_RESTART && peace => 0,
        Some(last) => last.saturating_add(1),
    }
}

/// Body of a request for mitigation and of its refreshes, which must be equal but for the lifetime.
pub(crate) fn mitigation_body(scope: &Scope, lifetime: Lifetime) -> Mitigation {
    Mitigation::single(Scope {
        mid: None,
        lifetime: Some(lifetime),
        ..scope.clone()
    })
}

/// Asks for mitigation, or refreshes it.
pub(crate) fn put_mitigation(cuid: &Cuid, mid: Mid, scope: &Scope, lifetime: Lifetime) -> Request {
    let body = mitigation_body(scope, lifetime).to_json();
    request(Method::Put, mitigate(cuid, mid), Some(body))
}

/// Tells how well a mitigation works: the request again, and what still arrives (RFC 9132 §4.4.3), as far as that fits.
pub(crate) fn put_efficacy(
    cuid: &Cuid,
    mid: Mid,
    scope: &Scope,
    lifetime: Lifetime,
    efficacy: &Efficacy,
) -> Request {
    let scope = Scope {
        attack_status: Some(efficacy.status),
        total_attack_traffic: efficacy.total_attack_traffic.clone(),
        ..scope.clone()
    };
    let mut body = mitigation_body(&scope, lifetime);
    if !fits(&body, MAX_BODY_OCTETS) {
        for scope in &mut body.scope {
            scope.total_attack_traffic.clear();
        }
    }
    Request {
        if_match: true,
        ..request(Method::Put, mitigate(cuid, mid), Some(body.to_json()))
    }
}

/// Withdraws.
pub(crate) fn delete_mitigation(cuid: &Cuid, mid: Mid) -> Request {
    request(Method::Delete, mitigate(cuid, mid), None)
}

/// Asks how a mitigation stands, now and whenever that changes.
pub(crate) fn observe_mitigation(cuid: &Cuid, mid: Mid) -> Request {
    Request {
        observe: Some(true),
        ..request(Method::Get, mitigate(cuid, mid), None)
    }
}

/// Asks how a mitigation stands, once.
pub(crate) fn check_mitigation(cuid: &Cuid, mid: Mid) -> Request {
    request(Method::Get, mitigate(cuid, mid), None)
}

/// Asks for all mitigations that the server knows of us.
pub(crate) fn list_mitigations(cuid: &Cuid) -> Request {
    let resource = Resource::Mitigate {
        cuid: cuid.clone(),
        mid: None,
    };
    request(Method::Get, resource, None)
}

/// Tells how an attack stands.
pub(crate) fn put_telemetry(cuid: &Cuid, tmid: Tmid, body: &Telemetry, mids: &[Mid]) -> Request {
    let resource = Resource::Telemetry {
        cuid: cuid.clone(),
        tmid: Some(tmid),
    };
    request(Method::Put, resource, Some(with_mids(body, mids).to_json()))
}

/// Asks what the server tells of the targets of a request, now and whenever that changes (RFC 9244 §8.3).
pub(crate) fn observe_telemetry(cuid: &Cuid, tmid: Tmid) -> Request {
    let resource = Resource::Telemetry {
        cuid: cuid.clone(),
        tmid: Some(tmid),
    };
    Request {
        observe: Some(true),
        ..request(Method::Get, resource, None)
    }
}

/// Has the server forget telemetry.
pub(crate) fn delete_telemetry(cuid: &Cuid, tmid: Tmid) -> Request {
    let resource = Resource::Telemetry {
        cuid: cuid.clone(),
        tmid: Some(tmid),
    };
    request(Method::Delete, resource, None)
}

/// The resource of one mitigation.
pub(crate) fn mitigate(cuid: &Cuid, mid: Mid) -> Resource {
    Resource::Mitigate {
        cuid: cuid.clone(),
        mid: Some(mid),
    }
}

fn request(method: Method, resource: Resource, body: Option<Value>) -> Request {
    Request {
        body,
        ..Request::new(method, resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_grow_and_restart_in_peace() {
        assert_eq!(next_id(None, true), 1);
        assert_eq!(next_id(Some(7), false), 8);
        assert_eq!(next_id(Some(LAST_BEFORE_RESTART), true), 0);
        assert_eq!(next_id(Some(LAST_BEFORE_RESTART), false), 3_221_225_472);
    }
}
