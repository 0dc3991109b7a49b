use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What else tells one attack from another: how its packets look, and where they come from and go to. Each part is empty
/// where the records do not say it; shares are of packets, 0 to 1.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// The commonest TTLs (hop limits), of the packets that state one, largest share first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ttl: Vec<TtlShare>,
    /// Distinct TTLs seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_count: Option<u64>,
    /// Sizes of packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet_size: Option<PacketSizes>,
    /// Combinations of TCP flags, of the TCP packets, largest share first. A flow record states the flags of all its packets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tcp_flags: Vec<FlagsShare>,
    /// Autonomous systems of the sources, of all packets; left out where sources look forged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_as: Vec<SystemShare>,
    /// Countries of the sources, likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_countries: Vec<CountryShare>,
    /// Share of packets whose source nobody can have (0/8, 127/8, 169.254/16, 224/3; ::/127, fe80::/10, ff00::/8):
    /// certainly forged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impossible_sources: Option<f64>,
    /// Of an outbound attack: the hosts inside that send it, largest first, at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inside_sources: Vec<HostRate>,
    /// Who is hit, where that is more than one host: hosts inside an attacked prefix, or the victims of an outbound attack.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<PrefixRate>,
    /// Distinct destinations seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_count: Option<u64>,
}

/// A TTL's share.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct TtlShare {
    /// As it arrived: the sender's less the hops.
    pub ttl: u8,
    /// Of the packets that state one.
    pub share: f64,
}

/// Sizes of IP packets in octets: each record's mean, weighted by its packets.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PacketSizes {
    /// Mean.
    pub mean: u64,
    /// 10th percentile.
    pub low: u64,
    /// Median.
    pub mid: u64,
    /// 90th percentile.
    pub high: u64,
    /// Shares of classes of sizes that occur, smallest first.
    pub classes: Vec<SizeShare>,
}

/// A class of packet sizes.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct SizeShare {
    /// Octets, at least.
    pub from: u32,
    /// Octets, at most; `None` of the largest class.
    pub to: Option<u32>,
    /// Of all packets.
    pub share: f64,
}

/// A combination of TCP flags.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FlagsShare {
    /// Such as `SYN` or `SYN+ACK`; `none` without any.
    pub flags: String,
    /// Of the TCP packets.
    pub share: f64,
}

/// An autonomous system.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SystemShare {
    /// Its number.
    pub asn: u32,
    /// Its name, where a database knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of all packets.
    pub share: f64,
}

/// A country.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CountryShare {
    /// Two letters (ISO 3166-1 alpha-2).
    pub country: String,
    /// Of all packets.
    pub share: f64,
}

/// What a host sends.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct HostRate {
    /// The host.
    pub address: IpAddr,
    /// Mean bits per second over the time asked for.
    pub bits_per_second: u64,
    /// Mean packets per second.
    pub packets_per_second: u64,
    /// Of all packets.
    pub share: f64,
}

/// What a prefix gets.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct PrefixRate {
    /// The destination.
    pub prefix: IpNet,
    /// Mean bits per second over the time asked for.
    pub bits_per_second: u64,
    /// Mean packets per second.
    pub packets_per_second: u64,
    /// Of all packets.
    pub share: f64,
}

const FLAGS: [(u8, &str); 8] = [
    (0x02, "SYN"),
    (0x10, "ACK"),
    (0x08, "PSH"),
    (0x01, "FIN"),
    (0x04, "RST"),
    (0x20, "URG"),
    (0x40, "ECE"),
    (0x80, "CWR"),
];

/// TCP flags (RFC 9293 §3.1) in words.
pub fn flag_names(flags: u8) -> String {
    let names: Vec<&str> = FLAGS
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join("+")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_names() {
        assert_eq!(flag_names(0x02), "SYN");
        assert_eq!(flag_names(0x12), "SYN+ACK");
        assert_eq!(flag_names(0), "none");
        assert_eq!(flag_names(0xff), "SYN+ACK+PSH+FIN+RST+URG+ECE+CWR");
    }
}
