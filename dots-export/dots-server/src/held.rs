//! One mitigation as the server holds it.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use weir_dots_proto::Mid;
use weir_dots_proto::body::{
    ConflictAcl, ConflictCause, ConflictInformation, ConflictScope, ConflictStatus, Lifetime,
    MitigationStatus, Scope,
};

use crate::ServerPolicy;
use crate::average::{Average, Dropped};
use crate::mitigator::{MitigationId, MitigatorReport};

/// How often a preconfigured request tells of its end before it waits again (RFC 9132 Table 3, status 3 and 7).
const FAREWELLS: u8 = 4;

/// One mitigation.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: MitigationId,
    /// As it was asked for, with the lifetime that was granted.
    pub(crate) scope: Scope,
    /// What the mitigator protects: the scope with its aliases resolved.
    pub(crate) protected: Scope,
    pub(crate) expires: Option<Instant>,
    /// When it began to filter, in seconds since the epoch; `None` while it waits for the loss of the signal.
    pub(crate) began: Option<u64>,
    pub(crate) status: MitigationStatus,
    pub(crate) report: Option<MitigatorReport>,
    /// When that was measured.
    pub(crate) read: Instant,
    /// What it drops per second, since it was triggered.
    pub(crate) average: Average,
    /// An accept-list of the client's lets attack traffic through (RFC 9132 §4.4.1, conflict-cause 2).
    pub(crate) accepting: Vec<ConflictAcl>,
    pub(crate) terminates: Option<Instant>,
    /// How long it will be active but terminating.
    pub(crate) terminating: Duration,
    /// Whether the mitigator filters for it.
    pub(crate) applied: bool,
    /// How often its passing status is still told before it waits again.
    pub(crate) farewells: Option<u8>,
    /// The mitigator has measured something since it was told.
    pub(crate) news: bool,
    /// Its status is not told yet.
    pub(crate) status_news: bool,
    pub(crate) told: Instant,
}

impl Held {
    /// Whether it is asked for in case the signal is lost (`trigger-mitigation` false).
    pub(crate) fn is_preconfigured(&self) -> bool {
        is_preconfigured(&self.scope)
    }

    /// Whether its client counts on it now: it filters and is not ending.
    pub(crate) fn is_active(&self) -> bool {
        self.applied && self.terminates.is_none()
    }

    /// Whether it overlaps with a scope whose aliases are resolved (RFC 9132 §4.4.1.2).
    pub(crate) fn overlaps(&self, other: &Scope) -> bool {
        have_common_target(&self.protected, other)
    }

    pub(crate) fn set_status(&mut self, status: MitigationStatus) {
        self.status_news |= self.status != status;
        self.status = status;
    }

    /// Withdrawn, by its client or by its lifetime: active but terminating (RFC 9132 §4.4.4). What does not filter has nothing
    /// to wind down.
    pub(crate) fn terminate(&mut self, now: Instant) {
        if self.terminates.is_some() {
            return;
        }
        let period = if self.applied {
            self.terminating
        } else {
            Duration::ZERO
        };
        self.terminates = Some(now + period);
        self.farewells = None;
        self.set_status(MitigationStatus::DotsClientWithdrawnMitigation);
    }

    /// A preconfigured mitigation has done its work, or gives way: it says so some times and waits again.
    pub(crate) fn begin_farewell(&mut self, status: MitigationStatus) {
        self.set_status(status);
        self.farewells = Some(FAREWELLS);
    }

    /// Whether its observers are to be told now.
    pub(crate) fn is_due(&self, now: Instant, policy: &ServerPolicy) -> bool {
        self.status_news || self.next_telling(policy).is_some_and(|at| at <= now)
    }

    /// When its observers are told next if its status stays.
    pub(crate) fn next_telling(&self, policy: &ServerPolicy) -> Option<Instant> {
        if self.news || self.farewells.is_some() {
            return Some(self.told + policy.notify_interval);
        }
        // RFC 9132 §4.4.2.1: periodically too, since notifications get lost under attack.
        self.applied.then(|| self.told + policy.repeat_interval)
    }

    /// It is told now. Says whether its passing status has been told often enough.
    pub(crate) fn note_told(&mut self, now: Instant) -> bool {
        self.news = false;
        self.status_news = false;
        self.told = now;
        match &mut self.farewells {
            Some(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            None => false,
        }
    }

    /// As a GET or a notification shows it (RFC 9132 §4.4.2).
    pub(crate) fn shown(&self, mid: Mid, now: Instant) -> Scope {
        let left = self
            .expires
            .map(|expires| expires.saturating_duration_since(now).as_secs());
        let report = self.report.as_ref();
        let average = self.average.per_second(now);
        Scope {
            mid: Some(mid),
            target_prefix: self.scope.target_prefix.clone(),
            target_port_range: self.scope.target_port_range.clone(),
            target_protocol: self.scope.target_protocol.clone(),
            target_fqdn: self.scope.target_fqdn.clone(),
            target_uri: self.scope.target_uri.clone(),
            alias_name: self.scope.alias_name.clone(),
            trigger_mitigation: self.scope.trigger_mitigation.filter(|trigger| !trigger),
            mitigation_start: self.began,
            lifetime: left
                .map(|seconds| Lifetime::Seconds(u32::try_from(seconds).unwrap_or(u32::MAX))),
            status: Some(self.status),
            bytes_dropped: Some(report.map_or(0, |report| report.bytes_dropped)),
            bps_dropped: Some(average.bytes),
            pkts_dropped: Some(report.map_or(0, |report| report.packets_dropped)),
            pps_dropped: Some(average.packets),
            conflict_information: self.conflict(),
            ..Scope::default()
        }
    }
}

impl Held {
    /// Takes in what was measured.
    pub(crate) fn note_report(&mut self, now: Instant, report: MitigatorReport) {
        self.news |= self.report != Some(report);
        self.report = Some(report);
        let totals = Dropped {
            bytes: report.bytes_dropped,
            packets: report.packets_dropped,
        };
        self.average.handle_totals(self.read, now, totals);
        self.read = now;
    }

    /// It filters from now on.
    pub(crate) fn note_triggered(&mut self, now: Instant) {
        self.report = None;
        self.read = now;
        self.average = Average::new(now);
    }

    /// The accept-lists that are in its way: it filters nevertheless.
    fn conflict(&self) -> Option<ConflictInformation> {
        (!self.accepting.is_empty()).then(|| ConflictInformation {
            conflict_status: Some(ConflictStatus::RequestActive),
            conflict_cause: Some(ConflictCause::ConflictWithAcceptlist),
            conflict_scope: Some(ConflictScope {
                acl_list: self.accepting.clone(),
                ..ConflictScope::default()
            }),
            ..ConflictInformation::default()
        })
    }
}

/// Whether a request is for the loss of the signal only.
pub(crate) fn is_preconfigured(scope: &Scope) -> bool {
    scope.trigger_mitigation == Some(false)
}

/// RFC 9132 §4.4.1.2: a common address, prefix, name, URI or alias.
pub(crate) fn have_common_target(a: &Scope, b: &Scope) -> bool {
    let any = |a: &[String], b: &[String]| {
        a.iter()
            .any(|a| b.iter().any(|b| a.eq_ignore_ascii_case(b)))
    };
    overlap(&a.target_prefix, &b.target_prefix)
        || any(&a.target_fqdn, &b.target_fqdn)
        || any(&a.target_uri, &b.target_uri)
        || a.alias_name
            .iter()
            .any(|alias| b.alias_name.contains(alias))
}

/// Whether one prefix holds another.
pub(crate) fn overlap(a: &[IpNet], b: &[IpNet]) -> bool {
    a.iter()
        .any(|a| b.iter().any(|b| a.contains(b) || b.contains(a)))
}

/// Whether a refresh repeats its request.
pub(crate) fn is_same_but_lifetime(a: &Scope, b: &Scope) -> bool {
    let bare = |scope: &Scope| {
        let mut scope = Scope {
            lifetime: None,
            attack_status: None,
            trigger_mitigation: scope.trigger_mitigation.filter(|trigger| !trigger),
            // Telemetry and hints that go with a request are no part of its scope.
            total_traffic: Vec::new(),
            total_attack_traffic: Vec::new(),
            total_attack_connection: None,
            attack_detail: Vec::new(),
            // A switch is thrown once: RFC 9133 §3.2.1.
            acl_list: Vec::new(),
            ..scope.clone()
        };
        scope.target_prefix.sort();
        scope.target_port_range.sort();
        scope.target_protocol.sort();
        for names in [
            &mut scope.target_fqdn,
            &mut scope.target_uri,
            &mut scope.alias_name,
        ] {
            names.sort();
        }
        scope
    };
    bare(a) == bare(b)
}
