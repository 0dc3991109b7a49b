//! How the request for an attack stands, and what forbids one.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use weir_attack_event::{AttackEvent, AttackId};
use weir_dots_proto::body::Scope;
use weir_flow_record::Direction;

use crate::config::{PolicySettings, RequestMode};

/// Why nobody is asked for help.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Decline {
    /// Its severity is below `minimum_severity`.
    Severity,
    /// The attacks on its zone take less than `link_share` of the pipe.
    LinkShare {
        /// bit/s that would be enough.
        limit: u64,
        /// bit/s of the pipe.
        pipe: u64,
    },
    /// Traffic leaves: an upstream cannot keep it away.
    Outgoing,
    /// The policy says `request = "never"`.
    TelemetryOnly,
    /// A prefix of `never` touches the target.
    Never(IpNet),
    /// Wider than `max_prefix`.
    TooWide(IpNet),
    /// More prefixes than one datagram holds.
    TooLarge(usize),
    /// No upstream of the policy may be told, or concerns the target.
    NoUpstream,
    /// `max_requests` are active.
    Limit(usize),
    /// So many requests were made within a minute.
    Rate(usize),
    /// The stop switch is thrown.
    Hold,
    /// All upstreams refused, or ended the mitigation.
    Refused,
}

impl fmt::Display for Decline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Severity => f.write_str("its severity is below minimum_severity"),
            Self::LinkShare { limit, pipe } => write!(
                f,
                "the attacks take less than {limit} bit/s of a pipe of {pipe} bit/s (link_share)"
            ),
            Self::Outgoing => f.write_str("the traffic is outgoing"),
            Self::TelemetryOnly => f.write_str("the policy asks for nothing, it tells only"),
            Self::Never(prefix) => write!(f, "`never` holds {prefix}"),
            Self::TooWide(prefix) => write!(f, "{prefix} is wider than max_prefix"),
            Self::TooLarge(count) => write!(f, "{count} prefixes do not fit one datagram"),
            Self::NoUpstream => f.write_str("no upstream may be asked for this target"),
            Self::Limit(limit) => write!(f, "max_requests = {limit} are active"),
            Self::Rate(most) => write!(f, "max_requests_per_minute = {most} were made"),
            Self::Hold => f.write_str("the stop switch is thrown (weir dots hold)"),
            Self::Refused => f.write_str("no upstream of the policy helps"),
        }
    }
}

/// How the request for an attack stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nobody is asked, for this reason; looked at again when the attack changes.
    Declined(Decline),
    /// An operator has to confirm.
    AwaitsConfirmation,
    /// This upstream would be asked, were it not for the dry run.
    WouldAsk {
        /// The upstream.
        upstream: Arc<str>,
    },
    /// This upstream is asked.
    Asked {
        /// The upstream.
        upstream: Arc<str>,
        /// Whether it has accepted.
        granted: bool,
    },
    /// The request for another attack covers this one's target.
    Covered {
        /// That attack.
        by: AttackId,
    },
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined(reason) => write!(f, "nobody is asked: {reason}"),
            Self::AwaitsConfirmation => {
                f.write_str("an operator has to confirm (weir dots confirm)")
            }
            Self::WouldAsk { upstream } => write!(f, "{upstream} would be asked (dry run)"),
            Self::Asked { upstream, granted } if *granted => write!(f, "granted by {upstream}"),
            Self::Asked { upstream, .. } => write!(f, "{upstream} is asked"),
            Self::Covered { by } => write!(f, "the request for {by} covers it"),
        }
    }
}

/// What was left out.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ExporterCounters {
    /// Events of attacks beyond those that can be followed at once, and smaller ones that gave way to those worth asking about.
    pub refused_events: u64,
    /// Telemetry that gave way to a newer message before it was due.
    pub superseded_telemetry: u64,
    /// Requests that went to the next upstream.
    pub fallbacks: u64,
    /// Lines of the audit trail dropped because nobody polled.
    pub lost_decisions: u64,
}

impl ExporterCounters {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            refused_events: self.refused_events + other.refused_events,
            superseded_telemetry: self.superseded_telemetry + other.superseded_telemetry,
            fallbacks: self.fallbacks + other.fallbacks,
            lost_decisions: self.lost_decisions + other.lost_decisions,
        }
    }
}

/// Why nobody may be asked for this scope, whoever it is.
pub(crate) fn decline(
    policy: &PolicySettings,
    event: &AttackEvent,
    scope: &Scope,
) -> Option<Decline> {
    if event.target.direction == Direction::Out {
        return Some(Decline::Outgoing);
    }
    if policy.request_for(event) == RequestMode::Never {
        return Some(Decline::TelemetryOnly);
    }
    if !policy.is_severe_enough(event) {
        return Some(Decline::Severity);
    }
    for prefix in &scope.target_prefix {
        let touches = |never: &&IpNet| never.contains(prefix) || prefix.contains(*never);
        if let Some(never) = policy.never.iter().find(touches) {
            return Some(Decline::Never(*never));
        }
        let widest = match prefix {
            IpNet::V4(_) => policy.max_prefix_v4,
            IpNet::V6(_) => policy.max_prefix_v6,
        };
        if prefix.prefix_len() < widest {
            return Some(Decline::TooWide(*prefix));
        }
    }
    None
}
