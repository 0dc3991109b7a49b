//! Baselines that clients report (RFC 9244 §7.3): a mitigation system's word on what is normal (RFC 9387 §3.3.2).

use std::collections::VecDeque;
use std::sync::Arc;

use ipnet::IpNet;
use weir_dots_proto::body::Baseline;

/// Reports that wait to be fetched; the oldest give way.
const MAX_WAITING: usize = 64;

/// What a client says is normal; all its targets lie in its prefixes.
#[derive(Clone, PartialEq, Debug)]
pub struct ReportedBaselines {
    /// Name of the client.
    pub client: Arc<str>,
    /// Its prefixes: the target of a baseline that names none.
    pub prefixes: Vec<IpNet>,
    /// What it says.
    pub baselines: Vec<Baseline>,
}

/// Reports that were not fetched yet.
#[derive(Debug, Default)]
pub(crate) struct Reported(VecDeque<ReportedBaselines>);

impl Reported {
    pub(crate) fn push(&mut self, report: ReportedBaselines) {
        if self.0.len() >= MAX_WAITING {
            self.0.pop_front();
        }
        self.0.push_back(report);
    }

    pub(crate) fn pop(&mut self) -> Option<ReportedBaselines> {
        self.0.pop_front()
    }
}
