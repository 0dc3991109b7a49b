use std::collections::VecDeque;

use weir_dots_proto::body::{MitigationStatus, Scope};

/// A mitigation by its number at this server; never used twice in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MitigationId(pub u64);

/// What really filters: the lab's simulated network; later Flowspec over BGP, nftables, a command or a webhook.
///
/// What it reports is what it measured, never what it was told or expects.
pub trait Mitigator: Send {
    /// Begins to filter traffic to the scope's targets, or changes the scope of a mitigation that runs.
    fn apply(&mut self, id: MitigationId, scope: &Scope);

    /// Ends a mitigation.
    fn withdraw(&mut self, id: MitigationId);

    /// The next report since the last poll; `None` until something new was measured. Polled a few times a second.
    fn poll_report(&mut self) -> Option<MitigatorReport>;
}

/// What a mitigator measured of one mitigation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MitigatorReport {
    /// The mitigation.
    pub id: MitigationId,
    /// 1 to 4 of RFC 9132 Table 3: in progress, successfully mitigated, attack stopped, capability exceeded.
    pub status: MitigationStatus,
    /// Octets dropped since it began.
    pub bytes_dropped: u64,
    /// Packets dropped since it began.
    pub packets_dropped: u64,
    /// Octets dropped per second now.
    pub bytes_per_second_dropped: u64,
    /// Packets dropped per second now.
    pub packets_per_second_dropped: u64,
}

/// Accepts everything and filters nothing: status 1, nothing dropped.
#[derive(Debug, Default)]
pub struct NoMitigator {
    reports: VecDeque<MitigatorReport>,
}

impl Mitigator for NoMitigator {
    fn apply(&mut self, id: MitigationId, _scope: &Scope) {
        self.reports.push_back(MitigatorReport {
            id,
            status: MitigationStatus::AttackMitigationInProgress,
            bytes_dropped: 0,
            packets_dropped: 0,
            bytes_per_second_dropped: 0,
            packets_per_second_dropped: 0,
        });
    }

    fn withdraw(&mut self, _id: MitigationId) {}

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        self.reports.pop_front()
    }
}
