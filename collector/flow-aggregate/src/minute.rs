//! What a minute was like, for baselines: a row per busy host and prefix, and each zone by protocol and port.

use weir_flow_record::TargetKey;

use crate::TargetScope;

/// A part of a minute: targets come in slices, one with each tick after the minute is settled.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct MinuteProfile {
    /// First second of the minute, since the epoch.
    pub first_second: i64,
    /// Hosts and prefixes that had traffic worth telling.
    pub targets: Vec<MinuteRow>,
    /// Zones by protocol and port; with the first slice.
    pub zones: Vec<ZoneMinute>,
    /// Whether this is the minute's last slice of its shard.
    pub is_last: bool,
}

/// A host's or prefix's minute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MinuteRow {
    /// The target.
    pub target: TargetKey,
    /// Host or prefix.
    pub scope: TargetScope,
    /// Seconds of the minute that the sums are of: less than 60 where the history holds no more.
    pub seconds: u32,
    /// Octets, scaled.
    pub octets: u64,
    /// Packets, scaled.
    pub packets: u64,
    /// Flows that began.
    pub flows: u64,
    /// Octets of the largest second; of several shards the sum of theirs, an upper bound.
    pub peak_octets: u64,
    /// Packets of the largest second.
    pub peak_packets: u64,
    /// Flows of the largest second.
    pub peak_flows: u64,
}

/// A zone's minute in one direction, by the time at which records came: they are not spread over seconds.
#[derive(Clone, PartialEq, Debug)]
pub struct ZoneMinute {
    /// The zone: the key's prefix is its first.
    pub target: TargetKey,
    /// Sums, by part, in their order.
    pub parts: Vec<(TrafficPart, MinuteSums)>,
}

/// A part of a zone's traffic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TrafficPart {
    /// An IP protocol.
    Protocol(u8),
    /// A service port on the zone's side, of TCP, UDP and SCTP.
    Port {
        /// IP protocol.
        protocol: u8,
        /// The port.
        port: u16,
    },
}

/// Sums of a minute; estimated where only some of the records were counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MinuteSums {
    /// Octets, scaled.
    pub octets: u64,
    /// Packets, scaled.
    pub packets: u64,
    /// Flow records.
    pub flows: u64,
    /// Attempts to connect: records of TCP or SCTP with a SYN, scaled; those without flags count once.
    pub connections: u64,
}

impl MinuteRow {
    /// Adds another shard's row of the same target and minute.
    pub fn add(&mut self, other: &Self) {
        self.seconds = self.seconds.max(other.seconds);
        self.octets = self.octets.saturating_add(other.octets);
        self.packets = self.packets.saturating_add(other.packets);
        self.flows = self.flows.saturating_add(other.flows);
        self.peak_octets = self.peak_octets.saturating_add(other.peak_octets);
        self.peak_packets = self.peak_packets.saturating_add(other.peak_packets);
        self.peak_flows = self.peak_flows.saturating_add(other.peak_flows);
    }
}

impl MinuteSums {
    /// Adds other records of the same part and minute.
    pub fn add(&mut self, other: &Self) {
        self.octets = self.octets.saturating_add(other.octets);
        self.packets = self.packets.saturating_add(other.packets);
        self.flows = self.flows.saturating_add(other.flows);
        self.connections = self.connections.saturating_add(other.connections);
    }
}
