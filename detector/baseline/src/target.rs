use std::net::IpAddr;

use ipnet::IpNet;
use weir_flow_aggregate::TargetScope;
use weir_flow_record::{Direction, TargetKey, Vector, ZoneId};

/// Whose traffic it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subject {
    /// A zone, by its place in [`BaselineSettings::zones`](crate::BaselineSettings::zones).
    Zone(ZoneId),
    /// A prefix of a zone; a host is a /32 or /128.
    Prefix(IpNet),
    /// All that an exporter tells.
    Exporter(IpAddr),
    /// A link, by its place in [`BaselineSettings::links`](crate::BaselineSettings::links).
    Link(u16),
}

/// What a baseline is of: a subject's traffic in one direction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BaselineTarget {
    /// Whose traffic.
    pub subject: Subject,
    /// To it, or from it.
    pub direction: Direction,
}

impl BaselineTarget {
    /// The target of a series.
    #[must_use]
    pub fn of(scope: TargetScope, key: &TargetKey) -> Self {
        let subject = match scope {
            TargetScope::Zone => Subject::Zone(key.zone),
            TargetScope::Link => Subject::Link(u16::MAX - key.zone.0),
            TargetScope::Host | TargetScope::Automatic | TargetScope::Prefix => {
                Subject::Prefix(key.prefix)
            }
        };
        Self {
            subject,
            direction: key.direction,
        }
    }

    /// Whether it is a single address.
    #[must_use]
    pub fn is_host(&self) -> bool {
        matches!(self.subject, Subject::Prefix(prefix) if prefix.prefix_len() == prefix.max_prefix_len())
    }

    /// Whether it is a prefix or a host: learned from minutes, not from seconds.
    pub(crate) fn is_by_minutes(&self) -> bool {
        matches!(self.subject, Subject::Prefix(_))
    }
}

/// Which part of a target's traffic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Aspect {
    /// All of it.
    Total,
    /// What an attack of this kind would add to: of zones, exporters and links.
    Vector(Vector),
    /// An IP protocol: of zones.
    Protocol(u8),
    /// A service port on the target's side: of zones.
    Port {
        /// IP protocol.
        protocol: u8,
        /// The port.
        port: u16,
    },
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Metric {
    /// Bits per second.
    Bits = 0,
    /// Packets per second.
    Packets = 1,
    /// New flows per second.
    Flows = 2,
    /// New connections per second.
    Connections = 3,
}

impl Metric {
    /// All four, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Bits, Self::Packets, Self::Flows, Self::Connections];
}
